//! What the routing tables should say: only whole, verified copies, and all shards.

use crate::state::{Group, Member, Shard, State, TableStatus};
use model::{GroupId, NodeId, Route, RouteSpec, TableName};
use std::collections::BTreeMap;

/// What a node should have under a table's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    /// This routing table.
    Routed(RouteSpec),
    /// None: the table is being dropped or does not exist, one of its groups has no quorum (rules 2 and 3), or all copies of
    /// a shard were lost: searchd leaves out, without a word, a shard that it cannot reach.
    Absent,
    /// Nothing can be said: a shard's first copy is still being made, or its statements are held. What is there is left alone.
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
    // By its groups, not its rf: that is another one as soon as it is asked for.
    let mut own_as_local = true;
    for home in &known.homes {
        let Some(group) = state.groups.get(home) else { return Desired::Unknown };
        let serving: Vec<NodeId> = group.in_state(Member::Serving).cloned().collect();
        if serving.is_empty() {
            let lost = |member: &Member| matches!(member, Member::Lost | Member::Returning);
            let were_there = group.members.values().any(lost);
            return if were_there { Desired::Absent } else { Desired::Unknown };
        }
        own_as_local &= !group.is_clustered();
        shards.push(serving);
    }
    Desired::Routed(RouteSpec {
        route: Route { table: table.clone(), shards, own_as_local },
        schema: known.spec.schema.clone(),
    })
}

/// The tables that nobody can serve before a node is back, and why: all copies of a shard are on nodes that are gone.
pub fn unserved(state: &State) -> BTreeMap<TableName, String> {
    let mut found = BTreeMap::new();
    let dead = |group: &&Group| {
        !group.members.is_empty() && group.members.values().all(|member| *member == Member::Lost)
    };
    for group in state.groups.values().filter(dead) {
        let holders: Vec<&str> = group.members.keys().map(NodeId::as_str).collect();
        for shard in &group.shards {
            let Shard { table, number } = shard;
            let why = format!(
                "table '{table}' is not served: no copy of its shard {number} is there, the last was on {}; bring that node back",
                holders.join(" and ")
            );
            found.entry(table.clone()).or_insert(why);
        }
    }
    found
}

/// Whether two routing tables send every row to the same nodes, and try mirrors in the same way: those of the stock sidecar, read
/// back as routes of RF=1, do it worse than ours. How the only copy of a shard is named makes no difference.
pub fn same(a: &Route, b: &Route) -> bool {
    let has_mirrors = a.shards.iter().any(|nodes| nodes.len() > 1);
    (a.own_as_local == b.own_as_local || !has_mirrors)
        && a.shards.len() == b.shards.len()
        && a.shards.iter().zip(&b.shards).all(|(a, b)| {
            let mut a: Vec<_> = a.iter().collect();
            let mut b: Vec<_> = b.iter().collect();
            a.sort();
            b.sort();
            a == b
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Node, Table};
    use model::{Schema, TableSpec};

    fn node(n: u16) -> NodeId {
        NodeId::new(format!("127.0.0.1:{n}")).expect("valid")
    }

    /// `t` of one shard, whose copies are as given, on nodes 1, 2 …
    fn state(members: &[Member]) -> State {
        let (table, id) = (TableName::new("t").expect("valid"), GroupId::from_random(1));
        let mut group = Group::new(members.len() as u32, BTreeMap::new());
        for (at, member) in members.iter().enumerate() {
            group.members.insert(node(at as u16 + 1), *member);
        }
        group.shards.insert(Shard { table: table.clone(), number: 0 });
        let spec = TableSpec {
            name: table.clone(),
            cluster: Some("c".to_owned()),
            schema: Schema::default(),
            shards: 1,
            rf: members.len() as u32,
        };
        let known = Table {
            spec,
            generation: 1,
            status: TableStatus::Active,
            homes: vec![id.clone()],
            withheld: false,
        };
        let lost = |(at, member): (usize, &Member)| {
            let lost = *member == Member::Lost;
            (node(at as u16 + 1), Node { uuid: String::new(), lost, draining: false, since: 0 })
        };
        State {
            nodes: members.iter().enumerate().map(lost).collect(),
            groups: [(id, group)].into(),
            tables: [(table, known)].into(),
            ..State::default()
        }
    }

    #[test]
    fn a_table_is_routed_only_while_every_shard_has_a_copy() {
        use Member::{Joining, Lost, Returning, Serving};
        let table = TableName::new("t").expect("valid");
        let routed = |members: &[Member]| desired(&state(members), &table);
        assert!(matches!(routed(&[Serving]), Desired::Routed(_)));
        assert!(matches!(routed(&[Serving, Lost]), Desired::Routed(_)));
        assert_eq!(routed(&[Lost]), Desired::Absent, "searchd would leave the shard out without a word");
        assert_eq!(routed(&[Lost, Lost]), Desired::Absent);
        assert_eq!(routed(&[Returning]), Desired::Absent, "it is not verified yet");
        assert_eq!(routed(&[Joining]), Desired::Unknown, "it is being made");
    }

    #[test]
    fn routes_are_the_same_with_the_same_nodes_and_the_same_way_to_try_mirrors() {
        let table = TableName::new("t").expect("valid");
        let route = |nodes: &[u16], own_as_local| Route {
            table: table.clone(),
            shards: vec![nodes.iter().map(|n| node(*n)).collect()],
            own_as_local,
        };
        assert!(same(&route(&[1, 2], false), &route(&[2, 1], false)));
        assert!(!same(&route(&[1, 2], false), &route(&[1, 3], false)));
        assert!(!same(&route(&[1, 2], true), &route(&[1, 2], false)), "one of the stock sidecar");
        assert!(same(&route(&[1], true), &route(&[1], false)));
    }

    /// From 1 to 2: until its shard is in a group of 2 it is written as before.
    #[test]
    fn a_table_whose_rf_changes_is_routed_by_its_groups() {
        let table = TableName::new("t").expect("valid");
        let of = |copies: &[Member], rf| {
            let mut state = state(copies);
            state.tables.get_mut(&table).expect("one").spec.rf = rf;
            let Desired::Routed(spec) = desired(&state, &table) else { panic!("it is served") };
            spec.route.own_as_local
        };
        let (one, two) = ([Member::Serving], [Member::Serving; 2]);
        assert!(of(&one, 1) && of(&one, 2));
        assert!(!of(&two, 2) && !of(&two, 1));
    }

    #[test]
    fn what_nobody_can_serve_is_named_with_where_it_was() {
        use Member::{Lost, Returning, Serving};
        for members in [&[Serving][..], &[Serving, Lost], &[Returning, Lost]] {
            assert!(unserved(&state(members)).is_empty(), "{members:?}");
        }
        let why = unserved(&state(&[Lost, Lost])).into_values().next().expect("one table");
        assert!(why.contains("its shard 0") && why.contains("127.0.0.1:1 and 127.0.0.1:2"), "{why}");
    }
}
