//! The end of a restore: every shard as it is now, against what was recorded; said, and kept in a file.

use super::fill::Filled;
use super::format::Sealed;
use super::read::Copy;
use super::{Tools, Trouble, manifest_of};
use crate::files;
use control::backup::{Done, Source};
use model::{BackupId, Content, OperationId};
use serde::{Deserialize, Serialize};
use std::path::Path;

const REPORT: &str = "report.json";

/// What a restore found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoreReport {
    pub(crate) backup_id: BackupId,
    pub(crate) operation: OperationId,
    /// Shards that are not what was recorded.
    pub(crate) differing: u64,
    pub(crate) shards: Vec<RestoredShard>,
}

/// One shard after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoredShard {
    pub(crate) shard: u32,
    pub(crate) recorded: Option<Content>,
    pub(crate) found: Option<Content>,
    /// Null without documents.
    pub(crate) filled: Option<Filled>,
    /// What differs; null when nothing does.
    pub(crate) differs: Option<String>,
}

pub(super) async fn check(
    tools: &Tools,
    backup: &BackupId,
    operation: OperationId,
    from: Option<&str>,
    sources: &[Source],
) -> Result<Done, Trouble> {
    let recorded = recorded(tools, backup, from).await?;
    let directory = tools.restore_dir(operation);
    let mut shards = Vec::with_capacity(sources.len());
    for source in sources {
        let found = counted(tools, source).await;
        let filled = filled(&directory, source.shard)?;
        let recorded = recorded.get(source.shard as usize).copied().flatten();
        let differs = match &found {
            Err(trouble) => Some(trouble.to_string()),
            Ok(found) => difference(recorded, *found, filled),
        };
        shards.push(RestoredShard { shard: source.shard, recorded, found: found.ok(), filled, differs });
    }
    let differing = shards.iter().filter(|shard| shard.differs.is_some()).count() as u64;
    let report = RestoreReport { backup_id: backup.clone(), operation, differing, shards };
    files::ensure_directory(&directory)?;
    files::write_durably(&directory.join(REPORT), &Sealed::write(&report).map_err(Trouble::Final)?)?;
    Ok(Done::default())
}

/// By shard number.
async fn recorded(
    tools: &Tools,
    backup: &BackupId,
    from: Option<&str>,
) -> Result<Vec<Option<Content>>, Trouble> {
    let unknown = || Trouble::Final("Backup not found".to_owned());
    if let Some(from) = from {
        let manifest = manifest_of(&tools.place(from)?, backup).await?.ok_or_else(unknown)?;
        return Ok(manifest.shards.iter().map(|list| Some(list.content)).collect());
    }
    let data = tools.records.get(backup).await?.ok_or_else(unknown)?;
    Ok(data.placement.iter().map(|shard| shard.content).collect())
}

fn difference(recorded: Option<Content>, found: Content, filled: Option<Filled>) -> Option<String> {
    let Some(recorded) = recorded else { return Some("it was not counted when it was recorded".to_owned()) };
    if let Some(kept) = filled.map(|filled| filled.kept_other).filter(|kept| *kept > 0) {
        return Some(format!(
            "{kept} documents have another content than recorded, and were left: --overwrite puts the recorded one back"
        ));
    }
    if found.rows > recorded.rows {
        return Some(format!(
            "{} documents that were not recorded are there, and were left",
            found.rows - recorded.rows
        ));
    }
    if found.rows < recorded.rows {
        return Some(format!("{} documents of {} are missing", recorded.rows - found.rows, recorded.rows));
    }
    (found != recorded).then(|| "as many documents as recorded, but other ids".to_owned())
}

async fn counted(tools: &Tools, source: &Source) -> Result<Content, Trouble> {
    let mut last = Trouble::Again(format!("no live copy of {}", source.physical));
    for node in &source.nodes {
        match Copy::new(&tools.client, node, source)?.settled_mark().await {
            Ok(mark) => return Ok(mark.content),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

/// What a fill did, for the report.
pub(super) fn note_filled(directory: &Path, shard: u32, filled: Filled) -> Result<(), Trouble> {
    files::ensure_directory(directory)?;
    let bytes = Sealed::write(filled).map_err(Trouble::Final)?;
    Ok(files::write_durably(&directory.join(format!("s{shard}.json")), &bytes)?)
}

fn filled(directory: &Path, shard: u32) -> Result<Option<Filled>, Trouble> {
    let text = files::read_if_present(&directory.join(format!("s{shard}.json")))?;
    text.map(|text| Sealed::read(text.as_bytes()).map_err(Trouble::Final)).transpose()
}

pub(super) fn read_report(directory: &Path) -> Result<Option<RestoreReport>, Trouble> {
    let path = directory.join(REPORT);
    let Some(text) = files::read_if_present(&path)? else { return Ok(None) };
    let read = Sealed::read(text.as_bytes());
    read.map(Some).map_err(|why| Trouble::Final(format!("{}: {why}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_told_by_what_differs() {
        let content = |rows: u64, id_sum: i64| Content { rows, id_sum, id_min: 1, id_max: 9 };
        let says = |recorded, found, kept_other| {
            let filled = Filled { kept_other, ..Filled::default() };
            difference(recorded, found, Some(filled)).unwrap_or_default()
        };
        assert_eq!(says(Some(content(3, 12)), content(3, 12), 0), "");
        assert!(says(Some(content(3, 12)), content(3, 13), 0).contains("other ids"));
        assert!(
            says(Some(content(3, 12)), content(5, 12), 0).starts_with("2 documents that were not recorded")
        );
        assert!(says(Some(content(3, 12)), content(1, 12), 0).starts_with("2 documents of 3 are missing"));
        assert!(says(Some(content(3, 12)), content(3, 12), 4).contains("--overwrite"));
        assert!(says(None, content(3, 12), 0).contains("not counted"));
    }
}
