//! `plan`: the planner alone.

use crate::args::PlanArgs;
use crate::output::{self, CommandError, Output, TextTable};
use planner::input::read_problem;
use planner::{Limits, Plan, explain, lint, plan};
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
    lint::check(&problem, &timed.plan).map_err(|broken| {
        CommandError::failed(
            format!("the plan breaks a rule, which is a fault of ours: {broken:?}"),
            "report it",
        )
    })?;
    output::print(output, &timed, |timed| text(&explain::difference(&problem, &timed.plan), timed))
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

fn text(difference: &str, timed: &Timed) -> String {
    let mut load = TextTable::new(["node", "load"]);
    for (node, weight) in &timed.plan.load {
        load.row([node.clone(), weight.to_string()]);
    }
    let mut loss = TextTable::new(["nodes lost at once", "some unit loses all copies"]);
    for (nodes, probability) in &timed.plan.loss_probability {
        loss.row([nodes.to_string(), format!("{:.4} %", probability * 100.0)]);
    }
    format!("{difference}planned in {:.3} s\n\n{load}\n{loss}", timed.solve_seconds)
}
