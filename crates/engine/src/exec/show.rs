//! Tables in words: DESC, SHOW CREATE TABLE, SHOW TABLES.

use crate::io::{Column, ColumnKind, ResultSet, Value};
use crate::sql::{ast::ColumnType, shown_column};
use crate::storage::TableSchema;
use model::sql::Literal;
use std::fmt::Write;

/// A result of texts. Each row has as many as there are names.
fn texts(names: &[&str], rows: Vec<Vec<String>>) -> ResultSet {
    let columns =
        names.iter().map(|name| Column { name: (*name).to_owned(), kind: ColumnKind::Text }).collect();
    let total = rows.len() as u64;
    let rows = rows.into_iter().map(|row| row.into_iter().map(Value::Text).collect()).collect();
    ResultSet { columns, rows, total, warning: String::new() }
}

/// `DESC`: the same for a table and for a routing table of these columns.
pub fn describe(schema: &TableSchema) -> ResultSet {
    let line = |name: &str, kind: &str, properties: &str| {
        vec![name.to_owned(), kind.to_owned(), properties.to_owned()]
    };
    let mut rows = vec![line("id", "bigint", "")];
    for column in schema.columns() {
        let (kind, properties) = match column.kind {
            ColumnType::Text { indexed: true, stored: true } => ("text", "indexed stored"),
            ColumnType::Text { indexed: true, .. } => ("text", "indexed"),
            ColumnType::Text { .. } => ("text", "stored"),
            ColumnType::String => ("string", ""),
            ColumnType::Uint => ("uint", ""),
            ColumnType::Bigint => ("bigint", ""),
            ColumnType::Float => ("float", ""),
            ColumnType::Bool => ("bool", ""),
            ColumnType::Timestamp => ("timestamp", ""),
            ColumnType::Json => ("json", ""),
            ColumnType::Multi => ("mva", ""),
            ColumnType::Multi64 => ("mva64", ""),
        };
        rows.push(line(&column.name, kind, properties));
    }
    texts(&["Field", "Type", "Properties"], rows)
}

/// `SHOW CREATE TABLE`, its one row. `options` stand behind the columns; for a plain table they are the schema's own.
pub fn create_table_text(table: &str, schema: &TableSchema, options: &[(String, String)]) -> ResultSet {
    let mut text = format!("CREATE TABLE {table} (\nid bigint");
    for column in schema.columns() {
        let kind = match column.kind {
            ColumnType::Text { indexed: true, stored: true } => "text",
            ColumnType::Text { indexed: true, .. } => "text indexed",
            ColumnType::Text { .. } => "text stored",
            ColumnType::String => "string",
            ColumnType::Uint => "integer",
            ColumnType::Bigint => "bigint",
            ColumnType::Float => "float",
            ColumnType::Bool => "bool",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Json => "json",
            ColumnType::Multi => "multi",
            ColumnType::Multi64 => "multi64",
        };
        let _ = write!(text, ",\n{} {kind}", shown_column(&column.name));
    }
    text.push_str("\n)");
    for (key, value) in options {
        let _ = write!(text, " {key}={}", Literal(value));
    }
    texts(&["Table", "Create Table"], vec![vec![table.to_owned(), text]])
}

/// `SHOW TABLES` over `(name, type)`; with `system` the tables named `system.…` and no others, by name.
pub fn show_tables<'a>(
    tables: impl IntoIterator<Item = (&'a str, &'a str)>,
    system: bool,
    pattern: Option<&str>,
) -> ResultSet {
    let mut rows: Vec<Vec<String>> = tables
        .into_iter()
        .filter(|(name, _)| name.starts_with("system.") == system)
        .filter(|(name, _)| pattern.is_none_or(|pattern| like(pattern, name)))
        .map(|(name, kind)| vec![name.to_owned(), kind.to_owned()])
        .collect();
    rows.sort();
    texts(&["Table", "Type"], rows)
}

/// Whether `text` fits a LIKE pattern: `%` is any text, `_` any one character; case does not matter.
pub fn like(pattern: &str, text: &str) -> bool {
    // Counters are many and most of what is asked for is a beginning: no copies of them are made for that.
    if let Some(start) = pattern.strip_suffix('%')
        && start.is_ascii()
        && !start.contains(['%', '_'])
    {
        return text.get(..start.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(start));
    }
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let (mut at, mut read) = (0, 0);
    // Where to try again when the rest does not fit: behind the last `%`, one character later.
    let mut retry: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('%') => {
                at += 1;
                retry = Some((at, read));
            }
            Some(wanted) if *wanted == '_' || *wanted == text[read] => {
                at += 1;
                read += 1;
            }
            _ => match retry {
                Some((behind, begun)) => {
                    (at, read) = (behind, begun + 1);
                    retry = Some((behind, begun + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '%')
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn patterns_match_as_in_sql() {
        for (pattern, text, expected) in [
            ("cluster_c_%", "cluster_c_status", true),
            ("cluster_c_%", "cluster_d_status", false),
            ("cluster%", "cluster", true),
            ("Cluster%", "clusteR_c", true),
            ("cluster%", "cluste", false),
            ("cl%", "c\u{e9}", false),
            ("%", "", true),
            ("%a%b", "xaxbxab", true),
            ("%a%b", "xaxbxa", false),
            ("_", "", false),
            ("T_", "t1", true),
            ("", "", true),
            ("%%", "", true),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
