//! A bounded set of runs: fixed seeds, fresh ones (printed), every known bug, and a sample of the crash sweep.

#![allow(clippy::print_stdout, reason = "fresh seeds, and the seed that found a bug, must be seen")]

use sim::{Bug, Operation, Scenario};

/// Runs the seeds and gives every violation with its replay line.
fn violations(scenario: Scenario, seeds: std::ops::RangeInclusive<u64>) -> Vec<String> {
    let report = scenario.run_all(seeds, None, |_, _| true);
    assert!(report.acknowledged_writes > 0, "somebody wrote");
    report
        .violations
        .iter()
        .map(|one| format!("{}: {} ({})", one.invariant, one.detail, one.replay))
        .collect()
}

#[test]
fn fixed_seeds_are_clean() {
    assert_eq!(violations(Scenario::All, 1..=8), Vec::<String>::new());
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "fresh seeds must differ between processes; each run is still told by its seed"
)]
fn fresh_seeds_are_clean() {
    let first = 1_000 + u64::from(std::process::id()) * 100;
    println!("fresh seeds {first}..{}", first + 2);
    assert_eq!(violations(Scenario::All, first..=first + 2), Vec::<String>::new());
}

/// They waited for each other for ever.
#[test]
fn members_left_of_a_dropped_group_without_quorum_are_cleaned() {
    assert_eq!(violations(Scenario::All, 352..=352), Vec::<String>::new());
}

#[test]
fn a_seed_repeats_exactly() {
    let run = || Scenario::All.run(7, None);
    assert_eq!(run(), run());
}

#[test]
fn every_operation_survives_a_crash_at_some_of_its_boundaries() {
    for operation in Operation::ALL {
        let whole = Scenario::Sweep(operation, Some(0)).run(2, None);
        let points = whole[0].1.crash_points;
        assert!(points > 4, "{operation:?} has {points} boundaries");
        assert!(whole[0].1.violations.is_empty(), "{:?}", whole[0]);
        for point in (1..=points).step_by((points / 3) as usize) {
            let (scenario, run) = Scenario::Sweep(operation, Some(point)).run(2, None).remove(0);
            assert_eq!(run.faults.get("controller crash"), Some(&1), "{}", scenario.replay(2, None));
            assert!(run.violations.is_empty(), "{}: {:?}", scenario.replay(2, None), run.violations);
        }
    }
}

/// The budget of `goals.md`.
const SEEDS_MAX: u64 = 200;

/// The first seed from `first` on, within the budget, that finds the bug by one of the `invariants` that it must break,
/// and is clean without it.
fn find(bug: Bug, first: u64, invariants: &[&str]) {
    let report =
        Scenario::All.run_all(first..=SEEDS_MAX, Some(bug), |_, report| report.violations.is_empty());
    let found = report.violations.first().expect("within the budget");
    println!("{} is found: {found:?}", bug.name());
    assert!(
        invariants.contains(&found.invariant.as_str()),
        "it must break one of {invariants:?}, it broke {found:?}"
    );
    let without = Scenario::All.run(found.seed, None);
    assert!(
        without.iter().all(|(_, run)| run.violations.is_empty()),
        "it is found for another reason: {without:?}"
    );
}

macro_rules! bugs {
    (
        at_once { $($test:ident: $bug:ident from $first:literal by $by:expr,)* }
        in_minutes { $($slow:ident: $slow_bug:ident by $slow_by:expr,)* }
    ) => {
        $(
            #[test]
            fn $test() {
                find(Bug::$bug, $first, &$by);
            }
        )*
        $(
            #[test]
            #[ignore = "takes minutes without optimisation"]
            fn $slow() {
                find(Bug::$slow_bug, 1, &$slow_by);
            }
        )*

        #[test]
        fn every_bug_has_a_test() {
            let mut tested = vec![$(Bug::$bug,)* $(Bug::$slow_bug,)*];
            tested.sort();
            let mut all = Bug::ALL.to_vec();
            all.sort();
            assert_eq!(tested, all);
        }
    };
}

// A bug that leaves something behind is met as a leftover, or as a cluster that never comes to rest because of it.
bugs! {
    at_once {
        finds_a_late_command: LateCommand from 5 by ["5 leaders"],
        finds_a_shed_before_the_route: ShedBeforeRoute from 1 by ["3 routes"],
        finds_an_edge_triggered_look: EdgeTriggered from 6 by ["3 routes"],
        finds_a_leaked_directory: LeakedDirectory from 1 by ["6 leftovers"],
        finds_two_leaders: TwoLeaders from 32 by ["5 leaders"],
    }
    in_minutes {
        finds_a_bootstrap_on_both_sides: BootstrapOnBothSides by ["1 documents", "8 convergence"],
        finds_an_undo_on_the_wrong_node: UndoOnTheWrongNode by ["6 leftovers", "8 convergence"],
        finds_a_stale_leader: StaleLeader by ["5 leaders"],
        finds_an_unsynced_route: UnsyncedRoute by ["3 routes"],
        finds_success_on_failure: SuccessOnFailure by ["6 leftovers", "8 convergence"],
        finds_a_leaked_cluster: LeakedCluster by ["6 leftovers", "8 convergence"],
    }
}
