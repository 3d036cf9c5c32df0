//! From conditions to alerts: since when each fires, when it is announced, and who wants not to hear of it.
//!
//! That an alert fires or is over is a record of the log, so that `since` survives a restart and a change of the leader.
//! When it was last announced is kept in memory only: at worst something is said twice.

use crate::Controller;
use crate::alerts::RESOLVED;
use crate::io::Effect;
use crate::record::Record;
use model::Millis;
use model::api::{Alert, Silence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// More alerts than this at once say nothing more; the critical ones stay. It bounds the log and every answer.
const ALERTS_MAX: usize = 500;
/// After a start conditions are judged when every node was looked at once, or after this long.
const FIRST_LOOK_MAX: Millis = Millis(10_000);
/// Alerts that are over are remembered for an hour, and no more of them than this.
const RESOLVED_KEPT_SECONDS: u64 = 3_600;
const RESOLVED_KEPT: usize = 500;
/// Silences at once.
pub(crate) const SILENCES_MAX: usize = 100;
/// The longest silence: what is not wanted for a month is not wanted.
pub(crate) const SILENCE_SECONDS_MAX: u64 = 30 * 24 * 3_600;

/// An alert as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// As it was when it began; `since` is when.
    pub alert: Alert,
    /// Unix seconds; `None` while it fires.
    #[serde(default)]
    pub resolved_at: Option<u64>,
}

/// Alerts in the durable state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alarms {
    /// By [`key`].
    pub known: BTreeMap<String, Known>,
    #[serde(default)]
    pub silences: Vec<Silence>,
}

/// One type with one set of labels: what a cooldown and a `since` belong to.
pub fn key(kind: &str, labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{kind}{{{}}}", labels.join(","))
}

impl Alarms {
    pub(crate) fn fire(&mut self, alert: &Alert) {
        let known = Known { alert: alert.clone(), resolved_at: None };
        self.known.insert(key(&alert.kind, &alert.labels), known);
        self.forget(alert.since);
    }

    /// False when no such alert fires.
    pub(crate) fn resolve(&mut self, key: &str, unix: u64) -> bool {
        let firing = self.known.get_mut(key).filter(|known| known.resolved_at.is_none());
        let Some(known) = firing else { return false };
        known.resolved_at = Some(unix);
        self.forget(unix);
        true
    }

    /// A silence replaces one of the same type and labels; one that ends before it begins only takes that away.
    pub(crate) fn silence(&mut self, silence: &Silence) {
        let same = |other: &Silence| other.kind == silence.kind && other.labels == silence.labels;
        self.silences.retain(|other| !same(other) && other.until > silence.created_at);
        if silence.until > silence.created_at && self.silences.len() < SILENCES_MAX {
            self.silences.push(silence.clone());
        }
    }

    fn forget(&mut self, unix: u64) {
        self.known.retain(|_, known| {
            known.resolved_at.is_none_or(|at| unix.saturating_sub(at) <= RESOLVED_KEPT_SECONDS)
        });
        let over = |known: &Known| known.resolved_at;
        while self.known.values().filter_map(over).count() > RESOLVED_KEPT {
            let oldest = self.known.iter().filter_map(|(key, known)| Some((over(known)?, key.clone()))).min();
            let Some((_, key)) = oldest else { return };
            self.known.remove(&key);
        }
    }

    pub(crate) fn firing(&self) -> impl Iterator<Item = (&String, &Alert)> {
        self.known
            .iter()
            .filter(|(_, known)| known.resolved_at.is_none())
            .map(|(key, known)| (key, &known.alert))
    }

    /// Until when the alert is silent, if it is now.
    pub(crate) fn silenced_until(&self, alert: &Alert, unix: u64) -> Option<u64> {
        let covers = |silence: &&Silence| {
            silence.until > unix
                && silence.kind.as_ref().is_none_or(|kind| *kind == alert.kind)
                && silence.labels.iter().all(|(name, value)| alert.labels.get(name) == Some(value))
        };
        self.silences.iter().filter(covers).map(|silence| silence.until).max()
    }
}

/// What this controller has said, and what it sees.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// When this controller began to look.
    began: Option<Millis>,
    /// The Unix second of the last judgement.
    judged: Option<u64>,
    /// With the words of now.
    firing: Vec<Alert>,
    announced: BTreeMap<String, Announced>,
}

/// The last word on an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announced {
    /// Unix seconds of when it was last said to fire.
    at: u64,
    /// That it is over is still to be said.
    open: bool,
}

impl Alarm {
    /// Whether a firing alert is to be announced now; says so once a cooldown.
    fn says_firing(&mut self, key: &str, unix: u64, cooldown: u64) -> bool {
        if self.announced.get(key).is_some_and(|said| unix.saturating_sub(said.at) < cooldown) {
            return false;
        }
        self.announced.insert(key.to_owned(), Announced { at: unix, open: true });
        true
    }

    /// Whether the end of an alert is to be announced: once, and only of one that was.
    fn says_resolved(&mut self, key: &str) -> bool {
        self.announced.get_mut(key).is_some_and(|said| std::mem::replace(&mut said.open, false))
    }
}

impl Controller {
    /// Judges all conditions, once a second: a look at every step and group would slow down every turn.
    pub(crate) fn watch_alerts(&mut self) {
        if self.alarm.judged == Some(self.unix_now) || !self.has_looked_round() {
            return;
        }
        let mut alarm = std::mem::take(&mut self.alarm);
        let before: Vec<String> = self.state.alarms.firing().map(|(key, _)| key.clone()).collect();
        let cooldown = self.config.settings.alert_cooldown_seconds;
        if alarm.judged.is_none() {
            // What fires already was announced by whoever led before.
            for (key, alert) in self.state.alarms.firing() {
                let at = if self.unix_now.saturating_sub(alert.since) < cooldown { alert.since } else { 0 };
                alarm.announced.insert(key.clone(), Announced { at, open: true });
            }
        }
        let fires_already = |kind: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            before.contains(&key(kind, &labels.collect()))
        };
        let mut firing = self.rules(fires_already);
        firing.sort_by(|a, b| (&a.level, &a.kind, &a.labels).cmp(&(&b.level, &b.kind, &b.labels)));
        firing.truncate(ALERTS_MAX);
        for alert in &mut firing {
            self.begin_or_go_on(&mut alarm, alert, cooldown);
        }
        for key in before {
            if !firing.iter().any(|alert| self::key(&alert.kind, &alert.labels) == key) {
                self.end_alert(&mut alarm, &key);
            }
        }
        alarm.firing = firing;
        alarm.announced.retain(|_, said| said.open || self.unix_now.saturating_sub(said.at) < cooldown);
        alarm.judged = Some(self.unix_now);
        self.alarm = alarm;
    }

    fn begin_or_go_on(&mut self, alarm: &mut Alarm, alert: &mut Alert, cooldown: u64) {
        let key = key(&alert.kind, &alert.labels);
        let known = self.state.alarms.known.get(&key).filter(|known| known.resolved_at.is_none());
        if let Some(known) = known {
            alert.since = known.alert.since;
        } else {
            alert.since = self.unix_now;
            self.record(Record::AlertFired { alert: alert.clone() });
        }
        alert.silenced_until = self.state.alarms.silenced_until(alert, self.unix_now);
        if alert.silenced_until.is_none() && alarm.says_firing(&key, self.unix_now, cooldown) {
            self.out.effects.push(Effect::Announce(alert.clone()));
        }
    }

    fn end_alert(&mut self, alarm: &mut Alarm, key: &str) {
        let unix = self.unix_now;
        let ended = self.state.alarms.known.get(key).map(|known| known.alert.clone());
        self.record(Record::AlertResolved { key: key.to_owned(), unix });
        if let (Some(alert), true) = (ended, alarm.says_resolved(key)) {
            let state = RESOLVED.to_owned();
            self.out.effects.push(Effect::Announce(Alert { state, ..alert }));
        }
    }

    /// Whether what is seen says more than that nothing was looked at yet.
    fn has_looked_round(&mut self) -> bool {
        let began = *self.alarm.began.get_or_insert(self.now);
        let seen = |node| self.observed.view(node).is_some_and(|view| view.reach.is_some());
        self.now.since(began) >= FIRST_LOOK_MAX || self.state.live_nodes().all(seen)
    }

    /// What fires, critical ones first, then what was over within the cooldown.
    pub fn alerts(&self, unix_now: u64) -> Vec<Alert> {
        let alarms = &self.state.alarms;
        let mut alerts: Vec<Alert> = if self.alarm.judged.is_some() {
            self.alarm.firing.clone()
        } else {
            // A follower, or one that has not looked round yet: what the log says.
            alarms.firing().map(|(_, alert)| alert.clone()).collect()
        };
        let cooldown = self.config.settings.alert_cooldown_seconds;
        let over = alarms
            .known
            .values()
            .filter(|known| known.resolved_at.is_some_and(|at| unix_now.saturating_sub(at) < cooldown));
        alerts.extend(over.map(|known| Alert { state: RESOLVED.to_owned(), ..known.alert.clone() }));
        for alert in &mut alerts {
            alert.silenced_until = alarms.silenced_until(alert, unix_now);
        }
        alerts
    }

    /// Silences that are not over.
    pub fn silences(&self, unix_now: u64) -> Vec<Silence> {
        self.state.alarms.silences.iter().filter(|silence| silence.until > unix_now).cloned().collect()
    }

    /// Alerts of a type, or with some labels, are not announced for `seconds`; 0 ends that.
    pub(crate) fn silence(
        &mut self,
        kind: Option<String>,
        labels: BTreeMap<String, String>,
        seconds: u64,
        comment: String,
    ) -> Result<(), String> {
        if kind.is_none() && labels.is_empty() {
            return Err("a silence needs a type of alert or a label: not everything can be silent".to_owned());
        }
        if seconds > SILENCE_SECONDS_MAX {
            return Err(format!("a silence ends within {SILENCE_SECONDS_MAX} seconds (30 days)"));
        }
        if seconds > 0 && self.silences(self.unix_now).len() >= SILENCES_MAX {
            return Err(format!("there are {SILENCES_MAX} silences: end some before making another"));
        }
        let (created_at, until) = (self.unix_now, self.unix_now + seconds);
        self.record(Record::AlertSilenced { silence: Silence { kind, labels, until, comment, created_at } });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::FIRING;
    use crate::bench::{Idle, Size};
    use crate::{Config, Effects, Input};
    use model::{NodeId, Reach, Settings};

    /// Five nodes at rest; the first `away` of them do not answer looks.
    struct Cluster {
        idle: Idle,
        controller: Controller,
        inputs: Vec<Input>,
        now: u64,
    }

    impl Cluster {
        fn open(idle: Idle, snapshot: (model::LogIndex, &[u8]), now: u64) -> Self {
            let settings = Settings { silent_node_seconds: 3_000, ..Settings::default() };
            let config = Config { settings, ..Idle::config() };
            let controller = Controller::open(config, Some(snapshot), []).expect("a legal state");
            Self { idle, controller, inputs: Vec::new(), now }
        }

        fn new() -> Self {
            let idle = Idle::new(Size { nodes: 5, tables: 2, shards: 40 }).expect("good names");
            let (last, snapshot) = idle.snapshot().expect("JSON");
            Self::open(idle, (last, &snapshot), 0)
        }

        /// The same log under a new controller.
        fn restarted(self) -> Self {
            let (last, snapshot) = self.controller.snapshot().expect("JSON");
            Self::open(self.idle, (last, &snapshot), self.now)
        }

        /// `seconds` with `away` nodes silent: what is announced meanwhile.
        fn run(&mut self, seconds: u64, away: usize) -> Vec<(String, String)> {
            let silent: Vec<NodeId> = self.controller.state().nodes.keys().take(away).cloned().collect();
            let mut announced = Vec::new();
            for _ in 0..seconds {
                self.now += 1;
                let inputs = std::mem::take(&mut self.inputs);
                let Effects { effects, .. } =
                    self.controller.tick(Millis(self.now * 1_000), self.now, inputs);
                self.inputs = self.idle.answer(self.controller.epoch(), &effects);
                for input in &mut self.inputs {
                    if let Input::Polled(answer) = input
                        && silent.contains(&answer.node)
                    {
                        (answer.reach, answer.status) = (Reach::Silent, None);
                    }
                }
                announced.extend(effects.into_iter().filter_map(|effect| match effect {
                    Effect::Announce(alert) => Some((alert.kind, alert.state)),
                    _ => None,
                }));
            }
            announced
        }

        fn shown(&self) -> Vec<(String, String, u64)> {
            let alerts = self.controller.alerts(self.now);
            alerts.into_iter().map(|alert| (alert.kind, alert.state, alert.since)).collect()
        }
    }

    fn said(kind: &str, state: &str) -> (String, String) {
        (kind.to_owned(), state.to_owned())
    }

    #[test]
    fn an_alert_begins_is_said_is_over_and_survives_a_restart() {
        let mut cluster = Cluster::new();
        assert!(cluster.run(10, 0).is_empty());
        assert!(cluster.run(10, 1).is_empty(), "80 % answer");
        assert_eq!(cluster.run(10, 2), [said("degraded_cluster", FIRING)]);
        let began = cluster.shown()[0].2;
        assert!((21..=23).contains(&began), "{began}");
        assert_eq!(cluster.controller.dashboard(cluster.now).overall_status, "warning");
        let mut cluster = cluster.restarted();
        assert_eq!(cluster.shown(), [("degraded_cluster".to_owned(), FIRING.to_owned(), began)]);
        assert!(cluster.run(10, 2).is_empty(), "said within the cooldown");
        assert_eq!(cluster.shown()[0].2, began);
        let worse = cluster.run(5, 3);
        assert_eq!(worse, [said("cluster_health", FIRING), said("degraded_cluster", RESOLVED)]);
        assert_eq!(cluster.controller.dashboard(cluster.now).overall_status, "critical");
        assert_eq!(cluster.run(10, 0), [said("cluster_health", RESOLVED)]);
        let states: Vec<String> = cluster.shown().into_iter().map(|(_, state, _)| state).collect();
        assert_eq!(states, [RESOLVED, RESOLVED]);
        assert_eq!(cluster.controller.dashboard(cluster.now).overall_status, "healthy");
        assert!(cluster.run(20, 2).is_empty(), "back within the cooldown");
        assert_eq!(cluster.run(300, 2), [said("degraded_cluster", FIRING)]);
        assert!(cluster.run(200, 2).is_empty());
    }

    #[test]
    fn what_is_silenced_is_shown_and_not_said() {
        let mut cluster = Cluster::new();
        cluster.run(10, 0);
        let kind = || Some("degraded_cluster".to_owned());
        for (kind, labels, seconds) in
            [(None, BTreeMap::new(), 10), (kind(), BTreeMap::new(), SILENCE_SECONDS_MAX + 1)]
        {
            assert!(cluster.controller.silence(kind, labels, seconds, String::new()).is_err());
        }
        cluster.controller.silence(kind(), BTreeMap::new(), 30, "known".to_owned()).expect("taken");
        assert_eq!(cluster.controller.silences(cluster.now).len(), 1);
        assert!(cluster.run(25, 2).is_empty());
        assert_eq!(cluster.controller.alerts(cluster.now)[0].silenced_until, Some(40));
        assert_eq!(cluster.run(10, 2), [said("degraded_cluster", FIRING)], "when the silence is over");
        assert!(cluster.controller.silences(cluster.now).is_empty());
    }

    #[test]
    fn a_restart_ends_nothing_before_every_node_was_looked_at() {
        let mut cluster = Cluster::new();
        cluster.run(10, 3);
        let began = cluster.shown()[0].2;
        let mut cluster = cluster.restarted();
        for _ in 0..20 {
            assert!(cluster.run(1, 3).is_empty());
            assert_eq!(cluster.shown()[0], ("cluster_health".to_owned(), FIRING.to_owned(), began));
        }
        // Over while nobody looked: said once all the same.
        let mut cluster = cluster.restarted();
        assert_eq!(cluster.run(10, 0), [said("cluster_health", RESOLVED)]);
    }

    fn alert(table: &str) -> Alert {
        Alert {
            level: "warning".to_owned(),
            kind: "under_replicated".to_owned(),
            message: String::new(),
            action: String::new(),
            since: 100,
            labels: [("table".to_owned(), table.to_owned())].into(),
            state: FIRING.to_owned(),
            silenced_until: None,
        }
    }

    #[test]
    fn one_is_announced_once_a_cooldown_and_its_end_once() {
        let mut alarm = Alarm::default();
        assert!(!alarm.says_resolved("a"), "never announced");
        assert!(alarm.says_firing("a", 1_000, 300));
        assert!(!alarm.says_firing("a", 1_299, 300));
        assert!(alarm.says_firing("b", 1_299, 300), "another set of labels has its own");
        assert!(alarm.says_firing("a", 1_300, 300), "and again while it lasts");
        assert!(alarm.says_resolved("a"));
        assert!(!alarm.says_resolved("a"));
        assert!(!alarm.says_firing("a", 1_599, 300), "it is back within the cooldown");
        assert!(!alarm.says_resolved("a"), "so its end is nobody's news");
        assert!(alarm.says_firing("a", 1_600, 300));
    }

    #[test]
    fn a_silence_covers_what_it_names_until_its_end() {
        let mut alarms = Alarms::default();
        let silence = |table: Option<&str>, until| Silence {
            kind: Some("under_replicated".to_owned()),
            labels: table.map(|table| ("table".to_owned(), table.to_owned())).into_iter().collect(),
            until,
            comment: String::new(),
            created_at: 100,
        };
        alarms.silence(&silence(Some("t"), 200));
        assert_eq!(alarms.silenced_until(&alert("t"), 199), Some(200));
        assert_eq!(alarms.silenced_until(&alert("t"), 200), None);
        assert_eq!(alarms.silenced_until(&alert("u"), 150), None);
        alarms.silence(&silence(None, 300));
        assert_eq!(alarms.silenced_until(&alert("u"), 150), Some(300));
        alarms.silence(&silence(None, 100));
        assert_eq!(alarms.silenced_until(&alert("u"), 150), None, "ended");
        assert_eq!(alarms.silences.len(), 1);
    }

    #[test]
    fn what_is_over_is_forgotten_after_an_hour() {
        let mut alarms = Alarms::default();
        alarms.fire(&alert("t"));
        let key = key("under_replicated", &alert("t").labels);
        assert_eq!(key, "under_replicated{table=t}");
        assert!(alarms.resolve(&key, 200));
        assert!(!alarms.resolve(&key, 201), "it fires no more");
        alarms.fire(&Alert { since: 3_800, ..alert("u") });
        assert!(alarms.known.contains_key(&key));
        alarms.fire(&Alert { since: 3_801, ..alert("v") });
        assert!(!alarms.known.contains_key(&key));
        for number in 0..600 {
            let labels = [("table".to_owned(), number.to_string())].into();
            alarms.fire(&Alert { labels, ..alert("") });
            let key = super::key("under_replicated", &[("table".to_owned(), number.to_string())].into());
            assert!(alarms.resolve(&key, 4_000));
        }
        assert_eq!(alarms.known.values().filter(|known| known.resolved_at.is_some()).count(), RESOLVED_KEPT);
        assert_eq!(alarms.firing().count(), 2, "what fires is kept");
    }
}
