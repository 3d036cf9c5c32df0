//! Import: the tables that the stock sidecar sharded, looked at and adopted. The way back is on disk before anything changes.

use super::ask::api;
use crate::args::{Common, ImportArgs};
use crate::output::{self, CommandError, Failure, Output};
use model::{ImportBody, ImportReport};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

pub async fn run(common: &Common, args: &ImportArgs) -> Result<(), CommandError> {
    let api = api(common)?;
    let seen = api.import(ImportBody { dry_run: true }).await?;
    if args.dry_run || !seen.success {
        return told(common.output, &seen);
    }
    save(&args.way_back, &seen.way_back)?;
    let mut done = api.import(ImportBody { dry_run: false }).await?;
    if done.success {
        done.notes.push(format!(
            "the statements that give the stock sidecar its tables back are in {}",
            args.way_back.display()
        ));
    }
    told(common.output, &done)
}

fn told(output: Output, report: &ImportReport) -> Result<(), CommandError> {
    if report.success {
        return output::print(output, report, text);
    }
    if output == Output::Table {
        output::line_out(text(report).trim_end());
    }
    let against = report.refusals.len();
    let mut error = CommandError::new(
        Failure::Refused,
        format!("nothing was imported: {against} things stand against it"),
        "see to each of them, then try --dry-run again",
    );
    error.result = serde_json::to_value(report).ok().map(Box::new);
    Err(error)
}

/// A file that is there may be the way back of an import before.
fn save(path: &Path, statements: &[String]) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::failed(
            format!("{} cannot be written: {error}; nothing was imported", path.display()),
            "name another file with --way-back",
        )
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    let text = statements.iter().fold(String::new(), |text, statement| text + statement + ";\n");
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn text(report: &ImportReport) -> String {
    let mut text = String::new();
    for table in &report.tables {
        let (name, shards, rf, rows) = (&table.name, table.shards, table.rf, table.rows);
        let cluster = table.cluster.as_ref().map(|cluster| format!("{cluster}:")).unwrap_or_default();
        let _ = writeln!(text, "table {cluster}{name}: {shards} shards, rf {rf}, {rows} documents");
    }
    for group in &report.groups {
        let nodes: Vec<&str> = group.nodes.iter().map(model::NodeId::as_str).collect();
        let _ = writeln!(text, "group {}: {} shards on {}", group.name, group.shards, nodes.join(", "));
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for refusal in &report.refusals {
        let _ = writeln!(text, "refused: {refusal}");
    }
    text.push_str(match (report.success, report.dry_run) {
        (true, true) => "all of it can be adopted where it is; nothing was changed\n",
        (true, false) => "adopted: nothing was moved, and the stock sidecar knows nothing of it any more\n",
        (false, _) => "",
    });
    text
}
