//! Who may command this node: one control log, and of its leaders the newest. Both are kept on disk, so that a
//! frozen or deposed leader does no harm after a restart either.

use crate::files::{self, FileError};
use model::{Command, Epoch, LogIndex};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Removing this file binds the node anew: the next controller it is told of takes it.
const FILE: &str = "binding.json";
const UUID_FILE: &str = "uuid";

/// Whose orders these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    pub(super) log_id: String,
    pub(super) epoch: Epoch,
    /// The leadership's own mark.
    #[serde(default)]
    pub(super) lead: String,
    /// The last record of its log. On disk: when the epoch was first seen.
    #[serde(default)]
    pub(super) last: LogIndex,
}

/// Why orders or a command were refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "this node is bound to the control log {bound}, the orders are of {offered}: nothing was done. If the new \
         controller is right, stop the old one, remove {} and restart the sidecar", file.display()
    )]
    OtherLog { bound: String, offered: String, file: PathBuf },
    #[error(
        "the orders come of an older copy of the control log (epoch {epoch}, up to record {offered}; this node has seen \
         record {seen}): nothing was done. Stop that controller; if the newer log is gone for good, remove {} and \
         restart the sidecar", file.display()
    )]
    OlderCopy { epoch: Epoch, offered: LogIndex, seen: LogIndex, file: PathBuf },
    #[error("the command is of epoch {offered}, this node has seen epoch {seen}: its leader is deposed")]
    Deposed { offered: Epoch, seen: Epoch },
    #[error("the command's time is over: it was not begun")]
    Expired,
    #[error("not begun: {0}")]
    NotStored(#[from] FileError),
}

/// The binding of this node.
#[derive(Debug)]
pub(super) struct Fence {
    path: PathBuf,
    binding: Mutex<Option<Word>>,
}

impl Fence {
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let path = dir.join(FILE);
        let binding = files::read_if_present(&path)?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| FileError { action: "read", path: path.clone(), error: error.into() })?;
        Ok(Self { path, binding: Mutex::new(binding) })
    }

    /// The log it is bound to, and the highest epoch it has seen.
    pub(super) fn seen(&self) -> (Option<String>, Epoch) {
        match &*self.binding.lock().unwrap_or_else(PoisonError::into_inner) {
            None => (None, Epoch(0)),
            Some(binding) => (Some(binding.log_id.clone()), binding.epoch),
        }
    }

    /// Takes a leader's word: a higher epoch is on disk before this returns. Another log, a lower epoch, and a copy of
    /// the log from before what was seen are refused.
    pub(super) fn admit(&self, word: &Word) -> Result<(), Refused> {
        let mut binding = self.binding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = &mut *binding {
            if bound.log_id != word.log_id {
                return Err(Refused::OtherLog {
                    bound: bound.log_id.clone(),
                    offered: word.log_id.clone(),
                    file: self.path.clone(),
                });
            }
            if word.epoch < bound.epoch {
                return Err(Refused::Deposed { offered: word.epoch, seen: bound.epoch });
            }
            if word.epoch == bound.epoch && word.lead == bound.lead {
                // Two polls can be under way, and be answered one after the other.
                bound.last = bound.last.max(word.last);
                return Ok(());
            }
            let twin = word.epoch == bound.epoch && !bound.lead.is_empty();
            if twin || word.last < bound.last {
                return Err(Refused::OlderCopy {
                    epoch: word.epoch,
                    offered: word.last,
                    seen: bound.last,
                    file: self.path.clone(),
                });
            }
        }
        let fail = |error: serde_json::Error| FileError {
            action: "write",
            path: self.path.clone(),
            error: error.into(),
        };
        files::write_durably(&self.path, &serde_json::to_vec(word).map_err(fail)?)?;
        *binding = Some(word.clone());
        Ok(())
    }

    /// Whether `command` may begin now; `asked` is when the poll was sent that brought it. Gives the moment by
    /// which it must be over.
    pub(super) fn check(&self, command: &Command, asked: Instant) -> Result<Instant, Refused> {
        let (_, seen) = self.seen();
        if command.epoch < seen {
            return Err(Refused::Deposed { offered: command.epoch, seen });
        }
        let deadline =
            asked.checked_add(Duration::from_millis(command.remaining_ms)).ok_or(Refused::Expired)?;
        if Instant::now() >= deadline { Err(Refused::Expired) } else { Ok(deadline) }
    }
}

/// The node's identity: made once, the same as long as its directory lives.
pub(super) fn uuid(dir: &Path) -> Result<String, FileError> {
    let path = dir.join(UUID_FILE);
    if let Some(text) = files::read_if_present(&path)? {
        let uuid = text.trim().to_owned();
        if uuid.len() == 32 && uuid.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(uuid);
        }
        let error = std::io::Error::other(
            "it is not 32 hex digits: restore it, or remove it to make this a new node",
        );
        return Err(FileError { action: "use the identity in", path, error });
    }
    let uuid = files::random_hex(16)?;
    files::write_durably(&path, format!("{uuid}\n").as_bytes())?;
    Ok(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Action, CommandId, GroupId, OperationId, StepId};

    fn word(log_id: &str, epoch: u64) -> Word {
        Word { log_id: log_id.to_owned(), epoch: Epoch(epoch), lead: "x".to_owned(), last: LogIndex(epoch) }
    }

    #[test]
    fn an_older_copy_of_the_log_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let fence = Fence::open(dir.path()).expect("opens");
        fence.admit(&Word { last: LogIndex(50), ..word("a", 3) }).expect("binds");
        fence.admit(&Word { last: LogIndex(60), ..word("a", 3) }).expect("it goes on");
        fence.admit(&Word { last: LogIndex(59), ..word("a", 3) }).expect("an answer that was on its way");
        // Started from a copy made just before: the same epoch, another leader.
        let twin = Word { lead: "y".to_owned(), last: LogIndex(61), ..word("a", 3) };
        assert!(matches!(fence.admit(&twin), Err(Refused::OlderCopy { .. })));
        // Started again: a higher epoch, and still a shorter log.
        let again = Word { lead: "z".to_owned(), last: LogIndex(52), ..word("a", 4) };
        let refused = fence.admit(&again).expect_err("older").to_string();
        assert!(refused.contains("binding.json") && refused.contains("record 60"), "{refused}");
        assert!(matches!(
            Fence::open(dir.path()).expect("opens").admit(&twin),
            Err(Refused::OlderCopy { .. })
        ));
        fence.admit(&Word { last: LogIndex(61), ..word("a", 4) }).expect("the next leader of the true log");
    }

    fn command(epoch: u64, remaining_ms: u64) -> Command {
        Command {
            id: CommandId { operation: OperationId(1), step: StepId(0), attempt: 1 },
            epoch: Epoch(epoch),
            remaining_ms,
            action: Action::UpdateNodes { group: GroupId::new("g").expect("valid") },
        }
    }

    #[test]
    fn a_lower_epoch_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let fence = Fence::open(dir.path()).expect("opens");
        assert_eq!(fence.seen(), (None, Epoch(0)));
        fence.admit(&word("a", 3)).expect("the first binds");
        fence.admit(&word("a", 3)).expect("the same");
        fence.admit(&word("a", 5)).expect("a newer leader");
        for fence in [fence, Fence::open(dir.path()).expect("opens")] {
            assert_eq!(fence.seen(), (Some("a".to_owned()), Epoch(5)));
            assert!(matches!(fence.admit(&word("a", 4)), Err(Refused::Deposed { .. })));
            assert!(matches!(fence.check(&command(4, 1000), Instant::now()), Err(Refused::Deposed { .. })));
            assert!(fence.check(&command(5, 60_000), Instant::now()).is_ok());
        }
    }

    #[test]
    fn another_log_is_refused_until_the_binding_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let fence = Fence::open(dir.path()).expect("opens");
        fence.admit(&word("a", 3)).expect("binds");
        let refused = fence.admit(&word("b", 9)).expect_err("another log");
        assert!(refused.to_string().contains("binding.json"), "{refused}");
        assert_eq!(fence.seen(), (Some("a".to_owned()), Epoch(3)));
        std::fs::remove_file(dir.path().join(FILE)).expect("removed");
        Fence::open(dir.path()).expect("opens").admit(&word("b", 1)).expect("binds anew");
    }

    #[test]
    fn time_counts_from_when_the_poll_was_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let fence = Fence::open(dir.path()).expect("opens");
        let now = Instant::now();
        let Some(asked) = now.checked_sub(Duration::from_secs(2)) else { return };
        assert!(matches!(fence.check(&command(1, 1_500), asked), Err(Refused::Expired)));
        let deadline = fence.check(&command(1, 60_000), asked).expect("in time");
        assert_eq!(deadline, asked + Duration::from_mins(1));
    }

    #[test]
    fn an_epoch_that_cannot_be_stored_is_not_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let fence = Fence::open(dir.path()).expect("opens");
        std::fs::remove_dir_all(dir.path()).expect("removed");
        assert!(matches!(fence.admit(&word("a", 1)), Err(Refused::NotStored(_))));
        assert_eq!(fence.seen(), (None, Epoch(0)));
    }

    #[test]
    fn an_identity_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = uuid(dir.path()).expect("made");
        assert_eq!(uuid(dir.path()).expect("read"), first);
        std::fs::write(dir.path().join(UUID_FILE), "x").expect("written");
        assert!(uuid(dir.path()).is_err());
    }
}
