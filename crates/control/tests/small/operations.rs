//! Operations in the small world: calm, with every kind of fault, and with the controller dying in between.

use super::world::{Fault, Refused, World, node, table};
use control::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use model::wire::{RebalanceOrder, ShardingStatement, StatementReply};
use model::{Action, ClusterState, NodeId, OperationId, Outcome, StepId};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn a_table_is_made_served_and_dropped_without_a_trace() {
    let mut world = World::warmed_up(1, 3);
    world.made("t", 12, 2);
    world.settle();
    assert_eq!(world.state().tables.len(), 1);
    let request = world.drop("t");
    world.until("the drop", |world| world.answers.contains_key(&request));
    assert_eq!(world.answers[&request], StatementReply::Ok);
    world.settle();
    assert!(world.state().groups.is_empty() && world.state().tables.is_empty());
}

#[test]
fn a_killed_node_is_replaced_under_writes_and_a_new_one_filled_with_the_fewest_copies() {
    let mut world = World::warmed_up(2, 3);
    world.made("t", 12, 2);
    for _ in 0..50 {
        world.write("t");
    }
    world.kill(&node(2));
    for _ in 0..400 {
        world.write("t");
        world.step();
    }
    world.settle();
    let repair = world.state().rebalance.clone().expect("a plan");
    assert_eq!(repair.copies, repair.lower_bound);
    world.add_node(4);
    for _ in 0..400 {
        world.write("t");
        world.step();
    }
    world.settle();
    let growth = world.state().rebalance.clone().expect("a plan");
    assert_ne!(repair, growth);
    assert_eq!((growth.copies, growth.lower_bound), (8, 8), "24 copies over 3 nodes: 8 each");
}

#[test]
fn a_node_that_returns_in_time_costs_nothing_and_later_is_cleaned() {
    let mut world = World::warmed_up(3, 4);
    world.made("t", 8, 2);
    world.settle();
    let records = world.state().rebalance.clone();
    world.kill(&node(1));
    world.until("the loss", |world| world.state().nodes[&node(1)].lost);
    world.start(&node(1));
    world.settle();
    assert_eq!(world.state().rebalance, records, "nothing was planned");
    world.kill(&node(1));
    for _ in 0..600 {
        world.write("t");
        world.step();
    }
    world.start(&node(1));
    world.settle();
}

#[test]
fn a_lost_member_is_off_the_list_before_its_copy_is_made_anew_and_on_it_again_when_it_is_back() {
    for returns in [false, true] {
        let mut world = World::with_table(6, 4, 6, 3);
        world.settle();
        for n in 1..=4 {
            world.nodes.refuse_joins(&node(n), returns);
        }
        world.kill(&node(1));
        let updated = |step: &Step| {
            matches!(step.work.action(), Some(Action::UpdateNodes { .. })) && step.status == StepStatus::Done
        };
        world.until("a list without it", |world| {
            world.state().active().flat_map(|operation| &operation.steps).any(updated)
        });
        if returns {
            world.start(&node(1));
            world.until("its return", |world| world.state().is_live(&node(1)));
            for n in 1..=4 {
                world.nodes.refuse_joins(&node(n), false);
            }
        }
        world.settle();
        assert_eq!(world.nodes.slow_joins, 0);
        for (id, group) in &world.state().groups {
            let members: BTreeSet<NodeId> = group.members.keys().cloned().collect();
            assert_eq!(world.nodes.listed(id), &members, "{id}, returns: {returns}");
        }
    }
}

#[test]
fn a_member_that_goes_again_before_it_is_listed_holds_nothing_up() {
    for verified in [false, true] {
        let mut world = World::with_table(6, 4, 1, 3);
        world.settle();
        let group = world.state().groups.values().next().expect("a group");
        let back = group.members.keys().next().cloned().expect("a member");
        // The list, after it is seen to be synced.
        world.refused = Some(Refused { kind: "return", step: StepId(1), undo: false, times: u32::MAX });
        world.kill(&back);
        world.until("the loss", |world| !world.state().is_live(&back));
        world.start(&back);
        let status = |world: &World, of: StepId| {
            let returns = |it: &&Operation| matches!(it.kind, Kind::Return { .. });
            Some(world.state().active().find(returns)?.step(of)?.status)
        };
        let until = if verified { (StepId(2), StepStatus::Done) } else { (StepId(0), StepStatus::Done) };
        world.until("the moment", |world| status(world, until.0) == Some(until.1));
        assert_ne!(status(&world, StepId(1)), Some(StepStatus::Done));
        world.nodes.fill_disk(&back);
        world.settle();
    }
}

/// A list of members waits for whoever serves and is out of view.
#[test]
fn a_member_that_stops_while_another_one_returns_is_given_up() {
    let mut world = World::with_table(7, 4, 1, 3);
    world.settle();
    let group = world.state().groups.values().next().expect("a group");
    let mut members = group.members.keys().cloned();
    let (back, stops) = (members.next().expect("a member"), members.next().expect("another one"));
    world.kill(&back);
    world.until("the loss", |world| !world.state().is_live(&back));
    world.start(&back);
    world
        .until("its return", |world| world.state().active().any(|it| matches!(it.kind, Kind::Return { .. })));
    world.nodes.fill_disk(&stops);
    world.settle();
}

#[test]
fn a_table_is_made_by_all_that_will_have_it_and_not_by_one() {
    let mut world = World::warmed_up(9, 3);
    // With groups of its own, and in those that are there.
    for name in ["t", "u"] {
        let request = world.create(name, 12, 2);
        world.until("the operation", |world| !world.state().operations.is_empty());
        let mut made: BTreeMap<NodeId, usize> = BTreeMap::new();
        for step in world.state().operations.values().flat_map(|operation| &operation.steps) {
            if let (Some(node), Some(Action::CreateTables { tables, .. })) = (&step.node, step.work.action())
            {
                *made.entry(node.clone()).or_default() += tables.len();
            }
        }
        assert!(made.len() == 3 && made.values().all(|tables| (3..=5).contains(tables)), "{name}: {made:?}");
        assert_eq!(world.answer_to(request), StatementReply::Ok);
        world.settle();
    }
}

/// The command is known to nobody any more, and its deadline is minutes away.
#[test]
fn a_join_that_dies_with_its_node_holds_nothing_up() {
    for seed in 0..20 {
        let mut world = World::warmed_up(seed, 3);
        world.made("t", 12, 2);
        world.settle();
        world.add_node(4);
        world.until("a join", |world| world.is_under_way(&node(4), "JOIN CLUSTER"));
        world.kill(&node(4));
        world.step();
        world.start(&node(4));
        let began = world.now;
        world.until("rest", |world| world.state().operations.is_empty());
        assert!(world.now.since(began).0 < 60_000, "it took {:?}", world.now.since(began));
        world.settle();
    }
}

/// The node goes on answering, so nothing else would tell that its copies fall behind.
#[test]
fn copies_whose_replication_stopped_are_not_routed_and_made_anew() {
    let mut world = World::warmed_up(6, 3);
    world.made("t", 12, 2);
    for _ in 0..100 {
        world.write("t");
        world.step();
    }
    world.settle();
    world.nodes.fill_disk(&node(1));
    let began = world.now;
    world.until("its copies to be given up", |world| world.state().leftovers.contains_key(&node(1)));
    assert!(world.now.since(began).0 < 5_000, "{:?}", world.now.since(began));
    for _ in 0..400 {
        world.write("t");
        world.step();
    }
    world.settle();
    assert!(world.state().groups.values().any(|group| group.members.contains_key(&node(1))));
}

#[test]
fn the_last_copy_there_is_stays_however_old() {
    let mut world = World::warmed_up(5, 4);
    world.made("t", 1, 2);
    for _ in 0..20 {
        world.write("t");
    }
    world.settle();
    let group = world.state().groups.values().next().cloned().expect("a group");
    let stale = group.serving().next().cloned().expect("a copy");
    world.kill(&stale);
    world.until("the copy elsewhere", |world| world.state().leftovers.contains_key(&stale));
    world.settle();
    let holders: Vec<_> =
        world.state().groups.values().flat_map(control::state::Group::serving).cloned().collect();
    for holder in &holders {
        world.kill(holder);
    }
    world.until("their loss", |world| holders.iter().all(|holder| world.state().nodes[holder].lost));
    world.start(&stale);
    for _ in 0..1200 {
        world.step();
    }
    assert!(world.nodes.rows(&stale, "system.t_s0").is_some(), "the only copy left was dropped");
    assert_eq!(world.nodes.clusters(&stale).len(), 2, "it was taken out of its group");
}

#[test]
fn shards_without_copies_move_too() {
    let mut world = World::warmed_up(4, 2);
    world.made("t", 6, 1);
    for _ in 0..60 {
        world.write("t");
    }
    world.add_node(3);
    for _ in 0..300 {
        world.write("t");
        world.step();
    }
    world.settle();
    let plan = world.state().rebalance.clone().expect("a plan");
    assert_eq!((plan.copies, plan.lower_bound), (2, 2));
}

/// Something an operator orders at random; what cannot be done is refused.
fn meddle(world: &mut World) {
    let any = |world: &mut World| node(1 + world.random.below(4));
    let name = table("a");
    let statement = match world.random.below(10) {
        0 => ShardingStatement::DrainNode { node: any(world) },
        1 => ShardingStatement::UndrainNode { node: any(world) },
        2 => ShardingStatement::RemoveNode { node: any(world) },
        3 => {
            let (from, to, split) = (any(world), any(world), world.random.chance(50));
            ShardingStatement::MoveShard { name, shard: 0, from, to, split }
        }
        8 => {
            let name = table(["a", "b", "c"][world.random.below(3)]);
            ShardingStatement::SetRf { name, cluster: None, rf: 1 + world.random.below(3) as u32 }
        }
        4 => ShardingStatement::Rebalance { name, order: RebalanceOrder::Pause },
        5 => ShardingStatement::Rebalance { name, order: RebalanceOrder::StopNow },
        6 => ShardingStatement::Rebalance { name, order: RebalanceOrder::Reset },
        _ => ShardingStatement::Rebalance { name, order: RebalanceOrder::Start },
    };
    world.ask(statement);
}

/// The end of it: nothing is held back, and every node takes copies.
fn let_go(world: &mut World) {
    let nodes: Vec<_> = world.state().nodes.keys().cloned().collect();
    for node in nodes {
        world.ask(ShardingStatement::UndrainNode { node });
    }
    let tables: Vec<_> = world.state().tables.keys().cloned().collect();
    for name in tables {
        world.ask(ShardingStatement::Rebalance { name, order: RebalanceOrder::Start });
    }
    world.step();
}

/// The life of a table under a storm of faults, for one seed.
fn storm(seed: u64, meddling: bool) {
    let mut world = World::warmed_up(seed, 3);
    world.command_faults = 20;
    world.controller_deaths = 3;
    let mut tables = Vec::new();
    for (name, shards, rf) in [("a", 6, 2), ("b", 3, 1), ("c", 5, 2)] {
        world.create(name, shards, rf);
        for _ in 0..40 {
            world.step();
        }
        tables.push(name);
    }
    let victim = node(1 + world.random.below(3));
    let quiet = world.random.below(200);
    for round in 0..900 {
        for name in &tables {
            world.write(name);
        }
        if round == quiet {
            world.kill(&victim);
        }
        if round == 300 {
            world.add_node(4);
        }
        if round == 450 {
            world.start(&victim);
        }
        if meddling && world.random.chance(4) {
            meddle(&mut world);
        }
        world.step();
    }
    world.command_faults = 0;
    world.controller_deaths = 0;
    let_go(&mut world);
    world.settle();
    for name in tables {
        if world.state().tables.contains_key(&table(name)) {
            let request = world.drop(name);
            world.until("the drop", |world| world.answers.contains_key(&request));
            assert_eq!(world.answers[&request], StatementReply::Ok, "drop of {name}");
        }
    }
    world.settle();
    assert!(world.state().groups.is_empty());
}

#[test]
fn nothing_is_lost_or_left_behind_in_a_storm() {
    for seed in super::seeds(12) {
        storm(seed, false);
        storm(seed, true);
    }
}

/// A controller is built anew in one process after a failed append; answers to the old one's questions still come.
#[test]
fn an_answer_to_an_earlier_controllers_look_is_not_taken() {
    use control::{Config, Controller, Effect, Input, PollAnswer};
    use model::{Millis, Reach, Settings};
    let open = |seed| {
        let config =
            Config { name: "n".to_owned(), log_id: "l".repeat(32), settings: Settings::default(), seed };
        Controller::open(config, None, Vec::new()).expect("an empty log opens")
    };
    let looks = |controller: &mut Controller, at| -> Vec<u64> {
        let out = controller.tick(Millis(at), 0, Vec::new());
        let token = |effect: &Effect| match effect {
            Effect::Poll { token, .. } => Some(*token),
            _ => None,
        };
        out.effects.iter().filter_map(token).collect()
    };
    let heard = |controller: &mut Controller| {
        let peers = BTreeMap::new();
        let poll = model::wire::SidecarPoll {
            node: node(1),
            uuid: "u".to_owned(),
            run: "r".to_owned(),
            taken: 0,
            log_id: None,
            epoch: model::Epoch(0),
            names_version: 0,
            views_version: 0,
            peers,
            results: Vec::new(),
            running: Vec::new(),
            going_on: Vec::new(),
            machine: None,
        };
        controller.tick(Millis(1), 0, vec![Input::Sidecar(poll)]).effects.into_iter().find_map(|effect| {
            match effect {
                Effect::Poll { token, .. } => Some(token),
                _ => None,
            }
        })
    };
    let (mut before, mut after) = (open(10), open(11));
    let (old, new) = (heard(&mut before).expect("a look"), heard(&mut after).expect("a look"));
    assert!(old.abs_diff(new) > 1_000_000, "{old} {new}");
    let late = PollAnswer { node: node(1), token: old, reach: Reach::Answered, status: None };
    after.tick(Millis(2), 0, vec![Input::Polled(late)]);
    assert!(looks(&mut after, 3).is_empty(), "its own look is still under way");
}

/// The step of a gain that copies.
const JOIN: StepId = StepId(3);

/// A copy is lost, a JOIN makes it good, and its donor dies before anybody knows what came of it.
fn donor_dies(seed: u64, copied: bool) -> (World, OperationId, NodeId) {
    let mut world = World::with_table(seed, 5, 1, 3);
    let first = world.state().groups.values().next().expect("a group").serving().next().cloned();
    world.kill(&first.expect("a member"));
    world.refused = Some(Refused { kind: "move", step: JOIN, undo: false, times: 1 });
    world.lost = true;
    let join = |world: &World| {
        let moves = |operation: &&Operation| matches!(operation.kind, Kind::Move { .. });
        let operation = world.state().active().find(moves)?;
        let step = operation.step(JOIN).filter(|step| step.status == StepStatus::Started)?;
        Some((operation.id, step.node.clone()?, step.work.action()?.clone()))
    };
    world.until("the JOIN", |world| join(world).is_some());
    let (id, to, action) = join(&world).expect("under way");
    if copied {
        world.nodes.run(&to, &action, Fault::None);
    }
    let Action::JoinCluster { at, .. } = action else { panic!("{action:?}") };
    world.kill(&at);
    world.until("its loss", |world| world.state().nodes[&at].lost);
    (world, id, to)
}

#[test]
fn a_copy_that_came_over_from_a_donor_that_died_stays() {
    let (mut world, id, to) = donor_dies(5, true);
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(world.state().operations[&id].status, Status::Running);
    world.restart_sidecar(&to);
    world.until("its end", |world| !world.state().operations.contains_key(&id));
    let ended = world.state().finished.iter().find(|operation| operation.id == id).expect("kept");
    assert_eq!(ended.status, Status::Done, "{:?}", ended.error);
    world.settle();
}

#[test]
fn a_copy_that_did_not_come_over_from_a_donor_that_died_is_planned_anew() {
    let (mut world, id, to) = donor_dies(6, false);
    world.restart_sidecar(&to);
    world.until("its end", |world| !world.state().operations.contains_key(&id));
    let ended = world.state().finished.iter().find(|operation| operation.id == id).expect("kept");
    assert_eq!(ended.status, Status::Failed);
    assert!(ended.error.as_ref().is_some_and(|error| error.contains("the donor")), "{:?}", ended.error);
    world.settle();
}

/// Nothing was asked of it yet, or what it gave falls with it.
#[test]
fn a_gain_that_is_nothing_without_its_donor_is_taken_back_when_that_dies() {
    // The directory before JOIN; JOIN into the temporary cluster of a shard without others.
    for (nodes, rf, step) in [(5, 3, StepId(2)), (2, 1, StepId(5))] {
        let mut world = World::with_table(8, nodes, 1, rf);
        world.refused = Some(Refused { kind: "move", step, undo: false, times: 1 });
        world.lost = true;
        let holder = world.state().groups.values().next().expect("a group").serving().next().cloned();
        let from = holder.expect("a member");
        if rf == 1 {
            let to = (1..=nodes).map(node).find(|node| *node != from).expect("another");
            let (name, shard, split) = (table("t"), 0, false);
            world.told(ShardingStatement::MoveShard { name, shard, from, to, split });
        } else {
            world.kill(&from);
        }
        let told = |world: &World| {
            let moves = |operation: &&Operation| matches!(operation.kind, Kind::Move { .. });
            let operation = world.state().active().find(moves)?;
            operation.step(step).filter(|step| step.status == StepStatus::Started)?;
            operation.steps.iter().find_map(|step| match step.work.action()? {
                Action::JoinCluster { at, .. } => Some((operation.id, at.clone())),
                _ => None,
            })
        };
        world.until("the step", |world| told(world).is_some());
        let (id, donor) = told(&world).expect("under way");
        world.kill(&donor);
        world.until("its loss", |world| world.state().nodes[&donor].lost);
        let error = world.state().operations[&id].error.clone().unwrap_or_default();
        assert_eq!(error, format!("node {donor} was lost"), "of {rf} copies");
        world.start(&donor);
        world.settle();
    }
}

/// With a quorum it would take writes that nobody else has, and that go with it.
#[test]
fn a_copy_that_is_taken_back_is_given_no_quorum_for_it() {
    let mut world = World::with_table(8, 2, 1, 1);
    world.refused = Some(Refused { kind: "move", step: StepId(5), undo: false, times: 1 });
    world.lost = true;
    let holder = world.state().groups.values().next().expect("a group").serving().next().cloned();
    let from = holder.expect("a member");
    let to = (1..=2).map(node).find(|node| *node != from).expect("another");
    let (name, shard, split) = (table("t"), 0, false);
    world.told(ShardingStatement::MoveShard { name, shard, from: from.clone(), to: to.clone(), split });
    let join = |world: &World| {
        let moves = |operation: &&Operation| matches!(operation.kind, Kind::Move { .. });
        let operation = world.state().active().find(moves)?;
        let step = operation.step(StepId(5)).filter(|step| step.status == StepStatus::Started)?;
        Some((operation.id, step.work.action()?.clone()))
    };
    world.until("the JOIN", |world| join(world).is_some());
    let (id, action) = join(&world).expect("under way");
    let group = action.group().expect("of a group").clone();
    world.nodes.run(&to, &action, Fault::None);
    world.kill(&from);
    world.restart_sidecar(&to);
    let quorum = |world: &World| {
        let status = world.nodes.status(&to, false).expect("it answers");
        status.clusters.get(&group).map(|cluster| cluster.status == ClusterState::Primary)
    };
    assert_eq!(quorum(&world), Some(false));
    world.until("its end", |world| {
        assert_ne!(quorum(world), Some(true));
        !world.state().operations.contains_key(&id)
    });
    assert_eq!(quorum(&world), None);
    world.start(&from);
    world.settle();
}

/// The cluster for which a failover wants a quorum is dissolved before it got one.
#[test]
fn a_temporary_cluster_that_is_gone_is_waited_for_by_no_failover() {
    let mut world = World::with_table(1, 3, 1, 1);
    world.settle();
    let (id, group) = world.state().groups.iter().next().expect("a group");
    let (id, from) = (id.clone(), group.members.keys().next().expect("a member").clone());
    let to = world.nodes.live().into_iter().find(|node| *node != from).expect("another node");
    world.told(ShardingStatement::MoveShard {
        name: table("t"),
        shard: 0,
        from: from.clone(),
        to: to.clone(),
        split: false,
    });
    world.until("the routes", |world| {
        let mut routers = world.nodes.live().into_iter();
        routers.all(|node| world.nodes.route(&node, "t").is_some_and(|it| it.shards[0] == [to.clone()]))
    });
    world.nodes.unsynced(&id, true);
    world.nodes.break_quorum(&id);
    world.until("a failover", |world| {
        let mut steps = world.state().operations.values().flat_map(|operation| &operation.steps);
        steps.any(|step| matches!(&step.work, Work::Regain { group } if *group == id))
    });
    world.kill(&from);
    let dissolved =
        world.nodes.run(&to, &Action::DeleteCluster { group: id.clone(), whole: false }, Fault::None);
    assert!(matches!(dissolved, Some(Outcome::Done { .. })), "{dissolved:?}");
    world.settle();
    assert_eq!(world.state().groups[&id].members.keys().collect::<Vec<_>>(), [&to]);
}
