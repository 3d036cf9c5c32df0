//! What sidecars ask: orders (held until there is something to say) and answers to statements.

use super::api::{JsonBody, Shared};
use super::audits;
use super::caller::{self, Caller};
use super::diary::Origin;
use super::handle::Pending;
use super::problem::ApiError;
use crate::audit::{AuditError, Event};
use axum::Json;
use axum::extract::State;
use model::UserRights;
use model::wire::{ShardingStatement, SidecarOrders, SidecarPoll, StatementReply, StatementRequest};
use serde_json::Value;
use std::time::Duration;

/// Longest wait for the answer to a statement that has no time of its own.
pub(super) const STATEMENT_TIME_MAX: Duration = Duration::from_mins(1);
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
    let StatementRequest { node, user, rights, statement } = request;
    let user = user.filter(|user| !user.is_empty());
    tracing::info!(%node, ?user, ?statement, "statement");
    if let Err(message) = is_typed_by(user.as_deref(), rights.as_ref(), &statement) {
        let what = statement_name(&statement);
        let caller = caller::current().map(|caller| Caller { node: Some(node), user, ..caller });
        if let Some(caller) = caller {
            audits::denied(&shared, &caller, what).await;
        }
        return Ok(Json(StatementReply::Error { message }));
    }
    let caller = caller::current().map(|caller| Caller { node: Some(node), user, rights, ..caller });
    ask_for(&shared, caller, statement).await.map(StatementReply::for_sql).map(Json)
}

/// What a sidecar may send for a user: what can be typed, and with a user's name what searchd lets that user do.
fn is_typed_by(
    user: Option<&str>,
    rights: Option<&UserRights>,
    statement: &ShardingStatement,
) -> Result<(), String> {
    if !statement.is_sql() {
        return Err("this is not asked over SQL: the API has a request of its own for it".to_owned());
    }
    match (user, rights.map(|rights| rights.user.as_str())) {
        (None, None) => Ok(()),
        (Some(user), Some(whose)) if user == whose => Ok(()),
        (user, _) => Err(format!(
            "Permission denied for user '{}': the node's sidecar did not say what searchd lets the user do; is it of this version?",
            user.unwrap_or_default()
        )),
    }
}

/// The operator's answer to a statement of the request that is being handled.
pub(super) async fn ask(shared: &Shared, statement: ShardingStatement) -> Result<StatementReply, ApiError> {
    ask_for(shared, caller::current(), statement).await
}

/// What asks for a change stands in the audit log before it is handed over, and its end after it.
async fn ask_for(
    shared: &Shared,
    caller: Option<Caller>,
    statement: ShardingStatement,
) -> Result<StatementReply, ApiError> {
    let rights = caller.as_ref().and_then(|caller| caller.rights.clone());
    if !statement.changes() {
        return hand_over(shared, statement, rights, Origin::default()).await;
    }
    let told = match &caller {
        Some(caller) => {
            let (what, detail) = named(&statement);
            Some(Told::before(shared, caller, what, detail).await?)
        }
        None => None,
    };
    let origin = match (&caller, &told) {
        (Some(caller), Some(told)) => caller.origin(told.line),
        _ => Origin::default(),
    };
    let answer = hand_over(shared, statement, rights, origin).await;
    if let (Some(caller), Some(told)) = (caller, told) {
        told.after(shared, &caller, &answer).await;
    }
    answer
}

/// A request that the audit log was told of.
pub(super) struct Told {
    pub(super) line: Option<u64>,
    what: String,
}

impl Told {
    pub(super) async fn before(
        shared: &Shared,
        caller: &Caller,
        what: String,
        detail: Option<Value>,
    ) -> Result<Self, ApiError> {
        let mut entry = caller.entry(Event::Request, &what);
        entry.detail = detail;
        let line = shared.audit.before_async(entry).await.map_err(|error| unaudited(&error))?;
        Ok(Self { line, what })
    }

    pub(super) async fn after(
        self,
        shared: &Shared,
        caller: &Caller,
        answer: &Result<StatementReply, ApiError>,
    ) {
        let mut entry = caller.entry(Event::Result, self.what);
        entry.request = self.line;
        entry.result = Some(match answer {
            Ok(StatementReply::Error { message }) => message.clone(),
            Ok(StatementReply::Object(object)) => {
                serde_json::to_string(object).unwrap_or_else(|_| "ok".to_owned())
            }
            Ok(StatementReply::Ok | StatementReply::Rows { .. }) => "ok".to_owned(),
            Err(ApiError(problem)) => problem.detail.clone(),
        });
        shared.audit.after_async(entry).await;
    }
}

/// Nothing is done that cannot be told.
fn unaudited(error: &AuditError) -> ApiError {
    ApiError::busy(&format!("{error}; nothing was done"))
}

fn statement_name(statement: &ShardingStatement) -> String {
    named(statement).0
}

/// The name of a statement, and what it says besides.
fn named(statement: &ShardingStatement) -> (String, Option<Value>) {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(statement) else { return (String::new(), None) };
    // What an import was judged by is as long as the cluster is large; what it adopts is in the control log.
    fields.remove("facts");
    let name = fields.remove("statement").and_then(|name| name.as_str().map(str::to_owned));
    (name.unwrap_or_default(), (!fields.is_empty()).then_some(Value::Object(fields)))
}

/// Hands a statement to the operator and waits for its answer, as long as that may take.
async fn hand_over(
    shared: &Shared,
    statement: ShardingStatement,
    rights: Option<UserRights>,
    origin: Origin,
) -> Result<StatementReply, ApiError> {
    let time_max = match &statement {
        ShardingStatement::CreateTable { timeout_seconds, .. } => {
            Duration::from_secs(*timeout_seconds).saturating_add(UNDO_TIME_MAX)
        }
        _ => STATEMENT_TIME_MAX,
    };
    let pending = shared
        .handle
        .statement(statement, rights, origin)
        .map_err(|error| ApiError::busy(&error.to_string()))?;
    answered(pending, time_max).await
}

/// The operator's answer, if it comes in time.
pub(super) async fn answered(pending: Pending, time_max: Duration) -> Result<StatementReply, ApiError> {
    match tokio::time::timeout(time_max, pending.answer()).await {
        Ok(answered) => answered.map_err(|error| ApiError::busy(&error.to_string())),
        Err(_late) => Err(ApiError::of_statement("Waiting timeout exceeded.".to_owned())),
    }
}
