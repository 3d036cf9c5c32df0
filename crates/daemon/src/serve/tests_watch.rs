//! What watches a controller, with the real tools: promtool, Prometheus and Alertmanager.

use super::tests::{Serving, serve};
use super::*;
use model::api::Alert;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// For whatever a loaded machine may take its time with; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_mins(2);
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

/// Whether the tool is installed; says loudly when not. With `SHARDWRIGHT_PROMETHEUS_REQUIRED` set that is a failure.
#[allow(clippy::print_stderr, reason = "what was skipped must be seen")]
fn installed(tool: &str) -> bool {
    let asked = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if asked.is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("SHARDWRIGHT_PROMETHEUS_REQUIRED").is_none(),
        "{tool} is not installed, and these tests must not be skipped here"
    );
    eprintln!("SKIPPED: {tool} is not installed (Debian's prometheus and prometheus-alertmanager)");
    false
}

/// A process that ends with the test.
struct Tool(Child);

impl Tool {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a log");
        let errors = log.try_clone().expect("a log");
        Self(command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("it starts"))
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Runs a tool to its end and fails with what it said.
fn runs(command: &mut Command, input: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{said:?}");
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port")
}

/// The JSON at `url` once `done` likes it.
async fn wait_for(url: &str, done: impl Fn(&Value) -> bool) -> Value {
    let (client, deadline) = (Client::new(), Instant::now() + PATIENCE);
    let mut last = Value::Null;
    while Instant::now() < deadline {
        if let Ok(answer) = client.get(url).send().await
            && let Ok(json) = answer.json::<Value>().await
        {
            if done(&json) {
                return json;
            }
            last = json;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{url} did not come to that: {last}");
}

async fn page(serving: &Serving, accept: &str) -> String {
    let request = serving.request(reqwest::Method::GET, "/metrics").header("accept", accept);
    request.send().await.expect("answers").text().await.expect("a page")
}

/// The name of every family of a page.
fn families(page: &str) -> BTreeSet<String> {
    let named = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    named.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_no_fault_in_the_metrics_and_rules() {
    if !installed("promtool") {
        return;
    }
    let serving = serve().await;
    // Some turns and appends, so that histograms have something.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let text = page(&serving, "").await;
    assert!(text.contains("shardwright_log_append_duration_seconds_count"), "{text}");
    runs(Command::new("promtool").args(["check", "metrics"]), &text);
    for arguments in
        [["check", "rules", "shardwright.rules.yml"], ["test", "rules", "shardwright.rules.test.yml"]]
    {
        runs(Command::new("promtool").args(arguments).current_dir(format!("{DEPLOY}/prometheus")), "");
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_rules_and_the_dashboard_is_there() {
    let serving = serve().await;
    let families = families(&page(&serving, "").await);
    for file in ["prometheus/shardwright.rules.yml", "grafana/shardwright.json"] {
        let text = std::fs::read_to_string(format!("{DEPLOY}/{file}")).expect(file);
        let mut names = BTreeSet::new();
        for part in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            names.extend(part.starts_with("shardwright_").then_some(part));
        }
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let there = families.contains(name) || family.is_some_and(|family| families.contains(family));
            assert!(there, "{file} names {name}, which /metrics does not have");
        }
    }
    let board = std::fs::read_to_string(format!("{DEPLOY}/grafana/shardwright.json")).expect("there");
    let board: Value = serde_json::from_str(&board).expect("JSON");
    assert!(board["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    let manual = std::fs::read_to_string(format!("{DEPLOY}/../docs/reference/metrics.md")).expect("there");
    for family in &families {
        assert!(
            manual.contains(&format!("`{family}`")),
            "docs/reference/metrics.md does not explain {family}"
        );
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_reads_both_formats_and_the_rules() {
    if !installed("prometheus") {
        return;
    }
    let serving = serve().await;
    let open = page(&serving, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    assert!(open.ends_with("# EOF\n"), "{open}");
    let dir = tempfile::tempdir().expect("a directory");
    let target = serving.base.trim_start_matches("http://");
    let rules = format!("{DEPLOY}/prometheus/shardwright.rules.yml");
    let config = json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "scrape_configs": [{ "job_name": "shardwright", "static_configs": [{ "targets": [target] }] }],
        "rule_files": [std::fs::canonicalize(rules).expect("there")],
    });
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config.to_string()).expect("written");
    let address = free_address();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"));
    let _prometheus = Tool::start(&mut command, &dir.path().join("log"));
    let base = format!("http://{address}/api/v1");
    let targets = wait_for(&format!("{base}/targets"), |json| {
        json["data"]["activeTargets"][0]["health"].as_str().is_some_and(|health| health != "unknown")
    })
    .await;
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target}");
    let has_value = |json: &Value| json["data"]["result"][0]["value"][1].is_string();
    let figure = |query: &str| format!("{base}/query?query={query}");
    let epoch = wait_for(&figure("shardwright_leader_epoch"), has_value).await;
    assert_eq!(epoch["data"]["result"][0]["value"][1], "1");
    wait_for(&figure("shardwright_log_records_total"), has_value).await;
    wait_for(&figure("shardwright_turn_duration_seconds_bucket"), has_value).await;
    // Evaluated before the first scrape, a rule can have seen that nobody leads.
    let quiet = |rule: &Value| rule["health"] == "ok" && rule["state"] == "inactive";
    wait_for(&format!("{base}/rules"), |json| {
        let rules = json["data"]["groups"][0]["rules"].as_array();
        rules.is_some_and(|rules| rules.len() > 10 && rules.iter().all(quiet))
    })
    .await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_alertmanager_hears_of_alerts_and_of_their_end() {
    if !installed("prometheus-alertmanager") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("alertmanager.yml");
    std::fs::write(&file, r#"{"route":{"receiver":"none"},"receivers":[{"name":"none"}]}"#).expect("written");
    let address = free_address();
    let url = format!("http://{address}");
    let watchers = Watchers::default();
    let webhook =
        announce::Webhook::new(&url, "log".to_owned(), 300, &ClientTls::default()).expect("a webhook");
    let (_trigger, shutdown) = Shutdown::new();
    let (announcer, meters) = (watchers.announcer.clone(), Arc::clone(&watchers.meters));
    let sending = tokio::spawn(webhook.run(announcer, meters, shutdown));
    tokio::task::yield_now().await;
    let since = humantime::parse_rfc3339("2026-01-01T00:00:00Z").expect("a time");
    let since = since.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let alert = Alert {
        level: "critical".into(),
        kind: "data_unavailable".into(),
        message: "shard 1 of t has no live copy".into(),
        action: "bring back one of its last holders".into(),
        since,
        labels: [("table".to_owned(), "t".to_owned())].into(),
        state: "firing".into(),
        silenced_until: None,
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Nobody is there yet: it is tried again.
    watchers.announce(alert.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=");
    let _alertmanager = Tool::start(&mut command, &dir.path().join("log"));
    let alerts = format!("{url}/api/v2/alerts");
    let heard = wait_for(&alerts, |json| json.as_array().is_some_and(|all| all.len() == 1)).await;
    let labels = json!({
        "alertname": "data_unavailable", "severity": "critical", "job": "shardwright", "control_log": "log",
        "table": "t",
    });
    assert_eq!(heard[0]["labels"], labels);
    assert_eq!(heard[0]["startsAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(heard[0]["annotations"]["summary"], alert.message);
    assert_eq!(heard[0]["annotations"]["description"], alert.action);
    assert_eq!(heard[0]["status"]["state"], "active");
    watchers.announce(Alert { state: "resolved".into(), ..alert });
    wait_for(&alerts, |json| json.as_array().is_some_and(Vec::is_empty)).await;
    sending.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_while_one_listens() {
    let serving = serve().await;
    let mut stream = serving.get("/api/v1/events").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !["dashboard", "operations", "alerts"].iter().all(|kind| text.contains(&format!("event: {kind}\n")))
    {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("in time").expect("read");
        text.push_str(&String::from_utf8_lossy(&chunk.expect("it does not end")));
    }
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let board: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(board["overall_status"], "healthy");
    assert!(page(&serving, "").await.contains("shardwright_event_stream_clients 1\n"));
    drop(stream);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_has_a_point_soon_and_refuses_what_it_does_not_know() {
    let serving = serve().await;
    let url = format!("{}/api/v1/history?figures=nodes,status&step=10", serving.base);
    let has_one = |json: &Value| {
        json["figures"]["nodes"]
            .as_array()
            .is_some_and(|points| points.iter().any(|point| *point == json!(0.0)))
    };
    let answer = wait_for(&url, has_one).await;
    let (times, points) = (&answer["times"], &answer["figures"]["status"]);
    assert_eq!(times.as_array().map(Vec::len), points.as_array().map(Vec::len));
    let refused = serving.get("/api/v1/history?figures=colour").await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_is_made_shown_and_ended() {
    let serving = serve().await;
    let path = "/api/v1/alerts/silences";
    let body = |seconds: u64| json!({ "type": "under_replicated", "seconds": seconds, "comment": "c" });
    assert_eq!(serving.post(path, &body(60)).await.status(), StatusCode::NO_CONTENT);
    let shown: Value = serving.get(path).await.json().await.expect("JSON");
    assert_eq!(shown["silences"][0]["type"], "under_replicated");
    assert_eq!(serving.post(path, &body(0)).await.status(), StatusCode::NO_CONTENT);
    let shown: Value = serving.get(path).await.json().await.expect("JSON");
    assert_eq!(shown, json!({ "silences": [] }));
    let nothing = serving.post(path, &json!({ "seconds": 60 })).await;
    assert_eq!(nothing.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let unknown = serving.request(reqwest::Method::POST, path).json(&body(1)).send().await.expect("answers");
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    serving.end().await;
}
