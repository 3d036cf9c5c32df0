//! Groups, and the user's own cluster, that have stopped as a whole.

use super::alert;
use crate::Controller;
use crate::state::Halt;
use model::api::Alert;
use model::{ClusterState, GroupId, NodeId};

impl Controller {
    /// Groups that no routing table names.
    pub(super) fn of_groups(&self) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for (id, group) in &self.state.groups {
            let Some(halt) = group.halt else { continue };
            let names: Vec<String> = group.table_names().iter().map(ToString::to_string).collect();
            let members: Vec<&str> = group.members.keys().map(NodeId::as_str).collect();
            let (tables, members) = (names.join(", "), members.join(", "));
            let labels = [("group", id.to_string())];
            alerts.push(match halt {
                Halt::NoQuorum => alert(
                    "critical",
                    "no_quorum",
                    format!("group {id} of {tables} has no quorum on any of {members}: its tables are not routed"),
                    &format!(
                        "bring back the members that are away; only when they are gone for good, on the one of them that is most advanced: SET CLUSTER {id} GLOBAL 'pc.bootstrap' = 1"
                    ),
                    &labels,
                ),
                Halt::Stopped | Halt::Anew => {
                    let how = if halt == Halt::Anew { " and was formed anew from one copy" } else { "" };
                    let waits = self.choices.get(id).map_or("it is being brought back", |choice| &choice.waits_for);
                    alert(
                        "critical",
                        "group_stopped",
                        format!("group {id} of {tables} stopped on all of {members}{how}: its tables are not routed; it waits for: {waits}"),
                        &format!(
                            "start the nodes that it waits for; if they will not be back, `shardwright group recover {id} --from NODE` takes the copy of NODE and gives up what only others hold"
                        ),
                        &labels,
                    )
                }
            });
        }
        if let Some(cluster) = self.stopped_user_cluster() {
            alerts.push(alert(
                "critical",
                "user_cluster_stopped",
                format!("cluster {cluster} has no quorum on any node; no node can join"),
                "see the runbook of a total loss: one that holds tables of your own is brought back by hand, with the copy that you choose",
                &[("group", cluster.to_string())],
            ));
        }
        alerts
    }

    /// The user's own cluster, when some node shows it and none with a quorum.
    fn stopped_user_cluster(&self) -> Option<&GroupId> {
        let cluster = self.state.cluster.as_ref()?;
        let views = self.state.nodes.keys().filter(|node| self.answers(node));
        let mut shown = views.filter_map(|node| self.observed.cluster(node, cluster)).peekable();
        (shown.peek().is_some()
            && shown.all(|shown| {
                matches!(shown.status, ClusterState::NonPrimary | ClusterState::RecoveryRequired)
            }))
        .then_some(cluster)
    }
}
