//! `audit tail|verify`: from a controller, or from the files of its directory.

use super::ask::api;
use super::watch::time;
use crate::args::{AuditCommand, Common};
use crate::output::{self, CommandError, Failure};
use daemon::audit::{DIRECTORY, Verified, tail, verify_directory};
use serde_json::{Value, json};
use std::path::Path;

pub async fn run(common: &Common, command: AuditCommand) -> Result<(), CommandError> {
    match command {
        AuditCommand::Tail { lines, dir: None } => {
            output::print(common.output, &api(common)?.audit_tail(lines.into()).await?, text)
        }
        AuditCommand::Tail { lines, dir: Some(dir) } => {
            let lines =
                tail(&dir.join(DIRECTORY), lines.into(), None).map_err(|error| unreadable(&dir, &error))?;
            output::print(common.output, &json!({ "lines": lines }), text)
        }
        AuditCommand::Verify { dir: None } => verdict(common, &api(common)?.audit_verify().await?),
        AuditCommand::Verify { dir: Some(dir) } => {
            let found = verify_directory(&dir).map_err(|error| unreadable(&dir, &error))?;
            verdict(common, &found)
        }
    }
}

fn unreadable(dir: &Path, error: &std::io::Error) -> CommandError {
    let message = format!("cannot read the audit log in {}: {error}", dir.display());
    CommandError::failed(message, "give --dir the directory that `serve` was given")
}

fn verdict(common: &Common, found: &Verified) -> Result<(), CommandError> {
    if found.ok {
        return output::print(common.output, found, |found| {
            let known = match found.marked {
                Some(marked) => format!("; the control log knows {marked} of them"),
                None => "; the control log was not asked: a cut end would not show".to_owned(),
            };
            format!("{} lines, from number {} on, are as they were written{known}", found.lines, found.first)
        });
    }
    let at = found.first_bad.unwrap_or_default();
    let why = found.why.as_deref().unwrap_or_default();
    let error = CommandError::new(
        Failure::Failed,
        format!("line {at} of the audit log is not as it was written: {why}"),
        "compare with the copy in syslog or a backup, and find out who can write to the controller's directory",
    );
    Err(CommandError { result: Some(Box::new(json!(found))), ..error })
}

fn text(tail: &Value) -> String {
    let lines = tail["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    if lines.is_empty() {
        return "no line".to_owned();
    }
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(line: &Value) -> String {
    let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| line[name].as_u64();
    let mut text = format!(
        "{} {} {} {} {}",
        number("seq").unwrap_or_default(),
        number("unix").map(time).unwrap_or_default(),
        word("event"),
        word("actor"),
        word("what")
    );
    for name in ["operation", "request", "log"] {
        text.extend(number(name).map(|number| format!(" {name}={number}")));
    }
    for name in ["role", "from", "node", "result"] {
        text.extend(line[name].as_str().map(|word| format!(" {name}={word}")));
    }
    if !line["detail"].is_null() {
        text.push(' ');
        text.push_str(&line["detail"].to_string());
    }
    text
}
