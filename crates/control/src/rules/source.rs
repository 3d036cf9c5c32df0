//! A shard without others, whose only copy is lost while it moves.

use super::Gate;
use super::survivor::was_with;
use crate::observed::Observed;
use crate::state::State;
use model::{ClusterState, ClusterStatus, GroupId, Millis, NodeId};

/// Whether the new copy, on `node`, has all that `source`, which is lost, has acknowledged. From `since` on it was seen to be a
/// synced member of the temporary cluster; of two, neither has a quorum without the other, so that the source took nothing
/// from then on that did not come here, as long as it was not seen to go on alone; and what came is applied. `Wait` says what
/// is not known.
pub fn has_all_of(
    state: &State,
    observed: &Observed,
    group: &GroupId,
    (source, node): (&NodeId, &NodeId),
    since: Millis,
) -> Gate {
    let Some(known) = state.groups.get(group) else { return Gate::Refuse(format!("unknown group {group}")) };
    let Some(view) = observed.view(node) else { return Gate::Look(vec![node.clone()]) };
    let own = match view.cluster_since(group, since) {
        None => return Gate::Look(vec![node.clone()]),
        Some(None) => return Gate::Wait(format!("{node} is no member of its cluster any more")),
        Some(Some(own)) => own,
    };
    // Stopped in order, the source has left it behind as the only one.
    let alone = own.is_synced() && own.size <= 1 && !own.nodes_view.contains(source);
    let cut = own.status == ClusterState::NonPrimary && own.is_whole_survivor();
    if own.is_synced() && !alone {
        return Gate::Wait(format!("{node} has not noticed yet that {source} is gone"));
    }
    if !alone && !cut {
        return Gate::Wait(format!("{node} was restarted, or its replication has stopped"));
    }
    if cut && !view.is_calm(group) {
        return Gate::Look(vec![node.clone()]);
    }
    let shown = observed.view(source).and_then(|view| view.status.as_ref());
    let Some((seen, last)) = shown.and_then(|(began, clusters)| Some((*began, clusters.get(group)?))) else {
        return Gate::Wait(format!("nobody has seen how far {source} was"));
    };
    let tables = known.tables();
    let has_tables = |shown: &ClusterStatus| tables.iter().all(|table| shown.tables.contains(table));
    let together = seen < since
        || was_with(observed, group, source, node)
        || last.status == ClusterState::NonPrimary && last.nodes_view.contains(node);
    let is_same = !own.state_uuid.is_empty() && own.state_uuid == last.state_uuid;
    if !together || !is_same || !has_tables(own) || own.last_committed < last.last_committed {
        return Gate::Wait(format!("{source} may have taken writes that did not come to {node}"));
    }
    if known.told.is_some() {
        return Gate::Wait(format!("somebody was told to go on with {group} alone"));
    }
    Gate::Go
}

/// Whether `node`, whose group has a quorum, has whatever another copy took before its replication stopped: that shows a view
/// with `node` in it, and `node` a later one of the same history. One that was started again shows no view.
pub fn went_on_from(own: &ClusterStatus, stopped: &ClusterStatus, node: &NodeId) -> bool {
    own.is_synced()
        && stopped.is_stopped()
        && !own.state_uuid.is_empty()
        && own.state_uuid == stopped.state_uuid
        && (1..own.conf_id).contains(&stopped.conf_id)
        && stopped.nodes_view.contains(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MemberState;

    #[test]
    fn who_went_on_from_a_copy_that_stopped_shows_a_later_view_of_the_same_history() {
        let node = |n: u16| NodeId::new(format!("h:{n}")).expect("valid");
        let shows = |status, uuid: &str, conf_id, view: &[u16]| ClusterStatus {
            status,
            node_state: MemberState::Synced,
            state_uuid: uuid.to_owned(),
            conf_id,
            nodes_view: view.iter().map(|n| node(*n)).collect(),
            ..ClusterStatus::default()
        };
        let went_on = |own: &ClusterStatus, stopped: &ClusterStatus| went_on_from(own, stopped, &node(1));
        let own = shows(ClusterState::Primary, "u", 3, &[1]);
        let stopped =
            |uuid, conf_id, view: &[u16]| shows(ClusterState::RecoveryRequired, uuid, conf_id, view);
        assert!(went_on(&own, &stopped("u", 2, &[1, 2])));
        assert!(!went_on(&own, &stopped("u", 2, &[2])), "it was alone, and took what nobody else has");
        assert!(!went_on(&own, &stopped("u", 3, &[1, 2])), "its view is no earlier one");
        assert!(!went_on(&own, &stopped("u", 0, &[1, 2])), "it was started again");
        assert!(!went_on(&own, &stopped("v", 2, &[1, 2])), "formed anew");
        assert!(!went_on(&shows(ClusterState::Primary, "", 3, &[1]), &stopped("", 2, &[1, 2])));
        assert!(!went_on(&shows(ClusterState::NonPrimary, "u", 3, &[1]), &stopped("u", 2, &[1, 2])));
        let lives = shows(ClusterState::NonPrimary, "u", 2, &[1, 2]);
        assert!(!went_on(&own, &lives), "it may still take part");
    }
}
