//! Tokens over HTTP: made, listed, revoked. The answer to the making is the only place where one is ever shown.

use super::api::{JsonBody, Shared};
use super::caller::{self, Caller};
use super::problem::{ApiError, Kind};
use super::sidecars::{STATEMENT_TIME_MAX, Told, answered};
use super::tables::accept;
use crate::audit::sha256_hex;
use crate::files::{random_hex, unix_now};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::api::{TokenBody, TokenList, TokenMade, TokenSummary};
use model::{AccessToken, TokenOrder};
use serde_json::{Value, json};

const DAY_SECONDS: u64 = 24 * 3600;
/// A hundred years: more is a typing error.
const DAYS_MAX: u64 = 36_500;

pub(super) async fn list(State(shared): State<Shared>) -> Json<TokenList> {
    let (tokens, now) = (shared.access.known(), unix_now());
    let summary = |token: &AccessToken| TokenSummary {
        name: token.name.clone(),
        role: token.role,
        created: token.created,
        expires: token.expires,
        expired: token.expires.is_some_and(|expires| expires <= now),
    };
    Json(TokenList { tokens: tokens.values().map(summary).collect() })
}

pub(super) async fn create(
    State(shared): State<Shared>,
    JsonBody(body): JsonBody<TokenBody>,
) -> Result<Json<TokenMade>, ApiError> {
    let TokenBody { name, role, days } = body;
    if days.is_some_and(|days| days == 0 || days > DAYS_MAX) {
        let detail = format!("days must be from 1 to {DAYS_MAX}");
        return Err(ApiError::new(Kind::Invalid, detail, "leave it out for a token without an end"));
    }
    let token = random_hex(32)
        .map_err(|error| ApiError::new(Kind::Refused, error.to_string(), "nothing was done; try again"))?;
    let created = unix_now();
    let expires = days.map(|days| created + days * DAY_SECONDS);
    let detail = json!({ "name": name, "role": role, "expires": expires });
    let kept =
        AccessToken { name: name.clone(), role, sha256: sha256_hex(token.as_bytes()), created, expires };
    change(&shared, "create_token", detail, TokenOrder::Add(kept)).await?;
    Ok(Json(TokenMade { name, token, expires }))
}

pub(super) async fn revoke(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let detail = json!({ "name": name });
    change(&shared, "revoke_token", detail, TokenOrder::Revoke { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change(shared: &Shared, what: &str, detail: Value, order: TokenOrder) -> Result<(), ApiError> {
    let caller: Caller = caller::current()
        .ok_or_else(|| ApiError::new(Kind::Refused, "nobody is known to ask for it", "report it"))?;
    let told = Told::before(shared, &caller, what.to_owned(), Some(detail)).await?;
    let origin = caller.origin(told.line);
    let answer = match shared.handle.token(order, origin) {
        Ok(pending) => answered(pending, STATEMENT_TIME_MAX).await,
        Err(error) => Err(ApiError::busy(&error.to_string())),
    };
    told.after(shared, &caller, &answer).await;
    accept(answer?)
}
