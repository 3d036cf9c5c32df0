//! Invariant 3: when a routing table is written, and at convergence, it names all shards and only whole copies; at
//! convergence those of all nodes mean the same.

use super::{clusters, documents, is_steady};
use crate::play::TableIs;
use crate::read;
use crate::world::World;
use control::operation::{Kind, Operation, Status};
use model::sql::Ident;
use model::{ClusterState, ClusterStatus, MemberState, NodeId, Route, TableName, parse_shard_table};
use std::collections::BTreeSet;

/// An acknowledgement is seen on every copy by then.
const APPLIED_AFTER: u64 = 3_000;

/// A routing table is about to be created on a node.
pub fn check_written(world: &mut World, at: usize, sql: &str) {
    let own = world.machines[at].node.clone();
    let Some(route) = read::route(sql, &own) else {
        return world
            .violate("3 routes", format!("{own} is given a route that does not name all shards: {sql}"));
    };
    if was_given_up(world, &route.table) {
        return;
    }
    let is = world.play.borrow().tables.get(route.table.as_str()).map(|table| table.is);
    let there = is == Some(TableIs::There);
    for (number, nodes) in route.shards.iter().enumerate() {
        for node in nodes {
            if let Some(why) = unwhole(world, &route, number as u32, node, there) {
                world.violate(
                    "3 routes",
                    format!("{own} is given a route of {} to {node}: {why}", route.table),
                );
            }
        }
    }
}

/// Whether nobody was promised anything of the table, as its creation is taken back or was: a node that was cut off meanwhile
/// may do late what it was told. No other table gets the name before that node is clean, and that nothing is left of it is
/// asked at convergence.
fn was_given_up(world: &World, table: &TableName) -> bool {
    let unwinds = |operation: &Operation| {
        matches!(&operation.kind, Kind::CreateTable { spec, .. } if spec.name == *table)
            && operation.status == Status::Unwinding
    };
    let is = world.play.borrow().tables.get(table.as_str()).map(|table| table.is);
    is == Some(TableIs::Gone)
        || is == Some(TableIs::Maybe)
            && world.leader().is_some_and(|leader| leader.controller.state().active().any(unwinds))
}

/// Why the copy that a route names is not whole. A node that was disturbed is not judged.
fn unwhole(world: &mut World, route: &Route, number: u32, node: &NodeId, filled: bool) -> Option<String> {
    let at = world.machines.iter().position(|machine| machine.node == *node)?;
    if !is_steady(world, at) {
        return None;
    }
    let table = route.table.shard_table(number);
    // It has lost its quorum this moment, and holds what it has not applied yet: it applies that, or leaves the routes.
    let waits = |cluster: &ClusterStatus| {
        cluster.tables.contains(&table)
            && cluster.status == ClusterState::NonPrimary
            && cluster.node_state == MemberState::Synced
    };
    if clusters(world, at).values().any(waits) {
        return None;
    }
    let storage = world.machines[at].storage()?;
    storage.schema(&table).map_or_else(|| Some(format!("it has no {table}")), |_| None).or_else(|| {
        let wanted = documents::acknowledged(world, route.table.as_str(), number, APPLIED_AFTER);
        let found = world.machines[at].storage()?.existing(&table, &wanted).ok()?;
        (filled && found.len() < wanted.len())
            .then(|| format!("its {table} has {} of {} acknowledged documents", found.len(), wanted.len()))
    })
}

/// A node is about to leave a group: from then on its copy misses every write, so nobody may route to it. But where a shard of
/// rf 1 is its copy alone, for all who route, it is the others that miss what follows: a move that came to nothing.
pub fn check_unrouted(world: &mut World, at: usize, group: &str) {
    let leaver = world.machines[at].node.clone();
    let own = clusters(world, at);
    let Some((_, cluster)) = own.iter().find(|(id, _)| id.as_str() == group) else { return };
    for table in cluster.tables.clone() {
        let Some((name, number)) = parse_shard_table(&table) else { continue };
        let mut named_by = Vec::new();
        for router in 0..world.machines.len() {
            let route = if is_steady(world, router) { shown(world, router, name.as_str()) } else { None };
            named_by
                .extend(route.and_then(|route| Some((router, route.shards.get(number as usize)?.clone()))));
        }
        let rf_1 = world.play.borrow().tables.get(name.as_str()).is_some_and(|table| table.rf.contains(&1));
        if rf_1 && named_by.iter().all(|(_, copies)| *copies == [leaver.clone()]) {
            continue;
        }
        for (router, _) in named_by.iter().filter(|(_, copies)| copies.contains(&leaver)) {
            let router = world.machines[*router].node.clone();
            world.violate("3 routes", format!("{leaver} leaves {group} while {router} routes {table} to it"));
        }
    }
}

/// The route of this table as a node shows it.
pub fn shown(world: &mut World, at: usize, table: &str) -> Option<Route> {
    let own = world.machines[at].node.clone();
    let sql = format!("SHOW CREATE TABLE {} OPTION force=1", Ident(table));
    let reply = world.peek(at, &sql)?.ok()?;
    read::route(&read::pairs(&reply).next()?.1, &own)
}

/// At convergence; `None`: all is as it should be.
pub fn converged(world: &mut World) -> Option<String> {
    let tables: Vec<(String, u32, BTreeSet<u32>)> = world
        .play
        .borrow()
        .tables
        .iter()
        .filter(|(_, table)| table.is == TableIs::There)
        .map(|(name, table)| (name.clone(), table.shards, table.rf.clone()))
        .collect();
    let members = world.members();
    let nodes = members.len();
    for (name, shards, rf) in tables {
        let Some(first) = shown(world, members[0], &name) else {
            return Some(format!("{} has no route of {name}", world.machines[members[0]].node));
        };
        for at in members.iter().copied() {
            if shown(world, at, &name).is_none_or(|other| other.shards != first.shards) {
                return Some(format!(
                    "{} routes {name} in another way than the first node",
                    world.machines[at].node
                ));
            }
        }
        if first.shards.len() != shards as usize {
            return Some(format!("the route of {name} names {} of {shards} shards", first.shards.len()));
        }
        for (number, copies) in first.shards.iter().enumerate() {
            let table = format!("system.{name}_s{number}");
            if !rf.iter().any(|rf| copies.len() == (*rf as usize).min(nodes)) {
                return Some(format!("{table} has {} copies, rf is {rf:?}", copies.len()));
            }
            let alone = rf.contains(&1) && copies.len() == 1;
            let many = rf.iter().any(|rf| *rf > 1);
            for copy in copies {
                let Some(at) = world.machines.iter().position(|machine| machine.node == *copy) else {
                    return Some(format!("{table} is routed to {copy}, which is no node"));
                };
                let of: Vec<_> = clusters(world, at)
                    .into_iter()
                    .filter(|(_, cluster)| cluster.tables.contains(&table))
                    .collect();
                let whole = match of.as_slice() {
                    [] => alone,
                    [(_, cluster)] => cluster.is_synced() && many,
                    _ => false,
                };
                if !whole {
                    return Some(format!("{table} is routed to {copy}, which shows its clusters as {of:?}"));
                }
            }
        }
    }
    None
}
