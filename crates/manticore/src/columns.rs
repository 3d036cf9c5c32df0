//! Column declarations and table options: read from statements, compared, and never more than words and values.

use crate::cursor::Cursor;
use model::sql::{Literal, TokenKind};
use model::{ColumnSpec, Schema};
use std::fmt::Write as _;

/// Far above what anyone names a column.
const COLUMN_NAME_BYTES_MAX: usize = 255;

/// Reads the columns behind an opening bracket, up to and with the closing one.
/// `None` when they do not read; the cursor then stands near the fault.
pub(crate) fn read_columns(cursor: &mut Cursor<'_>) -> Option<Vec<ColumnSpec>> {
    let mut columns = Vec::new();
    if cursor.symbol(")") {
        return Some(columns);
    }
    loop {
        let name = cursor.name()?.to_owned();
        columns.push(ColumnSpec { name, kind: read_kind(cursor)? });
        if cursor.symbol(")") {
            return Some(columns);
        }
        if !cursor.symbol(",") {
            return None;
        }
    }
}

/// `text indexed stored`, `float_vector knn_type='hnsw' knn_dims='4'`, `bit(8)`: at least one word.
fn read_kind(cursor: &mut Cursor<'_>) -> Option<String> {
    let mut kind = String::new();
    while let Some(word) = bare_word(cursor) {
        if !kind.is_empty() {
            kind.push(' ');
        }
        kind.push_str(&word.to_ascii_lowercase());
        if cursor.symbol("=") {
            let value = read_value(cursor)?;
            let _ = write!(kind, "={}", Literal(&value));
        } else if cursor.symbol("(") {
            let digits = read_number(cursor)?;
            let _ = write!(kind, "({digits})");
            if !cursor.symbol(")") {
                return None;
            }
        }
    }
    if kind.is_empty() { None } else { Some(kind) }
}

fn bare_word<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    match cursor.peek()?.kind {
        TokenKind::Word(word) if !word.starts_with('@') => cursor.name(),
        _ => None,
    }
}

fn read_number(cursor: &mut Cursor<'_>) -> Option<String> {
    let TokenKind::Number(digits) = cursor.peek()?.kind else { return None };
    let digits = digits.to_owned();
    cursor.next();
    Some(digits)
}

/// A quoted value, or a bare number as older versions wrote them.
pub(crate) fn read_value(cursor: &mut Cursor<'_>) -> Option<String> {
    cursor.text().or_else(|| read_number(cursor))
}

/// The type as read and written anew; `None` when it is more than words, numbers and quoted values.
pub fn normalized_kind(kind: &str) -> Option<String> {
    let mut cursor = Cursor::new(kind).ok()?;
    let kind = read_kind(&mut cursor)?;
    cursor.at_end().then_some(kind)
}

/// Whether searchd's backticks can hold a column's name: letters, digits and underlines, and nothing else. A dot is that of
/// physical names, and any other character an `invalid token`.
pub fn is_column_name(name: &str) -> bool {
    (1..=COLUMN_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `key` can be an option of a table's content: a word, and none that routing tables or sharding own.
pub fn is_table_option(key: &str) -> bool {
    let word = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let owned = ["type", "local", "agent", "shards", "rf", "timeout"];
    word && !owned.iter().any(|owned| key.eq_ignore_ascii_case(owned))
}

/// The columns of a schema in one spelling, without `id`: what is compared to decide whether two tables have the
/// same columns. `int`, `integer` and `uint` are one type, and so on.
pub fn canonical(schema: &Schema) -> Vec<(String, String)> {
    let not_id = |column: &&ColumnSpec| !column.name.eq_ignore_ascii_case("id");
    let spelled = |column: &ColumnSpec| (column.name.to_ascii_lowercase(), canonical_kind(&column.kind));
    let mut columns: Vec<_> = schema.columns.iter().filter(not_id).map(spelled).collect();
    // searchd keeps full-text fields before attributes, in whichever order they were declared.
    columns.sort_by_key(|(_, kind)| !kind.starts_with("text"));
    columns
}

fn canonical_kind(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    let mut words = lower.split_whitespace();
    let first = match words.next().unwrap_or_default() {
        "int" | "integer" => "uint",
        "mva" | "uint_set" => "multi",
        "mva64" | "int64_set" => "multi64",
        "boolean" => "bool",
        other => other,
    };
    let mut properties: Vec<&str> = words.collect();
    properties.sort_unstable();
    properties.dedup();
    // Defaults that searchd shows although nobody declared them.
    if first == "text" && properties == ["indexed", "stored"]
        || first == "string" && properties == ["attribute"]
    {
        properties.clear();
    }
    properties.insert(0, first);
    properties.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, &str)]) -> Schema {
        let spec = |(name, kind): &(&str, &str)| ColumnSpec { name: (*name).into(), kind: (*kind).into() };
        Schema { columns: columns.iter().map(spec).collect(), options: Vec::new() }
    }

    #[test]
    fn a_type_is_words_numbers_and_quoted_values_and_nothing_else() {
        for (kind, normal) in [
            ("TEXT Indexed  stored", Some("text indexed stored")),
            ("float_vector KNN_TYPE = 'hnsw' knn_dims=4", Some("float_vector knn_type='hnsw' knn_dims='4'")),
            ("bit( 8 )", Some("bit(8)")),
            ("text engine='it\\'s'", Some("text engine='it\\'s'")),
            ("", None),
            ("text, x int", None),
            ("text) type='pq'", None),
            ("text; DROP TABLE t", None),
            ("`text`", None),
            ("bit(x)", None),
        ] {
            assert_eq!(normalized_kind(kind).as_deref(), normal, "{kind}");
        }
    }

    #[test]
    fn the_same_columns_compare_equal_however_they_are_spelled() {
        let declared = schema(&[("Title", "text"), ("v", "int"), ("tags", "multi")]);
        let shown =
            schema(&[("id", "bigint"), ("title", "text indexed stored"), ("v", "uint"), ("tags", "mva")]);
        assert_eq!(canonical(&declared), canonical(&shown));
        for other in [
            schema(&[("title", "text indexed"), ("v", "int"), ("tags", "multi")]),
            schema(&[("title", "text"), ("v", "bigint"), ("tags", "multi")]),
            schema(&[("title", "text"), ("v", "int")]),
        ] {
            assert_ne!(canonical(&other), canonical(&shown));
        }
        assert_eq!(
            canonical(&schema(&[("v", "int"), ("title", "text")])),
            canonical(&schema(&[("title", "text"), ("v", "uint")]))
        );
    }

    #[test]
    fn options_that_sharding_owns_are_no_table_options() {
        assert!(is_table_option("min_infix_len"));
        for key in ["type", "AGENT", "local", "shards", "a b", "x'", ""] {
            assert!(!is_table_option(key), "{key}");
        }
    }
}
