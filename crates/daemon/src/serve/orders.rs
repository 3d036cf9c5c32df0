//! What operators order over HTTP: the statements of `DRAIN NODE` and its family, through the same path as over SQL.

use super::api::{JsonBody, Shared};
use super::problem::{ApiError, Kind};
use super::sidecars::ask;
use super::tables::{accept, qualified};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::api::{GateTold, MoveBody, RebalanceBody, RecoverBody, RfBody, Told};
use model::operate::{OrderReply, RebalanceReply, Refused};
use model::wire::{RebalanceOrder, ShardingStatement, StatementReply};
use model::{GroupId, NodeId};

pub(super) async fn drain(
    State(shared): State<Shared>,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    done(&shared, ShardingStatement::DrainNode { node: node_id(node)? }).await
}

pub(super) async fn undrain(
    State(shared): State<Shared>,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    done(&shared, ShardingStatement::UndrainNode { node: node_id(node)? }).await
}

pub(super) async fn remove(
    State(shared): State<Shared>,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    done(&shared, ShardingStatement::RemoveNode { node: node_id(node)? }).await
}

pub(super) async fn rebalance(
    State(shared): State<Shared>,
    Path(table): Path<String>,
    JsonBody(body): JsonBody<RebalanceBody>,
) -> Result<Response, ApiError> {
    let (_, name) = qualified(&table)?;
    object(&shared, ShardingStatement::Rebalance { name, order: body.order }).await
}

pub(super) async fn rebalance_status(
    State(shared): State<Shared>,
    Path(table): Path<String>,
) -> Result<Response, ApiError> {
    let (_, name) = qualified(&table)?;
    object(&shared, ShardingStatement::Rebalance { name, order: RebalanceOrder::Status }).await
}

pub(super) async fn recover(State(shared): State<Shared>) -> Result<Response, ApiError> {
    object(&shared, ShardingStatement::Recover).await
}

pub(super) async fn clean_up(State(shared): State<Shared>) -> Result<Response, ApiError> {
    object(&shared, ShardingStatement::CleanUp).await
}

pub(super) async fn move_shard(
    State(shared): State<Shared>,
    Path(table): Path<String>,
    JsonBody(body): JsonBody<MoveBody>,
) -> Result<Json<Told>, ApiError> {
    let (_, name) = qualified(&table)?;
    let MoveBody { shard, from, to, split } = body;
    told(&shared, ShardingStatement::MoveShard { name, shard, from, to, split }).await
}

pub(super) async fn set_rf(
    State(shared): State<Shared>,
    Path(table): Path<String>,
    JsonBody(RfBody { rf }): JsonBody<RfBody>,
) -> Result<Json<Told>, ApiError> {
    let (cluster, name) = qualified(&table)?;
    told(&shared, ShardingStatement::SetRf { name, cluster, rf }).await
}

pub(super) async fn explain(
    State(shared): State<Shared>,
    Path((table, number)): Path<(String, u32)>,
) -> Result<Json<Told>, ApiError> {
    let (_, name) = qualified(&table)?;
    told(&shared, ShardingStatement::ExplainShard { name, shard: number }).await
}

/// Rows of what the node has to wait for before it starts, and the groups that it is to forget.
pub(super) async fn gate(
    State(shared): State<Shared>,
    Path(node): Path<String>,
) -> Result<Json<GateTold>, ApiError> {
    let other = match ask(&shared, ShardingStatement::Gate { node: node_id(node)? }).await? {
        StatementReply::Object(object) => match *object {
            OrderReply::Gate(gate) => return Ok(Json(gate.into())),
            other => format!("{other:?}"),
        },
        StatementReply::Error { message } => message,
        other => format!("{other:?}"),
    };
    Err(ApiError::of_statement(other))
}

pub(super) async fn recover_group(
    State(shared): State<Shared>,
    Path(group): Path<String>,
    JsonBody(RecoverBody { from }): JsonBody<RecoverBody>,
) -> Result<StatusCode, ApiError> {
    let group = GroupId::new(group)
        .map_err(|error| ApiError::new(Kind::Invalid, error.to_string(), "the alert names the group"))?;
    done(&shared, ShardingStatement::RecoverGroup { group, from }).await
}

fn node_id(text: String) -> Result<NodeId, ApiError> {
    NodeId::new(text).map_err(|error| {
        ApiError::new(Kind::Invalid, error.to_string(), "`GET /api/v1/nodes` lists the nodes")
    })
}

async fn done(shared: &Shared, statement: ShardingStatement) -> Result<StatusCode, ApiError> {
    accept(ask(shared, statement).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the order is answered with, and a status that says whether it was taken.
async fn object(shared: &Shared, statement: ShardingStatement) -> Result<Response, ApiError> {
    let object = match ask(shared, statement).await? {
        StatementReply::Object(object) => object,
        StatementReply::Error { message } => return Err(ApiError::of_statement(message)),
        StatementReply::Ok | StatementReply::Rows { .. } => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    let status = match &*object {
        OrderReply::Rebalance(RebalanceReply::Refused { reason: Refused::Exception { .. }, .. }) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        OrderReply::Rebalance(RebalanceReply::Refused { .. }) => StatusCode::CONFLICT,
        _ => StatusCode::OK,
    };
    Ok((status, Json(object)).into_response())
}

async fn told(shared: &Shared, statement: ShardingStatement) -> Result<Json<Told>, ApiError> {
    match ask(shared, statement).await? {
        StatementReply::Rows { columns, rows } => Ok(Json(Told { columns, rows })),
        StatementReply::Ok | StatementReply::Object(_) => Ok(Json(Told::default())),
        StatementReply::Error { message } => Err(ApiError::of_statement(message)),
    }
}
