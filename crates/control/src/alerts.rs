//! What an operator must know now: each alert says what, where, and what to do.

use crate::Controller;
use crate::state::{Group, Halt, Member, TableStatus};
use model::api::Alert;
use model::{ClusterState, GroupId, NodeId, Reach};
use std::collections::BTreeMap;

/// Percent of nodes that answer.
const HEALTH_CRITICAL: f64 = 50.0;
const HEALTH_DEGRADED: f64 = 80.0;
const LONG_RUNNING_SECONDS: f64 = 1_800.0;
const QUEUE_DEPTH_HIGH: u64 = 50;

impl Controller {
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        let mut alerts = Vec::new();
        self.of_nodes(&mut alerts);
        self.of_groups(&mut alerts);
        self.of_shards(&mut alerts);
        self.of_operations(&mut alerts);
        if let Some(why) = &self.plan_refused {
            alerts.push(alert(
                "critical",
                "plan_refused",
                format!("the planner made a plan that breaks a rule: {why}"),
                "nothing was moved; report this with the output of `status`",
                &[],
            ));
        }
        for alert in &mut alerts {
            alert.since = self.unix_now;
        }
        alerts
    }

    /// Whether the node is a member that answered the last look; one not looked at yet is taken for one.
    pub(crate) fn answers(&self, node: &NodeId) -> bool {
        let reach = self.observed.view(node).and_then(|view| view.reach);
        self.state.is_live(node) && reach.is_none_or(|(reach, _)| reach == Reach::Answered)
    }

    /// Whether the node itself says that its copies are of no use: the group's replication has stopped there for good.
    pub(crate) fn is_closed_on(&self, group: &GroupId, node: &NodeId) -> bool {
        let Some(known) = self.state.groups.get(group).filter(|known| known.is_clustered()) else {
            return false;
        };
        let Some(view) = self.observed.view(node).filter(|view| view.status.is_some()) else { return false };
        // A copy that is to serve and has no cluster was let go of, by us or by somebody's hand.
        let is_to_be_there =
            || matches!(known.members.get(node), Some(Member::Serving | Member::Returning | Member::Lost));
        match view.cluster(group) {
            Some(cluster) => {
                cluster.is_stopped()
                    || cluster.status == ClusterState::Primary && !known.is_history(&cluster.state_uuid)
            }
            None => is_to_be_there(),
        }
    }

    fn of_nodes(&self, alerts: &mut Vec<Alert>) {
        let metrics = self.cluster_metrics(self.unix_now);
        let (active, total) = (metrics.active_nodes, metrics.total_nodes);
        let health = metrics.cluster_health_percentage;
        let gone: Vec<&str> =
            self.state.nodes.keys().filter(|node| !self.answers(node)).map(NodeId::as_str).collect();
        let gone = gone.join(", ");
        if health < HEALTH_CRITICAL {
            alerts.push(alert(
                "critical",
                "cluster_health",
                format!("{active} of {total} nodes answer; not: {gone}"),
                "look after the nodes at once: are the machines up, is searchd running, is the network whole?",
                &[],
            ));
        } else if health < HEALTH_DEGRADED {
            alerts.push(alert(
                "warning",
                "degraded_cluster",
                format!("{active} of {total} nodes answer; not: {gone}"),
                "check the nodes that do not answer; REMOVE NODE gives up one that will not be back",
                &[],
            ));
        }
        for (node, known) in &self.state.nodes {
            let other = self.observed.view(node).and_then(|view| view.sidecar.as_ref());
            if other.is_some_and(|sidecar| sidecar.poll.uuid != known.uuid) {
                alerts.push(alert(
                    "critical",
                    "node_replaced",
                    format!("{node} answers, but it is not the node that was there: its identity has changed"),
                    "was its disk replaced? restore the file `uuid` of its sidecar's directory with the old data; without that data REMOVE NODE, and it joins as a new one",
                    &[("node", node.to_string())],
                ));
            }
        }
    }

    /// Groups that no routing table names.
    fn of_groups(&self, alerts: &mut Vec<Alert>) {
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

    fn of_shards(&self, alerts: &mut Vec<Alert>) {
        let grace_is_over = self.next_grace_end().is_none();
        for (name, table) in self.state.tables.iter().filter(|(_, table)| table.status == TableStatus::Active)
        {
            let mut short = Vec::new();
            for (number, group) in table.homes.iter().enumerate() {
                let Some(known) = self.state.groups.get(group) else { continue };
                match self.rf_status(group, known) {
                    "broken" => alerts.push(self.unavailable(name.as_str(), number, group, known)),
                    "degraded" if grace_is_over => short.push(number.to_string()),
                    _ => {}
                }
            }
            if !short.is_empty() {
                alerts.push(alert(
                    "warning",
                    "under_replicated",
                    format!("shards of {name} with fewer than {} copies: {}", table.spec.rf, short.join(", ")),
                    "copies are made as soon as a node has room: see SHOW SHARDING OPERATIONS, and whether moves are paused",
                    &[("table", name.to_string())],
                ));
            }
        }
    }

    fn unavailable(&self, table: &str, shard: usize, group: &GroupId, known: &Group) -> Alert {
        let holders: Vec<&str> = known.members.keys().map(NodeId::as_str).collect();
        let closed = known.members.keys().any(|node| self.is_closed_on(group, node));
        let action = if closed {
            format!(
                "group {group} stopped on all its nodes: see the runbook of a total loss; the newest copy is on one of {}",
                holders.join(", ")
            )
        } else {
            format!("bring back one of its last holders: {}", holders.join(", "))
        };
        let message = format!("shard {shard} of {table} has no live copy");
        let labels = [("table", table.to_owned()), ("shard", shard.to_string())];
        alert("critical", "data_unavailable", message, &action, &labels)
    }

    fn of_operations(&self, alerts: &mut Vec<Alert>) {
        let longest = self.rebalancing(self.unix_now).longest_running;
        if longest > LONG_RUNNING_SECONDS {
            alerts.push(alert(
                "warning",
                "long_running_operation",
                format!("an operation has been running for {longest:.0} s"),
                "look at SHOW SHARDING QUEUE for what it waits for",
                &[],
            ));
        }
        let depth = self.queue(self.unix_now).total_queue_depth;
        if depth > QUEUE_DEPTH_HIGH {
            alerts.push(alert(
                "warning",
                "high_queue_depth",
                format!("{depth} commands wait"),
                "check that the nodes' sidecars answer: SHOW SHARDING QUEUE",
                &[],
            ));
        }
        for operation in self.state.active() {
            let stuck = |step: &&crate::operation::Step| {
                step.attempts >= crate::saga::ATTEMPTS_STUCK && operation.is_open(step)
            };
            let Some(step) = operation.steps.iter().find(stuck) else { continue };
            let node = step.node.as_ref().map(ToString::to_string).unwrap_or_default();
            let (id, class) = (operation.id, step.work.class());
            let error = step.error.clone().unwrap_or_default();
            alerts.push(alert(
                "warning",
                "stuck_undo",
                format!(
                    "operation {id} ({} {}): {class} on {node} does not succeed: {error}",
                    operation.name(),
                    operation.subject()
                ),
                "look at the node's log and at SHOW SHARDING QUEUE; it is tried on",
                &[("operation", id.to_string()), ("node", node)],
            ));
        }
    }
}

fn alert(level: &str, kind: &str, message: String, action: &str, labels: &[(&str, String)]) -> Alert {
    Alert {
        level: level.to_owned(),
        kind: kind.to_owned(),
        message,
        action: action.to_owned(),
        since: 0,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
        state: "firing".to_owned(),
    }
}
