//! The records of the control log: everything durable is the fold of these.

use serde::{Deserialize, Serialize};

/// One record, stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {}
