//! The sidecar in front of another one, through the binary: what is not ours passes byte for byte, and the other process
//! is started with searchd's flags, started again when it dies, and gone when this one is.

// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the stand-in for the stock sidecar answers: no JSON, with its own status, kind, spaces and a byte that is no text.
const ANSWER: &[u8] = b" {\"type\" : \"sql response\",\n\t\"version\":3 }\xff\n";
const STATUS: &str = "203 Non-Authoritative Information";
const KIND: &str = "application/json; charset=odd";

/// The bodies that the stand-in was asked with.
type Asked = Arc<Mutex<Vec<Vec<u8>>>>;

/// One HTTP message: its head as text, and its body.
fn message(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// A stand-in: takes whatever comes and answers the same.
fn stand_in() -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Asked::default();
    let told = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut out, told) = (stream.expect("a connection"), Arc::clone(&told));
            out.set_nodelay(true).expect("set");
            std::thread::spawn(move || {
                let mut read = BufReader::new(out.try_clone().expect("a socket"));
                while let Some((_, body)) = message(&mut read) {
                    told.lock().expect("no panic").push(body);
                    let head = format!(
                        "HTTP/1.1 {STATUS}\r\ncontent-type: {KIND}\r\ncontent-length: {}\r\n\r\n",
                        ANSWER.len()
                    );
                    if out.write_all(&[head.as_bytes(), ANSWER].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

/// Asks on one kept connection, as searchd would.
struct Client(BufReader<TcpStream>);

impl Client {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(common::PATIENCE)).expect("set");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, body: &[u8]) -> (String, Vec<u8>) {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: sidecar\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat()).expect("sent");
        message(&mut self.0).expect("an answer")
    }

    /// The middle of many times, in µs.
    fn p50(&mut self, body: &[u8]) -> u128 {
        let mut times: Vec<u128> = (0..500)
            .map(|_| {
                let began = Instant::now();
                self.ask(body);
                began.elapsed().as_micros()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    }
}

/// A statement that is not ours, spelt as no JSON library would.
fn handed_over() -> Vec<u8> {
    let mut body = br#"{ "type":"unknown sql request",  "error":{"message":"P01: syntax error","body":null},"message":{"path_query":"/sql?mode=raw","http_method":"POST","body":"SHOW PLUG"#.to_vec();
    body.extend_from_slice(br#"\u0049NS" },"version":3,"later":{"field":[1.50]}}"#);
    body
}

struct Sidecar {
    child: Child,
    address: SocketAddr,
}

impl Sidecar {
    fn start(dir: &Path, upstream: &Path) -> Self {
        // Nobody is the node: what passes through does not need it.
        let node = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        // searchd reads both as one, and takes the first line for the word that it waits for, whatever is logged.
        let (said, to_searchd) = std::io::pipe().expect("a pipe");
        let child = common::shardwright()
            .env("SHARDWRIGHT_LOG", "debug")
            .args(["sidecar", "--threads=4", "--telemetry-from-a-later-version", "--log-level=debug"])
            .arg(format!("--listen=http://{node}"))
            .arg(format!("--dir={}", dir.join("sidecar").display()))
            .arg(format!("--data-dir={}", dir.join("data").display()))
            .arg(format!("--upstream={}", upstream.display()))
            .stdin(Stdio::null())
            .stdout(to_searchd.try_clone().expect("a pipe"))
            .stderr(to_searchd)
            .spawn()
            .expect("the binary runs");
        let (mut said, mut line) = (BufReader::new(said), String::new());
        said.read_line(&mut line).expect("a line");
        let address =
            line.strip_prefix("Buddy v").and_then(|rest| rest.trim().rsplit(' ').next()?.parse().ok());
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, address: address.unwrap_or_else(|| panic!("no start line: {line}")) }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A program that says what a sidecar says and notes its id and flags, one life a line.
fn program(dir: &Path, listens: SocketAddr) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, lives) = (dir.join("stand-in"), dir.join("lives"));
    let text = format!(
        "#!/bin/sh\necho \"$$ $*\" >> {}\necho 'Buddy v9.9 started {listens}'\nexec sleep 600\n",
        lives.display()
    );
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    (path, lives)
}

fn lives(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn pid_of(life: &str) -> u32 {
    life.split(' ').next().and_then(|pid| pid.parse().ok()).expect("an id")
}

/// Whether it is there and no zombie.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn what_is_not_ours_passes_byte_for_byte_and_the_other_sidecar_is_looked_after() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("data")).expect("made");
    let (listens, asked) = stand_in();
    let (stand_in, lives_of) = program(dir.path(), listens);
    let sidecar = Sidecar::start(dir.path(), &stand_in);
    let mut client = Client::to(sidecar.address);
    let body = handed_over();
    // Until the other has said where it listens, the original error comes back.
    common::wait("an answer of the other sidecar", || {
        let (head, answer) = client.ask(&body);
        if answer == ANSWER { Ok(head) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
    });
    let (head, answer) = client.ask(&body);
    assert_eq!(answer, ANSWER);
    assert!(
        head.starts_with("HTTP/1.1 203 ") && head.contains(&format!("content-type: {KIND}\r\n")),
        "{head}"
    );
    assert!(asked.lock().expect("no panic").iter().all(|one| *one == body), "it came otherwise");

    let first = lives(&lives_of)[0].clone();
    for flag in ["--threads=4", "--log-level=debug", "--telemetry-from-a-later-version", "--listen=http://"] {
        assert!(first.contains(flag), "{first}");
    }
    assert!(!first.contains("--dir") && !first.contains("--upstream"), "{first}");

    // It dies, and is started again.
    common::signal(pid_of(&first), "KILL");
    let second = common::wait("another life", || lives(&lives_of).get(1).cloned().ok_or("none".to_owned()));
    common::wait("an answer of the next one", || {
        let (_, answer) = client.ask(&body);
        if answer == ANSWER { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
    });
    let through = client.p50(&body);
    let straight = Client::to(listens).p50(&body);
    println!("p50: {through} µs through this one, {straight} µs straight");

    // This one dies, and does not leave the other behind.
    common::signal(sidecar.child.id(), "KILL");
    common::wait("the end of the other", || {
        std::thread::sleep(Duration::from_millis(10));
        if runs(pid_of(&second)) { Err(format!("{second} runs")) } else { Ok(()) }
    });
}
