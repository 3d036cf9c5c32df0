//! What the driver tells the audit log: every record before it is appended, with who asked for it, and to the control log
//! how far the audit log goes.

use crate::audit::{Audit, AuditError, Entry, Event};
use control::operation::Operation;
use control::{Controller, Effects, Record, RequestId};
use model::{AuditMark, LogIndex, OperationId, Settings};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two marks in the control log: a cut of the lines of so long can go unseen.
const MARK_EVERY: Duration = Duration::from_secs(5);
/// Items of a list that a line tells one by one.
const ITEMS_MAX: usize = 20;

/// Who asked for something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) actor: String,
    pub(super) from: Option<String>,
    /// The line of the request in the audit log.
    pub(super) line: Option<u64>,
}

/// By request, those of one turn.
pub(super) type Origins = BTreeMap<RequestId, Origin>;

pub(super) struct Diary {
    audit: Option<Audit>,
    controller: String,
    /// Who ordered the operations that are not over, as far as this process knows.
    ordered: BTreeMap<OperationId, Origin>,
    marked: Option<AuditMark>,
    marked_at: Option<Instant>,
}

impl Diary {
    pub(super) fn new(audit: Option<Audit>, controller: &str) -> Self {
        let (ordered, controller) = (BTreeMap::new(), controller.to_owned());
        Self { audit, controller, ordered, marked: None, marked_at: None }
    }

    /// How far the audit log goes, when the control log is to know that again.
    pub(super) fn mark_due(&mut self) -> Option<AuditMark> {
        if self.marked_at.is_some_and(|at| at.elapsed() < MARK_EVERY) {
            return None;
        }
        let mark = self.audit.as_ref()?.mark(&self.controller)?;
        if self.marked.as_ref() == Some(&mark) {
            return None;
        }
        (self.marked, self.marked_at) = (Some(mark.clone()), Some(Instant::now()));
        Some(mark)
    }

    /// A line for each record that the settings want told. An error: nothing of it may be done.
    pub(super) fn write(
        &mut self,
        settings: &Settings,
        controller: &Controller,
        out: &Effects,
        origins: &Origins,
    ) -> Result<(), AuditError> {
        let Some(audit) = self.audit.clone() else { return Ok(()) };
        let mut entries = Vec::new();
        for (at, record) in out.records.iter().enumerate() {
            let asked = out.asked.iter().find(|(_, records)| records.contains(&at));
            let origin = asked.and_then(|(request, _)| origins.get(request));
            if let (Some(origin), Record::OperationAdded { operation }) = (origin, record) {
                self.ordered.insert(operation.id, origin.clone());
            }
            if let Some(mut entry) = entry(settings, record) {
                entry.log = Some(out.expected.0 + 1 + at as u64);
                let id = entry.operation.map(OperationId);
                if let Some(origin) = origin.or_else(|| self.ordered.get(&id?)) {
                    entry.actor.clone_from(&origin.actor);
                    entry.from.clone_from(&origin.from);
                    entry.request = origin.line;
                }
                entries.push(entry);
            }
        }
        self.ordered.retain(|id, _| controller.state().operations.contains_key(id));
        if !entries.is_empty() {
            audit.before(entries)?;
        }
        Ok(())
    }

    /// The records from `first` on were announced and are not in the control log, as far as this controller knows.
    pub(super) fn not_recorded(&self, first: LogIndex, count: usize, error: &store::AppendError) {
        if let Some(audit) = &self.audit {
            let mut entry = Entry::new(Event::NotRecorded, "controller", "records of the control log");
            entry.log = Some(first.0);
            entry.detail = Some(json!({ "records": count }));
            entry.result = Some(error.to_string());
            audit.after(vec![entry]);
        }
    }
}

/// The line for a record, without who asked for it.
fn entry(settings: &Settings, record: &Record) -> Option<Entry> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(record) else { return None };
    let name = fields.remove("record")?;
    if matches!(record, Record::AuditMarked { .. }) {
        return None;
    }
    let mut operation = fields.get("operation").and_then(Value::as_u64);
    if let Record::OperationAdded { operation: added } = record {
        operation = Some(added.id.0);
        fields = described(added);
    }
    // A graph of steps is for the control log.
    fields.remove("graph");
    fields.remove("operation");
    let is_about_moves = operation.is_some() || matches!(record, Record::RebalancePlanned { .. });
    let wanted =
        if is_about_moves { settings.log_all_rebalancing_operations } else { settings.log_state_changes };
    wanted.then(|| {
        let mut entry = Entry::new(Event::State, "controller", name.as_str().unwrap_or_default());
        entry.operation = operation;
        let detail: Map<String, Value> =
            fields.into_iter().map(|(key, value)| (key, shortened(value))).collect();
        entry.detail = (!detail.is_empty()).then_some(Value::Object(detail));
        entry
    })
}

fn described(operation: &Operation) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("kind".to_owned(), operation.name().into());
    fields.insert("subject".to_owned(), operation.subject().into());
    fields.insert("steps".to_owned(), operation.steps.len().into());
    fields
}

/// Long lists by their number of items.
fn shortened(value: Value) -> Value {
    match value {
        Value::Array(items) if items.len() > ITEMS_MAX => format!("{} items", items.len()).into(),
        Value::Array(items) => items.into_iter().map(shortened).collect(),
        Value::Object(fields) if fields.len() > ITEMS_MAX => format!("{} items", fields.len()).into(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, shortened(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{AccessToken, Role};

    #[test]
    fn a_record_is_told_when_the_settings_want_it_and_never_with_a_token() {
        let token = AccessToken {
            name: "ci".to_owned(),
            role: Role::Operator,
            sha256: "feed".repeat(16),
            created: 1,
            expires: None,
        };
        let added = Record::TokenAdded { token };
        let mut settings = Settings::default();
        let told = entry(&settings, &added).expect("told");
        assert_eq!((told.what.as_str(), told.operation), ("token_added", None));
        let dir = tempfile::tempdir().expect("a directory");
        let options =
            crate::audit::AuditOptions { syslog: None, retention_days: 1, failure_stops_changes: true };
        let audit = Audit::open(dir.path(), &options).expect("opens");
        audit.after(vec![told]);
        let lines = crate::audit::tail(&audit.directory(), 1, None).expect("read");
        let text = lines[0].to_string();
        assert!(text.contains("\"ci\"") && text.contains("operator") && !text.contains("feedfeed"), "{text}");
        settings.log_state_changes = false;
        assert_eq!(entry(&settings, &added), None);
        let done = Record::OperationDone { operation: OperationId(3), unix: 1 };
        assert_eq!(entry(&settings, &done).map(|entry| entry.operation), Some(Some(3)));
        settings.log_all_rebalancing_operations = false;
        assert_eq!(entry(&settings, &done), None);
    }
}
