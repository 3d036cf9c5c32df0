//! Whether a backup is whole, and on request whether the live table is still what was backed up.

use super::format::{self, Manifest, ShardManifest, Tally};
use super::pace::Pace;
use super::place::Place;
use super::read::{Columns, Copy};
use super::{Tools, Trouble};
use control::backup::Source;
use model::api::LiveShard;
use model::{BackupId, Content};

/// What reading the live table takes of the network.
const MIB_PER_SECOND: u32 = 64;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) ok: bool,
    pub(crate) backup_id: BackupId,
    /// Read, of those that there should be.
    pub(crate) parts: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Each thing that is not as it should be.
    pub(crate) damaged: Vec<String>,
}

impl Verified {
    pub(crate) fn new(backup_id: BackupId) -> Self {
        Self { ok: true, backup_id, parts: 0, rows: 0, bytes: 0, damaged: Vec::new() }
    }
}

/// Reads every part of a backup.
pub(crate) async fn verify(place: &Place, manifest: &Manifest) -> Result<Verified, Trouble> {
    let mut verified = Verified::new(manifest.data.backup_id.clone());
    for list in &manifest.shards {
        let mut tally = Tally::default();
        let mut whole = true;
        for part in &list.parts {
            let lines = match place.get(&part.name).await? {
                Some(bytes) => format::open_part(part, &bytes),
                None => Err(format!("{} is missing", part.name)),
            };
            let counted = lines.and_then(|lines| {
                for line in &lines {
                    let (id, _) = format::read_line(&list.columns, line)?;
                    tally.add(id, line)?;
                }
                Ok(lines.len() as u64)
            });
            match counted {
                Ok(rows) => {
                    verified.parts += 1;
                    verified.rows += rows;
                    verified.bytes += part.bytes;
                }
                Err(why) => {
                    whole = false;
                    verified.damaged.push(why);
                }
            }
        }
        if whole && (tally.content() != list.content || tally.sha256() != list.sha256) {
            verified
                .damaged
                .push(format!("shard {} is not what was read: its parts do not fit together", list.shard));
        }
    }
    verified.ok = verified.damaged.is_empty();
    Ok(verified)
}

/// Compares live copies with what was backed up, document by document where there is a checksum to compare with.
pub(crate) async fn compare_live(
    tools: &Tools,
    columns: &Columns,
    shards: impl Iterator<Item = (u32, Option<Content>, Option<String>)>,
    sources: &[Source],
) -> Vec<LiveShard> {
    let mut differs = Vec::new();
    for (shard, recorded, checksum) in shards {
        let source = sources.iter().find(|source| source.shard == shard);
        let found = match source {
            Some(source) => live(tools, source, columns, checksum.is_some()).await,
            None => Err(Trouble::Final("the table has no such shard".to_owned())),
        };
        let (found, why) = match found {
            Ok((content, _)) if Some(content) != recorded => {
                let of = |content: Option<Content>| content.map_or(0, |content| content.rows);
                let why = match recorded {
                    Some(_) => {
                        format!("{} documents were recorded, {} are there", of(recorded), content.rows)
                    }
                    None => "it was not counted when it was recorded".to_owned(),
                };
                (Some(content), why)
            }
            Ok((content, sum)) if checksum.is_some() && sum != checksum => {
                (Some(content), "the same ids, but other content".to_owned())
            }
            Ok(_) => continue,
            Err(trouble) => (None, trouble.to_string()),
        };
        differs.push(LiveShard { shard, recorded, found, why });
    }
    differs
}

/// What a shard of the manifest is compared with.
pub(crate) fn expected(list: &ShardManifest) -> (u32, Option<Content>, Option<String>) {
    (list.shard, Some(list.content), Some(list.sha256.clone()))
}

async fn live(
    tools: &Tools,
    source: &Source,
    columns: &Columns,
    deep: bool,
) -> Result<(Content, Option<String>), Trouble> {
    let mut last = Trouble::Again(format!("no live copy of {}", source.physical));
    for node in &source.nodes {
        let copy = Copy::new(&tools.client, node, source)?;
        let found = async {
            if !deep {
                return Ok((copy.mark().await?.content, None));
            }
            let tally = copy.checksum(columns, &mut Pace::new(MIB_PER_SECOND)).await?;
            Ok((tally.content(), Some(tally.sha256())))
        };
        match found.await {
            Ok(found) => return Ok(found),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}
