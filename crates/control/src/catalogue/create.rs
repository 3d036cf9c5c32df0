//! Create: shards into groups while they are empty, then routes on every node. All of it can be taken back.

use crate::operation::{Kind, NewGroup, Operation, Steps, Work};
use crate::state::{Group, State};
use model::{Action, GroupId, NodeId, OperationId, StepId, TableSpec};
use std::collections::BTreeMap;

/// What was decided before the steps are made.
#[derive(Clone, Debug)]
pub struct Create {
    pub spec: TableSpec,
    pub generation: u64,
    pub new_groups: Vec<NewGroup>,
    /// By shard number.
    pub homes: Vec<GroupId>,
}

pub fn create_table(state: &State, id: OperationId, create: Create, unix: u64) -> Operation {
    let mut steps = Steps::default();
    let mut filled = Vec::new();
    let mut by_group: BTreeMap<&GroupId, Vec<String>> = BTreeMap::new();
    for (number, home) in create.homes.iter().enumerate() {
        by_group.entry(home).or_default().push(create.spec.name.shard_table(number as u32));
    }
    let mut makers = Makers::default();
    for new in &create.new_groups {
        let Some(tables) = by_group.remove(&new.id) else { continue };
        let Some(maker) = makers.next(new.members.iter(), tables.len()) else { continue };
        filled.extend(new_group(&mut steps, (new, &maker), &tables, &create));
    }
    for (group, tables) in by_group {
        let Some(known) = state.groups.get(group) else { continue };
        let Some(maker) = makers.next(known.serving(), tables.len()) else { continue };
        filled.extend(known_group(&mut steps, group, (known, &maker), &tables, &create));
    }
    // The list of names that this operation makes is the next one.
    let names = Work::AwaitNames { version: state.names_version + 1 };
    filled.push(steps.push(None, names, &[], None));
    let nodes: Vec<NodeId> = state.live_nodes().cloned().collect();
    for node in &nodes {
        let undo = Action::DropRoutes { tables: vec![create.spec.name.clone()] };
        let work = Work::Route { tables: vec![create.spec.name.clone()] };
        steps.push(Some(node), work, &filled, Some(undo));
    }
    let Create { spec, generation, new_groups, homes } = create;
    Operation::new(id, Kind::CreateTable { spec, generation, new_groups, homes }, steps.0, unix)
}

/// Who makes tables, so that no node has all the work: one cluster statement runs at a time on each, JOIN takes a second and
/// more, and ADD a moment for each table.
#[derive(Default)]
struct Makers {
    tables: BTreeMap<NodeId, usize>,
}

impl Makers {
    /// The member that makes the fewest so far, the first among equals; it makes `count` more.
    fn next<'a>(&mut self, members: impl Iterator<Item = &'a NodeId>, count: usize) -> Option<NodeId> {
        let maker = members.min_by_key(|node| self.tables.get(*node).copied().unwrap_or(0))?;
        *self.tables.entry(maker.clone()).or_default() += count;
        Some(maker.clone())
    }
}

/// A group that the table brings along: `maker` makes it alone, the others join it.
fn new_group(
    steps: &mut Steps,
    (new, maker): (&NewGroup, &NodeId),
    tables: &[String],
    create: &Create,
) -> Vec<StepId> {
    let joiners = new.members.iter().filter(|member| *member != maker);
    let group = &new.id;
    let made = make_tables(steps, maker, tables, create, &[]);
    let serve = |steps: &mut Steps, node: &NodeId, after| {
        steps.push(Some(node), Work::Verify { group: group.clone(), node: node.clone() }, &[after], None)
    };
    if new.rf == 1 {
        return vec![serve(steps, maker, made)];
    }
    let directory = make_directory(steps, maker, group, &[]);
    let create_cluster = Action::CreateCluster { group: group.clone() };
    let delete_cluster = Action::DeleteCluster { group: group.clone(), whole: false };
    let clustered = steps.command(maker, create_cluster, &[directory], Some(delete_cluster));
    let add = Action::AddTables { group: group.clone(), tables: tables.to_vec() };
    // Taking the cluster away leaves the tables as plain ones: no undo of its own.
    let added = steps.command(maker, add, &[made, clustered], None);
    let mut serving = vec![serve(steps, maker, added)];
    for joiner in joiners {
        let join = join(steps, joiner, group, maker, tables, &[serving[serving.len() - 1]]);
        serving.push(serve(steps, joiner, join));
    }
    serving
}

/// A group that is there: the tables are made on `maker`, a member, and enter the group while they are empty.
fn known_group(
    steps: &mut Steps,
    group: &GroupId,
    (known, maker): (&Group, &NodeId),
    tables: &[String],
    create: &Create,
) -> Vec<StepId> {
    let others = known.serving().filter(|other| *other != maker);
    let mut before: Vec<StepId> = others.map(|other| reserve(steps, other, tables, &[])).collect();
    let made = make_tables(steps, maker, tables, create, &before);
    if !known.is_clustered() {
        return vec![made];
    }
    before.push(made);
    let add = Action::AddTables { group: group.clone(), tables: tables.to_vec() };
    let remove = Action::RemoveTables { group: group.clone(), tables: tables.to_vec() };
    vec![steps.command(maker, add, &before, Some(remove))]
}

fn make_tables(
    steps: &mut Steps,
    node: &NodeId,
    tables: &[String],
    create: &Create,
    after: &[StepId],
) -> StepId {
    let make = Action::CreateTables { tables: tables.to_vec(), schema: create.spec.schema.clone() };
    steps.command(node, make, after, Some(Action::DropTables { tables: tables.to_vec() }))
}

pub(super) fn make_directory(steps: &mut Steps, node: &NodeId, group: &GroupId, after: &[StepId]) -> StepId {
    let make = Action::MakeDirectory { group: group.clone() };
    steps.command(node, make, after, Some(Action::RemoveDirectory { group: group.clone() }))
}

pub(super) fn reserve(steps: &mut Steps, node: &NodeId, tables: &[String], after: &[StepId]) -> StepId {
    let undo = Action::DropTables { tables: tables.to_vec() };
    steps.push(Some(node), Work::Reserve { tables: tables.to_vec() }, after, Some(undo))
}

/// Everything that brings the group's copies onto `node`, up to the end of JOIN.
pub(super) fn join(
    steps: &mut Steps,
    node: &NodeId,
    group: &GroupId,
    at: &NodeId,
    tables: &[String],
    after: &[StepId],
) -> StepId {
    let reserved = reserve(steps, node, tables, &[]);
    let directory = make_directory(steps, node, group, &[reserved]);
    let mut before = after.to_vec();
    before.push(directory);
    let join = Action::JoinCluster { group: group.clone(), at: at.clone() };
    let exit = Action::ExitCluster { group: group.clone(), tables: tables.to_vec(), floor: 0 };
    steps.command(node, join, &before, Some(exit))
}
