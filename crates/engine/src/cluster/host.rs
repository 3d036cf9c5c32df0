//! What a cluster needs of the node it runs on.

use super::{
    entry::{Payload, Ticket},
    message::ClusterMessage,
};
use crate::io::SqlError;
use model::{Millis, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a node remembers of a cluster while it is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub name: String,
    /// The directory as it was given; empty for the data directory itself.
    pub path: String,
    pub options: String,
    /// The members to look for at the next start, in order.
    pub nodes_set: Vec<NodeId>,
    pub tables: BTreeSet<String>,
    pub uuid: String,
    /// As of the last clean stop.
    pub seqno: u64,
    pub conf: u64,
    /// Of the last view that was in force here.
    #[serde(default)]
    pub members: Vec<NodeId>,
    /// The node was stopped cleanly.
    pub clean: bool,
    /// It was the last member to stop, so it may form the primary view again by itself.
    pub safe_to_bootstrap: bool,
}

/// Storage, transport and clients, as one cluster sees them.
pub trait Host {
    fn now(&self) -> Millis;
    /// A fresh number from the node's seed.
    fn random(&mut self) -> u64;
    fn send(&mut self, to: &NodeId, message: ClusterMessage);
    /// Applies the writes in order, durably, before it returns.
    fn apply(&mut self, writes: &[Payload]) -> Result<(), String>;
    fn save(&mut self, descriptor: &Descriptor) -> Result<(), String>;
    /// Answers a local request: it is in force here and received by every member, or it failed.
    fn finish(&mut self, ticket: Ticket, outcome: Result<(), SqlError>);

    /// Begins to read out `tables` under `session`.
    fn export(&mut self, session: u64, tables: &[String]) -> Result<(), String>;
    /// The next piece, 1 MiB or little more at most; `None` at the end.
    fn export_next(&mut self, session: u64) -> Result<Option<Payload>, String>;
    fn export_end(&mut self, session: u64);
    /// Begins to take in copies of tables. With `at_once` each takes the place of what was there as soon as it is
    /// whole, else all at the end.
    fn import(&mut self, session: u64, at_once: bool);
    fn import_piece(&mut self, session: u64, piece: &Payload) -> Result<(), String>;
    /// Everything came: what is not in its place yet takes it now.
    fn import_finish(&mut self, session: u64) -> Result<(), String>;
    /// Throws away what was taken in.
    fn import_abort(&mut self, session: u64);
}
