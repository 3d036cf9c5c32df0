//! Commands that watch: figures and alerts.

use super::ask::{api, or_dash};
use crate::args::{AlertsCommand, Common};
use crate::output::{self, CommandError, TextTable};
use model::api::{AlertList, Metrics, SilenceBody, SilenceList};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

pub async fn metrics(common: &Common) -> Result<(), CommandError> {
    output::print(common.output, &api(common)?.metrics().await?, metrics_text)
}

pub async fn alerts(common: &Common, command: Option<AlertsCommand>) -> Result<(), CommandError> {
    let api = api(common)?;
    match command {
        None => output::print(common.output, &api.alerts().await?, alerts_text),
        Some(AlertsCommand::Silences) => output::print(common.output, &api.silences().await?, silences_text),
        Some(AlertsCommand::Silence { kind, label, seconds, comment }) => {
            let body = SilenceBody { kind, labels: label.into_iter().collect(), seconds, comment };
            api.silence(&body).await?;
            output::print(common.output, &json!({ "silenced": body }), |_| {
                let what = named(body.kind.as_deref(), &body.labels);
                match seconds {
                    0 => format!("{what} is announced again"),
                    seconds => format!("{what} is not announced for {seconds} s"),
                }
            })
        }
    }
}

/// A moment as text.
pub fn time(unix: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix)).to_string()
}

fn named(kind: Option<&str>, labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let kind = kind.unwrap_or("every alert");
    if labels.is_empty() { kind.to_owned() } else { format!("{kind} ({})", labels.join(", ")) }
}

fn alerts_text(list: &AlertList) -> String {
    if list.alerts.is_empty() {
        return "no alert".to_owned();
    }
    let texts = list.alerts.iter().map(|alert| {
        let silent = alert.silenced_until.map(|until| format!(", silenced until {}", time(until)));
        format!(
            "{} {} ({}{}{}{}): {}\n  {}",
            alert.level,
            named(Some(&alert.kind), &alert.labels),
            alert.state,
            if alert.state == "firing" { " since " } else { ", it had begun " },
            time(alert.since),
            silent.unwrap_or_default(),
            alert.message,
            alert.action
        )
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn silences_text(list: &SilenceList) -> String {
    let mut table = TextTable::new(["alerts", "until", "comment"]);
    for silence in &list.silences {
        let what = named(silence.kind.as_deref(), &silence.labels);
        table.row([what, time(silence.until), silence.comment.clone()]);
    }
    table.to_string()
}

/// Every figure under its name, as in the JSON.
fn metrics_text(metrics: &Metrics) -> String {
    let mut table = TextTable::new(["group", "figure", "value"]);
    // The shapes are maps of numbers, texts and maps: nothing of them can fail to be JSON.
    let json = serde_json::to_value(metrics).unwrap_or_default();
    for (group, figures) in json.as_object().into_iter().flatten() {
        for (name, value) in figures.as_object().into_iter().flatten() {
            table.row([group.clone(), name.clone(), shown(value)]);
        }
    }
    table.to_string()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => or_dash(None::<String>),
        Value::Object(map) if map.is_empty() => or_dash(None::<String>),
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::api::Alert;

    #[test]
    fn an_alert_says_since_when_and_what_to_do() {
        let alert = Alert {
            level: "warning".into(),
            kind: "under_replicated".into(),
            message: "shard 1 of t".into(),
            action: "wait".into(),
            since: 1_000,
            labels: [("table".to_owned(), "t".to_owned())].into(),
            state: "firing".into(),
            silenced_until: Some(2_000),
        };
        let over = Alert { state: "resolved".into(), silenced_until: None, ..alert.clone() };
        let text = alerts_text(&AlertList { alerts: vec![over] });
        assert!(text.contains("(resolved, it had begun 1970-01-01T00:16:40Z): shard 1"), "{text}");
        let text = alerts_text(&AlertList { alerts: vec![alert] });
        assert_eq!(
            text,
            "warning under_replicated (table=t) (firing since 1970-01-01T00:16:40Z, silenced until \
             1970-01-01T00:33:20Z): shard 1 of t\n  wait"
        );
    }

    #[test]
    fn every_figure_is_shown_under_its_name() {
        let metrics = Metrics {
            rebalancing: model::api::RebalancingMetrics::default(),
            queue: model::api::QueueMetrics::default(),
            cluster: model::api::ClusterMetrics::default(),
        };
        let text = metrics_text(&metrics);
        for name in ["total_tables", "queue_depth_by_node", "cluster_health_percentage", "master_node"] {
            assert!(text.contains(name), "{text}");
        }
    }
}
