use super::script::{Server, Stage, cluster, error, execute, ok, rows};
use model::{Action, ColumnSpec, Content, GroupId, NodeId, Outcome, Route, RouteSpec, Schema, TableName};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn group() -> GroupId {
    GroupId::from_random(1)
}

fn name() -> TableName {
    TableName::new("t").expect("valid")
}

fn schema() -> Schema {
    Schema { columns: vec![ColumnSpec { name: "v".into(), kind: "int".into() }], options: Vec::new() }
}

fn done() -> Outcome {
    Outcome::Done { contents: BTreeMap::new() }
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done { .. } => "done",
        Outcome::Refused { message } | Outcome::Unknown { message } => message,
    }
}

fn spec(nodes: &[&str]) -> RouteSpec {
    let nodes: Vec<NodeId> = nodes.iter().map(|node| NodeId::new(*node).expect("valid")).collect();
    let route = Route { table: name(), shards: vec![nodes], own_as_local: false };
    RouteSpec { route, schema: schema() }
}

/// A node that has the routing table `t` over `agents`, or none.
fn routed(sql: &str, agents: Option<&str>) -> Option<(u16, Value)> {
    match (sql, agents) {
        ("SHOW TABLES", None) => Some(rows(&["Table", "Type"], &[])),
        ("SHOW TABLES", Some(_)) => Some(rows(&["Table", "Type"], &[&["t", "shard"]])),
        (sql, Some(agents)) if sql.starts_with("SHOW CREATE TABLE `t`") => {
            let text = format!(
                "CREATE TABLE t (\nid bigint,\nv integer\n) type='shard' agent='{agents}[retry_count=3,ha_strategy=nodeads]'"
            );
            Some(rows(&["Table", "Create Table"], &[&["t", &text]]))
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_route_is_written_only_where_it_differs() {
    let node =
        Server::start(|_, sql| routed(sql, Some("h:1:system.t_s0|h:2:system.t_s0")).unwrap_or_else(ok)).await;
    let stage = Stage::new(&node, None).await;
    let same = Action::SetRoutes { routes: vec![spec(&["h:1", "h:2"])] };
    assert_eq!(execute(&stage.sidecar, &same, soon()).await, done());
    assert_eq!(node.changes(), Vec::<String>::new());
    let other = Action::SetRoutes { routes: vec![spec(&["h:1", "h:3"])] };
    tokio::time::sleep(Duration::from_millis(5)).await;
    let before = Instant::now();
    assert_eq!(execute(&stage.sidecar, &other, soon()).await, done());
    assert!(stage.sidecar.routes_age() <= before.elapsed());
    let changes = node.changes();
    assert_eq!(changes[0], "DROP TABLE `t` OPTION force=1");
    assert!(
        changes[1].starts_with("CREATE TABLE `t` (`v` int) type='shard' agent='h:1:system.t_s0|h:3:"),
        "{changes:?}"
    );
    assert_eq!(changes.len(), 2);
    let drop = Action::DropRoutes { tables: vec![name()] };
    assert_eq!(execute(&stage.sidecar, &drop, soon()).await, done());
    assert_eq!(node.changes().len(), 3);
}

#[tokio::test]
async fn a_missing_route_is_only_created_and_a_plain_table_is_left_alone() {
    let node = Server::start(|_, sql| routed(sql, None).unwrap_or_else(ok)).await;
    let stage = Stage::new(&node, None).await;
    let set = Action::SetRoutes { routes: vec![spec(&["h:1"])] };
    assert_eq!(execute(&stage.sidecar, &set, soon()).await, done());
    assert_eq!(node.changes().len(), 1);
    let drop = Action::DropRoutes { tables: vec![name()] };
    assert_eq!(execute(&stage.sidecar, &drop, soon()).await, done());
    assert_eq!(node.changes().len(), 1);
    let plain = Server::start(|_, sql| match sql {
        "SHOW TABLES" => rows(&["Table", "Type"], &[&["t", "rt"]]),
        _ => ok(),
    })
    .await;
    let stage = Stage::new(&plain, None).await;
    for action in [set, drop] {
        let outcome = execute(&stage.sidecar, &action, soon()).await;
        assert!(
            matches!(&outcome, Outcome::Refused { message } if message.contains("left alone")),
            "{outcome:?}"
        );
    }
    assert_eq!(plain.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_route_that_was_dropped_and_not_made_is_unknown() {
    let node = Server::start(|_, sql| match sql {
        sql if sql.starts_with("CREATE") => error("table 't': CREATE TABLE failed: syntax error"),
        sql => routed(sql, Some("h:1:system.t_s0")).unwrap_or_else(ok),
    })
    .await;
    let stage = Stage::new(&node, None).await;
    let set = Action::SetRoutes { routes: vec![spec(&["h:2"])] };
    let outcome = execute(&stage.sidecar, &set, soon()).await;
    assert!(
        matches!(&outcome, Outcome::Unknown { message } if message.contains("has no route now")),
        "{outcome:?}"
    );
    assert!(node.changes().len() > 2, "it was tried again");
}

/// As searchd 29.0.2 refuses it after a routing table's declaration was lost and its directory was not.
#[tokio::test]
async fn what_an_old_route_left_on_disk_is_taken_away_unless_it_has_rows() {
    for (file, made) in [("t.meta", true), ("t.0.spd", false)] {
        let dir = tempfile::tempdir().expect("a directory");
        let left = dir.path().join("data/t");
        std::fs::create_dir_all(&left).expect("made");
        std::fs::write(left.join(file), "x").expect("written");
        let in_the_way = left.clone();
        let node = Server::start(move |_, sql| match sql {
            sql if sql.starts_with("CREATE") && in_the_way.exists() => {
                error("error adding table 't': directory is not empty: t")
            }
            sql => routed(sql, None).unwrap_or_else(ok),
        })
        .await;
        let stage = Stage::in_dir(dir, &node, Vec::new(), None).await;
        let set = Action::SetRoutes { routes: vec![spec(&["h:1"])] };
        let outcome = execute(&stage.sidecar, &set, soon()).await;
        assert_eq!(outcome == done(), made, "{file}: {outcome:?}");
        assert_eq!(left.join(file).exists(), !made);
    }
}

#[tokio::test]
async fn a_table_that_is_the_very_one_counts_as_made() {
    for (kind, cluster_tables, expected) in
        [("uint", "", "done"), ("bigint", "", "other columns"), ("uint", "system.t_s0", "is in the cluster")]
    {
        let node = Server::start(move |_, sql| match sql {
            "SHOW STATUS LIKE 'cluster%'" => {
                cluster("g", &[("status", "primary"), ("indexes", cluster_tables)])
            }
            sql if sql.starts_with("DESC") => {
                rows(&["Field", "Type", "Properties"], &[&["id", "bigint", ""], &["v", kind, ""]])
            }
            _ => error("table 'system.t_s0': CREATE TABLE failed: table 'system.t_s0' already exists"),
        })
        .await;
        let stage = Stage::new(&node, None).await;
        let create = Action::CreateTables { tables: vec!["system.t_s0".into()], schema: schema() };
        let outcome = execute(&stage.sidecar, &create, soon()).await;
        assert!(message(&outcome).contains(expected), "{expected}: {outcome:?}");
    }
}

fn member(fields: &[(&'static str, &'static str)]) -> Vec<(&'static str, String)> {
    fields.iter().map(|(field, value)| (*field, (*value).to_owned())).collect()
}

/// A node in the group, with tables of `rows` rows each.
async fn in_group(fields: Vec<(&'static str, String)>, filled: &'static str) -> Server {
    Server::start(move |_, sql| {
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(field, value)| (*field, value.as_str())).collect();
        match sql {
            "SHOW STATUS LIKE 'cluster%'" => cluster(group().as_str(), &fields),
            sql if sql.starts_with("SELECT COUNT") => {
                rows(&["count(*)", "sum(id)", "min(id)", "max(id)"], &[&[filled, "6", "1", "3"]])
            }
            "SHOW THREADS" => {
                rows(&["State", "This/prev job time", "Info"], &[&["query", "1us", "SHOW THREADS"]])
            }
            _ => ok(),
        }
    })
    .await
}

fn add() -> Action {
    Action::AddTables { group: group(), tables: vec!["system.t_s0".into(), "system.t_s1".into()] }
}

#[tokio::test]
async fn only_empty_tables_are_added_to_a_group_of_several() {
    let two = || {
        member(&[
            ("status", "primary"),
            ("node_state", "synced"),
            ("size", "2"),
            ("nodes_set", "h:1,h:2"),
            ("nodes_view", "h:1,h:2"),
            ("indexes", "system.t_s0"),
        ])
    };
    let node = in_group(two(), "0").await;
    let stage = Stage::new(&node, None).await;
    assert_eq!(execute(&stage.sidecar, &add(), soon()).await, done());
    assert_eq!(node.changes(), vec![format!("ALTER CLUSTER {} ADD system.t_s1", group())]);
    let node = in_group(two(), "3").await;
    let stage = Stage::new(&node, None).await;
    let outcome = execute(&stage.sidecar, &add(), soon()).await;
    assert!(matches!(&outcome, Outcome::Refused { message } if message.contains("has rows")), "{outcome:?}");
    assert_eq!(node.changes(), Vec::<String>::new());
    let mut fields = two();
    fields[4].1 = "h:1".into();
    let node = in_group(fields, "0").await;
    let stage = Stage::new(&node, None).await;
    for action in [add(), Action::RemoveTables { group: group(), tables: vec!["system.t_s0".into()] }] {
        let outcome = execute(&stage.sidecar, &action, soon()).await;
        assert!(
            matches!(&outcome, Outcome::Refused { message } if message.contains("out of view")),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn filled_tables_of_a_lone_member_are_not_added_without_a_lock() {
    let node = in_group(member(&[("status", "primary"), ("node_state", "synced"), ("size", "1")]), "3").await;
    let stage = Stage::new(&node, None).await;
    let outcome = execute(&stage.sidecar, &add(), soon()).await;
    assert!(matches!(&outcome, Outcome::Refused { message } if message.contains("--mysql")), "{outcome:?}");
    let copies = [("system.t_s9".to_owned(), Content::default())].into();
    let outcome = execute(&stage.sidecar, &Action::DropCopies { copies }, soon()).await;
    assert!(matches!(&outcome, Outcome::Refused { message } if message.contains("--mysql")), "{outcome:?}");
    assert_eq!(node.changes(), Vec::<String>::new());
    let node = in_group(member(&[("status", "primary"), ("node_state", "synced"), ("size", "1")]), "0").await;
    let stage = Stage::new(&node, None).await;
    assert_eq!(execute(&stage.sidecar, &add(), soon()).await, done());
    assert_eq!(node.changes(), vec![format!("ALTER CLUSTER {} ADD system.t_s0,system.t_s1", group())]);
}

#[tokio::test]
async fn a_cluster_is_deleted_only_where_nobody_else_loses_it() {
    for (status, state, size, allowed) in [
        ("non-primary", "joining", "2", true),
        ("disconnected", "joining", "1", false),
        ("primary", "synced", "2", false),
        ("primary", "joining", "1", false),
        ("primary", "synced", "1", true),
        ("recovery-required", "closed", "0", true),
    ] {
        let node = in_group(member(&[("status", status), ("node_state", state), ("size", size)]), "0").await;
        let stage = Stage::new(&node, None).await;
        let outcome =
            execute(&stage.sidecar, &Action::DeleteCluster { group: group(), whole: false }, soon()).await;
        assert_eq!(outcome == done(), allowed, "{status} {state} {size}: {outcome:?}");
        assert_eq!(node.changes().len(), usize::from(allowed));
    }
}

#[tokio::test]
async fn a_cluster_without_a_quorum_is_deleted_only_where_no_member_has_one() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        listener.local_addr().expect("has an address").to_string()
    };
    let other = |status: &'static str| in_group(member(&[("status", status), ("size", "1")]), "0");
    let (with, without) = (other("primary").await, other("non-primary").await);
    let mute = Server::start(|_, _| error("busy")).await;
    for (peer, allowed) in [
        (with.address.to_string(), false),
        (without.address.to_string(), true),
        (mute.address.to_string(), false),
        (gone, true),
    ] {
        let mut fields = member(&[("status", "non-primary"), ("node_state", "synced"), ("size", "1")]);
        fields.push(("nodes_set", peer.clone()));
        let node = in_group(fields, "0").await;
        let stage = Stage::new(&node, None).await;
        let outcome =
            execute(&stage.sidecar, &Action::DeleteCluster { group: group(), whole: false }, soon()).await;
        assert_eq!((outcome == done(), node.changes().len()), (allowed, usize::from(allowed)), "{outcome:?}");
        // One that is to go everywhere asks nobody.
        let whole = Action::DeleteCluster { group: group(), whole: true };
        assert_eq!(execute(&stage.sidecar, &whole, soon()).await, done());
    }
}

/// In a group that still holds tables, or has others that serve, nobody is taken for lost before the time.
#[tokio::test]
async fn the_other_of_an_empty_group_of_two_is_not_waited_for() {
    for (size, tables, shortened) in [("2", "", true), ("2", "system.t_s0", false), ("3", "", false)] {
        let fields = member(&[
            ("status", "primary"),
            ("node_state", "synced"),
            ("size", size),
            ("nodes_set", "h:1,h:2"),
            ("nodes_view", "h:1,h:2"),
            ("indexes", tables),
        ]);
        let node = in_group(fields, "0").await;
        let stage = Stage::new(&node, None).await;
        let exit = Action::ExitCluster { group: group(), tables: Vec::new(), floor: 0 };
        assert_eq!(execute(&stage.sidecar, &exit, soon()).await, done());
        let mut said = vec![format!("EXIT CLUSTER {}", group())];
        if shortened {
            said.insert(0, format!("SET CLUSTER {} GLOBAL 'evs.suspect_timeout' = 'PT0.1S'", group()));
        }
        assert_eq!(node.changes(), said, "{size} {tables}");
    }
}

#[tokio::test]
async fn only_a_group_without_quorum_is_bootstrapped() {
    for (status, said, is_done) in [
        ("primary", 0, true),
        ("non-primary", 1, true),
        ("recovery-required", 0, false),
        ("disconnected", 0, false),
    ] {
        let node =
            in_group(member(&[("status", status), ("node_state", "synced"), ("size", "1")]), "0").await;
        let stage = Stage::new(&node, None).await;
        let outcome = execute(&stage.sidecar, &Action::Bootstrap { group: group() }, soon()).await;
        assert_eq!((outcome == done(), node.changes().len()), (is_done, said), "{status}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_copy_leaves_with_its_content_and_never_as_the_last() {
    let tables = vec!["system.t_s0".to_owned()];
    let exit = Action::ExitCluster { group: group(), tables: tables.clone(), floor: 1 };
    let two = [("status", "primary"), ("node_state", "synced"), ("size", "2"), ("nodes_view", "h:1,h:2")];
    let node = in_group(member(&two), "3").await;
    let stage = Stage::new(&node, None).await;
    let content = Content { rows: 3, id_sum: 6, id_min: 1, id_max: 3 };
    let left = Outcome::Done { contents: [("system.t_s0".to_owned(), content)].into() };
    assert_eq!(execute(&stage.sidecar, &exit, soon()).await, left);
    assert_eq!(node.changes(), vec![format!("EXIT CLUSTER {}", group())]);
    let node = in_group(member(&[("status", "primary"), ("node_state", "synced"), ("size", "1")]), "3").await;
    let stage = Stage::new(&node, None).await;
    assert!(matches!(execute(&stage.sidecar, &exit, soon()).await, Outcome::Refused { .. }));
    assert_eq!(node.changes(), Vec::<String>::new());
    // Another member died since the controller looked.
    let node = in_group(member(&two), "3").await;
    let stage = Stage::new(&node, None).await;
    let exit = Action::ExitCluster { group: group(), tables: tables.clone(), floor: 2 };
    let outcome = execute(&stage.sidecar, &exit, soon()).await;
    assert!(
        matches!(&outcome, Outcome::Refused { message } if message.contains("2 must stay")),
        "{outcome:?}"
    );
    assert_eq!(node.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_statement_that_is_older_than_the_routes_keeps_a_copy_in_its_group() {
    let node = Server::start(|_, sql| match sql {
        "SHOW STATUS LIKE 'cluster%'" => cluster(
            group().as_str(),
            &[("status", "primary"), ("node_state", "synced"), ("size", "2"), ("nodes_view", "h:1,h:2")],
        ),
        "SHOW THREADS" => {
            rows(&["State", "This/prev job time", "Info"], &[&["query", "1h", "INSERT INTO t"]])
        }
        _ => ok(),
    })
    .await;
    let stage = Stage::new(&node, None).await;
    let exit = Action::ExitCluster { group: group(), tables: Vec::new(), floor: 0 };
    let outcome = execute(&stage.sidecar, &exit, Instant::now() + Duration::from_secs(3)).await;
    assert!(
        matches!(&outcome, Outcome::Refused { message } if message.contains("older than the routes")),
        "{outcome:?}"
    );
    assert_eq!(node.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_hasty_join_is_tried_again_and_others_are_not() {
    let mut tries = 0;
    let node = Server::start(move |_, _| {
        tries += 1;
        if tries < 3 { error("cluster 'x', no nodes available, retries limit exceeded") } else { ok() }
    })
    .await;
    let stage = Stage::new(&node, None).await;
    let join = Action::JoinCluster { group: group(), at: NodeId::new("h:1").expect("valid") };
    assert_eq!(execute(&stage.sidecar, &join, soon()).await, done());
    assert_eq!(node.asked().len(), 3);
    let node = Server::start(|_, _| error("cluster 'x', cannot access directory /x")).await;
    let stage = Stage::new(&node, None).await;
    assert!(matches!(execute(&stage.sidecar, &join, soon()).await, Outcome::Refused { .. }));
    assert_eq!(node.asked().len(), 1);
}

#[tokio::test]
async fn a_directory_with_a_living_cluster_stays() {
    let node = in_group(member(&[("status", "primary"), ("node_state", "synced"), ("size", "1")]), "0").await;
    let stage = Stage::new(&node, None).await;
    let path = stage.dir.path().join("data").join(group().as_str());
    assert_eq!(execute(&stage.sidecar, &Action::MakeDirectory { group: group() }, soon()).await, done());
    let outcome = execute(&stage.sidecar, &Action::RemoveDirectory { group: group() }, soon()).await;
    assert!(matches!(&outcome, Outcome::Refused { message } if message.contains("still has")), "{outcome:?}");
    assert!(path.is_dir());
    let other = GroupId::from_random(2);
    assert_eq!(
        execute(&stage.sidecar, &Action::MakeDirectory { group: other.clone() }, soon()).await,
        done()
    );
    assert_eq!(execute(&stage.sidecar, &Action::RemoveDirectory { group: other }, soon()).await, done());
}
