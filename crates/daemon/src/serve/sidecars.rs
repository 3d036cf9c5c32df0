//! What sidecars ask: orders (held until there is something to say) and answers to statements.

use super::api::{JsonBody, Shared};
use super::problem::ApiError;
use axum::Json;
use axum::extract::State;
use model::wire::{ShardingStatement, SidecarOrders, SidecarPoll, StatementReply, StatementRequest};
use std::time::Duration;

/// Longest wait for the answer to a statement that has no time of its own.
const STATEMENT_TIME_MAX: Duration = Duration::from_mins(1);
/// Beyond a CREATE TABLE's own timeout: the undoing that the operator does before it answers.
const UNDO_TIME_MAX: Duration = Duration::from_mins(1);

pub(super) async fn poll(
    State(shared): State<Shared>,
    JsonBody(poll): JsonBody<SidecarPoll>,
) -> Result<Json<SidecarOrders>, ApiError> {
    shared.handle.poll(poll).await.map(Json).map_err(|error| ApiError::busy(&error.to_string()))
}

pub(super) async fn statement(
    State(shared): State<Shared>,
    JsonBody(request): JsonBody<StatementRequest>,
) -> Result<Json<StatementReply>, ApiError> {
    tracing::info!(node = %request.node, statement = ?request.statement, "statement");
    ask(&shared, request.statement).await.map(StatementReply::for_sql).map(Json)
}

/// Hands a statement to the operator and waits for its answer, as long as that may take.
pub(super) async fn ask(shared: &Shared, statement: ShardingStatement) -> Result<StatementReply, ApiError> {
    let time_max = match &statement {
        ShardingStatement::CreateTable { timeout_seconds, .. } => {
            Duration::from_secs(*timeout_seconds).saturating_add(UNDO_TIME_MAX)
        }
        _ => STATEMENT_TIME_MAX,
    };
    let pending = shared.handle.statement(statement).map_err(|error| ApiError::busy(&error.to_string()))?;
    match tokio::time::timeout(time_max, pending.answer()).await {
        Ok(answered) => answered.map_err(|error| ApiError::busy(&error.to_string())),
        Err(_late) => Err(ApiError::of_statement("Waiting timeout exceeded.".to_owned())),
    }
}
