//! The engine itself: sessions, statements, clusters and routing behind one entry, [`Engine::handle`].
//!
//! It never waits: a statement that must wait is kept, and its reply comes out of a later call.

mod config;

pub use config::{EngineConfig, Timing};

use crate::{
    io::{Input, Output},
    storage::Storage,
};
use model::Millis;

/// A UUID as text, from 128 drawn bits.
pub(crate) fn random_uuid(a: u64, b: u64) -> String {
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// Why a node's stored state could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the stored state of this node cannot be read: {0}")]
    Storage(String),
}

/// One node: give it what happened and the time, carry out what it returns.
pub struct Engine {
    config: EngineConfig,
    storage: Box<dyn Storage>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("node", &self.config.node).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the node on its stored state. `now` is the monotonic time every later call continues, `unix_now` the
    /// time of day in seconds (automatic ids come from it), `seed` the only source of chance.
    pub fn open(
        config: EngineConfig,
        storage: Box<dyn Storage>,
        _now: Millis,
        _unix_now: u64,
        _seed: u64,
    ) -> Result<Self, OpenError> {
        Ok(Self { config, storage })
    }

    /// Takes in one event; the outputs are to be carried out in order.
    pub fn handle(&mut self, _now: Millis, _unix_now: u64, _input: Input) -> Vec<Output> {
        let _ = &self.storage;
        Vec::new()
    }

    /// When [`Input::Tick`] is wanted next, on the clock of `handle`; `None`: not before something happens.
    pub fn next_wake(&self) -> Option<Millis> {
        None
    }

    /// A clean stop: leaves the clusters so that the others stay primary. The outputs must be carried out before
    /// the process ends; nothing may be handled after.
    pub fn shutdown(&mut self, _now: Millis) -> Vec<Output> {
        Vec::new()
    }
}
