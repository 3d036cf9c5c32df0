//! What a controller leaves itself and others when a client takes all that it can get.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]
#![allow(clippy::disallowed_methods, reason = "tests run with real processes")]

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::net::TcpStream;

/// Killed with the test.
struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn all_files(dir: &Path, found: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let about = entry.metadata().expect("there");
        found.push((entry.path().display().to_string(), about.mode() & 0o777));
        if about.is_dir() {
            all_files(&entry.path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_take_no_files_from_the_controller_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("controller");
    let mut ports = common::ports();
    let api = ports.free().unwrap_or_else(|error| panic!("{}", error.message));
    let log = dir.path().join("log");
    let file = std::fs::File::create(&log).expect("a log");
    let mut few_files = Command::new("sh");
    few_files.args(["-c", "ulimit -n 300; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_shardwright")]);
    let child = common::shardwright_by(few_files)
        .arg("serve")
        .arg(format!("--dir={}", home.display()))
        .arg(format!("--api=127.0.0.1:{api}"))
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a log"))
        .stderr(file)
        .spawn()
        .expect("it runs");
    let _serve = Serve(child);
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let url = format!("http://127.0.0.1:{api}/healthz");
    let healthy = || async {
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let answer =
            client.get(&url).send().await.map_err(|error| format!("{error}; it says: {}", said()))?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
    };
    common::wait_for("the controller", healthy).await;
    // More than there are files. Those that find no place wait in the system's queue, or before it.
    let silent: Vec<_> = (0..320)
        .map(|_| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(("127.0.0.1", api)).await;
                std::future::pending::<()>().await;
                drop(stream);
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    for one in silent {
        one.abort();
    }
    common::wait_for("the controller again", healthy).await;
    let said = std::fs::read_to_string(&log).expect("a log");
    assert!(!said.contains("could not be accepted"), "{said}");
    assert!(said.contains("at most 108 connections are taken"), "{said}");
    let mut found = Vec::new();
    all_files(&home, &mut found);
    found.push((home.display().to_string(), home.metadata().expect("there").mode() & 0o777));
    let open: Vec<_> = found.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "others may look into {open:?}");
}
