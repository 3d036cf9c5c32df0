//! `sim`: whole clusters under faults, seed by seed.

use crate::args::SimArgs;
use crate::output::{self, CommandError, Failure, Output};
use crate::story::Story;
use ::sim::{Bug, Report, RunReport, Scenario};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError, mpsc};

pub fn run(args: &SimArgs, output: Output) -> Result<(), CommandError> {
    if args.list_bugs {
        return list_bugs(output);
    }
    if let (true, Some(seed)) = (args.story, args.seed) {
        for line in args.scenario().story(seed, args.bug) {
            output::line_out(&line);
        }
    }
    let report = side_by_side(args, &Story::new(output));
    if report.violations.is_empty() {
        return output::print(output, &report, |report| text(report, args.scenario()));
    }
    if output == Output::Table {
        output::line_out(text(&report, args.scenario()).trim_end());
    }
    let message =
        format!("an invariant was violated {} times in {} runs", report.violations.len(), report.runs);
    let mut error = CommandError::new(Failure::Failed, message, "replay one by the line shown with it");
    error.result = serde_json::to_value(&report).ok().map(Box::new);
    Err(error)
}

/// All seeds, on as many threads as were asked for. What comes out is the same with any number of them: reports are
/// added in the order of the seeds, and with a bug the first one that finds it ends the search.
fn side_by_side(args: &SimArgs, story: &Story) -> Report {
    let seeds = args.seed.map_or_else(|| args.seeds.clone(), |seed| seed..=seed);
    let parts = args.scenario().parts();
    let mut report = Report { seeds: format!("{}..{}", seeds.start(), seeds.end()), ..Report::default() };
    let jobs = args.jobs.map_or_else(processors, usize::from);
    let step = story.step("simulating");
    let count = (seeds.end() - seeds.start()).saturating_add(1);
    step.measure(Some(count.saturating_mul(parts.len() as u64)));
    let todo = Mutex::new(seeds.flat_map(|seed| parts.iter().map(move |part| (seed, *part))).enumerate());
    let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (done, reports) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                while let Some((at, (seed, part))) = next() {
                    if done.send((at, seed, part.run(seed, args.bug))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let (mut early, mut added) = (BTreeMap::new(), 0);
        for (at, seed, runs) in reports {
            early.insert(at, (seed, runs));
            while let Some((seed, runs)) = early.remove(&added) {
                add(&mut report, seed, &runs, args.bug, story);
                added += 1;
                step.position(added as u64);
                if args.bug.is_some() && !report.violations.is_empty() {
                    return;
                }
            }
        }
    });
    step.done(&format!("{} runs on {jobs} threads", report.runs));
    report
}

/// What goes wrong is told at once: the rest may take half an hour.
fn add(report: &mut Report, seed: u64, runs: &[(Scenario, RunReport)], bug: Option<Bug>, story: &Story) {
    for (scenario, run) in runs {
        report.add(run, &scenario.replay(seed, bug));
        for violation in &run.violations {
            story.say(&format!("✘ {}: {}", scenario.replay(seed, bug), violation.invariant));
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
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
    output::print(output, &json!({ "bugs": bugs }), |_| {
        let found = Bug::ALL.map(|bug| {
            let scenario = match bug.scenario() {
                Scenario::All => String::new(),
                other => format!(" (--scenario {})", other.name()),
            };
            format!("{:28}{}{scenario}", bug.name(), bug.what())
        });
        found.join("\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(jobs: u16, seeds: std::ops::RangeInclusive<u64>, bug: Option<Bug>) -> SimArgs {
        let scenario = bug.map_or(Scenario::Quiet, Bug::scenario);
        SimArgs {
            seeds,
            seed: None,
            scenario: Some(scenario),
            story: false,
            bug,
            jobs: Some(jobs),
            list_bugs: false,
        }
    }

    #[test]
    fn any_number_of_threads_comes_to_the_same() {
        let alone = side_by_side(&args(1, 1..=3, None), &Story::silent());
        assert_eq!(alone.runs, 3);
        assert_eq!(alone, side_by_side(&args(3, 1..=3, None), &Story::silent()));
    }

    #[test]
    fn the_first_seed_that_finds_a_bug_ends_the_search() {
        let found = side_by_side(&args(2, 36..=200, Some(Bug::TwoLeaders)), &Story::silent());
        assert_eq!(found.violations.len(), 1, "{found:?}");
        assert!(found.runs < 100, "{found:?}");
    }
}
