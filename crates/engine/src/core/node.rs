//! What all parts of an engine share: storage, time, chance, and what is to be sent; and the side of it that a
//! replication cluster sees.

use super::{again::Tokens, copies::Copies, ids::DocumentIds};
use crate::{
    cluster::{ClusterMessage, Descriptor, Host, Payload, Ticket},
    exec::WriteSet,
    io::{Output, SqlError},
    peer::PeerMessage,
    storage::{Change, Storage, StorageError},
};
use model::{GroupId, Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The node without its clusters, sessions and routes.
pub(super) struct Node {
    pub storage: Box<dyn Storage>,
    pub now: Millis,
    /// Seconds, for `@@timestamp`.
    pub unix_now: u64,
    pub ids: DocumentIds,
    pub out: Vec<Output>,
    /// What clusters have answered and nobody has taken yet.
    pub finished: VecDeque<(Ticket, Result<(), SqlError>)>,
    pub copies: Copies,
    /// Attempts of routing tables that were applied here.
    pub tokens: Tokens,
    chance: u64,
}

impl Node {
    pub fn new(storage: Box<dyn Storage>, now: Millis, unix_now: u64, ids: DocumentIds, seed: u64) -> Self {
        Self {
            storage,
            now,
            unix_now,
            ids,
            out: Vec::new(),
            finished: VecDeque::new(),
            copies: Copies::default(),
            tokens: Tokens::default(),
            chance: seed,
        }
    }

    /// SplitMix64 over the seed.
    pub fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn send(&mut self, to: &NodeId, message: PeerMessage) {
        self.out.push(Output::Send { to: to.clone(), message });
    }
}

/// Takes clusters out of what a node that is down has stored: it opens without them, and their tables are plain ones.
pub fn forget_clusters(storage: &mut dyn Storage, names: &BTreeSet<GroupId>) -> Result<(), StorageError> {
    let gone: Vec<(String, Option<Vec<u8>>)> =
        names.iter().map(|name| (cluster_key(name.as_str()), None)).collect();
    storage.set_meta(&gone)
}

/// Where a cluster's descriptor is kept.
pub(super) fn cluster_key(name: &str) -> String {
    format!("cluster/{name}")
}

/// The node as the cluster `cluster` sees it.
pub(super) struct Side<'a> {
    pub node: &'a mut Node,
    pub cluster: &'a str,
}

impl Host for Side<'_> {
    fn now(&self) -> Millis {
        self.node.now
    }

    fn random(&mut self) -> u64 {
        self.node.random()
    }

    fn send(&mut self, to: &NodeId, message: ClusterMessage) {
        self.node
            .send(to, PeerMessage::Cluster { cluster: self.cluster.to_owned(), message: Box::new(message) });
    }

    fn apply(&mut self, writes: &[Payload]) -> Result<(), String> {
        // Writes of one table go in one transaction; the order between tables does not matter.
        let mut tables: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        let mut tokens = Vec::new();
        for write in writes {
            let write: WriteSet = postcard::from_bytes(&write.0)
                .map_err(|error| format!("a write of another member cannot be read: {error}"))?;
            tokens.extend(write.token);
            tables.entry(write.table).or_default().extend(write.changes);
        }
        for (table, changes) in tables {
            self.node.storage.write(&table, &changes, None).map_err(|error| error.to_string())?;
        }
        let now = self.node.now;
        self.node.tokens.note(now, tokens);
        Ok(())
    }

    fn save(&mut self, descriptor: &Descriptor) -> Result<(), String> {
        let bytes = postcard::to_stdvec(descriptor).map_err(|error| error.to_string())?;
        let change = (cluster_key(&descriptor.name), Some(bytes));
        self.node.storage.set_meta(&[change]).map_err(|error| error.to_string())
    }

    fn finish(&mut self, ticket: Ticket, outcome: Result<(), SqlError>) {
        self.node.finished.push_back((ticket, outcome));
    }

    fn export(&mut self, session: u64, tables: &[String]) -> Result<(), String> {
        self.node.copies.export(session, tables);
        Ok(())
    }

    fn export_next(&mut self, session: u64) -> Result<Option<Payload>, String> {
        self.node.copies.export_next(&mut *self.node.storage, session)
    }

    fn export_end(&mut self, session: u64) {
        self.node.copies.export_end(&mut *self.node.storage, session);
    }

    fn import(&mut self, session: u64, at_once: bool) {
        self.node.copies.import(session, at_once);
    }

    fn import_piece(&mut self, session: u64, piece: &Payload) -> Result<(), String> {
        self.node.copies.import_piece(&mut *self.node.storage, session, piece)
    }

    fn import_finish(&mut self, session: u64) -> Result<(), String> {
        self.node.copies.import_finish(&mut *self.node.storage, session)
    }

    fn import_abort(&mut self, session: u64) {
        self.node.copies.import_abort(&mut *self.node.storage, session);
    }
}
