//! The controller's records as lines of its log: what a person at the console reads of what it decides. Lines that
//! belong to an operation carry its id.

use control::Record;
use control::state::State;
use model::OperationId;

/// Tells of `record`; `state` is from before it or after it, and names what the record only numbers.
pub(super) fn narrate(state: &State, record: &Record) {
    match record {
        Record::LeaderElected { epoch, name, .. } => tracing::info!(%epoch, name, "this controller leads"),
        Record::ClusterAdopted { cluster } => tracing::info!(%cluster, "a cluster is taken under control"),
        Record::NodeAdded { node, .. } => tracing::info!(%node, "a node has joined"),
        Record::NodeLost { node, .. } => tracing::warn!(%node, "a node is lost"),
        Record::NodeReturned { node, .. } => tracing::info!(%node, "a lost node is back"),
        Record::NodeDraining { node, draining, .. } => tracing::info!(%node, draining, "an operator's mark"),
        Record::PinsEnded { .. } => tracing::info!("what was placed by hand may be moved again"),
        Record::MovesHeld { hold, .. } => tracing::info!(?hold, "an operator's word on moves"),
        Record::OperationAdded { operation } => tracing::info!(
            operation = %operation.id,
            kind = operation.name(),
            subject = operation.subject(),
            "queued"
        ),
        Record::OperationStarted { operation, .. } => {
            let (kind, subject) = described(state, *operation);
            tracing::info!(%operation, kind, subject, "started");
        }
        Record::StepStarted { operation, step, node, attempt, undo, .. } => {
            let class = class(state, *operation, *step);
            tracing::debug!(%operation, %step, %node, attempt, undo, class, "a command is sent");
        }
        Record::StepDone { operation, step, .. } => {
            tracing::debug!(%operation, %step, class = class(state, *operation, *step), "proven");
        }
        Record::StepFailed { operation, step, error, last } => {
            let class = class(state, *operation, *step);
            tracing::warn!(%operation, %step, class, last, error, "a step failed");
        }
        Record::StepSkipped { operation, step, why } => {
            tracing::info!(%operation, %step, class = class(state, *operation, *step), why, "passed over");
        }
        Record::UnwindStarted { operation, error, .. } => {
            tracing::warn!(%operation, error, "is taken back");
        }
        Record::StepUndone { operation, step } => {
            tracing::debug!(%operation, %step, class = class(state, *operation, *step), "taken back");
        }
        Record::OperationDone { operation, .. } => tracing::info!(%operation, "done"),
        Record::OperationFailed { operation, error, .. } => tracing::warn!(%operation, error, "failed"),
        Record::OperationCancelled { operation, why, .. } => tracing::info!(%operation, why, "cancelled"),
        Record::RebalancePlanned { reason, operations, copies, lower_bound, .. } => {
            tracing::info!(reason, operations = operations.len(), copies, lower_bound, "a plan");
        }
        Record::LeftBehind { node, group, tables, .. } => {
            let group = group.as_ref().map(ToString::to_string);
            tracing::info!(%node, group, tables = tables.len(), "may still hold what is not its any more");
        }
        Record::GroupsTakenUp { groups } => {
            tracing::info!(groups = groups.len(), "emptied groups are used again");
        }
        Record::GroupRf { group, rf } => tracing::info!(%group, rf, "all tables of the group want this rf"),
        Record::MemberCutOff { group, node } => {
            tracing::warn!(%group, %node, "a group goes on without this member, whose node answers: not routed");
        }
        Record::CopyCaughtUp { group, node } => {
            tracing::info!(%group, %node, "a copy on its way back is as new as those that went on without it");
        }
        Record::HistoryKnown { group, .. } => tracing::debug!(%group, "the group's history is known"),
        Record::GroupHalted { group, halt: Some(halt), .. } => {
            tracing::warn!(%group, ?halt, "the group has stopped on all members that answer: not routed");
        }
        Record::GroupHalted { group, halt: None, .. } => {
            tracing::info!(%group, "the group has a quorum again under its own history");
        }
        // Alerts are told of when they are announced, which the cooldown and silences have a say in.
        Record::AlertFired { alert } => tracing::debug!(kind = alert.kind, "an alert fires"),
        Record::AlertResolved { key, .. } => tracing::debug!(key, "an alert is over"),
        Record::AlertSilenced { silence } => {
            let kind = silence.kind.as_deref();
            tracing::info!(kind, labels = ?silence.labels, until = silence.until, "an operator silences alerts");
        }
        Record::FailuresSeen { before } => {
            tracing::info!(%before, "an operator has seen the failures so far");
        }
        Record::BackupTaken { backup } => tracing::info!(
            operation = %backup.operation,
            backup = %backup.id,
            rows = backup.rows,
            record = backup.record_path,
            "a table is recorded"
        ),
        Record::BackupSealed { backup, rows, bytes } => {
            tracing::info!(%backup, rows, bytes, "all documents of a backup are in their place");
        }
        Record::FailuresForgiven { .. } => tracing::info!("moves that failed are planned again"),
        Record::Forgotten { operations, .. } => {
            tracing::info!(operations = operations.len(), "what is older than its retention is forgotten");
        }
        Record::TokenAdded { token } => {
            tracing::info!(name = token.name, role = %token.role, "a token is made");
        }
        Record::TokenRevoked { name, .. } => tracing::info!(name, "a token is revoked"),
        Record::AuditMarked { mark } => tracing::trace!(last = mark.last, "how far the audit log goes"),
        Record::MemberServing { group, node } => {
            tracing::warn!(%group, %node, "a copy that was to leave stays: what should replace it is lost");
        }
    }
}

fn described(state: &State, id: OperationId) -> (&'static str, String) {
    state.operations.get(&id).map_or(("", String::new()), |known| (known.name(), known.subject()))
}

fn class(state: &State, operation: OperationId, step: model::StepId) -> &'static str {
    let step = state.operations.get(&operation).and_then(|operation| operation.step(step));
    step.map_or("", |step| step.work.class())
}
