//! The end of a group whose last table is dropped. EXIT takes a second and more on real nodes, and goes one after the other;
//! a table leaves its group in milliseconds. So the table goes first, and its client has its answer then; the empty
//! group is left over on its members, and cleaned up there. Not at once: a table that is made in the next moments takes it up
//! as it is, where making groups anew would take it ten times as long.

use crate::Controller;
use crate::operation::{Kind, Operation, Step, StepStatus};
use crate::record::Record;
use crate::state::{Group, Leftover, Member};
use model::{Action, ClusterState, ClusterStatus, GroupId, Millis, NodeId, StepId};
use std::collections::{BTreeMap, BTreeSet};

/// Tries to take the tables out of a group that ends, before its members leave with the tables in it.
const ATTEMPTS_TO_EMPTY: u32 = 3;

/// How long an emptied group is kept for a table that may be made next.
const IDLE_FOR: Millis = Millis(5_000);

impl Controller {
    /// Groups that a drop has emptied and that nobody has begun to end, whole on every node that they are left over on.
    pub(crate) fn idle_groups(&self) -> BTreeMap<GroupId, BTreeSet<NodeId>> {
        let mut idle: BTreeMap<GroupId, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, left) in &self.state.leftovers {
            for left in left {
                if let Leftover::Group { group, tables } = left
                    && tables.is_empty()
                    && group.is_ours()
                {
                    idle.entry(group.clone()).or_default().insert(node.clone());
                }
            }
        }
        idle.retain(|group, members| self.is_idle(group, members));
        idle
    }

    fn is_idle(&self, group: &GroupId, members: &BTreeSet<NodeId>) -> bool {
        let whole = |node: &NodeId| {
            self.observed.cluster(node, group).is_some_and(|shown| {
                shown.status == ClusterState::Primary
                    && shown.is_synced()
                    && shown.tables.is_empty()
                    && shown.nodes_view == *members
                    && shown.nodes_set.is_subset(members)
            })
        };
        let places: BTreeSet<&NodeId> = self.state.placing_nodes().collect();
        let is_ended = self.state.active().flat_map(|operation| &operation.steps).any(|step| {
            !step.status.lets_go_on() && step.work.action().and_then(Action::group) == Some(group)
        });
        members.len() > 1
            && !self.state.groups.contains_key(group)
            && !is_ended
            && members.iter().all(|node| places.contains(node) && self.sidecar_is_ours(node) && whole(node))
    }

    /// The idle groups that are not to be ended yet. None while a table waits for what they hold.
    pub(crate) fn kept_groups(&mut self) -> BTreeSet<GroupId> {
        let idle = self.idle_groups();
        self.idle_since.retain(|group, _| idle.contains_key(group));
        let wanted = self.is_room_awaited();
        let mut kept = BTreeSet::new();
        for group in idle.into_keys() {
            let until = *self.idle_since.entry(group.clone()).or_insert(self.now) + IDLE_FOR;
            if !wanted && self.now < until {
                self.pace.wake_at(until);
                kept.insert(group);
            }
        }
        kept
    }

    /// Passes a step over that a drop does not need: what ends a group once the tables have left it, or the tables' leaving
    /// where the group is not whole. A hand-over passes over what ends a group that has lost its quorum meanwhile. Whether it
    /// did.
    pub(crate) fn ends_otherwise(&mut self, operation: &Operation, id: StepId, step: &Step) -> bool {
        let (Some(action), Some(node)) = (step.work.action(), &step.node) else { return false };
        let drops = matches!(operation.kind, Kind::DropTable { .. });
        if !drops && !matches!(operation.kind, Kind::HandOver { .. }) {
            return false;
        }
        let key = (operation.id, id);
        match action {
            Action::RemoveTables { group, .. } if drops && ends(operation, group) => {
                let Some(why) = self.cannot_be_emptied(group, step) else { return false };
                self.step_skipped(key, &why);
            }
            Action::ExitCluster { group, .. } | Action::DeleteCluster { group, .. }
                if is_emptied(operation, group) && (drops || self.is_without_quorum(group, node)) =>
            {
                self.step_skipped(key, "the group is empty: it is dissolved when this is done");
            }
            Action::RemoveDirectory { group }
                if is_emptied(operation, group) && (drops || was_passed_over(operation, node, group)) =>
            {
                let (group, tables, routes) = (Some(group.clone()), Vec::new(), Vec::new());
                self.record(Record::LeftBehind { node: node.clone(), group, tables, routes });
                self.step_skipped(key, "the group is empty: it is dissolved when this is done");
            }
            _ => return false,
        }
        true
    }

    fn is_without_quorum(&self, group: &GroupId, node: &NodeId) -> bool {
        let shown = self.observed.cluster(node, group);
        shown.is_some_and(|shown| shown.status == ClusterState::NonPrimary)
    }

    /// The member is lost that was told to take the tables out of a group that stays: another one does it, or the copies
    /// could be dropped nowhere. Whether there is one.
    pub(crate) fn tells_another(&mut self, operation: &Operation, id: StepId, step: &Step) -> bool {
        let Some(action @ Action::RemoveTables { group, .. }) = step.work.action() else { return false };
        let Some(known) = self.state.groups.get(group).filter(|_| !ends(operation, group)) else {
            return false;
        };
        let live = |node: &&NodeId| self.state.is_live(node);
        let Some(other) = known.serving().find(live).or_else(|| known.members.keys().find(live)) else {
            return false;
        };
        let (key, other) = ((operation.id, id), other.clone());
        self.flights.open.remove(&key);
        if self.flights.may_try(key, self.now) {
            let since = self.flights.ready_since(key, self.now);
            let action = self.next_towards(operation, &other, action.clone());
            let step = Step { node: Some(other), ..step.clone() };
            self.send_checked(operation, id, &step, action, false, since);
        }
        true
    }

    /// Whether tables were to be taken out of a group that stays, of which nobody is left to be told. No member is given up for
    /// that: the last one has the newest of what else is in the group. The tables go when they are back (`catalogue::cleanup`).
    pub(crate) fn nobody_can_be_told(&self, operation: &Operation, step: &Step) -> bool {
        let Some(Action::RemoveTables { group, .. }) = step.work.action() else { return false };
        let known = self.state.groups.get(group).filter(|_| !ends(operation, group));
        known.is_some_and(|known| !known.members.is_empty())
    }

    /// Why members of the group leave it one by one, with its tables in it.
    fn cannot_be_emptied(&self, group: &GroupId, step: &Step) -> Option<String> {
        let Some(known) = self.state.groups.get(group) else { return Some("the group is gone".to_owned()) };
        if step.attempts >= ATTEMPTS_TO_EMPTY {
            return Some(step.error.clone().unwrap_or_else(|| "it was tried in vain".to_owned()));
        }
        let broken = known.members.iter().find(|(node, member)| {
            **member != Member::Serving
                || !self.state.is_live(node)
                || !self.observed.cluster(node, group).is_some_and(|shown| is_whole(known, shown))
        });
        broken.map(|(node, _)| format!("{node} is no whole member"))
    }
}

/// Whether all of the group are in the member's view, and nobody else it may wait for.
fn is_whole(group: &Group, shown: &ClusterStatus) -> bool {
    let in_view = |node: &NodeId| shown.nodes_view.contains(node);
    shown.status == ClusterState::Primary
        && shown.is_synced()
        && group.members.keys().all(in_view)
        && shown.nodes_set.iter().all(in_view)
}

/// Whether the operation ends the group itself, and not only the table's part in it.
fn ends(operation: &Operation, group: &GroupId) -> bool {
    operation
        .steps
        .iter()
        .any(|step| matches!(step.work.action(), Some(Action::DeleteCluster { group: g, .. }) if g == group))
}

/// Whether the node was not told to leave the group.
fn was_passed_over(operation: &Operation, node: &NodeId, group: &GroupId) -> bool {
    operation.steps.iter().any(|step| match step.work.action() {
        Some(Action::ExitCluster { group: g, .. } | Action::DeleteCluster { group: g, .. }) => {
            g == group && step.node.as_ref() == Some(node) && step.status == StepStatus::Skipped
        }
        _ => false,
    })
}

/// Whether the operation has taken all tables out of the group that it ends.
fn is_emptied(operation: &Operation, group: &GroupId) -> bool {
    ends(operation, group)
        && operation.steps.iter().any(|step| {
            matches!(step.work.action(), Some(Action::RemoveTables { group: g, .. }) if g == group)
                && step.status == StepStatus::Done
        })
}
