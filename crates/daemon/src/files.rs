//! Small files that must survive a crash whole: written beside, synced, renamed. Never edited in place.

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longer is no secret: keys have a few KiB.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {error}; check that the directory exists, is writable and has space", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    pub error: io::Error,
}

/// Replaces `path` by `bytes`, readable by its owner alone. After `Ok` it survives a loss of power; after an
/// error the old content is still there.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let fail = |error| FileError { action: "write", path: path.to_owned(), error };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    write_synced(&beside, bytes).map_err(fail)?;
    fs::rename(&beside, path).map_err(fail)?;
    sync_directory(directory).map_err(fail)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes renames and removals inside `directory` durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The content, `None` when there is no such file.
pub fn read_if_present(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError { action: "read", path: path.to_owned(), error }),
    }
}

/// The directory, made when it is not there.
pub fn ensure_directory(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|error| FileError {
        action: "make directory",
        path: path.to_owned(),
        error,
    })
}

/// Random text of `bytes` bytes in hex, from the system.
pub fn random_hex(bytes: usize) -> Result<String, FileError> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(|error| FileError {
        action: "read randomness from",
        path: "the system".into(),
        error: io::Error::other(error),
    })?;
    Ok(buffer.iter().fold(String::with_capacity(bytes * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    }))
}

/// Seconds since 1970, for what people read.
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A file with secrets, `None` when there is none. One that others may read is refused. What was read is wiped in the end.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, FileError> {
    let fail = |error| FileError { action: "use the secret in", path: path.to_owned(), error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError { action: "read", path: path.to_owned(), error }),
    };
    // Of what was opened, and not of what has the name a moment later.
    let about = file.metadata().map_err(fail)?;
    if about.mode() & 0o077 != 0 {
        let why = format!("others may read it (mode {:o}): chmod 600", about.mode() & 0o777);
        return Err(fail(io::Error::other(why)));
    }
    // Whole from the start, so that growing leaves no copies behind.
    let mut text = Zeroizing::new(String::with_capacity(about.len().min(SECRET_BYTES_MAX) as usize + 1));
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(fail(io::Error::other(format!("it is longer than {SECRET_BYTES_MAX} bytes"))));
    }
    Ok(Some(text))
}

/// A user and a password, as `NAME:PASSWORD` in a private file.
pub fn read_login(path: &Path) -> Result<manticore::Login, FileError> {
    let fail = |error| FileError { action: "use the login in", path: path.to_owned(), error };
    let text = read_private(path)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
    manticore::Login::parse(&text).map_err(|error| fail(io::Error::other(error)))
}

/// A secret of one line. One that others may read is refused: it is no secret any more.
pub fn read_secret(path: &Path) -> Result<Option<SecretString>, FileError> {
    let Some(text) = read_private(path)? else { return Ok(None) };
    let fail = |error| FileError { action: "use the token in", path: path.to_owned(), error };
    let secret = text.trim();
    // An empty secret would match an empty header.
    if secret.len() < 16 {
        return Err(fail(io::Error::other("it is shorter than 16 characters; remove it to have one made")));
    }
    Ok(Some(SecretString::from(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("names.json");
        assert_eq!(read_if_present(&path).expect("no error"), None);
        write_durably(&path, b"one, the longer").expect("written");
        write_durably(&path, b"two").expect("written");
        assert_eq!(read_if_present(&path).expect("read").as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        let error = write_durably(&dir.path().join("no/such"), b"x").expect_err("no directory").to_string();
        assert!(error.contains("no/such"), "{error}");
    }

    #[test]
    fn a_secret_that_others_read_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        write_durably(&path, format!("{}\n", random_hex(32).expect("random")).as_bytes()).expect("written");
        assert_eq!(read_secret(&path).expect("private").expect("there").expose_secret().len(), 64);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(read_secret(&path).expect_err("open").to_string().contains("chmod 600"));
        write_durably(&path, b"\n").expect("written");
        assert!(read_secret(&path).is_err());
        // One without an end is not waited for.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).expect("made");
        assert!(read_secret(&link).expect_err("open").to_string().contains("chmod 600"));
        write_durably(&path, &vec![b'x'; SECRET_BYTES_MAX as usize + 1]).expect("written");
        assert!(read_secret(&path).expect_err("too long").to_string().contains("longer than"));
        assert!(read_secret(&dir.path().join("none")).expect("no error").is_none());
    }
}
