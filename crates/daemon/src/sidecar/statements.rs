//! Whose a statement is, and who answers it: the controller, this node, the upstream sidecar, or nobody.

use super::Sidecar;
use super::hold::{self, Failed};
use manticore::handover::{Request, RequestKind, Response, ResponseKind, VERSION};
use manticore::{CallError, names, sharding};
use model::wire::{ShardingStatement, StatementReply};
use model::{TableName, UserRights};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// searchd answers it from memory.
const RIGHTS_TIME_MAX: Duration = Duration::from_secs(5);

/// What is to be done with a request.
#[derive(Debug)]
pub(super) enum Verdict {
    Answer(Response),
    /// Not ours: to the upstream sidecar when there is one, else the original error.
    PassOn,
}

/// Decides about `request` and answers what is ours, however long that takes.
pub(super) async fn handle(sidecar: &Sidecar, request: &Request) -> Verdict {
    let list = sidecar.names.current();
    let none = BTreeSet::new();
    let ours = list.as_ref().map_or(&none, |list| &list.names);
    let Some(sql) = request.statement() else { return json_request(sidecar, request, ours) };
    if let Some(read) = sharding::read(&sql) {
        match read {
            Err(refusal) => return Verdict::Answer(Response::error(&refusal.to_string())),
            Ok(statement) if is_controllers(&statement, ours, list.is_some()) => {
                return Verdict::Answer(ask(sidecar, request, statement).await);
            }
            Ok(_) => {}
        }
    }
    if !names::names_ours(&sql, ours).is_empty() {
        let (error, user) = (request.error.message.as_str(), request.acting_user());
        let failed = Failed { sql: &sql, error, user, ours };
        let answer = if is_raw_door(request) { hold::answer(sidecar, failed).await } else { None };
        return Verdict::Answer(answer.unwrap_or_else(|| original(request)));
    }
    if is_write(&sql) { foreign_write(sidecar, request) } else { Verdict::PassOn }
}

/// Whether the controller answers a statement of the sharding family.
///
/// DROP of a name that is not ours is answered there too, in the fixed words, but only while names are known.
fn is_controllers(statement: &ShardingStatement, ours: &BTreeSet<TableName>, has_list: bool) -> bool {
    match statement {
        ShardingStatement::DropTable { .. } => has_list,
        ShardingStatement::TruncateTable { name }
        | ShardingStatement::OptimizeTable { name }
        | ShardingStatement::FlushRamchunk { name } => ours.contains(name),
        _ => true,
    }
}

/// What searchd lets the user of `request` do; `None` on a node without users, where nobody is asked who he is.
///
/// Asked for every statement: a right that was taken away is gone at once.
async fn rights(sidecar: &Sidecar, request: &Request) -> Result<Option<UserRights>, String> {
    let Some(user) = request.acting_user() else { return Ok(None) };
    let not_asked = |error: CallError| {
        format!("what user '{user}' may do could not be asked of searchd ({error}): nothing was done")
    };
    // Those of a node are refused one by one in its log, so once is enough.
    if sidecar.searchd_has_users.get().is_none() {
        if !sidecar.client.has_users(&sidecar.node, RIGHTS_TIME_MAX).await.map_err(not_asked)? {
            return Ok(None);
        }
        let _set_already = sidecar.searchd_has_users.set(());
    }
    sidecar.client.rights(&sidecar.node, user, RIGHTS_TIME_MAX).await.map(Some).map_err(not_asked)
}

async fn ask(sidecar: &Sidecar, request: &Request, statement: ShardingStatement) -> Response {
    let rights = match rights(sidecar, request).await {
        Ok(rights) => rights,
        Err(message) => return Response::error(&message),
    };
    match sidecar.controller.statement(&sidecar.node, rights, statement).await.map(StatementReply::for_sql) {
        Ok(StatementReply::Ok | StatementReply::Object(_)) => Response::done(0),
        Ok(StatementReply::Rows { columns, rows }) => Response::rows(&columns, &rows),
        Ok(StatementReply::Error { message }) => Response::error(&message),
        Err(error) => Response::error(&error.to_string()),
    }
}

/// `/insert`, `/bulk`, `/search` and their like are never run again: several documents, or a transaction.
fn json_request(sidecar: &Sidecar, request: &Request, ours: &BTreeSet<TableName>) -> Verdict {
    let message = &request.message;
    let path = message.path_query.trim_start_matches('/').split('?').next().unwrap_or_default();
    let named = names::json_names_ours(&message.path_query, &message.body, ours);
    // An error may name a table that stands behind an alias in the body.
    let in_error = names::json_names_ours(&request.error.message, "", ours);
    if !named.is_empty() || !in_error.is_empty() {
        return Verdict::Answer(original(request));
    }
    let reads = ["search", "json/search", "pq", "_search"].contains(&path) || message.http_method == "GET";
    if reads { Verdict::PassOn } else { foreign_write(sidecar, request) }
}

/// A failed write that names no table of ours, as far as is known. While the list may be old, a missing table may
/// be one of ours: then the stock sidecar must not make a plain table in its place.
fn foreign_write(sidecar: &Sidecar, request: &Request) -> Verdict {
    let absent = ["absent", "unknown local table", "unknown table", "no such table", "not found"]
        .iter()
        .any(|word| request.error.message.contains(word));
    if absent && !sidecar.knows_names() { Verdict::Answer(original(request)) } else { Verdict::PassOn }
}

/// Whether the client expects what `/sql?mode=raw` answers: over MySQL, or by that path. `/sql` alone and `/cli`
/// have formats of their own, which running again would change.
fn is_raw_door(request: &Request) -> bool {
    let door = request.message.path_query.trim_start_matches('/');
    let (path, query) = door.split_once('?').unwrap_or((door, ""));
    match path {
        "" => request.kind == RequestKind::Sql,
        "sql" => query.split('&').any(|field| field == "mode=raw"),
        _ => false,
    }
}

/// Everything but what is known to only read.
fn is_write(sql: &str) -> bool {
    let word: String = sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    !["select", "show", "desc", "describe", "explain", "call"].contains(&word.to_ascii_lowercase().as_str())
}

/// What searchd would have said without a sidecar.
pub(super) fn original(request: &Request) -> Response {
    let kind = match request.kind {
        RequestKind::Sql => ResponseKind::Sql,
        RequestKind::Json => ResponseKind::Json,
    };
    let message = match &request.error.body {
        Value::Null => json!({ "error": request.error.message }),
        body => body.clone(),
    };
    let content_type = "application/json".to_owned();
    Response { version: VERSION, kind, message, error_code: 500, meta: None, log: Vec::new(), content_type }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_read_is_no_write() {
        for sql in ["SELECT 1", " show tables", "DESC t", "Explain x", "CALL PQ('t', 'd')"] {
            assert!(!is_write(sql), "{sql}");
        }
        for sql in ["INSERT INTO t", "/* x */ SELECT 1", "", "COMMIT", "selecting"] {
            assert!(is_write(sql), "{sql}");
        }
    }

    #[test]
    fn only_raw_answers_can_be_given_for_a_statement_that_is_run_again() {
        let door =
            |path: &str| is_raw_door(&Request::sql(String::new(), String::new(), Some(("POST", path))));
        assert!(door("") && door("/sql?mode=raw") && door("sql?a=1&mode=raw"));
        assert!(!door("/sql") && !door("/cli") && !door("/sql?mode=rawer"));
    }

    #[test]
    fn the_original_error_goes_back_as_it_came() {
        let mysql = Request::sql("INSERT INTO t".into(), "table 't' absent".into(), None);
        assert_eq!(original(&mysql).message, json!({ "error": "table 't' absent" }));
        let mut http = Request::sql(String::new(), "e".into(), Some(("POST", "/insert")));
        http.kind = RequestKind::Json;
        http.error.body = json!({ "error": { "type": "x", "reason": "e" }, "status": 409 });
        let answer = original(&http);
        assert_eq!((answer.kind, answer.message), (ResponseKind::Json, http.error.body));
    }
}
