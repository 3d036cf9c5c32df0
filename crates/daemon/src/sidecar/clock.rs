//! Whether the machine's clock is behind the node's last start. searchd makes automatic ids of its `server_id` and the second
//! at which it started, so one that starts earlier than before gives out ids that documents have already.

use crate::files::{self, FileError};
use std::path::Path;

/// Unix seconds of the latest start there was.
const FILE: &str = "last_start";

/// The clock as it was at this start.
#[derive(Debug)]
pub(super) struct Clock {
    /// Unix seconds; of this start, or of an earlier one that was later.
    latest: u64,
    /// Seconds that this start was before that one.
    behind: u64,
}

impl Clock {
    /// Of a start at `now`, in Unix seconds, which `dir` keeps from here on.
    pub(super) fn open(dir: &Path, now: u64) -> Result<Self, FileError> {
        let path = dir.join(FILE);
        let kept = files::read_if_present(&path)?;
        let before = kept.as_ref().and_then(|text| text.trim().parse().ok());
        if kept.is_some() && before.is_none() {
            tracing::warn!(path = %path.display(), "it holds no number of seconds: the last start is not known, and it is written anew");
        }
        let latest = now.max(before.unwrap_or(0));
        if before != Some(latest) {
            files::write_durably(&path, format!("{latest}\n").as_bytes())?;
        }
        let behind = latest - now;
        if behind > 0 {
            tracing::warn!(
                behind,
                "the clock is behind the node's last start, in seconds: its automatic ids can be those of other documents"
            );
        }
        Ok(Self { latest, behind })
    }

    /// By how many seconds the clock was behind at the start, or is at `now`, for the next one; 0: it is right.
    pub(super) fn behind_seconds(&self, now: u64) -> u64 {
        self.behind.max(self.latest.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_before_the_last_one_is_behind_until_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |now| Clock::open(dir.path(), now).expect("opens");
        assert_eq!(open(1_000).behind_seconds(1_000), 0);
        let right = open(1_005);
        assert_eq!(
            (right.behind_seconds(1_009), right.behind_seconds(1_002)),
            (0, 3),
            "set back while it runs"
        );
        let early = open(1_001);
        assert_eq!(
            (early.behind_seconds(1_001), early.behind_seconds(2_000)),
            (4, 4),
            "its ids stay what they are"
        );
        assert_eq!(open(1_003).behind_seconds(1_003), 2, "the latest start counts, not the last");
        assert_eq!(open(1_006).behind_seconds(1_006), 0);
    }

    #[test]
    fn a_damaged_file_is_written_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "yesterday").expect("written");
        assert_eq!(Clock::open(dir.path(), 7).expect("opens").behind_seconds(7), 0);
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).expect("read"), "7\n");
    }
}
