//! Drop: routes first, then the tables leave their groups, then copies. Groups that held nothing else are dissolved when
//! the table is gone ([`crate::dissolve`]). Forward only: half a table is no table.

use crate::operation::{Kind, Operation, Steps, physical};
use crate::state::{Group, State};
use model::{Action, GroupId, NodeId, OperationId, StepId, TableName};
use std::collections::BTreeMap;

pub fn drop_table(state: &State, id: OperationId, table: &TableName, unix: u64) -> Operation {
    let mut steps = Steps::default();
    // One that is lost may come back with its route: the step that is passed over for it leaves that to be cleaned.
    let nodes: Vec<NodeId> = state.nodes.keys().cloned().collect();
    let unrouted: Vec<StepId> = nodes
        .iter()
        .map(|node| steps.command(node, Action::DropRoutes { tables: vec![table.clone()] }, &[], None))
        .collect();
    let mut asked = BTreeMap::new();
    for (id, group) in &state.groups {
        let tables = physical(group.shards.iter().filter(|shard| shard.table == *table));
        if tables.is_empty() {
            continue;
        }
        if !group.is_clustered() {
            for node in group.members.keys() {
                steps.command(node, Action::DropTables { tables: tables.clone() }, &unrouted, None);
            }
            continue;
        }
        let Some(removed) = leave_group(&mut steps, id, group, &tables, &unrouted, &mut asked) else {
            continue;
        };
        if tables.len() < group.shards.len() {
            for node in group.members.keys() {
                steps.command(node, Action::DropTables { tables: tables.clone() }, &[removed], None);
            }
        } else {
            dissolve(&mut steps, id, group, &tables, removed);
        }
    }
    Operation::new(id, Kind::DropTable { table: table.clone() }, steps.0, unix)
}

/// The tables leave the group, on all members at once. Any member can be told; the one that was told least takes its turn, for a
/// node does one such command at a time. `asked` counts them.
fn leave_group<'a>(
    steps: &mut Steps,
    id: &GroupId,
    group: &'a Group,
    tables: &[String],
    after: &[StepId],
    asked: &mut BTreeMap<&'a NodeId, u32>,
) -> Option<StepId> {
    let least = |nodes: &mut dyn Iterator<Item = &'a NodeId>| {
        nodes.min_by_key(|node| asked.get(node).copied().unwrap_or(0))
    };
    let node = least(&mut group.serving()).or_else(|| least(&mut group.members.keys()))?;
    *asked.entry(node).or_default() += 1;
    let remove = Action::RemoveTables { group: id.clone(), tables: tables.to_vec() };
    Some(steps.command(node, remove, after, None))
}

/// What is left to do of a group that held nothing else. Once its tables have left it, its copies are dropped and the rest is
/// passed over. Where that could not be, its members are not all whole, and it goes with its tables in it: all members but the
/// last leave by EXIT, one after the other; DELETE by the last one then touches nobody else.
fn dissolve(steps: &mut Steps, id: &GroupId, group: &Group, tables: &[String], removed: StepId) {
    let mut before = vec![removed];
    let members: Vec<&NodeId> = group.members.keys().collect();
    for (index, node) in members.iter().enumerate() {
        let last = index + 1 == members.len();
        let leave = if last {
            Action::DeleteCluster { group: id.clone(), whole: false }
        } else {
            Action::ExitCluster { group: id.clone(), tables: tables.to_vec(), floor: 0 }
        };
        let left = steps.command(node, leave, &before, None);
        let dropped = steps.command(node, Action::DropTables { tables: tables.to_vec() }, &[left], None);
        steps.command(node, Action::RemoveDirectory { group: id.clone() }, &[dropped], None);
        before = vec![left];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    /// One that was only cut off has its route still when it is back, and the copies' EXIT waits until it has not.
    #[test]
    fn a_lost_node_is_to_lose_its_route_too() {
        let node = |n: u16| NodeId::new(format!("127.0.0.1:{n}")).expect("valid");
        let mut state = State::default();
        for record in [
            Record::NodeAdded { node: node(1), uuid: "1".to_owned(), unix: 0 },
            Record::NodeAdded { node: node(2), uuid: "2".to_owned(), unix: 0 },
            Record::NodeLost { node: node(2), unix: 0 },
        ] {
            state.apply(&record).expect("it follows");
        }
        let table = TableName::new("t").expect("valid");
        let operation = drop_table(&state, OperationId(1), &table, 0);
        let unrouted: Vec<Option<NodeId>> = operation.steps.iter().map(|step| step.node.clone()).collect();
        assert_eq!(unrouted, [Some(node(1)), Some(node(2))]);
    }
}
