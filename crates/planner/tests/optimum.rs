//! With equal weights and no zones, the copies made are the exact optimum of the transport problem in every history.

mod common;

use common::{
    exact::{optimum, ranges},
    history::{Cluster, Event, Kind, event},
};
use planner::{Limits, Proof, plan};
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
}
