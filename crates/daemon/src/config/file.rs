//! The configuration file: flat TOML, each value with the line it stands on.

use super::keys::Written;
use super::{Assignment, ConfigError, Source, line, place};
use std::collections::BTreeSet;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The assignments of a file in the order they stand there; what is no TOML goes to `errors`, and the rest is read on.
pub(super) fn read(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Assignment> {
    let (table, faults) = DeTable::parse_recoverable(text);
    // Of a line that cannot be read the first fault says why; those behind it follow from it.
    let mut broken = BTreeSet::new();
    for fault in &faults {
        let at = fault.span().map_or(0, |span| span.start);
        if broken.insert(line(text, at)) {
            errors.push(ConfigError::Syntax {
                place: place(path, text, at),
                reason: fault.message().to_owned(),
            });
        }
    }
    let mut found = assignments(path, text, &table);
    found.retain(|(at, _)| !broken.contains(&line(text, *at)));
    found.into_iter().map(|(_, assignment)| assignment).collect()
}

/// Each with where it begins.
fn assignments(path: &Path, text: &str, table: &toml::Spanned<DeTable<'_>>) -> Vec<(usize, Assignment)> {
    let mut assignments = Vec::with_capacity(table.get_ref().len());
    for (key, value) in table.get_ref() {
        let value_text = text.get(value.span()).unwrap_or_default();
        let written = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Written::Text(value_text.to_owned()), Written::Number),
            DeValue::Boolean(switch) => Written::Switch(*switch),
            DeValue::String(text) => Written::Text(text.clone().into_owned()),
            _ => Written::Text(value_text.to_owned()),
        };
        assignments.push((
            key.span().start,
            Assignment {
                place: place(path, text, key.span().start),
                key: key.get_ref().clone().into_owned(),
                value: written,
                source: Source::File,
            },
        ));
    }
    assignments.sort_by_key(|(at, _)| *at);
    assignments
}
