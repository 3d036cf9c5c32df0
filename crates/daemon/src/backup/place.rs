//! Where the documents of a backup are: a directory of the controller's, or a bucket of an S3-compatible store.
//!
//! Credentials come from the environment (`AWS_ACCESS_KEY_ID` and its like) or from the private file `s3.conf` in the
//! controller's directory; never from the address, which is shown and logged.

use super::Trouble;
use crate::files;
use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, RetryConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::format::Sealed;

/// In the controller's directory: `aws_access_key_id = …`, `aws_secret_access_key = …`, `aws_endpoint = …`.
const CREDENTIALS: &str = "s3.conf";
/// A store that does not answer: the job fails, and is tried again.
const RETRY_TIME_MAX: Duration = Duration::from_mins(1);

/// An opened place. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    store: Arc<dyn ObjectStore>,
    root: Key,
    /// As it was named.
    shown: Arc<str>,
    /// What the directory is once every link is followed; `None` for a bucket.
    directory: Option<PathBuf>,
}

impl Place {
    /// An absolute path, `file:///…`, or `s3://BUCKET[/PREFIX]`. The error says what to write instead.
    pub(crate) fn open(text: &str, dir: &Path) -> Result<Self, String> {
        let in_directory = |path: &Path| {
            let (store, found) = directory(path)?;
            Ok::<_, String>((store, Key::default(), Some(found)))
        };
        let (store, root, directory): (Arc<dyn ObjectStore>, Key, _) = match text.split_once("://") {
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() || bucket.contains(['@', ':', '?']) {
                    return Err(
                        "write the bucket as s3://BUCKET/PREFIX; credentials and endpoint come from AWS_… \
                                variables of the controller or from s3.conf in its directory"
                            .to_owned(),
                    );
                }
                (Arc::new(bucket_of(bucket, dir)?), key(prefix)?, None)
            }
            Some(("file", path)) => in_directory(Path::new(path))?,
            Some((scheme, _)) => {
                return Err(format!(
                    "'{scheme}://' is no store that backups can go to: give a directory or s3://BUCKET/PREFIX"
                ));
            }
            None => in_directory(Path::new(text))?,
        };
        Ok(Self { store, root, shown: text.into(), directory })
    }

    /// For a backup that is yet to be made, by the controller that keeps its own things in `own`: whoever may order a backup
    /// is not to write among its logs.
    pub(crate) fn open_for_new(text: &str, own: &Path) -> Result<Self, String> {
        against(text, own)?;
        let place = Self::open(text, own)?;
        // A link can have been put there since: what counts is where documents will go.
        match &place.directory {
            Some(directory) => outside(text, directory, own).map(|()| place),
            None => Ok(place),
        }
    }

    fn at(&self, name: &str) -> Result<Key, Trouble> {
        let prefix = if self.root.as_ref().is_empty() { String::new() } else { format!("{}/", self.root) };
        key(&format!("{prefix}{name}")).map_err(Trouble::Final)
    }

    fn failed(&self, what: &str, name: &str, error: &Error) -> Trouble {
        // The innermost cause is what a person can do something about.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let why = format!("cannot {what} {name} in {}: {cause}", self.shown);
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::InvalidPath { .. } => {
                Trouble::Final(why)
            }
            _ => Trouble::Again(why),
        }
    }

    /// Whole or not at all; in a directory it survives a loss of power.
    pub(crate) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Trouble> {
        let put = self.store.put(&self.at(name)?, bytes.into()).await;
        put.map(drop).map_err(|error| self.failed("write", name, &error))
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Bytes>, Trouble> {
        let failed = |error: Error| self.failed("read", name, &error);
        match self.store.get(&self.at(name)?).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// What is gone already counts as removed.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Trouble> {
        match self.store.delete(&self.at(name)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", name, &error)),
        }
    }

    /// JSON with its own checksum.
    pub(crate) async fn put_sealed<T: Serialize>(&self, name: &str, content: &T) -> Result<(), Trouble> {
        self.put(name, Sealed::write(content).map_err(Trouble::Final)?.into()).await
    }

    pub(crate) async fn get_sealed<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Trouble> {
        let Some(bytes) = self.get(name).await? else { return Ok(None) };
        Sealed::read(&bytes)
            .map(Some)
            .map_err(|why| Trouble::Final(format!("{name} in {}: {why}", self.shown)))
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }
}

fn key(text: &str) -> Result<Key, String> {
    Key::parse(text.trim_matches('/')).map_err(|error| format!("'{text}' cannot be a name there: {error}"))
}

/// Why a directory is none for a new backup, before anything is made.
fn against(text: &str, own: &Path) -> Result<(), String> {
    let path = match text.split_once("://") {
        Some(("file", path)) => Path::new(path),
        Some(_) => return Ok(()),
        None => Path::new(text),
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("'{text}' has a '..' in it: name the directory itself"));
    }
    // What is there already, by what it is and not by what links call it; the rest is made as it is named.
    let there = path.ancestors().find_map(|part| part.canonicalize().ok());
    there.map_or(Ok(()), |there| outside(text, &there, own))
}

/// `found`, without a link in it, is not the controller's own.
fn outside(text: &str, found: &Path, own: &Path) -> Result<(), String> {
    let own = own.canonicalize().map_err(|error| {
        format!("cannot look at the controller's own directory {}: {error}", own.display())
    })?;
    if found.starts_with(&own) {
        let own = own.display();
        return Err(format!("'{text}' is in the controller's own directory {own}: give one outside of it"));
    }
    Ok(())
}

/// And what it is once every link is followed.
fn directory(path: &Path) -> Result<(Arc<dyn ObjectStore>, PathBuf), String> {
    if !path.is_absolute() {
        return Err(format!(
            "'{}' is no absolute path: the directory is one of the controller's machine; give it from / on",
            path.display()
        ));
    }
    std::fs::create_dir_all(path)
        .map_err(|error| format!("cannot make directory {}: {error}", path.display()))?;
    let unusable = |error| format!("cannot use directory {}: {error}", path.display());
    let store = LocalFileSystem::new_with_prefix(path).map_err(unusable)?;
    // It tells only where a file would be.
    let mut found = store.path_to_filesystem(&Key::from("file")).map_err(unusable)?;
    found.pop();
    Ok((Arc::new(store.with_fsync(true)), found))
}

fn bucket_of(bucket: &str, dir: &Path) -> Result<impl ObjectStore + use<>, String> {
    let retry = RetryConfig { max_retries: 5, retry_timeout: RETRY_TIME_MAX, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    let path = dir.join(CREDENTIALS);
    if let Some(text) = files::read_private(&path).map_err(|error| error.to_string())? {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || {
                format!(
                    "{}, line {}: write KEY = VALUE, the keys as the AWS_… variables",
                    path.display(),
                    number + 1
                )
            };
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            let name: AmazonS3ConfigKey =
                name.trim().to_ascii_lowercase().parse().map_err(|_unknown| wrong())?;
            builder = builder.with_config(name, value.trim());
        }
    }
    builder.build().map_err(|error| format!("cannot use bucket {bucket}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_keeps_what_is_put() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("a/b");
        let place = Place::open(&at.display().to_string(), dir.path()).expect("opened");
        assert_eq!(place.get("t/x").await.expect("read"), None);
        place.put("t/x", Bytes::from_static(b"one")).await.expect("written");
        place.put("t/x", Bytes::from_static(b"two")).await.expect("written again");
        assert_eq!(place.get("t/x").await.expect("read").as_deref(), Some(&b"two"[..]));
        assert_eq!(std::fs::read(at.join("t/x")).expect("a file"), b"two");
        place.remove("t/x").await.expect("removed");
        place.remove("t/x").await.expect("gone already");
    }

    #[test]
    fn no_new_backup_goes_among_the_controllers_own_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let (own, outside) = (dir.path().join("own"), dir.path().join("outside"));
        std::fs::create_dir_all(own.join("log")).expect("made");
        std::fs::create_dir_all(&outside).expect("made");
        std::os::unix::fs::symlink(&own, outside.join("link")).expect("made");
        let text = |path: &Path| path.display().to_string();
        for bad in [
            text(&own),
            text(&own.join("log")),
            text(&own.join("not/yet/there")),
            format!("file://{}", own.display()),
            text(&outside.join("link/log")),
            text(&outside.join("../own/log")),
            text(&outside.join("not/../../own")),
        ] {
            assert!(against(&bad, &own).is_err(), "{bad}");
            assert!(Place::open_for_new(&bad, &own).is_err(), "{bad}");
        }
        for good in [
            text(&outside),
            text(&outside.join("not/yet")),
            text(&dir.path().join("own2")),
            "s3://b/own".into(),
        ] {
            assert_eq!(against(&good, &own), Ok(()));
        }
    }

    #[test]
    fn a_link_that_is_put_there_after_the_look_is_seen_where_documents_would_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let (own, link) = (dir.path().join("own"), dir.path().join("link"));
        std::fs::create_dir_all(own.join("log")).expect("made");
        let text = link.join("log").display().to_string();
        assert_eq!(against(&text, &own), Ok(()));
        std::os::unix::fs::symlink(&own, &link).expect("made");
        let place = Place::open(&text, &own).expect("opened");
        let found = place.directory.expect("a directory");
        assert_eq!(found, own.join("log").canonicalize().expect("there"));
        assert!(outside(&text, &found, &own).is_err());
    }

    #[test]
    fn an_address_never_carries_a_secret_and_is_never_guessed_at() {
        let dir = tempfile::tempdir().expect("a directory");
        for text in ["backups", "./b", "s3://", "s3://key:secret@bucket/x", "gs://b", "http://h/b"] {
            assert!(Place::open(text, dir.path()).is_err(), "{text}");
        }
        std::fs::write(dir.path().join(CREDENTIALS), "aws_region = x\n").expect("written");
        let open = Place::open("s3://b", dir.path()).expect_err("others may read it");
        assert!(open.contains("chmod 600"), "{open}");
    }
}
