//! What a routing table asks of the node that has a shard.

use crate::{
    cluster::Payload,
    io::SqlError,
    sql::ast::{Delete, Select, Update},
    storage::Row,
};
use serde::{Deserialize, Serialize};

/// One shard's part of a statement. Every table named in it is a plain one of the receiving node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Made by `exec::shard_select`, so its answer is for `exec::merge` alone.
    Select(Select),
    /// Documents as the routing table's columns typed them; the shard's columns are not compared, only counted.
    Put {
        table: String,
        replace: bool,
        rows: Rows,
    },
    Update(Update),
    Delete(Delete),
}

/// Documents, encoded once for however many tries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rows(Payload);

impl Rows {
    pub fn encode(rows: &[Row]) -> Self {
        Self(Payload::from(postcard::to_stdvec(rows).expect("plain data has bytes")))
    }

    pub fn decode(&self) -> Result<Vec<Row>, SqlError> {
        postcard::from_bytes(&self.0.0)
            .map_err(|error| SqlError::new(format!("documents of a remote shard cannot be read: {error}")))
    }
}

impl Work {
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Select(_))
    }

    /// The same work on a table of another name.
    pub fn on(&self, name: &str) -> Self {
        let mut work = self.clone();
        match &mut work {
            Self::Select(select) => select.from = vec![name.to_owned()],
            Self::Put { table, .. } => name.clone_into(table),
            Self::Update(update) => name.clone_into(&mut update.table.name),
            Self::Delete(delete) => name.clone_into(&mut delete.table.name),
        }
        work
    }
}
