//! What the routing tables should say: only whole, verified copies, and all shards.

use crate::state::{Member, State, TableStatus};
use model::{GroupId, NodeId, Route, RouteSpec, TableName};

/// What a node should have under a table's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    /// This routing table.
    Routed(RouteSpec),
    /// None: the table is being dropped or does not exist, or one of its groups has no quorum (rules 2 and 3).
    Absent,
    /// Nothing can be said: some shard has no copy that may be named, or its statements are held. What is there is left
    /// alone.
    Unknown,
}

/// The routing table that `table` should have on every node.
pub fn desired(state: &State, table: &TableName) -> Desired {
    match state.tables.get(table) {
        // The hand-over that holds its statements writes routes itself.
        Some(known) if known.withheld => Desired::Unknown,
        Some(known) if known.homes.iter().any(|home| is_halted(state, home)) => Desired::Absent,
        _ => of_homes(state, table),
    }
}

fn is_halted(state: &State, group: &GroupId) -> bool {
    state.groups.get(group).is_some_and(|known| known.halt.is_some())
}

/// The same, also while the table is withheld.
pub fn of_homes(state: &State, table: &TableName) -> Desired {
    let Some(known) = state.tables.get(table) else { return Desired::Absent };
    if known.status == TableStatus::Dropping {
        return Desired::Absent;
    }
    let mut shards = Vec::with_capacity(known.homes.len());
    for home in &known.homes {
        let Some(group) = state.groups.get(home) else { return Desired::Unknown };
        let serving: Vec<NodeId> = group.in_state(Member::Serving).cloned().collect();
        if serving.is_empty() {
            return Desired::Unknown;
        }
        shards.push(serving);
    }
    Desired::Routed(RouteSpec {
        route: Route { table: table.clone(), shards, own_as_local: known.spec.rf == 1 },
        schema: known.spec.schema.clone(),
    })
}

/// Whether two routing tables send every row to the same nodes; how a node writes its own shards is its matter.
pub fn same(a: &Route, b: &Route) -> bool {
    a.shards.len() == b.shards.len()
        && a.shards.iter().zip(&b.shards).all(|(a, b)| {
            let mut a: Vec<_> = a.iter().collect();
            let mut b: Vec<_> = b.iter().collect();
            a.sort();
            b.sort();
            a == b
        })
}
