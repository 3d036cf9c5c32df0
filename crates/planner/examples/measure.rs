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

fn main() {
    let only: Option<usize> = std::env::args().nth(1).and_then(|n| n.parse().ok());
    for (k, case) in bench::cases().iter().enumerate() {
        if only.is_some_and(|n| n != k) {
            continue;
        }
        let problem = case.problem();
        let before = peak();
        let start = Instant::now();
        let made = plan(&problem, &Limits::default());
        let solve = start.elapsed();
        let after = peak();
        let start = Instant::now();
        let valid = lint::check(&problem, &made).is_ok();
        println!(
            "{k} {}: {:.1} ms, {} copies, bound {}, {} rounds, lint {valid} {:.0} ms, peak {before} → {after} MiB, goal {:?} ms, {:?}",
            case.name,
            solve.as_secs_f64() * 1e3,
            made.copies,
            made.lower_bound,
            made.rounds.len(),
            start.elapsed().as_secs_f64() * 1e3,
            case.goal_ms,
            made.loss_probability,
        );
    }
}
