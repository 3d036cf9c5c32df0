//! Nodes that are not what they should be, although they answer.

use super::alert;
use crate::Controller;
use model::NodeId;
use model::api::Alert;

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
