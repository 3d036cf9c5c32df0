//! Every known bug, re-introduced: the seeds of the scenario that leads to its harm find it, and are clean without it.

#![allow(clippy::print_stdout, reason = "the seed that found a bug must be seen")]

use sim::Bug;

/// The budget of `goals.md`.
const SEEDS_MAX: u64 = 200;

/// The first seed from `first` on, within the budget, that finds the bug by one of the `invariants` that it must break,
/// and is clean without it.
fn find(bug: Bug, first: u64, invariants: &[&str]) {
    let mut runs = (first..=SEEDS_MAX).flat_map(|seed| bug.scenario().run(seed, Some(bug)));
    let (seed, found) = runs
        .find_map(|(_, run)| Some((run.seed, run.violations.first()?.clone())))
        .expect("within the budget");
    println!("{} is found by seed {seed}: {found:?}", bug.name());
    assert!(invariants.contains(&found.invariant), "it must break one of {invariants:?}, it broke {found:?}");
    let without = bug.scenario().run(seed, None);
    assert!(
        without.iter().all(|(_, run)| run.violations.is_empty()),
        "it is found for another reason: {without:?}"
    );
}

macro_rules! bugs {
    (
        at_once { $($test:ident: $bug:ident from $first:literal by $by:expr,)* }
        in_minutes { $($slow:ident: $slow_bug:ident from $slow_first:literal by $slow_by:expr,)* }
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
                find(Bug::$slow_bug, $slow_first, &$slow_by);
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
        finds_a_late_command: LateCommand from 40 by ["5 leaders"],
        finds_a_shed_before_the_route: ShedBeforeRoute from 7 by ["3 routes"],
        finds_an_edge_triggered_look: EdgeTriggered from 18 by ["3 routes"],
        finds_a_leaked_directory: LeakedDirectory from 7 by ["6 leftovers"],
        finds_two_leaders: TwoLeaders from 43 by ["5 leaders"],
        finds_a_filled_add: FilledAdd from 18 by ["4 adds"],
        finds_a_drop_while_it_is_written: DropWhileWritten from 116 by ["1 documents", "2 floor"],
        finds_a_stale_leader: StaleLeader from 1 by ["5 leaders"],
        finds_a_rejoin_by_increments: RejoinByIncrements from 1 by ["1 documents"],
        finds_a_truncate_that_is_repeated: TruncateAgain from 1 by ["1 documents"],
        finds_an_undo_of_what_was_there: UndoOfWhatWasThere from 4 by ["1 documents"],
        finds_a_name_that_is_made_again: NameMadeAgain from 1 by ["1 documents"],
        finds_a_group_that_is_routed_without_a_quorum: RoutedWithoutQuorum from 1 by ["1 documents"],
        finds_names_that_are_not_stored: NamesNotStored from 1 by ["1 documents"],
        finds_nodes_without_a_binlog: NoBinlog from 1 by ["1 documents"],
        finds_a_node_that_is_taken_for_another: AnyNode from 1 by ["1 documents"],
        finds_exits_that_wait_for_each_other: CrossingExits from 14 by ["6 leftovers", "8 convergence"],
        finds_an_older_copy_that_is_first: OlderCopyFirst from 33 by ["1 documents"],
        finds_success_on_failure: SuccessOnFailure from 7 by ["1 documents", "3 routes", "6 leftovers", "8 convergence"],
        finds_one_copy_after_two_losses: OneCopyAfterTwoLosses from 2 by ["3 routes", "8 convergence"],
        finds_a_sidecar_that_obeys_any_log: AnyLog from 1 by ["8 convergence"],
    }
    in_minutes {
        finds_a_dead_node_that_blocks: DeadNodeBlocks from 12 by ["3 routes", "8 convergence"],
        finds_a_bootstrap_on_both_sides: BootstrapOnBothSides from 32 by ["1 documents", "8 convergence"],
        finds_an_undo_on_the_wrong_node: UndoOnTheWrongNode from 43 by ["6 leftovers", "8 convergence"],
        finds_copies_by_the_clock: CopyByTheClock from 2 by ["8 convergence"],
        finds_an_unsynced_route: UnsyncedRoute from 6 by ["3 routes"],
        finds_a_leaked_cluster: LeakedCluster from 14 by ["6 leftovers", "8 convergence"],
        finds_a_retry_from_creation: RetryFromCreation from 5 by ["3 routes", "8 convergence"],
        finds_a_commit_that_is_run_again: CommitAgain from 19 by ["1 documents", "3 routes"],
    }
}
