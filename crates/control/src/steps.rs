//! What the kinds of steps do when their turn comes: conditions that are seen, routes, a group's quorum.

use crate::Controller;
use crate::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use crate::record::Record;
use crate::route::{self, Desired};
use crate::rules::{self, Case, Gate};
use crate::state::{Member, TableStatus};
use model::{Action, ClusterState, Millis, NodeId, StepId, TableName};
use std::collections::BTreeMap;

impl Controller {
    /// Steps that need no command: done as soon as their condition is seen.
    pub(crate) fn try_internal(
        &mut self,
        operation: &Operation,
        id: StepId,
        step: &Step,
        work: &Work,
        since: Millis,
    ) {
        let key = (operation.id, id);
        match work {
            Work::Verify { group, node } => {
                // It can stop for good after it was seen to be synced, too.
                let returns = matches!(operation.kind, Kind::Return { .. });
                if !(returns && self.give_up_closed(operation, id, step, group, node)) {
                    self.verify(key, group, node, since);
                }
            }
            // It was lost meanwhile, and is to be cleaned.
            Work::Withdraw { group, .. } if !self.is_member(group, step.node.as_ref()) => {
                self.step_skipped(key, "it is no member of the group any more");
            }
            Work::Withdraw { group, node } => {
                let others = self.whole_copies_besides(group, node);
                let floor = match operation.kind {
                    Kind::Move { floor, .. } | Kind::Shed { floor, .. } => floor,
                    _ => 1,
                };
                if others >= floor.max(1) {
                    self.step_done(key, BTreeMap::new());
                }
            }
            Work::Withhold { .. } => self.withhold(operation, id, step, since),
            Work::Compare { group, tables, quick } => self.compare(key, group, tables, !quick),
            Work::Job { job } => self.run_job(operation, id, step, job),
            Work::AwaitTable { table, generation } => {
                self.await_table(operation, id, step, table, *generation);
            }
            Work::Switch => self.step_done(key, BTreeMap::new()),
            Work::AwaitRf { table, shard, rf } => match self.has_rf(table, *shard, *rf) {
                Ok(true) => self.step_done(key, BTreeMap::new()),
                Ok(false) => {}
                Err(why) => self.step_skipped(key, &why),
            },
            Work::AwaitNames { version } if self.names_are_stored(*version) => {
                self.step_done(key, BTreeMap::new());
            }
            Work::AwaitSynced { group } if !self.is_member(group, step.node.as_ref()) => {
                self.step_skipped(key, "it is no member of the group any more");
            }
            Work::AwaitSynced { group } => {
                let synced = step
                    .node
                    .as_ref()
                    .filter(|node| self.is_whole_on(group, node))
                    .and_then(|node| self.observed.view(node)?.cluster_since(group, since))
                    .is_some();
                if synced {
                    self.step_done(key, BTreeMap::new());
                } else if let Some(node) = step.node.clone() {
                    self.give_up_closed(operation, id, step, group, &node);
                }
            }
            Work::Reserve { tables } => {
                let Some(node) = &step.node else { return };
                let case = Case {
                    state: &self.state,
                    observed: &self.observed,
                    flights: &self.flights,
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

    pub(crate) fn is_member(&self, group: &model::GroupId, node: Option<&NodeId>) -> bool {
        let known = self.state.groups.get(group);
        known.is_some_and(|known| node.is_some_and(|node| known.members.contains_key(node)))
    }

    /// A copy on its way back whose replication stopped for good, or that finds none of those who went on, will not come:
    /// while another one is whole it is made anew instead. Whether it is given up.
    fn give_up_closed(
        &mut self,
        operation: &Operation,
        id: StepId,
        step: &Step,
        group: &model::GroupId,
        node: &NodeId,
    ) -> bool {
        let adrift = rules::is_member_adrift(&self.state, &self.observed, node, group);
        if !(adrift || self.is_closed_on(group, node)) || self.whole_copies_besides(group, node) == 0 {
            return false;
        }
        let tables = self.state.groups.get(group).map(crate::state::Group::tables).unwrap_or_default();
        let (left, of) = (node.clone(), Some(group.clone()));
        self.record(Record::LeftBehind { node: left, group: of, tables, routes: Vec::new() });
        self.give_up(
            operation,
            id,
            step,
            "its replication has stopped, or finds nobody: the copy is made anew",
        );
        true
    }

    /// Serving members besides `node` that their node shows as synced (or that need no cluster).
    pub(crate) fn whole_copies_besides(&self, group: &model::GroupId, node: &NodeId) -> u32 {
        let Some(known) = self.state.groups.get(group) else { return 0 };
        known
            .serving()
            .filter(|other| *other != node && self.state.is_live(other))
            .filter(|other| self.is_whole_on(group, other) || !known.is_clustered())
            .count() as u32
    }

    /// Whether the copy that a move or a shed takes away is needed after all: since a new one was verified, or since there
    /// was one too many, that or another was lost.
    pub(crate) fn source_is_needed(&self, operation: &Operation) -> bool {
        let (Kind::Move { group, from: Some(from), floor, .. } | Kind::Shed { group, from, floor, .. }) =
            &operation.kind
        else {
            return false;
        };
        let verified = !operation.unwinds();
        let stays = operation.numbered().any(|(id, step)| {
            matches!(step.work, Work::Command { action: Action::ExitCluster { .. } })
                && self.is_not_done(operation, id, step)
        });
        let Some(known) = self.state.groups.get(group) else { return false };
        let others = known.serving().filter(|node| *node != from && self.state.is_live(node)).count();
        verified && stays && self.state.is_live(from) && others < (*floor).max(1) as usize
    }

    /// Whether the step has not happened and cannot happen any more by what was sent.
    fn is_not_done(&self, operation: &Operation, id: StepId, step: &Step) -> bool {
        let still_in = || {
            let group = step.work.action().and_then(Action::group)?;
            let node = step.node.as_ref()?;
            Some(self.observed.cluster(node, group)?.is_synced() || self.has_all_of_the_lost(group, node))
        };
        match step.status {
            StepStatus::Pending => true,
            // Between two tries: the last one was seen to have failed.
            StepStatus::Started => {
                !self.flights.open.contains_key(&(operation.id, id)) && still_in().unwrap_or(false)
            }
            _ => false,
        }
    }

    /// Whether the copy of a member without quorum has whatever those took that serve and are lost: nobody was told to go on
    /// alone, and each was last seen in one quorum with it, or in none.
    fn has_all_of_the_lost(&self, group: &model::GroupId, node: &NodeId) -> bool {
        let (Some(known), Some(own)) = (self.state.groups.get(group), self.observed.cluster(node, group))
        else {
            return false;
        };
        let with_it = |shown: &model::ClusterStatus| match shown.status {
            ClusterState::Primary => shown.nodes_view.contains(node),
            status => status == ClusterState::NonPrimary,
        };
        own.status == ClusterState::NonPrimary
            && own.is_whole_survivor()
            && known.told.is_none()
            && known.serving().all(|other| {
                !self.state.is_live(other) && self.observed.cluster(other, group).is_some_and(with_it)
            })
    }

    /// The old copy stays where it is, and is routed again.
    pub(crate) fn keep_source(&mut self, operation: &Operation) {
        let (Kind::Move { group, from: Some(from), .. } | Kind::Shed { group, from, .. }) = &operation.kind
        else {
            return;
        };
        for (id, step) in operation.numbered() {
            if self.is_not_done(operation, id, step) {
                self.step_skipped((operation.id, id), "another copy was lost: this one stays");
            }
        }
        let leaving =
            self.state.groups.get(group).and_then(|known| known.members.get(from)) == Some(&Member::Leaving);
        if leaving {
            self.record(Record::MemberServing { group: group.clone(), node: from.clone() });
        }
        if self.state.groups.get(group).is_some_and(|known| !known.is_clustered()) {
            let (node, group) = (from.clone(), Some(group.clone()));
            self.record(Record::LeftBehind { node, group, tables: Vec::new(), routes: Vec::new() });
        }
    }

    /// A step that writes routes is done when the node is seen with the routes that the state has now.
    pub(crate) fn write_routes(
        &mut self,
        operation: &Operation,
        id: StepId,
        step: &Step,
        tables: &[TableName],
        since: Millis,
    ) {
        let Some(node) = &step.node else { return };
        if self.is_leaving(node) {
            return self.step_skipped((operation.id, id), "the node is being removed");
        }
        let Some(seen) = self.observed.view(node).and_then(|view| view.tables_since(since)) else {
            return self.look(std::slice::from_ref(node), since);
        };
        let (mut write, mut remove) = (Vec::new(), Vec::new());
        for table in tables {
            let creating =
                self.state.tables.get(table).is_some_and(|known| known.status == TableStatus::Creating);
            if creating && operation.table() != Some(table) {
                // Its shards are not all there yet; its own creation writes the route when they are.
                continue;
            }
            let there = seen.routes.get(table.as_str());
            match route::desired(&self.state, table) {
                // A route without it is about to be wanted.
                Desired::Routed(_) if self.is_about_to_lose_a_copy(table) => return,
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

    /// Whether a copy of the table is seen to be closed and will be retired within moments.
    fn is_about_to_lose_a_copy(&self, table: &TableName) -> bool {
        let homes = self.state.tables.get(table).map(|known| &known.homes);
        homes.is_some_and(|homes| self.closed_since.keys().any(|(group, _)| homes.contains(group)))
    }

    /// Whether its removal is under way: it has dropped its routes, and when it has left nobody drops one that it is given now.
    pub(crate) fn is_leaving(&self, node: &NodeId) -> bool {
        self.state.active().any(|other| {
            other.status == Status::Running
                && matches!(&other.kind, Kind::RemoveNode { node: leaving } if leaving == node)
        })
    }

    /// Makes a group that lost members writable: nothing to do where it stayed primary, else `pc.bootstrap` on the
    /// one that rule 6 names. Once one was told, only that one is, until its outcome is seen.
    pub(crate) fn regain(
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
        let survivors: Vec<NodeId> = known.survivors().cloned().collect();
        if survivors.is_empty() {
            return self.step_skipped(key, "no copy of the group is left");
        }
        let lost: Vec<NodeId> =
            known.members.keys().filter(|node| !self.state.is_live(node)).cloned().collect();
        let primary = survivors.iter().find(|node| {
            self.observed.view(node).and_then(|view| view.cluster_since(group, since)?).is_some_and(
                |cluster| {
                    cluster.is_synced()
                        && known.is_history(&cluster.state_uuid)
                        && lost.iter().all(|lost| !cluster.nodes_view.contains(lost))
                },
            )
        });
        if primary.is_some() {
            return self.step_done(key, BTreeMap::new());
        }
        let dissolved = |node: &NodeId| {
            self.observed
                .view(node)
                .is_some_and(|view| matches!(view.cluster_since(group, since), Some(None)))
        };
        if !known.is_clustered() && known.heirs().count() == 1 && known.heirs().all(dissolved) {
            // The move whose temporary cluster it was has ended: the copy takes writes by itself.
            return self.step_done(key, BTreeMap::new());
        }
        let halted = |node: &&NodeId| {
            let shown = self.observed.cluster(node, group);
            shown.is_some_and(|shown| shown.status == ClusterState::NonPrimary && shown.is_whole_survivor())
        };
        let fit: Vec<NodeId> = survivors.iter().filter(halted).cloned().collect();
        if fit.len() > 1 {
            for node in &fit {
                self.observed.ask_peers(self.now, node);
            }
        }
        for node in &survivors {
            self.observed.hurry(node, self.now + Millis(100));
        }
        match rules::survivor(&self.state, &self.observed, group, since) {
            Ok(node) => {
                let step = Step { node: Some(node), ..step.clone() };
                let action = Action::Bootstrap { group: group.clone() };
                self.send_checked(operation, id, &step, action, false, since);
            }
            Err(Gate::Look(nodes)) => self.look(&nodes, since),
            Err(Gate::Wait(why) | Gate::Refuse(why)) => {
                self.flights.waits.insert(key, why);
            }
            Err(Gate::Go) => {}
        }
    }

    /// Rule 7: members that are away while a group's tables change are not trusted with it any more. When they are
    /// back they leave it, drop what they have, and join anew where the plan wants them.
    pub(crate) fn retire_absent(&mut self, group: &model::GroupId) {
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
}
