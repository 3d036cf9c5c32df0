//! Backups through the binary: a table of every type under writes, copied out, its cluster destroyed, and brought back
//! in another with another number of nodes; with the controller killed on the way out and on the way back.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]

mod common;

use cli::documents::{DocumentFile, Source};
use cli::load::{Endpoint, Loader};
use common::{Dev, json, processes_of, signal, sql, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

type Rows = Vec<Vec<Option<String>>>;

const COLUMNS: &str = "title text, tag string, small int, large bigint, price float, ok bool, \
                       made timestamp, props json, few multi, many multi64";

/// Documents of every type, with the values that are easily bent.
async fn fill_typed(node: &Endpoint, documents: u32) {
    let create = format!("CREATE TABLE c:typed ({COLUMNS}) shards='3' rf='2' timeout='120'");
    sql(node, &create).await.expect("created");
    let insert = "INSERT INTO typed (id,title,tag,small,large,price,ok,made,props,few,many) VALUES";
    for row in [
        "(1,'','',0,0,0,0,0,'{}',(),())",
        "(2,'it\\'s \\\\ a\\nline\\tand \"more\"','ünïcödé 日本語',4294967295,-9223372036854775808,0.1,1,1700000000,\
          '{\"b\":[1,2.5,null,\"x\\'y\"],\"a\":{\"n\":9007199254740993}}',(3,1,2),(-1,9223372036854775807))",
        "(3,'x','y',1,9223372036854775807,-12345.678,0,4294967295,'[1,2]',(0),(0))",
        // No '' as JSON: a real searchd shows memory of another's in its place, which is no text.
        "(9223372036854775807,'the largest with a sign','',1,1,1e30,1,1,'{}',(1),(1))",
        "(18446744073709551615,'one more than that','',1,1,0.000001,1,1,'{\"s\":\"\"}',(1),(1))",
    ] {
        sql(node, &format!("{insert} {row}")).await.expect("written");
    }
    for from in (100..100 + documents).step_by(200) {
        let values: Vec<String> = (from..(from + 200).min(100 + documents))
            .map(|id| {
                format!(
                    "({id},'document {id}','t{}',{id},{id},{id}.5,1,{id},'{{\"n\":{id}}}',({id},7),({id}))",
                    id % 7
                )
            })
            .collect();
        sql(node, &format!("{insert} {}", values.join(","))).await.expect("written");
    }
}

/// Everything with an id below 2^40, as one node shows it over MySQL: nothing of what the backup itself reads.
async fn all_rows(node: &Endpoint, table: &str, below: u64) -> Rows {
    let mut all: Rows = Vec::new();
    let mut behind = 0_i64;
    loop {
        let select =
            format!("SELECT * FROM {table} WHERE id>{behind} AND id<{below} ORDER BY id ASC LIMIT 500");
        let rows = sql(node, &select).await.expect("read");
        let Some(last) = rows.last().and_then(|row| row[0].clone()) else { break };
        behind = last.parse().expect("an id comes first");
        all.extend(rows);
    }
    all
}

fn kill_controller(dir: &Path) {
    let controller = wait("a controller", || {
        let found = processes_of(dir);
        let line = found.iter().find(|line| line.contains(" serve ")).cloned();
        line.ok_or_else(|| format!("{found:?}"))
    });
    let pid = controller.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a process id");
    signal(pid, "KILL");
}

/// Writers on every node that never pause, until they are stopped: new documents, and others again and again.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(nodes: &[Endpoint]) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = nodes.iter().enumerate().map(|(number, node)| {
            let (node, stop, written) = (node.clone(), stop.clone(), written.clone());
            tokio::spawn(async move {
                let mut id = (1_u64 << 40) + ((number as u64) << 32);
                while !stop.load(Ordering::Relaxed) {
                    id += 1;
                    let again = id - id % 8;
                    let write = format!(
                        // Every column that has no fixed width: a real searchd that must make up the second row's crashes.
                        "REPLACE INTO typed (id,title,tag,large,props,few,many) VALUES ({id},'w','',{id},'{{}}',(),()),({again},'again','',{id},'{{}}',(),())"
                    );
                    if sql(&node, &write).await.is_ok() {
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, written, tasks }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer ends");
        }
        self.written.load(Ordering::Relaxed)
    }
}

/// One file of documents of the backup under `dir`.
fn a_part(dir: &Path) -> PathBuf {
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).expect("listed").flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "gz") {
                return path;
            }
        }
    }
    panic!("no documents under {}", dir.display());
}

fn state_of(dev: &Dev, id: &str) -> Option<Value> {
    let shown = dev.ask(&["backup", "show", id]);
    shown.status.success().then(|| json(&shown))
}

fn wait_complete(dev: &Dev, id: &str) -> Value {
    wait("a complete backup", || {
        let shown = state_of(dev, id).ok_or("the controller does not answer")?;
        match shown["state"].as_str() {
            Some("complete") => Ok(shown),
            Some("failed") => panic!("it failed: {shown}"),
            _ => Err(shown.to_string()),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_comes_back_in_another_cluster_from_a_backup_made_under_writes() {
    let home = tempfile::tempdir().expect("a directory");
    let place = home.path().join("backups");
    let to = place.display().to_string();
    let dev = Dev::start(&home.path().join("one"), 3);
    let nodes = dev.endpoints();
    fill_typed(&nodes[0], 3_000).await;
    let real = common::real_documents();
    if let Some(path) = &real {
        load_real(path, &nodes).await;
    }
    let writers = Writers::start(&nodes);

    // Slow enough that the controller dies in the middle of it.
    let begun = json(&dev.ask(&[
        "backup",
        "create",
        "c:typed",
        "--with-data",
        &to,
        "--no-wait",
        "--mib-per-second",
        "1",
    ]));
    assert_eq!(begun["success"], true, "{begun}");
    assert_eq!(begun["backup_data"]["placement"].as_array().map(Vec::len), Some(3), "{begun}");
    let id = begun["backup_id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("backup:typed:"), "{id}");
    kill_controller(&dev.dir);
    let made = wait_complete(&dev, &id);
    let written = writers.stop().await;
    println!("{written} writes meanwhile; {} documents in {} bytes", made["rows"], made["bytes"]);
    assert!(written > 0, "they went on: {written}");
    let verified = json(&dev.ask(&["backup", "verify", &id]));
    assert_eq!((&verified["ok"], &verified["rows"]), (&Value::Bool(true), &made["rows"]), "{verified}");
    let mut large = None;
    if real.is_some() {
        let made = json(&dev.ask(&["backup", "create", "packages", "--with-data", &to, "--checksums"]));
        assert_eq!(made["state"], "complete", "{made}");
        assert!(made["backup_data"]["placement"][0]["checksum"].is_string(), "{made}");
        large = made["backup_id"].as_str().map(str::to_owned);
    }
    let before = all_rows(&nodes[0], "typed", 1 << 40).await;
    assert_eq!(before.len(), 3_003);
    let huge = "SELECT * FROM typed WHERE id=9223372036854775807";
    let largest = sql(&nodes[0], huge).await.expect("read");
    let count = "SELECT COUNT(*) FROM packages";
    let counted = if real.is_some() { sql(&nodes[0], count).await.expect("counted") } else { Rows::new() };
    dev.stop();
    std::fs::remove_dir_all(home.path().join("one")).expect("the cluster is gone for good");

    let other = Dev::start(&home.path().join("two"), 4);
    let nodes = other.endpoints();
    let unknown = other.ask(&["backup", "restore", &id]);
    assert_eq!(unknown.status.code(), Some(3));
    assert_eq!(json(&unknown), serde_json::json!({"success": false, "error": "Backup not found"}));
    let begun =
        json(&other.ask(&["backup", "restore", &id, "--from", &to, "--no-wait", "--mib-per-second", "1"]));
    assert_eq!((&begun["success"], begun["table"].as_str()), (&Value::Bool(true), Some("typed")), "{begun}");
    assert_eq!(begun["restored_schema"]["columns"].as_array().map(Vec::len), Some(10), "{begun}");
    kill_controller(&other.dir);
    let operation = begun["operation"].to_string();
    let url = format!("/api/v1/restores/{operation}");
    wait("the restore", || {
        let shown = other.ask(&["table", "list"]);
        if !shown.status.success() {
            return Err("the controller does not answer".to_owned());
        }
        let status = json(&other.ask(&["status"]));
        if status["rebalancing"]["running_operations"] == 0 {
            Ok(())
        } else {
            Err(format!("{url}: {status}"))
        }
    });
    let live = json(&other.ask(&["backup", "verify", &id, "--from", &to, "--live"]));
    assert_eq!(live["ok"], true, "document by document: {live}");
    for node in &nodes {
        assert_eq!(all_rows(node, "typed", 1 << 40).await, before, "as {} shows it", node.node);
        assert_eq!(sql(node, huge).await.expect("read"), largest);
    }
    if let Some(large) = large {
        let restored = json(&other.ask(&["backup", "restore", &large, "--from", &to]));
        assert_eq!(
            (&restored["success"], &restored["end"]["differing"]),
            (&Value::Bool(true), &0.into()),
            "{restored}"
        );
        assert_eq!(sql(&nodes[1], count).await.expect("counted"), counted);
        let live = json(&other.ask(&["backup", "verify", &large, "--from", &to, "--live"]));
        assert_eq!(live["ok"], true, "{live}");
    }
    damage_is_found(&other, &place, &id, &to);
    other.stop();
}

async fn load_real(path: &Path, nodes: &[Endpoint]) {
    let path = path.to_owned();
    let file = tokio::task::spawn_blocking(move || DocumentFile::inspect(&path)).await.expect("it runs");
    let source = Source::File(file.expect("readable"));
    let create =
        format!("CREATE TABLE c:packages ({}) shards='6' rf='2' timeout='120'", source.shape().declaration());
    sql(&nodes[0], &create).await.expect("created");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let loader = Loader { source: &source, table: "packages", endpoints: nodes, acknowledged };
    assert!(loader.run().await.expect("loaded").documents > 60_000);
}

/// One bit of one file.
fn damage_is_found(dev: &Dev, place: &Path, id: &str, to: &str) {
    let part = a_part(&place.join("typed"));
    let mut bytes = std::fs::read(&part).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, &bytes).expect("written");
    let verified = dev.ask(&["backup", "verify", id, "--from", to]);
    assert_eq!(verified.status.code(), Some(1));
    let verified = json(&verified);
    assert_eq!(verified["ok"], false);
    let name = part.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(verified["damaged"][0].as_str().is_some_and(|text| text.contains(name)), "{verified}");
    std::fs::remove_file(&part).expect("removed");
    let verified = json(&dev.ask(&["backup", "verify", id, "--from", to]));
    assert!(verified["damaged"].to_string().contains("is missing"), "{verified}");
}

/// A table that lost documents, and has others changed and added, is filled: nothing of what came later is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_is_filled_and_nothing_newer_is_lost() {
    let home = tempfile::tempdir().expect("a directory");
    let to = home.path().join("backups").display().to_string();
    let dev = Dev::start(&home.path().join("one"), 3);
    let nodes = dev.endpoints();
    fill_typed(&nodes[0], 400).await;
    let made = json(&dev.ask(&["backup", "create", "typed", "--with-data", &to]));
    assert_eq!(made["state"], "complete", "{made}");
    let id = made["backup_id"].as_str().expect("an id").to_owned();
    let before = all_rows(&nodes[1], "typed", 1 << 40).await;

    sql(&nodes[0], "DELETE FROM typed WHERE id>=100 AND id<200").await.expect("deleted");
    sql(&nodes[0], "REPLACE INTO typed (id,title,props) VALUES (300,'newer','{}')").await.expect("changed");
    sql(&nodes[0], "INSERT INTO typed (id,title,props) VALUES (7000,'added','{}')").await.expect("added");
    let live = json(&dev.ask(&["backup", "verify", &id, "--live"]));
    assert_eq!(live["ok"], false);
    assert!(live["damaged"].as_array().is_some_and(Vec::is_empty), "the backup itself is whole: {live}");

    let restored = json(&dev.ask(&["backup", "restore", &id]));
    let inserted = |restored: &Value, what: &str| -> u64 {
        let shards = restored["end"]["shards"].as_array().expect("shards");
        shards.iter().filter_map(|shard| shard[what].as_u64()).sum()
    };
    assert_eq!((inserted(&restored, "inserted"), inserted(&restored, "replaced")), (100, 0), "{restored}");
    let said = restored["end"].to_string();
    assert!(said.contains("1 documents have another content") && said.contains("not recorded"), "{said}");
    let title = |id: u64| format!("SELECT title FROM typed WHERE id={id}");
    assert_eq!(sql(&nodes[2], &title(300)).await.expect("read"), [[Some("newer".to_owned())]]);

    let restored = json(&dev.ask(&["backup", "restore", &id, "--overwrite"]));
    assert_eq!((inserted(&restored, "inserted"), inserted(&restored, "replaced")), (0, 1), "{restored}");
    assert_eq!(sql(&nodes[2], &title(7000)).await.expect("read"), [[Some("added".to_owned())]]);
    sql(&nodes[0], "DELETE FROM typed WHERE id=7000").await.expect("deleted");
    common::wait_for("the deletion on every copy", || async {
        let now = all_rows(&nodes[1], "typed", 1 << 40).await;
        if now == before { Ok(()) } else { Err(format!("{} documents", now.len())) }
    })
    .await;

    // Lost as a whole, with the controller's own list at hand: no --from.
    sql(&nodes[0], "DROP TABLE c:typed").await.expect("dropped");
    let restored = json(&dev.ask(&["backup", "restore", &id]));
    assert_eq!(restored["end"]["differing"], 0, "{restored}");
    assert_eq!(all_rows(&nodes[2], "typed", 1 << 40).await, before);
    let placed = json(&dev.ask(&["table", "show", "typed"]));
    let of = |list: &Value, shard: usize, nodes: &str, id: &str| -> Vec<String> {
        let nodes = list[shard][nodes].as_array().expect("nodes");
        let name = |node: &Value| if id.is_empty() { node.clone() } else { node[id].clone() };
        nodes.iter().map(|node| name(node).as_str().expect("a name").to_owned()).collect()
    };
    for shard in 0..3 {
        let now = of(&placed["placement"], shard, "nodes", "id");
        assert_eq!(
            now,
            of(&made["backup_data"]["placement"], shard, "nodes", ""),
            "shard {shard} is where it was"
        );
    }
    dev.stop();
}

/// An S3 server with one bucket, that of a store of files under `root`.
async fn s3_server(root: &Path) -> String {
    std::fs::create_dir_all(root.join("bucket")).expect("a bucket");
    let files = s3s_fs::FileSystem::new(root).expect("a store");
    let mut builder = s3s::service::S3ServiceBuilder::new(files);
    builder.set_auth(s3s::auth::SimpleAuth::from_single("the-key", "the-secret"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let executor = hyper_util::rt::TokioExecutor::new();
                let server = hyper_util::server::conn::auto::Builder::new(executor);
                let socket = hyper_util::rt::TokioIo::new(socket);
                // A client that goes away is none of the test's business.
                let _gone = server.serve_connection(socket, service).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_keeps_a_backup_as_a_directory_does() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().expect("a directory");
    let endpoint = s3_server(&home.path().join("s3")).await;
    let dir = home.path().join("one");
    let credentials = dir.join("controller/s3.conf");
    std::fs::create_dir_all(dir.join("controller")).expect("a directory");
    let text = format!(
        "aws_access_key_id = the-key\naws_secret_access_key = the-secret\naws_region = here\n\
         aws_endpoint = {endpoint}\naws_allow_http = true\n"
    );
    std::fs::write(&credentials, text).expect("written");
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).expect("private");
    let dev = Dev::start(&dir, 3);
    let nodes = dev.endpoints();
    fill_typed(&nodes[0], 1_000).await;
    let before = all_rows(&nodes[0], "typed", 1 << 40).await;
    let made = json(&dev.ask(&["backup", "create", "typed", "--with-data", "s3://bucket/nightly"]));
    assert_eq!(made["state"], "complete", "{made}");
    let id = made["backup_id"].as_str().expect("an id").to_owned();
    // As on another controller than the one that made it: the record is not there, but beside the documents.
    let records = dir.join("controller/backups");
    assert!(records.read_dir().expect("records").count() > 0);
    std::fs::remove_dir_all(&records).expect("removed");
    let shown = json(&dev.ask(&["backup", "show", &id]));
    assert_eq!(shown["backup_data"]["rf"], made["backup_data"]["rf"], "{shown}");
    sql(&nodes[0], "DROP TABLE c:typed").await.expect("dropped");
    let restored = json(&dev.ask(&["backup", "restore", &id]));
    assert_eq!(restored["end"]["differing"], 0, "{restored}");
    assert_eq!(all_rows(&nodes[1], "typed", 1 << 40).await, before);
    let part = a_part(&home.path().join("s3/bucket/nightly"));
    let mut bytes = std::fs::read(&part).expect("read");
    bytes[20] ^= 1;
    std::fs::write(&part, &bytes).expect("written");
    let verified = json(&dev.ask(&["backup", "verify", &id]));
    assert!(verified["damaged"].to_string().contains("checksum"), "{verified}");
    let logs = common::logs(&dir);
    assert!(!logs.contains("the-secret"), "a secret is in the logs");
    dev.stop();
}

/// A plan's moves are preceded by a record of every table that they touch.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_recorded_before_it_is_rebalanced() {
    let home = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(&home.path().join("one"), 3);
    fill_typed(&dev.endpoints()[0], 200).await;
    assert!(dev.change(&["add"]).status.success());
    let listed = wait("a record", || {
        let listed = json(&dev.ask(&["backup", "list"]));
        match listed["backups"].as_array().and_then(|all| all.first()) {
            Some(one) => Ok(one.clone()),
            None => Err(listed.to_string()),
        }
    });
    assert_eq!((&listed["cause"], &listed["table"]), (&"rebalance".into(), &"typed".into()), "{listed}");
    assert_eq!((&listed["state"], &listed["rows"]), (&"complete".into(), &205.into()), "{listed}");
    let id = listed["backup_id"].as_str().expect("an id");
    let shown = json(&dev.ask(&["backup", "show", id]));
    assert!(shown["backup_data"]["placement"][2]["content"]["id_sum"].is_i64(), "{shown}");
    let record = PathBuf::from(listed["backup_path"].as_str().expect("a path"));
    assert!(record.starts_with(&dev.dir) && record.exists(), "{}", record.display());
    dev.stop();
}
