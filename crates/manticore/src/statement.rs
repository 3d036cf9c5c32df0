//! Every statement that Shardwright says to a node, as a type; its text is made here and only by quoting.

use crate::documents;
use model::sql::{Ident, Literal};
use model::{Cell, GroupId, NodeId, Schema};
use std::fmt;

/// The options of every group of ours: a small cache file, and a dead member noticed in about two seconds.
/// Galera keeps them per node, so they are given on CREATE and on every JOIN.
const GROUP_CACHE: &str = "gcache.size=8M;";
///
/// Members say who they see again and again until all agree: every second by default, and with this detection they would
/// give up after one, which a busy machine misses. So they say it oftener and have twice the time.
const QUICK: &str = "evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.install_timeout=PT2S;\
evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.join_retrans_period=PT0.3S";
/// The options of the user's own cluster, where we make it. No shard is in it, so nobody waits for its detection, and
/// members that cannot agree in time lose its quorum.
pub const USER_CLUSTER_OPTIONS: &str = "evs.suspect_timeout=PT2S;evs.inactive_timeout=PT6S;\
evs.install_timeout=PT6S;evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;\
evs.join_retrans_period=PT0.3S";

/// A physical shard's name (`system.t_s0`), checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardTable(String);

impl ShardTable {
    /// `None` when `name` is not `system.{table}_s{n}`.
    pub fn new(name: &str) -> Option<Self> {
        model::parse_shard_table(name).map(|_| Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the tables in which the stock sidecar keeps what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StockTable(&'static str);

impl StockTable {
    /// `key`, `value`, `updated_at`: who leads, and when it was last heard of.
    pub const STATE: Self = Self(model::STOCK_TABLES[0]);
    /// Which shards of which table are on which node.
    pub const PLACEMENTS: Self = Self(model::STOCK_TABLES[2]);
    pub const ALL: [Self; 3] = [Self::STATE, Self(model::STOCK_TABLES[1]), Self::PLACEMENTS];

    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for StockTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// One target of a routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `local='system.t_s0'`
    Local(ShardTable),
    /// `agent='n1:system.t_s0|n2:system.t_s0…'`
    Agent { nodes: Vec<NodeId>, table: ShardTable, retry: Retry },
}

/// How an agent's mirrors are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A single remote shard of an RF=1 table: no bracket, as recorded.
    Plain,
    /// `[retry_count=3,ha_strategy=nodeads]`. searchd tries `retry_count` times for each mirror and asks anew each time which one;
    /// `nodeads` passes over a node after four failures in a row, so that of two mirrors a dead one takes at most four of the
    /// seven tries. With the stock sidecar's `noerrors` a busy node that died goes on being chosen, at times for every try,
    /// and the shard is left out of the answer (docs/searchd.md).
    Mirrors,
    /// The same meaning with the words the other way round: an RF=1 table whose shard has two copies while it
    /// moves. So what a node shows can be read back as exactly the route that was written.
    MirrorsWhileMoving,
}

impl Retry {
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Mirrors => "[retry_count=3,ha_strategy=nodeads]",
            Self::MirrorsWhileMoving => "[ha_strategy=nodeads,retry_count=3]",
        }
    }
}

/// Documents of one page: a thousand is all that searchd sorts unless it is told otherwise.
pub const PAGE_ROWS: usize = 500;

/// A statement for one node. `to_string()` is its text; [`crate::closed_set`] checks that text again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    CreateShard {
        table: ShardTable,
        schema: Schema,
    },
    CreateRoute {
        table: model::TableName,
        schema: Schema,
        targets: Vec<Target>,
    },
    DropShard {
        table: ShardTable,
    },
    DropRoute {
        table: model::TableName,
    },
    CreateCluster {
        group: GroupId,
        listen: Option<String>,
    },
    JoinCluster {
        group: GroupId,
        at: NodeId,
        listen: Option<String>,
    },
    AddTables {
        group: GroupId,
        tables: Vec<ShardTable>,
    },
    RemoveTable {
        group: GroupId,
        table: ShardTable,
    },
    UpdateNodes {
        group: GroupId,
    },
    Bootstrap {
        group: GroupId,
    },
    /// This node takes the other members of the group for lost after a tenth of a second of silence. Said only before it
    /// leaves an empty group of two: searchd's EXIT waits for the end of this time there.
    SuspectSoon {
        group: GroupId,
    },
    /// Ends this node's replication of the group, whatever it waits for. Said only of one that joins and has lost its donor
    /// before it was given anything: searchd's JOIN waits for ever then, and holds the node's one lock for cluster statements.
    EndJoin {
        group: GroupId,
    },
    ExitCluster {
        group: GroupId,
    },
    DeleteCluster {
        group: GroupId,
    },
    LockTables {
        tables: Vec<ShardTable>,
    },
    UnlockTables,
    /// `COUNT(*)`, sum, least and greatest id, in this order.
    Content {
        table: ShardTable,
    },
    /// `COUNT(*)` over a routing table: all documents of a user's table.
    Count {
        table: model::TableName,
    },
    /// The next documents behind an id, whole, in the order of ids; `None` begins.
    Page {
        table: ShardTable,
        behind: Option<i64>,
        limit: usize,
    },
    /// Documents of a restore, through a routing table: new ones, or with `replace` in place of those there are.
    Put {
        table: model::TableName,
        replace: bool,
        columns: Vec<String>,
        rows: Vec<Vec<Cell>>,
    },
    Truncate {
        table: ShardTable,
        group: Option<GroupId>,
    },
    Optimize {
        table: ShardTable,
    },
    FlushRamchunk {
        table: ShardTable,
    },
    /// The next rows of a table of the stock sidecar behind an id; `None` begins.
    StockPage {
        table: StockTable,
        behind: Option<i64>,
    },
    DescribeStock {
        table: StockTable,
    },
    RemoveStock {
        cluster: GroupId,
        table: StockTable,
    },
    DropStock {
        table: StockTable,
    },
    ShowClusterStatus,
    /// How long searches took.
    ShowSearchStatistics,
    /// Where the node listens, among others.
    ShowSettings,
    ShowTables,
    ShowSystemTables,
    ShowRoute {
        table: model::TableName,
    },
    Describe {
        table: ShardTable,
    },
    ShowThreads,
    /// The rules for a user of searchd.
    ShowPermissions {
        user: String,
    },
}

impl Statement {
    /// Whether it only looks: then a failure or silence says nothing about the node's state.
    pub const fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Content { .. }
                | Self::Count { .. }
                | Self::Page { .. }
                | Self::ShowClusterStatus
                | Self::ShowSearchStatistics
                | Self::ShowSettings
                | Self::ShowTables
                | Self::ShowSystemTables
                | Self::ShowRoute { .. }
                | Self::Describe { .. }
                | Self::StockPage { .. }
                | Self::DescribeStock { .. }
                | Self::ShowThreads
                | Self::ShowPermissions { .. }
        )
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateShard { table, schema } => {
                write!(f, "CREATE TABLE {table}")?;
                columns(f, schema)?;
                options(f, schema)
            }
            Self::CreateRoute { table, schema, targets } => {
                write!(f, "CREATE TABLE {}", Ident(table.as_str()))?;
                columns(f, schema)?;
                options(f, schema)?;
                f.write_str(" type='shard'")?;
                targets.iter().try_for_each(|one| target(f, one))
            }
            Self::DropShard { table } => write!(f, "DROP TABLE IF EXISTS {table}"),
            Self::DropRoute { table } => write!(f, "DROP TABLE {} OPTION force=1", Ident(table.as_str())),
            Self::CreateCluster { group, listen } => {
                write!(f, "CREATE CLUSTER {group} ")?;
                path_and_options(f, group, listen.as_deref())
            }
            Self::JoinCluster { group, at, listen } => {
                write!(f, "JOIN CLUSTER {group} AT {} ", Literal(at.as_str()))?;
                path_and_options(f, group, listen.as_deref())
            }
            Self::AddTables { group, tables } => {
                write!(f, "ALTER CLUSTER {group} ADD ")?;
                // searchd reads no space behind these commas.
                list(f, tables, ",", "")
            }
            Self::RemoveTable { group, table } => write!(f, "ALTER CLUSTER {group} DROP {table}"),
            Self::UpdateNodes { group } => write!(f, "ALTER CLUSTER {group} UPDATE nodes"),
            Self::Bootstrap { group } => write!(f, "SET CLUSTER {group} GLOBAL 'pc.bootstrap' = 1"),
            Self::SuspectSoon { group } => {
                write!(f, "SET CLUSTER {group} GLOBAL 'evs.suspect_timeout' = 'PT0.1S'")
            }
            Self::EndJoin { group } => write!(f, "SET CLUSTER {group} GLOBAL 'gmcast.isolate' = '2'"),
            Self::ExitCluster { group } => write!(f, "EXIT CLUSTER {group}"),
            Self::DeleteCluster { group } => write!(f, "DELETE CLUSTER {group}"),
            Self::LockTables { tables } => {
                f.write_str("LOCK TABLES ")?;
                list(f, tables, ", ", " READ")
            }
            Self::UnlockTables => f.write_str("UNLOCK TABLES"),
            Self::Content { table } => write!(f, "SELECT COUNT(*), SUM(id), MIN(id), MAX(id) FROM {table}"),
            Self::Count { table } => write!(f, "SELECT COUNT(*) FROM {}", Ident(table.as_str())),
            Self::Page { table, behind: None, limit } => {
                write!(f, "SELECT * FROM {table} ORDER BY id ASC LIMIT {limit}")
            }
            Self::Page { table, behind: Some(id), limit } => {
                write!(f, "SELECT * FROM {table} WHERE id > {id} ORDER BY id ASC LIMIT {limit}")
            }
            Self::Put { table, replace, columns, rows } => {
                let verb = if *replace { "REPLACE" } else { "INSERT" };
                write!(f, "{verb} INTO {} ", Ident(table.as_str()))?;
                documents::write(f, columns, rows)
            }
            Self::Truncate { table, group: Some(group) } => write!(f, "TRUNCATE TABLE {group}:{table}"),
            Self::Truncate { table, group: None } => write!(f, "TRUNCATE TABLE {table}"),
            Self::Optimize { table } => write!(f, "OPTIMIZE TABLE {table}"),
            Self::FlushRamchunk { table } => write!(f, "FLUSH RAMCHUNK {table}"),
            Self::StockPage { table, behind: None } => {
                write!(f, "SELECT * FROM {table} ORDER BY id ASC LIMIT {PAGE_ROWS}")
            }
            Self::StockPage { table, behind: Some(id) } => {
                write!(f, "SELECT * FROM {table} WHERE id > {id} ORDER BY id ASC LIMIT {PAGE_ROWS}")
            }
            Self::DescribeStock { table } => write!(f, "DESC {table}"),
            Self::RemoveStock { cluster, table } => write!(f, "ALTER CLUSTER {cluster} DROP {table}"),
            Self::DropStock { table } => write!(f, "DROP TABLE IF EXISTS {table}"),
            Self::ShowClusterStatus => f.write_str("SHOW STATUS LIKE 'cluster%'"),
            Self::ShowSearchStatistics => f.write_str("SHOW STATUS LIKE 'search_stats_ms_pct99'"),
            Self::ShowSettings => f.write_str("SHOW SETTINGS"),
            Self::ShowTables => f.write_str("SHOW TABLES"),
            Self::ShowSystemTables => f.write_str("SHOW TABLES FROM SYSTEM"),
            Self::ShowRoute { table } => {
                write!(f, "SHOW CREATE TABLE {} OPTION force=1", Ident(table.as_str()))
            }
            Self::Describe { table } => write!(f, "DESC {table}"),
            Self::ShowThreads => f.write_str("SHOW THREADS"),
            Self::ShowPermissions { user } => write!(f, "SHOW PERMISSIONS FOR {}", Literal(user)),
        }
    }
}

fn columns(f: &mut fmt::Formatter<'_>, schema: &Schema) -> fmt::Result {
    if schema.columns.is_empty() {
        // Without a list searchd makes `id` alone; a list makes that visible and is read by every version.
        return f.write_str(" (id bigint)");
    }
    f.write_str(" (")?;
    for (index, column) in schema.columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{} {}", Ident(&column.name), column.kind)?;
    }
    f.write_str(")")
}

fn options(f: &mut fmt::Formatter<'_>, schema: &Schema) -> fmt::Result {
    schema.options.iter().try_for_each(|(key, value)| write!(f, " {key}={}", Literal(value)))
}

fn target(f: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
    match target {
        Target::Local(table) => write!(f, " local={}", Literal(table.as_str())),
        Target::Agent { nodes, table, retry } => {
            let mirrors: Vec<String> = nodes.iter().map(|node| format!("{node}:{table}")).collect();
            write!(f, " agent={}", Literal(&format!("{}{}", mirrors.join("|"), retry.suffix())))
        }
    }
}

fn path_and_options(f: &mut fmt::Formatter<'_>, group: &GroupId, listen: Option<&str>) -> fmt::Result {
    let listen = listen.map(|address| format!(";gmcast.listen_addr={address}")).unwrap_or_default();
    if group.is_ours() {
        let options = format!("{GROUP_CACHE}{QUICK}{listen}");
        return write!(f, "{} as path, {} as options", Literal(group.as_str()), Literal(&options));
    }
    // The user's own cluster lies in the data directory itself.
    write!(f, "{} as options", Literal(&format!("{USER_CLUSTER_OPTIONS}{listen}")))
}

fn list(f: &mut fmt::Formatter<'_>, tables: &[ShardTable], separator: &str, suffix: &str) -> fmt::Result {
    for (index, table) in tables.iter().enumerate() {
        write!(f, "{}{table}{suffix}", if index == 0 { "" } else { separator })?;
    }
    Ok(())
}
