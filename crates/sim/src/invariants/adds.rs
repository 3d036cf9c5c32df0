//! Invariant 4: `ALTER CLUSTER ADD` of a filled table happens only in a group of one member; or where nothing can be lost
//! by it: a hand-over that is taken back, while no node routes the table and all its copies are equal.

use super::{clusters, routes};
use crate::say;
use crate::world::World;
use model::parse_shard_table;

/// `rest` is what follows `ALTER CLUSTER`.
pub fn check(world: &mut World, at: usize, rest: &str) {
    let Some((group, tables)) = rest.split_once(" ADD ") else { return };
    let members = clusters(world, at).iter().find(|(id, _)| id.as_str() == group).map_or(0, |(_, c)| c.size);
    for table in tables.split(',') {
        let rows = world.machines[at]
            .storage()
            .and_then(|storage| storage.id_stats(table).ok())
            .map_or(0, |stats| stats.rows);
        if rows > 0 && members > 1 && !is_quiet_and_equal(world, table) {
            let node = world.machines[at].node.clone();
            world.violate(
                "4 adds",
                format!("{node} adds {table} with {rows} rows to {group} of {members} members"),
            );
        }
    }
}

/// Whether no node that is up routes the shard's table, and those that have the shard have the same rows.
fn is_quiet_and_equal(world: &mut World, shard: &str) -> bool {
    let Some((name, _)) = parse_shard_table(shard) else { return false };
    let mut copies = Vec::new();
    for at in 0..world.machines.len() {
        if routes::shown(world, at, name.as_str()).is_some() {
            return false;
        }
        if let Some(Ok(copy)) = world.peek(at, &say::all_rows(shard)) {
            copies.push(copy);
        }
    }
    copies.windows(2).all(|two| two[0] == two[1])
}
