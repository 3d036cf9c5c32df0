//! The rules: what an operator must know now. Each alert says what, where, and what to do.
//!
//! Only conditions are judged here; since when each holds, who hears of it and for how long it is silent is
//! [`crate::alarm`]'s matter.

mod backups;
mod certificates;
mod disks;
mod groups;
mod nodes;
mod steps;

use crate::Controller;
use crate::operation::{Kind, Operation, Status, Step, StepStatus};
use crate::state::{Group, Member, TableStatus};
use model::api::{Alert, ClusterMetrics, QueueMetrics, RebalancingMetrics};
use model::{ClusterState, GroupId, Millis, NodeId, Reach, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Percent of nodes that answer.
const HEALTH_CRITICAL: f64 = 50.0;
const HEALTH_DEGRADED: f64 = 80.0;
const LONG_RUNNING_SECONDS: f64 = 1_800.0;
/// An alert, and with more than the second the whole status is a warning.
const QUEUE_DEPTH_HIGH: u64 = 50;
const QUEUE_DEPTH_WARNING: u64 = 100;
const FAILURES_MANY: u64 = 3;
/// A message names no more shards, nodes or holders than this; it says how many there are.
const NAMED_MAX: usize = 20;

/// The whole look in one word: the first that matches, in this order. A critical alert comes first: a failed operation
/// of yesterday must not hide that data cannot be read now.
pub(crate) fn overall_status(
    cluster: &ClusterMetrics,
    rebalancing: &RebalancingMetrics,
    queue: &QueueMetrics,
    failed_lately: bool,
    alerts: &[Alert],
) -> &'static str {
    let fires = |level| alerts.iter().any(|alert| alert.state == FIRING && alert.level == level);
    if cluster.cluster_health_percentage < HEALTH_CRITICAL || fires("critical") {
        "critical"
    } else if failed_lately
        || rebalancing.longest_running > LONG_RUNNING_SECONDS
        || queue.total_queue_depth > QUEUE_DEPTH_WARNING
        || fires("warning")
    {
        "warning"
    } else {
        "healthy"
    }
}

pub(crate) const FIRING: &str = "firing";
pub(crate) const RESOLVED: &str = "resolved";

/// Nobody leads: for the controllers that see it, since the operator itself decides nothing then.
pub fn no_master(why: &str) -> Alert {
    alert(
        "critical",
        "no_master",
        format!("no controller leads: {why}"),
        "check that the controllers run and reach their control log (disk, etcd) and each other; the lowest live candidate \
         elects itself after 5 s: start `shardwright serve` where none runs",
        &[],
    )
}

/// What follows from the figures alone. `gone` are the nodes that do not answer.
fn of_figures(
    cluster: &ClusterMetrics,
    rebalancing: &RebalancingMetrics,
    queue: &QueueMetrics,
    failed_rebalances: u64,
    gone: &[&str],
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let (active, total) = (cluster.active_nodes, cluster.total_nodes);
    let gone = named(gone.iter().copied());
    if cluster.cluster_health_percentage < HEALTH_CRITICAL {
        alerts.push(alert(
            "critical",
            "cluster_health",
            format!("{active}/{total} nodes answer; not: {gone}"),
            "investigate node failures at once: are the machines up, is searchd running, is the network whole?",
            &[],
        ));
    } else if cluster.cluster_health_percentage < HEALTH_DEGRADED {
        alerts.push(alert(
            "warning",
            "degraded_cluster",
            format!("{active}/{total} nodes answer; not: {gone}"),
            "check inactive nodes; REMOVE NODE gives up one that will not be back",
            &[],
        ));
    }
    if cluster.master_node.is_none() {
        alerts.push(no_master("the control log names none"));
    }
    if failed_rebalances >= FAILURES_MANY {
        alerts.push(alert(
            "critical",
            "multiple_failures",
            format!("{failed_rebalances} rebalances failed"),
            "investigate the errors in SHOW SHARDING OPERATIONS, then reset: REBALANCE TABLE … RESET",
            &[],
        ));
    }
    if rebalancing.longest_running > LONG_RUNNING_SECONDS {
        alerts.push(alert(
            "warning",
            "long_running_operation",
            format!("an operation has been running for {:.0} s", rebalancing.longest_running),
            "watch its progress in SHOW SHARDING QUEUE, which says what it waits for, or reset it: REBALANCE TABLE … RESET",
            &[],
        ));
    }
    if queue.total_queue_depth > QUEUE_DEPTH_HIGH {
        alerts.push(alert(
            "warning",
            "high_queue_depth",
            format!("{} commands wait", queue.total_queue_depth),
            "check processing and connectivity: SHOW SHARDING QUEUE says which nodes, `node list` whether their sidecars answer",
            &[],
        ));
    }
    alerts
}

/// How long some things have been wrong, as far as this controller saw it.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    /// Groups with fewer copies than rf.
    degraded: BTreeMap<GroupId, Millis>,
    /// Live nodes whose sidecar is not there.
    without_sidecar: BTreeMap<NodeId, Millis>,
    /// Live nodes with members of groups that have gone on without them.
    left_behind: BTreeMap<NodeId, Millis>,
    still: steps::Still,
}

/// What was seen longer than `grace` ago and still is.
fn overdue<K: Ord + Clone>(
    since: &mut BTreeMap<K, Millis>,
    now_wrong: &BTreeSet<K>,
    now: Millis,
    grace: Millis,
    known: impl Fn(&K) -> bool,
) -> BTreeSet<K> {
    since.retain(|key, _| now_wrong.contains(key));
    for key in now_wrong {
        // What an earlier controller has found overdue is so still.
        since.entry(key.clone()).or_insert_with(|| if known(key) { Millis::ZERO } else { now });
    }
    let late = |at: &Millis| *at == Millis::ZERO || now.since(*at) > grace;
    since.iter().filter(|(_, at)| late(at)).map(|(key, _)| key.clone()).collect()
}

impl Controller {
    /// Every alert whose condition holds now; `since` is not filled in.
    pub(crate) fn rules(&mut self, fires_already: impl Fn(&str, &[(&str, &str)]) -> bool) -> Vec<Alert> {
        let (cluster, queue) = (self.cluster_metrics(self.unix_now), self.queue(self.unix_now));
        let gone: Vec<&str> =
            self.state.nodes.keys().filter(|node| !self.answers(node)).map(NodeId::as_str).collect();
        let failed = self.failed_since_reset(self.unix_now).filter(|one| is_rebalance(one)).count() as u64;
        let mut alerts = of_figures(&cluster, &self.rebalancing(self.unix_now), &queue, failed, &gone);
        alerts.extend(self.of_identities());
        alerts.extend(self.of_flapping());
        alerts.extend(self.of_cut_off());
        alerts.extend(self.of_groups());
        let overdue = self.overdue(&fires_already);
        alerts.extend(self.of_left_behind(&fires_already));
        alerts.extend(self.of_steps_that_stand_still(&fires_already));
        alerts.extend(self.of_shards(&overdue.0));
        alerts.extend(overdue.1.iter().map(nodes::sidecar_away));
        alerts.extend(self.state.active().filter_map(of_operation));
        alerts.extend(self.of_backups());
        alerts.extend(self.of_certificates());
        alerts.extend(self.of_disks());
        if let Some(why) = &self.plan_refused {
            alerts.push(alert(
                "critical",
                "plan_refused",
                format!("the planner made a plan that breaks a rule: {why}"),
                "nothing was moved; report this with the output of `status`",
                &[],
            ));
        }
        alerts
    }

    /// Groups and nodes that have been wrong for longer than the grace.
    fn overdue(
        &mut self,
        fires_already: impl Fn(&str, &[(&str, &str)]) -> bool,
    ) -> (BTreeSet<GroupId>, BTreeSet<NodeId>) {
        let degraded: BTreeSet<GroupId> = self
            .state
            .groups
            .iter()
            .filter(|(id, group)| !group.shards.is_empty() && self.rf_status(id, group) == "degraded")
            .map(|(id, _)| id.clone())
            .collect();
        let away: BTreeSet<NodeId> = self
            .state
            .live_nodes()
            .filter(|node| self.answers(node) && !self.sidecar_is_ours(node))
            .cloned()
            .collect();
        let (now, grace) = (self.now, Millis::from_secs(self.config.settings.node_loss_grace_seconds));
        let state = &self.state;
        let mut wrong = std::mem::take(&mut self.wrong);
        let degraded = overdue(&mut wrong.degraded, &degraded, now, grace, |group| {
            let tables = state.groups.get(group).map(Group::table_names).unwrap_or_default();
            tables.iter().any(|table| fires_already("under_replicated", &[("table", table.as_str())]))
        });
        let away = overdue(&mut wrong.without_sidecar, &away, now, grace, |node| {
            fires_already("sidecar_away", &[("node", node.as_str())])
        });
        self.wrong = wrong;
        (degraded, away)
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

    /// By group, as what is whole needs no look at each of its shards.
    fn of_shards(&self, overdue: &BTreeSet<GroupId>) -> Vec<Alert> {
        let mut broken: BTreeMap<&TableName, Vec<(u32, &GroupId)>> = BTreeMap::new();
        let mut short: BTreeMap<&TableName, Vec<u32>> = BTreeMap::new();
        for (id, group) in &self.state.groups {
            let status = self.rf_status(id, group);
            for shard in group.shards.iter().filter(|_| status != "ok") {
                let active = |table: &crate::state::Table| table.status == TableStatus::Active;
                if !self.state.tables.get(&shard.table).is_some_and(active) {
                    continue;
                }
                if status == "broken" {
                    broken.entry(&shard.table).or_default().push((shard.number, id));
                } else if overdue.contains(id) {
                    short.entry(&shard.table).or_default().push(shard.number);
                }
            }
        }
        let broken = broken.into_iter().map(|(table, shards)| self.unavailable(table, shards));
        let short = short.into_iter().map(|(table, mut shards)| {
            shards.sort_unstable();
            let rf = self.state.tables.get(table).map_or(0, |table| table.spec.rf);
            alert(
                "warning",
                "under_replicated",
                format!("{} of {table} with fewer than {rf} copies", shards_named(&shards)),
                "copies are made as soon as a node has room: see SHOW SHARDING OPERATIONS",
                &[("table", table.to_string())],
            )
        });
        broken.chain(short).collect()
    }

    fn unavailable(&self, table: &TableName, mut shards: Vec<(u32, &GroupId)>) -> Alert {
        shards.sort_unstable();
        let groups: BTreeSet<&GroupId> = shards.iter().map(|(_, group)| *group).collect();
        let known = || groups.iter().filter_map(|id| Some((*id, self.state.groups.get(*id)?)));
        let holders: BTreeSet<&str> =
            known().flat_map(|(_, group)| group.members.keys().map(NodeId::as_str)).collect();
        let holders = named(holders.into_iter());
        let stopped: Vec<&str> = known()
            .filter(|(id, group)| group.members.keys().any(|node| self.is_closed_on(id, node)))
            .map(|(id, _)| id.as_str())
            .collect();
        let action = if stopped.is_empty() {
            format!("bring back one of its last holders: {holders}")
        } else {
            let groups = named(stopped.into_iter());
            format!(
                "group {groups} stopped on all its nodes: see the runbook of a total loss; the newest copy is on one of {holders}"
            )
        };
        let numbers: Vec<u32> = shards.iter().map(|(number, _)| *number).collect();
        let have = if numbers.len() == 1 { "has" } else { "have" };
        let message = format!(
            "{} of {table} {have} no copy that can serve; last holders: {holders}",
            shards_named(&numbers)
        );
        alert("critical", "data_unavailable", message, &action, &[("table", table.to_string())])
    }
}

/// Whether copies were to be moved by it.
pub(crate) const fn is_rebalance(operation: &Operation) -> bool {
    operation.is_move() || matches!(operation.kind, Kind::ChangeRf { .. })
}

fn of_operation(operation: &Operation) -> Option<Alert> {
    let stuck = |step: &&Step| step.attempts >= crate::saga::ATTEMPTS_STUCK && operation.is_open(step);
    let step = operation.steps.iter().find(stuck)?;
    let node = step.node.as_ref().map(ToString::to_string).unwrap_or_default();
    let (id, class) = (operation.id, step.work.class());
    let error = step.error.clone().unwrap_or_default();
    let what = format!("operation {id} ({} {})", operation.name(), operation.subject());
    let labels = [("operation", id.to_string()), ("node", node.clone())];
    let undoing = operation.status == Status::Unwinding && step.status == StepStatus::Undoing;
    Some(if undoing {
        alert(
            "warning",
            "stuck_undo",
            format!("{what}: what {class} left behind on {node} cannot be taken back: {error}"),
            "look at the node's log and at SHOW SHARDING QUEUE; it is tried on, and nothing is forgotten",
            &labels,
        )
    } else {
        alert(
            "warning",
            "stuck_step",
            format!("{what}: {class} on {node} does not succeed: {error}"),
            "look at the node's log and at SHOW SHARDING QUEUE; it is tried on",
            &labels,
        )
    })
}

/// `shard 3`, `shards 1, 3, 5`.
fn shards_named(numbers: &[u32]) -> String {
    let word = if numbers.len() == 1 { "shard" } else { "shards" };
    let texts: Vec<String> = numbers.iter().take(NAMED_MAX + 1).map(ToString::to_string).collect();
    let rest = numbers.len().saturating_sub(texts.len());
    format!("{word} {}", named_with(texts.iter().map(String::as_str), rest))
}

fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    named_with(names, 0)
}

/// The first ones, and how many more there are.
fn named_with<'a>(names: impl ExactSizeIterator<Item = &'a str>, further: usize) -> String {
    let more = (names.len() + further).saturating_sub(NAMED_MAX);
    let mut text = names.take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " and {more} more");
    }
    text
}

fn alert(level: &str, kind: &str, message: String, action: &str, labels: &[(&str, String)]) -> Alert {
    Alert {
        level: level.to_owned(),
        kind: kind.to_owned(),
        message,
        action: action.to_owned(),
        since: 0,
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        state: FIRING.to_owned(),
        silenced_until: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Figures {
        active: u64,
        total: u64,
        longest: f64,
        depth: u64,
        failed: u64,
        master: bool,
    }

    const WELL: Figures = Figures { active: 10, total: 10, longest: 0.0, depth: 0, failed: 0, master: true };

    fn metrics(figures: &Figures) -> (ClusterMetrics, RebalancingMetrics, QueueMetrics) {
        let health =
            if figures.total == 0 { 100.0 } else { figures.active as f64 * 100.0 / figures.total as f64 };
        (
            ClusterMetrics {
                total_nodes: figures.total,
                active_nodes: figures.active,
                cluster_health_percentage: health,
                master_node: figures.master.then(|| "m:1".to_owned()),
                ..ClusterMetrics::default()
            },
            RebalancingMetrics { longest_running: figures.longest, ..RebalancingMetrics::default() },
            QueueMetrics { total_queue_depth: figures.depth, ..QueueMetrics::default() },
        )
    }

    fn fired(figures: &Figures) -> Vec<Alert> {
        let (cluster, rebalancing, queue) = metrics(figures);
        of_figures(&cluster, &rebalancing, &queue, figures.failed, &["n:1", "n:2"])
    }

    fn kinds(figures: &Figures) -> Vec<(String, String)> {
        fired(figures).into_iter().map(|alert| (alert.level, alert.kind)).collect()
    }

    /// Each figure just below, at and above its threshold.
    #[test]
    fn alerts_fire_exactly_beyond_their_thresholds() {
        let one = |level: &str, kind: &str| vec![(level.to_owned(), kind.to_owned())];
        let cases: Vec<(Figures, Vec<(String, String)>)> = vec![
            (WELL, Vec::new()),
            (Figures { active: 0, total: 0, ..WELL }, Vec::new()),
            (Figures { active: 8, ..WELL }, Vec::new()),
            (Figures { active: 799, total: 1000, ..WELL }, one("warning", "degraded_cluster")),
            (Figures { active: 5, ..WELL }, one("warning", "degraded_cluster")),
            (Figures { active: 499, total: 1000, ..WELL }, one("critical", "cluster_health")),
            (Figures { active: 0, ..WELL }, one("critical", "cluster_health")),
            (Figures { longest: 1_800.0, ..WELL }, Vec::new()),
            (Figures { longest: 1_801.0, ..WELL }, one("warning", "long_running_operation")),
            (Figures { depth: 50, ..WELL }, Vec::new()),
            (Figures { depth: 51, ..WELL }, one("warning", "high_queue_depth")),
            (Figures { failed: 2, ..WELL }, Vec::new()),
            (Figures { failed: 3, ..WELL }, one("critical", "multiple_failures")),
            (Figures { master: false, ..WELL }, one("critical", "no_master")),
        ];
        for (figures, expected) in cases {
            assert_eq!(kinds(&figures), expected);
        }
    }

    #[test]
    fn messages_name_what_there_is_and_actions_what_to_do() {
        let health = &fired(&Figures { active: 3, ..WELL })[0];
        assert!(health.message.starts_with("3/10 nodes") && health.message.ends_with("n:1, n:2"));
        assert!(health.action.contains("investigate node failures at once"), "{}", health.action);
        for (figures, words) in [
            (Figures { active: 7, ..WELL }, vec!["check inactive nodes"]),
            (Figures { master: false, ..WELL }, vec!["check", "elects"]),
            (Figures { failed: 3, ..WELL }, vec!["investigate", "reset"]),
            (Figures { longest: 1_801.0, ..WELL }, vec!["watch its progress", "reset"]),
            (Figures { depth: 51, ..WELL }, vec!["check processing and connectivity"]),
        ] {
            let alert = &fired(&figures)[0];
            for word in words {
                assert!(alert.action.contains(word), "{}: {}", alert.kind, alert.action);
            }
        }
    }

    #[test]
    fn the_overall_status_is_the_first_that_matches() {
        let firing = |level: &str| vec![alert(level, "k", String::new(), "", &[])];
        let resolved: Vec<Alert> =
            firing("critical").into_iter().map(|one| Alert { state: RESOLVED.to_owned(), ..one }).collect();
        let status = |figures: &Figures, failed: bool, alerts: &[Alert]| {
            let (cluster, rebalancing, queue) = metrics(figures);
            overall_status(&cluster, &rebalancing, &queue, failed, alerts)
        };
        assert_eq!(status(&WELL, false, &[]), "healthy");
        assert_eq!(status(&Figures { active: 0, total: 0, ..WELL }, false, &[]), "healthy");
        assert_eq!(status(&Figures { active: 499, total: 1000, ..WELL }, true, &[]), "critical");
        assert_eq!(status(&Figures { active: 5, ..WELL }, false, &[]), "healthy", "50 % alone is no more");
        assert_eq!(status(&WELL, true, &[]), "warning");
        assert_eq!(status(&Figures { longest: 1_800.0, ..WELL }, false, &[]), "healthy");
        assert_eq!(status(&Figures { longest: 1_801.0, ..WELL }, false, &[]), "warning");
        assert_eq!(status(&Figures { depth: 100, ..WELL }, false, &[]), "healthy");
        assert_eq!(status(&Figures { depth: 101, ..WELL }, false, &[]), "warning");
        assert_eq!(status(&WELL, false, &firing("critical")), "critical");
        assert_eq!(status(&WELL, false, &firing("warning")), "warning");
        assert_eq!(status(&WELL, false, &resolved), "healthy");
        // Nothing hides a critical alert.
        assert_eq!(status(&WELL, true, &firing("critical")), "critical");
        assert_eq!(status(&Figures { depth: 101, ..WELL }, false, &firing("critical")), "critical");
    }

    #[test]
    fn many_shards_are_counted_rather_than_named() {
        assert_eq!(shards_named(&[3]), "shard 3");
        assert_eq!(shards_named(&[1, 2]), "shards 1, 2");
        let many: Vec<u32> = (0..500).collect();
        let text = shards_named(&many);
        assert!(text.ends_with("18, 19 and 480 more"), "{text}");
        let just: Vec<u32> = (0..20).collect();
        assert!(shards_named(&just).ends_with("18, 19"));
        let one_more: Vec<u32> = (0..21).collect();
        assert!(shards_named(&one_more).ends_with("19 and 1 more"));
    }

    #[test]
    fn a_fault_is_overdue_only_after_its_grace() {
        let (mut since, grace) = (BTreeMap::new(), Millis(3_000));
        let wrong: BTreeSet<u8> = [1].into();
        let mut late =
            |wrong: &BTreeSet<u8>, now| !overdue(&mut since, wrong, Millis(now), grace, |_| false).is_empty();
        assert!(!late(&wrong, 1_000));
        assert!(!late(&wrong, 4_000), "not longer than the grace");
        assert!(late(&wrong, 4_001));
        assert!(!late(&[].into(), 4_002));
        assert!(!late(&wrong, 4_003), "counted anew");
        let mut since = BTreeMap::new();
        assert!(!overdue(&mut since, &wrong, Millis(5), grace, |_| true).is_empty(), "it was before");
    }
}
