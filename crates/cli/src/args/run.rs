//! Commands that run something: a node, a controller, a sidecar, or all of them.

use super::{NodeCommand, key_value};
use crate::dev::DEFAULT_DIR;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Shows the main job from nothing: load, kill -9 under traffic, failover, growth, verification.
///
/// Starts a cluster of embedded engines in a temporary directory, creates a sharded table, loads documents, keeps
/// writers and readers going, kills a node with -9, waits until every shard has all its copies again, joins a new
/// node, and reads every acknowledged document back from every copy. Exit code 0 only when nothing was lost and no
/// client on a live node saw an error.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  shardwright demo\n  \
                        shardwright demo --docs articles.jsonl.gz --shards 24\n  \
                        shardwright demo --output json | jq .failover_seconds")]
pub struct DemoArgs {
    /// Nodes at the start; one of them is killed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=50))]
    pub nodes: u32,
    /// Documents to load: JSON Lines, plain or gzip; by default a catalogue of 60,000 made-up products
    #[arg(long, value_name = "FILE")]
    pub docs: Option<PathBuf>,
    /// Copies of every shard
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=50))]
    pub rf: u32,
    /// Shards of the table
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=3000))]
    pub shards: u32,
    /// Keeps the directory with data and logs, and says where it is
    #[arg(long)]
    pub keep: bool,
    /// Decides what is made up, and which node dies
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs a cluster of embedded engines, or of real searchd nodes, with a controller until Ctrl-C.
///
/// For trying, developing and testing. The directory keeps everything: started again, `dev` finds its cluster and
/// data. While it runs, DIR/cluster.json says where everything listens.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  shardwright dev --nodes 4\n  shardwright dev add\n  \
                        shardwright dev kill 2      (kill -9; `dev start 2` brings it back)")]
pub struct DevArgs {
    #[command(subcommand)]
    pub change: Option<DevChange>,
    #[command(flatten)]
    pub run: DevRun,
}

#[derive(Clone, Debug, Args)]
pub struct DevRun {
    /// Nodes of a new cluster; one that is there already keeps those it has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub nodes: u32,
    /// Where data, logs and cluster.json are
    #[arg(long, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// Where the controller's API listens; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    pub api: Option<SocketAddr>,
    /// MySQL port of node 1; the others follow. Default: free ports
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub mysql_base: Option<u16>,
    /// HTTP port of node 1; the others follow. Default: free ports
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub http_base: Option<u16>,
    /// A searchd binary: the nodes of a new cluster are real ones, with this program as their sidecar
    #[arg(long, value_name = "PATH")]
    pub searchd: Option<PathBuf>,
}

/// Becomes another program, which so ends with its parent: `dev` starts its real nodes by it, `sidecar` the one behind it.
#[derive(Clone, Debug, Args)]
pub struct BecomeArgs {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum DevChange {
    /// A node more, joined to the cluster
    Add(DevDir),
    /// Kills a node with -9
    Kill(DevNode),
    /// Stops a node cleanly
    Stop(DevNode),
    /// Starts a node that was killed or stopped
    Start(DevNode),
}

#[derive(Clone, Debug, Args)]
pub struct DevDir {
    /// The directory of the running cluster
    #[arg(long, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct DevNode {
    /// The node's id (host:port of its HTTP listener) or its number from 1
    pub node: String,
    #[command(flatten)]
    pub dir: DevDir,
}

/// Runs one embedded engine, or lists the nodes of a cluster.
///
/// The engine speaks Manticore's dialect over MySQL and HTTP and replicates as real nodes do. It is for trying,
/// developing and testing, and listens on loopback only.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "Examples:\n  shardwright node --dir n1 --mysql 127.0.0.1:9306 --http 127.0.0.1:9308\n  \
                        shardwright node list"
)]
pub struct NodeArgs {
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    #[command(flatten)]
    pub run: Option<NodeRun>,
}

#[derive(Clone, Debug, Args)]
pub struct NodeRun {
    /// Where the node keeps its data; made when it is not there
    #[arg(long)]
    pub dir: PathBuf,
    /// Where it listens for MySQL clients
    #[arg(long, value_name = "HOST:PORT")]
    pub mysql: String,
    /// Where it listens for HTTP; this address is the node's id and must stay the same
    #[arg(long, value_name = "HOST:PORT")]
    pub http: String,
    /// The sidecar's program, started as searchd starts its `buddy_path`
    #[arg(long, value_name = "PROGRAM")]
    pub sidecar: Option<String>,
    /// An argument for the sidecar, before those the node adds; once for each
    #[arg(long, value_name = "ARGUMENT", requires = "sidecar", allow_hyphen_values = true)]
    pub sidecar_arg: Vec<String>,
    /// Gives the node users, as searchd with `auth = 1`: the first administrator as NAME:PASSWORD in a file readable by its
    /// owner alone. Once there are users the file is of no matter, but still must be there
    #[arg(long, value_name = "FILE")]
    pub auth_login: Option<PathBuf>,
    /// Its certificate, with those between it and its CA (PEM): all ports take TLS alone, and other nodes must show one of
    /// --ca-file; read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM), readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Clients, sidecars and other nodes must show a certificate of this CA (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

/// Runs the controller: it decides where shards live and keeps them there.
///
/// Nodes' sidecars connect to it. All its state is the control log, under --dir or in etcd; it may be killed and
/// started at any moment. Of several controllers on one log in etcd one leads, and another goes on when it is gone.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  shardwright serve --dir /var/lib/shardwright --api 127.0.0.1:9380\n  \
                        shardwright serve --dir /var/lib/shardwright --api 127.0.0.1:9381 \\\n    \
                        --store etcds://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379/shardwright \\\n    --ca-file ca.crt --cert-file ctl.crt --key-file ctl.key")]
pub struct ServeArgs {
    /// Holds the token, and the control log unless --store names one; made when it is not there
    #[arg(long, env = "SHARDWRIGHT_DIR")]
    pub dir: PathBuf,
    /// The control log that several controllers share; by default it is in --dir, for one controller
    #[arg(long, value_name = "etcd[s]://HOST:PORT[,HOST:PORT…]/PREFIX", env = "SHARDWRIGHT_STORE")]
    pub store: Option<String>,
    /// Our user of etcd, where it has users: NAME:PASSWORD in a file readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "store", env = "SHARDWRIGHT_ETCD_LOGIN")]
    pub etcd_login: Option<PathBuf>,
    /// Where the API listens; beyond loopback only with --tls-cert
    #[arg(long, value_name = "HOST:PORT", default_value = crate::api::DEFAULT_API, env = "SHARDWRIGHT_API")]
    pub api: SocketAddr,
    /// What other controllers and sidecars reach this one by; by default the address of --api
    #[arg(long, value_name = "HOST:PORT", env = "SHARDWRIGHT_ADVERTISE")]
    pub advertise: Option<String>,
    /// Certificate of the API, with those between it and its CA (PEM); read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "SHARDWRIGHT_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM), readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "SHARDWRIGHT_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Clients of the API must show a certificate of this CA (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "SHARDWRIGHT_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,
    /// Our own user of searchd, where searchd has users: NAME:PASSWORD in a file readable by its owner alone
    #[arg(long, value_name = "FILE", env = "SHARDWRIGHT_SEARCHD_LOGIN")]
    pub searchd_login: Option<PathBuf>,
    /// An Alertmanager to tell of alerts; the log always tells of them
    #[arg(long, value_name = "URL", env = "SHARDWRIGHT_ALERT_WEBHOOK", hide_env_values = true)]
    pub alert_webhook: Option<String>,
    /// The system's log, which gets a copy of every line of the audit log: its socket, mostly /dev/log
    #[arg(long, value_name = "SOCKET", env = "SHARDWRIGHT_AUDIT_SYSLOG")]
    pub audit_syslog: Option<PathBuf>,
    /// A collector to send traces of operations to, by OTLP over HTTP
    #[arg(long, value_name = "URL", env = "SHARDWRIGHT_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
    #[command(flatten)]
    pub settings: SettingArgs,
}

#[derive(Clone, Debug, Args)]
pub struct SettingArgs {
    /// The set of defaults: production, development or staging
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// One setting, over file and environment variables; once for each
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Stands beside one node: answers what searchd cannot, and carries out the controller's commands.
///
/// searchd starts it by its setting `buddy_path` and adds flags of its own; those this program does not know are
/// passed over, and handed on to --upstream.
#[derive(Clone, Debug, Args)]
#[command(after_help = "In searchd's configuration:\n  \
    buddy_path = shardwright sidecar --controller http://127.0.0.1:9380 --token-file /etc/shardwright/token \
    --dir /var/lib/shardwright/sidecar --data-dir /var/lib/manticore --mysql 127.0.0.1:9306")]
pub struct SidecarArgs {
    /// The node's own HTTP address, as searchd gives it
    #[arg(long, value_name = "http://HOST:PORT")]
    pub listen: String,
    /// Where to listen for the node; a free port is taken
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,
    /// The controller's API, or that of each of several; without one, statements for sharded tables are answered
    /// with what to configure
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub controller: Vec<String>,
    /// Holds names, identity and the highest epoch; made when it is not there
    #[arg(long)]
    pub dir: PathBuf,
    /// The node's data directory: directories of replication groups are made there
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The node's MySQL address, for what needs a lock
    #[arg(long, value_name = "HOST:PORT")]
    pub mysql: Option<String>,
    /// The command of another sidecar that gets whatever is not about sharded tables
    #[arg(long, value_name = "COMMAND")]
    pub upstream: Option<String>,
    /// Where replication groups listen, without a port (`gmcast.listen_addr`); by default on every address
    #[arg(long, value_name = "tcp://ADDRESS")]
    pub galera_listen: Option<String>,
    /// Our own user of searchd, where searchd has users: NAME:PASSWORD in a file readable by its owner alone
    #[arg(long, value_name = "FILE")]
    pub searchd_login: Option<PathBuf>,
    /// Asks nodes over TLS, its own too, and never in plain text; trusts --ca-file
    #[arg(long)]
    pub node_tls: bool,
    /// Takes any process of this machine for searchd; otherwise those of its own user alone, which searchd starts it as
    #[arg(long)]
    pub any_local_user: bool,
    /// How many threads, as searchd gives it
    #[arg(long, hide = true)]
    pub threads: Option<usize>,
    /// How much to log, as searchd gives it
    #[arg(long, hide = true)]
    pub log_level: Option<String>,
}

/// Holds a node's start back while it could lose documents: an `ExecStartPre` of searchd's unit.
///
/// After a total loss the second node to start wins, however old its copy is, and overwrites those that start later.
/// So each node asks here before it starts, and waits while one of its groups has no primary and another copy must
/// come first. The routing tables of the stopped node are taken away, too: it would route by old ones. And
/// so are groups that have gone on without it: it would go back into them by itself.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the node may start, 1 failed, 2 wrong usage, 3 held back when --wait was over (or the\n\
                        node runs already), 4 no controller answered until then.\n\n\
                        In searchd's unit:\n  \
                        ExecStartPre=shardwright gate --node 10.0.0.1:9312 --controller http://127.0.0.1:9380 \\\n    \
                        --dir /var/lib/shardwright-sidecar --data-dir /var/lib/manticore\n  \
                        TimeoutStartSec=infinity"
)]
pub struct GateArgs {
    /// The node's id: HOST:PORT of its HTTP listener, as its sidecar is given it
    #[arg(long, value_name = "HOST:PORT")]
    pub node: String,
    /// The controller's API, or that of each of several; by default that of --url
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub controller: Vec<String>,
    /// The sidecar's directory, for the names of sharded tables
    #[arg(long, requires = "data_dir")]
    pub dir: Option<PathBuf>,
    /// The node's data directory, whose routing tables and forgotten groups are taken away
    #[arg(long, requires = "dir")]
    pub data_dir: Option<PathBuf>,
    /// Gives up after so long; by default it waits for ever
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Lets the node start whatever the controller says: documents that only a newer copy has can be lost
    #[arg(long = "override")]
    pub overridden: bool,
}
