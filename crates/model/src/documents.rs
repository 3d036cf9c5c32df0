//! Documents on their way back into a table: values as a statement says them.

use crate::sql::Literal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A value as a statement says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    Text(String),
    /// Digits, sign, point, exponent; nothing else.
    Number(String),
    List(Vec<String>),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", Literal(text)),
            Self::Number(number) => f.write_str(number),
            Self::List(values) => write!(f, "({})", values.join(",")),
        }
    }
}

/// Whole rows, a cell for each column. Never shown in a log: whose documents they are did not ask for that.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rows(pub Vec<Vec<Cell>>);

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.0.len())
    }
}
