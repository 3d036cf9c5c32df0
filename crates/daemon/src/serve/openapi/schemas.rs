//! The shapes of the API's bodies.

use super::object;
use serde_json::{Value, json};

pub(super) fn schemas() -> Value {
    let mut all = seen();
    for more in [operated(), asked(), of_backups()] {
        if let (Some(all_fields), Value::Object(more)) = (all.as_object_mut(), more) {
            all_fields.extend(more);
        }
    }
    all
}

/// What people and scripts read.
fn seen() -> Value {
    let summary = [
        ("name", "string"),
        ("cluster", "string?"),
        ("shards", "integer"),
        ("rf", "integer"),
        ("status", "string"),
        ("documents", "integer?"),
    ];
    let mut shown = summary.to_vec();
    shown.push(("placement", "[ShardPlacement]"));
    json!({
        "TableList": object(&[("tables", "[TableSummary]")]),
        "TableSummary": object(&summary),
        "TableShow": object(&shown),
        "ShardPlacement": object(&[("shard", "integer"), ("group", "string?"), ("nodes", "[CopyStatus]")]),
        "CopyStatus": object(&[("id", "string"), ("status", "string")]),
        "ShardMap": object(&[("nodes", "[string]"), ("tables", "[MapRow]")]),
        "MapRow": object(&[
            ("name", "string"), ("cluster", "string?"), ("shards", "integer"), ("rf", "integer"),
            ("rf_status", "string"), ("cells", "[MapCell]"),
        ]),
        "MapCell": object(&[
            ("node", "integer"), ("active", "integer"), ("pending", "integer"), ("inactive", "integer"),
        ]),
        "NodeList": object(&[("nodes", "[NodeSummary]")]),
        "NodeSummary": object(&[
            ("id", "string"), ("state", "string"), ("zone", "string?"), ("capacity", "number"),
            ("copies", "integer"), ("groups", "integer"),
        ]),
        "OperationList": object(&[("operations", "[OperationSummary]")]),
        "OperationSummary": object(&[
            ("id", "integer"), ("kind", "string"), ("subject", "string"), ("status", "string"),
            ("steps_done", "integer"), ("steps_total", "integer"), ("created_at", "integer"),
            ("finished_at", "integer?"), ("error", "string?"),
        ]),
        "Dashboard": object(&[
            ("timestamp", "integer"), ("overall_status", "string"), ("rebalancing", "RebalancingMetrics"),
            ("queue", "QueueMetrics"), ("cluster", "ClusterMetrics"), ("alerts", "[Alert]"),
        ]),
        "TokenList": object(&[("tokens", "[TokenSummary]")]),
        "TokenSummary": object(&[
            ("name", "string"), ("role", "string"), ("created", "integer"), ("expires", "integer?"),
            ("expired", "boolean"),
        ]),
        "TokenBody": object(&[("name", "string"), ("role", "string"), ("days", "~integer?")]),
        "TokenMade": object(&[("name", "string"), ("token", "string"), ("expires", "integer?")]),
        "AuditTail": object(&[("lines", "[any]")]),
        "AuditVerify": object(&[
            ("ok", "boolean"), ("lines", "integer"), ("first_bad", "integer?"), ("why", "string?"),
            ("first", "integer"), ("marked", "integer?"),
        ]),
        "ControllerShow": object(&[
            ("name", "string"), ("log_id", "string"), ("leads", "boolean"), ("able", "boolean"),
            ("leader", "string?"), ("epoch", "integer"), ("last", "integer"),
        ]),
        "Metrics": object(&[
            ("rebalancing", "RebalancingMetrics"), ("queue", "QueueMetrics"), ("cluster", "ClusterMetrics"),
        ]),
        "RebalancingMetrics": object(&[
            ("total_tables", "integer"), ("idle_tables", "integer"), ("running_operations", "integer"),
            ("completed_operations", "integer"), ("failed_operations", "integer"),
            ("average_duration", "number"), ("longest_running", "number"), ("last_copies", "integer"),
            ("last_lower_bound", "integer"), ("last_shard_copies", "integer"),
        ]),
        "QueueMetrics": object(&[
            ("total_queue_depth", "integer"), ("pending_commands", "integer"), ("failed_commands", "integer"),
            ("average_wait_time", "number"), ("queue_depth_by_node", "{integer}"), ("command_types", "{integer}"),
        ]),
        "ClusterMetrics": object(&[
            ("total_nodes", "integer"), ("active_nodes", "integer"), ("inactive_nodes", "integer"),
            ("cluster_health_percentage", "number"), ("master_node", "string?"), ("cluster_hash", "string"),
            ("topology_changes_last_hour", "integer"),
        ]),
        "Alerts": object(&[("alerts", "[Alert]")]),
        "Alert": object(&[
            ("level", "string"), ("type", "string"), ("message", "string"), ("action", "string"),
            ("since", "integer"), ("labels", "{string}"), ("state", "string"), ("silenced_until", "integer?"),
        ]),
        "SilenceList": object(&[("silences", "[Silence]")]),
        "Silence": object(&[
            ("type", "string?"), ("labels", "{string}"), ("until", "integer"), ("comment", "string"),
            ("created_at", "integer"),
        ]),
        "History": object(&[
            ("from", "integer"), ("to", "integer"), ("step", "integer"), ("times", "[integer]"),
            ("figures", "{[number?]}"),
        ]),
        "ConfigShow": object(&[("environment", "string"), ("settings", "{ShownSetting}")]),
        "ShownSetting": object(&[("value", "any"), ("source", "string")]),
        "Document": { "type": "object", "description": "An OpenAPI 3.1 document" },
        "Problem": object(&[
            ("type", "string"), ("title", "string"), ("status", "integer"), ("detail", "string"), ("hint", "string"),
        ]),
    })
}

/// Backups and restores, both ways.
fn of_backups() -> Value {
    let backup = [
        ("backup_id", "string"),
        ("timestamp", "integer"),
        ("table", "string"),
        ("cluster_hash", "string"),
        ("backup_path", "string"),
        ("controller", "string"),
        ("cause", "string"),
        ("state", "string"),
        ("with_data", "boolean"),
        ("shards", "integer"),
        ("rf", "integer"),
        ("rows", "integer?"),
        ("bytes", "integer"),
        ("operation", "integer"),
        ("steps_done", "integer"),
        ("steps_total", "integer"),
        ("waits_for_or_error", "string?"),
    ];
    let mut backup_shown = backup.to_vec();
    backup_shown.push(("backup_data", "BackupData"));
    json!({
        "BackupBody": object(&[
            ("table", "string"), ("with_data", "~string?"), ("checksums", "~boolean"),
            ("mib_per_second", "~integer?"),
        ]),
        "VerifyBody": object(&[("from", "~string?"), ("live", "~boolean")]),
        "RestoreBody": object(&[
            ("from", "~string?"), ("overwrite", "~boolean"), ("rf", "~integer?"),
            ("mib_per_second", "~integer?"),
        ]),
        "BackupList": object(&[("backups", "[BackupSummary]")]),
        "BackupSummary": object(&backup),
        "BackupShow": object(&backup_shown),
        "BackupReply": object(&[
            ("success", "boolean"), ("backup_id", "string"), ("backup_data", "BackupData"),
            ("operation", "integer"), ("state", "string"),
        ]),
        "BackupData": object(&[
            ("backup_id", "string"), ("timestamp", "integer"), ("table", "string"), ("schema", "Schema"),
            ("cluster", "string?"), ("shards", "integer"), ("rf", "integer"), ("cluster_hash", "string"),
            ("backup_path", "string"), ("cause", "string"), ("placement", "[ShardRecord]"),
        ]),
        "Schema": object(&[("columns", "any"), ("options", "any")]),
        "ShardRecord": object(&[
            ("shard", "integer"), ("group", "string?"), ("nodes", "[string]"), ("content", "Content?"),
            ("last_committed", "integer?"), ("checksum", "string?"), ("measured_on", "string?"),
            ("error", "string?"),
        ]),
        "VerifyReply": object(&[
            ("ok", "boolean"), ("backup_id", "string"), ("parts", "integer"), ("rows", "integer"),
            ("bytes", "integer"), ("damaged", "[string]"), ("live_differs", "[LiveShard]?"),
        ]),
        "LiveShard": object(&[
            ("shard", "integer"), ("recorded", "Content?"), ("found", "Content?"), ("why", "string"),
        ]),
        "RestoreReply": object(&[
            ("success", "boolean"), ("table", "string"), ("restored_schema", "Schema"), ("operation", "integer"),
        ]),
        "RestoreShow": object(&[
            ("operation", "integer"), ("state", "string"), ("steps_done", "integer"),
            ("steps_total", "integer"), ("waits_for_or_error", "string?"), ("differing", "integer?"),
            ("shards", "[RestoredShard]?"),
        ]),
        "RestoredShard": object(&[
            ("shard", "integer"), ("recorded", "Content?"), ("found", "Content?"), ("inserted", "integer?"),
            ("replaced", "integer?"), ("differs", "string?"),
        ]),
    })
}

/// What orders and check-ups are answered with.
fn operated() -> Value {
    json!({
        "RebalanceAnswer": {
            "oneOf": [
                { "$ref": "#/components/schemas/RebalanceDone" },
                { "$ref": "#/components/schemas/RebalanceRefused" },
                { "$ref": "#/components/schemas/RebalancePlan" },
                { "$ref": "#/components/schemas/RebalanceProgress" },
            ],
            "description": "A dry run gives a plan, `status` the progress; a refusal has status 409, an exception 500",
        },
        "RebalanceDone": object(&[
            ("success", "boolean"), ("message", "string"), ("operation", "integer?"), ("status", "string"),
        ]),
        "RebalanceRefused": object(&[
            ("success", "boolean"), ("reason", "string"), ("details", "~Preflight"), ("status", "~string"),
            ("error", "~string"),
        ]),
        "Preflight": object(&[("can_proceed", "boolean"), ("checks", "{boolean}"), ("reasons", "{string}")]),
        "RebalancePlan": object(&[
            ("table", "string"), ("moves", "[PlannedMove]"), ("tables", "[string]"), ("copies", "integer"),
            ("lower_bound", "integer"), ("shard_copies", "integer"), ("bytes", "integer"), ("groups", "integer"),
            ("expected_write_stall_ms", "integer?"), ("eta_seconds", "integer"), ("preflight", "Preflight"),
        ]),
        "PlannedMove": object(&[
            ("group", "string"), ("tables", "[string]"), ("shards", "integer"), ("bytes", "integer"),
            ("from", "string?"), ("to", "string?"), ("reason", "string"),
        ]),
        "RebalanceProgress": object(&[
            ("table", "string"), ("status", "string"), ("queue_items_pending", "integer"),
            ("transfers_total", "integer"), ("transfers_done", "integer"), ("bytes_total", "integer"),
            ("bytes_done", "integer"), ("progress_percentage", "number"), ("estimated_completion", "integer?"),
            ("last_activity", "integer?"), ("held", "string?"), ("waits_for", "string?"),
        ]),
        "RecoveryReport": object(&[
            ("timestamp", "integer"), ("actions_taken", "[string]"), ("tables_recovered", "[string]"),
            ("issues_remaining", "[string]"),
        ]),
        "CleanUpReport": object(&[
            ("timestamp", "integer"), ("orphaned_temporary_clusters", "integer"),
            ("failed_operation_groups", "integer"), ("finished_queue_items", "integer"),
            ("stale_state", "integer"), ("actions_taken", "[string]"),
        ]),
        "ImportReport": object(&[
            ("success", "boolean"), ("dry_run", "boolean"), ("tables", "[ImportedTable]"),
            ("groups", "[ImportedGroup]"), ("refusals", "[string]"), ("notes", "[string]"),
            ("way_back", "[string]"),
        ]),
        "ImportedTable": object(&[
            ("name", "string"), ("cluster", "string?"), ("shards", "integer"), ("rf", "integer"),
            ("rows", "integer"), ("placement", "[[string]]"),
        ]),
        "ImportedGroup": object(&[("name", "string"), ("nodes", "[string]"), ("shards", "integer")]),
        "Health": object(&[
            ("overall_status", "string"), ("timestamp", "integer"), ("checks", "{HealthCheck}"),
            ("issues", "[string]"), ("warnings", "[string]"), ("recommendations", "[string]"),
        ]),
        "HealthCheck": object(&[("status", "string"), ("message", "string")]),
    })
}

/// What comes in, and what sidecars exchange.
fn asked() -> Value {
    json!({
        "CreateTableBody": object(&[
            ("name", "string"), ("columns", "string"), ("shards", "integer"), ("rf", "integer"),
            ("if_not_exists", "~boolean"), ("timeout_seconds", "~integer?"),
        ]),
        "RebalanceBody": object(&[("order", "string")]),
        "MoveBody": object(&[
            ("shard", "integer"), ("from", "string"), ("to", "string"), ("split", "~boolean"),
        ]),
        "RecoverBody": object(&[("from", "string")]),
        "ImportBody": object(&[("dry_run", "~boolean")]),
        "RfBody": object(&[("rf", "integer")]),
        "SilenceBody": object(&[
            ("type", "~string?"), ("labels", "~{string}"), ("seconds", "integer"), ("comment", "~string"),
        ]),
        "SidecarPoll": object(&[
            ("node", "string"), ("uuid", "string"), ("run", "string"), ("taken", "integer"), ("log_id", "string?"), ("epoch", "integer"),
            ("names_version", "integer"), ("views_version", "~integer"), ("peers", "{string}"), ("results", "[CommandResult]"),
            ("running", "~[CommandId]"), ("going_on", "~[GoingOn]"), ("machine", "~Machine?"),
        ]),
        "Machine": object(&[
            ("disk_free_bytes", "integer?"), ("memory_available_bytes", "integer?"),
            ("replication_ports", "integer?"), ("query_p99_ms", "integer?"), ("shard_bytes", "{integer}"),
            ("settings", "~NodeSettings"), ("settings_unread", "boolean"), ("clock_behind_seconds", "integer"),
            ("connections_refused", "integer"),
        ]),
        "NodeSettings": object(&[
            ("threads", "integer"), ("server_id", "integer?"), ("binlog", "boolean"), ("binlog_flush", "integer"), ("listen_backlog", "integer"), ("tcp_fastopen", "integer?"),
        ]),
        "SidecarOrders": object(&[
            ("log_id", "string"), ("epoch", "integer"), ("lead", "string"), ("last", "integer"), ("names_version", "integer"),
            ("names", "~[TableNameEntry]?"), ("views_version", "~integer"), ("views", "~{{integer}}"), ("commands", "[Order]"), ("peers", "[string]"),
            ("suspects", "[string]"), ("hold_statements_seconds", "integer"), ("unserved", "~{string}"),
        ]),
        "Order": object(&[("number", "integer"), ("command", "Command")]),
        "CommandId": object(&[("operation", "integer"), ("step", "integer"), ("attempt", "integer")]),
        "GoingOn": object(&[("id", "CommandId"), ("times", "integer")]),
        "CommandResult": object(&[("id", "CommandId"), ("epoch", "~integer"), ("outcome", "Outcome")]),
        "Outcome": object(&[("outcome", "string"), ("message", "~string"), ("contents", "~{Content}")]),
        "Content": object(&[
            ("rows", "integer"), ("id_sum", "integer"), ("id_min", "integer"), ("id_max", "integer"),
        ]),
        "Command": object(&[
            ("id", "CommandId"), ("epoch", "integer"), ("remaining_ms", "integer"), ("action", "Action"),
        ]),
        "Action": {
            "type": "object",
            "properties": { "do": { "type": "string" } },
            "required": ["do"],
            "description": "One of the closed set of actions, named by `do`, with that action's fields",
        },
        "TableNameEntry": object(&[("table", "string"), ("cluster", "string?"), ("generation", "integer")]),
        "StatementRequest": object(&[("node", "string"), ("user", "string?"), ("rights", "UserRights?"), ("statement", "ShardingStatement")]),
        "UserRights": object(&[("user", "string"), ("rules", "[UserRule]")]),
        "UserRule": object(&[("action", "string"), ("target", "string"), ("allow", "boolean")]),
        "ShardingStatement": {
            "type": "object",
            "properties": { "statement": { "type": "string" } },
            "required": ["statement"],
            "description": "One of the sharding statements, named by `statement`, with that statement's fields",
        },
        "StatementReply": {
            "oneOf": [
                { "const": "ok" },
                object(&[("rows", "StatementRows")]),
                object(&[("error", "StatementError")]),
            ],
        },
        "StatementRows": {
            "type": "object",
            "properties": {
                "columns": { "type": "array", "items": { "type": "string" } },
                "rows": { "type": "array", "items": { "type": "array", "items": { "type": ["string", "null"] } } },
            },
            "required": ["columns", "rows"],
        },
        "GateRows": {
            "type": "object",
            "properties": {
                "columns": { "type": "array", "items": { "type": "string" } },
                "rows": { "type": "array", "items": { "type": "array", "items": { "type": ["string", "null"] } } },
                "forget": { "type": "array", "items": { "type": "string" } },
            },
            "required": ["columns", "rows", "forget"],
        },
        "StatementError": object(&[("message", "string")]),
    })
}
