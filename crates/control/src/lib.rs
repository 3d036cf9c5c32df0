//! The operator: `tick(now, inputs) -> effects`; it decides everything and does nothing.
//!
//! The driver's loop: gather [`io::Input`]s → [`Controller::tick`] → append `records` to the log → carry out
//! `effects`. All durable state is the fold of the records; what was observed is kept in memory only.
//!
//! ```text
//! let mut controller = Controller::open(config, snapshot, records)?;   // from the log
//! loop {
//!     let out = controller.tick(now, unix_now, inputs);
//!     log.append(out.expected, encode(out.records))?;                  // conflict: rebuild from the log
//!     for effect in out.effects { … }
//! }
//! ```

pub mod io;
pub mod record;

pub use io::{Effect, Effects, Input, PollAnswer, RequestId, StandingOrders};
pub use record::Record;

use model::{LogIndex, Millis, NodeId, Settings, api};

/// What a controller is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This controller's name among others, shown as master: `host:port` of its API.
    pub name: String,
    /// The control log's own id, 32 hex digits.
    pub log_id: String,
    pub settings: Settings,
    /// Injected randomness, for names of groups.
    pub seed: u64,
}

/// Why a log could not be read as control state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("control log record {index} cannot be read ({reason}): restore the log from a copy, or start a newer shardwright if a newer one wrote it")]
    Unreadable { index: LogIndex, reason: String },
    #[error("control log record {index} does not follow from those before it ({reason}): the log is damaged; restore it from a copy")]
    Illegal { index: LogIndex, reason: String },
}

/// The operator. One per process; only the leader's acts.
#[derive(Debug)]
pub struct Controller {
    config: Config,
}

impl Controller {
    /// Builds the state from the newest snapshot and the records after it, each with its index.
    pub fn open(
        config: Config,
        snapshot: Option<(LogIndex, &[u8])>,
        records: impl IntoIterator<Item = (LogIndex, Vec<u8>)>,
    ) -> Result<Self, OpenError> {
        let _ = (snapshot, records.into_iter().count());
        Ok(Self { config })
    }

    /// One turn: `now` is monotonic, `unix_now` in seconds is only written and shown.
    pub fn tick(&mut self, now: Millis, unix_now: u64, inputs: Vec<Input>) -> Effects {
        let _ = (now, unix_now, inputs);
        Effects::default()
    }

    /// When to tick again although nothing happens.
    pub fn next_wake(&self) -> Option<Millis> {
        None
    }

    /// The state for a snapshot at the last record, and that record's index.
    pub fn snapshot(&self) -> (LogIndex, Vec<u8>) {
        (LogIndex(0), Vec::new())
    }

    /// What the sidecar with this name list version is told with every answer.
    pub fn standing_orders(&self, names_version: u64) -> StandingOrders {
        let _ = names_version;
        StandingOrders {
            log_id: self.config.log_id.clone(),
            epoch: model::Epoch(0),
            names_version: 0,
            names: None,
            peers: Vec::new(),
        }
    }

    pub fn tables(&self) -> api::TableList {
        api::TableList { tables: Vec::new() }
    }

    pub fn table(&self, name: &str) -> Option<api::TableShow> {
        let _ = name;
        None
    }

    pub fn nodes(&self) -> api::NodeList {
        api::NodeList { nodes: Vec::new() }
    }

    pub fn operations(&self) -> api::OperationList {
        api::OperationList { operations: Vec::new() }
    }

    pub fn dashboard(&self, now: Millis, unix_now: u64) -> api::Dashboard {
        let _ = (now, unix_now);
        api::Dashboard {
            timestamp: unix_now,
            overall_status: String::new(),
            rebalancing: api::RebalancingMetrics::default(),
            queue: api::QueueMetrics::default(),
            cluster: api::ClusterMetrics::default(),
            alerts: Vec::new(),
        }
    }

    /// The node a client may be told to ask, for messages.
    pub fn known_nodes(&self) -> Vec<NodeId> {
        Vec::new()
    }
}
