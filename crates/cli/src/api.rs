//! The way to a controller's HTTP API: which one, with which token, and what its refusals mean here.

use crate::dev::{ClusterFile, DEFAULT_DIR};
use crate::output::{CommandError, Failure};
use daemon::audit::Verified as AuditVerified;
use daemon::tls::{ClientTls, TlsError, check_url};
use model::api::{
    AlertList, BackupBody, BackupList, BackupReply, BackupShow, CreateTableBody, Dashboard, GateTold,
    Metrics, MoveBody, NodeList, OperationList, Problem, RebalanceBody, RecoverBody, RestoreBody,
    RestoreReply, RestoreShow, RfBody, ShardMap, SilenceBody, SilenceList, TableList, TableShow, TokenBody,
    TokenList, TokenMade, Told, VerifyBody, VerifyReply,
};
use model::operate::{
    CleanUpReport, Health, RebalancePlan, RebalanceProgress, RebalanceReply, RecoveryReport,
};
use model::wire::RebalanceOrder;
use model::{ImportBody, ImportReport};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where `serve` listens when nothing else is said.
pub const DEFAULT_API: &str = "127.0.0.1:9380";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Above the longest wait of a statement that was not given a timeout of its own.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);
/// The controller looks for five minutes at most, and then adopts.
const IMPORT_TIMEOUT: Duration = Duration::from_mins(8);

/// What reads a whole table before it answers.
const LONG_TIMEOUT: Duration = Duration::from_hours(24);

/// A controller's API.
#[derive(Clone, Debug)]
pub struct Api {
    client: reqwest::Client,
    url: String,
    token_file: Option<PathBuf>,
}

impl Api {
    /// The controller at `url`; without one that of the development cluster in the current directory, else the one
    /// at the usual address.
    pub fn find(url: Option<&str>, token_file: Option<&Path>, tls: &ClientTls) -> Result<Self, CommandError> {
        let near = std::fs::read(Path::new(DEFAULT_DIR).join("cluster.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<ClusterFile>(&bytes).ok());
        let (url, near_token) = match (url, near) {
            (Some(url), _) => (url.to_owned(), None),
            (None, Some(file)) => (file.api, Some(file.token_file)),
            (None, None) => (format!("http://{DEFAULT_API}"), None),
        };
        Self::at(&url, token_file.map(Path::to_owned).or(near_token), tls)
    }

    pub fn at(url: &str, token_file: Option<PathBuf>, tls: &ClientTls) -> Result<Self, CommandError> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let hint = "write it as https://HOST:PORT, or http://HOST:PORT on this machine";
            return Err(CommandError::usage(format!("'{url}' is no URL of a controller"), hint));
        }
        let refused = |error: TlsError| CommandError::complete(Failure::Usage, error);
        check_url(url).map_err(refused)?;
        let client =
            tls.builder().map_err(refused)?.connect_timeout(CONNECT_TIMEOUT).build().map_err(|error| {
                CommandError::failed(format!("no HTTP client: {error}"), "check the system's resolver")
            })?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), token_file })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn dashboard(&self) -> Result<Dashboard, CommandError> {
        self.get("/api/v1/dashboard").await
    }

    pub async fn metrics(&self) -> Result<Metrics, CommandError> {
        self.get("/api/v1/metrics").await
    }

    pub async fn alerts(&self) -> Result<AlertList, CommandError> {
        self.get("/api/v1/alerts").await
    }

    pub async fn silences(&self) -> Result<SilenceList, CommandError> {
        self.get("/api/v1/alerts/silences").await
    }

    pub async fn silence(&self, body: &SilenceBody) -> Result<(), CommandError> {
        self.send(Method::POST, "/api/v1/alerts/silences", Some(body), ANSWER_TIMEOUT).await.map(drop)
    }

    pub async fn map(&self) -> Result<ShardMap, CommandError> {
        self.get("/api/v1/map").await
    }

    pub async fn nodes(&self) -> Result<NodeList, CommandError> {
        self.get("/api/v1/nodes").await
    }

    pub async fn operations(&self) -> Result<OperationList, CommandError> {
        self.get("/api/v1/operations").await
    }

    pub async fn tables(&self) -> Result<TableList, CommandError> {
        self.get("/api/v1/tables").await
    }

    pub async fn table(&self, name: &str) -> Result<TableShow, CommandError> {
        self.get(&format!("/api/v1/tables/{}", segment(name))).await
    }

    pub async fn create_table(&self, body: &CreateTableBody) -> Result<TableShow, CommandError> {
        let patience = Duration::from_secs(body.timeout_seconds.unwrap_or(30)) + ANSWER_TIMEOUT;
        let bytes = self.send(Method::POST, "/api/v1/tables", Some(body), patience).await?;
        self.read(&bytes)
    }

    pub async fn drop_table(&self, name: &str) -> Result<(), CommandError> {
        let path = format!("/api/v1/tables/{}", segment(name));
        self.send(Method::DELETE, &path, None::<&()>, ANSWER_TIMEOUT).await.map(drop)
    }

    /// `drain` or `undrain`.
    pub async fn node_order(&self, id: &str, order: &str) -> Result<(), CommandError> {
        let path = format!("/api/v1/nodes/{}/{order}", segment(id));
        self.send(Method::POST, &path, None::<&()>, ANSWER_TIMEOUT).await.map(drop)
    }

    pub async fn remove_node(&self, id: &str) -> Result<(), CommandError> {
        let path = format!("/api/v1/nodes/{}", segment(id));
        self.send(Method::DELETE, &path, None::<&()>, ANSWER_TIMEOUT).await.map(drop)
    }

    /// What the node has to wait for before it starts; no rows: nothing, once it has forgotten the groups.
    pub async fn gate(&self, id: &str) -> Result<GateTold, CommandError> {
        let path = format!("/api/v1/nodes/{}/gate", segment(id));
        let bytes = self.send(Method::POST, &path, None::<&()>, ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn recover_group(&self, group: &str, body: &RecoverBody) -> Result<(), CommandError> {
        let path = format!("/api/v1/groups/{}/recover", segment(group));
        self.send(Method::POST, &path, Some(body), ANSWER_TIMEOUT).await.map(drop)
    }

    pub async fn rebalance_status(&self, name: &str) -> Result<RebalanceProgress, CommandError> {
        self.get(&format!("/api/v1/tables/{}/rebalance", segment(name))).await
    }

    /// What a start would do.
    pub async fn rebalance_plan(&self, name: &str) -> Result<RebalancePlan, CommandError> {
        let (status, bytes) = self.order(name, RebalanceOrder::DryRun).await?;
        if status.is_success() { self.read(&bytes) } else { Err(self.refusal(status, &bytes)) }
    }

    /// Every other order; a refusal with its reason is an answer, too.
    pub async fn rebalance(&self, name: &str, order: RebalanceOrder) -> Result<RebalanceReply, CommandError> {
        let (status, bytes) = self.order(name, order).await?;
        match serde_json::from_slice(&bytes) {
            Ok(reply) => Ok(reply),
            Err(_) if !status.is_success() => Err(self.refusal(status, &bytes)),
            Err(_) => self.read(&bytes),
        }
    }

    async fn order(&self, name: &str, order: RebalanceOrder) -> Result<(StatusCode, Vec<u8>), CommandError> {
        let path = format!("/api/v1/tables/{}/rebalance", segment(name));
        self.ask(Method::POST, &path, Some(&RebalanceBody { order }), ANSWER_TIMEOUT).await
    }

    pub async fn health(&self) -> Result<Health, CommandError> {
        self.get("/api/v1/health").await
    }

    pub async fn recover(&self) -> Result<RecoveryReport, CommandError> {
        let bytes = self.send(Method::POST, "/api/v1/recover", None::<&()>, ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn clean_up(&self) -> Result<CleanUpReport, CommandError> {
        let bytes = self.send(Method::POST, "/api/v1/cleanup", None::<&()>, ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    /// Counting every copy takes its time.
    pub async fn import(&self, body: ImportBody) -> Result<ImportReport, CommandError> {
        let bytes = self.send(Method::POST, "/api/v1/import", Some(&body), IMPORT_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn move_shard(&self, name: &str, body: &MoveBody) -> Result<Told, CommandError> {
        let path = format!("/api/v1/tables/{}/move", segment(name));
        let bytes = self.send(Method::POST, &path, Some(body), ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn set_rf(&self, name: &str, body: RfBody) -> Result<Told, CommandError> {
        let path = format!("/api/v1/tables/{}/rf", segment(name));
        let bytes = self.send(Method::POST, &path, Some(&body), ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn explain(&self, name: &str, shard: u32) -> Result<Told, CommandError> {
        self.get(&format!("/api/v1/tables/{}/explain/{shard}", segment(name))).await
    }

    pub async fn backups(&self) -> Result<BackupList, CommandError> {
        self.get("/api/v1/backups").await
    }

    pub async fn backup(&self, id: &str) -> Result<BackupShow, CommandError> {
        self.get(&format!("/api/v1/backups/{}", segment(id))).await
    }

    pub async fn create_backup(&self, body: &BackupBody) -> Result<BackupReply, CommandError> {
        let bytes = self.send(Method::POST, "/api/v1/backups", Some(body), LONG_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn verify_backup(&self, id: &str, body: &VerifyBody) -> Result<VerifyReply, CommandError> {
        let path = format!("/api/v1/backups/{}/verify", segment(id));
        let bytes = self.send(Method::POST, &path, Some(body), LONG_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn restore(&self, id: &str, body: &RestoreBody) -> Result<RestoreReply, CommandError> {
        let path = format!("/api/v1/backups/{}/restore", segment(id));
        let bytes = self.send(Method::POST, &path, Some(body), ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn restored(&self, operation: u64) -> Result<RestoreShow, CommandError> {
        self.get(&format!("/api/v1/restores/{operation}")).await
    }

    pub async fn tokens(&self) -> Result<TokenList, CommandError> {
        self.get("/api/v1/tokens").await
    }

    pub async fn create_token(&self, body: &TokenBody) -> Result<TokenMade, CommandError> {
        let bytes = self.send(Method::POST, "/api/v1/tokens", Some(body), ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    pub async fn revoke_token(&self, name: &str) -> Result<(), CommandError> {
        let path = format!("/api/v1/tokens/{}", segment(name));
        self.send(Method::DELETE, &path, None::<&()>, ANSWER_TIMEOUT).await.map(drop)
    }

    pub async fn audit_tail(&self, lines: usize) -> Result<Value, CommandError> {
        self.get(&format!("/api/v1/audit?lines={lines}")).await
    }

    pub async fn audit_verify(&self) -> Result<AuditVerified, CommandError> {
        self.get("/api/v1/audit/verify").await
    }

    /// Whether somebody answers there at all.
    pub async fn is_up(&self) -> bool {
        let request = self.client.get(format!("{}/readyz", self.url)).timeout(CONNECT_TIMEOUT);
        request.send().await.is_ok_and(|response| response.status().is_success())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        let bytes = self.send(Method::GET, path, None::<&()>, ANSWER_TIMEOUT).await?;
        self.read(&bytes)
    }

    async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        patience: Duration,
    ) -> Result<Vec<u8>, CommandError> {
        let (status, bytes) = self.ask(method, path, body, patience).await?;
        if status.is_success() { Ok(bytes) } else { Err(self.refusal(status, &bytes)) }
    }

    /// Whatever is answered, with its status.
    async fn ask<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        patience: Duration,
    ) -> Result<(StatusCode, Vec<u8>), CommandError> {
        let mut request =
            self.client.request(method.clone(), format!("{}{path}", self.url)).timeout(patience);
        if let Some(token) = self.token()? {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?.to_vec();
        Ok((status, bytes))
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CommandError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let message = format!("{} answered what this version cannot read ({error})", self.url);
            CommandError::failed(message, "use the shardwright of the controller's version, or check --url")
        })
    }

    fn token(&self) -> Result<Option<String>, CommandError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            CommandError::usage(
                format!("cannot read the token file {}: {error}", path.display()),
                "give --token-file the file `token` of the controller's directory",
            )
        })?;
        Ok(Some(text.trim().to_owned()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CommandError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let hint = "start one with `shardwright dev` or `shardwright serve`, or give its address with --url";
        CommandError::new(
            Failure::Unreachable,
            format!("no controller answers at {}: {cause}", self.url),
            hint,
        )
    }

    fn refusal(&self, status: StatusCode, bytes: &[u8]) -> CommandError {
        let Ok(problem) = serde_json::from_slice::<Problem>(bytes) else {
            let message = format!("{} answered {status} and no JSON of ours", self.url);
            return CommandError::failed(message, "check --url: something else may listen there");
        };
        let failure = match status.as_u16() {
            400 | 413 => Failure::Usage,
            401..=429 => Failure::Refused,
            _ => Failure::Failed,
        };
        let code = problem.kind.rsplit(':').next().map(str::to_owned);
        CommandError { code, ..CommandError::new(failure, problem.detail, problem.hint) }
    }
}

/// A name as one segment of a path. Only `[A-Za-z0-9_:]` can be part of a table's name; the rest is encoded so that
/// the controller gets to refuse it.
fn segment(name: &str) -> String {
    use std::fmt::Write;
    let mut segment = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("c:products"), "c:products");
        assert_eq!(segment("a/b ?é"), "a%2Fb%20%3F%C3%A9");
    }

    #[test]
    fn refusals_keep_their_kind_and_words() {
        let api = Api::at("http://127.0.0.1:1", None, &ClientTls::default()).expect("a URL");
        let problem = Problem {
            kind: "urn:shardwright:error:conflict".into(),
            title: "Conflict".into(),
            status: 409,
            detail: "table 't' already exists".into(),
            hint: "choose another name".into(),
        };
        let bytes = serde_json::to_vec(&problem).expect("JSON");
        let error = api.refusal(StatusCode::CONFLICT, &bytes);
        assert_eq!((error.failure, error.code.as_deref()), (Failure::Refused, Some("conflict")));
        assert_eq!(error.line(), "error: table 't' already exists; choose another name");
        assert_eq!(api.refusal(StatusCode::BAD_GATEWAY, b"<html>").failure, Failure::Failed);
        assert!(Api::at("ftp://x", None, &ClientTls::default()).is_err());
    }
}
