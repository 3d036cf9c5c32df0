//! The routes of the API, and the rules that hold for every request.

use super::caller::{CALLER, Caller};
use super::census::Census;
use super::events::Events;
use super::handle::Handle;
use super::history::{self, History};
use super::problem::{ApiError, Kind};
use super::reload::Shown;
use super::standing::Seen;
use super::watchers::Watchers;
use super::{
    audits, auth, backups, board, certificates, forward, import, openapi, orders, prometheus, rights,
    sidecars, silences, tables, tokens, web,
};
use crate::audit::Audit;
use crate::backup::Tools;
use crate::crowd::Crowds;
use crate::files::unix_now;
use crate::http::Peer;
use axum::body::to_bytes;
use axum::extract::{FromRequest, MatchedPath, Query, Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use model::Role;
use model::api::{AlertList, Dashboard, Metrics};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests under way: a held poll and a statement for each of 1,000 nodes, and some for people.
pub(super) const REQUESTS_MAX: usize = 2_500;
/// Of one person's or script's token, or of all who show none: pages hold a few each.
const REQUESTS_PER_TOKEN_MAX: usize = 200;
/// Sidecars leave so many for people.
const PLACES_FOR_OTHERS: usize = 300;
/// A poll carries the outcomes of its node's commands; a table declaration is far smaller.
const BODY_BYTES_MAX: usize = 4 << 20;
/// A body that takes longer is no client of ours.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// A read that finds the driver busy writing its log.
const READ_TIME_MAX: Duration = Duration::from_secs(5);

/// What every handler sees.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    /// How many documents tables hold.
    pub(super) census: Census,
    pub(super) access: auth::Access,
    pub(super) audit: Audit,
    pub(super) denials: Arc<audits::Denials>,
    pub(super) config: Shown,
    pub(super) requests: Arc<Semaphore>,
    /// Requests under way, by token.
    pub(super) crowds: Crowds<String>,
    /// Whether this controller leads.
    pub(super) standing: Seen,
    pub(super) backups: Tools,
    /// For what the leader answers in this one's place.
    pub(super) forwarding: forward::Forwarding,
    pub(super) watchers: Watchers,
    pub(super) history: History,
    pub(super) events: Events,
    pub(super) certificates: certificates::Ends,
}

/// All routes, each under the path that [`openapi`] describes.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/api/v1/sidecar/poll", post(sidecars::poll)),
        ("/api/v1/sidecar/statement", post(sidecars::statement)),
        ("/api/v1/tables", get(tables::list).post(tables::create)),
        ("/api/v1/tables/{table}", get(tables::show).delete(tables::drop)),
        ("/api/v1/tables/{table}/rebalance", get(orders::rebalance_status).post(orders::rebalance)),
        ("/api/v1/tables/{table}/move", post(orders::move_shard)),
        ("/api/v1/tables/{table}/rf", post(orders::set_rf)),
        ("/api/v1/tables/{table}/explain/{shard}", get(orders::explain)),
        ("/api/v1/backups", get(backups::list).post(backups::create)),
        ("/api/v1/backups/{id}", get(backups::show)),
        ("/api/v1/backups/{id}/verify", post(backups::verify)),
        ("/api/v1/backups/{id}/restore", post(backups::restore)),
        ("/api/v1/restores/{operation}", get(backups::restored)),
        ("/api/v1/nodes/{node}", delete(orders::remove)),
        ("/api/v1/nodes/{node}/drain", post(orders::drain)),
        ("/api/v1/nodes/{node}/undrain", post(orders::undrain)),
        ("/api/v1/nodes/{node}/gate", post(orders::gate)),
        ("/api/v1/groups/{group}/recover", post(orders::recover_group)),
        ("/api/v1/nodes", get(|shared| view(shared, |controller, _, _| controller.nodes()))),
        ("/api/v1/operations", get(|shared| view(shared, |controller, _, _| controller.operations()))),
        ("/api/v1/dashboard", get(|shared| figures(shared, |board| board))),
        (
            "/api/v1/metrics",
            get(|shared| {
                figures(shared, |board| Metrics {
                    rebalancing: board.rebalancing,
                    queue: board.queue,
                    cluster: board.cluster,
                })
            }),
        ),
        ("/api/v1/metrics/rebalancing", get(|shared| figures(shared, |board| board.rebalancing))),
        ("/api/v1/metrics/queue", get(|shared| figures(shared, |board| board.queue))),
        ("/api/v1/metrics/cluster", get(|shared| figures(shared, |board| board.cluster))),
        ("/api/v1/alerts", get(|shared| figures(shared, |board| AlertList { alerts: board.alerts }))),
        ("/api/v1/alerts/silences", get(silences::list).post(silences::silence)),
        ("/api/v1/history", get(kept)),
        ("/api/v1/events", get(listen)),
        (
            "/api/v1/config",
            get(|State(shared): State<Shared>| async move { Json(shared.config.borrow().as_ref().clone()) }),
        ),
        ("/api/v1/health", get(|shared| view(shared, |controller, _, unix| controller.health(unix)))),
        ("/api/v1/tokens", get(tokens::list).post(tokens::create)),
        ("/api/v1/tokens/{name}", delete(tokens::revoke)),
        ("/api/v1/audit", get(audits::tail)),
        ("/api/v1/audit/verify", get(audits::verify)),
        ("/api/v1/recover", post(orders::recover)),
        ("/api/v1/cleanup", post(orders::clean_up)),
        ("/api/v1/import", post(import::import)),
        (
            "/api/v1/controller",
            get(|State(shared): State<Shared>| async move { Json(shared.standing.borrow().show()) }),
        ),
        ("/api/v1/map", get(|shared| view(shared, |controller, _, _| controller.shard_map()))),
        ("/api/v1/openapi.json", get(openapi::show)),
        ("/", get(web::page)),
        ("/assets/{file}", get(web::asset)),
        ("/metrics", get(prometheus::metrics)),
        ("/healthz", get(|| async { "ok\n" })),
        ("/readyz", get(ready)),
    ]
}

/// The whole API with its limits.
pub(super) fn router(shared: Shared) -> Router {
    let unknown = || async {
        ApiError::new(Kind::NotFound, "there is nothing at this path", "see /api/v1/openapi.json")
    };
    let method = || async {
        ApiError::new(
            Kind::MethodNotAllowed,
            "this path does not take this method",
            "see /api/v1/openapi.json",
        )
    };
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, method)| router.route(path, method))
        .fallback(unknown)
        .method_not_allowed_fallback(method)
        .layer(middleware::from_fn_with_state(shared.clone(), admit))
        .with_state(shared)
}

/// A place for the request, and the token where one is needed.
async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if shared.access.reads_are_open() && !auth::is_addressed_directly(request.headers()) {
        let detail = "the Host header names neither an address nor localhost";
        return ApiError::new(Kind::Invalid, detail, "ask by the address that the controller listens on")
            .into_response();
    }
    let (parts, body) = request.into_parts();
    let caller = match allowed(&shared, &parts).await {
        Ok(caller) => caller,
        Err(denied) => return denied.into_response(),
    };
    let request = Request::from_parts(parts, body);
    let Some(_member) = shared.crowds.admit(&caller.name, places(&caller)) else {
        let detail = format!("too many requests of '{}' are under way", caller.name);
        return ApiError::busy(&detail).into_response();
    };
    let Ok(_place) = shared.requests.try_acquire() else {
        return ApiError::busy("too many requests are under way").into_response();
    };
    match forward::unless_leading(&shared, request).await {
        Ok(request) => CALLER.scope(caller, next.run(request)).await,
        Err(response) => *response,
    }
}

/// Who asks, if the token that is shown opens this now.
async fn allowed(shared: &Shared, parts: &Parts) -> Result<Caller, ApiError> {
    let shown = shared.access.shown(&parts.headers, unix_now());
    let matched = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let need = rights::of(&parts.method, matched);
    let caller = caller(shared, parts, &shown);
    if let Err(error) = shared.access.allows(&shown, need) {
        let what = format!("{} {}", parts.method, parts.uri.path());
        audits::denied(shared, &caller, what.clone()).await;
        return Err(error.told(&what));
    }
    Ok(caller)
}

/// How many requests of the same token may be under way. Sidecars share theirs, or the local one.
fn places(caller: &Caller) -> usize {
    match caller.role {
        Role::Sidecar => REQUESTS_MAX - PLACES_FOR_OTHERS,
        _ if caller.name == auth::LOCAL => REQUESTS_MAX,
        _ => REQUESTS_PER_TOKEN_MAX,
    }
}

/// Who asks, as far as the connection and the token tell.
fn caller(shared: &Shared, parts: &Parts, shown: &auth::Shown) -> Caller {
    let peer = parts.extensions.get::<Peer>().map(|Peer(peer)| peer.to_string());
    let mut from = peer.unwrap_or_default();
    if let Some(client) = forward::forwarded_for(&parts.headers, &shared.access, unix_now()) {
        from = format!("{from} for {client}");
    }
    let (name, role) = shown.who();
    Caller { name: name.to_owned(), role, from, node: None, user: None, rights: None }
}

/// The events, for as long as the token that was shown is good.
async fn listen(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, ApiError> {
    shared.events.listen(shared.access.still_reads(&headers))
}

/// What the operator shows between two ticks, as JSON.
pub(super) async fn view<T: Serialize + Send + 'static>(
    State(shared): State<Shared>,
    read: impl FnOnce(&control::Controller, model::Millis, u64) -> T + Send + 'static,
) -> Result<Json<T>, ApiError> {
    look(&shared, read).await.map(Json)
}

/// Figures of the dashboard, as JSON.
async fn figures<T: Serialize>(
    State(shared): State<Shared>,
    part: impl FnOnce(Dashboard) -> T,
) -> Result<Json<T>, ApiError> {
    board::dashboard(&shared).await.map(|board| Json(part(board)))
}

async fn kept(
    State(shared): State<Shared>,
    Query(asked): Query<history::Asked>,
) -> Result<Json<history::Answer>, ApiError> {
    history::answer(&shared.history, asked).await.map(Json)
}

/// What the operator shows between two ticks.
pub(super) async fn look<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&control::Controller, model::Millis, u64) -> T + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::time::timeout(READ_TIME_MAX, shared.handle.read(read)).await {
        Ok(seen) => seen.map_err(|error| ApiError::busy(&error.to_string())),
        Err(_late) => Err(ApiError::busy("the controller is busy with its log")),
    }
}

/// Ready is who has read its log and ticks, or follows and could.
async fn ready(State(shared): State<Shared>) -> Result<&'static str, ApiError> {
    let standing = shared.standing.borrow().clone();
    if !standing.leads_now() && !standing.is_able() {
        return Err(ApiError::busy("the control log has not been reached for some seconds"));
    }
    look(&shared, |_, _, _| ()).await.map(|()| "ready\n")
}

/// A JSON body, bounded in size and time, with an error that names the fault. What opened the request must still do so
/// once it is there: else who holds its end back would be heard after the end of his token.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
        let bytes = match body {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if is_too_long(&error) => {
                let detail = format!("the body is longer than {BODY_BYTES_MAX} bytes");
                return Err(ApiError::new(Kind::TooLarge, detail, "send less at once"));
            }
            Ok(Err(error)) => {
                let detail = format!("the body cannot be read: {error}");
                return Err(ApiError::new(Kind::Invalid, detail, "send it again"));
            }
            Err(_late) => {
                let detail = "the body did not come within 10 s";
                return Err(ApiError::new(Kind::Timeout, detail, "send it again"));
            }
        };
        allowed(shared, &parts).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let detail = format!("the body is not what this path takes: {error}");
            ApiError::new(Kind::Invalid, detail, "see /api/v1/openapi.json")
        })
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_requests_take_all_places_but_the_local_ones() {
        let of = |name: &str, role| {
            let (name, from) = (name.to_owned(), String::new());
            places(&Caller { name, role, from, node: None, user: None, rights: None })
        };
        assert_eq!(of("nodes", Role::Sidecar), 2_200);
        for role in [Role::Viewer, Role::Operator, Role::ClusterAdmin] {
            assert_eq!(of("ci", role), 200, "{role}");
        }
        assert_eq!(of("anonymous", Role::Viewer), 200);
        assert_eq!(of("local", Role::ClusterAdmin), 2_500);
    }
}
