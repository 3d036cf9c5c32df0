//! What one engine says to another: the whole of the peer protocol, and its bytes.

use crate::{
    depth,
    io::{Reply, SqlError},
    routing::Work,
};
use serde::{Deserialize, Serialize};

/// A message between two engines. The transport keeps the order between two nodes, may lose what was under way
/// when a connection broke, and never alters a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Replication of the cluster of this name.
    Cluster {
        cluster: String,
        message: Box<crate::cluster::ClusterMessage>,
    },
    /// A routing table asks for work on a shard; the answer carries the same number.
    Work {
        call: u64,
        work: Box<Work>,
    },
    WorkDone {
        call: u64,
        result: Result<Reply, SqlError>,
    },
}

/// Bytes that are no message: another version on the other side, or a broken transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer sent bytes that are no message ({reason}): run the same version on every node")]
pub struct DecodeError {
    pub reason: String,
}

impl PeerMessage {
    /// The message's bytes, without any frame.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a message of plain data always has bytes")
    }

    /// Which piece of a copy it carries, if it carries one: the cluster, which copy of it, and the piece's number. For
    /// simulations of large tables.
    pub fn piece(&self) -> Option<(&str, u64, u64)> {
        match self {
            Self::Cluster { cluster, message } => {
                message.piece().map(|(copy, number)| (cluster.as_str(), copy, number))
            }
            Self::Work { .. } | Self::WorkDone { .. } => None,
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        depth::read(|| postcard::from_bytes(bytes)).map_err(|reason| DecodeError { reason })
    }
}
