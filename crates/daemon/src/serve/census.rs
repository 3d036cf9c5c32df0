//! How many documents each table holds: counted now and then by one statement a table, so that a request counts nothing.
//!
//! For people who look; nothing is decided by it.

use super::handle::Handle;
use super::standing::Seen;
use crate::shutdown::Shutdown;
use control::Controller;
use control::state::TableStatus;
use manticore::client::Client;
use model::api::TableSummary;
use model::{Millis, NodeId, TableName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two rounds over all tables.
const ROUND_EVERY: Duration = Duration::from_secs(10);
/// A round is followed by a rest of so many times what it took: counting large tables must not keep nodes busy.
const REST: u32 = 50;
/// For one count. A table that takes longer has none.
const COUNT_TIME_MAX: Duration = Duration::from_secs(5);
/// What a request waits for tables that were never counted, all of them together.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);

/// A table of one name, made once.
type Key = (TableName, u64);

/// The counts. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Census {
    client: Client,
    driver: Handle,
    counts: Arc<Mutex<BTreeMap<Key, u64>>>,
}

/// What there is to count, and who may be asked.
struct Tables {
    tables: Vec<Key>,
    nodes: Vec<NodeId>,
}

impl Census {
    pub(super) fn new(client: Client, driver: Handle) -> Self {
        Self { client, driver, counts: Arc::default() }
    }

    /// Counts while this controller leads, until `shutdown`.
    pub(super) async fn run(self, seen: Seen, shutdown: Shutdown) {
        let mut rest = ROUND_EVERY;
        for turn in 0.. {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(rest) => {}
            }
            if !seen.borrow().leads_now() {
                continue;
            }
            let began = Instant::now();
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.round(turn) => {}
            }
            rest = ROUND_EVERY.max(began.elapsed() * REST);
        }
    }

    /// Every table once, each by another node than the one before it.
    async fn round(&self, turn: usize) {
        let Ok(known) = self.driver.read(tables).await else { return };
        self.counts().retain(|key, _| known.tables.contains(key));
        for (at, key) in known.tables.iter().enumerate() {
            self.count(key, &known.nodes, turn.wrapping_add(at)).await;
        }
    }

    /// Sets `documents` from what was counted last; what never was is counted now.
    pub(super) async fn fill(&self, summaries: impl IntoIterator<Item = &mut TableSummary>) {
        let Ok(known) = self.driver.read(tables).await else { return };
        let deadline = tokio::time::Instant::now() + REQUEST_TIME_MAX;
        for summary in summaries {
            // A table that is being made or dropped is not among them, and is not counted.
            let Some(key) = known.tables.iter().find(|(name, _)| *name == summary.name) else { continue };
            if !self.counts().contains_key(key) {
                // One that cannot be counted in time shows none; the next round tries it again.
                let _late = tokio::time::timeout_at(deadline, self.count(key, &known.nodes, 0)).await;
            }
            summary.documents = self.counts().get(key).copied();
        }
    }

    /// A count that fails leaves the one before it.
    async fn count(&self, key: &Key, nodes: &[NodeId], turn: usize) {
        let Some(node) = nodes.get(turn % nodes.len().max(1)) else { return };
        match self.client.count(node, &key.0, COUNT_TIME_MAX).await {
            Ok(documents) => {
                self.counts().insert(key.clone(), documents);
            }
            Err(error) => tracing::debug!(table = %key.0, %error, "documents not counted"),
        }
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        // Every change is one insertion or removal: a thread that panicked left the map whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tables(controller: &Controller, _: Millis, _: u64) -> Tables {
    let state = controller.state();
    let active = state.tables.iter().filter(|(_, table)| table.status == TableStatus::Active);
    Tables {
        tables: active.map(|(name, table)| (name.clone(), table.generation)).collect(),
        nodes: state.live_nodes().cloned().collect(),
    }
}
