//! Backups and restores, as the operator sees them: what is kept of each in the state, and the jobs that read and write
//! documents, which the driver carries out.
//!
//! A backup's figures and documents never pass through the log: it keeps who, when, where and how much. What was
//! recorded of the table is beside the log, where every controller of it finds it, with documents also in the place that was ordered.

mod jobs;
mod orders;
mod snapshots;

pub use jobs::Jobs;

use model::{BackupCause, BackupData, BackupId, BackupState, Content, GroupId, NodeId, OperationId};
use model::{Schema, StepId, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Records of a table without documents that are kept: those before the last twenty plans, some days of a busy cluster.
pub const RECORDS_KEPT_PER_TABLE: usize = 20;
/// Backups with documents of a table that are kept in the list. Their documents are never removed, and can be restored
/// with `--from` when they are listed no more.
pub const WITH_DATA_KEPT_PER_TABLE: usize = 100;
/// Of all tables together, dropped ones too: under 1 MiB of state.
pub const KEPT: usize = 2_000;

/// What the state keeps of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub id: BackupId,
    pub operation: OperationId,
    pub cause: BackupCause,
    pub cluster_hash: String,
    /// Where its record is: a file of the controller that wrote it, or with a shared log a key beside that.
    pub record_path: String,
    /// By API address.
    pub controller: String,
    pub shards: u32,
    pub rf: u32,
    /// As counted; null when a shard could not be.
    pub rows: Option<u64>,
    /// Where its documents are.
    pub with_data: Option<String>,
    pub state: BackupState,
    /// Compressed, of all documents.
    pub bytes: u64,
}

impl Backup {
    pub(crate) fn seal(&mut self, rows: u64, bytes: u64) {
        (self.state, self.rows, self.bytes) = (BackupState::Complete, Some(rows), bytes);
    }

    pub(crate) fn fail(&mut self) {
        if self.state == BackupState::Running {
            self.state = BackupState::Failed;
        }
    }
}

/// Takes a backup into the list, and the oldest out of it.
pub(crate) fn keep(all: &mut BTreeMap<BackupId, Backup>, backup: &Backup) {
    let (table, with_data) = (&backup.id.table, backup.with_data.is_some());
    all.insert(backup.id.clone(), backup.clone());
    let limit = if with_data { WITH_DATA_KEPT_PER_TABLE } else { RECORDS_KEPT_PER_TABLE };
    // The newest last: an id orders by table, then time.
    let same: Vec<BackupId> = all
        .values()
        .filter(|other| other.id.table == *table && other.with_data.is_some() == with_data)
        .map(|other| other.id.clone())
        .collect();
    for id in same.iter().take(same.len().saturating_sub(limit)) {
        all.remove(id);
    }
    if all.len() > KEPT {
        let oldest = all.keys().filter(|id| **id != backup.id).min_by_key(|id| id.unix).cloned();
        oldest.map(|id| all.remove(&id));
    }
}

/// A step that the controller itself carries out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "job")]
pub enum JobKind {
    /// The table is measured, and what is known of it written to a file.
    Facts,
    /// Documents of these shards, read from copies that serve: good only when nothing changes them meanwhile.
    Save { shards: Vec<u32> },
    /// Documents of the copies that step `exit` took out of their group.
    SaveFrozen { exit: StepId },
    /// The list of everything, which makes a backup of it.
    Seal,
    /// Documents of one shard are brought back.
    Fill { shard: u32 },
    /// What is there now, against what was recorded.
    Check,
}

impl JobKind {
    /// Its name in messages and queues.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Facts => "RECORD",
            Self::Save { .. } | Self::SaveFrozen { .. } => "SAVE",
            Self::Seal => "SEAL",
            Self::Fill { .. } => "FILL",
            Self::Check => "CHECK",
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// `data` is complete but for what is measured.
    Facts {
        data: Box<BackupData>,
        sources: Vec<Source>,
        checksums: bool,
    },
    Save(Save),
    Seal {
        backup: BackupId,
        to: String,
    },
    Fill(Fill),
    Check {
        backup: BackupId,
        operation: OperationId,
        from: Option<String>,
        sources: Vec<Source>,
    },
}

/// Shards to copy out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    pub backup: BackupId,
    pub to: String,
    pub schema: Schema,
    pub mib_per_second: u32,
    pub sources: Vec<Source>,
    pub frozen: Option<Frozen>,
}

/// Copies that nothing writes to any more, and what they then held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The snapshot: the same copies after a new start.
    pub operation: OperationId,
    pub contents: BTreeMap<String, Content>,
}

/// Documents to bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    pub backup: BackupId,
    pub operation: OperationId,
    pub from: String,
    pub table: TableName,
    pub shards: u32,
    pub source: Source,
    /// Nodes whose routing table can be written through.
    pub routers: Vec<NodeId>,
    pub overwrite: bool,
    pub mib_per_second: u32,
}

/// A shard and the nodes that can be asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub shard: u32,
    /// `system.{table}_s{n}`.
    pub physical: String,
    /// With a replication cluster: its `last_committed` tells whether anything changed.
    pub group: Option<GroupId>,
    pub nodes: Vec<NodeId>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    Done(Done),
    /// Shard `shard` was written to while it was read.
    Busy {
        shard: u32,
        why: String,
    },
    /// `last`: trying again will not help.
    Failed {
        why: String,
        last: bool,
    },
}

/// What a job found or made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub rows: Option<u64>,
    pub bytes: u64,
    /// The file of a record.
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(table: &str, unix: u64, with_data: bool) -> Backup {
        Backup {
            id: BackupId { table: TableName::new(table).expect("valid"), unix },
            operation: OperationId(0),
            cause: BackupCause::Order,
            cluster_hash: String::new(),
            record_path: String::new(),
            controller: String::new(),
            shards: 1,
            rf: 1,
            rows: None,
            with_data: with_data.then(|| "/b".to_owned()),
            state: BackupState::Running,
            bytes: 0,
        }
    }

    #[test]
    fn the_oldest_of_the_same_table_and_kind_goes() {
        let mut all = BTreeMap::new();
        keep(&mut all, &backup("t", 1, true));
        keep(&mut all, &backup("u", 1, false));
        for unix in 2..30 {
            keep(&mut all, &backup("t", unix, false));
        }
        let of = |table: &str| all.keys().filter(|id| id.table.as_str() == table).count();
        assert_eq!((of("t"), of("u")), (RECORDS_KEPT_PER_TABLE + 1, 1));
        assert!(all.contains_key(&backup("t", 1, true).id), "one with documents is no record");
        assert!(all.contains_key(&backup("t", 29, false).id));
        assert!(!all.contains_key(&backup("t", 9, false).id));
    }

    #[test]
    fn all_tables_together_have_a_bound() {
        let mut all = BTreeMap::new();
        for number in 0..=KEPT as u64 {
            keep(&mut all, &backup(&format!("t{number}"), number, false));
        }
        assert_eq!(all.len(), KEPT);
        assert!(!all.contains_key(&backup("t0", 0, false).id), "the oldest went");
    }
}
