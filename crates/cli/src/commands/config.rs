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

/// File, variables and flags.
pub fn sources(file: Option<PathBuf>, args: SettingArgs) -> ConfigSources {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !NO_SETTINGS.contains(&name.as_str()))
        .collect();
    let mut flags: BTreeMap<String, String> = args.set.into_iter().collect();
    flags.extend(args.environment.map(|name| ("environment".to_owned(), name)));
    ConfigSources { file, variables, flags }
}

/// What they say; of mistakes all in one message.
pub fn read(sources: &ConfigSources) -> Result<Loaded, CommandError> {
    load(sources).map_err(|errors| CommandError::complete(Failure::Usage, errors))
}

/// Every mistake on a line of its own.
fn check(sources: &ConfigSources, output: Output) -> Result<Loaded, CommandError> {
    load(sources).map_err(|errors| {
        let mistakes: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let whole = CommandError::complete(Failure::Usage, &errors);
        if let (Output::Table, Some((last, others))) = (output, mistakes.split_last()) {
            for mistake in others {
                output::line_err(&format!("error: {mistake}"));
            }
            return CommandError::complete(Failure::Usage, last);
        }
        let error = json!({ "code": "usage", "message": whole.message, "hint": "" });
        let result = json!({ "ok": false, "mistakes": mistakes, "error": error });
        CommandError { result: Some(Box::new(result)), ..whole }
    })
}

pub fn run(command: ConfigCommand, file: Option<PathBuf>, output: Output) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Show(args) => output::print(output, &read(&sources(file, args))?.show(), text),
        ConfigCommand::Check(args) => {
            let checked = check(&sources(file, args), output)?;
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
