//! What people do beside writing: tables and nodes come and go, shards are moved, moves are held back.
//!
//! Each order is a script. At the end they tidy up: marks and holds are taken back, or the cluster could not come to
//! rest where it should.

use crate::chance::Chance;
use crate::faults::{Fault, Turn};
use crate::invariants::{self, routes};
use crate::play::{self, SharedPlay, TableIs, ask_leader};
use crate::wire::{Finish, Owner, Task, Wire};
use crate::world::{Event, World};
use control::state::{Group, Halt};
use model::wire::{RebalanceOrder, ShardingStatement, StatementReply};
use model::{ClusterState, ClusterStatus, GroupId, NodeId, TableName};
use std::collections::BTreeSet;

/// Nodes that a run may have, those that left included.
const NODES_MAX: usize = 7;
/// Between two tries of an order that is refused for now.
const AGAIN: u64 = 1_000;
const TRIES: usize = 60;
/// An order that failed is not carried out any more by then: no command has more time.
const FAILED_FOR_GOOD: u64 = 25_000;
/// A node answers a word typed by hand within that.
const WORD_TIME_MAX: u64 = 30_000;
const RESTART_TAKES: u64 = 5_000;

/// Lets people do one of the things that a run draws; `false` when there is nothing to do it with.
pub fn act(world: &mut World, what: Fault) -> bool {
    match what {
        Fault::RouteDroppedByHand => route_dropped(world),
        Fault::NodeAdded => node_added(world),
        Fault::TableCreated => table_created(world),
        Fault::NodeDrained | Fault::NodeRemoved => node_drained(world, what == Fault::NodeRemoved),
        _ => {
            let there = tables(world);
            let Some(name) = world.chance.pick(&there).cloned() else { return false };
            of_table(world, what, name)
        }
    }
}

/// The tables that are there.
pub fn tables(world: &World) -> Vec<String> {
    let play = world.play.borrow();
    let there = play.tables.iter().filter(|(_, table)| table.is == TableIs::There);
    there.map(|(name, _)| name.clone()).collect()
}

fn of_table(world: &mut World, what: Fault, name: String) -> bool {
    let play = world.play.clone();
    let task = match what {
        Fault::TableDropped => Task::new(Owner::Client, |wire| play::drop(wire, play, name)),
        Fault::TableEmptied => Task::new(Owner::Client, |wire| empty(wire, play, name)),
        Fault::RfChanged => {
            let rf = world.chance.between(1, 3) as u32;
            Task::new(Owner::Client, move |wire| change_rf(wire, play, name, rf))
        }
        Fault::MovesHeld => {
            let seed = world.chance.draw();
            Task::new(Owner::Client, move |wire| hold(wire, play, name, seed))
        }
        _ => match shard_to_move(world, &name) {
            Some(order) => Task::new(Owner::Client, |wire| once(wire, play, order)),
            None => return false,
        },
    };
    world.spawn(task);
    true
}

fn route_dropped(world: &mut World) -> bool {
    let there = tables(world);
    let (Some(name), true) = (world.chance.pick(&there).cloned(), !world.machines.is_empty()) else {
        return false;
    };
    let at = world.chance.index(world.machines.len());
    world.peek(at, &format!("DROP TABLE {name} OPTION force=1")).is_some()
}

fn node_added(world: &mut World) -> bool {
    if world.machines.len() >= NODES_MAX {
        return false;
    }
    let up =
        world.members().into_iter().find(|at| world.machines[*at].is_up() && !world.machines[*at].cut_off);
    let at = world.add_node();
    let (node, play) = (world.machines[at].node.clone(), world.play.clone());
    let Some(first) = up.map(|first| world.machines[first].node.clone()) else { return true };
    world.spawn(Task::new(Owner::Client, |wire| play::join_user_cluster(wire, play, node, first)));
    true
}

fn table_created(world: &mut World) -> bool {
    let play = world.play.clone();
    let number = world.chance.below(4);
    let (shards, rf) = (world.chance.between(1, 3) as u32, world.chance.between(1, 3) as u32);
    world.spawn(Task::new(Owner::Client, |wire| play::create(wire, play, format!("t{number}"), shards, rf)));
    true
}

/// Marks and holds that are left over are taken back, and nodes that will not come back are given up.
pub fn tidy(world: &mut World) {
    let (draining, there) = (world.play.borrow().draining.clone(), tables(world));
    let mut lost = Vec::new();
    for node in draining {
        let play = world.play.clone();
        world.spawn(Task::new(Owner::Client, |wire| async move {
            play.borrow_mut().asking += 1;
            undrain(&wire, &play, node).await;
            play.borrow_mut().asking -= 1;
            Finish::Nothing
        }));
    }
    for machine in world.machines.iter().filter(|machine| machine.gone) {
        let (play, node) = (world.play.clone(), machine.node.clone());
        lost.push(Task::new(Owner::Client, |wire| give_up(wire, play, node)));
    }
    for task in lost {
        world.spawn(task);
    }
    if let Some(name) = there.first().and_then(|name| TableName::new(name.clone()).ok()) {
        let play = world.play.clone();
        let order = ShardingStatement::Rebalance { name, order: RebalanceOrder::Start };
        world.spawn(Task::new(Owner::Client, |wire| async move {
            play.borrow_mut().asking += 1;
            insist_while_there(&wire, &play, &order).await;
            play.borrow_mut().asking -= 1;
            Finish::Nothing
        }));
    }
}

/// What alerts say where the controller may not decide.
pub fn decide(world: &mut World) {
    restart_the_named(world);
    make_primary(world);
    choose_copies(world);
}

/// A node is restarted whose stopped replication an operation stands still for, or that groups have left behind.
pub fn restart_the_named(world: &mut World) {
    let Some(leader) = world.leader() else { return };
    let StatementReply::Rows { rows, .. } = leader.controller.show(&ShardingStatement::ShowAlerts) else {
        return;
    };
    let named = |text: &String| {
        let stopped =
            || Some(text.split_once(" has stopped on ")?.1.split_once(": restart that node")?.0.to_owned());
        let left_behind = || Some(text.split_once(" waits without a quorum in ")?.0.to_owned());
        NodeId::new(stopped().or_else(left_behind)?).ok()
    };
    let named: BTreeSet<NodeId> = rows.iter().flatten().flatten().filter_map(named).collect();
    let up = |at: &usize| world.machines[*at].is_up();
    for at in named.iter().filter_map(|node| world.find(node)).filter(up).collect::<Vec<_>>() {
        world.push(world.now, Event::Fault(Turn::KillNode { at }));
        world.push(world.now + RESTART_TAKES, Event::Fault(Turn::StartNode { at }));
    }
}

/// Where each copy has what another lacks, people compare them with what they know, and take the one that has it all.
fn choose_copies(world: &mut World) {
    let Some(leader) = world.leader() else { return };
    let StatementReply::Rows { rows, .. } = leader.controller.show(&ShardingStatement::ShowAlerts) else {
        return;
    };
    let told: Vec<String> = rows.into_iter().flatten().flatten().collect();
    let asks = |id: &GroupId| {
        let group = format!("group {id} of ");
        told.iter().any(|text| text.starts_with(&group) && text.contains("waits for: an operator"))
    };
    let groups = leader.controller.state().groups.iter().filter(|(id, _)| asks(id));
    let groups: Vec<(GroupId, Group)> = groups.map(|(id, group)| (id.clone(), group.clone())).collect();
    for (id, group) in groups {
        let mut is_right = |node: &&NodeId| {
            group
                .shards
                .iter()
                .all(|shard| invariants::documents::is_right(world, node, shard.table.as_str(), shard.number))
        };
        let Some(from) = group.members.keys().find(&mut is_right).cloned() else { continue };
        let play = world.play.clone();
        let order = ShardingStatement::RecoverGroup { group: id, from };
        world.spawn(Task::new(Owner::Client, |wire| once(wire, play, order)));
    }
}

/// The most advanced member of a group without a quorum is made primary.
fn make_primary(world: &mut World) {
    let Some(leader) = world.leader() else { return };
    let halted = |group: &&Group| group.halt == Some(Halt::NoQuorum);
    let groups = leader.controller.state().groups.iter().filter(|(_, group)| halted(group));
    let groups: Vec<GroupId> = groups.map(|(id, _)| id.clone()).collect();
    for group in groups {
        let mut members = Vec::new();
        for at in (0..world.machines.len()).filter(|at| world.machines[*at].is_up()).collect::<Vec<_>>() {
            let node = world.machines[at].node.clone();
            let shown = invariants::clusters(world, at).remove(&group);
            let fit =
                |shown: &ClusterStatus| shown.status == ClusterState::NonPrimary && shown.is_whole_survivor();
            members.extend(shown.filter(fit).map(|shown| (shown.conf_id, shown.last_committed, node)));
        }
        let Some((_, _, node)) = members.into_iter().max() else { continue };
        let play = world.play.clone();
        world.spawn(Task::new(Owner::Client, |wire| async move {
            play.borrow_mut().asking += 1;
            let _seen_by_what_follows = wire
                .sql(&node, format!("SET CLUSTER {group} GLOBAL 'pc.bootstrap' = 1"), WORD_TIME_MAX)
                .await;
            play.borrow_mut().asking -= 1;
            Finish::Nothing
        }));
    }
}

/// A node that others can do without: three must stay that nobody wants to empty.
fn node_drained(world: &mut World, remove: bool) -> bool {
    let draining = world.play.borrow().draining.clone();
    let members = world.members().into_iter().map(|at| world.machines[at].node.clone());
    let others: Vec<NodeId> = members.filter(|node| !draining.contains(node)).collect();
    if others.len() < 4 {
        return false;
    }
    let Some(node) = world.chance.pick(&others).cloned() else { return false };
    let (play, lasts) = (world.play.clone(), world.chance.between(1_000, 40_000));
    world.spawn(Task::new(Owner::Client, move |wire| async move {
        if remove {
            drain_and_remove(wire, play, node).await
        } else {
            drain_for_a_while(wire, play, node, lasts).await
        }
    }));
    true
}

/// A shard, a node that has it and one that has not, split from its group now and then.
pub fn shard_to_move(world: &mut World, name: &str) -> Option<ShardingStatement> {
    let members = world.members();
    let asked = members.iter().copied().find(|at| world.machines[*at].is_up())?;
    let route = routes::shown(world, asked, name)?;
    let shard = world.chance.index(route.shards.len());
    let from = world.chance.pick(route.shards.get(shard)?)?.clone();
    let nodes = members.into_iter().map(|at| world.machines[at].node.clone());
    let free: Vec<NodeId> = nodes.filter(|node| !route.shards[shard].contains(node)).collect();
    let to = world.chance.pick(&free)?.clone();
    let split = world.chance.hits(500);
    Some(ShardingStatement::MoveShard { name: route.table, shard: shard as u32, from, to, split })
}

/// An order that is carried out later, or refused.
pub async fn once(wire: Wire, play: SharedPlay, order: ShardingStatement) -> Finish {
    play.borrow_mut().asking += 1;
    let _refused_or_not = ask_leader(&wire, &play, &order).await;
    play.borrow_mut().asking -= 1;
    Finish::Nothing
}

/// The first of the orders that is not refused.
pub async fn first_of(wire: Wire, play: SharedPlay, orders: Vec<ShardingStatement>) -> Finish {
    play.borrow_mut().asking += 1;
    for order in orders {
        if !is_refused(ask_leader(&wire, &play, &order).await.as_ref()) {
            break;
        }
    }
    play.borrow_mut().asking -= 1;
    Finish::Nothing
}

/// Whether nothing came of an order, for certain: a leader that could not write its log does not know.
fn is_refused(reply: Option<&StatementReply>) -> bool {
    matches!(reply, Some(StatementReply::Error { message }) if !message.contains("could not write its log"))
}

/// Gives a node up that does not come back.
pub async fn give_up(wire: Wire, play: SharedPlay, node: NodeId) -> Finish {
    play.borrow_mut().asking += 1;
    insist(&wire, &play, &ShardingStatement::RemoveNode { node }).await;
    play.borrow_mut().asking -= 1;
    Finish::Nothing
}

/// Asks until the order is accepted, or the play is over, or patience is.
async fn insist(wire: &Wire, play: &SharedPlay, order: &ShardingStatement) -> bool {
    for _ in 0..TRIES {
        let reply = ask_leader(wire, play, order).await;
        match reply {
            Some(StatementReply::Ok | StatementReply::Rows { .. }) => return true,
            // It has left meanwhile.
            Some(StatementReply::Error { message }) if message.starts_with("there is no node") => {
                return true;
            }
            _ => wire.sleep(AGAIN).await,
        }
    }
    false
}

async fn drain_for_a_while(wire: Wire, play: SharedPlay, node: NodeId, lasts: u64) -> Finish {
    play.borrow_mut().asking += 1;
    play.borrow_mut().draining.insert(node.clone());
    ask_leader(&wire, &play, &ShardingStatement::DrainNode { node: node.clone() }).await;
    wire.sleep(lasts).await;
    undrain(&wire, &play, node).await;
    play.borrow_mut().asking -= 1;
    Finish::Nothing
}

async fn undrain(wire: &Wire, play: &SharedPlay, node: NodeId) {
    if insist(wire, play, &ShardingStatement::UndrainNode { node: node.clone() }).await {
        play.borrow_mut().draining.remove(&node);
    }
}

/// Drains a node and removes it when it is empty; one that does not come to be empty stays.
pub async fn drain_and_remove(wire: Wire, play: SharedPlay, node: NodeId) -> Finish {
    play.borrow_mut().asking += 1;
    play.borrow_mut().draining.insert(node.clone());
    ask_leader(&wire, &play, &ShardingStatement::DrainNode { node: node.clone() }).await;
    let order = ShardingStatement::RemoveNode { node: node.clone() };
    let mut leaves = false;
    for _ in 0..TRIES {
        wire.sleep(AGAIN).await;
        if play.borrow().over {
            break;
        }
        play.borrow_mut().leaving.insert(node.clone());
        let reply = ask_leader(&wire, &play, &order).await;
        leaves = !is_refused(reply.as_ref());
        if leaves {
            break;
        }
        play.borrow_mut().leaving.remove(&node);
    }
    if !leaves {
        undrain(&wire, &play, node).await;
    }
    play.borrow_mut().asking -= 1;
    Finish::Nothing
}

/// Another number of copies; until it is known that it was accepted, both may come to be.
pub async fn change_rf(wire: Wire, play: SharedPlay, name: String, rf: u32) -> Finish {
    let Ok(table) = TableName::new(name.clone()) else { return Finish::Nothing };
    let (had, asked) = {
        let mut play = play.borrow_mut();
        let Some(table) = play.tables.get_mut(&name) else { return Finish::Nothing };
        let (had, before) = (table.rf.clone(), table.changes);
        table.rf.insert(rf);
        table.changes = (before.0 + 1, before.1);
        // Another one that was asked for and not answered may be carried out whatever becomes of this one.
        (had, (before.0 == before.1).then_some(table.changes.0))
    };
    play.borrow_mut().asking += 1;
    let order = ShardingStatement::SetRf { name: table, cluster: Some("c".to_owned()), rf };
    let reply = ask_leader(&wire, &play, &order).await;
    let mut play = play.borrow_mut();
    play.asking -= 1;
    if let Some(table) = play.tables.get_mut(&name) {
        table.changes.1 += 1;
        if is_refused(reply.as_ref()) && asked == Some(table.changes.0) {
            table.rf = had;
        }
    }
    Finish::Nothing
}

/// Empties a table while others write to it: what is written meanwhile may be there or not.
pub async fn empty(wire: Wire, play: SharedPlay, name: String) -> Finish {
    let Ok(table) = TableName::new(name.clone()) else { return Finish::Nothing };
    if let Some(table) = play.borrow_mut().tables.get_mut(&name) {
        table.emptying += 1;
        for document in table.documents.values_mut() {
            document.allowed.insert(None);
            document.settled = false;
            document.emptied = true;
        }
    }
    play.borrow_mut().asking += 1;
    let reply = ask_leader(&wire, &play, &ShardingStatement::TruncateTable { name: table }).await;
    play.borrow_mut().asking -= 1;
    // It is never repeated: what is written after its time is there to stay.
    let failed = is_refused(reply.as_ref());
    if failed {
        wire.sleep(FAILED_FOR_GOOD).await;
    }
    if (failed || matches!(reply, Some(StatementReply::Ok)))
        && let Some(table) = play.borrow_mut().tables.get_mut(&name)
    {
        table.emptying = table.emptying.saturating_sub(1);
    }
    Finish::Nothing
}

/// Holds moves back in one of the ways there are, and lets them go after a while.
pub async fn hold(wire: Wire, play: SharedPlay, name: String, seed: u64) -> Finish {
    let Ok(table) = TableName::new(name) else { return Finish::Nothing };
    let mut chance = Chance::new(seed);
    let ways = [RebalanceOrder::Pause, RebalanceOrder::Stop, RebalanceOrder::StopNow, RebalanceOrder::Reset];
    let order = chance.pick(&ways).copied().unwrap_or(RebalanceOrder::Pause);
    play.borrow_mut().asking += 1;
    ask_leader(&wire, &play, &ShardingStatement::Rebalance { name: table.clone(), order }).await;
    wire.sleep(chance.between(500, 20_000)).await;
    let order = ShardingStatement::Rebalance { name: table, order: RebalanceOrder::Start };
    insist_while_there(&wire, &play, &order).await;
    play.borrow_mut().asking -= 1;
    Finish::Nothing
}

/// Any table serves to let moves go: there is one hold for all.
async fn insist_while_there(wire: &Wire, play: &SharedPlay, order: &ShardingStatement) {
    let ShardingStatement::Rebalance { name, order } = order else { return };
    let mut name = name.clone();
    for _ in 0..TRIES {
        let statement = ShardingStatement::Rebalance { name: name.clone(), order: *order };
        let reply = ask_leader(wire, play, &statement).await;
        if matches!(reply, Some(StatementReply::Rows { .. } | StatementReply::Ok)) {
            return;
        }
        let there = |(_, table): &(&String, &play::Table)| table.is == TableIs::There;
        let other =
            play.borrow().tables.iter().find(there).and_then(|(name, _)| TableName::new(name.clone()).ok());
        name = other.unwrap_or(name);
        wire.sleep(AGAIN).await;
    }
}
