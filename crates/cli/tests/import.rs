//! Tables that the stock sidecar sharded: adopted where they are, and moved like any other from then on.
//!
//! What that sidecar leaves is made by hand, as it was seen to leave it: clusters named by their nodes, physical shards,
//! routing tables, and its own three tables in the user's cluster.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use cli::load::{Endpoint, Holdings};
use common::{Dev, first, sql, wait_for};
use md5::{Digest, Md5};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Name of `t`'s shards' clusters, each on two of the three nodes: the md5 of its nodes in order, joined by commas; a
/// first digit d would be the letter 97 + d % 6.
fn stock_name(nodes: &[&Endpoint]) -> String {
    let mut ids: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
    ids.sort_unstable();
    let digest = format!("{:x}", Md5::digest(ids.join(",").as_bytes()));
    match digest.chars().next().and_then(|first| first.to_digit(10)) {
        Some(digit) => format!("{}{}", char::from(b'a' + (digit % 6) as u8), &digest[1..]),
        None => digest,
    }
}

/// The nodes of each shard: three of rf 2, one pair each, and one group of two shards.
const PAIRS: [[usize; 2]; 4] = [[0, 1], [1, 2], [0, 2], [0, 1]];
const COLUMNS: &str = "title text, v int";

/// What the stock sidecar would have made: `c:t` of four shards and rf 2, and `c:o` of two shards and rf 1.
async fn stock_tables(dir: &Path, nodes: &[Endpoint]) {
    let say = async |node: &Endpoint, statement: &str| {
        sql(node, statement).await.unwrap_or_else(|fault| panic!("{statement}: {fault}"))
    };
    let mut made: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (shard, pair) in PAIRS.into_iter().enumerate() {
        let [one, other] = pair.map(|at| &nodes[at]);
        let cluster = stock_name(&[one, other]);
        say(one, &format!("CREATE TABLE system.t_s{shard} ({COLUMNS})")).await;
        if made.insert(cluster.clone(), pair).is_none() {
            for at in pair {
                let path = dir.join(format!("node{}/data/{cluster}", at + 1));
                std::fs::create_dir_all(path).expect("a directory");
            }
            let options = "'gmcast.listen_addr=tcp://127.0.0.1' as options";
            say(one, &format!("CREATE CLUSTER {cluster} '{cluster}' as path, {options}")).await;
            say(one, &format!("ALTER CLUSTER {cluster} ADD system.t_s{shard}")).await;
            let join = format!("JOIN CLUSTER {cluster} AT '{}' '{cluster}' as path, {options}", one.node);
            wait_for("the other node to join", || async {
                sql(other, &join).await.map(drop).map_err(|fault| fault.to_string())
            })
            .await;
        } else {
            say(one, &format!("ALTER CLUSTER {cluster} ADD system.t_s{shard}")).await;
        }
    }
    say(&nodes[1], &format!("CREATE TABLE system.o_s0 ({COLUMNS})")).await;
    say(&nodes[2], &format!("CREATE TABLE system.o_s1 ({COLUMNS})")).await;
    for (at, node) in nodes.iter().enumerate() {
        let mut route = format!("CREATE TABLE t ({COLUMNS}) type='shard'");
        for (shard, pair) in PAIRS.into_iter().enumerate() {
            let mirrors = pair.map(|at| format!("{}:system.t_s{shard}", nodes[at].node)).join("|");
            let _ = write!(route, " agent='{mirrors}[retry_count=2,ha_strategy=noerrors]'");
        }
        say(node, &route).await;
        let target = |shard: usize, holder: usize| {
            if at == holder {
                format!("local='system.o_s{shard}'")
            } else {
                format!("agent='{}:system.o_s{shard}'", nodes[holder].node)
            }
        };
        let mut targets = [target(0, 1), target(1, 2)];
        targets.sort_by_key(|target| target.starts_with("agent"));
        say(node, &format!("CREATE TABLE o ({COLUMNS}) type='shard' {}", targets.join(" "))).await;
    }
    stock_state(nodes).await;
}

/// Its own three tables, in the user's cluster, and long not heard of: columns and values as it writes them itself.
async fn stock_state(nodes: &[Endpoint]) {
    let node = &nodes[0];
    let mut placements = Vec::new();
    for (at, one) in nodes.iter().enumerate() {
        let held: Vec<String> =
            (0..PAIRS.len()).filter(|shard| PAIRS[*shard].contains(&at)).map(|s| s.to_string()).collect();
        placements.push(format!("('c', '{}', 't', ({}))", one.node, held.join(",")));
    }
    for (at, held) in ["", "0", "1"].iter().enumerate() {
        placements.push(format!("('c', '{}', 'o', ({held}))", nodes[at].node));
    }
    for statement in [
        "CREATE TABLE system.sharding_state (`key` string, `value` json, `updated_at` timestamp)".to_owned(),
        "CREATE TABLE system.sharding_queue (`node` string, `query` string, `rollback_query` string, `wait_for_id` bigint, \
         `rollback_wait_for_id` bigint, `operation_group` string, `tries` int, `status` string, `created_at` bigint, \
         `updated_at` bigint, `duration` int)"
            .to_owned(),
        "CREATE TABLE system.sharding_table (`cluster` string, `node` string, `table` string, `shards` multi)"
            .to_owned(),
        format!(
            "INSERT INTO system.sharding_state (`key`, `value`, updated_at) VALUES ('master', '[\"{node}\"]', 1), \
             ('cluster', '[\"c\"]', 1), ('node:{node}', '[{{\"seen_at\":1}}]', 1), ('table:t', '[{{\"status\":\"done\", \
             \"type\":\"create\",\"structure\":\"{COLUMNS}\",\"extra\":\"\",\"nodes\":[\"{node}\"],\"queue_ids\":[1]}}]', 1)",
            node = node.node
        ),
        format!(
            "INSERT INTO system.sharding_queue (`node`, `query`, `tries`, `status`) VALUES ('{}', 'CREATE TABLE IF NOT \
             EXISTS system.t_s0 ({COLUMNS})', 1, 'processed')",
            node.node
        ),
        format!(
            "INSERT INTO system.sharding_table (`cluster`, node, `table`, shards) VALUES {}",
            placements.join(", ")
        ),
        "ALTER CLUSTER c ADD system.sharding_state".to_owned(),
        "ALTER CLUSTER c ADD system.sharding_queue".to_owned(),
        "ALTER CLUSTER c ADD system.sharding_table".to_owned(),
    ] {
        sql(node, &statement).await.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
    }
}

async fn fill(node: &Endpoint, table: &str) {
    let values: Vec<String> = (1..=200).map(|id| format!("({id}, 'number {id}', {id})")).collect();
    let insert = format!("INSERT INTO {table} (id, title, v) VALUES {}", values.join(","));
    sql(node, &insert).await.expect("written");
}

async fn counts(nodes: &[Endpoint], expected: u64) {
    for node in nodes {
        for table in ["t", "o"] {
            wait_for("all documents", || async {
                let count = format!("SELECT COUNT(*) FROM {table}");
                let found = first(sql(node, &count).await.map_err(|fault| fault.to_string())?);
                if found == [expected.to_string()] { Ok(()) } else { Err(format!("{table}: {found:?}")) }
            })
            .await;
        }
    }
}

fn texts(report: &Value, field: &str) -> Vec<String> {
    let list = report[field].as_array().unwrap_or_else(|| panic!("no {field}: {report}"));
    list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// Three nodes with filled tables of the stock sidecar.
async fn stocked(dir: &Path) -> (Dev, Vec<Endpoint>) {
    let dev = Dev::start(dir, 3);
    let nodes = dev.endpoints();
    stock_tables(dir, &nodes).await;
    fill(&nodes[0], "t").await;
    fill(&nodes[1], "o").await;
    counts(&nodes, 200).await;
    (dev, nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_stock_sidecar_are_adopted_where_they_are_and_move_like_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dev, nodes) = stocked(dir.path()).await;
    refused_while_something_is_wrong(&dev, &nodes).await;

    let before = held(&nodes).await;
    let seen = common::json(&dev.ask(&["import", "--dry-run"]));
    assert_eq!((&seen["success"], &seen["dry_run"]), (&true.into(), &true.into()), "{seen}");
    assert_eq!(held(&nodes).await, before, "a dry run changes nothing");
    let way_back = dir.path().join("back.sql");
    let done = dev.ask(&["import", "--way-back", way_back.to_str().expect("a path")]);
    let report = common::json(&done);
    assert_eq!((&report["success"], &report["dry_run"]), (&true.into(), &false.into()), "{report}");
    let names: Vec<&str> =
        report["groups"].as_array().expect("groups").iter().filter_map(|one| one["name"].as_str()).collect();
    let mut expected: Vec<String> =
        PAIRS[..3].iter().map(|pair| stock_name(&pair.map(|at| &nodes[at]))).collect();
    expected.sort();
    assert_eq!(names, expected, "they keep the names that they have");
    let saved = std::fs::read_to_string(&way_back).expect("saved");
    assert!(saved.contains("INSERT INTO system.sharding_table"), "{saved}");

    // Nothing was moved or written anew, and nothing is left of the stock sidecar's.
    assert_eq!(held(&nodes).await, without_stock(before), "the same copies in the same clusters");
    let kept = sql(&nodes[1], "SELECT * FROM system.sharding_table").await.expect("our own view");
    assert_eq!(kept.len(), 5, "{kept:?}");
    let status = sql(&nodes[2], "SHOW SHARDING STATUS t").await.expect("rows");
    assert_eq!(status.len(), 8, "{status:?}");
    counts(&nodes, 200).await;
    let again = dev.ask(&["import", "--dry-run"]);
    assert_eq!(again.status.code(), Some(3));
    assert!(texts(&common::json(&again), "refusals")[0].contains("nothing to adopt"));

    // Their routes are written anew, since the stock sidecar's leave shards out for seconds after a loss.
    for node in &nodes {
        wait_for("routes of our own", || async {
            let shown =
                sql(node, "SHOW CREATE TABLE t OPTION force=1").await.map_err(|fault| fault.to_string())?;
            let text = format!("{shown:?}");
            if text.contains("ha_strategy=nodeads") { Ok(()) } else { Err(text) }
        })
        .await;
    }
    counts(&nodes, 200).await;

    // They move with the rest: a fourth node comes, and the first one is emptied.
    assert!(dev.change(&["add"]).status.success());
    let all = dev.endpoints();
    assert!(dev.ask(&["node", "drain", all[0].node.as_str()]).status.success());
    wait_for("the moves", || async {
        let (mut old, mut new) = (0, 0);
        // Which of the tables come to the new node is the planner's choice.
        for table in ["t", "o"] {
            let held = Holdings::look(&all, table).await.map_err(|fault| fault.to_string())?;
            let shards = |at: usize| held.0.get(&all[at].node).map_or(0, |held| held.shards.len());
            old += shards(0);
            new += shards(3);
        }
        if old == 0 && new > 0 { Ok(()) } else { Err(format!("{old} there, {new} here")) }
    })
    .await;
    fill_more(&all[3]).await;
    counts(&all, 300).await;
    for table in ["c:t", "c:o"] {
        // Refused while a node is too busy to be looked at: then it says to retry.
        wait_for("the drop", || async {
            match sql(&all[0], &format!("DROP TABLE {table}")).await {
                Ok(_) => Ok(()),
                Err(fault) if fault.to_string().contains("unreachable members") => Err(fault.to_string()),
                Err(fault) => panic!("{fault}"),
            }
        })
        .await;
    }
    dev.stop();
}

/// SIGKILL of the controller at whatever point of it: the next one finishes what was begun, and what was not can be ordered again.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_whole_although_its_controller_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dev, nodes) = stocked(dir.path()).await;
    let expected = without_stock(held(&nodes).await);
    let (first, second) = (dir.path().join("back.sql"), dir.path().join("again.sql"));
    let begun = || async {
        let steps = sql(&nodes[0], "SHOW SHARDING QUEUE").await.unwrap_or_default();
        steps.iter().flatten().flatten().any(|field| field == "import")
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let way_back = first.to_str().expect("a path");
            let asked = scope.spawn(|| dev.ask(&["import", "--way-back", way_back]));
            let here = tokio::runtime::Handle::current();
            let seen = loop {
                let begun = here.block_on(begun());
                if begun || asked.is_finished() {
                    break begun;
                }
            };
            dev.kill_controller();
            let ended = asked.join().expect("it ran").status.code();
            println!("killed while it ran: {seen}; the client ended with {ended:?}");
        });
    });
    wait_for("all to be adopted", || async {
        let ours = sql(&nodes[0], "SHOW SHARDING STATUS").await.map_err(|fault| fault.to_string())?.len();
        if ours == 10 && held(&nodes).await == expected {
            return Ok(());
        }
        // Refused while it is under way.
        let again = dev.ask(&["import", "--way-back", second.to_str().expect("a path")]);
        Err(format!("{ours} copies are ours: {}", String::from_utf8_lossy(&again.stdout)))
    })
    .await;
    println!("ordered again: {}", second.exists());
    counts(&nodes, 200).await;
    dev.stop();
}

async fn fill_more(node: &Endpoint) {
    let values: Vec<String> = (201..=300).map(|id| format!("({id}, 'number {id}', {id})")).collect();
    for table in ["t", "o"] {
        let insert = format!("INSERT INTO {table} (id, title, v) VALUES {}", values.join(","));
        sql(node, &insert).await.expect("written");
    }
}

/// Each thing that stands against it, one after the other; nothing is changed by any of them.
async fn refused_while_something_is_wrong(dev: &Dev, nodes: &[Endpoint]) {
    let refusals = |want: &str| {
        let asked = dev.ask(&["import", "--way-back", "/nowhere/at/all.sql"]);
        assert_eq!(asked.status.code(), Some(3), "{}", common::json(&asked));
        let said = texts(&common::json(&asked), "refusals");
        assert!(said.iter().any(|one| one.contains(want)), "'{want}' is not among {said:?}");
    };
    // It is at work, by a clock that is ahead.
    let sign = |at: u64| {
        format!(
            "REPLACE INTO c:system.sharding_state (id, `key`, value, updated_at) VALUES (77, 'x', '[\"y\"]', {at})"
        )
    };
    sql(&nodes[1], &sign(4_000_000_000)).await.expect("written");
    refusals("the stock sidecar's sharding is at work");
    sql(&nodes[1], &sign(1)).await.expect("written");
    // A copy that nobody names, and a table that is no shard in a shard's cluster.
    sql(&nodes[0], &format!("CREATE TABLE system.t_s1 ({COLUMNS})")).await.expect("created");
    refusals("system.t_s1: node");
    sql(&nodes[0], "DROP TABLE system.t_s1").await.expect("dropped");
    let cluster = stock_name(&[&nodes[0], &nodes[1]]);
    sql(&nodes[0], "CREATE TABLE stranger (v int)").await.expect("created");
    sql(&nodes[0], &format!("ALTER CLUSTER {cluster} ADD stranger")).await.expect("added");
    refusals("it also holds stranger");
    sql(&nodes[0], &format!("ALTER CLUSTER {cluster} DROP stranger")).await.expect("taken out");
    for node in &nodes[..2] {
        wait_for("the table to be plain", || async {
            sql(node, "DROP TABLE IF EXISTS stranger").await.map(drop).map_err(|fault| fault.to_string())
        })
        .await;
    }
    // Copies that differ: only the cluster's prefix writes to both.
    sql(&nodes[2], "DROP TABLE o OPTION force=1").await.expect("dropped");
    refusals("has no routing table of it");
    let route = format!(
        "CREATE TABLE o ({COLUMNS}) type='shard' local='system.o_s1' agent='{}:system.o_s0'",
        nodes[1].node
    );
    sql(&nodes[2], &route).await.expect("created");
}

/// By node: its physical tables, and its clusters with their tables.
type Held = BTreeMap<String, (Vec<String>, BTreeMap<String, Vec<String>>)>;

async fn held(nodes: &[Endpoint]) -> Held {
    let mut all = Held::new();
    for node in nodes {
        let tables = first(sql(node, "SHOW TABLES FROM SYSTEM").await.expect("rows"));
        let rows = sql(node, "SHOW STATUS LIKE 'cluster_%_indexes'").await.expect("rows");
        let clusters = rows.into_iter().map(|row| {
            let name = row[0].clone().unwrap_or_default();
            let mut tables: Vec<String> =
                row[1].clone().unwrap_or_default().split(',').map(str::to_owned).collect();
            tables.sort();
            (name, tables)
        });
        all.insert(node.node.to_string(), (tables, clusters.collect()));
    }
    all
}

fn without_stock(mut held: Held) -> Held {
    for (tables, clusters) in held.values_mut() {
        tables.retain(|table| !table.starts_with("system.sharding_"));
        for tables in clusters.values_mut() {
            tables.retain(|table| !table.starts_with("system.sharding_"));
            if tables.is_empty() {
                tables.push(String::new());
            }
        }
    }
    held
}
