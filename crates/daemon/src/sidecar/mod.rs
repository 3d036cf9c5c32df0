//! The sidecar of one node: it answers what searchd cannot, holds what a routing change interrupts, and carries
//! out the controller's commands.
//!
//! A statement goes [`server`] → [`statements`] → the controller, or [`hold`], or the upstream sidecar. A command
//! goes [`poll`] → [`fence`] → [`lanes`] → [`execute`] → the node, and its outcome back with the next poll.
//! It decides nothing about placement, and never acts for a deposed leader.

mod clock;
mod confirm;
mod controller;
mod execute;
mod fence;
mod hold;
mod lanes;
mod machine;
mod names;
mod parent;
mod peers;
mod poll;
mod server;
mod statements;
mod upstream;

use crate::files::{self, FileError};
use crate::http;
use crate::owner::{NoWay, SameUser};
use crate::shutdown::Shutdown;
use crate::tls::{self, ClientTls, Pem, TlsError};
use manticore::client::{Client, Way};
use manticore::{Login, Logins, SessionTls};
use model::NodeId;
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// After this long without orders the list of names may be old: a new table's first write must not be mistaken
/// for one to a table that is not ours.
const LEADER_SILENCE_MAX: Duration = Duration::from_secs(5);

/// What a sidecar is started with.
#[derive(Clone, Debug)]
pub struct SidecarOptions {
    /// searchd's own HTTP address as it gives it: `http://HOST:PORT`.
    pub listen: String,
    /// Where to listen; a free port is taken.
    pub bind: IpAddr,
    /// `http://HOST:PORT` of each `shardwright serve`; without one, statements for sharded tables are answered with
    /// what to configure.
    pub controllers: Vec<String>,
    /// Holds names, binding and identity; made when it is not there.
    pub dir: PathBuf,
    /// searchd's data directory: group directories are made there.
    pub data_dir: PathBuf,
    /// The controller's token, readable by its owner alone.
    pub token_file: Option<PathBuf>,
    /// `host:port` of searchd's MySQL listener, for what needs a lock.
    pub mysql: Option<String>,
    /// The command of the sidecar that everything else goes to.
    pub upstream: Option<String>,
    /// The flags that searchd gave, for the upstream sidecar.
    pub upstream_flags: Vec<String>,
    /// Words before the upstream command: a program that becomes it and ends with this process. It may be killed at any
    /// time, and searchd then starts another. Empty: the command itself.
    pub upstream_runner: Vec<String>,
    /// `gmcast.listen_addr` of groups, `tcp://ADDRESS` without a port; otherwise Galera binds to all addresses.
    pub galera_listen: Option<String>,
    /// `BUDDY_TOKEN`: authenticates the sidecar's own requests to searchd.
    pub searchd_token: Option<SecretString>,
    /// Our own user on every node, as `NAME:PASSWORD` in a private file; without one, `searchd_token` is all there is.
    pub searchd_login: Option<PathBuf>,
    /// Nodes are asked over TLS, its own included.
    pub node_tls: bool,
    /// What it trusts and shows towards controllers, and with `node_tls` nodes.
    pub tls: ClientTls,
    /// Whoever reaches the port is taken for searchd, of whatever user he is.
    pub any_local_user: bool,
    /// Called when the line that searchd waits for is out: until then nothing else may be said.
    pub announced: Option<fn()>,
    /// Whether to end when the process that started this one does.
    pub exit_with_parent: bool,
}

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    #[error("--listen={listen} is not http://HOST:PORT of this node's own HTTP listener: {reason}")]
    Listen { listen: String, reason: String },
    #[error(
        "--galera-listen={0} is not tcp://ADDRESS without a port: each group listens at the port that searchd gives it"
    )]
    GaleraListen(String),
    #[error("--data-dir {} is not a directory: give the data_dir of searchd's configuration", .0.display())]
    NoDataDir(PathBuf),
    #[error("cannot listen on {address}: {error}; give --bind an address of this machine")]
    Bind { address: SocketAddr, error: std::io::Error },
    #[error("--controller needs --token-file: the controller takes orders and polls only with its token")]
    NoToken,
    #[error("--mysql={0} is beyond loopback: give --node-tls and --ca-file, or an address of this machine")]
    PlainMysql(String),
    #[error(
        "--bind={0} is beyond loopback, and searchd speaks to its sidecar in plain text: bind an address of this machine"
    )]
    BeyondLoopback(IpAddr),
    #[error(
        "this machine does not tell whose process connects to the sidecar, so that any could pass for searchd ({0}): let it \
         have netlink (AF_NETLINK) or /proc/net, or give --any-local-user"
    )]
    NoOwners(#[from] NoWay),
    #[error("there is no token in {}: copy DIR/token of the controller there (chmod 600)", .0.display())]
    EmptyToken(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no HTTP client: {0}; check the system's TLS and resolver configuration")]
    Client(String),
    #[error("cannot say on stdout where the sidecar listens: {0}; searchd waits for that line")]
    Announce(std::io::Error),
}

/// What all tasks of a sidecar share.
#[derive(Debug)]
struct Sidecar {
    node: NodeId,
    uuid: String,
    /// This run of the process, told with every poll.
    run: String,
    data_dir: PathBuf,
    mysql: Option<String>,
    /// What a session there trusts and shows; `None`: it is in plain text.
    session_tls: Option<Pem<SessionTls>>,
    /// Our own user on every node.
    login: Option<Login>,
    galera_listen: Option<String>,
    client: Client,
    controller: controller::Controller,
    names: names::Names,
    fence: fence::Fence,
    peers: peers::Peers,
    machine: machine::Report,
    clock: clock::Clock,
    ledger: poll::Ledger,
    lanes: lanes::Lanes,
    hold: hold::Hold,
    upstream: Option<upstream::Upstream>,
    /// `None`: any process of this machine is taken for searchd.
    door: Option<SameUser>,
    /// Set once searchd has refused a request that named nobody: from then on whoever hands a statement over has rights.
    searchd_has_users: OnceLock<()>,
    word: Mutex<Word>,
    /// When routes were last written here, in milliseconds since `began`.
    routes_written_ms: AtomicU64,
    began: Instant,
}

/// The leader's last word.
#[derive(Clone, Debug)]
struct Word {
    heard: Option<Instant>,
    hold_statements: Duration,
    /// Tables of which a shard has no live copy, and why.
    unserved: BTreeMap<model::TableName, String>,
}

impl Sidecar {
    /// Orders were admitted that were asked for at `asked`.
    fn heard(
        &self,
        asked: Instant,
        hold_statements_seconds: u64,
        unserved: BTreeMap<model::TableName, String>,
    ) {
        let hold_statements = Duration::from_secs(hold_statements_seconds);
        let mut word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        *word = Word { heard: Some(asked), hold_statements, unserved };
    }

    /// Why nobody can serve one of these tables, if the leader says so.
    fn unserved(&self, tables: &BTreeSet<model::TableName>) -> Option<String> {
        let word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        tables.iter().find_map(|table| word.unserved.get(table).cloned())
    }

    /// Whether the leader was heard lately.
    fn hears_leader(&self) -> bool {
        let heard = self.word.lock().unwrap_or_else(PoisonError::into_inner).heard;
        heard.is_some_and(|heard| heard.elapsed() < LEADER_SILENCE_MAX)
    }

    /// Whether the list of names is what the leader has now.
    fn knows_names(&self) -> bool {
        self.names.current().is_some() && self.hears_leader()
    }

    fn hold_time(&self) -> Duration {
        self.word.lock().unwrap_or_else(PoisonError::into_inner).hold_statements
    }

    /// Routes were written just now: statements that began before are older than them.
    fn routes_written(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.routes_written_ms.store(now, Ordering::SeqCst);
        self.hold.routes_changed();
    }

    /// How long ago routes were last written; since the start of this process when that was before it, which is
    /// a moment later than the truth and so waits for more.
    fn routes_age(&self) -> Duration {
        let written = Duration::from_millis(self.routes_written_ms.load(Ordering::SeqCst));
        self.began.elapsed().saturating_sub(written)
    }
}

/// How long a failing statement is held before the leader has said so.
const HOLD_TIME_DEFAULT: Duration = Duration::from_secs(10);

/// The sharded tables whose names the sidecar of this directory has stored; none before a controller gave a list.
pub fn stored_names(dir: &std::path::Path) -> Result<Vec<model::TableName>, FileError> {
    let list = names::Names::open(dir)?.current();
    Ok(list.map(|list| list.names.iter().cloned().collect()).unwrap_or_default())
}

/// Serves one node until `shutdown`, or until the parent is gone.
pub async fn run(options: SidecarOptions, shutdown: Shutdown) -> Result<(), SidecarError> {
    let shutdown = if options.exit_with_parent { parent::or_gone(shutdown) } else { shutdown };
    let announced = options.announced;
    let bound = Bound::new(options).await?;
    announce(bound.address)?;
    if let Some(announced) = announced {
        announced();
    }
    bound.run(shutdown).await;
    Ok(())
}

/// The line that searchd waits for.
fn announce(address: SocketAddr) -> Result<(), SidecarError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "Buddy v{} started {address}", env!("CARGO_PKG_VERSION"))
        .and_then(|()| stdout.flush())
        .map_err(SidecarError::Announce)
}

/// A sidecar that listens and has read its files, but does not act yet.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    sidecar: Arc<Sidecar>,
    queues: lanes::Queues,
}

impl Bound {
    async fn new(options: SidecarOptions) -> Result<Self, SidecarError> {
        let node = node_id(&options.listen)?;
        if let Some(address) = options.galera_listen.as_ref().filter(|address| !is_portless(address)) {
            return Err(SidecarError::GaleraListen(address.clone()));
        }
        if !options.data_dir.is_dir() {
            return Err(SidecarError::NoDataDir(options.data_dir));
        }
        if !options.bind.is_loopback() {
            return Err(SidecarError::BeyondLoopback(options.bind));
        }
        let session_tls = match &options.mysql {
            Some(_) if options.node_tls => Some(options.tls.for_sessions()?),
            Some(address) if !tls::is_loopback(address) => {
                return Err(SidecarError::PlainMysql(address.clone()));
            }
            _ => None,
        };
        let door = if options.any_local_user {
            tracing::warn!(
                "--any-local-user: every process of this machine can pass for searchd, and for its users"
            );
            None
        } else {
            Some(SameUser::new()?)
        };
        files::ensure_directory(&options.dir)?;
        let address = SocketAddr::new(options.bind, 0);
        let fail = |error| SidecarError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let token = match (options.controllers.is_empty(), &options.token_file) {
            (true, _) => SecretString::default(),
            (false, None) => return Err(SidecarError::NoToken),
            (false, Some(path)) => {
                files::read_secret(path)?.ok_or_else(|| SidecarError::EmptyToken(path.clone()))?
            }
        };
        let way = if options.node_tls { Way::tls(|| options.tls.builder())? } else { Way::plain() };
        let login = options.searchd_login.as_deref().map(files::read_login).transpose()?;
        let logins = Logins { own: login.clone(), sidecar: options.searchd_token };
        let client = Client::new(manticore::USER_AGENT, logins, way)
            .map_err(|error| SidecarError::Client(error.to_string()))?;
        let controller = controller::Controller::new(&options.controllers, token, &options.tls)?;
        let upstream = options.upstream.map(|command| {
            upstream::Upstream::new(options.upstream_runner, &command, options.upstream_flags)
                .map_err(|error| SidecarError::Client(error.to_string()))
        });
        let (lanes, queues) = lanes::Lanes::new();
        let sidecar = Arc::new(Sidecar {
            uuid: fence::uuid(&options.dir)?,
            run: files::random_hex(16)?,
            names: names::Names::open(&options.dir)?,
            fence: fence::Fence::open(&options.dir)?,
            peers: peers::Peers::default(),
            machine: machine::Report::default(),
            clock: clock::Clock::open(&options.dir, files::unix_now())?,
            ledger: poll::Ledger::default(),
            hold: hold::Hold::default(),
            word: Mutex::new(Word {
                heard: None,
                hold_statements: HOLD_TIME_DEFAULT,
                unserved: BTreeMap::new(),
            }),
            routes_written_ms: AtomicU64::new(0),
            began: Instant::now(),
            upstream: upstream.transpose()?,
            data_dir: options.data_dir,
            mysql: options.mysql,
            session_tls,
            login,
            door,
            searchd_has_users: OnceLock::new(),
            galera_listen: options.galera_listen,
            node,
            client,
            controller,
            lanes,
        });
        Ok(Self { listener, address, sidecar, queues })
    }

    async fn run(self, shutdown: Shutdown) {
        let Self { listener, sidecar, queues, .. } = self;
        let mut tasks = tokio::task::JoinSet::new();
        queues.spawn(&mut tasks, &sidecar, &shutdown);
        if sidecar.controller.is_configured() {
            tasks.spawn(poll::run(Arc::clone(&sidecar), shutdown.clone()));
            tasks.spawn(peers::run(Arc::clone(&sidecar), shutdown.clone()));
            tasks.spawn(machine::run(Arc::clone(&sidecar), shutdown.clone()));
        }
        if sidecar.upstream.is_some() {
            tasks.spawn(upstream::supervise(Arc::clone(&sidecar), shutdown.clone()));
        }
        let entry = sidecar.door.clone().map_or(http::Entry::Anyone, http::Entry::SameUser);
        http::serve(listener, entry, server::router(sidecar), server::LIMITS, shutdown).await;
        // What still runs ends with its task: a command cut off is unknown to the controller, which observes.
        tasks.shutdown().await;
    }
}

/// Whether it is `tcp://ADDRESS`. With a port in it, Galera would listen there and the other members would look for it at
/// the port that searchd chose; port 0 likewise.
fn is_portless(address: &str) -> bool {
    let host = address.strip_prefix("tcp://").unwrap_or_default();
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).parse::<IpAddr>().is_ok()
        || (!host.is_empty() && !host.contains([':', '/', '[', ';']))
}

/// The node's name from searchd's `--listen`.
fn node_id(listen: &str) -> Result<NodeId, SidecarError> {
    let fail = |reason: &str| SidecarError::Listen { listen: listen.to_owned(), reason: reason.to_owned() };
    let address = listen.strip_prefix("http://").unwrap_or(listen).trim_end_matches('/');
    let node = NodeId::new(address).map_err(|error| fail(&error.to_string()))?;
    if address.starts_with("0.0.0.0:") || address.starts_with("[::]:") {
        return Err(fail("other nodes cannot reach this address: give searchd's `listen` the host's own"));
    }
    Ok(node)
}

#[cfg(test)]
mod listen_tests {
    use super::is_portless;

    #[test]
    fn galera_listens_at_an_address_without_a_port() {
        for good in ["tcp://127.0.0.1", "tcp://node1.example", "tcp://[::1]"] {
            assert!(is_portless(good), "{good}");
        }
        for bad in
            ["tcp://127.0.0.1:0", "tcp://127.0.0.1:4567", "tcp://[::1]:0", "127.0.0.1", "tcp://", "tcp://h:1"]
        {
            assert!(!is_portless(bad), "{bad}");
        }
    }
}

#[cfg(test)]
mod tests;
