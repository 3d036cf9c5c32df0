//! What must be so before a rebalance is started, and what a start would do: `operations.md`, section 5.

use crate::Controller;
use crate::operation::{Kind, Operation};
use crate::pace::{PORTS_PER_CLUSTER, with_headroom};
use model::operate::{PlannedMove, Preflight, RebalancePlan, RebalanceReply, Refused};
use model::{GroupId, NodeId, OperationId, TableName};
use planner::Plan;
use std::collections::{BTreeMap, BTreeSet};

/// Percent of the nodes that must answer.
const HEALTH_MIN: f64 = 60.0;
/// So many rebalances may run beside a new one at most.
const RUNNING_MAX: usize = 3;

/// What a node is to take.
#[derive(Debug, Default)]
struct Receives {
    bytes: u64,
    groups: u32,
}

impl Controller {
    /// All checks, whatever one of them says.
    pub(crate) fn preflight(&self, name: &TableName, plan: Option<&Plan>) -> Preflight {
        let mut found = Preflight::default();
        let settings = self.node_settings();
        let mut check = |check: &str, fault: Option<String>| {
            found.checks.insert(check.to_owned(), fault.is_none());
            found.reasons.extend(fault.map(|fault| (check.to_owned(), fault)));
        };
        let known = self.state.tables.contains_key(name);
        check("table_exists", (!known).then(|| crate::orders::no_table(name)));
        check("cluster_healthy", self.is_unhealthy());
        check("sufficient_resources", plan.and_then(|plan| self.lacks_resources(plan)));
        check("no_conflicting_operations", self.is_in_conflict(name));
        check("node_settings", settings.faults());
        found.can_proceed = found.reasons.is_empty();
        // What is only advised stands beside a check that passed.
        if let (None, Some(advice)) = (settings.faults(), settings.advice()) {
            found.reasons.insert("node_settings".to_owned(), advice);
        }
        found
    }

    fn is_unhealthy(&self) -> Option<String> {
        let cluster = self.cluster_metrics(self.unix_now);
        let health = cluster.cluster_health_percentage;
        (health < HEALTH_MIN).then(|| {
            let (active, total) = (cluster.active_nodes, cluster.total_nodes);
            format!(
                "{active} of {total} nodes answer, {HEALTH_MIN} % are needed: bring nodes back, or REMOVE NODE what will not be back"
            )
        })
    }

    fn lacks_resources(&self, plan: &Plan) -> Option<String> {
        let mut receives: BTreeMap<NodeId, Receives> = BTreeMap::new();
        for planned in plan.moves.iter().filter(|planned| planned.to.is_some()) {
            let Ok(group) = GroupId::new(planned.unit.clone()) else { continue };
            let node = |id: &Option<String>| id.as_ref().and_then(|id| NodeId::new(id.clone()).ok());
            let alone = self.state.groups.get(&group).is_some_and(|known| !known.is_clustered());
            if let Some(to) = node(&planned.to) {
                let taken = receives.entry(to).or_default();
                taken.bytes += self.bytes_of(&group);
                taken.groups += 1;
            }
            // It gets a cluster for as long as it moves.
            if alone && let Some(from) = node(&planned.from) {
                receives.entry(from).or_default().groups += 1;
            }
        }
        let faults: Vec<String> = receives
            .iter()
            .flat_map(|(node, taken)| {
                [self.lacks_disk(node, taken.bytes), self.lacks_ports(node, taken.groups)]
            })
            .flatten()
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    fn lacks_disk(&self, node: &NodeId, bytes: u64) -> Option<String> {
        if bytes == 0 {
            return None;
        }
        let needed = with_headroom(bytes);
        match self.machine(node).and_then(|machine| machine.disk_free_bytes) {
            Some(free) if free >= needed => None,
            Some(free) => Some(format!(
                "{node} has {free} bytes free on disk, {needed} are needed ({bytes} to receive and 10 %): free some, or drain nodes that can do without"
            )),
            None => Some(format!(
                "the free disk of {node} is not known: its sidecar does not report, see its log"
            )),
        }
    }

    fn lacks_ports(&self, node: &NodeId, groups: u32) -> Option<String> {
        let free = self.free_clusters(node);
        (free < groups).then(|| {
            format!(
                "{node} has replication ports for {free} clusters more, {groups} are needed: widen the replication range of its `listen`, {PORTS_PER_CLUSTER} ports a cluster"
            )
        })
    }

    fn is_in_conflict(&self, name: &TableName) -> Option<String> {
        let running = self.running_pools();
        let status = self.rebalance_status(name);
        if matches!(status, "running" | "queued") {
            return Some(format!(
                "a rebalance of '{name}' is {status}: wait for it, or `rebalance stop {name}`"
            ));
        }
        (running.len() >= RUNNING_MAX).then(|| {
            format!("{} rebalances run, fewer than {RUNNING_MAX} may: wait for one of them", running.len())
        })
    }

    /// Plans and begins, or says why not.
    pub(crate) fn start_rebalance(&mut self, name: &TableName) -> RebalanceReply {
        if let Err(error) = self.check_queue() {
            return RebalanceReply::refused(Refused::Exception { error });
        }
        let status = self.rebalance_status(name);
        if matches!(status, "running" | "queued") {
            return RebalanceReply::refused(Refused::AlreadyRunning { status: status.to_owned() });
        }
        let planned = self.planned();
        // Those that wait behind a pause are begun as they are.
        let waits = self.state.active().any(Operation::is_move);
        let plan = planned.as_ref().map(|(_, plan)| plan).filter(|_| !waits);
        let details = self.preflight(name, plan);
        if !details.can_proceed {
            return RebalanceReply::refused(Refused::PreflightFailed { details });
        }
        if let Some((problem, plan)) = &planned
            && let Err(violations) = planner::lint::check(problem, plan)
        {
            let error =
                format!("the planner made a plan that breaks a rule, nothing was moved: {violations:?}");
            return RebalanceReply::refused(Refused::Exception { error });
        }
        self.hold(None);
        self.end_pins();
        self.forgive();
        self.replan();
        if !waits && self.is_settled() {
            // With what was placed by hand let go, more may move; each move still waits for room on its node's disk.
            if let Some((_, plan)) = self.planned() {
                self.carry_out(&plan);
            }
            self.planned_at = Some((self.state.last, self.gains.next_wake(self.now)));
        }
        self.began(name)
    }

    fn began(&self, name: &TableName) -> RebalanceReply {
        let first = self.state.active().find(|operation| operation.is_move()).map(|operation| operation.id.0);
        let moves = self.state.active().filter(|operation| operation.is_move()).count();
        let message = match moves {
            0 if self.is_settled() => "nothing moves: every node has its share".to_owned(),
            0 => "planned as soon as what is under way is over".to_owned(),
            moves => format!("{moves} groups move"),
        };
        RebalanceReply::done(message, first, self.rebalance_status(name))
    }

    /// What a plan made now would do. Nothing is done.
    pub(crate) fn dry_run(&self, name: &TableName) -> RebalancePlan {
        let planned = self.planned();
        let plan = planned.as_ref().map(|(_, plan)| plan);
        let node = |id: &Option<String>| id.as_ref().and_then(|id| NodeId::new(id.clone()).ok());
        let (mut moves, mut operations) = (Vec::new(), Vec::new());
        for one in plan.iter().flat_map(|plan| &plan.moves) {
            let Some(group) = GroupId::new(one.unit.clone()).ok() else { continue };
            let Some(known) = self.state.groups.get(&group) else { continue };
            let (to, from) = (node(&one.to), node(&one.from));
            moves.push(PlannedMove {
                group: one.unit.clone(),
                tables: known.table_names().into_iter().collect(),
                shards: known.shards.len() as u64,
                bytes: if to.is_some() { self.bytes_of(&group) } else { 0 },
                from: from.clone(),
                to: to.clone(),
                reason: one.reason.to_string(),
            });
            let reason = String::new();
            let from = from.filter(|from| self.state.is_live(from));
            let kind = match (to, from) {
                (Some(to), from) => Kind::Move { group, to, from, floor: 0, reason, pin: false },
                (None, Some(from)) => Kind::Shed { group, from, floor: 0, reason },
                (None, None) => continue,
            };
            operations.push(Operation::new(OperationId(u64::MAX), kind, Vec::new(), self.unix_now));
        }
        let tables: BTreeSet<TableName> = moves.iter().flat_map(|one| one.tables.iter().cloned()).collect();
        let copied = || moves.iter().filter(|one| one.to.is_some());
        RebalancePlan {
            table: name.clone(),
            tables: tables.into_iter().collect(),
            copies: plan.map_or(0, |plan| plan.copies),
            lower_bound: plan.map_or(0, |plan| plan.lower_bound),
            shard_copies: copied().map(|one| one.shards).sum(),
            bytes: copied().map(|one| one.bytes).sum(),
            groups: moves.iter().map(|one| one.group.as_str()).collect::<BTreeSet<_>>().len() as u64,
            expected_write_stall_ms: self.pace.route_ms(),
            eta_seconds: self.planned_ms(&operations).div_ceil(1000),
            preflight: self.preflight(name, plan),
            moves,
        }
    }
}
