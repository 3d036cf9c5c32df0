//! One connection to one node, as any MySQL client has it.

use model::NodeId;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Row, Value};
use std::net::SocketAddr;
use std::time::Duration;

/// A patient client's limit for one statement. Writes may wait for failover, which takes seconds; past this the
/// statement counts as failed.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a client connects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub node: NodeId,
    pub mysql: SocketAddr,
}

/// Why a statement did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The node said no; nothing was applied.
    #[error("{node}: {message}")]
    Refused { node: NodeId, message: String },
    /// It may have been applied.
    #[error("{node}: {message} (it may have been applied)")]
    Unknown { node: NodeId, message: String },
    /// There was nobody to send it to.
    #[error("{node}: no connection: {message}")]
    NotSent { node: NodeId, message: String },
}

impl Fault {
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Parts of error texts after which a write may be there or not.
const UNKNOWN_MARKS: [&str; 7] = [
    "timed out",
    "may have been applied",
    "processed_ids",
    "PostRollback",
    "code 3",
    "connection",
    "unknown outcome",
];

/// Connects when first used and again after its connection broke.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    connection: Option<Conn>,
    patience: Duration,
}

impl Client {
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connection: None, patience: STATEMENT_TIMEOUT }
    }

    /// For statements that are meant to take long.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Runs a statement that returns no rows; gives the number of documents touched.
    pub async fn execute(&mut self, sql: &str) -> Result<u64, Fault> {
        let patience = self.patience;
        let connection = self.connect().await?;
        let done = tokio::time::timeout(patience, async {
            connection.query_drop(sql).await.map(|()| connection.affected_rows())
        });
        let outcome = done.await;
        self.settle(outcome)
    }

    /// Runs a statement that returns rows, each value as the text the protocol carries.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Fault> {
        let patience = self.patience;
        let connection = self.connect().await?;
        let outcome = tokio::time::timeout(patience, connection.query::<Row, _>(sql)).await;
        let rows = self.settle(outcome)?;
        Ok(rows.into_iter().map(texts).collect())
    }

    /// The names of the columns that a statement returns, with its rows.
    pub async fn table(&mut self, sql: &str) -> Result<(Vec<String>, Vec<Vec<Option<String>>>), Fault> {
        let patience = self.patience;
        let connection = self.connect().await?;
        let outcome = tokio::time::timeout(patience, async {
            let mut result = connection.query_iter(sql).await?;
            let names = result.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
            let rows: Vec<Row> = result.collect().await?;
            Ok((names, rows))
        });
        let (names, rows): (Vec<String>, Vec<Row>) = match outcome.await {
            Ok(outcome) => self.settle(Ok(outcome))?,
            Err(elapsed) => self.settle(Err(elapsed))?,
        };
        Ok((names, rows.into_iter().map(texts).collect()))
    }

    /// The first value of the first row as a number.
    pub async fn number(&mut self, sql: &str) -> Result<u64, Fault> {
        let rows = self.rows(sql).await?;
        let first = rows.first().and_then(|row| row.first()).and_then(|cell| cell.as_deref());
        first.and_then(|text| text.parse().ok()).ok_or_else(|| Fault::Refused {
            node: self.endpoint.node.clone(),
            message: format!("'{sql}' did not answer with a number but {first:?}"),
        })
    }

    /// Says goodbye, so that the node does not count a broken connection.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // A node that is gone needs no goodbye.
            let _gone = tokio::time::timeout(CONNECT_TIMEOUT, connection.disconnect()).await;
        }
    }

    async fn connect(&mut self) -> Result<&mut Conn, Fault> {
        if self.connection.is_none() {
            let failed = |message: String| Fault::NotSent { node: self.endpoint.node.clone(), message };
            // Drivers look these up with `SELECT @@…`, which nodes may not answer; so they are given.
            let options = OptsBuilder::default()
                .ip_or_hostname(self.endpoint.mysql.ip().to_string())
                .tcp_port(self.endpoint.mysql.port())
                // As clients do, also where there are no users.
                .user(Some("shardwright"))
                .prefer_socket(false)
                .max_allowed_packet(Some(64 << 20))
                .wait_timeout(Some(28_800))
                .stmt_cache_size(0);
            let connection = tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(options))
                .await
                .map_err(|_| failed(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))?
                .map_err(|error| failed(error.to_string()))?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or_else(|| Fault::NotSent {
            node: self.endpoint.node.clone(),
            message: "the connection is gone".to_owned(),
        })
    }

    /// Reads an outcome; whatever leaves the connection in doubt drops it.
    fn settle<T>(
        &mut self,
        outcome: Result<Result<T, Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Fault> {
        let node = self.endpoint.node.clone();
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Error::Server(error))) => {
                let unknown = UNKNOWN_MARKS.iter().any(|mark| error.message.contains(mark));
                let message = error.message;
                Err(if unknown { Fault::Unknown { node, message } } else { Fault::Refused { node, message } })
            }
            Ok(Err(error)) => {
                self.connection = None;
                Err(Fault::Unknown { node, message: error.to_string() })
            }
            Err(_elapsed) => {
                self.connection = None;
                let message = format!("no answer within {} s", self.patience.as_secs());
                Err(Fault::Unknown { node, message })
            }
        }
    }
}

fn texts(row: Row) -> Vec<Option<String>> {
    row.unwrap().into_iter().map(text).collect()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Value::Int(int) => Some(int.to_string()),
        Value::UInt(int) => Some(int.to_string()),
        Value::Float(float) => Some(float.to_string()),
        Value::Double(double) => Some(double.to_string()),
        other => Some(other.as_sql(true)),
    }
}
