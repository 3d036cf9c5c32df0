//! The API over real HTTP, with a real log in a directory.

use super::*;
use crate::config::Environment;
use crate::shutdown::Trigger;
use model::api::Problem;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub(super) struct Serving {
    dir: tempfile::TempDir,
    pub(super) base: String,
    token: String,
    client: Client,
    trigger: Trigger,
    running: JoinHandle<Result<(), ServeError>>,
}

fn options(dir: &Path) -> ServeOptions {
    ServeOptions {
        dir: dir.to_owned(),
        store: None,
        api: "127.0.0.1:0".parse().expect("an address"),
        config: Loaded::profile(Environment::Development),
        alert_webhook: None,
        otlp_endpoint: None,
        audit_syslog: None,
        searchd_login: None,
        token_file: None,
        etcd_login: None,
        advertise: None,
        tls: None,
        client_tls: ClientTls::default(),
    }
}

pub(super) async fn serve() -> Serving {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::bind(options(dir.path())).await.expect("binds");
    let (trigger, shutdown) = Shutdown::new();
    let (base, token) = (format!("http://{}", server.address()), server.token().to_owned());
    let running = tokio::spawn(server.run(shutdown));
    Serving { dir, base, token, client: Client::new(), trigger, running }
}

impl Serving {
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("answers")
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).bearer_auth(&self.token).json(body).send().await.expect("answers")
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) async fn end(self) {
        self.trigger.pull();
        self.running.await.expect("joined").expect("ended well");
    }
}

async fn problem(response: Response, status: StatusCode) -> Problem {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Problem = response.json().await.expect("a problem");
    assert_eq!(problem.status, status.as_u16());
    assert!(!problem.detail.is_empty() && !problem.hint.is_empty(), "{problem:?}");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_that_is_read_answers_in_its_format() {
    let serving = serve().await;
    for (path, kind) in [
        ("/api/v1/tables", "application/json"),
        ("/api/v1/nodes", "application/json"),
        ("/api/v1/operations", "application/json"),
        ("/api/v1/dashboard", "application/json"),
        ("/api/v1/metrics", "application/json"),
        ("/api/v1/metrics/rebalancing", "application/json"),
        ("/api/v1/metrics/queue", "application/json"),
        ("/api/v1/metrics/cluster", "application/json"),
        ("/api/v1/alerts", "application/json"),
        ("/api/v1/alerts/silences", "application/json"),
        ("/api/v1/history", "application/json"),
        ("/api/v1/config", "application/json"),
        ("/api/v1/openapi.json", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ] {
        let response = serving.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], kind, "{path}");
        let body = response.text().await.expect("a body");
        assert!(!body.contains(&serving.token), "{path} shows the token");
    }
    let config: Value = serving.get("/api/v1/config").await.json().await.expect("JSON");
    assert_eq!(config["environment"], "development");
    assert_eq!(config["settings"]["node_loss_grace_seconds"], json!({ "value": 3, "source": "profile" }));
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_needs_the_token() {
    let serving = serve().await;
    for (method, path) in [
        (Method::POST, "/api/v1/tables"),
        (Method::DELETE, "/api/v1/tables/t"),
        (Method::POST, "/api/v1/sidecar/poll"),
        (Method::POST, "/api/v1/sidecar/statement"),
        (Method::GET, "/api/v1/sidecar/poll"),
    ] {
        let response = serving.request(method.clone(), path).send().await.expect("answers");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        problem(response, StatusCode::UNAUTHORIZED).await;
        let response =
            serving.request(method, path).bearer_auth("x".repeat(64)).send().await.expect("answers");
        problem(response, StatusCode::UNAUTHORIZED).await;
    }
    let stored = std::fs::read_to_string(serving.dir.path().join("token")).expect("stored");
    assert_eq!(stored.trim(), serving.token);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_problems_that_say_what_to_do() {
    let serving = serve().await;
    problem(serving.get("/nothing").await, StatusCode::NOT_FOUND).await;
    problem(serving.get("/api/v1/tables/none").await, StatusCode::NOT_FOUND).await;
    problem(serving.get("/api/v1/tables/a-b").await, StatusCode::BAD_REQUEST).await;
    problem(serving.post("/api/v1/nodes", &json!({})).await, StatusCode::METHOD_NOT_ALLOWED).await;
    let table =
        |columns: &str, shards: u32| json!({ "name": "t", "columns": columns, "shards": shards, "rf": 1 });
    for body in [
        json!({}),
        json!([]),
        json!({ "name": "t", "colour": 1 }),
        table("a int) shards='1' (", 1),
        table("(", 1),
    ] {
        problem(serving.post("/api/v1/tables", &body).await, StatusCode::BAD_REQUEST).await;
    }
    let refused =
        problem(serving.post("/api/v1/tables", &table("", 3001)).await, StatusCode::UNPROCESSABLE_ENTITY)
            .await;
    assert_eq!(refused.detail, "Shard count cannot be greater than 3000");
    let response =
        serving.request(Method::DELETE, "/api/v1/tables/none").bearer_auth(&serving.token).send().await;
    problem(response.expect("answers"), StatusCode::NOT_FOUND).await;
    // Last: the connection is closed behind it.
    let long =
        serving.request(Method::POST, "/api/v1/tables").bearer_auth(&serving.token).body(vec![b' '; 5 << 20]);
    problem(long.send().await.expect("answers"), StatusCode::PAYLOAD_TOO_LARGE).await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_registers_and_gets_orders() {
    let serving = serve().await;
    let poll = json!({
        "node": "127.0.0.1:9", "uuid": "u", "run": "r", "taken": 0, "log_id": null, "epoch": 0, "names_version": 0, "peers": {}, "results": [],
    });
    let orders: Value = serving.post("/api/v1/sidecar/poll", &poll).await.json().await.expect("orders");
    assert_eq!(orders["epoch"], 1);
    assert_eq!(orders["log_id"].as_str().map(str::len), Some(32));
    let statement =
        json!({ "node": "127.0.0.1:9", "user": null, "statement": { "statement": "show_master" } });
    let reply: Value =
        serving.post("/api/v1/sidecar/statement", &statement).await.json().await.expect("a reply");
    assert_eq!(reply["rows"]["columns"], json!(["node", "status"]));
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_controller_says_that_it_leads() {
    let serving = serve().await;
    let name = serving.base.trim_start_matches("http://").to_owned();
    // Its first turn writes down that it leads.
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    let show = loop {
        let show: Value = serving.get("/api/v1/controller").await.json().await.expect("JSON");
        if show["leader"].is_string() || std::time::Instant::now() > deadline {
            break show;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&show["leads"], &show["leader"]), (&json!(true), &json!(name)), "{show}");
    assert!(show["epoch"].as_u64() > Some(0) && show["last"].as_u64() > Some(0), "{show}");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_has_one_controller_and_no_listener_is_open_to_the_world() {
    let serving = serve().await;
    let error = Server::bind(options(serving.dir.path())).await.expect_err("in use");
    assert!(matches!(error, ServeError::OpenLog(store::OpenError::InUse { .. })), "{error}");
    let open = ServeOptions { api: "0.0.0.0:0".parse().expect("an address"), ..options(serving.dir.path()) };
    let error = Server::bind(open).await.expect_err("beyond loopback").to_string();
    assert!(error.contains("TLS"), "{error}");
    let taken: SocketAddr = serving.base.trim_start_matches("http://").parse().expect("an address");
    let error =
        Server::bind(ServeOptions { api: taken, ..options(serving.dir.path()) }).await.expect_err("taken");
    assert!(matches!(error, ServeError::Listen { .. }), "{error}");
    let (path, secret) = (serving.dir.path().to_owned(), serving.token.clone());
    serving.trigger.pull();
    serving.running.await.expect("joined").expect("ended well");
    let again = Server::bind(options(&path)).await.expect("free again");
    assert_eq!(again.token(), secret);
}
