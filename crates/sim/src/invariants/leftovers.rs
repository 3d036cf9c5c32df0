//! Invariant 6: nothing temporary outlives its operation; at convergence a node holds what routes and groups explain,
//! and nothing else.

use super::{clusters, routes};
use crate::read;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};

/// `None`: nothing is left over.
pub fn converged(world: &mut World) -> Option<String> {
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let members = world.members();
    let first = *members.first()?;
    let shown = names(world, first, "SHOW TABLES");
    for name in shown {
        let route = routes::shown(world, first, &name)?;
        for (number, copies) in route.shards.iter().enumerate() {
            for copy in copies {
                expected.entry(copy.to_string()).or_default().insert(route.table.shard_table(number as u32));
            }
        }
    }
    for at in (0..world.machines.len()).filter(|at| !world.machines[*at].gone).collect::<Vec<_>>() {
        let node = world.machines[at].node.clone();
        let held = names(world, at, "SHOW TABLES FROM SYSTEM");
        let mut wanted = expected.remove(node.as_str()).unwrap_or_default();
        let by_hand = world.play.borrow().by_hand.clone();
        wanted.extend(by_hand.into_keys().filter(|(at, _)| *at == node).map(|(_, table)| table));
        if held != wanted {
            return Some(format!("{node} holds {held:?}, the routes explain {wanted:?}"));
        }
        let routed = names(world, at, "SHOW TABLES");
        if !members.contains(&at) && !routed.is_empty() {
            return Some(format!("{node}, which has left, still routes {routed:?}"));
        }
        let member_of = clusters(world, at);
        for (group, cluster) in &member_of {
            let ours = world
                .leader()
                .and_then(|leader| leader.controller.state().groups.get(group))
                .is_some_and(|known| known.members.contains_key(&node));
            if group.as_str() != "c" && !ours {
                return Some(format!("{node} is still in the cluster {group} of {:?}", cluster.tables));
            }
        }
        let directories = world.machines[at].sidecar.borrow().disk.directories.clone();
        if let Some(group) = directories.iter().find(|group| !member_of.contains_key(*group)) {
            return Some(format!("{node} still has the directory of {group}"));
        }
    }
    gone(world)
}

/// Tables whose drop was acknowledged have no route on any node.
fn gone(world: &mut World) -> Option<String> {
    use crate::play::TableIs;
    let gone: Vec<String> = world
        .play
        .borrow()
        .tables
        .iter()
        .filter(|(_, table)| table.is == TableIs::Gone)
        .map(|(name, _)| name.clone())
        .collect();
    for at in 0..world.machines.len() {
        let shown = names(world, at, "SHOW TABLES");
        if let Some(name) = gone.iter().find(|name| shown.contains(*name)) {
            return Some(format!("{} still routes the dropped {name}", world.machines[at].node));
        }
    }
    None
}

/// The first column of what this statement shows, as far as the node is up.
pub fn names(world: &mut World, at: usize, sql: &str) -> BTreeSet<String> {
    match world.peek(at, sql) {
        Some(Ok(reply)) => read::pairs(&reply).map(|(name, _)| name.into_owned()).collect(),
        _ => BTreeSet::new(),
    }
}
