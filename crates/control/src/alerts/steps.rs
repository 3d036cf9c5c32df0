//! Steps that stand still: begun, or due, and nothing is seen to come of it.

use super::{alert, overdue};
use crate::Controller;
use crate::flight::StepKey;
use crate::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use crate::saga::ATTEMPTS_STUCK;
use model::api::Alert;
use model::{Action, Millis};
use std::collections::{BTreeMap, BTreeSet};

/// A copy of which no more is seen for so long. It is given up a while later, and its node may have to be restarted.
const COPY_STILL: Millis = Millis(60_000);
/// Any other step.
const STEP_STILL: Millis = Millis(120_000);

/// A step at one point of its way: whether it has begun, and how often it was seen to go on.
type Point = (StepKey, bool, u64);

/// Since when each step is where it is, as far as this controller saw it.
#[derive(Debug, Default)]
pub(super) struct Still {
    copies: BTreeMap<Point, Millis>,
    others: BTreeMap<Point, Millis>,
}

impl Controller {
    pub(super) fn of_steps_that_stand_still(
        &mut self,
        fires_already: impl Fn(&str, &[(&str, &str)]) -> bool,
    ) -> Vec<Alert> {
        let mut still = std::mem::take(&mut self.wrong.still);
        let due = self.steps_due();
        let known = |(key, ..): &Point| {
            let (operation, node) = (key.0.to_string(), self.node_of(*key));
            fires_already("standing_step", &[("operation", &operation), ("node", &node)])
        };
        let (copies, others): (BTreeSet<Point>, BTreeSet<Point>) =
            due.into_iter().partition(|(key, ..)| self.is_copy(*key));
        let late = [
            (overdue(&mut still.copies, &copies, self.now, COPY_STILL, known), COPY_STILL),
            (overdue(&mut still.others, &others, self.now, STEP_STILL, known), STEP_STILL),
        ];
        self.wrong.still = still;
        let late = late.iter().flat_map(|(points, limit)| points.iter().map(move |point| (point.0, *limit)));
        let mut told = BTreeSet::new();
        // One for each operation and node.
        late.filter(|(key, _)| told.insert((key.0, self.node_of(*key))))
            .filter_map(|(key, limit)| self.standing_step(key, limit))
            .collect()
    }

    /// Every step whose turn it is and that is to be over in moments, where it is now. One that is tried in vain has an alert
    /// of its own.
    fn steps_due(&self) -> BTreeSet<Point> {
        let waits_for_others = |operation: &&Operation| {
            matches!(
                operation.kind,
                Kind::Backup { .. } | Kind::Restore { .. } | Kind::ChangeRf { .. } | Kind::Import { .. }
            ) || operation.recovers()
        };
        let mut due = BTreeSet::new();
        for operation in self.state.active().filter(|operation| !waits_for_others(operation)) {
            for (id, step) in operation.numbered() {
                let begun = matches!(step.status, StepStatus::Started | StepStatus::Undoing);
                let ready = operation.status == Status::Running
                    && step.status == StepStatus::Pending
                    && operation.is_ready(step);
                let key = (operation.id, id);
                // Its turn to be taken back has come, and it waits.
                let goes_back = operation.status == Status::Unwinding
                    && matches!(step.status, StepStatus::Done | StepStatus::Failed)
                    && self.flights.waits.contains_key(&key);
                if (begun || ready) && step.attempts < ATTEMPTS_STUCK && is_short(step) || goes_back {
                    let went_on = self.flights.open.get(&key).map_or(0, |flight| flight.went_on);
                    due.insert((key, begun, went_on));
                }
            }
        }
        due
    }

    fn is_copy(&self, key: StepKey) -> bool {
        let flight = self.flights.open.get(&key);
        flight.is_some_and(|flight| matches!(flight.action, Action::JoinCluster { .. }))
    }

    fn node_of(&self, key: StepKey) -> String {
        let step = self.state.operations.get(&key.0).and_then(|operation| operation.step(key.1));
        step.and_then(|step| step.node.as_ref()).map(ToString::to_string).unwrap_or_default()
    }

    fn standing_step(&self, key: StepKey, limit: Millis) -> Option<Alert> {
        let operation = self.state.operations.get(&key.0)?;
        let step = operation.step(key.1)?;
        let (id, class, node) = (operation.id, step.work.class(), self.node_of(key));
        let waits = self.flights.waits.get(&key).or(step.error.as_ref());
        let why = waits.map_or(String::new(), |why| format!(": {why}"));
        let on = if node.is_empty() { String::new() } else { format!(" on {node}") };
        let seconds = limit.0 / 1_000;
        let message = format!(
            "operation {id} ({} {}): {class}{on}, step {id}.{}, stands still for more than {seconds} s{why}",
            operation.name(),
            operation.subject(),
            key.1
        );
        let action = if self.is_copy(key) {
            "no more of the copy is seen: look at the log of the node and of the node it copies from; where the JOIN never ends, restart searchd on the node, and the copy is brought anew"
        } else {
            "SHOW SHARDING QUEUE says what it waits for; look at the log of the node and of its sidecar"
        };
        Some(alert(
            "warning",
            "standing_step",
            message,
            action,
            &[("operation", id.to_string()), ("node", node)],
        ))
    }
}

/// Whether it takes moments when all is well.
const fn is_short(step: &Step) -> bool {
    match &step.work {
        Work::Command { action } => !matches!(action, Action::Optimize { .. } | Action::FlushRamchunk { .. }),
        work => !matches!(work, Work::Job { .. } | Work::AwaitTable { .. } | Work::AwaitRf { .. }),
    }
}
