//! `bench`: the figures of the README, measured here and now.

mod control;
mod log;
mod planner;

use crate::args::BenchCommand;
use crate::output::{CommandError, Output};
use rustix::time::{ClockId, clock_gettime};

pub fn run(command: BenchCommand, output: Output) -> Result<(), CommandError> {
    match command {
        BenchCommand::Control { nodes, tables, shards } => control::run(nodes, tables, shards, output),
        BenchCommand::Log { dir } => log::run(&dir, output),
        BenchCommand::Planner { case: Some(case), runs } => planner::one(case, runs, output),
        BenchCommand::Planner { case: None, runs } => planner::all(runs, output),
    }
}

/// What `work` gives, and the milliseconds this thread was on a core for it: the clock of a busy machine counts
/// others' work.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    };
    let begun = now();
    let done = work();
    (done, now() - begun)
}

fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 0.1 => format!("{ms:.3}"),
        ms if ms < 10.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// Memory of this process by the name that the system has for it (`RssAnon`, `VmHWM`); none where it does not tell.
fn memory_kib(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
