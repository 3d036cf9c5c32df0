//! Silences of alerts over HTTP: who does not want to hear of something for a while.

use super::api::{JsonBody, Shared, view};
use super::problem::ApiError;
use super::sidecars::ask;
use super::tables::accept;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::api::{SilenceBody, SilenceList};
use model::wire::ShardingStatement;

pub(super) async fn list(shared: State<Shared>) -> Result<Json<SilenceList>, ApiError> {
    view(shared, |controller, _, unix| SilenceList { silences: controller.silences(unix) }).await
}

pub(super) async fn silence(
    State(shared): State<Shared>,
    JsonBody(body): JsonBody<SilenceBody>,
) -> Result<StatusCode, ApiError> {
    let SilenceBody { kind, labels, seconds, comment } = body;
    let statement = ShardingStatement::Silence { kind, labels, seconds, comment };
    accept(ask(&shared, statement).await?)?;
    Ok(StatusCode::NO_CONTENT)
}
