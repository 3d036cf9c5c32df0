//! After a total loss: stopped clusters are given up node by node, so that nobody forms one anew by accident, and made
//! anew around the newest copy.

use super::create::make_directory;
use crate::operation::{Kind, Operation, Steps, Work};
use crate::state::{State, TableStatus};
use model::{Action, GroupId, NodeId, OperationId};

/// `node` leaves a cluster that has stopped everywhere. Its copies stay there as plain tables.
pub fn let_go(id: OperationId, group: &GroupId, node: &NodeId, unix: u64) -> Operation {
    let mut steps = Steps::default();
    leave(&mut steps, node, group);
    Operation::new(id, Kind::LetGo { group: group.clone(), node: node.clone() }, steps.0, unix)
}

/// How it leaves is the matter of what it shows: see `prelude`.
fn leave(steps: &mut Steps, node: &NodeId, group: &GroupId) -> model::StepId {
    let exit = Action::ExitCluster { group: group.clone(), tables: Vec::new(), floor: 0 };
    steps.command(node, exit, &[], None)
}

/// The tables that a group made anew takes along: those that are being dropped or made are the matter of that.
pub fn tables_to_keep(state: &State, group: &GroupId) -> Vec<String> {
    let is_active = |name| state.tables.get(name).is_some_and(|table| table.status == TableStatus::Active);
    let known = state.groups.get(group).into_iter().flat_map(|known| &known.shards);
    known.filter(|shard| is_active(&shard.table)).map(crate::state::Shard::physical).collect()
}

/// The group is the plain copy on `from`, and nothing else. New copies are the planner's matter, as after any loss.
pub fn remake(
    state: &State,
    id: OperationId,
    group: &GroupId,
    from: &NodeId,
    why: &str,
    unix: u64,
) -> Option<Operation> {
    let known = state.groups.get(group)?;
    let mut steps = Steps::default();
    let mut before: Vec<model::StepId> = known
        .members
        .keys()
        .filter(|node| state.is_live(node))
        .map(|node| leave(&mut steps, node, group))
        .collect();
    before.push(make_directory(&mut steps, from, group, &[]));
    let made = steps.command(from, Action::CreateCluster { group: group.clone() }, &before, None);
    let tables = tables_to_keep(state, group);
    let add = Action::AddTables { group: group.clone(), tables };
    let added = steps.command(from, add, &[made], None);
    steps.push(Some(from), Work::Verify { group: group.clone(), node: from.clone() }, &[added], None);
    let kind = Kind::Remake { group: group.clone(), from: from.clone(), why: why.to_owned() };
    Some(Operation::new(id, kind, steps.0, unix))
}

/// The user's own cluster, empty, on one more node.
pub fn user_cluster(
    id: OperationId,
    cluster: &GroupId,
    node: &NodeId,
    at: Option<&NodeId>,
    unix: u64,
) -> Operation {
    let mut steps = Steps::default();
    let left = leave(&mut steps, node, cluster);
    let enter = match at {
        Some(at) => Action::JoinCluster { group: cluster.clone(), at: at.clone() },
        None => Action::CreateCluster { group: cluster.clone() },
    };
    steps.command(node, enter, &[left], None);
    let kind = Kind::UserCluster { cluster: cluster.clone(), node: node.clone(), at: at.cloned() };
    Operation::new(id, kind, steps.0, unix)
}

/// The user's own cluster, empty, has a quorum again from `node` on.
pub fn user_quorum(id: OperationId, cluster: &GroupId, node: &NodeId, unix: u64) -> Operation {
    let mut steps = Steps::default();
    steps.command(node, Action::Bootstrap { group: cluster.clone() }, &[], None);
    let kind = Kind::UserCluster { cluster: cluster.clone(), node: node.clone(), at: None };
    Operation::new(id, kind, steps.0, unix)
}
