//! Holds statements that failed in a routing change and runs them again, where [`manticore::rerun`] allows it.
//!
//! Bounded in time, number and memory: past a bound the error goes back at once. Nothing held is ever repeated
//! after its outcome became unknown.

use super::Sidecar;
use super::confirm::rows_applied;
use super::peers::is_in_no_history;
use manticore::handover::Response;
use manticore::names::names_ours;
use manticore::rerun::{Decision, Facts, decide, only_reads};
use manticore::{CallError, Reply, reply};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Statements held at once: each keeps a connection of searchd's and of ours open.
const HELD_MAX: usize = 1_000;
/// Bytes of all of them. A single one may be as large as a packet of searchd's.
const BYTES_MAX: usize = 256 << 20;
/// Bytes kept of each to know it by among the node's threads, which show no more.
pub(super) const SHOWN_MAX: usize = 4_096;
/// Runs at once: searchd does them with a few threads, and clients that were never held want their turn, too.
const RUNS_MAX: usize = 16;
/// Between two runs when nothing was heard: routes may also come back by another hand.
const PAUSE: Duration = Duration::from_millis(20);
/// For one run to end, also when the time of holding is over meanwhile: it may have begun to do something.
const RUN_TIME_MAX: Duration = Duration::from_mins(1);

/// The bounds, and news of routes.
#[derive(Debug)]
pub(super) struct Hold {
    places: Semaphore,
    bytes: AtomicUsize,
    runs: Semaphore,
    routes: watch::Sender<u64>,
    /// The texts of those held, each under a number of its own.
    held: Mutex<BTreeMap<u64, String>>,
    numbers: AtomicU64,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            places: Semaphore::new(HELD_MAX),
            bytes: AtomicUsize::new(0),
            runs: Semaphore::new(RUNS_MAX),
            routes: watch::Sender::new(0),
            held: Mutex::default(),
            numbers: AtomicU64::new(0),
        }
    }
}

/// A statement's place among those held, until it is answered.
struct Place<'a> {
    hold: &'a Hold,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hold.texts().remove(&self.number);
    }
}

/// Bytes that are counted while a statement is held.
struct Bytes<'a> {
    hold: &'a Hold,
    count: usize,
}

impl Drop for Bytes<'_> {
    fn drop(&mut self) {
        self.hold.bytes.fetch_sub(self.count, Ordering::SeqCst);
    }
}

impl Hold {
    /// Routes were written: what is held may go.
    pub(super) fn routes_changed(&self) {
        self.routes.send_modify(|version| *version += 1);
    }

    /// Those held now: the node shows each as running.
    pub(super) fn held(&self) -> BTreeMap<u64, String> {
        self.texts().clone()
    }

    /// The texts of those among `before` that are held without a break since.
    pub(super) fn still_held(&self, mut before: BTreeMap<u64, String>) -> Vec<String> {
        let now = self.texts();
        before.retain(|number, _| now.contains_key(number));
        before.into_values().collect()
    }

    fn texts(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, sql: &str) -> Place<'_> {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let end = (0..=SHOWN_MAX.min(sql.len())).rev().find(|&at| sql.is_char_boundary(at)).unwrap_or(0);
        self.texts().insert(number, sql[..end].to_owned());
        Place { hold: self, number }
    }

    /// Takes every place, as if so many were held.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.places.try_acquire_many(HELD_MAX as u32).expect("nothing is held")
    }

    fn count(&self, count: usize) -> Option<Bytes<'_>> {
        let before = self.bytes.fetch_add(count, Ordering::SeqCst);
        let bytes = Bytes { hold: self, count };
        // Dropping it takes back what was added.
        (before + count <= BYTES_MAX).then_some(bytes)
    }
}

/// A failed statement that names a table of ours.
pub(super) struct Failed<'a> {
    pub(super) sql: &'a str,
    pub(super) error: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) ours: &'a BTreeSet<model::TableName>,
}

/// The answer to `failed`; `None` when the original error stands.
pub(super) async fn answer(sidecar: &Sidecar, failed: Failed<'_>) -> Option<Response> {
    let Failed { sql, error, user, ours } = failed;
    if decide(sql, error, Facts { ours, stayed_primary: true }) == Decision::ReturnError {
        return None;
    }
    let (Ok(_place), Some(_bytes)) = (sidecar.hold.places.try_acquire(), sidecar.hold.count(sql.len()))
    else {
        tracing::warn!("no place to hold a statement: its error goes back");
        return None;
    };
    let _shown = sidecar.hold.place(sql);
    let deadline = Instant::now() + sidecar.hold_time();
    let mut next = next(sidecar, sql, error, ours, deadline).await;
    let named: BTreeSet<model::TableName> = names_ours(sql, ours).into_iter().collect();
    let mut error = error.to_owned();
    let mut routes = sidecar.hold.routes.subscribe();
    let mut text = sql.to_owned();
    let mut last: Option<(u16, Value)> = None;
    let mut partly = false;
    loop {
        match next {
            // Nobody waits for a node that may be away for days: a node's threads are few.
            Next::Run if let Some(why) = sidecar.unserved(&named) => {
                return Some(Response::error(&format!("{error}: {why}")));
            }
            Next::Run => {}
            Next::RunInstead(sql) => {
                text = sql;
                partly = true;
            }
            Next::Error => return given_up(last, partly),
            Next::Applied(rows) => return Some(Response::done(rows)),
            Next::Unknown(message) => return Some(Response::error(&message)),
        }
        if Instant::now() >= deadline {
            return given_up(last, partly);
        }
        let ran = {
            let _run = sidecar.hold.runs.acquire().await.ok()?;
            sidecar.client.pass(&sidecar.node, &text, user, RUN_TIME_MAX).await
        };
        let (status, body) = match ran {
            Ok(answer) => answer,
            Err(error) if error.never_arrived() => {
                tracing::warn!(%error, "a held statement could not be sent");
                return given_up(last, partly);
            }
            Err(error) if only_reads(&text) => {
                // Whatever became of it, it changed nothing.
                tracing::warn!(%error, "a held read is run once more");
                next = Next::Run;
                pause(&mut routes, deadline).await;
                continue;
            }
            Err(error) => return Some(Response::error(&open(&error))),
        };
        next = match failure(&body) {
            None => return Some(Response::of_body(status, body)),
            Some(again) => {
                error = again;
                self::next(sidecar, &text, &error, ours, deadline).await
            }
        };
        last = Some((status, body));
        pause(&mut routes, deadline).await;
    }
}

/// The last error of a statement that is not run again any more; `None` is the original one.
fn given_up(last: Option<(u16, Value)>, partly: bool) -> Option<Response> {
    let (status, body) = last?;
    if partly && let Some(error) = failure(&body) {
        let message = format!("{error} (a part of the statement was applied: look before repeating it)");
        return Some(Response::error(&message));
    }
    Some(Response::of_body(status, body))
}

fn open(error: &CallError) -> String {
    format!("{error} (it was held during a routing change and run again: look before repeating it)")
}

/// What a statement's error means for it.
#[derive(PartialEq, Eq)]
enum Next {
    Run,
    RunInstead(String),
    Error,
    /// Seen to be applied, so many rows.
    Applied(u64),
    Unknown(String),
}

async fn next(
    sidecar: &Sidecar,
    sql: &str,
    error: &str,
    ours: &BTreeSet<model::TableName>,
    deadline: Instant,
) -> Next {
    let decided = |stayed_primary| decide(sql, error, Facts { ours, stayed_primary });
    // Finding out costs requests and perhaps a wait, so it is done only where it decides.
    let decision = match decided(false) {
        Decision::ReturnUnknown { message } => match decided(true) {
            Decision::ReturnUnknown { .. } => Decision::ReturnUnknown { message },
            other if is_in_no_history(sidecar, error, deadline).await => other,
            _ => Decision::ReturnUnknown { message },
        },
        other => other,
    };
    match decision {
        Decision::Rerun => Next::Run,
        Decision::RerunWithout { sql } => Next::RunInstead(sql),
        Decision::ReturnError => Next::Error,
        Decision::ReturnUnknown { message } => match rows_applied(sidecar, sql, error, deadline).await {
            Some(rows) => Next::Applied(rows),
            None => Next::Unknown(message),
        },
    }
}

/// The error in a reply, if it is one.
fn failure(body: &Value) -> Option<String> {
    match reply::read_value(body) {
        Ok(Reply::Error { message }) => Some(message),
        // What searchd says in another shape is its answer, and goes back as it is.
        Ok(_) | Err(_) => None,
    }
}

async fn pause(routes: &mut watch::Receiver<u64>, deadline: Instant) {
    let pause = PAUSE.min(deadline.saturating_duration_since(Instant::now()));
    // Either reason is enough, and a sender that is gone leaves the pause.
    let _ = tokio::time::timeout(pause, routes.changed()).await;
}
