//! Every reply recorded from real nodes is read: our own recordings, which the engine replays too, and those that lie
//! beside the checkout, in `../shared/transcripts` (or where `SHARDWRIGHT_TRANSCRIPTS` says); where the latter are absent
//! this says so and reads the former alone.

#![expect(clippy::print_stdout, reason = "a skipped test must be heard")]

use manticore::{Reply, Rows, columns, declared, reply, status};
use model::{ClusterState, Content, GroupId, MemberState, NodeId};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A recorded line with its placeholders filled in, behind the name of its file.
type Line = (String, Value);

/// Our own recordings.
fn own() -> Vec<Line> {
    lines(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/transcripts"))
        .expect("our own recordings")
}

/// Those beside the checkout; `None` (loudly) when there are none.
fn shared() -> Option<Vec<Line>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/transcripts");
    let folder = std::env::var_os("SHARDWRIGHT_TRANSCRIPTS").map_or_else(beside, PathBuf::from);
    let lines = lines(&folder);
    if lines.is_none() {
        println!("SKIPPED: no recordings at {}", folder.display());
    }
    lines
}

/// All of them, and whether those beside the checkout are among them.
fn recordings() -> (Vec<Line>, bool) {
    let shared = shared();
    let both = shared.is_some();
    (own().into_iter().chain(shared.unwrap_or_default()).collect(), both)
}

fn lines(folder: &Path) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).ok()? {
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
    let (lines, both) = recordings();
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
    assert!(read > 80 && (whole >= 2 || !both), "{read} statuses, {whole} whole ones");
}

#[test]
fn every_recorded_http_answer_is_read() {
    let (lines, both) = recordings();
    let (mut shown, mut done, mut errors) = (0, 0, 0);
    for (file, line) in lines.iter().filter(|(_, line)| line["via"] == "http") {
        let status = u16::try_from(line["status"].as_u64().expect("status")).expect("small");
        let body = serde_json::to_vec(&line["body"]).expect("bytes");
        match reply::read(status, &body).unwrap_or_else(|error| panic!("{file}: {line}: {error}")) {
            Reply::Rows(rows) => shown += usize::from(rows.total == rows.rows.len() as u64),
            Reply::Done { affected, .. } => done += usize::from(line["body"][0]["total"] == affected),
            Reply::Error { message } => errors += usize::from(line["body"]["error"] == message.as_str()),
        }
    }
    let shared = if both { (4, 1, 4) } else { (0, 0, 0) };
    assert_eq!((shown, done, errors), (shared.0 + 3, shared.1 + 2, shared.2 + 3));
}

#[test]
fn every_recorded_route_table_list_and_description_is_read() {
    let (lines, both) = recordings();
    let (mut routes, mut lists, mut descriptions) = (0, 0, 0);
    for (file, line) in &lines {
        let sql = line["sql"].as_str().unwrap_or_default();
        let Some(rows) = rows(line) else { continue };
        let own = node(line["node"].as_u64().unwrap_or(1));
        if sql.replace('`', "").starts_with("SHOW CREATE TABLE t OPTION") {
            routes += 1;
            let declared = declared::route(&rows, &own).unwrap_or_else(|error| panic!("{file}: {error}"));
            let text = rows.rows[0][1].as_deref().expect("a text");
            assert_eq!(
                declared.route.shards.len(),
                text.matches(" agent='").count() + text.matches(" local='").count()
            );
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
    let least = if both { (3, 15, 10) } else { (1, 9, 7) };
    assert!(
        routes >= least.0 && lists >= least.1 && descriptions >= least.2,
        "{routes} {lists} {descriptions}"
    );
}

/// What a copy holds; an empty one has no sum, no lowest and no highest id.
#[test]
fn every_recorded_content_is_read() {
    let (lines, _) = recordings();
    let (mut filled, mut empty) = (0, 0);
    for (file, line) in &lines {
        let sql = line["sql"].as_str().unwrap_or_default();
        if !sql.starts_with("SELECT COUNT(*), SUM(id), MIN(id), MAX(id) FROM") {
            continue;
        }
        let rows = if line["via"] == "http" {
            let body = serde_json::to_vec(&line["body"]).expect("bytes");
            match reply::read(200, &body) {
                Ok(Reply::Rows(rows)) => rows,
                other => panic!("{file}: {line}: {other:?}"),
            }
        } else {
            rows(line).expect("rows")
        };
        let content = status::content(&rows).unwrap_or_else(|error| panic!("{file}: {sql}: {error}"));
        if content.rows == 0 {
            empty += 1;
            assert_eq!(content, Content::default(), "{file}: {line}");
        } else {
            filled += 1;
            assert!(content.id_min <= content.id_max && content.id_sum >= content.id_max, "{file}: {line}");
        }
    }
    assert!(filled >= 5 && empty >= 5, "{filled} {empty}");
}
