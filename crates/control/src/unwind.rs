//! Taking an operation back: in reverse order, each undo on the node where the step ran; and what is left to do for
//! nodes that are gone.

use crate::Controller;
use crate::flight::Flight;
use crate::operation::{Kind, Operation, Step, StepStatus, Work};
use crate::prelude::is_prelude;
use crate::record::Record;
use crate::route::{self, Desired};
use crate::saga::Settled;
use crate::state::{Group, Member};
use model::{Action, Content, GroupId, Millis, NodeId, StepId, WRITTEN_TO};
use std::collections::BTreeMap;

impl Controller {
    /// The node of a step is proven gone. What can be taken back is; what goes forward passes the step over and
    /// notes what the node may still hold.
    pub(crate) fn node_is_lost(&mut self, operation: &Operation, id: StepId, step: &Step, node: &NodeId) {
        let key = (operation.id, id);
        if operation.unwinds() {
            return self.give_up(operation, id, step, "the node was lost");
        }
        match &operation.kind {
            // Its copy is chosen anew when it is back, or another one by an operator.
            Kind::Remake { from, .. } if from == node => {
                return self.give_up(operation, id, step, "the node was lost");
            }
            // The whole group is emptied by it: one that is back may still do it, and then its client is not told that it was
            // done before, or what is written after that word would go, too.
            Kind::EveryShard { .. } if matches!(step.work.action(), Some(Action::Truncate { .. })) => {
                if self.flights.open.get(&key).is_some_and(|flight| self.may_begin_yet(flight)) {
                    return;
                }
                return self.give_up(operation, id, step, "the node was lost: its shard may not be empty");
            }
            Kind::DropTable { .. } if self.tells_another(operation, id, step) => return,
            Kind::DropTable { .. } if self.nobody_can_be_told(operation, step) => {}
            // What the stock sidecar knows ends on every node, however long one is away.
            Kind::Import { .. } => return,
            // What they hold is what the recovery is about.
            Kind::Remake { .. } | Kind::LetGo { .. } | Kind::UserCluster { .. } => {}
            _ => self.leave_behind(operation, step, node),
        }
        self.step_skipped(key, "the node was lost");
    }

    fn leave_behind(&mut self, operation: &Operation, step: &Step, node: &NodeId) {
        // An old copy that a hand-over did not come to drop.
        let plain = match &step.work {
            Work::DropExited { tables, .. } if !tables.is_empty() => {
                Some(Action::DropTables { tables: tables.clone() })
            }
            _ => None,
        };
        let action = match (&step.work, &step.undo) {
            (Work::Command { action }, _) => Some(action),
            (_, undo) => plain.as_ref().or(undo.as_ref()),
        };
        let Some(action) = action else { return };
        let left = match action {
            // It keeps what it has, and the list of members is brought up to date when somebody needs it.
            Action::UpdateNodes { .. } => return,
            Action::DropRoutes { tables } => (None, Vec::new(), tables.clone()),
            Action::DropTables { tables } | Action::CreateTables { tables, .. } => {
                (None, tables.clone(), Vec::new())
            }
            other => match other.group().or(match other {
                Action::MakeDirectory { group } | Action::RemoveDirectory { group } => Some(group),
                _ => None,
            }) {
                Some(group) => {
                    let tables = match self.state.groups.get(group) {
                        // The only copy is not left behind: it is what everybody waits for.
                        Some(known) if is_only_copy(known, node) => Vec::new(),
                        Some(known) => known.tables(),
                        None => operation_tables(operation),
                    };
                    (Some(group.clone()), tables, Vec::new())
                }
                None => return,
            },
        };
        let (group, tables, routes) = left;
        self.record(Record::LeftBehind { node: node.clone(), group, tables, routes });
    }

    /// Takes an operation back, last steps first.
    pub(crate) fn unwind(&mut self, operation: &Operation) {
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
            let (revoked, operation, unix) = (current.revoked, operation.id, self.unix_now);
            self.flights.end_operation(operation);
            self.record(if revoked {
                Record::OperationCancelled { operation, why: error, unix }
            } else {
                Record::OperationFailed { operation, error, unix }
            });
        }
    }

    fn is_open(&self, flight: &Flight) -> bool {
        self.may_begin_yet(flight) && self.state.is_live(&flight.node)
    }

    /// Whether the sidecar may still begin what it was told.
    fn may_begin_yet(&self, flight: &Flight) -> bool {
        flight.outcome.is_none() && self.now < flight.deadline
    }

    fn undo(&mut self, operation: &Operation, id: StepId, step: &Step) {
        let key = (operation.id, id);
        let (Some(action), Some(mut node)) = (step.undo.clone(), step.node.clone()) else {
            self.flights.end_step(key);
            return self.record(Record::StepUndone { operation: key.0, step: key.1 });
        };
        match &action {
            Action::ReturnTables { group, .. } => node = self.who_puts_back(operation, group, node),
            Action::RemoveTables { group, .. } => {
                node = self.stand_in(operation, group, &node).unwrap_or(node);
            }
            _ => {}
        }
        if !self.state.is_live(&node) {
            if let Action::ReturnTables { group, .. } = &action
                && self.state.groups.get(group).is_some_and(|known| !known.members.is_empty())
            {
                // Nobody is given up for it: the last one has the newest of what else is in the group.
                self.flights
                    .waits
                    .insert(key, format!("no member of {group} is there to put its tables back"));
                return;
            }
            let step = Step { node: Some(node.clone()), work: Work::Command { action }, ..step.clone() };
            self.leave_behind(operation, &step, &node);
            return self.step_skipped(key, "the node was lost before this was taken back");
        }
        let step = &Step { node: Some(node.clone()), ..step.clone() };
        if !self.flights.may_try(key, self.now) {
            return;
        }
        if self.flights.open.get(&key).is_some_and(|flight| !flight.undo) {
            self.flights.end_step(key);
        }
        let since = self.flights.ready_since(key, self.now);
        let Some(action) = self.filled_in(operation, id, &node, action, since) else { return };
        if is_empty(&action) {
            self.flights.end_step(key);
            return self.record(Record::StepUndone { operation: key.0, step: key.1 });
        }
        let action = self.next_towards(operation, &node, action);
        self.send_checked(operation, id, step, action, true, since);
    }

    /// What a member does with a group's tables it does to every member: when it cannot take it back, any of the others can.
    fn stand_in(&self, operation: &Operation, group: &GroupId, node: &NodeId) -> Option<NodeId> {
        let known = self.state.groups.get(group)?;
        let is_in = known.members.contains_key(node) || operation.makes_group(group);
        if is_in && self.state.is_live(node) {
            return None;
        }
        known.serving().find(|other| self.state.is_live(other)).cloned()
    }

    /// Who puts tables back into the group, with its own copies over those of the others: once they were in a new group, the one
    /// that filled it, as it has whatever was written to them there.
    fn who_puts_back(&self, operation: &Operation, group: &GroupId, node: NodeId) -> NodeId {
        let serves = |maker: &&NodeId| {
            let known = self.state.groups.get(group);
            known.is_some_and(|known| known.serving().any(|serving| serving == *maker))
        };
        let maker = filled_by(operation).filter(serves).filter(|maker| self.state.is_live(maker));
        maker.cloned().or_else(|| self.stand_in(operation, group, &node)).unwrap_or(node)
    }

    /// What the tables that a step took out of its group must hold to be put back by `node`; `None`: not yet. Where that is not
    /// who filled a new group with them, or took them out for none, the copies must be equal: any could be the one that lacks
    /// what was written since. The same where they do not hold what was compared: a transaction of somebody who writes to the
    /// shard itself can commit until they are out, on all of them.
    fn put_back(
        &mut self,
        operation: &Operation,
        id: StepId,
        node: &NodeId,
        group: &GroupId,
    ) -> Option<BTreeMap<String, Content>> {
        let step = operation.step(id)?;
        let has_all = filled_by(operation).or(step.node.as_ref());
        let was_refused = step.error.as_ref().is_some_and(|error| error.contains(WRITTEN_TO));
        let held = operation.numbered().rev().find(|(_, step)| {
            matches!(step.work, Work::Compare { .. })
                && matches!(step.status, StepStatus::Done | StepStatus::Undone)
                && !step.contents.is_empty()
        });
        let held = held.map(|(_, step)| step.contents.clone()).unwrap_or_default();
        let (true, Some(Action::RemoveTables { tables, .. })) =
            (has_all != Some(node) || was_refused, step.work.action())
        else {
            return Some(held);
        };
        let key = (operation.id, id);
        let now = self.equal_again(key, group, tables)?;
        // One copy alone is equal to itself, whatever it lacks.
        let is_alone = self.state.groups.get(group).is_none_or(|known| known.serving().count() < 2);
        let differs = |(table, content): &(&String, &Content)| now.get(*table) != Some(*content);
        if let Some((table, _)) = held.iter().find(differs).filter(|_| is_alone) {
            let why =
                format!("{table} on {node} is not what was compared, and no other copy of {group} is there");
            self.flights.waits.insert(key, why);
            return None;
        }
        Some(now)
    }

    /// An undo of which only the kind was known when the steps were made; `None`: not before another look.
    fn filled_in(
        &mut self,
        operation: &Operation,
        id: StepId,
        node: &NodeId,
        action: Action,
        since: Millis,
    ) -> Option<Action> {
        match action {
            Action::ReturnTables { group, .. } => {
                let copies = self.put_back(operation, id, node, &group)?;
                Some(Action::ReturnTables { group, copies })
            }
            // Without the cluster they are plain.
            Action::RemoveTables { group, tables } if operation.makes_group(&group) => {
                let view = self.observed.view(node).and_then(|view| view.cluster_since(&group, since));
                let Some(cluster) = view else {
                    self.look(std::slice::from_ref(node), since);
                    return None;
                };
                let tables = if cluster.is_some() { tables } else { Vec::new() };
                Some(Action::RemoveTables { group, tables })
            }
            Action::SetRoutes { .. } => {
                let Some(seen) = self.observed.view(node).and_then(|view| view.tables_since(since)) else {
                    self.look(std::slice::from_ref(node), since);
                    return None;
                };
                let routes = match operation.table().map(|table| route::of_homes(&self.state, table)) {
                    Some(Desired::Routed(spec)) => {
                        let there = seen.routes.get(spec.route.table.as_str());
                        let right = there.is_some_and(|there| route::same(there, &spec.route));
                        if right { Vec::new() } else { vec![spec] }
                    }
                    // Once there is a copy to name, the reconciliation writes it.
                    _ => Vec::new(),
                };
                Some(Action::SetRoutes { routes })
            }
            other => Some(other),
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
            // An earlier leader's, of which only the kind is known, proves nothing.
            Settled::Proven(_)
                if is_prelude(&flight.action, step.undo.as_ref()) || is_empty(&flight.action) =>
            {
                self.flights.end_step(key);
                self.undo(operation, id, step);
            }
            Settled::Proven(_) => {
                self.flights.end_step(key);
                self.record(Record::StepUndone { operation: key.0, step: key.1 });
            }
            Settled::Failed(error) => {
                // What the copies held then may be the reason.
                self.comparisons.remove(&key);
                self.flights.fail(key, step.attempts, self.now);
                self.record(Record::StepFailed { operation: key.0, step: key.1, error, last: false });
            }
        }
    }
}

/// The member whose copies were the first in the hand-over's new group, if they may have come into it.
fn filled_by(operation: &Operation) -> Option<&NodeId> {
    let Kind::HandOver { new_groups, .. } = &operation.kind else { return None };
    let fills = |step: &&Step| matches!(step.work.action(), Some(Action::AddTables { .. }));
    let begun = operation.steps.iter().find(fills).is_some_and(|step| step.attempts > 0);
    new_groups.first().filter(|_| begun).and_then(|new| new.members.first())
}

/// An undo that has nothing to do, or is not known yet.
fn is_empty(action: &Action) -> bool {
    match action {
        Action::SetRoutes { routes } => routes.is_empty(),
        Action::ReturnTables { copies, .. } => copies.is_empty(),
        Action::RemoveTables { tables, .. } => tables.is_empty(),
        _ => false,
    }
}

fn is_only_copy(group: &Group, node: &NodeId) -> bool {
    let holds = group.members.get(node).is_some_and(|member| *member != Member::Joining);
    holds && !group.has_copy_besides(node)
}

/// All physical tables that an operation makes.
fn operation_tables(operation: &Operation) -> Vec<String> {
    match &operation.kind {
        Kind::CreateTable { spec, .. } => (0..spec.shards).map(|n| spec.name.shard_table(n)).collect(),
        _ => Vec::new(),
    }
}
