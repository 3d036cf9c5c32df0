//! Commands that give orders: nodes drained and removed, moves begun, held and made by hand.

use super::ask::{api, told_text};
use crate::args::{Common, GroupCommand, MoveArgs, NodeCommand, RebalanceCommand};
use crate::output::{self, CommandError};
use model::NodeId;
use model::api::{MoveBody, RebalanceBody, RecoverBody};
use model::wire::RebalanceOrder;
use serde_json::json;

pub async fn node(common: &Common, order: NodeCommand) -> Result<(), CommandError> {
    let api = api(common)?;
    let (id, told, text) = match order {
        NodeCommand::List => return super::ask::nodes(common).await,
        NodeCommand::Drain { id } => {
            api.node_order(&id, "drain").await?;
            (id, "draining", "its copies move away: `shardwright node list` shows `drained` when it is empty")
        }
        NodeCommand::Undrain { id } => {
            api.node_order(&id, "undrain").await?;
            (id, "active", "it takes copies again")
        }
        NodeCommand::Remove { id } => {
            api.remove_node(&id).await?;
            (id, "removed", "it is no member of the cluster any more and can be stopped")
        }
    };
    let shown = json!({ "node": id, "state": told });
    output::print(common.output, &shown, |_| format!("node {id} is {told}: {text}"))
}

pub async fn group(common: &Common, command: GroupCommand) -> Result<(), CommandError> {
    let GroupCommand::Recover { group, from } = command;
    let body = RecoverBody { from: node_id(&from)? };
    api(common)?.recover_group(&group, &body).await?;
    let shown = json!({ "group": group, "from": from });
    output::print(common.output, &shown, |_| {
        format!(
            "group {group} comes back from the copy on {from}: `shardwright status` tells when it is whole"
        )
    })
}

fn node_id(text: &str) -> Result<NodeId, CommandError> {
    NodeId::new(text)
        .map_err(|error| CommandError::usage(error.to_string(), "`shardwright node list` shows the nodes"))
}

pub async fn rebalance(common: &Common, command: RebalanceCommand) -> Result<(), CommandError> {
    let (name, order) = match command {
        RebalanceCommand::Plan { name } => (name, RebalanceOrder::DryRun),
        RebalanceCommand::Start { name } => (name, RebalanceOrder::Start),
        RebalanceCommand::Status { name } => (name, RebalanceOrder::Status),
        RebalanceCommand::Pause { name } => (name, RebalanceOrder::Pause),
        RebalanceCommand::Resume { name } => (name, RebalanceOrder::Resume),
        RebalanceCommand::Stop { name, now: false } => (name, RebalanceOrder::Stop),
        RebalanceCommand::Stop { name, now: true } => (name, RebalanceOrder::StopNow),
        RebalanceCommand::Reset { name } => (name, RebalanceOrder::Reset),
    };
    let api = api(common)?;
    let told = if order == RebalanceOrder::Status {
        api.rebalance_status(&name).await?
    } else {
        api.rebalance(&name, RebalanceBody { order }).await?
    };
    output::print(common.output, &told, told_text)
}

pub async fn move_shard(common: &Common, args: &MoveArgs) -> Result<(), CommandError> {
    let (from, to) = (node_id(&args.from)?, node_id(&args.to)?);
    let body = MoveBody { shard: args.shard, from, to, split: args.split };
    output::print(common.output, &api(common)?.move_shard(&args.name, &body).await?, told_text)
}
