//! Who watches the controller work: the meters, the traces, and those who tell of alerts. The driver tells them and goes on.

use super::announce::Announcer;
use super::meters::Meters;
use super::spans::Spans;
use super::standing::Seen;
use crate::shutdown::Shutdown;
use control::Record;
use control::state::State;
use model::api::Alert;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the driver, the looks and the API share. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchers {
    pub(super) meters: Arc<Meters>,
    pub(super) announcer: Announcer,
    pub(super) spans: Spans,
}

impl Watchers {
    /// A record is durable; `state` is from after it.
    pub(super) fn record(&self, state: &State, record: &Record) {
        self.meters.record(state, record);
        self.spans.record(state, record);
    }

    pub(super) fn announce(&self, alert: Alert) {
        self.announcer.announce(&self.meters, alert);
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Nobody leads for so long beyond the silence that ends a lead: nobody takes it.
const LEADERLESS_MAX: Duration = Duration::from_secs(10);

/// Tells that nobody leads, and that somebody does again: the one alert that the operator cannot judge. `follows_somebody`
/// is the lookout's word that the leader lives. Until `shutdown`.
pub(super) async fn watch_the_lead(
    watchers: Watchers,
    seen: Seen,
    lives: tokio::sync::watch::Receiver<bool>,
    cooldown: Duration,
    shutdown: Shutdown,
) {
    let mut turns = tokio::time::interval(LOOK_EVERY);
    let (mut since, mut told) = (None, None::<(Instant, u64)>);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = turns.tick() => {}
        }
        let led = seen.borrow().leads_now() || (seen.borrow().is_able() && *lives.borrow());
        if led {
            since = None;
            if let Some((_, began)) = told.take() {
                let over = control::no_master("somebody leads again");
                watchers.announce(Alert { since: began, state: "resolved".to_owned(), ..over });
            }
            continue;
        }
        let began = *since.get_or_insert_with(Instant::now);
        let due = told.is_none_or(|(at, _)| at.elapsed() >= cooldown);
        let silence_max = seen.borrow().silence_max;
        if began.elapsed() < silence_max + LEADERLESS_MAX || !due {
            continue;
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let unix = told.map_or(unix.saturating_sub(began.elapsed().as_secs()), |(_, began)| began);
        watchers.announce(Alert { since: unix, ..control::no_master("no sign of life of any") });
        told = Some((Instant::now(), unix));
    }
}
