//! Another rf and the split of a group, in the small world: calm, with every step repeated, refused and undone twice, with
//! nodes and the controller dying at every step.

use super::world::{Refused, World, node, table};
use control::operation::{Kind, Operation, Status, StepStatus};
use model::wire::{RebalanceOrder, ShardingStatement, StatementReply};
use model::{Millis, NodeId, StepId};

/// What a hand-over may hold statements for: `hold_statements_seconds` is 10.
const HOLD_MAX: Millis = Millis(10_000);

fn set_rf(name: &str, rf: u32) -> ShardingStatement {
    ShardingStatement::SetRf { name: table(name), cluster: Some("c".to_owned()), rf }
}

/// Tables of the given shards and rf; those of one rf share groups.
fn made(seed: u64, nodes: usize, tables: &[(&str, u32, u32)]) -> World {
    let mut world = World::warmed_up(seed, nodes);
    for (name, shards, rf) in tables {
        world.made(name, *shards, *rf);
        for _ in 0..30 {
            world.write(name);
        }
    }
    world.settle();
    world
}

fn order(world: &mut World, name: &str, rf: u32) {
    let reply = world.told(set_rf(name, rf));
    assert!(matches!(reply, StatementReply::Rows { .. }), "{reply:?}");
}

/// How many live nodes hold all that was acknowledged of a shard.
fn whole_copies(world: &World, shard: &str) -> usize {
    let none = std::collections::BTreeSet::new();
    let wanted = world.acknowledged.get(shard).unwrap_or(&none);
    let live = world.nodes.live();
    live.iter().filter(|id| world.nodes.rows(id, shard).is_some_and(|rows| rows.is_superset(wanted))).count()
}

/// Steps under writes until the change is over. Looks on the way that no shard has fewer whole copies than `floor`, and
/// that no node lacks a route for longer than statements are held. Gives the longest time one did.
fn changed(world: &mut World, name: &str, floor: usize) -> Millis {
    let mut without_since = None;
    let mut longest = Millis::ZERO;
    world.until("the change", |world| {
        for _ in 0..3 {
            world.write(name);
        }
        let shards = world.state().tables[&table(name)].spec.shards;
        for number in 0..shards {
            let shard = table(name).shard_table(number);
            let whole = whole_copies(world, &shard);
            assert!(whole >= floor, "{shard} has {whole} whole copies, the floor is {floor}");
        }
        if world.nodes.live().iter().any(|id| world.nodes.route(id, name).is_none()) {
            let since = *without_since.get_or_insert(world.now);
            longest = longest.max(world.now.since(since));
        } else {
            without_since = None;
        }
        assert!(longest < HOLD_MAX, "{name} is routed nowhere for {longest:?}");
        world.state().operations.is_empty()
    });
    world.settle();
    longest
}

/// Every shard is in a group of this rf.
fn has_rf(world: &World, name: &str, rf: u32) {
    let state = world.state();
    let known = &state.tables[&table(name)];
    assert_eq!(known.spec.rf, rf);
    for home in &known.homes {
        assert_eq!(state.groups[home].rf, rf, "{home}");
    }
}

fn hand_overs(world: &World, status: Status) -> Vec<&Operation> {
    world.state().finished.iter().filter(|it| it.name() == "hand over" && it.status == status).collect()
}

#[test]
fn rf_goes_up_and_down_and_a_table_alone_in_its_groups_is_not_held() {
    let mut world = made(1, 4, &[("t", 12, 2)]);
    for (from, to) in [(2usize, 3usize), (3, 2), (2, 1), (1, 2), (2, 4), (4, 1), (1, 3)] {
        order(&mut world, "t", to as u32);
        let held = changed(&mut world, "t", from.min(to));
        has_rf(&world, "t", to as u32);
        assert_eq!(held > Millis::ZERO, to == 1 && from > 1, "{from} to {to}: held for {held:?}");
    }
    let most = world.state().groups.values().filter(|group| group.rf == 3).count();
    assert!(most <= 4 * 8 / 3 + 4, "{most} groups: as few as a new table would have, and one more a node");
    let request = world.drop("t");
    world.until("the drop", |world| world.answers.contains_key(&request));
    world.settle();
    assert!(world.state().groups.is_empty());
}

#[test]
fn a_table_leaves_groups_that_others_share_and_those_go_on() {
    for (from, to) in [(2, 3), (3, 2), (2, 1), (1, 2), (1, 3), (3, 1)] {
        let mut world = made(2, 3, &[("t", 12, from), ("u", 12, from)]);
        let before = world.state().tables[&table("u")].clone();
        order(&mut world, "t", to);
        changed(&mut world, "t", from.min(to) as usize);
        has_rf(&world, "t", to);
        assert_eq!(world.state().tables[&table("u")], before, "the other table stays where it was");
        assert!(hand_overs(&world, Status::Failed).is_empty());
    }
}

#[test]
fn two_tables_that_share_groups_follow_one_another() {
    let mut world = made(3, 4, &[("t", 6, 2), ("u", 6, 2)]);
    order(&mut world, "t", 3);
    order(&mut world, "u", 3);
    changed(&mut world, "t", 2);
    has_rf(&world, "t", 3);
    has_rf(&world, "u", 3);
    assert!(hand_overs(&world, Status::Done).is_empty(), "all their groups wanted the same");
}

#[test]
fn a_shard_is_moved_alone() {
    let mut world = made(4, 3, &[("t", 6, 2), ("u", 24, 2)]);
    let pause = ShardingStatement::Rebalance { name: table("t"), order: RebalanceOrder::Pause };
    world.told(pause);
    let state = world.state();
    let home = state.tables[&table("t")].homes[0].clone();
    let group = state.groups[&home].clone();
    assert!(group.shards.len() > 1, "{group:?}");
    let from = group.serving().next().cloned().expect("a holder");
    let to = state.nodes.keys().find(|node| !group.members.contains_key(*node)).cloned().expect("another");
    let ordered = ShardingStatement::MoveShard {
        name: table("t"),
        shard: 0,
        from: from.clone(),
        to: to.clone(),
        split: true,
    };
    let StatementReply::Rows { rows, .. } = world.told(ordered) else { panic!("refused") };
    assert_eq!(rows[0][2].as_deref(), Some("t"), "nothing else moves along: {rows:?}");
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(world.state().tables[&table("t")].homes[0], home, "moves are held");
    world.told(ShardingStatement::Rebalance { name: table("t"), order: RebalanceOrder::Resume });
    world.until("the move", |world| {
        world.write("t");
        let home = &world.state().tables[&table("t")].homes[0];
        let members = &world.state().groups[home].members;
        members.contains_key(&to) && !members.contains_key(&from)
    });
    let new = world.state().tables[&table("t")].homes[0].clone();
    assert_ne!(new, home);
    assert_eq!(world.state().groups[&new].shards.len(), 1);
    assert_eq!(world.state().groups[&home].shards.len(), group.shards.len() - 1);
    world.settle();
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let mut world = made(5, 3, &[("t", 6, 2)]);
    for (statement, words) in [
        (set_rf("x", 3), "table 'x' is missing"),
        (set_rf("t", 2), "has rf 2 already"),
        (set_rf("t", 4), "The node count (3) is lower than replication factor (4)"),
        (
            ShardingStatement::SetRf { name: table("t"), cluster: Some("d".to_owned()), rf: 3 },
            "use ALTER TABLE c:t",
        ),
    ] {
        let text = world.refused(statement);
        assert!(text.contains(words), "{text}");
    }
    world.kill(&node(2));
    world.until("the loss", |world| world.state().nodes[&node(2)].lost);
    let text = world.refused(set_rf("t", 1));
    assert!(text.contains("does not answer"), "{text}");
    world.start(&node(2));
    world.settle();
    order(&mut world, "t", 3);
    changed(&mut world, "t", 2);
}

#[test]
fn another_order_or_a_drop_in_between_is_followed() {
    let mut world = made(6, 4, &[("t", 12, 2), ("u", 12, 2)]);
    order(&mut world, "t", 3);
    world.until("the first shard", |world| !hand_overs(world, Status::Done).is_empty());
    // While copies move for the first order the second one is told to wait.
    while let StatementReply::Error { message } = world.told(set_rf("t", 1)) {
        assert!(message.contains("is at work"), "{message}");
    }
    changed(&mut world, "t", 1);
    has_rf(&world, "t", 1);
    order(&mut world, "t", 2);
    world.until("the first shard", |world| {
        world.state().groups.values().any(|group| group.members.len() == 1)
    });
    let request = world.drop("t");
    world.until("the drop", |world| world.answers.contains_key(&request));
    assert_eq!(world.answers[&request], StatementReply::Ok);
    world.settle();
    has_rf(&world, "u", 2);
}

/// Of a hand-over out of shared groups, by kind: down, up and to single copies; and of one of single copies.
const CASES: [(u32, u32); 4] = [(2, 3), (3, 2), (2, 1), (1, 2)];

fn one_of_each((from, to): (u32, u32), seed: u64) -> World {
    let mut world = made(seed, 3, &[("t", 1, from), ("u", 12, from)]);
    order(&mut world, "t", to);
    world.until("the steps", |world| !steps(world).is_empty());
    world
}

fn steps(world: &World) -> Vec<control::operation::Step> {
    let found = world.state().operations.values().find(|operation| operation.name() == "hand over");
    found.map(|operation| operation.steps.clone()).unwrap_or_default()
}

#[test]
fn every_step_can_be_done_twice() {
    for case in CASES {
        let mut world = one_of_each(case, 7);
        world.twice = true;
        changed(&mut world, "t", case.0.min(case.1) as usize);
        has_rf(&world, "t", case.1);
    }
}

#[test]
fn every_step_can_fail_and_everything_is_put_back() {
    for case in CASES {
        let count = steps(&one_of_each(case, 8)).len();
        let mut undone = 0;
        for step in 0..count {
            let mut world = one_of_each(case, 8);
            let before = world.state().tables[&table("t")].homes.clone();
            let step = StepId(step as u64);
            world.refused = Some(Refused { kind: "hand over", step, undo: false, times: 6 });
            let mut failed = false;
            world.until("an end", |world| {
                let over = world.state().finished.iter().find(|it| it.name() == "hand over");
                let Some(over) = over else { return false };
                failed = over.status == Status::Failed;
                true
            });
            if failed {
                undone += 1;
                let homes = &world.state().tables[&table("t")].homes;
                assert_eq!(*homes, before, "{case:?} {step}");
                assert!(!world.state().tables[&table("t")].withheld);
            }
            // It is tried again, and then succeeds.
            changed(&mut world, "t", case.0.min(case.1) as usize);
            has_rf(&world, "t", case.1);
        }
        assert!(undone >= 3, "{case:?}: {undone} of {count} steps were refused on their way forward");
    }
}

/// The step before the switch that is a command: when it fails for good, everything before it is taken back.
fn last_undone(all: &[control::operation::Step]) -> StepId {
    let last = all.iter().rposition(|step| {
        step.work.action().is_some() && step.undo.is_some()
            || matches!(step.work.action(), Some(model::Action::AddTables { .. }))
    });
    StepId(last.expect("a step with an undo") as u64)
}

#[test]
fn every_undo_can_be_done_twice_and_fail() {
    for case in CASES {
        let all = steps(&one_of_each(case, 9));
        let last = last_undone(&all);
        for undo in 0..last.0 {
            let mut world = one_of_each(case, 9);
            world.twice = true;
            world.refused = Some(Refused { kind: "hand over", step: last, undo: false, times: 5 });
            world.until("the way back", |world| {
                world
                    .state()
                    .operations
                    .values()
                    .any(|it| it.name() == "hand over" && it.status == Status::Unwinding)
            });
            world.refused = Some(Refused { kind: "hand over", step: StepId(undo), undo: true, times: 3 });
            changed(&mut world, "t", case.0.min(case.1) as usize);
            assert_eq!(hand_overs(&world, Status::Failed).len(), 1, "{case:?} undo {undo}");
            has_rf(&world, "t", case.1);
        }
    }
}

/// The member whose copies are the first in the new group.
fn maker(world: &World) -> NodeId {
    let found = world.state().operations.values().find_map(|operation| match &operation.kind {
        Kind::HandOver { new_groups, .. } => new_groups.first()?.members.first().cloned(),
        _ => None,
    });
    found.expect("a new group with members")
}

/// Whoever wrote to the shard under the name of the new group is in the copy of the member that filled it, and in others perhaps
/// not: that one's is copied over theirs.
#[test]
fn who_filled_the_new_group_puts_its_tables_back() {
    // The other tables' groups of rf 2 are on the first two nodes, so that the third fills this one.
    let mut world = made(13, 3, &[("t", 1, 3), ("u", 12, 3), ("w", 1, 2)]);
    order(&mut world, "t", 2);
    world.until("the steps", |world| !steps(world).is_empty());
    let (all, maker) = (steps(&world), maker(&world));
    let takes_out =
        |step: &control::operation::Step| matches!(step.undo, Some(model::Action::ReturnTables { .. }));
    let at = all.iter().position(takes_out).expect("it takes them out");
    assert_ne!(all[at].node.as_ref(), Some(&maker));
    world.refused = Some(Refused { kind: "hand over", step: last_undone(&all), undo: false, times: 5 });
    world.until("an end", |world| !hand_overs(world, Status::Failed).is_empty());
    let back = hand_overs(&world, Status::Failed)[0].steps[at].node.clone();
    assert_eq!(back, Some(maker));
}

/// Its members died while a table was to be put back: the last of them has what was written to the others' tables alone.
#[test]
fn nobody_is_given_up_to_put_a_table_back() {
    let mut world = one_of_each((2, 3), 14);
    let all = steps(&world);
    let takes_out =
        |step: &control::operation::Step| matches!(step.undo, Some(model::Action::ReturnTables { .. }));
    let at = StepId(all.iter().position(takes_out).expect("it takes them out") as u64);
    let home = world.state().tables[&table("t")].homes[0].clone();
    world.refused = Some(Refused { kind: "hand over", step: last_undone(&all), undo: false, times: 5 });
    world.until("the way back", |world| {
        world.state().operations.values().any(|it| it.name() == "hand over" && it.status == Status::Unwinding)
    });
    world.refused = Some(Refused { kind: "hand over", step: at, undo: true, times: 100_000 });
    let members: Vec<NodeId> = world.state().groups[&home].members.keys().cloned().collect();
    let [last, first] = &members[..] else { panic!("{members:?}") };
    world.kill(first);
    world.until("a group without it", |world| !world.state().groups[&home].newest.contains(first));
    world.kill(last);
    for _ in 0..400 {
        world.step();
    }
    assert_eq!(world.state().groups[&home].newest, [last.clone()].into());
    assert!(world.state().groups[&home].members.contains_key(last), "nobody else has the newest");
}

/// The member that filled the new group has died on the way back: another one puts the table back, and which of the others has the
/// newest is not known when they differ.
#[test]
fn copies_that_differ_are_not_put_back_into_their_group() {
    let (mut world, dead, waits) = differ((3, 2), maker);
    world.until("an alert", |world| {
        let StatementReply::Rows { rows, .. } = world.controller.show(&ShardingStatement::ShowAlerts) else {
            return false;
        };
        rows.iter().any(|row| {
            row[1].as_deref() == Some("standing_step")
                && row[2].as_deref().is_some_and(|told| told.contains(&waits))
        })
    });
    made_equal(&mut world, &dead);
}

/// The same where the copies were to go on alone, and the member that was to take them out of the group has died.
#[test]
fn plain_copies_that_differ_are_not_put_back_into_their_group() {
    let (mut world, dead, _) = differ((3, 1), |world| {
        let takes_out = |step: &&control::operation::Step| {
            matches!(step.work.action(), Some(model::Action::RemoveTables { .. }))
        };
        steps(world).iter().find(takes_out).and_then(|step| step.node.clone()).expect("a member")
    });
    made_equal(&mut world, &dead);
}

/// A transaction of somebody who writes to the shard itself commits after the copies were compared, and the hand-over is taken
/// back before they were looked at again: what it wrote is on all of them.
#[test]
fn copies_that_were_written_to_alike_are_put_back_into_their_group() {
    let mut world = one_of_each((3, 1), 16);
    world.until("the comparison", |world| {
        steps(world).iter().any(|step| step.work.class() == "COMPARE" && step.status == StepStatus::Done)
    });
    let shard = table("t").shard_table(0);
    let all = world.nodes.all();
    world.nodes.insert_row(&all[0], &shard, 999_999);
    world.until("the way back", |world| {
        world.state().operations.values().any(|it| it.name() == "hand over" && it.status == Status::Unwinding)
    });
    for _ in 0..200 {
        world.step();
    }
    assert!(hand_overs(&world, Status::Failed).is_empty(), "one of them lacks a row");
    for node in &all[1..] {
        world.nodes.insert_row(node, &shard, 999_999);
    }
    world.until("an end", |world| !hand_overs(world, Status::Failed).is_empty());
    assert!(!world.state().tables[&table("t")].withheld);
    assert!(
        all.iter().all(|node| world.nodes.rows(node, &shard).is_some_and(|rows| rows.contains(&999_999)))
    );
    world.settle();
}

/// The same where they were looked at again when they were out.
#[test]
fn what_was_written_until_they_were_out_is_known_on_the_way_back() {
    let mut world = one_of_each((3, 2), 17);
    let all = steps(&world);
    world.until("the comparison", |world| {
        steps(world).iter().any(|step| step.work.class() == "COMPARE" && step.status == StepStatus::Done)
    });
    let shard = table("t").shard_table(0);
    for node in world.nodes.all() {
        world.nodes.insert_row(&node, &shard, 999_999);
    }
    world.refused = Some(Refused { kind: "hand over", step: last_undone(&all), undo: false, times: 5 });
    world.until("an end", |world| !hand_overs(world, Status::Failed).is_empty());
    let takes_out = |step: &&control::operation::Step| {
        matches!(step.undo, Some(model::Action::ReturnTables { .. })) && step.status == StepStatus::Undone
    };
    let ended = hand_overs(&world, Status::Failed);
    let returned = ended[0].steps.iter().find(takes_out).expect("it was put back");
    assert_eq!(returned.error, None, "at the first try");
    world.settle();
}

/// The member that took the tables out is gone, and the only other copy lacks a row: it is not put back as the newest.
#[test]
fn one_copy_alone_is_put_back_only_as_it_was_compared() {
    let mut world = one_of_each((2, 1), 18);
    let all = steps(&world);
    let takes_out = |step: &&control::operation::Step| {
        matches!(step.work.action(), Some(model::Action::RemoveTables { .. }))
    };
    let dead = all.iter().find(takes_out).and_then(|step| step.node.clone()).expect("a member");
    let home = world.state().tables[&table("t")].homes[0].clone();
    let other = world.state().groups[&home].members.keys().find(|node| **node != dead).expect("two").clone();
    world.refused = Some(Refused { kind: "hand over", step: last_undone(&all), undo: false, times: 5 });
    world.until("the way back", |world| {
        world.state().operations.values().any(|it| it.name() == "hand over" && it.status == Status::Unwinding)
    });
    world.kill(&dead);
    let shard = table("t").shard_table(0);
    let newest = *world.nodes.rows(&other, &shard).and_then(|rows| rows.last()).expect("rows");
    world.nodes.forget_newest(&other, &shard, 1);
    for _ in 0..800 {
        world.step();
    }
    assert!(world.state().nodes[&dead].lost);
    let StatementReply::Rows { rows, .. } = world.controller.show(&ShardingStatement::ShowQueue) else {
        panic!("no rows");
    };
    let told = |field: &String| field.contains("is not what was compared");
    assert!(rows.iter().flatten().flatten().any(told), "{rows:?}");
    world.nodes.insert_row(&other, &shard, newest);
    world.until("an end", |world| !hand_overs(world, Status::Failed).is_empty());
    world.start(&dead);
    world.settle();
}

/// On the way back one member dies, and of the two others one has a row more. Gives the world as it waits, who died, and for what
/// it waits.
fn differ(case: (u32, u32), dies: impl Fn(&World) -> NodeId) -> (World, NodeId, String) {
    let mut world = one_of_each(case, 12);
    let fails = last_undone(&steps(&world));
    let dead = dies(&world);
    world.refused = Some(Refused { kind: "hand over", step: fails, undo: false, times: 5 });
    world.until("the way back", |world| {
        world.state().operations.values().any(|it| it.name() == "hand over" && it.status == Status::Unwinding)
    });
    let shard = table("t").shard_table(0);
    let others: Vec<NodeId> = world.nodes.all().into_iter().filter(|other| *other != dead).collect();
    world.kill(&dead);
    world.nodes.insert_row(&others[1], &shard, 999_999);
    for _ in 0..800 {
        world.step();
    }
    let StatementReply::Rows { rows, .. } = world.controller.show(&ShardingStatement::ShowQueue) else {
        panic!("no rows");
    };
    let waits = format!("the copies of {shard} on {} and {} differ", others[1], others[0]);
    let told = rows.iter().flatten().flatten().any(|field| field.contains(&waits));
    assert!(told, "{rows:?}");
    assert!(world.state().tables[&table("t")].withheld);
    (world, dead, waits)
}

/// Made equal by hand, it goes on by itself.
fn made_equal(world: &mut World, dead: &NodeId) {
    let more = world.nodes.all().into_iter().rfind(|other| other != dead).expect("two others");
    world.nodes.forget_newest(&more, &table("t").shard_table(0), 1);
    world.until("an end", |world| !hand_overs(world, Status::Failed).is_empty());
    assert!(!world.state().tables[&table("t")].withheld);
    world.start(dead);
    world.settle();
}

/// A node, or the controller, dies when so many steps of the hand-over are behind it.
#[test]
fn a_death_at_every_step_loses_nothing() {
    for case in CASES {
        let count = steps(&one_of_each(case, 10)).len();
        for victim in 0..=3 {
            // Each step for some victim; with the controller, which costs no time to start again, all of them.
            let every = if victim == 0 { 1 } else { 3 };
            for at in (victim % every..=count).step_by(every) {
                let mut world = one_of_each(case, 10);
                let over =
                    |world: &World| steps(world).iter().filter(|step| step.status.lets_go_on()).count();
                world.until("the moment", |world| {
                    world.write("t");
                    over(world) >= at || steps(world).is_empty()
                });
                if victim == 0 {
                    world.restart_controller();
                } else {
                    world.kill(&node(victim));
                    for _ in 0..200 {
                        world.step();
                    }
                    world.start(&node(victim));
                }
                world.until("rest", |world| world.state().operations.is_empty());
                world.settle();
                has_rf(&world, "t", case.1);
            }
        }
    }
}

#[test]
fn nothing_is_lost_when_rf_changes_in_a_storm() {
    for seed in super::seeds(6) {
        let mut world = made(seed, 4, &[("t", 6, 2), ("u", 6, 2), ("v", 4, 1)]);
        world.command_faults = 15;
        world.controller_deaths = 2;
        for round in 0..900 {
            for name in ["t", "u", "v"] {
                world.write(name);
            }
            if round % 60 == 0 {
                let name = ["t", "u", "v"][world.random.below(3)];
                let rf = 1 + world.random.below(4) as u32;
                world.ask(set_rf(name, rf));
            }
            if round == 300 {
                world.kill(&node(2));
            }
            if round == 500 {
                world.start(&node(2));
            }
            world.step();
        }
        world.command_faults = 0;
        world.controller_deaths = 0;
        world.settle();
        for name in ["t", "u", "v"] {
            let rf = world.state().tables[&table(name)].spec.rf;
            has_rf(&world, name, rf);
        }
    }
}
