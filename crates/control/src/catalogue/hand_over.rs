//! Shards change groups: held where the old group has a cluster, under a lock where their only copies are plain.
//! Everything can be taken back until the switch; from there forward only.

use super::create::{join, make_directory};
use super::route_everywhere;
use crate::operation::{Kind, NewGroup, Operation, Steps, Work};
use crate::state::{Group, State};
use model::{Action, GroupId, NodeId, OperationId, StepId, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// What is handed over; `new_groups` have no members yet.
#[derive(Clone, Debug)]
pub struct HandOver {
    pub table: TableName,
    pub shards: Vec<u32>,
    pub rf: u32,
    pub new_groups: Vec<NewGroup>,
}

/// The steps as the state is now; `None` when the shards are in no group, or in several that have clusters.
pub fn hand_over(state: &State, id: OperationId, order: HandOver, unix: u64) -> Option<Operation> {
    let known = state.tables.get(&order.table)?;
    let homes: Option<BTreeSet<&GroupId>> =
        order.shards.iter().map(|number| known.homes.get(*number as usize)).collect();
    let homes = homes?;
    let home = *homes.first()?;
    let group = state.groups.get(home)?;
    let mut steps = Steps::default();
    let source = if group.is_clustered() {
        if homes.len() > 1 {
            return None;
        }
        let new_groups = members_of_new(state, group, &order);
        let order = HandOver { new_groups: new_groups.clone(), ..order.clone() };
        held(state, &mut steps, home, group, &order);
        (Some(home.clone()), new_groups)
    } else {
        let maker = group.serving().next()?;
        let second = emptiest(state, maker, order.rf)?;
        let mut new_groups = order.new_groups.clone();
        for new in &mut new_groups {
            new.members = vec![maker.clone(), second.clone()];
        }
        under_lock(state, &mut steps, new_groups.first()?, &order);
        (None, new_groups)
    };
    let (source, new_groups) = source;
    let HandOver { table, shards, rf, .. } = order;
    Some(Operation::new(id, Kind::HandOver { table, shards, rf, source, new_groups }, steps.0, unix))
}

impl HandOver {
    fn physical(&self) -> Vec<String> {
        self.shards.iter().map(|number| self.table.shard_table(*number)).collect()
    }

    /// The new group of the shard at this place in the list.
    fn home(&self, at: usize) -> Option<&NewGroup> {
        self.new_groups.get(at).or(self.new_groups.first())
    }
}

/// Who of the old group's members keeps its copies: as many as both rf ask for, those with the least first.
fn members_of_new(state: &State, group: &Group, order: &HandOver) -> Vec<NewGroup> {
    let mut load: BTreeMap<&NodeId, usize> = group.serving().map(|node| (node, 0)).collect();
    for other in state.groups.values().filter(|other| other.rf == order.rf) {
        for node in other.members.keys() {
            if let Some(count) = load.get_mut(node) {
                *count += 1;
            }
        }
    }
    let leaves = |node: &NodeId| state.nodes.get(node).is_some_and(|node| node.draining);
    let mut new_groups = order.new_groups.clone();
    for new in &mut new_groups {
        let mut nodes: Vec<&NodeId> = load.keys().copied().collect();
        nodes.sort_by_key(|node| (leaves(node), load.get(node), *node));
        nodes.truncate(order.rf as usize);
        for node in &nodes {
            load.entry(node).and_modify(|count| *count += 1);
        }
        new.members = nodes.into_iter().cloned().collect();
    }
    new_groups
}

/// The node that gets the second copy: the one with the fewest groups of that rf.
fn emptiest<'a>(state: &'a State, maker: &NodeId, rf: u32) -> Option<&'a NodeId> {
    let groups = |node: &NodeId| {
        let of_rf = state.groups.values().filter(|group| group.rf == rf);
        of_rf.filter(|group| group.members.contains_key(node)).count()
    };
    state.placing_nodes().filter(|node| *node != maker).min_by_key(|node| (groups(node), *node))
}

/// The only copies are plain and on one node: they enter a cluster there, one lock long, and another node joins before the
/// switch. A cluster of one member would not come back by itself after a crash.
fn under_lock(state: &State, steps: &mut Steps, new: &NewGroup, order: &HandOver) {
    let [maker, second] = new.members.as_slice() else { return };
    let (group, tables) = (&new.id, order.physical());
    let made = make_cluster(steps, maker, group);
    let add = Action::AddTables { group: group.clone(), tables: tables.clone() };
    // Taking the cluster away leaves the tables as plain ones: no undo of its own.
    let added = steps.command(maker, add, &[made], None);
    let verify = |node: &NodeId| Work::Verify { group: group.clone(), node: node.clone() };
    let verified = steps.push(Some(maker), verify(maker), &[added], None);
    let joined = join(steps, second, group, maker, &tables, &[verified]);
    let verified = steps.push(Some(second), verify(second), &[joined], None);
    let switched = steps.push(None, Work::Switch, &[verified], None);
    route_everywhere(state, steps, std::slice::from_ref(&order.table), &[switched]);
}

fn make_cluster(steps: &mut Steps, maker: &NodeId, group: &GroupId) -> StepId {
    let directory = make_directory(steps, maker, group, &[]);
    let create = Action::CreateCluster { group: group.clone() };
    let delete = Action::DeleteCluster { group: group.clone(), whole: false };
    steps.command(maker, create, &[directory], Some(delete))
}

/// The held hand-over out of `group`.
fn held(state: &State, steps: &mut Steps, id: &GroupId, group: &Group, order: &HandOver) {
    let tables = order.physical();
    let target = order.new_groups.first().filter(|new| new.rf > 1);
    let mut prepared = Vec::new();
    if let Some(new) = target
        && let Some((maker, joiners)) = new.members.split_first()
    {
        prepared.push(make_cluster(steps, maker, &new.id));
        prepared.extend(joiners.iter().map(|joiner| make_directory(steps, joiner, &new.id, &[])));
    }
    let compared = quiet_and_equal(state, steps, id, order, &prepared);
    let Some(first) = group.serving().next() else { return };
    let remove = Action::RemoveTables { group: id.clone(), tables: tables.clone() };
    // With what was compared, once that is known.
    let put_back = Action::ReturnTables { group: id.clone(), copies: BTreeMap::new() };
    let removed = steps.command(first, remove, &[compared], Some(put_back));
    // A transaction of somebody who writes to the shard itself can commit until then. It is in all copies.
    let plain = Work::Compare { group: id.clone(), tables: tables.clone(), quick: true };
    let settled = steps.push(None, plain, &[removed], None);
    let mut ready = vec![settled];
    if let Some(new) = target {
        ready = fill(steps, new, &tables, settled);
    }
    let switched = steps.push(None, Work::Switch, &ready, None);
    let routed = route_everywhere(state, steps, std::slice::from_ref(&order.table), &[switched]);
    let mut dropped = Vec::new();
    for node in group.members.keys() {
        let wanted = |at: usize| order.home(at).is_some_and(|new| new.members.contains(node));
        let kept: Vec<bool> = (0..tables.len()).map(wanted).collect();
        let spare = tables.iter().zip(kept).filter(|(_, kept)| !kept).map(|(table, _)| table.clone());
        let spare: Vec<String> = spare.collect();
        if !spare.is_empty() {
            let drop = Work::DropExited { exit: settled, tables: spare };
            dropped.push(steps.push(Some(node), drop, &routed, None));
        }
    }
    if group.shards.len() == order.shards.len() {
        let after = if dropped.is_empty() { routed } else { dropped };
        dissolve(steps, id, group, &after);
    }
}

/// Up to the point where the copies are known to be equal and to stay so.
fn quiet_and_equal(
    state: &State,
    steps: &mut Steps,
    id: &GroupId,
    order: &HandOver,
    after: &[StepId],
) -> StepId {
    let withheld = steps.push(None, Work::Withhold { table: order.table.clone() }, after, None);
    let nodes: Vec<NodeId> = state.nodes.keys().cloned().collect();
    let take_away = Action::DropRoutes { tables: vec![order.table.clone()] };
    // With the route that the state then has.
    let write_again = Action::SetRoutes { routes: Vec::new() };
    let unrouted: Vec<StepId> = nodes
        .iter()
        .map(|node| steps.command(node, take_away.clone(), &[withheld], Some(write_again.clone())))
        .collect();
    let quiet: Vec<StepId> = nodes
        .iter()
        .map(|node| steps.command(node, Action::AwaitQuiet { lock: true }, &unrouted, None))
        .collect();
    let compare = Work::Compare { group: id.clone(), tables: order.physical(), quick: false };
    steps.push(None, compare, &quiet, None)
}

/// The maker's copies enter the new cluster, and the others join it.
fn fill(steps: &mut Steps, new: &NewGroup, tables: &[String], after: StepId) -> Vec<StepId> {
    let Some((maker, joiners)) = new.members.split_first() else { return Vec::new() };
    let group = &new.id;
    let add = Action::AddTables { group: group.clone(), tables: tables.to_vec() };
    let take_out = Action::RemoveTables { group: group.clone(), tables: tables.to_vec() };
    let added = steps.command(maker, add, &[after], Some(take_out));
    let serve = |steps: &mut Steps, node: &NodeId, after| {
        steps.push(Some(node), Work::Verify { group: group.clone(), node: node.clone() }, &[after], None)
    };
    let mut serving = vec![serve(steps, maker, added)];
    for joiner in joiners {
        let join = Action::JoinCluster { group: group.clone(), at: maker.clone() };
        let exit = Action::ExitCluster { group: group.clone(), tables: tables.to_vec(), floor: 0 };
        let joined = steps.command(joiner, join, &[serving[serving.len() - 1]], Some(exit));
        serving.push(serve(steps, joiner, joined));
    }
    serving
}

/// A group without tables: all members but the last leave by EXIT, one after the other, and the last one ends it.
fn dissolve(steps: &mut Steps, id: &GroupId, group: &Group, after: &[StepId]) {
    let mut before = after.to_vec();
    for (index, node) in group.members.keys().enumerate() {
        let leave = if index + 1 == group.members.len() {
            Action::DeleteCluster { group: id.clone(), whole: false }
        } else {
            Action::ExitCluster { group: id.clone(), tables: Vec::new(), floor: 0 }
        };
        let left = steps.command(node, leave, &before, None);
        steps.command(node, Action::RemoveDirectory { group: id.clone() }, &[left], None);
        before = vec![left];
    }
}
