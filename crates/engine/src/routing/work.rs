//! What a routing table asks of the node that has a shard.

use crate::{
    cluster::Payload,
    depth,
    io::SqlError,
    sql::ast::{Delete, Select, Update},
    storage::Row,
};
use model::{Millis, NodeId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One shard's part of a statement. Every table named in it is a plain one of the receiving node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub enum Work {
    /// Made by `exec::shard_select`, so its answer is for `exec::merge` alone.
    Select(Select),
    /// Documents as the routing table's columns typed them; the shard's columns are not compared, only counted.
    Put {
        table: String,
        replace: bool,
        rows: Rows,
        token: Token,
    },
    /// A `Put` that the mirror `lost` may have done before the connection to it broke, `age` after it was first
    /// asked for. Done at most once in all: see `core::again`.
    PutAgain {
        put: Box<Work>,
        lost: NodeId,
        age: Millis,
    },
    Update(Update),
    Delete(Delete),
}

/// One attempt of a routing table to put documents into a shard, unlike any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Token(pub u128);

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

impl<'de> Deserialize<'de> for Work {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        depth::one_deeper(depth::WORK_DEPTH_MAX, || Self::deserialize(deserializer))
    }
}

impl Serialize for Work {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Work {
    /// The same once more for another mirror, after `lost` went away with it; `None` for what may not be repeated.
    pub fn again(&self, lost: &NodeId, age: Millis) -> Option<Self> {
        matches!(self, Self::Put { .. }).then(|| Self::PutAgain {
            put: Box::new(self.clone()),
            lost: lost.clone(),
            age,
        })
    }

    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Select(_))
    }

    /// The same work on a table of another name.
    pub fn on(&self, name: &str) -> Self {
        let mut work = self.clone();
        match &mut work {
            Self::Select(select) => select.from = vec![name.to_owned()],
            Self::Put { table, .. } => name.clone_into(table),
            Self::PutAgain { put, .. } => **put = put.on(name),
            Self::Update(update) => name.clone_into(&mut update.table.name),
            Self::Delete(delete) => name.clone_into(&mut delete.table.name),
        }
        work
    }
}
