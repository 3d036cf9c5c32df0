//! Rule 6: who may be given a quorum where nobody has one.

use super::Gate;
use crate::observed::{Observed, Quorum};
use crate::state::{Group, Member, State};
use model::{ClusterState, ClusterStatus, GroupId, Millis, NodeId, Reach};
use std::collections::BTreeSet;

/// Who may be bootstrapped. `Err` says what is missing. Members that serve were synced and routed; one that was
/// restarted since shows itself as joining, and is no candidate.
pub fn survivor(state: &State, observed: &Observed, group: &GroupId, since: Millis) -> Result<NodeId, Gate> {
    let Some(known) = state.groups.get(group) else {
        return Err(Gate::Refuse(format!("unknown group {group}")));
    };
    told_before(state, observed, known, group, since)?;
    let mut fit = Vec::new();
    for node in candidates(observed, known, group, since) {
        let cluster = match observed.view(node).map(|view| view.cluster_since(group, since)) {
            Some(Some(Some(cluster))) => cluster,
            Some(Some(None)) => continue,
            _ => return Err(Gate::Look(vec![node.clone()])),
        };
        if cluster.status == ClusterState::Primary {
            return Err(Gate::Wait(format!("{group} is primary on {node}")));
        }
        if cluster.status != ClusterState::NonPrimary || !cluster.is_whole_survivor() {
            continue;
        }
        if !known.is_history(&cluster.state_uuid) {
            return Err(Gate::Wait(format!("{node} shows {group} with another history")));
        }
        if !observed.view(node).is_some_and(|view| view.is_calm(group)) {
            return Err(Gate::Wait(format!("{node} has not shown the same of {group} twice")));
        }
        fit.push((node, cluster));
    }
    let equals = most_advanced(&fit);
    if equals.len() > 1
        && let Some(node) = equals.iter().find(|node| observed.reached_by(node).is_none())
    {
        return Err(Gate::Wait(format!("the other nodes have not said yet whether they reach {node}")));
    }
    let Some(node) = best_reached(observed, &equals) else {
        return Err(Gate::Wait(format!("no member of {group} is fit to be the survivor")));
    };
    let view: BTreeSet<NodeId> =
        fit.iter().flat_map(|(_, cluster)| cluster.nodes_view.iter().cloned()).collect();
    // The view can have grown since the group was last primary, by members that came back: they count like those
    // that served throughout, or nobody would ever be enough.
    let lost: Vec<&NodeId> =
        view.iter().filter(|it| state.nodes.contains_key(*it) && !state.is_live(it)).collect();
    // Removed for good by an operator's word. That is enough only where nobody else is away who may have gone on with it.
    let given_up = view.iter().filter(|it| lost.is_empty() && !state.nodes.contains_key(*it)).count();
    let away = view.iter().filter(|it| !state.is_live(it)).count();
    let parted =
        given_up < away && view.iter().any(|it| !state.is_live(it) && !was_with(observed, group, it, &node));
    let (mut reachable, mut left) = (0, 0);
    for member in view.iter().filter(|member| state.is_live(member)) {
        match observed.view(member).map(|view| view.cluster_since(group, since)) {
            Some(Some(Some(cluster))) if cluster.status == ClusterState::Primary => {
                return Err(Gate::Wait(format!("{group} is primary on {member}")));
            }
            Some(Some(Some(_))) => reachable += 1,
            // Cleaned off it while the view was still that of before: it has no say in where the quorum is.
            Some(Some(None)) if !parted && !known.members.contains_key(member) => left += 1,
            Some(Some(None)) => {}
            _ => return Err(Gate::Look(vec![member.clone()])),
        }
    }
    let view_size = view.len() - left - given_up;
    if reachable * 2 < view_size {
        return Err(Gate::Wait(format!(
            "only {reachable} of the {view_size} last members of {group} are reachable: an operator must decide"
        )));
    }
    if let Some(lost) =
        view.iter().find(|lost| !state.is_live(lost) && went_on(observed, known, group, lost, &node))
    {
        return Err(Gate::Wait(format!(
            "{lost} went on with {group} without {node}: bring it back, or an operator must decide"
        )));
    }
    Ok(node)
}

/// Those who serve; where all of these have let go of the stopped cluster, those who are on their way back and have as much.
fn candidates<'a>(observed: &Observed, known: &'a Group, group: &GroupId, since: Millis) -> Vec<&'a NodeId> {
    let mut candidates: Vec<&NodeId> =
        known.survivors().filter(|node| !was_left_out(observed, known, group, node)).collect();
    let has_let_go = |node: &&NodeId| {
        matches!(observed.view(node).map(|view| view.cluster_since(group, since)), Some(Some(None)))
    };
    if !candidates.is_empty() && candidates.iter().all(has_let_go) {
        candidates.extend(known.in_state(Member::Returning).filter(|node| !known.may_lack(node)));
    }
    candidates
}

/// Whether the node is the source of a move, and the new copy had a quorum without it: what that took since only it has.
fn was_left_out(observed: &Observed, known: &Group, group: &GroupId, node: &NodeId) -> bool {
    known.members.get(node) == Some(&Member::Leaving)
        && known.heirs().any(|heir| {
            let last = observed.view(heir).and_then(|view| view.quorum(group));
            last.is_some_and(|last| !last.nodes_view.contains(node))
        })
}

/// Whether `lost`, when it was last seen, was in one quorum with `node`: then it took no writes that `node` did not get.
pub(super) fn was_with(observed: &Observed, group: &GroupId, lost: &NodeId, node: &NodeId) -> bool {
    observed
        .cluster(lost, group)
        .is_some_and(|shown| shown.status == ClusterState::Primary && shown.nodes_view.contains(node))
}

/// Whether `lost`, when it was last seen, had a quorum of the group that `node` was no part of, and no later one with it is known:
/// it may still take writes, and it and its like can find together again without `node`.
fn went_on(observed: &Observed, known: &Group, group: &GroupId, lost: &NodeId, node: &NodeId) -> bool {
    observed.cluster(lost, group).is_some_and(|shown| {
        let together_since = |quorum: &Quorum| {
            quorum.state_uuid == shown.state_uuid
                && quorum.conf_id > shown.conf_id
                && quorum.nodes_view.contains(lost)
        };
        shown.status == ClusterState::Primary
            && known.is_history(&shown.state_uuid)
            && !shown.nodes_view.contains(node)
            && !observed.view(node).and_then(|view| view.quorum(group)).is_some_and(together_since)
    })
}

/// Whether the group went on with `other` and without `own`, when neither has a quorum: what shows a view in which both were
/// is older than one of them without it, as each shows the last view with a quorum that it was in.
pub fn fell_behind(known: &Group, own: (&NodeId, &ClusterStatus), other: (&NodeId, &ClusterStatus)) -> bool {
    other.1.status == ClusterState::NonPrimary
        && other.1.is_whole_survivor()
        && known.is_history(&other.1.state_uuid)
        && own.1.nodes_view.contains(other.0)
        && !other.1.nodes_view.contains(own.0)
}

/// The most advanced of members without a quorum. They must stand in the last view of each: those of a later view, without
/// them, are primary by themselves once all of them meet again, and would be a second quorum.
fn most_advanced<'a>(fit: &[(&'a NodeId, &ClusterStatus)]) -> Vec<&'a NodeId> {
    let in_all =
        |node: &NodeId| fit.iter().all(|(other, shown)| *other == node || shown.nodes_view.contains(node));
    let candidates: Vec<_> = fit.iter().filter(|(node, _)| in_all(node)).collect();
    let most = candidates.iter().map(|(_, shown)| shown.last_committed).max();
    let is_one = |shown: &ClusterStatus| Some(shown.last_committed) == most;
    candidates.into_iter().filter(|(_, shown)| is_one(shown)).map(|(node, _)| *node).collect()
}

/// Of equals the one that more of the other nodes reach, as clients of those cannot write to it else; then the lowest name.
fn best_reached(observed: &Observed, equals: &[&NodeId]) -> Option<NodeId> {
    let best = equals.iter().max_by_key(|node| (observed.reached_by(node), std::cmp::Reverse(**node)));
    best.map(|node| (*node).clone())
}

/// The same for the user's own cluster, which holds no tables: at least half of all who belong to it are there and calm,
/// and everybody else is proven lost; or all are there and none has a quorum, be it only one that was not restarted since.
/// Who was seen to leave it does not belong to it, whatever older lists say.
pub fn user_survivor(
    state: &State,
    observed: &Observed,
    cluster: &GroupId,
    since: Millis,
) -> Result<NodeId, Gate> {
    let mut members: BTreeSet<NodeId> = state.nodes.keys().cloned().collect();
    for shown in state.live_nodes().filter_map(|node| observed.cluster(node, cluster)) {
        let named = shown.nodes_set.iter().chain(&shown.nodes_view);
        members.extend(named.filter(|node| !state.left.contains(*node)).cloned());
    }
    let (mut fit, mut without) = (Vec::new(), 0);
    for node in &members {
        let known = state.nodes.contains_key(node);
        // One that joined a moment before the quorum was lost was never made known; what it shows counts all the same.
        let answers = |node| {
            observed.view(node).and_then(|view| view.reach).is_some_and(|(reach, _)| reach == Reach::Answered)
        };
        if !known && !answers(node) {
            return Err(Gate::Wait(format!("{node} belongs to {cluster} and is not known: it may be alive")));
        }
        if known && !state.is_live(node) {
            continue;
        }
        let shown = match observed.view(node).map(|view| view.cluster_since(cluster, since)) {
            Some(Some(Some(shown))) => shown,
            Some(Some(None)) => {
                without += 1;
                continue;
            }
            _ => return Err(Gate::Look(vec![node.clone()])),
        };
        if let Some(table) = shown.tables.first() {
            return Err(Gate::Refuse(format!("{cluster} holds {table}: an operator must decide")));
        }
        if shown.status != ClusterState::NonPrimary {
            return Err(Gate::Wait(format!("{node} shows {cluster} {:?}", shown.status)));
        }
        without += 1;
        if !known || !shown.is_whole_survivor() {
            continue;
        }
        if !observed.view(node).is_some_and(|view| view.is_calm(cluster)) {
            return Err(Gate::Wait(format!("{node} has not shown the same of {cluster} twice")));
        }
        fit.push((node, shown));
    }
    let mut best = most_advanced(&fit);
    if best.is_empty() {
        // Two that lost each other, and neither has a quorum now. There is nothing that one of them could lack, but those of
        // the last quorum may find each other again.
        let last = fit.iter().map(|(_, shown)| shown.conf_id).max();
        best = fit.iter().filter(|(_, shown)| Some(shown.conf_id) == last).map(|(node, _)| *node).collect();
    }
    match best_reached(observed, &best) {
        Some(node) if fit.len() * 2 >= members.len() || without == members.len() => Ok(node),
        _ => Err(Gate::Wait(format!(
            "only {} of the {} members of {cluster} are fit to go on with it: an operator must decide",
            fit.len(),
            members.len()
        ))),
    }
}

/// Rule 5: who was told before may have gone on alone. Until that is seen another one would be a second half of the group,
/// with writes of its own.
fn told_before(
    state: &State,
    observed: &Observed,
    known: &Group,
    group: &GroupId,
    since: Millis,
) -> Result<(), Gate> {
    let Some(told) = &known.told else { return Ok(()) };
    if !state.is_live(told) {
        return Err(Gate::Wait(format!(
            "{told} was told to go on with {group}, and nobody has seen what came of it: bring it back, or give it up by REMOVE NODE"
        )));
    }
    match observed.view(told).map(|view| view.cluster_since(group, since)) {
        Some(Some(Some(cluster))) if cluster.status == ClusterState::Primary => {
            Err(Gate::Wait(format!("{group} is primary on {told}")))
        }
        Some(Some(_)) => Ok(()),
        _ => Err(Gate::Look(vec![told.clone()])),
    }
}
