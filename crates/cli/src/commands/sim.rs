//! `sim`: whole clusters under faults, seed by seed.

use crate::args::SimArgs;
use crate::output::{self, CommandError, Failure, Output};
use ::sim::{Bug, Report, Scenario};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;

pub fn run(args: &SimArgs, output: Output) -> Result<(), CommandError> {
    if args.list_bugs {
        return list_bugs(output);
    }
    if let (true, Some(seed)) = (args.story, args.seed) {
        for line in args.scenario.story(seed, args.bug) {
            output::line_out(&line);
        }
    }
    let seeds = match args.seed {
        Some(seed) => seed..=seed,
        None => args.seeds.clone(),
    };
    let report = args
        .scenario
        .run_all(seeds, args.bug, |_, report| args.bug.is_none() || report.violations.is_empty());
    if report.violations.is_empty() {
        return output::print(output, &report, |report| text(report, args.scenario));
    }
    if output == Output::Table {
        output::line_out(text(&report, args.scenario).trim_end());
    }
    let message =
        format!("an invariant was violated {} times in {} runs", report.violations.len(), report.runs);
    let mut error = CommandError::new(Failure::Failed, message, "replay one by the line shown with it");
    error.result = serde_json::to_value(&report).ok().map(Box::new);
    Err(error)
}

/// For people: what was run, what went wrong, and which faults met which operations.
fn text(report: &Report, scenario: Scenario) -> String {
    let mut text = format!(
        "{} runs of '{}', seeds {}: {:.0} s of virtual time, {} writes acknowledged, {} crash points\n",
        report.runs,
        scenario.name(),
        report.seeds,
        report.virtual_seconds,
        report.acknowledged_writes,
        report.crash_points
    );
    for violation in &report.violations {
        let _infallible = write!(
            text,
            "seed {}: {} at step {}, {}\n  {}\n",
            violation.seed, violation.invariant, violation.step, violation.detail, violation.replay
        );
    }
    let operations: BTreeSet<&String> = report.coverage.values().flat_map(|row| row.keys()).collect();
    let _infallible = write!(text, "\n{:34}{:>7}", "fault", "times");
    for operation in &operations {
        let _infallible = write!(text, "{operation:>12}");
    }
    for (fault, times) in &report.faults {
        let _infallible = write!(text, "\n{fault:34}{times:>7}");
        for operation in &operations {
            let met = report.coverage.get(fault).and_then(|row| row.get(*operation)).copied().unwrap_or(0);
            let _infallible = write!(text, "{met:>12}");
        }
    }
    text
}

fn list_bugs(output: Output) -> Result<(), CommandError> {
    let bugs = Bug::ALL
        .map(|bug| json!({ "name": bug.name(), "scenario": bug.scenario().name(), "what": bug.what() }));
    let stopped = Bug::STOPPED.map(|(name, why)| json!({ "name": name, "why": why }));
    output::print(output, &json!({ "bugs": bugs, "stopped": stopped }), |_| {
        let found = Bug::ALL.map(|bug| {
            let scenario = match bug.scenario() {
                Scenario::All => String::new(),
                other => format!(" (--scenario {})", other.name()),
            };
            let not_yet = if Bug::NOT_FOUND.contains(&bug) { " (no run has found it yet)" } else { "" };
            format!("{:28}{}{scenario}{not_yet}", bug.name(), bug.what())
        });
        let stopped = Bug::STOPPED.map(|(name, why)| format!("{name:28}{why}"));
        format!(
            "{}\n\nNo switch, because another rule stops them, too:\n{}",
            found.join("\n"),
            stopped.join("\n")
        )
    })
}
