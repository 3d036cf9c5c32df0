//! What is counted and timed while the controller works: since this process began, for `/metrics`.
//!
//! The driver tells of every record and every write, looks and sinks of their ends. One lock, held for some additions.

use super::exposition::{Histogram, Kind, LONG_SECONDS, Page, SHORT_SECONDS};
use control::Record;
use control::operation::{Kind as OperationKind, Operation};
use control::state::State;
use model::{OperationId, Reach, StepId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Steps whose start is remembered; more are under way only when something is badly wrong, and then go untimed.
const STARTED_MAX: usize = 100_000;

type Labels = (&'static str, &'static str);

#[derive(Debug)]
struct Counts {
    /// By kind and outcome.
    steps: BTreeMap<Labels, u64>,
    step_seconds: BTreeMap<&'static str, Histogram>,
    operation_seconds: BTreeMap<Labels, Histogram>,
    transfer_seconds: Histogram,
    started: BTreeMap<(OperationId, StepId), Instant>,
    turn_seconds: Histogram,
    planner_seconds: Histogram,
    planned_copies: u64,
    planned_bound: u64,
    append_seconds: Histogram,
    records: u64,
    conflicts: u64,
    append_failures: u64,
    leader_changes: u64,
    poll_seconds: Histogram,
    polls: BTreeMap<&'static str, u64>,
    notifications: BTreeMap<Labels, u64>,
    spans: BTreeMap<&'static str, u64>,
}

/// All meters of a controller.
#[derive(Debug)]
pub(super) struct Meters(Mutex<Counts>);

impl Default for Meters {
    fn default() -> Self {
        Self(Mutex::new(Counts {
            steps: BTreeMap::new(),
            step_seconds: BTreeMap::new(),
            operation_seconds: BTreeMap::new(),
            transfer_seconds: Histogram::new(LONG_SECONDS),
            started: BTreeMap::new(),
            turn_seconds: Histogram::new(SHORT_SECONDS),
            planner_seconds: Histogram::new(SHORT_SECONDS),
            planned_copies: 0,
            planned_bound: 0,
            append_seconds: Histogram::new(SHORT_SECONDS),
            records: 0,
            conflicts: 0,
            append_failures: 0,
            leader_changes: 0,
            poll_seconds: Histogram::new(SHORT_SECONDS),
            polls: BTreeMap::new(),
            notifications: BTreeMap::new(),
            spans: BTreeMap::new(),
        }))
    }
}

impl Meters {
    /// Additions cannot leave anything half done, so a panic of another thread spoils nothing.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One turn of the operator, and whether the planner ran in it.
    pub(super) fn turn(&self, took: Duration, planned: bool) {
        let mut counts = self.counts();
        counts.turn_seconds.observe(took.as_secs_f64());
        if planned {
            counts.planner_seconds.observe(took.as_secs_f64());
        }
    }

    pub(super) fn appended(&self, took: Duration, records: usize) {
        let mut counts = self.counts();
        counts.append_seconds.observe(took.as_secs_f64());
        counts.records += records as u64;
    }

    pub(super) fn not_appended(&self, conflict: bool) {
        let mut counts = self.counts();
        if conflict {
            counts.conflicts += 1;
        } else {
            counts.append_failures += 1;
        }
    }

    pub(super) fn leader_changed(&self) {
        self.counts().leader_changes += 1;
    }

    pub(super) fn polled(&self, took: Duration, reach: Reach) {
        let mut counts = self.counts();
        let outcome = match reach {
            Reach::Answered => "answered",
            Reach::Refused => "refused",
            Reach::Silent => "silent",
        };
        *counts.polls.entry(outcome).or_default() += 1;
        if reach == Reach::Answered {
            counts.poll_seconds.observe(took.as_secs_f64());
        }
    }

    pub(super) fn notified(&self, sink: &'static str, outcome: &'static str, alerts: usize) {
        *self.counts().notifications.entry((sink, outcome)).or_default() += alerts as u64;
    }

    /// Spans of traces that were sent to a collector, or were not.
    pub(super) fn exported(&self, outcome: &'static str, spans: usize) {
        *self.counts().spans.entry(outcome).or_default() += spans as u64;
    }

    /// A durable record; `state` is from after it.
    pub(super) fn record(&self, state: &State, record: &Record) {
        let mut counts = self.counts();
        match record {
            Record::LeaderElected { .. } => counts.leader_changes += 1,
            Record::StepStarted { operation, step, attempt, undo, .. }
                if (*attempt == 1 || *undo) && counts.started.len() < STARTED_MAX =>
            {
                counts.started.insert((*operation, *step), Instant::now());
            }
            Record::StepDone { operation, step, .. } => counts.ended(state, *operation, *step, "done"),
            Record::StepUndone { operation, step } => counts.ended(state, *operation, *step, "undone"),
            Record::StepSkipped { operation, step, .. } => {
                counts.ended(state, *operation, *step, "skipped");
            }
            Record::StepFailed { operation, step, last, .. } => {
                counts.ended(state, *operation, *step, if *last { "failed" } else { "retried" });
            }
            Record::OperationDone { operation, .. } => counts.finished(state, *operation, "done"),
            Record::OperationFailed { operation, .. } => counts.finished(state, *operation, "failed"),
            Record::OperationCancelled { operation, .. } => {
                counts.finished(state, *operation, "cancelled");
            }
            Record::RebalancePlanned { copies, lower_bound, .. } => {
                counts.planned_copies += copies;
                counts.planned_bound += lower_bound;
            }
            _ => {}
        }
    }

    pub(super) fn show(&self, page: &mut Page) {
        let counts = self.counts();
        counts.show_work(page);
        counts.show_log(page);
        counts.show_nodes(page);
    }
}

impl Counts {
    fn ended(&mut self, state: &State, operation: OperationId, step: StepId, outcome: &'static str) {
        let Some(known) = find(state, operation) else { return };
        let Some(class) = known.step(step).map(|step| step.work.class()) else { return };
        *self.steps.entry((class, outcome)).or_default() += 1;
        if outcome == "retried" {
            return;
        }
        let Some(began) = self.started.remove(&(operation, step)) else { return };
        let seconds = began.elapsed().as_secs_f64();
        if outcome == "done" {
            let histogram = self.step_seconds.entry(class).or_insert_with(|| Histogram::new(LONG_SECONDS));
            histogram.observe(seconds);
            if class == "JOIN CLUSTER" && matches!(known.kind, OperationKind::Move { .. }) {
                self.transfer_seconds.observe(seconds);
            }
        }
    }

    fn finished(&mut self, state: &State, id: OperationId, outcome: &'static str) {
        self.started.retain(|(operation, _), _| *operation != id);
        let Some(known) = find(state, id) else { return };
        // One that never began took no time.
        let Some((began, ended)) = known.started_at.zip(known.finished_at) else { return };
        let histogram = self
            .operation_seconds
            .entry((known.name(), outcome))
            .or_insert_with(|| Histogram::new(LONG_SECONDS));
        histogram.observe(ended.saturating_sub(began) as f64);
    }

    fn show_work(&self, page: &mut Page) {
        page.family(
            "steps_total",
            Kind::Counter,
            "Ends of tries of steps, by kind and outcome, since the start of this process.",
        );
        for ((kind, outcome), count) in &self.steps {
            page.sample("steps_total", &[("kind", kind), ("outcome", outcome)], count);
        }
        let name = "step_duration_seconds";
        page.family(name, Kind::Histogram, "From the first command of a step to its proof, by kind.");
        for (kind, histogram) in &self.step_seconds {
            page.histogram(name, &[("kind", kind)], histogram);
        }
        let name = "operation_duration_seconds";
        page.family(name, Kind::Histogram, "From start to end of operations, by kind and outcome.");
        for ((kind, outcome), histogram) in &self.operation_seconds {
            page.histogram(name, &[("kind", kind), ("outcome", outcome)], histogram);
        }
        let name = "transfer_duration_seconds";
        page.family(
            name,
            Kind::Histogram,
            "Copies of groups onto other nodes, from JOIN to the proof that it is synced.",
        );
        page.histogram(name, &[], &self.transfer_seconds);
        let name = "planner_duration_seconds";
        page.family(name, Kind::Histogram, "Turns of the operator in which the planner ran.");
        page.histogram(name, &[], &self.planner_seconds);
        let name = "turn_duration_seconds";
        page.family(name, Kind::Histogram, "All turns of the operator.");
        page.histogram(name, &[], &self.turn_seconds);
        let (copies, bound) = ("planned_copies_total", "planned_lower_bound_total");
        page.single(
            copies,
            Kind::Counter,
            "Units that plans asked to copy, since the start of this process.",
            self.planned_copies,
        );
        page.single(
            bound,
            Kind::Counter,
            "The fewest units that could have been copied for them.",
            self.planned_bound,
        );
    }

    fn show_log(&self, page: &mut Page) {
        let name = "log_append_duration_seconds";
        page.family(name, Kind::Histogram, "Durable writes to the control log.");
        page.histogram(name, &[], &self.append_seconds);
        page.single("log_records_total", Kind::Counter, "Records written to the control log.", self.records);
        let conflicts = "Writes to the control log that another controller was faster than.";
        page.single("log_conflicts_total", Kind::Counter, conflicts, self.conflicts);
        let failures = "Writes to the control log that failed.";
        page.single("log_append_failures_total", Kind::Counter, failures, self.append_failures);
        let changes = "Changes of the leader that this process saw, its own election included.";
        page.single("leader_changes_total", Kind::Counter, changes, self.leader_changes);
    }

    fn show_nodes(&self, page: &mut Page) {
        let name = "node_poll_duration_seconds";
        page.family(name, Kind::Histogram, "Looks at nodes that were answered.");
        page.histogram(name, &[], &self.poll_seconds);
        page.family("node_polls_total", Kind::Counter, "Looks at nodes, by how they ended.");
        for (outcome, count) in &self.polls {
            page.sample("node_polls_total", &[("outcome", outcome)], count);
        }
        page.family("trace_spans_total", Kind::Counter, "Spans for the collector of traces, by outcome.");
        for (outcome, count) in &self.spans {
            page.sample("trace_spans_total", &[("outcome", outcome)], count);
        }
        let name = "alert_notifications_total";
        page.family(name, Kind::Counter, "Alerts told, by sink and outcome.");
        for ((sink, outcome), count) in &self.notifications {
            page.sample(name, &[("sink", sink), ("outcome", outcome)], count);
        }
    }
}

/// One under way, or that just ended.
fn find(state: &State, id: OperationId) -> Option<&Operation> {
    let ended = || state.finished.iter().rev().find(|operation| operation.id == id);
    state.operations.get(&id).or_else(ended)
}
