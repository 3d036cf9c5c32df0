//! Where the records of backups are: with a log that several controllers share beside that log, so that each of them
//! finds every record; else in files of the controller.

use super::Trouble;
use super::format::Sealed;
use crate::files;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use model::{BackupData, BackupId, LogIndex};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::etcd;

/// A record that is not listed is removed when it is so old: longer than any record takes to be listed.
const PRUNED_AFTER: Duration = Duration::from_hours(1);
/// Read of one record at most, once it is unpacked: a table of as many shards as there may be has less.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// Of files; before the log was shared, or the program knew how to share them, they were there.
    dir: Arc<Path>,
    shared: Option<Arc<etcd::Records>>,
}

/// The name of a record.
fn name(id: &BackupId) -> String {
    format!("{}_{}.json", id.table, id.time())
}

fn shared_name(id: &BackupId) -> String {
    format!("{}.gz", name(id))
}

impl Records {
    pub(crate) fn new(dir: &Path, shared: Option<Arc<etcd::Records>>) -> Self {
        Self { dir: dir.into(), shared }
    }

    fn file(&self, id: &BackupId) -> PathBuf {
        self.dir.join(name(id))
    }

    /// Where the record is, for people.
    pub(super) fn shown(&self, id: &BackupId) -> String {
        match &self.shared {
            Some(shared) => format!("etcd:{}", shared.key(&shared_name(id))),
            None => self.file(id).display().to_string(),
        }
    }

    /// Durable once this returns.
    pub(super) async fn put(&self, data: &BackupData) -> Result<(), Trouble> {
        let bytes = Sealed::write(data).map_err(Trouble::Final)?;
        let Some(shared) = self.shared.clone() else {
            files::ensure_directory(&self.dir)?;
            return Ok(files::write_durably(&self.file(&data.backup_id), &bytes)?);
        };
        let name = shared_name(&data.backup_id);
        blocking(move || {
            let packed = packed(&bytes).map_err(Trouble::Final)?;
            shared.put(&name, &packed).map_err(|error| Trouble::Again(error.to_string()))
        })
        .await
    }

    /// `None` when it is not there, or in a file of another controller.
    pub(crate) async fn get(&self, id: &BackupId) -> Result<Option<BackupData>, Trouble> {
        if let Some(shared) = self.shared.clone() {
            let name = shared_name(id);
            let found =
                blocking(move || shared.get(&name).map_err(|error| Trouble::Again(error.to_string())))
                    .await?;
            if let Some(found) = found {
                let read = unpacked(&found).and_then(|bytes| Sealed::read(&bytes));
                return read.map(Some).map_err(|why| Trouble::Final(format!("{}: {why}", self.shown(id))));
            }
        }
        let path = self.file(id);
        let Some(text) = files::read_if_present(&path)? else { return Ok(None) };
        let read = Sealed::read(text.as_bytes());
        read.map(Some).map_err(|why| Trouble::Final(format!("{}: {why}", path.display())))
    }

    /// Shares the records in files among `listed`, which this controller wrote before it could: once, at its start.
    pub(crate) fn share(&self, listed: &[BackupId]) {
        let Some(shared) = &self.shared else { return };
        for id in listed {
            let file = self.file(id);
            let Ok(Some(text)) = files::read_if_present(&file) else { continue };
            let there = packed(text.as_bytes())
                .and_then(|bytes| shared.put(&shared_name(id), &bytes).map_err(|error| error.to_string()));
            match there {
                // Found in the first place from now on.
                Ok(()) => drop(std::fs::remove_file(&file)),
                Err(why) => {
                    tracing::warn!(backup = %id, why, "the record of a backup is still for this controller alone");
                }
            }
        }
    }

    /// Removes the records of backups that are listed no more. Documents are never removed. `last`: the last record of the
    /// log that the list was read from, for one that is shared; who has missed something removes nothing there.
    pub(crate) fn prune(&self, kept: &BTreeSet<BackupId>, last: LogIndex, unix_now: u64) {
        self.prune_files(kept);
        let Some(shared) = &self.shared else { return };
        let keep: BTreeSet<String> = kept.iter().map(shared_name).collect();
        let pruned = shared.names().and_then(|names| {
            let old = |name: &String| {
                !keep.contains(name)
                    && id_of(name).is_some_and(|id| id.unix + PRUNED_AFTER.as_secs() < unix_now)
            };
            let gone: Vec<String> = names.into_iter().filter(old).collect();
            shared.remove(&gone, last)
        });
        if let Err(error) = pruned {
            tracing::debug!(%error, "records of backups that are not listed any more stay for now");
        }
    }

    fn prune_files(&self, kept: &BTreeSet<BackupId>) {
        let keep: BTreeSet<PathBuf> = kept.iter().map(|id| self.file(id)).collect();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let ours = path.extension().is_some_and(|extension| extension == "json");
            // One that was just written may not be listed yet.
            let age = entry.metadata().and_then(|found| found.modified()).map(|at| at.elapsed());
            let old = matches!(age, Ok(Ok(age)) if age > PRUNED_AFTER);
            if ours && old && !keep.contains(&path) && std::fs::remove_file(&path).is_ok() {
                tracing::debug!(file = %path.display(), "the record of a backup that is not listed any more");
            }
        }
    }
}

/// The backup whose record has this name.
fn id_of(name: &str) -> Option<BackupId> {
    let (table, time) = name.strip_suffix(".json.gz")?.split_at_checked(name.len().checked_sub(28)?)?;
    format!("backup:{table}:{}", time.strip_prefix('_')?).parse().ok()
}

fn packed(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(bytes).and_then(|()| packer.finish()).map_err(|error| error.to_string())
}

fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut found = Vec::new();
    let read = GzDecoder::new(bytes).take(RECORD_BYTES_MAX).read_to_end(&mut found);
    read.map(|_| found).map_err(|error| format!("it is damaged ({error})"))
}

/// etcd's client blocks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Trouble::Again(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_backup() {
        for text in ["backup:t:2026-11-25_22-54-41", "backup:a_2026_x:1970-01-01_00-00-00"] {
            let id: BackupId = text.parse().expect("an id");
            assert_eq!(id_of(&shared_name(&id)), Some(id));
        }
        for name in ["", "x.json.gz", "_1970-01-01_00-00-00.json.gz", "t_1970-01-01_00-00-00.json"] {
            assert_eq!(id_of(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_and_damage_is_told() {
        let bytes = "a record ".repeat(1_000).into_bytes();
        let packed = packed(&bytes).expect("packed");
        assert!(packed.len() < bytes.len() / 10);
        assert_eq!(unpacked(&packed), Ok(bytes));
        assert!(unpacked(&packed[..packed.len() / 2]).is_err());
    }
}
