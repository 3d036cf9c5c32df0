//! What is put in one order on all members, and the opaque bytes it carries.

use model::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, sync::Arc};

/// Bytes shared, not copied, however many queues hold them.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Arc<[u8]>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The hashes of the documents a write touches, shared like a [`Payload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(pub Arc<[u64]>);

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|keys| Self(keys.into()))
    }
}

/// What an entry does when it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Rows, in the bytes of the executor.
    Write(Payload),
    /// Tables join the cluster; a member that staged copies under `session` puts them in place of its own.
    AddTables { tables: Vec<String>, session: u64 },
    /// Tables leave the cluster and stay as plain ones.
    DropTables { tables: Vec<String> },
    /// The persisted members become these.
    UpdateNodes { nodes: Vec<NodeId> },
}

/// A local request under way, unique while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// One item of the total order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub seqno: u64,
    /// The view it was ordered in, by number.
    pub conf: u64,
    pub origin: NodeId,
    /// The origin's name for it; with `incarnation` it names the entry for ever.
    pub ticket: Ticket,
    pub incarnation: u64,
    /// The last entry the origin had applied when it prepared this one.
    pub seen: u64,
    pub keys: Keys,
    pub body: Body,
}

impl Entry {
    /// About what it costs to keep.
    pub fn bytes(&self) -> usize {
        let body = match &self.body {
            Body::Write(payload) => payload.0.len(),
            Body::AddTables { tables, .. } | Body::DropTables { tables } => {
                tables.iter().map(String::len).sum()
            }
            Body::UpdateNodes { nodes } => nodes.len() * 32,
        };
        96 + self.keys.0.len() * 8 + body
    }

    /// The fingerprint of the history that ends here, from that of the history before.
    pub fn digest(&self, before: u64) -> u64 {
        let mut digest = before;
        for word in [self.seqno, self.conf, node_hash(&self.origin), self.ticket.0, self.incarnation] {
            digest = (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        digest
    }
}

/// A stable hash of a node's name (FNV-1a).
pub fn node_hash(node: &NodeId) -> u64 {
    node.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn entry(seqno: u64, origin: &str) -> Entry {
        Entry {
            seqno,
            conf: 1,
            origin: NodeId::new(origin).expect("valid"),
            ticket: Ticket(seqno),
            incarnation: 1,
            seen: seqno - 1,
            keys: Keys(vec![seqno].into()),
            body: Body::Write(Payload::from(vec![1; 10])),
        }
    }

    #[test]
    fn an_entry_survives_its_bytes() {
        let entry = entry(3, "n:1");
        let bytes = postcard::to_stdvec(&entry).expect("plain data");
        assert_eq!(postcard::from_bytes::<Entry>(&bytes).expect("own bytes"), entry);
    }

    #[test]
    fn histories_that_differ_have_other_digests() {
        assert_ne!(entry(3, "n:1").digest(5), entry(3, "n:2").digest(5));
        assert_ne!(entry(3, "n:1").digest(5), entry(3, "n:1").digest(6));
    }
}
