//! The order of commands on one node, in lanes, each one command at a time: cluster statements; what gives a group a quorum;
//! tables and routes; documents of restores. searchd has one lock for cluster statements, and a JOIN that copies for an hour
//! must not keep a group without a quorum waiting, nor routes; nor must a write that waits for that JOIN, or for those very
//! routes.

use super::poll::Ledger;
use super::{Sidecar, execute};
use crate::shutdown::Shutdown;
use model::{Action, Command, CommandId, Outcome};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// Commands waiting in a lane. The controller gives each a deadline and waits for outcomes, so this many mean
/// that something is very wrong: further ones are refused, which the controller hears.
const COMMANDS_MAX: usize = 10_000;

/// A command, and when the poll was sent that brought it.
#[derive(Debug)]
struct Item {
    command: Command,
    asked: Instant,
}

/// The entrances.
#[derive(Debug)]
pub(super) struct Lanes {
    clusters: mpsc::Sender<Item>,
    quorums: mpsc::Sender<Item>,
    tables: mpsc::Sender<Item>,
    documents: mpsc::Sender<Item>,
}

/// The exits, before they are at work.
#[derive(Debug)]
pub(super) struct Queues {
    clusters: mpsc::Receiver<Item>,
    quorums: mpsc::Receiver<Item>,
    tables: mpsc::Receiver<Item>,
    documents: mpsc::Receiver<Item>,
}

impl Lanes {
    pub(super) fn new() -> (Self, Queues) {
        let (clusters, clusters_out) = mpsc::channel(COMMANDS_MAX);
        let (quorums, quorums_out) = mpsc::channel(COMMANDS_MAX);
        let (tables, tables_out) = mpsc::channel(COMMANDS_MAX);
        let (documents, documents_out) = mpsc::channel(COMMANDS_MAX);
        (
            Self { clusters, quorums, tables, documents },
            Queues {
                clusters: clusters_out,
                quorums: quorums_out,
                tables: tables_out,
                documents: documents_out,
            },
        )
    }

    /// Puts `command`, which the ledger counts as running, behind the others of its lane.
    pub(super) fn push(&self, ledger: &Ledger, command: Command, asked: Instant) {
        let (id, epoch) = (command.id, command.epoch);
        let lane = match &command.action {
            Action::PutDocuments { .. } => &self.documents,
            action if action.needs_no_lock() => &self.quorums,
            action if of_clusters(action) => &self.clusters,
            _ => &self.tables,
        };
        if let Err(error) = lane.try_send(Item { command, asked }) {
            let (operation, step) = (id.operation, id.step);
            tracing::error!(%operation, %step, attempt = id.attempt, %error, "a command found no place");
            let message = "not begun: too many commands wait on this node".to_owned();
            ledger.finish(id, epoch, Outcome::Refused { message });
        }
    }
}

/// Whether the action shares searchd's one lock for clusters, or works on what a group leaves behind.
fn of_clusters(action: &Action) -> bool {
    action.group().is_some()
        || matches!(
            action,
            Action::MakeDirectory { .. } | Action::RemoveDirectory { .. } | Action::DropCopies { .. }
        )
}

impl Queues {
    pub(super) fn spawn(self, tasks: &mut JoinSet<()>, sidecar: &Arc<Sidecar>, shutdown: &Shutdown) {
        for queue in [self.clusters, self.quorums, self.tables, self.documents] {
            tasks.spawn(work(queue, Arc::clone(sidecar), shutdown.clone()));
        }
    }
}

async fn work(mut queue: mpsc::Receiver<Item>, sidecar: Arc<Sidecar>, shutdown: Shutdown) {
    loop {
        let item = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            item = queue.recv() => item,
        };
        let Some(Item { command, asked }) = item else { return };
        // Whatever is said on the way says of which operation it is.
        let CommandId { operation, step, attempt } = command.id;
        let span = tracing::info_span!("command", %operation, %step, attempt);
        span.in_scope(|| tracing::debug!(action = ?command.action, "its turn has come"));
        let outcome = match sidecar.fence.check(&command, asked) {
            // Looked at only now: a leader may have been deposed, or time have passed, while it waited its turn.
            Err(refused) => Outcome::Refused { message: refused.to_string() },
            Ok(deadline) => execute::execute(&sidecar, &command, deadline).instrument(span.clone()).await,
        };
        span.in_scope(|| match &outcome {
            Outcome::Done { .. } => tracing::info!(class = command.action.class(), "done"),
            other => tracing::warn!(action = ?command.action, outcome = ?other, "not done"),
        });
        sidecar.ledger.finish(command.id, command.epoch, outcome);
    }
}
