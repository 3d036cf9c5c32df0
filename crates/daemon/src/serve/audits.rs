//! The audit log over HTTP: its last lines, whether it is as it was written, and what is told of those who were refused.

use super::api::{Shared, look};
use super::caller::Caller;
use super::problem::{ApiError, Kind};
use crate::audit::{self, Event, Verified};
use axum::Json;
use axum::extract::{Query, State};
use model::AuditMark;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const LINES: usize = 100;

/// What is asked of the last lines.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    lines: Option<usize>,
    /// Only those before this number.
    before: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Tail {
    pub(super) lines: Vec<Value>,
}

pub(super) async fn tail(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
) -> Result<Json<Tail>, ApiError> {
    let directory = shared.audit.directory();
    let lines = asked.lines.unwrap_or(LINES);
    reading(move || audit::tail(&directory, lines, asked.before)).await.map(|lines| Json(Tail { lines }))
}

pub(super) async fn verify(State(shared): State<Shared>) -> Result<Json<Verified>, ApiError> {
    let (directory, id) = (shared.audit.directory(), shared.audit.id());
    let mark: Option<AuditMark> =
        look(&shared, move |controller, _, _| controller.state().audits.get(&id).cloned()).await?;
    let verify = move || {
        let found = audit::verify(&directory, mark.as_ref())?;
        // A line that was being written just then is whole the second time.
        if found.ok { Ok(found) } else { audit::verify(&directory, mark.as_ref()) }
    };
    reading(verify).await.map(Json)
}

async fn reading<T: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |error: String| {
        let detail = format!("the audit log cannot be read: {error}");
        ApiError::new(Kind::Refused, detail, "look at the files in DIR/audit")
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Who knocks again and again must not fill the disk: so many refusals are told in a minute, the others are counted.
const DENIALS_PER_MINUTE: u32 = 60;

/// Refusals of this minute.
#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    began: Option<Instant>,
    told: u32,
    /// Since the last one that was told.
    untold: u64,
}

impl Denials {
    /// Whether this one is told, and with how many others that were not.
    fn tell(&self, now: Instant) -> Option<u64> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.began.is_none_or(|began| now.duration_since(began) >= Duration::from_mins(1)) {
            (minute.began, minute.told) = (Some(now), 0);
        }
        if minute.told == DENIALS_PER_MINUTE {
            minute.untold += 1;
            return None;
        }
        minute.told += 1;
        Some(std::mem::take(&mut minute.untold))
    }
}

/// Tells of a request that was refused for want of a right.
pub(super) async fn denied(shared: &Shared, caller: &Caller, what: String) {
    let Some(untold) = shared.denials.tell(Instant::now()) else { return };
    let mut entry = caller.entry(Event::Denied, what);
    entry.detail = (untold > 0).then(|| serde_json::json!({ "others_before": untold }));
    shared.audit.after_async(entry).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_written() {
        let (denials, now) = (Denials::default(), Instant::now());
        for _ in 0..DENIALS_PER_MINUTE {
            assert_eq!(denials.tell(now), Some(0));
        }
        for _ in 0..500 {
            assert_eq!(denials.tell(now + Duration::from_secs(59)), None);
        }
        assert_eq!(denials.tell(now + Duration::from_mins(1)), Some(500));
        assert_eq!(denials.tell(now + Duration::from_mins(1)), Some(0));
    }
}
