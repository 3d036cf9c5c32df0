//! A check of a controller's directory without the controller.

use super::{DIRECTORY, Verified, verify};
use crate::files;
use control::{Config, Controller};
use model::{AuditMark, LogIndex, Settings};
use std::io;
use std::path::Path;
use store::Log;
use store::file::FileLog;

const READ_BYTES_MAX: usize = 8 << 20;

/// Verifies the audit log under `dir`, against the control log there when that can be opened: not while a controller runs on
/// it, and not when it is elsewhere.
pub fn verify_directory(dir: &Path) -> io::Result<Verified> {
    let directory = dir.join(DIRECTORY);
    let id = files::read_if_present(&directory.join("id")).map_err(io::Error::other)?;
    let id = id.ok_or_else(|| io::Error::other(format!("{} has no audit log", directory.display())))?;
    verify(&directory, mark(dir, id.trim()).as_ref())
}

fn mark(dir: &Path, id: &str) -> Option<AuditMark> {
    let path = dir.join("log");
    if !path.is_dir() {
        return None;
    }
    let read = || -> Result<Option<AuditMark>, String> {
        let log = FileLog::open(&path, "shardwright audit verify", || "0".repeat(store::LOG_ID_LEN))
            .map_err(|error| error.to_string())?;
        let snapshot = log.latest_snapshot().map_err(|error| error.to_string())?;
        let mut next = snapshot.as_ref().map_or(LogIndex(0), |(at, _)| *at).next();
        let mut records = Vec::new();
        loop {
            let read = log.read(next, READ_BYTES_MAX).map_err(|error| error.to_string())?;
            let Some((last, _)) = read.last() else { break };
            next = last.next();
            records.extend(read);
        }
        let config =
            Config { name: String::new(), log_id: log.log_id(), settings: Settings::default(), seed: 0 };
        let snapshot = snapshot.as_ref().map(|(at, state)| (*at, state.as_slice()));
        let controller = Controller::open(config, snapshot, records).map_err(|error| error.to_string())?;
        Ok(controller.state().audits.get(id).cloned())
    };
    read().unwrap_or_else(|error| {
        tracing::warn!(%error, "the control log cannot be asked how far the audit log goes");
        None
    })
}
