//! What goes into the engine and what comes out: the whole surface between core and shell.

use model::NodeId;
use serde::{Deserialize, Serialize};

/// A client statement under way; chosen by the shell, unique while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A client connection that can hold state (`LOCK TABLES`, `BEGIN`); every HTTP request has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Something that happened, handed to `Engine::handle` with the time it was seen.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client sent one statement. Exactly one [`Output::Reply`] with the same `request` follows, at once or later.
    Statement { request: RequestId, session: SessionId, sql: String },
    /// A client's connection ended: its locks and open transaction go, its pending replies are dropped.
    SessionClosed(SessionId),
    /// A message from another node, in the order it was sent; messages can be lost when a connection breaks.
    Peer { from: NodeId, message: crate::PeerMessage },
    /// The transport could not reach `peer` (refused or broken): what was on its way there may be lost.
    PeerUnreachable(NodeId),
    /// The same, and certain: nothing that was handed out for this peer since the last such report was or will be
    /// delivered. A write may then safely go to another mirror. Where it is not certain, say `PeerUnreachable`.
    PeerRefused(NodeId),
    /// Nothing but the time: `Engine::next_wake` has come.
    Tick,
}

/// Something the shell must do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// The answer to a statement.
    Reply { request: RequestId, reply: Result<Reply, SqlError> },
    /// A message for another node. Messages to one node keep their order; one that cannot be delivered is dropped
    /// and reported by [`Input::PeerUnreachable`].
    Send { to: NodeId, message: crate::PeerMessage },
}

/// A statement's success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// No rows: how many documents were touched.
    Done {
        affected: u64,
    },
    Rows(ResultSet),
}

/// A table of values. Every row has one value per column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResultSet {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Value>>,
    /// Rows that matched before LIMIT cut them.
    pub total: u64,
    pub warning: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// The type a column has on the wire (HTTP names: `long`, `long long`, `float`, `double`, `string`, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnKind {
    Long,
    LongLong,
    Float,
    Double,
    Text,
}

/// One value of a result. Multi-values and JSON are already text, as the real node sends them over MySQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    Null,
    Int(i64),
    Float(f64),
    Text(String),
}

/// A statement's failure, in searchd's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// MySQL's error number; searchd says 1064 for nearly everything.
    pub code: u16,
    pub message: String,
}

impl SqlError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: 1064, message: message.into() }
    }
}
