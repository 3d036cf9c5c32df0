//! Every error of the API as RFC 9457 problem details: what, where, what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::api::Problem;

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Problem);

/// The kinds of errors: type, title, status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Invalid,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    Refused,
    NotLeader,
    Busy,
    Timeout,
}

impl Kind {
    const fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::Invalid => ("invalid", "The request cannot be read", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("unauthorized", "A token is needed", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", "The token does not allow it", StatusCode::FORBIDDEN),
            Self::NotFound => ("not_found", "There is no such thing", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => {
                ("method_not_allowed", "Not with this method", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::Conflict => ("conflict", "It stands against what is there", StatusCode::CONFLICT),
            Self::TooLarge => ("too_large", "The request is too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::Refused => ("refused", "Refused", StatusCode::UNPROCESSABLE_ENTITY),
            Self::NotLeader => ("not_leader", "Another controller leads", StatusCode::MISDIRECTED_REQUEST),
            Self::Busy => ("busy", "Not now", StatusCode::SERVICE_UNAVAILABLE),
            Self::Timeout => ("timeout", "Not done in time", StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

impl ApiError {
    pub(super) fn new(kind: Kind, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let (code, title, status) = kind.parts();
        Self(Problem {
            kind: format!("urn:shardwright:error:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            hint: hint.into(),
        })
    }

    /// The operator's own refusal of a statement; its text is made for SQL clients, so the kind is read from it.
    pub(super) fn of_statement(message: String) -> Self {
        let (kind, hint) = if message.contains("already exists") {
            (Kind::Conflict, "choose another name, or set if_not_exists")
        } else if message.ends_with("must exist") || message.contains("does not exist") {
            (Kind::NotFound, "`GET /api/v1/tables` lists what there is")
        } else if message.contains("timeout exceeded") {
            (Kind::Timeout, "a CREATE is undone, anything else goes on: look at /api/v1/operations")
        } else {
            (Kind::Refused, "see the message; nothing half-made stays")
        };
        Self::new(kind, message, hint)
    }

    /// The driver is gone or has no room.
    pub(super) fn busy(detail: &str) -> Self {
        Self::new(Kind::Busy, detail, "try again in a second; if it stays, read the controller's log")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
