//! The node's own few files: the lock on its directory, its UUID, and its replication port.
//!
//! ```text
//! DIR/node.lock         held while the process lives
//! DIR/uuid              32 hex digits, for life
//! DIR/replication-port  of the last start
//! DIR/data/             the engine's databases and the clusters' directories
//! ```

use crate::NodeError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where the engine keeps its data, below a node's directory: what `SHOW SETTINGS` shows as `data_dir`.
pub fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// The node's directory, held for this process alone until dropped.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    pub(crate) uuid: String,
    _lock: File,
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NodeError {
    let path = path.to_owned();
    move |error| NodeError::File { action, path, error }
}

impl Home {
    /// Makes or takes the directory. `fresh_uuid` is used on the first start only.
    pub(crate) fn open(dir: &Path, fresh_uuid: u128) -> Result<Self, NodeError> {
        let data = data_dir(dir);
        fs::create_dir_all(&data).map_err(file_error("make", &data))?;
        let path = dir.join("node.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(file_error("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(NodeError::DirTaken { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(file_error("lock", &path)(error)),
        }
        let uuid = uuid(dir, fresh_uuid)?;
        Ok(Self { dir: dir.to_owned(), uuid, _lock: lock })
    }

    /// The replication port of the last start.
    pub(crate) fn last_replication_port(&self) -> Option<u16> {
        fs::read_to_string(self.port_file()).ok()?.trim().parse().ok()
    }

    /// Only saves others a look-up, so it need not be durable; but half a number must not be read.
    pub(crate) fn keep_replication_port(&self, port: u16) -> Result<(), NodeError> {
        write_whole(&self.port_file(), &port.to_string())
    }

    fn port_file(&self) -> PathBuf {
        self.dir.join("replication-port")
    }
}

fn uuid(dir: &Path, fresh: u128) -> Result<String, NodeError> {
    let path = dir.join("uuid");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let uuid = text.trim();
            if uuid.len() == 32 && uuid.bytes().all(|b| b.is_ascii_hexdigit()) {
                Ok(uuid.to_owned())
            } else {
                Err(NodeError::Damaged { path, reason: "it is not 32 hex digits".to_owned() })
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let uuid = format!("{fresh:032x}");
            write_whole(&path, &uuid)?;
            Ok(uuid)
        }
        Err(error) => Err(file_error("read", &path)(error)),
    }
}

fn write_whole(path: &Path, text: &str) -> Result<(), NodeError> {
    write(path, text.as_bytes(), 0o644)
}

/// For its owner's eyes alone.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), NodeError> {
    write(path, bytes, 0o600)
}

/// Writes beside and renames: after a crash the file is there whole or not at all.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), NodeError> {
    let beside = path.with_extension("new");
    let opened = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&beside);
    let written = opened.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(file_error("write", &beside))?;
    fs::rename(&beside, path).map_err(file_error("rename to", path))?;
    let dir = path.parent().unwrap_or(path);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(file_error("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_and_keeps_its_uuid() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Home::open(dir.path(), 7).expect("opens");
        assert_eq!(first.uuid, format!("{:032x}", 7));
        let second = Home::open(dir.path(), 8).expect_err("taken");
        assert!(matches!(second, NodeError::DirTaken { .. }), "{second}");
        first.keep_replication_port(4567).expect("written");
        drop(first);
        let again = Home::open(dir.path(), 9).expect("opens again");
        assert_eq!(
            (again.uuid.as_str(), again.last_replication_port()),
            (format!("{:032x}", 7).as_str(), Some(4567))
        );
    }

    #[test]
    fn a_damaged_uuid_is_not_replaced_by_a_new_one() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("uuid"), "cut o").expect("written");
        let error = Home::open(dir.path(), 7).expect_err("damaged");
        assert!(matches!(error, NodeError::Damaged { .. }), "{error}");
    }
}
