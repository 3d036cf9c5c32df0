//! `bench`: the figures of the README, measured here and now.

mod log;
mod planner;

use crate::args::BenchCommand;
use crate::output::{CommandError, Output};

pub fn run(command: BenchCommand, output: Output) -> Result<(), CommandError> {
    match command {
        BenchCommand::Log { dir } => log::run(&dir, output),
        BenchCommand::Planner { case: Some(case), runs } => planner::one(case, runs, output),
        BenchCommand::Planner { case: None, runs } => planner::all(runs, output),
    }
}
