//! The engine itself: sessions, statements, clusters and routing behind one entry, [`Engine::handle`].
//!
//! It never waits: a statement that must wait is kept, and its reply comes out of a later call.

mod again;
mod clusters;
mod config;
mod copies;
mod dispatch;
mod ids;
mod node;
mod peers;
mod session;
mod show;
mod spreading;
mod tables;
mod work;
mod write;

pub use config::{EngineConfig, Timing};
pub use node::forget_clusters;

use crate::{
    cluster::{Cluster, Descriptor},
    io::{Input, Output, Reply, RequestId, SessionId, SqlError},
    routing::{Definition, Health, Route, Spread},
    sql::ast::ClusterStatement,
    storage::{Storage, StorageError},
};
use again::Again;
use ids::DocumentIds;
use model::{Millis, NodeId};
use node::{Node, Side};
use peers::Call;
use session::{Locks, Running, Session};
use std::collections::{BTreeMap, VecDeque};

/// A UUID as text, from 128 drawn bits.
pub(crate) fn random_uuid(a: u64, b: u64) -> String {
    let (b_high, b_low) = (b >> 48, b & 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}-{:04x}-{b_high:04x}-{b_low:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xffff)
}

/// Why a node's stored state could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the stored state of this node cannot be read: {0}")]
    Storage(String),
}

/// The second that automatic ids of this start carry: later than that of any start before, whatever the clock says.
fn start_second(storage: &mut dyn Storage, unix_now: u64) -> Result<u64, OpenError> {
    const KEY: &str = "start_second";
    let failed = |error: StorageError| OpenError::Storage(error.to_string());
    let before = storage.meta(KEY).map_err(failed)?;
    let before = before.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
    let second = before.map_or(unix_now, |before| unix_now.max(before + 1));
    storage.set_meta(&[(KEY.to_owned(), Some(second.to_be_bytes().to_vec()))]).map_err(failed)?;
    Ok(second)
}

/// Who waits for an answer.
#[derive(Clone, Debug)]
enum Asker {
    Client(RequestId),
    /// Another node's routing table, by the number of its call.
    Peer {
        node: NodeId,
        call: u64,
    },
    /// A part of a statement that is spread from here.
    Part {
        spread: u64,
        part: usize,
    },
}

/// What the outcome of a cluster means for the one who waits.
#[derive(Debug)]
struct Waiting {
    asker: Asker,
    affected: u64,
    /// The table that stands before an error.
    about: Option<String>,
}

/// Statements under way at once, from clients and from peers; more are refused.
const RUNNING_MAX: usize = 10_000;
/// Cluster statements that wait for the one under way.
const CLUSTER_QUEUE_MAX: usize = 64;

/// One node: give it what happened and the time, carry out what it returns.
pub struct Engine {
    config: EngineConfig,
    node: Node,
    /// This process, among all processes of the node.
    incarnation: u64,
    started: Millis,
    clusters: BTreeMap<String, Cluster>,
    routes: BTreeMap<String, Route>,
    sessions: BTreeMap<SessionId, Session>,
    locks: Locks,
    running: BTreeMap<RequestId, Running>,
    /// By ticket: what waits for a cluster.
    waiting: BTreeMap<u64, Waiting>,
    /// The cluster statement under way: there is one at a time, and JOIN holds it through its copy.
    cluster_lock: Option<u64>,
    cluster_queue: VecDeque<(Asker, ClusterStatement)>,
    spreads: BTreeMap<u64, Spread>,
    /// Who waits for each spread.
    spread_askers: BTreeMap<u64, Asker>,
    calls: BTreeMap<u64, Call>,
    /// Puts that wait until it is certain whether a lost mirror did them.
    again: Vec<Again>,
    health: Health,
    /// Work of other nodes that is not answered yet.
    peer_work: usize,
    next_number: u64,
    statements: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("node", &self.config.node)
            .field("clusters", &self.clusters)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the node on its stored state. `now` is the monotonic time every later call continues, `unix_now` the
    /// time of day in seconds (automatic ids come from it), `seed` the only source of chance.
    pub fn open(
        config: EngineConfig,
        mut storage: Box<dyn Storage>,
        now: Millis,
        unix_now: u64,
        seed: u64,
    ) -> Result<Self, OpenError> {
        storage.abort_transfers();
        let ids = DocumentIds::new(config.server_id, start_second(&mut *storage, unix_now)?);
        let mut node = Node::new(storage, now, unix_now, ids, seed);
        let incarnation = node.random();
        // Answers to calls of an earlier process must find none of this one's.
        let next_number = node.random() >> 1;
        let mut engine = Self {
            config,
            node,
            incarnation,
            started: now,
            clusters: BTreeMap::new(),
            routes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            locks: Locks::default(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            cluster_lock: None,
            cluster_queue: VecDeque::new(),
            spreads: BTreeMap::new(),
            spread_askers: BTreeMap::new(),
            calls: BTreeMap::new(),
            again: Vec::new(),
            health: Health::default(),
            peer_work: 0,
            next_number,
            statements: 0,
        };
        engine.open_routes()?;
        engine.open_clusters()?;
        Ok(engine)
    }

    fn open_routes(&mut self) -> Result<(), OpenError> {
        let stored = self.stored("route/")?;
        for (name, bytes) in stored {
            let definition: Definition = postcard::from_bytes(&bytes)
                .map_err(|error| OpenError::Storage(format!("routing table '{name}': {error}")))?;
            let route =
                Route::new(&name, definition).map_err(|error| OpenError::Storage(error.message.clone()))?;
            self.routes.insert(name, route);
        }
        Ok(())
    }

    fn open_clusters(&mut self) -> Result<(), OpenError> {
        let stored = self.stored("cluster/")?;
        for (name, bytes) in stored {
            let descriptor: Descriptor = postcard::from_bytes(&bytes)
                .map_err(|error| OpenError::Storage(format!("cluster '{name}': {error}")))?;
            let (me, timing) = (self.me(), self.config.timing.clone());
            let mut side = Side { node: &mut self.node, cluster: &name };
            let cluster = Cluster::open(&mut side, me, timing, descriptor)
                .map_err(|error| OpenError::Storage(error.message.clone()))?;
            self.clusters.insert(name, cluster);
        }
        Ok(())
    }

    /// Facts under `prefix`, with the rest of their keys.
    fn stored(&mut self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, OpenError> {
        let stored = self.node.storage.meta_with_prefix(prefix);
        let stored = stored.map_err(|error| OpenError::Storage(error.to_string()))?;
        Ok(stored.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value)).collect())
    }

    /// Takes in one event; the outputs are to be carried out in order.
    pub fn handle(&mut self, now: Millis, unix_now: u64, input: Input) -> Vec<Output> {
        self.node.now = self.node.now.max(now);
        self.node.unix_now = unix_now;
        match input {
            Input::Statement { request, session, sql } => self.statement(request, session, &sql),
            Input::SessionClosed(session) => self.close_session(session),
            Input::Peer { from, message } => self.peer(&from, message),
            Input::PeerUnreachable(peer) => self.peer_lost(&peer, false),
            Input::PeerRefused(peer) => self.peer_lost(&peer, true),
            Input::Tick => {}
        }
        self.drive();
        std::mem::take(&mut self.node.out)
    }

    /// Does what is due, and all that follows from it.
    fn drive(&mut self) {
        let now = self.node.now;
        let due: Vec<String> = self
            .clusters
            .iter()
            .filter(|(_, cluster)| cluster.next_wake().is_some_and(|wake| wake <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.with_cluster(&name, |cluster, host| cluster.tick(host));
        }
        self.drop_late_calls();
        self.settle();
        self.settle_again();
    }

    /// When [`Input::Tick`] is wanted next, on the clock of `handle`; `None`: not before something happens.
    pub fn next_wake(&self) -> Option<Millis> {
        if !self.node.out.is_empty() {
            return Some(self.node.now);
        }
        let clusters = self.clusters.values().filter_map(Cluster::next_wake);
        let calls = self.calls.values().map(Call::deadline);
        let again = self.again.iter().map(Again::deadline);
        clusters.chain(calls).chain(again).min()
    }

    /// A clean stop: leaves the clusters so that the others stay primary. The outputs must be carried out before
    /// the process ends; nothing may be handled after.
    pub fn shutdown(&mut self, now: Millis) -> Vec<Output> {
        self.node.now = self.node.now.max(now);
        for name in self.clusters.keys().cloned().collect::<Vec<_>>() {
            self.with_cluster(&name, |cluster, host| cluster.stop(host));
        }
        self.settle();
        let stopping = SqlError::new("the node is stopping");
        for request in self.running.keys().copied().collect::<Vec<_>>() {
            self.answer(Asker::Client(request), Err(stopping.clone()));
        }
        std::mem::take(&mut self.node.out)
    }

    /// The node's storage, to look at from outside; changing it there is no part of any protocol.
    pub fn storage(&mut self) -> &mut dyn Storage {
        &mut *self.node.storage
    }

    /// What a killed process leaves behind: its storage.
    pub fn into_storage(self) -> Box<dyn Storage> {
        self.node.storage
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Answers whoever waits. A client that has gone gets nothing.
    fn answer(&mut self, asker: Asker, result: Result<Reply, SqlError>) {
        match asker {
            Asker::Client(request) => {
                if let Some(running) = self.running.remove(&request) {
                    self.note_result(running.session, &result);
                    self.node.out.push(Output::Reply { request, reply: result });
                }
            }
            Asker::Peer { node, call } => self.answer_peer(&node, call, result),
            Asker::Part { spread, part } => self.part_done(spread, part, result),
        }
    }
}
