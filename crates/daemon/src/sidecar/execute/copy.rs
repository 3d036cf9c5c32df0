//! A JOIN copies, and may take as long as more of the copy is seen.

use super::{LOOK_TIME_MAX, Turn};
use manticore::status::Transfer;
use manticore::{Reply, Statement, outcome};
use model::{GroupId, NodeId, Outcome};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Even a copy that goes on ends some day.
const COPY_TIME_MAX: Duration = Duration::from_hours(7 * 24);
/// More files are not counted.
const FILES_MAX: usize = 100_000;
/// A joiner without a quorum may find its donor again for so long: members that stood still, or were parted, agree by then.
const STRANDED_MAX: Duration = Duration::from_secs(5);
/// How the word of a JOIN begins that was ended here.
pub(super) const ENDED: &str = "the JOIN was ended";

/// What shows that a copy goes on. A part that was not seen is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// As the donor shows it.
    sent: Transfer,
    received: Transfer,
    /// Of the group's tables, as the donor names them, on this node's disk. Nobody else writes to them before they are whole.
    bytes: u64,
}

impl Turn<'_> {
    /// Says a JOIN, and waits for it: the command's time, and that time again whenever more of the copy was seen. One that has
    /// lost its donor is ended.
    pub(super) async fn say_while_it_goes_on(
        &self,
        statement: &Statement,
        group: &GroupId,
        at: &NodeId,
    ) -> Outcome {
        if let Err(over) = self.remaining() {
            return over;
        }
        let mut deadline = self.deadline;
        let mut before: Option<Seen> = None;
        let mut stranded_since: Option<Instant> = None;
        let mut is_ended = false;
        let said = self.sidecar.client.execute(&self.sidecar.node, statement, COPY_TIME_MAX);
        tokio::pin!(said);
        loop {
            let pause = LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now()));
            let look = async {
                tokio::time::sleep(pause).await;
                self.look_at_copy(group, at, before.as_ref()).await
            };
            let seen = tokio::select! {
                reply = &mut said => return match reply {
                    Ok(reply) if is_ended => of_ended(&reply, at),
                    reply => outcome(statement, &reply),
                },
                seen = look => seen,
            };
            if !seen.received.is_stranded {
                stranded_since = None;
            } else if stranded_since.get_or_insert_with(Instant::now).elapsed() >= STRANDED_MAX {
                is_ended |= self.end_join(group, at).await;
                stranded_since = None;
            }
            if before.as_ref().is_some_and(|before| *before != seen) {
                deadline = Instant::now() + self.patience;
                self.sidecar.ledger.goes_on(self.id);
            }
            before = Some(seen);
            if Instant::now() >= deadline {
                let seconds = self.patience.as_secs();
                let message = format!("no more of the copy from {at} was seen for {seconds} s");
                return Outcome::Unknown { message };
            }
        }
    }

    /// Whether it may be the reason for what the JOIN says from now on. One that was not ended is told to end again.
    async fn end_join(&self, group: &GroupId, at: &NodeId) -> bool {
        let end = Statement::EndJoin { group: group.clone() };
        let reply = self.sidecar.client.execute(&self.sidecar.node, &end, LOOK_TIME_MAX).await;
        let outcome = outcome(&end, &reply);
        tracing::warn!(%group, %at, ?outcome, "the donor of a JOIN is gone, it is ended");
        !matches!(outcome, Outcome::Refused { .. })
    }

    async fn look_at_copy(&self, group: &GroupId, at: &NodeId, before: Option<&Seen>) -> Seen {
        let before = before.cloned().unwrap_or_default();
        let client = &self.sidecar.client;
        let (sent, received) = tokio::join!(
            client.transfer(at, group, LOOK_TIME_MAX),
            client.transfer(&self.sidecar.node, group, LOOK_TIME_MAX),
        );
        let sent = sent.unwrap_or(before.sent);
        // That it is stranded must be seen now.
        let received = received.unwrap_or(Transfer { is_stranded: false, ..before.received });
        // Only names of our own making become paths.
        let tables = sent.tables.iter().filter(|table| model::parse_shard_table(table).is_some());
        let directories: Vec<PathBuf> = tables.map(|table| self.sidecar.data_dir.join(table)).collect();
        let bytes = tokio::task::spawn_blocking(move || bytes_in(directories)).await;
        Seen { sent, received, bytes: bytes.unwrap_or(before.bytes) }
    }
}

/// An error means that the cluster is gone from the node, whatever its words; searchd gives none for a JOIN that was ended.
fn of_ended(reply: &Reply, at: &NodeId) -> Outcome {
    match reply {
        Reply::Error { message } => {
            let message = if message.is_empty() { "without a word" } else { message };
            Outcome::Refused {
                message: format!("{ENDED} ({message}): {at} was gone before it gave anything"),
            }
        }
        // It may have come to its end at that very moment.
        _ => Outcome::Unknown { message: format!("{ENDED}, as {at} was gone, and says that it is done") },
    }
}

/// The sizes of all files below these directories; links are not followed.
fn bytes_in(mut open: Vec<PathBuf>) -> u64 {
    let (mut bytes, mut left) = (0u64, FILES_MAX);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if left == 0 {
                return bytes;
            }
            left -= 1;
            match entry.metadata() {
                Ok(about) if about.is_dir() => open.push(entry.path()),
                Ok(about) if about.is_file() => bytes = bytes.saturating_add(about.len()),
                _ => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn files_are_counted_at_any_depth() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(bytes_in(vec![dir.path().join("none")]), 0);
        std::fs::create_dir_all(dir.path().join("a/b")).expect("made");
        std::fs::write(dir.path().join("x"), [0; 3]).expect("written");
        std::fs::write(dir.path().join("a/b/y"), [0; 40]).expect("written");
        assert_eq!(bytes_in(vec![dir.path().to_owned()]), 43);
        assert_eq!(bytes_in(vec![dir.path().join("a"), dir.path().join("b")]), 40);
    }
}
