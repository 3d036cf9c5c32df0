use super::script::{CUT_OFF, Server, Stage, cluster, error, hand_over, ok, rows, until};
use crate::sidecar::Sidecar;
use crate::sidecar::upstream::Upstream;
use manticore::Reply;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const ABSENT: &str = "table 't' absent";
const INSERT: &str = "INSERT INTO t (id, v) VALUES (1, 2)";

async fn upstream_is_up(sidecar: &Sidecar) {
    until("the upstream sidecar is up", || sidecar.upstream.as_ref().is_some_and(Upstream::is_up)).await;
}

/// Hands over a statement whose answer does not matter.
async fn send(address: std::net::SocketAddr, sql: &str, error: &str) {
    let request = manticore::handover::Request::sql(sql.to_owned(), error.to_owned(), None);
    reqwest::Client::new().post(format!("http://{address}")).json(&request).send().await.expect("answers");
}

fn text(response: &manticore::handover::Response) -> String {
    match response.reply().expect("a reply") {
        Reply::Error { message } => message,
        other => panic!("no error: {other:?}"),
    }
}

#[tokio::test]
async fn a_statement_of_the_routing_gap_is_held_until_the_route_is_back() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let node = Server::start(move |_, _| {
        if counted.fetch_add(1, Ordering::SeqCst) < 3 {
            error(ABSENT)
        } else {
            (200, json!([{ "total": 1, "error": "", "warning": "" }]))
        }
    })
    .await;
    let mut stage = Stage::new(&node, None).await;
    stage.knows(&["t"], 10);
    let (address, _trigger) = stage.run();
    let answer = hand_over(address, INSERT, ABSENT).await;
    assert_eq!(answer.reply().expect("a reply"), Reply::Done { affected: 1, warning: String::new() });
    assert_eq!(node.asked(), vec![INSERT; 4]);
    let read =
        hand_over(address, "SELECT COUNT(*) FROM t", "unknown local table(s) 't' in search request").await;
    assert!(matches!(read.reply(), Ok(Reply::Done { .. })));
}

/// A read can be run once more, a write may be applied.
#[tokio::test]
async fn a_held_read_outlives_a_connection_that_breaks_and_a_write_does_not() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let node = Server::start(move |_, _| match counted.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => (CUT_OFF, json!(null)),
        _ => ok(),
    })
    .await;
    let mut stage = Stage::new(&node, None).await;
    stage.knows(&["t"], 60);
    let (address, _trigger) = stage.run();
    let gap = "unknown local table(s) 't' in search request";
    let read = hand_over(address, "SELECT COUNT(*) FROM t", gap).await;
    assert!(matches!(read.reply(), Ok(Reply::Done { .. })), "{read:?}");
    assert_eq!(tries.swap(0, Ordering::SeqCst), 3);
    let message = text(&hand_over(address, INSERT, ABSENT).await);
    assert!(message.contains("look before repeating it"), "{message}");
    assert_eq!(tries.load(Ordering::SeqCst), 1, "it was repeated");
}

#[tokio::test]
async fn news_of_a_route_wake_what_is_held() {
    let node = Server::start(|_, _| error(ABSENT)).await;
    let mut stage = Stage::new(&node, None).await;
    stage.knows(&["t"], 10);
    let sidecar = Arc::clone(&stage.sidecar);
    let (address, _trigger) = stage.run();
    let held = tokio::spawn(async move { hand_over(address, INSERT, ABSENT).await });
    until("it is run again", || node.asked().len() > 2).await;
    let written = sidecar.routes_age();
    sidecar.routes_written();
    assert!(sidecar.routes_age() < written);
    held.abort();
}

#[tokio::test]
async fn what_may_not_be_run_again_gets_its_error_and_goes_nowhere() {
    let node = Server::start(|_, _| ok()).await;
    let stock = Server::start(|_, _| ok()).await;
    let mut stage = Stage::before(&stock, &node).await;
    stage.knows(&["t"], 10);
    let sidecar = Arc::clone(&stage.sidecar);
    let (address, _trigger) = stage.run();
    upstream_is_up(&sidecar).await;
    for (sql, message) in [
        ("INSERT INTO t (id) VALUES (1); COMMIT", ABSENT),
        ("ALTER TABLE t ADD COLUMN z int", "ALTER is only supported for local (not distributed) tables"),
        ("CALL SNIPPETS('x', 't', 'y')", "no such table"),
        ("LOCK TABLES t READ", "no such table"),
        ("INSERT INTO t (nope) VALUES (1)", "unknown column: 'nope'"),
    ] {
        assert_eq!(text(&hand_over(address, sql, message).await), message, "{sql}");
    }
    assert_eq!(node.asked(), Vec::<String>::new());
    assert_eq!(stock.asked(), Vec::<String>::new());
    // What is not ours goes on unchanged, and so does its answer.
    let request = manticore::handover::Request::sql("SHOW PLUGINS".into(), "P01: syntax error".into(), None);
    let answer = reqwest::Client::new().post(format!("http://{address}")).json(&request).send().await;
    let answer: serde_json::Value = answer.expect("answers").json().await.expect("JSON");
    assert_eq!(answer, ok().1);
    assert_eq!(stock.asked(), vec![serde_json::to_string(&request).expect("JSON")]);
}

#[tokio::test]
async fn a_statement_is_held_no_longer_than_allowed() {
    let node = Server::start(|_, _| error(ABSENT)).await;
    let mut stage = Stage::new(&node, None).await;
    stage.knows(&["t"], 0);
    let (address, _trigger) = stage.run();
    assert_eq!(text(&hand_over(address, INSERT, ABSENT).await), ABSENT);
    assert_eq!(node.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn past_the_bounds_the_error_goes_back_at_once() {
    let node = Server::start(|_, _| ok()).await;
    let mut stage = Stage::new(&node, None).await;
    stage.knows(&["t"], 10);
    let sidecar = Arc::clone(&stage.sidecar);
    let (address, _trigger) = stage.run();
    let taken = sidecar.hold.take_all();
    assert_eq!(text(&hand_over(address, INSERT, ABSENT).await), ABSENT);
    assert_eq!(node.asked(), Vec::<String>::new());
    drop(taken);
    assert!(matches!(hand_over(address, INSERT, ABSENT).await.reply(), Ok(Reply::Done { .. })));
}

#[tokio::test]
async fn an_outcome_that_became_unknown_is_said_and_not_repeated() {
    let node =
        Server::start(|_, _| error("remote table 'system.t_s0' at h:1 failed: connection closed")).await;
    let mut stage = Stage::new(&node, None).await;
    stage.knows(&["t"], 1);
    let (address, _trigger) = stage.run();
    let message = text(&hand_over(address, INSERT, ABSENT).await);
    assert!(message.contains("may have been applied"), "{message}");
    assert_eq!(node.changes(), vec![INSERT]);
}

/// Looks at a target give these states one after the other, the last one for good; then statements succeed.
async fn target(states: &'static [(&'static str, &'static str, &'static str)]) -> Server {
    let mut looks = 0;
    Server::start(move |_, sql| {
        if !sql.starts_with("SHOW STATUS") {
            return ok();
        }
        let (state, size, view) = states[looks.min(states.len() - 1)];
        looks += 1;
        cluster("g", &[("status", state), ("size", size), ("nodes_view", view), ("indexes", "system.t_s0")])
    })
    .await
}

#[tokio::test]
async fn a_conflict_is_run_again_only_when_its_target_goes_on_alone() {
    for (states, again) in [
        (&[("non-primary", "1", "h:2"), ("non-primary", "1", ""), ("primary", "1", "")][..], true),
        (&[("non-primary", "1", ""), ("primary", "2", "h:2")], false),
        (&[("primary", "2", "h:2")], false),
        (&[("recovery-required", "0", "")], false),
    ] {
        let node = target(states).await;
        let mut stage = Stage::new(&node, None).await;
        stage.knows(&["t"], 1);
        let (address, _trigger) = stage.run();
        let conflict = format!(
            "remote table 'system.t_s0' at {} failed: remote error: error at PostRollback, code 3 (transaction \
             aborted, server can continue), seqno -1",
            node.address
        );
        let answer = hand_over(address, INSERT, &conflict).await.reply().expect("a reply");
        assert_eq!(matches!(answer, Reply::Done { .. }), again, "{states:?}: {answer:?}");
        assert_eq!(node.changes().len(), usize::from(again), "{states:?}");
        if again {
            let ordered = conflict.replace("seqno -1", "seqno 12");
            assert!(text(&hand_over(address, INSERT, &ordered).await).contains("may have been applied"));
            let update = hand_over(address, "UPDATE t SET v=1 WHERE id=1", &conflict).await;
            assert!(matches!(update.reply(), Ok(Reply::Error { .. })));
            assert_eq!(node.changes().len(), 1);
        }
    }
}

/// Every member refuses a write at the same place, so one that was in every view until now knows that it is nowhere.
#[tokio::test]
async fn a_write_that_was_refused_at_its_place_is_run_again_when_its_target_was_in_every_view() {
    const LONG: Duration = Duration::from_secs(6);
    const SHORT: Duration = Duration::from_secs(2);
    for (told, seqno, states, again) in [
        (Some((3, LONG)), "12", &[("primary", "3")][..], true),
        (Some((3, LONG)), "12", &[("primary", "4")], true),
        (Some((3, LONG)), "12", &[("primary", "5")], false),
        (Some((3, LONG)), "12", &[("non-primary", "3"), ("primary", "4")], false),
        (Some((3, SHORT)), "12", &[("primary", "4")], false),
        (None, "12", &[("primary", "4")], false),
        (Some((3, LONG)), "-1", &[("primary", "3")], true),
        (Some((3, LONG)), "-1", &[("primary", "4")], false),
        (Some((3, LONG)), "-1", &[("non-primary", "3"), ("primary", "3")], false),
    ] {
        let mut looks = 0;
        let node = Server::start(move |_, sql| {
            if !sql.starts_with("SHOW STATUS") {
                return ok();
            }
            let (state, conf_id) = states[looks.min(states.len() - 1)];
            looks += 1;
            let rows = [("status", state), ("conf_id", conf_id), ("size", "2"), ("nodes_view", "h:2")];
            cluster("g", &[&rows[..], &[("indexes", "system.t_s0")]].concat())
        })
        .await;
        let mut stage = Stage::new(&node, None).await;
        stage.knows(&["t"], 1);
        if let Some((conf_id, ago)) = told {
            stage.was_told_of(&node, conf_id, ago);
        }
        let (address, _trigger) = stage.run();
        let conflict = format!(
            "remote table 'system.t_s0' at {} failed: remote error: error at PostRollback, code 3 (transaction \
             aborted, server can continue), seqno {seqno}",
            node.address
        );
        let case = format!("{told:?} {seqno} {states:?}");
        let answer = hand_over(address, INSERT, &conflict).await.reply().expect("a reply");
        assert_eq!(matches!(answer, Reply::Done { .. }), again, "{case}: {answer:?}");
        assert_eq!(node.changes().len(), usize::from(again), "{case}");
    }
}

/// Held for a minute each, they would keep the node's few threads from everybody else.
#[tokio::test]
async fn statements_of_a_table_that_nobody_can_serve_fail_at_once_and_say_why() {
    let node = Server::start(|_, _| panic!("nothing is run again")).await;
    let mut stage = Stage::new(&node, None).await;
    stage.knows(&["t", "u"], 60);
    stage.is_unserved("t", "its shard 0 was on h:1");
    let (address, _trigger) = stage.run();
    for (sql, error) in [
        ("SELECT COUNT(*) FROM t", "unknown local table(s) 't' in search request"),
        (INSERT, "table 't' absent"),
    ] {
        let answer = text(&hand_over(address, sql, error).await);
        assert!(answer.contains(error) && answer.contains("its shard 0 was on h:1"), "{sql}: {answer}");
    }
    assert_eq!(node.changes(), Vec::<String>::new());
}

/// A node whose table `t` has one shard with one copy, on itself; reads of the row give `value`, or nothing.
async fn survivor(value: Option<&'static str>) -> Server {
    let own: Arc<OnceLock<String>> = Arc::default();
    let known = Arc::clone(&own);
    let server = Server::start(move |_, sql| match sql {
        sql if sql.starts_with("SHOW STATUS") => cluster(
            "g",
            &[("status", "primary"), ("node_state", "synced"), ("size", "2"), ("indexes", "system.t_s0")],
        ),
        sql if sql.starts_with("SHOW CREATE TABLE `t`") => {
            let agent = known.get().expect("known");
            let text = format!(
                "CREATE TABLE t (id bigint, v integer) type='shard' agent='{agent}:system.t_s0[retry_count=3,ha_strategy=nodeads]'"
            );
            rows(&["Table", "Create Table"], &[&["t", &text]])
        }
        "SELECT `id`,`v` FROM system.t_s0 WHERE id IN (1) LIMIT 1" => {
            let data = value.map(|v| json!({ "id": 1, "v": v.parse::<i64>().expect("a number") }));
            let data: Vec<_> = data.into_iter().collect();
            (200, json!([{ "columns": [{ "id": {} }, { "v": {} }], "data": data, "total": 1, "error": "" }]))
        }
        _ => ok(),
    })
    .await;
    own.set(server.address.to_string()).expect("once");
    server
}

#[tokio::test]
async fn a_write_in_doubt_is_done_when_its_rows_are_seen_and_never_repeated() {
    let broken = "remote table 'system.t_s0' at 127.0.0.1:9 failed: connection closed by peer";
    for (value, sql, is_done) in [
        (Some("2"), INSERT, true),
        (Some("2"), "REPLACE INTO t (id, v) VALUES (1, 2)", true),
        (Some("3"), INSERT, false),
        (None, INSERT, false),
        (Some("2"), "UPDATE t SET v=2 WHERE id=1", false),
    ] {
        let node = survivor(value).await;
        let mut stage = Stage::new(&node, None).await;
        stage.knows(&["t"], 10);
        let (address, _trigger) = stage.run();
        let answer = hand_over(address, sql, broken).await.reply().expect("a reply");
        match answer {
            Reply::Done { affected, .. } => assert!(is_done && affected == 1, "{value:?} {sql}"),
            Reply::Error { message } => {
                assert!(!is_done && message.contains("may have been applied"), "{value:?} {sql}: {message}");
            }
            Reply::Rows(_) => panic!("rows"),
        }
        assert_eq!(node.changes(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn without_a_list_or_a_leader_no_write_to_a_missing_table_goes_upstream() {
    let node = Server::start(|_, _| ok()).await;
    let stock = Server::start(|_, _| ok()).await;
    let mut stage = Stage::before(&stock, &node).await;
    let sidecar = Arc::clone(&stage.sidecar);
    let (address, _trigger) = stage.run();
    upstream_is_up(&sidecar).await;
    let write = "INSERT INTO u (id) VALUES (1)";
    // No list yet.
    assert_eq!(text(&hand_over(address, write, "table 'u' absent").await), "table 'u' absent");
    // A list from disk, and no word since the start.
    sidecar.names.store(super::script::LOG_ID, 1, Vec::new()).expect("stored");
    assert_eq!(text(&hand_over(address, write, "table 'u' absent").await), "table 'u' absent");
    assert_eq!(stock.asked().len(), 0);
    send(address, "SHOW PLUGINS", "P01: syntax error").await;
    assert_eq!(stock.asked().len(), 1, "what is no write goes on");
    sidecar.heard(std::time::Instant::now(), 10, std::collections::BTreeMap::new());
    send(address, write, "table 'u' absent").await;
    assert_eq!(stock.asked().len(), 2, "a known leader says that it is not ours");
}

#[tokio::test]
async fn sharding_statements_go_to_the_controller_and_its_answer_comes_back() {
    let node = Server::start(|_, _| ok()).await;
    let controller = Server::start(|path, body| {
        if path == "/api/v1/sidecar/poll" {
            return (503, json!(null));
        }
        assert_eq!(path, "/api/v1/sidecar/statement");
        let request: serde_json::Value = serde_json::from_str(body).expect("JSON");
        match request["statement"]["statement"].as_str() {
            Some("create_table") => (200, json!("ok")),
            Some("show_master") => {
                (200, json!({ "rows": { "columns": ["node", "status"], "rows": [["n", "active"]] } }))
            }
            Some("drop_table") => (200, json!({ "error": { "message": "table 'x' is missing" } })),
            _ => {
                (503, json!({ "type": "t", "title": "t", "status": 503, "detail": "busy", "hint": "later" }))
            }
        }
    })
    .await;
    let mut stage = Stage::new(&node, Some(&controller)).await;
    stage.knows(&["t"], 10);
    let (address, _trigger) = stage.run();
    let statements = || controller.asked().iter().filter(|body| body.contains("\"statement\"")).count();
    let e = "P01: syntax error";
    assert!(matches!(
        hand_over(address, "CREATE TABLE c:x (v int) shards='2' rf='2'", e).await.reply(),
        Ok(Reply::Done { .. })
    ));
    let master = hand_over(address, "SHOW SHARDING MASTER", e).await.reply();
    assert!(matches!(master, Ok(Reply::Rows(rows)) if rows.value(0, "status") == Some("active")));
    assert_eq!(text(&hand_over(address, "DROP TABLE x", "unknown table 'x'").await), "table 'x' is missing");
    assert_eq!(text(&hand_over(address, "TRUNCATE TABLE t", e).await), "busy (later)");
    // Refused by its text alone.
    let asked = statements();
    let refused = hand_over(address, "CREATE TABLE x shards='2'", e).await;
    assert_eq!(text(&refused), "Sharded table requires `rf=n`");
    assert_eq!(text(&hand_over(address, "TRUNCATE TABLE foreign", "no such table").await), "no such table");
    assert_eq!(statements(), asked);
}

#[tokio::test]
async fn without_a_controller_a_statement_is_told_what_to_configure() {
    let node = Server::start(|_, _| rows(&["a"], &[])).await;
    let mut stage = Stage::new(&node, None).await;
    let (address, _trigger) = stage.run();
    let message = text(&hand_over(address, "SHOW SHARDING STATUS", "P01: syntax error").await);
    assert!(message.contains("--controller"), "{message}");
    let original = hand_over(address, "SHOW PLUGINS", "P01: syntax error").await;
    assert_eq!(text(&original), "P01: syntax error");
}

/// Hands over a statement of a user of searchd's.
async fn hand_over_of(address: std::net::SocketAddr, user: &str, sql: &str) -> manticore::handover::Response {
    let mut request = manticore::handover::Request::sql(sql.to_owned(), "P01: syntax error".to_owned(), None);
    request.user = Some(user.to_owned());
    let answer = reqwest::Client::new().post(format!("http://{address}")).json(&request).send().await;
    answer.expect("answers").json().await.expect("a response")
}

/// The statements that the controller was asked for.
fn statements_asked(controller: &Server) -> Vec<serde_json::Value> {
    let asked = controller.asked().into_iter().filter_map(|body| serde_json::from_str(&body).ok());
    asked.filter(|body: &serde_json::Value| !body["statement"].is_null()).collect()
}

#[tokio::test]
async fn what_a_user_may_do_is_asked_of_searchd_and_goes_along() {
    let node = Server::start(|_, sql| match sql {
        "SHOW PERMISSIONS FOR 'ann'" => rows(
            &["username", "action", "target", "allow", "budget"],
            &[&["ann", "read", "a*", "1", ""], &["ann", "schema", "a*", "0", ""]],
        ),
        // It refuses whoever names nobody.
        "SHOW STATUS LIKE 'cluster%'" => (401, json!({ "error": "Authorization header field missed" })),
        "SHOW PERMISSIONS FOR 'gone'" => error("user 'gone' not found"),
        "SHOW PERMISSIONS FOR 'o\\'neil'" => error("Permission denied for user 'system.buddy'"),
        _ => error("this is not answered here"),
    })
    .await;
    let controller = Server::start(|_, _| (200, json!("ok"))).await;
    let mut stage = Stage::new(&node, Some(&controller)).await;
    stage.knows(&["t"], 10);
    let (address, _trigger) = stage.run();
    let requests = || statements_asked(&controller);
    hand_over_of(address, "ann", "SHOW SHARDING STATUS").await;
    let rule = |action, allow| json!({ "action": action, "target": "a*", "allow": allow });
    let rights = json!({ "user": "ann", "rules": [rule("read", true), rule("schema", false)] });
    assert_eq!((&requests()[0]["user"], &requests()[0]["rights"]), (&json!("ann"), &rights));
    hand_over_of(address, "gone", "SHOW SHARDING STATUS").await;
    assert_eq!(requests()[1]["rights"], json!({ "user": "gone", "rules": [] }));
    // Without an answer nothing is asked of the controller.
    let refused = text(&hand_over_of(address, "o'neil", "DRAIN NODE 'h:1'").await);
    assert!(
        refused.contains("could not be asked of searchd") && refused.contains("nothing was done"),
        "{refused}"
    );
    assert_eq!(requests().len(), 2);
    // Over HTTP a node without users names nobody, or somebody without a name.
    let asked_for_rights = || node.asked().iter().filter(|sql| sql.contains("PERMISSIONS")).count();
    let before = asked_for_rights();
    hand_over_of(address, "", "SHOW SHARDING STATUS").await;
    hand_over(address, "SHOW SHARDING STATUS", "P01: syntax error").await;
    assert_eq!((before, asked_for_rights()), (3, 3));
    assert_eq!((&requests()[2]["user"], &requests()[3]["rights"]), (&json!(null), &json!(null)));
    let refused = node.asked().iter().filter(|sql| sql.starts_with("SHOW STATUS LIKE 'cluster%'")).count();
    assert_eq!(refused, 1, "its log has one line for each");
}

/// Over MySQL such a node names whomever its client says he is.
#[tokio::test]
async fn on_a_node_without_users_nobody_is_asked_who_he_is() {
    let answers = std::sync::atomic::AtomicBool::new(false);
    let node = Server::start(move |_, sql| match sql {
        "SHOW STATUS LIKE 'cluster%'" if answers.swap(true, Ordering::SeqCst) => {
            rows(&["Counter", "Value"], &[])
        }
        _ => error("it is just starting"),
    })
    .await;
    let controller = Server::start(|_, _| (200, json!("ok"))).await;
    let mut stage = Stage::new(&node, Some(&controller)).await;
    stage.knows(&["t"], 10);
    let (address, _trigger) = stage.run();
    // Whether it has users must be known first.
    let refused = text(&hand_over_of(address, "root", "DRAIN NODE 'h:1'").await);
    assert!(refused.contains("it is just starting") && refused.contains("nothing was done"), "{refused}");
    hand_over_of(address, "root", "SHOW SHARDING STATUS").await;
    let asked = statements_asked(&controller);
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0]["user"], &asked[0]["rights"]), (&json!(null), &json!(null)));
}
