//! Drop: routes first, then copies, then the groups that held nothing else. Forward only: half a table is no table.

use crate::operation::{Kind, Operation, Steps, physical};
use crate::state::{Group, State};
use model::{Action, GroupId, NodeId, OperationId, StepId, TableName};

pub fn drop_table(state: &State, id: OperationId, table: &TableName, unix: u64) -> Operation {
    let mut steps = Steps::default();
    // One that is lost may come back with its route: the step that is passed over for it leaves that to be cleaned.
    let nodes: Vec<NodeId> = state.nodes.keys().cloned().collect();
    let unrouted: Vec<StepId> = nodes
        .iter()
        .map(|node| steps.command(node, Action::DropRoutes { tables: vec![table.clone()] }, &[], None))
        .collect();
    for (id, group) in &state.groups {
        let tables = physical(group.shards.iter().filter(|shard| shard.table == *table));
        if tables.is_empty() {
            continue;
        }
        let shared = tables.len() < group.shards.len();
        match (group.is_clustered(), shared) {
            (false, _) => {
                for node in group.members.keys() {
                    steps.command(node, Action::DropTables { tables: tables.clone() }, &unrouted, None);
                }
            }
            (true, true) => leave_group(&mut steps, id, group, &tables, &unrouted),
            (true, false) => dissolve(&mut steps, id, group, &tables, &unrouted),
        }
    }
    Operation::new(id, Kind::DropTable { table: table.clone() }, steps.0, unix)
}

/// The group goes on without the table.
fn leave_group(steps: &mut Steps, id: &GroupId, group: &Group, tables: &[String], after: &[StepId]) {
    let Some(first) = group.serving().next().or_else(|| group.members.keys().next()) else { return };
    let remove = Action::RemoveTables { group: id.clone(), tables: tables.to_vec() };
    let removed = steps.command(first, remove, after, None);
    for node in group.members.keys() {
        steps.command(node, Action::DropTables { tables: tables.to_vec() }, &[removed], None);
    }
}

/// All members but the last leave by EXIT, one after the other; DELETE by the last one then touches nobody else.
fn dissolve(steps: &mut Steps, id: &GroupId, group: &Group, tables: &[String], after: &[StepId]) {
    let mut before = after.to_vec();
    let members: Vec<&NodeId> = group.members.keys().collect();
    for (index, node) in members.iter().enumerate() {
        let last = index + 1 == members.len();
        let leave = if last {
            Action::DeleteCluster { group: id.clone() }
        } else {
            Action::ExitCluster { group: id.clone(), tables: tables.to_vec() }
        };
        let left = steps.command(node, leave, &before, None);
        let dropped = steps.command(node, Action::DropTables { tables: tables.to_vec() }, &[left], None);
        steps.command(node, Action::RemoveDirectory { group: id.clone() }, &[dropped], None);
        before = vec![left];
    }
}
