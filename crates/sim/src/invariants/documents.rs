//! Invariant 1: no acknowledged document is lost or changed.

use super::routes;
use crate::play::{Found, TableIs};
use crate::read;
use crate::world::World;
use engine::Value;
use engine::routing::shard_of;
use std::collections::BTreeMap;

/// Ids of this shard that certainly are there: acknowledged at least `age` ago and not being written.
pub fn acknowledged(world: &World, table: &str, shard: u32, age: u64) -> Vec<i64> {
    let play = world.play.borrow();
    let Some(known) = play.tables.get(table) else { return Vec::new() };
    let certain = known.documents.iter().filter(|(id, document)| {
        document.settled
            && document.at + age <= world.now
            && document.allowed.iter().all(Option::is_some)
            && shard_of(**id, known.shards as usize) == shard as usize
    });
    certain.map(|(id, _)| *id).collect()
}

/// Whether every acknowledged document still is on some disk.
pub fn check_kept(world: &mut World, _at: usize) {
    let tables: Vec<(String, u32)> = world
        .play
        .borrow()
        .tables
        .iter()
        .filter(|(_, table)| table.is == TableIs::There)
        .map(|(name, table)| (name.clone(), table.shards))
        .collect();
    for (name, shards) in tables {
        for shard in 0..shards {
            let table = format!("system.{name}_s{shard}");
            let mut wanted = acknowledged(world, &name, shard, 0);
            for machine in &mut world.machines {
                if let Some(found) =
                    machine.storage().and_then(|storage| storage.existing(&table, &wanted).ok())
                {
                    wanted.retain(|id| !found.contains(id));
                }
            }
            if !wanted.is_empty() {
                world.violate(
                    "1 documents",
                    format!("no disk holds the acknowledged documents {wanted:?} of {table}"),
                );
            }
        }
    }
}

/// At convergence every copy that is routed holds what its writers were told, and nothing else. `None`: it does.
pub fn converged(world: &mut World) -> Option<String> {
    if let Some(lost) = by_hand(world) {
        return Some(lost);
    }
    let tables: Vec<(String, u32)> = world
        .play
        .borrow()
        .tables
        .iter()
        .filter(|(_, table)| table.is == TableIs::There)
        .map(|(name, table)| (name.clone(), table.shards))
        .collect();
    for (name, shards) in tables {
        let first = *world.members().first()?;
        let route = routes::shown(world, first, &name)?;
        for (number, copies) in route.shards.iter().enumerate() {
            let table = format!("system.{name}_s{number}");
            let found: Vec<(String, BTreeMap<i64, i64>)> = copies
                .iter()
                .filter_map(|copy| Some((copy.to_string(), content(world, copy, &table)?)))
                .collect();
            if found.len() != copies.len() {
                return Some(format!("a copy of {table} cannot be read: {copies:?}"));
            }
            for (copy, rows) in &found {
                if let Some(wrong) = compare(world, &name, number, shards as usize, rows) {
                    return Some(format!("{table} on {copy}: {wrong}"));
                }
                if *rows != found[0].1 {
                    return Some(format!("{table} differs between {copy} and {}", found[0].0));
                }
            }
        }
    }
    None
}

/// What somebody made on a node without the controller is as it was. `None`: it is.
fn by_hand(world: &mut World) -> Option<String> {
    let made = world.play.borrow().by_hand.clone();
    made.into_iter().find_map(|((node, table), ids)| {
        let found: Vec<i64> = content(world, &node, &table).unwrap_or_default().into_keys().collect();
        (found != ids).then(|| format!("{table}, made by hand on {node}, holds {found:?} instead of {ids:?}"))
    })
}

/// Whether this copy of a shard can be read and holds what its writers were told. Of a table that goes nobody wants anything.
pub fn is_right(world: &mut World, copy: &model::NodeId, table: &str, number: u32) -> bool {
    let stays = |known: &&crate::play::Table| known.is == TableIs::There;
    let Some(shards) = world.play.borrow().tables.get(table).filter(stays).map(|known| known.shards as usize)
    else {
        return true;
    };
    let rows = content(world, copy, &format!("system.{table}_s{number}"));
    rows.is_some_and(|rows| compare(world, table, number as usize, shards, &rows).is_none())
}

fn content(world: &mut World, copy: &model::NodeId, table: &str) -> Option<BTreeMap<i64, i64>> {
    let at = world.machines.iter().position(|machine| machine.node == *copy)?;
    let sql = format!("SELECT id, v FROM {table} ORDER BY id ASC LIMIT 100000 OPTION max_matches=100000");
    let reply = world.peek(at, &sql)?.ok()?;
    let row = |row: &Vec<Value>| match row.as_slice() {
        [Value::Int(id), Value::Int(value)] => Some((*id, *value)),
        _ => None,
    };
    read::rows(&reply)?.rows.iter().map(row).collect()
}

fn compare(
    world: &World,
    name: &str,
    number: usize,
    shards: usize,
    rows: &BTreeMap<i64, i64>,
) -> Option<String> {
    let play = world.play.borrow();
    let known = play.tables.get(name)?;
    for (id, document) in known.documents.iter().filter(|(id, _)| shard_of(**id, shards) == number) {
        let found: Found = rows.get(id).copied();
        if !document.allowed.contains(&found) {
            let allowed = &document.allowed;
            return Some(format!(
                "id {id} is {found:?}, its writer was told {allowed:?} at {} ms",
                document.at
            ));
        }
    }
    if let Some(id) = rows.keys().find(|id| !known.documents.contains_key(id)) {
        return Some(format!("id {id} was written by nobody"));
    }
    let misplaced = rows.keys().find(|id| shard_of(**id, shards) != number);
    misplaced.map(|id| format!("id {id} lies in a shard where nobody looks for it"))
}
