//! Nodes that are not what they should be, although they answer.

use super::{alert, overdue};
use crate::{Controller, rules};
use model::api::Alert;
use model::{GroupId, Millis, NodeId};
use std::collections::BTreeSet;

impl Controller {
    pub(super) fn of_identities(&self) -> Vec<Alert> {
        let replaced = self.state.nodes.iter().filter(|(node, known)| {
            let other = self.observed.view(node).and_then(|view| view.sidecar.as_ref());
            other.is_some_and(|sidecar| sidecar.poll.uuid != known.uuid)
        });
        replaced
            .map(|(node, _)| {
                alert(
                    "critical",
                    "node_replaced",
                    format!("{node} answers, but it is not the node that was there: its identity has changed"),
                    "was its disk replaced? restore the file `uuid` of its sidecar's directory with the old data; without that data REMOVE NODE, and it joins as a new one",
                    &[("node", node.to_string())],
                )
            })
            .collect()
    }

    /// Nodes that are taken for lost also when they answer.
    pub(super) fn of_flapping(&self) -> Vec<Alert> {
        let lost = self.state.nodes.iter().filter(|(_, known)| known.lost);
        let damped = lost.filter(|(node, _)| self.damped_until(node).is_some());
        damped
            .map(|(node, _)| {
                alert(
                    "warning",
                    "node_flapping",
                    format!("{node} was lost again and again: it is taken for lost until it stays up"),
                    "find out why it goes: the machine, its network, searchd's log",
                    &[("node", node.to_string())],
                )
            })
            .collect()
    }

    /// Nodes that answer us, and none of the others.
    pub(super) fn of_cut_off(&self) -> Vec<Alert> {
        let asked = self.observed.asked().filter(|node| self.answers(node));
        let cut_off = asked.filter(|node| self.observed.is_cut_off(self.now, node));
        cut_off
            .map(|node| {
                alert(
                    "warning",
                    "node_cut_off",
                    format!(
                        "{node} answers the controller and none of the other nodes: what its clients write and read of shards elsewhere fails"
                    ),
                    "mend the network between the nodes; send clients to other nodes meanwhile",
                    &[("node", node.to_string())],
                )
            })
            .collect()
    }

    /// Nodes that wait, for longer than the grace, for groups that have gone on without them.
    pub(super) fn of_left_behind(
        &mut self,
        fires_already: impl Fn(&str, &[(&str, &str)]) -> bool,
    ) -> Vec<Alert> {
        let groups = |node: &NodeId| -> Vec<GroupId> {
            let left = |group: &&GroupId| rules::is_left_behind(&self.state, &self.observed, node, group);
            self.state.groups.keys().filter(left).cloned().collect()
        };
        let live = self.state.live_nodes().filter(|node| self.answers(node));
        let now_left: BTreeSet<NodeId> = live.filter(|node| !groups(node).is_empty()).cloned().collect();
        let mut since = std::mem::take(&mut self.wrong.left_behind);
        let grace = Millis::from_secs(self.config.settings.node_loss_grace_seconds);
        let late = overdue(&mut since, &now_left, self.now, grace, |node| {
            fires_already("left_behind", &[("node", node.as_str())])
        });
        let alerts = late.iter().map(|node| left_behind(node, &groups(node))).collect();
        self.wrong.left_behind = since;
        alerts
    }
}

fn left_behind(node: &NodeId, groups: &[GroupId]) -> Alert {
    let groups = super::named(groups.iter().map(GroupId::as_str));
    alert(
        "warning",
        "left_behind",
        format!(
            "{node} waits without a quorum in {groups} for members that have gone on without it; by itself it waits for ever"
        ),
        "restart that node through the gate; if it stays so, bring lost nodes back or give them up first: see the runbook of a lost node",
        &[("node", node.to_string())],
    )
}

pub(super) fn sidecar_away(node: &NodeId) -> Alert {
    alert(
        "warning",
        "sidecar_away",
        format!("{node} answers, but its sidecar does not: nothing can be changed on it"),
        "see the runbook of a sidecar that is away: is searchd's buddy_path set, does the sidecar reach the controller?",
        &[("node", node.to_string())],
    )
}
