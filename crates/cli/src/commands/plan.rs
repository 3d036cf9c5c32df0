//! `plan`: the planner alone.

use crate::args::PlanArgs;
use crate::output::{self, CommandError, Output, TextTable};
use planner::input::read_problem;
use planner::{Limits, Plan, plan};
use serde::Serialize;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

#[derive(Debug, Serialize)]
struct Timed {
    #[serde(flatten)]
    plan: Plan,
    solve_seconds: f64,
}

pub fn run(args: &PlanArgs, output: Output) -> Result<(), CommandError> {
    let bytes = read(&args.input)?;
    let problem = read_problem(&bytes).map_err(|error| {
        CommandError::usage(error.to_string(), "see `shardwright plan --help` for the shape")
    })?;
    let started = Instant::now();
    let plan = plan(&problem, &Limits::default());
    let timed = Timed { plan, solve_seconds: started.elapsed().as_secs_f64() };
    output::print(output, &timed, text)
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|content| bytes = content)
    };
    read.map_err(|error| {
        CommandError::usage(
            format!("cannot read {}: {error}", path.display()),
            "give --input a file, or - for stdin",
        )
    })?;
    Ok(bytes)
}

fn text(timed: &Timed) -> String {
    let plan = &timed.plan;
    let mut moves = TextTable::new(["unit", "to", "from", "reason"]);
    for one in &plan.moves {
        let dash = |node: &Option<String>| node.clone().unwrap_or_else(|| "-".to_owned());
        moves.row([one.unit.clone(), dash(&one.to), dash(&one.from), one.reason.to_string()]);
    }
    let mut load = TextTable::new(["node", "load"]);
    for (node, weight) in &plan.load {
        load.row([node.clone(), weight.to_string()]);
    }
    let unplaceable: Vec<String> =
        plan.unplaceable.iter().map(|one| format!("unit {}: {}", one.unit, one.why)).collect();
    format!(
        "{} copies, {} are the fewest; {:.3} s\n\n{moves}\n{load}\n{}",
        plan.copies,
        plan.lower_bound,
        timed.solve_seconds,
        unplaceable.join("\n")
    )
}
