//! What a node answers over HTTP (`/sql?mode=raw`), read into one shape.

use serde_json::{Map, Value};

/// A node's answer to one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No rows; `affected` documents were touched.
    Done {
        affected: u64,
        warning: String,
    },
    Rows(Rows),
    /// The node's own words.
    Error {
        message: String,
    },
}

/// A table of values as text, `None` for NULL. Every row has one value per column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    pub total: u64,
    pub warning: String,
}

/// An answer that is no answer of searchd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node's answer cannot be read ({reason}): is a searchd listening there, and of a known version?")]
pub struct BadReply {
    pub reason: String,
}

fn bad(reason: impl Into<String>) -> BadReply {
    BadReply { reason: reason.into() }
}

/// Reads the body of an HTTP answer; `status` is its HTTP status.
pub fn read(status: u16, body: &[u8]) -> Result<Reply, BadReply> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| bad(format!("HTTP {status}, no JSON: {error}")))?;
    read_value(&value).map_err(|error| bad(format!("HTTP {status}, {}", error.reason)))
}

/// The same of an answer that is JSON already: an error object, or a list with one result set.
pub fn read_value(value: &Value) -> Result<Reply, BadReply> {
    match value {
        Value::Object(object) => read_object(object),
        Value::Array(sets) => match sets.as_slice() {
            [Value::Object(set)] => read_set(set),
            sets => Err(bad(format!("{} result sets instead of one", sets.len()))),
        },
        _ => Err(bad("neither an object nor a list")),
    }
}

/// `{"error": "…"}`, or the longer form of other endpoints `{"error": {"type": …, "reason": …}}`.
fn read_object(object: &Map<String, Value>) -> Result<Reply, BadReply> {
    match object.get("error") {
        Some(Value::String(message)) => Ok(Reply::Error { message: message.clone() }),
        Some(Value::Object(error)) => match error.get("reason").and_then(Value::as_str) {
            Some(reason) => Ok(Reply::Error { message: reason.to_owned() }),
            None => Err(bad("an error without a reason")),
        },
        _ => Err(bad("an object without 'error'")),
    }
}

/// One member of the list: `{columns, data, total, error, warning}`, the first two absent where there are no rows.
fn read_set(set: &Map<String, Value>) -> Result<Reply, BadReply> {
    let text = |key: &str| set.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let error = text("error");
    if !error.is_empty() {
        return Ok(Reply::Error { message: error });
    }
    let total = set.get("total").and_then(Value::as_u64).unwrap_or_default();
    let Some(columns) = set.get("columns") else {
        return Ok(Reply::Done { affected: total, warning: text("warning") });
    };
    let columns = read_columns(columns)?;
    let data = set.get("data").and_then(Value::as_array).ok_or_else(|| bad("columns without data"))?;
    let rows = data.iter().map(|row| read_row(&columns, row)).collect::<Result<_, _>>()?;
    Ok(Reply::Rows(Rows { columns, rows, total, warning: text("warning") }))
}

fn read_columns(columns: &Value) -> Result<Vec<String>, BadReply> {
    let columns = columns.as_array().ok_or_else(|| bad("columns that are no list"))?;
    let name = |column: &Value| column.as_object().and_then(|column| column.keys().next().cloned());
    columns.iter().map(|column| name(column).ok_or_else(|| bad("a column without a name"))).collect()
}

fn read_row(columns: &[String], row: &Value) -> Result<Vec<Option<String>>, BadReply> {
    let row = row.as_object().ok_or_else(|| bad("a row that is no object"))?;
    Ok(columns.iter().map(|column| row.get(column).and_then(as_text)).collect())
}

/// A value as the MySQL port would show it: lists of numbers without brackets, other JSON as it is.
pub fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(values) if values.iter().all(Value::is_number) => {
            Some(values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        }
        other => Some(other.to_string()),
    }
}

impl Rows {
    /// The value in the column of this name (any case) of row `row`.
    pub fn value(&self, row: usize, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name.eq_ignore_ascii_case(column))?;
        self.rows.get(row)?.get(index)?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_shapes_are_read() {
        let rows = br#"[{"columns":[{"id":{"type":"long long"}},{"title":{"type":"string"}},{"tags":{"type":"mva"}}],
            "data":[{"id":-7,"title":"seven","tags":[1,2]},{"id":8,"title":null,"tags":[]}],"total":2,"error":"","warning":"w"}]"#;
        let Reply::Rows(rows) = read(200, rows).expect("reads") else { panic!("rows") };
        assert_eq!(rows.columns, ["id", "title", "tags"]);
        assert_eq!(rows.rows[0], [Some("-7".into()), Some("seven".into()), Some("1,2".into())]);
        assert_eq!(rows.rows[1], [Some("8".into()), None, Some(String::new())]);
        assert_eq!((rows.total, rows.warning.as_str(), rows.value(0, "ID")), (2, "w", Some("-7")));

        let done = br#"[{"total":1,"error":"","warning":""}]"#;
        assert_eq!(read(200, done), Ok(Reply::Done { affected: 1, warning: String::new() }));
        let error = br#"{"error":"unknown local table(s) 'nope' in search request"}"#;
        let message = "unknown local table(s) 'nope' in search request".to_owned();
        assert_eq!(read(500, error), Ok(Reply::Error { message }));
    }

    #[test]
    fn a_stranger_behind_the_port_is_no_answer() {
        for (status, body) in [
            (200, &b"<html>"[..]),
            (200, b"[]"),
            (200, b"[1]"),
            (404, br#"{"detail":"not found"}"#),
            (200, br#"[{"columns":[{"a":{}}]}]"#),
            (200, br#"[{"columns":[{}],"data":[]}]"#),
            (200, br#"[{"columns":[{"a":{}}],"data":[1]}]"#),
        ] {
            assert!(read(status, body).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
