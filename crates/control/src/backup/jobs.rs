//! Jobs of backups and restores: asked of the driver, and what follows from their end.
//!
//! What is under way is kept in memory only: a new controller asks again, and a job finds by itself how far an earlier
//! one has come.

use super::{Backup, Done, Fill, Frozen, Job, JobEnd, JobKind, Save, Source};
use crate::Controller;
use crate::flight::StepKey;
use crate::io::Effect;
use crate::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use crate::record::Record;
use crate::state::TableStatus;
use model::{BackupData, BackupId, BackupState, GroupId, NodeId, ShardRecord, StepId, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// Failed tries of a job after which its operation fails.
const TRIES_MAX: u32 = 6;
/// The same for shards that are always written to: more, since each try may meet a quiet moment.
const BUSY_MAX: u32 = 30;

/// What is under way.
#[derive(Debug, Default)]
pub struct Jobs {
    asked: BTreeMap<StepKey, u64>,
    next_attempt: u64,
    failures: BTreeMap<StepKey, u32>,
    /// Groups whose copies were written to while they were read, and for which backup.
    pub(super) busy: BTreeMap<GroupId, BackupId>,
}

impl Controller {
    /// Asks for a job whose turn has come; once.
    pub(crate) fn run_job(&mut self, operation: &Operation, id: StepId, step: &Step, kind: &JobKind) {
        let key = (operation.id, id);
        if matches!(kind, JobKind::SaveFrozen { .. }) && self.needs_repair() {
            return self.step_skipped(key, "a copy is missing: that is made good before a backup goes on");
        }
        if self.backups.asked.contains_key(&key) || self.is_snapshot_taken(operation, kind) {
            return;
        }
        match self.job(operation, step, kind) {
            Ok(job) => {
                self.backups.next_attempt += 1;
                let attempt = self.backups.next_attempt;
                self.backups.asked.insert(key, attempt);
                self.out.effects.push(Effect::Job {
                    operation: key.0,
                    step: key.1,
                    attempt,
                    job: Box::new(job),
                });
            }
            Err(why) => self.give_up(operation, id, step, &why),
        }
    }

    /// Whether a copy that is read in these shards' place is on its way.
    fn is_snapshot_taken(&self, operation: &Operation, kind: &JobKind) -> bool {
        let (Kind::Backup { backup, .. }, JobKind::Save { shards }) = (&operation.kind, kind) else {
            return false;
        };
        let homes = self.homes(&backup.table, shards);
        self.is_busy(|kind| matches!(kind, Kind::Snapshot { group, .. } if homes.contains(group)))
    }

    fn homes(&self, table: &TableName, shards: &[u32]) -> BTreeSet<GroupId> {
        let known = self.state.tables.get(table);
        let home = |shard: &u32| known.and_then(|known| known.homes.get(*shard as usize)).cloned();
        shards.iter().filter_map(home).collect()
    }

    /// Whether some group has fewer whole copies than it should.
    pub(crate) fn needs_repair(&self) -> bool {
        self.state.groups.values().any(|group| group.serving().count() < group.rf as usize)
    }

    /// The job with what it has to know; an error when it has no sense any more.
    fn job(&self, operation: &Operation, step: &Step, kind: &JobKind) -> Result<Job, String> {
        match (&operation.kind, kind) {
            (Kind::Backup { backup, to, checksums, .. }, JobKind::Facts) => {
                let data = Box::new(self.backup_data(operation, backup, to.as_ref())?);
                let sources = self.sources(&backup.table, 0..data.shards)?;
                Ok(Job::Facts { data, sources, checksums: *checksums })
            }
            (Kind::Backup { backup, to: Some(to), mib_per_second, .. }, JobKind::Save { shards }) => {
                self.save(backup, to, *mib_per_second, shards.iter().copied(), None)
            }
            (Kind::Snapshot { backup, .. }, JobKind::SaveFrozen { exit }) => {
                let contents = operation.left_with(*exit, &[]);
                let shards = contents.keys().filter_map(|physical| model::parse_shard_table(physical));
                let own: Vec<u32> =
                    shards.filter(|(table, _)| *table == backup.table).map(|(_, number)| number).collect();
                let ordered = self.state.operations.values().find_map(|other| match &other.kind {
                    Kind::Backup { backup: other, to: Some(to), mib_per_second, .. } if other == backup => {
                        Some((to.clone(), *mib_per_second))
                    }
                    _ => None,
                });
                let (to, pace) = ordered.ok_or("the backup is over")?;
                let node = step.node.clone().ok_or("the step has no node")?;
                let frozen = Frozen { operation: operation.id, contents };
                self.save(backup, &to, pace, own.into_iter(), Some((node, frozen)))
            }
            (Kind::Backup { backup, to: Some(to), .. }, JobKind::Seal) => {
                Ok(Job::Seal { backup: backup.clone(), to: to.clone() })
            }
            (
                Kind::Restore { backup, table, from: Some(from), overwrite, mib_per_second, .. },
                JobKind::Fill { shard },
            ) => {
                let source = self.sources(table, *shard..=*shard)?.pop().ok_or("no such shard")?;
                Ok(Job::Fill(Fill {
                    backup: backup.clone(),
                    operation: operation.id,
                    from: from.clone(),
                    table: table.clone(),
                    shards: self.state.tables.get(table).map_or(0, |known| known.spec.shards),
                    source,
                    routers: self.state.live_nodes().cloned().collect(),
                    overwrite: *overwrite,
                    mib_per_second: *mib_per_second,
                }))
            }
            (Kind::Restore { backup, table, from, .. }, JobKind::Check) => {
                let shards = self.state.tables.get(table).map_or(0, |known| known.spec.shards);
                let (backup, from) = (backup.clone(), from.clone());
                Ok(Job::Check {
                    backup,
                    operation: operation.id,
                    from,
                    sources: self.sources(table, 0..shards)?,
                })
            }
            _ => Err(format!("a {} has no step {}", operation.name(), kind.class())),
        }
    }

    fn save(
        &self,
        backup: &BackupId,
        to: &str,
        mib_per_second: u32,
        shards: impl Iterator<Item = u32>,
        frozen: Option<(NodeId, Frozen)>,
    ) -> Result<Job, String> {
        let known = self.state.tables.get(&backup.table).ok_or_else(|| dropped(&backup.table))?;
        let mut sources = self.sources(&backup.table, shards)?;
        let frozen = frozen.map(|(node, frozen)| {
            for source in &mut sources {
                (source.nodes, source.group) = (vec![node.clone()], None);
            }
            frozen
        });
        let (backup, to, schema) = (backup.clone(), to.to_owned(), known.spec.schema.clone());
        Ok(Job::Save(Save { backup, to, schema, mib_per_second, sources, frozen }))
    }

    pub(super) fn sources(
        &self,
        table: &TableName,
        shards: impl Iterator<Item = u32>,
    ) -> Result<Vec<Source>, String> {
        let known = self.state.tables.get(table).ok_or_else(|| dropped(table))?;
        let source = |shard: u32| {
            let home = known.homes.get(shard as usize)?;
            let group = self.state.groups.get(home)?;
            Some(Source {
                shard,
                physical: table.shard_table(shard),
                group: group.is_clustered().then(|| home.clone()),
                nodes: group.serving().filter(|node| self.state.is_live(node)).cloned().collect(),
            })
        };
        shards
            .map(|shard| source(shard).ok_or_else(|| format!("shard {shard} of '{table}' is nowhere")))
            .collect()
    }

    /// Everything but what is measured.
    fn backup_data(
        &self,
        operation: &Operation,
        backup: &BackupId,
        to: Option<&String>,
    ) -> Result<BackupData, String> {
        let known = self.state.tables.get(&backup.table).ok_or_else(|| dropped(&backup.table))?;
        let Kind::Backup { cause, .. } = &operation.kind else { return Err("it is no backup".to_owned()) };
        let sources = self.sources(&backup.table, 0..known.spec.shards)?;
        let placement = sources
            .into_iter()
            .map(|source| ShardRecord {
                shard: source.shard,
                group: source.group,
                nodes: source.nodes,
                content: None,
                last_committed: None,
                checksum: None,
                measured_on: None,
                error: None,
            })
            .collect();
        Ok(BackupData {
            backup_id: backup.clone(),
            timestamp: backup.unix,
            table: backup.table.clone(),
            schema: known.spec.schema.clone(),
            cluster: known.spec.cluster.clone(),
            shards: known.spec.shards,
            rf: known.spec.rf,
            cluster_hash: crate::hash::cluster_hash(self.state.live_nodes()),
            backup_path: to.cloned().unwrap_or_default(),
            cause: *cause,
            placement,
        })
    }

    /// The end of a job that is still wanted.
    pub(crate) fn job_over(&mut self, key: StepKey, attempt: u64, end: JobEnd) {
        if self.backups.asked.get(&key) != Some(&attempt) {
            return;
        }
        self.backups.asked.remove(&key);
        let Some(operation) = self.state.operations.get(&key.0).cloned() else { return };
        let Some(step) = operation.step(key.1).cloned() else { return };
        if operation.status != Status::Running || step.status != StepStatus::Pending {
            return;
        }
        match end {
            JobEnd::Done(done) => {
                self.backups.failures.remove(&key);
                self.job_done(&operation, &step, &done);
                self.step_done(key, BTreeMap::new());
            }
            JobEnd::Busy { shard, why } => {
                if let Kind::Backup { backup, .. } = &operation.kind
                    && let Some(home) = self.homes(&backup.table, &[shard]).pop_first()
                    // Asked before a copy for it was begun.
                    && !self.is_busy(|kind| matches!(kind, Kind::Snapshot { group, .. } if *group == home))
                {
                    self.backups.busy.insert(home, backup.clone());
                }
                self.job_failed(&operation, key.1, &step, why, BUSY_MAX);
            }
            JobEnd::Failed { why, last } => {
                self.job_failed(&operation, key.1, &step, why, if last { 0 } else { TRIES_MAX });
            }
        }
    }

    fn job_done(&mut self, operation: &Operation, step: &Step, done: &Done) {
        let (Kind::Backup { backup, to, cause, .. }, Work::Job { job }) = (&operation.kind, &step.work)
        else {
            return;
        };
        let Some(known) = self.state.tables.get(&backup.table) else { return };
        match job {
            JobKind::Save { shards } => {
                let homes = self.homes(&backup.table, shards);
                self.backups.busy.retain(|group, _| !homes.contains(group));
            }
            JobKind::Facts => {
                let taken = Backup {
                    id: backup.clone(),
                    operation: operation.id,
                    cause: *cause,
                    cluster_hash: crate::hash::cluster_hash(self.state.live_nodes()),
                    record_path: done.path.clone(),
                    controller: self.config.name.clone(),
                    shards: known.spec.shards,
                    rf: known.spec.rf,
                    rows: done.rows,
                    with_data: to.clone(),
                    state: if to.is_some() { BackupState::Running } else { BackupState::Complete },
                    bytes: 0,
                };
                self.record(Record::BackupTaken { backup: Box::new(taken) });
            }
            JobKind::Seal if self.state.backups.contains_key(backup) => {
                let (rows, bytes) = (done.rows.unwrap_or_default(), done.bytes);
                self.record(Record::BackupSealed { backup: backup.clone(), rows, bytes });
            }
            _ => {}
        }
    }

    fn job_failed(&mut self, operation: &Operation, id: StepId, step: &Step, why: String, tries_max: u32) {
        let key = (operation.id, id);
        let tries = self.backups.failures.entry(key).or_default();
        *tries += 1;
        if *tries >= tries_max {
            return match step.work {
                // The copy that was made for it goes, whatever became of it; the backup itself asks again.
                Work::Job { job: JobKind::SaveFrozen { .. } } => self.step_skipped(key, &why),
                _ => self.give_up(operation, id, step, &why),
            };
        }
        let tries = *tries;
        self.flights.fail(key, tries, self.now);
        self.flights.waits.insert(key, why);
    }

    pub(crate) fn await_table(
        &mut self,
        operation: &Operation,
        id: StepId,
        step: &Step,
        table: &TableName,
        generation: u64,
    ) {
        let Kind::Restore { create, .. } = &operation.kind else { return };
        let known = self.state.tables.get(table).filter(|known| known.generation == generation);
        match known.map(|known| known.status) {
            Some(TableStatus::Active) => self.step_done((operation.id, id), BTreeMap::new()),
            Some(TableStatus::Creating) => {}
            Some(TableStatus::Dropping) | None => {
                let made = self.state.finished.iter().rev().find(|other| Some(other.id) == *create);
                let why = made.and_then(|made| made.error.clone()).unwrap_or_else(|| dropped(table));
                self.give_up(operation, id, step, &why);
            }
        }
    }

    /// Ends jobs that nobody waits for any more.
    pub(crate) fn sweep_jobs(&mut self) {
        let state = &self.state;
        let wanted = |(operation, step): &StepKey| {
            let operation = state.operations.get(operation).filter(|known| known.status == Status::Running);
            operation
                .and_then(|known| known.step(*step))
                .is_some_and(|step| step.status == StepStatus::Pending)
        };
        for key in self.backups.asked.keys().filter(|key| !wanted(key)) {
            self.out.effects.push(Effect::EndJob { operation: key.0, step: key.1 });
        }
        self.backups.asked.retain(|key, _| wanted(key));
        self.backups.failures.retain(|key, _| wanted(key));
        let running = |backup: &BackupId| {
            state
                .operations
                .values()
                .any(|other| matches!(&other.kind, Kind::Backup { backup: known, .. } if known == backup))
        };
        self.backups.busy.retain(|group, backup| state.groups.contains_key(group) && running(backup));
    }
}

fn dropped(table: &TableName) -> String {
    format!("table '{table}' was dropped meanwhile")
}
