//! Groups that stopped as a whole: seen, withdrawn from all routes, and brought back from the newest copy that the log
//! knows, or that comparing shows.
//!
//! ```text
//! every member that answers shows no quorum ──▶ halted: no route names it
//!   NoQuorum  ──▶ failover bootstraps the survivor (`rules::survivor`); where all who may be it were restarted, as below
//!   Stopped   ──▶ each node lets go of the cluster (its copy stays, plain) ──▶ the newest is chosen ──▶ remake
//!   Anew      ──▶ the same: a new history says nothing about whose copy it was made of
//! ```

use crate::Controller;
use crate::catalogue;
use crate::io::Effect;
use crate::operation::{Kind, Operation, Status};
use crate::record::Record;
use crate::rules;
use crate::state::{Group, Halt, TableStatus};
use model::{ClusterState, ClusterStatus, Content, GroupId, Measurement, MemberState, Millis, NodeId, Reach};
use std::collections::{BTreeMap, BTreeSet};

/// A failover takes a moment; what is without quorum for longer is not to be written to (rule 2).
const NO_QUORUM_FOR: Millis = Millis(1_500);
/// Nodes that start find out about each other for some seconds.
const STOPPED_FOR: Millis = Millis(2_000);
/// A member that starts finds one that has a quorum in about six seconds.
const NO_SURVIVOR_FOR: Millis = Millis(10_000);
/// Members that lost each other mostly find together again by themselves. Nothing is written to an empty cluster, so
/// there is no hurry.
const USER_CLUSTER_NO_QUORUM_FOR: Millis = Millis(5_000);
/// A measurement that is not answered by then is asked again.
const PATIENCE: Millis = Millis(60_000);
/// Copies that contradict each other are looked at again, in case somebody did something about it.
const AGAIN_AFTER: Millis = Millis(10_000);

/// What the members that answer say of their group, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Some member has a quorum under the group's own history.
    Whole,
    Halted(Halt),
    /// Some wait for a quorum, and nobody who may give it to them is left: of all whose copies may be the newest it is seen that
    /// they have started anew since they last had it, or are about to.
    NoSurvivor,
    /// Nobody answers, or some are still finding out.
    Unseen,
}

/// A group that waits for the choice of a copy.
#[derive(Debug, Default)]
pub struct Choice {
    asked_at: Millis,
    not_before: Millis,
    tokens: BTreeMap<u64, NodeId>,
    answers: BTreeMap<NodeId, Measurement>,
    /// Whose rows are compared by content, too: those whose figures are equal.
    deep: BTreeSet<NodeId>,
    /// What it waits for, for people.
    pub waits_for: String,
}

impl Choice {
    pub fn next_wake(&self) -> Option<Millis> {
        self.tokens.is_empty().then_some(self.not_before)
    }
}

impl Controller {
    pub(crate) fn recover(&mut self) {
        self.know_histories();
        self.halt_and_resume();
        self.let_go_stopped();
        self.choose_copies();
        self.mend_user_cluster();
    }

    /// Whether the node shows itself as a synced member under the group's own history.
    pub(crate) fn is_whole_on(&self, group: &GroupId, node: &NodeId) -> bool {
        let history =
            |state_uuid: &str| self.state.groups.get(group).is_none_or(|known| known.is_history(state_uuid));
        self.observed
            .cluster(node, group)
            .is_some_and(|cluster| cluster.is_synced() && history(&cluster.state_uuid))
    }

    fn know_histories(&mut self) {
        let mut known = Vec::new();
        for (id, group) in &self.state.groups {
            if group.history.is_some() || !group.is_clustered() || self.is_being_remade(id) {
                continue;
            }
            let shown = group.serving().filter_map(|node| self.observed.cluster(node, id));
            let shown = shown.filter(|cluster| cluster.is_synced() && !cluster.state_uuid.is_empty());
            if let Some(cluster) = shown.into_iter().next() {
                known.push((id.clone(), cluster.state_uuid.clone()));
            }
        }
        for (group, state_uuid) in known {
            self.record(Record::HistoryKnown { group, state_uuid });
        }
    }

    fn is_being_remade(&self, group: &GroupId) -> bool {
        self.is_busy(|kind| matches!(kind, Kind::Remake { group: g, .. } if g == group))
    }

    /// The members that answer, with what each shows of the group.
    fn shown<'a>(&'a self, id: &GroupId, group: &'a Group) -> Vec<(&'a NodeId, Option<&'a ClusterStatus>)> {
        let answers = group.members.keys().filter(|node| self.answers(node));
        let view = |node: &NodeId| self.observed.view(node)?.status.as_ref();
        answers.filter_map(|node| Some((node, view(node)?.1.get(id)))).collect()
    }

    pub(crate) fn standing(&self, id: &GroupId, group: &Group) -> Standing {
        let shown = self.shown(id, group);
        let count = |is: &dyn Fn(Option<&ClusterStatus>) -> bool| {
            shown.iter().filter(|(_, cluster)| is(*cluster)).count()
        };
        let in_state =
            |state: ClusterState| count(&|cluster| cluster.is_some_and(|cluster| cluster.status == state));
        let own = |cluster: Option<&ClusterStatus>| {
            cluster.is_some_and(|cluster| {
                cluster.status == ClusterState::Primary && group.is_history(&cluster.state_uuid)
            })
        };
        if count(&own) > 0 {
            Standing::Whole
        } else if in_state(ClusterState::Primary) > 0 {
            Standing::Halted(Halt::Anew)
        } else if in_state(ClusterState::NonPrimary) > 0 && self.has_no_survivor(group, &shown) {
            Standing::NoSurvivor
        } else if in_state(ClusterState::Disconnected) > 0 || shown.is_empty() {
            Standing::Unseen
        } else if in_state(ClusterState::NonPrimary) > 0 {
            Standing::Halted(Halt::NoQuorum)
        } else {
            Standing::Halted(Halt::Stopped)
        }
    }

    /// Whether none of those whose copies may be the newest can be given a quorum: each has lost its place in the history, or
    /// lacks what one has that was told to go on alone.
    fn has_no_survivor(&self, group: &Group, shown: &[(&NodeId, Option<&ClusterStatus>)]) -> bool {
        let has_place =
            |own: &ClusterStatus| matches!(own.node_state, MemberState::Synced | MemberState::Donor);
        let has_started_anew = |cluster: Option<&ClusterStatus>| !cluster.is_some_and(has_place);
        let is_told_away = group.told.as_ref().is_some_and(|told| self.observed.is_at_gate(told));
        group.newest_holders().iter().all(|holder| {
            let shown = shown.iter().find(|(node, _)| *node == holder);
            self.observed.is_at_gate(holder)
                || shown.is_some_and(|(_, cluster)| {
                    has_started_anew(*cluster) || is_told_away && group.may_lack(holder)
                })
        })
    }

    /// Groups whose cluster is to be there: not one that is being made, emptied, handed over or made anew.
    pub(crate) fn is_at_rest(&self, id: &GroupId, group: &Group) -> bool {
        let changes = |operation: &Operation| {
            operation.makes_group(id)
                || matches!(&operation.kind, Kind::HandOver { .. })
                    && operation.status != Status::Queued
                    && crate::moves::touches(&self.state, operation, id)
        };
        group.is_clustered()
            && group.shards.iter().any(|shard| {
                let table = self.state.tables.get(&shard.table);
                table.is_some_and(|table| table.status == TableStatus::Active)
            })
            && !self.is_being_remade(id)
            && !self.state.active().any(changes)
    }

    fn halt_and_resume(&mut self) {
        let mut records = Vec::new();
        let mut seen = BTreeMap::new();
        for (id, group) in &self.state.groups {
            if !self.is_at_rest(id, group) {
                continue;
            }
            let standing = self.standing(id, group);
            let since = match self.standings.get(id) {
                Some((before, since)) if *before == standing => *since,
                _ => self.now,
            };
            seen.insert(id.clone(), (standing, since));
            let lasts = self.now.since(since);
            let halt = match standing {
                Standing::Whole => None,
                Standing::Halted(Halt::NoQuorum) if lasts >= NO_QUORUM_FOR => Some(Halt::NoQuorum),
                Standing::Halted(Halt::Stopped) if lasts >= STOPPED_FOR => Some(Halt::Stopped),
                Standing::Halted(Halt::Anew) => Some(Halt::Anew),
                Standing::NoSurvivor if lasts >= NO_SURVIVOR_FOR => Some(Halt::Stopped),
                Standing::NoSurvivor if group.halt.is_none() && lasts >= NO_QUORUM_FOR => {
                    Some(Halt::NoQuorum)
                }
                Standing::Halted(_) | Standing::NoSurvivor | Standing::Unseen => continue,
            };
            if halt != group.halt {
                records.push((id.clone(), halt));
            }
        }
        self.standings = seen;
        for (group, halt) in records {
            if halt.is_none() {
                self.retire_plain(&group);
            }
            self.record(Record::GroupHalted { group, halt, unix: self.unix_now });
        }
    }

    /// A group has a quorum again through a member that came back, after others let go of it: their copies are plain, would
    /// acknowledge what the group never sees, and are routed no more from this moment on.
    fn retire_plain(&mut self, group: &GroupId) {
        let Some(known) = self.state.groups.get(group) else { return };
        if !known.halt.is_some_and(Halt::is_total) {
            return;
        }
        let plain = |node: &&NodeId| {
            self.state.is_live(node)
                && self.is_closed_on(group, node)
                && self.observed.cluster(node, group).is_none()
        };
        let (tables, nodes) = (known.tables(), known.serving().filter(plain).cloned().collect::<Vec<_>>());
        for node in nodes {
            let (group, tables) = (Some(group.clone()), tables.clone());
            self.record(Record::LeftBehind { node, group, tables, routes: Vec::new() });
        }
    }

    /// When a group that is seen without quorum is to be halted.
    pub(crate) fn next_halt(&self) -> Option<Millis> {
        let due = |(standing, since): &(Standing, Millis)| match standing {
            Standing::Halted(Halt::NoQuorum) => Some(*since + NO_QUORUM_FOR),
            Standing::Halted(Halt::Stopped) => Some(*since + STOPPED_FOR),
            Standing::NoSurvivor => Some(*since + NO_SURVIVOR_FOR),
            _ => None,
        };
        self.standings.values().filter_map(due).filter(|at| *at > self.now).min()
    }

    /// Groups that are stopped and seen so now: the members that answer, and whether each still has the cluster.
    fn lost_groups(&self) -> Vec<(GroupId, BTreeMap<NodeId, bool>)> {
        let lost = self.state.groups.iter().filter(|(id, group)| {
            group.halt.is_some_and(Halt::is_total)
                && self.is_at_rest(id, group)
                && match self.standing(id, group) {
                    Standing::Halted(halt) => halt.is_total(),
                    Standing::NoSurvivor => true,
                    Standing::Whole | Standing::Unseen => false,
                }
        });
        let held = |(node, cluster): (&NodeId, Option<&ClusterStatus>)| (node.clone(), cluster.is_some());
        lost.map(|(id, group)| (id.clone(), self.shown(id, group).into_iter().map(held).collect())).collect()
    }

    /// Who starts now and asks finds nobody that has given up, and forms nothing anew.
    fn let_go_stopped(&mut self) {
        for (group, shown) in self.lost_groups() {
            for (node, has_cluster) in shown {
                let under_way = self.is_busy(
                    |kind| matches!(kind, Kind::LetGo { group: g, node: n } if (g, n) == (&group, &node)),
                );
                // While others are closed, one that formed anew waits: it must be the last to go.
                if !has_cluster || under_way || !self.sidecar_is_ours(&node) {
                    continue;
                }
                self.add(|_, id, unix| Some(catalogue::let_go(id, &group, &node, unix)));
            }
            self.strangers_let_go(&group);
        }
        if self.observed.at_gate().next().is_some() {
            self.strangers_let_go_before_members();
        }
    }

    /// Members that are stopped wait for strangers to let go, at the gate.
    fn strangers_let_go_before_members(&mut self) {
        let gone = |node: &NodeId| {
            let reach = self.observed.view(node).and_then(|view| view.reach);
            self.observed.is_at_gate(node) || reach.is_some_and(|(reach, _)| reach == Reach::Refused)
        };
        let waits = |group: &Group| {
            group.is_clustered()
                && group.members.keys().all(gone)
                && group.members.keys().any(|node| self.observed.is_at_gate(node))
        };
        let groups = self.state.groups.iter().filter(|(_, group)| waits(group));
        for group in groups.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.strangers_let_go(&group);
        }
    }

    /// Nodes that are no members any more and still have the group's cluster.
    fn strangers<'a>(&'a self, group: &'a GroupId) -> impl Iterator<Item = (&'a NodeId, &'a ClusterStatus)> {
        let is_member = |node: &NodeId| {
            self.state.groups.get(group).is_some_and(|known| known.members.contains_key(node))
        };
        let others = self.state.live_nodes().filter(move |node| !is_member(node));
        others.filter_map(|node| Some((node, self.observed.cluster(node, group)?)))
    }

    /// A node whose copy was replaced, and that came back when nobody had the group any more, has formed it anew by itself, or
    /// waits without a quorum for those who let go of it.
    fn strangers_let_go(&mut self, group: &GroupId) {
        let alone = |cluster: &ClusterStatus| {
            cluster.is_stopped()
                || cluster.status == ClusterState::NonPrimary
                || cluster.is_synced() && cluster.size <= 1
        };
        let strangers = self.strangers(group).filter(|(node, cluster)| {
            let under_way =
                |kind: &Kind| matches!(kind, Kind::LetGo { group: g, node: n } if (g, n) == (group, *node));
            alone(cluster) && self.sidecar_is_ours(node) && !self.is_busy(under_way)
        });
        for node in strangers.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.add(|_, id, unix| Some(catalogue::let_go(id, group, &node, unix)));
        }
    }

    fn choose_copies(&mut self) {
        let lost = self.lost_groups();
        self.choices.retain(|id, _| lost.iter().any(|(group, _)| group == id));
        for (group, shown) in lost {
            let chosen = self.choose(&group, &shown);
            match chosen {
                Ok(Some((from, why))) => {
                    self.choices.remove(&group);
                    self.add(|state, id, unix| catalogue::remake(state, id, &group, &from, &why, unix));
                }
                Ok(None) => {}
                Err(waits_for) => self.choices.entry(group).or_default().waits_for = waits_for,
            }
        }
    }

    /// The newest copy and why it is that, `None` while it is being found out; an error says what it waits for.
    fn choose(
        &mut self,
        group: &GroupId,
        shown: &BTreeMap<NodeId, bool>,
    ) -> Result<Option<(NodeId, String)>, String> {
        if let Some(other) = self.state.group_operation(group) {
            return Err(format!("operation {} ({}) to end", other.id, other.name()));
        }
        if let Some((node, _)) = shown.iter().find(|(_, has_cluster)| **has_cluster) {
            return Err(format!("{node} to let go of the stopped cluster"));
        }
        if let Some((node, _)) = self.strangers(group).find(|(_, cluster)| !cluster.is_stopped()) {
            return Err(format!("{node}, which is no member any more, to let go of the cluster"));
        }
        let holders = self.state.groups.get(group).map(Group::newest_holders).unwrap_or_default();
        let away: Vec<&str> = holders
            .iter()
            .filter(|node| !shown.contains_key(*node) || !self.sidecar_is_ours(node))
            .map(NodeId::as_str)
            .collect();
        if !away.is_empty() {
            return Err(format!("{}, whose copy may be the newest", away.join(", ")));
        }
        let tables = catalogue::tables_to_keep(&self.state, group);
        for node in &holders {
            self.holds_all(node, &tables)?;
        }
        match holders.first() {
            Some(only) if holders.len() == 1 => {
                let why = "it was the last member by the log".to_owned();
                Ok(Some((only.clone(), why)))
            }
            _ => self.compare_copies(group, &holders, &tables),
        }
    }

    /// Whether the node showed all of these tables in a look after the last one asked for.
    fn holds_all(&mut self, node: &NodeId, tables: &[String]) -> Result<(), String> {
        let seen = self.observed.view(node).and_then(|view| view.tables.as_ref());
        let missing = match seen {
            None => Some("its tables".to_owned()),
            Some((_, seen)) => tables.iter().find(|table| !seen.shards.contains(*table)).cloned(),
        };
        match missing {
            None => Ok(()),
            Some(missing) => {
                self.observed.want(node, self.now);
                Err(format!("{node} to show {missing}"))
            }
        }
    }

    /// Compares what the holders have: by figures first, and those that are equal by content.
    fn compare_copies(
        &mut self,
        group: &GroupId,
        holders: &BTreeSet<NodeId>,
        tables: &[String],
    ) -> Result<Option<(NodeId, String)>, String> {
        let now = self.now;
        let choice = self.choices.entry(group.clone()).or_default();
        let waits = !choice.tokens.is_empty() && now.since(choice.asked_at) < PATIENCE;
        if waits || now < choice.not_before {
            return Ok(None);
        }
        if choice.tokens.is_empty() && holders.iter().all(|node| choice.answers.contains_key(node)) {
            let best = fullest(&choice.answers, tables);
            let answers = std::mem::take(&mut choice.answers);
            let deep = std::mem::take(&mut choice.deep);
            let best = best.inspect_err(|_| choice.not_before = now + AGAIN_AFTER)?;
            let Some(first) = best.first().cloned() else { return Ok(None) };
            if best.len() == 1 {
                let why = format!("of {} copies it is the fullest", holders.len());
                return Ok(Some((first, why)));
            }
            if best == deep {
                let same = best.iter().all(|node| answers[node].digests == answers[&first].digests);
                if same {
                    return Ok(Some((first, "the copies are equal".to_owned())));
                }
                choice.not_before = now + AGAIN_AFTER;
                return Err(
                    "an operator: the copies have the same documents with different content".to_owned()
                );
            }
            choice.deep = best;
        }
        choice.asked_at = now;
        choice.tokens.clear();
        choice.answers.clear();
        if choice.waits_for.is_empty() {
            "the copies to be compared".clone_into(&mut choice.waits_for);
        }
        let deep = choice.deep.clone();
        for node in holders {
            self.next_token += 1;
            let token = self.next_token;
            if let Some(choice) = self.choices.get_mut(group) {
                choice.tokens.insert(token, node.clone());
            }
            let (tables, deep, node) = (tables.to_vec(), deep.contains(node), node.clone());
            self.out.effects.push(Effect::Measure { node, token, tables, deep });
        }
        Ok(None)
    }

    /// Takes a measurement in; `false` when it is none of a choice.
    pub(crate) fn measured_for_choice(&mut self, token: u64, measured: &Result<Measurement, String>) -> bool {
        let Some(choice) = self.choices.values_mut().find(|choice| choice.tokens.contains_key(&token)) else {
            return false;
        };
        let Some(node) = choice.tokens.remove(&token) else { return false };
        match measured {
            Ok(measurement) => {
                choice.answers.insert(node, measurement.clone());
            }
            Err(error) => {
                choice.not_before = self.now + AGAIN_AFTER;
                choice.waits_for = format!("{node}, which cannot show its copies: {error}");
            }
        }
        true
    }

    /// An operator's word: the group comes back from this node's copy, whatever others may hold.
    pub(crate) fn recover_from(&mut self, group: &GroupId, from: &NodeId) -> Result<(), String> {
        if let Some(done) = self.recover_orphan(group, from) {
            return done;
        }
        let Some(known) = self.state.groups.get(group) else {
            return Err(format!("there is no group '{group}': `table show` names them"));
        };
        let lost = self.lost_groups().into_iter().find(|(id, _)| id == group);
        let Some((_, shown)) = lost else {
            return Err(format!(
                "group {group} has not stopped on all nodes that answer: there is nothing to recover"
            ));
        };
        if !known.members.contains_key(from) {
            let members: Vec<&str> = known.members.keys().map(NodeId::as_str).collect();
            return Err(format!(
                "{from} is no member of group {group}: its members are {}",
                members.join(", ")
            ));
        }
        if !shown.contains_key(from) || !self.sidecar_is_ours(from) {
            return Err(format!("{from} does not answer: start it first"));
        }
        if let Some(other) = self.state.group_operation(group) {
            return Err(format!(
                "operation {} ({}) works on group {group}: retry when it is done",
                other.id,
                other.name()
            ));
        }
        if let Some((node, _)) = shown.iter().find(|(_, has_cluster)| **has_cluster) {
            return Err(format!("{node} has not let go of the stopped cluster yet: retry in some seconds"));
        }
        let tables = catalogue::tables_to_keep(&self.state, group);
        self.holds_all(from, &tables).map_err(|what| format!("this waits for {what}: retry"))?;
        let why = "ordered by hand";
        self.add(|state, id, unix| catalogue::remake(state, id, group, from, why, unix));
        Ok(())
    }

    /// The user's own cluster, where it holds no tables: nothing can be lost by making it anew.
    fn mend_user_cluster(&mut self) {
        let Some(cluster) = self.state.cluster.clone() else { return };
        let mut closed = Vec::new();
        let mut whole = None;
        let mut undecided = false;
        for node in self.state.nodes.keys().filter(|node| self.answers(node) && self.sidecar_is_ours(node)) {
            match self.observed.cluster(node, &cluster) {
                Some(shown) if !shown.tables.is_empty() => return,
                Some(shown) if shown.is_synced() => whole = whole.or(Some(node.clone())),
                Some(shown) if shown.status == ClusterState::RecoveryRequired => closed.push(node.clone()),
                Some(_) => undecided = true,
                None => {}
            }
        }
        let broken_for = if closed.is_empty() && (whole.is_some() || !undecided) {
            self.user_cluster_broken_since = None;
            return;
        } else {
            self.now.since(*self.user_cluster_broken_since.get_or_insert(self.now))
        };
        // A node that is to join it again waits for a quorum itself.
        let waits = |kind: &Kind| closed.is_empty() && matches!(kind, Kind::UserCluster { at: Some(_), .. });
        if self.is_busy(|kind| matches!(kind, Kind::UserCluster { .. }) && !waits(kind)) {
            return;
        }
        if let Some(node) = closed.first() {
            let leaves = self.is_busy(|kind| matches!(kind, Kind::RemoveNode { .. }));
            if !leaves && broken_for >= STOPPED_FOR && (!undecided || whole.is_some()) {
                self.add(|_, id, unix| {
                    Some(catalogue::user_cluster(id, &cluster, node, whole.as_ref(), unix))
                });
            }
        } else if broken_for >= USER_CLUSTER_NO_QUORUM_FOR
            && let Ok(node) = rules::user_survivor(&self.state, &self.observed, &cluster, Millis(0))
        {
            // A removal that is under way waits for it.
            self.add(|_, id, unix| Some(catalogue::user_quorum(id, &cluster, &node, unix)));
        }
    }

    /// What was under way on a group when all of it stopped: nothing of it has a sense any more. What was sent is waited
    /// for; what was not is not done.
    pub(crate) fn abandon(&mut self, operation: &Operation) -> bool {
        let (Kind::Move { group, .. } | Kind::Shed { group, .. } | Kind::Return { group, .. }) =
            &operation.kind
        else {
            return false;
        };
        let lost = self.state.groups.get(group).is_some_and(|known| known.halt.is_some_and(Halt::is_total));
        if !lost {
            return false;
        }
        if operation.unwinds() {
            let error = format!("group {group} stopped as a whole");
            let operation = operation.id;
            self.record(Record::UnwindStarted { operation, error, revoked: true });
            return true;
        }
        for (id, step) in operation.numbered() {
            let key = (operation.id, id);
            if operation.is_open(step) && !self.flights.open.contains_key(&key) {
                self.step_skipped(key, "its group stopped as a whole");
            }
        }
        true
    }
}

/// The nodes whose copies have at least the rows of every other one, all of them equal in figures.
fn fullest(answers: &BTreeMap<NodeId, Measurement>, tables: &[String]) -> Result<BTreeSet<NodeId>, String> {
    let figures = |node: &NodeId, table: &String| -> Content {
        answers.get(node).and_then(|seen| seen.contents.get(table)).copied().unwrap_or_default()
    };
    let covers = |one: &NodeId, other: &NodeId| {
        tables.iter().all(|table| {
            let (a, b) = (figures(one, table), figures(other, table));
            a == b || (a.rows > b.rows && (b.rows == 0 || a.id_max >= b.id_max))
        })
    };
    let best: BTreeSet<NodeId> =
        answers.keys().filter(|one| answers.keys().all(|other| covers(one, other))).cloned().collect();
    if best.is_empty() {
        return Err("an operator: each copy has documents that another lacks".to_owned());
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u16) -> NodeId {
        NodeId::new(format!("h:{n}")).expect("valid")
    }

    fn holds(rows: &[(u64, i64)]) -> Measurement {
        let content =
            |(rows, id_max): &(u64, i64)| Content { rows: *rows, id_sum: 7, id_min: 1, id_max: *id_max };
        let contents = rows.iter().enumerate().map(|(n, rows)| (format!("t{n}"), content(rows))).collect();
        Measurement { contents, ..Measurement::default() }
    }

    #[test]
    fn the_fullest_copy_has_all_that_others_have() {
        let tables = ["t0".to_owned(), "t1".to_owned()];
        let fullest_of = |copies: &[&[(u64, i64)]]| {
            let answers = copies.iter().zip(1..).map(|(rows, n)| (node(n), holds(rows))).collect();
            fullest(&answers, &tables)
        };
        let nodes = |numbers: &[u16]| Ok(numbers.iter().map(|n| node(*n)).collect::<BTreeSet<_>>());
        assert_eq!(fullest_of(&[&[(5, 5), (3, 3)], &[(5, 5), (3, 3)]]), nodes(&[1, 2]));
        assert_eq!(fullest_of(&[&[(5, 5), (3, 3)], &[(6, 9), (3, 3)]]), nodes(&[2]));
        assert_eq!(fullest_of(&[&[(0, 0), (3, 3)], &[(6, 9), (3, 3)], &[(6, 9), (3, 3)]]), nodes(&[2, 3]));
        // Each has what the other lacks.
        assert!(fullest_of(&[&[(5, 5), (4, 4)], &[(6, 6), (3, 3)]]).is_err());
        // More rows, but not the newest one.
        assert!(fullest_of(&[&[(5, 5), (3, 3)], &[(4, 9), (3, 3)]]).is_err());
    }
}
