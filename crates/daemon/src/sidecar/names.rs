//! The durable list of our tables' names. It decides whose a failing statement is, so it must survive a crash,
//! and without it nothing is known.

use crate::files::{self, FileError};
use model::TableName;
use model::wire::TableNameEntry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const FILE: &str = "names.json";

/// The list as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    log_id: String,
    version: u64,
    names: Vec<TableNameEntry>,
}

/// One list, for lookups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NameList {
    log_id: String,
    version: u64,
    pub(super) names: BTreeSet<TableName>,
}

/// The list of this node, on disk and in memory.
#[derive(Debug)]
pub(super) struct Names {
    path: PathBuf,
    /// `None` until a controller gave one.
    current: Mutex<Option<Arc<NameList>>>,
}

impl Names {
    /// The list that was stored in `dir` before; a damaged file is refused rather than taken for none.
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let path = dir.join(FILE);
        let stored = files::read_if_present(&path)?
            .map(|text| serde_json::from_str::<Stored>(&text))
            .transpose()
            .map_err(|error| FileError { action: "read", path: path.clone(), error: error.into() })?;
        let current = stored.map(|stored| Arc::new(list(stored)));
        Ok(Self { path, current: Mutex::new(current) })
    }

    /// `None` while no controller has ever given a list.
    pub(super) fn current(&self) -> Option<Arc<NameList>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The version to report to the controller of `log_id`: what is stored durably of its list. Versions of
    /// another log say nothing.
    pub(super) fn version(&self, log_id: Option<&str>) -> u64 {
        let list = self.current();
        list.filter(|list| Some(list.log_id.as_str()) == log_id).map_or(0, |list| list.version)
    }

    /// Whether a list of this log is stored.
    pub(super) fn is_of(&self, log_id: &str) -> bool {
        self.current().is_some_and(|list| list.log_id == log_id)
    }

    /// Takes a new list. It holds, and may be reported, only once it is on disk.
    pub(super) fn store(
        &self,
        log_id: &str,
        version: u64,
        names: Vec<TableNameEntry>,
    ) -> Result<(), FileError> {
        let stored = Stored { log_id: log_id.to_owned(), version, names };
        let fail = |error: serde_json::Error| FileError {
            action: "write",
            path: self.path.clone(),
            error: error.into(),
        };
        files::write_durably(&self.path, &serde_json::to_vec(&stored).map_err(fail)?)?;
        let fresh = Arc::new(list(stored));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        Ok(())
    }
}

fn list(stored: Stored) -> NameList {
    let names = stored.names.into_iter().map(|entry| entry.table).collect();
    NameList { log_id: stored.log_id, version: stored.version, names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> TableNameEntry {
        TableNameEntry { table: TableName::new(name).expect("valid"), cluster: None, generation: 1 }
    }

    #[test]
    fn the_list_survives_and_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let names = Names::open(dir.path()).expect("opens");
        assert!(names.current().is_none());
        assert_eq!(names.version(Some("l")), 0);
        assert!(!names.is_of("l"));
        names.store("l", 4, vec![entry("t"), entry("u")]).expect("stored");
        names.store("l", 5, vec![entry("u")]).expect("stored");
        let again = Names::open(dir.path()).expect("opens");
        let list = again.current().expect("a list");
        assert_eq!(list.names.iter().map(TableName::as_str).collect::<Vec<_>>(), ["u"]);
        assert_eq!((again.version(Some("l")), again.version(Some("other")), again.version(None)), (5, 0, 0));
        assert!(again.is_of("l") && !again.is_of("other"));
    }

    #[test]
    fn what_is_not_on_disk_does_not_hold() {
        let dir = tempfile::tempdir().expect("a directory");
        let names = Names::open(dir.path()).expect("opens");
        names.store("l", 1, vec![entry("t")]).expect("stored");
        std::fs::remove_dir_all(dir.path()).expect("removed");
        names.store("l", 2, Vec::new()).expect_err("no directory");
        assert_eq!(names.version(Some("l")), 1);
        assert_eq!(names.current().expect("the old one").names.len(), 1);
    }

    #[test]
    fn a_damaged_list_is_not_taken_for_none() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "{\"log_id\":").expect("written");
        assert!(Names::open(dir.path()).expect_err("damaged").to_string().contains(FILE));
    }
}
