//! Whole nodes over the real engine: data that outlives kill -9, a group across nodes with its routes, and what
//! sidecars and controllers ask of a node.

use manticore::statement::ShardTable;
use manticore::{Client, RenderContext, Reply, Session, Statement, USER_AGENT};
use model::{Action, ClusterState, Content, GroupId, NodeId, Outcome, Route, RouteSpec, TableName};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use node::{NodeOptions, RunningNode};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);
const CALL: Duration = Duration::from_mins(1);

async fn node_in(dir: &Path) -> RunningNode {
    node::start(NodeOptions::new(dir, "127.0.0.1:0", "127.0.0.1:0")).await.expect("starts")
}

async fn connect(port: u16) -> Conn {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(100))
        .prefer_socket(Some(false));
    Conn::new(options).await.expect("connects")
}

async fn mysql(node: &RunningNode) -> Conn {
    connect(node.addresses().mysql.port()).await
}

fn client() -> Client {
    Client::new(USER_AGENT, manticore::Logins::default(), manticore::Way::plain()).expect("a client")
}

/// Waits until `ask` says so, or fails the test.
async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Sends the statements of an action one by one; each must be done.
async fn act(node: &NodeId, action: &Action) {
    let context = RenderContext { own: node.clone(), galera_listen: None, only_member: false };
    for statement in manticore::render(action, &context).expect("renders") {
        let answer = client().execute(node, &statement, CALL).await;
        let outcome = manticore::outcome(&statement, &answer);
        assert!(matches!(outcome, Outcome::Done { .. }), "{statement}: {outcome:?}");
    }
}

/// No test by itself: the process that `kill_minus_9_keeps_every_acknowledged_write` kills.
#[test]
fn child_process() {
    let Some(dir) = std::env::var_os("NODE_TEST_CHILD_DIR") else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut options = NodeOptions::new(Path::new(&dir), "127.0.0.1:0", "127.0.0.1:0");
        options.sidecar =
            std::env::var("NODE_TEST_SIDECAR").ok().map(|script| vec!["sh".into(), "-c".into(), script]);
        let node = node::start(options).await.expect("starts");
        println!("\nNODE {}", node.addresses().mysql.port());
        std::future::pending::<()>().await;
    });
}

struct Process {
    child: Child,
    mysql: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn process(dir: &Path, sidecar: Option<&str>) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "child_process", "--nocapture", "--test-threads=1"]);
    command.env("NODE_TEST_CHILD_DIR", dir).stdout(Stdio::piped());
    command.envs(sidecar.map(|script| ("NODE_TEST_SIDECAR", script)));
    let mut child = command.spawn().expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let said = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("NODE ")?.parse().ok());
    Process { child, mysql: said.expect("the child's port") }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_9_keeps_every_acknowledged_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged: i64 = 0;
    for round in 0..3 {
        let process = process(dir.path(), None);
        let mut conn = connect(process.mysql).await;
        if round == 0 {
            conn.query_drop("CREATE TABLE docs (title text, v int)").await.expect("created");
        }
        let kept: i64 = conn.query_first("SELECT COUNT(*) FROM docs").await.expect("rows").expect("a row");
        assert!(kept >= acknowledged, "{kept} of {acknowledged} acknowledged");
        acknowledged = kept;
        for _ in 0..30 {
            let id = acknowledged + 1;
            let insert = format!("INSERT INTO docs (id,title,v) VALUES ({id},'t{id}',{id})");
            conn.query_drop(insert).await.expect("done");
            acknowledged = id;
        }
        // One more is under way when the process dies.
        let id = acknowledged + 1;
        let insert = format!("INSERT INTO docs (id,title,v) VALUES ({id},'t',0)");
        let last = tokio::spawn(async move { conn.query_drop(insert).await.is_ok() });
        drop(process);
        acknowledged += i64::from(last.await.expect("no panic"));
    }
    let process = process(dir.path(), None);
    let mut conn = connect(process.mysql).await;
    let (rows, sum): (i64, i64) =
        conn.query_first("SELECT COUNT(*), SUM(id) FROM docs").await.expect("rows").expect("a row");
    assert!(rows >= acknowledged && sum == rows * (rows + 1) / 2, "{rows} rows, {acknowledged} acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_does_not_outlive_a_killed_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let ended = dir.path().join("ended");
    let script = format!("echo 'Buddy v1 started 127.0.0.1:9'; cat >/dev/null; touch {}", ended.display());
    let process = process(&dir.path().join("node"), Some(&script));
    assert!(!ended.exists());
    drop(process);
    until("the sidecar has seen its stdin end", || async { ended.exists() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_when_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let options = NodeOptions::new(dir.path(), "127.0.0.1:0", "127.0.0.1:0");
    let run = tokio::spawn(node::run(options, async move {
        let _ = told.await;
    }));
    tell.send(()).expect("it runs");
    let ended = tokio::time::timeout(PATIENCE, run).await.expect("it ends");
    ended.expect("no panic").expect("cleanly");
    node_in(dir.path()).await.stop().await.expect("the directory is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_comes_back_with_its_tables() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_in(dir.path()).await;
    let mut conn = mysql(&node).await;
    conn.query_drop("CREATE TABLE docs (title text, price float)").await.expect("created");
    conn.query_drop("INSERT INTO docs (id,title,price) VALUES (1,'quick brown fox',1.1)")
        .await
        .expect("done");
    node.stop().await.expect("stops");
    let node = node_in(dir.path()).await;
    let rows: Vec<(i64, String, String)> =
        mysql(&node).await.query("SELECT * FROM docs WHERE MATCH('fox')").await.expect("rows");
    assert_eq!(rows, [(1, "quick brown fox".to_owned(), "1.1".to_owned())]);
    node.stop().await.expect("stops");
}

fn schema() -> model::Schema {
    let column = |name: &str, kind: &str| model::ColumnSpec { name: name.into(), kind: kind.into() };
    model::Schema { columns: vec![column("title", "text"), column("v", "int")], options: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_replicates_across_nodes_and_routes_reach_it() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let mut nodes = Vec::new();
    for dir in &dirs {
        nodes.push(node_in(dir.path()).await);
    }
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.addresses().node.clone()).collect();
    let group = GroupId::new("abcdef0123456789abcdef0123456789").expect("valid");
    let table = TableName::new("docs").expect("valid");
    let shard = table.shard_table(0);
    for dir in &dirs {
        std::fs::create_dir_all(node::data_dir(dir.path()).join(group.as_str())).expect("made");
    }
    act(&ids[0], &Action::CreateTables { tables: vec![shard.clone()], schema: schema() }).await;
    act(&ids[0], &Action::CreateCluster { group: group.clone() }).await;
    act(&ids[0], &Action::AddTables { group: group.clone(), tables: vec![shard.clone()] }).await;
    act(&ids[1], &Action::JoinCluster { group: group.clone(), at: ids[0].clone() }).await;
    // Read back, the copies of a shard come in the order of their names.
    let mut copies = ids[..2].to_vec();
    copies.sort();
    let shards = vec![copies];
    let route = Route { table, shards, own_as_local: false };
    let spec = RouteSpec { route: route.clone(), schema: schema() };
    for id in &ids {
        act(id, &Action::SetRoutes { routes: vec![spec.clone()] }).await;
    }

    let mut conn = mysql(&nodes[2]).await;
    for id in 1..=50 {
        let insert = format!("INSERT INTO docs (id,title,v) VALUES ({id},'t{id}',{id})");
        conn.query_drop(insert).await.expect("done");
    }
    let whole = Content { rows: 50, id_sum: 1275, id_min: 1, id_max: 50 };
    for id in &ids[..2] {
        until("the copy has all rows", || async {
            // A row that is applied between the two looks of a measurement makes it an error.
            let measured = client().measure(id, std::slice::from_ref(&shard), true, CALL).await;
            measured.is_ok_and(|measured| measured.contents[&shard] == whole)
        })
        .await;
        let status = client().tables(id, CALL).await.expect("answered");
        let cluster = &status.clusters[&group];
        assert!(cluster.is_synced() && cluster.size == 2 && cluster.tables.contains(&shard), "{cluster:?}");
        assert_eq!(cluster.nodes_view.len(), 2);
        let tables = status.tables.expect("asked for");
        assert_eq!(
            (tables.routes.get("docs").map(AsRef::as_ref), tables.shards.len(), tables.plain.len()),
            (Some(&route), 1, 0)
        );
    }

    // One member dies: the other notices, and after a bootstrap takes writes again.
    drop(nodes.remove(1));
    let survivor_is = |state: ClusterState| {
        let (id, group) = (ids[0].clone(), group.clone());
        async move { client().status(&id, CALL).await.expect("answered").clusters[&group].status == state }
    };
    until("the survivor notices", || survivor_is(ClusterState::NonPrimary)).await;
    act(&ids[0], &Action::Bootstrap { group: group.clone() }).await;
    until("the survivor is primary", || survivor_is(ClusterState::Primary)).await;
    conn.query_drop("INSERT INTO docs (id,title,v) VALUES (51,'t51',51)").await.expect("done");
    for node in nodes {
        node.stop().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_dropped_under_its_lock_only_while_nothing_strays_into_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node_in(dir.path()).await;
    let id = node.addresses().node.clone();
    let name = "system.docs_s0".to_owned();
    let shard = ShardTable::new(&name).expect("valid");
    let mut conn = mysql(&node).await;
    conn.query_drop("CREATE TABLE system.docs_s0 (title text)").await.expect("created");
    conn.query_drop("INSERT INTO system.docs_s0 (id,title) VALUES (1,'a'),(2,'b')").await.expect("done");
    let left_with = Content { rows: 2, id_sum: 3, id_min: 1, id_max: 2 };
    let mysql_address = node.addresses().mysql.to_string();
    let mut session = Session::connect(&mysql_address, None, None, CALL).await.expect("connects");

    let stray = "INSERT INTO system.docs_s0 (id,title) VALUES (3,'stray')";
    let locked = session.while_locked(vec![shard], async { conn.query_drop(stray).await }).await;
    let refused = locked.expect("locked").expect_err("refused");
    assert!(refused.to_string().contains("locked"), "{refused}");
    conn.query_drop(stray).await.expect("released");
    let copies = BTreeMap::from([(name, left_with)]);
    let outcome = session.drop_copies(&copies).await;
    assert!(
        matches!(&outcome, Outcome::Refused { message } if message.contains("written to")),
        "{outcome:?}"
    );
    conn.query_drop("DELETE FROM system.docs_s0 WHERE id=3").await.expect("released again");

    let outcome = session.drop_copies(&copies).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    let tables = client().tables(&id, CALL).await.expect("answered").tables.expect("asked for");
    assert!(tables.shards.is_empty(), "{tables:?}");
    let outcome = session.drop_copies(&copies).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "a second time: {outcome:?}");
    session.close().await;
    let shown = client().execute(&id, &Statement::ShowTables, CALL).await.expect("answered");
    assert!(matches!(shown, Reply::Rows(rows) if rows.rows.is_empty()));
}
