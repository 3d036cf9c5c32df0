//! Recovery and clean-up, by an order and by itself: `operations.md`, section 7.
//!
//! What a lost node needs is not here: failover and copies made anew follow from what is seen (`reconcile`).

use crate::Controller;
use crate::operation::{Kind, Operation, Status};
use crate::record::Record;
use model::operate::{CleanUpReport, RecoveryReport};
use model::{GroupId, Millis, NodeId, OperationId, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// Retention. Ages of what is durable are counted in Unix seconds: they are for reports, nothing is decided by them.
const ORPHANS_FOR: Millis = Millis(3_600_000);
const FAILED_KEPT_SECONDS: u64 = 24 * 3600;
const FINISHED_KEPT_SECONDS: u64 = 7 * 24 * 3600;
const STALE_KEPT_SECONDS: u64 = 30 * 24 * 3600;
/// The first pause after a copy that is missing could not be made; it doubles up to the backoff of the settings.
const REPAIR_PAUSE: Millis = Millis(5_000);

/// Clocks of what is done now and then, and of what is tried again.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    next_check: Millis,
    next_clean_up: Option<Millis>,
    /// Since when a cluster that belongs to nothing is seen on a node.
    orphans: BTreeMap<(NodeId, GroupId), Millis>,
    /// When a group whose move failed may move again.
    retry_at: BTreeMap<GroupId, Millis>,
}

/// The pause after the `failures`-th failure in a row: doubled each time.
fn backoff(first: Millis, failures: u32) -> Millis {
    Millis(first.0.saturating_mul(1 << failures.saturating_sub(1).min(20)))
}

impl Controller {
    /// Once in a tick: checks itself, recovers and cleans up when it is time.
    pub(crate) fn look_after_itself(&mut self) {
        self.watch_orphans();
        if self.now >= self.recovery.next_check {
            let interval = Millis::from_secs(self.config.settings.health_check_interval_seconds);
            self.recovery.next_check = self.now + interval;
            self.end_overlong();
            if self.config.settings.auto_recovery_enabled {
                let mut report = RecoveryReport::default();
                self.remove_orphans(&mut report.actions_taken);
                self.reset_stuck(&mut report);
            }
        }
        let interval = Millis::from_secs(self.config.settings.temp_cluster_cleanup_interval_seconds);
        let next = *self.recovery.next_clean_up.get_or_insert(self.now + interval);
        if self.now >= next.min(self.now + interval) {
            self.recovery.next_clean_up = Some(self.now + interval);
            self.clean_up_now();
        }
    }

    /// When the clocks of this room call next.
    pub(crate) fn next_self_check(&self) -> Millis {
        self.recovery
            .next_clean_up
            .map_or(self.recovery.next_check, |next| next.min(self.recovery.next_check))
    }

    /// `recover`: removes orphans, resets what is stuck, tries again what failed, in this order.
    pub(crate) fn recover_all(&mut self) -> RecoveryReport {
        let mut report = RecoveryReport { timestamp: self.unix_now, ..RecoveryReport::default() };
        self.remove_orphans(&mut report.actions_taken);
        self.reset_stuck(&mut report);
        self.retry_failed(&mut report);
        report.tables_recovered.sort();
        report.tables_recovered.dedup();
        let health = self.health(self.unix_now);
        report.issues_remaining = health.issues.into_iter().chain(health.warnings).collect();
        report
    }

    /// Clusters on nodes that belong to no group, no operation and nothing that is being cleaned.
    fn watch_orphans(&mut self) {
        let mut seen = BTreeSet::new();
        for node in self.state.live_nodes() {
            let clusters = self.observed.view(node).and_then(|view| view.status.as_ref());
            for group in clusters.iter().flat_map(|(_, clusters)| clusters.keys()) {
                if self.is_orphan(node, group) {
                    seen.insert((node.clone(), group.clone()));
                }
            }
        }
        self.recovery.orphans.retain(|orphan, _| seen.contains(orphan));
        for orphan in seen {
            self.recovery.orphans.entry(orphan).or_insert(self.now);
        }
    }

    fn is_orphan(&self, node: &NodeId, group: &GroupId) -> bool {
        let ours = group.as_str().len() == 32 && group.as_str().bytes().all(|byte| byte.is_ascii_hexdigit());
        let placed = self.state.groups.get(group).is_some_and(crate::state::Group::is_clustered);
        let used = self.state.active().any(|operation| {
            operation.group() == Some(group)
                || operation.makes_group(group)
                || operation
                    .steps
                    .iter()
                    .any(|step| step.work.action().and_then(model::Action::group) == Some(group))
        });
        let cleaned = self.state.is_left_over(group, node);
        ours && !placed && !used && !cleaned && self.state.cluster.as_ref() != Some(group)
    }

    /// Those seen for long enough go. One with tables goes only where they are the shard that the log knows there, which
    /// stays as a plain table; what else it may hold is somebody's.
    fn remove_orphans(&mut self, actions: &mut Vec<String>) {
        let old = |since: &Millis| self.now.since(*since) >= ORPHANS_FOR;
        let due: Vec<(NodeId, GroupId)> = self
            .recovery
            .orphans
            .iter()
            .filter(|(_, since)| old(since))
            .map(|(key, _)| key.clone())
            .collect();
        for (node, group) in due {
            if self.orphan_holds_others(&node, &group).is_some() {
                continue;
            }
            actions
                .push(format!("removing the temporary cluster {group} on {node}, which belongs to nothing"));
            self.recovery.orphans.remove(&(node.clone(), group.clone()));
            let (tables, routes) = (Vec::new(), Vec::new());
            self.record(Record::LeftBehind { node, group: Some(group), tables, routes });
        }
    }

    /// A table in an orphan that is not the shard that belongs there.
    pub(crate) fn orphan_holds_others(&self, node: &NodeId, group: &GroupId) -> Option<String> {
        let cluster = self.observed.cluster(node, group)?;
        let own = self.state.groups.get(group).filter(|known| known.members.contains_key(node));
        let own = own.map(crate::state::Group::tables).unwrap_or_default();
        cluster.tables.iter().find(|table| !own.contains(table)).cloned()
    }

    /// Those that are seen, with since when.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = (&NodeId, &GroupId, Millis)> {
        self.recovery.orphans.iter().map(|((node, group), since)| (node, group, self.now.since(*since)))
    }

    /// Under way without a step done for longer than the timeout.
    pub(crate) fn stuck(&self) -> Vec<OperationId> {
        let timeout = Millis::from_secs(self.config.settings.rebalance_timeout_seconds);
        let waits = |operation: &&Operation| {
            // These wait for others, or copy documents for as long as it takes.
            let long =
                matches!(operation.kind, Kind::ChangeRf { .. } | Kind::Backup { .. } | Kind::Restore { .. });
            operation.status != Status::Queued && !long
        };
        let stuck = self.state.active().filter(waits);
        stuck
            .filter(|operation| self.pace.still_for(operation.id, self.now) > timeout)
            .map(|operation| operation.id)
            .collect()
    }

    /// Taken back where that can be done; else its next try comes at once. Its clock begins again.
    fn reset_stuck(&mut self, report: &mut RecoveryReport) {
        for id in self.stuck() {
            let Some(operation) = self.state.operations.get(&id).cloned() else { continue };
            let seconds = self.pace.still_for(id, self.now).0 / 1000;
            let what = format!("{} {} (operation {id})", operation.name(), operation.subject());
            if operation.status == Status::Running && operation.unwinds() && !self.keeps_orphan(&operation) {
                let error = format!("no step was done for {seconds} s: reset");
                self.record(Record::UnwindStarted { operation: id, error, revoked: true });
                report.actions_taken.push(format!("taking {what} back: no step was done for {seconds} s"));
            } else {
                self.flights.try_again_at(self.now, |of| *of == id);
                report.actions_taken.push(format!("trying {what} again: no step was done for {seconds} s"));
            }
            self.pace.begin_again(id, self.now, self.unix_now);
            report.tables_recovered.extend(self.tables_of(&operation));
        }
    }

    /// Under way for longer than an operation may be: taken back where that can be done, but no copy that goes on.
    fn end_overlong(&mut self) {
        let most = Millis::from_secs(self.config.settings.max_operation_duration_seconds);
        let over: Vec<OperationId> = self
            .state
            .active()
            .filter(|operation| operation.is_move() || matches!(operation.kind, Kind::CreateTable { .. }))
            .filter(|operation| operation.status == Status::Running && operation.unwinds())
            .filter(|operation| self.pace.runs_for(operation.id, self.now) > most)
            .filter(|operation| !self.flights.is_going_on(operation.id, self.now))
            .filter(|operation| !self.keeps_orphan(operation))
            .map(|operation| operation.id)
            .collect();
        for operation in over {
            let error = format!("it ran for longer than max_operation_duration_seconds ({})", most.0 / 1000);
            self.record(Record::UnwindStarted { operation, error, revoked: false });
        }
    }

    /// Groups whose last moves failed are planned again now, with all their tries.
    fn retry_failed(&mut self, report: &mut RecoveryReport) {
        let failed: Vec<GroupId> = self.state.move_failures.keys().cloned().collect();
        for group in failed {
            let Some(known) = self.state.groups.get(&group) else { continue };
            report.actions_taken.push(format!("planning the moves of group {group} again"));
            report.tables_recovered.extend(known.table_names());
        }
        self.forgive();
        self.hand_over_not_before.clear();
        self.replan();
    }

    /// Failures of moves count from now on.
    pub(crate) fn forgive(&mut self) {
        if !self.state.move_failures.is_empty() {
            self.record(Record::FailuresForgiven { unix: self.unix_now });
        }
        self.recovery.retry_at.clear();
        self.gains.forget();
        self.cleanings.forget();
    }

    fn tables_of(&self, operation: &Operation) -> Vec<TableName> {
        let of_group = operation.group().and_then(|group| self.state.groups.get(group));
        let names = of_group.map(|group| group.table_names().into_iter().collect::<Vec<_>>());
        operation.table().map(|table| vec![table.clone()]).or(names).unwrap_or_default()
    }

    /// A move has failed: when its group may move again.
    pub(crate) fn note_failed_move(&mut self, group: &GroupId, repair: bool) {
        let failures = self.state.move_failures.get(group).copied().unwrap_or(1);
        let longest = Millis::from_secs(self.config.settings.recovery_backoff_seconds);
        let pause =
            if repair { backoff(REPAIR_PAUSE, failures).min(longest) } else { backoff(longest, failures) };
        self.recovery.retry_at.insert(group.clone(), self.now + pause);
    }

    /// Whether a planned move of the group may be made now; the time from which on, when that is what it waits for.
    /// A copy that is missing is tried for without end: an operator's patience is no reason to lose data.
    pub(crate) fn may_retry(&self, group: &GroupId, repair: bool) -> Retry {
        let failures = self.state.move_failures.get(group).copied().unwrap_or(0);
        let settings = &self.config.settings;
        let given_up = u64::from(failures) > settings.max_auto_recovery_attempts;
        if failures > 0 && !repair && (!settings.auto_recovery_enabled || given_up) {
            return Retry::GivenUp;
        }
        match self.recovery.retry_at.get(group) {
            Some(at) if failures > 0 && self.now < *at => Retry::At(*at),
            _ => Retry::Now,
        }
    }

    /// Groups that only an order moves again.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = &GroupId> {
        let whole = |group: &&GroupId| {
            self.state.groups.get(*group).is_some_and(|known| known.serving().count() >= known.rf as usize)
        };
        let failed = self.state.move_failures.keys().filter(whole);
        failed.filter(|group| self.may_retry(group, false) == Retry::GivenUp)
    }

    /// `cleanup`: forgets what is older than its retention.
    pub(crate) fn clean_up_now(&mut self) -> CleanUpReport {
        let mut report = CleanUpReport { timestamp: self.unix_now, ..CleanUpReport::default() };
        self.remove_orphans(&mut report.actions_taken);
        report.orphaned_temporary_clusters = report.actions_taken.len() as u64;
        let (mut failed, mut finished) = (Vec::new(), Vec::new());
        for operation in &self.state.finished {
            let age = self.unix_now.saturating_sub(operation.finished_at.unwrap_or(self.unix_now));
            match operation.status {
                Status::Failed if age > FAILED_KEPT_SECONDS => failed.push(operation.id),
                Status::Done | Status::Cancelled if age > FINISHED_KEPT_SECONDS => {
                    finished.push(operation.id);
                }
                _ => {}
            }
        }
        let before = self.unix_now.saturating_sub(STALE_KEPT_SECONDS);
        let changes = self.state.topology_changes.iter().filter(|at| **at < before).count();
        let plan = self.state.rebalance.as_ref().is_some_and(|last| last.unix < before);
        report.failed_operation_groups = failed.len() as u64;
        report.finished_queue_items = finished.len() as u64;
        report.stale_state = (changes + usize::from(plan)) as u64;
        if failed.len() + finished.len() + changes + usize::from(plan) > 0 {
            let operations: Vec<OperationId> = failed.into_iter().chain(finished).collect();
            report.actions_taken.push(format!(
                "forgetting {} operations and {} entries of old state",
                operations.len(),
                report.stale_state
            ));
            self.record(Record::Forgotten { operations, before, unix: self.unix_now });
        }
        report
    }
}

/// Whether a group whose move failed may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Now,
    At(Millis),
    /// Not by itself.
    GivenUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double() {
        let pauses: Vec<u64> = (1..=4).map(|failures| backoff(Millis(60_000), failures).0 / 1000).collect();
        assert_eq!(pauses, [60, 120, 240, 480]);
    }
}
