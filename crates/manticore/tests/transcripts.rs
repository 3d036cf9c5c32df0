//! Every reply recorded from real nodes is read: the recordings lie beside the checkout, in `../shared/transcripts`
//! (or where `SHARDWRIGHT_TRANSCRIPTS` says); where they are absent this says so and tests nothing.

#![expect(clippy::print_stdout, reason = "a skipped test must be heard")]

use manticore::{Reply, Rows, columns, declared, reply, status};
use model::{ClusterState, GroupId, MemberState, NodeId};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// The recorded lines with their placeholders filled in; `None` (loudly) when there are none.
fn recordings() -> Option<Vec<(String, Value)>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/transcripts");
    let folder = std::env::var_os("SHARDWRIGHT_TRANSCRIPTS").map_or_else(beside, PathBuf::from);
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("SKIPPED: no recordings at {}", folder.display());
        return None;
    };
    let mut lines = Vec::new();
    for entry in entries {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).expect("readable").lines() {
            lines.push((name.clone(), serde_json::from_str(&filled(line)).expect("JSON")));
        }
    }
    assert!(lines.len() > 100, "the recordings are {} lines", lines.len());
    Some(lines)
}

fn filled(line: &str) -> String {
    let mut line = line.replace("{uuid}", "e4d6ad27-cb5e-11f0-9c54-1b3f6d0f0e3a");
    for number in 1..=3 {
        line = line
            .replace(&format!("{{node{number}}}"), &format!("127.0.0.{number}:9312"))
            .replace(&format!("{{node{number}:replication}}"), &format!("127.0.0.{number}:9315:replication"));
    }
    line
}

fn node(number: u64) -> NodeId {
    NodeId::new(format!("127.0.0.{number}:9312")).expect("valid")
}

fn rows(line: &Value) -> Option<Rows> {
    let texts = |value: &Value| -> Option<Vec<Option<String>>> {
        Some(value.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect())
    };
    let columns = texts(line.get("columns")?)?.into_iter().flatten().collect();
    let rows = line.get("rows")?.as_array()?.iter().map(|row| texts(row).expect("a row")).collect();
    Some(Rows { columns, rows, ..Rows::default() })
}

#[test]
fn every_recorded_status_is_read() {
    let Some(lines) = recordings() else { return };
    let (mut read, mut whole) = (0, 0);
    for (file, line) in &lines {
        let sql = line["sql"].as_str().unwrap_or_default();
        let Some(rows) = rows(line).filter(|_| sql.starts_with("SHOW STATUS LIKE 'cluster")) else {
            continue;
        };
        read += 1;
        let clusters = status::clusters(&rows).unwrap_or_else(|error| panic!("{file}: {sql}: {error}"));
        if rows.rows.len() < 10 {
            continue;
        }
        whole += 1;
        let id = GroupId::new(sql.trim_start_matches("SHOW STATUS LIKE 'cluster_").trim_end_matches("_%'"));
        let status = &clusters[&id.expect("valid")];
        assert_eq!(clusters.len(), 1, "{file}: {clusters:?}");
        assert_eq!((status.status, status.node_state), (ClusterState::Primary, MemberState::Synced));
        assert_eq!(status.nodes_view.len() as u32, status.size, "{file}");
        assert!(status.is_synced() && status.conf_id > 0 && status.last_committed >= 0, "{file}: {status:?}");
        assert!(!status.state_uuid.is_empty());
    }
    assert!(read > 50 && whole >= 2, "{read} statuses, {whole} whole ones");
}

#[test]
fn every_recorded_http_answer_is_read() {
    let Some(lines) = recordings() else { return };
    let (mut shown, mut done, mut errors) = (0, 0, 0);
    for (file, line) in lines.iter().filter(|(_, line)| line["via"] == "http") {
        let status = u16::try_from(line["status"].as_u64().expect("status")).expect("small");
        let body = serde_json::to_vec(&line["body"]).expect("bytes");
        match reply::read(status, &body).unwrap_or_else(|error| panic!("{file}: {line}: {error}")) {
            Reply::Rows(rows) => shown += usize::from(rows.total == rows.rows.len() as u64),
            Reply::Done { affected, .. } => done += usize::from(affected == 1),
            Reply::Error { message } => errors += usize::from(line["body"]["error"] == message.as_str()),
        }
    }
    assert_eq!((shown, done, errors), (4, 1, 4));
}

#[test]
fn every_recorded_route_table_list_and_description_is_read() {
    let Some(lines) = recordings() else { return };
    let (mut routes, mut lists, mut descriptions) = (0, 0, 0);
    for (file, line) in &lines {
        let sql = line["sql"].as_str().unwrap_or_default();
        let Some(rows) = rows(line) else { continue };
        let own = node(line["node"].as_u64().unwrap_or(1));
        if sql.starts_with("SHOW CREATE TABLE t OPTION") {
            routes += 1;
            let declared = declared::route(&rows, &own).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(declared.route.shards.len(), 2);
            let kinds: Vec<_> = columns::canonical(&declared.schema);
            assert_eq!(kinds, [("title".into(), "text".into()), ("v".into(), "uint".into())]);
        } else if sql.starts_with("SHOW TABLES") {
            lists += 1;
            let tables = status::table_list(&rows).expect("reads");
            assert!(tables.iter().all(|(_, kind)| kind == "rt" || kind == "shard"), "{tables:?}");
        } else if sql.starts_with("DESC ") {
            descriptions += 1;
            assert_eq!(declared::described(&rows).expect("reads").columns[0].name, "id");
        }
    }
    assert!(routes >= 2 && lists >= 6 && descriptions >= 3, "{routes} {lists} {descriptions}");
}
