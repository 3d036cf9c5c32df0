//! Backups and restores: the jobs that read and write documents. What is to be done, and when, the operator decides.
//!
//! A job begins a shard anew or goes on where an earlier one stopped, by what it finds in the place of the backup; so
//! the controller may die at any moment. Memory is bounded by a part and a page for each of [`LONG_MAX`] jobs.

mod check;
mod facts;
mod fill;
mod format;
mod pace;
mod place;
mod read;
mod save;
mod seal;
mod verify;

pub(crate) use check::RestoreReport;
pub(crate) use place::Place;
pub(crate) use read::Columns;
pub(crate) use seal::manifest_of;
pub(crate) use verify::{Verified, compare_live, expected, verify};

use crate::files::{self, FileError};
use control::backup::{Done, Job, JobEnd};
use format::Sealed;
use manticore::Client;
use model::{BackupData, BackupId, OperationId, StepId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Jobs that copy documents at once: each holds up to a part (8 MiB) and a page (16 MiB).
const LONG_MAX: usize = 2;
/// Jobs that measure or write small files.
const SHORT_MAX: usize = 4;
/// A record that is not listed is removed when it is so old: longer than any record takes to be listed.
const PRUNED_AFTER: Duration = Duration::from_hours(1);
/// Under the controller's directory.
const DIRECTORY: &str = "backups";
/// Under [`DIRECTORY`]: what restores did.
const RESTORES: &str = "restores";

/// Why a job did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Written to while it was read.
    #[error("shard {shard}: {why}")]
    Busy { shard: u32, why: String },
    /// It may go better next time.
    #[error("{0}")]
    Again(String),
    /// It will not.
    #[error("{0}")]
    Final(String),
}

impl From<FileError> for Trouble {
    fn from(error: FileError) -> Self {
        Self::Again(error.to_string())
    }
}

/// What every job works with. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) client: Client,
    /// The controller's own.
    dir: Arc<Path>,
}

impl Tools {
    pub(crate) fn new(client: Client, dir: &Path) -> Self {
        Self { client, dir: dir.into() }
    }

    /// The file of a backup's record.
    pub(crate) fn record_file(&self, id: &BackupId) -> PathBuf {
        self.dir.join(DIRECTORY).join(format!("{}_{}.json", id.table, id.time()))
    }

    /// A backup's record, `None` when it is not on this controller.
    pub(crate) fn record(&self, id: &BackupId) -> Result<Option<BackupData>, Trouble> {
        let path = self.record_file(id);
        let Some(text) = files::read_if_present(&path)? else { return Ok(None) };
        let read = Sealed::read(text.as_bytes());
        read.map(Some).map_err(|why| Trouble::Final(format!("{}: {why}", path.display())))
    }

    pub(crate) fn place(&self, text: &str) -> Result<Place, Trouble> {
        Place::open(text, &self.dir).map_err(Trouble::Final)
    }

    /// For a backup that is yet to be made.
    pub(crate) fn place_for_new(&self, text: &str) -> Result<Place, Trouble> {
        Place::open_for_new(text, &self.dir).map_err(Trouble::Final)
    }

    fn restore_dir(&self, operation: OperationId) -> PathBuf {
        self.dir.join(DIRECTORY).join(RESTORES).join(operation.to_string())
    }

    /// What a restore found and did, once it is over.
    pub(crate) fn restored(&self, operation: OperationId) -> Result<Option<RestoreReport>, Trouble> {
        check::read_report(&self.restore_dir(operation))
    }

    /// Removes the records of backups that are listed no more. Documents are never removed.
    pub(crate) fn prune(&self, kept: &BTreeSet<BackupId>) {
        let directory = self.dir.join(DIRECTORY);
        let keep: BTreeSet<PathBuf> = kept.iter().map(|id| self.record_file(id)).collect();
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
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

/// Runs jobs: each a task, ended when nobody wants it any more.
#[derive(Debug)]
pub(crate) struct Runner {
    tools: Tools,
    running: BTreeMap<(OperationId, StepId), AbortHandle>,
    long: Arc<Semaphore>,
    short: Arc<Semaphore>,
}

impl Runner {
    pub(crate) fn new(tools: Tools) -> Self {
        let (long, short) = (Arc::new(Semaphore::new(LONG_MAX)), Arc::new(Semaphore::new(SHORT_MAX)));
        Self { tools, running: BTreeMap::new(), long, short }
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Begins a job; `over` gets its end.
    pub(crate) fn begin<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        runtime: &Runtime,
        key: (OperationId, StepId),
        job: Job,
        over: impl FnOnce(JobEnd) -> F + Send + 'static,
    ) {
        self.end(key);
        self.running.retain(|_, handle| !handle.is_finished());
        let tools = self.tools.clone();
        let places = if matches!(job, Job::Save(_) | Job::Fill(_)) { &self.long } else { &self.short };
        let places = places.clone();
        let task = runtime.spawn(async move {
            let _place = places.acquire_owned().await;
            let end = match carry_out(&tools, job).await {
                Ok(done) => JobEnd::Done(done),
                Err(Trouble::Busy { shard, why }) => JobEnd::Busy { shard, why },
                Err(Trouble::Again(why)) => JobEnd::Failed { why, last: false },
                Err(Trouble::Final(why)) => JobEnd::Failed { why, last: true },
            };
            over(end).await;
        });
        self.running.insert(key, task.abort_handle());
    }

    pub(crate) fn end(&mut self, key: (OperationId, StepId)) {
        if let Some(handle) = self.running.remove(&key) {
            handle.abort();
        }
    }

    /// When the operator is built anew: it asks again for what it wants.
    pub(crate) fn end_all(&mut self) {
        for handle in std::mem::take(&mut self.running).into_values() {
            handle.abort();
        }
    }
}

async fn carry_out(tools: &Tools, job: Job) -> Result<Done, Trouble> {
    match job {
        Job::Facts { data, sources, checksums } => facts::record(tools, *data, &sources, checksums).await,
        Job::Save(save) => save::save(tools, &save).await,
        Job::Seal { backup, to } => seal::seal(&tools.place(&to)?, &backup).await,
        Job::Fill(fill) => fill::fill(tools, &fill).await,
        Job::Check { backup, operation, from, sources } => {
            check::check(tools, &backup, operation, from.as_deref(), &sources).await
        }
    }
}
