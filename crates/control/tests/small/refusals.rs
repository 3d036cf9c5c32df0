//! Statements that are refused for what the cluster is like, word for word; those that their own text decides are
//! tested where it is parsed, and all of them through the binary.

use super::world::{World, node, table};
use model::wire::{ShardingStatement, StatementReply};
use model::{GroupId, Millis, TableName};

const AGAIN: &str = "refusing to DROP — retry when the cluster is fully synced";

fn user_cluster() -> GroupId {
    GroupId::new("c").expect("valid")
}

/// With the table `t` of two copies, where there are nodes for it.
fn world(nodes: usize) -> World {
    if nodes > 1 { World::with_table(1, nodes, 2, 2) } else { World::new(1, nodes) }
}

/// What is answered, after a while in which the change is seen.
fn refused(world: &mut World, statement: ShardingStatement) -> String {
    for _ in 0..100 {
        world.step();
    }
    world.refused(statement)
}

fn create(name: &str, cluster: Option<&str>, rf: u32, timeout_seconds: u64) -> ShardingStatement {
    let spec = model::TableSpec {
        name: table(name),
        cluster: cluster.map(str::to_owned),
        schema: model::Schema::default(),
        shards: 2,
        rf,
    };
    ShardingStatement::CreateTable { spec, if_not_exists: false, timeout_seconds }
}

fn drop_of(name: &str, cluster: Option<&str>) -> ShardingStatement {
    let name: TableName = table(name);
    ShardingStatement::DropTable { name, cluster: cluster.map(str::to_owned), if_exists: false }
}

struct Case {
    nodes: usize,
    /// What happens to the cluster first.
    then: fn(&mut World),
    statement: ShardingStatement,
    message: String,
}

fn cases() -> Vec<Case> {
    let whole: fn(&mut World) = |_| {};
    let case =
        |nodes, then, statement, message: &str| Case { nodes, then, statement, message: message.to_owned() };
    vec![
        case(
            3,
            whole,
            create("t", Some("c"), 2, 30),
            "table 't': CREATE TABLE failed: table 't' already exists",
        ),
        case(
            3,
            whole,
            create("u", None, 1, 30),
            "Local sharded tables cannot be created on a node that is part of a replication cluster ('c'). Use CREATE TABLE c:u instead.",
        ),
        case(3, whole, create("u", Some("d"), 2, 30), "Cluster 'd' does not exist"),
        case(
            1,
            whole,
            create("u", Some("c"), 1, 30),
            "The node count for cluster c is too low: 1. You can create local sharded table.",
        ),
        case(
            3,
            whole,
            create("u", Some("c"), 4, 30),
            "The node count (3) is lower than replication factor (4)",
        ),
        // Every JOIN is refused and tried again for longer than the client waits.
        case(
            3,
            |world| (1..=3).for_each(|n| world.nodes.refuse_joins(&node(n), true)),
            create("u", Some("c"), 3, 1),
            "Waiting timeout exceeded.",
        ),
        case(
            3,
            whole,
            drop_of("u", Some("c")),
            "table 'u' is missing: DROP TABLE failed: table 'u' must exist",
        ),
        case(3, whole, drop_of("t", None), "table 't' belongs to cluster 'c': use DROP TABLE c:t"),
        case(3, whole, drop_of("t", Some("d")), "table 't' belongs to cluster 'c': use DROP TABLE c:t"),
        case(
            3,
            |world| world.nodes.break_quorum(&user_cluster()),
            drop_of("t", Some("c")),
            &format!("cluster 'c' is not in primary view (status='non-primary'): {AGAIN}"),
        ),
        case(
            3,
            |world| world.nodes.receives(&node(2)),
            drop_of("t", Some("c")),
            &format!("cluster 'c' local node is not synced (node_state='joined'): {AGAIN}"),
        ),
        case(
            3,
            |world| world.kill(&node(3)),
            drop_of("t", Some("c")),
            &format!("cluster 'c' has unreachable members (2 of 3 alive): {AGAIN}"),
        ),
    ]
}

#[test]
fn every_refusal_word_for_word_and_nothing_is_left_behind() {
    for Case { nodes, then, statement, message } in cases() {
        let mut world = world(nodes);
        let before = world.state().tables.clone();
        then(&mut world);
        let told = format!("{statement:?}");
        assert_eq!(refused(&mut world, statement), message, "{told}");
        world.until("the undo", |world| world.state().operations.is_empty());
        assert_eq!(world.state().tables, before, "{told}");
    }
}

#[test]
fn a_statement_waits_for_a_node_that_is_too_busy_to_be_looked_at_for_as_long_as_its_grace() {
    let mut world = World::with_table(1, 3, 2, 2);
    let seen_silent = |world: &mut World| {
        world.silent.insert(node(3));
        let began = world.now;
        // Two intervals of looks.
        world.until("a look without an answer", |world| world.now.since(began) > Millis(1_000));
    };
    let pass = |world: &mut World, span: Millis| {
        let began = world.now;
        world.until("time", |world| world.now.since(began) >= span);
    };
    for end in [false, true] {
        seen_silent(&mut world);
        let request = if end { world.drop("t") } else { world.create("more", 2, 2) };
        pass(&mut world, Millis(3_000));
        assert_eq!(world.answers.get(&request), None, "it waits");
        world.silent.clear();
        assert_eq!(world.answer_to(request), StatementReply::Ok);
    }

    seen_silent(&mut world);
    let (request, asked) = (world.drop("more"), world.now);
    let StatementReply::Error { message } = world.answer_to(request) else { panic!("not refused") };
    assert_eq!(message, format!("cluster 'c' has unreachable members (2 of 3 alive): {AGAIN}"));
    let waited = world.now.since(asked);
    assert!(waited >= Millis(5_000) && waited < Millis(6_000), "{waited:?}");
    assert!(world.state().tables.contains_key(&table("more")));
}

/// Its process is gone, or it is asked for in vain: what is known of it then.
#[test]
fn a_statement_waits_for_a_sidecar_that_is_silent_and_not_for_a_node_that_refuses() {
    let mut world = World::with_table(2, 3, 2, 2);
    world.refusing.insert(node(3));
    let began = world.now;
    world.until("a look that is refused", |world| world.now.since(began) > Millis(1_000));
    assert!(!world.state().nodes[&node(3)].lost, "others reach it");
    let (request, asked) = (world.drop("t"), world.now);
    let StatementReply::Error { message } = world.answer_to(request) else { panic!("not refused") };
    assert_eq!(message, format!("cluster 'c' has unreachable members (2 of 3 alive): {AGAIN}"));
    assert!(world.now.since(asked) < Millis(1_000), "{:?}", world.now.since(asked));
    world.refusing.clear();
    world.settle();

    world.mute.insert(node(3));
    let began = world.now;
    world.until("silence", |world| world.now.since(began) > Millis(4_500));
    let (request, asked) = (world.drop("t"), world.now);
    world.until("time", |world| world.now.since(asked) > Millis(3_000));
    assert_eq!(world.answers.get(&request), None, "it waits");
    world.mute.clear();
    assert_eq!(world.answer_to(request), StatementReply::Ok);
    world.settle();
}
