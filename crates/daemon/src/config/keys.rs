//! Every key of the settings with its valid range: the one list that files, variables, flags and `config show` use.

use model::Settings;
use serde_json::Value;

/// What a value may be; ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    Number {
        min: u64,
        max: u64,
    },
    /// `off` or a number.
    OffOrNumber {
        min: u64,
        max: u64,
    },
    Switch,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::OffOrNumber { min, max } => write!(f, "\"off\" or a whole number from {min} to {max}"),
            Self::Switch => f.write_str("true or false"),
        }
    }
}

/// A value as it was written, before it is known to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Number(u64),
    Switch(bool),
    /// Anything else, as it stood there.
    Text(String),
}

impl Written {
    /// A value from a variable or a flag, where everything is text.
    pub fn from_text(text: &str) -> Self {
        match text.trim() {
            "true" => Self::Switch(true),
            "false" => Self::Switch(false),
            other => other.parse().map_or_else(|_| Self::Text(other.to_owned()), Self::Number),
        }
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Switch(switch) => switch.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub range: Range,
    get: fn(&Settings) -> Option<u64>,
    set: fn(&mut Settings, Option<u64>),
}

impl Key {
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Puts `written` into `settings`; refused values leave them as they were.
    pub fn set(&self, settings: &mut Settings, written: &Written) -> Result<(), Range> {
        let value = match (self.range, written) {
            (Range::Number { min, max } | Range::OffOrNumber { min, max }, Written::Number(number))
                if (min..=max).contains(number) =>
            {
                Some(*number)
            }
            (Range::OffOrNumber { .. }, Written::Text(text)) if text == "off" => None,
            (Range::Switch, Written::Switch(switch)) => Some(u64::from(*switch)),
            _ => return Err(self.range),
        };
        (self.set)(settings, value);
        Ok(())
    }

    /// Whether a running controller takes a new value up. The others are shared with those who do not read them again.
    pub fn reloads(&self) -> bool {
        !ONLY_AT_START.contains(&self.name)
    }

    /// Puts the value that `from` has into `to`.
    pub fn copy(&self, from: &Settings, to: &mut Settings) {
        (self.set)(to, (self.get)(from));
        if self.name == QUEUE_INTERVAL {
            to.queue_interval_is_chosen = from.queue_interval_is_chosen;
        }
    }

    /// The value as `config show` prints it.
    pub fn show(&self, settings: &Settings) -> Value {
        match ((self.get)(settings), self.range) {
            (None, _) => "off".into(),
            (Some(value), Range::Switch) => (value != 0).into(),
            (Some(value), _) => value.into(),
        }
    }
}

macro_rules! number {
    ($field:ident, $min:expr, $max:expr) => {
        Key {
            name: stringify!($field),
            range: Range::Number { min: $min, max: $max },
            get: |settings| Some(u64::from(settings.$field)),
            // The range of a narrower field lies inside its type.
            set: |settings, value| settings.$field = value.unwrap_or_default() as _,
        }
    };
}

macro_rules! switch {
    ($field:ident) => {
        Key {
            name: stringify!($field),
            range: Range::Switch,
            get: |settings| Some(u64::from(settings.$field)),
            set: |settings, value| settings.$field = value == Some(1),
        }
    };
}

const QUEUE_INTERVAL: &str = "queue_processing_interval_seconds";

/// Read once: several controllers judge each other by the first, and the others belong to what was begun with them.
const ONLY_AT_START: [&str; 5] = [
    "leader_timeout_seconds",
    "metrics_retention_days",
    "alert_cooldown_seconds",
    "audit_retention_days",
    "require_tls_for_cluster_communication",
];

const DAY_SECONDS: u64 = 24 * 3600;

/// All keys, in the order of the handbook. Upper ends keep a typing error (an extra digit, milliseconds for
/// seconds) from becoming a wait of years; lower ends keep a loop from spinning.
pub const KEYS: &[Key] = &[
    number!(max_concurrent_rebalances, 1, 100),
    number!(rebalance_timeout_seconds, 10, 7 * DAY_SECONDS),
    Key {
        name: QUEUE_INTERVAL,
        range: Range::Number { min: 1, max: 3600 },
        get: |settings| Some(settings.queue_processing_interval_seconds),
        set: |settings, value| {
            settings.queue_processing_interval_seconds = value.unwrap_or_default();
            settings.queue_interval_is_chosen = true;
        },
    },
    number!(health_check_interval_seconds, 1, 3600),
    number!(metrics_retention_days, 1, 3650),
    number!(alert_cooldown_seconds, 0, DAY_SECONDS),
    switch!(auto_recovery_enabled),
    number!(max_auto_recovery_attempts, 0, 100),
    number!(recovery_backoff_seconds, 1, DAY_SECONDS),
    number!(max_queue_depth, 1, 1_000_000),
    number!(max_operation_duration_seconds, 10, 30 * DAY_SECONDS),
    number!(temp_cluster_cleanup_interval_seconds, 10, 30 * DAY_SECONDS),
    number!(audit_retention_days, 1, 36_500),
    switch!(audit_failure_stops_changes),
    switch!(log_all_rebalancing_operations),
    switch!(log_state_changes),
    switch!(require_tls_for_cluster_communication),
    number!(certificate_warning_days, 1, 3650),
    number!(node_poll_interval_ms, 50, 60_000),
    number!(silent_node_seconds, 1, 3600),
    number!(node_loss_grace_seconds, 0, DAY_SECONDS),
    number!(replication_groups_per_node, 1, 100),
    number!(transfers_in_per_node, 1, 100),
    number!(transfers_out_per_node, 1, 100),
    Key {
        name: "query_p99_budget_ms",
        range: Range::OffOrNumber { min: 1, max: 3_600_000 },
        get: |settings| settings.query_p99_budget_ms,
        set: |settings, value| settings.query_p99_budget_ms = value,
    },
    number!(hold_statements_seconds, 0, 300),
    number!(leader_timeout_seconds, 2, 300),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_field_of_the_settings_is_a_key_and_every_default_is_in_range() {
        let json = serde_json::to_value(Settings::default()).expect("settings are JSON");
        let fields: BTreeSet<_> = json.as_object().expect("an object").keys().cloned().collect();
        let mut keys: BTreeSet<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        // Derived, never set by name.
        keys.insert("queue_interval_is_chosen".to_owned());
        assert_eq!(fields, keys);
        for settings in [Settings::default(), Settings::development(), Settings::staging()] {
            for key in KEYS {
                let shown = match key.show(&settings) {
                    Value::String(text) => Written::Text(text),
                    other => Written::from_text(&other.to_string()),
                };
                let mut copy = settings.clone();
                key.set(&mut copy, &shown).unwrap_or_else(|range| panic!("{}: {range}", key.name));
                copy.queue_interval_is_chosen = settings.queue_interval_is_chosen;
                assert_eq!(copy, settings, "{}", key.name);
            }
        }
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        let mut settings = Settings::default();
        for (name, written) in [
            ("silent_node_seconds", Written::Number(0)),
            ("silent_node_seconds", Written::Text("off".into())),
            ("auto_recovery_enabled", Written::Number(1)),
            ("query_p99_budget_ms", Written::Number(0)),
            ("replication_groups_per_node", Written::Number(1 << 40)),
        ] {
            let key = Key::named(name).expect("a key");
            assert_eq!(key.set(&mut settings, &written), Err(key.range), "{name}");
        }
        assert_eq!(settings, Settings::default());
    }
}
