//! The HTTP listener: `/sql?mode=raw` for any statement, `/sql` for SELECT, `/replication` for peers.

use crate::answer::{self, Answer};
use crate::door::{Door, Origin};
use crate::options::Limits;
use crate::peers::Introduction;
use crate::users::{DENIED, SIDECAR, Users};
use crate::wire::{self, NodeTls};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::{Reply, SqlError};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use manticore::{USER_AGENT_PREFIX, handover};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

/// What handlers share.
#[derive(Clone)]
struct Shared {
    door: Door,
    introduction: Arc<Introduction>,
    limits: Limits,
}

/// Serves until dropped.
pub(crate) async fn listen(
    listener: TcpListener,
    door: Door,
    introduction: Introduction,
    limits: Limits,
    tls: Option<NodeTls>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (idle, handshake, transfer) = (limits.http_idle, limits.handshake, limits.transfer);
    let shared = Shared { door, introduction: Arc::new(introduction), limits };
    let routes = Router::new()
        .route("/sql", post(sql).get(sql))
        .route("/replication", get(replication))
        .fallback(not_here)
        .with_state(shared);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        // Beyond the limit the connection is closed unheard.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (service, tls) = (TowerToHyperService::new(routes.clone()), tls.clone());
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let stream = match tokio::time::timeout(handshake, wire::accept(stream, tls.as_ref())).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "no TLS was agreed upon over HTTP"),
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            };
            // Who asks and takes nothing of the answer would else keep its place until it pleases.
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(transfer));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(idle)
                .serve_connection(TokioIo::new(Box::pin(stream)), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "an HTTP connection ended");
            }
            drop(place);
        });
    }
}

async fn replication(State(shared): State<Shared>) -> Json<Introduction> {
    Json(shared.introduction.as_ref().clone())
}

async fn not_here() -> Response {
    error(StatusCode::NOT_FOUND, "this embedded node serves /sql, /sql?mode=raw and /replication only")
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// The statement, however it was sent, and whether any kind of it is allowed.
struct Asked {
    sql: String,
    raw: bool,
}

async fn sql(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let user = match shared.door.users.as_deref().map(|users| asker(users, &parts.headers)).transpose() {
        Ok(user) => user,
        Err(refused) => return not_let_in(&refused.message),
    };
    let uri = parts.uri;
    let body = match read(body, &shared.limits).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let Ok(body) = std::str::from_utf8(&body) else {
        return error(StatusCode::BAD_REQUEST, "the statement is not UTF-8");
    };
    let Asked { sql, raw } = asked(uri.query().unwrap_or_default(), body);
    if sql.trim().is_empty() {
        return error(StatusCode::BAD_REQUEST, "no statement: send it as the body, or as the field 'query'");
    }
    let is_select = sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("select"));
    if !raw && !is_select {
        return error(StatusCode::BAD_REQUEST, "only SELECT queries are supported here: use /sql?mode=raw");
    }
    let path_query = uri.path_and_query().map_or("/sql", |path_query| path_query.as_str());
    let origin = Origin::Http { path_query, from_sidecar: from_sidecar(&parts.headers) };
    let session = shared.door.session(user);
    match shared.door.statement(&session, sql, origin).await {
        Ok(Answer::Engine(Reply::Rows(set))) if !raw => Json(answer::hits_json(&set)).into_response(),
        Ok(Answer::Engine(reply)) => Json(answer::raw_json(&reply)).into_response(),
        Ok(Answer::Sidecar { message, status }) => of_sidecar(message, status),
        Err(failed) if failed.code == DENIED => error(StatusCode::FORBIDDEN, &failed.message),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed.message),
    }
}

/// Who asks: by password or token, or by the sidecar's word.
fn asker(users: &Users, headers: &HeaderMap) -> Result<String, SqlError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let refused = |message: &str| SqlError::new(message);
    let header = text(header::AUTHORIZATION).ok_or_else(|| refused("Authorization header field missed"))?;
    let (kind, secret) = header.split_once(' ').unwrap_or_default();
    if kind.eq_ignore_ascii_case("basic") {
        let decoded =
            BASE64_STANDARD.decode(secret.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(|| refused("Failed to decode the Authorization header"))?;
        let (user, password) = decoded.split_once(':').ok_or_else(|| refused("no password in it"))?;
        return users.by_password(user, password);
    }
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err(refused("Only Basic and Bearer authorization supported"));
    }
    let user = users.by_token(secret.trim())?;
    let named = text(HeaderName::from_static("x-manticore-user"));
    Ok(named.filter(|_| user == SIDECAR).map_or(user, str::to_owned))
}

fn not_let_in(message: &str) -> Response {
    let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"embedded engine\", charset=\"UTF-8\"")];
    (realm, error(StatusCode::UNAUTHORIZED, message)).into_response()
}

fn of_sidecar(message: Value, status: u16) -> Response {
    let failed = answer::of_sidecar(&message).is_err();
    let status = match StatusCode::from_u16(status) {
        Ok(status) if status.as_u16() >= 300 => status,
        _ if failed => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    };
    (status, Json(message)).into_response()
}

fn from_sidecar(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with(USER_AGENT_PREFIX))
}

/// The whole body, within its time and size.
async fn read(body: Body, limits: &Limits) -> Result<Bytes, Response> {
    let bytes_max = limits.statement_bytes;
    match tokio::time::timeout(limits.transfer, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let message = format!(
                "the statement did not arrive whole or is larger than {bytes_max} bytes: send less at once"
            );
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, &message))
        }
        Err(_) => Err(error(StatusCode::REQUEST_TIMEOUT, "the statement did not arrive in time")),
    }
}

/// `POST /sql?mode=raw` with the statement as body, or fields `query=` and `mode=raw` in the body or the address.
fn asked(query: &str, body: &str) -> Asked {
    let field = |fields: &str, key: &str| {
        let found = fields.split('&').find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
        found.map(handover::form_decoded)
    };
    let is_form = body.starts_with("query=") || body.starts_with("mode=raw&");
    let raw = field(query, "mode").as_deref() == Some("raw")
        || is_form && field(body, "mode").as_deref() == Some("raw");
    let sql = if is_form {
        field(body, "query").unwrap_or_default()
    } else if body.is_empty() {
        field(query, "query").unwrap_or_default()
    } else {
        body.to_owned()
    };
    Asked { sql, raw }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sidecar_speaks_for_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let login = manticore::Login::parse("root1:password-of-root1").expect("a login");
        let users = Users::open(dir.path(), &login).expect("opened");
        let made = users.answer("root1", "CREATE USER 'ann' IDENTIFIED BY 'password-of-ann'");
        let Some(Ok(Reply::Rows(made))) = made else { panic!("{made:?}") };
        let engine::Value::Text(token) = &made.rows[0][0] else { panic!("{made:?}") };
        let asks = |authorization: &str, named: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("authorization", authorization), ("x-manticore-user", named)] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().expect("a header"));
                }
            }
            asker(&users, &headers).ok()
        };
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let (own, sidecar) = (format!("Bearer {token}"), format!("bearer {}", users.sidecar_token()));
        for (authorization, named, who) in [
            (&sidecar, "", Some(SIDECAR)),
            (&sidecar, "ann", Some("ann")),
            (&own, "", Some("ann")),
            (&own, "root1", Some("ann")),
            (&basic("ann:password-of-ann"), "root1", Some("ann")),
            (&basic("ann:password-of-root1"), "", None),
            (&basic("ann"), "", None),
            (&format!("Digest {token}"), "", None),
            (&token.to_owned(), "", None),
            (&String::new(), "root1", None),
        ] {
            assert_eq!(asks(authorization, named).as_deref(), who, "{authorization} {named}");
        }
    }

    #[test]
    fn a_statement_is_found_in_every_form() {
        for (query, body, sql, raw) in [
            ("mode=raw", "SELECT 1 & 2", "SELECT 1 & 2", true),
            ("", "SELECT 1", "SELECT 1", false),
            ("mode=raw", "query=SELECT%201+%2B+1", "SELECT 1 + 1", true),
            ("", "mode=raw&query=SHOW+TABLES", "SHOW TABLES", true),
            ("", "query=SHOW+TABLES&mode=raw", "SHOW TABLES", true),
            ("query=SELECT%201", "", "SELECT 1", false),
            ("mode=raw&query=DESC%20t", "", "DESC t", true),
            ("mode=rawer", "SELECT 1", "SELECT 1", false),
        ] {
            let asked = asked(query, body);
            assert_eq!((asked.sql.as_str(), asked.raw), (sql, raw), "{query} {body}");
        }
    }
}
