//! The recorded replies of real nodes, line by line: as they are, and with tables, ids and values renamed.
//!
//! They lie in two places: our own recordings in this crate's `tests/transcripts`, which are replayed always, and those
//! beside the checkout. `SHARDWRIGHT_SHARED` names the directory that has the latter's `transcripts/`; their tests are
//! skipped, loudly, where there is none.
//!
//! One JSON object a line. A statement: `node`, `via` (`mysql`, or `http`: `/sql?mode=raw`), `sql`, and either `columns` and
//! `rows`, or `ok` (affected rows), or `error` (`code`, `message`), or `status` and `body` for HTTP; with a number as
//! `session` it was said on that MySQL session of the node, else on one of its own. `until` waits until the rows of a statement hold a text, `do` is
//! what was done to a node: `mkdir`, `kill9`, `term` (a clean stop), `start`, `close` (the end of a session).

use crate::support::machines::{Answer, Nodes, VERSION, text};
use engine::{ColumnKind, Input, Reply, SessionId, routing::shard_of};
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// Rows of SHOW STATUS whose values are compared; of the others only that they are there, in this order.
const STATUS_ROWS: [&str; 8] =
    ["status", "size", "node_state", "nodes_set", "nodes_view", "indexes", "state_uuid", "last_committed"];

/// What may differ from the recording, and why. Nothing else may.
const ACCEPTED: [(&str, &str); 1] = [(
    "syntax error",
    "the words before 'near' are the real parser's expectations: code, grammar and the part from 'near' on are compared",
)];

/// Our own recordings.
fn own() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// Those beside the checkout.
fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("SHARDWRIGHT_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let place = shared.join("transcripts");
    if place.is_dir() {
        return Some(place);
    }
    println!(
        "SKIPPED: no recorded replies in {}; name their directory by SHARDWRIGHT_SHARED",
        place.display()
    );
    None
}

/// Another wording of a transcript, applied to every text of it.
type Rename = fn(&str) -> String;

struct Replay {
    nodes: Nodes,
    rename: Rename,
    line: String,
    failures: Vec<String>,
}

fn number(text: &str) -> usize {
    text.parse::<usize>().expect("a node's number") - 1
}

impl Replay {
    fn new(rename: Rename) -> Self {
        Self { nodes: Nodes::new(3, 7), rename, line: String::new(), failures: Vec::new() }
    }

    fn fill(&self, text: &str) -> String {
        let mut text = (self.rename)(text);
        for at in 0..self.nodes.count() {
            let config = self.nodes.config(at);
            let name = at + 1;
            text = text
                .replace(&format!("{{node{name}}}"), config.node.as_str())
                .replace(&format!("{{node{name}:replication}}"), &config.replication_address)
                .replace(&format!("{{data{name}}}"), &config.data_dir);
        }
        text.replace("{version}", VERSION)
    }

    fn fail(&mut self, what: &str) {
        self.failures.push(format!("{}\n    {what}", self.line));
    }

    fn step(&mut self, line: &Json) {
        if let Some(what) = line["do"].as_str() {
            self.act(what);
        } else if let Some(wanted) = line["until"].as_str() {
            self.wait(wanted, line);
        } else {
            self.statement(line);
        }
    }

    fn act(&mut self, what: &str) {
        let mut words = what.split(' ');
        let (verb, at) = (words.next().expect("a verb"), number(words.next().expect("a node")));
        match verb {
            "mkdir" => {
                let name = (self.rename)(words.next().expect("a directory"));
                self.nodes.storage(at).make_directory(&name).expect("made");
            }
            "kill9" => self.nodes.kill(at),
            "term" => self.nodes.stop(at),
            "start" => self.nodes.start(at),
            "close" => {
                let session = words.next().and_then(|word| word.parse().ok()).expect("a session");
                self.nodes.input(at, Input::SessionClosed(SessionId(session)));
            }
            other => panic!("unknown action {other}"),
        }
    }

    fn wait(&mut self, wanted: &str, line: &Json) {
        let at = line["node"].as_u64().expect("a node") as usize - 1;
        let sql = self.fill(line["sql"].as_str().expect("a statement"));
        let limit = line["seconds"].as_f64().expect("seconds") * 2_000.0 + 1_000.0;
        let end = self.nodes.now + limit as u64;
        loop {
            let rows = serde_json::to_string(&self.nodes.rows(at, &sql)).expect("text");
            if rows.contains(wanted) {
                return;
            }
            if self.nodes.now > end {
                return self.fail(&format!("still {rows}"));
            }
            self.nodes.run(20);
        }
    }

    fn statement(&mut self, line: &Json) {
        let at = line["node"].as_u64().expect("a node") as usize - 1;
        let sql = self.fill(line["sql"].as_str().expect("a statement"));
        if line.get("connection_error").is_some() {
            if self.nodes.alive(at) {
                self.fail("the node answers");
            }
            return;
        }
        let answer = match line["session"].as_u64() {
            Some(session) => self.nodes.sql_on(at, session, &sql),
            None => self.nodes.sql(at, &sql),
        };
        // A client takes a moment between statements.
        self.nodes.run(25);
        if line["via"] == "http" {
            self.compare_http(line, &answer);
        } else {
            self.compare(line, &sql, &answer);
        }
    }

    fn compare(&mut self, line: &Json, sql: &str, answer: &Answer) {
        match answer {
            Err(error) => {
                let wanted = self.fill(line["error"]["message"].as_str().unwrap_or("no error"));
                if line["error"]["code"] != json!(error.code) || !same_error(&wanted, &error.message) {
                    self.fail(&format!("got error {} {}", error.code, error.message));
                }
            }
            Ok(Reply::Done { affected }) => {
                if line["ok"] != json!(affected) {
                    self.fail(&format!("got ok {affected}"));
                }
            }
            Ok(Reply::Rows(set)) => {
                let names: Vec<&str> = set.columns.iter().map(|column| column.name.as_str()).collect();
                let rows: Vec<Vec<Option<String>>> =
                    set.rows.iter().map(|row| row.iter().map(text).collect()).collect();
                let wanted: Json = self.renamed(&line["rows"], line["columns"].as_array(), &rows);
                let same = if sql.to_uppercase().starts_with("SHOW STATUS") {
                    same_status(&wanted, &rows)
                } else {
                    wanted == json!(rows)
                };
                if line["columns"] != json!(names) || !same {
                    self.fail(&format!("got {names:?} {}", json!(rows)));
                }
            }
        }
    }

    /// Expected rows in this run's words; ids are numbers that the renaming changes, and their sum is then taken from
    /// the answer.
    fn renamed(&self, rows: &Json, columns: Option<&Vec<Json>>, got: &[Vec<Option<String>>]) -> Json {
        let column = |at: usize| columns.and_then(|columns| columns[at].as_str()).unwrap_or("");
        let other_ids = self.fill("id=1") != "id=1";
        let cell = |row: usize, at: usize, cell: &Json| match (cell.as_str(), column(at)) {
            (Some(text), "id" | "min(id)" | "max(id)") => json!(self.fill(&format!("id={text}"))[3..]),
            (Some(_), "sum(id)") if other_ids => json!(got.get(row).and_then(|row| row.get(at))),
            (Some(text), _) => json!(self.fill(text)),
            (None, _) => cell.clone(),
        };
        let cells = |row: &Json| row.as_array().cloned().unwrap_or_default();
        let line = |(row, wanted): (usize, &Json)| {
            Json::Array(cells(wanted).iter().enumerate().map(|(at, it)| cell(row, at, it)).collect())
        };
        Json::Array(rows.as_array().into_iter().flatten().enumerate().map(line).collect())
    }

    fn compare_http(&mut self, line: &Json, answer: &Answer) {
        let (status, body) = http(answer);
        let mut wanted = line["body"].clone();
        self.rename_json(&mut wanted);
        let same = match (wanted["error"].as_str(), body["error"].as_str()) {
            (Some(wanted), Some(got)) => same_error(wanted, got),
            _ => wanted == body,
        };
        if line["status"] != json!(status) || !same {
            self.fail(&format!("got {status} {body}"));
        }
    }

    fn rename_json(&self, json: &mut Json) {
        match json {
            Json::String(text) => *text = self.fill(text),
            Json::Array(items) => items.iter_mut().for_each(|item| self.rename_json(item)),
            Json::Object(fields) => {
                for (name, value) in fields {
                    if name == "id" && value.is_number() {
                        *value = self.fill(&format!("id={value}"))[3..].parse().expect("a number");
                    } else {
                        self.rename_json(value);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The answer as `/sql?mode=raw` sends it.
fn http(answer: &Answer) -> (u16, Json) {
    match answer {
        Err(error) => (500, json!({ "error": error.message })),
        Ok(Reply::Done { affected }) => (200, json!([{ "total": affected, "error": "", "warning": "" }])),
        Ok(Reply::Rows(set)) => {
            let kind = |kind: ColumnKind| match kind {
                ColumnKind::Long => "long",
                ColumnKind::LongLong => "long long",
                ColumnKind::Float => "float",
                ColumnKind::Double => "double",
                ColumnKind::Text => "string",
            };
            let columns: Vec<Json> =
                set.columns.iter().map(|it| json!({ it.name.clone(): { "type": kind(it.kind) } })).collect();
            let value = |value: &engine::Value| match value {
                engine::Value::Null => Json::Null,
                engine::Value::Int(value) => json!(value),
                engine::Value::Float(value) => json!(value),
                engine::Value::Text(text) => json!(text),
            };
            let row = |row: &Vec<engine::Value>| {
                Json::Object(
                    set.columns.iter().zip(row).map(|(it, cell)| (it.name.clone(), value(cell))).collect(),
                )
            };
            let data: Vec<Json> = set.rows.iter().map(row).collect();
            let total = set.total;
            (
                200,
                json!([{ "columns": columns, "data": data, "total": total, "error": "", "warning": set.warning }]),
            )
        }
    }
}

fn same_error(wanted: &str, got: &str) -> bool {
    let kind = ACCEPTED[0].0;
    if wanted.contains(kind) && got.contains(kind) {
        let parts = |text: &str| {
            let (before, near) = text.split_once(" near ").unwrap_or((text, ""));
            (before.split(':').next().unwrap_or("").to_owned(), near.to_owned())
        };
        return parts(wanted) == parts(got);
    }
    wanted == got
}

fn same_status(wanted: &Json, got: &[Vec<Option<String>>]) -> bool {
    let wanted = wanted.as_array().map_or(&[][..], Vec::as_slice);
    wanted.len() == got.len()
        && wanted.iter().zip(got).all(|(wanted, got)| {
            let (name, value) = (wanted[0].as_str().unwrap_or(""), wanted[1].as_str().unwrap_or(""));
            let (got_name, got_value) = (got[0].as_deref().unwrap_or(""), got[1].as_deref().unwrap_or(""));
            let row = name.splitn(3, '_').nth(2).unwrap_or(name);
            let counted = STATUS_ROWS.contains(&row);
            let same = match value {
                "{uuid}" => got_value.len() == 36 && got_value.matches('-').count() == 4,
                _ => value == got_value,
            };
            name == got_name && (!counted || same)
        })
}

fn replay(place: Option<PathBuf>, file: &str, rename: Rename) {
    let Some(place) = place else { return };
    let text = std::fs::read_to_string(place.join(file)).expect("a transcript");
    let mut replay = Replay::new(rename);
    for line in text.lines() {
        replay.line = line.chars().take(300).collect();
        replay.step(&serde_json::from_str(line).expect("a JSON line"));
    }
    let failures = replay.failures;
    assert!(failures.is_empty(), "{} differences in {file}:\n{}", failures.len(), failures.join("\n"));
}

fn as_recorded(text: &str) -> String {
    text.to_owned()
}

/// Other tables, clusters, ids and values, with the same meaning.
fn renamed(text: &str) -> String {
    const WORDS: [(&str, &str); 21] = [
        ("t", "products"),
        ("system.t_s0", "system.products_s0"),
        ("system.t_s1", "system.products_s1"),
        ("system.t_s9", "system.products_s9"),
        (".t_s0", ".products_s0"),
        ("plain", "flat_table"),
        ("nope", "missing"),
        ("c", "main"),
        ("g0", "group_b"),
        ("quick", "rapid"),
        ("fox", "wolf"),
        ("lazy", "idle"),
        ("dog", "hound"),
        ("sleepy", "tired"),
        ("one", "uno"),
        ("two", "dos"),
        ("three", "tres"),
        ("drei", "trois"),
        ("seven", "siete"),
        ("both", "together"),
        ("again", "anew"),
    ];
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(first.len_utf8());
        let (word, behind) = rest.split_at(length);
        let mut word = word.to_owned();
        if let Some((_, new)) = WORDS.iter().find(|(old, _)| *old == word) {
            word = (*new).to_owned();
        } else if let Ok(id) = word.parse::<i64>()
            && (["VALUES (", "),(", "id=", "id > ", "duplicate id '"]
                .iter()
                .any(|before| out.ends_with(before))
                || in_processed_ids(&out))
        {
            word = other_id(id).to_string();
        }
        for (old, new) in [("cluster_c_", "cluster_main_"), ("cluster_g0_", "cluster_group_b_")] {
            word = word.replace(old, new);
        }
        out.push_str(&word);
        rest = behind;
    }
    out
}

/// Whether the next number belongs to a list `processed_ids=1,2`.
fn in_processed_ids(before: &str) -> bool {
    let list = before.rsplit_once("processed_ids=").map(|(_, list)| list);
    list.is_some_and(|list| list.bytes().all(|byte| byte.is_ascii_digit() || byte == b','))
}

/// Another id in the same order and on the same shard of two.
fn other_id(id: i64) -> i64 {
    (id * 1_000..id * 1_000 + 1_000)
        .find(|other| shard_of(*other, 2) == shard_of(id, 2))
        .expect("half of all ids")
}

/// The files of a place, each replayed as it is and renamed.
macro_rules! golden {
    ($module:ident at $place:expr => { $($name:ident: $file:literal,)* }) => {
        mod $module {
            use crate::golden as this;
            pub const FILES: &[&str] = &[$($file),*];
            mod recorded { $(#[test] fn $name() { super::this::replay($place, $file, super::this::as_recorded); })* }
            mod renamed_too { $(#[test] fn $name() { super::this::replay($place, $file, super::this::renamed); })* }
        }
    };
}

golden! { own_ones at Some(crate::golden::own()) => {
    groups_exit_and_dissolve: "groups-exit-and-dissolve.jsonl",
    locked_tables: "locked-tables.jsonl",
    lists_of_members: "lists-of-members.jsonl",
    routes_to_missing_shards: "routes-to-missing-shards.jsonl",
    tables_in_groups_and_names: "tables-in-groups-and-names.jsonl",
    updates_without_a_quorum: "updates-without-a-quorum.jsonl",
} }

golden! { shared_ones at crate::golden::shared() => {
    cluster_life_cycle: "cluster-life-cycle.jsonl",
    delete_cluster_from_a_joining_node: "delete-cluster-from-a-joining-node.jsonl",
    failover_of_a_group: "failover-of-a-group.jsonl",
    return_restart_and_total_loss: "return-restart-and-total-loss.jsonl",
    routing_and_groups: "routing-and-groups.jsonl",
} }

#[test]
fn every_transcript_is_replayed() {
    for (place, replayed) in [(Some(own()), own_ones::FILES), (shared(), shared_ones::FILES)] {
        let Some(place) = place else { continue };
        let mut files: Vec<String> = std::fs::read_dir(place)
            .expect("a directory")
            .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
            .filter(|name| name.rsplit_once('.').is_some_and(|(_, end)| end == "jsonl"))
            .collect();
        files.sort();
        let mut replayed = replayed.to_vec();
        replayed.sort_unstable();
        assert_eq!(files, replayed);
    }
}

#[test]
fn the_comparison_sees_differences() {
    assert!(!same_error("a b", "a c"));
    assert!(same_error("P01: syntax error, unexpected x near 'y'", "P01: syntax error, other near 'y'"));
    assert!(!same_error(
        "P01: syntax error, unexpected x near 'y'",
        "P03: syntax error, unexpected x near 'y'"
    ));
    assert!(!same_error(
        "P01: syntax error, unexpected x near 'y'",
        "P01: syntax error, unexpected x near 'z'"
    ));
    let wanted = json!([["cluster_c_status", "primary"], ["cluster_c_received", "7"]]);
    let got = |status: &str, received: &str| {
        let row = |name: &str, value: &str| vec![Some(name.to_owned()), Some(value.to_owned())];
        vec![row("cluster_c_status", status), row("cluster_c_received", received)]
    };
    assert!(same_status(&wanted, &got("primary", "9")) && !same_status(&wanted, &got("non-primary", "7")));
    assert_eq!(
        renamed("INSERT INTO t (id,v) VALUES (1,1),(2,2)"),
        format!("INSERT INTO products (id,v) VALUES ({},1),({},2)", other_id(1), other_id(2))
    );
    assert_eq!(
        renamed("x; processed_ids=3,7 and 9"),
        format!("x; processed_ids={},{} and 9", other_id(3), other_id(7))
    );
}
