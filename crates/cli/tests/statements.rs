//! What a user types, and what comes back: the statements of sharded tables on any node, over MySQL and HTTP.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use cli::load::{Endpoint, Holdings};
use common::{Dev, first, refusal, sql};
use mysql_async::prelude::Queryable;

#[tokio::test(flavor = "multi_thread")]
async fn a_table_lives_and_dies_by_statements_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    let nodes = dev.endpoints();
    refused_creations(&nodes[0]).await;
    nothing_is_there(&nodes).await;
    created_and_looked_at(&nodes).await;
    written_and_read(&nodes).await;
    over_http(&dev).await;
    the_same_by_commands(&dev);
    refused_drops(&nodes[1]).await;
    dropped(&nodes).await;
    words_of_the_grammar_are_names(&nodes).await;
    dev.stop();
}

/// Columns named by words that CREATE TABLE or queries reserve, from the declaration to another rf.
async fn words_of_the_grammar_are_names(nodes: &[Endpoint]) {
    let bare = refusal(&nodes[0], "CREATE TABLE `order` (a int) shards='2' rf='1'").await;
    assert_eq!(bare, "table 'order': CREATE TABLE failed: 'order' is a reserved keyword");
    let create =
        "CREATE TABLE c:words (`cluster` text, `table` int, `at` int, `order` json) shards='2' rf='2'";
    sql(&nodes[0], create).await.expect("created");
    let insert =
        "INSERT INTO words (id,`cluster`,`table`,`at`,`order`) VALUES (1,'a',2,3,'{}'),(2,'b',4,5,'{}')";
    sql(&nodes[1], insert).await.expect("written");
    let select = "SELECT `table`,`at` FROM words WHERE `table` > 0 ORDER BY `at` ASC";
    // A replica applies a moment after the acknowledgement.
    let are_read = |node: Endpoint| async move {
        common::wait_for("both rows", || async {
            let rows = sql(&node, select).await.map_err(|fault| fault.to_string())?;
            let read = first(rows);
            if read == ["2", "4"] { Ok(()) } else { Err(format!("{read:?}")) }
        })
        .await;
    };
    are_read(nodes[2].clone()).await;
    // Refused for as long as the group is not seen whole.
    common::wait_for("the order", || async {
        sql(&nodes[2], "ALTER TABLE c:words rf='3'").await.map_err(|fault| fault.to_string())
    })
    .await;
    common::wait_for("three copies", || async {
        let held = Holdings::look(nodes, "words").await.map_err(|fault| fault.to_string())?;
        held.missing("words", 2, 3).map_or(Ok(()), Err)
    })
    .await;
    are_read(nodes[0].clone()).await;
}

/// Every refusal word for word, in the order in which several faults at once are reported.
async fn refused_creations(node: &Endpoint) {
    for (statement, message) in [
        ("CREATE TABLE c:t (a int) shards='2' shards='3' rf='1'", "Duplicate parameter 'shards' found"),
        ("CREATE TABLE c:t (a int) shards='' rf='1'", "Parameter 'shards' requires to have a value"),
        ("CREATE TABLE c:t (a int) shards='2' rf='x'", "Parameter 'rf' requires to have a numeric value"),
        ("CREATE TABLE c:t (a int) shards='9999'", "Shard count cannot be greater than 3000"),
        ("CREATE TABLE c:t (a int) shards='2'", "Sharded table requires `rf=n`"),
        (
            "CREATE TABLE t (a int) shards='1' rf='2' timeout='0'",
            "You cannot set rf greater than 1 when creating single node sharded table.",
        ),
        (
            "CREATE TABLE c:t (a int) shards='1' rf='2' timeout='0'",
            "You cannot set timeout less than 1 second",
        ),
        ("CREATE TABLE c:t (a int) shards='0' rf='1'", "Invalid shards or rf options are set"),
        (
            "CREATE TABLE t (a int) shards='2' rf='1'",
            "Local sharded tables cannot be created on a node that is part of a replication cluster ('c'). Use CREATE TABLE c:t instead.",
        ),
        ("CREATE TABLE d:t (a int) shards='2' rf='1'", "Cluster 'd' does not exist"),
        (
            "CREATE TABLE c:t (a int) shards='2' rf='4'",
            "The node count (3) is lower than replication factor (4)",
        ),
    ] {
        assert_eq!(refusal(node, statement).await, message, "{statement}");
    }
    let url = format!("mysql://{}?prefer_socket=false", node.mysql);
    let options = mysql_async::OptsBuilder::from_opts(mysql_async::Opts::from_url(&url).expect("a URL"))
        .max_allowed_packet(Some(1 << 20))
        .wait_timeout(Some(60));
    let mut connection = mysql_async::Conn::new(options).await.expect("connected");
    let error =
        connection.query_drop("CREATE TABLE c:t (a int) shards='0' rf='1'").await.expect_err("refused");
    let mysql_async::Error::Server(error) = error else { panic!("{error}") };
    assert_eq!((error.code, error.state.as_str()), (1064, "42000"));
    connection.disconnect().await.expect("closed");
}

async fn nothing_is_there(nodes: &[Endpoint]) {
    let held = Holdings::look(nodes, "t").await.expect("a look");
    for (node, held) in &held.0 {
        assert!(held.all_shards.is_empty(), "{node} holds {:?}", held.all_shards);
        assert_eq!(held.clusters.len(), 1, "{node} is in {:?}", held.clusters.keys());
    }
}

async fn created_and_looked_at(nodes: &[Endpoint]) {
    let create =
        "CREATE TABLE c:T (title text, price float, tags multi) shards = '4' RF='2' morphology='stem_en'";
    sql(&nodes[1], create).await.expect("created");
    assert_eq!(refusal(&nodes[2], create).await, "table 't': CREATE TABLE failed: table 't' already exists");
    sql(&nodes[0], "CREATE TABLE IF NOT EXISTS c:t (a int) shards='2' rf='2'").await.expect("nothing done");
    for node in nodes {
        let tables = sql(node, "SHOW TABLES").await.expect("rows");
        assert_eq!(tables, [[Some("t".to_owned()), Some("shard".to_owned())]], "{}", node.node);
        let columns = first(sql(node, "DESC t").await.expect("rows"));
        assert_eq!(columns, ["id", "title", "price", "tags"]);
        let shown = sql(node, "SHOW CREATE TABLE t").await.expect("rows");
        let text = shown[0][1].clone().expect("a declaration");
        assert!(text.ends_with("shards='4' rf='2'"), "{text}");
        assert!(text.contains("morphology='stem_en'") && !text.contains("agent"), "{text}");
        let forced = sql(node, "SHOW CREATE TABLE t OPTION force=1").await.expect("rows");
        let text = forced[0][1].clone().expect("a declaration");
        assert!(
            text.contains("type='shard'") && text.contains("[retry_count=3,ha_strategy=nodeads]"),
            "{text}"
        );
    }
    let held = Holdings::look(nodes, "t").await.expect("a look");
    assert_eq!(held.missing("t", 4, 2), None);

    for statement in ["SHOW SHARDING STATUS", "SHOW SHARDING STATUS t", "SHOW SHARDING STATUS c:t"] {
        let mut client = cli::load::Client::new(nodes[2].clone());
        let (names, rows) = client.table(statement).await.expect("rows");
        assert_eq!(
            names,
            ["table", "shard", "node", "status", "cluster", "replication_cluster", "rf", "rf_status"],
            "{statement}"
        );
        assert_eq!(rows.len(), 8, "{statement}: {rows:?}");
        let cell = |row: &Vec<Option<String>>, at: usize| row[at].clone().unwrap_or_default();
        for row in &rows {
            let fixed = [0, 3, 4, 6, 7].map(|at| cell(row, at));
            assert_eq!(fixed, ["t", "active", "c", "2", "ok"], "{row:?}");
            assert_eq!(cell(row, 5).len(), 32, "{row:?}");
        }
        let order: Vec<(u32, String)> =
            rows.iter().map(|row| (cell(row, 1).parse().expect("a number"), cell(row, 2))).collect();
        assert!(order.is_sorted(), "{order:?}");
        client.close().await;
    }
    let mut client = cli::load::Client::new(nodes[0].clone());
    let (names, rows) = client.table("SHOW SHARDING MASTER").await.expect("rows");
    assert_eq!((names.len(), rows.len()), (2, 1));
    assert_eq!(names, ["node", "status"]);
    client.close().await;
}

async fn written_and_read(nodes: &[Endpoint]) {
    let values: Vec<String> =
        (1..=40).map(|id| format!("({id},'it\\'s number {id}',{id}.5,(1,{id}))")).collect();
    let insert = format!("INSERT INTO t (id,title,price,tags) VALUES {}", values.join(","));
    sql(&nodes[0], &insert).await.expect("written");
    // A copy applies a moment later; a write to it before that can meet a conflict, as on real nodes.
    copies_agree(nodes).await;
    sql(&nodes[1], "REPLACE INTO t (id,title,price,tags) VALUES (7,'seven replaced',7.0,(7))")
        .await
        .expect("written");
    sql(&nodes[2], "UPDATE t SET price=1.25 WHERE id=8").await.expect("written");
    sql(&nodes[0], "DELETE FROM t WHERE id=9").await.expect("written");
    for node in nodes {
        common::wait_for("the same documents everywhere", || async {
            let count = first(sql(node, "SELECT COUNT(*) FROM t").await.expect("rows"));
            let match_seven =
                first(sql(node, "SELECT id FROM t WHERE MATCH('replaced')").await.expect("rows"));
            let price = first(sql(node, "SELECT price FROM t WHERE id=8").await.expect("rows"));
            let price: Vec<f32> = price.iter().filter_map(|text| text.parse().ok()).collect();
            if count == ["39"] && match_seven == ["7"] && price == [1.25] {
                Ok(())
            } else {
                Err(format!("{}: {count:?} {match_seven:?} {price:?}", node.node))
            }
        })
        .await;
    }
}

async fn copies_agree(nodes: &[Endpoint]) {
    let held = Holdings::look(nodes, "t").await.expect("a look");
    common::wait_for("all copies to agree", || async {
        for shard in 0..4 {
            let mut counts = Vec::new();
            for node in nodes.iter().filter(|node| held.holders(shard).contains(&node.node)) {
                let count = format!("SELECT COUNT(*) FROM system.t_s{shard}");
                counts.push(first(sql(node, &count).await.map_err(|fault| fault.to_string())?));
            }
            if counts[0] != counts[1] {
                return Err(format!("shard {shard} counts {counts:?}"));
            }
        }
        Ok(())
    })
    .await;
}

async fn over_http(dev: &Dev) {
    let file = dev.file();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = async |statement: &str| {
        let url = format!("http://{}/sql?mode=raw", file.nodes[1].http);
        let response = client.post(url).body(statement.to_owned()).send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json::<serde_json::Value>().await.expect("JSON"))
    };
    let (status, body) = post("CREATE TABLE c:h (a int) shards='2' rf='2'").await;
    assert_eq!((status, &body[0]["error"]), (200, &serde_json::json!("")), "{body}");
    let (status, body) = post("CREATE TABLE c:h (a int) shards='2' rf='2'").await;
    assert_eq!(status, 500, "{body}");
    assert!(body.to_string().contains("table 'h': CREATE TABLE failed: table 'h' already exists"), "{body}");
    let (_, body) = post("SHOW SHARDING STATUS h").await;
    assert_eq!(body[0]["data"].as_array().map(Vec::len), Some(4), "{body}");
    let (_, body) = post("DROP TABLE c:h").await;
    assert_eq!(body[0]["error"], "", "{body}");
}

fn the_same_by_commands(dev: &Dev) {
    let created = common::json(&dev.ask(&[
        "table",
        "create",
        "c:k",
        "--columns",
        "a int, b text",
        "--shards",
        "2",
        "--rf",
        "2",
    ]));
    assert_eq!((&created["name"], &created["shards"], &created["rf"]), (&"k".into(), &2.into(), &2.into()));
    assert_eq!(created["placement"].as_array().map(Vec::len), Some(2));
    assert_eq!(created["documents"], 0);
    let again = dev.ask(&["table", "create", "c:k", "--shards", "2", "--rf", "2"]);
    assert_eq!(again.status.code(), Some(3), "{}", common::json(&again));
    let listed = common::json(&dev.ask(&["table", "list"]));
    let names: Vec<&str> =
        listed["tables"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["k", "t"]);
    common::wait("the documents to be counted", || {
        let counted = common::json(&dev.ask(&["table", "list"]))["tables"].clone();
        let shown = common::json(&dev.ask(&["table", "show", "t"]))["documents"].clone();
        if (&counted[0]["documents"], &counted[1]["documents"], &shown) == (&0.into(), &39.into(), &39.into())
        {
            Ok(())
        } else {
            Err(format!("{counted}, {shown}"))
        }
    });
    let nodes = common::json(&dev.ask(&["node", "list"]));
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(3));
    let status = common::json(&dev.ask(&["status"]));
    assert_eq!(status["cluster"]["active_nodes"], 3);
    assert_eq!(dev.ask(&["table", "show", "nothing"]).status.code(), Some(3));
    assert!(dev.ask(&["table", "drop", "c:k"]).status.success());
    let unauthorised = common::run(&["--url", &dev.file().api, "--output", "json", "table", "drop", "c:t"]);
    assert_eq!(unauthorised.status.code(), Some(3), "{}", common::json(&unauthorised));
}

async fn refused_drops(node: &Endpoint) {
    sql(node, "CREATE TABLE plain (a int)").await.expect("created");
    sql(node, "ALTER CLUSTER c ADD plain").await.expect("added");
    for (statement, message) in [
        ("DROP TABLE c:none", "table 'none' is missing: DROP TABLE failed: table 'none' must exist"),
        (
            "DROP TABLE c:plain",
            "table 'plain' is a regular table in cluster 'c': use ALTER CLUSTER c DROP plain to remove it from the cluster, then DROP TABLE plain",
        ),
        (
            "DROP TABLE plain",
            "table 'plain' is not sharded: DROP SHARDED TABLE failed: table 'plain' must be sharded",
        ),
        ("DROP TABLE t", "table 't' belongs to cluster 'c': use DROP TABLE c:t"),
        ("DROP TABLE x:t", "table 't' belongs to cluster 'c': use DROP TABLE c:t"),
    ] {
        // The controller learns of a plain table by its next look at the node.
        common::wait_for(statement, || async {
            let said = refusal(node, statement).await;
            if said == message { Ok(()) } else { Err(said) }
        })
        .await;
    }
    sql(node, "DROP TABLE IF EXISTS c:none").await.expect("nothing to do");
    sql(node, "ALTER CLUSTER c DROP plain").await.expect("taken out");
    let message = refusal(node, "DROP TABLE c:plain").await;
    assert!(message.starts_with("table 'plain' is a regular table in cluster 'c'"), "{message}");
    assert!(first(sql(node, "SHOW TABLES").await.expect("rows")).contains(&"plain".to_owned()), "it went");
    sql(node, "DROP TABLE plain").await.expect("dropped");
}

async fn dropped(nodes: &[Endpoint]) {
    sql(&nodes[2], "DROP TABLE c:t").await.expect("dropped");
    for node in nodes {
        let shards = sql(node, "SHOW TABLES FROM SYSTEM").await.expect("rows");
        assert!(shards.is_empty(), "{} still holds {shards:?}", node.node);
        let tables = first(sql(node, "SHOW TABLES").await.expect("rows"));
        assert!(!tables.contains(&"t".to_owned()), "{tables:?}");
        refusal(node, "SELECT COUNT(*) FROM t").await;
    }
    // The name is free again, for another kind of table.
    sql(&nodes[0], "CREATE TABLE c:t (other bigint) shards='2' rf='3'").await.expect("created");
    sql(&nodes[1], "INSERT INTO t (id,other) VALUES (1,1),(2,2)").await.expect("written");
    assert_eq!(first(sql(&nodes[2], "SELECT COUNT(*) FROM t").await.expect("rows")).len(), 1);
    sql(&nodes[0], "DROP TABLE c:t").await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_holds_sharded_tables_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 1);
    let node = &dev.endpoints()[0];
    sql(node, "CREATE TABLE local_one (v int) shards='5' rf='1'").await.expect("created");
    let values: Vec<String> = (1..=8).map(|id| format!("({id},{id})")).collect();
    sql(node, &format!("INSERT INTO local_one (id,v) VALUES {}", values.join(","))).await.expect("written");
    let mut counts = Vec::new();
    for shard in 0..5 {
        let count =
            first(sql(node, &format!("SELECT COUNT(*) FROM system.local_one_s{shard}")).await.expect("rows"));
        counts.push(count[0].clone());
    }
    // Ids 1 to 8 go to shards 2, 3, 2, 2, 4, 0, 3, 3.
    assert_eq!(counts, ["1", "0", "3", "3", "1"]);
    let message = refusal(node, "DROP TABLE c:local_one").await;
    assert!(message.contains("local_one"), "{message}");
    sql(node, "DROP TABLE local_one").await.expect("dropped");
    assert!(sql(node, "SHOW TABLES FROM SYSTEM").await.expect("rows").is_empty());
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sick_cluster_cannot_do_is_refused_and_leaves_nothing() {
    if common::skipped_on_searchd("the test puts obstacles into the data directory of the embedded engine") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    let nodes = dev.endpoints();
    let node = &nodes[0];
    sql(node, "CREATE TABLE c:kept (a int) shards='2' rf='2'").await.expect("created");
    let before = clusters(&nodes).await;

    // A second cluster on the same nodes.
    std::fs::create_dir(dir.path().join("node1/data/d")).expect("made");
    sql(node, "CREATE CLUSTER d 'd' AS path").await.expect("created");
    let message = "cluster 'd' cannot be used: this controller keeps the tables of cluster 'c', and one controller keeps one cluster";
    common::wait_for("the second cluster to be seen", || async {
        let said = refusal(node, "CREATE TABLE d:t (a int) shards='2' rf='1'").await;
        if said == message { Ok(()) } else { Err(said) }
    })
    .await;
    sql(node, "DELETE CLUSTER d").await.expect("gone");

    // No node can make the file of a shard.
    for n in 1..=3 {
        for serial in 0..100 {
            let file = format!("node{n}/data/system.t_s0.{serial}.db");
            std::fs::create_dir(dir.path().join(file)).expect("made");
        }
    }
    let said = refusal(node, "CREATE TABLE c:t (a int) shards='2' rf='2' timeout='120'").await;
    let names =
        nodes.iter().map(|node| format!("step CREATE TABLE on node {} failed: cannot open ", node.node));
    assert!(names.into_iter().any(|start| said.starts_with(&start)), "{said}");
    assert!(said.ends_with("; everything created was undone"), "{said}");
    assert_eq!(clusters(&nodes).await, before, "clusters are left");

    // A node that stands still: the time passes, and what was made goes when it is back.
    let frozen = dev.file().nodes[2].pid.expect("it runs");
    common::signal(frozen, "STOP");
    let said = refusal(node, "CREATE TABLE c:u (a int) shards='2' rf='3' timeout='1'").await;
    assert_eq!(said, "Waiting timeout exceeded.");
    common::signal(frozen, "CONT");
    common::wait_for("nothing of it to be left", || async {
        let held = Holdings::look(&nodes, "u").await.map_err(|fault| fault.to_string())?;
        let left = clusters(&nodes).await;
        if held.copies().is_empty() && left == before { Ok(()) } else { Err(format!("{held:?} {left:?}")) }
    })
    .await;

    let again = "refusing to DROP — retry when the cluster is fully synced";
    let alive = |count: u64| {
        let status = common::json(&dev.ask(&["status"]));
        if status["cluster"]["active_nodes"] == count { Ok(()) } else { Err(status.to_string()) }
    };
    assert!(dev.change(&["kill", nodes[2].node.as_str()]).status.success());
    common::wait("one lost node", || alive(2));
    let said = refusal(node, "DROP TABLE c:kept").await;
    assert_eq!(said, format!("cluster 'c' has unreachable members (2 of 3 alive): {again}"));
    assert!(dev.change(&["kill", nodes[1].node.as_str()]).status.success());
    let message = format!("cluster 'c' is not in primary view (status='non-primary'): {again}");
    common::wait_for("the quorum to be lost", || async {
        let said = refusal(node, "DROP TABLE c:kept").await;
        if said == message { Ok(()) } else { Err(said) }
    })
    .await;
    dev.stop();
}

/// The clusters that each node is in.
async fn clusters(nodes: &[Endpoint]) -> Vec<Vec<String>> {
    let held = Holdings::look(nodes, "kept").await.expect("a look");
    held.0.values().map(|held| held.clusters.keys().map(ToString::to_string).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_is_too_few_for_a_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 1);
    let node = &dev.endpoints()[0];
    sql(node, "CREATE CLUSTER c").await.expect("created");
    let message = "The node count for cluster c is too low: 1. You can create local sharded table.";
    common::wait_for("the cluster to be seen", || async {
        let said = refusal(node, "CREATE TABLE c:t (a int) shards='2' rf='1'").await;
        if said == message { Ok(()) } else { Err(said) }
    })
    .await;
    dev.stop();
}

/// searchd leaves out, without error or warning, a shard that it cannot reach: so the table has no route until the shard is
/// back, and whoever asks is told why at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_shard_that_is_nowhere_answers_with_an_error_and_not_with_fewer_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    let nodes = dev.endpoints();
    sql(&nodes[0], "CREATE TABLE c:one (v int) shards='3' rf='1'").await.expect("created");
    let values: Vec<String> = (1..=30).map(|id| format!("({id},{id})")).collect();
    sql(&nodes[0], &format!("INSERT INTO one (id,v) VALUES {}", values.join(","))).await.expect("written");
    let gone = nodes[2].node.as_str();
    assert!(dev.change(&["kill", gone]).status.success());
    let why = format!("the last was on {gone}; bring that node back");
    for node in &nodes[..2] {
        // Until the loss is proven searchd answers as it does.
        common::wait_for("the table to be withdrawn", || async {
            match sql(node, "SELECT COUNT(*) FROM one").await {
                Ok(rows) => Err(format!("{rows:?}")),
                Err(fault) if fault.to_string().contains(&why) => Ok(()),
                Err(fault) => Err(fault.to_string()),
            }
        })
        .await;
    }
    for node in &nodes[..2] {
        for statement in ["SELECT COUNT(*) FROM one", "INSERT INTO one (id,v) VALUES (31,31)"] {
            let said = refusal(node, statement).await;
            assert!(said.contains(&why), "{statement}: {said}");
        }
    }
    assert!(dev.change(&["start", gone]).status.success());
    for node in dev.endpoints() {
        common::wait_for("all documents", || async {
            let counted = sql(&node, "SELECT COUNT(*) FROM one").await.map_err(|fault| fault.to_string())?;
            if first(counted) == ["30"] { Ok(()) } else { Err(format!("not all on {}", node.node)) }
        })
        .await;
    }
    dev.stop();
}
