//! What is written: rows and changes, ready to travel and to be applied on any copy of the table.

use crate::io::Value;
use serde::{Deserialize, Serialize};

/// A document: its id and one value per column of the schema, already of the column's type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub id: i64,
    pub values: Vec<Value>,
}

/// A change that needs no further look at the table: applied twice it has the effect of once, and on equal tables it
/// leads to equal tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Whole documents; one of the same id is overwritten.
    Put(Vec<Row>),
    Delete(Vec<i64>),
    /// Sets columns (by number in the schema) of those documents that are there.
    Update {
        ids: Vec<i64>,
        assignments: Vec<(u32, Value)>,
    },
    Truncate,
}

impl Change {
    /// The ids it touches; `None` for all of the table.
    pub fn ids(&self) -> Option<Vec<i64>> {
        match self {
            Self::Put(rows) => Some(rows.iter().map(|row| row.id).collect()),
            Self::Delete(ids) | Self::Update { ids, .. } => Some(ids.clone()),
            Self::Truncate => None,
        }
    }
}
