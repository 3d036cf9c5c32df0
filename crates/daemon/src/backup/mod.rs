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
mod records;
mod save;
mod seal;
mod verify;

pub(crate) use check::RestoreReport;
pub(crate) use place::Place;
pub(crate) use read::Columns;
pub(crate) use records::Records;
pub(crate) use seal::manifest_of;
pub(crate) use verify::{Verified, compare_live, expected, verify};

use crate::files::FileError;
use control::backup::{Done, Job, JobEnd};
use manticore::Client;
use model::{Action, NodeId, OperationId, Outcome, StepId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

/// Jobs that copy documents at once: each holds up to a part (8 MiB) and a page (16 MiB).
const LONG_MAX: usize = 2;
/// Jobs that measure or write small files.
const SHORT_MAX: usize = 4;
/// Beyond the time of an errand: until its outcome is here.
const REPORT_TIME_MAX: Duration = Duration::from_secs(2);
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

/// What a node's own sidecar is to do for a job: it refuses that to a leader that was frozen and is deposed.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) node: NodeId,
    pub(crate) operation: OperationId,
    pub(crate) step: StepId,
    pub(crate) action: Action,
    pub(crate) time_max: Duration,
    /// Dropped when nobody will hear what came of it.
    pub(crate) over: oneshot::Sender<Outcome>,
}

/// Hands an errand to the driver, which drops it when it does not lead.
pub(crate) type Deliver = Arc<dyn Fn(Errand) + Send + Sync>;

/// What every job works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) client: Client,
    /// The controller's own.
    dir: Arc<Path>,
    pub(crate) records: Records,
    deliver: Deliver,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools").field("client", &self.client).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Tools {
    /// With `shared`, the records of backups are there, for every controller of the log.
    pub(crate) fn new(
        client: Client,
        dir: &Path,
        shared: Option<Arc<store::etcd::Records>>,
        deliver: Deliver,
    ) -> Self {
        let records = Records::new(&dir.join(DIRECTORY), shared);
        Self { client, dir: dir.into(), records, deliver }
    }

    /// Has a node's sidecar do something; what came of it, as far as that was heard in time.
    async fn order(
        &self,
        node: &NodeId,
        (operation, step): (OperationId, StepId),
        action: Action,
        time_max: Duration,
    ) -> Outcome {
        let (over, outcome) = oneshot::channel();
        (self.deliver)(Errand { node: node.clone(), operation, step, action, time_max, over });
        let message = match tokio::time::timeout(time_max + REPORT_TIME_MAX, outcome).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(_)) => "its sidecar was started again, or this controller does not lead any more",
            Err(_) => "its sidecar did not say in time what came of it",
        };
        Outcome::Unknown { message: message.to_owned() }
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
            let end = match carry_out(&tools, key, job).await {
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

async fn carry_out(tools: &Tools, key: (OperationId, StepId), job: Job) -> Result<Done, Trouble> {
    match job {
        Job::Facts { data, sources, checksums } => facts::record(tools, *data, &sources, checksums).await,
        Job::Save(save) => save::save(tools, &save).await,
        Job::Seal { backup, to } => seal::seal(&tools.place(&to)?, &backup).await,
        Job::Fill(fill) => fill::fill(tools, key, &fill).await,
        Job::Check { backup, operation, from, sources } => {
            check::check(tools, &backup, operation, from.as_deref(), &sources).await
        }
    }
}
