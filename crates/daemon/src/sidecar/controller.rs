//! The way to the controller: polls and statements, with the token and a time for each.

use model::NodeId;
use model::api::Problem;
use model::wire::{ShardingStatement, SidecarOrders, SidecarPoll, StatementReply, StatementRequest};
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A poll is held a second at most; the rest is for an append that takes long. Tests hold polls for longer than
/// they wait for anything, so that none is given up behind their back.
const POLL_TIME_MAX: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 5 });
/// Beyond the time that the controller itself gives a statement: its own wait, and undoing.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(75);

/// Why the controller did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControllerError {
    #[error(
        "no controller is configured: start the sidecar with --controller URL (and --token-file) of a \
         `shardwright serve`"
    )]
    NotConfigured,
    #[error(
        "the controller at {url} cannot be reached ({reason}): nothing was done; is `shardwright serve` running there?"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "the controller at {url} did not answer ({reason}): the statement may have been carried out, \
         look at SHOW SHARDING OPERATIONS"
    )]
    Unanswered { url: String, reason: String },
    #[error("{detail} ({hint})")]
    Refused { detail: String, hint: String },
    #[error(
        "the controller at {url} answered {status} and no JSON of ours: is it a shardwright of this version?"
    )]
    Stranger { url: String, status: StatusCode },
}

/// Where the controller is, and what it asks to see.
#[derive(Clone, Debug)]
pub(super) struct Controller {
    client: Client,
    /// Without a trailing slash.
    url: Option<String>,
    token: String,
}

impl Controller {
    pub(super) fn new(url: Option<&str>, token: String) -> Result<Self, reqwest::Error> {
        // Loopback and data-centre addresses only: a proxy from the environment would be a mistake.
        let client = Client::builder().no_proxy().connect_timeout(Duration::from_secs(2)).build()?;
        Ok(Self { client, url: url.map(|url| url.trim_end_matches('/').to_owned()), token })
    }

    pub(super) fn is_configured(&self) -> bool {
        self.url.is_some()
    }

    pub(super) async fn poll(&self, poll: &SidecarPoll) -> Result<SidecarOrders, ControllerError> {
        self.post("sidecar/poll", poll, POLL_TIME_MAX).await
    }

    pub(super) async fn statement(
        &self,
        node: &NodeId,
        user: Option<&str>,
        statement: ShardingStatement,
    ) -> Result<StatementReply, ControllerError> {
        let time_max = match &statement {
            ShardingStatement::CreateTable { timeout_seconds, .. } => {
                Duration::from_secs(*timeout_seconds).saturating_add(STATEMENT_TIME_MAX)
            }
            _ => STATEMENT_TIME_MAX,
        };
        let request = StatementRequest { node: node.clone(), user: user.map(str::to_owned), statement };
        self.post("sidecar/statement", &request, time_max).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        time_max: Duration,
    ) -> Result<T, ControllerError> {
        let url = self.url.clone().ok_or(ControllerError::NotConfigured)?;
        let sent = self
            .client
            .post(format!("{url}/api/v1/{path}"))
            .bearer_auth(&self.token)
            .timeout(time_max)
            .json(body)
            .send()
            .await;
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => {
                return Err(ControllerError::Unreachable { url, reason: root(&error) });
            }
            Err(error) => return Err(ControllerError::Unanswered { url, reason: root(&error) }),
        };
        let status = response.status();
        let bytes = response
            .bytes()
            .await
            .map_err(|error| ControllerError::Unanswered { url: url.clone(), reason: root(&error) })?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| ControllerError::Stranger { url, status });
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(ControllerError::Refused { detail: problem.detail, hint: problem.hint }),
            Err(_) => Err(ControllerError::Stranger { url, status }),
        }
    }
}

/// The innermost cause: the outer ones repeat the address, and never the token.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
