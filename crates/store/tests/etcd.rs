//! The log in a real etcd: the contract of every store, several writers, lost answers, damage.
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![cfg(feature = "etcd")]

mod common;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use common::Etcd;
use model::LogIndex;
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use store::etcd::{Candidates, EtcdAddress, EtcdLog, Records};
use store::{AppendError, Log, OpenError, ReadError, conformance};

/// Hands out handles on logs of one etcd, each handle with a name of its own.
struct Logs<'a> {
    etcd: &'a Etcd,
    numbers: Cell<u32>,
}

impl<'a> Logs<'a> {
    fn of(etcd: &'a Etcd) -> Self {
        Self { etcd, numbers: Cell::new(0) }
    }

    fn number(&self) -> u32 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    fn new_prefix(&self) -> String {
        format!("logs/{}", self.number())
    }

    fn address(&self, prefix: &str) -> EtcdAddress {
        self.etcd.address(prefix).parse().expect("an address")
    }

    fn open(&self, prefix: &str) -> Result<EtcdLog, OpenError> {
        self.open_at(&self.address(prefix))
    }

    fn open_at(&self, address: &EtcdAddress) -> Result<EtcdLog, OpenError> {
        let id = format!("{:032x}", self.number());
        EtcdLog::open(address, id.clone(), || id).map(|opened| opened.log)
    }

    fn boxed(&self, prefix: &str) -> Box<dyn Log> {
        Box::new(self.open(prefix).expect("opens"))
    }

    fn put(&self, key: &str, value: &[u8]) {
        let [key, value] = [key.as_bytes(), value].map(|bytes| BASE64_STANDARD.encode(bytes));
        let body = format!(r#"{{"key":"{key}","value":"{value}"}}"#);
        self.etcd.request("POST", "/v3/kv/put", &body).expect("put");
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let body = format!(r#"{{"key":"{}"}}"#, BASE64_STANDARD.encode(key));
        let answer = self.etcd.request("POST", "/v3/kv/range", &body).expect("read");
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
        json["kvs"][0]["value"].as_str().map(|value| BASE64_STANDARD.decode(value).expect("base64"))
    }

    fn delete(&self, key: &str) {
        let body = format!(r#"{{"key":"{}"}}"#, BASE64_STANDARD.encode(key));
        self.etcd.request("POST", "/v3/kv/deleterange", &body).expect("deleted");
    }
}

#[test]
fn it_keeps_the_contract_of_every_store() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    conformance::run(|| logs.boxed(&logs.new_prefix()));
    conformance::run_reopened(|| {
        let prefix = logs.new_prefix();
        let logs = &logs;
        move || logs.boxed(&prefix)
    });
    conformance::run_shared(|| {
        let prefix = logs.new_prefix();
        (logs.boxed(&prefix), logs.boxed(&prefix))
    });
}

#[test]
fn of_many_writers_one_wins_each_index() {
    const WRITERS: u64 = 4;
    const APPENDS: u64 = 25;
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let prefix = logs.new_prefix();
    let handles: Vec<EtcdLog> = (0..WRITERS).map(|_| logs.open(&prefix).expect("opens")).collect();
    let ids: std::collections::BTreeSet<String> = handles.iter().map(Log::log_id).collect();
    assert_eq!(ids.len(), 1, "all opened one log");
    std::thread::scope(|threads| {
        for (writer, mut log) in handles.into_iter().enumerate() {
            threads.spawn(move || {
                let mut last = log.last().expect("readable");
                for number in 0..APPENDS {
                    let record = format!("{writer}/{number}").into_bytes();
                    loop {
                        match log.append(last, std::slice::from_ref(&record)) {
                            Ok(now) => break last = now,
                            Err(AppendError::Conflict { actual, .. }) => last = actual,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    let records = logs.open(&prefix).expect("opens").read(LogIndex(1), usize::MAX).expect("readable");
    assert_eq!(records.len() as u64, WRITERS * APPENDS);
    for writer in 0..WRITERS {
        let own = format!("{writer}/");
        let of_writer =
            records.iter().map(|(_, record)| String::from_utf8_lossy(record)).filter(|r| r.starts_with(&own));
        let expected: Vec<String> = (0..APPENDS).map(|number| format!("{own}{number}")).collect();
        assert_eq!(of_writer.collect::<Vec<_>>(), expected, "each once, in order");
    }
}

/// Passes one connection after the other on to etcd, and swallows the answers of those that `lose` says.
fn lossy(etcd: &Etcd, lose: impl Fn(&str) -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let behind = etcd.endpoint().to_owned();
    std::thread::spawn(move || {
        // Ends with the process: nothing waits for it.
        for stream in listener.incoming() {
            let mut client = stream.expect("a connection");
            let mut bytes = Vec::new();
            let mut buffer = vec![0; 65536];
            let request = loop {
                let read = client.read(&mut buffer).expect("a request");
                bytes.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let length = text.to_ascii_lowercase();
                let length = length
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.lines().next()?.parse().ok());
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                if length.is_some() && body == length {
                    break text;
                }
            };
            // One request a connection: otherwise etcd would wait for the next one.
            let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let mut server = TcpStream::connect(&behind).expect("etcd");
            server.write_all(request.as_bytes()).expect("sent");
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).expect("an answer");
            if !lose(&request) {
                client.write_all(&answer).expect("answered");
            }
        }
    });
    address
}

#[test]
fn a_lost_answer_is_unknown_until_the_log_is_read_again() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let prefix = logs.new_prefix();
    logs.open(&prefix).expect("opens").append(LogIndex(0), &[b"before".to_vec()]).expect("appended");
    let key = BASE64_STANDARD.encode(format!("{prefix}/records/{:020}", 2));
    let lost = AtomicBool::new(false);
    let through = lossy(&etcd, move |request| {
        request.contains(&key) && request.contains("request_put") && !lost.swap(true, Ordering::SeqCst)
    });
    let address = format!("etcd://{through}/{prefix}").parse().expect("an address");
    let mut log = logs.open_at(&address).expect("opens");
    let unknown = log.append(LogIndex(1), &[b"in doubt".to_vec()]);
    assert!(matches!(unknown, Err(AppendError::Unknown { .. })), "{unknown:?}");
    assert!(matches!(log.append(LogIndex(1), &[b"x".to_vec()]), Err(AppendError::Stopped { .. })));
    assert!(matches!(log.last(), Err(ReadError::Stopped { .. })));
    assert_eq!(log.recover(), Ok(LogIndex(2)), "it was applied");
    let conflict = AppendError::Conflict { expected: LogIndex(1), actual: LogIndex(2) };
    assert_eq!(log.append(LogIndex(1), &[b"instead".to_vec()]), Err(conflict));
    assert_eq!(log.read(LogIndex(2), 100), Ok(vec![(LogIndex(2), b"in doubt".to_vec())]));
}

#[test]
fn a_member_that_is_down_is_passed_over() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let address =
        format!("etcd://{gone},{}/{}", etcd.endpoint(), logs.new_prefix()).parse().expect("an address");
    let mut log = logs.open_at(&address).expect("opens");
    for index in 0..3 {
        assert_eq!(log.append(LogIndex(index), &[b"x".to_vec()]), Ok(LogIndex(index + 1)));
    }
    drop(etcd);
    let failed = log.append(LogIndex(3), &[b"x".to_vec()]).expect_err("nobody is there");
    assert!(failed.to_string().contains(&gone.to_string()), "{failed}");
}

#[test]
fn nothing_is_made_where_nobody_answers() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let address = format!("etcd://{gone}/p").parse().expect("an address");
    let id = "0".repeat(32);
    let refused = EtcdLog::open(&address, id.clone(), || id).expect_err("nobody is there");
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused:?}");
}

#[test]
fn a_snapshot_frees_all_that_it_replaces() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let prefix = logs.new_prefix();
    let mut log = logs.open(&prefix).expect("opens");
    let large = vec![3; 3 << 20];
    log.append(LogIndex(0), std::slice::from_ref(&large)).expect("in parts");
    log.append(LogIndex(1), &[b"two".to_vec(), b"three".to_vec()]).expect("appended");
    log.snapshot(LogIndex(1), &large).expect("in parts");
    log.snapshot(LogIndex(2), &large).expect("in parts");
    log.snapshot(LogIndex(2), b"small").expect("stored");
    assert_eq!(log.read(LogIndex(3), 100), Ok(vec![(LogIndex(3), b"three".to_vec())]));
    assert_eq!(log.latest_snapshot(), Ok(Some((LogIndex(2), b"small".to_vec()))));
    let (from, to) = (format!("{prefix}/"), format!("{prefix}0"));
    let [from, to] = [from, to].map(|key| BASE64_STANDARD.encode(key));
    let body = format!(r#"{{"key":"{from}","range_end":"{to}","count_only":true}}"#);
    let answer = etcd.request("POST", "/v3/kv/range", &body).expect("counted");
    // Format, last, snapshot, its two parts (head and state), and the append that record 3 is in.
    assert!(answer.contains(r#""count":"6""#), "{answer}");
}

/// Lays one fault on a log of three appends, the last one in parts, and a snapshot; gives what is said of it.
fn fault(etcd: &Etcd, lay: impl Fn(&Logs<'_>, &str)) -> String {
    let logs = Logs::of(etcd);
    let prefix = format!("fault/{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let (from, to) = (format!("{prefix}/"), format!("{prefix}0"));
    let [from, to] = [from, to].map(|key| BASE64_STANDARD.encode(key));
    let body = format!(r#"{{"key":"{from}","range_end":"{to}"}}"#);
    etcd.request("POST", "/v3/kv/deleterange", &body).expect("emptied");
    let mut log = logs.open(&prefix).expect("opens");
    log.append(LogIndex(0), &[b"one".to_vec()]).expect("appended");
    log.snapshot(LogIndex(1), b"state").expect("stored");
    log.append(LogIndex(1), &[b"two".to_vec(), b"three".to_vec()]).expect("appended");
    log.append(LogIndex(3), &[vec![4; 2 << 20]]).expect("appended");
    lay(&logs, &prefix);
    let read = |log: &EtcdLog| {
        log.latest_snapshot()?;
        log.read(LogIndex(2), usize::MAX)
    };
    // Whoever runs sees it, and whoever starts.
    let running = read(&log).expect_err("damaged").to_string();
    let starting = match logs.open(&prefix) {
        Err(refused) => refused.to_string(),
        Ok(log) => read(&log).expect_err("damaged").to_string(),
    };
    for said in [&running, &starting] {
        assert!(said.contains("damaged: key ") && said.contains("restore etcd from its newest"), "{said}");
    }
    starting
}

#[test]
fn a_damaged_log_is_refused_with_what_is_wrong() {
    let Some(etcd) = Etcd::start() else { return };
    let record = |prefix: &str, index: u64| format!("{prefix}/records/{index:020}");
    let said = fault(&etcd, |logs, prefix| logs.delete(&format!("{prefix}/format")));
    assert!(said.contains("/format") && said.contains("it is missing"), "{said}");
    let said = fault(&etcd, |logs, prefix| logs.delete(&format!("{prefix}/last")));
    assert!(said.contains("/last") && said.contains("it is missing"), "{said}");
    let said = fault(&etcd, |logs, prefix| logs.put(&format!("{prefix}/last"), b"7"));
    assert!(said.contains("it names record 7, but the records go up to 4"), "{said}");
    let said = fault(&etcd, |logs, prefix| logs.put(&format!("{prefix}/last"), b"3"));
    assert!(said.contains("it names record 3, but the records go up to 4"), "{said}");
    let said = fault(&etcd, |logs, prefix| logs.delete(&record(prefix, 3)));
    assert!(said.contains("record 2 is missing"), "{said}");
    let said = fault(&etcd, |logs, prefix| {
        let mut value = logs.get(&record(prefix, 3)).expect("there");
        let end = value.len() - 1;
        value[end] ^= 1;
        logs.put(&record(prefix, 3), &value);
    });
    assert!(said.contains("the checksum of record 2 does not match"), "{said}");
    let said = fault(&etcd, |logs, prefix| {
        let value = logs.get(&record(prefix, 4)).expect("there");
        let parts: serde_json::Value = serde_json::from_slice(&value[1..]).expect("JSON");
        let name = parts["name"].as_str().expect("a name");
        logs.delete(&format!("{prefix}/parts/{:020}/{name}/000001", 4));
    });
    assert!(said.contains("/000001") && said.contains("it is missing"), "{said}");
    let said = fault(&etcd, |logs, prefix| {
        let value = logs.get(&format!("{prefix}/snapshot")).expect("there");
        let parts: serde_json::Value = serde_json::from_slice(&value).expect("JSON");
        let key = format!("{prefix}/parts/{:020}/{}/000000", 1, parts["name"].as_str().expect("a name"));
        let mut state = logs.get(&key).expect("there");
        let end = state.len() - 1;
        state[end] ^= 1;
        logs.put(&key, &state);
    });
    assert!(said.contains("the snapshot's checksum does not match"), "{said}");
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let prefix = logs.new_prefix();
    drop(logs.open(&prefix).expect("opens"));
    logs.put(&format!("{prefix}/format"), br#"{"control_log":2,"log_id":"whatever comes then"}"#);
    let refused = logs.open(&prefix).expect_err("newer");
    assert!(matches!(refused, OpenError::NewerFormat { found: 2, supported: 1, .. }), "{refused:?}");
}

#[test]
fn another_log_in_its_place_is_not_written_to() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let prefix = logs.new_prefix();
    let mut log = logs.open(&prefix).expect("opens");
    let other = format!(r#"{{"control_log":1,"log_id":"{}"}}"#, "f".repeat(32));
    logs.put(&format!("{prefix}/format"), other.as_bytes());
    let refused = log.append(LogIndex(0), &[b"x".to_vec()]).expect_err("another log").to_string();
    assert!(refused.contains("another log"), "{refused}");
    assert!(matches!(log.last(), Err(ReadError::KeyDamaged(_))));
    assert_eq!(logs.open(&prefix).expect("opens").last(), Ok(LogIndex(0)));
}

#[test]
fn candidates_are_listed_in_order() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let prefix = logs.new_prefix();
    drop(logs.open(&prefix).expect("opens"));
    let candidates = Candidates::new(&logs.address(&prefix));
    assert_eq!(candidates.list(), Ok(Vec::new()));
    for name in ["b:2", "a:1", "b:2"] {
        candidates.enter(name).expect("entered");
    }
    assert_eq!(candidates.list(), Ok(vec!["a:1".to_owned(), "b:2".to_owned()]));
    candidates.leave("a:1").expect("left");
    assert_eq!(candidates.list(), Ok(vec!["b:2".to_owned()]));
    assert_eq!(logs.open(&prefix).expect("a candidate is no record").last(), Ok(LogIndex(0)));
}

#[test]
fn objects_beside_the_log_are_everyones_and_only_who_knows_its_end_removes_them() {
    let Some(etcd) = Etcd::start() else { return };
    let logs = Logs::of(&etcd);
    let prefix = logs.new_prefix();
    let mut log = logs.open(&prefix).expect("opens");
    let (one, other) = (Records::new(&logs.address(&prefix)), Records::new(&logs.address(&prefix)));
    assert_eq!((one.names(), one.get("a")), (Ok(Vec::new()), Ok(None)));
    let names: Vec<String> = (0..250).map(|number| format!("t_{number:03}")).collect();
    for name in &names {
        one.put(name, name.as_bytes()).expect("written");
    }
    one.put("t_007", &[0, 255]).expect("written over");
    assert_eq!(other.get("t_007"), Ok(Some(vec![0, 255])));
    assert_eq!(other.names(), Ok(names.clone()));
    let refused = one.put("large", &vec![0; (1 << 20) + 1]).expect_err("more than a key takes").to_string();
    assert!(refused.contains("1048577 bytes"), "{refused}");
    log.append(LogIndex(0), &[b"x".to_vec()]).expect("appended");
    assert_eq!(one.remove(&names, LogIndex(0)), Ok(false), "by one that has missed a record");
    assert_eq!(other.names(), Ok(names.clone()));
    assert_eq!(one.remove(&names[..249], LogIndex(1)), Ok(true));
    assert_eq!(other.names(), Ok(names[249..].to_vec()));
    assert_eq!(logs.open(&prefix).expect("they are no records").last(), Ok(LogIndex(1)));
}
