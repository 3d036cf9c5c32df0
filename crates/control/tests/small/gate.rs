//! The gate: who may start, and when, after much has died.

use super::total_loss::{filled, gate, group, steps};
use super::world::{Refused, World, node};
use control::state::Member;
use model::{ClusterState, GroupId, Millis, NodeId, StepId};

/// The node dies, and the group of two copies gets another one instead of its.
fn is_replaced(world: &mut World, id: &GroupId, node: &NodeId) {
    world.kill(node);
    world.until("another copy", |world| {
        let members = &world.state().groups[id].members;
        !members.contains_key(node) && members.len() == 2 && members.values().all(|it| *it == Member::Serving)
    });
}

fn opens(world: &mut World, node: &NodeId) {
    world.until("the gate to open", |world| gate(world, node).is_empty());
}

/// It starts as soon as it may.
fn comes_through(world: &mut World, node: &NodeId) {
    opens(world, node);
    world.start(node);
}

/// All wait at the gate and start in the order in which they may; `then` looks each time.
fn all_come_through(world: &mut World, nodes: &[NodeId], then: impl Fn(&World)) {
    let mut waiting: Vec<&NodeId> = nodes.iter().collect();
    while !waiting.is_empty() {
        let mut opened = None;
        world.until("the gate to open", |world| {
            opened = waiting.iter().position(|node| gate(world, node).is_empty());
            opened.is_some()
        });
        then(world);
        world.start(waiting.remove(opened.expect("one of them")));
    }
}

/// A group of two loses a member for good, and its other one has stopped when that comes back.
fn one_is_replaced_and_the_other_stops() -> (World, GroupId, NodeId, NodeId) {
    let mut world = filled(11, 4, 1, 2);
    let (id, members) = group(&world);
    let [older, stops] = &members[..] else { panic!("{members:?}") };
    is_replaced(&mut world, &id, older);
    world.nodes.fill_disk(stops);
    (world, id, older.clone(), stops.clone())
}

/// The stopped one is cleaned before the older one starts.
fn starts_after_the_stopped(mut world: World, id: &GroupId, older: &NodeId, stops: &NodeId) {
    opens(&mut world, older);
    assert!(!world.nodes.clusters(stops).contains(id), "it was cleaned first");
    world.start(older);
    world.settle();
}

#[test]
fn the_gate_lets_nodes_start_one_by_one_and_the_newest_first() {
    let mut world = filled(8, 3, 1, 2);
    let (_, members) = group(&world);
    for n in 1..=3 {
        world.kill(&node(n));
    }
    steps(&mut world, 40);
    world.restart_controller();
    world.step();
    let held = gate(&mut world, &members[0]).join("; ");
    assert!(held.contains("has not been looked at") || held.contains("just begun to lead"), "{held}");
    opens(&mut world, &members[0]);
    let held = gate(&mut world, &members[1]);
    assert!(held.iter().all(|why| why.contains("is just starting")) && held.len() == 2, "{held:?}");
    world.start(&members[0]);
    steps(&mut world, 20);
    let held = gate(&mut world, &members[1]).join("; ");
    assert!(held.contains("has not let go") && held.contains("has not made it anew"), "{held}");
    comes_through(&mut world, &members[1]);
    for n in 1..=3 {
        if !world.nodes.is_live(&node(n)) {
            comes_through(&mut world, &node(n));
        }
    }
    world.settle();
    // Nobody else is held back.
    assert!(gate(&mut world, &node(9)).is_empty(), "a new node");
    world.kill(&node(2));
    comes_through(&mut world, &node(2));
    world.settle();
}

/// While it starts it takes connections and answers nobody: reads that are still sent there would wait, and lack a shard.
#[test]
fn a_node_does_not_start_while_it_is_routed_to() {
    let mut world = filled(25, 3, 1, 2);
    let (_, members) = group(&world);
    let [gone, other] = &members[..] else { panic!("{members:?}") };
    world.kill(gone);
    let held = gate(&mut world, gone);
    assert!(held.len() == 1 && held[0].contains("still routes t to it"), "{held:?}");
    opens(&mut world, gone);
    for n in (1..=3).map(node).filter(|n| n != gone) {
        let route = world.nodes.route(&n, "t").expect("routed");
        assert_eq!(route.shards[0], *std::slice::from_ref(other), "{n}");
    }
    world.start(gone);
    world.settle();
    // Nor is it held for ever by one whose routes nobody can write.
    world.kill(gone);
    world.mute = (1..=3).map(node).filter(|n| n != gone).collect();
    let began = world.now;
    opens(&mut world, gone);
    assert!(world.now.since(began) >= Millis(10_000), "{:?}", world.now.since(began));
    world.mute.clear();
    world.start(gone);
    world.settle();
}

/// One that has come back and was not compared yet waits for the newest itself, when that dies: it is nobody's quorum.
#[test]
fn the_gate_does_not_let_two_older_copies_meet() {
    let mut world = filled(10, 4, 1, 3);
    let (id, members) = group(&world);
    let [newest, back, older] = &members[..] else { panic!("{members:?}") };
    for gone in [back, older] {
        world.kill(gone);
        world.until("a quorum without it", |world| !world.state().groups[&id].newest.contains(gone));
    }
    assert_eq!(world.state().groups[&id].newest, [newest.clone()].into());
    world.start(back);
    is_back(&mut world, &id, back);
    assert_eq!(world.state().groups[&id].members[back], Member::Returning);
    world.kill(newest);
    steps(&mut world, 100);
    assert_eq!(world.state().groups[&id].newest, [newest.clone()].into());
    let held = gate(&mut world, older).join("; ");
    assert!(held.contains(&format!("a newer copy must start first: that on {newest}")), "{held}");
    comes_through(&mut world, newest);
    comes_through(&mut world, older);
    world.settle();
}

/// Its list is older than the group: those who went on are not on it, and one whose replication has stopped is.
#[test]
fn the_gate_does_not_let_a_node_start_that_would_find_a_stopped_member_alone() {
    let (mut world, id, older, stops) = one_is_replaced_and_the_other_stops();
    steps(&mut world, 12);
    let held = gate(&mut world, &older).join("; ");
    assert!(
        held.contains(&format!("{stops}, where it has stopped, is all that would be found of it")),
        "{held}"
    );
    starts_after_the_stopped(world, &id, &older, &stops);
}

/// Nor does a leader that has never seen the node, and so knows nothing of its list.
#[test]
fn a_new_leader_does_not_let_a_node_start_that_could_find_a_stopped_member_alone() {
    let (mut world, id, older, stops) = one_is_replaced_and_the_other_stops();
    world.restart_controller();
    starts_after_the_stopped(world, &id, &older, &stops);
}

/// One that is no member any more goes back into the group as well: beside a member that has just been let through it would form
/// the group anew from its old copy.
#[test]
fn the_gate_lets_one_start_at_a_time_be_it_a_member_or_not() {
    let mut world = filled(12, 4, 1, 2);
    let (id, members) = group(&world);
    let [gone, stays] = &members[..] else { panic!("{members:?}") };
    is_replaced(&mut world, &id, gone);
    let others = (1..=4).map(node).filter(|node| node != gone);
    let others: Vec<NodeId> = others.collect();
    for other in &others {
        world.kill(other);
    }
    steps(&mut world, 40);
    assert_eq!(gate(&mut world, stays), Vec::<String>::new());
    let held = gate(&mut world, gone);
    let of_group = format!("{id}: {stays} is just starting");
    assert!(held.iter().any(|why| why.contains(&of_group)), "{held:?}");
    world.start(stays);
    for other in others.iter().filter(|other| *other != stays) {
        comes_through(&mut world, other);
    }
    world.until("it to be made anew", |world| world.state().groups[&id].halt.is_none());
    comes_through(&mut world, gone);
    world.settle();
}

/// Two that are no members any more were started by hand, and have formed the group anew from an old copy. The last members
/// wait until they have been cleaned of it.
#[test]
fn members_wait_at_the_gate_until_strangers_have_let_go() {
    let mut world = filled(13, 4, 1, 2);
    world.nodes.second_wins = true;
    let (id, members) = group(&world);
    let [first, second] = &members[..] else { panic!("{members:?}") };
    for gone in [first, second] {
        is_replaced(&mut world, &id, gone);
        for _ in 0..10 {
            world.write("t");
        }
    }
    let (_, members) = group(&world);
    for member in &members {
        world.kill(member);
    }
    steps(&mut world, 40);
    world.start(first);
    world.step();
    world.start(second);
    world.until("the old copy", |world| {
        let shown = world.nodes.status(second, false).expect("it lives").clusters;
        shown.get(&id).is_some_and(|shown| shown.status == ClusterState::Primary)
    });
    world.until("a look", |world| {
        let held = gate(world, &members[0]).join("; ");
        held.contains(&format!("{second}, which is no member any more, has it still"))
    });
    all_come_through(&mut world, &members, |world| {
        for stranger in [first, second] {
            assert!(!world.nodes.clusters(stranger).contains(&id), "{stranger} let go first");
        }
    });
    world.settle();
}

/// One stood still, was replaced, and waits without a quorum with its old copy: the member that starts would give it one.
#[test]
fn a_stranger_that_waits_lets_go_before_a_member_starts() {
    let mut world = filled(20, 4, 1, 2);
    world.nodes.second_wins = true;
    let (id, members) = group(&world);
    let stranger = &members[0];
    is_replaced(&mut world, &id, stranger);
    for _ in 0..10 {
        world.write("t");
    }
    let (_, members) = group(&world);
    for member in &members {
        world.kill(member);
    }
    world.nodes.thaw(stranger);
    steps(&mut world, 40);
    world.silent.insert(stranger.clone());
    steps(&mut world, 20);
    let held = gate(&mut world, &members[0]).join("; ");
    assert!(held.contains(&format!("{stranger} does not answer just now")), "{held}");
    world.silent.clear();
    steps(&mut world, 20);
    let held = gate(&mut world, &members[0]).join("; ");
    assert!(held.contains(&format!("{stranger}, which is no member any more, has it still")), "{held}");
    // Both may have the newest copy, and must be there.
    all_come_through(&mut world, &members, |world| {
        assert!(!world.nodes.clusters(stranger).contains(&id), "it let go first");
    });
    world.settle();
}

/// Of a group of two one dies, and the other goes on, and is routed, without it: the one that is older from then on, and the newest.
fn one_goes_on_alone(seed: u64) -> (World, GroupId, NodeId, NodeId) {
    let mut world = filled(seed, 3, 1, 2);
    world.nodes.second_wins = true;
    let (id, members) = group(&world);
    let [older, newest] = &members[..] else { panic!("{members:?}") };
    world.kill(older);
    world.until("a quorum without it", |world| world.state().groups[&id].newest == [newest.clone()].into());
    world.until("its route", |world| {
        world.nodes.route(newest, "t").is_some_and(|route| route.shards[0] == [newest.clone()])
    });
    (world, id, older.clone(), newest.clone())
}

/// The same, and the older one is back in the group, not compared yet.
fn comes_back_to_it(seed: u64) -> (World, GroupId, NodeId, NodeId) {
    let (mut world, id, older, newest) = one_goes_on_alone(seed);
    steps(&mut world, 40);
    world.start(&older);
    is_back(&mut world, &id, &older);
    (world, id, older, newest)
}

/// Until the node itself shows that it is in the group again.
fn is_back(world: &mut World, id: &GroupId, node: &NodeId) {
    world.until("its return", |world| {
        let shown = world.nodes.status(node, false).and_then(|status| status.clusters.get(id).cloned());
        shown.is_some_and(|shown| shown.is_synced())
    });
}

/// Real nodes give a member that waits a quorum as soon as another one starts, and it keeps its copy: recorded in
/// `docs/searchd.md`. `told_alone`: before it is known what came of the order to go on alone.
fn newest_dies_when_an_older_one_thaws(told_alone: bool) -> (World, GroupId, NodeId, NodeId) {
    let (mut world, id, older, newest) = if told_alone {
        let mut world = filled(18, 3, 1, 2);
        world.nodes.second_wins = true;
        let (id, members) = group(&world);
        world.kill(&members[0]);
        world.until("the word", |world| world.state().groups[&id].told.as_ref() == Some(&members[1]));
        (world, id, members[0].clone(), members[1].clone())
    } else {
        let mut alone = one_goes_on_alone(18);
        for _ in 0..10 {
            alone.0.write("t");
        }
        alone
    };
    world.kill(&newest);
    world.nodes.thaw(&older);
    steps(&mut world, 20);
    (world, id, older, newest)
}

#[test]
fn the_newest_does_not_start_beside_an_older_one_that_waits() {
    for told_alone in [false, true] {
        let (mut world, id, older, newest) = newest_dies_when_an_older_one_thaws(told_alone);
        assert_eq!(world.state().groups[&id].told.is_some(), told_alone);
        let held = gate(&mut world, &newest).join("; ");
        assert!(held.contains(&format!("{older} waits for a quorum with a copy that is older")), "{held}");
        opens(&mut world, &newest);
        assert!(!world.nodes.clusters(&older).contains(&id), "it let go first");
        world.start(&newest);
        world.settle();
    }
}

/// One lost reply is enough that a look says nothing of it.
#[test]
fn the_newest_does_not_start_while_an_older_one_is_silent() {
    let (mut world, _, older, newest) = one_goes_on_alone(26);
    for _ in 0..10 {
        world.write("t");
    }
    world.kill(&newest);
    world.nodes.thaw(&older);
    world.until("its return", |world| !world.state().nodes[&older].lost);
    world.silent.insert(older.clone());
    steps(&mut world, 20);
    let held = gate(&mut world, &newest).join("; ");
    assert!(held.contains(&format!("{older} does not answer just now")), "{held}");
    world.silent.clear();
    comes_through(&mut world, &newest);
    world.settle();
}

/// Proven gone, at the gate, or refused by its listeners: it waits for nobody.
#[test]
fn an_older_one_that_is_known_to_be_down_does_not_hold_the_newest_back() {
    let (mut world, _, older, newest) = one_goes_on_alone(27);
    assert!(world.state().nodes[&older].lost);
    world.silent.insert(older.clone());
    world.kill(&newest);
    steps(&mut world, 20);
    opens(&mut world, &newest);
    for is_silent in [true, false] {
        let (mut world, _, older, newest) = comes_back_to_it(28);
        if is_silent {
            world.silent.insert(older.clone());
        }
        world.kill(&older);
        world.kill(&newest);
        // The silent one is not proven gone for longer than the other is refused.
        steps(&mut world, if is_silent { 30 } else { 12 });
        assert!(!world.state().nodes[&older].lost, "not yet");
        if is_silent {
            let held = gate(&mut world, &newest).join("; ");
            assert!(held.contains("does not answer just now"), "{held}");
            let held = gate(&mut world, &older).join("; ");
            assert!(held.contains("a newer copy must start first"), "{held}");
        }
        let held = gate(&mut world, &newest).join("; ");
        assert!(!held.contains("does not answer just now"), "{held}");
    }
}

/// One that stood still shows a quorum for a moment that it does not have: nobody is left to compare it with.
#[test]
fn a_copy_that_thaws_is_not_whole_because_it_shows_a_quorum() {
    let (mut world, id, older, newest) = one_goes_on_alone(19);
    for _ in 0..10 {
        world.write("t");
    }
    world.kill(&newest);
    world.nodes.thaw(&older);
    world.nodes.keep_quorum(&id);
    world.until("the loss of the newest", |world| {
        world.state().nodes[&newest].lost && !world.state().nodes[&older].lost
    });
    steps(&mut world, 20);
    assert_eq!(world.state().groups[&id].members[&older], Member::Returning);
    world.nodes.break_quorum(&id);
    steps(&mut world, 40);
    comes_through(&mut world, &newest);
    world.settle();
}

/// Node 3 dies, and node 1 while node 2 has come back into one of its groups only: of that it has the newest copy, of the other one
/// node 1 has.
fn circle(seed: u64) -> World {
    let mut world = World::warmed_up(seed, 3);
    world.made("u", 1, 3);
    world.made("t", 3, 2);
    for _ in 0..50 {
        world.write("t");
        world.write("u");
        world.step();
    }
    world.settle();
    let of = |world: &World, nodes: &[usize]| {
        let nodes: Vec<NodeId> = nodes.iter().copied().map(node).collect();
        let mut groups = world.state().groups.iter();
        let found = groups.find(|(_, group)| group.members.keys().eq(&nodes));
        found.map(|(id, _)| id.clone()).expect("a group of these nodes")
    };
    let (pair, all) = (of(&world, &[1, 2]), of(&world, &[1, 2, 3]));
    world.set(|settings| settings.node_loss_grace_seconds = 3_600);
    let loses = |world: &mut World, last: usize, groups: &[&GroupId]| {
        world.kill(&node(last));
        world.until("a quorum of the others", |world| {
            let known = |id: &&GroupId| !world.state().groups[*id].newest_holders().contains(&node(last));
            groups.iter().all(known)
        });
    };
    loses(&mut world, 3, &[&all]);
    loses(&mut world, 2, &[&pair, &all]);
    // Here it finds nobody to come back to.
    world.nodes.break_quorum(&pair);
    world.nodes.unsynced(&pair, true);
    world.nodes.stays_out(&node(2), &pair);
    world.start(&node(2));
    world.until("its return", |world| world.state().groups[&all].newest_holders().contains(&node(2)));
    loses(&mut world, 1, &[&all]);
    world.nodes.unsynced(&pair, false);
    assert!(world.state().groups[&pair].members.contains_key(&node(2)));
    assert_eq!(world.state().groups[&pair].newest_holders(), [node(1)].into());
    assert_eq!(world.state().groups[&all].newest_holders(), [node(2)].into());
    world
}

/// Each waits for what only the other has: the first by name starts, once the other is there, and alone.
#[test]
fn of_those_who_wait_for_each_other_one_starts_at_a_time() {
    let mut world = circle(14);
    world.kill(&node(2));
    steps(&mut world, 20);
    let newer = |n: usize| format!("a newer copy must start first: that on {}", node(n));
    for _ in 0..3 {
        assert!(
            gate(&mut world, &node(1)).join("; ").contains(&newer(2)),
            "nobody has seen node 2 at the gate"
        );
    }
    let held = gate(&mut world, &node(2)).join("; ");
    assert!(held.contains(&newer(1)), "node 1 is the first by name: {held}");
    assert_eq!(gate(&mut world, &node(1)), Vec::<String>::new());
    let held = gate(&mut world, &node(2)).join("; ");
    assert!(held.contains("is just starting"), "{held}");
    world.start(&node(1));
    for n in 2..=3 {
        comes_through(&mut world, &node(n));
    }
    world.settle();
}

/// Who is silent and not proven lost could be found by the one that starts, or start beside it, unless it waits as well.
#[test]
fn no_circle_begins_beside_one_that_is_silent() {
    let mut world = circle(15);
    world.start(&node(3));
    world.until("a look", |world| !world.state().nodes[&node(3)].lost);
    for n in 2..=3 {
        world.kill(&node(n));
    }
    steps(&mut world, 20);
    assert!(!world.state().nodes[&node(3)].lost);
    for n in [1, 2, 1, 2, 1] {
        assert!(!gate(&mut world, &node(n)).is_empty());
    }
    assert!(!gate(&mut world, &node(3)).is_empty());
    assert_eq!(gate(&mut world, &node(1)), Vec::<String>::new());
    world.start(&node(1));
    for n in 2..=3 {
        comes_through(&mut world, &node(n));
    }
    world.settle();
}

/// Statements to the older one are lost on their way, and the newest dies: what nobody will ever hear of does not keep the older
/// one from letting go.
#[test]
fn what_was_sent_before_a_group_stopped_ends_all_the_same() {
    let (mut world, id, older, newest) = one_goes_on_alone(21);
    world.lost = true;
    world.refused = Some(Refused { kind: "return", step: StepId(1), undo: false, times: 100 });
    world.start(&older);
    is_back(&mut world, &id, &older);
    // It is compared, and not the same as yet.
    world.nodes.insert_row(&older, "system.t_s0", -1);
    world.until("the list", |world| world.is_under_way(&older, "ALTER CLUSTER"));
    assert_eq!(world.state().groups[&id].members[&older], Member::Returning);
    world.kill(&newest);
    steps(&mut world, 20);
    let held = gate(&mut world, &newest).join("; ");
    assert!(held.contains(&format!("{older} waits for a quorum with a copy that is older")), "{held}");
    opens(&mut world, &newest);
    world.refused = None;
    world.start(&newest);
    world.settle();
}

/// It was gone on without, and is in the group again, not compared yet: what its own clients write goes to both, and when the other
/// one dies all of it may be applied here alone.
#[test]
fn one_that_has_caught_up_and_was_not_compared_goes_on_when_the_other_dies() {
    let (mut world, id, older, newest) = comes_back_to_it(22);
    // It is compared, and not the same as yet.
    world.nodes.insert_row(&older, "system.t_s0", -1);
    assert_eq!(
        world.state().groups[&id].newest,
        [newest.clone()].into(),
        "nothing tells it from one that fell behind"
    );
    for _ in 0..5 {
        world.write("t");
    }
    world.until("a look", |world| world.state().groups[&id].newest.contains(&older));
    assert_eq!(world.state().groups[&id].members[&older], Member::Returning);
    world.kill(&newest);
    world.until("the failover", |world| {
        let group = &world.state().groups[&id];
        group.members[&older] == Member::Serving && group.halt.is_none()
    });
    comes_through(&mut world, &newest);
    world.settle();
}

/// Looks say that it lacks something or has too much: that it has committed as much makes it no whole copy.
#[test]
fn one_that_looks_different_is_not_as_new_for_what_it_has_committed() {
    let (mut world, id, older, newest) = comes_back_to_it(23);
    world.nodes.insert_row(&older, "system.t_s0", -1);
    for _ in 0..5 {
        world.write("t");
    }
    world.until("a look", |world| world.state().groups[&id].newest.contains(&older));
    world.until("more looks", |world| world.state().groups[&id].newest == [newest.clone()].into());
    steps(&mut world, 200);
    assert_eq!(world.state().groups[&id].newest, [newest.clone()].into(), "for good");
    world.kill(&newest);
    steps(&mut world, 400);
    assert_eq!(world.state().groups[&id].members[&older], Member::Returning, "it waits for the other");
    comes_through(&mut world, &newest);
    world.settle();
}

#[test]
fn one_that_has_caught_up_and_falls_out_again_is_older_again() {
    let (mut world, id, older, newest) = comes_back_to_it(24);
    // There is nothing to compare.
    world.nodes.lose_table(&older, "system.t_s0");
    for _ in 0..5 {
        world.write("t");
    }
    world.until("a look", |world| world.state().groups[&id].newest.contains(&older));
    world.nodes.thaw_behind(&older, &id);
    world.until("another", |world| world.state().groups[&id].newest == [newest.clone()].into());
    assert_eq!(world.state().groups[&id].members[&older], Member::Returning);
}
