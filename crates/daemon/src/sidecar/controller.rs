//! The way to the controller: polls and statements, with the token and a time for each. Of several controllers the
//! leader is found by asking: one that does not lead says who does, and one that does not answer is passed over.

use crate::tls::{self, ClientTls, TlsError};
use model::api::{LEADER_HEADER, Problem};
use model::wire::{ShardingStatement, SidecarOrders, SidecarPoll, StatementReply, StatementRequest};
use model::{NodeId, UserRights};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A poll is held a second at most; the rest is for an append that takes long. Tests hold polls for longer than
/// they wait for anything, so that none is given up behind their back.
const POLL_TIME_MAX: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 5 });
/// Beyond the time that the controller itself gives a statement: its own wait, and undoing.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(75);

/// Controllers asked for one request, those that others name included: followers of different opinions end here.
const CONTROLLERS_ASKED_MAX: usize = 16;

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
    #[error("no controller leads at this moment, as far as {asked} know: nothing was done, send it again")]
    NoLeader { asked: String },
    #[error("{detail} ({hint})")]
    Refused { detail: String, hint: String },
    #[error(
        "the controller at {url} answered {status} and no JSON of ours: is it a shardwright of this version?"
    )]
    Stranger { url: String, status: StatusCode },
}

/// Where the controllers are, and what they ask to see.
#[derive(Debug)]
pub(super) struct Controller {
    client: Client,
    /// As configured, without a trailing slash.
    urls: Vec<String>,
    /// Whom to ask first: the last one that answered as a leader.
    at: Mutex<String>,
    /// The last one that answered as a leader; empty before there was one.
    leader: watch::Sender<String>,
    token: SecretString,
}

/// What one controller made of a request.
enum Asked<T> {
    Answered(T),
    /// Nothing was done there. The leader's URL, when it was told.
    Elsewhere(Option<String>),
    /// The same, because nobody is there.
    Gone(ControllerError),
    /// It is there that this ends, one way or the other.
    Failed(ControllerError),
}

impl Controller {
    pub(super) fn new(urls: &[String], token: SecretString, tls: &ClientTls) -> Result<Self, TlsError> {
        urls.iter().try_for_each(|url| tls::check_url(url))?;
        let built = tls.builder()?.connect_timeout(Duration::from_secs(2)).build();
        let client = built.map_err(|error| TlsError::Client(root(&error)))?;
        let urls: Vec<String> = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let at = Mutex::new(urls.first().cloned().unwrap_or_default());
        Ok(Self { client, urls, at, leader: watch::Sender::new(String::new()), token })
    }

    pub(super) fn is_configured(&self) -> bool {
        !self.urls.is_empty()
    }

    /// The next request begins with another controller: this one's word was worth nothing.
    pub(super) fn pass_over(&self) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let here = self.urls.iter().position(|url| *url == *at);
        // From a leader that is not on the list, back to the list.
        let next = here.map_or(0, |here| (here + 1) % self.urls.len().max(1));
        if let Some(url) = self.urls.get(next) {
            at.clone_from(url);
        }
    }

    pub(super) async fn poll(&self, poll: &SidecarPoll) -> Result<SidecarOrders, ControllerError> {
        self.post("sidecar/poll", poll, POLL_TIME_MAX).await
    }

    pub(super) async fn statement(
        &self,
        node: &NodeId,
        rights: Option<UserRights>,
        statement: ShardingStatement,
    ) -> Result<StatementReply, ControllerError> {
        let time_max = match &statement {
            ShardingStatement::CreateTable { timeout_seconds, .. } => {
                Duration::from_secs(*timeout_seconds).saturating_add(STATEMENT_TIME_MAX)
            }
            _ => STATEMENT_TIME_MAX,
        };
        let user = rights.as_ref().map(|rights| rights.user.clone());
        let request = StatementRequest { node: node.clone(), user, rights, statement };
        self.post("sidecar/statement", &request, time_max).await
    }

    /// Asks until one answers that leads. A request that may have reached one is not sent to another.
    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        time_max: Duration,
    ) -> Result<T, ControllerError> {
        if !self.is_configured() {
            return Err(ControllerError::NotConfigured);
        }
        let mut ends = ControllerError::NoLeader { asked: self.urls.join(", ") };
        let mut asked = BTreeSet::new();
        let mut to_ask = self.order();
        while let Some(url) = to_ask.pop_front() {
            if asked.len() == CONTROLLERS_ASKED_MAX || !asked.insert(url.clone()) {
                continue;
            }
            let leader = self.leader.subscribe();
            let answer = tokio::select! {
                answer = self.ask(&url, path, body, time_max) => answer,
                // One that is frozen would not answer for as long as a statement may take.
                () = replaced(leader, &url) => {
                    let reason = "another controller has taken the lead and goes on with what was begun".to_owned();
                    Asked::Failed(ControllerError::Unanswered { url: url.clone(), reason })
                }
            };
            match answer {
                Asked::Answered(answer) => {
                    self.at.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&url);
                    self.leader.send_if_modified(|leader| {
                        let other = *leader != url;
                        *leader = url;
                        other
                    });
                    return Ok(answer);
                }
                Asked::Failed(error) => {
                    if matches!(error, ControllerError::Unanswered { .. }) && self.is_at(&url) {
                        self.pass_over();
                    }
                    return Err(error);
                }
                // What is sent is not for everyone to read, whoever names the leader.
                Asked::Elsewhere(leader) => leader
                    .into_iter()
                    .filter(|leader| tls::check_url(leader).is_ok())
                    .for_each(|leader| to_ask.push_front(leader)),
                Asked::Gone(error) => ends = error,
            }
        }
        Err(ends)
    }

    fn is_at(&self, url: &str) -> bool {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) == url
    }

    /// The last leader, and then every controller on the list, beginning with the one after it.
    fn order(&self) -> VecDeque<String> {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let behind = self.urls.iter().position(|url| *url == at).map_or(0, |here| here + 1);
        let (before, after) = self.urls.split_at(behind);
        std::iter::once(at).chain(after.iter().chain(before).cloned()).collect()
    }

    async fn ask<B: Serialize, T: DeserializeOwned>(
        &self,
        url: &str,
        path: &str,
        body: &B,
        time_max: Duration,
    ) -> Asked<T> {
        let url = url.to_owned();
        let sent = self
            .client
            .post(format!("{url}/api/v1/{path}"))
            .bearer_auth(self.token.expose_secret())
            .timeout(time_max)
            .json(body)
            .send()
            .await;
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => {
                return Asked::Gone(ControllerError::Unreachable { url, reason: root(&error) });
            }
            Err(error) => return Asked::Failed(ControllerError::Unanswered { url, reason: root(&error) }),
        };
        let status = response.status();
        if status == StatusCode::MISDIRECTED_REQUEST {
            let leader = response.headers().get(LEADER_HEADER).and_then(|value| value.to_str().ok());
            return Asked::Elsewhere(leader.map(|leader| leader.trim_end_matches('/').to_owned()));
        }
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => return Asked::Failed(ControllerError::Unanswered { url, reason: root(&error) }),
        };
        if status.is_success() {
            return match serde_json::from_slice(&bytes) {
                Ok(answer) => Asked::Answered(answer),
                Err(_) => Asked::Failed(ControllerError::Stranger { url, status }),
            };
        }
        Asked::Failed(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => ControllerError::Refused { detail: problem.detail, hint: problem.hint },
            Err(_) => ControllerError::Stranger { url, status },
        })
    }
}

/// Returns once another controller than the one at `url` has answered as the leader since.
async fn replaced(mut leader: watch::Receiver<String>, url: &str) {
    while leader.changed().await.is_ok() {
        if *leader.borrow_and_update() != url {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// The innermost cause: the outer ones repeat the address, and never the token.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
