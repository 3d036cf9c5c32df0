//! The runner of operations: recorded before, proven after, undone in reverse on the node where a step ran.

use crate::Controller;
use crate::flight::{Flight, StepKey};
use crate::io::Effect;
use crate::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use crate::prelude::is_prelude;
use crate::proof::{self, Proof};
use crate::record::Record;
use crate::recover::Standing;
use crate::rules::{self, Case, Gate};
use crate::state::{Halt, Leftover, Member};
use model::{Action, Command, CommandId, Millis, NodeId, OperationId, Outcome, StepId};
use std::collections::BTreeMap;

/// Tries of a step before an operation that can be taken back is.
const ATTEMPTS_MAX: u32 = 5;
/// Tries after which a step that must succeed is shown as stuck.
pub const ATTEMPTS_STUCK: u32 = 6;
/// How long a command may act. JOIN copies data, and may take as long as its copy does not stand still for its time; the others
/// answer in seconds even on a busy node.
pub const DEADLINE: Millis = Millis(20_000);
const DEADLINE_JOIN: Millis = Millis(300_000);
/// Routes are written in the same lane, so a node that is not quiet is asked again rather than waited for.
const DEADLINE_QUIET: Millis = Millis(2_000);
/// Rounds of progress in one tick: each round follows from the one before, and the longest chain is short.
const ROUNDS_MAX: usize = 64;

impl Controller {
    /// Takes every operation as far as it can go now.
    pub(crate) fn run_operations(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let before = self.out.records.len();
            let ids: Vec<OperationId> = self.state.operations.keys().copied().collect();
            for id in ids {
                self.run_operation(id);
            }
            if self.out.records.len() == before {
                return;
            }
        }
    }

    fn run_operation(&mut self, id: OperationId) {
        let Some(operation) = self.state.operations.get(&id).cloned() else { return };
        match operation.status {
            Status::Queued => self.admit(&operation),
            Status::Running => self.advance(&operation),
            Status::Unwinding => self.unwind(&operation),
            Status::Done | Status::Failed | Status::Cancelled => {}
        }
    }

    fn advance(&mut self, operation: &Operation) {
        if self.source_is_needed(operation) {
            return self.keep_source(operation);
        }
        let abandoned = self.abandon(operation);
        if !abandoned && let Some(error) = self.hold_is_over(operation) {
            return self.record(Record::UnwindStarted { operation: operation.id, error, revoked: false });
        }
        for (id, step) in operation.numbered() {
            // An earlier step of this round can have ended this one, or turned the whole operation round.
            let Some(current) = self.state.operations.get(&operation.id) else { return };
            if current.status != Status::Running {
                return;
            }
            if current.step(id).is_none_or(|current| current.status != step.status) {
                continue;
            }
            match step.status {
                StepStatus::Pending if !abandoned && operation.is_ready(step) => {
                    self.start(operation, id, step);
                }
                StepStatus::Started => self.follow(operation, id, step),
                _ => {}
            }
        }
        self.end_if_over(operation);
    }

    fn end_if_over(&mut self, operation: &Operation) {
        let Some(now) = self.state.operations.get(&operation.id) else { return };
        if now.status == Status::Running && now.steps.iter().all(|step| step.status.lets_go_on()) {
            self.flights.end_operation(operation.id);
            let (id, unix) = (operation.id, self.unix_now);
            self.record(match self.is_needed_again(&operation.kind) {
                Some(error) => Record::OperationFailed { operation: id, error, unix },
                None => Record::OperationDone { operation: id, unix },
            });
        }
    }

    /// A lost node that was to be given up is back, and its copies with it.
    fn is_needed_again(&self, kind: &Kind) -> Option<String> {
        let Kind::RemoveNode { node } = kind else { return None };
        let holds = self.state.groups.values().any(|group| group.members.contains_key(node));
        holds.then(|| format!("node {node} is back and holds copies: it was not removed"))
    }

    /// Begins a step whose predecessors are over.
    pub(crate) fn start(&mut self, operation: &Operation, id: StepId, step: &Step) {
        let key = (operation.id, id);
        if !self.flights.may_try(key, self.now) {
            return;
        }
        let since = self.flights.ready_since(key, self.now);
        if let Some(node) = &step.node
            && !self.state.is_live(node)
        {
            return self.node_is_lost(operation, id, step, &node.clone());
        }
        if self.ends_otherwise(operation, id, step) {
            return;
        }
        if self.is_left_behind(operation, step) {
            return self.step_skipped(key, "it was lost meanwhile, and is cleaned");
        }
        if self.is_clean_already(operation, step) {
            return self.step_skipped(key, "nothing of it is left there");
        }
        if self.has_quorum_again(operation) {
            return self.step_skipped(key, "it has a quorum again by itself");
        }
        if self.is_gone_again(operation, step) {
            return self.step_skipped(key, "it is no whole member any more");
        }
        match &step.work {
            Work::Command { action } => {
                let Some(node) = &step.node else { return };
                let action = self.next_towards(operation, node, action.clone());
                self.send_checked(operation, id, step, action, false, since);
            }
            Work::DropExited { exit, tables } => {
                let action = Action::DropCopies { copies: operation.left_with(*exit, tables) };
                self.send_checked(operation, id, step, action, false, since);
            }
            Work::Route { tables } => self.write_routes(operation, id, step, tables, since),
            Work::Regain { group } => self.regain(operation, id, step, group, since),
            internal => self.try_internal(operation, id, step, internal, since),
        }
    }

    /// Whether what was to be given a quorum, or up because it had none, is seen to have one: there is nothing left to do.
    fn has_quorum_again(&self, operation: &Operation) -> bool {
        match &operation.kind {
            Kind::UserCluster { cluster, .. } if operation.gives_quorum() => {
                let synced = |node: &NodeId| {
                    self.observed.cluster(node, cluster).is_some_and(model::ClusterStatus::is_synced)
                };
                self.state.live_nodes().any(|node| self.answers(node) && synced(node))
            }
            // Who is no member lets go for those that wait at the gate: nobody has seen their group stop.
            Kind::LetGo { group, node } => self.state.groups.get(group).is_some_and(|known| {
                if known.members.contains_key(node) {
                    !known.halt.is_some_and(Halt::is_total)
                } else {
                    self.standing(group, known) == Standing::Whole
                }
            }),
            _ => false,
        }
    }

    /// Whether the log knows of nothing any more that the step of a cleanup would take away. Its node may have been given it
    /// again, and then all wait for a route that nobody takes away.
    fn is_clean_already(&self, operation: &Operation, step: &Step) -> bool {
        let (Kind::Cleanup { node }, Some(action)) = (&operation.kind, step.work.action()) else {
            return false;
        };
        let mut left = self.state.leftovers.get(node).into_iter().flatten();
        let is_left = match action {
            Action::DropTables { tables } => left.any(|left| match left {
                Leftover::Group { tables: left, .. } | Leftover::Tables { tables: left } => {
                    tables.iter().any(|table| left.contains(table))
                }
                Leftover::Route { .. } => false,
            }),
            // Once it is no whole member it is cleaned of all of the group, by the next one.
            Action::RemoveTables { group, .. } => {
                let known = self.state.groups.get(group);
                known.is_some_and(|known| known.members.get(node) == Some(&Member::Serving))
            }
            Action::ExitCluster { group, .. }
            | Action::DeleteCluster { group, .. }
            | Action::RemoveDirectory { group } => self.state.is_left_over(group, node),
            _ => true,
        };
        !is_left
    }

    /// Whether the step takes a copy away that is no member of its group any more: since it was lost, it is a leftover.
    fn is_left_behind(&self, operation: &Operation, step: &Step) -> bool {
        let (Kind::Move { group, from: Some(from), .. } | Kind::Shed { group, from, .. }) = &operation.kind
        else {
            return false;
        };
        let takes_away = matches!(step.work, Work::Command { .. } | Work::DropExited { .. });
        takes_away
            && step.node.as_ref() == Some(from)
            && !operation.unwinds()
            && self.state.groups.get(group).is_some_and(|known| !known.members.contains_key(from))
    }

    /// Whether the step lists the members anew for one that had come back, and that has gone again. Its next return does
    /// so, too; where its group lost its quorum and it stayed a member, the next move or return of the group.
    fn is_gone_again(&self, operation: &Operation, step: &Step) -> bool {
        let (Kind::Return { group, node }, Some(Action::UpdateNodes { .. })) =
            (&operation.kind, step.work.action())
        else {
            return false;
        };
        !self.is_member(group, Some(node)) || !self.is_whole_on(group, node)
    }

    /// Sends a command if the rules and the node's sidecar allow it now.
    pub(crate) fn send_checked(
        &mut self,
        operation: &Operation,
        id: StepId,
        step: &Step,
        action: Action,
        undo: bool,
        since: Millis,
    ) {
        let key = (operation.id, id);
        let Some(node) = step.node.clone() else { return };
        if !self.sidecar_is_ours(&node) || self.flights.holds_lock(&node, &action, key) {
            return;
        }
        let case = Case {
            state: &self.state,
            observed: &self.observed,
            flights: &self.flights,
            operation,
            node: &node,
            since,
            tried: step.attempts > 0,
        };
        match rules::check(&case, &action) {
            Gate::Go => self.send(key, step.attempts + 1, node, action, undo),
            Gate::Wait(why) => {
                // What it waits for shows only in a newer look.
                self.flights.fail(key, 1, self.now);
                self.flights.waits.insert(key, why);
            }
            Gate::Look(nodes) => self.look(&nodes, since),
            Gate::Refuse(why) => self.give_up(operation, id, step, &why),
        }
    }

    fn send(&mut self, key: StepKey, attempt: u32, node: NodeId, action: Action, undo: bool) {
        let remade =
            self.is_busy(|kind| matches!(kind, Kind::Remake { group, .. } if action.group() == Some(group)));
        if let Action::AddTables { group, .. }
        | Action::RemoveTables { group, .. }
        | Action::ReturnTables { group, .. } = &action
            // Its end retires all others at once.
            && !remade
        {
            self.retire_absent(group);
        }
        let limit = self.deadline_of(key.0, &action);
        self.record(Record::StepStarted {
            operation: key.0,
            step: key.1,
            node: node.clone(),
            attempt,
            epoch: self.state.epoch,
            deadline_ms: limit.0,
            undo,
        });
        let command = Command {
            id: CommandId { operation: key.0, step: key.1, attempt },
            epoch: self.state.epoch,
            remaining_ms: limit.0,
            action: action.clone(),
        };
        self.flights.waits.remove(&key);
        self.flights.open.insert(
            key,
            Flight {
                node: node.clone(),
                attempt,
                action,
                undo,
                sent: self.now,
                deadline: self.now + limit,
                outcome: None,
                inherited: false,
                went_on: 0,
            },
        );
        self.out.effects.push(Effect::Command { node, command });
    }

    pub(crate) fn deadline_of(&self, operation: OperationId, action: &Action) -> Millis {
        match action {
            Action::AwaitQuiet { .. } => DEADLINE_QUIET,
            _ => self.patience_with(operation, action).unwrap_or(DEADLINE),
        }
    }

    /// How long what the action copies may stand still, where it may take as long as it goes on: not where clients wait for it.
    pub(crate) fn patience_with(&self, operation: OperationId, action: &Action) -> Option<Millis> {
        let held = self.state.operations.get(&operation).is_some_and(Operation::may_hold);
        (matches!(action, Action::JoinCluster { .. }) && !held).then_some(DEADLINE_JOIN)
    }

    /// A command was sent: waits for its outcome, then for proof.
    fn follow(&mut self, operation: &Operation, id: StepId, step: &Step) {
        let key = (operation.id, id);
        let Some(node) = step.node.clone() else { return };
        if !self.state.is_live(&node) {
            return self.node_is_lost(operation, id, step, &node);
        }
        let Some(flight) = self.flights.open.get(&key).cloned() else {
            // Between two tries.
            return self.start(operation, id, step);
        };
        match self.settle(key, &flight) {
            Settled::Open => {}
            Settled::Proven(contents) => {
                self.measure(&flight);
                let needs_contents = operation
                    .steps
                    .iter()
                    .any(|other| matches!(other.work, Work::DropExited { exit, .. } if exit == id));
                let again =
                    matches!(step.work, Work::Route { .. }) || is_prelude(&flight.action, step.work.action());
                let left = |action: &Action| {
                    matches!(action, Action::ExitCluster { .. } | Action::DeleteCluster { .. })
                };
                match step.work.action() {
                    // It is out, but what its copies then held is not known: asking again tells.
                    Some(Action::ExitCluster { tables, .. })
                        if needs_contents && left(&flight.action) && contents.len() < tables.len() =>
                    {
                        self.failed_try(operation, id, step, "what the copies held was not reported");
                    }
                    // The state may have moved on meanwhile: routes are compared with what it has now.
                    _ if again => {
                        self.flights.open.remove(&key);
                        self.start(operation, id, step);
                    }
                    _ => self.step_done(key, contents),
                }
            }
            Settled::Failed(error) => self.failed_try(operation, id, step, &error),
        }
    }

    /// What is known of a command by now.
    pub(crate) fn settle(&mut self, key: StepKey, flight: &Flight) -> Settled {
        let (outcome, at) = match &flight.outcome {
            Some((outcome, at)) => (outcome.clone(), *at),
            None if self.now >= flight.deadline => {
                let message = format!("{} gave no answer in time", flight.node);
                let outcome = Outcome::Unknown { message };
                if let Some(open) = self.flights.open.get_mut(&key) {
                    open.outcome = Some((outcome.clone(), self.now));
                }
                (outcome, self.now)
            }
            None => return Settled::Open,
        };
        let proof = proof::of(&self.state, &self.observed, &flight.node, &flight.action, at);
        match (proof, outcome) {
            (Proof::Look(nodes), _) => {
                self.look(&nodes, at);
                Settled::Open
            }
            // These show in no look, so their own word counts; each can be repeated.
            (Proof::Done, Outcome::Refused { message } | Outcome::Unknown { message })
                if shows_nowhere(&flight.action) =>
            {
                Settled::Failed(message)
            }
            (Proof::Done, Outcome::Done { contents }) => Settled::Proven(contents),
            (Proof::Done, _) => Settled::Proven(BTreeMap::new()),
            (Proof::NotSo(_), Outcome::Refused { message } | Outcome::Unknown { message }) => {
                Settled::Failed(message)
            }
            (Proof::NotSo(why), Outcome::Done { .. }) => {
                // Members apply a moment after the reply: look once more before it counts as failed.
                if self.now.since(at) < Millis(2_000) {
                    self.look(std::slice::from_ref(&flight.node), self.now);
                    self.look_at_members(&flight.action);
                    Settled::Open
                } else {
                    Settled::Failed(why)
                }
            }
        }
    }

    fn look_at_members(&mut self, action: &Action) {
        let Some(known) = action.group().and_then(|group| self.state.groups.get(group)) else { return };
        let members: Vec<NodeId> = known.members.keys().cloned().collect();
        self.look(&members, self.now);
    }

    pub(crate) fn failed_try(&mut self, operation: &Operation, id: StepId, step: &Step, error: &str) {
        // Rule 12: a TRUNCATE that may have run is never repeated by itself.
        let once = matches!(step.work.action(), Some(Action::Truncate { .. }));
        // What is made anew from what is seen may be made anew differently.
        let again = matches!(
            operation.kind,
            Kind::Cleanup { .. }
                | Kind::Reroute { .. }
                | Kind::LetGo { .. }
                | Kind::Remake { .. }
                | Kind::UserCluster { .. }
        );
        if once || ((operation.unwinds() || again) && step.attempts >= ATTEMPTS_MAX) {
            return self.give_up(operation, id, step, error);
        }
        let key = (operation.id, id);
        self.flights.fail(key, step.attempts, self.now);
        self.record(Record::StepFailed {
            operation: key.0,
            step: key.1,
            error: error.to_owned(),
            last: false,
        });
    }

    /// The step will not be tried again: the operation turns round, or ends where there is nothing to turn.
    pub(crate) fn give_up(&mut self, operation: &Operation, id: StepId, step: &Step, error: &str) {
        let key = (operation.id, id);
        self.flights.end_step(key);
        // A move whose verification is over, in whatever way, cannot be taken back any more.
        let decides = operation.unwinds() && matches!(step.work, Work::Verify { .. });
        if step.status != StepStatus::Pending {
            let error = error.to_owned();
            self.record(Record::StepFailed { operation: key.0, step: key.1, error, last: true });
        } else if !decides {
            // Nothing was sent, so nothing there is ours to undo: what stands in the way belongs to somebody.
            self.step_skipped(key, error);
        }
        let node = step.node.as_ref().map_or(String::new(), |node| format!(" on node {node}"));
        let error = format!("step {}{node} failed: {error}", step.work.class());
        if operation.unwinds() {
            self.record(Record::UnwindStarted { operation: operation.id, error, revoked: false });
        } else {
            self.flights.end_operation(operation.id);
            self.record(Record::OperationFailed { operation: operation.id, error, unix: self.unix_now });
        }
    }

    pub(crate) fn step_done(&mut self, key: StepKey, contents: BTreeMap<String, model::Content>) {
        self.flights.end_step(key);
        let step = self.state.operations.get(&key.0).and_then(|operation| operation.step(key.1));
        if let Some(Step { work: Work::Regain { group }, .. }) = step {
            self.cut_off_from(&group.clone());
        }
        self.record(Record::StepDone { operation: key.0, step: key.1, contents });
    }

    pub(crate) fn step_skipped(&mut self, key: StepKey, why: &str) {
        self.flights.end_step(key);
        self.record(Record::StepSkipped { operation: key.0, step: key.1, why: why.to_owned() });
    }

    pub(crate) fn look(&mut self, nodes: &[NodeId], since: Millis) {
        for node in nodes {
            self.observed.want(node, since);
        }
    }
}

/// What is known of a command.
pub(crate) enum Settled {
    Open,
    Proven(BTreeMap<String, model::Content>),
    Failed(String),
}

/// Whether no look at a node tells if this was done.
const fn shows_nowhere(action: &Action) -> bool {
    matches!(
        action,
        Action::MakeDirectory { .. }
            | Action::RemoveDirectory { .. }
            | Action::UpdateNodes { .. }
            | Action::AwaitQuiet { .. }
            | Action::Truncate { .. }
            | Action::Optimize { .. }
            | Action::FlushRamchunk { .. }
    )
}
