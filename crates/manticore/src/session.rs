//! One MySQL session with a node: what must happen under one lock happens here, and nothing else.
//!
//! HTTP has no sessions, so `LOCK TABLES` would be gone with its request.

use crate::login::Login;
use crate::reply::{Reply, Rows};
use crate::statement::ShardTable;
use crate::{CallError, Statement, closed_set, outcome, status};
use model::{Content, Outcome};
use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Conn, OptsBuilder, Row, SslOpts, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

/// What a session over TLS trusts and shows. Never shows a key.
#[derive(Clone)]
pub struct SessionTls(SslOpts);

impl SessionTls {
    /// From PEM: the CAs that are trusted, those of no system among them, and a certificate with its key for a node that
    /// asks for one. Texts that are none make every connection fail.
    pub fn new(ca: &str, identity: Option<(&str, &str)>) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec().into();
        let identity = identity.map(|(cert, key)| ClientIdentity::new(bytes(cert), bytes(key)));
        let options = SslOpts::default()
            .with_root_certs(vec![bytes(ca)])
            .with_disable_built_in_roots(true)
            .with_client_identity(identity);
        Self(options)
    }
}

impl fmt::Debug for SessionTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionTls")
    }
}

/// A connection to a node's MySQL port. Dropping it ends the session and its locks.
#[derive(Debug)]
pub struct Session {
    conn: Conn,
    address: String,
    /// For each statement.
    timeout: Duration,
}

impl Session {
    /// Connects to `host:port`; without a login as searchd without users takes it. With `tls` nothing but the first
    /// packet's request for it is said in plain text: a node that has none is not told who asks.
    pub async fn connect(
        address: &str,
        login: Option<&Login>,
        tls: Option<&SessionTls>,
        timeout: Duration,
    ) -> Result<Self, CallError> {
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| CallError::NotSent(format!("'{address}' is not host:port of a MySQL listener")))?;
        let options = OptsBuilder::default()
            .ip_or_hostname(host.to_owned())
            .tcp_port(port)
            .user(login.map(|login| &login.name))
            .pass(login.map(Login::password))
            .ssl_opts(tls.map(|tls| tls.0.clone()))
            // Given, the driver does not ask for them by `SELECT @@…`, which searchd may refuse.
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(28_800))
            .prefer_socket(Some(false));
        let conn = within(address, timeout, Conn::new(options)).await?;
        Ok(Self { conn, address: address.to_owned(), timeout })
    }

    /// Sends one statement of ours, after a last look at its text.
    pub async fn execute(&mut self, statement: &Statement) -> Result<Reply, CallError> {
        let text = statement.to_string();
        closed_set::check(&text).map_err(|error| CallError::NotSent(error.to_string()))?;
        let answer = within(&self.address, self.timeout, query(&mut self.conn, &text)).await;
        match answer {
            Err(CallError::BadReply { reason, .. }) => Ok(Reply::Error { message: reason }),
            other => other,
        }
    }

    /// The content of a shard.
    pub async fn content(&mut self, table: &ShardTable) -> Result<Content, CallError> {
        let statement = Statement::Content { table: table.clone() };
        let answer = self.execute(&statement).await?;
        let bad = |reason: String| CallError::BadReply { node: self.address.clone(), reason };
        let rows = match answer {
            Reply::Rows(rows) => rows,
            Reply::Done { .. } => return Err(bad(format!("no rows for {statement}"))),
            Reply::Error { message } => return Err(bad(message)),
        };
        status::content(&rows).map_err(|error| bad(error.to_string()))
    }

    /// Drops plain copies that left a group, each under its lock and only while its content is still what it was:
    /// a row more is a write that an old route brought here, and stops the drop.
    pub async fn drop_copies(&mut self, copies: &BTreeMap<String, Content>) -> Outcome {
        for (name, content) in copies {
            let Some(table) = ShardTable::new(name) else {
                return Outcome::Refused { message: format!("'{name}' is not a physical shard") };
            };
            match self.drop_copy(&table, content).await {
                Outcome::Done { .. } => {}
                other => return other,
            }
        }
        Outcome::Done { contents: BTreeMap::new() }
    }

    async fn drop_copy(&mut self, table: &ShardTable, left_with: &Content) -> Outcome {
        let lock = Statement::LockTables { tables: vec![table.clone()] };
        match outcome(&lock, &self.execute(&lock).await) {
            Outcome::Done { .. } => {}
            // A copy that is gone has been dropped by an earlier try.
            Outcome::Refused { message } if is_absent(&message) => {
                return Outcome::Done { contents: BTreeMap::new() };
            }
            other => return other,
        }
        let dropped = self.drop_locked(table, left_with).await;
        match (dropped, self.execute(&Statement::UnlockTables).await) {
            // Whether or not the lock is gone, the copy is; the session's end frees the rest.
            (done @ Outcome::Done { .. }, _) | (done, Ok(_)) => done,
            (_, Err(error)) => Outcome::Unknown { message: error.to_string() },
        }
    }

    async fn drop_locked(&mut self, table: &ShardTable, left_with: &Content) -> Outcome {
        match self.content(table).await {
            Ok(content) if content == *left_with => {
                let drop = Statement::DropShard { table: table.clone() };
                outcome(&drop, &self.execute(&drop).await)
            }
            Ok(content) => Outcome::Refused {
                message: format!(
                    "the copy of '{table}' was written to after it left its group ({} rows then, {} now): \
                     compare it with the placed copies before dropping it",
                    left_with.rows, content.rows
                ),
            },
            Err(CallError::BadReply { reason, .. }) if is_absent(&reason) => {
                Outcome::Done { contents: BTreeMap::new() }
            }
            Err(error) => Outcome::Refused { message: format!("'{table}' was not dropped: {error}") },
        }
    }

    /// Runs `work` while nobody can write to `tables`, and releases them whatever it gave.
    pub async fn while_locked<T>(
        &mut self,
        tables: Vec<ShardTable>,
        work: impl Future<Output = T>,
    ) -> Result<T, Outcome> {
        let lock = Statement::LockTables { tables };
        match outcome(&lock, &self.execute(&lock).await) {
            Outcome::Done { .. } => {}
            other => return Err(other),
        }
        let result = work.await;
        // A failure to unlock ends with the session.
        let _ = self.execute(&Statement::UnlockTables).await;
        Ok(result)
    }

    /// Says goodbye, so that the node frees the session's locks at once.
    pub async fn close(self) {
        let _ = tokio::time::timeout(self.timeout, self.conn.disconnect()).await;
    }
}

fn is_absent(message: &str) -> bool {
    ["unknown local table", "unknown table", "absent", "no such table"]
        .iter()
        .any(|word| message.contains(word))
}

async fn query(conn: &mut Conn, text: &str) -> Result<Reply, mysql_async::Error> {
    let mut result = conn.query_iter(text).await?;
    let columns: Vec<String> =
        result.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    let affected = result.affected_rows();
    let rows: Vec<Row> = result.collect().await?;
    result.drop_result().await?;
    if columns.is_empty() {
        return Ok(Reply::Done { affected, warning: String::new() });
    }
    let rows: Vec<Vec<Option<String>>> =
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text_of).collect()).collect();
    Ok(Reply::Rows(Rows { total: rows.len() as u64, columns, rows, warning: String::new() }))
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

async fn within<T>(
    address: &str,
    timeout: Duration,
    call: impl Future<Output = Result<T, mysql_async::Error>>,
) -> Result<T, CallError> {
    let node = || address.to_owned();
    match tokio::time::timeout(timeout, call).await {
        Err(_) => Err(CallError::Silent { node: node() }),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(mysql_async::Error::Server(error))) => {
            Err(CallError::BadReply { node: node(), reason: error.message })
        }
        Ok(Err(mysql_async::Error::Io(mysql_async::IoError::Io(error))))
            if error.kind() == io::ErrorKind::ConnectionRefused =>
        {
            Err(CallError::Refused { node: node(), reason: error.to_string() })
        }
        Ok(Err(error)) => Err(CallError::Broken { node: node(), reason: error.to_string() }),
    }
}
