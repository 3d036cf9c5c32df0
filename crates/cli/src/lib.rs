//! Everything behind the `shardwright` command line: commands, the embedded clusters of `dev` and `demo`, and the
//! recording client that judges them from outside.
//!
//! Clocks, randomness and processes live here, so the rule against them ends here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod api;
mod args;
mod commands;
mod demo;
pub mod dev;
pub mod documents;
pub mod load;
mod log;
pub mod output;
pub mod random;
mod sidecar_flags;
mod signals;
pub mod story;

use args::{Cli, Command, LogFormat};
use clap::Parser;
use clap::error::ErrorKind;
use output::{CommandError, Failure, Output};
use std::ffi::OsString;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The whole program.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let wants_json = wants_json(&arguments);
    let cli = match Cli::try_parse_from(sidecar_flags::without_unknown(arguments)) {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error, wants_json),
    };
    let output = cli.common.output;
    let ended = run(cli);
    log::let_go();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(output, &error);
            ExitCode::from(error.failure.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CommandError> {
    if let Some(parent) = cli.common.die_with_parent {
        dev::die_with_parent(parent)?;
    }
    start_logging(&cli.command, cli.common.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        CommandError::failed(
            format!("cannot start threads: {error}"),
            "check the limits on processes and memory",
        )
    })?;
    runtime.block_on(commands::run(cli))
}

/// Processes of a cluster log what they do on stderr; other commands only what is wrong. `SHARDWRIGHT_LOG` says
/// otherwise, as in `SHARDWRIGHT_LOG=debug` or `SHARDWRIGHT_LOG=daemon=trace`.
fn start_logging(command: &Command, format: LogFormat) {
    let runs_long = matches!(command, Command::Serve(_) | Command::Sidecar(_))
        || matches!(command, Command::Node(node) if node.command.is_none());
    let default = if runs_long { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("SHARDWRIGHT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    if matches!(command, Command::Sidecar(_)) {
        log::hold_back();
    }
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| log::Log).with_ansi(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
}

/// Help and version are answers; everything else is a mistake in the command line, told in one line as any error.
fn refuse_usage(error: &clap::Error, wants_json: bool) -> ExitCode {
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_help && !(wants_json && error.use_stderr()) {
        // A reader that went away is no failure.
        let _closed = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    let (what, usage) = text.split_once("Usage:").unwrap_or((&text, ""));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = words(what)
        .replace(" For more information, try '--help'.", "")
        .trim_start_matches("error: ")
        .to_owned();
    let usage = words(usage.split("\n\n").next().unwrap_or_default());
    let hint = match usage.as_str() {
        "" => "see `shardwright --help`".to_owned(),
        usage => format!("usage: {usage} (more with --help)"),
    };
    let output = if wants_json { Output::Json } else { Output::Table };
    output::report(output, &CommandError::usage(message, hint));
    ExitCode::from(Failure::Usage.exit_code())
}

/// Whether JSON was asked for, even where the rest of the command line cannot be read.
fn wants_json(arguments: &[OsString]) -> bool {
    let flag = arguments.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    let joined = arguments.iter().any(|one| one == "--output=json");
    flag || joined || std::env::var_os("SHARDWRIGHT_OUTPUT").is_some_and(|value| value == "json")
}
