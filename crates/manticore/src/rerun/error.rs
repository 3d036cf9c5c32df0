//! What an error's whole text says about whether its statement was applied.

use model::TableName;
use std::collections::BTreeSet;

/// The classes that the decision knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Speaks of a transaction that is thrown away.
    InTransaction,
    /// The router of this node has no such table: nothing left it.
    NoRoute,
    /// Every target that failed refused before replicating, or was not reached; `processed` are done.
    Refused { processed: BTreeSet<i64> },
    /// The same, but for a certification conflict among the reasons.
    Conflict { processed: BTreeSet<i64> },
    /// Applied or not.
    Open,
    /// An error of the statement itself: a wrong column, a duplicate id.
    Plain,
}

/// A target's words before it replicated anything.
const REFUSALS: [&str; 7] = [
    "absent",
    "doesn't belong",
    "not primary",
    "is exiting",
    "unknown cluster",
    "is locked",
    "is not in any cluster",
];

/// How a router's word of a target ends that it did not reach: nobody listened there, so nothing was sent. A write is tried
/// once, so there was no try before either.
const UNREACHED: [&str; 2] = [
    " failed: error when sending data: Connection refused",
    " failed: connect() failed: errno=111, Connection refused",
];

/// Words after which nothing is certain, even beside a refusal.
const OPEN: [&str; 9] = [
    "timed out",
    "timeout",
    "PostRollback",
    "connection",
    "connect",
    "closed by",
    "closed before",
    "retries limit",
    "no response",
];

/// A statement's own fault, found before anything was done.
const PLAIN: [&str; 4] = ["duplicate id", "syntax error", "unknown column", "does not exist"];

pub(super) fn read(error: &str, ours: &dyn Fn(&TableName) -> bool) -> Failure {
    let error = error.trim();
    if error.contains("current txn") {
        return Failure::InTransaction;
    }
    if is_no_route(error, ours) {
        return Failure::NoRoute;
    }
    let (rest, processed) = match processed_ids(error) {
        Processed::None => (error.to_owned(), BTreeSet::new()),
        Processed::Ids { ids, rest } => (rest, ids),
        Processed::Unreadable => return Failure::Open,
    };
    let parts: Vec<Part> = parts(&rest).iter().map(|part| of_part(part)).collect();
    let all = |among: &[Part]| !parts.is_empty() && parts.iter().all(|part| among.contains(part));
    if all(&[Part::Refused]) {
        Failure::Refused { processed }
    } else if all(&[Part::Refused, Part::Conflict]) {
        Failure::Conflict { processed }
    } else if all(&[Part::Plain]) && processed.is_empty() {
        Failure::Plain
    } else {
        Failure::Open
    }
}

/// One target's reason.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Refused,
    Conflict,
    Open,
    Plain,
}

fn of_part(part: &str) -> Part {
    let has = |words: &[&str]| words.iter().any(|word| part.contains(word));
    let unreached = |word: &&str| part.strip_suffix(*word).is_some_and(is_target);
    if UNREACHED.iter().any(unreached) {
        Part::Refused
    } else if part.contains("code 3") && !has(&["timed out", "timeout"]) {
        Part::Conflict
    } else if has(&OPEN) {
        Part::Open
    } else if has(&REFUSALS) {
        Part::Refused
    } else if has(&PLAIN) || !part.contains("remote") {
        // What did not come from elsewhere and speaks of no failure under way is about the statement.
        Part::Plain
    } else {
        Part::Open
    }
}

/// Exactly `remote table 'NAME' at ADDRESS`.
fn is_target(text: &str) -> bool {
    let named = text.strip_prefix("remote table '").and_then(|rest| rest.split_once("' at "));
    named.is_some_and(|(name, at)| !name.contains('\'') && !at.is_empty() && !at.contains(' '))
}

/// Exactly the router's own words about a table of ours; nothing before, nothing behind.
fn is_no_route(error: &str, ours: &dyn Fn(&TableName) -> bool) -> bool {
    let tables = [
        between(error, "unknown local table(s) '", "' in search request"),
        between(error, "table '", "' absent"),
        between(error, "unknown table '", "' in update request"),
        between(error, "unknown table '", "' in delete request"),
    ];
    let all_ours = |names: &str| {
        names.split(',').all(|name| TableName::new(name.trim()).is_ok_and(|table| ours(&table)))
    };
    tables.into_iter().flatten().any(all_ours)
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(behind)
}

enum Processed {
    None,
    Ids { ids: BTreeSet<i64>, rest: String },
    Unreadable,
}

/// `processed_ids=1,-2,3`, with or without brackets, once, wherever it stands.
fn processed_ids(error: &str) -> Processed {
    const KEY: &str = "processed_ids=";
    let Some(start) = error.find(KEY) else {
        return if error.contains("processed_ids") { Processed::Unreadable } else { Processed::None };
    };
    let list = &error[start + KEY.len()..];
    if list.contains("processed_ids") {
        return Processed::Unreadable;
    }
    let list = list.trim_start_matches(['[', '(', '\'']);
    let length = list.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == '-')).unwrap_or(list.len());
    let (digits, behind) = list.split_at(length);
    let ids: Option<BTreeSet<i64>> =
        digits.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().ok()).collect();
    match ids {
        Some(ids) if !ids.is_empty() => {
            let behind = behind.trim_start_matches([']', ')', '\'']);
            // A list that goes on in another spelling (`1, 2`) would be cut short here.
            if behind.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
                return Processed::Unreadable;
            }
            Processed::Ids { ids, rest: format!("{}{behind}", &error[..start]) }
        }
        _ => Processed::Unreadable,
    }
}

/// One part per target: they are separated by semicolons or lines, or each begins with its `remote table`.
fn parts(error: &str) -> Vec<String> {
    let marked = error.replace("remote table '", "\nremote table '");
    let trim = |part: &str| part.trim().trim_matches([',', '.', ' ']).to_owned();
    marked.split(['\n', ';']).map(trim).filter(|part| !part.is_empty()).collect()
}
