//! Snapshot files: one whole state each, named by the record it stands for. The newest one counts.

use super::{
    disk::{Directory, read_up_to, write_whole},
    format::{HEADER_LEN, HeaderError, Kind, decode_header, decode_snapshot_state, encode_snapshot_head},
};
use crate::{Damage, OpenError};
use model::LogIndex;
use std::io;

const SNAPSHOT: &str = "snapshot-";

pub(super) fn snapshot_name(at: LogIndex) -> String {
    format!("{SNAPSHOT}{:020}", at.0)
}

/// The record that the file of this name stands for, `None` when it is no snapshot.
pub(super) fn snapshot_index(name: &str) -> Option<LogIndex> {
    super::open::index_in(name, SNAPSHOT)
}

/// Puts a snapshot into place, durably.
pub(super) fn write(directory: &dyn Directory, log_id: &str, at: LogIndex, state: &[u8]) -> io::Result<()> {
    let head = encode_snapshot_head(log_id, at, state);
    write_whole(directory, &snapshot_name(at), &[&head, state]).map(drop)
}

/// The state of the snapshot of record `at`.
pub(super) fn read(directory: &dyn Directory, log_id: &str, at: LogIndex) -> Result<Vec<u8>, OpenError> {
    let name = snapshot_name(at);
    let path = directory.path(&name);
    let io =
        |error: io::Error| OpenError::Io { path: path.clone(), action: "read", detail: error.to_string() };
    let damage = |offset, what| Damage { file: path.clone(), offset, what };
    let file = directory.open(&name).map_err(io)?;
    let len = usize::try_from(file.len().map_err(io)?).unwrap_or(usize::MAX);
    let bytes = read_up_to(&*file, 0, len).map_err(io)?;
    let header = match decode_header(Kind::Snapshot, &bytes) {
        Ok(header) => header,
        Err(HeaderError::Newer(found)) => return Err(super::newer(path, found)),
        Err(HeaderError::Damaged(what)) => return Err(damage(0, what).into()),
    };
    if header.log_id != log_id || header.index != at {
        let what = format!(
            "it stands for record {} of log {}, not for record {at} of log {log_id}",
            header.index, header.log_id
        );
        return Err(damage(0, what).into());
    }
    let state = decode_snapshot_state(&bytes).map_err(|what| damage(HEADER_LEN as u64, what))?;
    Ok(state.to_vec())
}
