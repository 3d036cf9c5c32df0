//! Backup: the record, then the documents of every shard, then the seal. Snapshot: a copy more for as long as it is read.
//! Restore: the table, its documents, the comparison.

use super::create::join;
use super::moves::temporary_cluster;
use crate::backup::JobKind;
use crate::operation::{Kind, Operation, Steps, Work};
use crate::state::{State, Table};
use model::{Action, BackupId, GroupId, NodeId, OperationId};
use std::collections::BTreeMap;

/// The steps of a `Kind::Backup` of `table`.
pub fn backup(table: &Table, id: OperationId, kind: Kind, unix: u64) -> Operation {
    let mut steps = Steps::default();
    let recorded = steps.push(None, Work::Job { job: JobKind::Facts }, &[], None);
    if matches!(&kind, Kind::Backup { to: Some(_), .. }) {
        let mut by_home: BTreeMap<&GroupId, Vec<u32>> = BTreeMap::new();
        for (number, home) in table.homes.iter().enumerate() {
            by_home.entry(home).or_default().push(number as u32);
        }
        for shards in by_home.into_values() {
            steps.push(None, Work::Job { job: JobKind::Save { shards } }, &[recorded], None);
        }
        let before = steps.ends();
        steps.push(None, Work::Job { job: JobKind::Seal }, &before, None);
    }
    Operation::new(id, kind, steps.0, unix)
}

/// A copy of `group` at `to` that is never routed: it joins, leaves with all that was committed until then, is read,
/// and is dropped. The copies that serve are as many as before, all the time.
pub fn snapshot(
    state: &State,
    id: OperationId,
    backup: &BackupId,
    group: &GroupId,
    to: &NodeId,
    unix: u64,
) -> Option<Operation> {
    let known = state.groups.get(group)?;
    let donor = known.serving().find(|node| state.is_live(node))?;
    let tables = known.tables();
    let mut steps = Steps::default();
    let source = if known.is_clustered() {
        Vec::new()
    } else {
        vec![temporary_cluster(&mut steps, donor, group, &tables)]
    };
    let joined = join(&mut steps, to, group, donor, &tables, &source);
    let exit = Action::ExitCluster { group: group.clone(), tables, floor: 0 };
    let left = steps.command(to, exit, &[joined], None);
    if !known.is_clustered() {
        // Its shard is plain again at once, and not only when the copy was read.
        let delete = Action::DeleteCluster { group: group.clone(), whole: false };
        let deleted = steps.command(donor, delete, &[left], None);
        steps.command(donor, Action::RemoveDirectory { group: group.clone() }, &[deleted], None);
    }
    let read = Work::Job { job: JobKind::SaveFrozen { exit: left } };
    let read = steps.push(Some(to), read, &[left], None);
    let dropped = steps.push(Some(to), Work::DropExited { exit: left, tables: Vec::new() }, &[read], None);
    steps.command(to, Action::RemoveDirectory { group: group.clone() }, &[dropped], None);
    let (backup, group, to, from) = (backup.clone(), group.clone(), to.clone(), donor.clone());
    Some(Operation::new(id, Kind::Snapshot { backup, group, to, from }, steps.0, unix))
}

/// The steps of a `Kind::Restore` of a table of `shards` shards.
pub fn restore(id: OperationId, kind: Kind, shards: u32, unix: u64) -> Operation {
    let mut steps = Steps::default();
    if let Kind::Restore { table, generation, from, .. } = &kind {
        let (table, generation, with_data) = (table.clone(), *generation, from.is_some());
        let made = steps.push(None, Work::AwaitTable { table, generation }, &[], None);
        if with_data {
            for shard in 0..shards {
                steps.push(None, Work::Job { job: JobKind::Fill { shard } }, &[made], None);
            }
        }
        let before = steps.ends();
        steps.push(None, Work::Job { job: JobKind::Check }, &before, None);
    }
    Operation::new(id, kind, steps.0, unix)
}
