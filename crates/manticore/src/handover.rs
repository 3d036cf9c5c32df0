//! The sidecar protocol of searchd (version 3): what a node hands over when it cannot do a statement itself, and
//! what comes back. Shapes only; who listens and who calls is elsewhere.

use crate::reply::{BadReply, Reply, read_value};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The version spoken.
pub const VERSION: u32 = 3;

/// The line that a sidecar prints on stdout once it listens: `Buddy v<version> started HOST:PORT`.
pub fn started_line(version: &str, address: &str) -> String {
    format!("Buddy v{version} started {address}")
}

/// The address in a [`started_line`]; `None` for any other line.
pub fn started_address(line: &str) -> Option<&str> {
    let (_, address) = line.trim().strip_prefix("Buddy v")?.split_once(" started ")?;
    address.rsplit_once(':')?.1.parse::<u16>().ok().map(|_| address)
}

/// Set (to `1`) in a sidecar's environment by a parent that holds the other end of its stdin: the sidecar ends
/// when stdin does, so that it never outlives a parent that was killed. searchd sets no such thing, and its
/// sidecar's stdin may be closed from the start.
pub const EXIT_WITH_STDIN_ENV: &str = "SHARDWRIGHT_EXIT_WITH_STDIN";

/// Body of the POST from searchd to its sidecar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    #[serde(rename = "type")]
    pub kind: RequestKind,
    /// What searchd would have answered.
    pub error: RequestError,
    pub message: RequestMessage,
    pub version: u32,
    /// With authentication on: for whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestKind {
    #[serde(rename = "unknown sql request")]
    Sql,
    #[serde(rename = "unknown json request")]
    Json,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestError {
    pub message: String,
    /// The body that searchd would have sent over HTTP; null for MySQL.
    #[serde(default)]
    pub body: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMessage {
    /// Empty for MySQL.
    #[serde(default)]
    pub path_query: String,
    #[serde(default)]
    pub http_method: String,
    pub body: String,
}

impl Request {
    /// A failed SQL statement.
    pub fn sql(sql: String, error: String, http: Option<(&str, &str)>) -> Self {
        let (http_method, path_query) = http.unwrap_or_default();
        let body = if http.is_some() { json!({ "error": error }) } else { Value::Null };
        Self {
            kind: RequestKind::Sql,
            error: RequestError { message: error, body },
            message: RequestMessage {
                path_query: path_query.to_owned(),
                http_method: http_method.to_owned(),
                body: sql,
            },
            version: VERSION,
            user: None,
        }
    }

    /// For whom it is: nobody over HTTP to a node without users, and over MySQL there whomever the client says he is.
    pub fn acting_user(&self) -> Option<&str> {
        self.user.as_deref().filter(|user| !user.is_empty())
    }

    /// The SQL statement in it; `None` for JSON requests of other endpoints than `/sql` and `/cli`.
    pub fn statement(&self) -> Option<String> {
        let body = &self.message.body;
        let path = self.message.path_query.trim_start_matches('/').split('?').next().unwrap_or_default();
        match self.kind {
            RequestKind::Json if !matches!(path, "sql" | "cli" | "cli_json") => None,
            _ => Some(match body.strip_prefix("query=") {
                Some(encoded) => form_decoded(encoded),
                None => body.clone(),
            }),
        }
    }
}

/// The value of a form field: `+` is a space and `%XX` a byte; other fields behind it are cut off.
pub fn form_decoded(encoded: &str) -> String {
    let bytes = encoded.split('&').next().unwrap_or_default().as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            (b'+', _) => {
                decoded.push(b' ');
                at += 1;
            }
            (other, _) => {
                decoded.push(*other);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Body of the sidecar's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub version: u32,
    #[serde(rename = "type")]
    pub kind: ResponseKind,
    /// For SQL a list with one object per result set, or `{"error": …}`.
    pub message: Value,
    /// An HTTP status; 0 or 200 when all is well.
    #[serde(default)]
    pub error_code: u16,
    #[serde(default)]
    pub meta: Option<Value>,
    #[serde(default)]
    pub log: Vec<Value>,
    #[serde(default = "json_type")]
    pub content_type: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseKind {
    #[serde(rename = "sql response")]
    Sql,
    #[serde(rename = "json response")]
    Json,
}

fn json_type() -> String {
    "application/json".to_owned()
}

impl Response {
    fn new(kind: ResponseKind, message: Value, error_code: u16) -> Self {
        Self {
            version: VERSION,
            kind,
            message,
            error_code,
            meta: None,
            log: Vec::new(),
            content_type: json_type(),
        }
    }

    /// An OK without rows.
    pub fn done(affected: u64) -> Self {
        Self::new(ResponseKind::Sql, json!([{ "total": affected, "error": "", "warning": "" }]), 200)
    }

    /// Rows of text.
    pub fn rows(columns: &[String], rows: &[Vec<Option<String>>]) -> Self {
        let named: Vec<Value> = columns.iter().map(|name| json!({ name: { "type": "string" } })).collect();
        let object = |row: &Vec<Option<String>>| -> Value {
            columns
                .iter()
                .cloned()
                .zip(row.iter().map(|value| json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let data: Vec<Value> = rows.iter().map(object).collect();
        let set = json!({ "columns": named, "data": data, "total": rows.len(), "error": "", "warning": "" });
        Self::new(ResponseKind::Sql, json!([set]), 200)
    }

    /// An error text for the client.
    pub fn error(message: &str) -> Self {
        Self::new(ResponseKind::Sql, json!({ "error": message }), 500)
    }

    /// A node's own answer (`/sql?mode=raw`) to a statement that was run again, unchanged.
    pub fn of_body(status: u16, body: Value) -> Self {
        Self::new(ResponseKind::Sql, body, status)
    }

    /// What a SQL client is told.
    pub fn reply(&self) -> Result<Reply, BadReply> {
        read_value(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rows;

    #[test]
    fn the_started_line_is_told_from_chatter() {
        let line = started_line("1.2.3", "127.0.0.1:4567");
        assert_eq!(started_address(&line), Some("127.0.0.1:4567"));
        for other in ["", "Buddy v1 started", "Buddy v1 started x", "Buddy started 1.2.3.4:5", "warming up"] {
            assert_eq!(started_address(other), None, "{other}");
        }
    }

    #[test]
    fn requests_are_read_from_every_door() {
        let mysql = Request::sql("SHOW SHARDING STATUS".into(), "P01: syntax error".into(), None);
        let text = serde_json::to_value(&mysql).expect("JSON");
        assert_eq!(
            text,
            json!({"type": "unknown sql request", "error": {"message": "P01: syntax error", "body": null},
                "message": {"path_query": "", "http_method": "", "body": "SHOW SHARDING STATUS"}, "version": 3})
        );
        assert_eq!(mysql.statement().as_deref(), Some("SHOW SHARDING STATUS"));
        let http = |kind: &str, path: &str, body: &str| -> Option<String> {
            let request = json!({"type": kind, "error": {"message": "e", "body": {"error": "e"}}, "user": "u",
                "message": {"path_query": path, "http_method": "POST", "body": body}, "version": 3, "new": 1});
            serde_json::from_value::<Request>(request).expect("reads").statement()
        };
        let json = "unknown json request";
        assert_eq!(
            http(json, "sql?mode=raw", "query=SELECT+1%2C%27%C3%A9&mode=raw").as_deref(),
            Some("SELECT 1,'é")
        );
        assert_eq!(http(json, "/cli", "SHOW x").as_deref(), Some("SHOW x"));
        assert_eq!(http(json, "/insert", "{}"), None);
    }

    #[test]
    fn what_is_answered_is_what_the_client_is_told() {
        let rows = Rows {
            columns: vec!["a".into(), "b".into()],
            rows: vec![vec![Some("1".into()), None], vec![Some("x'\n".into()), Some(String::new())]],
            total: 2,
            warning: String::new(),
        };
        for (response, reply) in [
            (Response::done(3), Reply::Done { affected: 3, warning: String::new() }),
            (Response::rows(&rows.columns, &rows.rows), Reply::Rows(rows.clone())),
            (Response::error("no"), Reply::Error { message: "no".into() }),
            (Response::of_body(500, json!({"error": "no"})), Reply::Error { message: "no".into() }),
        ] {
            let sent = serde_json::to_string(&response).expect("JSON");
            let received: Response = serde_json::from_str(&sent).expect("reads");
            assert_eq!((received.version, received.meta.as_ref()), (3, None));
            assert_eq!(received.reply(), Ok(reply));
        }
        let short: Response =
            serde_json::from_str(r#"{"version":3,"type":"sql response","message":[{"total":0}]}"#)
                .expect("reads");
        assert_eq!(short.reply(), Ok(Reply::Done { affected: 0, warning: String::new() }));
        let empty = Response { message: json!([]), ..Response::done(0) };
        assert!(empty.reply().is_err());
    }
}
