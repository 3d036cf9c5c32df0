//! What a node is started with, its limits, and why it would not start.

use crate::NodeTls;
use manticore::Login;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a node is started. Addresses are `host:port` on loopback; port 0 takes a free one.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Everything the node keeps is below it; made when it is missing.
    pub dir: PathBuf,
    pub mysql: String,
    /// Names the node in clusters: must stay the same from start to start.
    pub http: String,
    /// With port 0 the port of the last start, when it is still free.
    pub replication: String,
    /// The sidecar's program and its first arguments; started as searchd starts its `buddy_path`.
    pub sidecar: Option<Vec<String>>,
    /// 0–127, distinct on every node of a cluster: automatic ids carry it. `None` draws it from the node's UUID.
    pub server_id: Option<u8>,
    /// The node has users, as searchd with `auth = 1`, and this one is the first administrator. `None`: whoever reaches a
    /// port may do everything.
    pub administrator: Option<Login>,
    /// Every port takes TLS and nothing else; `None`: plain text, as it stays on loopback.
    pub tls: Option<NodeTls>,
    /// Shortened in tests.
    pub timing: engine::Timing,
    pub limits: Limits,
}

impl NodeOptions {
    /// A node below `dir` with the defaults of production.
    pub fn new(dir: impl Into<PathBuf>, mysql: impl Into<String>, http: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            mysql: mysql.into(),
            http: http.into(),
            replication: "127.0.0.1:0".to_owned(),
            sidecar: None,
            server_id: None,
            administrator: None,
            tls: None,
            timing: engine::Timing::default(),
            limits: Limits::default(),
        }
    }
}

/// What a client may cost. The defaults are for one person's machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections on each listener; beyond it MySQL says so and HTTP closes. 1024 files are the usual limit
    /// of a process, and the engine's databases need their share.
    pub connections: usize,
    /// A statement, on either listener: a few thousand documents of a few KiB.
    pub statement_bytes: usize,
    /// From connecting to having said who it is (MySQL). People at a keyboard do not see it.
    pub handshake: Duration,
    /// A whole request from its first byte, and a whole reply to a client that reads it; over HTTP the time in which such
    /// a client takes nothing at all.
    pub transfer: Duration,
    /// A silent HTTP connection: longer than the 90 s for which clients pool idle connections, so that none is
    /// closed in the moment it is used again.
    pub http_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 300,
            statement_bytes: 32 << 20,
            handshake: Duration::from_secs(10),
            transfer: Duration::from_mins(1),
            http_idle: Duration::from_mins(2),
        }
    }
}

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(
        "{what} address '{address}' is not usable ({reason}): give it as host:port, for example 127.0.0.1:9306"
    )]
    BadAddress { what: &'static str, address: String, reason: String },
    #[error(
        "{what} address {address} is not on loopback: an embedded node has no passwords and is for trying only; use 127.0.0.1"
    )]
    NotLoopback { what: &'static str, address: SocketAddr },
    #[error("{what} port {address} is taken by another process: stop that one, or choose another port")]
    PortTaken { what: &'static str, address: SocketAddr },
    #[error("cannot listen on {what} address {address}: {reason}")]
    Listen { what: &'static str, address: SocketAddr, reason: String },
    #[error("{} is in use by another node: stop that one, or choose another directory", dir.display())]
    DirTaken { dir: PathBuf },
    #[error("cannot {action} {}: {error}", path.display())]
    File { action: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{} is damaged ({reason}): restore it, or remove the directory to begin with an empty node", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the node's stored state below {} cannot be opened: {reason}", dir.display())]
    Open { dir: PathBuf, reason: String },
    #[error("the engine stopped unexpectedly ({0}): what was acknowledged is on disk; start the node again")]
    EngineStopped(String),
    #[error("the system gives no random bits: {0}")]
    NoRandomness(String),
    #[error("the HTTP client for peers and sidecar cannot be set up: {0}")]
    HttpClient(String),
}
