//! A statement that is under way on several shards, and the one answer that their answers make.
//!
//! As dangerous as the real thing: an UPDATE is OK when one target succeeded, a SELECT leaves out shards that are
//! absent behind an agent without a word, and an INSERT over several shards is not atomic.

use super::{route::Mirror, work::Work};
use crate::{
    exec,
    io::{Reply, SqlError},
    sql::ast::Select,
};
use model::Millis;

/// What the statement was.
#[derive(Debug)]
pub enum SpreadKind {
    Select(Box<Select>),
    /// INSERT and REPLACE; how many documents the client named.
    Put(u64),
    /// Several parts per shard, one per mirror.
    Update,
    Delete,
}

/// One shard's part.
#[derive(Debug)]
pub struct Part {
    /// The number of the shard in the routing table's order.
    pub target: usize,
    pub mirrors: Vec<Mirror>,
    pub work: Work,
    /// The documents it puts, for `processed_ids`.
    pub ids: Vec<i64>,
    /// The routing table that a SELECT named.
    pub read_as: String,
    pub tried: Vec<usize>,
    /// When the first mirror was asked.
    pub begun: Option<Millis>,
    pub outcome: Option<Result<Reply, SqlError>>,
}

impl Part {
    pub fn new(target: usize, mirrors: Vec<Mirror>, work: Work) -> Self {
        Self {
            target,
            mirrors,
            work,
            ids: Vec::new(),
            read_as: String::new(),
            tried: Vec::new(),
            begun: None,
            outcome: None,
        }
    }

    /// The mirror asked last.
    pub fn asked(&self) -> Option<&Mirror> {
        self.tried.last().map(|&at| &self.mirrors[at])
    }

    /// How an error of the mirror asked last reads to the client. searchd names the agent, never itself; what it says
    /// of an UPDATE is put together at the end.
    pub fn framed(&self, error: &SqlError) -> SqlError {
        let remote = if self.work.is_write() { "remote error" } else { "remote query error" };
        self.by_agent(&format!("{remote}: {error}")).unwrap_or_else(|| error.clone())
    }

    /// The same for a failure of the way there.
    pub fn cut_off(&self, reason: &str) -> SqlError {
        self.by_agent(reason).unwrap_or_else(|| SqlError::new(reason))
    }

    fn by_agent(&self, text: &str) -> Option<SqlError> {
        let Some(Mirror { node: Some(node), table }) = self.asked() else { return None };
        match self.work {
            Work::Update(_) => None,
            Work::Select(_) => Some(SqlError::new(format!("table {}: agent {node}: {text}", self.read_as))),
            _ => Some(SqlError::new(format!("remote table '{table}' at {node} failed: {text}"))),
        }
    }
}

/// All parts of a statement.
#[derive(Debug)]
pub struct Spread {
    pub kind: SpreadKind,
    pub parts: Vec<Part>,
}

impl Spread {
    pub fn is_done(&self) -> bool {
        self.parts.iter().all(|part| part.outcome.is_some())
    }

    /// The client's answer; asked for once, when it is done.
    pub fn answer(self) -> Result<Reply, SqlError> {
        match self.kind {
            SpreadKind::Select(ref select) => answer_select(select, self.parts),
            SpreadKind::Put(named) => answer_put(named, &self.parts),
            SpreadKind::Update => answer_update(&self.parts),
            SpreadKind::Delete => answer_delete(&self.parts),
        }
    }
}

fn affected(part: &Part) -> Option<u64> {
    match part.outcome {
        Some(Ok(Reply::Done { affected })) => Some(affected),
        _ => None,
    }
}

fn errors(parts: &[Part]) -> Vec<&SqlError> {
    parts.iter().filter_map(|part| part.outcome.as_ref()?.as_ref().err()).collect()
}

/// All reasons, as every one of them decides whether the statement may be run again.
fn joined(errors: &[&SqlError], between: &str, behind: &str) -> SqlError {
    let mut texts: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    texts.dedup();
    SqlError::new(format!("{}{behind}", texts.join(between)))
}

/// How searchd sets the reasons of several shards apart that one search or UPDATE had.
const BETWEEN: &str = ";\n";

/// The reasons of an UPDATE, each behind the shards that had it.
fn by_reason(parts: &[Part]) -> SqlError {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for part in parts {
        let (Some(Err(error)), Some(mirror)) = (&part.outcome, part.asked()) else { continue };
        let text = error.message.strip_prefix(&format!("table {}: ", mirror.table)).unwrap_or(&error.message);
        match reasons.iter_mut().find(|(reason, _)| *reason == text) {
            Some((_, tables)) if tables.contains(&mirror.table.as_str()) => {}
            Some((_, tables)) => tables.push(&mirror.table),
            None => reasons.push((text, vec![&mirror.table])),
        }
    }
    let lines: Vec<String> =
        reasons.iter().map(|(reason, tables)| format!("table {}: {reason}", tables.join(","))).collect();
    SqlError::new(lines.join(BETWEEN))
}

fn answer_select(select: &Select, parts: Vec<Part>) -> Result<Reply, SqlError> {
    let mut sets = Vec::with_capacity(parts.len());
    let mut warning = None;
    let mut failures = Vec::new();
    for part in parts {
        match part.outcome {
            Some(Ok(Reply::Rows(set))) => sets.push(set),
            Some(Err(error)) => {
                if !error.message.contains("unknown local table(s)") {
                    warning = warning.or_else(|| Some(error.message.clone()));
                }
                failures.push(error);
            }
            _ => {}
        }
    }
    if sets.is_empty() {
        if failures.is_empty() {
            return Err(SqlError::new("no shard answered"));
        }
        return Err(joined(&failures.iter().collect::<Vec<_>>(), BETWEEN, ""));
    }
    let mut merged = exec::merge(select, sets)?;
    if let Some(warning) = warning {
        merged.warning = warning;
    }
    Ok(Reply::Rows(merged))
}

fn answer_put(named: u64, parts: &[Part]) -> Result<Reply, SqlError> {
    let errors = errors(parts);
    if errors.is_empty() {
        return Ok(Reply::Done { affected: named });
    }
    let done = parts.iter().filter(|part| matches!(part.outcome, Some(Ok(_))));
    let processed: Vec<String> = done.flat_map(|part| &part.ids).map(i64::to_string).collect();
    let behind =
        if processed.is_empty() { String::new() } else { format!("; processed_ids={}", processed.join(",")) };
    Err(joined(&errors, "; ", &behind))
}

fn answer_update(parts: &[Part]) -> Result<Reply, SqlError> {
    if parts.iter().all(|part| matches!(part.outcome, Some(Err(_)))) {
        return Err(by_reason(parts));
    }
    // Mirrors update the same documents; they are counted once.
    let shards = parts.iter().map(|part| part.target).max().map_or(0, |last| last + 1);
    let mut most = vec![0; shards];
    for part in parts {
        most[part.target] = most[part.target].max(affected(part).unwrap_or(0));
    }
    Ok(Reply::Done { affected: most.iter().sum() })
}

fn answer_delete(parts: &[Part]) -> Result<Reply, SqlError> {
    let errors = errors(parts);
    if errors.is_empty() {
        return Ok(Reply::Done { affected: parts.iter().filter_map(affected).sum() });
    }
    Err(joined(&errors, "; ", ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        io::{Column, ColumnKind, ResultSet, Value},
        sql::{Statement, ast::TableRef, parse},
    };
    use model::NodeId;

    fn part(target: usize, outcome: Result<Reply, SqlError>) -> Part {
        let mirror = Mirror { node: Some(NodeId::new("n:1").expect("valid")), table: "t_s0".into() };
        let delete = crate::sql::ast::Delete {
            table: TableRef { cluster: None, name: "t_s0".into() },
            filter: None,
            matching: None,
        };
        let mut part = Part::new(target, vec![mirror], Work::Delete(delete));
        part.tried.push(0);
        part.outcome = Some(outcome);
        part
    }

    #[expect(clippy::unnecessary_wraps, reason = "beside `failed`, the two outcomes read alike")]
    fn done(affected: u64) -> Result<Reply, SqlError> {
        Ok(Reply::Done { affected })
    }

    fn failed(text: &str) -> Result<Reply, SqlError> {
        Err(SqlError::new(text))
    }

    #[test]
    fn an_update_is_ok_when_one_target_succeeded() {
        let parts = vec![part(0, failed("a")), part(1, done(0)), part(1, failed("b"))];
        assert_eq!(Spread { kind: SpreadKind::Update, parts }.answer(), done(0));
        let parts = vec![part(0, done(2)), part(0, done(2)), part(1, done(1))];
        assert_eq!(Spread { kind: SpreadKind::Update, parts }.answer(), done(3), "mirrors count once");
        let parts = vec![part(0, failed("a")), part(1, failed("b")), part(1, failed("a"))];
        let said = failed("table t_s0: a;\ntable t_s0: b");
        assert_eq!(Spread { kind: SpreadKind::Update, parts }.answer(), said, "each reason once");
    }

    #[test]
    fn a_partly_done_insert_names_what_is_done() {
        let mut first = part(0, done(2));
        first.ids = vec![1, -3];
        let parts = vec![first, part(1, failed("x")), part(2, failed("y"))];
        assert_eq!(Spread { kind: SpreadKind::Put(4), parts }.answer(), failed("x; y; processed_ids=1,-3"));
    }

    #[test]
    fn an_absent_shard_is_left_out_without_a_word() {
        let Ok(Statement::Select(select)) = parse("SELECT COUNT(*) FROM t") else { panic!("a select") };
        let counted = |count: i64| {
            Ok(Reply::Rows(ResultSet {
                columns: vec![Column { name: "count(*)".into(), kind: ColumnKind::LongLong }],
                rows: vec![vec![Value::Int(count)]],
                total: 1,
                warning: String::new(),
            }))
        };
        let absent = || {
            failed("table t: agent n:1: remote query error: unknown local table(s) 't_s1' in search request")
        };
        let answer = |parts| Spread { kind: SpreadKind::Select(Box::new(select.clone())), parts }.answer();
        let Ok(Reply::Rows(set)) = answer(vec![part(0, counted(3)), part(1, absent())]) else {
            panic!("rows")
        };
        assert_eq!((set.rows[0][0].clone(), set.warning.as_str()), (Value::Int(3), ""));
        let Ok(Reply::Rows(set)) = answer(vec![part(0, counted(3)), part(1, failed("timed out"))]) else {
            panic!("rows")
        };
        assert_eq!(set.warning, "timed out");
        assert!(answer(vec![part(0, absent())]).is_err(), "nothing at all is an error");
    }
}
