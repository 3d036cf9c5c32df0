//! The runner of operations: recorded before, proven after, undone in reverse on the node where a step ran.

use crate::Controller;
use crate::flight::{Flight, StepKey};
use crate::io::Effect;
use crate::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use crate::proof::{self, Proof};
use crate::record::Record;
use crate::route::{self, Desired};
use crate::rules::{self, Case, Gate};
use crate::state::Member;
use model::{Action, Command, CommandId, Millis, NodeId, OperationId, Outcome, StepId, TableName};
use std::collections::BTreeMap;

/// Tries of a step before an operation that can be taken back is.
const ATTEMPTS_MAX: u32 = 5;
/// Tries after which a step that must succeed is shown as stuck.
pub const ATTEMPTS_STUCK: u32 = 6;
/// How long a command may act. JOIN copies data; the others answer in seconds even on a busy node.
const DEADLINE: Millis = Millis(20_000);
pub const DEADLINE_JOIN: Millis = Millis(300_000);
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
                StepStatus::Pending if operation.is_ready(step) => self.start(operation, id, step),
                StepStatus::Started => self.follow(operation, id, step),
                _ => {}
            }
        }
        let Some(now) = self.state.operations.get(&operation.id) else { return };
        if now.status == Status::Running && now.steps.iter().all(|step| step.status.lets_go_on()) {
            self.flights.end_operation(operation.id);
            self.record(Record::OperationDone { operation: operation.id, unix: self.unix_now });
        }
    }

    /// Begins a step whose predecessors are over.
    fn start(&mut self, operation: &Operation, id: StepId, step: &Step) {
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
        match &step.work {
            Work::Command { action } => self.send_checked(operation, id, step, action.clone(), false, since),
            Work::DropExited { exit } => {
                let copies = operation.step(*exit).map(|step| step.contents.clone()).unwrap_or_default();
                let action = Action::DropCopies { copies };
                self.send_checked(operation, id, step, action, false, since);
            }
            Work::Route { tables } => self.write_routes(operation, id, step, tables, since),
            Work::Regain { group } => self.regain(operation, id, step, group, since),
            internal => self.try_internal(operation, id, step, internal, since),
        }
    }

    /// Steps that need no command: done as soon as their condition is seen.
    fn try_internal(&mut self, operation: &Operation, id: StepId, step: &Step, work: &Work, since: Millis) {
        let key = (operation.id, id);
        match work {
            Work::Verify { group, node } => self.verify(key, group, node, since),
            Work::Withdraw { group, node } => {
                let others = self.whole_copies_besides(group, node);
                let floor = match operation.kind {
                    Kind::Move { floor, .. } | Kind::Shed { floor, .. } => floor,
                    _ => 1,
                };
                if others >= floor.max(1) {
                    self.step_done(key, BTreeMap::new());
                } else if self.gain_is_lost(operation) {
                    self.keep_source(operation);
                }
            }
            Work::AwaitNames { version } if self.names_are_stored(*version) => {
                self.step_done(key, BTreeMap::new());
            }
            Work::AwaitSynced { group } => {
                let synced = step
                    .node
                    .as_ref()
                    .and_then(|node| self.observed.view(node)?.cluster_since(group, since)?)
                    .is_some_and(model::ClusterStatus::is_synced);
                if synced {
                    self.step_done(key, BTreeMap::new());
                }
            }
            Work::Reserve { tables } => {
                let Some(node) = &step.node else { return };
                let case = Case {
                    state: &self.state,
                    observed: &self.observed,
                    operation,
                    node,
                    since,
                    tried: false,
                };
                match rules::names_are_free(&case, tables) {
                    Gate::Go => self.step_done(key, BTreeMap::new()),
                    Gate::Refuse(why) => self.give_up(operation, id, step, &why),
                    Gate::Look(nodes) => self.look(&nodes, since),
                    Gate::Wait(_) => {}
                }
            }
            _ => {}
        }
    }

    /// Serving members besides `node` that their node shows as synced (or that need no cluster).
    fn whole_copies_besides(&self, group: &model::GroupId, node: &NodeId) -> u32 {
        let Some(known) = self.state.groups.get(group) else { return 0 };
        known
            .serving()
            .filter(|other| *other != node && self.state.is_live(other))
            .filter(|other| {
                self.observed.cluster(other, group).is_some_and(model::ClusterStatus::is_synced)
                    || !known.is_clustered()
            })
            .count() as u32
    }

    fn gain_is_lost(&self, operation: &Operation) -> bool {
        match &operation.kind {
            Kind::Move { group, to, .. } => self
                .state
                .groups
                .get(group)
                .is_none_or(|known| known.members.get(to) != Some(&Member::Serving)),
            _ => false,
        }
    }

    /// The new copy is lost before the old one went: the old one stays where it is.
    fn keep_source(&mut self, operation: &Operation) {
        let Kind::Move { group, from: Some(from), .. } = &operation.kind else { return };
        for (id, step) in operation.numbered() {
            if step.status == StepStatus::Pending {
                self.step_skipped((operation.id, id), "the new copy was lost: the old one stays");
            }
        }
        let leaving =
            self.state.groups.get(group).and_then(|known| known.members.get(from)) == Some(&Member::Leaving);
        if leaving {
            self.record(Record::MemberServing { group: group.clone(), node: from.clone() });
        }
    }

    /// A step that writes routes is done when the node is seen with the routes that the state has now.
    fn write_routes(
        &mut self,
        operation: &Operation,
        id: StepId,
        step: &Step,
        tables: &[TableName],
        since: Millis,
    ) {
        let Some(node) = &step.node else { return };
        let Some(seen) = self.observed.view(node).and_then(|view| view.tables_since(since)) else {
            return self.look(std::slice::from_ref(node), since);
        };
        let (mut write, mut remove) = (Vec::new(), Vec::new());
        for table in tables {
            let there = seen.routes.get(table.as_str());
            match route::desired(&self.state, table) {
                Desired::Routed(spec) => {
                    if there.is_none_or(|there| !route::same(there, &spec.route)) {
                        write.push(spec);
                    }
                }
                Desired::Absent if there.is_some() => remove.push(table.clone()),
                Desired::Absent | Desired::Unknown => {}
            }
        }
        let action = if !write.is_empty() {
            Action::SetRoutes { routes: write }
        } else if !remove.is_empty() {
            Action::DropRoutes { tables: remove }
        } else {
            return self.step_done((operation.id, id), BTreeMap::new());
        };
        self.send_checked(operation, id, step, action, false, since);
    }

    /// Makes a group that lost members writable: nothing to do where it stayed primary, else `pc.bootstrap` on the
    /// one that rule 6 names. Once one was told, only that one is, until its outcome is seen.
    fn regain(
        &mut self,
        operation: &Operation,
        id: StepId,
        step: &Step,
        group: &model::GroupId,
        since: Millis,
    ) {
        let key = (operation.id, id);
        let Some(known) = self.state.groups.get(group) else {
            return self.step_skipped(key, "the group is gone");
        };
        let serving: Vec<NodeId> = known.serving().cloned().collect();
        if serving.is_empty() {
            return self.step_skipped(key, "no copy of the group is left");
        }
        let lost: Vec<NodeId> =
            known.members.keys().filter(|node| !self.state.is_live(node)).cloned().collect();
        let primary = serving.iter().find(|node| {
            self.observed.view(node).and_then(|view| view.cluster_since(group, since)?).is_some_and(
                |cluster| cluster.is_synced() && lost.iter().all(|lost| !cluster.nodes_view.contains(lost)),
            )
        });
        if primary.is_some() {
            return self.step_done(key, BTreeMap::new());
        }
        for node in &serving {
            self.observed.hurry(node, self.now + Millis(100));
        }
        match rules::survivor(&self.state, &self.observed, group, since) {
            Ok(node) => {
                let step = Step { node: Some(node), ..step.clone() };
                let action = Action::Bootstrap { group: group.clone() };
                self.send_checked(operation, id, &step, action, false, since);
            }
            Err(Gate::Look(nodes)) => self.look(&nodes, since),
            Err(_) => {}
        }
    }

    /// Sends a command if the rules and the node's sidecar allow it now.
    fn send_checked(
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
        if let Action::AddTables { group, .. } | Action::RemoveTables { group, .. } = &action {
            self.retire_absent(group);
        }
        let limit = if matches!(action, Action::JoinCluster { .. }) { DEADLINE_JOIN } else { DEADLINE };
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
                deadline: self.now + limit,
                outcome: None,
                inherited: false,
            },
        );
        self.out.effects.push(Effect::Command { node, command });
    }

    /// Rule 7: members that are away while a group's tables change are not trusted with it any more. When they are
    /// back they leave it, drop what they have, and join anew where the plan wants them.
    fn retire_absent(&mut self, group: &model::GroupId) {
        let Some(known) = self.state.groups.get(group) else { return };
        let tables = known.tables();
        let absent: Vec<NodeId> = known
            .members
            .iter()
            .filter(|(node, member)| !self.state.is_live(node) || **member == Member::Returning)
            .map(|(node, _)| node.clone())
            .collect();
        for node in absent {
            let (group, tables) = (Some(group.clone()), tables.clone());
            self.record(Record::LeftBehind { node, group, tables, routes: Vec::new() });
        }
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
                let needs_contents = operation
                    .steps
                    .iter()
                    .any(|other| matches!(other.work, Work::DropExited { exit } if exit == id));
                let again = matches!(step.work, Work::Route { .. });
                match &flight.action {
                    // It is out, but what its copies then held is not known: asking again tells.
                    Action::ExitCluster { tables, .. } if needs_contents && contents.len() < tables.len() => {
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
    fn settle(&mut self, key: StepKey, flight: &Flight) -> Settled {
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

    fn failed_try(&mut self, operation: &Operation, id: StepId, step: &Step, error: &str) {
        // Rule 12: a TRUNCATE that may have run is never repeated by itself.
        let once = matches!(step.work.action(), Some(Action::Truncate { .. }));
        // What is made anew from what is seen may be made anew differently.
        let again = matches!(operation.kind, Kind::Cleanup { .. } | Kind::Reroute { .. });
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
        if step.status == StepStatus::Pending {
            // Nothing was sent, so nothing there is ours to undo: what stands in the way belongs to somebody.
            self.step_skipped(key, error);
        } else {
            let error = error.to_owned();
            self.record(Record::StepFailed { operation: key.0, step: key.1, error, last: true });
        }
        let node = step.node.as_ref().map_or(String::new(), |node| format!(" on node {node}"));
        let error = format!("step {}{node} failed: {error}", step.work.class());
        if operation.unwinds() {
            self.record(Record::UnwindStarted { operation: operation.id, error });
        } else {
            self.flights.end_operation(operation.id);
            self.record(Record::OperationFailed { operation: operation.id, error, unix: self.unix_now });
        }
    }

    /// The node of a step is proven gone. What can be taken back is; what goes forward passes the step over and
    /// notes what the node may still hold.
    fn node_is_lost(&mut self, operation: &Operation, id: StepId, step: &Step, node: &NodeId) {
        let key = (operation.id, id);
        if operation.unwinds() {
            return self.give_up(operation, id, step, "the node was lost");
        }
        self.leave_behind(operation, step, node);
        self.step_skipped(key, "the node was lost");
    }

    fn leave_behind(&mut self, operation: &Operation, step: &Step, node: &NodeId) {
        let action = match (&step.work, &step.undo) {
            (Work::Command { action }, _) => Some(action),
            (_, undo) => undo.as_ref(),
        };
        let Some(action) = action else { return };
        let left = match action {
            Action::DropRoutes { tables } => (None, Vec::new(), tables.clone()),
            Action::DropTables { tables } | Action::CreateTables { tables, .. } => {
                (None, tables.clone(), Vec::new())
            }
            other => match other.group().or(match other {
                Action::MakeDirectory { group } | Action::RemoveDirectory { group } => Some(group),
                _ => None,
            }) {
                Some(group) => {
                    let tables = self.state.groups.get(group).map(crate::state::Group::tables);
                    let tables = tables.unwrap_or_else(|| operation_tables(operation));
                    (Some(group.clone()), tables, Vec::new())
                }
                None => return,
            },
        };
        let (group, tables, routes) = left;
        self.record(Record::LeftBehind { node: node.clone(), group, tables, routes });
    }

    /// Takes an operation back, last steps first.
    fn unwind(&mut self, operation: &Operation) {
        for (id, step) in operation.numbered().rev() {
            let key = (operation.id, id);
            let Some(current) = self.state.operations.get(&operation.id) else { return };
            if current.step(id).is_none_or(|current| current.status != step.status) {
                continue;
            }
            let flight = self.flights.open.get(&key).cloned();
            match step.status {
                // Whether it happened must be known before it is undone, or the undo could overtake it.
                StepStatus::Started if flight.as_ref().is_some_and(|f| self.is_open(f)) => {}
                StepStatus::Started | StepStatus::Done | StepStatus::Failed => {
                    let Some(current) = self.state.operations.get(&operation.id) else { return };
                    if current.may_undo(id) {
                        self.undo(operation, id, step);
                    }
                }
                StepStatus::Undoing => self.follow_undo(operation, id, step),
                StepStatus::Pending | StepStatus::Skipped | StepStatus::Undone => {}
            }
        }
        let Some(current) = self.state.operations.get(&operation.id) else { return };
        if current.steps.iter().all(|step| step.status.is_gone()) {
            let error = current.error.clone().unwrap_or_default();
            self.flights.end_operation(operation.id);
            self.record(Record::OperationFailed { operation: operation.id, error, unix: self.unix_now });
        }
    }

    fn is_open(&self, flight: &Flight) -> bool {
        flight.outcome.is_none() && self.now < flight.deadline && self.state.is_live(&flight.node)
    }

    fn undo(&mut self, operation: &Operation, id: StepId, step: &Step) {
        let key = (operation.id, id);
        let (Some(action), Some(mut node)) = (step.undo.clone(), step.node.clone()) else {
            self.flights.end_step(key);
            return self.record(Record::StepUndone { operation: key.0, step: key.1 });
        };
        if let Action::RemoveTables { group, .. } = &action
            && !self.state.is_live(&node)
            && let Some(other) = self.state.groups.get(group).and_then(|known| known.serving().next())
        {
            // What it did, it did to every member: any of them can take it back.
            node = other.clone();
        }
        let step = &Step { node: Some(node.clone()), ..step.clone() };
        if !self.state.is_live(&node) {
            self.leave_behind(operation, &Step { work: Work::Command { action }, ..step.clone() }, &node);
            return self.step_skipped(key, "the node was lost before this was taken back");
        }
        if !self.flights.may_try(key, self.now) {
            return;
        }
        if self.flights.open.get(&key).is_some_and(|flight| !flight.undo) {
            self.flights.end_step(key);
        }
        let since = self.flights.ready_since(key, self.now);
        let action = self.way_out(operation, &node, action);
        self.send_checked(operation, id, step, action, true, since);
    }

    /// EXIT needs a quorum. A group that a failed create made has nobody's data in it: where its quorum is gone,
    /// DELETE takes the member out.
    fn way_out(&self, operation: &Operation, node: &NodeId, action: Action) -> Action {
        match action {
            Action::ExitCluster { group, .. }
                if operation.makes_group(&group)
                    && self
                        .observed
                        .cluster(node, &group)
                        .is_some_and(|cluster| cluster.status != model::ClusterState::Primary) =>
            {
                Action::DeleteCluster { group }
            }
            other => other,
        }
    }

    fn follow_undo(&mut self, operation: &Operation, id: StepId, step: &Step) {
        let key = (operation.id, id);
        let lost = step.node.as_ref().is_none_or(|node| !self.state.is_live(node));
        let flight = match self.flights.open.get(&key).cloned() {
            Some(flight) if !lost => flight,
            _ => return self.undo(operation, id, step),
        };
        match self.settle(key, &flight) {
            Settled::Open => {}
            Settled::Proven(_) => {
                self.flights.end_step(key);
                self.record(Record::StepUndone { operation: key.0, step: key.1 });
            }
            Settled::Failed(error) => {
                self.flights.fail(key, step.attempts, self.now);
                self.record(Record::StepFailed { operation: key.0, step: key.1, error, last: false });
            }
        }
    }

    pub(crate) fn step_done(&mut self, key: StepKey, contents: BTreeMap<String, model::Content>) {
        self.flights.end_step(key);
        self.record(Record::StepDone { operation: key.0, step: key.1, contents });
    }

    pub(crate) fn step_skipped(&mut self, key: StepKey, why: &str) {
        self.flights.end_step(key);
        self.record(Record::StepSkipped { operation: key.0, step: key.1, why: why.to_owned() });
    }

    fn look(&mut self, nodes: &[NodeId], since: Millis) {
        for node in nodes {
            self.observed.want(node, since);
        }
    }
}

enum Settled {
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
            | Action::Truncate { .. }
            | Action::Optimize { .. }
            | Action::FlushRamchunk { .. }
    )
}

/// All physical tables that an operation makes.
fn operation_tables(operation: &Operation) -> Vec<String> {
    match &operation.kind {
        Kind::CreateTable { spec, .. } => (0..spec.shards).map(|n| spec.name.shard_table(n)).collect(),
        _ => Vec::new(),
    }
}
