//! A table under readers and writers on a trio, and what must hold of it in the end.

// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::print_stdout, reason = "what was measured must be seen")]
// Each test file is a program of its own and uses only a part of this.
#![allow(dead_code)]

use crate::common::{sql, wait_for};
use crate::trio::Trio;
use cli::documents::{Catalogue, Source};
use cli::load::{Holdings, Rates, Record, Traffic, TrafficReport, verify};
use std::sync::Arc;
use std::time::Instant;

pub const SHARDS: u32 = 4;

/// A table with readers and writers on it.
pub struct Load {
    source: Source,
    record: Arc<Record>,
    traffic: Traffic,
}

impl Load {
    pub async fn start(trio: &Trio) -> Self {
        let nodes = trio.endpoints();
        let source = Source::Catalogue(Catalogue::new(1, 0));
        let columns = source.shape().declaration();
        let create = format!("CREATE TABLE c:kept ({columns}) shards='{SHARDS}' rf='2' timeout='120'");
        sql(&nodes[0], &create).await.expect("created");
        let record = Arc::new(Record::default());
        let rates = Rates { writes_per_second: 10.0, reads_per_second: 3.0 };
        let traffic = Traffic::start(&nodes, "kept", source.shape(), (1, 1), rates, Arc::clone(&record));
        Self { source, record, traffic }
    }

    pub fn acknowledged(&self) -> u64 {
        self.record.acknowledged_writes()
    }

    /// Every acknowledged document is in every copy, and no client met an error.
    pub async fn end(self, trio: &Trio) {
        let met = self.end_with_faults(trio).await;
        assert_eq!(
            (met.failed_writes, met.failed_reads, met.read_regressions),
            (0, 0, 0),
            "{:?}",
            met.first_faults
        );
    }

    /// Every acknowledged document is in every copy; clients may have met errors, as those of a lost node do.
    pub async fn end_with_faults(self, trio: &Trio) -> TrafficReport {
        let met = self.traffic.stop().await;
        println!("{} writes acknowledged, {met:?}", self.record.acknowledged_writes());
        assert!(self.record.acknowledged_writes() > 0);
        let nodes = trio.endpoints();
        let found =
            verify(Some(&self.source), self.source.shape(), ("kept", SHARDS), &self.record, &nodes).await;
        let found = found.expect("read back");
        assert_eq!((found.lost, found.surplus), (0, 0), "{:?}", found.first_faults);
        whole(trio, "kept", SHARDS).await;
        met
    }
}

/// Until every shard of the table has all its copies and is routed everywhere.
pub async fn whole(trio: &Trio, table: &str, shards: u32) {
    let nodes = trio.endpoints();
    wait_for("a whole table", || async {
        let held = Holdings::look(&nodes, table).await.map_err(|fault| fault.to_string())?;
        held.missing(table, shards, 2).map_or(Ok(()), Err)
    })
    .await;
}

/// Until another controller than `before` leads; how long that took.
pub async fn taken_over(trio: &Trio, before: usize, since: Instant) -> usize {
    let now = wait_for("another leader", || async {
        match trio.leader().await {
            Some(now) if now != before => Ok(now),
            other => Err(format!("{other:?} leads")),
        }
    })
    .await;
    let took = since.elapsed();
    println!("controller {now} leads {:.1} s after controller {before} was lost", took.as_secs_f64());
    now
}
