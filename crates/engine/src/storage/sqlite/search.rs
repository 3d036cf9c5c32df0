//! Search queries as FTS5's.

use crate::sql::search::SearchQuery;
use crate::storage::words::words;
use crate::storage::{StorageError, TableSchema};

/// The FTS5 expression for `query`; `None` when it has no word that could be found.
pub(super) fn expression(query: &SearchQuery, schema: &TableSchema) -> Result<Option<String>, StorageError> {
    Ok(match query {
        SearchQuery::Everything => None,
        SearchQuery::Term { text, prefix } => {
            let mut quoted: Vec<String> = words(text).iter().map(|word| format!("\"{word}\"")).collect();
            if *prefix && let Some(last) = quoted.last_mut() {
                last.push('*');
            }
            join(quoted, " AND ")
        }
        SearchQuery::Phrase(text) => {
            let words = words(text);
            (!words.is_empty()).then(|| format!("\"{}\"", words.join(" ")))
        }
        SearchQuery::All(parts) => join(expressions(parts, schema)?, " AND "),
        SearchQuery::Any(parts) => join(expressions(parts, schema)?, " OR "),
        SearchQuery::AndNot { include, exclude } => {
            match (expression(include, schema)?, expression(exclude, schema)?) {
                (Some(include), Some(exclude)) => Some(format!("({include} NOT {exclude})")),
                (include, _) => include,
            }
        }
        SearchQuery::Fields { fields, except, inner } => {
            let columns: Vec<String> =
                columns(fields, *except, schema)?.iter().map(|at| format!("c{at}")).collect();
            if columns.is_empty() {
                return Ok(None);
            }
            expression(inner, schema)?.map(|inner| format!("{{{}}} : ({inner})", columns.join(" ")))
        }
    })
}

fn expressions(parts: &[SearchQuery], schema: &TableSchema) -> Result<Vec<String>, StorageError> {
    parts.iter().filter_map(|part| expression(part, schema).transpose()).collect()
}

fn join(parts: Vec<String>, operator: &str) -> Option<String> {
    match parts.len() {
        0 => None,
        1 => parts.into_iter().next(),
        _ => Some(format!("({})", parts.join(operator))),
    }
}

/// The column numbers that a field limit allows.
pub(super) fn columns(
    fields: &[String],
    except: bool,
    schema: &TableSchema,
) -> Result<Vec<usize>, StorageError> {
    for field in fields {
        if !schema.fields().any(|(_, name)| name == field) {
            return Err(StorageError::Refused(format!("query error: no field '{field}' found in schema")));
        }
    }
    Ok(schema
        .fields()
        .filter(|(_, name)| fields.iter().any(|field| field == name) != except)
        .map(|(at, _)| at)
        .collect())
}
