//! What each command does; one file for each family.

mod ask;
mod audit;
mod backup;
mod bench;
mod config;
pub(crate) mod gate;
mod import;
mod orders;
mod plan;
mod processes;
mod sim;
mod token;
mod top;
mod watch;

use crate::args::{Cli, Command, DevArgs, DevChange, NodeArgs, NodeCommand};
use crate::demo;
use crate::dev::{self, ClusterOptions, Request};
use crate::output::{self, CommandError};
use model::NodeId;
use serde_json::json;
use std::path::Path;

/// Carries out a command. Runs on the main thread, which lives as long as the process.
pub async fn run(cli: Cli) -> Result<(), CommandError> {
    let common = cli.common;
    match cli.command {
        Command::Demo(args) => demo::run(&args, common.config, common.output).await,
        Command::Dev(DevArgs { change: Some(change), .. }) => change_dev(change, common.output).await,
        Command::Dev(DevArgs { change: None, run }) => {
            let options = ClusterOptions {
                nodes: run.nodes,
                api: run.api,
                mysql_base: run.mysql_base,
                http_base: run.http_base,
                searchd: run.searchd,
                config: common.config,
            };
            dev::run(&run.dir, options, common.output).await
        }
        Command::Become(args) => Err(dev::become_program(&args.command)),
        Command::Node(NodeArgs { command: Some(NodeCommand::List), .. }) => ask::nodes(&common).await,
        Command::Node(NodeArgs { command: Some(order), .. }) => orders::node(&common, order).await,
        Command::Node(NodeArgs { command: None, run: Some(run) }) => processes::node(run, common.tls()).await,
        Command::Node(NodeArgs { command: None, run: None }) => {
            Err(CommandError::usage("`node` needs --dir, --mysql and --http", "or ask for `node list`"))
        }
        Command::Serve(args) => {
            Box::pin(processes::serve(args, common.config.clone(), common.token_file.clone(), common.tls()))
                .await
        }
        Command::Sidecar(args) => processes::sidecar(args, common.token_file.clone(), common.tls()).await,
        Command::Gate(args) => gate::run(&common, &args).await,
        Command::Group(command) => orders::group(&common, command).await,
        Command::Table(command) => ask::table(&common, command).await,
        Command::Rebalance(command) => orders::rebalance(&common, command).await,
        Command::Move(args) => orders::move_shard(&common, &args).await,
        Command::Backup(command) => backup::run(&common, command).await,
        Command::Status => ask::status(&common).await,
        Command::Metrics => watch::metrics(&common).await,
        Command::Alerts(args) => watch::alerts(&common, args.command).await,
        Command::Top(args) => top::run(&common, args.interval).await,
        Command::Health => ask::health(&common).await,
        Command::Recover => orders::recover(&common).await,
        Command::Cleanup => orders::clean_up(&common).await,
        Command::Import(args) => import::run(&common, &args).await,
        Command::Config(command) => config::run(command, common.config, common.output),
        Command::Audit(command) => audit::run(&common, command).await,
        Command::Token(command) => token::run(&common, command).await,
        Command::Plan(args) => plan::run(&args, common.output),
        Command::Bench(command) => bench::run(command, common.output),
        Command::Sim(args) => sim::run(&args, common.output),
    }
}

async fn change_dev(change: DevChange, output: output::Output) -> Result<(), CommandError> {
    let ask = async |dir: &Path, request| dev::ask(dir, request).await;
    let (node, what): (NodeId, &str) = match change {
        DevChange::Add(dir) => (ask(&dir.dir, Request::Add).await?, "joined"),
        DevChange::Kill(node) => (ask(&node.dir.dir, Request::Kill(node.node)).await?, "was killed"),
        DevChange::Stop(node) => (ask(&node.dir.dir, Request::Stop(node.node)).await?, "was stopped"),
        DevChange::Start(node) => (ask(&node.dir.dir, Request::Start(node.node)).await?, "was started"),
    };
    output::print(output, &json!({ "node": node }), |_| format!("node {node} {what}"))
}
