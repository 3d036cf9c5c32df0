//! The invariants of `architecture.md`, one file each, stated over what clients and nodes see.
//!
//! | file | number |
//! |---|---|
//! | [`documents`], [`quorums`] | 1: no acknowledged document is lost or changed, and a group has one quorum |
//! | [`floor`] | 2: no operation sheds a copy below the floor |
//! | [`routes`] | 3: routes name all shards and only whole copies, and mean the same everywhere |
//! | [`adds`] | 4: ADD of a filled table only in a group of one member |
//! | [`leaders`] | 5: one leader per epoch, no late or deposed command begins |
//! | [`leftovers`] | 6: nothing temporary outlives its operation |
//! | [`plans`] | 7: plans make the fewest copies, within the limits |
//! | [`convergence`], [`pace`] | 8: when faults stop, everything becomes what it should be, with bounded work |
//!
//! Number 9 (secrets) cannot be stated here: nothing in a simulation is secret.

pub mod adds;
pub mod convergence;
pub mod documents;
pub mod floor;
pub mod leaders;
pub mod leftovers;
pub mod pace;
pub mod plans;
pub mod quorums;
pub mod routes;

use crate::faults::machines;
use crate::world::World;
use engine::{Reply, SqlError};
use model::{ClusterStatus, GroupId, Millis};
use std::collections::BTreeMap;

/// After a disturbance a node is not judged for this long: others need time to see it, and it to come back.
const STEADY_AFTER: u64 = 25_000;

/// Before a statement reaches a node.
pub fn before_statement(world: &mut World, at: usize, sql: &str) {
    if let Some(rest) = sql.strip_prefix("ALTER CLUSTER ") {
        adds::check(world, at, rest);
    } else if let Some(group) = sql.strip_prefix("EXIT CLUSTER ") {
        floor::check_exit(world, at, group);
        routes::check_unrouted(world, at, group);
    } else if let Some(table) = sql.strip_prefix("DROP TABLE IF EXISTS ") {
        floor::check_drop(world, at, table);
    } else if sql.starts_with("CREATE TABLE") && sql.contains("type='shard'") {
        routes::check_written(world, at, sql);
    }
}

/// After a node's answer, before anyone hears it.
pub fn after_statement(world: &mut World, at: usize, sql: &str, reply: &Result<Reply, SqlError>) {
    if reply.is_ok() && (sql.starts_with("SET CLUSTER") || sql.starts_with("DROP TABLE IF EXISTS")) {
        documents::check_kept(world, at);
    }
}

/// The clusters as this node shows them now; empty when it is down.
pub fn clusters(world: &World, at: usize) -> BTreeMap<GroupId, ClusterStatus> {
    let engine = world.machines[at].engine.iter();
    let clusters = engine.flat_map(|engine| engine.clusters(Millis(world.now)));
    clusters.filter_map(|(name, shown)| Some((GroupId::new(name).ok()?, shown))).collect()
}

/// Whether the node has been up and reachable for long enough to be judged.
pub fn is_steady(world: &World, at: usize) -> bool {
    let machine = &world.machines[at];
    // With a full disk it takes part in every write, and applies none.
    machine.is_up()
        && machines::has_room(world, at)
        && !machines::is_slow(world, at)
        && !world.machines[at].cut_off
        && world.net.breaks == 0
        && world.now >= machine.disturbed + STEADY_AFTER
}
