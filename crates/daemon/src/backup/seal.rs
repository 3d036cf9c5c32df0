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

#[cfg(test)]
mod tests {
    use super::*;
    use model::{BackupCause, Content, NodeId, Schema, TableName};

    fn id() -> BackupId {
        BackupId { table: TableName::new("t").expect("valid"), unix: 7 }
    }

    fn data() -> BackupData {
        BackupData {
            backup_id: id(),
            timestamp: 7,
            table: id().table,
            schema: Schema::default(),
            cluster: None,
            shards: 2,
            rf: 1,
            cluster_hash: String::new(),
            backup_path: String::new(),
            cause: BackupCause::Order,
            placement: Vec::new(),
        }
    }

    fn list(shard: u32) -> ShardManifest {
        ShardManifest {
            shard,
            columns: Vec::new(),
            content: Content { rows: 3, ..Content::default() },
            sha256: String::new(),
            last_committed: None,
            read_from: NodeId::new("h:1").expect("valid"),
            snapshot: None,
            complete: true,
            parts: Vec::new(),
        }
    }

    fn why<T: std::fmt::Debug>(result: Result<T, Trouble>) -> String {
        match result {
            Err(Trouble::Final(why)) => why,
            other => panic!("{other:?} is no end"),
        }
    }

    #[tokio::test]
    async fn only_whole_lists_of_all_shards_are_sealed() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::open(&dir.path().display().to_string(), dir.path()).expect("opened");
        assert!(why(seal(&place, &id()).await).contains("record.json is gone"));
        place.put_sealed(&facts::name(&data()), &data()).await.expect("written");
        place.put_sealed(&list_name(&id(), 0), &list(0)).await.expect("written");
        let second = list_name(&id(), 1);
        assert!(why(seal(&place, &id()).await).contains(&format!("{second} is gone")));
        for other in [ShardManifest { complete: false, ..list(1) }, list(0)] {
            place.put_sealed(&second, &other).await.expect("written");
            assert!(why(seal(&place, &id()).await).contains("is not complete"), "{other:?}");
            assert_eq!(manifest_of(&place, &id()).await.expect("read"), None);
        }
        place.put_sealed(&second, &list(1)).await.expect("written");
        assert_eq!(seal(&place, &id()).await.expect("sealed").rows, Some(6));
        let sealed = manifest_of(&place, &id()).await.expect("read").expect("there");
        assert_eq!((sealed.rows, sealed.shards), (6, vec![list(0), list(1)]));
    }

    /// Someone put it there, or wrote it anew with a right checksum.
    #[tokio::test]
    async fn a_manifest_of_another_backup_or_of_a_later_version_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::open(&dir.path().display().to_string(), dir.path()).expect("opened");
        let shards = vec![list(0), list(1)];
        let good = Manifest { format: FORMAT, data: data(), shards, rows: 6, bytes: 0 };
        let other = BackupData { backup_id: BackupId { unix: 8, ..id() }, ..data() };
        for (manifest, want) in [
            (Manifest { format: FORMAT + 1, ..good.clone() }, "by a newer shardwright"),
            (Manifest { data: other, ..good.clone() }, "is not of backup:t:"),
            (Manifest { shards: vec![list(0)], ..good.clone() }, "is not of backup:t:"),
        ] {
            place.put_sealed(&manifest_name(&id()), &manifest).await.expect("written");
            let why = why(manifest_of(&place, &id()).await);
            assert!(why.contains(want), "{why}");
        }
        place.put_sealed(&manifest_name(&id()), &good).await.expect("written");
        assert_eq!(manifest_of(&place, &id()).await.expect("read"), Some(good));
    }
}
