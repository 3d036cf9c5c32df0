//! Settings from a profile, a file, the environment and flags: what holds, and where each value came from.
//!
//! Later sources win: profile, file, variable, flag. A key that is not known or a value out of its range is
//! refused with its place and the valid range; nothing is ignored and nothing is guessed.

mod file;
pub mod keys;

use keys::{KEYS, Key, Written};
use model::Settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The prefix of variables: `SHARDWRIGHT_SILENT_NODE_SECONDS`.
pub const VARIABLE_PREFIX: &str = "SHARDWRIGHT_";

/// Variables of the binary and of its tests that are no settings.
pub const OTHER_VARIABLES: &[&str] = &[
    "SHARDWRIGHT_ADVERTISE",
    "SHARDWRIGHT_ALERT_WEBHOOK",
    "SHARDWRIGHT_API",
    "SHARDWRIGHT_AUDIT_SYSLOG",
    "SHARDWRIGHT_CA_FILE",
    "SHARDWRIGHT_CERT_FILE",
    "SHARDWRIGHT_CHAOS_ROUNDS",
    "SHARDWRIGHT_CONFIG",
    "SHARDWRIGHT_DIR",
    "SHARDWRIGHT_ETCD_REQUIRED",
    "SHARDWRIGHT_EXIT_WITH_STDIN",
    "SHARDWRIGHT_KEY_FILE",
    "SHARDWRIGHT_LOG",
    "SHARDWRIGHT_LOG_FORMAT",
    "SHARDWRIGHT_OTLP_ENDPOINT",
    "SHARDWRIGHT_OUTPUT",
    "SHARDWRIGHT_PROMETHEUS_REQUIRED",
    "SHARDWRIGHT_SEARCHD",
    "SHARDWRIGHT_SHARED",
    "SHARDWRIGHT_STORE",
    "SHARDWRIGHT_TLS_CERT",
    "SHARDWRIGHT_TLS_CLIENT_CA",
    "SHARDWRIGHT_TLS_KEY",
    "SHARDWRIGHT_TOKEN_FILE",
    "SHARDWRIGHT_URL",
];

/// The set of defaults to start from. An unknown name is production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    #[default]
    Production,
    Development,
    Staging,
}

impl Environment {
    pub fn from_name(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "development" => Self::Development,
            "staging" => Self::Staging,
            _ => Self::Production,
        }
    }

    pub fn settings(self) -> Settings {
        match self {
            Self::Production => Settings::default(),
            Self::Development => Settings::development(),
            Self::Staging => Settings::staging(),
        }
    }
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Default,
    Profile,
    File,
    Env,
    Flag,
}

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {error}; give --config an existing file", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{place}: {reason}; correct the file")]
    Syntax { place: String, reason: String },
    #[error("{place}: '{key}' is no setting; {hint}")]
    UnknownKey { place: String, key: String, hint: String },
    #[error("{place}: {key} = {value} is not valid: it must be {range}")]
    OutOfRange { place: String, key: String, value: String, range: keys::Range },
    #[error("{place}: environment must be a text: production, development or staging")]
    Environment { place: String },
}

/// Every mistake that was found, in the order of the sources.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// What to read; the caller hands in the process's environment and flags.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    pub file: Option<PathBuf>,
    /// Those without the prefix are passed over.
    pub variables: BTreeMap<String, String>,
    /// By key, also `environment`.
    pub flags: BTreeMap<String, String>,
}

/// The settings that hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub environment: Environment,
    pub settings: Settings,
    pub sources: BTreeMap<&'static str, Source>,
}

/// `config show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigShow {
    pub environment: Environment,
    pub settings: BTreeMap<String, ShownSetting>,
}

/// One value with its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownSetting {
    pub value: Value,
    pub source: Source,
}

/// One assignment, with the place to name when it is refused.
struct Assignment {
    place: String,
    key: String,
    value: Written,
    source: Source,
}

impl Loaded {
    /// What holds after a new reading of the sources, given that `self` holds: of the settings that only a start takes up
    /// the old values stay, and are named.
    pub fn reloaded(&self, read: Self) -> (Self, Vec<&'static str>) {
        let mut held = read;
        let mut kept = Vec::new();
        for key in KEYS.iter().filter(|key| !key.reloads()) {
            if key.show(&held.settings) != key.show(&self.settings) {
                key.copy(&self.settings, &mut held.settings);
                held.sources.insert(key.name, self.sources[key.name]);
                kept.push(key.name);
            }
        }
        (held, kept)
    }

    /// The defaults of `environment` alone.
    pub fn profile(environment: Environment) -> Self {
        let (base, settings) = (Settings::default(), environment.settings());
        let sources = KEYS
            .iter()
            .map(|key| {
                let same = key.show(&base) == key.show(&settings);
                (key.name, if same { Source::Default } else { Source::Profile })
            })
            .collect();
        Self { environment, settings, sources }
    }

    pub fn show(&self) -> ConfigShow {
        let settings = KEYS
            .iter()
            .map(|key| {
                let shown = ShownSetting { value: key.show(&self.settings), source: self.sources[key.name] };
                (key.name.to_owned(), shown)
            })
            .collect();
        ConfigShow { environment: self.environment, settings }
    }

    fn assign(&mut self, assignment: Assignment) -> Result<(), ConfigError> {
        let Assignment { place, key, value, source } = assignment;
        let Some(known) = Key::named(&key) else {
            return Err(ConfigError::UnknownKey { place, hint: nearest(&key), key });
        };
        known.set(&mut self.settings, &value).map_err(|range| ConfigError::OutOfRange {
            place,
            key,
            value: value.to_string(),
            range,
        })?;
        self.sources.insert(known.name, source);
        Ok(())
    }
}

/// Reads everything and says what holds, or every mistake there is.
pub fn load(sources: &ConfigSources) -> Result<Loaded, ConfigErrors> {
    let (mut assignments, mut errors) = (Vec::new(), Vec::new());
    match sources.file.as_ref().map(|path| (path, std::fs::read_to_string(path))) {
        None => {}
        Some((path, Ok(text))) => assignments.extend(file::read(path, &text, &mut errors)),
        Some((path, Err(error))) => errors.push(ConfigError::Unreadable { path: path.clone(), error }),
    }
    assignments.extend(from_variables(&sources.variables));
    assignments.extend(sources.flags.iter().map(|(key, value)| Assignment {
        place: format!("flag {key}"),
        key: key.clone(),
        value: Written::from_text(value),
        source: Source::Flag,
    }));
    let environment = environment(&assignments).unwrap_or_else(|error| {
        errors.push(error);
        Environment::default()
    });
    let mut loaded = Loaded::profile(environment);
    for assignment in assignments {
        if assignment.key != "environment" {
            errors.extend(loaded.assign(assignment).err());
        }
    }
    if errors.is_empty() { Ok(loaded) } else { Err(ConfigErrors(errors)) }
}

/// The last one that names it, since later sources win.
fn environment(assignments: &[Assignment]) -> Result<Environment, ConfigError> {
    match assignments.iter().rfind(|assignment| assignment.key == "environment") {
        None => Ok(Environment::default()),
        Some(Assignment { value: Written::Text(name), .. }) => Ok(Environment::from_name(name)),
        Some(assignment) => Err(ConfigError::Environment { place: assignment.place.clone() }),
    }
}

fn from_variables(variables: &BTreeMap<String, String>) -> impl Iterator<Item = Assignment> {
    variables.iter().filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str())).filter_map(
        |(name, value)| {
            Some(Assignment {
                place: format!("variable {name}"),
                key: name.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase(),
                value: Written::from_text(value),
                source: Source::Env,
            })
        },
    )
}

/// The key that shares most of its beginning and end with `key`, as a hint for a typing error.
fn nearest(key: &str) -> String {
    let shared = |known: &str| {
        let front = known.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
        let back = known.bytes().rev().zip(key.bytes().rev()).take_while(|(a, b)| a == b).count();
        front + back
    };
    match KEYS.iter().max_by_key(|known| shared(known.name)) {
        Some(known) if shared(known.name) * 2 > key.len() => {
            format!("did you mean '{}' ({})? `config show` lists them all", known.name, known.range)
        }
        _ => "`config show` lists them all".to_owned(),
    }
}

/// The place of a byte in a file, for messages.
fn place(path: &Path, text: &str, at: usize) -> String {
    format!("{}:{}", path.display(), line(text, at))
}

/// The line of a byte, from 1.
fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
