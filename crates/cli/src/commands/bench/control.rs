//! `bench control`: what a cluster at rest costs the controller, and how soon it is ready again.

use super::{memory_kib, ms, timed};
use crate::output::{self, CommandError, Output};
use control::Controller;
use control::bench::{Idle, Size};
use model::Millis;
use serde::Serialize;

/// Turns: 100 s of a cluster at rest.
const TURNS: u64 = 1000;
const TURN: u64 = 100;
/// Requests of each kind.
const REQUESTS: u32 = 20;

/// Times are those of this thread on a core, in milliseconds.
#[derive(Debug, Serialize)]
struct Measured {
    nodes: u32,
    shards: u32,
    tick_ms_median: f64,
    tick_ms_p99: f64,
    tick_ms_max: f64,
    /// A dashboard as JSON and a page of metrics, the slowest of some.
    dashboard_ms: f64,
    metrics_ms: f64,
    /// Reading the state from its snapshot, and turns until every node was looked at.
    ready_ms: f64,
    snapshot_bytes: usize,
    /// What the process took for the controller and its view of the nodes; none where the system does not tell.
    memory_bytes_per_shard: Option<u64>,
}

pub fn run(nodes: u32, tables: u32, shards: u32, output: Output) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::failed(format!("the cluster could not be made: {error}"), "report it")
    };
    let idle = Idle::new(Size { nodes, tables, shards }).map_err(|error| failed(&error))?;
    let (last, snapshot) = idle.snapshot().map_err(|error| failed(&error))?;
    let before = memory_kib("RssAnon");
    let (controller, mut ready_ms) = timed(|| Controller::open(Idle::config(), Some((last, &snapshot)), []));
    let mut controller = controller.map_err(|error| failed(&error))?;
    let (mut inputs, mut times) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let (out, time) = timed(|| controller.tick(Millis(turn * TURN), turn / 10, inputs));
        // The looks of the first turn are answered in the second.
        if turn < 2 {
            ready_ms += time;
        } else {
            times.push(time);
        }
        inputs = idle.answer(controller.epoch(), &out.effects);
    }
    let (dashboard_ms, metrics_ms) = watched(&controller);
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let taken = before.zip(memory_kib("RssAnon")).map(|(before, after)| after.saturating_sub(before) * 1024);
    let measured = Measured {
        nodes,
        shards: tables * shards,
        tick_ms_median: at(0.5),
        tick_ms_p99: at(0.99),
        tick_ms_max: at(1.0),
        dashboard_ms,
        metrics_ms,
        ready_ms,
        snapshot_bytes: snapshot.len(),
        memory_bytes_per_shard: taken.map(|bytes| bytes / u64::from(tables * shards)),
    };
    output::print(output, &measured, text)
}

/// What a request for the dashboard, and one for the metrics, keeps the operator's thread busy for, and writes.
fn watched(controller: &Controller) -> (f64, f64) {
    let slowest = |work: &dyn Fn() -> usize| (0..REQUESTS).map(|_| timed(work).1).fold(0.0, f64::max);
    let unix = TURNS / 10;
    let dashboard = || serde_json::to_vec(&controller.dashboard(unix)).map_or(0, |json| json.len());
    (slowest(&dashboard), slowest(&|| daemon::serve::metrics_page(controller, unix).len()))
}

fn text(measured: &Measured) -> String {
    let memory = measured.memory_bytes_per_shard;
    format!(
        "{} shards on {} nodes at rest\ntick: {} ms, p99 {} ms, at most {} ms\ndashboard: {} ms, metrics: {} ms, at most\nready after a restart: {} ms\n\
         snapshot: {} bytes\nmemory: {} bytes a shard",
        measured.shards,
        measured.nodes,
        ms(measured.tick_ms_median),
        ms(measured.tick_ms_p99),
        ms(measured.tick_ms_max),
        ms(measured.dashboard_ms),
        ms(measured.metrics_ms),
        ms(measured.ready_ms),
        measured.snapshot_bytes,
        memory.map_or("unknown".to_owned(), |bytes| bytes.to_string()),
    )
}
