//! Talks to nodes over HTTP (`/sql?mode=raw`): pooled connections, a deadline for every call, a limit on every
//! answer. Retries nothing: whether something may be repeated is the caller's decision.

use crate::documents::{self, Documents};
use crate::login::Logins;
use crate::reply::{self, Reply, Rows};
use crate::statement::{PAGE_ROWS, ShardTable, StockTable};
use crate::status::{self, Unreadable};
use crate::{CallError, Statement, closed_set, declared};
use model::{
    GroupId, Measurement, NodeId, NodeSettings, NodeStatus, Reach, TableName, TablesStatus, UserRights,
};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A reply to one of our own statements: the longest are cluster statuses (about 4 KiB a cluster, hundreds of
/// clusters) and lists of 100,000 tables.
const OWN_REPLY_BYTES_MAX: usize = 16 << 20;

/// A reply to a user's statement that is run again is held in memory once; searchd's own limit is 128 MiB a packet.
const USER_REPLY_BYTES_MAX: usize = 128 << 20;

/// Idle connections kept per node: one poller, a few statements beside it.
const IDLE_CONNECTIONS_PER_NODE: usize = 8;

/// Of a table of the stock sidecar's: a thousand tables on a hundred nodes.
const STOCK_ROWS_MAX: usize = 100_000;

/// An HTTP client for nodes. Cheap to clone; clones share connections.
///
/// searchd closes a connection after every error reply without saying so, and whoever sends on it at that moment does not
/// know what became of it. So only looks are said on connections that are kept, and again when one breaks; what changes
/// something, and what a user said, gets a connection of its own.
#[derive(Clone)]
pub struct Client {
    kept: reqwest::Client,
    fresh: reqwest::Client,
    scheme: &'static str,
    logins: Logins,
}

/// As whom something is said.
#[derive(Clone, Copy)]
enum As<'a> {
    /// Shardwright's own user; where there is none, the sidecar.
    Own,
    Sidecar,
    Nobody,
    /// A user who failed with it before.
    User(&'a str),
}

/// How nodes are reached over HTTP.
#[derive(Debug)]
pub struct Way {
    kept: reqwest::ClientBuilder,
    fresh: reqwest::ClientBuilder,
    scheme: &'static str,
}

impl Way {
    /// In plain text.
    pub fn plain() -> Self {
        Self { kept: reqwest::Client::builder(), fresh: reqwest::Client::builder(), scheme: "http" }
    }

    /// Over TLS and nothing else, trusting and showing what `builder` gives.
    pub fn tls<E>(builder: impl Fn() -> Result<reqwest::ClientBuilder, E>) -> Result<Self, E> {
        let (kept, fresh) = (builder()?.https_only(true), builder()?.https_only(true));
        Ok(Self { kept, fresh, scheme: "https" })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("logins", &self.logins).finish_non_exhaustive()
    }
}

impl Client {
    /// `user_agent` is [`crate::USER_AGENT`] for sidecars and controllers, so that failures come back to them and
    /// are not handed to a sidecar.
    pub fn new(user_agent: &str, logins: Logins, way: Way) -> Result<Self, CallError> {
        let keeping = |http: reqwest::ClientBuilder, idle: usize| {
            http.user_agent(user_agent)
                .pool_max_idle_per_host(idle)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .tcp_nodelay(true)
                .build()
                .map_err(|error| CallError::NotSent(format!("the HTTP client cannot be set up: {error}")))
        };
        let Way { kept, fresh, scheme } = way;
        let (kept, fresh) = (keeping(kept, IDLE_CONNECTIONS_PER_NODE)?, keeping(fresh, 0)?);
        Ok(Self { kept, fresh, scheme, logins })
    }

    /// Sends one statement of ours, after a last look at its text.
    pub async fn execute(
        &self,
        node: &NodeId,
        statement: &Statement,
        timeout: Duration,
    ) -> Result<Reply, CallError> {
        let text = statement.to_string();
        closed_set::check(&text).map_err(|error| CallError::NotSent(error.to_string()))?;
        let (status, body) = if statement.only_looks() {
            self.look(node, &text, timeout).await?
        } else {
            self.post(&self.fresh, node, text, As::Own, OWN_REPLY_BYTES_MAX, timeout).await?
        };
        reply::read(status, &body).map_err(|error| bad_reply(node, error.to_string()))
    }

    /// Sends a user's statement as it is, as that user when named; gives the HTTP status and the JSON unchanged.
    pub async fn pass(
        &self,
        node: &NodeId,
        sql: &str,
        user: Option<&str>,
        timeout: Duration,
    ) -> Result<(u16, Value), CallError> {
        let (fresh, sql) = (&self.fresh, sql.to_owned());
        let who = user.map_or(As::Own, As::User);
        let (status, body) = self.post(fresh, node, sql, who, USER_REPLY_BYTES_MAX, timeout).await?;
        let value =
            serde_json::from_slice(&body).map_err(|error| bad_reply(node, format!("no JSON: {error}")))?;
        Ok((status, value))
    }

    /// One look: the node's clusters, and its tables and routes when `tables`. Never longer than `timeout`.
    pub async fn poll(&self, node: &NodeId, tables: bool, timeout: Duration) -> (Reach, Option<NodeStatus>) {
        let look = async {
            if tables { self.tables(node, timeout).await } else { self.status(node, timeout).await }
        };
        match tokio::time::timeout(timeout, look).await {
            Ok(Ok(status)) => (Reach::Answered, Some(status)),
            Ok(Err(CallError::Refused { .. })) => (Reach::Refused, None),
            // What cannot be read counts as silence: nothing may be concluded from it.
            Ok(Err(_)) | Err(_) => (Reach::Silent, None),
        }
    }

    /// The clusters of a node, without its tables.
    pub async fn status(&self, node: &NodeId, timeout: Duration) -> Result<NodeStatus, CallError> {
        let rows = self.rows(node, &Statement::ShowClusterStatus, timeout).await?;
        Ok(NodeStatus { clusters: read(node, status::clusters(&rows))?, tables: None })
    }

    /// What the node shows of the copy that is made in this cluster just now.
    pub async fn transfer(
        &self,
        node: &NodeId,
        group: &GroupId,
        timeout: Duration,
    ) -> Result<status::Transfer, CallError> {
        let rows = self.rows(node, &Statement::ShowClusterStatus, timeout).await?;
        read(node, status::transfer(&rows, group))
    }

    /// The clusters of a node, and its tables and routes. `timeout` is for each of its requests.
    pub async fn tables(&self, node: &NodeId, timeout: Duration) -> Result<NodeStatus, CallError> {
        let mut found = self.status(node, timeout).await?;
        let mut tables = TablesStatus::default();
        let system = self.rows(node, &Statement::ShowSystemTables, timeout).await?;
        tables.shards = read(node, status::table_list(&system))?.into_iter().map(|(name, _)| name).collect();
        let shown = self.rows(node, &Statement::ShowTables, timeout).await?;
        for (name, kind) in read(node, status::table_list(&shown))? {
            let route = if kind == "shard" { self.route(node, &name, timeout).await? } else { None };
            match route {
                Some(route) => {
                    tables.routes.insert(name, Arc::new(route));
                }
                // A routing table of somebody else's making is shown as a table that has the name.
                None => {
                    tables.plain.insert(name);
                }
            }
        }
        found.tables = Some(tables);
        Ok(found)
    }

    /// How many ports the node's range for replication has (`None` where it names none and takes any), and what else its
    /// configuration says, where it is a real searchd. `processors` are those of its machine.
    pub async fn settings(
        &self,
        node: &NodeId,
        processors: u32,
        timeout: Duration,
    ) -> Result<(Option<u32>, Option<NodeSettings>), CallError> {
        let rows = self.rows(node, &Statement::ShowSettings, timeout).await?;
        Ok((status::replication_ports(&rows), status::node_settings(&rows, processors)))
    }

    /// The 99th percentile of the node's searches in the last minute, in ms; `None` when there were none.
    pub async fn query_p99_ms(&self, node: &NodeId, timeout: Duration) -> Result<Option<u64>, CallError> {
        let rows = self.rows(node, &Statement::ShowSearchStatistics, timeout).await?;
        Ok(status::query_p99_ms(&rows))
    }

    /// Whether the node has users. One that has none answers whoever asks, and names a user all the same: the one that a
    /// client of its MySQL port says, whom nobody has checked.
    pub async fn has_users(&self, node: &NodeId, timeout: Duration) -> Result<bool, CallError> {
        let text = Statement::ShowClusterStatus.to_string();
        closed_set::check(&text).map_err(|error| CallError::NotSent(error.to_string()))?;
        let (status, body) =
            self.post(&self.fresh, node, text, As::Nobody, OWN_REPLY_BYTES_MAX, timeout).await?;
        if status == 401 || status == 403 {
            return Ok(true);
        }
        match reply::read(status, &body).map_err(|error| bad_reply(node, error.to_string()))? {
            Reply::Rows(_) => Ok(false),
            Reply::Error { message } => Err(bad_reply(node, message)),
            Reply::Done { .. } => Err(bad_reply(node, "no rows of its status".to_owned())),
        }
    }

    /// What searchd lets its user do; nothing, when it knows no such user.
    pub async fn rights(
        &self,
        node: &NodeId,
        user: &str,
        timeout: Duration,
    ) -> Result<UserRights, CallError> {
        let statement = Statement::ShowPermissions { user: user.to_owned() };
        let text = statement.to_string();
        closed_set::check(&text).map_err(|error| CallError::NotSent(error.to_string()))?;
        // Our own user need not be one who may ask about others.
        let said = self.post(&self.fresh, node, text, As::Sidecar, OWN_REPLY_BYTES_MAX, timeout).await?;
        let answer = reply::read(said.0, &said.1).map_err(|error| bad_reply(node, error.to_string()))?;
        let rules = match answer {
            Reply::Rows(rows) => read(node, status::user_rules(&rows, user))?,
            Reply::Error { message } if message.ends_with("not found") => Vec::new(),
            Reply::Error { message } => return Err(bad_reply(node, message)),
            Reply::Done { .. } => return Err(bad_reply(node, format!("no rows for {statement}"))),
        };
        Ok(UserRights { user: user.to_owned(), rules })
    }

    async fn route(
        &self,
        node: &NodeId,
        name: &str,
        timeout: Duration,
    ) -> Result<Option<model::Route>, CallError> {
        let Ok(table) = TableName::new(name) else { return Ok(None) };
        Ok(self.declared(node, &table, timeout).await?.map(|declared| declared.route))
    }

    /// The columns of a physical shard, as shown; `None` when there is no such table.
    pub async fn describe(
        &self,
        node: &NodeId,
        table: &ShardTable,
        timeout: Duration,
    ) -> Result<Option<model::Schema>, CallError> {
        let describe = Statement::Describe { table: table.clone() };
        match self.execute(node, &describe, timeout).await? {
            Reply::Rows(rows) if !rows.rows.is_empty() => Ok(Some(read(node, declared::described(&rows))?)),
            _ => Ok(None),
        }
    }

    /// Rows, sum and extremes of ids of these shards, and how far each of the node's clusters was before.
    /// With `deep` a digest of every row, too. `timeout` is for each of its requests.
    pub async fn measure(
        &self,
        node: &NodeId,
        tables: &[String],
        deep: bool,
        timeout: Duration,
    ) -> Result<Measurement, CallError> {
        let clusters = self.status(node, timeout).await?.clusters;
        let last_committed =
            clusters.into_iter().map(|(group, status)| (group, status.last_committed)).collect();
        let mut measured = Measurement { last_committed, ..Measurement::default() };
        for name in tables {
            let table = ShardTable::new(name)
                .ok_or_else(|| CallError::NotSent(format!("'{name}' is not a physical shard")))?;
            let rows = self.rows(node, &Statement::Content { table: table.clone() }, timeout).await?;
            let content = read(node, status::content(&rows))?;
            if deep {
                let digest = self.digest(node, &table, content.rows, timeout).await?;
                measured.digests.insert(name.clone(), digest);
            }
            measured.contents.insert(name.clone(), content);
        }
        Ok(measured)
    }

    /// All documents of a user's table, by its routing table on `node`. An error too when a shard was left out.
    pub async fn count(&self, node: &NodeId, table: &TableName, timeout: Duration) -> Result<u64, CallError> {
        let statement = Statement::Count { table: table.clone() };
        let rows = self.rows(node, &statement, timeout).await?;
        let cell = rows.rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        match cell.and_then(|text| text.parse().ok()) {
            Some(count) if rows.warning.is_empty() => Ok(count),
            Some(_) => Err(bad_reply(node, format!("{statement}: {}", rows.warning))),
            None => Err(bad_reply(node, format!("{statement}: no count"))),
        }
    }

    /// All documents in the order of their ids, whole, in one number. An error when there are not `count` of them.
    async fn digest(
        &self,
        node: &NodeId,
        table: &ShardTable,
        count: u64,
        timeout: Duration,
    ) -> Result<u64, CallError> {
        let mut hasher = DefaultHasher::new();
        let (mut found, mut behind) = (0, None);
        while found < count {
            let page = Statement::Page { table: table.clone(), behind, limit: PAGE_ROWS };
            let rows = self.rows(node, &page, timeout).await?;
            let last = (0..rows.rows.len()).next_back().and_then(|row| rows.value(row, "id"));
            let Some(last) = last.and_then(status::integer) else { break };
            rows.columns.hash(&mut hasher);
            rows.rows.iter().for_each(|row| row.hash(&mut hasher));
            found += rows.rows.len() as u64;
            behind = Some(last);
        }
        if found == count {
            return Ok(hasher.finish());
        }
        Err(bad_reply(node, format!("{table} has {count} documents and shows {found}")))
    }

    /// The next documents of a shard behind an id, with their values as they are. [`CallError::TooLarge`] asks for fewer.
    pub async fn page(
        &self,
        node: &NodeId,
        table: &ShardTable,
        behind: Option<i64>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Documents, CallError> {
        let text = Statement::Page { table: table.clone(), behind, limit }.to_string();
        closed_set::check(&text).map_err(|error| CallError::NotSent(error.to_string()))?;
        let (status, body) = self.look(node, &text, timeout).await?;
        let read = documents::read(status, &body).map_err(|error| bad_reply(node, error.to_string()))?;
        read.map_err(|message| bad_reply(node, message))
    }

    /// What a routing table on `node` declares; `None` where there is none that can be read.
    pub async fn declared(
        &self,
        node: &NodeId,
        table: &TableName,
        timeout: Duration,
    ) -> Result<Option<declared::DeclaredRoute>, CallError> {
        match self.execute(node, &Statement::ShowRoute { table: table.clone() }, timeout).await? {
            Reply::Rows(rows) => Ok(declared::route(&rows, node).ok()),
            Reply::Done { .. } | Reply::Error { .. } => Ok(None),
        }
    }

    /// A table of the stock sidecar's, which must be there: its columns and all its rows. `timeout` is for each request.
    pub async fn stock(
        &self,
        node: &NodeId,
        table: StockTable,
        timeout: Duration,
    ) -> Result<(model::Schema, Rows), CallError> {
        let described = self.rows(node, &Statement::DescribeStock { table }, timeout).await?;
        let schema = read(node, declared::described(&described))?;
        let mut all = Rows::default();
        let mut behind = None;
        loop {
            let page = self.rows(node, &Statement::StockPage { table, behind }, timeout).await?;
            let last = (0..page.rows.len()).next_back().and_then(|row| page.value(row, "id"));
            behind = last.and_then(status::integer);
            let more = page.rows.len() == PAGE_ROWS && behind.is_some();
            all.columns = page.columns;
            all.rows.extend(page.rows);
            if all.rows.len() > STOCK_ROWS_MAX {
                return Err(bad_reply(node, format!("{table} has more than {STOCK_ROWS_MAX} rows")));
            }
            if !more {
                return Ok((schema, all));
            }
        }
    }

    async fn rows(&self, node: &NodeId, statement: &Statement, timeout: Duration) -> Result<Rows, CallError> {
        match self.execute(node, statement, timeout).await? {
            Reply::Rows(rows) => Ok(rows),
            Reply::Done { .. } => Err(bad_reply(node, format!("no rows for {statement}"))),
            Reply::Error { message } => Err(bad_reply(node, format!("{statement}: {message}"))),
        }
    }

    /// What changes nothing, on a kept connection; on a new one when that breaks.
    async fn look(&self, node: &NodeId, text: &str, timeout: Duration) -> Result<(u16, Vec<u8>), CallError> {
        let say = |by| self.post(by, node, text.to_owned(), As::Own, OWN_REPLY_BYTES_MAX, timeout);
        match say(&self.kept).await {
            Err(CallError::Broken { .. }) => say(&self.fresh).await,
            said => said,
        }
    }

    async fn post(
        &self,
        by: &reqwest::Client,
        node: &NodeId,
        sql: String,
        who: As<'_>,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<(u16, Vec<u8>), CallError> {
        let url = format!("{}://{node}/sql?mode=raw", self.scheme);
        let mut request = by.post(url).timeout(timeout).body(sql);
        request = match (who, &self.logins) {
            (As::Nobody, _) => request,
            (As::Own, Logins { own: Some(login), .. }) => {
                request.basic_auth(&login.name, Some(login.password()))
            }
            (_, Logins { sidecar: Some(token), .. }) => request.bearer_auth(token.expose_secret()),
            (_, Logins { sidecar: None, .. }) => request,
        };
        if let As::User(user) = who {
            request = request.header("X-Manticore-User", user);
        }
        let mut response = request.send().await.map_err(|error| call_error(node, &error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| call_error(node, &error))? {
            if body.len() + chunk.len() > bytes_max {
                return Err(CallError::TooLarge { node: node.to_string(), bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

fn read<T>(node: &NodeId, result: Result<T, Unreadable>) -> Result<T, CallError> {
    result.map_err(|error| bad_reply(node, error.to_string()))
}

fn bad_reply(node: &NodeId, reason: String) -> CallError {
    CallError::BadReply { node: node.to_string(), reason }
}

fn call_error(node: &NodeId, error: &reqwest::Error) -> CallError {
    let node = node.to_string();
    // The innermost cause is the one that says something.
    let mut cause: &dyn std::error::Error = error;
    let mut refused = false;
    while let Some(source) = cause.source() {
        cause = source;
        refused |=
            cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
    }
    let reason = cause.to_string();
    if error.is_connect() && refused {
        CallError::Refused { node, reason }
    } else if error.is_timeout() {
        CallError::Silent { node }
    } else if error.is_builder() {
        CallError::NotSent(format!("{node}: {reason}"))
    } else {
        CallError::Broken { node, reason }
    }
}
