//! What is, compared with what should be, on every tick: level, not edge. A missed event, a restart and a hand-made
//! change heal the same way.

use crate::Controller;
use crate::catalogue;
use crate::detector::{self, Verdict};
use crate::operation::{Kind, Operation, Status, StepStatus, Work};
use crate::record::Record;
use crate::route::{self, Desired};
use crate::rules;
use crate::state::{Group, Leftover, Member, Table, TableStatus};
use model::{Action, ClusterState, GroupId, Millis, NodeId, OperationId, Route, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// A group without quorum that no operation looks after is taken up again after this long.
const REGAIN_AGAIN: Millis = Millis(3_000);

/// A node that is lost oftener than this within the time below flaps.
const LOSSES_FREE: u32 = 2;
const LOSSES_COUNT_FOR: Millis = Millis(1_800_000);
/// More do not make it wait longer.
const LOSSES_KEPT: usize = 8;
/// How long a node that flaps must have been up; doubled by each loss more.
const DAMPED_FOR: Millis = Millis(30_000);
const DAMPED_FOR_MAX: Millis = Millis(600_000);

/// A copy that says so for this long will not recover by itself.
const CLOSED_FOR: Millis = Millis(2_000);

impl Controller {
    /// Who is a member, who is gone, who is back.
    pub(crate) fn watch_membership(&mut self) {
        self.adopt_cluster();
        let silent = Millis::from_secs(self.config.settings.silent_node_seconds);
        let known: Vec<NodeId> = self.state.nodes.keys().cloned().collect();
        for node in known {
            let lost = self.state.nodes.get(&node).is_some_and(|node| node.lost);
            let verdict = detector::judge(&self.observed, self.now, &node, silent);
            if !lost && verdict == Verdict::Gone {
                self.lose(&node);
            } else if lost
                && verdict == Verdict::Alive
                && self.sidecar_is_ours(&node)
                && (self.damped_until(&node).is_none() || self.is_last_resort(&node))
            {
                self.record(Record::NodeReturned { node: node.clone(), unix: self.unix_now });
                self.lost_since.remove(&node);
                self.observed.want(&node, self.now);
            }
        }
        self.add_members();
    }

    /// The user's cluster is the only one on the nodes that is not a group of ours, or the one that the first
    /// sharded table names.
    fn adopt_cluster(&mut self) {
        if self.state.cluster.is_some() {
            return;
        }
        let mut seen = self.user_clusters();
        if let (Some(only), None) = (seen.pop_first(), seen.first()) {
            self.record(Record::ClusterAdopted { cluster: only });
        }
    }

    /// Clusters that some node is a synced member of and that are no groups of ours.
    pub(crate) fn user_clusters(&self) -> BTreeSet<GroupId> {
        self.observed
            .nodes
            .values()
            .filter_map(|view| view.status.as_ref())
            .flat_map(|(_, clusters)| clusters)
            .filter(|(id, cluster)| cluster.is_synced() && !self.is_group_of_ours(id))
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn is_group_of_ours(&self, id: &GroupId) -> bool {
        self.state.groups.contains_key(id)
            || self
                .state
                .leftovers
                .values()
                .flatten()
                .any(|left| matches!(left, Leftover::Group { group, .. } if group == id))
            || id.is_ours()
    }

    fn add_members(&mut self) {
        let new: Vec<(NodeId, String)> = self
            .observed
            .nodes
            .iter()
            .filter(|(node, _)| !self.state.nodes.contains_key(*node))
            // One that was given up is not taken in again from what it last showed.
            .filter(|(_, view)| {
                view.reach.is_some_and(|(reach, _)| reach == model::Reach::Answered)
                    && view.has_sidecar(self.now)
            })
            .filter_map(|(node, view)| Some((node, view, view.sidecar.as_ref()?)))
            .filter(|(_, view, _)| match &self.state.cluster {
                Some(cluster) => view.cluster(cluster).is_some_and(model::ClusterStatus::is_synced),
                None => false,
            })
            .map(|(node, _, sidecar)| (node.clone(), sidecar.poll.uuid.clone()))
            .collect();
        for (node, uuid) in new {
            self.record(Record::NodeAdded { node: node.clone(), uuid, unix: self.unix_now });
            if self.is_to_leave(&node) {
                let draining = true;
                self.record(Record::NodeDraining { node: node.clone(), draining, unix: self.unix_now });
            }
            self.observed.want(&node, self.now);
        }
    }

    /// Whether it was removed, but died before it had left the user's cluster.
    fn is_to_leave(&self, node: &NodeId) -> bool {
        let left = self.state.leftovers.get(node).into_iter().flatten();
        left.into_iter().any(
            |left| matches!(left, Leftover::Group { group, .. } if self.state.cluster.as_ref() == Some(group)),
        )
    }

    /// A node that died in the middle of its removal is back in the user's cluster: it is given nothing, and leaves now.
    fn finish_removals(&mut self) {
        let empty = |node: &NodeId| !self.state.groups.values().any(|group| group.members.contains_key(node));
        let due = self.state.leftovers.keys().find(|node| {
            self.state.is_live(node)
                && self.state.nodes.get(*node).is_some_and(|known| known.draining)
                && self.is_to_leave(node)
                && empty(node)
        });
        if let Some(node) = due.cloned()
            && !self.is_busy(|kind| matches!(kind, Kind::RemoveNode { .. }))
        {
            self.add(|state, id, unix| catalogue::remove_node(state, id, &node, unix));
        }
    }

    /// Until when a node that was lost again and again is still taken for lost although it answers: each loss more doubles
    /// the time that it must have been up.
    pub(crate) fn damped_until(&self, node: &NodeId) -> Option<Millis> {
        let recent =
            self.losses.get(node)?.iter().filter(|at| self.now.since(**at) < LOSSES_COUNT_FOR).count();
        let over = u32::try_from(recent).ok()?.checked_sub(LOSSES_FREE + 1)?;
        let up_for = Millis(DAMPED_FOR.0 << over.min(5)).min(DAMPED_FOR_MAX);
        let until = self.observed.view(node)?.reach_since + up_for;
        (until > self.now).then_some(until)
    }

    /// Whether it holds a copy of a group that nobody else serves.
    fn is_last_resort(&self, node: &NodeId) -> bool {
        let groups = self.state.groups.values().filter(|group| group.members.contains_key(node));
        groups.into_iter().any(|group| group.halt.is_some() || group.serving().next().is_none())
    }

    fn lose(&mut self, node: &NodeId) {
        let losses = self.losses.entry(node.clone()).or_default();
        losses.push_back(self.now);
        if losses.len() > LOSSES_KEPT {
            losses.pop_front();
        }
        self.record(Record::NodeLost { node: node.clone(), unix: self.unix_now });
        self.lost_since.insert(node.clone(), self.now);
        self.pace.wake_at(self.now + Millis::from_secs(self.config.settings.node_loss_grace_seconds));
        let queued: Vec<OperationId> = self
            .state
            .active()
            .filter(|operation| operation.status == Status::Queued)
            .filter(|operation| {
                operation.group().is_some() || matches!(operation.kind, Kind::HandOver { .. })
            })
            .map(|operation| operation.id)
            .collect();
        for operation in queued {
            let why = format!("{node} was lost: planned anew");
            self.record(Record::OperationCancelled { operation, why, unix: self.unix_now });
        }
        let broken: Vec<OperationId> = self
            .state
            .active()
            .filter(|operation| operation.status == Status::Running && operation.unwinds())
            .filter(|operation| operation.needs_node(node))
            .map(|operation| operation.id)
            .collect();
        for operation in broken {
            let error = format!("node {node} was lost");
            self.record(Record::UnwindStarted { operation, error, revoked: false });
        }
        let held = self.state.groups.iter().filter(|(_, group)| group.members.contains_key(node));
        let groups: BTreeSet<GroupId> = held.map(|(id, _)| id.clone()).collect();
        if !groups.is_empty() {
            self.add(|state, id, unix| Some(catalogue::failover(state, id, node, &groups, unix)));
        }
    }

    /// Makes an operation from the state, if there is one to make.
    pub(crate) fn add(
        &mut self,
        make: impl FnOnce(&crate::state::State, OperationId, u64) -> Option<Operation>,
    ) -> Option<OperationId> {
        let id = self.state.next_operation;
        let operation = make(&self.state, id, self.unix_now)?;
        self.record(Record::OperationAdded { operation: Box::new(operation) });
        Some(id)
    }

    /// Work that the state and the nodes ask for and nobody does yet.
    pub(crate) fn reconcile(&mut self) {
        self.recover();
        self.regain_again();
        self.cut_off();
        self.note_caught_up();
        self.retire_closed();
        self.take_returns_up();
        self.note_what_came_later();
        self.clean_up();
        self.finish_removals();
        self.mend_routes();
        self.change_rfs();
        self.take_snapshots();
        self.plan_moves();
    }

    /// Groups without quorum that no failover looks after: nobody was lost, or it is over (it had to wait for something).
    /// Each has its own pause, as those of a cut lose their quorum one after the other.
    fn regain_again(&mut self) {
        self.regain_not_before.retain(|_, at| *at > self.now);
        let mut stuck = BTreeMap::new();
        for (id, group) in
            self.state.groups.iter().filter(|(_, group)| catalogue::keeps_quorum(&self.state, group))
        {
            let shows = |node: &NodeId, status| {
                self.observed.cluster(node, id).is_some_and(|cluster| cluster.status == status)
            };
            if self.regain_not_before.contains_key(id) || self.is_being_regained(id) {
                continue;
            }
            // Of the two of a move, the other one comes back to it by itself, or leaves.
            if !group.is_clustered() && group.survivors().any(|node| shows(node, ClusterState::Primary)) {
                continue;
            }
            let orphan = group.survivors().find(|node| shows(node, ClusterState::NonPrimary));
            if let Some(node) = orphan {
                stuck.insert(id.clone(), node.clone());
            }
        }
        if let Some(node) = stuck.values().next().cloned() {
            let groups: BTreeSet<GroupId> = stuck.into_keys().collect();
            let not_before = self.now + REGAIN_AGAIN;
            self.regain_not_before.extend(groups.iter().map(|id| (id.clone(), not_before)));
            self.add(|state, id, unix| Some(catalogue::failover(state, id, &node, &groups, unix)));
        }
    }

    fn is_being_regained(&self, group: &GroupId) -> bool {
        self.state.active().flat_map(|operation| &operation.steps).any(|step| {
            !step.status.lets_go_on() && matches!(&step.work, Work::Regain { group: g } if g == group)
        })
    }

    /// A member that its group goes on without, though its node answers: between the nodes the network is broken.
    fn cut_off(&mut self) {
        let groups = self.state.groups.iter().filter(|(_, group)| group.is_clustered());
        let mut out: Vec<(GroupId, NodeId)> = Vec::new();
        for (id, group) in groups {
            let left = self.gone_on_without(id, group).into_iter().filter(|node| self.answers(node));
            out.extend(left.map(|node| (id.clone(), node)));
        }
        for (group, node) in out {
            self.observed.ask_peers(self.now, &node);
            self.record(Record::MemberCutOff { group, node });
        }
    }

    /// A group was given a quorum: whom it goes on without is routed no more, before anything is routed to it again. One
    /// that does not answer at this moment can be read by others, and has none of what is written from here on.
    pub(crate) fn cut_off_from(&mut self, group: &GroupId) {
        let Some(known) = self.state.groups.get(group) else { return };
        for node in self.gone_on_without(group, known) {
            self.record(Record::MemberCutOff { group: group.clone(), node });
        }
    }

    /// Not one that was compared and looked different.
    fn note_caught_up(&mut self) {
        let mut news = Vec::new();
        for (id, group) in &self.state.groups {
            let back = group.in_state(Member::Returning).filter(|node| !group.newest.contains(*node));
            let caught_up = back.filter(|node| {
                self.answers(node)
                    && !self.doubted.contains(&(id.clone(), (*node).clone()))
                    && rules::has_caught_up(&self.state, &self.observed, node, id)
            });
            news.extend(caught_up.map(|node| (id.clone(), node.clone())));
        }
        for (group, node) in news {
            self.record(Record::CopyCaughtUp { group, node });
        }
    }

    /// Members that serve, or have caught up, and that another one of the group does not have in its view. It has gone on
    /// without them, and still does, or lost its quorum later.
    fn gone_on_without(&self, id: &GroupId, group: &Group) -> Vec<NodeId> {
        let others_go_on = |node: &NodeId| {
            group.serving().filter(|other| *other != node && self.answers(other)).any(|other| {
                let shown = (self.observed.cluster(node, id), self.observed.cluster(other, id));
                let (Some(own), Some(theirs)) = shown else { return false };
                !theirs.nodes_view.contains(node)
                    && (self.is_whole_on(id, other)
                        || rules::fell_behind(group, (node, own), (other, theirs)))
            })
        };
        let is_out = |node: &&NodeId| {
            self.observed.cluster(node, id).is_some_and(|own| !own.is_synced())
                && !self.is_closed_on(id, node)
                && others_go_on(node)
        };
        let caught_up = group.in_state(Member::Returning).filter(|node| group.newest.contains(*node));
        group.serving().chain(caught_up).filter(is_out).cloned().collect()
    }

    /// A copy whose replication has stopped for good (a full disk, a broken file) falls behind: while another one is
    /// whole it is not routed any more, and made anew.
    fn retire_closed(&mut self) {
        // One without shards is being filled or dissolved.
        let at_rest = |(id, group): &(&GroupId, &Group)| self.is_at_rest(id, group) || self.is_put_back(id);
        // A move can wait for a copy that does not come any more, its own new one included, and keeps the old one then; a return
        // lists the members anew only with all of them in view.
        let spared = |id: &GroupId| {
            let of = self.state.group_operation(id).map(|it| &it.kind);
            let waits =
                matches!(of, None | Some(Kind::Shed { .. } | Kind::Move { .. } | Kind::Return { .. }));
            !waits && !self.is_put_back(id)
        };
        let mut closed = self.closed_new_copies();
        for (id, group) in self.state.groups.iter().filter(at_rest) {
            // One that is being shed, too: it could not EXIT.
            let held = group.serving().chain(group.in_state(Member::Leaving));
            for node in held.filter(|node| self.state.is_live(node) && !spared(id)) {
                // One on its way back that has the group's quorum is whole, too.
                let another = group
                    .serving()
                    .chain(group.in_state(Member::Returning))
                    .filter(|other| *other != node)
                    .any(|other| self.answers(other) && self.is_whole_on(id, other));
                if another && self.is_closed_on(id, node) {
                    closed.push((id.clone(), node.clone(), group.tables()));
                }
            }
        }
        self.closed_since
            .retain(|key, _| closed.iter().any(|(group, node, _)| (group, node) == (&key.0, &key.1)));
        for (group, node, tables) in closed {
            let since = *self.closed_since.entry((group.clone(), node.clone())).or_insert(self.now);
            if self.now.since(since) >= CLOSED_FOR {
                self.record(Record::LeftBehind { node, group: Some(group), tables, routes: Vec::new() });
            }
        }
    }

    /// Whether a hand-over out of the group is being taken back. That waits for every member.
    fn is_put_back(&self, group: &GroupId) -> bool {
        self.state.active().any(|operation| {
            matches!(operation.kind, Kind::HandOver { .. })
                && operation.status == Status::Unwinding
                && operation.group() == Some(group)
        })
    }

    /// New copies of shards without others whose replication has stopped before the old one left: that one is whole still, and
    /// the shard stays with it ([`Controller::keep_source`]).
    fn closed_new_copies(&self) -> Vec<(GroupId, NodeId, Vec<String>)> {
        let moves = self.state.active().filter(|operation| operation.status == Status::Running);
        let closed = moves.filter_map(|operation| {
            let Kind::Move { group, to, from: Some(from), .. } = &operation.kind else { return None };
            let known = self.state.groups.get(group).filter(|known| !known.is_clustered())?;
            let (new, old) = (self.observed.cluster(to, group)?, self.observed.cluster(from, group)?);
            let serves = known.members.get(to) == Some(&Member::Serving);
            let goes = known.members.get(from) == Some(&Member::Leaving);
            let stays = operation.steps.iter().any(|step| {
                matches!(step.work.action(), Some(Action::ExitCluster { .. }))
                    && step.status == StepStatus::Pending
            });
            // What it took while it had a quorum the old one has, too: it never had one without it.
            let together = match self.observed.view(to).and_then(|view| view.quorum(group)) {
                Some(last) => {
                    !last.state_uuid.is_empty()
                        && last.state_uuid == old.state_uuid
                        && last.nodes_view.contains(from)
                }
                None => rules::went_on_from(old, new, from),
            };
            let answer = self.answers(from) && self.answers(to);
            (serves && goes && stays && together && new.is_stopped() && old.is_synced() && answer)
                .then(|| (group.clone(), to.clone(), known.tables()))
        });
        closed.collect()
    }

    /// With nobody to compare it with only one that has all comes back; one that has the group's quorum does before others, which
    /// may have let go of it or have stopped.
    fn next_to_return<'a>(&self, id: &GroupId, group: &'a Group) -> Option<&'a NodeId> {
        let compared = !group.is_clustered() || group.serving().any(|node| self.state.is_live(node));
        let may = || group.in_state(Member::Returning).filter(|node| compared || !group.may_lack(node));
        may().find(|node| self.is_whole_on(id, node)).or_else(|| may().next())
    }

    fn take_returns_up(&mut self) {
        let returning: Vec<(GroupId, NodeId)> = self
            .state
            .groups
            .iter()
            .filter(|(id, group)| self.state.group_operation(id).is_none() && group.halt.is_none())
            .filter_map(|(id, group)| Some((id.clone(), self.next_to_return(id, group)?.clone())))
            .collect();
        for (group, node) in returning {
            let known = self.state.groups.get(&group);
            // Nothing brings a copy up to another one without a cluster: it is what a move was ended with when it was lost.
            let outlived = known.filter(|known| !known.is_clustered() && known.serving().next().is_some());
            if let Some(tables) = outlived.map(Group::tables) {
                let group = Some(group);
                self.record(Record::LeftBehind { node, group, tables, routes: Vec::new() });
                continue;
            }
            self.add(|state, id, unix| catalogue::returned(state, id, &group, &node, unix));
        }
    }

    fn note_what_came_later(&mut self) {
        for (node, group, tables) in catalogue::came_later(&self.state, &self.observed) {
            self.record(Record::LeftBehind { node, group: Some(group), tables, routes: Vec::new() });
        }
    }

    fn clean_up(&mut self) {
        let nodes: Vec<NodeId> =
            self.state.leftovers.keys().filter(|node| self.state.is_live(node)).cloned().collect();
        let kept = self.kept_groups();
        for node in nodes {
            let busy = self.is_busy(|kind| matches!(kind, Kind::Cleanup { node: n } if *n == node));
            if busy || self.cleanings.is_paused(&node, self.now) {
                continue;
            }
            let id = self.state.next_operation;
            let seen = (&self.observed, &kept);
            if let Some(operation) = catalogue::cleanup(&self.state, seen, id, &node, self.unix_now) {
                self.record(Record::OperationAdded { operation: Box::new(operation) });
            }
        }
    }

    /// Routing tables that are not as they should be on a node whose tables were just seen.
    fn mend_routes(&mut self) {
        let busy: BTreeSet<TableName> = self
            .state
            .active()
            .flat_map(|operation| &operation.steps)
            .filter(|step| !step.status.lets_go_on())
            .filter_map(|step| match &step.work {
                Work::Route { tables } => Some(tables.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        let mut news = Vec::new();
        // While its removal waits for its turn, others wait for its routes.
        let leaves = |node: &NodeId| self.is_leaving(node);
        for node in self.state.live_nodes().filter(|node| !leaves(node)) {
            if let Some((began, _)) = self.observed.view(node).and_then(|view| view.tables.as_ref()) {
                let compared = (self.state.last, *began);
                if self.routes_compared.get(node) != Some(&compared) {
                    news.push((node.clone(), compared));
                }
            }
        }
        let mut mend: BTreeMap<NodeId, Vec<TableName>> = BTreeMap::new();
        for (name, table) in &self.state.tables {
            if news.is_empty() || !self.may_mend(name, table.status) {
                continue;
            }
            let wanted = match route::desired(&self.state, name) {
                Desired::Routed(wanted) => Some(wanted),
                Desired::Absent => None,
                Desired::Unknown => continue,
            };
            // What another operation is to write later does not stand in the way of taking it away now.
            if busy.contains(name) && (wanted.is_some() || self.is_rerouted(name)) {
                continue;
            }
            for (node, _) in &news {
                let Some((_, seen)) = self.observed.view(node).and_then(|view| view.tables.as_ref()) else {
                    continue;
                };
                let right = match (seen.routes.get(name.as_str()), &wanted) {
                    (Some(there), Some(wanted)) => route::same(there, &wanted.route),
                    // Its drop has not begun: clients keep what they have, but for what others wait for.
                    (Some(there), None) if table.status == TableStatus::Dropping => {
                        self.names_only_serving(there, table)
                    }
                    (there, wanted) => there.is_none() && wanted.is_none(),
                };
                if !right {
                    mend.entry(node.clone()).or_default().push(name.clone());
                }
            }
        }
        self.routes_compared.extend(news);
        for (node, tables) in mend {
            self.add(|_, id, unix| Some(catalogue::reroute(id, &node, tables, unix)));
        }
    }

    fn names_only_serving(&self, route: &Route, table: &Table) -> bool {
        let serves = |home: &GroupId, node: &NodeId| {
            let known = self.state.groups.get(home).filter(|known| known.halt.is_none());
            known.is_some_and(|known| known.serving().any(|serving| serving == node))
        };
        route.shards.len() == table.homes.len()
            && table
                .homes
                .iter()
                .zip(&route.shards)
                .all(|(home, copies)| copies.iter().all(|node| serves(home, node)))
    }

    fn may_mend(&self, name: &TableName, status: TableStatus) -> bool {
        let drops = |kind: &Kind| matches!(kind, Kind::DropTable { table } if table == name);
        match status {
            TableStatus::Active => true,
            // Until the drop has its turn others wait for its routes; then it takes them away itself.
            TableStatus::Dropping => {
                self.state.active().any(|it| it.status == Status::Queued && drops(&it.kind))
            }
            TableStatus::Creating => false,
        }
    }

    fn is_rerouted(&self, name: &TableName) -> bool {
        let writes = |step: &crate::operation::Step| matches!(&step.work, Work::Route { tables } if tables.contains(name));
        self.state.active().any(|operation| {
            matches!(operation.kind, Kind::Reroute { .. }) && operation.steps.iter().any(writes)
        })
    }

    pub(crate) fn is_busy(&self, matches: impl Fn(&Kind) -> bool) -> bool {
        self.state.active().any(|operation| matches(&operation.kind))
    }

    /// Whether the node's sidecar is there, and the one our log knows.
    pub(crate) fn sidecar_is_ours(&self, node: &NodeId) -> bool {
        let Some(view) = self.observed.view(node) else { return false };
        let Some(sidecar) = view.sidecar.as_ref().filter(|_| view.has_sidecar(self.now)) else {
            return false;
        };
        let known = self.state.nodes.get(node).is_none_or(|known| known.uuid == sidecar.poll.uuid);
        let bound = sidecar.poll.log_id.as_ref().is_none_or(|log| *log == self.config.log_id);
        known && bound && sidecar.poll.epoch <= self.state.epoch
    }

    /// Whether every sidecar that can be reached has stored the name list of `version` or a later one.
    pub(crate) fn names_are_stored(&self, version: u64) -> bool {
        self.state.live_nodes().all(|node| {
            self.observed.view(node).is_none_or(|view| {
                !view.has_sidecar(self.now)
                    || view.sidecar.as_ref().is_some_and(|sidecar| sidecar.poll.names_version >= version)
            })
        })
    }
}
