//! The manifest: what makes a backup of a record and its shards. Without it there is nothing to restore.

use super::format::{FORMAT, Manifest, ShardManifest};
use super::place::Place;
use super::save::list_name;
use super::{Trouble, facts};
use control::backup::Done;
use model::{BackupData, BackupId};

fn manifest_name(backup: &BackupId) -> String {
    format!("{}/manifest.json", backup.prefix())
}

pub(super) async fn seal(place: &Place, backup: &BackupId) -> Result<Done, Trouble> {
    let record = format!("{}/record.json", backup.prefix());
    let missing = |name: &str| Trouble::Final(format!("{name} is gone from {}", place.shown()));
    let data: BackupData = place.get_sealed(&record).await?.ok_or_else(|| missing(&record))?;
    debug_assert_eq!(facts::name(&data), record);
    let mut shards: Vec<ShardManifest> = Vec::with_capacity(data.shards as usize);
    for number in 0..data.shards {
        let name = list_name(backup, number);
        let list: ShardManifest = place.get_sealed(&name).await?.ok_or_else(|| missing(&name))?;
        if !list.complete || list.shard != number {
            return Err(Trouble::Final(format!("{name} in {} is not complete", place.shown())));
        }
        shards.push(list);
    }
    let rows = shards.iter().map(|list| list.content.rows).sum();
    let bytes = shards.iter().flat_map(|list| &list.parts).map(|part| part.bytes).sum();
    let manifest = Manifest { format: FORMAT, data, shards, rows, bytes };
    place.put_sealed(&manifest_name(backup), &manifest).await?;
    Ok(Done { rows: Some(rows), bytes, path: String::new() })
}

/// The manifest of a backup, `None` when there is no such backup.
pub(crate) async fn manifest_of(place: &Place, backup: &BackupId) -> Result<Option<Manifest>, Trouble> {
    let found: Option<Manifest> = place.get_sealed(&manifest_name(backup)).await?;
    if let Some(manifest) = &found {
        if manifest.format > FORMAT {
            return Err(Trouble::Final(format!(
                "{backup} in {} was written by a newer shardwright (format {}): use that one",
                place.shown(),
                manifest.format
            )));
        }
        if manifest.data.backup_id != *backup || manifest.shards.len() != manifest.data.shards as usize {
            return Err(Trouble::Final(format!("the manifest in {} is not of {backup}", place.shown())));
        }
    }
    Ok(found)
}
