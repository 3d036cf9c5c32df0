//! Every door of the shell over a scripted core: round trips, limits, the sidecar's hand-over, and the ends.

use crate::script::{scripted, try_scripted};
use crate::{NodeError, RunningNode};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_mins(1);

async fn mysql_to(node: &RunningNode, database: Option<&str>) -> Result<Conn, mysql_async::Error> {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(node.addresses().mysql.port())
        .db_name(database.map(str::to_owned))
        .max_allowed_packet(Some(64 << 20))
        .wait_timeout(Some(100))
        .prefer_socket(Some(false));
    Conn::new(options).await
}

async fn mysql(node: &RunningNode) -> Conn {
    mysql_to(node, None).await.expect("connects")
}

async fn http(node: &RunningNode, sql: &str, agent: &str) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().user_agent(agent).build().expect("a client");
    let url = format!("http://{}/sql?mode=raw", node.addresses().http);
    let response = client.post(url).body(sql.to_owned()).send().await.expect("answered");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

fn refusal(error: mysql_async::Error) -> (u16, String, String) {
    match error {
        mysql_async::Error::Server(error) => (error.code, error.state, error.message),
        other => panic!("no answer of the server: {other}"),
    }
}

/// Waits until `ask` says so, or fails the test.
async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_go_round_on_both_doors() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |_| {}).await;
    let mut conn = mysql(&node).await;
    assert_eq!(conn.query::<String, _>("SELECT naïve").await.expect("rows"), ["naïve"]);
    conn.query_drop("DONE 70000").await.expect("done");
    assert_eq!(conn.affected_rows(), 70_000);
    let (code, state, message) = refusal(conn.query_drop("NONSENSE").await.expect_err("refused"));
    assert_eq!(
        (code, state.as_str(), message.as_str()),
        (1064, "42000", "P01: syntax error near 'NONSENSE'")
    );
    conn.ping().await.expect("still there");
    // Above one packet's 16 MiB, and exactly a packet's worth of row behind its own length.
    for bytes in [20_000_000, 0xff_ffff - 4, 250, 251] {
        let wide: Vec<String> = conn.query(format!("WIDE {bytes}")).await.expect("rows");
        assert_eq!(wide[0].len(), bytes);
    }
    let long = format!("SELECT {}", "y".repeat(17_000_000));
    assert_eq!(conn.query::<String, _>(long.as_str()).await.expect("rows")[0].len(), 17_000_000);

    assert_eq!(http(&node, "DONE 3", "x").await, (200, json!([{"total": 3, "error": "", "warning": ""}])));
    let row = json!([{"columns": [{"v": {"type": "string"}}], "data": [{"v": "1"}], "total": 1, "error": "", "warning": ""}]);
    assert_eq!(http(&node, "SELECT 1", "x").await, (200, row));
    assert_eq!(http(&node, "NO", "x").await, (500, json!({"error": "P01: syntax error near 'NO'"})));
    let introduction =
        reqwest::get(format!("http://{}/replication", node.addresses().http)).await.expect("answered");
    let introduction: Value = introduction.json().await.expect("JSON");
    assert_eq!(introduction["replication"], node.addresses().replication.to_string());
    assert_eq!(introduction["node"], node.addresses().node.as_str());
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_is_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |_| {}).await;
    for known in ["Manticore", "manticore"] {
        mysql_to(&node, Some(known)).await.expect("connects");
    }
    let (code, state, message) = refusal(mysql_to(&node, Some("shop")).await.expect_err("refused"));
    assert_eq!((code, state.as_str(), message.as_str()), (1049, "42000", "no such database 'shop'"));
    let prepared = mysql(&node).await.prep("SELECT ?").await.expect_err("refused");
    assert_eq!(refusal(prepared).0, 1047);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_connection_even_while_it_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |_| {}).await;
    let mut watcher = mysql(&node).await;
    let mut waiting = mysql(&node).await;
    let mut idle = mysql(&node).await;
    idle.query_drop("DONE 0").await.expect("done");
    let wait = tokio::spawn(async move { waiting.query_drop("WAIT").await });
    let mut open = async |expected: i64| {
        let waited = tokio::time::timeout(PATIENCE, async {
            while watcher.query_first::<i64, _>("OPEN").await.expect("rows") != Some(expected) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("there are not {expected} sessions"));
    };
    open(3).await;
    wait.abort();
    open(2).await;
    drop(idle);
    open(1).await;
    // An HTTP request is a session of its own.
    assert_eq!(http(&node, "DONE 1", "x").await.0, 200);
    open(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_ticks_while_statements_come() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |_| {}).await;
    let mut conn = mysql(&node).await;
    let mut ticks = 0;
    let waited = tokio::time::timeout(PATIENCE, async {
        while ticks < 3 {
            ticks = conn.query_first::<i64, _>("TICKS").await.expect("rows").expect("a row");
        }
    });
    waited.await.expect("it ticks");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_slow_loses_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |options| {
        options.limits.handshake = Duration::from_millis(100);
        options.limits.transfer = Duration::from_millis(100);
    })
    .await;
    // A greeting without an answer, a statement that never ends.
    let mut silent = TcpStream::connect(node.addresses().mysql).await.expect("connects");
    let mut end = Vec::new();
    tokio::time::timeout(PATIENCE, silent.read_to_end(&mut end)).await.expect("closed").expect("read");
    let mut slow = TcpStream::connect(node.addresses().http).await.expect("connects");
    slow.write_all(b"POST /sql?mode=raw HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nSEL")
        .await
        .expect("sent");
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut answer)).await.expect("answered").expect("read");
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_an_answer_loses_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |options| {
        options.limits.connections = 1;
        options.limits.transfer = Duration::from_secs(1);
    })
    .await;
    // More than the kernel keeps of what is not taken.
    let (statement, address) = ("WIDE 16000000", node.addresses().http);
    let mut greedy = TcpStream::connect(address).await.expect("connects");
    let length = statement.len();
    let asked =
        format!("POST /sql?mode=raw HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{statement}");
    greedy.write_all(asked.as_bytes()).await.expect("sent");
    let mut first = [0; 12];
    greedy.read_exact(&mut first).await.expect("read");
    assert_eq!(&first, b"HTTP/1.1 200");
    until("another is served in its place", || async {
        let Ok(mut other) = TcpStream::connect(address).await else { return false };
        let asked = b"GET /replication HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut answer = Vec::new();
        other.write_all(asked).await.is_ok()
            && other.read_to_end(&mut answer).await.is_ok()
            && answer.starts_with(b"HTTP/1.1 200")
    })
    .await;
    drop(greedy);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_many_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |options| {
        options.limits.statement_bytes = 1000;
        options.limits.connections = 2;
    })
    .await;
    let mut conn = mysql(&node).await;
    let large = format!("SELECT {}", "y".repeat(1000));
    assert_eq!(refusal(conn.query_drop(large.as_str()).await.expect_err("refused")).0, 1153);
    assert_eq!(http(&node, &large, "x").await.0, 413);

    // The first connection was closed with its large statement, too.
    drop(conn);
    until("a place is free", || async { mysql_to(&node, None).await.is_ok() }).await;
    let mut held = Vec::new();
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            match mysql_to(&node, None).await {
                Ok(conn) => held.push(conn),
                Err(error) => return error,
            }
        }
    });
    assert_eq!(refusal(refused.await.expect("there is a limit")).0, 1040);
    assert!(held.len() <= 2, "{} connections", held.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_users_to_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = manticore::Login::parse("root1:password-of-root1").expect("a login");
    let node = scripted(dir.path(), |options| options.administrator = Some(first)).await;
    let session = async |user: &str| {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(node.addresses().mysql.port())
            .user(Some(user))
            .pass(Some(format!("password-of-{user}")))
            .max_allowed_packet(Some(64 << 20))
            .wait_timeout(Some(100))
            .prefer_socket(Some(false));
        Conn::new(options).await.expect("let in")
    };
    let mut root = session("root1").await;
    root.query_drop("CREATE USER 'ann' IDENTIFIED BY 'password-of-ann'").await.expect("made");
    let mut ann = session("ann").await;
    for _ in 0..2 {
        root.query_drop("SHOW USERS").await.expect("shown");
        for sql in ["SHOW USERS", "DELETE FROM t WHERE id = 1", "SELECT * FROM t"] {
            let (code, _, message) = refusal(ann.query_drop(sql).await.expect_err(sql));
            assert_eq!((code, message.as_str()), (1045, "Permission denied for user 'ann'"), "{sql}");
        }
        assert!(ann.reset().await.expect("done") && root.reset().await.expect("done"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_any_port_do_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |_| {}).await;
    let addresses = node.addresses().clone();
    for address in [addresses.mysql, addresses.http, addresses.replication] {
        for bytes in [
            &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"shwpeer1\xff\xff\xff\x7f",
        ] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(bytes).await.expect("sent");
            stream.shutdown().await.expect("half closed");
            let mut end = Vec::new();
            // Closed or reset; never kept.
            let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut end)).await.expect("it ends");
        }
    }
    assert_eq!(http(&node, "DONE 1", "x").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_not_free_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let other = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |_| {}).await;
    let taken = node.addresses().http.to_string();
    let error =
        try_scripted(other.path(), |options| options.http.clone_from(&taken)).await.expect_err("taken");
    assert!(matches!(error, NodeError::PortTaken { .. }) && error.to_string().contains(&taken), "{error}");
    let error = try_scripted(dir.path(), |_| {}).await.expect_err("taken");
    assert!(matches!(error, NodeError::DirTaken { .. }), "{error}");
    let far =
        try_scripted(other.path(), |options| options.mysql = "0.0.0.0:0".into()).await.expect_err("refused");
    assert!(matches!(far, NodeError::NotLoopback { .. }), "{far}");
    let odd =
        try_scripted(other.path(), |options| options.mysql = "nowhere".into()).await.expect_err("refused");
    assert!(matches!(odd, NodeError::BadAddress { .. }), "{odd}");
    let replication = node.addresses().replication;
    node.stop().await.expect("stops");
    let again = scripted(dir.path(), |_| {}).await;
    assert_eq!(again.addresses().replication, replication, "kept from start to start");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_ends_the_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = scripted(dir.path(), |_| {}).await;
    let mut conn = mysql(&node).await;
    let asked = tokio::spawn(async move { conn.query_drop("PANIC").await });
    let error = tokio::time::timeout(PATIENCE, node.failed()).await.expect("noticed");
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(asked.await.expect("no panic").is_err());
}

/// A program that plays the sidecar at `address`, as a shell command.
fn announcing(address: &str) -> Vec<String> {
    vec![
        "sh".into(),
        "-c".into(),
        format!("echo warming up; echo 'Buddy v1 started {address}'; cat >/dev/null"),
    ]
}

/// A listener that keeps what it is sent and answers `answer`, after `turns` empty looks.
async fn sidecar_at(answer: Value) -> (String, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let (seen, requests) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |axum::Json(request): axum::Json<Value>| {
        let (seen, answer) = (seen.clone(), answer.clone());
        async move {
            let _ = seen.send(request);
            axum::Json(answer)
        }
    };
    let routes = axum::Router::new().route("/", axum::routing::post(handler));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_cannot_do_goes_to_the_sidecar_and_back() {
    let rows = json!([{"columns": [{"n": {"type": "long long"}}], "data": [{"n": 5}], "total": 1, "error": "", "warning": ""}]);
    let answer = json!({"version": 3, "type": "sql response", "message": rows.clone(), "error_code": 200, "meta": null});
    let (address, mut requests) = sidecar_at(answer).await;
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |options| options.sidecar = Some(announcing(&address))).await;

    let mut conn = mysql(&node).await;
    assert_eq!(conn.query::<i64, _>("SHOW SHARDING STATUS").await.expect("rows"), [5]);
    assert_eq!(
        requests.recv().await.expect("asked"),
        json!({"type": "unknown sql request", "version": 3, "user": "",
            "error": {"message": "P01: syntax error near 'SHOW SHARDING STATUS'", "body": null},
            "message": {"path_query": "", "http_method": "", "body": "SHOW SHARDING STATUS"}})
    );
    assert_eq!(http(&node, "NO", "x").await, (200, rows));
    let over_http = requests.recv().await.expect("asked");
    assert_eq!(over_http["message"]["path_query"], "/sql?mode=raw");
    assert_eq!(over_http["error"]["body"], json!({"error": "P01: syntax error near 'NO'"}));
    // What works is the engine's, and what a sidecar asks comes back to it.
    assert_eq!(conn.query::<String, _>("SELECT 1").await.expect("rows"), ["1"]);
    assert_eq!(http(&node, "NO", manticore::USER_AGENT).await.0, 500);
    assert!(requests.try_recv().is_err(), "neither was handed over");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecars_refusal_and_its_silence_are_errors() {
    let answer =
        json!({"version": 3, "type": "sql response", "message": {"error": "not so"}, "error_code": 500});
    let (address, _requests) = sidecar_at(answer).await;
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |options| options.sidecar = Some(announcing(&address))).await;
    let mut conn = mysql(&node).await;
    assert_eq!(refusal(conn.query_drop("NO").await.expect_err("refused")).2, "not so");
    assert_eq!(http(&node, "NO", "x").await, (500, json!({"error": "not so"})));

    // Nothing listens where this one says it does: the original error, as searchd does it.
    let other = tempfile::tempdir().expect("a directory");
    let closed =
        TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound").to_string();
    let node = scripted(other.path(), |options| options.sidecar = Some(announcing(&closed))).await;
    assert_eq!(http(&node, "NO", "x").await, (500, json!({"error": "P01: syntax error near 'NO'"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_started_as_searchd_does_restarted_and_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("starts");
    // Dies after its first start; the second keeps running until its stdin ends, and then says so.
    let script = format!(
        "echo \"$@\" >> {log}; echo 'Buddy v1 started 127.0.0.1:9'; \
         [ $(wc -l < {log}) -gt 1 ] || exit 3; cat >/dev/null; echo ended >> {log}",
        log = log.display()
    );
    let command = vec!["sh".into(), "-c".into(), script, "sidecar".into(), "sidecar-flag".into()];
    let node = scripted(&dir.path().join("node"), |options| options.sidecar = Some(command)).await;
    let http = node.addresses().http.to_string();
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until("it is started again", || async { lines().lines().count() >= 2 }).await;
    node.stop().await.expect("stops");
    let lines: Vec<String> = lines().lines().map(str::to_owned).collect();
    let start = format!("sidecar-flag --listen=http://{http} --bind=127.0.0.1 --threads=4 --log-level=info");
    assert_eq!(lines, [start.clone(), start, "ended".to_owned()]);
}

/// A counter of the script, until it is at least `least`.
async fn at_least(conn: &mut Conn, counter: &str, least: i64) -> i64 {
    let mut seen = 0;
    let waited = tokio::time::timeout(PATIENCE, async {
        while seen < least {
            seen = conn.query_first(counter).await.expect("rows").expect("a row");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{counter} is not {least} in time"));
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_hear_everything_in_order_and_a_death_at_once() {
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let node = scripted(dir.path(), |_| {}).await;
    let peer = scripted(other.path(), |_| {}).await;
    let (mut here, mut there) = (mysql(&node).await, mysql(&peer).await);
    let to = peer.addresses().clone();
    for (count, bytes, all) in [(1, 10, 1), (3000, 10, 3001), (40, 1_000_000, 3041)] {
        here.query_drop(format!("SEND {} {count} {bytes}", to.node)).await.expect("sent");
        assert_eq!(at_least(&mut there, "HEARD", all).await, all);
    }
    assert_eq!(there.query_first::<i64, _>("DISORDER").await.expect("rows"), Some(0));
    assert_eq!(here.query_first::<i64, _>("LOST").await.expect("rows"), Some(0));

    // Nobody sends anything: the broken connection alone says it. Then every try says it again.
    drop(peer);
    at_least(&mut here, "LOST", 1).await;
    here.query_drop(format!("SEND {} 1 10", to.node)).await.expect("sent");
    at_least(&mut here, "REFUSED", 1).await;
    assert_eq!(here.query_first::<i64, _>("LOST").await.expect("rows"), Some(1));

    let back = try_until(other.path(), &to.http.to_string()).await;
    let mut there = mysql(&back).await;
    let mut heard = 0;
    let waited = tokio::time::timeout(PATIENCE, async {
        while heard == 0 {
            here.query_drop(format!("SEND {} 1 10", to.node)).await.expect("sent");
            heard = there.query_first("HEARD").await.expect("rows").expect("a row");
        }
    });
    waited.await.expect("found again");
}

/// A node on the port of one that has just died: its threads and sockets take a moment to go.
async fn try_until(dir: &std::path::Path, http: &str) -> RunningNode {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            match try_scripted(dir, |options| http.clone_into(&mut options.http)).await {
                Ok(node) => return node,
                Err(NodeError::DirTaken { .. } | NodeError::PortTaken { .. }) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    waited.await.expect("the dead node's place is free")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_nothing_is_cut_off_and_its_queue_stays_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = scripted(dir.path(), |_| {}).await;
    let replication = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let introducing = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let id = introducing.local_addr().expect("bound").to_string();
    let introduction = json!({"node": id, "uuid": "u", "mysql": "-",
        "replication": replication.local_addr().expect("bound").to_string()});
    let get = axum::routing::get(move || async move { axum::Json(introduction) });
    let routes = axum::Router::new().route("/replication", get);
    tokio::spawn(async move { axum::serve(introducing, routes).await });

    let mut here = mysql(&node).await;
    // Connections are accepted by the system and never read: what does not fit its buffers stays in the queue.
    for _ in 0..4 {
        here.query_drop(format!("SEND {id} 100 500000")).await.expect("sent");
    }
    at_least(&mut here, "LOST", 1).await;
    node.stop().await.expect("stops");
    drop(replication);
}
