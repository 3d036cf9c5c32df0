//! Telling of alerts: a line of the log, and a POST to an Alertmanager.
//!
//! Nothing here makes the driver wait: it leaves the alert and goes on. Of each alert only the latest word is kept
//! until it is delivered, so the queue is bounded by how many alerts there can be.

use super::ServeError;
use super::meters::Meters;
use super::sinks::beginning;
use crate::shutdown::Shutdown;
use crate::tls::{self, ClientTls};
use model::api::Alert;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use std::collections::{BTreeMap, btree_map::Entry};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Alerts that wait to be delivered: as many as can fire, and their ends.
const WAITING_MAX: usize = 1_000;
/// Alerts in one request.
const BATCH_MAX: usize = 100;
/// Of a refusal, for the log.
const WORDS_BYTES_MAX: usize = 200;
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Between tries, doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// A firing alert is said anew once a cooldown; it ends by itself when that was missed twice.
const COOLDOWNS_VALID: u64 = 3;

/// Takes alerts from the driver. Clones share one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The latest word on each alert not yet delivered; stays empty without a webhook.
    waiting: Mutex<BTreeMap<String, Alert>>,
    news: Notify,
    /// Whether somebody delivers.
    delivers: std::sync::atomic::AtomicBool,
}

impl Announcer {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Alert>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of `alert`; returns at once.
    pub(super) fn announce(&self, meters: &Meters, alert: Alert) {
        let labels = serde_json::to_string(&alert.labels).unwrap_or_default();
        let (kind, message, action) = (&alert.kind, &alert.message, &alert.action);
        if alert.state != "firing" {
            tracing::info!(alert = kind, labels, message, "an alert is over");
        } else if alert.level == "critical" {
            tracing::error!(alert = kind, labels, message, action, "an alert fires");
        } else {
            tracing::warn!(alert = kind, labels, message, action, "an alert fires");
        }
        meters.notified("log", "sent", 1);
        if !self.0.delivers.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let key = control::alarm::key(&alert.kind, &alert.labels);
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(&key) {
            drop(waiting);
            meters.notified("webhook", "dropped", 1);
            tracing::warn!(alert = alert.kind, "too many alerts wait for the webhook: this one is not sent");
            return;
        }
        waiting.insert(key, alert);
        drop(waiting);
        self.0.news.notify_one();
    }

    #[cfg(test)]
    pub(super) fn delivers(&self) -> bool {
        self.0.delivers.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn take(&self) -> BTreeMap<String, Alert> {
        let mut waiting = self.waiting();
        let keys: Vec<String> = waiting.keys().take(BATCH_MAX).cloned().collect();
        keys.into_iter().filter_map(|key| waiting.remove_entry(&key)).collect()
    }

    /// What could not be delivered waits on, unless there is a newer word on it.
    fn give_back(&self, batch: BTreeMap<String, Alert>) {
        let mut waiting = self.waiting();
        for (key, alert) in batch {
            if let Entry::Vacant(free) = waiting.entry(key) {
                free.insert(alert);
            }
        }
    }
}

/// An Alertmanager to tell.
#[derive(Debug)]
pub(super) struct Webhook {
    client: Client,
    url: Url,
    /// Tells this cluster's alerts from those of another.
    log_id: String,
    cooldown: Duration,
}

impl Webhook {
    /// `url` is the Alertmanager's, with or without the path of its API. Its user and password are sent, and never
    /// shown.
    pub(super) fn new(
        url: &str,
        log_id: String,
        cooldown_seconds: u64,
        tls: &ClientTls,
    ) -> Result<Self, ServeError> {
        let wrong = |reason: &str| ServeError::Webhook(reason.to_owned());
        let mut url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("it must begin with https://, or http:// on loopback"));
        }
        tls::check_url(url.as_str()).map_err(|error| wrong(&error.to_string()))?;
        if !url.path().ends_with("/api/v2/alerts") {
            let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        let client = tls.builder()?.timeout(REQUEST_TIME_MAX).build();
        let client = client.map_err(|error| ServeError::Client(error.to_string()))?;
        Ok(Self { client, url, log_id, cooldown: Duration::from_secs(cooldown_seconds) })
    }

    /// Delivers until `shutdown`.
    pub(super) async fn run(self, announcer: Announcer, meters: Arc<Meters>, shutdown: Shutdown) {
        announcer.0.delivers.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut pause = PAUSE_MIN;
        loop {
            let batch = announcer.take();
            if batch.is_empty() {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = announcer.0.news.notified() => continue,
                }
            }
            match self.send(&batch).await {
                Ok(()) => {
                    meters.notified("webhook", "sent", batch.len());
                    pause = PAUSE_MIN;
                    continue;
                }
                Err(Failed::Refused(why)) => {
                    meters.notified("webhook", "refused", batch.len());
                    tracing::warn!(
                        why,
                        alerts = batch.len(),
                        "the webhook does not take alerts: not sent again"
                    );
                    continue;
                }
                Err(Failed::Again(why)) => {
                    meters.notified("webhook", "failed", batch.len());
                    tracing::warn!(
                        why,
                        seconds = pause.as_secs(),
                        "the webhook was not reached: sent again later"
                    );
                    announcer.give_back(batch);
                }
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn send(&self, batch: &BTreeMap<String, Alert>) -> Result<(), Failed> {
        let now = SystemTime::now();
        let body: Vec<Value> = batch.values().map(|alert| self.payload(alert, now)).collect();
        let answer = self.client.post(self.url.clone()).json(&body).send().await;
        let answer = answer.map_err(|error| Failed::Again(error.without_url().to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let said = beginning(answer, WORDS_BYTES_MAX).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&said);
        let why = format!("{status}: {text}");
        // What it does not understand now it will not understand later.
        Err(if status.is_client_error() { Failed::Refused(why) } else { Failed::Again(why) })
    }

    /// One alert as Alertmanager's API takes it.
    fn payload(&self, alert: &Alert, now: SystemTime) -> Value {
        let mut labels = serde_json::Map::new();
        labels.extend(alert.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        labels.insert("alertname".to_owned(), json!(alert.kind));
        labels.insert("severity".to_owned(), json!(alert.level));
        labels.insert("job".to_owned(), json!("shardwright"));
        labels.insert("control_log".to_owned(), json!(self.log_id));
        let began = UNIX_EPOCH + Duration::from_secs(alert.since);
        let valid = self.cooldown * COOLDOWNS_VALID as u32;
        let ends = if alert.state == "firing" { now + valid } else { now };
        json!({
            "labels": labels,
            "annotations": { "summary": alert.message, "description": alert.action },
            "startsAt": humantime::format_rfc3339_millis(began.min(now)).to_string(),
            "endsAt": humantime::format_rfc3339_millis(ends).to_string(),
        })
    }
}

enum Failed {
    /// Never to be taken.
    Refused(String),
    Again(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: &str, state: &str) -> Alert {
        Alert {
            level: "critical".into(),
            kind: kind.into(),
            message: "m".into(),
            action: "a".into(),
            since: 1_000,
            labels: [("table".to_owned(), "t".to_owned())].into(),
            state: state.into(),
            silenced_until: None,
        }
    }

    #[test]
    fn the_latest_word_on_an_alert_is_the_one_that_waits() {
        let (announcer, meters) = (Announcer::default(), Meters::default());
        announcer.announce(&meters, alert("a", "firing"));
        assert!(announcer.take().is_empty(), "nobody delivers");
        announcer.0.delivers.store(true, std::sync::atomic::Ordering::Relaxed);
        announcer.announce(&meters, alert("a", "firing"));
        let batch = announcer.take();
        assert_eq!(batch.len(), 1);
        announcer.announce(&meters, alert("a", "resolved"));
        announcer.give_back(batch);
        let batch = announcer.take();
        assert_eq!(batch.values().map(|alert| alert.state.as_str()).collect::<Vec<_>>(), ["resolved"]);
        for number in 0..WAITING_MAX + 10 {
            announcer.announce(&meters, alert(&number.to_string(), "firing"));
        }
        assert_eq!(announcer.waiting().len(), WAITING_MAX);
        assert_eq!(announcer.take().len(), BATCH_MAX);
    }

    #[test]
    fn an_alert_is_what_alertmanager_takes() {
        let webhook =
            Webhook::new("http://u:secret@127.0.0.1:9093/x/", "l".into(), 300, &ClientTls::default())
                .expect("good");
        assert_eq!(webhook.url.path(), "/x/api/v2/alerts");
        let now = UNIX_EPOCH + Duration::from_secs(2_000);
        let firing = webhook.payload(&alert("data_unavailable", "firing"), now);
        let expected = json!({
            "labels": {
                "alertname": "data_unavailable", "severity": "critical", "job": "shardwright", "table": "t",
                "control_log": "l",
            },
            "annotations": { "summary": "m", "description": "a" },
            "startsAt": "1970-01-01T00:16:40.000Z",
            "endsAt": "1970-01-01T00:48:20.000Z",
        });
        assert_eq!(firing, expected);
        let over = webhook.payload(&alert("data_unavailable", "resolved"), now);
        assert_eq!(over["endsAt"], "1970-01-01T00:33:20.000Z");
        for wrong in ["http://u:secret@10.0.0.1:9093", "127.0.0.1:9093", "http://", "file:///x"] {
            let error =
                Webhook::new(wrong, String::new(), 300, &ClientTls::default()).expect_err(wrong).to_string();
            assert!(error.contains("--alert-webhook") && !error.contains("secret"), "{error}");
        }
    }
}
