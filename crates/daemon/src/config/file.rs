//! The configuration file: flat TOML, each value with the line it stands on.

use super::keys::Written;
use super::{Assignment, ConfigError, Source, place};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The assignments of a file in the order they stand there.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<Assignment>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: place(path, text, error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
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
    Ok(assignments.into_iter().map(|(_, assignment)| assignment).collect())
}
