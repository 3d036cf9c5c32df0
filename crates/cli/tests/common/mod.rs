//! Whole clusters of the real binary for the tests, and a look for what they leave behind.

// Each test file is a program of its own and uses only a part of this.
#![allow(dead_code)]
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]

use cli::dev::{ClusterFile, Ports};
use cli::load::{Client, Endpoint, Fault};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For whatever a loaded machine may take its time with; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The binary, without the variables that would change its settings.
pub fn shardwright() -> Command {
    shardwright_by(Command::new(env!("CARGO_BIN_EXE_shardwright")))
}

/// The same, started by a command that takes the binary's arguments as its own last ones.
pub fn shardwright_by(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHARDWRIGHT_") {
            command.env_remove(name);
        }
    }
    // A test runner that is killed takes its clusters with it.
    command.arg(format!("--die-with-parent={}", std::process::id()));
    command
}

/// Ports for one test. Processes of neighbouring ids, and tests of one process, look for theirs in different places: where
/// two begin at the same one, both find a port free and one of them does not get it.
pub fn ports() -> Ports {
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    Ports::new(u64::from(std::process::id()) << 16 | GIVEN.fetch_add(1, Ordering::Relaxed), [])
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    shardwright().args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

/// Standard output as one JSON object, and nothing else.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "no JSON object ({error}): {} / {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// Waits until `done` gives something, and fails with what it said last.
pub fn wait<T>(what: &str, mut done: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match done() {
            Ok(value) => return value,
            Err(why) if Instant::now() > deadline => panic!("{what} did not happen: {why}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// The same for what must be awaited.
pub async fn wait_for<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut done: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match done().await {
            Ok(value) => return value,
            Err(why) if Instant::now() > deadline => panic!("{what} did not happen: {why}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// A running `dev`. Dropped, it is killed with everything it started.
#[derive(Debug)]
pub struct Dev {
    pub dir: PathBuf,
    child: Child,
}

impl Dev {
    /// Starts it and waits until it is ready.
    pub fn start(dir: &Path, nodes: u32) -> Self {
        Self::start_with(dir, nodes, &[])
    }

    /// The same with variables, which all processes of the cluster inherit.
    pub fn start_with(dir: &Path, nodes: u32, variables: &[(&str, &str)]) -> Self {
        let mut dev = Self::begin_with(dir, nodes, variables);
        let (file, dir) = (dev.dir.join("cluster.json"), dev.dir.clone());
        wait("the cluster's start", || {
            if let Some(status) = dev.child.try_wait().expect("a child") {
                panic!("dev ended with {status}: {}", logs(&dir));
            }
            if file.exists() { Ok(()) } else { Err("no cluster.json yet".to_owned()) }
        });
        dev
    }

    /// Starts it without waiting.
    pub fn begin(dir: &Path, nodes: u32) -> Self {
        Self::begin_with(dir, nodes, &[])
    }

    fn begin_with(dir: &Path, nodes: u32, variables: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(dir).expect("a directory");
        let log = std::fs::File::create(dir.join("dev.log")).expect("a log");
        let child = shardwright()
            .args(["dev", "--nodes", &nodes.to_string(), "--dir"])
            .arg(dir)
            .args(searchd().map(|path| format!("--searchd={path}")))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        Self { dir: dir.to_owned(), child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn file(&self) -> ClusterFile {
        wait("cluster.json", || {
            let bytes = std::fs::read(self.dir.join("cluster.json")).map_err(|error| error.to_string())?;
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())
        })
    }

    /// The nodes that run.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let up = self.file().nodes.into_iter().filter(|node| node.pid.is_some());
        up.map(|node| Endpoint { node: node.id, mysql: node.mysql.parse().expect("an address") }).collect()
    }

    /// A command against this cluster's controller.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        let file = self.file();
        let token = file.token_file.display().to_string();
        let mut all = vec!["--url", &file.api, "--token-file", &token, "--output", "json"];
        all.extend(arguments);
        run(&all)
    }

    /// `dev add|kill|stop|start`.
    pub fn change(&self, arguments: &[&str]) -> Output {
        let dir = self.dir.display().to_string();
        let mut all = vec!["--output", "json", "dev"];
        all.extend(arguments);
        all.extend(["--dir", &dir]);
        run(&all)
    }

    /// SIGKILL of its controller; `dev` starts another.
    pub fn kill_controller(&self) {
        let controller = wait("a controller", || {
            let found = processes_of(&self.dir);
            let line = found.iter().find(|line| line.contains(" serve ")).cloned();
            line.ok_or_else(|| format!("{found:?}"))
        });
        let pid = controller.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a process id");
        signal(pid, "KILL");
    }

    /// SIGTERM, then nothing may be left of it.
    pub fn stop(mut self) {
        signal(self.child.id(), "TERM");
        let status = wait("the end of dev", || match self.child.try_wait().expect("a child") {
            Some(status) => Ok(status),
            None => Err("it still runs".to_owned()),
        });
        assert!(status.success(), "dev ended with {status}: {}", logs(&self.dir));
        assert_eq!(processes_of(&self.dir), Vec::<String>::new(), "processes are left");
        assert!(!self.dir.join("cluster.json").exists(), "cluster.json is left");
    }

    /// Kill -9 of the parent alone: its children must die by themselves.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        let dir = self.dir.clone();
        wait("the end of all children", || {
            let left = processes_of(&dir);
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }
}

impl Dev {
    /// What a failed test leaves behind for who looks into it: the whole logs, and what the controller says.
    fn keep(&self, to: &Path) {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let to = to.join(name.trim_start_matches('.'));
        std::fs::create_dir_all(&to).expect("a directory");
        for entry in std::fs::read_dir(self.dir.join("logs")).into_iter().flatten().flatten() {
            let _copied = std::fs::copy(entry.path(), to.join(entry.file_name()));
        }
        if self.dir.join("cluster.json").exists() {
            for what in ["status", "alerts", "health"] {
                let output = self.ask(&[what]);
                let _written = std::fs::write(to.join(what), [output.stdout, output.stderr].concat());
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(kept) = std::env::var_os("SHARDWRIGHT_TEST_KEEP")
        {
            self.keep(Path::new(&kept));
        }
        if self.child.try_wait().ok().flatten().is_none() {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("logs of {}:\n{}", self.dir.display(), logs(&self.dir));
        }
    }
}

/// Sends a signal by name, as a person would.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// Command lines of all processes that name `dir`.
pub fn processes_of(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_ours = line.contains("shardwright") || line.contains("searchd");
        if pid != own && line.contains(&name) && is_ours {
            found.push(format!("{pid} {line}"));
        }
    }
    found
}

/// The ends of all logs of a cluster.
pub fn logs(dir: &Path) -> String {
    let mut text = std::fs::read_to_string(dir.join("dev.log")).unwrap_or_default();
    for entry in std::fs::read_dir(dir.join("logs")).into_iter().flatten().flatten() {
        let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(25)..].join("\n");
        let _ = write!(text, "\n== {}\n{end}\n", entry.path().display());
    }
    text
}

/// One statement on a connection of its own.
pub async fn sql(at: &Endpoint, statement: &str) -> Result<Vec<Vec<Option<String>>>, Fault> {
    let mut client = Client::new(at.clone()).with_patience(PATIENCE);
    let rows = client.rows(statement).await;
    client.close().await;
    rows
}

/// The message of a statement that must be refused.
pub async fn refusal(at: &Endpoint, statement: &str) -> String {
    match sql(at, statement).await {
        Ok(rows) => panic!("{statement}\nwas done: {rows:?}"),
        Err(Fault::Refused { message, .. } | Fault::Unknown { message, .. }) => message,
        Err(fault) => panic!("{statement}\n{fault}"),
    }
}

/// The first column of the rows.
pub fn first(rows: Vec<Vec<Option<String>>>) -> Vec<String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

/// The real documents, where they are.
pub fn real_documents() -> Option<PathBuf> {
    let shared = std::env::var_os("SHARDWRIGHT_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("data/debian-packages.jsonl.gz");
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: the real documents are not at {}; SHARDWRIGHT_SHARED says where they are",
        path.display()
    );
    None
}

/// The searchd that `SHARDWRIGHT_SEARCHD` names: clusters of [`Dev`] are then real nodes.
pub fn searchd() -> Option<String> {
    std::env::var("SHARDWRIGHT_SEARCHD").ok().filter(|path| !path.is_empty())
}

/// Says loudly that a test has no real nodes although they were asked for, and why.
pub fn embedded_all_the_same(why: &str) {
    if let Some(path) = searchd() {
        eprintln!("NOT ON REAL NODES: SHARDWRIGHT_SEARCHD={path}: {why}");
    }
}

/// Whether a test does not run because the nodes would be real ones; says loudly why.
pub fn skipped_on_searchd(why: &str) -> bool {
    if let Some(path) = searchd() {
        eprintln!("SKIPPED: SHARDWRIGHT_SEARCHD={path}: {why}");
    }
    searchd().is_some()
}
