//! A copy for a backup alone, where copies that serve are always written to; and records before moves.

use crate::Controller;
use crate::catalogue;
use crate::operation::{Kind, Operation, Status};
use crate::state::Member;
use model::{BackupCause, BackupId, GroupId, NodeId, TableName};
use std::collections::BTreeSet;

impl Controller {
    /// One at a time: while it joins, writes to its group wait for the copying.
    pub(crate) fn take_snapshots(&mut self) {
        if self.backups.busy.is_empty()
            || self.needs_repair()
            || self.is_busy(|kind| matches!(kind, Kind::Snapshot { .. }))
        {
            return;
        }
        let next = self.backups.busy.iter().find_map(|(group, backup)| {
            let busy = self.group_is_busy(group, self.state.next_operation)
                || self.still_in_a_cluster(group).is_some();
            let (to, from) = self.snapshot_ends(group).filter(|_| !busy)?;
            Some((group.clone(), backup.clone(), to, from))
        });
        let Some((group, backup, to, from)) = next else { return };
        self.backups.busy.remove(&group);
        let kind = Kind::Snapshot { backup, group, to, from };
        self.add(|_, id, unix| Some(Operation::new(id, kind, Vec::new(), unix)));
    }

    /// A node without the group's copies, the one with the fewest; and one that gives its own.
    fn snapshot_ends(&self, group: &GroupId) -> Option<(NodeId, NodeId)> {
        let known = self.state.groups.get(group)?;
        let donor = known.in_state(Member::Serving).find(|node| self.state.is_live(node))?;
        let held = |node: &NodeId| {
            self.state.groups.values().filter(|other| other.members.contains_key(node)).count()
        };
        let to = self
            .state
            .placing_nodes()
            .filter(|node| !known.members.contains_key(*node) && self.sidecar_is_ours(node))
            .filter(|node| !self.state.leftovers.contains_key(*node))
            .min_by_key(|node| (held(node), *node))?;
        Some((to.clone(), donor.clone()))
    }

    /// What is about to move is recorded first.
    pub(crate) fn back_up_before(&mut self, moves: &[Kind]) {
        let groups: BTreeSet<&GroupId> = moves
            .iter()
            .filter_map(|kind| match kind {
                Kind::Move { group, from: Some(_), .. } | Kind::Shed { group, .. } => Some(group),
                _ => None,
            })
            .collect();
        let tables: BTreeSet<TableName> = groups
            .iter()
            .filter_map(|group| self.state.groups.get(*group))
            .flat_map(crate::state::Group::table_names)
            .collect();
        for table in tables {
            self.add_backup(&table, None, false, 0, BackupCause::Rebalance);
        }
    }

    /// Whether moves wait for the record of a table that they touch. What only makes lost copies anew does not wait.
    pub(crate) fn is_backed_up_first(&self, operation: &Operation) -> bool {
        let (Kind::Move { group, from: Some(_), .. } | Kind::Shed { group, .. }) = &operation.kind else {
            return false;
        };
        let Some(known) = self.state.groups.get(group) else { return false };
        let tables = known.table_names();
        self.state.operations.range(..operation.id).any(|(_, earlier)| match &earlier.kind {
            Kind::Backup { backup, cause: BackupCause::Rebalance, .. } => {
                !earlier.status.is_over() && tables.contains(&backup.table)
            }
            _ => false,
        })
    }

    /// Begins a backup of an active table; `None` when it is none.
    pub(super) fn add_backup(
        &mut self,
        table: &TableName,
        to: Option<&str>,
        checksums: bool,
        mib_per_second: u32,
        cause: BackupCause,
    ) -> Option<BackupId> {
        let known = self.state.tables.get(table)?.clone();
        if known.status != crate::state::TableStatus::Active {
            return None;
        }
        let mut backup = BackupId { table: table.clone(), unix: self.unix_now };
        // Two in one second: the later one takes the next.
        while self.is_taken(&backup) {
            backup.unix += 1;
        }
        let kind = Kind::Backup {
            backup: backup.clone(),
            to: to.map(str::to_owned),
            checksums,
            mib_per_second,
            cause,
        };
        self.add(|_, id, unix| Some(catalogue::backup(&known, id, kind, unix)))?;
        Some(backup)
    }

    fn is_taken(&self, id: &BackupId) -> bool {
        let begun = self.state.operations.values().chain(&self.state.finished);
        self.state.backups.contains_key(id)
            || begun
                .into_iter()
                .any(|operation| matches!(&operation.kind, Kind::Backup { backup, .. } if backup == id))
    }

    /// Backups with documents that are under way.
    pub(super) fn copying(&self) -> usize {
        let copying = |operation: &&Operation| {
            matches!(operation.kind, Kind::Backup { to: Some(_), .. } | Kind::Restore { from: Some(_), .. })
                && !matches!(operation.status, Status::Done | Status::Failed | Status::Cancelled)
        };
        self.state.active().filter(copying).count()
    }
}
