//! One value of a document: how it is written in SQL, and whether what a node shows is still the same.

use model::sql::Literal;
use serde_json::Value;
use std::fmt;

/// The column types that documents are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Text,
    String,
    Bigint,
    Float,
    Bool,
    Json,
    Multi,
    Multi64,
}

impl Kind {
    /// The type's name in `CREATE TABLE`.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::String => "string",
            Self::Bigint => "bigint",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Json => "json",
            Self::Multi => "multi",
            Self::Multi64 => "multi64",
        }
    }

    /// What stands for a field that a document lacks or that is null: the column's own zero, as there is no NULL.
    pub fn absent(self) -> Cell {
        match self {
            Self::Text | Self::String => Cell::Text(String::new()),
            Self::Bigint => Cell::Int(0),
            Self::Float => Cell::Float(0.0),
            Self::Bool => Cell::Bool(false),
            Self::Json => Cell::Json(Value::Object(serde_json::Map::new())),
            Self::Multi | Self::Multi64 => Cell::Ints(Vec::new()),
        }
    }

    /// The value as this kind, when nothing of it gets lost.
    pub fn take(self, value: &Value) -> Option<Cell> {
        match (self, value) {
            (_, Value::Null) => Some(self.absent()),
            (Self::Text | Self::String, Value::String(text)) => Some(Cell::Text(text.clone())),
            (Self::Text | Self::String, other) => Some(Cell::Text(other.to_string())),
            (Self::Bigint, Value::Number(number)) => number.as_i64().map(Cell::Int),
            (Self::Float, Value::Number(number)) => {
                let wide = number.as_f64()?;
                let whole = number.as_i64().is_none_or(|int| wide as i64 == int);
                (whole && survives_f32(wide)).then_some(Cell::Float(wide as f32))
            }
            (Self::Bool, Value::Bool(flag)) => Some(Cell::Bool(*flag)),
            (Self::Json, Value::Object(_) | Value::Array(_)) => Some(Cell::Json(value.clone())),
            (Self::Multi | Self::Multi64, Value::Array(items)) => {
                let ints = ascending_ints(items)?;
                let fits = self == Self::Multi64 || ints.iter().all(|int| u32::try_from(*int).is_ok());
                fits.then_some(Cell::Ints(ints))
            }
            _ => None,
        }
    }
}

/// Whether the number's shortest decimal text is the same as a 32-bit float, which is all that a float column keeps.
pub fn survives_f32(wide: f64) -> bool {
    let narrow = wide as f32;
    narrow.is_finite() && narrow.to_string() == wide.to_string()
}

/// The integers of an array that a multi-value keeps as it is: it sorts and drops doubles.
pub fn ascending_ints(items: &[Value]) -> Option<Vec<i64>> {
    let ints: Vec<i64> = items.iter().map(Value::as_i64).collect::<Option<_>>()?;
    ints.windows(2).all(|pair| pair[0] < pair[1]).then_some(ints)
}

/// One value. Its `Display` is the SQL literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Int(i64),
    Float(f32),
    Bool(bool),
    Json(Value),
    Ints(Vec<i64>),
}

impl Cell {
    /// Whether a node's text for this value, as the MySQL protocol carries it, means the same.
    pub fn is_shown_as(&self, shown: Option<&str>) -> bool {
        let shown = shown.unwrap_or_default();
        match self {
            Self::Text(text) => text == shown,
            Self::Int(int) => shown.parse() == Ok(*int),
            Self::Float(float) => shown.parse() == Ok(*float),
            Self::Bool(flag) => shown == if *flag { "1" } else { "0" },
            Self::Json(value) => serde_json::from_str::<Value>(shown).is_ok_and(|seen| seen == *value),
            Self::Ints(ints) => {
                let seen: Result<Vec<i64>, _> =
                    shown.split(',').filter(|part| !part.is_empty()).map(str::parse).collect();
                seen.as_ref() == Ok(ints)
            }
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Literal(text).fmt(f),
            Self::Int(int) => int.fmt(f),
            Self::Float(float) => float.fmt(f),
            Self::Bool(flag) => u8::from(*flag).fmt(f),
            Self::Json(value) => Literal(&value.to_string()).fmt(f),
            Self::Ints(ints) => {
                f.write_str("(")?;
                for (at, int) in ints.iter().enumerate() {
                    write!(f, "{}{int}", if at > 0 { "," } else { "" })?;
                }
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_takes_only_what_it_keeps() {
        assert_eq!(Kind::Bigint.take(&json!(5)), Some(Cell::Int(5)));
        assert_eq!(Kind::Bigint.take(&json!(u64::MAX)), None);
        assert_eq!(Kind::Bigint.take(&json!("5")), None);
        assert_eq!(Kind::Float.take(&json!(19.99)), Some(Cell::Float(19.99)));
        assert_eq!(Kind::Float.take(&json!(2.000_000_000_001)), None);
        assert_eq!(Kind::Float.take(&json!(16_777_217)), None);
        assert_eq!(Kind::Text.take(&json!(5)), Some(Cell::Text("5".into())));
        assert_eq!(Kind::Bool.take(&json!(null)), Some(Cell::Bool(false)));
        assert_eq!(Kind::Multi.take(&json!([1, 2])), Some(Cell::Ints(vec![1, 2])));
        assert_eq!(Kind::Multi.take(&json!([2, 1])), None);
        assert_eq!(Kind::Multi.take(&json!([-1])), None);
        assert_eq!(Kind::Multi64.take(&json!([-1])), Some(Cell::Ints(vec![-1])));
        assert_eq!(Kind::Json.take(&json!("x")), None);
    }

    #[test]
    fn what_a_node_shows_is_compared_by_meaning() {
        assert!(Cell::Float(19.99).is_shown_as(Some("19.990000")));
        assert!(!Cell::Float(19.99).is_shown_as(Some("19.98")));
        assert!(Cell::Ints(vec![1, 2]).is_shown_as(Some("1,2")));
        assert!(Cell::Ints(vec![]).is_shown_as(Some("")));
        assert!(!Cell::Ints(vec![1]).is_shown_as(Some("1,2")));
        assert!(Cell::Json(json!({"a": [1], "b": "x"})).is_shown_as(Some(r#"{"b":"x","a":[1]}"#)));
        assert!(Cell::Text(String::new()).is_shown_as(None));
        assert!(!Cell::Text("a".into()).is_shown_as(Some("A")));
    }

    #[test]
    fn literals_are_sql() {
        assert_eq!(Cell::Json(json!({"q": "it's"})).to_string(), r#"'{"q":"it\'s"}'"#);
        assert_eq!(Cell::Ints(vec![3, 4]).to_string(), "(3,4)");
        assert_eq!(Cell::Bool(true).to_string(), "1");
        assert_eq!(Cell::Float(0.5).to_string(), "0.5");
    }
}
