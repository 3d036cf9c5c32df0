//! `config show|check`, and the settings that `serve` starts with.

use crate::args::{ConfigCommand, SettingArgs};
use crate::output::{self, CommandError, Failure, Output, TextTable};
use daemon::config::{ConfigShow, ConfigSources, Loaded, Source, load};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Variables with the prefix that belong to the tests and to the sidecar's parent, not to the settings.
const NO_SETTINGS: [&str; 4] = [
    "SHARDWRIGHT_SHARED",
    "SHARDWRIGHT_SEARCHD",
    "SHARDWRIGHT_CHAOS_ROUNDS",
    manticore::handover::EXIT_WITH_STDIN_ENV,
];

/// Reads file, variables and flags.
pub fn loaded(file: Option<PathBuf>, args: SettingArgs) -> Result<Loaded, CommandError> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !NO_SETTINGS.contains(&name.as_str()))
        .collect();
    let mut flags: BTreeMap<String, String> = args.set.into_iter().collect();
    flags.extend(args.environment.map(|name| ("environment".to_owned(), name)));
    load(&ConfigSources { file, variables, flags })
        .map_err(|error| CommandError::complete(Failure::Usage, error))
}

pub fn run(command: ConfigCommand, file: Option<PathBuf>, output: Output) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Show(args) => output::print(output, &loaded(file, args)?.show(), text),
        ConfigCommand::Check(args) => {
            let checked = loaded(file, args)?;
            let set = checked.sources.values().filter(|source| **source != Source::Default).count();
            let object = json!({ "ok": true, "environment": checked.environment, "not_default": set });
            output::print(output, &object, |_| {
                format!("the settings are valid; {set} differ from the defaults")
            })
        }
    }
}

fn text(show: &ConfigShow) -> String {
    let mut table = TextTable::new(["setting", "value", "source"]);
    let word = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    table.row([
        "environment".to_owned(),
        json!(show.environment).as_str().unwrap_or_default().to_owned(),
        String::new(),
    ]);
    for (key, setting) in &show.settings {
        table.row([key.clone(), word(&setting.value), word(&json!(setting.source))]);
    }
    table.to_string()
}
