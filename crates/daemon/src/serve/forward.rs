//! What a controller does with requests while another one leads: sidecars are told where the leader is, people and
//! scripts get its answer through here.

use super::ServeError;
use super::api::Shared;
use super::auth::Access;
use super::problem::{ApiError, Kind};
use super::standing::Standing;
use crate::files;
use crate::http::Peer;
use crate::tls::ClientTls;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use model::api::{ControllerShow, LEADER_HEADER};
use secrecy::{ExposeSecret as _, SecretString};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// As for the API's own bodies: nothing longer is passed on.
const BODY_BYTES_MAX: usize = 4 << 20;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// Marks what was passed on once. It is not passed on again: two controllers that each take the other for the
/// leader, for a moment, must not send a request to and fro.
const FORWARDED: HeaderName = HeaderName::from_static("shardwright-forwarded");
/// The token by which the leader knows that it was another controller that passed a request on.
const FORWARDER: HeaderName = HeaderName::from_static("shardwright-forwarder");
/// What every controller answers for itself.
const OWN: [&str; 8] = [
    "/",
    "/api/v1/audit",
    "/api/v1/audit/verify",
    "/api/v1/controller",
    "/api/v1/config",
    "/api/v1/openapi.json",
    "/healthz",
    "/readyz",
];

/// What a controller shows of a cluster without a leader: that it has none.
const SHOWN_WITHOUT_LEADER: [&str; 3] = ["/api/v1/dashboard", "/api/v1/alerts", "/metrics"];
/// A stream without an end is not passed on: who listens is sent to the leader.
const EVENTS: &str = "/api/v1/events";
/// As long as the lookout gives the leader to answer.
const SIGN_TIME_MAX: Duration = Duration::from_secs(1);

/// Whom a request was passed on for, where it was one of the cluster who passed it on: anybody can send the header alone.
pub(super) fn forwarded_for(headers: &HeaderMap, access: &Access, now: u64) -> Option<SocketAddr> {
    let header = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let token = header(&FORWARDER)?;
    access.is_of_the_cluster(token, now).then(|| header(&FORWARDED)?.parse().ok())?
}

/// As what requests are passed on.
#[derive(Clone, Debug)]
pub(super) struct Forwarding {
    client: reqwest::Client,
    /// A token that the leader knows; without one it writes down this controller's address alone.
    token: Option<SecretString>,
}

impl Forwarding {
    /// The client has no limit of time: requests take as long as the leader lets them.
    pub(super) fn new(tls: &ClientTls, token_file: Option<&Path>) -> Result<Self, ServeError> {
        let built = tls.builder()?.connect_timeout(CONNECT_TIME_MAX).build();
        let client = built.map_err(|error| ServeError::Client(error.to_string()))?;
        let token = match token_file {
            Some(path) => {
                let read = files::read_secret(path)?;
                Some(read.ok_or_else(|| ServeError::EmptyToken(path.to_owned()))?)
            }
            None => None,
        };
        Ok(Self { client, token })
    }
}

/// Answers `request` when this controller does not lead; gives it back when it is to be answered here.
pub(super) async fn unless_leading(shared: &Shared, request: Request) -> Result<Request, Box<Response>> {
    let path = request.uri().path();
    let standing = shared.standing.borrow().clone();
    if standing.leads_now() || OWN.contains(&path) || path.starts_with("/assets/") {
        return Ok(request);
    }
    let Some(leader) = standing.leader_elsewhere() else {
        if SHOWN_WITHOUT_LEADER.contains(&path) {
            return Ok(request);
        }
        return Err(Box::new(ApiError::busy("no controller leads at this moment").into_response()));
    };
    if SHOWN_WITHOUT_LEADER.contains(&path) && !leader_lives(shared, &leader).await {
        return Ok(request);
    }
    let response = if path.starts_with("/api/v1/sidecar/")
        || path == EVENTS
        || request.headers().contains_key(FORWARDED)
    {
        misdirected(&leader)
    } else {
        pass_on(shared, &leader, request).await.unwrap_or_else(IntoResponse::into_response)
    };
    Err(Box::new(response))
}

async fn leader_lives(shared: &Shared, leader: &str) -> bool {
    let asked = shared
        .forwarding
        .client
        .get(format!("{leader}/api/v1/controller"))
        .timeout(SIGN_TIME_MAX)
        .send()
        .await;
    match asked {
        Ok(answer) => answer.json::<ControllerShow>().await.is_ok_and(|show| show.leads),
        Err(_) => false,
    }
}

/// Says where the leader is.
fn misdirected(leader: &str) -> Response {
    let detail = "this controller does not lead; nothing was done";
    let mut response =
        ApiError::new(Kind::NotLeader, detail, format!("ask the leader at {leader}")).into_response();
    if let Ok(value) = HeaderValue::from_str(leader) {
        response.headers_mut().insert(LEADER_HEADER, value);
    }
    response
}

/// The leader's answer to `request`.
async fn pass_on(shared: &Shared, leader: &str, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
        ApiError::new(Kind::TooLarge, format!("the body cannot be read: {error}"), "send less at once")
    })?;
    let target = parts.uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
    let mut passed = shared.forwarding.client.request(parts.method, format!("{leader}{target}")).body(body);
    let client =
        parts.extensions.get::<Peer>().map_or_else(|| "unknown".to_owned(), |Peer(peer)| peer.to_string());
    passed = passed.header(FORWARDED, client);
    if let Some(token) = &shared.forwarding.token
        && let Ok(mut value) = HeaderValue::from_str(token.expose_secret())
    {
        value.set_sensitive(true);
        passed = passed.header(FORWARDER, value);
    }
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = parts.headers.get(&name) {
            passed = passed.header(name, value);
        }
    }
    let answer = tokio::select! {
        answer = passed.send() => answer.map_err(|error| error.without_url().to_string()),
        () = deposed(shared, leader) => Err("another controller has taken the lead".to_owned()),
    };
    let answer = answer.map_err(|error| no_answer(leader, &error))?;
    let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
    let bytes = answer.bytes().await.map_err(|error| no_answer(leader, &error.without_url().to_string()))?;
    let mut response = (status, Body::from(bytes)).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

fn no_answer(leader: &str, error: &str) -> ApiError {
    let detail =
        format!("the leader at {leader} did not answer ({error}); what was asked may have been done");
    ApiError::busy(&detail)
}

/// Returns once the log names another leader.
async fn deposed(shared: &Shared, leader: &str) {
    let mut standing = shared.standing.clone();
    let other = |now: &Standing| now.leader_elsewhere().as_deref() != Some(leader);
    // Without a driver nobody knows any better; the request then has its own end.
    if standing.wait_for(other).await.is_err() {
        std::future::pending::<()>().await;
    }
}
