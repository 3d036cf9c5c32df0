//! `bench log`: the control log against writing and syncing the same bytes.

use crate::output::{self, CommandError, Output};
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use store::bench::{Comparison, Settings};

pub fn run(dir: &Path, output: Output) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::failed(
            format!("the log could not be timed in {}: {error}", dir.display()),
            "choose another --dir",
        )
    };
    let scratch = tempfile::Builder::new()
        .prefix("shardwright-bench")
        .tempdir_in(dir)
        .map_err(|error| failed(&error))?;
    let started = Instant::now();
    let clock_ns = || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let report =
        store::bench::run(scratch.path(), Settings::default(), clock_ns).map_err(|error| failed(&error))?;
    let object = json!({ "single": comparison(&report.single), "batch": comparison(&report.batch) });
    output::print(output, &object, |_| report.to_string())
}

fn comparison(one: &Comparison) -> serde_json::Value {
    json!({
        "appends": one.appends,
        "records_per_append": one.records_per_append,
        "record_bytes": one.record_bytes,
        "log_us_median": one.log_ns_median as f64 / 1000.0,
        "log_us_p99": one.log_ns_p99 as f64 / 1000.0,
        "bare_us_median": one.bare_ns_median as f64 / 1000.0,
        "bare_us_p99": one.bare_ns_p99 as f64 / 1000.0,
        "ratio": one.ratio(),
    })
}
