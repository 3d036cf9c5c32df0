//! What must come first where a failure stands between a step and its action: a quorum to leave a cluster, a list
//! of members without the dead to change its tables.

use crate::Controller;
use crate::operation::{Kind, Operation, Status};
use crate::rules;
use crate::state::Leftover;
use model::{Action, ClusterState, ClusterStatus, GroupId, NodeId, Reach};

impl Controller {
    /// The command that brings `node` nearer to `action`: mostly the action itself.
    pub(crate) fn next_towards(&self, operation: &Operation, node: &NodeId, action: Action) -> Action {
        let Some(group) = action.group().cloned() else { return action };
        let Some(cluster) = self.observed.cluster(node, &group) else { return action };
        match action {
            // Its undo: nothing routes to it, and what it has is to be plain again.
            Action::RemoveTables { .. } if self.is_ended_by(operation, &group) && !cluster.is_synced() => {
                match cluster.status {
                    ClusterState::NonPrimary if self.goes_whole(operation, &group) => {
                        Action::DeleteCluster { group, whole: true }
                    }
                    ClusterState::NonPrimary if cluster.is_whole_survivor() => Action::Bootstrap { group },
                    ClusterState::RecoveryRequired => Action::DeleteCluster { group, whole: false },
                    _ => action,
                }
            }
            Action::AddTables { .. } | Action::RemoveTables { .. } | Action::ReturnTables { .. } => {
                let mut away = cluster.nodes_set.difference(&cluster.nodes_view);
                let listed = away.any(|other| self.will_not_be_back(&group, other));
                if listed && cluster.status == ClusterState::Primary {
                    return Action::UpdateNodes { group };
                }
                action
            }
            // It would ask all whom it lists to delete the group that goes on.
            Action::DeleteCluster { .. }
                if rules::is_apart(&self.state, &self.observed, node, &group)
                    && cluster.nodes_set.iter().any(|listed| listed != node) =>
            {
                Action::UpdateNodes { group }
            }
            // It was alone with its old side of the group, and has found the others since; or another one is cleaned of it, too,
            // and each would wait for the other to be gone.
            Action::DeleteCluster { .. }
                if matches!(operation.kind, Kind::Cleanup { .. })
                    && cluster.is_synced()
                    && cluster.size > 1 =>
            {
                Action::ExitCluster { group, tables: Vec::new(), floor: 0 }
            }
            // It has given up by itself: it cannot EXIT, and reaches nobody.
            Action::ExitCluster { .. }
                if cluster.is_stopped()
                    && !(operation.status == Status::Running
                        && matches!(operation.kind, Kind::Snapshot { .. })) =>
            {
                Action::DeleteCluster { group, whole: false }
            }
            // Nobody's data is in the group any more, so any member may be the one that ends it.
            Action::ExitCluster { .. } | Action::DeleteCluster { .. }
                if self.is_ended_by(operation, &group) || self.leaves_alone(operation, node, &group) =>
            {
                // Whose copy becomes the group is not decided here: with a quorum the others would take this one over. And
                // one that is given up would take writes with it, which nobody else has.
                let whole = self.goes_whole(operation, &group);
                let given_up =
                    self.is_given_up(operation, node, &group) && self.others_can_be_asked(node, cluster);
                match cluster.status {
                    ClusterState::NonPrimary if whole || given_up || operation.recovers() => {
                        Action::DeleteCluster { group, whole }
                    }
                    ClusterState::NonPrimary if cluster.is_whole_survivor() => Action::Bootstrap { group },
                    ClusterState::RecoveryRequired => Action::DeleteCluster { group, whole: false },
                    ClusterState::Primary if cluster.size <= 1 => {
                        Action::DeleteCluster { group, whole: false }
                    }
                    _ => action,
                }
            }
            other => other,
        }
    }

    /// Whether the group may forget a node that it lists and does not see: one that was lost, or that is no member any more and
    /// has stopped, or been cleaned. Nobody routes to what that one has, whatever it comes back with.
    fn will_not_be_back(&self, group: &GroupId, node: &NodeId) -> bool {
        if !self.state.is_live(node) {
            return self.state.nodes.contains_key(node);
        }
        let view = self.observed.view(node).filter(|view| view.status.is_some());
        view.is_some_and(|view| view.cluster(group).is_none_or(ClusterStatus::is_stopped))
            && self.state.groups.get(group).is_some_and(|known| !known.members.contains_key(node))
    }

    /// Whether the operation takes away what is left of a group on a member that the group has forgotten.
    fn leaves_alone(&self, operation: &Operation, node: &NodeId, group: &GroupId) -> bool {
        matches!(operation.kind, Kind::Cleanup { .. })
            && rules::is_adrift(&self.state, &self.observed, node, group)
    }

    /// Whether all members, also those that are away, are to lose the group's cluster: it is taken back, so that nobody's
    /// only copy is in it.
    fn goes_whole(&self, operation: &Operation, group: &GroupId) -> bool {
        operation.status == Status::Unwinding && self.is_ended_by(operation, group)
    }

    /// Whether the node's copy of a shard that others have goes with the cluster, at the end of a snapshot or since it is left over.
    fn is_given_up(&self, operation: &Operation, node: &NodeId, group: &GroupId) -> bool {
        let drops = |left: &Leftover| matches!(left, Leftover::Group { group: g, tables } if g == group && !tables.is_empty());
        match &operation.kind {
            Kind::Snapshot { to, .. } => to == node,
            Kind::Cleanup { .. } => {
                self.state.groups.get(group).is_some_and(|known| !known.shards.is_empty())
                    && self.state.leftovers.get(node).is_some_and(|left| left.iter().any(drops))
            }
            _ => false,
        }
    }

    /// Whether each member that the node knows tells, or is proven not to run, so that the node's sidecar can see that none of
    /// them has a quorum.
    fn others_can_be_asked(&self, node: &NodeId, cluster: &ClusterStatus) -> bool {
        cluster.nodes_set.union(&cluster.nodes_view).filter(|other| *other != node).all(|other| {
            let reach = self.observed.view(other).and_then(|view| view.reach).map(|(reach, _)| reach);
            self.answers(other) || reach == Some(Reach::Refused)
        })
    }

    /// Whether the operation takes the whole cluster away: the undo of its creation, the drop of its only table, the
    /// end of a temporary one.
    fn is_ended_by(&self, operation: &Operation, group: &GroupId) -> bool {
        let known = self.state.groups.get(group);
        let temporary = known.is_some_and(|known| !known.is_clustered());
        match &operation.kind {
            Kind::Move { group: moved, .. } | Kind::Snapshot { group: moved, .. } => {
                moved == group && temporary
            }
            Kind::CreateTable { .. } | Kind::HandOver { .. } if operation.makes_group(group) => {
                operation.status == Status::Unwinding
            }
            // The old group, of which nothing is left.
            Kind::HandOver { source, .. } => {
                source.as_ref() == Some(group) && known.is_some_and(|known| known.shards.is_empty())
            }
            Kind::DropTable { table } => {
                known.is_some_and(|known| known.shards.iter().all(|shard| shard.table == *table))
            }
            Kind::Cleanup { .. } => temporary || known.is_none(),
            Kind::LetGo { group: left, .. }
            | Kind::Remake { group: left, .. }
            | Kind::UserCluster { cluster: left, .. } => left == group,
            _ => false,
        }
    }
}

/// Whether `sent` only prepared what the step is for.
pub(crate) fn is_prelude(sent: &Action, goal: Option<&Action>) -> bool {
    match (sent, goal) {
        (Action::Bootstrap { .. }, Some(Action::Bootstrap { .. }))
        | (Action::UpdateNodes { .. }, Some(Action::UpdateNodes { .. }))
        | (_, None) => false,
        (Action::Bootstrap { .. } | Action::UpdateNodes { .. }, Some(_))
        | (Action::DeleteCluster { .. }, Some(Action::RemoveTables { .. })) => true,
        _ => false,
    }
}
