//! What a run, and a set of runs, came to.

use crate::story::Story;
use serde::Serialize;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number and name in `architecture.md`.
    pub invariant: &'static str,
    /// Counts events.
    pub step: u64,
    pub at_ms: u64,
    pub detail: String,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    pub seed: u64,
    pub violations: Vec<Violation>,
    /// Boundaries of a sweep that were passed: at each somebody can die.
    pub crash_points: u64,
    /// Whether somebody died at one.
    pub crashed: bool,
    pub faults: BTreeMap<&'static str, u64>,
    /// Faults that began while an operation of this kind ran: `fault / operation`.
    pub coverage: BTreeMap<(&'static str, &'static str), u64>,
    pub virtual_ms: u64,
    pub steps: u64,
    /// Writes that a client was told were done.
    pub acknowledged: u64,
    /// What happened, when it was asked for.
    pub story: Vec<String>,
}

impl RunReport {
    /// A run that could not even begin.
    pub fn impossible(seed: u64, detail: String) -> Self {
        let violation = Violation { invariant: "8 convergence", step: 0, at_ms: 0, detail };
        Self { seed, violations: vec![violation], ..Self::default() }
    }

    /// What `run` comes to. A program that panics would be started again and panic again.
    pub fn caught(seed: u64, story: &Story, run: impl FnOnce() -> Self) -> Self {
        std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let story = story.lines();
            Self { story, ..Self::impossible(seed, format!("a program panics: {text}")) }
        })
    }
}

/// As `shardwright sim --output json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub seeds: String,
    pub runs: u64,
    pub violations: Vec<ViolationShown>,
    /// Boundaries at which somebody died.
    pub crash_points: u64,
    pub faults: BTreeMap<String, u64>,
    pub coverage: BTreeMap<String, BTreeMap<String, u64>>,
    pub acknowledged_writes: u64,
    pub virtual_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ViolationShown {
    pub seed: u64,
    pub invariant: String,
    pub step: u64,
    pub detail: String,
    /// The command line that shows it again.
    pub replay: String,
}

impl Report {
    pub fn add(&mut self, run: &RunReport, replay: &str) {
        self.runs += 1;
        self.crash_points += u64::from(run.crashed);
        self.acknowledged_writes += run.acknowledged;
        self.virtual_seconds += run.virtual_ms as f64 / 1_000.0;
        for (kind, count) in &run.faults {
            *self.faults.entry((*kind).to_owned()).or_default() += count;
        }
        for ((fault, operation), count) in &run.coverage {
            let row = self.coverage.entry((*fault).to_owned()).or_default();
            *row.entry((*operation).to_owned()).or_default() += count;
        }
        for violation in &run.violations {
            self.violations.push(ViolationShown {
                seed: run.seed,
                invariant: violation.invariant.to_owned(),
                step: violation.step,
                detail: format!("at {} ms: {}", violation.at_ms, violation.detail),
                replay: replay.to_owned(),
            });
        }
    }
}
