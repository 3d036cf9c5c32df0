//! The directories of groups: searchd wants one for each beside its first cluster, and makes none.

use super::{Turn, done, refused};
use crate::files;
use model::{GroupId, Outcome};
use std::path::{Path, PathBuf};
use std::{fs, io};

impl Turn<'_> {
    pub(super) async fn make_directory(&self, group: &GroupId) -> Outcome {
        let (data_dir, group) = (self.sidecar.data_dir.clone(), group.clone());
        on_disk(move || make(&data_dir, &group)).await
    }

    pub(super) async fn remove_directory(&self, group: &GroupId) -> Outcome {
        match self.cluster(group).await {
            Ok(None) => {}
            Ok(Some(_)) => return refused(format!("the node still has the cluster '{group}'")),
            Err(unseen) => return unseen,
        }
        let (data_dir, group) = (self.sidecar.data_dir.clone(), group.clone());
        on_disk(move || remove(&data_dir, &group)).await
    }
}

async fn on_disk(work: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Unknown { message: error.to_string() },
    }
}

/// The group's directory. Only names of our own making: `binlog` is a name, too, and not ours to touch.
fn path(data_dir: &Path, group: &GroupId) -> Result<PathBuf, Outcome> {
    let name = group.as_str();
    if group.is_ours() {
        Ok(data_dir.join(name))
    } else {
        Err(refused(format!("'{name}' is not the name of a replication group of ours: nothing was touched")))
    }
}

/// What is at the path itself; a link is not followed.
fn kind(path: &Path) -> io::Result<Option<fs::FileType>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn make(data_dir: &Path, group: &GroupId) -> Outcome {
    let path = match path(data_dir, group) {
        Ok(path) => path,
        Err(refused) => return refused,
    };
    let fail = |error: &io::Error| refused(format!("cannot make {}: {error}", path.display()));
    match kind(&path) {
        Ok(Some(kind)) if kind.is_dir() => return done(),
        Ok(Some(_)) => return refused(format!("{} is there and is no directory", path.display())),
        Ok(None) => {}
        Err(error) => return fail(&error),
    }
    if let Err(error) = fs::create_dir(&path) {
        return fail(&error);
    }
    match files::sync_directory(data_dir) {
        Ok(()) => done(),
        Err(error) => {
            Outcome::Unknown { message: format!("{} is made but not synced: {error}", path.display()) }
        }
    }
}

fn remove(data_dir: &Path, group: &GroupId) -> Outcome {
    let path = match path(data_dir, group) {
        Ok(path) => path,
        Err(refused) => return refused,
    };
    let fail = |error: &io::Error| Outcome::Unknown {
        message: format!("{} may be removed in part: {error}", path.display()),
    };
    match kind(&path) {
        Ok(Some(kind)) if kind.is_dir() => {}
        Ok(Some(_)) => return refused(format!("{} is no directory: it was left alone", path.display())),
        Ok(None) => return done(),
        Err(error) => return refused(format!("cannot look at {}: {error}", path.display())),
    }
    if let Err(error) = fs::remove_dir_all(&path) {
        return fail(&error);
    }
    match files::sync_directory(data_dir) {
        Ok(()) => done(),
        Err(error) => fail(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupId {
        GroupId::from_random(7)
    }

    #[test]
    fn a_directory_is_made_and_removed_as_often_as_asked() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(group().as_str());
        assert_eq!(make(dir.path(), &group()), done());
        assert_eq!(make(dir.path(), &group()), done());
        fs::write(path.join("galera.cache"), "x").expect("written");
        assert_eq!(remove(dir.path(), &group()), done());
        assert_eq!(remove(dir.path(), &group()), done());
        assert!(!path.exists());
    }

    #[test]
    fn nothing_but_a_groups_own_directory_is_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("binlog")).expect("made");
        let foreign = GroupId::new("binlog").expect("valid");
        assert!(matches!(remove(dir.path(), &foreign), Outcome::Refused { .. }));
        assert!(matches!(make(dir.path(), &foreign), Outcome::Refused { .. }));
        let elsewhere = tempfile::tempdir().expect("a directory");
        fs::write(elsewhere.path().join("kept"), "x").expect("written");
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(group().as_str())).expect("linked");
        assert!(matches!(remove(dir.path(), &group()), Outcome::Refused { .. }));
        assert!(matches!(make(dir.path(), &group()), Outcome::Refused { .. }));
        assert!(elsewhere.path().join("kept").exists());
        assert!(matches!(make(&dir.path().join("none"), &group()), Outcome::Refused { .. }));
    }
}
