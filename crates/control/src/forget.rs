//! Groups that a node is to forget before it starts: they have gone on without it, and it is no member any more. searchd goes
//! back into every group of its own list by itself, before it starts its sidecar: a whole copy is sent for nothing, and writes
//! wait for it meanwhile. Without the entry its copies are plain tables, which are dropped once it is up.
//!
//! A plain copy acknowledges whatever comes to it, where that of a member would have replicated it (safety rule 4). So a group
//! is only forgotten when nobody can route to the copy any more.

use crate::Controller;
use crate::rules;
use crate::state::{Group, Leftover};
use model::{Action, GroupId, NodeId};
use std::collections::BTreeSet;

impl Controller {
    /// Those of the groups that are left over on the node.
    pub(crate) fn forgettable(&self, node: &NodeId) -> BTreeSet<GroupId> {
        let left = self.state.leftovers.get(node).into_iter().flatten();
        let groups = left.filter_map(|left| match left {
            Leftover::Group { group, .. } => Some(group),
            Leftover::Tables { .. } | Leftover::Route { .. } => None,
        });
        groups.filter(|group| self.goes_on_without(node, group)).cloned().collect()
    }

    fn goes_on_without(&self, node: &NodeId, id: &GroupId) -> bool {
        let gone_on = |group: &&Group| {
            group.is_clustered() && group.halt.is_none() && !group.members.contains_key(node)
        };
        let Some(group) = self.state.groups.get(id).filter(gone_on) else { return false };
        let may_come = |router: &NodeId| {
            router != node && rules::may_come_to(&self.observed, &self.flights, router, node, group)
        };
        rules::is_whole_without(&self.state, &self.observed, node, id)
            && !self.is_under_way(id)
            && !self.state.nodes.keys().any(may_come)
    }

    fn is_under_way(&self, id: &GroupId) -> bool {
        self.state
            .active()
            .flat_map(|operation| &operation.steps)
            .any(|step| !step.status.lets_go_on() && step.work.action().and_then(Action::group) == Some(id))
    }
}
