//! A core for tests of the shell: answers by a few fixed statements, so that every door, limit and end can be
//! tried without SQL.

use crate::machine::Core;
use crate::running::{RunningNode, start_on};
use crate::{NodeError, NodeOptions};
use engine::cluster::ClusterMessage;
use engine::{Column, ColumnKind, Input, Output, PeerMessage, Reply, ResultSet, SessionId, SqlError, Value};
use model::{Millis, NodeId};
use std::collections::BTreeSet;

/// `SELECT …` shows a row, `WIDE n` a text of n bytes, `DONE n` touches n documents, `WAIT` never answers,
/// `OPEN` counts the sessions seen and not closed, `TICKS` the ticks, `PANIC` panics; `SEND node count bytes` sends
/// numbered messages to a peer, `HEARD` counts those that came, `DISORDER` those that came after a later one,
/// `LOST` the times a connection to a peer broke, `REFUSED` those when there was none; all else is a syntax error.
#[derive(Debug, Default)]
pub(crate) struct Script {
    sent: u64,
    heard: i64,
    last_heard: u64,
    disorder: i64,
    lost: i64,
    refused: i64,
    sessions: BTreeSet<SessionId>,
    ticks: u64,
    /// When it ticked last.
    ticked: Millis,
}

impl Core for Script {
    fn handle(&mut self, now: Millis, _: u64, input: Input) -> Vec<Output> {
        match input {
            Input::Statement { request, session, sql } => {
                self.sessions.insert(session);
                let mut outputs = self.sends(&sql);
                outputs.extend(self.answer(&sql).map(|reply| Output::Reply { request, reply }));
                outputs
            }
            Input::SessionClosed(session) => {
                self.sessions.remove(&session);
                Vec::new()
            }
            Input::PeerRefused(_) => {
                self.refused += 1;
                Vec::new()
            }
            Input::Tick => {
                self.ticks += 1;
                self.ticked = now;
                Vec::new()
            }
            Input::Peer { message: PeerMessage::Cluster { cluster, .. }, .. } => {
                let number = cluster.trim().parse().expect("a number");
                self.heard += 1;
                self.disorder += i64::from(number < self.last_heard);
                self.last_heard = number;
                Vec::new()
            }
            Input::Peer { .. } => Vec::new(),
            Input::PeerUnreachable(_) => {
                self.lost += 1;
                Vec::new()
            }
        }
    }

    /// Does not move while statements come: a core that let them put its wake off would be starved by itself.
    fn next_wake(&self) -> Option<Millis> {
        Some(self.ticked + Millis(5))
    }

    fn shutdown(&mut self, _: Millis) -> Vec<Output> {
        Vec::new()
    }
}

impl Script {
    fn sends(&mut self, sql: &str) -> Vec<Output> {
        let ["SEND", to, count, bytes] = sql.split(' ').collect::<Vec<_>>()[..] else { return Vec::new() };
        let to = NodeId::new(to).expect("a node");
        let (count, bytes): (u64, usize) =
            (count.parse().expect("a number"), bytes.parse().expect("a number"));
        let numbers = self.sent + 1..=self.sent + count;
        self.sent += count;
        let send = |number: u64| {
            let cluster = format!("{number}{}", " ".repeat(bytes));
            Output::Send {
                to: to.clone(),
                message: PeerMessage::Cluster { cluster, message: Box::new(ClusterMessage::Hello) },
            }
        };
        numbers.map(send).collect()
    }

    fn answer(&mut self, sql: &str) -> Option<Result<Reply, SqlError>> {
        let (word, rest) = sql.split_once(' ').unwrap_or((sql, ""));
        let number = rest.parse::<u64>().unwrap_or_default();
        let row = |value: Value, kind| {
            let columns = vec![Column { name: "v".into(), kind }];
            Ok(Reply::Rows(ResultSet { columns, rows: vec![vec![value]], total: 1, warning: String::new() }))
        };
        Some(match word {
            "SELECT" => row(Value::Text(rest.to_owned()), ColumnKind::Text),
            "WIDE" => row(Value::Text("x".repeat(number as usize)), ColumnKind::Text),
            "DONE" => Ok(Reply::Done { affected: number }),
            "OPEN" => row(Value::Int(self.sessions.len() as i64), ColumnKind::LongLong),
            "TICKS" => row(Value::Int(self.ticks as i64), ColumnKind::LongLong),
            "SEND" => Ok(Reply::Done { affected: 0 }),
            "HEARD" => row(Value::Int(self.heard), ColumnKind::LongLong),
            "DISORDER" => row(Value::Int(self.disorder), ColumnKind::LongLong),
            "REFUSED" => row(Value::Int(self.refused), ColumnKind::LongLong),
            "LOST" => row(Value::Int(self.lost), ColumnKind::LongLong),
            "WAIT" => return None,
            "PANIC" => panic!("asked to"),
            _ => Err(SqlError::new(format!("P01: syntax error near '{sql}'"))),
        })
    }
}

/// A node on free ports over a [`Script`]; `change` adapts its options.
pub(crate) async fn scripted(dir: &std::path::Path, change: impl FnOnce(&mut NodeOptions)) -> RunningNode {
    try_scripted(dir, change).await.expect("starts")
}

pub(crate) async fn try_scripted(
    dir: &std::path::Path,
    change: impl FnOnce(&mut NodeOptions),
) -> Result<RunningNode, NodeError> {
    let mut options = NodeOptions::new(dir, "127.0.0.1:0", "127.0.0.1:0");
    change(&mut options);
    start_on(options, |_, _, _| Ok(Box::new(|_| Ok(Box::new(Script::default()) as Box<dyn Core>)))).await
}
