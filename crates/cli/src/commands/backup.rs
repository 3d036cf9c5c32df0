//! Backups: made, listed, checked, brought back. Waits where there is something to wait for, and can be left at any time.

use super::ask::api;
use crate::api::Api;
use crate::args::{BackupCommand, Common};
use crate::output::{self, CommandError, Failure, TextTable};
use model::BackupState;
use model::api::{
    BackupBody, BackupList, BackupReply, BackupShow, BackupSummary, RestoreBody, RestoreReply, RestoreShow,
    VerifyBody, VerifyReply,
};
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, absolute};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(300);

pub async fn run(common: &Common, command: BackupCommand) -> Result<(), CommandError> {
    let api = api(common)?;
    match command {
        BackupCommand::Create { name, with_data, checksums, pace, no_wait } => {
            let with_data = with_data.map(place).transpose()?;
            let body = BackupBody { table: name, with_data, checksums, mib_per_second: pace.mib_per_second };
            let made = create(&api, &body, !no_wait).await.map_err(unsuccessful)?;
            output::print(common.output, &made, created_text)
        }
        BackupCommand::List => output::print(common.output, &api.backups().await?, list_text),
        BackupCommand::Show { id } => output::print(common.output, &api.backup(&id).await?, show_text),
        BackupCommand::Verify { id, from, live } => {
            let body = VerifyBody { from: from.map(place).transpose()?, live };
            let verified = api.verify_backup(&id, &body).await?;
            if verified.ok {
                return output::print(common.output, &verified, verified_text);
            }
            let mut error = CommandError::failed(
                format!("{id} is not as it should be: {}", faults(&verified).join("; ")),
                "make another backup of what is still there",
            );
            error.result = serde_json::to_value(&verified).ok().map(Box::new);
            Err(error)
        }
        BackupCommand::Restore { id, from, overwrite, rf, pace, no_wait } => {
            let from = from.map(place).transpose()?;
            let body = RestoreBody { from, overwrite, rf, mib_per_second: pace.mib_per_second };
            let restored = restore(&api, &id, &body, !no_wait).await.map_err(unsuccessful)?;
            output::print(common.output, &restored, restored_text)
        }
    }
}

/// A path is one of the controller's machine, which may be this one: then it is meant from here.
fn place(text: String) -> Result<String, CommandError> {
    if text.contains("://") {
        return Ok(text);
    }
    absolute(Path::new(&text)).map(|path| path.display().to_string()).map_err(|error| {
        CommandError::usage(format!("'{text}' is no path: {error}"), "give a directory or s3://BUCKET/PREFIX")
    })
}

/// `success: false` with the reason, as scripts expect it.
fn unsuccessful(mut error: CommandError) -> CommandError {
    if error.result.is_none() && !matches!(error.failure, Failure::Unreachable | Failure::Usage) {
        error.result = Some(Box::new(json!({ "success": false, "error": error.message })));
    }
    error
}

async fn create(api: &Api, body: &BackupBody, wait: bool) -> Result<BackupReply, CommandError> {
    let mut reply = api.create_backup(body).await?;
    let id = reply.backup_id.to_string();
    while wait && reply.state == BackupState::Running {
        tokio::time::sleep(LOOK_EVERY).await;
        let shown = patient(api.backup(&id).await)?;
        let Some(BackupShow { summary, backup_data }) = shown else { continue };
        reply.state = summary.state;
        reply.backup_data = backup_data;
        if summary.state == BackupState::Failed {
            let why = summary.waits_for_or_error.unwrap_or_else(|| "it failed without a reason".to_owned());
            return Err(CommandError::failed(why, "the table is as it was; its record is kept"));
        }
        progress(summary.steps_done, summary.steps_total);
    }
    Ok(reply)
}

/// A controller that is being started again is asked again; what it refuses is final.
fn patient<T>(answer: Result<T, CommandError>) -> Result<Option<T>, CommandError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.failure == Failure::Unreachable || error.code.as_deref() == Some("busy") => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn progress(done: u64, total: u64) {
    if output::stderr_is_terminal() {
        output::line_err(&format!("{done} of {total} steps"));
    }
}

/// What a restore came to: the reply of its beginning, and its end.
#[derive(Debug, Serialize)]
struct Restored {
    #[serde(flatten)]
    reply: RestoreReply,
    /// Null with `--no-wait`.
    end: Option<RestoreShow>,
}

async fn restore(api: &Api, id: &str, body: &RestoreBody, wait: bool) -> Result<Restored, CommandError> {
    let reply = api.restore(id, body).await?;
    let mut end = None;
    while wait && end.is_none() {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(shown) = patient(api.restored(reply.operation).await)? else { continue };
        match shown.state {
            BackupState::Running => progress(shown.steps_done, shown.steps_total),
            BackupState::Complete => end = Some(shown),
            BackupState::Failed => {
                let why = shown.waits_for_or_error.unwrap_or_else(|| "it failed without a reason".to_owned());
                let hint = "a table that it made stays, with what was brought back; restore again to go on";
                return Err(CommandError::failed(why, hint));
            }
        }
    }
    Ok(Restored { reply, end })
}

fn created_text(reply: &BackupReply) -> String {
    let rows: Option<u64> =
        reply.backup_data.placement.iter().map(|shard| shard.content.map(|content| content.rows)).sum();
    let rows = rows.map_or_else(|| "not all shards counted".to_owned(), |rows| format!("{rows} documents"));
    let state = match reply.state {
        BackupState::Running => "its documents are being copied: `shardwright backup list` shows how far",
        BackupState::Complete => "complete",
        BackupState::Failed => "failed",
    };
    format!("{} ({rows}) in {}: {state}", reply.backup_id, reply.backup_data.backup_path)
}

fn list_text(list: &BackupList) -> String {
    let mut table =
        TextTable::new(["backup", "cause", "state", "shards", "rf", "documents", "bytes", "where"]);
    for one in &list.backups {
        table.row([
            one.backup_id.to_string(),
            format!("{:?}", one.cause).to_lowercase(),
            state_text(one),
            one.shards.to_string(),
            one.rf.to_string(),
            one.rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string()),
            if one.with_data { one.bytes.to_string() } else { "-".to_owned() },
            one.backup_path.clone(),
        ]);
    }
    table.to_string()
}

fn state_text(one: &BackupSummary) -> String {
    match one.state {
        BackupState::Running => format!("{} of {} steps", one.steps_done, one.steps_total),
        BackupState::Complete => "complete".to_owned(),
        BackupState::Failed => "failed".to_owned(),
    }
}

fn show_text(show: &BackupShow) -> String {
    let mut text = list_text(&BackupList { backups: vec![show.summary.clone()] });
    if let Some(why) = &show.summary.waits_for_or_error {
        let _ = write!(text, "\n{why}\n");
    }
    let data = &show.backup_data;
    let columns: Vec<String> =
        data.schema.columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
    let options: Vec<String> =
        data.schema.options.iter().map(|(key, value)| format!(" {key}='{value}'")).collect();
    let _ = write!(text, "\n({}){}\n", columns.join(", "), options.concat());
    let mut table = TextTable::new(["shard", "copies", "documents", "sum of ids", "checksum"]);
    for shard in &data.placement {
        let nodes: Vec<String> = shard.nodes.iter().map(ToString::to_string).collect();
        let figure = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        table.row([
            shard.shard.to_string(),
            nodes.join(", "),
            figure(shard.content.map(|content| content.rows.to_string()).or_else(|| shard.error.clone())),
            figure(shard.content.map(|content| content.id_sum.to_string())),
            figure(shard.checksum.as_ref().map(|sum| sum.chars().take(16).collect())),
        ]);
    }
    let _ = write!(text, "\n{table}");
    text
}

fn faults(verified: &VerifyReply) -> Vec<String> {
    let live = verified.live_differs.iter().flatten();
    let live = live.map(|shard| format!("shard {} of the live table: {}", shard.shard, shard.why));
    verified.damaged.iter().cloned().chain(live).collect()
}

fn verified_text(verified: &VerifyReply) -> String {
    let live = if verified.live_differs.is_some() { ", and the live table is the same" } else { "" };
    format!(
        "{} is whole: {} documents in {} objects of {} bytes{live}",
        verified.backup_id, verified.rows, verified.parts, verified.bytes
    )
}

fn restored_text(restored: &Restored) -> String {
    let Some(end) = &restored.end else {
        return format!("operation {} restores table {}", restored.reply.operation, restored.reply.table);
    };
    let shards = end.shards.iter().flatten();
    let inserted: u64 = shards.clone().filter_map(|shard| shard.inserted).sum();
    let replaced: u64 = shards.clone().filter_map(|shard| shard.replaced).sum();
    let mut text = format!(
        "table {} is restored: {inserted} documents inserted, {replaced} replaced",
        restored.reply.table
    );
    for shard in shards {
        if let Some(differs) = &shard.differs {
            let _ = write!(text, "\nshard {}: {differs}", shard.shard);
        }
    }
    if end.differing == Some(0) {
        text.push_str(", every shard is as it was recorded");
    }
    text
}
