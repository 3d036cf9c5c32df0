//! Invariant 4: `ALTER CLUSTER ADD` of a filled table happens only in a group of one member.

use super::clusters;
use crate::world::World;

/// `rest` is what follows `ALTER CLUSTER`.
pub fn check(world: &mut World, at: usize, rest: &str) {
    let Some((group, tables)) = rest.split_once(" ADD ") else { return };
    let members = clusters(world, at).iter().find(|(id, _)| id.as_str() == group).map_or(0, |(_, c)| c.size);
    for table in tables.split(',') {
        let rows = world.machines[at]
            .storage()
            .and_then(|storage| storage.id_stats(table).ok())
            .map_or(0, |stats| stats.rows);
        if rows > 0 && members > 1 {
            let node = world.machines[at].node.clone();
            world.violate(
                "4 adds",
                format!("{node} adds {table} with {rows} rows to {group} of {members} members"),
            );
        }
    }
}
