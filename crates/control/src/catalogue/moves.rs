//! Move: gain, route, shed, in this order. A gain can be taken back until the new copy is routed; a shed is
//! finished whatever happens.

use super::create::{join, make_directory};
use super::route_everywhere;
use crate::operation::{Kind, Operation, Steps, Work};
use crate::state::{Group, State};
use model::{Action, GroupId, NodeId, OperationId, StepId, TableName};

/// A copy of `group` at `to`, and then, when `from` is given, none there any more.
pub fn move_group(
    state: &State,
    id: OperationId,
    group: &GroupId,
    to: &NodeId,
    from: Option<&NodeId>,
    reason: &str,
    unix: u64,
) -> Option<Operation> {
    let known = state.groups.get(group)?;
    let donor = donor(known, from)?;
    let tables = known.tables();
    let names: Vec<TableName> = known.table_names().into_iter().collect();
    let mut steps = Steps::default();
    let source = if !known.is_clustered() {
        vec![temporary_cluster(&mut steps, donor, group, &tables)]
    } else if from.is_none() {
        // JOIN sends its list to each member of the old one, and would wait 120 s for the lost one that is still in it.
        vec![steps.command(donor, Action::UpdateNodes { group: group.clone() }, &[], None)]
    } else {
        Vec::new()
    };
    let joined = join(&mut steps, to, group, donor, &tables, &source);
    let verify = Work::Verify { group: group.clone(), node: to.clone() };
    let verified = steps.push(Some(to), verify, &[joined], None);
    if let Some(from) = from {
        shed_steps(state, &mut steps, (group, known), from, &[verified]);
        if !known.is_clustered() {
            let before = steps.ends();
            let left = steps.command(
                to,
                Action::DeleteCluster { group: group.clone(), whole: false },
                &before,
                None,
            );
            steps.command(to, Action::RemoveDirectory { group: group.clone() }, &[left], None);
        }
    } else {
        route_everywhere(state, &mut steps, &names, &[verified]);
    }
    let kind = Kind::Move {
        group: group.clone(),
        to: to.clone(),
        from: from.cloned(),
        floor: known.floor(),
        reason: reason.to_owned(),
        pin: false,
    };
    Some(Operation::new(id, kind, steps.0, unix))
}

/// Who gives its copy: one that stays, where there is one.
pub fn donor<'a>(group: &'a Group, from: Option<&NodeId>) -> Option<&'a NodeId> {
    group.serving().find(|node| Some(*node) != from).or_else(|| group.serving().next())
}

/// An RF=1 shard gets a cluster of its own, of one node, while it moves.
pub(super) fn temporary_cluster(
    steps: &mut Steps,
    source: &NodeId,
    group: &GroupId,
    tables: &[String],
) -> StepId {
    let directory = make_directory(steps, source, group, &[]);
    let create = Action::CreateCluster { group: group.clone() };
    let delete = Action::DeleteCluster { group: group.clone(), whole: false };
    let made = steps.command(source, create, &[directory], Some(delete));
    let add = Action::AddTables { group: group.clone(), tables: tables.to_vec() };
    // Taking the cluster away leaves the tables as plain ones: no undo of its own.
    steps.command(source, add, &[made], None)
}

/// One copy less, without a gain: the plan has more copies than it needs.
pub fn shed(
    state: &State,
    id: OperationId,
    group: &GroupId,
    from: &NodeId,
    reason: &str,
    unix: u64,
) -> Option<Operation> {
    let known = state.groups.get(group)?;
    let mut steps = Steps::default();
    shed_steps(state, &mut steps, (group, known), from, &[]);
    let kind = Kind::Shed {
        group: group.clone(),
        from: from.clone(),
        floor: known.floor(),
        reason: reason.to_owned(),
    };
    Some(Operation::new(id, kind, steps.0, unix))
}

fn shed_steps(
    state: &State,
    steps: &mut Steps,
    (group, known): (&GroupId, &Group),
    from: &NodeId,
    after: &[StepId],
) {
    let names: Vec<TableName> = known.table_names().into_iter().collect();
    let withdraw = Work::Withdraw { group: group.clone(), node: from.clone() };
    let withdrawn = steps.push(Some(from), withdraw, after, None);
    let routed = route_everywhere(state, steps, &names, &[withdrawn]);
    // Rule 4: what a router took up by its old route can still be on its way to the copy.
    let routers: Vec<NodeId> = state.live_nodes().cloned().collect();
    let quiet: Vec<StepId> = routers
        .iter()
        .zip(&routed)
        .map(|(node, routed)| steps.command(node, Action::AwaitQuiet { lock: false }, &[*routed], None))
        .collect();
    let exit = Action::ExitCluster { group: group.clone(), tables: known.tables(), floor: known.floor() };
    let left = steps.command(from, exit, &quiet, None);
    let dropped = steps.push(Some(from), Work::DropExited { exit: left, tables: Vec::new() }, &[left], None);
    steps.command(from, Action::RemoveDirectory { group: group.clone() }, &[dropped], None);
}
