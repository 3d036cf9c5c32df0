//! The sidecar's listener: reads what searchd asks and answers in its protocol.

use super::Sidecar;
use super::statements::{Verdict, handle, original};
use crate::http::ConnectionLimits;
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use manticore::handover;
use std::sync::Arc;
use std::time::Duration;

/// As many as searchd has clients that can wait for its sidecar at once.
pub(super) const LIMITS: ConnectionLimits =
    ConnectionLimits { connections_max: 2_000, header_time_max: Duration::from_mins(1) };

/// searchd's own limit of a packet is 128 MiB; escaped as JSON it may be longer.
const BODY_BYTES_MAX: usize = 192 << 20;
/// searchd is on the same host.
const BODY_TIME_MAX: Duration = Duration::from_mins(1);

pub(super) fn router(sidecar: Arc<Sidecar>) -> Router {
    Router::new().fallback(serve).with_state(sidecar)
}

async fn serve(State(sidecar): State<Arc<Sidecar>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response(),
        Err(_late) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let request: handover::Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let detail = format!("this is no request of searchd's sidecar protocol: {error}");
            return (StatusCode::BAD_REQUEST, detail).into_response();
        }
    };
    if request.version != handover::VERSION {
        let detail = format!(
            "searchd speaks version {} of the sidecar protocol, this program version {}: use a matching one",
            request.version,
            handover::VERSION
        );
        return axum::Json(handover::Response::error(&detail)).into_response();
    }
    match handle(&sidecar, &request).await {
        Verdict::Answer(response) => axum::Json(response).into_response(),
        Verdict::PassOn => pass_on(&sidecar, &parts.headers, body, &request).await,
    }
}

/// The upstream sidecar's answer, unchanged; the original error where there is none.
async fn pass_on(
    sidecar: &Sidecar,
    headers: &HeaderMap,
    body: Bytes,
    request: &handover::Request,
) -> Response {
    let Some(upstream) = &sidecar.upstream else { return axum::Json(original(request)).into_response() };
    match upstream.forward(forwarded(headers), body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "the upstream sidecar did not answer");
            axum::Json(original(request)).into_response()
        }
    }
}

/// Headers that belong to the request, not to its connection.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let of_connection = |name: &HeaderName| {
        ["host", "content-length", "connection", "transfer-encoding", "expect"].contains(&name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| !of_connection(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
