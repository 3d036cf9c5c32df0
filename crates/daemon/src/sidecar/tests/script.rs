//! What stands around a sidecar under test: each is one small HTTP server whose answers the test writes.

use super::super::fence::Word;
use super::super::{Bound, Sidecar, SidecarOptions};
use crate::files::write_durably;
use crate::http::{self, ConnectionLimits};
use crate::shutdown::{Shutdown, Trigger};
use crate::tls::ClientTls;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use manticore::handover;
use model::api::LEADER_HEADER;
use model::wire::TableNameEntry;
use model::{
    Action, Command, CommandId, Epoch, GroupId, LogIndex, NodeId, OperationId, Outcome, StepId, TableName,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub(super) const LOG_ID: &str = "0123456789abcdef0123456789abcdef";
pub(super) const LEAD: &str = "1";

/// What a leader says of itself, with the shortest log there is.
pub(super) fn word(log_id: &str, epoch: u64) -> Word {
    Word { log_id: log_id.to_owned(), epoch: Epoch(epoch), lead: LEAD.to_owned(), last: LogIndex(1) }
}

/// The status of an answer that does not come: the connection is closed instead.
pub(super) const CUT_OFF: u16 = 0;

/// As a real server takes a while: who asks again at once must not ask thousands of times.
const ANSWER_TAKES: Duration = Duration::from_millis(5);

type Answerer = Box<dyn FnMut(&str, &str) -> (u16, Value) + Send>;

/// The start of requests whose answers wait until it is notified.
type Held = (&'static str, Arc<Notify>);

/// One scripted server: what it was asked, and how it answers (path, body) → (status, JSON).
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    answerer: Arc<Mutex<Answerer>>,
    held: Arc<Mutex<Option<Held>>>,
    _trigger: Arc<Trigger>,
}

async fn answer(State(server): State<Server>, uri: Uri, body: Bytes) -> Response {
    let body = String::from_utf8_lossy(&body).into_owned();
    server.asked.lock().expect("unpoisoned").push(body.clone());
    // Waiting is for tasks alone: a thread of the runtime that waits keeps other servers from answering.
    if let Some(held) = server.held(&body) {
        held.notified().await;
    }
    tokio::time::sleep(ANSWER_TAKES).await;
    let (status, answer) = (server.answerer.lock().expect("unpoisoned"))(uri.path(), &body);
    if status == CUT_OFF {
        // The connection goes with its task; no message, since nothing is wrong.
        std::panic::resume_unwind(Box::new(()));
    }
    let mut response = (StatusCode::from_u16(status).expect("a status"), Json(&answer)).into_response();
    if let Some(leader) = answer["leader"].as_str() {
        response.headers_mut().insert(LEADER_HEADER, leader.parse().expect("a header"));
    }
    response
}

impl Server {
    pub(super) async fn start(answerer: impl FnMut(&str, &str) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let (trigger, shutdown) = Shutdown::new();
        let server = Self {
            address: listener.local_addr().expect("an address"),
            asked: Arc::default(),
            answerer: Arc::new(Mutex::new(Box::new(answerer))),
            held: Arc::default(),
            _trigger: Arc::new(trigger),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        let limits = ConnectionLimits { connections_max: 64, header_time_max: Duration::from_secs(30) };
        tokio::spawn(http::serve(listener, http::Entry::Anyone, router, limits, shutdown));
        server
    }

    /// Requests that begin with `start` are answered only when the returned one is notified, once for each.
    pub(super) fn hold(&self, start: &'static str) -> Arc<Notify> {
        let held = Arc::new(Notify::new());
        *self.held.lock().expect("unpoisoned") = Some((start, Arc::clone(&held)));
        held
    }

    fn held(&self, body: &str) -> Option<Arc<Notify>> {
        let held = self.held.lock().expect("unpoisoned").clone()?;
        body.starts_with(held.0).then_some(held.1)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    /// What was said that changes something.
    pub(super) fn changes(&self) -> Vec<String> {
        let looks = ["SHOW", "SELECT", "DESC"];
        self.asked().into_iter().filter(|sql| !looks.iter().any(|look| sql.starts_with(look))).collect()
    }
}

/// An OK without rows.
pub(super) fn ok() -> (u16, Value) {
    (200, json!([{ "total": 0, "error": "", "warning": "" }]))
}

pub(super) fn error(message: &str) -> (u16, Value) {
    (500, json!({ "error": message }))
}

pub(super) fn rows(columns: &[&str], rows: &[&[&str]]) -> (u16, Value) {
    let data: Vec<Value> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .zip(*row)
                .map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        })
        .collect();
    let named: Vec<Value> = columns.iter().map(|name| json!({ *name: { "type": "string" } })).collect();
    (200, json!([{ "columns": named, "data": data, "total": rows.len(), "error": "", "warning": "" }]))
}

/// `SHOW STATUS LIKE 'cluster%'` of one cluster.
pub(super) fn cluster(name: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let pairs: Vec<(String, &str)> =
        fields.iter().map(|(field, value)| (format!("cluster_{name}_{field}"), *value)).collect();
    let table: Vec<[&str; 2]> = pairs.iter().map(|(counter, value)| [counter.as_str(), *value]).collect();
    let slices: Vec<&[&str]> = table.iter().map(<[&str; 2]>::as_slice).collect();
    rows(&["Counter", "Value"], &slices)
}

/// A sidecar beside a scripted node.
pub(super) struct Stage {
    pub(super) dir: tempfile::TempDir,
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) bound: Option<Bound>,
}

/// Of a sidecar without a controller.
pub(super) fn options(dir: &Path, listen: String) -> SidecarOptions {
    let data_dir = dir.join("data");
    std::fs::create_dir_all(&data_dir).expect("made");
    SidecarOptions {
        tls: ClientTls::default(),
        node_tls: false,
        listen,
        bind: "127.0.0.1".parse().expect("an address"),
        controllers: Vec::new(),
        dir: dir.join("sidecar"),
        data_dir,
        token_file: None,
        mysql: None,
        upstream: None,
        upstream_flags: Vec::new(),
        upstream_runner: Vec::new(),
        any_local_user: false,
        announced: None,
        galera_listen: None,
        searchd_token: None,
        searchd_login: None,
        exit_with_parent: false,
    }
}

impl Stage {
    pub(super) async fn new(node: &Server, controller: Option<&Server>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let url = controller.map(|controller| format!("http://{}/", controller.address));
        Self::in_dir(dir, node, url.into_iter().collect(), None).await
    }

    pub(super) async fn with_controllers(node: &Server, urls: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::in_dir(dir, node, urls, None).await
    }

    /// With an upstream sidecar: a process that says that it listens where `stock` does.
    pub(super) async fn before(stock: &Server, node: &Server) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("stock.sh");
        let text = format!("echo 'Buddy v9 started {}'; exec sleep 600", stock.address);
        std::fs::write(&script, text).expect("written");
        Self::in_dir(dir, node, Vec::new(), Some(format!("sh {}", script.display()))).await
    }

    pub(super) async fn in_dir(
        dir: tempfile::TempDir,
        node: &Server,
        controllers: Vec<String>,
        upstream: Option<String>,
    ) -> Self {
        let token_file = dir.path().join("token");
        write_durably(&token_file, b"0123456789abcdef0123").expect("written");
        let listen = format!("http://{}", node.address);
        let options = SidecarOptions {
            controllers,
            upstream,
            token_file: Some(token_file),
            ..options(dir.path(), listen)
        };
        let bound = Bound::new(options).await.expect("starts");
        Self { dir, sidecar: Arc::clone(&bound.sidecar), bound: Some(bound) }
    }

    /// As if orders had come just now: these names are ours.
    pub(super) fn knows(&self, names: &[&str], hold_statements_seconds: u64) {
        let entry = |name: &&str| TableNameEntry {
            table: TableName::new(*name).expect("valid"),
            cluster: None,
            generation: 1,
        };
        self.sidecar.fence.admit(&word(LOG_ID, 1)).expect("admitted");
        self.sidecar.names.store(LOG_ID, 1, names.iter().map(entry).collect()).expect("stored");
        self.sidecar.heard(Instant::now(), hold_statements_seconds, BTreeMap::new());
    }

    /// As if the controller had told so long ago that group `g` is primary on this node under this `conf_id`.
    pub(super) fn was_told_of(&self, node: &Server, conf_id: i64, ago: Duration) {
        let node = NodeId::new(node.address.to_string()).expect("valid");
        let views = [(node.clone(), [(GroupId::new("g").expect("valid"), conf_id)].into())].into();
        self.sidecar.peers.watch(vec![node], &[], Instant::now());
        self.sidecar.peers.told(
            1,
            views,
            Instant::now().checked_sub(ago).expect("the clock runs for longer"),
        );
    }

    /// As if the leader had said that nobody can serve this table.
    pub(super) fn is_unserved(&self, table: &str, why: &str) {
        let unserved = [(TableName::new(table).expect("valid"), why.to_owned())].into();
        self.sidecar.heard(Instant::now(), 60, unserved);
    }

    /// Runs the sidecar; the address of its listener.
    pub(super) fn run(&mut self) -> (SocketAddr, Trigger) {
        let bound = self.bound.take().expect("not yet run");
        let (trigger, shutdown) = Shutdown::new();
        let address = bound.address;
        tokio::spawn(bound.run(shutdown));
        (address, trigger)
    }
}

/// As a leader commands it: by `deadline`.
pub(super) async fn execute(sidecar: &Sidecar, action: &Action, deadline: Instant) -> Outcome {
    let left = deadline.saturating_duration_since(Instant::now());
    let command = Command {
        id: CommandId { operation: OperationId(1), step: StepId(0), attempt: 1 },
        epoch: Epoch(1),
        remaining_ms: left.as_millis().try_into().expect("not so long"),
        action: action.clone(),
    };
    crate::sidecar::execute::execute(sidecar, &command, deadline).await
}

/// What the sidecar answers to a statement that failed with `error`.
pub(super) async fn hand_over(address: SocketAddr, sql: &str, error: &str) -> handover::Response {
    let request = handover::Request::sql(sql.to_owned(), error.to_owned(), None);
    let answer = reqwest::Client::new().post(format!("http://{address}")).json(&request).send().await;
    answer.expect("answers").json().await.expect("a response")
}

/// Waits until `condition`, or fails after a time that no machine takes.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
