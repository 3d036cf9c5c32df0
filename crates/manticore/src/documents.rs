//! Documents as a backup reads and writes them: values as a node gives them, and back into a statement, unchanged.

use crate::reply::BadReply;
use model::Cell;
use model::sql::Ident;
use serde_json::{Map, Value};
use std::fmt;

/// Whole documents in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// `id` is one of them.
    pub columns: Vec<String>,
    /// One value per column, as the node's JSON has it.
    pub rows: Vec<Vec<Value>>,
}

impl Documents {
    /// The id of a row.
    pub fn id(&self, row: usize) -> Option<i64> {
        let column = self.columns.iter().position(|name| name == "id")?;
        id_of(self.rows.get(row)?.get(column)?)
    }
}

/// Ids are 64 bits; some versions show them unsigned.
pub fn id_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_u64().map(|id| id as i64)),
        Value::String(text) => text.parse().ok().or_else(|| text.parse::<u64>().ok().map(|id| id as i64)),
        _ => None,
    }
}

/// Reads the body of the answer to a page, with its values as they are. The inner error is the node's own words.
pub fn read(status: u16, body: &[u8]) -> Result<Result<Documents, String>, BadReply> {
    let bad = |reason: String| BadReply { reason: format!("HTTP {status}, {reason}") };
    let value: Value = serde_json::from_slice(body).map_err(|error| bad(format!("no JSON: {error}")))?;
    let set = match value {
        Value::Array(mut sets) if sets.len() == 1 => sets.remove(0),
        Value::Object(object) => match object.get("error") {
            Some(Value::String(error)) => return Ok(Err(error.clone())),
            Some(error) => return Ok(Err(error.to_string())),
            None => return Err(bad("an object without 'error'".to_owned())),
        },
        _ => return Err(bad("not one result set".to_owned())),
    };
    let Value::Object(mut set) = set else { return Err(bad("a set that is no object".to_owned())) };
    match set.get("error").and_then(Value::as_str) {
        None | Some("") => {}
        Some(error) => return Ok(Err(error.to_owned())),
    }
    let (Some(Value::Array(columns)), Some(Value::Array(data))) = (set.remove("columns"), set.remove("data"))
    else {
        return Err(bad("no rows".to_owned()));
    };
    let name = |column: &Value| column.as_object().and_then(|column| column.keys().next().cloned());
    let columns: Option<Vec<String>> = columns.iter().map(name).collect();
    let columns = columns.ok_or_else(|| bad("a column without a name".to_owned()))?;
    let rows = data.into_iter().map(|row| match row {
        Value::Object(row) => values(&columns, row).map_err(bad),
        _ => Err(bad("a row that is no object".to_owned())),
    });
    let rows = rows.collect::<Result<_, _>>()?;
    Ok(Ok(Documents { columns, rows }))
}

fn values(columns: &[String], mut row: Map<String, Value>) -> Result<Vec<Value>, String> {
    columns.iter().map(|column| row.remove(column).ok_or_else(|| format!("a row without {column}"))).collect()
}

/// The value of a column of this declared type. What is no value of the type is an error, and never bent.
pub fn cell(kind: &str, value: &Value) -> Result<Cell, String> {
    let wrong = || format!("{value} is no value of type {kind}");
    let word = kind.split([' ', '(']).next().unwrap_or_default();
    match word {
        "text" | "string" => match value {
            Value::String(text) => Ok(Cell::Text(text.clone())),
            Value::Null => Ok(Cell::Text(String::new())),
            _ => Err(wrong()),
        },
        "json" => match value {
            Value::String(text) => Ok(Cell::Text(text.clone())),
            // The empty text is how searchd is told that there is none.
            Value::Null => Ok(Cell::Text(String::new())),
            other => Ok(Cell::Text(other.to_string())),
        },
        "multi" | "multi64" | "mva" | "mva64" | "uint_set" | "int64_set" | "float_vector" => {
            list(value).map(Cell::List).ok_or_else(wrong)
        }
        _ => number(value).map(Cell::Number).ok_or_else(wrong),
    }
}

/// A document's id. Statements take it without sign.
pub fn id_cell(id: i64) -> Cell {
    Cell::Number((id as u64).to_string())
}

fn list(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.iter().map(number).collect(),
        Value::String(text) if text.is_empty() => Some(Vec::new()),
        Value::String(text) => text.split(',').map(|one| numeric(one.trim())).collect(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => numeric(&number.to_string()),
        Value::Bool(truth) => Some(u8::from(*truth).to_string()),
        Value::String(text) => numeric(text),
        _ => None,
    }
}

fn numeric(text: &str) -> Option<String> {
    let only = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    (only && text.parse::<f64>().is_ok_and(f64::is_finite)).then(|| text.to_owned())
}

/// `(id,title) VALUES (1,'x'),(2,'y')`.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, columns: &[String], rows: &[Vec<Cell>]) -> fmt::Result {
    f.write_str("(")?;
    for (index, column) in columns.iter().enumerate() {
        write!(f, "{}{}", if index == 0 { "" } else { "," }, Ident(column))?;
    }
    f.write_str(") VALUES ")?;
    for (index, row) in rows.iter().enumerate() {
        f.write_str(if index == 0 { "(" } else { ",(" })?;
        for (index, cell) in row.iter().enumerate() {
            write!(f, "{}{cell}", if index == 0 { "" } else { "," })?;
        }
        f.write_str(")")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Statement, closed_set};
    use model::TableName;
    use serde_json::json;

    fn text(kind: &str, value: &Value) -> String {
        cell(kind, value).expect("a value").to_string()
    }

    #[test]
    fn a_value_goes_back_as_it_came() {
        for (kind, value, expected) in [
            ("text indexed stored", json!("it's a \\ and\na tab\t"), "'it\\'s a \\\\ and\\na tab\\t'"),
            ("string attribute", json!(""), "''"),
            ("text", Value::Null, "''"),
            ("int", json!(4_294_967_295_u32), "4294967295"),
            ("bigint", json!(i64::MIN), "-9223372036854775808"),
            ("bigint", json!("-5"), "-5"),
            ("float", json!(0.1), "0.1"),
            ("float", json!(1e30), "1e+30"),
            ("bool", json!(1), "1"),
            ("bool", json!(true), "1"),
            ("timestamp", json!(1_700_000_000), "1700000000"),
            ("json", json!("{\"a\":[1,\"x'y\"]}"), "'{\"a\":[1,\"x\\'y\"]}'"),
            ("json", json!({"a": [1, 2]}), "'{\"a\":[1,2]}'"),
            ("json", json!([1, 2]), "'[1,2]'"),
            ("json", Value::Null, "''"),
            ("multi", json!("1,3"), "(1,3)"),
            ("multi64", json!([-1, 2]), "(-1,2)"),
            ("multi", json!(""), "()"),
            ("float_vector knn_dims='2'", json!("0.5,1"), "(0.5,1)"),
        ] {
            assert_eq!(text(kind, &value), expected, "{kind} {value}");
        }
        assert_eq!(id_cell(7).to_string(), "7");
        assert_eq!(id_cell(-1).to_string(), "18446744073709551615");
    }

    #[test]
    fn what_is_no_value_of_its_type_is_not_bent_into_one() {
        for (kind, value) in [
            ("int", json!("1); DROP TABLE t")),
            ("int", json!({})),
            ("float", json!("nan")),
            ("multi", json!("1,x")),
            ("text", json!(5)),
        ] {
            assert!(cell(kind, &value).is_err(), "{kind} {value}");
        }
    }

    #[test]
    fn values_stay_in_their_places() {
        let put = |value: Cell| Statement::Put {
            table: TableName::new("order").expect("valid"),
            replace: false,
            columns: vec!["id".into(), "select".into()],
            rows: vec![vec![id_cell(1), value], vec![id_cell(2), Cell::List(vec![])]],
        };
        let evil = put(Cell::Text("x'),(3,'y'); DROP TABLE t".into())).to_string();
        assert_eq!(
            evil,
            "INSERT INTO `order` (`id`,`select`) VALUES (1,'x\\'),(3,\\'y\\'); DROP TABLE t'),(2,())"
        );
        closed_set::check(&evil).expect("one of ours");
        // Were a number ever more than that, the last look would stop it.
        let broken = put(Cell::Number("1); DROP TABLE t".into())).to_string();
        assert!(closed_set::check(&broken).is_err());
    }

    #[test]
    fn a_page_is_read_with_its_values() {
        let body = br#"[{"columns":[{"id":{"type":"long long"}},{"j":{"type":"json"}}],
            "data":[{"id":-7,"j":[1,2]},{"id":18446744073709551615,"j":null}],"total":2,"error":"","warning":""}]"#;
        let found = read(200, body).expect("reads").expect("rows");
        assert_eq!(found.rows[0], [json!(-7), json!([1, 2])]);
        assert_eq!((found.id(0), found.id(1)), (Some(-7), Some(-1)));
        assert_eq!(read(500, br#"{"error":"absent"}"#), Ok(Err("absent".to_owned())));
        assert!(read(200, b"<html>").is_err());
        assert!(read(200, br#"[{"columns":[{"id":{}}],"data":[{}]}]"#).is_err());
    }
}
