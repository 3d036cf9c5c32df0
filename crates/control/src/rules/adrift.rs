//! Sides of a group that nobody will find again.

use crate::observed::Observed;
use crate::state::State;
use model::{ClusterState, ClusterStatus, GroupId, MemberState, NodeId, Reach};
use std::collections::BTreeSet;

/// Whether what `node` has left of `group` is a side of its own: it was cut off, all the members it knows have left
/// meanwhile, and no member knows it any more. It finds nobody and nobody finds it, so it can neither come back nor EXIT; what
/// is done to its cluster reaches nobody else.
pub fn is_adrift(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let ended = observed.cluster(node, group).is_some_and(|own| own.is_synced() && own.size <= 1);
    let member = state.groups.get(group).is_some_and(|known| known.members.contains_key(node));
    !member
        && (ended || is_without_quorum(observed, node, group))
        && finds_nobody(state, observed, node, group)
}

/// The same of a node that is a member by the log, and will not come back by itself.
pub fn is_member_adrift(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    is_without_quorum(observed, node, group) && finds_nobody(state, observed, node, group)
}

/// Whether what `node` has left of `group` is a cluster of its own, of itself alone and with another history than the group's: it
/// was made anew there and then elsewhere. It cannot EXIT as its last member, and those it lists belong to the group.
pub fn is_apart(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let (Some(known), Some(own)) = (state.groups.get(group), observed.cluster(node, group)) else {
        return false;
    };
    let own_group = |shown: &ClusterStatus| shown.is_synced() && known.is_history(&shown.state_uuid);
    own.is_synced()
        && own.size <= 1
        && !known.members.contains_key(node)
        && !known.is_history(&own.state_uuid)
        && known.serving().any(|other| observed.cluster(other, group).is_some_and(own_group))
}

/// Whether what `node` has left of `group` waits for members where they are no more: they were restarted, replicate at another
/// port since, and went on without it. By itself it waits for ever; it cannot EXIT, and a DELETE would reach them by its old
/// list. The same where one that is silent, and may run, keeps it from being cleaned. Restarted through the gate it is let go of.
pub fn is_left_behind(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let Some(known) = state.groups.get(group) else { return false };
    let others = || observed.nodes.keys().filter(|other| *other != node && state.is_live(other));
    let shown = |other: &NodeId| observed.cluster(other, group);
    let names = |theirs: &ClusterStatus| theirs.nodes_view.contains(node) || theirs.nodes_set.contains(node);
    let goes_on = |other: &NodeId| {
        known.serving().any(|serving| serving == other) && shown(other).is_some_and(ClusterStatus::is_synced)
    };
    known.is_clustered()
        && is_without_quorum(observed, node, group)
        && others().any(goes_on)
        && !others().filter_map(shown).any(names)
        && !finds_nobody(state, observed, node, group)
}

/// One that was restarted and looks for the members that it knew has none, too.
fn is_without_quorum(observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let own = observed.cluster(node, group);
    own.is_some_and(|own| {
        own.status == ClusterState::NonPrimary
            && (own.is_whole_survivor() || own.node_state == MemberState::Joining)
    })
}

fn finds_nobody(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let (Some(known), Some(own)) = (state.groups.get(group), observed.cluster(node, group)) else {
        return false;
    };
    let shown = |other: &NodeId| observed.cluster(other, group);
    let whole = |other: &NodeId| state.is_live(other) && shown(other).is_some_and(ClusterStatus::is_synced);
    let goes_on = known.serving().any(|other| other != node && whole(other));
    // One that is no member any more, and whose process is gone or that was given up: what it showed last says nothing. One that
    // is only silent may run on, and be found.
    let may_run = |other: &NodeId| {
        let reach = observed.view(other).and_then(|view| view.reach).map(|(reach, _)| reach);
        state.nodes.contains_key(other) && reach != Some(Reach::Refused) && !observed.is_at_gate(other)
    };
    let gone =
        |other: &NodeId| !known.members.contains_key(other) && !state.is_live(other) && !may_run(other);
    // Whoever leads since it fell silent has no look at it.
    let is_unknown =
        |other: &NodeId| may_run(other) && observed.view(other).is_none_or(|view| view.status.is_none());
    let has_none = |other: &NodeId| shown(other).is_none() && !is_unknown(other);
    let Some(island) = island(node, own, |other| {
        if gone(other) || (!known.members.contains_key(other) && has_none(other)) {
            return Shore::Nobody;
        }
        shown(other)
            .filter(|theirs| state.is_live(other) && theirs.status == ClusterState::NonPrimary)
            .map_or(Shore::Somebody, Shore::Alike)
    }) else {
        return false;
    };
    // A list of members that is out of date finds nobody who waits in it alone; others may still be called by it.
    let by_list = island.len() > 1 || !own.is_whole_survivor();
    let names = |theirs: &ClusterStatus, other: &NodeId| {
        theirs.nodes_view.contains(other) || by_list && theirs.nodes_set.contains(other)
    };
    let mut others = observed.nodes.iter().filter(|(other, _)| !island.contains(*other) && !gone(other));
    known.is_clustered()
        && goes_on
        && others.all(|(_, view)| {
            view.cluster(group).is_none_or(|theirs| !island.iter().any(|other| names(theirs, other)))
        })
}

/// Who stands behind a name in a member's lists.
enum Shore<'a> {
    /// It has left the group, or is gone.
    Nobody,
    /// Another one without a quorum.
    Alike(&'a ClusterStatus),
    Somebody,
}

/// All members without a quorum that `node` reaches by what it and they know; `None` when one of them knows somebody else.
fn island<'a>(
    node: &NodeId,
    own: &'a ClusterStatus,
    who: impl Fn(&NodeId) -> Shore<'a>,
) -> Option<BTreeSet<NodeId>> {
    let mut island = BTreeSet::from([node.clone()]);
    let mut ahead = vec![own];
    while let Some(shown) = ahead.pop() {
        for other in shown.nodes_set.union(&shown.nodes_view) {
            if island.contains(other) {
                continue;
            }
            match who(other) {
                Shore::Nobody => {}
                Shore::Somebody => return None,
                Shore::Alike(theirs) => {
                    island.insert(other.clone());
                    ahead.push(theirs);
                }
            }
        }
    }
    Some(island)
}
