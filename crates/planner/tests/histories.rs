//! Whatever happens to a cluster, every plan is valid, balanced, repeatable and final.

mod common;

use common::history::{Cluster, Event, Kind, event};
use planner::{Limits, Plan, Problem, lint, plan};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use std::collections::BTreeMap;

/// The checks that hold for every plan.
fn check(problem: &Problem) -> Plan {
    let limits = Limits::default();
    let made = plan(problem, &limits);
    if let Err(violations) = lint::check(problem, &made) {
        panic!("{violations:#?}\n{problem:#?}\n{made:#?}");
    }
    made
}

/// Solving a solution changes nothing. Where the limit of units leaves something out, who gets the last places may
/// be decided anew, and that ends too.
fn check_final(cluster: &mut Cluster, made: &Plan) {
    cluster.carry_out(made, |_| true);
    if cluster.problem.options.max_units_per_node.is_some() && !made.unplaceable.is_empty() {
        let quiet = (0..5).any(|_| {
            let again = check(&cluster.problem);
            cluster.carry_out(&again, |_| true);
            again.moves.is_empty()
        });
        assert!(quiet, "moves without end:\n{:#?}", cluster.problem);
        return;
    }
    let again = check(&cluster.problem);
    assert!(again.moves.is_empty(), "moves again: {:#?}\n{:#?}", again.moves, cluster.problem);
    let sorted = |plan: &Plan| -> BTreeMap<String, Vec<String>> {
        let mut placement = plan.placement.clone();
        for nodes in placement.values_mut() {
            nodes.sort();
        }
        placement
    };
    assert_eq!(sorted(&again), sorted(made));
    for (after, before) in again.unplaceable.iter().zip(&made.unplaceable) {
        assert_eq!(after, before);
    }
    assert_eq!(again.unplaceable.len(), made.unplaceable.len());
}

/// Renaming nodes changes nothing but names: `new` maps old names to new ones in another order.
fn check_renamed(problem: &Problem, made: &Plan) {
    let new = |id: &str| format!("x{:0>9}", id[1..].chars().rev().collect::<String>());
    let mut renamed = problem.clone();
    for node in &mut renamed.nodes {
        node.id = new(&node.id);
    }
    for replica in renamed.units.iter_mut().flat_map(|u| &mut u.replicas) {
        *replica = new(replica);
    }
    let again = plan(&renamed, &Limits::default());
    let expected: BTreeMap<String, Vec<String>> = made
        .placement
        .iter()
        .map(|(unit, nodes)| (unit.clone(), nodes.iter().map(|n| new(n)).collect()))
        .collect();
    assert_eq!(again.placement, expected);
    assert_eq!(again.rounds, made.rounds);
    assert_eq!(again.loss_probability, made.loss_probability);
}

fn live(events: &[Event], zones: u32, limit: Option<u32>, partly: u64) {
    let mut cluster = Cluster::new(zones);
    cluster.problem.options.max_units_per_node = limit;
    for (k, event) in events.iter().enumerate() {
        cluster.happen(event);
        let made = check(&cluster.problem);
        assert_eq!(made, plan(&cluster.problem, &Limits::default()), "not the same twice");
        check_renamed(&cluster.problem, &made);
        if k % 3 == 0 {
            cluster.carry_out(&made, |m| (partly >> (m % 64)) & 1 == 1);
        } else {
            check_final(&mut cluster, &made);
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Equal), Just(Kind::Capacities), Just(Kind::Weights)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_valid_balanced_and_final(
        events in kind().prop_flat_map(|kind| prop::collection::vec(event(kind), 1..40)),
        zones in 0..5u32,
        partly in any::<u64>(),
    ) {
        live(&events, zones, None, partly);
    }

    #[test]
    fn with_a_limit_of_units_too(
        events in kind().prop_flat_map(|kind| prop::collection::vec(event(kind), 1..40)),
        zones in 0..3u32,
        limit in 1..12u32,
        partly in any::<u64>(),
    ) {
        live(&events, zones, Some(limit), partly);
    }
}

/// One long life each, without and with zones.
#[test]
fn thousands_of_events() {
    for (kind, zones) in [(Kind::Equal, 0), (Kind::Weights, 0), (Kind::Capacities, 3)] {
        let mut runner = TestRunner::deterministic();
        let events =
            prop::collection::vec(event(kind), 2000).new_tree(&mut runner).expect("events").current();
        live(&events, zones, None, 0x5555_0f0f_3333_9c6d);
    }
}
