//! Documents put once, although the mirror that was asked first went away without an answer.
//!
//! The next mirror waits until the lost one is out of its cluster's view and all of the views before is applied: then
//! it either has applied the first attempt itself, or nobody ever will. This goes beyond what searchd does.

use super::{Asker, Engine, RUNNING_MAX};
use crate::{
    cluster::Aftermath,
    io::{Reply, SqlError},
    routing::{Token, Work},
};
use model::{Millis, NodeId};
use std::collections::{BTreeSet, VecDeque};

/// How long the lost mirror may stay in view: a failover's time, and half of what the asker waits for.
const PATIENCE: Millis = Millis(10_000);
/// Attempts remembered, 32 bytes each: at a thousand a second more than any attempt is in doubt.
const TOKENS_MAX: usize = 20_000;

/// Attempts applied here by this process, in order.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: BTreeSet<Token>,
    order: VecDeque<(Millis, Token)>,
    /// Those applied up to here are forgotten.
    forgotten: Millis,
}

impl Tokens {
    pub fn note(&mut self, now: Millis, tokens: Vec<Token>) {
        for token in tokens {
            self.known.insert(token);
            self.order.push_back((now, token));
        }
        while self.order.len() > TOKENS_MAX {
            if let Some((at, token)) = self.order.pop_front() {
                self.known.remove(&token);
                self.forgotten = at;
            }
        }
    }

    /// Whether an attempt begun at `since` was applied; `None` when that is not remembered any more.
    fn has(&self, token: Token, since: Millis) -> Option<bool> {
        match self.known.contains(&token) {
            true => Some(true),
            false if self.forgotten < since => Some(false),
            false => None,
        }
    }
}

/// A put that waits.
#[derive(Debug)]
pub(super) struct Again {
    asker: Asker,
    put: Work,
    lost: NodeId,
    since: Millis,
    deadline: Millis,
}

impl Again {
    pub fn deadline(&self) -> Millis {
        self.deadline
    }
}

impl Engine {
    pub(super) fn put_again(&mut self, asker: Asker, put: Work, lost: NodeId, age: Millis) {
        if self.again.len() >= RUNNING_MAX {
            return self.answer(asker, Err(in_doubt("too many writes are in doubt here")));
        }
        let now = self.node.now;
        // The asker's clock and ours run alike, the message took its time: a little earlier is the safe side.
        let since = now.since(age + Millis(1_000));
        self.again.push(Again { asker, put, lost, since, deadline: now + PATIENCE });
    }

    /// Goes on with every put whose question is answered by now.
    pub(super) fn settle_again(&mut self) {
        for again in std::mem::take(&mut self.again) {
            let Work::Put { table, rows, token, .. } = again.put.clone() else { continue };
            let cluster = self.cluster_of(&table).and_then(|name| self.clusters.get(name));
            let aftermath =
                cluster.map_or(Aftermath::Unknown, |cluster| cluster.aftermath(&again.lost, again.since));
            match aftermath {
                Aftermath::Open if self.node.now < again.deadline => self.again.push(again),
                Aftermath::Open | Aftermath::Unknown => {
                    self.answer(again.asker, Err(in_doubt("connection closed by peer")));
                }
                Aftermath::Clear => match self.node.tokens.has(token, again.since) {
                    Some(true) => {
                        let affected = rows.decode().map(|rows| rows.len() as u64);
                        self.answer(again.asker, affected.map(|affected| Reply::Done { affected }));
                    }
                    Some(false) => self.work(again.asker, again.put),
                    None => self.answer(again.asker, Err(in_doubt("connection closed by peer"))),
                },
            }
        }
        self.settle();
    }
}

/// What a client is told that must look for itself.
fn in_doubt(reason: &str) -> SqlError {
    SqlError::new(format!(
        "{reason}: the write was given to a mirror that went away, and may have been applied"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_not_taken_for_undone() {
        let mut tokens = Tokens::default();
        tokens.note(Millis(5), vec![Token(1)]);
        assert_eq!(tokens.has(Token(1), Millis(4)), Some(true));
        assert_eq!(tokens.has(Token(2), Millis(4)), Some(false));
        tokens.note(Millis(9), (10..10 + TOKENS_MAX as u128).map(Token).collect());
        assert_eq!(tokens.has(Token(1), Millis(4)), None);
        assert_eq!(tokens.has(Token(2), Millis(6)), Some(false), "begun after all that is forgotten");
    }
}
