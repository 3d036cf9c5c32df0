//! The command line as types, with the help that teaches it.

#![allow(clippy::doc_markdown, reason = "these are help texts: a terminal shows marks as they are")]

mod ask;
mod run;
mod tools;

pub use ask::*;
pub use run::*;
pub use tools::*;

use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use daemon::tls::ClientTls;
use std::path::PathBuf;

/// Keeps the sharded tables of a Manticore Search cluster complete, balanced and reachable.
#[derive(Clone, Debug, Parser)]
#[command(name = "shardwright", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Begin with:\n  shardwright demo    see a table survive the loss of a node\n  \
                        shardwright dev     a cluster to try things on\n\n\
                        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 nobody answers.")]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How results are printed
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_enum,
        default_value_t,
        env = "SHARDWRIGHT_OUTPUT"
    )]
    pub output: Output,
    /// Settings of a controller (TOML, one `key = value` a line; `config show` lists the keys)
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        env = "SHARDWRIGHT_CONFIG"
    )]
    pub config: Option<PathBuf>,
    /// The controller to ask, https://HOST:PORT, or http:// on this machine; by default that of `dev` in this directory, else
    /// http://127.0.0.1:9380
    #[arg(long, global = true, help_heading = "Common options", value_name = "URL", env = "SHARDWRIGHT_URL")]
    pub url: Option<String>,
    /// The controller's token (the file `token` in its directory, readable by its owner alone); only changes need it
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        env = "SHARDWRIGHT_TOKEN_FILE"
    )]
    pub token_file: Option<PathBuf>,
    /// Trusts this CA alone (PEM) towards controllers, webhook and collector; by default those of the system
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        env = "SHARDWRIGHT_CA_FILE"
    )]
    pub ca_file: Option<PathBuf>,
    /// A certificate (PEM) to show to who asks for one
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        requires = "key_file",
        env = "SHARDWRIGHT_CERT_FILE"
    )]
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM), readable by its owner alone
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE",
        requires = "cert_file",
        env = "SHARDWRIGHT_KEY_FILE"
    )]
    pub key_file: Option<PathBuf>,
    /// How lines of the log are written: for people, or one JSON object each
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_enum,
        default_value_t,
        env = "SHARDWRIGHT_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
    /// Kills this process when the one that started it ends, which has this id
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub die_with_parent: Option<u32>,
}

impl Common {
    /// What is trusted and shown towards others.
    pub fn tls(&self) -> ClientTls {
        ClientTls { ca: self.ca_file.clone(), identity: self.cert_file.clone().zip(self.key_file.clone()) }
    }
}

/// How the log of a process is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Demo(DemoArgs),
    Dev(DevArgs),
    #[command(hide = true)]
    Become(BecomeArgs),
    Node(NodeArgs),
    Serve(ServeArgs),
    Sidecar(SidecarArgs),
    Gate(GateArgs),
    #[command(subcommand)]
    Group(GroupCommand),
    #[command(subcommand)]
    Table(TableCommand),
    #[command(subcommand)]
    Rebalance(RebalanceCommand),
    Move(MoveArgs),
    #[command(subcommand)]
    Backup(BackupCommand),
    /// What the cluster is doing: health, operations, queue, alerts
    #[command(after_help = "Example: shardwright status --output json | jq .overall_status")]
    Status,
    /// The figures of operations, queue and cluster
    #[command(after_help = "Example: shardwright metrics --output json | jq .queue.total_queue_depth")]
    Metrics,
    Alerts(AlertsArgs),
    Top(TopArgs),
    /// A check-up: what is wrong, what may come to be, and what to type next
    #[command(after_help = "Example: shardwright health --output json | jq -r '.recommendations[]'")]
    Health,
    /// Removes orphaned clusters, resets what is stuck, and tries again what failed
    #[command(after_help = "A controller does this by itself, unless auto_recovery_enabled is false.")]
    Recover,
    /// Forgets what is older than its retention: failed operations (24 h), finished ones (7 d), old state (30 d)
    #[command(
        after_help = "A controller does this by itself, once in temp_cluster_cleanup_interval_seconds."
    )]
    Cleanup,
    Import(ImportArgs),
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(subcommand)]
    Audit(AuditCommand),
    #[command(subcommand)]
    Token(TokenCommand),
    Plan(PlanArgs),
    #[command(subcommand)]
    Bench(BenchCommand),
    Sim(SimArgs),
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it as KEY=VALUE; `shardwright config show` lists the keys".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn node_runs_one_or_lists_all() {
        let list = parse("shardwright node list --output json").expect("valid");
        assert!(matches!(list.command, Command::Node(NodeArgs { command: Some(NodeCommand::List), .. })));
        let run = parse("shardwright node --dir d --mysql 127.0.0.1:1 --http 127.0.0.1:2").expect("valid");
        assert!(matches!(run.command, Command::Node(NodeArgs { command: None, run: Some(_) })));
        assert!(parse("shardwright node --dir d").is_err());
        assert!(parse("shardwright node").is_err());
    }

    #[test]
    fn global_options_stand_anywhere() {
        let before = parse("shardwright --output json --url http://x:1 status").expect("valid");
        let after = parse("shardwright status --output json --url http://x:1").expect("valid");
        assert_eq!(before.common.output, after.common.output);
        assert_eq!(before.common.url, after.common.url);
    }

    #[test]
    fn what_does_not_exist_yet_is_a_usage_error() {
        for unknown in ["gate", "backup delete", "table copy t", "audit delete", "node drain"] {
            assert!(parse(&format!("shardwright {unknown}")).is_err(), "{unknown}");
        }
    }
}
