//! `bench planner`: time and memory of the planner, every case in a process of its own, so that its peak memory is
//! nobody else's.

use super::{memory_kib, ms, timed};
use crate::output::{self, CommandError, Output, TextTable};
use planner::{Limits, bench, lint, plan};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::process::{Command, Stdio};

/// What was measured of one case. Times are those of this thread on a core, since the clock of a busy machine counts
/// others' work.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    case: usize,
    name: String,
    copies: u64,
    /// Time of one plan, in milliseconds.
    solve_ms_median: f64,
    solve_ms_min: f64,
    solve_ms_max: f64,
    goal_ms: Option<u32>,
    /// Nanoseconds for each `n · log2 n`, n being the copies: stays level while time grows no worse than that.
    ns_per_n_log_n: f64,
    /// Time of the independent check of the plan, in milliseconds.
    lint_ms: f64,
    /// Most memory the process had, with the problem in it; none where the system does not tell.
    peak_mib: Option<u64>,
    copies_made: u64,
    lower_bound: u64,
    rounds: usize,
}

/// Measures every case, each in a child process.
pub fn all(runs: u32, output: Output) -> Result<(), CommandError> {
    let count = bench::cases().len();
    let mut measured = Vec::with_capacity(count);
    for case in 1..=count {
        if output::stderr_is_terminal() {
            output::line_err(&format!("case {case} of {count}"));
        }
        measured.push(child(case, runs)?);
    }
    output::print(output, &json!({ "cases": measured }), |_| table(&measured))
}

/// Measures one case here.
pub fn one(case: usize, runs: u32, output: Output) -> Result<(), CommandError> {
    let measured = measure(case, runs)?;
    output::print(output, &measured, |one| table(std::slice::from_ref(one)))
}

fn child(case: usize, runs: u32) -> Result<Measured, CommandError> {
    let failed = |why: &dyn std::fmt::Display| {
        let hint = format!("`shardwright bench planner --case {case}` shows more");
        CommandError::failed(format!("case {case} could not be measured: {why}"), hint)
    };
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.args(["bench", "planner", "--output", "json"]);
    command.args(["--case".to_owned(), case.to_string(), "--runs".to_owned(), runs.to_string()]);
    let child = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let done = child.map_err(|error| failed(&error))?;
    if !done.status.success() {
        return Err(failed(&done.status));
    }
    serde_json::from_slice(&done.stdout).map_err(|error| failed(&error))
}

fn measure(number: usize, runs: u32) -> Result<Measured, CommandError> {
    let cases = bench::cases();
    let Some(case) = number.checked_sub(1).and_then(|at| cases.get(at)) else {
        let message = format!("there is no case {number}");
        return Err(CommandError::usage(message, format!("choose 1 to {}", cases.len())));
    };
    let problem = case.problem();
    let limits = Limits::default();
    let (mut made, first) = timed(|| plan(&problem, &limits));
    let mut times = vec![first];
    for _again in 1..runs {
        // Two plans at once would count twice in the peak memory.
        drop(made);
        let (again, time) = timed(|| plan(&problem, &limits));
        made = again;
        times.push(time);
    }
    let (verdict, lint_ms) = timed(|| lint::check(&problem, &made));
    verdict.map_err(|broken| {
        CommandError::failed(format!("the plan of case {number} breaks a rule: {broken:?}"), "report it")
    })?;
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let copies = case.copies() as f64;
    Ok(Measured {
        case: number,
        name: case.name.to_owned(),
        copies: case.copies(),
        solve_ms_median: median,
        solve_ms_min: times[0],
        solve_ms_max: times[times.len() - 1],
        goal_ms: case.goal_ms,
        ns_per_n_log_n: median * 1e6 / (copies * copies.log2()),
        lint_ms,
        peak_mib: memory_kib("VmHWM").map(|kib| kib.div_ceil(1024)),
        copies_made: made.copies,
        lower_bound: made.lower_bound,
        rounds: made.rounds.len(),
    })
}

fn table(measured: &[Measured]) -> String {
    let mut table = TextTable::new([
        "case",
        "what",
        "copies",
        "ms",
        "min",
        "max",
        "goal",
        "ns/n log n",
        "lint ms",
        "MiB",
        "made",
        "bound",
        "rounds",
    ]);
    let known = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    for one in measured {
        table.row([
            one.case.to_string(),
            one.name.clone(),
            one.copies.to_string(),
            ms(one.solve_ms_median),
            ms(one.solve_ms_min),
            ms(one.solve_ms_max),
            known(one.goal_ms.map(u64::from)),
            ms(one.ns_per_n_log_n),
            ms(one.lint_ms),
            known(one.peak_mib),
            one.copies_made.to_string(),
            one.lower_bound.to_string(),
            one.rounds.to_string(),
        ]);
    }
    table.to_string()
}
