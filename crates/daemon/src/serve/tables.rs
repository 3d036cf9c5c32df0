//! Tables over HTTP: the same statements as over SQL, through the same path.

use super::api::{JsonBody, Shared, look};
use super::problem::{ApiError, Kind};
use super::sidecars::ask;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use manticore::sharding;
use model::api::{CreateTableBody, TableList, TableShow};
use model::sql::tokenize;
use model::wire::{ShardingStatement, StatementReply};
use model::{GroupId, TableName};

const COLUMNS_HINT: &str = "declare columns as in SQL: `title text, v int`";

pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<TableList>, ApiError> {
    let mut listed = look(&shared, |controller, _, _| controller.tables()).await?;
    shared.census.fill(listed.tables.iter_mut()).await;
    Ok(Json(listed))
}

pub(super) async fn show(
    State(shared): State<Shared>,
    Path(table): Path<String>,
) -> Result<Json<TableShow>, ApiError> {
    let (_, name) = qualified(&table)?;
    counted(&shared, name).await.map(Json)
}

pub(super) async fn create(
    State(shared): State<Shared>,
    JsonBody(body): JsonBody<CreateTableBody>,
) -> Result<(StatusCode, Json<TableShow>), ApiError> {
    let statement = statement(&body)?;
    let (_, name) = qualified(&body.name)?;
    accept(ask(&shared, statement).await?)?;
    Ok((StatusCode::CREATED, Json(counted(&shared, name).await?)))
}

pub(super) async fn drop(
    State(shared): State<Shared>,
    Path(table): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (cluster, name) = qualified(&table)?;
    // Over HTTP the name alone is enough: there is no current cluster that a prefix could guard against.
    let cluster = match cluster {
        Some(cluster) => Some(cluster),
        None => find(&shared, name.clone()).await?.summary.cluster,
    };
    accept(ask(&shared, ShardingStatement::DropTable { name, cluster, if_exists: false }).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The table with its documents.
async fn counted(shared: &Shared, name: TableName) -> Result<TableShow, ApiError> {
    let mut found = find(shared, name).await?;
    shared.census.fill([&mut found.summary]).await;
    Ok(found)
}

async fn find(shared: &Shared, name: TableName) -> Result<TableShow, ApiError> {
    let wanted = name.clone();
    look(shared, move |controller, _, _| controller.table(wanted.as_str())).await?.ok_or_else(|| {
        let detail = format!("there is no sharded table '{name}'");
        ApiError::new(Kind::NotFound, detail, "`GET /api/v1/tables` lists what there is")
    })
}

pub(super) fn accept(reply: StatementReply) -> Result<(), ApiError> {
    match reply {
        StatementReply::Error { message } => Err(ApiError::of_statement(message)),
        StatementReply::Ok | StatementReply::Rows { .. } | StatementReply::Object(_) => Ok(()),
    }
}

/// `cluster:name` or `name`, checked.
pub(super) fn qualified(text: &str) -> Result<(Option<String>, TableName), ApiError> {
    let invalid = |error: model::InvalidName| {
        ApiError::new(Kind::Invalid, error.to_string(), "write it as `name` or `cluster:name`")
    };
    match text.split_once(':') {
        None => Ok((None, TableName::new(text).map_err(invalid)?)),
        Some((cluster, name)) => {
            let cluster = GroupId::new(cluster).map_err(invalid)?;
            Ok((Some(cluster.into()), TableName::new(name).map_err(invalid)?))
        }
    }
}

/// The statement that the body stands for, read by the same reader as a client's own text.
fn statement(body: &CreateTableBody) -> Result<ShardingStatement, ApiError> {
    let (cluster, name) = qualified(&body.name)?;
    let columns = columns(&body.columns)?;
    let prefix = cluster.map(|cluster| format!("{cluster}:")).unwrap_or_default();
    let condition = if body.if_not_exists { "IF NOT EXISTS " } else { "" };
    let timeout = body.timeout_seconds.map(|seconds| format!(" timeout='{seconds}'")).unwrap_or_default();
    let text = format!(
        "CREATE TABLE {condition}{prefix}{name}{columns} shards='{}' rf='{}'{timeout}",
        body.shards, body.rf
    );
    match sharding::read(&text) {
        Some(Ok(statement)) => Ok(statement),
        Some(Err(refusal)) => Err(ApiError::of_statement(refusal.to_string())),
        None => {
            let detail = format!("columns: '{}' is no list of columns", body.columns);
            Err(ApiError::new(Kind::Invalid, detail, COLUMNS_HINT))
        }
    }
}

/// The column list in brackets, or nothing. A list that closes its own bracket would smuggle in options.
fn columns(text: &str) -> Result<String, ApiError> {
    let invalid = |detail: String| ApiError::new(Kind::Invalid, detail, COLUMNS_HINT);
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    let tokens = tokenize(text).map_err(|error| invalid(format!("columns: {error}")))?;
    let mut depth = 0_i32;
    for token in &tokens {
        depth += i32::from(token.is_symbol("(")) - i32::from(token.is_symbol(")"));
        if depth < 0 {
            return Err(invalid(format!("columns: a bracket at byte {} closes nothing", token.start)));
        }
    }
    Ok(format!(" ({text})"))
}
