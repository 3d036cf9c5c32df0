//! Carries out one action on this node. Whatever is already so counts as done, so that every action can be
//! repeated; what was begun and not finished is unknown, never refused.

mod copies;
mod copy;
mod directories;
mod groups;
mod routes;
mod tables;
mod threads;

use super::Sidecar;
use manticore::{RenderContext, Statement, outcome, render};
use model::{Action, ClusterStatus, Command, CommandId, GroupId, Outcome};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For a look that belongs to an action: it says nothing about the action when it fails.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);

/// Carries the command out, and is over by `deadline` but for the last look; a JOIN while its copy goes on.
pub(super) async fn execute(sidecar: &Sidecar, command: &Command, deadline: Instant) -> Outcome {
    let patience = Duration::from_millis(command.remaining_ms);
    let turn = Turn { sidecar, id: command.id, deadline, patience };
    let action = &command.action;
    match action {
        Action::MakeDirectory { group } => turn.make_directory(group).await,
        Action::RemoveDirectory { group } => turn.remove_directory(group).await,
        Action::CreateTables { tables, schema } => turn.create_tables(action, tables, schema).await,
        Action::DropTables { .. }
        | Action::Truncate { .. }
        | Action::Optimize { .. }
        | Action::FlushRamchunk { .. }
        | Action::CreateCluster { .. }
        | Action::UpdateNodes { .. }
        | Action::PutDocuments { .. } => turn.one_by_one(action).await,
        Action::JoinCluster { group, at } => turn.join(action, group, at).await,
        Action::AddTables { group, tables } => turn.add_tables(group, tables).await,
        Action::ReturnTables { group, copies } => turn.return_tables(action, group, copies).await,
        Action::AwaitQuiet { lock } => turn.await_quiet(*lock).await,
        Action::RemoveTables { group, tables } => turn.remove_tables(group, tables).await,
        Action::Bootstrap { group } => turn.bootstrap(action, group).await,
        Action::ExitCluster { group, tables, floor } => turn.exit(action, group, tables, *floor).await,
        Action::DeleteCluster { group, whole } => turn.delete(action, group, *whole).await,
        Action::DropCopies { copies } => turn.drop_copies(copies).await,
        Action::SetRoutes { routes } => turn.set_routes(routes).await,
        Action::DropRoutes { tables } => turn.drop_routes(tables).await,
        Action::EndStock { cluster } => turn.end_stock(action, cluster.as_ref()).await,
    }
}

/// One action under way.
struct Turn<'a> {
    sidecar: &'a Sidecar,
    id: CommandId,
    deadline: Instant,
    /// How long a copy may stand still.
    patience: Duration,
}

fn done() -> Outcome {
    Outcome::Done { contents: BTreeMap::new() }
}

fn refused(message: impl Into<String>) -> Outcome {
    Outcome::Refused { message: message.into() }
}

impl Turn<'_> {
    /// Time left; an error once there is none.
    fn remaining(&self) -> Result<Duration, Outcome> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(refused("its time was over before it was sent")) } else { Ok(left) }
    }

    /// Says one statement to this node.
    async fn say(&self, statement: &Statement) -> Outcome {
        let left = match self.remaining() {
            Ok(left) => left,
            Err(over) => return over,
        };
        outcome(statement, &self.sidecar.client.execute(&self.sidecar.node, statement, left).await)
    }

    /// Says the statements in order, each after the one before was done.
    async fn say_all(&self, statements: &[Statement]) -> Outcome {
        let mut progress = Progress::default();
        for statement in statements {
            let outcome = self.say(statement).await;
            if let Some(stopped) = progress.after(outcome) {
                return stopped;
            }
        }
        done()
    }

    /// The statements of an action that needs nothing but them.
    async fn one_by_one(&self, action: &Action) -> Outcome {
        match self.statements(action, false) {
            Ok(statements) => self.say_all(&statements).await,
            Err(refused) => refused,
        }
    }

    fn statements(&self, action: &Action, only_member: bool) -> Result<Vec<Statement>, Outcome> {
        let context = RenderContext {
            own: self.sidecar.node.clone(),
            galera_listen: self.sidecar.galera_listen.clone(),
            only_member,
        };
        render(action, &context).map_err(|error| refused(error.to_string()))
    }

    /// All clusters of this node as it shows them now. A failed look means that the action was not begun.
    async fn clusters(&self) -> Result<BTreeMap<GroupId, ClusterStatus>, Outcome> {
        let time_max = LOOK_TIME_MAX.min(self.remaining()?);
        match self.sidecar.client.status(&self.sidecar.node, time_max).await {
            Ok(status) => Ok(status.clusters),
            Err(error) => Err(refused(format!("not begun, the node does not show its clusters: {error}"))),
        }
    }

    /// This node's view of `group`.
    async fn cluster(&self, group: &GroupId) -> Result<Option<ClusterStatus>, Outcome> {
        Ok(self.clusters().await?.remove(group))
    }

    /// Whether this node sees itself as the only member of a group.
    fn is_alone(&self, cluster: &ClusterStatus) -> bool {
        cluster.size == 1 && cluster.nodes_view.iter().all(|node| *node == self.sidecar.node)
    }
}

/// What several statements have come to so far.
#[derive(Debug, Default)]
struct Progress {
    done: usize,
}

impl Progress {
    /// Takes the outcome of the next part; `Some` is the end. A refusal after something was done leaves a part:
    /// that is not "certainly not done".
    fn after(&mut self, outcome: Outcome) -> Option<Outcome> {
        match outcome {
            Outcome::Done { .. } => {
                self.done += 1;
                None
            }
            Outcome::Refused { message } if self.done > 0 => {
                Some(Outcome::Unknown { message: format!("{} parts were done, then: {message}", self.done) })
            }
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_refusal_after_a_part_was_done_is_unknown() {
        let mut progress = Progress::default();
        assert_eq!(progress.after(refused("no")), Some(refused("no")));
        assert_eq!(progress.after(done()), None);
        assert!(
            matches!(progress.after(refused("no")), Some(Outcome::Unknown { message }) if message.contains("no"))
        );
    }
}
