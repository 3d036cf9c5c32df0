//! Commands that give orders: nodes drained and removed, moves begun, held and made by hand.

use super::ask::{api, told_text};
use crate::args::{Common, GroupCommand, MoveArgs, NodeCommand, RebalanceCommand};
use crate::output::{self, CommandError, Failure, TextTable};
use model::NodeId;
use model::api::{MoveBody, RecoverBody};
use model::operate::{RebalancePlan, RebalanceProgress, RebalanceReply, Refused};
use model::wire::RebalanceOrder;
use serde_json::json;
use std::fmt::Write;

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
    let api = api(common)?;
    let (name, order) = match command {
        RebalanceCommand::Plan { name } => {
            return output::print(common.output, &api.rebalance_plan(&name).await?, plan_text);
        }
        RebalanceCommand::Status { name } => {
            return output::print(common.output, &api.rebalance_status(&name).await?, progress_text);
        }
        RebalanceCommand::Start { name } => (name, RebalanceOrder::Start),
        RebalanceCommand::Pause { name } => (name, RebalanceOrder::Pause),
        RebalanceCommand::Resume { name } => (name, RebalanceOrder::Resume),
        RebalanceCommand::Stop { name, now: false } => (name, RebalanceOrder::Stop),
        RebalanceCommand::Stop { name, now: true } => (name, RebalanceOrder::StopNow),
        RebalanceCommand::Reset { name } => (name, RebalanceOrder::Reset),
    };
    let reply = api.rebalance(&name, order).await?;
    let failure = match &reply {
        RebalanceReply::Done { .. } => {
            return output::print(common.output, &reply, |_| reply_text(&name, &reply));
        }
        RebalanceReply::Refused { reason: Refused::Exception { .. }, .. } => Failure::Failed,
        RebalanceReply::Refused { .. } => Failure::Refused,
    };
    let hint = "`shardwright rebalance plan` shows every check; nothing was done";
    let result = serde_json::to_value(&reply).ok().map(Box::new);
    Err(CommandError { result, ..CommandError::new(failure, reply_text(&name, &reply), hint) })
}

fn reply_text(name: &str, reply: &RebalanceReply) -> String {
    match reply {
        RebalanceReply::Done { message, operation, status, .. } => {
            let operation = operation.map_or(String::new(), |id| format!(", from operation {id} on"));
            format!("{name} is {status}{operation}: {message}")
        }
        RebalanceReply::Refused { reason, .. } => reason.to_string(),
    }
}

fn plan_text(plan: &RebalancePlan) -> String {
    let mut text = String::new();
    if plan.moves.is_empty() {
        text.push_str("nothing would move: every node has its share\n");
    } else {
        let mut table = TextTable::new(["group", "tables", "from", "to", "bytes", "reason"]);
        for one in &plan.moves {
            let node = |node: &Option<NodeId>| node.as_ref().map_or("-".to_owned(), ToString::to_string);
            let tables: Vec<&str> = one.tables.iter().map(model::TableName::as_str).collect();
            let row = [
                one.group.clone(),
                tables.join(","),
                node(&one.from),
                node(&one.to),
                one.bytes.to_string(),
                one.reason.clone(),
            ];
            table.row(row);
        }
        let stall = match plan.expected_write_stall_ms {
            Some(ms) => format!("writes wait up to about {ms} ms at a time"),
            None => "how long writes wait is not known: no route was written yet".to_owned(),
        };
        let _ = write!(
            text,
            "{table}\n{} groups, {} copies ({} are the fewest), {} shard copies, {} bytes; about {} s; {stall}\n",
            plan.groups, plan.copies, plan.lower_bound, plan.shard_copies, plan.bytes, plan.eta_seconds
        );
    }
    for (check, passed) in &plan.preflight.checks {
        let why = plan.preflight.reasons.get(check).map_or(String::new(), |why| format!(": {why}"));
        let _ = writeln!(text, "{} {check}{why}", if *passed { "ok    " } else { "failed" });
    }
    text
}

fn progress_text(progress: &RebalanceProgress) -> String {
    let mut table = TextTable::new(["", ""]);
    let mut line = |what: &str, value: String| table.row([what.to_owned(), value]);
    let seconds = |at: Option<u64>| at.map_or("-".to_owned(), |at| at.to_string());
    line("status", progress.status.clone());
    if let Some(held) = &progress.held {
        line("held", format!("{held} by an operator, for all tables"));
    }
    if let Some(why) = &progress.waits_for {
        line("waits for", why.clone());
    }
    let (done, total) = (progress.transfers_done, progress.transfers_total);
    line("copies", format!("{done} of {total}, {:.0} %", progress.progress_percentage));
    line("bytes", format!("{} of {}", progress.bytes_done, progress.bytes_total));
    line("commands", format!("{} to be done", progress.queue_items_pending));
    line("done at", seconds(progress.estimated_completion));
    line("last activity", seconds(progress.last_activity));
    table.to_string().trim_start().to_owned()
}

pub async fn recover(common: &Common) -> Result<(), CommandError> {
    output::print(common.output, &api(common)?.recover().await?, |report| {
        let tables: Vec<String> = report.tables_recovered.iter().map(ToString::to_string).collect();
        let mut text = listed("nothing had to be done", &report.actions_taken);
        if !tables.is_empty() {
            let _ = writeln!(text, "tables: {}", tables.join(", "));
        }
        let _ = write!(text, "{}", listed("no issue remains", &report.issues_remaining));
        text
    })
}

pub async fn clean_up(common: &Common) -> Result<(), CommandError> {
    output::print(common.output, &api(common)?.clean_up().await?, |report| {
        listed("nothing is older than its retention", &report.actions_taken)
    })
}

/// One a line.
fn listed(none: &str, lines: &[String]) -> String {
    if lines.is_empty() { format!("{none}\n") } else { lines.join("\n") + "\n" }
}

pub async fn move_shard(common: &Common, args: &MoveArgs) -> Result<(), CommandError> {
    let (from, to) = (node_id(&args.from)?, node_id(&args.to)?);
    let body = MoveBody { shard: args.shard, from, to, split: args.split };
    output::print(common.output, &api(common)?.move_shard(&args.name, &body).await?, told_text)
}
