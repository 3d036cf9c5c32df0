//! The last lines of an audit log, as they stand there.

use super::journal::{files, text_of};
use serde_json::Value;
use std::io;
use std::path::Path;

/// At most this many lines at once.
pub(crate) const LINES_MAX: usize = 1_000;

/// The last `count` lines before line `before`, the oldest first. What is no JSON is given as text.
pub fn tail(directory: &Path, count: usize, before: Option<u64>) -> io::Result<Vec<Value>> {
    let count = count.min(LINES_MAX);
    let mut found: Vec<Value> = Vec::new();
    for (first, path) in files(directory)?.into_iter().rev() {
        if found.len() >= count {
            break;
        }
        if before.is_some_and(|before| first >= before) {
            continue;
        }
        let text = text_of(&path)?;
        for line in text.lines().rev() {
            let line = serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()));
            let seq = line.get("seq").and_then(Value::as_u64);
            if before.is_some_and(|before| seq.is_some_and(|seq| seq >= before)) {
                continue;
            }
            if found.len() == count {
                break;
            }
            found.push(line);
        }
    }
    found.reverse();
    Ok(found)
}
