//! A real etcd of a test's own: one member on free ports of 127.0.0.1, in a temporary directory.

// Each test file is a program of its own and uses only a part of this.
#![allow(dead_code)]
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::print_stderr, reason = "what was skipped and where a failure happened must be seen")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For whatever a loaded machine may take its time with; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// A port can be taken by another test between its choice and its use.
const STARTS_MAX: u32 = 5;

/// A running etcd; dropped, it is killed.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    endpoint: String,
    encrypted: bool,
    dir: tempfile::TempDir,
}

impl Etcd {
    /// Starts one; says loudly when there is none on this machine. With `SHARDWRIGHT_ETCD_REQUIRED` set that is a
    /// failure instead.
    pub fn start() -> Option<Self> {
        let installed =
            Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if installed.is_err() {
            assert!(
                std::env::var_os("SHARDWRIGHT_ETCD_REQUIRED").is_none(),
                "etcd is not installed, and these tests must not be skipped here"
            );
            eprintln!(
                "SKIPPED: etcd is not installed (Debian's etcd-server): nothing about the log in etcd is tested"
            );
            return None;
        }
        for _ in 0..STARTS_MAX {
            if let Some(etcd) = Self::try_start() {
                return Some(etcd);
            }
        }
        panic!("etcd did not start in {STARTS_MAX} tries");
    }

    fn try_start() -> Option<Self> {
        Self::try_start_with("http", &[])
    }

    /// One that speaks `scheme`, with these arguments.
    pub fn try_start_with(scheme: &str, more: &[String]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let ports = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [client, peer] = ports.map(|port| port.local_addr().expect("an address").to_string());
        let log = std::fs::File::create(dir.path().join("etcd.log")).expect("a log");
        let child = Command::new("etcd")
            .args(["--name", "test", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &format!("{scheme}://{client}")])
            .args(["--advertise-client-urls", &format!("{scheme}://{client}")])
            .args(more)
            .args(["--listen-peer-urls", &format!("http://{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
            .args(["--initial-cluster", &format!("test=http://{peer}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("etcd runs");
        let mut etcd = Self { child, endpoint: client, encrypted: scheme == "https", dir };
        let deadline = Instant::now() + PATIENCE;
        while !etcd.is_healthy() {
            if etcd.child.try_wait().expect("a child").is_some() || Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(etcd)
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Of clients.
    pub fn port(&self) -> u16 {
        self.endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("host:port")
    }

    /// The address of a log under `prefix`.
    pub fn address(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.endpoint)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn is_healthy(&self) -> bool {
        if self.encrypted {
            let log = std::fs::read_to_string(self.dir.path().join("etcd.log")).unwrap_or_default();
            return log.contains("ready to serve client requests");
        }
        self.request("GET", "/health", "").is_some_and(|answer| answer.contains("\"health\":\"true\""))
    }

    /// One request to the JSON gateway, beside the store that is tested.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let address: SocketAddr = self.endpoint.parse().expect("an address");
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let head =
            format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.0 200").then_some(answer)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("etcd.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("etcd's log ends:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
        }
    }
}
