//! The `OpenAPI` document: every path that exists, and nothing else. A test holds it against the routes and the
//! shapes that are really sent.

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// One method of one path.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Schema of the body it takes.
    takes: Option<&'static str>,
    /// Schema of the JSON it gives; `None` is text.
    gives: Option<&'static str>,
    status: u16,
}

const fn reads(path: &'static str, summary: &'static str, gives: Option<&'static str>) -> Endpoint {
    Endpoint { method: "get", path, summary, takes: None, gives, status: 200 }
}

const fn changes(
    path: &'static str,
    summary: &'static str,
    takes: Option<&'static str>,
    gives: Option<&'static str>,
) -> Endpoint {
    let status = if gives.is_some() { 200 } else { 204 };
    Endpoint { method: "post", path, summary, takes, gives, status }
}

const ENDPOINTS: &[Endpoint] = &[
    reads("/api/v1/tables", "The sharded tables", Some("TableList")),
    Endpoint {
        method: "post",
        path: "/api/v1/tables",
        summary: "Create a sharded table; waits until it serves, or until its timeout undoes it",
        takes: Some("CreateTableBody"),
        gives: Some("TableShow"),
        status: 201,
    },
    reads("/api/v1/tables/{table}", "One table with the placement of its shards", Some("TableShow")),
    Endpoint {
        method: "delete",
        path: "/api/v1/tables/{table}",
        summary: "Drop a sharded table, by `name` or `cluster:name`",
        takes: None,
        gives: None,
        status: 204,
    },
    reads("/api/v1/tables/{table}/rebalance", "How far the table's moves are", Some("RebalanceProgress")),
    changes(
        "/api/v1/tables/{table}/rebalance",
        "Plan, begin, pause, resume, stop or reset the moves of the table's groups",
        Some("RebalanceBody"),
        Some("RebalanceAnswer"),
    ),
    changes(
        "/api/v1/tables/{table}/move",
        "Move a shard from one node to another, with its group or split off from it",
        Some("MoveBody"),
        Some("StatementRows"),
    ),
    changes(
        "/api/v1/tables/{table}/rf",
        "Change how many copies every shard of the table has",
        Some("RfBody"),
        Some("StatementRows"),
    ),
    reads(
        "/api/v1/tables/{table}/explain/{shard}",
        "Why a shard is where it is, and what forbids each other node",
        Some("StatementRows"),
    ),
    reads("/api/v1/backups", "Backups, and how far each is", Some("BackupList")),
    changes(
        "/api/v1/backups",
        "Record a table, and with `with_data` copy its documents; answers once it is recorded",
        Some("BackupBody"),
        Some("BackupReply"),
    ),
    reads("/api/v1/backups/{id}", "One backup with all that it recorded", Some("BackupShow")),
    changes(
        "/api/v1/backups/{id}/verify",
        "Read a backup's documents and check them; compare the live table on request",
        Some("VerifyBody"),
        Some("VerifyReply"),
    ),
    changes(
        "/api/v1/backups/{id}/restore",
        "Make a table as it was recorded, and bring its documents back; answers once that has begun",
        Some("RestoreBody"),
        Some("RestoreReply"),
    ),
    reads("/api/v1/restores/{operation}", "How far a restore is, and what it found", Some("RestoreShow")),
    Endpoint {
        method: "delete",
        path: "/api/v1/nodes/{node}",
        summary: "Remove a drained node, or give a lost one up",
        takes: None,
        gives: None,
        status: 204,
    },
    changes("/api/v1/nodes/{node}/drain", "Move a node's copies elsewhere and give it no others", None, None),
    changes("/api/v1/nodes/{node}/undrain", "Let a node take copies again", None, None),
    changes(
        "/api/v1/nodes/{node}/gate",
        "What a stopped node has to wait for before it starts; no rows: it may, once it has forgotten the groups, and counts as starting",
        None,
        Some("GateRows"),
    ),
    changes(
        "/api/v1/groups/{group}/recover",
        "After a total loss, bring a group back from one node's copy, whatever others may hold",
        Some("RecoverBody"),
        None,
    ),
    reads("/api/v1/nodes", "The nodes and what they hold", Some("NodeList")),
    reads("/api/v1/operations", "Operations, running and finished", Some("OperationList")),
    reads("/api/v1/dashboard", "Status in one object", Some("Dashboard")),
    reads("/api/v1/metrics", "The three groups of figures", Some("Metrics")),
    reads("/api/v1/metrics/rebalancing", "Figures of operations", Some("RebalancingMetrics")),
    reads("/api/v1/metrics/queue", "Figures of the commands for nodes", Some("QueueMetrics")),
    reads("/api/v1/metrics/cluster", "Figures of the nodes", Some("ClusterMetrics")),
    reads("/api/v1/alerts", "Alerts that fire or were just resolved", Some("Alerts")),
    reads("/api/v1/alerts/silences", "Silences that are not over", Some("SilenceList")),
    changes(
        "/api/v1/alerts/silences",
        "Do not announce alerts of a type or with some labels for a while; 0 seconds end it",
        Some("SilenceBody"),
        None,
    ),
    reads(
        "/api/v1/history",
        "Kept figures for charts; `figures`, `from`, `to` and `step` (seconds) choose",
        Some("History"),
    ),
    reads("/api/v1/events", "Server-sent events: dashboard, operations and alerts as they change", None),
    reads("/api/v1/health", "A check-up: what is wrong, and what to do next", Some("Health")),
    changes(
        "/api/v1/recover",
        "Remove orphaned clusters, reset what is stuck, try again what failed",
        None,
        Some("RecoveryReport"),
    ),
    changes(
        "/api/v1/import",
        "Adopt the tables that the stock sidecar sharded, all of them or none; with `dry_run` only look",
        Some("ImportBody"),
        Some("ImportReport"),
    ),
    changes("/api/v1/cleanup", "Forget what is older than its retention", None, Some("CleanUpReport")),
    reads("/api/v1/tokens", "The tokens, without what they are", Some("TokenList")),
    changes(
        "/api/v1/tokens",
        "Make a token; this answer is the only place where it is ever shown",
        Some("TokenBody"),
        Some("TokenMade"),
    ),
    Endpoint {
        method: "delete",
        path: "/api/v1/tokens/{name}",
        summary: "Revoke a token",
        takes: None,
        gives: None,
        status: 204,
    },
    reads(
        "/api/v1/audit",
        "The last lines of this controller's audit log; `lines`, `before`",
        Some("AuditTail"),
    ),
    reads(
        "/api/v1/audit/verify",
        "Whether this controller's audit log is as it was written",
        Some("AuditVerify"),
    ),
    reads("/api/v1/config", "The settings that hold, each with its source", Some("ConfigShow")),
    reads(
        "/api/v1/controller",
        "This controller's sign of life, and who leads; every controller answers for itself",
        Some("ControllerShow"),
    ),
    reads("/api/v1/map", "How many copies of each table each node holds", Some("ShardMap")),
    reads("/api/v1/openapi.json", "This document", Some("Document")),
    Endpoint {
        method: "post",
        path: "/api/v1/sidecar/poll",
        summary: "A sidecar reports and asks for orders; held up to a second while there are none",
        takes: Some("SidecarPoll"),
        gives: Some("SidecarOrders"),
        status: 200,
    },
    Endpoint {
        method: "post",
        path: "/api/v1/sidecar/statement",
        summary: "A sidecar hands on a sharding statement of a client",
        takes: Some("StatementRequest"),
        gives: Some("StatementReply"),
        status: 200,
    },
    reads(
        "/metrics",
        "The figures in the Prometheus text format, or OpenMetrics when that is asked for",
        None,
    ),
    reads("/", "The dashboard, for a browser", None),
    reads("/assets/{file}", "A file of the dashboard", None),
    reads("/healthz", "Answers while the process lives", None),
    reads("/readyz", "Answers once the log is read and the controller ticks", None),
];

/// As it is sent. Anybody may ask for it, so it is written once.
pub(super) async fn show() -> impl IntoResponse {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone())
}

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Shardwright",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut good = json!({ "description": endpoint.summary });
    match endpoint.gives {
        Some(schema) => good["content"] = json!({ "application/json": { "schema": reference(schema) } }),
        None if endpoint.status == 200 => {
            good["content"] = json!({ "text/plain": { "schema": { "type": "string" } } });
        }
        None => {}
    }
    let mut operation = json!({
        "summary": endpoint.summary,
        "responses": {
            endpoint.status.to_string(): good,
            "default": {
                "description": "What went wrong, where, and what to do",
                "content": { "application/problem+json": { "schema": reference("Problem") } },
            },
        },
    });
    if let Some(schema) = endpoint.takes {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": reference(schema) } } });
    }
    if endpoint.method != "get" {
        operation["security"] = json!([{ "token": [] }]);
    }
    let parameters: Vec<Value> = parameters(endpoint.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    operation
}

/// The names in braces of a path.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name)
}

/// An object whose fields are all there; a type ending in `?` may be null, one starting with `~` may be left out.
fn object(fields: &[(&str, &str)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, kind) in fields {
        let (kind, optional) = kind.strip_prefix('~').map_or((*kind, false), |kind| (kind, true));
        properties.insert((*name).to_owned(), typed(kind));
        if !optional {
            required.push(*name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

/// `string`, `integer?`, `[string]`, `{integer}`, or the name of a schema.
fn typed(kind: &str) -> Value {
    if let Some(inner) = kind.strip_suffix('?') {
        return json!({ "anyOf": [typed(inner), { "type": "null" }] });
    }
    if let Some(inner) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        return json!({ "type": "array", "items": typed(inner) });
    }
    if let Some(inner) = kind.strip_prefix('{').and_then(|kind| kind.strip_suffix('}')) {
        return json!({ "type": "object", "additionalProperties": typed(inner) });
    }
    match kind {
        "any" => json!({}),
        "string" | "integer" | "number" | "boolean" | "object" => json!({ "type": kind }),
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

mod schemas;
use schemas::schemas;

#[cfg(test)]
mod tests;
