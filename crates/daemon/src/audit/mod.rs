//! The audit log: who asked for what, from where, and what came of it; and every change of the control state.
//!
//! A line is written and synced before what it tells of is done. It is never changed: each line holds the hash of the one
//! before, and the control log knows how far the audit log goes.

mod journal;
mod line;
mod offline;
mod syslog;
mod tail;
mod verify;

pub use journal::AuditError;
pub(crate) use line::{Entry, Event, sha256_hex};
pub use offline::verify_directory;
pub use tail::tail;
pub use verify::{Verified, verify};

use crate::files;
use journal::{Journal, Keeping};
use model::AuditMark;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The audit log's directory under the controller's.
pub const DIRECTORY: &str = "audit";

/// What the audit log is opened with.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The socket of the system's log, which gets a copy of every line.
    pub syslog: Option<PathBuf>,
    pub retention_days: u64,
    /// Nothing is changed while the audit log cannot be written.
    pub failure_stops_changes: bool,
}

/// The audit log of a controller. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Audit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    stops: AtomicBool,
    failures: AtomicU64,
}

impl Audit {
    pub(crate) fn open(dir: &Path, options: &AuditOptions) -> Result<Self, AuditError> {
        let journal = Journal::open(Keeping {
            directory: dir.join(DIRECTORY),
            retention_days: options.retention_days,
            syslog: options.syslog.clone(),
        })?;
        Ok(Self(Arc::new(Shared {
            journal: Mutex::new(journal),
            stops: AtomicBool::new(options.failure_stops_changes),
            failures: AtomicU64::new(0),
        })))
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop_changes_on_failure(&self, stops: bool) {
        self.0.stops.store(stops, Ordering::Relaxed);
    }

    /// Lines before a change. An error means that nothing may be changed; a failure that the settings allow is logged and
    /// gives no number. Blocks for a sync of the disk.
    pub(crate) fn before(&self, entries: Vec<Entry>) -> Result<Option<u64>, AuditError> {
        match self.append(entries) {
            Ok(first) => Ok(Some(first)),
            Err(error) if self.0.stops.load(Ordering::Relaxed) => Err(error),
            Err(_told) => Ok(None),
        }
    }

    /// Lines about what has happened already: a failure is logged, counted, and told in the next line.
    pub(crate) fn after(&self, entries: Vec<Entry>) {
        let _told = self.append(entries);
    }

    fn append(&self, entries: Vec<Entry>) -> Result<u64, AuditError> {
        let written = self.journal().append(files::unix_now(), entries);
        if let Err(error) = &written {
            self.0.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "lines of the audit log are missing");
        }
        written
    }

    /// The same without keeping other tasks of the runtime from their work.
    pub(crate) async fn before_async(&self, entry: Entry) -> Result<Option<u64>, AuditError> {
        let audit = self.clone();
        let path = self.directory();
        match tokio::task::spawn_blocking(move || audit.before(vec![entry])).await {
            Ok(written) => written,
            Err(error) => Err(AuditError { path, error: std::io::Error::other(error) }),
        }
    }

    pub(crate) async fn after_async(&self, entry: Entry) {
        let audit = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || audit.after(vec![entry])).await {
            tracing::error!(%error, "a line of the audit log is missing");
        }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.journal().directory().to_owned()
    }

    pub(crate) fn id(&self) -> String {
        self.journal().id().to_owned()
    }

    /// How far it goes.
    pub(crate) fn mark(&self, controller: &str) -> Option<AuditMark> {
        self.journal().mark(controller)
    }

    /// Lines written ever, and failures to write since the start.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.journal().last(), self.0.failures.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
