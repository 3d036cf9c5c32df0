//! One import that can be, and everything that stands against it when one thing is otherwise.

use super::*;
use crate::state::Node;
use model::{ClusterState, MemberState, Route, StockRow, TablesStatus};
use std::sync::Arc;

const NOW: u64 = 1_000_000;
const PAIR: &str = "ae1293026570c99dea183983e531471b";
const OTHER: &str = "bf1293026570c99dea183983e531471b";

fn node(number: u16) -> NodeId {
    NodeId::new(format!("127.0.0.1:{number}312")).expect("valid")
}

fn table(name: &str) -> TableName {
    TableName::new(name).expect("valid")
}

fn group(name: &str) -> GroupId {
    GroupId::new(name).expect("valid")
}

fn cluster(members: &[u16], tables: &[&str]) -> ClusterStatus {
    ClusterStatus {
        status: ClusterState::Primary,
        node_state: MemberState::Synced,
        size: members.len() as u32,
        nodes_set: members.iter().map(|n| node(*n)).collect(),
        nodes_view: members.iter().map(|n| node(*n)).collect(),
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        ..ClusterStatus::default()
    }
}

/// `t` of two shards on nodes 1 and 2, `o` of one copy on node 2; three nodes in `c`.
fn facts() -> ImportFacts {
    let row = |n: u16, of: &str, shards: &[u32]| StockRow {
        cluster: "c".to_owned(),
        node: node(n),
        table: table(of),
        shards: shards.to_vec(),
    };
    let route = |of: &str, shards: Vec<Vec<NodeId>>| {
        let own_as_local = shards.len() == 1;
        (of.to_owned(), Arc::new(Route { table: table(of), shards, own_as_local }))
    };
    let pair = || vec![node(1), node(2)];
    let held: [&[&str]; 3] =
        [&["system.t_s0", "system.t_s1"], &["system.t_s0", "system.t_s1", "system.o_s0"], &[]];
    let mut nodes = BTreeMap::new();
    for number in 1..=3 {
        let stock = ["system.sharding_table"];
        let mut clusters = BTreeMap::from([(group("c"), cluster(&[1, 2, 3], &stock))]);
        if number < 3 {
            clusters.insert(group(PAIR), cluster(&[1, 2], &["system.t_s0", "system.t_s1"]));
        }
        let tables = TablesStatus {
            shards: held[usize::from(number - 1)].iter().chain(&stock).map(|t| (*t).to_owned()).collect(),
            routes: [route("t", vec![pair(), pair()]), route("o", vec![vec![node(2)]])].into(),
            ..TablesStatus::default()
        };
        nodes.insert(node(number), NodeStatus { clusters, tables: Some(tables) });
    }
    let content = |rows| Content { rows, id_sum: 3, id_min: 1, id_max: 2 };
    let both = |rows| BTreeMap::from([(node(1), content(rows)), (node(2), content(rows))]);
    ImportFacts {
        rows: vec![row(1, "t", &[0, 1]), row(2, "t", &[0, 1]), row(2, "o", &[0])],
        last_sign: Some(NOW - 31),
        nodes,
        declared: [(table("t"), Schema::default()), (table("o"), Schema::default())].into(),
        contents: [
            ("system.t_s0".to_owned(), both(5)),
            ("system.t_s1".to_owned(), both(7)),
            ("system.o_s0".to_owned(), BTreeMap::from([(node(2), content(9))])),
        ]
        .into(),
        ..ImportFacts::default()
    }
}

fn judged(state: &State, facts: &ImportFacts) -> Judged {
    judge(state, &(1..=3).map(node).collect(), facts, NOW)
}

#[test]
fn what_every_node_agrees_on_is_adopted_as_it_is() {
    let judged = judged(&State::default(), &facts());
    assert_eq!(judged.report.refusals, Vec::<String>::new());
    assert_eq!(judged.cluster, Some(group("c")));
    let tables: Vec<(&str, u32, u32, u64)> =
        judged.report.tables.iter().map(|t| (t.name.as_str(), t.shards, t.rf, t.rows)).collect();
    assert_eq!(tables, [("o", 1, 1, 9), ("t", 2, 2, 12)]);
    assert_eq!(judged.report.groups.len(), 1);
    assert_eq!((judged.report.groups[0].name.as_str(), judged.report.groups[0].shards), (PAIR, 2));
    let homes: Vec<&Option<GroupId>> = judged.tables.iter().flat_map(|table| &table.clusters).collect();
    assert_eq!(homes, [&None, &Some(group(PAIR)), &Some(group(PAIR))], "a single copy is a unit of its own");
}

/// Changes one thing, and gives what must be said of it.
type Otherwise = (&'static str, fn(&mut ImportFacts));

fn status(facts: &mut ImportFacts, number: u16) -> &mut NodeStatus {
    facts.nodes.get_mut(&node(number)).expect("known")
}

fn tables_of(facts: &mut ImportFacts, number: u16) -> &mut TablesStatus {
    status(facts, number).tables.as_mut().expect("looked at")
}

fn member<'a>(facts: &'a mut ImportFacts, number: u16, of: &str) -> &'a mut ClusterStatus {
    status(facts, number).clusters.get_mut(&group(of)).expect("a member")
}

const OTHERWISE: &[Otherwise] = &[
    ("there is nothing to adopt", |f| f.rows.clear()),
    ("is at work, it wrote its state 29 s ago", |f| f.last_sign = Some(NOW - 29)),
    ("row 7", |f| f.unreadable.push("row 7".to_owned())),
    ("one controller keeps the tables of one cluster", |f| f.rows[0].cluster = "d".to_owned()),
    ("no node shows the cluster 'd'", |f| f.rows.iter_mut().for_each(|row| row.cluster = "d".to_owned())),
    ("local sharded tables", |f| f.rows.iter_mut().for_each(|row| row.cluster.clear())),
    ("node 127.0.0.1:3312 of cluster 'c' does not answer", |f| drop(f.nodes.remove(&node(3)))),
    ("127.0.0.1:3312 is no synced member of cluster 'c'", |f| {
        member(f, 3, "c").status = ClusterState::NonPrimary;
    }),
    ("which are not 0, 1, 2 … without a gap", |f| f.rows.iter_mut().for_each(|row| row.shards = vec![1])),
    ("shard 0 has 2 copies and shard 1 has 1", |f| f.rows[1].shards = vec![0]),
    ("node 127.0.0.1:3312 has no routing table", |f| drop(tables_of(f, 3).routes.remove("t"))),
    ("names 127.0.0.1:1312 for shard 1", |f| {
        let route = Route {
            table: table("t"),
            shards: vec![vec![node(1), node(2)], vec![node(1)]],
            own_as_local: false,
        };
        tables_of(f, 3).routes.insert("t".to_owned(), Arc::new(route));
    }),
    ("the routing table of 127.0.0.1:1312 has 1 shards", |f| {
        let route = Route { table: table("t"), shards: vec![vec![node(1), node(2)]], own_as_local: false };
        tables_of(f, 1).routes.insert("t".to_owned(), Arc::new(route));
    }),
    ("no node shows a routing table of it that can be read", |f| drop(f.declared.remove(&table("t")))),
    ("system.t_s1: node 127.0.0.1:1312 does not show it", |f| {
        tables_of(f, 1).shards.remove("system.t_s1");
    }),
    ("system.o_s0: node 127.0.0.1:3312 holds it, too", |f| {
        tables_of(f, 3).shards.insert("system.o_s0".to_owned());
    }),
    ("differ (5 and 6 rows)", |f| {
        f.contents.get_mut("system.t_s0").and_then(|it| it.get_mut(&node(2))).expect("counted").rows = 6;
    }),
    ("not all of its copies could be counted", |f| {
        f.contents.get_mut("system.t_s0").expect("counted").remove(&node(1));
    }),
    ("has other columns", |f| f.other_columns.push("system.t_s0 on a has other columns".to_owned())),
    ("are in no replication cluster", |f| {
        for number in [1, 2] {
            status(f, number).clusters.remove(&group(PAIR));
        }
    }),
    ("its only copy is in the cluster", |f| {
        status(f, 2).clusters.insert(group(OTHER), cluster(&[2], &["system.o_s0"]));
    }),
    ("it is in two clusters", |f| {
        status(f, 2).clusters.insert(group(OTHER), cluster(&[2], &["system.t_s0"]));
    }),
    ("which is none of the stock sidecar's", |f| {
        for number in [1, 2] {
            let own = status(f, number).clusters.remove(&group(PAIR)).expect("a member");
            status(f, number).clusters.insert(group("mine"), own);
        }
    }),
    ("it must be primary and synced", |f| member(f, 2, PAIR).node_state = MemberState::Joining),
    ("the shards are elsewhere", |f| {
        for number in [1, 2] {
            member(f, number, PAIR).nodes_view.insert(node(3));
        }
    }),
    ("127.0.0.1:3312 is a member that is away", |f| {
        member(f, 1, PAIR).nodes_set.insert(node(3));
    }),
    ("on 127.0.0.1:2312: it is no member", |f| drop(status(f, 2).clusters.remove(&group(PAIR)))),
    ("on 127.0.0.1:2312: system.t_s0 is not in it there", |f| {
        member(f, 2, PAIR).tables.remove("system.t_s0");
    }),
    ("it also holds mine", |f| {
        member(f, 1, PAIR).tables.insert("mine".to_owned());
    }),
];

#[test]
fn one_thing_that_is_otherwise_is_named_and_nothing_is_adopted() {
    for (want, change) in OTHERWISE {
        let mut facts = facts();
        change(&mut facts);
        let refusals = judged(&State::default(), &facts).report.refusals;
        assert!(refusals.iter().any(|said| said.contains(want)), "'{want}' is not in {refusals:#?}");
    }
}

#[test]
fn what_this_controller_has_already_stands_against_it() {
    let mut state = State { cluster: Some(group("d")), ..State::default() };
    let said = judged(&state, &facts()).report.refusals;
    assert!(said.iter().any(|one| one.contains("keeps the tables of cluster 'd', not of 'c'")), "{said:?}");
    let lost = Node { uuid: String::new(), lost: true, draining: false, since: 0 };
    state = State { nodes: BTreeMap::from([(node(3), lost)]), ..State::default() };
    let said = judged(&state, &facts()).report.refusals;
    assert!(said.iter().any(|one| one.contains("node 127.0.0.1:3312 is lost")), "{said:?}");
    let no_sidecars = judge(&State::default(), &BTreeSet::new(), &facts(), NOW).report.refusals;
    assert!(no_sidecars.iter().any(|one| one.contains("the sidecar of node")), "{no_sidecars:?}");
}

#[test]
fn what_is_nobodys_is_named_and_left_alone() {
    let mut facts = facts();
    tables_of(&mut facts, 3).shards.insert("system.old_s0".to_owned());
    status(&mut facts, 3).clusters.insert(group(OTHER), cluster(&[3], &[]));
    let report = judged(&State::default(), &facts).report;
    assert_eq!(report.refusals, Vec::<String>::new());
    assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
}
