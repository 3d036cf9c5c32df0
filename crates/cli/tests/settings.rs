//! Settings through the binary: every mistake at once, and a new reading while the controller runs.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use common::{json, run, shardwright, signal, wait_for};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

fn write(path: &Path, text: &str) {
    std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
}

#[test]
fn every_mistake_is_told_at_once_with_file_line_and_range() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bad.toml");
    write(&file, "foo = 1\nsilent_node_seconds = 0\nmax_queue_depth = 5\nquery_p99_budget_ms = \"none\"\n");
    let file = file.display().to_string();
    let output = run(&["config", "check", "--config", &file, "--set", "node_poll_interval_ms=1"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, part) in
        lines.iter().zip(["bad.toml:1: 'foo'", "bad.toml:2: silent", "bad.toml:4: query", "flag node_poll"])
    {
        assert!(line.starts_with("error: ") && line.contains(part), "{line}");
    }
    let output = run(&["--output", "json", "config", "check", "--config", &file]);
    let checked = json(&output);
    assert_eq!((output.status.code(), &checked["ok"]), (Some(2), &false.into()));
    assert_eq!(checked["mistakes"].as_array().map(Vec::len), Some(3), "{checked}");
    assert_eq!(checked["error"]["code"], "usage");
}

/// Killed with the test.
struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The value and the source of one setting, as the controller says them.
async fn setting(port: u16, key: &str) -> Result<(Value, Value), String> {
    let asked = reqwest::get(format!("http://127.0.0.1:{port}/api/v1/config")).await;
    let found: Value = match asked {
        Ok(response) => response.json().await.map_err(|error| error.to_string())?,
        Err(error) => return Err(error.to_string()),
    };
    let shown = &found["settings"][key];
    Ok((shown["value"].clone(), shown["source"].clone()))
}

#[tokio::test]
async fn sighup_reads_the_settings_again_or_leaves_them_as_a_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, log) = (dir.path().join("s.toml"), dir.path().join("log"));
    write(&file, "silent_node_seconds = 7\nleader_timeout_seconds = 8\n");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let port = free.expect("a port").port();
    let errors = std::fs::File::create(&log).expect("a log");
    let serve = shardwright()
        .args(["serve", "--api", &format!("127.0.0.1:{port}"), "--set", "max_queue_depth=9", "--config"])
        .arg(&file)
        .arg("--dir")
        .arg(dir.path().join("c"))
        .stdin(Stdio::null())
        .stderr(errors)
        .spawn()
        .expect("the binary runs");
    let serve = Serve(serve);
    let get = |key| setting(port, key);
    wait_for("the controller", || get("silent_node_seconds")).await;
    assert_eq!(get("silent_node_seconds").await.expect("it"), (7.into(), "file".into()));
    assert_eq!(get("max_queue_depth").await.expect("it"), (9.into(), "flag".into()));

    write(&file, "silent_node_seconds = 6\nmax_queue_depth = 3\nleader_timeout_seconds = 20\n");
    signal(serve.0.id(), "HUP");
    wait_for("the new value", || async {
        let (value, _) = get("silent_node_seconds").await?;
        if value == 6 { Ok(()) } else { Err(value.to_string()) }
    })
    .await;
    assert_eq!(get("max_queue_depth").await.expect("it"), (9.into(), "flag".into()), "a flag still wins");
    assert_eq!(
        get("leader_timeout_seconds").await.expect("it"),
        (8.into(), "file".into()),
        "only at a start"
    );

    write(&file, "silent_node_seconds = 5\nhold_statements_seconds = 1000\nfoo = 1\n");
    signal(serve.0.id(), "HUP");
    wait_for("a word about both mistakes", || async {
        let said = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
        let both =
            said.contains("s.toml:2: hold_statements_seconds = 1000") && said.contains("s.toml:3: 'foo'");
        if both { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(
        get("silent_node_seconds").await.expect("it"),
        (6.into(), "file".into()),
        "nothing of it holds"
    );
}
