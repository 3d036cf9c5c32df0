//! Commands that need no cluster: usage, exit codes, errors in both outputs, the planner and the settings.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use common::{json, run};
use serde_json::json as object;
use std::io::Write;
use std::process::Stdio;

#[test]
fn mistakes_in_the_command_line_exit_with_2_in_one_line() {
    for line in [
        "gate",
        "rebalance begin t",
        "demo --nodes one",
        "demo --nodes 2 --rf 3",
        "demo --docs /nonexistent/file.jsonl",
        "dev --mysql-base 70000",
        "dev --searchd /nonexistent/searchd",
        "serve",
        "serve --dir /nonexistent/dir --store http://127.0.0.1:2379/p",
        "serve --dir /nonexistent/dir --store etcd://127.0.0.1:2379",
        "plan --input /nonexistent.json",
        "config check --set no_such_key=1",
        "config check --set silent_node_seconds=-1",
        "--url ftp://x status",
    ] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = run(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(output.stdout.is_empty(), "{line}");
        assert_eq!(text.trim_end().lines().count(), 1, "{line}: {text}");
        assert!(text.starts_with("error: "), "{line}: {text}");

        let mut with_json = vec!["--output", "json"];
        with_json.extend(&arguments);
        let output = run(&with_json);
        assert_eq!(output.status.code(), Some(2), "{line}");
        let error = &json(&output)["error"];
        for field in ["code", "message", "hint"] {
            assert!(error[field].is_string(), "{line}: {error}");
        }
        assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    let output =
        run(&["serve", "--dir", "/nonexistent/dir", "--store", "etcd://root:hunter2@127.0.0.1:2379/p"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("credentials") && !text.contains("hunter2"), "{text}");
}

#[test]
fn nobody_at_the_address_exits_with_4() {
    for command in [&["status"][..], &["node", "list"], &["table", "list"], &["table", "drop", "t"]] {
        let mut arguments = vec!["--url", "http://127.0.0.1:9", "--output", "json"];
        arguments.extend(command);
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(4), "{command:?}");
        assert_eq!(json(&output)["error"]["code"], "unreachable");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().display().to_string();
    assert_eq!(run(&["dev", "add", "--dir", &dir]).status.code(), Some(4));
}

#[test]
fn help_teaches_every_command() {
    for command in [
        "demo",
        "dev",
        "dev add",
        "dev kill",
        "dev stop",
        "dev start",
        "node",
        "node list",
        "node drain",
        "node undrain",
        "node remove",
        "rebalance",
        "rebalance plan",
        "rebalance start",
        "rebalance status",
        "rebalance pause",
        "rebalance resume",
        "rebalance stop",
        "rebalance reset",
        "move",
        "table explain",
        "serve",
        "sidecar",
        "table",
        "table create",
        "table drop",
        "table list",
        "table show",
        "status",
        "health",
        "recover",
        "cleanup",
        "config show",
        "config check",
        "plan",
        "bench control",
        "bench log",
        "bench planner",
    ] {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let output = run(&arguments);
        assert!(output.status.success(), "{command}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Usage: shardwright"), "{command}: {text}");
    }
}

fn plan(problem: &str) -> std::process::Output {
    feed(&["plan", "--input", "-", "--output", "json"], problem)
}

/// Runs a command that reads the text.
fn feed(arguments: &[&str], text: &str) -> std::process::Output {
    let mut child = common::shardwright()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    child.wait_with_output().expect("it ends")
}

#[test]
fn plan_places_new_units_and_explains() {
    let output = plan(
        r#"{"nodes":[{"id":"a"},{"id":"b"},{"id":"c","state":"down"}],
            "units":[{"id":7,"rf":2,"replicas":["a","c"]},{"id":"x","rf":3,"replicas":[]}]}"#,
    );
    assert!(output.status.success());
    let plan = json(&output);
    assert_eq!(plan["placement"]["7"], object!(["a", "b"]));
    assert_eq!(plan["copies"], plan["lower_bound"]);
    assert_eq!(plan["unplaceable"][0]["unit"], "x");
    for field in
        ["moves", "bytes", "load", "rounds", "proof", "gap", "loss_probability", "explain", "solve_seconds"]
    {
        assert!(plan.get(field).is_some(), "{field}");
    }
}

#[test]
fn plan_tells_a_person_what_changes_and_how_much_can_be_lost() {
    let problem = r#"{"nodes":[{"id":"a"},{"id":"b"},{"id":"c"}],
        "units":[{"id":"g","rf":2,"replicas":["a","b"]},{"id":"h","rf":2,"replicas":["a","b"]},{"id":"i","rf":5,"replicas":["c"]}]}"#;
    let output = feed(&["plan", "--input", "-"], problem);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in ["i: c → c, a, b (", "rf 5, 3 copies: only 3 active nodes", "node  load", "66.6667 %"] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn a_controller_at_rest_is_measured() {
    let arguments =
        ["bench", "control", "--nodes", "3", "--tables", "2", "--shards", "9", "--output", "json"];
    let output = run(&arguments);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(object["shards"], 18);
    for positive in ["tick_ms_median", "ready_ms", "snapshot_bytes"] {
        assert!(object[positive].as_f64() > Some(0.0), "{positive} in {object}");
    }
}

#[test]
fn the_planner_is_measured_in_a_process_of_its_own() {
    let one = run(&["bench", "planner", "--case", "9", "--runs", "1", "--output", "json"]);
    let object: serde_json::Value = serde_json::from_slice(&one.stdout).expect("JSON");
    assert_eq!(object["copies"], 1002);
    assert_eq!(object["copies_made"], object["lower_bound"]);
    assert!(object["solve_ms_median"].as_f64() > Some(0.0), "{object}");
    let none = run(&["bench", "planner", "--case", "99"]);
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}

#[test]
fn plan_names_the_path_of_a_mistake() {
    let output = plan(r#"{"nodes":[{"id":"a"}],"units":[{"id":1,"rf":1,"replicas":["z"]}]}"#);
    assert_eq!(output.status.code(), Some(2));
    let message = json(&output)["error"]["message"].to_string();
    assert!(message.contains("$.units[0].replicas[0]"), "{message}");
}

#[test]
fn settings_are_shown_with_their_sources() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("c.toml");
    std::fs::write(&file, "silent_node_seconds = 7\n").expect("written");
    let file = file.display().to_string();
    let output = common::shardwright()
        .args(["--config", &file, "--output", "json", "config", "show", "--environment", "development"])
        .args(["--set", "transfers_in_per_node=3"])
        .env("SHARDWRIGHT_ALERT_COOLDOWN_SECONDS", "60")
        .output()
        .expect("it runs");
    let shown = json(&output);
    assert_eq!(shown["environment"], "development");
    let setting =
        |key: &str| (shown["settings"][key]["value"].clone(), shown["settings"][key]["source"].clone());
    assert_eq!(setting("silent_node_seconds"), (object!(7), object!("file")));
    assert_eq!(setting("transfers_in_per_node"), (object!(3), object!("flag")));
    assert_eq!(setting("alert_cooldown_seconds"), (object!(60), object!("env")));
    assert_eq!(setting("node_loss_grace_seconds"), (object!(3), object!("profile")));
    assert_eq!(setting("leader_timeout_seconds"), (object!(5), object!("default")));

    std::fs::write(dir.path().join("c.toml"), "a = 1\nsilent_node_seconds = 99999999\n").expect("written");
    let output = run(&["--config", &file, "config", "check"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("c.toml:1"), "{text}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display().to_string();
    let address = format!("127.0.0.1:{port}");
    for arguments in [
        vec!["dev", "--dir", &path, "--mysql-base", &port],
        vec!["serve", "--dir", &path, "--api", &address],
        vec!["node", "--dir", &path, "--mysql", &address, "--http", "127.0.0.1:0"],
    ] {
        let output = run(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.lines().any(|line| line.starts_with("error: ") && line.contains(&port)), "{text}");
    }
}
