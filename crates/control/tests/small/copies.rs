//! Copies that take long: one that goes on has its time, one that stands still has not.

use super::world::{Slow, World, node};
use control::operation::{Kind, Status, Step};
use model::{Action, Millis, NodeId};

/// Three nodes with a table, and a fourth that is to have its share, one copy after the other.
fn grown(seed: u64, slow: Slow) -> World {
    let mut world = World::with_table(seed, 3, 2, 2);
    world.slow = Some(slow);
    world.add_node(4);
    world.until("a copy on its way", |world| !joins(world).is_empty());
    world
}

/// The JOINs of moves under way.
fn joins(world: &World) -> Vec<Step> {
    let moves = world.state().operations.values().filter(|it| matches!(it.kind, Kind::Move { .. }));
    let join = |step: &&Step| {
        step.attempts > 0
            && matches!(step.work.action(), Some(Action::JoinCluster { .. }))
            && step.error.is_none()
    };
    moves.flat_map(|it| it.steps.iter().filter(join).cloned().collect::<Vec<_>>()).collect()
}

fn standing(world: &World) -> Vec<String> {
    let alerts = world.controller.alerts(0).into_iter();
    let firing = alerts.filter(|alert| alert.state == "firing" && alert.kind == "standing_step");
    firing.map(|alert| format!("{} {:?} {}", alert.message, alert.labels, alert.action)).collect()
}

fn tries(world: &World, target: &NodeId) -> u32 {
    let operations = world.state().operations.values().chain(&world.state().finished);
    let moves = operations.filter(|it| matches!(&it.kind, Kind::Move { to, .. } if to == target));
    let join = |step: &&Step| matches!(step.work.action(), Some(Action::JoinCluster { .. }));
    moves.flat_map(|it| it.steps.iter().filter(join)).map(|step| step.attempts).max().unwrap_or(0)
}

#[test]
fn a_copy_that_goes_on_has_all_the_time_it_needs() {
    let takes = Millis::from_secs(800);
    let mut world = grown(1, Slow { takes, goes_on: takes });
    world.set(|settings| {
        settings.rebalance_timeout_seconds = 400;
        settings.max_operation_duration_seconds = 600;
    });
    let began = world.now;
    while world.now.since(began) < takes {
        world.step();
        assert_eq!(standing(&world), Vec::<String>::new());
    }
    world.slow = None;
    world.settle();
    assert_eq!(tries(&world, &node(4)), 1, "none was given up");
    let failed = world.state().finished.iter().filter(|it| it.status == Status::Failed).count();
    assert_eq!(failed, 0);
}

#[test]
fn a_copy_that_stands_still_is_told_of_and_given_up() {
    let (never, goes_on) = (Millis::from_secs(1_000_000), Millis::from_secs(100));
    let mut world = grown(2, Slow { takes: never, goes_on });
    let began = world.now;
    world.until("the alert", |world| !standing(world).is_empty());
    let after = world.now.since(began);
    let told = standing(&world).join("\n");
    // Whoever hears of it must find the step, and know what to do.
    let all = [node(4).as_str().to_owned(), "JOIN CLUSTER".to_owned(), "restart searchd".to_owned()];
    assert!(all.iter().all(|part| told.contains(part)), "{told}");
    assert!(after >= Millis::from_secs(160) && after < Millis::from_secs(163), "told after {after:?}");
    world.until("another try", |world| tries(world, &node(4)) == 2);
    let after = world.now.since(began);
    assert!(after >= Millis::from_secs(400) && after < Millis::from_secs(403), "given up after {after:?}");
    // Its node is restarted, as the alert says.
    world.slow = None;
    world.kill(&node(4));
    world.start(&node(4));
    world.settle();
    assert_eq!(standing(&world), Vec::<String>::new());
}

#[test]
fn a_leader_that_takes_over_lets_a_copy_go_on() {
    let takes = Millis::from_secs(500);
    let mut world = grown(3, Slow { takes, goes_on: takes });
    let began = world.now;
    while world.now.since(began) < takes {
        if world.now.since(began).0 % 200_000 == 100_000 {
            world.restart_controller();
        }
        world.step();
    }
    world.slow = None;
    world.settle();
    assert_eq!(tries(&world, &node(4)), 1, "none was given up");
}
