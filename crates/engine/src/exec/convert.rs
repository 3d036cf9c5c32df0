//! Constants of a statement as values of a column's type.

use crate::io::{SqlError, Value};
use crate::sql::ast::ColumnType;
use crate::sql::expr::Literal;

/// The value that the column keeps for this constant. The error says what is wrong, not where.
pub(super) fn convert(literal: &Literal, kind: ColumnType) -> Result<Value, SqlError> {
    if matches!(literal, Literal::Null) {
        return Ok(kind.empty());
    }
    if let (Literal::List(_), false) = (literal, matches!(kind, ColumnType::Multi | ColumnType::Multi64)) {
        return Err(SqlError::new("MVA value specified for a non-MVA column"));
    }
    Ok(match kind {
        ColumnType::Text { .. } | ColumnType::String => Value::Text(text(literal)),
        ColumnType::Uint | ColumnType::Timestamp => Value::Int(integer(literal)? & 0xffff_ffff),
        ColumnType::Bigint => Value::Int(integer(literal)?),
        ColumnType::Bool => Value::Int(i64::from(truth(literal)?)),
        ColumnType::Float => Value::Float(float(literal)?),
        ColumnType::Json => json(literal)?,
        ColumnType::Multi => multi(literal, |value| value & 0xffff_ffff)?,
        ColumnType::Multi64 => multi(literal, |value| value)?,
    })
}

fn text(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => text.clone(),
        Literal::Int(value) => value.to_string(),
        Literal::Unsigned(value) => value.to_string(),
        Literal::Float(value) => value.to_string(),
        Literal::Null | Literal::List(_) => String::new(),
    }
}

pub(super) fn integer(literal: &Literal) -> Result<i64, SqlError> {
    match literal {
        Literal::Int(value) => Ok(*value),
        Literal::Unsigned(value) => Ok(*value as i64),
        Literal::Float(value) => Ok(*value as i64),
        Literal::Text(text) => text
            .trim()
            .parse()
            .or_else(|_| text.trim().parse::<u64>().map(|value| value as i64))
            .map_err(|_| SqlError::new(format!("invalid number \"{text}\""))),
        Literal::Null | Literal::List(_) => Ok(0),
    }
}

fn truth(literal: &Literal) -> Result<bool, SqlError> {
    match literal {
        Literal::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Literal::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        other => Ok(integer(other)? != 0),
    }
}

/// Columns keep 32 bits. The value is the shortest decimal number that means them, so that it prints as it was
/// written and equals a constant of the same text.
fn float(literal: &Literal) -> Result<f64, SqlError> {
    let value = match literal {
        Literal::Float(value) => *value,
        Literal::Text(text) => {
            text.trim().parse().map_err(|_| SqlError::new(format!("invalid number \"{text}\"")))?
        }
        other => integer(other)? as f64,
    };
    let short = value as f32;
    if short.is_finite() {
        Ok(short.to_string().parse().unwrap_or(f64::from(short)))
    } else {
        Err(SqlError::new(format!("number {value} is out of the range of a float column")))
    }
}

/// Objects and arrays, written back without blanks, keys in their order. The empty string is no value.
fn json(literal: &Literal) -> Result<Value, SqlError> {
    let Literal::Text(text) = literal else { return Err(SqlError::new("a JSON column takes a string")) };
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let parsed: serde_json::Value =
        serde_json::from_str(text).map_err(|error| SqlError::new(format!("JSON error: {error}")))?;
    if parsed.is_object() || parsed.is_array() {
        Ok(Value::Text(parsed.to_string()))
    } else {
        Err(SqlError::new("JSON error: an object or an array is expected"))
    }
}

/// A set, ascending, as text.
fn multi(literal: &Literal, fold: fn(i64) -> i64) -> Result<Value, SqlError> {
    let mut values: Vec<i64> = match literal {
        Literal::List(values) => values.iter().map(|value| fold(*value)).collect(),
        Literal::Text(text) => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.parse().map(fold).map_err(|_| SqlError::new(format!("invalid number \"{part}\"")))
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(SqlError::new("non-MVA value specified for a MVA column")),
    };
    values.sort_unstable();
    values.dedup();
    Ok(Value::Text(values.iter().map(i64::to_string).collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_become_what_the_column_keeps() {
        let text = |value: &str| Literal::Text(value.into());
        let kept = |value: &str| Value::Text(value.into());
        for (literal, kind, expected) in [
            (Literal::Int(-1), ColumnType::Uint, Value::Int(4_294_967_295)),
            (Literal::Unsigned(u64::MAX), ColumnType::Bigint, Value::Int(-1)),
            (text("12"), ColumnType::Bigint, Value::Int(12)),
            (Literal::Float(0.1), ColumnType::Float, Value::Float(0.1)),
            (Literal::Float(16_777_217.0), ColumnType::Float, Value::Float(16_777_216.0)),
            (text("true"), ColumnType::Bool, Value::Int(1)),
            (Literal::Int(7), ColumnType::Bool, Value::Int(1)),
            (text("{ \"b\": 1, \"a\" : [1.5, null] }"), ColumnType::Json, kept("{\"b\":1,\"a\":[1.5,null]}")),
            (text(""), ColumnType::Json, Value::Null),
            (Literal::List(vec![3, 1, 3]), ColumnType::Multi, kept("1,3")),
            (Literal::List(vec![]), ColumnType::Multi64, kept("")),
            (Literal::Int(5), ColumnType::String, kept("5")),
            (Literal::Null, ColumnType::Multi, kept("")),
            (Literal::Null, ColumnType::Json, Value::Null),
        ] {
            assert_eq!(convert(&literal, kind), Ok(expected), "{literal:?} {kind:?}");
        }
    }

    #[test]
    fn what_a_column_cannot_keep_is_refused() {
        for (literal, kind) in [
            (Literal::List(vec![1]), ColumnType::Uint),
            (Literal::Int(1), ColumnType::Multi),
            (Literal::Text("{".into()), ColumnType::Json),
            (Literal::Text("7".into()), ColumnType::Json),
            (Literal::Text("seven".into()), ColumnType::Uint),
            (Literal::Float(1e300), ColumnType::Float),
        ] {
            assert!(convert(&literal, kind).is_err(), "{literal:?} {kind:?}");
        }
    }
}
