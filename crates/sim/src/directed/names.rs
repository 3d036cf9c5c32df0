//! What becomes of what has a table's name.

use super::{create, drop, is, wait, with_tables};
use crate::chance::Chance;
use crate::faults::{self, Fault, Turn};
use crate::people;
use crate::play::{TableIs, schema};
use crate::say;
use crate::wire::{Ask, Finish, Owner, Task};
use crate::world::{Event, World};

/// Statements on a node, one after the other; on a session that is closed after so long.
fn by_hand(world: &mut World, at: usize, statements: Vec<String>, holds: u64) {
    let (node, session) = (world.machines[at].node.clone(), 1 << 44 | at as u64);
    world.spawn(Task::new(Owner::Client, move |wire| async move {
        for sql in statements {
            wire.ask(Ask::Sql { to: node.clone(), session: Some(session), sql, time_max: 5_000 }).await;
        }
        wire.sleep(holds).await;
        wire.ask(Ask::Close { to: node, session }).await;
        Finish::Nothing
    }));
}

/// Somebody holds a shard locked, so that TRUNCATE fails: one of rf 1, as searchd locks no table of a cluster.
pub fn emptied(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 1)], chance);
    let holds = chance.between(2_000, 6_000);
    for at in 0..world.machines.len() {
        by_hand(world, at, vec!["LOCK TABLES system.t0_s0 READ".to_owned()], holds);
    }
    world.run_to(world.now + 500);
    let play = world.play.clone();
    world.spawn(Task::new(Owner::Client, |wire| people::empty(wire, play, "t0".to_owned())));
    world.run_to(world.now + chance.between(40_000, 50_000));
}

/// Somebody makes a table on a node, with some documents.
fn make_by_hand(world: &mut World, at: usize, table: &str) {
    let ids = vec![1, 2, 3];
    let mut statements = vec![say::create_shard(table, &schema())];
    statements
        .extend(ids.iter().map(|id| format!("INSERT INTO {table} (id,title,v) VALUES ({id},'m',{id})")));
    by_hand(world, at, statements, 0);
    let node = world.machines[at].node.clone();
    world.play.borrow_mut().by_hand.insert((node, table.to_owned()), ids);
}

/// The table has documents, and a name that a shard of a new table would have.
pub fn made_by_hand(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2)], chance);
    let at = chance.index(world.machines.len());
    make_by_hand(world, at, "system.t1_s0");
    world.run_to(world.now + 1_000);
    create(world, "t1", chance.between(1, 2) as u32, chance.between(1, 3) as u32);
    if chance.hits(500) {
        // Its creation is taken back.
        let victim = chance.index(world.machines.len());
        world.run_to(world.now + chance.between(20, 400));
        faults::happen(world, Turn::KillNode { at: victim });
        world.push(world.now + 5_000, Event::Fault(Turn::StartNode { at: victim }));
    }
    world.run_to(world.now + 20_000);
}

/// While clients write to the one and to the other.
pub fn same_name(world: &mut World, chance: &mut Chance) {
    let shards = chance.between(1, 3) as u32;
    with_tables(world, &[("t0", shards, 2)], chance);
    drop(world, "t0");
    wait(world, 20_000, |world| is(world, "t0", TableIs::Gone));
    create(world, "t0", shards + 1, 2);
    world.run_to(world.now + chance.between(15_000, 25_000));
}

/// A route goes away by itself, again and again.
pub fn route_gaps(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2)], chance);
    for _ in 0..chance.between(4, 8) {
        people::act(world, Fault::RouteDroppedByHand);
        world.run_to(world.now + chance.between(1_000, 4_000));
    }
}

/// The tables have the names of ours.
pub fn another_node(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2)], chance);
    let at = chance.index(world.machines.len());
    let node = world.machines[at].node.clone();
    faults::happen(world, Turn::KillNode { at });
    world.run_to(world.now + chance.between(20_000, 40_000));
    let bug = world.bug;
    world.machines[at].replace(bug);
    world.play.borrow_mut().leaving.insert(node.clone());
    world.start_node(at);
    world.run_to(world.now + 600);
    for table in ["system.t0_s0", "system.t0_s1"] {
        make_by_hand(world, at, table);
    }
    world.run_to(world.now + chance.between(10_000, 20_000));
    let play = world.play.clone();
    world.spawn(Task::new(Owner::Client, |wire| people::give_up(wire, play, node)));
    world.run_to(world.now + 20_000);
}
