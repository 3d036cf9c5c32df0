use super::*;
use crate::config::{Environment, Loaded};
use crate::serve::{api, history};
use model::api::{
    Alert, AlertList, ClusterMetrics, CopyStatus, Dashboard, Metrics, NodeList, NodeSummary, OperationList,
    OperationSummary, Problem, QueueMetrics, RebalancingMetrics, ShardPlacement, Silence, SilenceList,
    TableList, TableShow, TableSummary,
};
use model::operate::{
    CleanUpReport, Health, HealthCheck, PlannedMove, Preflight, RebalancePlan, RebalanceProgress,
    RebalanceReply, RecoveryReport, Refused,
};
use model::wire::{Order, SidecarOrders, SidecarPoll, StatementReply, StatementRequest, TableNameEntry};
use model::{
    Action, Command, CommandId, CommandResult, Content, Epoch, GroupId, ImportReport, ImportedGroup,
    ImportedTable, Machine, NodeId, OperationId, Outcome, Reach, StepId, TableName,
};
use serde::Serialize;
use std::collections::BTreeSet;

#[test]
fn the_document_and_the_routes_name_the_same_paths() {
    let described: BTreeSet<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
    let routed: BTreeSet<&str> = api::routes().into_iter().map(|(path, _)| path).collect();
    assert_eq!(described, routed);
}

#[test]
fn every_schema_that_is_named_is_there_and_used() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().expect("a name");
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    for name in schemas.keys() {
        assert!(text.contains(&format!("#/components/schemas/{name}\"")), "{name} is not used");
    }
}

#[test]
fn every_part_of_a_path_that_varies_is_a_parameter() {
    let document = document();
    let explain = &document["paths"]["/api/v1/tables/{table}/explain/{shard}"]["get"]["parameters"];
    let names: Vec<&str> =
        explain.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["table", "shard"]);
    assert!(document["paths"]["/api/v1/nodes"]["get"]["parameters"].is_null());
}

/// Every value fits its schema, and has no field that the schema lacks.
fn check(schemas: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().expect("a name");
        return check(schemas, &schemas[name], value, &format!("{at}:{name}"));
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let null = any.iter().any(|one| one["type"] == "null");
        if !value.is_null() {
            return check(schemas, &any[0], value, at);
        }
        assert!(null, "{at}: null");
        return;
    }
    match schema["type"].as_str() {
        None => {}
        Some("array") => {
            for item in value.as_array().unwrap_or_else(|| panic!("{at}: {value} is no list")) {
                check(schemas, &schema["items"], item, at);
            }
        }
        Some("object") => {
            let fields = value.as_object().unwrap_or_else(|| panic!("{at}: {value} is no object"));
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().expect("a name")), "{at}: {name} is missing");
            }
            let Some(properties) = schema["properties"].as_object() else {
                for value in fields.values() {
                    check(schemas, &schema["additionalProperties"], value, at);
                }
                return;
            };
            for (name, value) in fields {
                match properties.get(name) {
                    Some(schema) => check(schemas, schema, value, &format!("{at}.{name}")),
                    // Tagged by one field, with each variant's own.
                    None => assert!(schema["description"].is_string(), "{at}: {name} is not described"),
                }
            }
        }
        Some("string") => assert!(value.is_string(), "{at}: {value}"),
        Some("integer") => assert!(value.is_i64() || value.is_u64(), "{at}: {value}"),
        Some("number") => assert!(value.is_number(), "{at}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{at}: {value}"),
        Some(other) => panic!("{at}: unknown type {other}"),
    }
}

fn fits<T: Serialize>(name: &str, value: &T) {
    let schemas = schemas();
    assert!(!schemas[name].is_null(), "{name}");
    check(&schemas, &schemas[name], &serde_json::to_value(value).expect("JSON"), name);
}

#[test]
fn what_people_read_is_as_described() {
    let node = NodeId::new("h:1").expect("valid");
    let name = TableName::new("t").expect("valid");
    let summary =
        TableSummary { name, cluster: None, shards: 1, rf: 1, status: "idle".into(), documents: None };
    fits("TableList", &TableList { tables: vec![summary.clone()] });
    let copy = CopyStatus { id: node.clone(), status: "active".into() };
    let placement = ShardPlacement { shard: 0, group: Some("g".into()), nodes: vec![copy] };
    fits("TableShow", &TableShow { summary, placement: vec![placement] });
    let summary = NodeSummary {
        id: node.clone(),
        state: "active".into(),
        zone: None,
        capacity: 1.0,
        copies: 0,
        groups: 0,
    };
    fits("NodeList", &NodeList { nodes: vec![summary] });
    let summary = OperationSummary {
        id: 1,
        kind: "create".into(),
        subject: "t".into(),
        status: "done".into(),
        steps_done: 0,
        steps_total: 0,
        created_at: 0,
        finished_at: Some(1),
        error: None,
    };
    fits("OperationList", &OperationList { operations: vec![summary] });
    let alert = Alert {
        level: "warning".into(),
        kind: "k".into(),
        message: String::new(),
        action: String::new(),
        since: 0,
        labels: [("a".to_owned(), "b".to_owned())].into(),
        state: "firing".into(),
        silenced_until: None,
    };
    let silence = Silence {
        kind: None,
        labels: [("a".to_owned(), "b".to_owned())].into(),
        until: 1,
        comment: String::new(),
        created_at: 0,
    };
    fits("SilenceList", &SilenceList { silences: vec![silence] });
    let points = vec![Some(1.0), None];
    let figures = [("nodes".to_owned(), points)].into();
    fits("History", &history::Answer { from: 0, to: 2, step: 1, times: vec![0, 1], figures });
    fits("Alerts", &AlertList { alerts: vec![alert.clone()] });
    let queue = QueueMetrics { queue_depth_by_node: [(node, 1)].into(), ..QueueMetrics::default() };
    let (rebalancing, cluster) = (RebalancingMetrics::default(), ClusterMetrics::default());
    fits(
        "Metrics",
        &Metrics { rebalancing: rebalancing.clone(), queue: queue.clone(), cluster: cluster.clone() },
    );
    let status = "healthy".to_owned();
    fits(
        "Dashboard",
        &Dashboard { timestamp: 0, overall_status: status, rebalancing, queue, cluster, alerts: vec![alert] },
    );
    let text = String::new;
    fits("ConfigShow", &Loaded::profile(Environment::Development).show());
    let check = HealthCheck { status: text(), message: text() };
    let health = Health {
        overall_status: text(),
        timestamp: 0,
        checks: [("nodes".to_owned(), check)].into(),
        issues: vec![text()],
        warnings: vec![text()],
        recommendations: vec![text()],
    };
    fits("Health", &health);
    fits("Problem", &Problem { kind: text(), title: text(), status: 400, detail: text(), hint: text() });
}

#[test]
fn what_orders_are_answered_with_is_as_described() {
    let (node, table) = (NodeId::new("h:1").ok(), TableName::new("t").expect("valid"));
    let text = String::new;
    let details = Preflight {
        can_proceed: false,
        checks: [("table_exists".to_owned(), false)].into(),
        reasons: [("table_exists".to_owned(), text())].into(),
    };
    fits("RebalanceDone", &RebalanceReply::done("m", Some(1), "queued"));
    for reason in [
        Refused::PreflightFailed { details: details.clone() },
        Refused::AlreadyRunning { status: text() },
        Refused::Exception { error: text() },
    ] {
        fits("RebalanceRefused", &RebalanceReply::refused(reason));
    }
    let planned = PlannedMove {
        group: text(),
        tables: vec![table.clone()],
        shards: 1,
        bytes: 1,
        from: None,
        to: node.clone(),
        reason: text(),
    };
    let plan = RebalancePlan {
        table: table.clone(),
        moves: vec![planned],
        tables: vec![table.clone()],
        copies: 1,
        lower_bound: 1,
        shard_copies: 1,
        bytes: 1,
        groups: 1,
        expected_write_stall_ms: Some(1),
        eta_seconds: 1,
        preflight: details,
    };
    fits("RebalancePlan", &plan);
    let progress = RebalanceProgress {
        table: table.clone(),
        status: text(),
        queue_items_pending: 0,
        transfers_total: 0,
        transfers_done: 0,
        bytes_total: 0,
        bytes_done: 0,
        progress_percentage: 100.0,
        estimated_completion: None,
        last_activity: Some(1),
        held: None,
        waits_for: Some(text()),
    };
    fits("RebalanceProgress", &progress);
    let report = RecoveryReport { tables_recovered: vec![table], ..RecoveryReport::default() };
    fits("RecoveryReport", &report);
    let imported = ImportReport {
        tables: vec![ImportedTable {
            name: TableName::new("t").expect("valid"),
            cluster: Some(text()),
            shards: 1,
            rf: 1,
            rows: 1,
            placement: vec![node.iter().cloned().collect()],
        }],
        groups: vec![ImportedGroup { name: text(), nodes: node.iter().cloned().collect(), shards: 1 }],
        refusals: vec![text()],
        notes: vec![text()],
        way_back: vec![text()],
        ..ImportReport::default()
    };
    fits("ImportReport", &imported);
    fits("CleanUpReport", &CleanUpReport { actions_taken: vec![text()], ..CleanUpReport::default() });
}

#[test]
fn replies_have_the_fields_that_scripts_read() {
    let json = |reply: RebalanceReply| serde_json::to_value(reply).expect("JSON");
    assert_eq!(
        json(RebalanceReply::done("2 groups move", Some(7), "queued")),
        json!({ "success": true, "message": "2 groups move", "operation": 7, "status": "queued" })
    );
    let running = Refused::AlreadyRunning { status: "running".to_owned() };
    assert_eq!(
        json(RebalanceReply::refused(running)),
        json!({ "success": false, "reason": "already_running", "status": "running" })
    );
    let failed = Refused::Exception { error: "no".to_owned() };
    let refused = json(RebalanceReply::refused(failed.clone()));
    assert_eq!(refused, json!({ "success": false, "reason": "exception", "error": "no" }));
    let back: RebalanceReply = serde_json::from_value(refused).expect("read");
    assert_eq!(back, RebalanceReply::refused(failed));
}

#[test]
fn what_sidecars_exchange_is_as_described() {
    let node = NodeId::new("h:1").expect("valid");
    let id = CommandId { operation: OperationId(1), step: StepId(0), attempt: 1 };
    let contents = [("system.t_s0".to_owned(), Content::default())].into();
    let done = CommandResult { id, epoch: Epoch(1), outcome: Outcome::Done { contents } };
    let refused = CommandResult { id, epoch: Epoch(1), outcome: Outcome::Refused { message: "no".into() } };
    let poll = SidecarPoll {
        node: node.clone(),
        uuid: "u".into(),
        run: "r".into(),
        taken: 0,
        log_id: None,
        epoch: Epoch(1),
        names_version: 0,
        views_version: 0,
        peers: [(node.clone(), Reach::Silent)].into(),
        results: vec![done, refused],
        running: vec![id],
        going_on: vec![model::wire::GoingOn { id, times: 3 }],
        machine: Some(Box::new(Machine {
            shard_bytes: [("system.t_s0".to_owned(), 1)].into(),
            ..Machine::default()
        })),
    };
    fits("SidecarPoll", &poll);
    let action = Action::JoinCluster { group: GroupId::new("g").expect("valid"), at: node.clone() };
    let table = TableName::new("t").expect("valid");
    let orders = SidecarOrders {
        log_id: "l".into(),
        epoch: Epoch(1),
        lead: "l".into(),
        last: model::LogIndex(1),
        names_version: 1,
        names: Some(vec![TableNameEntry { table: table.clone(), cluster: None, generation: 1 }]),
        views_version: 1,
        views: Some([(node.clone(), [(GroupId::new("g").expect("valid"), 2)].into())].into()),
        commands: vec![Order {
            number: 1,
            command: Command { id, epoch: Epoch(1), remaining_ms: 1, action },
        }],
        peers: vec![node.clone()],
        suspects: vec![node.clone()],
        hold_statements_seconds: 10,
        unserved: [(TableName::new("t").expect("valid"), "why".to_owned())].into(),
    };
    fits("SidecarOrders", &orders);
    let statement = model::wire::ShardingStatement::TruncateTable { name: table };
    fits("StatementRequest", &StatementRequest { node, user: None, rights: None, statement });
    let one_of = schemas()["StatementReply"]["oneOf"].as_array().cloned().expect("variants");
    let rows = StatementReply::Rows { columns: vec!["a".into()], rows: vec![vec![None]] };
    for (variant, reply) in [(1, rows), (2, StatementReply::Error { message: "no".into() })] {
        check(&schemas(), &one_of[variant], &serde_json::to_value(reply).expect("JSON"), "StatementReply");
    }
    assert_eq!(one_of[0]["const"], serde_json::to_value(StatementReply::Ok).expect("JSON"));
}
