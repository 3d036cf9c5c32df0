//! The operator's own check-up: what is wrong, what may come to be, and what to type next.

use crate::Controller;
use crate::state::{Hold, Member};
use model::api::Alert;
use model::operate::{Health, HealthCheck};
use model::{GroupId, NodeId};
use std::collections::BTreeMap;

/// Percent of the nodes that answer, as for the alerts.
const HEALTH_CRITICAL: f64 = 50.0;
const HEALTH_DEGRADED: f64 = 80.0;
/// Commands that wait, as for the alerts.
const QUEUE_HIGH: u64 = 50;

/// What is found, in the order of the report.
#[derive(Debug, Default)]
struct Findings {
    checks: BTreeMap<String, HealthCheck>,
    recommendations: Vec<String>,
}

impl Findings {
    /// A check with its worst word: `critical`, `warning` or, with neither, `ok`.
    fn check(&mut self, name: &str, status: &str, message: String) {
        self.checks.insert(name.to_owned(), HealthCheck { status: status.to_owned(), message });
    }

    fn recommend(&mut self, text: String) {
        if !self.recommendations.contains(&text) {
            self.recommendations.push(text);
        }
    }
}

impl Controller {
    pub fn health(&self, unix_now: u64) -> Health {
        let board = self.dashboard(unix_now);
        let mut found = Findings::default();
        self.check_nodes(&mut found, unix_now);
        self.check_copies(&mut found);
        self.check_operations(&mut found);
        self.check_queue_depth(&mut found, board.queue.total_queue_depth);
        self.check_machines(&mut found);
        self.check_settings(&mut found);
        self.check_orphans(&mut found);
        let fires = || board.alerts.iter().filter(|alert| alert.state == crate::alerts::FIRING);
        let said = |alert: &Alert| format!("{}: {}", alert.kind, alert.message);
        let of = |level: &str| fires().filter(|alert| alert.level == level).map(said).collect();
        let (mut issues, mut warnings): (Vec<String>, Vec<String>) = (of("critical"), of("warning"));
        // What no alert tells of.
        for (name, check) in &found.checks {
            let told = |list: &[String]| list.iter().any(|text| text.contains(&check.message));
            if check.status == "critical" && issues.is_empty() && !told(&issues) {
                issues.push(format!("{name}: {}", check.message));
            } else if check.status == "warning" && !told(&warnings) {
                warnings.push(format!("{name}: {}", check.message));
            }
        }
        for alert in fires() {
            found.recommend(alert.action.clone());
        }
        Health {
            overall_status: board.overall_status,
            timestamp: unix_now,
            checks: found.checks,
            issues,
            warnings,
            recommendations: found.recommendations,
        }
    }

    fn check_nodes(&self, found: &mut Findings, unix_now: u64) {
        let cluster = self.cluster_metrics(unix_now);
        let health = cluster.cluster_health_percentage;
        let status = match health {
            health if health < HEALTH_CRITICAL => "critical",
            health if health < HEALTH_DEGRADED => "warning",
            _ => "ok",
        };
        let text = format!("{} of {} nodes answer", cluster.active_nodes, cluster.total_nodes);
        found.check("nodes", status, text);
        let silent: Vec<&NodeId> =
            self.state.live_nodes().filter(|node| !self.sidecar_is_ours(node)).collect();
        let text = match silent.as_slice() {
            [] => "every live node's sidecar reports".to_owned(),
            nodes => format!("no sidecar of ours reports on {}", names(nodes)),
        };
        found.check("sidecars", if silent.is_empty() { "ok" } else { "warning" }, text);
        for node in silent {
            found.recommend(format!("look into the log of searchd on {node}: its sidecar does not report"));
        }
        let leader = self.state.leader.clone();
        let text = leader.as_ref().map_or("nobody leads".to_owned(), |leader| format!("{leader} leads"));
        found.check("leader", if leader.is_some() { "ok" } else { "critical" }, text);
        for (id, node) in &self.state.nodes {
            if node.lost {
                let needed = self
                    .state
                    .groups
                    .values()
                    .any(|group| group.members.contains_key(id) && group.serving().next().is_none());
                found.recommend(if needed {
                    format!("start {id} again: it holds the only copies of a shard")
                } else {
                    format!("start {id} again; if it will not be back: `shardwright node remove {id}`")
                });
            } else if node.draining && !self.state.groups.values().any(|g| g.members.contains_key(id)) {
                found.recommend(format!(
                    "{id} is drained: `shardwright node remove {id}`, or `shardwright node undrain {id}`"
                ));
            }
        }
    }

    fn check_copies(&self, found: &mut Findings) {
        let statuses: Vec<&str> = self
            .state
            .groups
            .iter()
            .filter(|(_, group)| !group.shards.is_empty())
            .map(|(id, group)| self.rf_status(id, group))
            .collect();
        let count = |wanted: &str| statuses.iter().filter(|status| **status == wanted).count();
        let (broken, degraded) = (count("broken"), count("degraded"));
        let status = match (broken, degraded) {
            (0, 0) => "ok",
            (0, _) => "warning",
            _ => "critical",
        };
        let text = format!(
            "{} groups: {degraded} with fewer copies than their rf, {broken} without a usable copy",
            statuses.len()
        );
        found.check("copies", status, text);
        let held = match self.state.hold {
            Some(Hold::Paused) => "resume",
            Some(Hold::Stopped) => "start",
            None => return,
        };
        if let Some(table) = self.state.tables.keys().next() {
            found.recommend(format!("moves are held: `shardwright rebalance {held} {table}` lets them go"));
        }
    }

    fn check_operations(&self, found: &mut Findings) {
        let stuck = self.stuck();
        let given_up: Vec<&GroupId> = self.given_up().collect();
        let undo = self.state.active().any(|operation| {
            operation.status == crate::operation::Status::Unwinding
                && operation.steps.iter().any(|step| step.attempts >= crate::saga::ATTEMPTS_STUCK)
        });
        let text = match (stuck.as_slice(), given_up.as_slice()) {
            ([], []) if undo => "what was begun cannot be taken back yet".to_owned(),
            ([], []) => format!("{} under way or waiting", self.state.operations.len()),
            ([], groups) => format!("moves of groups failed and are not tried again: {}", names(groups)),
            (ids, _) => format!("no step was done for longer than rebalance_timeout_seconds: {}", names(ids)),
        };
        let fine = stuck.is_empty() && given_up.is_empty() && !undo;
        found.check("operations", if fine { "ok" } else { "warning" }, text);
        if !fine {
            found.recommend("reset and try again: `shardwright recover`".to_owned());
        }
        let closed =
            self.state.groups.values().any(|group| group.in_state(Member::Returning).next().is_some());
        if closed {
            found.recommend(
                "copies come back and are verified: `shardwright status` shows when that is over".to_owned(),
            );
        }
    }

    fn check_queue_depth(&self, found: &mut Findings, depth: u64) {
        let status = if depth > QUEUE_HIGH { "warning" } else { "ok" };
        let limit = self.config.settings.max_queue_depth;
        let operations = self.state.operations.len() as u64;
        let text = format!("{depth} commands wait; {operations} operations of at most {limit}");
        found.check("queue", if operations >= limit { "critical" } else { status }, text);
    }

    /// Disks that could not take another copy of what they hold most of.
    fn check_machines(&self, found: &mut Findings) {
        let mut unknown = Vec::new();
        let mut full = Vec::new();
        let largest = self.state.groups.keys().map(|group| self.bytes_of(group)).max().unwrap_or(0);
        for node in self.state.live_nodes() {
            match self.machine(node).and_then(|machine| machine.disk_free_bytes) {
                None => unknown.push(node),
                Some(free) if free < crate::pace::with_headroom(largest) => full.push(node),
                Some(_) => {}
            }
        }
        let (status, text) = match (full.as_slice(), unknown.as_slice()) {
            ([], []) => ("ok", "every node has room for the largest group".to_owned()),
            ([], nodes) => ("warning", format!("the free disk is not known on {}", names(nodes))),
            (nodes, _) => {
                ("warning", format!("no room for the largest group ({largest} bytes) on {}", names(nodes)))
            }
        };
        found.check("disks", status, text);
        for node in full {
            found.recommend(format!(
                "free disk on {node}, or move its copies elsewhere: `shardwright node drain {node}`"
            ));
        }
    }

    /// Rule 14: what searchd's configuration must and should say.
    fn check_settings(&self, found: &mut Findings) {
        let settings = self.node_settings();
        let text =
            [settings.faults(), settings.advice()].into_iter().flatten().collect::<Vec<_>>().join("; ");
        if text.is_empty() {
            found.check("node_settings", "ok", "nothing in them endangers documents".to_owned());
        } else {
            found.check("node_settings", "warning", text);
            found.recommend("mend searchd's configuration on these nodes and start them again, one by one: see docs/production.md".to_owned());
        }
    }

    fn check_orphans(&self, found: &mut Findings) {
        let all: Vec<String> = self
            .orphans()
            .map(|(node, group, since)| format!("{group} on {node}, seen for {} s", since.0 / 1000))
            .collect();
        let text = match all.as_slice() {
            [] => "none is left over".to_owned(),
            all => format!("belong to nothing: {}", all.join("; ")),
        };
        found.check("temporary_clusters", if all.is_empty() { "ok" } else { "warning" }, text);
        for (node, group, _) in self.orphans() {
            found.recommend(match self.orphan_holds_others(node, group) {
                Some(table) => format!(
                    "cluster {group} on {node} holds {table}, which the log does not know there: look at it, then delete the cluster by hand"
                ),
                None => "left-over clusters go after an hour: `shardwright recover` shows".to_owned(),
            });
        }
    }
}

fn names<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
