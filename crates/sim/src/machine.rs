//! One host: the node's process over its durable storage, and its sidecar.

use crate::bugs::Bug;
use crate::disk::Disk;
use crate::net::Place;
use crate::sidecar::{self, Of, Shared, Sidecar};
use crate::world::Event;
use engine::storage::{Change, SqliteStorage, Storage};
use engine::{Engine, EngineConfig, Timing, forget_clusters};
use model::{CommandId, GroupId, Millis, NodeId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How long a started process takes until it answers clients.
const START: u64 = 500;

/// A node's host.
pub struct Machine {
    pub node: NodeId,
    pub engine: Option<Engine>,
    /// What the last process left behind.
    pub storage: Option<Box<dyn Storage>>,
    /// Counts processes.
    pub life: u64,
    pub sidecar: Shared,
    pub sidecar_life: u64,
    /// The sidecar stands still until then; what comes meanwhile waits.
    pub sidecar_frozen_until: u64,
    /// When the engine wants a tick.
    pub wake: u64,
    pub started: u64,
    /// When it last was killed, started, cut off or reached again.
    pub disturbed: u64,
    /// It will never be started again.
    pub gone: bool,
    /// Whether a partition has it on the smaller side.
    pub cut_off: bool,
    /// The lanes of commands under way.
    pub lane_of: BTreeMap<CommandId, Of>,
    /// Peers that the sidecar looks at.
    pub watched: BTreeSet<NodeId>,
    /// Sessions that somebody holds open: whose each is, and in which life of the node it began.
    pub sessions: BTreeMap<u64, (Place, u64)>,
    /// While it stands still: what has come for it.
    pub held: Option<Vec<Event>>,
    /// When it last went on after it had stood still.
    pub thawed: u64,
    /// Peers to which a connection is known to be broken.
    pub broken_to: BTreeSet<usize>,
    /// Nothing can be written to its disk.
    pub disk_full: Arc<AtomicBool>,
    /// Its lock for clusters is never free again ([`crate::world`], `locks.rs`).
    pub waits_for_ever: bool,
    number: usize,
    uuid: String,
}

impl Machine {
    pub fn new(at: usize, controllers: usize, bug: Option<Bug>) -> Self {
        let node = NodeId::new(format!("10.0.0.{}:9308", at + 1)).expect("host and port");
        let uuid = format!("{:032x}", at + 1);
        let sidecar = Sidecar::new(node.clone(), uuid.clone(), controllers, bug);
        Self {
            node,
            engine: None,
            storage: None,
            life: 0,
            sidecar: Rc::new(RefCell::new(sidecar)),
            sidecar_life: 0,
            sidecar_frozen_until: 0,
            wake: u64::MAX,
            started: 0,
            disturbed: 0,
            gone: false,
            cut_off: false,
            lane_of: BTreeMap::new(),
            watched: BTreeSet::new(),
            sessions: BTreeMap::new(),
            held: None,
            thawed: 0,
            broken_to: BTreeSet::new(),
            disk_full: Arc::new(AtomicBool::new(false)),
            waits_for_ever: false,
            number: at + 1,
            uuid,
        }
    }

    fn config(&self) -> EngineConfig {
        EngineConfig {
            node: self.node.clone(),
            replication_address: format!("10.0.0.{}:9320:replication", self.number),
            uuid: self.uuid.clone(),
            server_id: self.number as u8,
            version: "29.0.2-embedded".to_owned(),
            data_dir: format!("/data/{}", self.number),
            timing: Timing::default(),
        }
    }

    /// What the gate does while the node is down: it knows nothing more of these groups.
    pub fn forget(&mut self, groups: &BTreeSet<GroupId>) {
        if let Some(storage) = &mut self.storage {
            // One that cannot be forgotten is gone back into.
            let _full = forget_clusters(&mut **storage, groups);
        }
    }

    /// Starts a process on what the last one left behind.
    pub fn open(&mut self, now: u64, seed: u64) -> Result<(), String> {
        let storage: Box<dyn Storage> = if let Some(storage) = self.storage.take() {
            storage
        } else {
            let memory = SqliteStorage::memory().map_err(|error| error.to_string())?;
            Box::new(Disk::new(Box::new(memory), Arc::clone(&self.disk_full)))
        };
        let engine = Engine::open(self.config(), storage, Millis(now), 1_700_000_000 + now / 1_000, seed)
            .map_err(|error| error.to_string())?;
        self.wake = engine.next_wake().map_or(u64::MAX, |wake| wake.0);
        self.engine = Some(engine);
        self.life += 1;
        self.started = now;
        self.disturbed = now;
        self.broken_to.clear();
        self.waits_for_ever = false;
        Ok(())
    }

    pub const fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// Another machine gets the address of this one, which does not run any more.
    pub fn replace(&mut self, bug: Option<Bug>) {
        self.storage = None;
        self.uuid = format!("{:031x}f", self.number);
        let mut sidecar = self.sidecar.borrow_mut();
        let uuid = if bug == Some(Bug::AnyNode) { sidecar.disk.uuid.clone() } else { self.uuid.clone() };
        sidecar.disk = sidecar::Disk { uuid, ..sidecar::Disk::default() };
    }

    /// A bug: what was written since the process began was only in its memory.
    pub fn forget_writes(&mut self) {
        let Some(storage) = &mut self.storage else { return };
        for table in storage.tables() {
            // One that cannot be emptied keeps what it has.
            let _kept = storage.write(&table, &[Change::Truncate], None);
        }
    }

    pub const fn is_frozen(&self) -> bool {
        self.held.is_some()
    }

    /// Whether clients are answered.
    pub const fn listens(&self, now: u64) -> bool {
        self.engine.is_some() && now >= self.started + START
    }

    /// Whether the session can go on here: it is new, or began since the node was started. A connection ends with the
    /// process that it was to, and what is said on it next finds it broken instead of beginning anew.
    pub fn has_session(&mut self, session: u64, from: Place) -> bool {
        self.sessions.entry(session).or_insert((from, self.life)).1 == self.life
    }

    /// What the node keeps, whether it runs or not; `None` only while it was never started.
    pub fn storage(&mut self) -> Option<&mut dyn Storage> {
        match (&mut self.engine, &mut self.storage) {
            (Some(engine), _) => Some(engine.storage()),
            (None, Some(storage)) => Some(&mut **storage),
            (None, None) => None,
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("node", &self.node).field("life", &self.life).finish_non_exhaustive()
    }
}
