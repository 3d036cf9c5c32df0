//! Whether a node may start (safety rule 3): it must not find a group that has stopped and win with an older copy, nor
//! have its copy overwritten by one that did.

use crate::Controller;
use crate::state::Group;
use model::operate::{GateReply, Held};
use model::{ClusterState, ClusterStatus, GroupId, MemberState, Millis, NodeId, Reach, Route};
use std::collections::BTreeSet;

/// One that was let through by the leader before is up by then, and seen.
const LEADS_FOR: Millis = Millis(5_000);

/// A node that is not heard by its sidecar keeps its routes; nobody waits for it for longer.
const ROUTED_FOR: Millis = Millis(10_000);

/// A node that was let through and does not answer by then did not start, or not here.
const ADMITTED_FOR: Millis = Millis(60_000);

/// Why a node may not start yet.
#[derive(Debug)]
enum Reason {
    /// What others do about it, or the controller.
    Says(String),
    /// It is the only one of the group, and those who have a newer copy are away.
    NewerAway(BTreeSet<NodeId>),
}

impl Reason {
    fn text(self) -> String {
        match self {
            Self::Says(text) => text,
            Self::NewerAway(away) => {
                let away: Vec<&str> = away.iter().map(NodeId::as_str).collect();
                format!("a newer copy must start first: that on {}", away.join(", "))
            }
        }
    }
}

type Reasons = Vec<(Option<GroupId>, Reason)>;

impl Controller {
    /// What `node` must wait for, by group; nothing: it may start now, and counts as starting.
    pub(crate) fn gate(&mut self, node: &NodeId) -> GateReply {
        let reasons = self.held(node).into_iter();
        let held: Vec<Held> =
            reasons.map(|(group, reason)| Held { group, waits_for: reason.text() }).collect();
        let forget = if held.is_empty() { self.forgettable(node) } else { BTreeSet::new() };
        GateReply { held, forget }
    }

    fn held(&mut self, node: &NodeId) -> Reasons {
        let now = self.now;
        let observed = &self.observed;
        self.admitted.retain(|node, at| {
            let seen = observed.view(node).and_then(|view| view.reach);
            let up = seen.is_some_and(|(reach, began)| reach == Reach::Answered && began > *at);
            !up && now.since(*at) < ADMITTED_FOR
        });
        if !self.state.nodes.contains_key(node) {
            return Vec::new();
        }
        // One that asks again has not started.
        self.admitted.remove(node);
        self.observed.waits_at_gate(node, now);
        let reasons = self.reasons(node);
        if !reasons.is_empty() && !self.is_first_of_a_circle(node) {
            return reasons;
        }
        self.observed.leaves_gate(node);
        self.admitted.insert(node.clone(), now);
        Vec::new()
    }

    fn reasons(&self, node: &NodeId) -> Reasons {
        let unseen = self.state.nodes.keys().filter(|other| *other != node);
        let unseen = unseen.filter(|other| self.observed.view(other).is_none_or(|view| view.reach.is_none()));
        if let Some(other) = unseen.into_iter().next() {
            return vec![(None, Reason::Says(format!("{other} has not been looked at yet")))];
        }
        let mut reasons = Vec::new();
        reasons.extend(self.is_still_routed_to(node).map(|why| (None, Reason::Says(why))));
        for (id, group) in self.state.groups.iter().filter(|(_, group)| group.is_clustered()) {
            let why =
                self.takes_part(node, id, group).then(|| self.stands_against(node, id, group)).flatten();
            // The newest copy waits for nobody: what it forms anew is found to be the newest.
            let is_newest = group.newest_holders().contains(node);
            let found = || if is_newest { None } else { self.finds_only_stopped(node, id, group) };
            let why = match why {
                Some(Reason::NewerAway(away)) => Some(found().map_or(Reason::NewerAway(away), Reason::Says)),
                Some(says) => Some(says),
                None => found().map(Reason::Says),
            };
            reasons.extend(why.map(|why| (Some(id.clone()), why)));
        }
        if let Some(cluster) = &self.state.cluster
            && let Some(why) = self.user_cluster_stands_against(node, cluster)
        {
            reasons.push((Some(cluster.clone()), Reason::Says(why)));
        }
        reasons
    }

    /// A node that starts takes connections for seconds before it answers, where those to one that is down are refused: a read
    /// that is sent there waits, and is told short by the shard in the end. It is routed to no more once its loss is noticed.
    fn is_still_routed_to(&self, node: &NodeId) -> Option<String> {
        if self.observed.time_at_gate(node, self.now) >= ROUTED_FOR {
            return None;
        }
        let mut others = self.state.live_nodes().filter(|other| *other != node && self.is_up(other));
        let names = |other: &NodeId| {
            let (_, tables) = self.observed.view(other)?.tables.as_ref()?;
            let named = |route: &Route| route.shards.iter().any(|shard| shard.contains(node));
            tables.routes.iter().find(|(_, route)| named(route)).map(|(table, _)| table.clone())
        };
        let (other, table) = others.find_map(|other| Some((other, names(other)?)))?;
        Some(format!(
            "{other} still routes {table} to it, and will not once the loss of this node is noticed"
        ))
    }

    /// Whether the node may go back into the group by itself.
    fn takes_part(&self, node: &NodeId, id: &GroupId, group: &Group) -> bool {
        group.members.contains_key(node) || self.state.is_left_over(id, node)
    }

    /// Where everybody died while nodes were given copies of each other's groups, each has the newest of one and an older one of
    /// another: all would wait for each other. One that is alone forms nothing anew: the first by name starts, the others find
    /// that it has stopped, and wait until it has let go. One that is silent could be found by it, or start beside it, unless it
    /// was lost before; one that was just let through is a reason of another kind.
    fn is_first_of_a_circle(&self, node: &NodeId) -> bool {
        let is_lost = |other: &NodeId| self.state.nodes.get(other).is_some_and(|known| known.lost);
        let is_known =
            |other: &NodeId| self.observed.is_at_gate(other) || self.is_up(other) || is_lost(other);
        if !self.state.nodes.keys().all(is_known) {
            return false;
        }
        let waits = |other: &&NodeId| {
            // One that waits for routes alone is let through soon, and is no reason to start before it.
            let stays =
                |newer: &NodeId| self.observed.is_at_gate(newer) && self.is_still_routed_to(newer).is_none();
            let at_gate = |away: &BTreeSet<NodeId>| away.iter().all(stays);
            let for_each_other = |reason: &Reason| matches!(reason, Reason::NewerAway(away) if at_gate(away));
            let reasons = self.reasons(other);
            !reasons.is_empty() && reasons.iter().all(|(_, reason)| for_each_other(reason))
        };
        self.observed.at_gate().find(waits) == Some(node)
    }

    /// The others of these nodes that answer, with what each shows of the cluster.
    fn others_show<'a>(
        &'a self,
        node: &NodeId,
        members: impl Iterator<Item = &'a NodeId>,
        id: &GroupId,
    ) -> Vec<(&'a NodeId, Option<&'a ClusterStatus>)> {
        let node = node.clone();
        members
            .filter(move |other| **other != node && self.is_up(other))
            .filter_map(|other| {
                let (_, clusters) = self.observed.view(other)?.status.as_ref()?;
                Some((other, clusters.get(id)))
            })
            .collect()
    }

    /// Whether the last look was answered, be the node taken for lost or not: one that has just come back counts, too.
    fn is_up(&self, node: &NodeId) -> bool {
        let reach = self.observed.view(node).and_then(|view| view.reach);
        reach.is_some_and(|(reach, _)| reach == Reach::Answered)
    }

    fn stands_against(&self, node: &NodeId, id: &GroupId, group: &Group) -> Option<Reason> {
        let newest = group.newest_holders();
        // One that came back with an older copy, and lost sight of the newest. It is given a quorum by whoever starts, and its
        // copy overwrites that one's, be it the newest.
        let waits_behind = |other: &NodeId, cluster: &ClusterStatus| {
            cluster.status == ClusterState::NonPrimary && group.may_lack(other)
        };
        let mut shown = self.others_show(node, group.members.keys(), id);
        let is_alone = shown.iter().all(|(_, cluster)| cluster.is_none());
        let behind =
            shown.iter().find(|(other, cluster)| cluster.is_some_and(|own| waits_behind(other, own)));
        let behind = behind.map(|(other, _)| (*other).clone());
        shown.retain(|(other, cluster)| cluster.is_none_or(|cluster| !waits_behind(other, cluster)));
        let is_own = |cluster: &ClusterStatus| match cluster.status {
            // Without a quorum they wait for whoever comes, and have all that he has.
            ClusterState::NonPrimary => true,
            ClusterState::Primary => group.is_history(&cluster.state_uuid),
            _ => false,
        };
        if shown.iter().any(|(_, cluster)| cluster.is_some_and(is_own)) {
            return None;
        }
        if let Some((other, cluster)) = shown.iter().find_map(|(other, cluster)| Some((other, (*cluster)?))) {
            return Some(Reason::Says(if cluster.status == ClusterState::Primary {
                format!(
                    "{other} has formed it anew from its own copy, which would overwrite the one here; its recovery comes first"
                )
            } else {
                format!(
                    "{other} has not let go of it yet; two that start together could form it anew from an older copy"
                )
            }));
        }
        // No member any more, and it went back all the same.
        let strangers = self.state.nodes.keys().filter(|other| !group.members.contains_key(*other));
        let strangers = self.others_show(node, strangers, id);
        let has_it = |cluster: &ClusterStatus| {
            matches!(cluster.status, ClusterState::Primary | ClusterState::NonPrimary)
        };
        if let Some((other, _)) = strangers.iter().find(|(_, cluster)| cluster.is_some_and(has_it)) {
            return Some(Reason::Says(format!(
                "{other}, which is no member any more, has it still, and would overwrite the copy here; it lets go first"
            )));
        }
        let mut admitted = self.admitted.keys().filter(|other| *other != node);
        if let Some(other) = admitted.find(|other| self.takes_part(other, id, group)) {
            return Some(Reason::Says(format!("{other} is just starting")));
        }
        if self.now.since(self.leads_since) < LEADS_FOR {
            let text = "this controller has just begun to lead, and looks who is starting";
            return Some(Reason::Says(text.to_owned()));
        }
        if newest.contains(node) || !group.members.contains_key(node) {
            let waits = behind.map(|other| {
                format!("{other} waits for a quorum with a copy that is older; it lets go first, or that would overwrite the one here")
            });
            let may_wait = || {
                let other = self.silent_and_older(node, id, group)?;
                Some(format!(
                    "{other} does not answer just now, and may wait with a copy that is older, which would overwrite the one here"
                ))
            };
            return waits.or_else(may_wait).map(Reason::Says);
        }
        let up: BTreeSet<&NodeId> = shown.iter().map(|(other, _)| *other).collect();
        let away: BTreeSet<NodeId> = newest.iter().filter(|other| !up.contains(other)).cloned().collect();
        let why = (!away.is_empty()).then_some(Reason::NewerAway(away))?;
        Some(if is_alone { why } else { Reason::Says(why.text()) })
    }

    /// One whose copy may be older, and of which the last look says nothing: neither what it waits for, nor that its process, or
    /// itself, is gone.
    fn silent_and_older(&self, node: &NodeId, id: &GroupId, group: &Group) -> Option<&NodeId> {
        let older = |other: &NodeId| {
            if group.members.contains_key(other) {
                group.may_lack(other)
            } else {
                self.state.is_left_over(id, other)
            }
        };
        let is_silent = |other: &NodeId| {
            let reach = self.observed.view(other).and_then(|view| view.reach);
            !matches!(reach, Some((Reach::Answered | Reach::Refused, _)))
        };
        let others = self.state.nodes.iter().filter(|(other, known)| *other != node && !known.lost);
        let mut others = others.map(|(other, _)| other).filter(|other| !self.observed.is_at_gate(other));
        others.find(|other| older(other) && is_silent(other))
    }

    /// A node that starts looks for those on its own list alone. That can be older than the group: those who went on are not on
    /// it, and one that has stopped is. One that is only coming back itself says no more than one that is away.
    fn finds_only_stopped(&self, node: &NodeId, id: &GroupId, group: &Group) -> Option<String> {
        let seen = self.observed.view(node).and_then(|view| view.status.as_ref());
        let is_member = group.members.contains_key(node);
        let shown = match seen.and_then(|(_, clusters)| clusters.get(id)) {
            Some(own) => {
                let listed = self.others_show(node, own.nodes_set.iter(), id);
                let in_it = |cluster: &ClusterStatus| match cluster.status {
                    ClusterState::Primary => true,
                    ClusterState::NonPrimary => cluster.node_state != MemberState::Joining,
                    _ => false,
                };
                if listed.iter().any(|(_, cluster)| cluster.is_some_and(in_it)) {
                    return None;
                }
                listed
            }
            // It died before it was seen in it, or under another leader: nobody knows its list, and whoever has stopped may be all
            // that is on it.
            None if is_member || seen.is_none() && self.takes_part(node, id, group) => {
                self.others_show(node, self.state.nodes.keys(), id)
            }
            None => return None,
        };
        let (other, _) =
            shown.into_iter().find(|(_, cluster)| cluster.is_some_and(ClusterStatus::is_stopped))?;
        Some(format!(
            "{other}, where it has stopped, is all that would be found of it; it is cleaned first, or the older copy here would form it anew"
        ))
    }

    /// The user's own cluster, of whose copies the log knows nothing.
    fn user_cluster_stands_against(&self, node: &NodeId, cluster: &GroupId) -> Option<String> {
        let others = self.others_show(node, self.state.nodes.keys(), cluster);
        let mut views = others.iter().filter_map(|(other, view)| Some((other, (*view)?)));
        let lives =
            |view: &ClusterStatus| matches!(view.status, ClusterState::Primary | ClusterState::NonPrimary);
        if views.clone().any(|(_, view)| lives(view)) {
            return None;
        }
        if let Some((other, stopped)) = views.next() {
            return Some(if stopped.tables.is_empty() {
                format!("{other} has not made it anew yet")
            } else {
                format!(
                    "it has stopped on {other} and holds tables of your own, whose newest copy only you know: make it primary by hand where that is"
                )
            });
        }
        self.admitted.keys().find(|other| *other != node).map(|other| format!("{other} is just starting"))
    }
}
