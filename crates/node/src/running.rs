//! A node from its start to its end: what is opened in which order, and closed in the other.

use crate::door::Door;
use crate::files::{Home, data_dir};
use crate::machine::{Clock, Core, Ended, Machine, OpenCore, Parts};
use crate::peers::{self, Introduction, Peers, Unsent};
use crate::sidecar::{Program, Sidecar, SidecarAddress};
use crate::users::Users;
use crate::{NodeError, NodeOptions, http, mysql};
use engine::storage::SqliteStorage;
use engine::{Engine, EngineConfig, OpenError};
use model::NodeId;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// For the goodbyes to reach the peers on a clean stop; a peer that takes none does not hold the node up.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(2);

/// Where a node listens, with the ports that port 0 became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// `host:port` of the HTTP listener.
    pub node: NodeId,
    pub mysql: SocketAddr,
    pub http: SocketAddr,
    pub replication: SocketAddr,
}

/// A running node. [`RunningNode::stop`] ends it cleanly; dropping it ends it like a crash.
#[derive(Debug)]
pub struct RunningNode {
    addresses: Addresses,
    machine: Machine,
    ended: Ended,
    sidecar: Option<Sidecar>,
    unsent: Arc<Unsent>,
    listeners: Vec<Listening>,
    /// Going away, it ends the engine's thread.
    _life: oneshot::Sender<()>,
}

/// A listener's task; ends with it, and with it its connections.
#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Listening {
    /// Ends it, and returns when its port is free.
    async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a node; it takes statements when this returns, and its sidecar has started or has failed to.
pub async fn start(options: NodeOptions) -> Result<RunningNode, NodeError> {
    start_on(options, open_engine).await
}

/// The same on any core.
pub(crate) async fn start_on(
    options: NodeOptions,
    open: impl FnOnce(&NodeOptions, &str, &Addresses) -> Result<OpenCore, NodeError>,
) -> Result<RunningNode, NodeError> {
    let home = Arc::new(Home::open(&options.dir, random()?)?);
    let mysql_listener = listen("MySQL", &options.mysql).await?;
    let http_listener = listen("HTTP", &options.http).await?;
    let replication_listener = listen_replication(&options.replication, &home).await?;
    let addresses = addresses(&mysql_listener, &http_listener, &replication_listener)?;

    let users = options.administrator.as_ref().map(|first| Users::open(&options.dir, first)).transpose()?;
    let users = users.map(Arc::new);
    let tls = options.tls.clone();
    let client = if let Some(tls) = &tls {
        tls.client.clone()
    } else {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build();
        client.map_err(|error| NodeError::HttpClient(error.to_string()))?
    };
    let unsent = Arc::new(Unsent::default());
    let core = open(&options, &home.uuid, &addresses)?;
    let peers = {
        let (own, http, unsent) = (addresses.node.clone(), (client.clone(), tls.clone()), unsent.clone());
        let runtime = tokio::runtime::Handle::current();
        Box::new(move |machine| Peers::new(own, machine, http, runtime, unsent))
    };
    let (life, death) = oneshot::channel();
    let parts = Parts { core, peers, death, home: home.clone() };
    let (machine, ended) = Machine::start(parts).await.map_err(|error| match error {
        NodeError::EngineStopped(reason) => NodeError::Open { dir: data_dir(&options.dir), reason },
        other => other,
    })?;

    let introduction = Introduction {
        node: addresses.node.clone(),
        uuid: home.uuid.clone(),
        replication: addresses.replication.to_string(),
        mysql: addresses.mysql.to_string(),
    };
    let peers = peers::listen(replication_listener, machine.clone(), tls.clone());
    let listeners = vec![Listening(tokio::spawn(peers))];
    let mut node = RunningNode { addresses, machine, ended, sidecar: None, unsent, listeners, _life: life };
    // The sidecar asks its node over HTTP as it starts, so HTTP answers first; clients come in with the sidecar there.
    let (sidecar_at, sidecar) = SidecarAddress::new();
    let door = Door::new(users.clone(), node.machine.clone(), sidecar, client);
    let limits = options.limits.clone();
    let serving = http::listen(http_listener, door.clone(), introduction, limits.clone(), tls.clone());
    node.listeners.push(Listening(tokio::spawn(serving)));
    if let Some(command) = options.sidecar {
        let token = users.as_ref().map(|users| users.sidecar_token().to_owned());
        let program = Program { command, http: node.addresses.http.to_string(), token };
        node.sidecar = Some(Sidecar::start(program, sidecar_at).await);
    }
    let serving = mysql::listen(mysql_listener, door, version(), limits, tls);
    node.listeners.push(Listening(tokio::spawn(serving)));
    tracing::info!(node = %node.addresses.node, mysql = %node.addresses.mysql, "the embedded node has started");
    Ok(node)
}

impl RunningNode {
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns when the engine has stopped without being asked to.
    pub async fn failed(&mut self) -> NodeError {
        let reason = (&mut self.ended).await;
        NodeError::EngineStopped(reason.unwrap_or_else(|_| "it panicked".to_owned()))
    }

    /// Takes no more clients, leaves the clusters, says so to the peers, and ends the sidecar.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        // All but the peers' one, whose last words the engine may need.
        for listener in self.listeners.split_off(1) {
            listener.end().await;
        }
        if let Some(sidecar) = self.sidecar.take() {
            sidecar.stop().await;
        }
        self.machine.stop().await;
        let said = tokio::time::timeout(GOODBYE_TIME_MAX, self.unsent.none()).await;
        if said.is_err() {
            tracing::warn!("a peer took no goodbye: it will notice by itself");
        }
        // The databases are closed when the thread has ended.
        let _ = (&mut self.ended).await;
        for listener in self.listeners.split_off(0) {
            listener.end().await;
        }
        Ok(())
    }
}

fn open_engine(options: &NodeOptions, uuid: &str, addresses: &Addresses) -> Result<OpenCore, NodeError> {
    let data = data_dir(&options.dir);
    let config = EngineConfig {
        node: addresses.node.clone(),
        // As the status rows of real nodes show it.
        replication_address: format!("{}:replication", addresses.replication),
        uuid: uuid.to_owned(),
        server_id: options.server_id.unwrap_or_else(|| server_id(uuid)),
        version: version(),
        data_dir: data.display().to_string(),
        timing: options.timing.clone(),
    };
    let seed = random()? as u64;
    let gated = options.sidecar.is_some();
    Ok(Box::new(move |clock: Clock| {
        let storage = SqliteStorage::open(&data).map_err(|error| OpenError::Storage(error.to_string()))?;
        let mut engine = Engine::open(config, Box::new(storage), clock.now(), Clock::unix_now(), seed)?;
        if gated {
            let away = engine.take_routes_away().map_err(|error| OpenError::Storage(error.message))?;
            tracing::info!(?away, "routing tables wait for the controller's word");
        }
        Ok(Box::new(engine) as Box<dyn Core>)
    }))
}

fn addresses(
    mysql: &TcpListener,
    http: &TcpListener,
    replication: &TcpListener,
) -> Result<Addresses, NodeError> {
    let bad = |what, reason: String| NodeError::BadAddress { what, address: String::new(), reason };
    let local =
        |what, listener: &TcpListener| listener.local_addr().map_err(|error| bad(what, error.to_string()));
    let http = local("HTTP", http)?;
    let node = NodeId::new(http.to_string()).map_err(|error| bad("HTTP", error.to_string()))?;
    Ok(Addresses {
        node,
        mysql: local("MySQL", mysql)?,
        http,
        replication: local("replication", replication)?,
    })
}

async fn listen(what: &'static str, address: &str) -> Result<TcpListener, NodeError> {
    let bad = |reason: String| NodeError::BadAddress { what, address: address.to_owned(), reason };
    let mut found = address.to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    let address = found.next().ok_or_else(|| bad("it names no address".to_owned()))?;
    if !address.ip().is_loopback() {
        return Err(NodeError::NotLoopback { what, address });
    }
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => NodeError::PortTaken { what, address },
        _ => NodeError::Listen { what, address, reason: error.to_string() },
    })
}

/// The port of the last start when none is asked for, so that what others know stays true; else any.
async fn listen_replication(address: &str, home: &Home) -> Result<TcpListener, NodeError> {
    let last = address.strip_suffix(":0").zip(home.last_replication_port());
    let again = match last {
        Some((host, port)) => listen("replication", &format!("{host}:{port}")).await.ok(),
        None => None,
    };
    let listener = match again {
        Some(listener) => listener,
        None => listen("replication", address).await?,
    };
    if let Ok(local) = listener.local_addr() {
        home.keep_replication_port(local.port())?;
    }
    Ok(listener)
}

fn random() -> Result<u128, NodeError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::NoRandomness(error.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}

/// Of 128, from the UUID's first byte: nodes of one cluster should be given theirs.
fn server_id(uuid: &str) -> u8 {
    uuid.get(..2).and_then(|byte| u8::from_str_radix(byte, 16).ok()).unwrap_or_default() & 0x7f
}

/// What `SELECT VERSION()` and the MySQL greeting show: whose dialect this is, since drivers read a number there and
/// turn away what is older than MySQL 4.1, and that it is not searchd.
fn version() -> String {
    concat!("29.0.2 (shardwright embedded engine ", env!("CARGO_PKG_VERSION"), ", for trying and testing)")
        .to_owned()
}

#[cfg(test)]
mod tests {
    /// Drivers read three numbers at the beginning, and turn away what is older than MySQL 4.1.
    #[test]
    fn the_version_is_one_for_drivers_and_tells_what_this_is() {
        let version = super::version();
        let (number, what) = version.split_once(' ').expect("a number first");
        let parts: Vec<u32> = number.split('.').map(|part| part.parse().expect("a number")).collect();
        assert!(parts.len() == 3 && parts[0] >= 5, "{number}");
        assert!(what.contains("embedded engine"), "{what}");
    }
}
