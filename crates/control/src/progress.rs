//! How far a table's moves are, and when they will be done: the remaining critical path at measured rates.

use crate::Controller;
use crate::catalogue;
use crate::operation::{Kind, Operation, Status, StepStatus, Work};
use crate::state::Hold;
use model::operate::RebalanceProgress;
use model::{Action, GroupId, NodeId, OperationId, StepId, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// For a command, only while nothing at all was measured.
const FALLBACK_MS_PER_COMMAND: u64 = 5_000;

/// A move that is still to be done, or goes on.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The nodes that it occupies: who receives and who gives.
    pub to: NodeId,
    pub source: Option<NodeId>,
    /// What is left of it.
    pub ms: u64,
    pub running: bool,
}

/// When the last of `jobs` is done, in ms from now, with so many copies into and out of a node at once. They begin in
/// their order, each as soon as both its nodes have a place.
pub(crate) fn makespan(jobs: &[Job], into: u32, out_of: u32) -> u64 {
    let free = |limit: u32| vec![0u64; limit.max(1) as usize];
    let mut receives: BTreeMap<&NodeId, Vec<u64>> = BTreeMap::new();
    let mut gives: BTreeMap<&NodeId, Vec<u64>> = BTreeMap::new();
    let mut end_of_all = 0;
    let running = jobs.iter().filter(|job| job.running);
    for job in running.chain(jobs.iter().filter(|job| !job.running)) {
        let place = receives.entry(&job.to).or_insert_with(|| free(into));
        let (receiving, at) = earliest(place);
        let giving = job.source.as_ref().map(|source| {
            let place = gives.entry(source).or_insert_with(|| free(out_of));
            (source, earliest(place))
        });
        let begin = giving.map_or(at, |(_, (_, there))| at.max(there));
        let end = begin.saturating_add(job.ms);
        if let Some(place) = receives.get_mut(&job.to) {
            place[receiving] = end;
        }
        if let Some((source, (giving, _))) = giving
            && let Some(place) = gives.get_mut(source)
        {
            place[giving] = end;
        }
        end_of_all = end_of_all.max(end);
    }
    end_of_all
}

/// The place that is free first, and when.
fn earliest(places: &[u64]) -> (usize, u64) {
    places.iter().copied().enumerate().min_by_key(|(_, at)| *at).unwrap_or_default()
}

impl Controller {
    /// `None`: there is no such table.
    pub(crate) fn progress(&self, name: &TableName) -> Option<RebalanceProgress> {
        let homes: BTreeSet<&GroupId> = self.state.tables.get(name)?.homes.iter().collect();
        let touches = |operation: &&Operation| {
            operation.is_move()
                && (operation.table() == Some(name)
                    || operation.group().is_some_and(|group| homes.contains(group)))
        };
        let open: Vec<&Operation> = self.state.active().filter(touches).collect();
        let planned: BTreeSet<OperationId> =
            self.state.rebalance.iter().flat_map(|last| last.operations.iter().copied()).collect();
        let over: Vec<&Operation> =
            self.state.finished.iter().filter(|one| planned.contains(&one.id)).filter(touches).collect();
        let (mut transfers_total, mut transfers_done, mut bytes_total, mut bytes_done) =
            (0u64, 0u64, 0u64, 0u64);
        for operation in open.iter().copied().chain(over.iter().copied()) {
            let Kind::Move { group, .. } = &operation.kind else { continue };
            if operation.status == Status::Cancelled {
                continue;
            }
            let bytes = self.bytes_of(group);
            transfers_total += 1;
            bytes_total += bytes;
            if copied(operation) {
                transfers_done += 1;
                bytes_done += bytes;
            }
        }
        let pending: u64 = open.iter().map(|operation| self.commands_left(operation)).sum();
        let percentage = match (bytes_total, transfers_total) {
            (0, 0) => 100.0,
            (0, total) => transfers_done as f64 * 100.0 / total as f64,
            (total, _) => bytes_done as f64 * 100.0 / total as f64,
        };
        let active = open.iter().filter_map(|operation| self.pace.last_activity(operation.id));
        let ended = over.iter().filter_map(|operation| operation.finished_at);
        Some(RebalanceProgress {
            table: name.clone(),
            status: self.rebalance_status(name).to_owned(),
            queue_items_pending: pending,
            transfers_total,
            transfers_done,
            bytes_total,
            bytes_done,
            progress_percentage: percentage,
            estimated_completion: (pending > 0)
                .then(|| self.unix_now + self.remaining_ms(&open, pending).div_ceil(1000)),
            last_activity: active.chain(ended).max(),
            held: self.state.hold.map(|hold| hold.as_str().to_owned()),
            waits_for: open
                .iter()
                .filter(|operation| operation.status == Status::Queued)
                .find_map(|operation| self.is_held_back(operation)),
        })
    }

    /// `idle`, `queued`, `running`, `paused`, `completed` or `failed`: of the moves that touch the table.
    pub(crate) fn rebalance_status(&self, name: &TableName) -> &'static str {
        let Some(table) = self.state.tables.get(name) else { return "idle" };
        let touches = |operation: &Operation| {
            operation.is_move()
                && (operation.table() == Some(name)
                    || operation.group().is_some_and(|group| table.homes.contains(group)))
        };
        let mut queued = false;
        for operation in self.state.active().filter(|operation| touches(operation)) {
            match operation.status {
                Status::Queued => queued = true,
                _ => return "running",
            }
        }
        match self.state.hold {
            Some(Hold::Paused) => return "paused",
            Some(Hold::Stopped) if queued => return "paused",
            _ if queued => return "queued",
            _ => {}
        }
        let last = self.state.finished.iter().rev().find(|operation| touches(operation));
        match last.map(|operation| operation.status) {
            Some(Status::Done) => "completed",
            Some(Status::Failed) => "failed",
            _ => "idle",
        }
    }

    /// Milliseconds until these operations, of which `pending` commands are left, are done.
    fn remaining_ms(&self, open: &[&Operation], pending: u64) -> u64 {
        if self.pace.transfer_ms(0).is_none() && self.pace.command_ms().is_none() {
            return pending * FALLBACK_MS_PER_COMMAND;
        }
        let jobs: Vec<Job> = open.iter().filter_map(|operation| self.job_of_move(operation)).collect();
        let settings = &self.config.settings;
        makespan(&jobs, settings.transfers_in_per_node, settings.transfers_out_per_node)
    }

    /// The same for moves that are only planned, as pairs of group and ends.
    pub(crate) fn planned_ms(&self, moves: &[Operation]) -> u64 {
        let open: Vec<&Operation> = moves.iter().collect();
        let pending = open.iter().map(|operation| self.commands_left(operation)).sum();
        self.remaining_ms(&open, pending)
    }

    fn job_of_move(&self, operation: &Operation) -> Option<Job> {
        let graph = self.graph_for_estimate(operation);
        let graph = graph.as_ref().unwrap_or(operation);
        let node = |step: &crate::operation::Step| step.node.clone();
        let (to, source) = match &operation.kind {
            Kind::Move { to, .. } => (to.clone(), graph.steps.iter().find_map(donor_of)),
            Kind::Shed { from, .. } => (from.clone(), None),
            // Its members all work on it at once.
            _ => (graph.steps.iter().find_map(node)?, None),
        };
        let running = operation.status != Status::Queued;
        Some(Job { to, source, ms: self.path_ms(operation.id, graph), running })
    }

    /// The longest way through the steps that are left.
    fn path_ms(&self, id: OperationId, graph: &Operation) -> u64 {
        let command = self.pace.command_ms().or_else(|| self.pace.transfer_ms(0)).unwrap_or_default();
        let mut ends: Vec<u64> = Vec::with_capacity(graph.steps.len());
        for (number, step) in graph.numbered() {
            let before = step.after.iter().filter_map(|after| ends.get(usize::try_from(after.0).ok()?)).max();
            let own = match &step.work {
                _ if !graph.is_open(step) => 0,
                Work::Command { action: Action::JoinCluster { group, .. } } => {
                    self.pace.transfer_ms(self.bytes_of(group)).unwrap_or(command)
                }
                work if work.is_internal() => 0,
                _ => command,
            };
            ends.push(
                before.copied().unwrap_or(0) + own.saturating_sub(self.spent_ms(id, number, step.status)),
            );
        }
        ends.into_iter().max().unwrap_or(0)
    }

    /// How long the step's command is under way.
    fn spent_ms(&self, id: OperationId, step: StepId, status: StepStatus) -> u64 {
        let flight = self.flights.open.get(&(id, step)).filter(|_| status == StepStatus::Started);
        flight.map_or(0, |flight| self.now.since(flight.sent).0)
    }

    /// The steps that an operation would have if it began now.
    fn graph_for_estimate(&self, operation: &Operation) -> Option<Operation> {
        let (id, unix) = (operation.id, operation.created_at);
        match &operation.kind {
            _ if !operation.steps.is_empty() => None,
            Kind::Move { group, to, from, reason, .. } => {
                catalogue::move_group(&self.state, id, group, to, from.as_ref(), reason, unix)
            }
            Kind::Shed { group, from, reason, .. } => {
                catalogue::shed(&self.state, id, group, from, reason, unix)
            }
            _ => None,
        }
    }

    fn commands_left(&self, operation: &Operation) -> u64 {
        let graph = self.graph_for_estimate(operation);
        let graph = graph.as_ref().unwrap_or(operation);
        // One that has no steps yet will have some.
        (graph.steps.iter().filter(|step| graph.is_open(step)).count() as u64).max(1)
    }
}

fn donor_of(step: &crate::operation::Step) -> Option<NodeId> {
    match &step.work {
        Work::Command { action: Action::JoinCluster { at, .. } } => Some(at.clone()),
        _ => None,
    }
}

/// Whether the new copy of a move is there.
fn copied(operation: &Operation) -> bool {
    let joins = |work: &Work| matches!(work, Work::Command { action: Action::JoinCluster { .. } });
    operation.status == Status::Done
        || operation.status == Status::Running
            && operation.steps.iter().any(|step| joins(&step.work) && step.status.lets_go_on())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u32) -> NodeId {
        NodeId::new(format!("h:{n}")).expect("valid")
    }

    fn job(to: u32, source: u32, ms: u64, running: bool) -> Job {
        Job { to: node(to), source: Some(node(source)), ms, running }
    }

    #[test]
    fn moves_wait_for_places_on_both_nodes() {
        assert_eq!(makespan(&[], 2, 2), 0);
        let three = [job(1, 2, 100, false), job(1, 2, 100, false), job(1, 2, 100, false)];
        assert_eq!(makespan(&three, 2, 2), 200, "two at once");
        assert_eq!(makespan(&three, 1, 2), 300, "one into a node");
        assert_eq!(makespan(&three, 9, 1), 300, "one out of a node");
        let apart = [job(1, 2, 100, false), job(3, 4, 250, false)];
        assert_eq!(makespan(&apart, 1, 1), 250, "nodes that share nothing work at once");
        let begun = [job(1, 2, 100, false), job(1, 3, 40, true)];
        assert_eq!(makespan(&begun, 1, 1), 140, "what runs has its place first");
    }
}
