//! Starting, pace, progress, recovery and clean-up: each figure is driven across its threshold.

use super::world::{Refused, World, node, table};
use control::operation::{Kind, Status};
use control::state::Member;
use model::operate::{
    OrderReply, Preflight, RebalancePlan, RebalanceProgress, RebalanceReply, Refused as Why,
};
use model::wire::{RebalanceOrder, ShardingStatement, StatementReply};
use model::{Action, GroupId, Millis, StepId};
use std::collections::{BTreeMap, BTreeSet};

fn object(world: &mut World, statement: ShardingStatement) -> OrderReply {
    let request = world.ask(statement);
    world.until("an answer", |world| world.answers.contains_key(&request));
    match &world.answers[&request] {
        StatementReply::Object(object) => (**object).clone(),
        other => panic!("{other:?}"),
    }
}

fn order(world: &mut World, name: &str, order: RebalanceOrder) -> RebalanceReply {
    match object(world, ShardingStatement::Rebalance { name: table(name), order }) {
        OrderReply::Rebalance(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn plan(world: &mut World) -> RebalancePlan {
    match object(world, ShardingStatement::Rebalance { name: table("t"), order: RebalanceOrder::DryRun }) {
        OrderReply::Plan(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn progress(world: &mut World) -> RebalanceProgress {
    match object(world, ShardingStatement::Rebalance { name: table("t"), order: RebalanceOrder::Status }) {
        OrderReply::Progress(progress) => progress,
        other => panic!("{other:?}"),
    }
}

fn start(world: &mut World, name: &str) -> RebalanceReply {
    order(world, name, RebalanceOrder::Start)
}

/// The checks of a start that was refused by them.
fn refused(reply: RebalanceReply) -> Preflight {
    match reply {
        RebalanceReply::Refused { success: false, reason: Why::PreflightFailed { details } } => {
            assert!(!details.can_proceed);
            assert_eq!(details.checks.len(), 5, "all are reported: {details:?}");
            details
        }
        other => panic!("{other:?}"),
    }
}

fn failed(details: &Preflight) -> Vec<&str> {
    details.checks.iter().filter(|(_, passed)| !**passed).map(|(check, _)| check.as_str()).collect()
}

fn steps(world: &mut World, count: usize) {
    for _ in 0..count {
        world.step();
    }
}

/// Time passes at rest.
fn wait(world: &mut World, seconds: u64) {
    world.now = world.now + Millis::from_secs(seconds);
    steps(world, 100);
}

/// Three nodes with a paused table, and a fourth that wants its share.
fn grown(seed: u64) -> World {
    let mut world = World::with_table(seed, 3, 12, 2);
    order(&mut world, "t", RebalanceOrder::Pause);
    world.add_node(4);
    world.until("a member", |world| world.state().nodes.len() == 4);
    steps(&mut world, 100);
    world
}

#[test]
fn a_start_needs_sixty_percent_of_the_nodes() {
    let mut world = World::with_table(1, 5, 12, 2);
    world.set(|settings| settings.node_loss_grace_seconds = 3_600);
    for (n, passes) in [(5, true), (4, true), (3, false)] {
        world.kill(&node(n));
        world.until("the loss", |world| world.state().nodes[&node(n)].lost);
        world.until("quiet", |world| world.state().operations.is_empty());
        let reply = start(&mut world, "t");
        if passes {
            assert!(matches!(reply, RebalanceReply::Done { success: true, .. }), "{} of 5: {reply:?}", n - 1);
        } else {
            let details = refused(reply);
            assert_eq!(failed(&details), ["cluster_healthy"]);
            assert!(details.reasons["cluster_healthy"].contains("2 of 5"), "{details:?}");
        }
    }
    let details = refused(start(&mut world, "unknown"));
    assert_eq!(failed(&details), ["cluster_healthy", "table_exists"], "both are reported");
}

#[test]
fn a_start_needs_disk_with_headroom_and_ports_on_every_target() {
    let mut world = grown(2);
    let shards = world.state().tables[&table("t")].homes.len();
    let sizes: BTreeMap<String, u64> =
        (0..shards).map(|number| (table("t").shard_table(number as u32), 1_000)).collect();
    for n in 1..=3 {
        world.machines.get_mut(&node(n)).expect("it").shard_bytes.clone_from(&sizes);
    }
    steps(&mut world, 2);
    let planned = plan(&mut world);
    assert!(planned.preflight.can_proceed, "{planned:?}");
    assert_eq!(planned.copies, 6);
    assert_eq!(planned.bytes, planned.shard_copies * 1_000);
    assert!(planned.expected_write_stall_ms.is_some() && planned.eta_seconds > 0, "{planned:?}");
    let needed = planned.bytes + planned.bytes / 10;
    let groups = planned.moves.iter().filter(|one| one.to.as_ref() == Some(&node(4))).count() as u32;
    for (disk, ports, fails) in [
        (Some(needed), Some(2 * (1 + groups)), false),
        (Some(needed - 1), Some(2 * (1 + groups)), true),
        (None, Some(2 * (1 + groups)), true),
        (Some(needed), Some(2 * groups + 1), true),
    ] {
        let machine = world.machines.get_mut(&node(4)).expect("it");
        (machine.disk_free_bytes, machine.replication_ports) = (disk, ports);
        steps(&mut world, 2);
        let details = plan(&mut world).preflight;
        assert_eq!(!failed(&details).is_empty(), fails, "{disk:?} {ports:?}: {details:?}");
        if fails {
            assert_eq!(failed(&details), ["sufficient_resources"]);
            assert!(details.reasons["sufficient_resources"].contains(node(4).as_str()));
            assert_eq!(failed(&refused(start(&mut world, "t"))), ["sufficient_resources"]);
        }
    }
    let machine = world.machines.get_mut(&node(4)).expect("it");
    machine.replication_ports = Some(2 * (1 + groups));
    steps(&mut world, 2);
    let RebalanceReply::Done { success: true, operation: Some(_), status, .. } = start(&mut world, "t")
    else {
        panic!("not started")
    };
    assert!(status == "running" || status == "queued", "{status}");
    let again = start(&mut world, "t");
    assert!(
        matches!(&again, RebalanceReply::Refused { reason: Why::AlreadyRunning { status }, .. } if status == "running" || status == "queued"),
        "{again:?}"
    );
    world.settle();
    let done = progress(&mut world);
    assert_eq!((done.status.as_str(), done.transfers_done, done.transfers_total), ("completed", 6, 6));
    assert_eq!((done.bytes_done, done.progress_percentage), (done.bytes_total, 100.0));
    assert_eq!((done.estimated_completion, done.queue_items_pending), (None, 0));
    assert!(done.last_activity.is_some());
}

/// The rf of every group that a move under way changes.
fn pools(world: &World) -> BTreeSet<u32> {
    let state = world.state();
    let running = state.operations.values().filter(|operation| operation.status != Status::Queued);
    let groups = running.filter(|one| one.is_move()).filter_map(|one| one.group());
    groups.filter_map(|group| state.groups.get(group)).map(|group| group.rf).collect()
}

#[test]
fn rebalances_at_once_are_bounded_and_a_start_beside_three_is_refused() {
    for (limit, memory, most) in [(5, 1 << 36, 3), (2, 1 << 36, 2), (5, 1 << 32, 1)] {
        let mut world = World::new(3, 9);
        world.until("all members", |world| world.state().nodes.len() == 9);
        for (name, rf) in [("a", 1), ("b", 2), ("c3", 3), ("d", 4)] {
            world.made(name, 9, rf);
        }
        world.settle();
        for machine in world.machines.values_mut() {
            machine.memory_available_bytes = Some(memory);
        }
        world.set(|settings| settings.max_concurrent_rebalances = limit);
        steps(&mut world, 2);
        order(&mut world, "a", RebalanceOrder::Pause);
        let drained = world.ask(ShardingStatement::DrainNode { node: node(9) });
        steps(&mut world, 20);
        assert_eq!(world.answers[&drained], StatementReply::Ok);
        order(&mut world, "a", RebalanceOrder::Resume);
        let mut seen = 0;
        let mut checked = false;
        world.until("the drain", |world| {
            let now = pools(world);
            assert!(now.len() <= most, "{now:?}, at most {most}");
            seen = seen.max(now.len());
            if now.len() == 3 && !checked {
                checked = true;
                let idle = ["a", "b", "c3", "d"][..].iter().zip(1..=4).find(|(_, rf)| !now.contains(rf));
                let (name, _) = idle.expect("four pools");
                // It is queued itself: the dry run's checks tell of both.
                let dry = ShardingStatement::Rebalance { name: table(name), order: RebalanceOrder::DryRun };
                let OrderReply::Plan(plan) = object(world, dry) else { panic!("no plan") };
                assert_eq!(failed(&plan.preflight), ["no_conflicting_operations"], "{plan:?}");
            }
            !world.state().groups.values().any(|group| group.members.contains_key(&node(9)))
        });
        assert_eq!(seen, most, "max_concurrent_rebalances {limit}, memory {memory}");
        assert_eq!(checked, most == 3);
    }
}

#[test]
fn moves_wait_while_queries_are_over_their_budget_and_lost_copies_do_not() {
    let mut world = grown(4);
    world.set(|settings| settings.query_p99_budget_ms = Some(50));
    world.machines.get_mut(&node(2)).expect("it").query_p99_ms = Some(51);
    steps(&mut world, 2);
    order(&mut world, "t", RebalanceOrder::Resume);
    steps(&mut world, 400);
    let held = progress(&mut world);
    assert_eq!((held.status.as_str(), held.transfers_done), ("queued", 0));
    assert!(held.waits_for.as_deref().is_some_and(|why| why.contains("51 ms")), "{held:?}");
    // One whose copies are missing does not wait.
    world.kill(&node(3));
    world.until("copies elsewhere", |world| {
        let whole = |group: &control::state::Group| group.serving().count() == 2;
        world.state().nodes[&node(3)].lost && world.state().groups.values().all(whole)
    });
    world.start(&node(3));
    world.until("it is back", |world| !world.state().nodes[&node(3)].lost);
    steps(&mut world, 600);
    world.machines.get_mut(&node(2)).expect("it").query_p99_ms = Some(50);
    steps(&mut world, 2);
    world.settle();
}

#[test]
fn the_queue_waits_for_its_interval_when_nothing_finishes() {
    for (seconds, at_least, at_most) in [(60, 10_000, 60_100), (1, 0, 1_100)] {
        let mut world = grown(5);
        world.set(|settings| {
            settings.queue_processing_interval_seconds = seconds;
            settings.queue_interval_is_chosen = true;
        });
        wait(&mut world, 60);
        order(&mut world, "t", RebalanceOrder::Resume);
        let let_go = world.now;
        world.until("a move", |world| {
            world.state().operations.values().any(|one| one.is_move() && one.status == Status::Running)
        });
        let waited = world.now.since(let_go).0;
        assert!((at_least..=at_most).contains(&waited), "{seconds} s: {waited} ms");
        // The others follow one another without waiting.
        let begun = world.now;
        world.settle();
        assert!(world.now.since(begun).0 < 60_000 + 30_000, "{} ms", world.now.since(begun).0);
    }
}

#[test]
fn without_any_measurement_a_command_counts_five_seconds() {
    let mut world = grown(6);
    let state = world.state();
    let (group, from) = state
        .groups
        .iter()
        .find_map(|(id, group)| Some((id.clone(), group.serving().next()?.clone())))
        .expect("a group");
    let shard = state.tables[&table("t")].homes.iter().position(|home| *home == group).expect("it") as u32;
    let to = node(4);
    let by_hand = ShardingStatement::MoveShard { name: table("t"), shard, from, to, split: false };
    let request = world.ask(by_hand);
    steps(&mut world, 2);
    assert!(matches!(world.answers[&request], StatementReply::Rows { .. }));
    world.restart_controller();
    steps(&mut world, 40);
    let seen = progress(&mut world);
    assert_eq!((seen.status.as_str(), seen.transfers_total, seen.transfers_done), ("paused", 1, 0));
    assert!(seen.queue_items_pending > 5, "{seen:?}");
    let now = world.now.0 / 1000;
    let estimate = seen.estimated_completion.expect("something is pending");
    assert!((now..=now + 1).contains(&(estimate - 5 * seen.queue_items_pending)), "{seen:?} at {now}");
    order(&mut world, "t", RebalanceOrder::Resume);
    world.until("the move", |world| world.state().operations.is_empty());
    assert_eq!(progress(&mut world).estimated_completion, None);
    // What was measured is far from five seconds a command.
    let measured = plan(&mut world);
    assert!(measured.moves.is_empty() || measured.eta_seconds < 60, "{measured:?}");
}

/// JOINs of balance; of a lost copy, what comes before.
fn refuse_joins(world: &mut World, lost: bool) {
    world.refused = Some(Refused { kind: "move", step: StepId(2), undo: false, times: u32::MAX });
    world.lost = lost;
}

/// Time passes faster while nothing is under way, up to half a day.
fn pass(world: &mut World, what: &str, done: impl Fn(&World) -> bool) {
    let end = world.now + Millis::from_secs(12 * 3600);
    while !done(world) {
        assert!(world.now < end, "{what} did not come");
        if world.state().operations.is_empty() {
            world.now = world.now + Millis::from_secs(10);
        }
        world.step();
    }
}

fn failures(world: &World) -> BTreeMap<GroupId, u32> {
    world.state().move_failures.clone()
}

#[test]
fn failed_moves_are_tried_again_with_backoff_and_not_for_ever() {
    let mut world = grown(7);
    world.set(|settings| {
        settings.recovery_backoff_seconds = 1_000;
        settings.max_auto_recovery_attempts = 2;
    });
    refuse_joins(&mut world, false);
    order(&mut world, "t", RebalanceOrder::Resume);
    pass(&mut world, "a failure", |world| !failures(world).is_empty());
    let first = failures(&world).keys().next().cloned().expect("one");
    let mut ends = vec![world.now];
    for count in [2, 3] {
        pass(&mut world, "another failure", |world| failures(world)[&first] == count);
        ends.push(world.now);
    }
    // The node that the copies go to is spared for a while, too, so that it may take longer.
    let between = |at: usize| ends[at + 1].since(ends[at]).0 / 1000;
    assert!((1_000..1_700).contains(&between(0)), "{ends:?}");
    assert!((2_000..2_700).contains(&between(1)), "doubled: {ends:?}");
    pass(&mut world, "the last try of all", |world| {
        let failed = failures(world);
        world.state().operations.is_empty() && failed.len() == 6 && failed.values().all(|count| *count == 3)
    });
    wait(&mut world, 6_000);
    assert!(failures(&world).values().all(|count| *count == 3), "no other try");
    assert_eq!(progress(&mut world).status, "failed");
    let health = world.controller.health(world.now.0 / 1000);
    assert_eq!(health.checks["operations"].status, "warning", "{health:?}");
    assert!(health.recommendations.iter().any(|text| text.contains("`shardwright recover`")), "{health:?}");

    world.refused = None;
    let OrderReply::Recovery(report) = object(&mut world, ShardingStatement::Recover) else { panic!("none") };
    assert_eq!(report.tables_recovered, [table("t")], "{report:?}");
    assert!(!report.actions_taken.is_empty() && report.timestamp > 0);
    world.settle();
    assert_eq!(progress(&mut world).status, "completed");
    assert!(failures(&world).is_empty());
}

#[test]
fn without_auto_recovery_only_an_order_tries_a_balance_again_but_lost_copies_are_made() {
    let mut world = grown(8);
    world.set(|settings| settings.auto_recovery_enabled = false);
    refuse_joins(&mut world, false);
    order(&mut world, "t", RebalanceOrder::Resume);
    pass(&mut world, "a failure of each", |world| {
        world.state().operations.is_empty() && failures(world).len() == 6
    });
    wait(&mut world, 600);
    assert!(failures(&world).values().all(|count| *count == 1), "{:?}", failures(&world));
    world.refused = None;
    wait(&mut world, 600);
    assert!(!world.state().groups.values().any(|group| group.members.contains_key(&node(4))));
    order(&mut world, "t", RebalanceOrder::Reset);
    world.settle();

    refuse_joins(&mut world, false);
    world.kill(&node(4));
    pass(&mut world, "many failures", |world| failures(world).values().any(|count| *count == 5));
    world.refused = None;
    world
        .until("all copies", |world| world.state().groups.values().all(|group| group.serving().count() == 2));
    world.settle();
}

#[test]
fn an_operation_without_progress_is_reset_after_the_timeout() {
    for auto in [true, false] {
        let mut world = grown(9);
        world.set(|settings| {
            settings.rebalance_timeout_seconds = 60;
            settings.health_check_interval_seconds = 1;
            settings.auto_recovery_enabled = auto;
        });
        refuse_joins(&mut world, true);
        order(&mut world, "t", RebalanceOrder::Resume);
        world.until("a command that nobody hears of", |world| world.is_under_way(&node(4), "JOIN CLUSTER"));
        let begun = world.now;
        let taken_back = |world: &World| world.state().operations.values().any(|one| one.revoked);
        while world.now.since(begun) < Millis::from_secs(58) {
            world.step();
            assert!(!taken_back(&world), "after {} ms", world.now.since(begun).0);
        }
        steps(&mut world, 20 * 6);
        assert_eq!(taken_back(&world), auto);
        if !auto {
            let health = world.controller.health(world.now.0 / 1000);
            assert!(health.checks["operations"].message.contains("rebalance_timeout_seconds"), "{health:?}");
            let OrderReply::Recovery(report) = object(&mut world, ShardingStatement::Recover) else {
                panic!()
            };
            assert!(report.actions_taken.iter().any(|text| text.contains("back")), "{report:?}");
            assert_eq!(report.tables_recovered, [table("t")]);
        }
        world.refused = None;
        world.settle();
        assert_eq!(world.state().operations_failed, 0, "a reset is no failure");
    }
}

#[test]
fn an_operation_that_runs_too_long_is_taken_back() {
    let mut world = grown(10);
    world.set(|settings| {
        settings.max_operation_duration_seconds = 100;
        settings.health_check_interval_seconds = 1;
    });
    refuse_joins(&mut world, true);
    order(&mut world, "t", RebalanceOrder::Resume);
    world.until("a move", |world| world.is_under_way(&node(4), "JOIN CLUSTER"));
    let begun = world.now;
    world.until("its end", |world| world.state().operations_failed > 0);
    let ran = world.now.since(begun).0 / 1000;
    assert!((98..115).contains(&ran), "{ran} s");
    let last = world.state().finished.iter().rfind(|one| one.status == Status::Failed).expect("it");
    assert!(last.error.as_deref().is_some_and(|why| why.contains("max_operation_duration_seconds (100)")));
}

#[test]
fn a_temporary_cluster_of_nobody_goes_after_an_hour() {
    let mut world = World::with_table(11, 3, 12, 2);
    world.set(|settings| settings.temp_cluster_cleanup_interval_seconds = 2_592_000);
    let orphan = GroupId::from_random(7);
    for action in
        [Action::MakeDirectory { group: orphan.clone() }, Action::CreateCluster { group: orphan.clone() }]
    {
        world.nodes.run(&node(1), &action, super::world::Fault::None).expect("done");
    }
    steps(&mut world, 40);
    let health = world.controller.health(world.now.0 / 1000);
    assert_eq!(health.checks["temporary_clusters"].status, "warning", "{health:?}");
    wait(&mut world, 3_580);
    object(&mut world, ShardingStatement::Recover);
    steps(&mut world, 40);
    assert!(world.nodes.clusters(&node(1)).contains(&orphan), "not yet an hour");
    wait(&mut world, 20);
    world.until("its end", |world| !world.nodes.clusters(&node(1)).contains(&orphan));
    world.settle();
}

#[test]
fn what_is_older_than_its_retention_is_forgotten() {
    let mut world = grown(12);
    world.set(|settings| settings.auto_recovery_enabled = false);
    refuse_joins(&mut world, false);
    order(&mut world, "t", RebalanceOrder::Resume);
    pass(&mut world, "failures", |world| world.state().operations.is_empty() && failures(world).len() == 6);
    let count = |world: &World, status: Status| {
        world
            .state()
            .finished
            .iter()
            .filter(|one| one.status == status && !matches!(one.kind, Kind::Backup { .. }))
            .count()
    };
    let (failed, done) = (count(&world, Status::Failed), count(&world, Status::Done));
    assert!(failed > 0 && done > 0);
    wait(&mut world, 23 * 3600);
    assert_eq!((count(&world, Status::Failed), count(&world, Status::Done)), (failed, done));
    wait(&mut world, 2 * 3600);
    assert_eq!((count(&world, Status::Failed), count(&world, Status::Done)), (0, done), "24 h");
    wait(&mut world, 5 * 24 * 3600 + 20 * 3600);
    assert_eq!(count(&world, Status::Done), done);
    wait(&mut world, 5 * 3600);
    assert_eq!(count(&world, Status::Done), 0, "7 d");
    assert!(!world.state().topology_changes.is_empty() && world.state().rebalance.is_some());
    wait(&mut world, 22 * 24 * 3600);
    assert!(!world.state().topology_changes.is_empty());
    wait(&mut world, 2 * 24 * 3600);
    assert!(world.state().topology_changes.is_empty() && world.state().rebalance.is_none(), "30 d");
    let serving = |group: &control::state::Group| group.in_state(Member::Serving).count() == 2;
    assert!(world.state().groups.values().all(serving), "nothing that is needed was forgotten");
}

#[test]
fn health_names_the_next_command() {
    let mut world = World::with_table(13, 4, 12, 2);
    world.kill(&node(4));
    world.until("the loss", |world| world.state().nodes[&node(4)].lost);
    let health = world.controller.health(world.now.0 / 1000);
    let remove = format!("`shardwright node remove {}`", node(4));
    assert!(health.recommendations.iter().any(|text| text.contains(&remove)), "{health:?}");
    world.until("copies elsewhere", |world| {
        world.state().groups.values().all(|group| group.serving().count() == 2)
    });
    order(&mut world, "t", RebalanceOrder::Pause);
    let health = world.controller.health(world.now.0 / 1000);
    assert!(
        health.recommendations.iter().any(|text| text.contains("`shardwright rebalance resume t`")),
        "{health:?}"
    );
    for check in
        ["nodes", "sidecars", "leader", "copies", "operations", "queue", "disks", "temporary_clusters"]
    {
        assert!(health.checks.contains_key(check), "{check}");
    }
}

#[test]
fn a_certificate_is_an_alert_from_the_days_of_the_setting_on() {
    const DAY: u64 = 86_400;
    let mut world = World::new(1, 3);
    world.set(|settings| settings.certificate_warning_days = 10);
    let mut alert = |left: u64| -> Option<(String, String)> {
        // A second on, so that alerts are judged anew.
        let ends = world.now.0 / 1_000 + 2 + left;
        world.controller.set_certificates([("/c.crt".to_owned(), ends)].into());
        for _ in 0..40 {
            world.step();
        }
        let StatementReply::Rows { rows, .. } = world.controller.show(&ShardingStatement::ShowAlerts) else {
            panic!("no rows");
        };
        let fires = |row: &Vec<Option<String>>| {
            row[1].as_deref() == Some("certificate_ends") && row[5].as_deref() == Some("firing")
        };
        let found = rows.into_iter().find(fires)?;
        Some((found[0].clone()?, found[2].clone()?))
    };
    assert_eq!(alert(10 * DAY + 60), None);
    let (level, message) = alert(10 * DAY - 60).expect("an alert");
    assert!(level == "warning" && message.contains("/c.crt ends in 239 h"), "{level} {message}");
    assert_eq!(alert(DAY - 60).expect("an alert").0, "critical");
    assert_eq!(alert(10 * DAY + 60), None, "renewed");
    let (level, message) = alert(0).expect("an alert");
    assert!(level == "critical" && message.contains("has ended"), "{level} {message}");
}
