//! What can go wrong below the dialect.

use crate::io::SqlError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    #[error("unknown local table '{0}'")]
    NoTable(String),
    #[error("table '{0}' already exists")]
    TableExists(String),
    /// The statement cannot be answered from this table.
    #[error("{0}")]
    Refused(String),
    #[error("cannot {action} {place}: {detail}; check the disk, its free space and permissions")]
    Failed { action: &'static str, place: String, detail: String },
    /// What was received or found is not a table of this program.
    #[error("{place} is damaged: {detail}; the table must be copied from another node")]
    Damaged { place: String, detail: String },
    /// The transfer ended or never was; begin it again.
    #[error("transfer {0} is not under way")]
    NoTransfer(u64),
    #[error("{0} transfers are under way, no more are allowed at once; try again when one is done")]
    TooManyTransfers(usize),
}

impl StorageError {
    pub(super) fn failed(
        action: &'static str,
        place: impl Into<String>,
    ) -> impl FnOnce(rusqlite::Error) -> Self {
        let place = place.into();
        move |error| Self::Failed { action, place, detail: error.to_string() }
    }

    pub(super) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let place = path.display().to_string();
        move |error| Self::Failed { action, place, detail: error.to_string() }
    }
}

impl From<StorageError> for SqlError {
    fn from(error: StorageError) -> Self {
        Self::new(error.to_string())
    }
}
