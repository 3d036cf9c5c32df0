//! Every request with every role, over real HTTP; and what the audit log keeps of it.

use super::rights::{Need, RIGHTS};
use super::tests::{Serving, serve};
use super::{api, rights};
use model::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");

async fn make(serving: &Serving, name: &str, role: Role) -> String {
    let made: Value = serving
        .post("/api/v1/tokens", &json!({ "name": name, "role": role, "days": 1 }))
        .await
        .json()
        .await
        .expect("made");
    made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

/// The path with something in the place of what varies.
fn filled(path: &str) -> String {
    path.replace("{file}", "app.js").replace("{shard}", "0").replace(['{', '}'], "x")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_gets_what_it_may_and_nothing_else() {
    let serving = serve().await;
    let mut tokens = BTreeMap::new();
    for role in Role::ALL {
        tokens.insert(role, make(&serving, role.as_str(), role).await);
    }
    for (method, path, need) in RIGHTS {
        for (role, token) in
            tokens.iter().map(|(role, token)| (Some(*role), Some(token))).chain([(None, None)])
        {
            let mut request = serving.request(method.clone(), &filled(path));
            if *method == Method::POST {
                request = request.json(&json!({ "no_such_field": 1 }));
            }
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let status = request.send().await.expect("answers").status();
            let allowed = match role {
                Some(role) => need.is_met_by(role),
                None => matches!(need, Need::Nothing | Need::Viewer),
            };
            let refused = if role.is_some() { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
            assert_eq!(status == refused, !allowed, "{role:?} {method} {path}: {status}");
            assert!(allowed || status == refused, "{role:?} {method} {path}: {status}");
        }
    }
    serving.end().await;
}

#[test]
fn every_method_of_every_route_has_its_line_and_the_manual_has_the_same() {
    let manual = std::fs::read_to_string(MANUAL).expect("docs/security.md");
    let routed: Vec<&str> = api::routes().into_iter().map(|(path, _)| path).collect();
    for (method, path, need) in RIGHTS {
        assert!(routed.contains(path), "{path} is no route");
        let cells = Role::ALL.map(|role| if need.is_met_by(role) { "yes" } else { "–" });
        let none = match need {
            Need::Nothing => "yes",
            Need::Viewer => "on loopback",
            _ => "–",
        };
        let [sidecar, viewer, operator, admin] = cells;
        let row = format!("| `{method} {path}` | {none} | {sidecar} | {viewer} | {operator} | {admin} |");
        assert!(manual.contains(&row), "docs/security.md lacks\n{row}");
    }
    for path in routed {
        assert!(
            RIGHTS.iter().any(|(_, known, _)| *known == path),
            "{path} has no line in the table of rights"
        );
    }
    // Every path of the table is described with every method that it has.
    let described = super::openapi::document();
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let known = RIGHTS.iter().any(|(known, at, _)| *known == method && at == path);
            assert!(known, "{method} {path} has no line in the table of rights");
        }
    }
    assert_eq!(rights::of(&Method::PUT, Some("/api/v1/tables")), Need::ClusterAdmin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_when_it_is_revoked_and_is_kept_as_a_hash() {
    let serving = serve().await;
    let token = make(&serving, "ci", Role::Operator).await;
    let drain =
        || serving.request(Method::POST, "/api/v1/nodes/127.0.0.1:1/drain").bearer_auth(&token).send();
    let status = drain().await.expect("answers").status();
    assert!(status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN, "{status}");
    let again = serving.post("/api/v1/tokens", &json!({ "name": "ci", "role": "viewer" })).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let list = serving.request(Method::GET, "/api/v1/tokens").bearer_auth(serving.token());
    let list: Value = list.send().await.expect("answers").json().await.expect("JSON");
    assert_eq!((&list["tokens"][0]["name"], &list["tokens"][0]["role"]), (&json!("ci"), &json!("operator")));
    let revoke = serving.request(Method::DELETE, "/api/v1/tokens/ci").bearer_auth(serving.token());
    assert_eq!(revoke.send().await.expect("answers").status(), StatusCode::NO_CONTENT);
    assert_eq!(drain().await.expect("answers").status(), StatusCode::UNAUTHORIZED);
    let gone = serving.request(Method::DELETE, "/api/v1/tokens/ci").bearer_auth(serving.token());
    assert_eq!(gone.send().await.expect("answers").status(), StatusCode::NOT_FOUND);
    // Neither the control log nor the audit log has it.
    for file in files_under(serving.dir()) {
        let bytes = std::fs::read(&file).expect("read");
        let found = bytes.windows(token.len()).any(|part| part == token.as_bytes());
        assert!(!found, "{} has the token", file.display());
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_comes_after_its_tokens_is_not_heard() {
    let serving = serve().await;
    let token = make(&serving, "ci", Role::ClusterAdmin).await;
    let body = json!({ "name": "back-door", "role": "cluster_admin" }).to_string();
    let address = serving.base.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let head = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // It is let in, and its body is waited for.
    let mut word = [0; 25];
    stream.read_exact(&mut word).await.expect("read");
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    let revoke = serving.request(Method::DELETE, "/api/v1/tokens/ci").bearer_auth(serving.token());
    assert_eq!(revoke.send().await.expect("answers").status(), StatusCode::NO_CONTENT);
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let list = serving.request(Method::GET, "/api/v1/tokens").bearer_auth(serving.token());
    let list: Value = list.send().await.expect("answers").json().await.expect("JSON");
    assert_eq!(list["tokens"], json!([]));
    serving.end().await;
}

/// They would pass for others in the audit log, or could not be named in a path to be revoked.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_takes_the_name_of_who_needs_none() {
    let serving = serve().await;
    for name in ["controller", "sql", "anonymous", "local", "LOCAL", ".", ".."] {
        let refused = serving.post("/api/v1/tokens", &json!({ "name": name, "role": "viewer" })).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_no_backup_written_among_the_controllers_own_files() {
    let serving = serve().await;
    let token = make(&serving, "ci", Role::Operator).await;
    let order = json!({ "table": "t", "with_data": serving.dir().join("log/x").display().to_string() });
    let refused = serving.request(Method::POST, "/api/v1/backups").bearer_auth(&token).json(&order).send();
    let refused: Value = refused.await.expect("answers").json().await.expect("JSON");
    let why = refused["detail"].as_str().unwrap_or_default();
    assert!(why.contains("in the controller's own directory"), "{refused}");
    assert!(!serving.dir().join("log/x").exists());
    serving.end().await;
}

fn files_under(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_under(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_asked_for_what_and_what_came_of_it() {
    let serving = serve().await;
    let token = make(&serving, "alice", Role::Operator).await;
    let silence = json!({ "type": "no_master", "labels": {}, "seconds": 60, "comment": "why" });
    let request = serving.request(Method::POST, "/api/v1/alerts/silences").bearer_auth(&token).json(&silence);
    assert_eq!(request.send().await.expect("answers").status(), StatusCode::NO_CONTENT);
    let refused = serving.request(Method::DELETE, "/api/v1/tables/t").bearer_auth(&token);
    assert_eq!(refused.send().await.expect("answers").status(), StatusCode::FORBIDDEN);
    let tail = serving.request(Method::GET, "/api/v1/audit?lines=1000").bearer_auth(serving.token());
    let tail: Value = tail.send().await.expect("answers").json().await.expect("JSON");
    let lines = tail["lines"].as_array().expect("lines").clone();
    let find = |event: &str, what: &str| {
        let found = lines.iter().find(|line| line["event"] == event && line["what"] == what);
        found.unwrap_or_else(|| panic!("no {event} {what} in {lines:#?}")).clone()
    };
    let request = find("request", "silence");
    assert_eq!((&request["actor"], &request["role"]), (&json!("alice"), &json!("operator")));
    assert_eq!(request["detail"]["comment"], "why");
    assert!(request["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{request}");
    let state = find("state", "alert_silenced");
    assert_eq!((&state["actor"], &state["request"]), (&json!("alice"), &request["seq"]));
    assert!(state["log"].as_u64() > Some(0), "{state}");
    let result = find("result", "silence");
    assert_eq!((&result["result"], &result["request"]), (&json!("ok"), &request["seq"]));
    let seq = |line: &Value| line["seq"].as_u64().expect("a number");
    assert!(seq(&request) < seq(&state) && seq(&state) < seq(&result));
    let denied = find("denied", "DELETE /api/v1/tables/t");
    assert_eq!(denied["actor"], "alice");
    assert_eq!(find("request", "create_token")["actor"], "local");
    assert_eq!(find("start", "serve")["actor"], "controller");
    let verified = serving.request(Method::GET, "/api/v1/audit/verify").bearer_auth(serving.token());
    let verified: Value = verified.send().await.expect("answers").json().await.expect("JSON");
    assert_eq!((&verified["ok"], &verified["first_bad"]), (&json!(true), &Value::Null), "{verified}");
    serving.end().await;
}

/// From where the audit log says that each refused request came.
async fn denied_from(serving: &Serving, what: &str) -> Vec<String> {
    let tail = serving.request(Method::GET, "/api/v1/audit?lines=1000").bearer_auth(serving.token());
    let tail: Value = tail.send().await.expect("answers").json().await.expect("JSON");
    let lines = tail["lines"].as_array().expect("lines").iter();
    let found = lines.filter(|line| line["event"] == "denied" && line["what"] == what);
    found.map(|line| line["from"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_request_was_passed_on_for_is_believed_of_the_cluster_alone() {
    let serving = serve().await;
    let (operator, sidecar) =
        (make(&serving, "alice", Role::Operator).await, make(&serving, "ctl2", Role::Sidecar).await);
    let ask = async |forwarder: Option<&str>, client: &str| {
        let mut request = serving
            .request(Method::DELETE, "/api/v1/tables/t")
            .bearer_auth(&operator)
            .header("shardwright-forwarded", client);
        if let Some(token) = forwarder {
            request = request.header("shardwright-forwarder", token);
        }
        assert_eq!(request.send().await.expect("answers").status(), StatusCode::FORBIDDEN);
    };
    for forwarder in [None, Some("x"), Some(operator.as_str()), Some("")] {
        ask(forwarder, "10.9.9.9:1").await;
    }
    // And of it no more than an address.
    ask(Some(&sidecar), "10.9.9.9:1 for somebody").await;
    ask(Some(&sidecar), "10.9.9.9:1").await;
    let from = denied_from(&serving, "DELETE /api/v1/tables/t").await;
    let (told, plain): (Vec<_>, Vec<_>) = from.iter().partition(|from| from.contains("10.9.9.9"));
    assert_eq!((told.len(), plain.len()), (1, 5), "{from:?}");
    assert!(told[0].starts_with("127.0.0.1:") && told[0].ends_with(" for 10.9.9.9:1"), "{from:?}");
    serving.end().await;
}

/// What the sidecar of a node is told for a statement of `user`'s.
async fn typed(serving: &Serving, user: Value, rights: Value, statement: Value) -> Value {
    let body = json!({ "node": "127.0.0.1:9", "user": user, "rights": rights, "statement": statement });
    serving.post("/api/v1/sidecar/statement", &body).await.json().await.expect("a reply")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_searchd_does_what_searchd_lets_him() {
    let serving = serve().await;
    let rights = |user: &str, action: &str| {
        let rule = json!({ "action": action, "target": "*", "allow": true });
        json!({ "user": user, "rules": [rule] })
    };
    let queue = || json!({ "statement": "show_queue" });
    let shown = typed(&serving, json!("ann"), rights("ann", "admin"), queue()).await;
    assert!(shown["rows"].is_object(), "{shown}");
    for (user, rights) in [
        (json!("ann"), rights("ann", "read")),
        (json!("ann"), rights("bob", "admin")),
        (json!("ann"), json!(null)),
        (json!(null), rights("bob", "admin")),
    ] {
        let told = typed(&serving, user.clone(), rights.clone(), queue()).await;
        let message = told["error"]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("Permission denied for user"), "{user} {rights}: {told}");
    }
    // A node without authentication has no users.
    let shown = typed(&serving, json!(null), json!(null), queue()).await;
    assert!(shown["rows"].is_object(), "{shown}");
    let shown = typed(&serving, json!(""), json!(null), queue()).await;
    assert!(shown["rows"].is_object(), "{shown}");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_asks_for_nothing_that_cannot_be_typed() {
    let serving = serve().await;
    let never_typed = [
        json!({ "statement": "recover" }),
        json!({ "statement": "clean_up" }),
        json!({ "statement": "gate", "node": "127.0.0.1:9" }),
        json!({ "statement": "recover_group", "group": "g", "from": "127.0.0.1:9" }),
        json!({ "statement": "silence", "kind": null, "labels": {}, "seconds": 60, "comment": "" }),
    ];
    for statement in never_typed {
        let told = typed(&serving, json!(null), json!(null), statement.clone()).await;
        let message = told["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("not asked over SQL"), "{statement}: {told}");
    }
    let tail = serving.request(Method::GET, "/api/v1/audit?lines=100").bearer_auth(serving.token());
    let audit: Value = tail.send().await.expect("answers").json().await.expect("JSON");
    let denied = audit.to_string().matches(r#""event":"denied""#).count();
    assert!(denied >= 5, "{audit}");
    serving.end().await;
}
