//! One line of the audit log: what it says, and the hash that binds it to the line before.
//!
//! A line is one JSON object that ends in `,"hash":"…"}`. The hash is the SHA-256 of all its bytes before that, which
//! hold the hash of the line before as `prev`: nothing can be changed, taken out or moved without all that follow.

use crate::redact;
use model::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What the first line has before it.
pub(super) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const HASH_FIELD: &str = ",\"hash\":\"";
/// Longer texts in a line are cut: who needs all of a statement finds it in the control log.
const TEXT_BYTES_MAX: usize = 2_000;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A controller began to write here.
    Start,
    /// Somebody asked for a change: written before anything is done.
    Request,
    /// How that ended.
    Result,
    /// A record of the control log: written before it is appended.
    State,
    /// Records that were announced by `state` lines were not appended.
    NotRecorded,
    /// Somebody asked without the right to.
    Denied,
    /// Settings or certificates were read again.
    Reload,
    /// The oldest file is taken away, its time being over.
    Pruned,
    /// The end of the log was not as it had been written.
    Damaged,
}

/// The content of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub event: Event,
    /// A token's name, `sql:USER` or `sql` for a statement through a node, `controller` for what it decides itself.
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The address that the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The node whose client asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The statement, the record, or method and path.
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<u64>,
    /// The line of the request that this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// The record's index in the control log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<u64>,
    /// `ok`, or what was answered instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

impl Entry {
    pub(crate) fn new(event: Event, actor: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            event,
            actor: actor.into(),
            role: None,
            from: None,
            node: None,
            what: what.into(),
            operation: None,
            request: None,
            log: None,
            result: None,
            detail: None,
        }
    }

    /// Without secrets, and no longer than a line should be.
    fn cleaned(mut self) -> Self {
        for text in [&mut self.actor, &mut self.what] {
            *text = clean(text);
        }
        for text in [&mut self.from, &mut self.node, &mut self.result].into_iter().flatten() {
            *text = clean(text);
        }
        if let Some(detail) = &mut self.detail {
            redact::json(detail);
            let text = detail.to_string();
            if text.len() > TEXT_BYTES_MAX {
                *detail = Value::String(clip(&text).to_owned());
            }
        }
        self
    }
}

fn clean(text: &str) -> String {
    clip(&redact::text(text)).to_owned()
}

/// The beginning of a long text, at a boundary of characters.
fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A line without its hash.
#[derive(Serialize, Deserialize)]
struct Open {
    seq: u64,
    /// RFC 3339, for people.
    time: String,
    unix: u64,
    #[serde(flatten)]
    entry: Entry,
    /// Lines before this one that could not be written.
    #[serde(default, skip_serializing_if = "is_zero")]
    missed: u64,
    prev: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A line as it is to be written, without the end of line, and its hash.
pub(super) fn seal(seq: u64, unix: u64, missed: u64, prev: &str, entry: Entry) -> (String, String) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix);
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let open = Open { seq, time, unix, entry: entry.cleaned(), missed, prev: prev.to_owned() };
    // Strings, numbers and options of these: nothing in it can fail to be JSON.
    let mut text = serde_json::to_string(&open).unwrap_or_default();
    text.truncate(text.len().saturating_sub(1));
    let hash = sha256_hex(text.as_bytes());
    text.push_str(HASH_FIELD);
    text.push_str(&hash);
    text.push_str("\"}");
    (text, hash)
}

/// A line as it was read, whose own hash is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) unix: u64,
    pub(super) prev: String,
    pub(super) hash: String,
    pub(super) event: Event,
    /// Of a `pruned` line: the number and the hash of the last line that went.
    pub(super) pruned: Option<(u64, String)>,
}

/// What is wrong with a line by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    #[error("it does not end in a hash")]
    NoHash,
    #[error("it does not have the hash that it says")]
    OtherHash,
    #[error("it is no line of an audit log")]
    NoLine,
}

pub(super) fn read(text: &str) -> Result<Link, BadLine> {
    let (open, hash) = text.rsplit_once(HASH_FIELD).ok_or(BadLine::NoHash)?;
    let hash = hash.strip_suffix("\"}").ok_or(BadLine::NoHash)?;
    if sha256_hex(open.as_bytes()) != hash {
        return Err(BadLine::OtherHash);
    }
    let line: Open = serde_json::from_str(&format!("{open}}}")).map_err(|_| BadLine::NoLine)?;
    let pruned =
        line.entry.detail.as_ref().filter(|_| line.entry.event == Event::Pruned).and_then(|detail| {
            Some((detail.get("last")?.as_u64()?, detail.get("hash")?.as_str()?.to_owned()))
        });
    Ok(Link {
        seq: line.seq,
        unix: line.unix,
        prev: line.prev,
        hash: hash.to_owned(),
        event: line.entry.event,
        pruned,
    })
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_read_as_it_was_sealed_and_any_changed_byte_shows() {
        let mut entry = Entry::new(Event::Request, "alice", "DROP TABLE t");
        entry.detail = Some(json!({ "hash": "\"}", "n": 1 }));
        let (sealed, hash) = seal(7, 1_700_000_000, 2, NO_HASH, entry);
        let link = read(&sealed).expect("a line");
        assert_eq!((link.seq, link.unix, link.prev.as_str(), link.hash), (7, 1_700_000_000, NO_HASH, hash));
        let value: Value = serde_json::from_str(&sealed).expect("JSON");
        assert_eq!(
            (value["missed"].as_u64(), value["time"].as_str()),
            (Some(2), Some("2023-11-14T22:13:20Z"))
        );
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(read(&changed).is_err(), "byte {at}");
            }
        }
        assert!(read("").is_err() && read("{}").is_err());
    }

    #[test]
    fn a_long_or_secret_text_is_not_kept_whole() {
        let mut entry = Entry::new(Event::Result, "a", "ü".repeat(5_000));
        entry.result = Some("could not reach http://user:pass@host/".to_owned());
        entry.detail = Some(json!({ "password": "hunter2", "list": vec!["x".repeat(100); 100] }));
        let (line, _) = seal(1, 0, 0, NO_HASH, entry);
        assert!(
            line.len() < 5 * TEXT_BYTES_MAX && !line.contains("pass@") && !line.contains("hunter2"),
            "{line}"
        );
        assert!(read(&line).is_ok());
    }
}
