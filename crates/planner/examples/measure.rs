//! Times the planner on all cases of the bench, with the peak memory where the system tells it.
#![allow(clippy::disallowed_methods, reason = "an example owns its clock")]
#![allow(clippy::print_stdout, reason = "it prints a table")]

use planner::{Limits, bench, lint, plan};
use std::time::Instant;

/// Peak memory of this process in MiB.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or("?".to_owned(), |kib| (kib / 1024).to_string())
}

/// Time this process has had on a core: on a busy machine it says more than the clock.
fn on_core() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e6)
}

fn main() {
    let only: Option<usize> = std::env::args().nth(1).and_then(|n| n.parse().ok());
    for (k, case) in bench::cases().iter().enumerate() {
        if only.is_some_and(|n| n != k) {
            continue;
        }
        let problem = case.problem();
        let (before, start, core) = (peak(), Instant::now(), on_core());
        let made = plan(&problem, &Limits::default());
        let (clock, solve, after, core) = (start.elapsed(), on_core() - core, peak(), on_core());
        let valid = lint::check(&problem, &made).is_ok();
        println!(
            "{k} {}: {solve:.1} ms on a core ({:.0} ms by the clock, goal {:?}), {} copies, bound {}, {} rounds, \
             peak {before} → {after} MiB, lint {valid} {:.0} ms, loss {:?}",
            case.name,
            clock.as_secs_f64() * 1e3,
            case.goal_ms,
            made.copies,
            made.lower_bound,
            made.rounds.len(),
            on_core() - core,
            made.loss_probability,
        );
    }
}
