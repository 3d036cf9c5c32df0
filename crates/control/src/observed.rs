//! What was seen of the nodes, and when. In memory only: a new controller looks again.

use model::wire::{SidecarPoll, Views};
use model::{ClusterState, ClusterStatus, GroupId, Machine, Millis, NodeId, NodeStatus, Reach, TablesStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::io::PollAnswer;

/// A sidecar that has not asked for this long is taken for gone: two held polls and a probe.
pub const SIDECAR_SILENT: Millis = Millis(4_000);
/// A vote about another node counts for this long: three poll intervals of a sidecar.
pub const VOTE_FRESH: Millis = Millis(2_500);
/// Whoever of the peers has not said by then how a node answers is not waited for: longer than one look takes.
const VOTE_WAIT: Millis = Millis(2_000);
/// Nobody has wanted to know for so long, and nobody says that it does not answer: the peers are asked no more.
const ASKED_LASTS: Millis = Millis(5_000);
/// A look that was not even answered as silent by then is not waited for any longer.
const LOOK_LOST: Millis = Millis(15_000);
/// Tables are looked at this often although nothing happened, so that hand-made changes are found.
pub const TABLES_INTERVAL: Millis = Millis(5_000);

/// Looks that must show the same before a member may be bootstrapped.
const CALM_LOOKS: u32 = 2;

/// Counts looks in a row for each cluster without quorum.
fn calm(
    before: Option<&BTreeMap<GroupId, ClusterStatus>>,
    counted: &BTreeMap<GroupId, u32>,
    now: &BTreeMap<GroupId, ClusterStatus>,
) -> BTreeMap<GroupId, u32> {
    let place = |cluster: &ClusterStatus| {
        let ClusterStatus { status, conf_id, last_committed, state_uuid, .. } = cluster;
        (*status, *conf_id, *last_committed, state_uuid.clone())
    };
    let quiet = now
        .iter()
        .filter(|(_, cluster)| cluster.status == ClusterState::NonPrimary && cluster.recv_queue == 0);
    quiet
        .map(|(group, cluster)| {
            let same =
                before.and_then(|before| before.get(group)).is_some_and(|b| place(b) == place(cluster));
            let looks = if same { counted.get(group).copied().unwrap_or(0) } else { 0 };
            (group.clone(), (looks + 1).min(CALM_LOOKS))
        })
        .collect()
}

/// The groups that are primary, and their `conf_id`.
fn primary<'a>(
    clusters: impl Iterator<Item = (&'a GroupId, &'a ClusterStatus)>,
) -> impl Iterator<Item = (&'a GroupId, i64)> {
    let primary = clusters.filter(|(_, cluster)| cluster.status == ClusterState::Primary);
    primary.map(|(group, cluster)| (group, cluster.conf_id))
}

/// A node that is held at the gate asks again every second or so; one that does not any more is not there.
const WAITS_FOR: Millis = Millis(10_000);

/// Everything seen.
#[derive(Debug, Default)]
pub struct Observed {
    pub nodes: BTreeMap<NodeId, NodeView>,
    awake_since: Millis,
    next_token: u64,
    views_version: u64,
    /// Nodes that answer us and may be cut off from the others.
    asked: BTreeMap<NodeId, Asked>,
    /// Nodes that are stopped and wait at the gate.
    at_gate: BTreeMap<NodeId, AtGate>,
}

/// When a node began to ask at the gate, and when it asked last.
#[derive(Debug)]
struct AtGate {
    since: Millis,
    asked: Millis,
}

/// A node about which its peers are asked.
#[derive(Debug)]
struct Asked {
    since: Millis,
    wanted: Millis,
    /// How many of them reach it, once that is known.
    reached_by: Option<usize>,
}

/// One node as seen.
#[derive(Debug, Default)]
pub struct NodeView {
    pub sidecar: Option<SidecarView>,
    /// How the last finished look ended, and when it began.
    pub reach: Option<(Reach, Millis)>,
    /// Since when every look was answered the way the last one was.
    pub reach_since: Millis,
    /// Began when; from the last answered look.
    pub status: Option<(Millis, BTreeMap<GroupId, ClusterStatus>)>,
    /// Of each cluster that the node has, the last view with a quorum that it was seen in.
    quorums: BTreeMap<GroupId, Quorum>,
    /// Of clusters without quorum, in how many looks in a row the same was shown, with nothing left to apply.
    calm: BTreeMap<GroupId, u32>,
    /// Began when; from the last answered look at tables.
    pub tables: Option<(Millis, TablesStatus)>,
    /// When a look at tables last began, answered or not.
    tables_asked: Millis,
    /// What the sidecar last said of the machine, and when.
    pub machine: Option<(Millis, Machine)>,
    pending: Option<PendingLook>,
    /// Somebody needs a look at tables that begins at or after this.
    wanted: Option<Millis>,
    next_look: Millis,
}

/// A view of a cluster with a quorum. `conf_id` counts on within one history.
#[derive(Debug, PartialEq, Eq)]
pub struct Quorum {
    pub state_uuid: String,
    pub conf_id: i64,
    pub nodes_view: BTreeSet<NodeId>,
    /// What the node had committed in this view, once nothing of the one before waited to be applied any more: no less than
    /// anybody had when this view began. Not from the first look, during which a last write of before can be on its way.
    from: Option<i64>,
    /// The view before it.
    before: Option<Box<Quorum>>,
}

impl Quorum {
    /// Whether `own`, what `node` shows, is later than this view, which the node is not in, or than the one before it, where this is
    /// the one in which it is again: so it has what was committed without it.
    pub fn is_followed_by(&self, node: &NodeId, own: &ClusterStatus) -> bool {
        let is_in = self.nodes_view.contains(node);
        let without = if is_in { self.before.as_deref() } else { Some(self) };
        without.is_some_and(|view| {
            !view.nodes_view.contains(node)
                && !view.state_uuid.is_empty()
                && view.state_uuid == own.state_uuid
                && view.from.is_some_and(|from| own.last_committed > from)
        })
    }
}

#[derive(Debug)]
struct PendingLook {
    token: u64,
    began: Millis,
    tables: bool,
}

/// What the node's sidecar last said.
#[derive(Debug)]
pub struct SidecarView {
    pub at: Millis,
    pub poll: SidecarPoll,
}

/// A look to take, for the driver.
#[derive(Debug)]
pub struct Look {
    pub node: NodeId,
    pub token: u64,
    pub tables: bool,
}

impl NodeView {
    /// The group's cluster as this node last showed it, whenever that was.
    pub fn cluster(&self, group: &GroupId) -> Option<&ClusterStatus> {
        self.status.as_ref()?.1.get(group)
    }

    /// The same, only from a look that began at `since` or later. The outer `None`: no such look yet.
    #[expect(clippy::option_option, reason = "not looked yet and looked but not there are different answers")]
    pub fn cluster_since(&self, group: &GroupId, since: Millis) -> Option<Option<&ClusterStatus>> {
        let (began, clusters) = self.status.as_ref()?;
        (*began >= since).then(|| clusters.get(group))
    }

    pub fn tables_since(&self, since: Millis) -> Option<&TablesStatus> {
        self.tables.as_ref().filter(|(began, _)| *began >= since).map(|(_, tables)| tables)
    }

    /// Whether the group's cluster, without a quorum, showed the same place in the same history in two looks in a row, with
    /// an empty receive queue (rule 6).
    pub fn is_calm(&self, group: &GroupId) -> bool {
        self.calm.get(group).is_some_and(|looks| *looks >= CALM_LOOKS)
    }

    /// The last view with a quorum of the group that the node was seen in.
    pub fn quorum(&self, group: &GroupId) -> Option<&Quorum> {
        self.quorums.get(group)
    }

    fn note_quorums(&mut self, clusters: &BTreeMap<GroupId, ClusterStatus>) {
        self.quorums.retain(|group, _| clusters.contains_key(group));
        for (group, cluster) in clusters.iter().filter(|(_, cluster)| cluster.status == ClusterState::Primary)
        {
            let same = |it: &&mut Quorum| {
                it.conf_id == cluster.conf_id
                    && it.state_uuid == cluster.state_uuid
                    && it.nodes_view == cluster.nodes_view
            };
            match self.quorums.get_mut(group).filter(same) {
                Some(known) if cluster.recv_queue == 0 => {
                    known.from.get_or_insert(cluster.last_committed);
                }
                Some(_) => {}
                None => {
                    let ClusterStatus { state_uuid, conf_id, nodes_view, .. } = cluster.clone();
                    let before = self.quorums.remove(group);
                    let before = before.map(|before| Box::new(Quorum { before: None, ..before }));
                    let quorum = Quorum { state_uuid, conf_id, nodes_view, from: None, before };
                    self.quorums.insert(group.clone(), quorum);
                }
            }
        }
    }

    /// Under which `conf_id` groups are primary there; none when it did not answer the last look.
    fn primary(&self) -> impl Iterator<Item = (&GroupId, i64)> {
        let answered = self.reach.is_some_and(|(reach, _)| reach == Reach::Answered);
        primary(self.status.iter().filter(move |_| answered).flat_map(|(_, clusters)| clusters))
    }

    pub fn has_sidecar(&self, now: Millis) -> bool {
        self.sidecar.as_ref().is_some_and(|sidecar| now.since(sidecar.at) <= SIDECAR_SILENT)
    }
}

impl Observed {
    /// Looks, and versions of the views, are numbered from here on.
    pub fn count_from(&mut self, token: u64) {
        self.next_token = token;
        self.views_version = token;
    }

    /// Changes whenever [`Self::views`] does.
    pub const fn views_version(&self) -> u64 {
        self.views_version
    }

    pub fn views(&self) -> Views {
        let views = self.nodes.iter().map(|(node, view)| {
            let primary = view.primary().map(|(group, conf_id)| (group.clone(), conf_id));
            (node.clone(), primary.collect::<BTreeMap<_, _>>())
        });
        views.filter(|(_, primary)| !primary.is_empty()).collect()
    }

    /// The node is stopped, and asks whether it may start.
    pub fn waits_at_gate(&mut self, node: &NodeId, now: Millis) {
        self.at_gate.entry(node.clone()).or_insert(AtGate { since: now, asked: now }).asked = now;
    }

    /// For how long the node has waited at the gate.
    pub fn time_at_gate(&self, node: &NodeId, now: Millis) -> Millis {
        self.at_gate.get(node).map_or(Millis::ZERO, |waits| now.since(waits.since))
    }

    /// The node starts now.
    pub fn leaves_gate(&mut self, node: &NodeId) {
        self.at_gate.remove(node);
    }

    /// Who does not ask any more is not at the gate.
    pub fn look_to_the_gate(&mut self, now: Millis) {
        self.at_gate.retain(|_, waits| now.since(waits.asked) < WAITS_FOR);
    }

    /// Those that are stopped and wait to be let through, by name.
    pub fn at_gate(&self) -> impl Iterator<Item = &NodeId> {
        self.at_gate.keys()
    }

    pub fn is_at_gate(&self, node: &NodeId) -> bool {
        self.at_gate.contains_key(node)
    }

    /// A program that stood still until now must not take its own silence for that of nodes.
    pub fn slept(&mut self, now: Millis) {
        self.awake_since = now;
        for view in self.nodes.values_mut() {
            view.reach_since = now;
        }
    }

    pub fn hear(&mut self, now: Millis, mut poll: SidecarPoll) {
        let view = self.nodes.entry(poll.node.clone()).or_default();
        if let Some(machine) = poll.machine.take() {
            view.machine = Some((now, *machine));
        }
        view.sidecar = Some(SidecarView { at: now, poll });
    }

    /// Takes an answer in; false when it is none of ours any more.
    pub fn see(&mut self, mut answer: PollAnswer) -> bool {
        if let Some(tables) = answer.status.as_mut().and_then(|status| status.tables.as_mut()) {
            self.share_routes(tables);
        }
        let Some(view) = self.nodes.get_mut(&answer.node) else { return false };
        let Some(pending) = view.pending.take_if(|pending| pending.token == answer.token) else {
            return false;
        };
        if view.reach.is_none_or(|(reach, _)| reach != answer.reach) {
            view.reach_since = pending.began.max(self.awake_since);
        }
        let now = answer.status.iter().flat_map(|status| &status.clusters);
        if !view.primary().eq(primary(now)) {
            self.views_version = self.views_version.wrapping_add(1).max(1);
        }
        view.reach = Some((answer.reach, pending.began));
        if let Some(NodeStatus { clusters, tables }) = answer.status {
            view.calm = calm(view.status.as_ref().map(|(_, before)| before), &view.calm, &clusters);
            view.note_quorums(&clusters);
            view.status = Some((pending.began, clusters));
            if let (Some(tables), true) = (tables, pending.tables) {
                view.tables = Some((pending.began, tables));
            }
        }
        true
    }

    /// Every node shows the routes of every table: what is the same is kept once.
    fn share_routes(&self, tables: &mut TablesStatus) {
        for (name, route) in &mut tables.routes {
            let others = self.nodes.values().filter_map(|view| view.tables.as_ref()?.1.routes.get(name));
            if let Some(known) = others.into_iter().find(|known| *known == route) {
                *route = Arc::clone(known);
            }
        }
    }

    /// Asks for a look at the node's tables that begins at `since` or later.
    pub fn want(&mut self, node: &NodeId, since: Millis) {
        if let Some(view) = self.nodes.get_mut(node)
            && view.tables.as_ref().is_none_or(|(began, _)| *began < since)
        {
            view.wanted = Some(view.wanted.map_or(since, |wanted| wanted.max(since)));
        }
    }

    /// Makes the next look come soon: something is going on there.
    pub fn hurry(&mut self, node: &NodeId, by: Millis) {
        if let Some(view) = self.nodes.get_mut(node) {
            view.next_look = view.next_look.min(by);
        }
    }

    pub fn know(&mut self, node: &NodeId) {
        self.nodes.entry(node.clone()).or_default();
    }

    /// The looks that are due. Each node has one under way at most. Looks at tables that nobody asked for are spread over
    /// turns, or taking in all tables of all nodes at once would make one long turn.
    pub fn due_looks(&mut self, now: Millis, interval: Millis) -> Vec<Look> {
        let mut looks = Vec::new();
        let mut stale_left = (self.nodes.len() as u64 * interval.0).div_ceil(TABLES_INTERVAL.0);
        for (node, view) in &mut self.nodes {
            if view.pending.as_ref().is_some_and(|pending| now.since(pending.began) < LOOK_LOST) {
                continue;
            }
            let wanted = view.wanted.is_some_and(|since| since <= now);
            if !wanted && view.next_look > now {
                continue;
            }
            self.next_token += 1;
            let tables = match &view.tables {
                _ if wanted => true,
                None => true,
                // One that does not answer must not take the turn of others each time.
                Some((began, _)) => {
                    let asked = view.tables_asked.max(*began);
                    let stale = now.since(asked) >= TABLES_INTERVAL && stale_left > 0;
                    stale_left -= u64::from(stale);
                    stale
                }
            };
            view.pending = Some(PendingLook { token: self.next_token, began: now, tables });
            if tables {
                view.tables_asked = now;
            }
            view.wanted = None;
            view.next_look = now + interval;
            looks.push(Look { node: node.clone(), token: self.next_token, tables });
        }
        looks
    }

    pub fn next_look(&self) -> Option<Millis> {
        self.nodes.values().filter(|view| view.pending.is_none()).map(|view| view.next_look).min()
    }

    pub fn view(&self, node: &NodeId) -> Option<&NodeView> {
        self.nodes.get(node)
    }

    pub fn cluster(&self, node: &NodeId, group: &GroupId) -> Option<&ClusterStatus> {
        self.nodes.get(node)?.cluster(group)
    }

    /// Of each sidecar other than the node's own that is heard from: how it sees the node; `None` when it does not say.
    pub fn votes(&self, now: Millis, about: &NodeId) -> Vec<Option<Reach>> {
        self.nodes
            .iter()
            .filter(|(node, _)| *node != about)
            .filter_map(|(_, view)| view.sidecar.as_ref())
            .filter(|sidecar| now.since(sidecar.at) <= VOTE_FRESH)
            .map(|sidecar| sidecar.poll.peers.get(about).copied())
            .collect()
    }

    /// Asks the other sidecars whether they reach `about`, although it answers us.
    pub fn ask_peers(&mut self, now: Millis, about: &NodeId) {
        let votes = self.votes(now, about);
        let asked =
            self.asked.entry(about.clone()).or_insert(Asked { since: now, wanted: now, reached_by: None });
        asked.wanted = now;
        let is_over = now.since(asked.since) >= VOTE_WAIT || votes.iter().all(Option::is_some);
        let reached_by = votes.iter().filter(|vote| **vote == Some(Reach::Answered)).count();
        asked.reached_by = is_over.then_some(reached_by);
    }

    /// How many of its peers reach a node, once those that were asked have said it.
    pub fn reached_by(&self, node: &NodeId) -> Option<usize> {
        self.asked.get(node)?.reached_by
    }

    /// About whom the peers are asked.
    pub fn asked(&self) -> impl Iterator<Item = &NodeId> {
        self.asked.keys()
    }

    /// Whether peers of `node` say that it does not answer them, and none that it does.
    pub fn is_cut_off(&self, now: Millis, node: &NodeId) -> bool {
        let said: Vec<Reach> = self.votes(now, node).into_iter().flatten().collect();
        !said.is_empty() && said.iter().all(|reach| *reach != Reach::Answered)
    }

    /// Ends what nobody wants to know any more, and for whom nothing is wrong.
    pub fn forget_asked(&mut self, now: Millis) {
        let is_over = |node: &NodeId, asked: &Asked| {
            now.since(asked.wanted) >= ASKED_LASTS
                && self.votes(now, node).into_iter().flatten().all(|reach| reach == Reach::Answered)
        };
        let over = self.asked.iter().filter(|(node, asked)| is_over(node, asked));
        for node in over.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.asked.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stood_still_takes_nobody_for_silent() {
        let node = NodeId::new("h:1").expect("valid");
        let mut observed = Observed::default();
        observed.know(&node);
        let look = |observed: &mut Observed, at| observed.due_looks(Millis(at), Millis(500)).remove(0);
        let silent = |look: Look| PollAnswer {
            node: look.node,
            token: look.token,
            reach: Reach::Silent,
            status: None,
        };
        let under_way = look(&mut observed, 1_000);
        observed.slept(Millis(9_000));
        assert!(observed.see(silent(under_way)));
        assert_eq!(observed.nodes[&node].reach_since, Millis(9_000), "nobody was there to hear it");
        observed.slept(Millis(19_000));
        assert_eq!(observed.nodes[&node].reach_since, Millis(19_000));
    }

    #[test]
    fn views_are_of_nodes_that_answer_and_every_change_has_a_version() {
        let node = NodeId::new("h:1").expect("valid");
        let group = GroupId::new("g").expect("valid");
        let mut observed = Observed::default();
        observed.know(&node);
        let mut now = Millis(0);
        let mut look = |reach, clusters: &[(ClusterState, i64)]| {
            now = now + Millis(500);
            let Look { node, token, .. } = observed.due_looks(now, Millis(500)).remove(0);
            let cluster = |(status, conf_id): &(ClusterState, i64)| {
                let cluster =
                    ClusterStatus { status: *status, conf_id: *conf_id, ..ClusterStatus::default() };
                (group.clone(), cluster)
            };
            let clusters = clusters.iter().map(cluster).collect();
            let status = (reach == Reach::Answered).then_some(NodeStatus { clusters, tables: None });
            assert!(observed.see(PollAnswer { node, token, reach, status }));
            (observed.views_version(), observed.views())
        };
        let of = |conf_id| Views::from([(node.clone(), BTreeMap::from([(group.clone(), conf_id)]))]);
        let primary = |conf_id| [(ClusterState::Primary, conf_id)];
        assert_eq!(look(Reach::Answered, &primary(3)), (1, of(3)));
        assert_eq!(look(Reach::Answered, &primary(3)), (1, of(3)));
        assert_eq!(look(Reach::Answered, &primary(4)), (2, of(4)));
        assert_eq!(look(Reach::Silent, &[]), (3, Views::new()));
        assert_eq!(look(Reach::Silent, &[]), (3, Views::new()));
        assert_eq!(look(Reach::Answered, &primary(4)), (4, of(4)));
        assert_eq!(look(Reach::Answered, &[(ClusterState::NonPrimary, 4)]), (5, Views::new()));
        assert_eq!(look(Reach::Answered, &[]), (5, Views::new()));
    }

    #[test]
    fn looks_at_tables_that_nobody_asked_for_are_spread_over_turns() {
        let mut observed = Observed::default();
        let nodes: Vec<NodeId> =
            (1..=20).map(|n| NodeId::new(format!("127.0.0.1:{n}")).expect("valid")).collect();
        for node in &nodes {
            observed.know(node);
        }
        let mut seen: BTreeMap<NodeId, Millis> = BTreeMap::new();
        for turn in 0..600 {
            let now = Millis(turn * 100);
            let looks = observed.due_looks(now, Millis(1_000));
            let at_tables = looks.iter().filter(|look| look.tables).count();
            assert!(turn == 0 || at_tables <= 4, "{at_tables} looks at tables in turn {turn}");
            for Look { node, token, tables } in looks {
                if tables {
                    seen.insert(node.clone(), now);
                }
                let status =
                    NodeStatus { tables: tables.then(TablesStatus::default), ..NodeStatus::default() };
                observed.see(PollAnswer { node, token, reach: Reach::Answered, status: Some(status) });
            }
            let late = seen.values().filter(|at| now.since(**at) > Millis(10_000)).count();
            assert_eq!((seen.len(), late), (20, 0), "turn {turn}");
        }
    }

    #[test]
    fn a_node_that_does_not_answer_takes_no_look_at_tables_from_the_next() {
        let mut observed = Observed::default();
        let nodes: Vec<NodeId> =
            (1..=4).map(|n| NodeId::new(format!("127.0.0.1:{n}")).expect("valid")).collect();
        for node in &nodes {
            observed.know(node);
        }
        for turn in 0..100 {
            let now = Millis(turn * 500);
            for Look { node, token, tables } in observed.due_looks(now, Millis(500)) {
                let answers = turn < 20 || node != nodes[2];
                let status =
                    NodeStatus { tables: tables.then(TablesStatus::default), ..NodeStatus::default() };
                let reach = if answers { Reach::Answered } else { Reach::Refused };
                observed.see(PollAnswer { node, token, reach, status: answers.then_some(status) });
            }
            for node in [&nodes[0], &nodes[1], &nodes[3]] {
                let (began, _) = observed.nodes[node].tables.as_ref().expect("seen");
                assert!(now.since(*began) < Millis(8_000), "turn {turn}: {node} was looked at {began:?}");
            }
        }
    }
}
