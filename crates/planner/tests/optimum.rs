//! With equal weights and no zones, the copies made are the exact optimum of the transport problem in every history.

mod common;

use common::{
    exact::{optimum, ranges},
    history::{Cluster, Event, Kind, event},
};
use planner::{Limits, Proof, lint, plan};
use proptest::prelude::*;

fn check(events: &[Event], partly: u64, one_rf: bool) {
    let mut cluster = Cluster::new(0);
    for (k, event) in events.iter().enumerate() {
        cluster.happen(event);
        if one_rf {
            for unit in &mut cluster.problem.units {
                unit.rf = 2;
            }
        }
        let plan = plan(&cluster.problem, &Limits::default());
        let (copies, bytes) =
            optimum(&cluster.problem, &ranges(&cluster.problem)).expect("there is a balanced placement");
        assert_eq!(plan.copies, copies, "copies after {event:?}: {:#?}", cluster.problem);
        assert_eq!(plan.bytes, bytes, "bytes after {event:?}: {:#?}", cluster.problem);
        assert_ne!(plan.proof, Proof::Gap);
        assert_eq!((plan.lower_bound, plan.gap), (copies, 0));
        // Every third plan is carried out in part only: the next one meets the rest.
        let whole = k % 3 != 0;
        cluster.carry_out(&plan, |m| whole || (partly >> (m % 64)) & 1 == 1);
    }
}

/// With zones the planner chooses the loads itself; for the loads it has chosen, no placement is cheaper.
fn check_zones(events: &[Event], zones: u32, partly: u64) {
    let mut cluster = Cluster::new(zones);
    for (k, event) in events.iter().enumerate() {
        cluster.happen(event);
        let problem = &cluster.problem;
        let made = plan(problem, &Limits::default());
        let load = |id: &str| made.load.get(id).map_or(0, |&load| load.round() as i64);
        let loads: Vec<(i64, i64)> = problem.nodes.iter().map(|n| (load(&n.id), load(&n.id))).collect();
        let (copies, bytes) = optimum(problem, &loads).expect("the plan itself is one");
        assert_eq!((made.copies, made.bytes), (copies, bytes), "after {event:?}: {problem:#?}");
        assert_ne!(made.proof, Proof::Gap);
        let whole = k % 3 != 0;
        cluster.carry_out(&made, |m| whole || (partly >> (m % 64)) & 1 == 1);
    }
}

/// Without any search the plan is still valid, and its bound still below the optimum.
fn check_without_search(events: &[Event]) {
    let mut cluster = Cluster::new(0);
    for event in events {
        cluster.happen(event);
        let problem = &cluster.problem;
        let made = plan(problem, &Limits { search_steps: 0 });
        lint::check(problem, &made).expect("valid");
        let (copies, _) = optimum(problem, &ranges(problem)).expect("there is a balanced placement");
        assert!(made.lower_bound <= copies);
        cluster.carry_out(&made, |_| true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_equal_nodes(events in prop::collection::vec(event(Kind::Equal), 1..40), partly in any::<u64>()) {
        check(&events, partly, false);
    }

    #[test]
    fn of_nodes_of_any_capacity(events in prop::collection::vec(event(Kind::Capacities), 1..40), partly in any::<u64>()) {
        check(&events, partly, true);
    }

    #[test]
    fn of_zones_at_the_loads_reached(
        events in prop::collection::vec(event(Kind::Equal), 1..40),
        zones in 2..5u32,
        partly in any::<u64>(),
    ) {
        check_zones(&events, zones, partly);
    }

    #[test]
    fn is_bounded_even_without_search(events in prop::collection::vec(event(Kind::Equal), 1..40)) {
        check_without_search(&events);
    }
}
