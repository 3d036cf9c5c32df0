//! Requests to etcd's JSON gateway, blocking: transactions, and nothing else. Knows nothing of logs.
//!
//! A request that may have reached etcd and has no answer is [`Fault::Unknown`]; only what reads alone is sent
//! again to another member after that.

use super::address::{EtcdAddress, EtcdLogin};
use super::tls::{EtcdTls, TlsSource};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::{Agent, Timeout};

/// A member that takes no connection for this long is passed over for the next.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// etcd answers in milliseconds. It must be less than the silence after which a leader is deposed, or a member of
/// etcd that hangs would cost the lead.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(3);
/// No answer is longer than a page of the largest values, in base64.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Why a request came to nothing, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// etcd has not got it, or has said that it did not do it.
    NotDone(String),
    /// The same, for want of space.
    Full(String),
    /// It may have been done.
    Unknown(String),
}

impl Fault {
    pub(super) fn detail(self) -> String {
        match self {
            Self::NotDone(detail) | Self::Full(detail) | Self::Unknown(detail) => detail,
        }
    }
}

/// Why one request came to nothing, or may have.
enum Asked {
    /// etcd has not done it, for want of a token that it knows.
    NoToken(String),
    Fault(Fault),
}

impl From<Fault> for Asked {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Asked {
    fn fault(self) -> Fault {
        match self {
            Self::NoToken(detail) => Fault::NotDone(detail),
            Self::Fault(fault) => fault,
        }
    }
}

/// The members of one etcd cluster.
#[derive(Debug)]
pub(super) struct Gateway {
    tls: Option<TlsSource>,
    /// With what it was made by.
    agent: Mutex<(Option<EtcdTls>, Agent)>,
    scheme: &'static str,
    endpoints: Vec<String>,
    login: Option<EtcdLogin>,
    /// What etcd gave for the login; it ends when it was not used for some minutes.
    token: Mutex<Option<SecretString>>,
    /// The member that answered last.
    preferred: AtomicUsize,
}

/// All or nothing: `success` when every comparison holds, else `failure`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Transaction {
    pub(super) compare: Vec<Value>,
    pub(super) success: Vec<Value>,
    pub(super) failure: Vec<Value>,
}

/// A key with its value, as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// Rises with every write anywhere.
    pub(super) modified: u64,
}

/// What became of a transaction: the answers of its ranges, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) succeeded: bool,
    pub(super) ranges: Vec<Vec<Pair>>,
}

/// `value` is what the key holds.
pub(super) fn holds(key: &str, value: &[u8]) -> Value {
    json!({ "key": encode(key.as_bytes()), "target": "VALUE", "result": "EQUAL", "value": encode(value) })
}

/// The key was last written at `revision`; 0 for a key that is not there.
pub(super) fn unchanged(key: &str, revision: u64) -> Value {
    json!({
        "key": encode(key.as_bytes()), "target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string()
    })
}

pub(super) fn put(key: &str, value: &[u8]) -> Value {
    json!({ "request_put": { "key": encode(key.as_bytes()), "value": encode(value) } })
}

pub(super) fn get(key: &str) -> Value {
    json!({ "request_range": { "key": encode(key.as_bytes()) } })
}

/// Keys from `from` up to but without `to`, the lowest `limit` of them.
pub(super) fn range(from: &str, to: &str, limit: u32) -> Value {
    json!({ "request_range": {
        "key": encode(from.as_bytes()), "range_end": encode(to.as_bytes()), "limit": limit.to_string()
    } })
}

/// The same without their values.
pub(super) fn keys_of(from: &str, to: &str, limit: u32) -> Value {
    json!({ "request_range": {
        "key": encode(from.as_bytes()), "range_end": encode(to.as_bytes()), "limit": limit.to_string(), "keys_only": true
    } })
}

/// The highest key from `from` up to but without `to`, without its value.
pub(super) fn highest_key(from: &str, to: &str) -> Value {
    json!({ "request_range": {
        "key": encode(from.as_bytes()), "range_end": encode(to.as_bytes()), "limit": "1",
        "sort_order": "DESCEND", "sort_target": "KEY", "keys_only": true
    } })
}

pub(super) fn delete(from: &str, to: &str) -> Value {
    json!({ "request_delete_range": { "key": encode(from.as_bytes()), "range_end": encode(to.as_bytes()) } })
}

pub(super) fn delete_one(key: &str) -> Value {
    json!({ "request_delete_range": { "key": encode(key.as_bytes()) } })
}

fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

impl Gateway {
    pub(super) fn new(address: &EtcdAddress) -> Self {
        let tls = address.tls().map(TlsSource::now);
        Self {
            tls: address.tls().cloned(),
            agent: Mutex::new((tls.clone(), agent(tls.as_ref()))),
            scheme: if address.is_encrypted() { "https" } else { "http" },
            endpoints: address.endpoints().to_vec(),
            login: address.login().cloned(),
            token: Mutex::default(),
            preferred: AtomicUsize::new(0),
        }
    }

    /// Reads only, at one moment, with all that was written before it: every member is tried.
    pub(super) fn read(&self, ranges: Vec<Value>) -> Result<Vec<Vec<Pair>>, Fault> {
        let transaction = Transaction { success: ranges, ..Transaction::default() };
        self.send(&transaction, true).map(|answer| answer.ranges)
    }

    /// After a fault that is not [`Fault::Unknown`] nothing of it is done.
    pub(super) fn write(&self, transaction: &Transaction) -> Result<Answer, Fault> {
        self.send(transaction, false)
    }

    fn send(&self, transaction: &Transaction, repeatable: bool) -> Result<Answer, Fault> {
        let body = serde_json::to_vec(transaction).map_err(|error| Fault::NotDone(error.to_string()))?;
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut said = Vec::new();
        for turn in 0..self.endpoints.len() {
            let at = (preferred + turn) % self.endpoints.len();
            let endpoint = &self.endpoints[at];
            let fault = match self.ask_as_user(endpoint, &body) {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            // The next request begins elsewhere, whatever becomes of this one.
            self.preferred.store((at + 1) % self.endpoints.len(), Ordering::Relaxed);
            let unknown = matches!(fault, Fault::Unknown(_));
            let full = matches!(fault, Fault::Full(_));
            said.push(format!("{endpoint}: {}", fault.detail()));
            let detail = said.join("; ");
            if full {
                return Err(Fault::Full(detail));
            }
            if unknown && !repeatable {
                return Err(Fault::Unknown(detail));
            }
        }
        Err(Fault::NotDone(said.join("; ")))
    }

    /// Asks with a token where there are users, and once more with a new one when etcd does not know that one any more.
    fn ask_as_user(&self, endpoint: &str, body: &[u8]) -> Result<Answer, Fault> {
        let Some(login) = &self.login else { return self.ask(endpoint, body, None).map_err(Asked::fault) };
        let held = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = held {
            match self.ask(endpoint, body, Some(&token)) {
                Err(Asked::NoToken(_)) => {}
                other => return other.map_err(Asked::fault),
            }
        }
        let token = self.log_in(endpoint, login)?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        self.ask(endpoint, body, Some(&token)).map_err(Asked::fault)
    }

    /// A new token. It changes nothing that is ours: without one nothing was done.
    fn log_in(&self, endpoint: &str, login: &EtcdLogin) -> Result<SecretString, Fault> {
        #[derive(Deserialize)]
        struct Given {
            token: SecretString,
        }
        let body = json!({ "name": login.name, "password": login.password.expose_secret() });
        let body = Zeroizing::new(body.to_string());
        let answered = self.post(&format!("{endpoint}/v3/auth/authenticate"), body.as_bytes(), None);
        let not_done = |asked: Asked| {
            let detail = asked.fault().detail();
            Fault::NotDone(format!("etcd does not let user '{}' in: {detail}", login.name))
        };
        let bytes = answered.map_err(not_done)?;
        let given: Given = serde_json::from_slice(&bytes)
            .map_err(|_| Fault::NotDone("etcd's answer to a login has no token".to_owned()))?;
        Ok(given.token)
    }

    fn ask(&self, endpoint: &str, body: &[u8], token: Option<&SecretString>) -> Result<Answer, Asked> {
        let bytes = self.post(&format!("{endpoint}/v3/kv/txn"), body, token)?;
        let wire: WireAnswer = serde_json::from_slice(&bytes)
            .map_err(|error| Fault::Unknown(format!("its answer is not etcd's: {error}")))?;
        Ok(wire.decode()?)
    }

    /// The client for the next request: another one, with connections of its own, when certificates have changed.
    fn agent(&self) -> Agent {
        let mut held = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.tls.as_ref().map(TlsSource::now);
        if now != held.0 {
            *held = (now.clone(), agent(now.as_ref()));
        }
        held.1.clone()
    }

    fn post(&self, to: &str, body: &[u8], token: Option<&SecretString>) -> Result<Vec<u8>, Asked> {
        let mut request =
            self.agent().post(format!("{}://{to}", self.scheme)).header("Content-Type", "application/json");
        if let Some(token) = token {
            request = request.header("Authorization", token.expose_secret());
        }
        let mut response = request.send(body).map_err(|error| fault(&error))?;
        let status = response.status();
        let read = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let bytes = read.map_err(|error| Fault::Unknown(error.to_string()))?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(match serde_json::from_slice::<WireError>(&bytes) {
            Ok(error) => error.asked(),
            Err(_) => {
                Fault::Unknown(format!("it answered {status} and no JSON: is it etcd 3.4 or newer?")).into()
            }
        })
    }
}

/// An address that wants TLS and was not told how gets no connection: its client has no way to speak it.
fn agent(tls: Option<&EtcdTls>) -> Agent {
    let mut config = Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIME_MAX))
        .timeout_global(Some(REQUEST_TIME_MAX))
        .http_status_as_error(false)
        .max_redirects(0)
        // etcd is a part of this installation: a proxy from the environment would be a mistake.
        .proxy(None);
    if let Some(tls) = tls {
        config = config.tls_config(tls.config());
    }
    config.build().into()
}

/// Whether the request can have left this machine.
fn fault(error: &ureq::Error) -> Fault {
    let detail = error.to_string();
    let not_sent = match error {
        ureq::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        ureq::Error::Timeout(which) => matches!(which, Timeout::Resolve | Timeout::Connect),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
        _ => false,
    };
    if not_sent { Fault::NotDone(detail) } else { Fault::Unknown(detail) }
}

#[derive(Debug, Deserialize)]
struct WireError {
    #[serde(default)]
    message: String,
    #[serde(default)]
    code: u32,
}

impl WireError {
    /// By gRPC's codes. What etcd refuses it has not proposed; what it says is unavailable or late may still come.
    fn asked(self) -> Asked {
        const INVALID_ARGUMENT: u32 = 3;
        const PERMISSION_DENIED: u32 = 7;
        const RESOURCE_EXHAUSTED: u32 = 8;
        const FAILED_PRECONDITION: u32 = 9;
        const UNAUTHENTICATED: u32 = 16;
        Asked::Fault(match self.code {
            UNAUTHENTICATED => return Asked::NoToken(self.message),
            RESOURCE_EXHAUSTED if self.message.contains("space exceeded") => Fault::Full(self.message),
            INVALID_ARGUMENT | PERMISSION_DENIED | RESOURCE_EXHAUSTED | FAILED_PRECONDITION => {
                Fault::NotDone(self.message)
            }
            _ => Fault::Unknown(self.message),
        })
    }
}

/// Protobuf's JSON leaves out what is zero, false or empty, and writes 64-bit numbers as text.
#[derive(Debug, Deserialize)]
struct WireAnswer {
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<WireResponse>,
    // Every answer of etcd has one; something else that answers 200 has not.
    #[serde(rename = "header")]
    _header: Value,
}

#[derive(Debug, Deserialize)]
struct WireResponse {
    response_range: Option<WireRange>,
}

#[derive(Debug, Deserialize)]
struct WireRange {
    #[serde(default)]
    kvs: Vec<WirePair>,
}

#[derive(Debug, Deserialize)]
struct WirePair {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    mod_revision: String,
}

impl WireAnswer {
    fn decode(self) -> Result<Answer, Fault> {
        let ranges = self.responses.into_iter().filter_map(|response| response.response_range);
        let ranges = ranges.map(|range| range.kvs.into_iter().map(WirePair::decode).collect());
        let ranges = ranges.collect::<Result<_, String>>();
        let ranges = ranges.map_err(|what| Fault::Unknown(format!("its answer is not etcd's: {what}")))?;
        Ok(Answer { succeeded: self.succeeded, ranges })
    }
}

impl WirePair {
    fn decode(self) -> Result<Pair, String> {
        let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|error| error.to_string());
        let key = String::from_utf8(bytes(&self.key)?).map_err(|error| error.to_string())?;
        let modified = self.mod_revision.parse().map_err(|_| format!("revision '{}'", self.mod_revision))?;
        Ok(Pair { key, value: bytes(&self.value)?, modified })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn address(endpoint: &str) -> EtcdAddress {
        format!("etcd://{endpoint}/p").parse().expect("an address")
    }

    #[test]
    fn what_etcd_leaves_out_is_empty() {
        let text = r#"{"header":{"revision":"7"},"succeeded":true,"responses":[
            {"response_range":{"header":{},"kvs":[{"key":"YQ==","mod_revision":"5","version":"1"}],"count":"1"}},
            {"response_put":{"header":{}}},{"response_range":{"header":{}}}]}"#;
        let answer = serde_json::from_str::<WireAnswer>(text).expect("JSON").decode().expect("sound");
        let pair = Pair { key: "a".to_owned(), value: Vec::new(), modified: 5 };
        assert_eq!(answer, Answer { succeeded: true, ranges: vec![vec![pair], Vec::new()] });
        assert!(serde_json::from_str::<WireAnswer>("{}").is_err(), "an answer of something else");
    }

    /// What etcd really answers, damaged. `PROPTEST_CASES=1000000 cargo nextest run -p store hostile_answers` runs it for long.
    #[test]
    fn hostile_answers_are_read_or_refused() {
        let corpus = [
            r#"{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"7","raft_term":"2"},"succeeded":true,"responses":[{"response_range":{"header":{"revision":"7"},"kvs":[{"key":"cC9mb3JtYXQ=","create_revision":"2","mod_revision":"5","version":"1","value":"eyJjb250cm9sX2xvZyI6MX0="},{"key":"cC9sYXN0","mod_revision":"18446744073709551615","value":"Nw=="}],"count":"2"}},{"response_put":{"header":{"revision":"7"}}},{"response_range":{"header":{}}}]}"#,
            r#"{"header":{"revision":"9"},"responses":[{"response_range":{"kvs":[{"key":"cC9yZWNvcmRzLzAwMDAwMDAwMDAwMDAwMDAwMDAx","mod_revision":"5","value":"RgAAAA=="}],"more":true,"count":"64"}},{"response_delete_range":{"deleted":"3"}}]}"#,
            r#"{"error":"etcdserver: request is too large","message":"etcdserver: request is too large","code":3}"#,
            r#"{"error":"etcdserver: mvcc: database space exceeded","code":8,"message":"etcdserver: mvcc: database space exceeded"}"#,
            r#"{"error":"etcdserver: invalid auth token","code":16,"message":"etcdserver: invalid auth token","details":[]}"#,
            r#"{"header":{"revision":"9"},"token":"aBcDeFgHiJkLmNoP.42"}"#,
        ];
        let change = (any::<Index>(), any::<u8>(), 0..5_u8, any::<Index>(), any::<Index>());
        proptest!(|(which in any::<Index>(), changes in prop::collection::vec(change, 0..6))| {
            let mut text = which.get(&corpus).as_bytes().to_vec();
            for (at, byte, how, other, from) in &changes {
                let at = at.index(text.len().max(1)).min(text.len().saturating_sub(1));
                match how {
                    _ if text.is_empty() => text.push(*byte),
                    0 => text[at] = *byte,
                    // What passes for a number, a letter of Base64 or a mark of JSON.
                    1 => text[at] = b"0123456789-+=/Aa{}[]\",:"[usize::from(*byte) % 23],
                    2 => text.insert(at, *byte),
                    3 => drop(text.remove(at)),
                    _ => {
                        let other = other.get(&corpus).as_bytes();
                        let piece = other[from.index(other.len())..].iter().take(usize::from(*byte)).copied();
                        text.splice(at..at, piece);
                    }
                }
            }
            if let Ok(error) = serde_json::from_slice::<WireError>(&text) {
                let _fault = error.asked().fault().detail();
            }
            let Ok(wire) = serde_json::from_slice::<WireAnswer>(&text) else { return Ok(()) };
            let asked: usize =
                wire.responses.iter().filter_map(|response| response.response_range.as_ref()).count();
            match wire.decode() {
                Ok(answer) => prop_assert_eq!(answer.ranges.len(), asked, "every range that was answered"),
                // Whether it was done is not known: never a plain no.
                Err(fault) => prop_assert!(matches!(fault, Fault::Unknown(_)), "{fault:?}"),
            }
        });
    }

    #[test]
    fn only_what_etcd_refused_is_certainly_not_done() {
        let fault = |code, message: &str| WireError { message: message.to_owned(), code }.asked().fault();
        assert!(matches!(fault(3, "etcdserver: request is too large"), Fault::NotDone(_)));
        assert!(matches!(fault(8, "etcdserver: mvcc: database space exceeded"), Fault::Full(_)));
        assert!(matches!(fault(8, "etcdserver: too many requests"), Fault::NotDone(_)));
        assert!(matches!(fault(14, "etcdserver: request timed out"), Fault::Unknown(_)));
        assert!(matches!(fault(14, "etcdserver: leader changed"), Fault::Unknown(_)));
        assert!(matches!(fault(2, "anything"), Fault::Unknown(_)));
    }

    #[test]
    fn a_member_that_is_not_there_has_got_nothing() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = gone.local_addr().expect("an address").to_string();
        drop(gone);
        let fault =
            Gateway::new(&address(&endpoint)).write(&Transaction::default()).expect_err("nobody answers");
        assert!(matches!(fault, Fault::NotDone(_)), "{fault:?}");
    }

    #[test]
    fn a_member_that_hangs_up_may_have_done_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = listener.local_addr().expect("an address").to_string();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                use std::io::Read as _;
                let (mut stream, _) = listener.accept().expect("a connection");
                stream.read_exact(&mut [0; 16]).expect("a request");
            });
            let fault =
                Gateway::new(&address(&endpoint)).write(&Transaction::default()).expect_err("no answer");
            assert!(matches!(fault, Fault::Unknown(_)), "{fault:?}");
        });
    }
}
