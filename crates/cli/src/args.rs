//! The command line as types, with the help that teaches it.

#![allow(clippy::doc_markdown, reason = "these are help texts: a terminal shows marks as they are")]

use crate::dev::DEFAULT_DIR;
use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use daemon::tls::ClientTls;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Keeps the sharded tables of a Manticore Search cluster complete, balanced and reachable.
#[derive(Clone, Debug, Parser)]
#[command(name = "shardwright", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Begin with:\n  shardwright demo    see a table survive the loss of a node\n  \
                        shardwright dev     a cluster to try things on\n\n\
                        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 nobody answers.")]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How results are printed
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_enum,
        default_value_t,
        env = "SHARDWRIGHT_OUTPUT"
    )]
    pub output: Output,
    /// Settings of a controller (TOML, one `key = value` a line; `config show` lists the keys)
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        env = "SHARDWRIGHT_CONFIG"
    )]
    pub config: Option<PathBuf>,
    /// The controller to ask, http://HOST:PORT; by default that of `dev` in this directory, else port 9380 here
    #[arg(long, global = true, help_heading = "Common options", value_name = "URL", env = "SHARDWRIGHT_URL")]
    pub url: Option<String>,
    /// The controller's token (the file `token` in its directory); only changes need it
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        env = "SHARDWRIGHT_TOKEN_FILE"
    )]
    pub token_file: Option<PathBuf>,
    /// Trusts this CA alone (PEM) towards controllers, webhook and collector; by default those of the system
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        env = "SHARDWRIGHT_CA_FILE"
    )]
    pub ca_file: Option<PathBuf>,
    /// A certificate (PEM) to show to who asks for one
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        requires = "key_file",
        env = "SHARDWRIGHT_CERT_FILE"
    )]
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM), readable by its owner alone
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        requires = "cert_file",
        env = "SHARDWRIGHT_KEY_FILE"
    )]
    pub key_file: Option<PathBuf>,
    /// How lines of the log are written: for people, or one JSON object each
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_enum,
        default_value_t,
        env = "SHARDWRIGHT_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
    /// Kills this process when the one that started it ends, which has this id
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub die_with_parent: Option<u32>,
}

impl Common {
    /// What is trusted and shown towards others.
    pub fn tls(&self) -> ClientTls {
        ClientTls { ca: self.ca_file.clone(), identity: self.cert_file.clone().zip(self.key_file.clone()) }
    }
}

/// How the log of a process is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Demo(DemoArgs),
    Dev(DevArgs),
    #[command(hide = true)]
    Become(BecomeArgs),
    Node(NodeArgs),
    Serve(ServeArgs),
    Sidecar(SidecarArgs),
    Gate(GateArgs),
    #[command(subcommand)]
    Group(GroupCommand),
    #[command(subcommand)]
    Table(TableCommand),
    #[command(subcommand)]
    Rebalance(RebalanceCommand),
    Move(MoveArgs),
    #[command(subcommand)]
    Backup(BackupCommand),
    /// What the cluster is doing: health, operations, queue, alerts
    #[command(after_help = "Example: shardwright status --output json | jq .overall_status")]
    Status,
    /// The figures of operations, queue and cluster
    #[command(after_help = "Example: shardwright metrics --output json | jq .queue.total_queue_depth")]
    Metrics,
    Alerts(AlertsArgs),
    Top(TopArgs),
    /// A check-up: what is wrong, what may come to be, and what to type next
    #[command(after_help = "Example: shardwright health --output json | jq -r '.recommendations[]'")]
    Health,
    /// Removes orphaned clusters, resets what is stuck, and tries again what failed
    #[command(after_help = "A controller does this by itself, unless auto_recovery_enabled is false.")]
    Recover,
    /// Forgets what is older than its retention: failed operations (24 h), finished ones (7 d), old state (30 d)
    #[command(
        after_help = "A controller does this by itself, once in temp_cluster_cleanup_interval_seconds."
    )]
    Cleanup,
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(subcommand)]
    Audit(AuditCommand),
    #[command(subcommand)]
    Token(TokenCommand),
    Plan(PlanArgs),
    #[command(subcommand)]
    Bench(BenchCommand),
    Sim(SimArgs),
}

/// A live view in the terminal: status, alerts, operations, nodes, tables
#[derive(Clone, Debug, Args)]
#[command(after_help = "Keys: arrows, page up and down, home and end move; q ends.")]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub interval: u32,
}

/// What must be known now: alerts that fire, and those that were over a moment ago.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  shardwright alerts\n  \
                        shardwright alerts silence --type under_replicated --label table=products --seconds 3600 \\\n    \
                        --comment 'new disk on its way'\n  \
                        shardwright alerts silence --type under_replicated --label table=products --seconds 0")]
pub struct AlertsArgs {
    #[command(subcommand)]
    pub command: Option<AlertsCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum AlertsCommand {
    /// Alerts of a type, or with a label, are shown and not announced for a while
    Silence {
        /// The type, as in `data_unavailable`; left out: every type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// A label that they have; once for each
        #[arg(long, value_name = "NAME=VALUE", value_parser = key_value)]
        label: Vec<(String, String)>,
        /// For how long; 0 ends the silence of the same type and labels
        #[arg(long)]
        seconds: u64,
        /// Why, for the others
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Silences that are not over
    Silences,
}

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

#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// The nodes that the controller knows, with what they hold
    List,
    /// Moves a node's copies elsewhere and gives it no others; `node list` tells when it is drained
    Drain {
        /// The node's id, HOST:PORT
        id: String,
    },
    /// Lets a node take copies again
    Undrain {
        /// The node's id, HOST:PORT
        id: String,
    },
    /// Takes a drained node out of the cluster, or gives up a lost one
    Remove {
        /// The node's id, HOST:PORT
        id: String,
    },
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

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it as KEY=VALUE; `shardwright config show` lists the keys".to_owned()),
    }
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
    /// Asks nodes over TLS, its own too, and never in plain text; trusts --ca-file
    #[arg(long)]
    pub node_tls: bool,
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
/// come first. The routing tables of the stopped node are taken away, too: it would route by old ones.
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
    /// The node's data directory, whose routing tables are taken away
    #[arg(long, requires = "dir")]
    pub data_dir: Option<PathBuf>,
    /// Gives up after so long; by default it waits for ever
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Lets the node start whatever the controller says: documents that only a newer copy has can be lost
    #[arg(long = "override")]
    pub overridden: bool,
}

/// Brings replication groups back after a total loss.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupCommand {
    /// Takes one node's copy of a stopped group for the newest; documents that only others hold are given up
    Recover {
        /// The group's name, from the alert
        group: String,
        /// The node's id, HOST:PORT
        #[arg(long)]
        from: String,
    },
}

/// Creates, drops and shows sharded tables.
#[derive(Clone, Debug, Subcommand)]
pub enum TableCommand {
    /// Creates a sharded table, as CREATE TABLE … shards='N' rf='M' does
    #[command(
        after_help = "Example: shardwright table create c:products --columns \"title text, price float\" --shards 6 --rf 2"
    )]
    Create {
        /// [CLUSTER:]NAME
        name: String,
        /// Columns as in SQL; without them the table has only ids
        #[arg(long, default_value = "")]
        columns: String,
        /// How many shards
        #[arg(long)]
        shards: u32,
        /// Copies of every shard
        #[arg(long)]
        rf: u32,
        /// Seconds to wait; then everything created is undone
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// Success when the table is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Drops a sharded table with all its documents
    Drop {
        /// [CLUSTER:]NAME
        name: String,
    },
    /// The sharded tables
    List,
    /// One table, with every copy of every shard
    Show {
        /// [CLUSTER:]NAME
        name: String,
    },
    /// Why a shard is where it is, and what forbids each other node
    Explain {
        /// [CLUSTER:]NAME
        name: String,
        /// The shard's number, from 0
        shard: u32,
    },
    /// Changes how many copies every shard has, while the table is used
    #[command(
        after_help = "Example: shardwright table set-rf c:products 3\n\nIt is ordered and goes on by itself: `shardwright table show` shows it shard by shard."
    )]
    SetRf {
        /// [CLUSTER:]NAME
        name: String,
        /// Copies of every shard
        rf: u32,
    },
}

/// Moves groups until every node has its share: by itself when nodes come and go, and by these orders.
///
/// A plan is one for the whole cluster, so pause, stop and resume hold for all tables, whichever is named. Copies that
/// were lost are made anew all the same.
#[derive(Clone, Debug, Subcommand)]
pub enum RebalanceCommand {
    /// What a plan made now would move, and why; nothing is done
    Plan { name: String },
    /// Plans and begins; ends a pause or a stop
    Start { name: String },
    /// Whether moves run, wait, or are held
    Status { name: String },
    /// Lets running moves end and begins no other; the queue stays
    Pause { name: String },
    /// Goes on after a pause
    Resume { name: String },
    /// Lets running moves end and empties the queue; nothing moves by itself until a start
    Stop {
        name: String,
        /// Takes running moves back where their new copy is not used yet
        #[arg(long)]
        now: bool,
    },
    /// Forgets the queue, pauses and waiting times after failures, and plans anew
    Reset { name: String },
}

/// Moves a shard, with its group, from one node to another.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: shardwright move products 3 --from 127.0.0.1:9308 --to 127.0.0.1:9318")]
pub struct MoveArgs {
    /// [CLUSTER:]NAME
    pub name: String,
    /// The shard's number, from 0
    pub shard: u32,
    /// The node that gives its copy up
    #[arg(long, value_name = "HOST:PORT")]
    pub from: String,
    /// The node that gets it
    #[arg(long, value_name = "HOST:PORT")]
    pub to: String,
    /// Takes the shard out of its group first, so that no other moves along
    #[arg(long)]
    pub split: bool,
}

/// Records tables, copies their documents out, checks copies, brings tables back.
///
/// A record of every table that moves is made before each plan. Documents go to a directory of the controller's machine
/// or to an S3-compatible store, whose credentials the controller takes from its environment (`AWS_ACCESS_KEY_ID`, …) or
/// from the file `s3.conf` in its directory.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupCommand {
    /// Records a table: schema, options, placement, routing, counts; with --with-data its documents, too
    #[command(after_help = "Examples:\n  shardwright backup create products\n  \
                            shardwright backup create products --with-data /var/backups/shardwright\n  \
                            shardwright backup create products --with-data s3://backups/search")]
    Create {
        /// [CLUSTER:]NAME
        name: String,
        /// Copies the documents, too: a directory on the controller's machine, or s3://BUCKET[/PREFIX]
        #[arg(long, value_name = "DIR|URL")]
        with_data: Option<String>,
        /// Records a checksum of every shard's documents, which reads them all
        #[arg(long)]
        checksums: bool,
        #[command(flatten)]
        pace: PaceArgs,
        /// Does not wait until the documents are copied
        #[arg(long)]
        no_wait: bool,
    },
    /// Backups, the oldest first
    List,
    /// One backup with all that it recorded
    Show {
        /// As `backup list` shows it
        id: String,
    },
    /// Reads a backup's documents and checks them against what was recorded
    Verify {
        /// As `backup list` shows it
        id: String,
        /// Where its documents are, when this controller does not list it
        #[arg(long, value_name = "DIR|URL")]
        from: Option<String>,
        /// Compares the table as it is now, too
        #[arg(long)]
        live: bool,
    },
    /// Makes a table as it was recorded, and brings its documents back; never deletes a document
    ///
    /// A table that is not there is made on the nodes it was on, or as a new one where those are not all there. One that
    /// is there is filled: missing documents are inserted, those that differ are left and told.
    #[command(after_help = "Examples:\n  shardwright backup restore backup:products:2026-01-31_12-00-00\n  \
                            shardwright backup restore backup:products:2026-01-31_12-00-00 --from /var/backups/shardwright")]
    Restore {
        /// As `backup list` shows it
        id: String,
        /// Where its documents are, when this controller does not list it: into another cluster
        #[arg(long, value_name = "DIR|URL")]
        from: Option<String>,
        /// Puts documents that differ back as they were recorded
        #[arg(long)]
        overwrite: bool,
        /// Another number of copies than recorded, for a table that is not there
        #[arg(long)]
        rf: Option<u32>,
        #[command(flatten)]
        pace: PaceArgs,
        /// Does not wait until it is done
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub struct PaceArgs {
    /// What copying may take of the network, for each of at most two shards at a time [default: 64]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub mib_per_second: Option<u32>,
}

/// Shows and checks settings.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every setting with its value and where that comes from: default, profile, file, env or flag
    #[command(
        after_help = "Example: SHARDWRIGHT_SILENT_NODE_SECONDS=8 shardwright config show --config prod.toml"
    )]
    Show(SettingArgs),
    /// Whether the settings would be accepted; names file, line and valid range when not
    Check(SettingArgs),
}

/// Who changed what, when, from where, and what came of it.
#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// The last lines of the controller's audit log
    #[command(
        after_help = "Example: shardwright audit tail --lines 1000 --output json | jq '.lines[] | select(.actor == \"alice\")'"
    )]
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        lines: u16,
        /// Reads the files of a controller's directory, without a controller
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Whether every line is as it was written: finds one that was changed, removed or moved, and a cut end
    #[command(
        after_help = "With --dir the files are read without a controller, and a cut end is found only while none runs on that \
                            directory: it is the control log that knows how far the audit log goes.\n\n\
                            Exit codes: 0 as it was written, 1 not."
    )]
    Verify {
        /// Reads the files of a controller's directory, without a controller
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// Tokens: who may do what over the controller's API and page.
///
/// A token has one role: viewer reads; operator creates tables, moves, drains, backs up; cluster_admin does everything, drops
/// and restores included; sidecar is for a node's sidecar and gate. The controller keeps only hashes.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token and shows it, this one time
    #[command(
        after_help = "Example: shardwright token create ci --role operator --days 30 > ci.token && chmod 600 ci.token"
    )]
    Create {
        /// Letters, digits, '_', '-' and '.'
        name: String,
        /// viewer, operator, cluster_admin or sidecar
        #[arg(long)]
        role: model::Role,
        /// How long it opens something; by default until it is revoked
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: Option<u64>,
    },
    /// The tokens with their roles and ends
    List,
    /// Ends a token at once, on all controllers
    Revoke { name: String },
}

/// Plans placement alone: reads nodes and units, writes who shall hold what and which copies lead there.
///
/// Input: {"nodes": [{"id", "zone"?, "capacity"?: 1, "state"?: "active"|"draining"|"down"}],
/// "units": [{"id", "rf", "weight"?: 1, "bytes"?: 0, "replicas"?: [node ids]}],
/// "options"?: {"max_units_per_node"?, "transfers_in_per_node"?: 2, "transfers_out_per_node"?: 2}}.
/// A unit without replicas is new; copies on nodes that are down are lost. What is wrong is told with its JSON path.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  echo '{\"nodes\":[{\"id\":\"a\"},{\"id\":\"b\"},{\"id\":\"c\"}],\n    \
                        \"units\":[{\"id\":1,\"rf\":2,\"replicas\":[\"a\",\"b\"]},{\"id\":2,\"rf\":2,\"replicas\":[]}]}' \\\n    \
                        | shardwright plan --input -")]
pub struct PlanArgs {
    /// The problem as JSON; - reads stdin
    #[arg(long, value_name = "FILE|-")]
    pub input: PathBuf,
}

/// Runs whole clusters in virtual time under faults drawn from a seed, and checks the invariants.
///
/// The controller, the planner and the engine are the very same code as in production. Exit code 1 when an invariant
/// was violated; each violation comes with the command line that replays it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  shardwright sim --seeds 1..1000\n  shardwright sim --seed 7\n  \
                        shardwright sim --scenario sweep-failover --seed 1\n  \
                        shardwright sim --seeds 1..200 --break stale-leader")]
pub struct SimArgs {
    /// The seeds, both ends included
    #[arg(long, value_name = "A..B", default_value = "1..100", value_parser = seeds)]
    pub seeds: RangeInclusive<u64>,
    /// One seed alone
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// all, quiet, crashes, partitions, controllers, total-loss, changes, losses, machines; sweeps, or one of them: sweep-OPERATION (the
    /// controller dies at every step boundary) or nodes-OPERATION (a node dies at every statement)
    #[arg(long, value_name = "SCENARIO", default_value = "all")]
    pub scenario: ::sim::Scenario,
    /// Prints what happens, line by line: faults, statements that change something, records of the log
    #[arg(long, requires = "seed")]
    pub story: bool,
    /// Re-introduces a known bug, which must then be found; stops at the first seed that finds it
    #[arg(long = "break", value_name = "BUG", value_parser = bug)]
    pub bug: Option<::sim::Bug>,
    /// The known bugs
    #[arg(long)]
    pub list_bugs: bool,
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let ends = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match ends {
        Some((from, to)) if from <= to => Ok(from..=to),
        _ => Err("it must be A..B with A no greater than B".to_owned()),
    }
}

fn bug(name: &str) -> Result<::sim::Bug, String> {
    ::sim::Bug::from_name(name)
        .ok_or_else(|| "no such bug: `shardwright sim --list-bugs` names them".to_owned())
}

/// The benchmarks behind the figures of the README.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// A turn of the controller while nothing happens, its start and its memory
    Control {
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=200))]
        nodes: u32,
        #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=1000))]
        tables: u32,
        /// Of each table
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=3000))]
        shards: u32,
    },
    /// The control log against writing and syncing the same bytes
    Log {
        /// Where to write; the disk under it is what is measured
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// The planner on clusters of up to 10 million copies, each in a process of its own
    Planner {
        /// Only this one, in this process; numbers are those of the table
        #[arg(long, value_name = "NUMBER")]
        case: Option<usize>,
        /// How often each is solved; the median is shown
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        runs: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn node_runs_one_or_lists_all() {
        let list = parse("shardwright node list --output json").expect("valid");
        assert!(matches!(list.command, Command::Node(NodeArgs { command: Some(NodeCommand::List), .. })));
        let run = parse("shardwright node --dir d --mysql 127.0.0.1:1 --http 127.0.0.1:2").expect("valid");
        assert!(matches!(run.command, Command::Node(NodeArgs { command: None, run: Some(_) })));
        assert!(parse("shardwright node --dir d").is_err());
        assert!(parse("shardwright node").is_err());
    }

    #[test]
    fn global_options_stand_anywhere() {
        let before = parse("shardwright --output json --url http://x:1 status").expect("valid");
        let after = parse("shardwright status --output json --url http://x:1").expect("valid");
        assert_eq!(before.common.output, after.common.output);
        assert_eq!(before.common.url, after.common.url);
    }

    #[test]
    fn what_does_not_exist_yet_is_a_usage_error() {
        for unknown in ["gate", "backup delete", "table copy t", "audit delete", "node drain"] {
            assert!(parse(&format!("shardwright {unknown}")).is_err(), "{unknown}");
        }
    }
}
