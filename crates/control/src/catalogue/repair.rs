//! What follows a failure: failover, return, cleaning up, and routes that are not as they should be.

use super::route_everywhere;
use crate::observed::Observed;
use crate::operation::{Kind, Operation, Steps, Work};
use crate::rules;
use crate::state::{Group, Leftover, Member, Shard, State, Table};
use model::{Action, ClusterState, ClusterStatus, GroupId, NodeId, OperationId, StepId, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// Makes `groups`, which lost members (the one on `node`, mostly), writable again, then routes without those.
pub fn failover(
    state: &State,
    id: OperationId,
    node: &NodeId,
    groups: &BTreeSet<GroupId>,
    unix: u64,
) -> Operation {
    let mut steps = Steps::default();
    // A table waits for its own groups alone: another one's may wait for an operator.
    let mut waits: BTreeMap<TableName, Vec<StepId>> = BTreeMap::new();
    for (id, group) in state.groups.iter().filter(|(id, _)| groups.contains(id)) {
        let regained = (keeps_quorum(state, group) && group.survivors().next().is_some())
            .then(|| steps.push(None, Work::Regain { group: id.clone() }, &[], None));
        for table in group.table_names() {
            waits.entry(table).or_default().extend(regained);
        }
    }
    let mut together: BTreeMap<Vec<StepId>, Vec<TableName>> = BTreeMap::new();
    for (table, regained) in waits {
        together.entry(regained).or_default().push(table);
    }
    for (regained, tables) in together {
        route_everywhere(state, &mut steps, &tables, &regained);
    }
    Operation::new(id, Kind::Failover { node: node.clone() }, steps.0, unix)
}

/// Whether a cluster of the group that lost its quorum is to have one again: that of a group, and the temporary one of a
/// shard without others whose new copy serves already, while its old one lives and has not left.
pub fn keeps_quorum(state: &State, group: &Group) -> bool {
    group.is_clustered() || group.in_state(Member::Leaving).any(|source| state.is_live(source))
}

/// A copy that came back: synced by itself, verified, routed.
pub fn returned(
    state: &State,
    id: OperationId,
    group: &GroupId,
    node: &NodeId,
    unix: u64,
) -> Option<Operation> {
    let known = state.groups.get(group)?;
    let mut steps = Steps::default();
    let mut before = Vec::new();
    if known.is_clustered() {
        before.push(steps.push(Some(node), Work::AwaitSynced { group: group.clone() }, &[], None));
        // A move that began while it was away has taken it off the list, and its like would not look for it at a start.
        steps.command(node, Action::UpdateNodes { group: group.clone() }, &before, None);
    }
    let verify = Work::Verify { group: group.clone(), node: node.clone() };
    let verified = steps.push(Some(node), verify, &before, None);
    let names: Vec<TableName> = known.table_names().into_iter().collect();
    route_everywhere(state, &mut steps, &names, &[verified]);
    Some(Operation::new(id, Kind::Return { group: group.clone(), node: node.clone() }, steps.0, unix))
}

/// What a node has left over of a group is noted when it leaves. If it comes back into the group first, or had not been given
/// all of it yet, it has more when it is cleaned: what its cluster shows, and no group keeps on it.
pub fn came_later(state: &State, observed: &Observed) -> Vec<(NodeId, GroupId, Vec<String>)> {
    let mut later = Vec::new();
    for (node, left) in state.leftovers.iter().filter(|(node, _)| state.is_live(node)) {
        for left in left {
            let Leftover::Group { group, tables } = left else { continue };
            let Some(shown) = observed.cluster(node, group) else { continue };
            // What is in the user's own cluster is the user's. One that still is a member has no copies to give up; in a group
            // that is not filled yet they are a hand-over's.
            let known = state.groups.get(group).filter(|known| !known.shards.is_empty());
            if state.cluster.as_ref() == Some(group)
                || known.is_some_and(|known| known.members.contains_key(node))
            {
                continue;
            }
            let is_new = |table: &&String| {
                let shard = Shard::of(table);
                shard.is_some_and(|shard| !tables.contains(table) && !is_kept(state, node, &shard))
            };
            let new: Vec<String> = shown.tables.iter().filter(is_new).cloned().collect();
            if !new.is_empty() {
                later.push((node.clone(), group.clone(), new));
            }
        }
    }
    later
}

fn is_kept(state: &State, node: &NodeId, shard: &Shard) -> bool {
    let mut groups = state.groups.values();
    groups.any(|group| group.members.contains_key(node) && group.shards.contains(shard))
}

/// Takes what `node` still holds of ours away. `None` when nothing can be done yet: the node is still on its way
/// back into a group that lives, or shows a state in which a command could hurt others. `kept` are groups that are not to
/// be ended yet.
pub fn cleanup(
    state: &State,
    (observed, kept): (&Observed, &BTreeSet<GroupId>),
    id: OperationId,
    node: &NodeId,
    unix: u64,
) -> Option<Operation> {
    let mut steps = Steps::default();
    for left in state.leftovers.get(node)? {
        match left {
            // The node is being removed, or will be: see `finish_removals`.
            Leftover::Group { group, .. } if state.cluster.as_ref() == Some(group) => {}
            Leftover::Group { group, .. } if kept.contains(group) => {}
            Leftover::Group { group, tables } => {
                let Some(way) = way_out(state, observed, node, group, tables) else { continue };
                // A node that was away routes by what it has stored: what it still sends here would be acknowledged
                // by a copy that is about to be dropped.
                let names = tables_of(tables);
                let routed = if names.is_empty() {
                    Vec::new()
                } else {
                    route_everywhere(state, &mut steps, &names, &[])
                };
                let leave = match way {
                    Way::Out => None,
                    Way::Exit => {
                        Some(Action::ExitCluster { group: group.clone(), tables: tables.clone(), floor: 0 })
                    }
                    Way::Delete => Some(Action::DeleteCluster { group: group.clone(), whole: false }),
                    Way::End => Some(Action::DeleteCluster { group: group.clone(), whole: true }),
                };
                let mut before =
                    leave.map(|leave| vec![steps.command(node, leave, &routed, None)]).unwrap_or(routed);
                if !tables.is_empty() {
                    let drop = Action::DropTables { tables: tables.clone() };
                    before = vec![steps.command(node, drop, &before, None)];
                }
                steps.command(node, Action::RemoveDirectory { group: group.clone() }, &before, None);
            }
            Leftover::Tables { tables } => {
                let before = match in_a_cluster(observed, node, tables) {
                    None => Vec::new(),
                    // A drop found none of its members; they are back with it.
                    Some(group) if may_be_taken_out(state, node, group, tables) => {
                        let remove = Action::RemoveTables { group: group.clone(), tables: tables.clone() };
                        vec![steps.command(node, remove, &[], None)]
                    }
                    Some(_) => continue,
                };
                steps.command(node, Action::DropTables { tables: tables.clone() }, &before, None);
            }
            Leftover::Route { table } => {
                steps.push(Some(node), Work::Route { tables: vec![table.clone()] }, &[], None);
            }
        }
    }
    (!steps.0.is_empty()).then(|| Operation::new(id, Kind::Cleanup { node: node.clone() }, steps.0, unix))
}

/// The cluster that has one of these tables on the node.
fn in_a_cluster<'a>(observed: &'a Observed, node: &NodeId, tables: &[String]) -> Option<&'a GroupId> {
    let (_, clusters) = observed.view(node)?.status.as_ref()?;
    let has = |cluster: &&ClusterStatus| tables.iter().any(|table| cluster.tables.contains(table));
    clusters.iter().find(|(_, cluster)| has(cluster)).map(|(group, _)| group)
}

/// Whether the group is whole on the node, has nothing under way, and knows nothing of these tables.
fn may_be_taken_out(state: &State, node: &NodeId, group: &GroupId, tables: &[String]) -> bool {
    let known = state.groups.get(group).filter(|known| known.is_clustered() && known.halt.is_none());
    known.is_some_and(|known| {
        known.members.get(node) == Some(&Member::Serving)
            && known.tables().iter().all(|table| !tables.contains(table))
            && !state.active().any(|operation| crate::moves::touches(state, operation, group))
    })
}

/// The users' tables that these shards are of.
fn tables_of(shards: &[String]) -> Vec<TableName> {
    let names = shards.iter().filter_map(|shard| Some(model::parse_shard_table(shard)?.0));
    names.collect::<BTreeSet<TableName>>().into_iter().collect()
}

/// How `node` gets out of a group's cluster.
enum Way {
    /// It is in none.
    Out,
    Exit,
    Delete,
    /// All of the cluster goes: it was a temporary one, and whoever else is left in it has no quorum either.
    End,
}

/// `None`: not now.
fn way_out(
    state: &State,
    observed: &Observed,
    node: &NodeId,
    group: &GroupId,
    tables: &[String],
) -> Option<Way> {
    let dropped = state.active().any(|operation| {
        matches!(operation.kind, Kind::DropTable { .. }) && crate::moves::touches(state, operation, group)
    });
    if let Some(known) = state.groups.get(group) {
        let (whole, served) =
            (known.serving().any(|other| other != node), known.serving().any(|n| n == node));
        // One that is just being made has nothing to lose.
        let new = state.active().any(|operation| operation.makes_group(group));
        // One without shards is being dissolved, or did not come to be filled.
        let empty = known.shards.is_empty();
        // A group that still has shards and no whole copy elsewhere: this stale one may be the best there is. Its
        // cluster alone may go once the copy is served, and while nobody moves it.
        // One that a drop has emptied goes when the table is gone everywhere.
        // A shard without others is dropped when it is in no cluster any more.
        let busy = dropped && known.is_clustered() || state.group_operation(group).is_some();
        let spare = if tables.is_empty() { served && !busy } else { whole };
        if !new && !empty && !spare {
            return None;
        }
    }
    let view = observed.view(node)?;
    let (_, clusters) = view.status.as_ref()?;
    let Some(cluster) = clusters.get(group) else { return Some(Way::Out) };
    if rules::is_adrift(state, observed, node, group) || rules::is_apart(state, observed, node, group) {
        return Some(Way::Delete);
    }
    // Its copy serves, and takes no write before the cluster is gone; the others wait for it to go.
    let serves_plain = |known: &Group| !known.is_clustered() && known.serving().any(|other| other == node);
    if tables.is_empty()
        && cluster.status == ClusterState::NonPrimary
        && state.groups.get(group).is_some_and(serves_plain)
    {
        return Some(Way::End);
    }
    if rules::is_spare(state, observed, node, group) {
        return None;
    }
    let elsewhere = observed
        .nodes
        .iter()
        .any(|(other, view)| other != node && state.is_live(other) && view.cluster(group).is_some());
    if cluster.is_synced() && elsewhere {
        return Some(Way::Exit);
    }
    if !state.groups.contains_key(group) && cluster.status == ClusterState::NonPrimary {
        let leads =
            |shown: &ClusterStatus| shown.status == ClusterState::Primary || shown.is_whole_survivor();
        let mut left = shown_by_live(state, observed, group);
        // All that is left of it waits for somebody who is gone.
        if elsewhere && left.all(|(_, shown)| !leads(shown)) {
            return Some(Way::End);
        }
    }
    // DELETE CLUSTER from a node on its way back dissolves the cluster of the healthy members too: only where
    // there is nobody else, or where searchd has given up by itself.
    let alone = !elsewhere && state.groups.get(group).is_none_or(|known| !known.is_clustered());
    let first = !state.groups.contains_key(group) && ends_the_rest(state, observed, node, group);
    (cluster.status == ClusterState::RecoveryRequired || alone || first).then_some(Way::Delete)
}

/// What live nodes show of the group's cluster.
fn shown_by_live<'a>(
    state: &'a State,
    observed: &'a Observed,
    group: &'a GroupId,
) -> impl Iterator<Item = (&'a NodeId, &'a ClusterStatus)> {
    let live = observed.nodes.iter().filter(|(other, _)| state.is_live(other));
    live.filter_map(move |(other, view)| Some((other, view.cluster(group)?)))
}

/// Members that are left of a group whose tables are gone, all without quorum, would wait for each other for ever. One
/// of them, the lowest, becomes primary alone and is the last to go; the others find it, and leave.
fn ends_the_rest(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let left = || shown_by_live(state, observed, group);
    let lowest = left().find(|(_, cluster)| cluster.is_whole_survivor()).map(|(other, _)| other);
    lowest == Some(node) && left().all(|(_, cluster)| cluster.status != ClusterState::Primary)
}

/// Writes these tables' routes on one node.
pub fn reroute(id: OperationId, node: &NodeId, tables: Vec<TableName>, unix: u64) -> Operation {
    let mut steps = Steps::default();
    steps.push(Some(node), Work::Route { tables }, &[], None);
    Operation::new(id, Kind::Reroute { node: node.clone() }, steps.0, unix)
}

/// A statement on every shard: TRUNCATE once per group (it is replicated), the others on every copy.
pub fn every_shard(state: &State, id: OperationId, table: &Table, what: &str, unix: u64) -> Operation {
    let mut steps = Steps::default();
    for (number, home) in table.homes.iter().enumerate() {
        let Some(group) = state.groups.get(home) else { continue };
        let physical = table.spec.name.shard_table(number as u32);
        let prefix = group.is_clustered().then(|| home.clone());
        let copies: Vec<&NodeId> = group.serving().collect();
        match what {
            "TRUNCATE" => {
                if let Some(node) = copies.first() {
                    steps.command(node, Action::Truncate { table: physical, group: prefix }, &[], None);
                }
            }
            "OPTIMIZE" => {
                for node in copies {
                    steps.command(node, Action::Optimize { table: physical.clone() }, &[], None);
                }
            }
            _ => {
                for node in copies {
                    steps.command(node, Action::FlushRamchunk { table: physical.clone() }, &[], None);
                }
            }
        }
    }
    let kind = Kind::EveryShard { table: table.spec.name.clone(), what: what.to_owned() };
    Operation::new(id, kind, steps.0, unix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::PollAnswer;
    use crate::state::Node;
    use model::{Millis, NodeStatus, Reach};

    fn node(n: u16) -> NodeId {
        NodeId::new(format!("h:{n}")).expect("valid")
    }

    #[test]
    fn after_a_failure_a_table_waits_for_the_quorum_of_its_own_groups_alone() {
        let mut state = State::default();
        let known = |lost| Node { uuid: String::new(), lost, draining: false, since: 0 };
        state.nodes = [(node(1), known(true)), (node(2), known(false))].into();
        for (id, tables) in [("g", &["t", "both"][..]), ("h", &["u", "both"])] {
            let members = [(node(1), Member::Lost), (node(2), Member::Serving)];
            let mut group = Group::new(2, members.into());
            group.shards.extend(tables.iter().copied().map(shard));
            state.groups.insert(GroupId::new(id).expect("valid"), group);
        }
        let groups = state.groups.keys().cloned().collect();
        let made = failover(&state, OperationId(1), &node(1), &groups, 0);
        let waits = |table: &str| -> Vec<&[StepId]> {
            let writes = |work: &Work| matches!(work, Work::Route { tables } if tables.iter().any(|it| it.as_str() == table));
            made.steps.iter().filter(|step| writes(&step.work)).map(|step| step.after.as_slice()).collect()
        };
        let (g, h) = (StepId(0), StepId(1));
        assert_eq!(
            (waits("t"), waits("u"), waits("both")),
            (vec![&[g][..]], vec![&[h][..]], vec![&[g, h][..]])
        );
    }

    fn shard(table: &str) -> Shard {
        Shard { table: TableName::new(table).expect("valid"), number: 0 }
    }

    /// What node 1 shows of its only cluster.
    fn shows(group: &GroupId, tables: &[&str]) -> Observed {
        let mut observed = Observed::default();
        observed.know(&node(1));
        for look in observed.due_looks(Millis(1), Millis(1)) {
            let tables = tables.iter().map(|table| (*table).to_owned()).collect();
            let shown = ClusterStatus { tables, ..ClusterStatus::default() };
            let status = NodeStatus { clusters: [(group.clone(), shown)].into(), tables: None };
            let (node, token, reach) = (look.node, look.token, Reach::Answered);
            observed.see(PollAnswer { node, token, reach, status: Some(status) });
        }
        observed
    }

    /// Node 1 is to be cleaned of `g`, has more in it than was noted, and is or is not what others still count on.
    #[test]
    fn what_a_node_was_given_later_is_left_over_unless_a_group_keeps_it() {
        let (g, h) = (GroupId::new("g").expect("valid"), GroupId::new("h").expect("valid"));
        let observed = shows(&g, &["system.t_s0", "system.u_s0", "mine"]);
        let member = |of: &[&str], is_one: bool| {
            let mut known = Group::new(2, [(node(if is_one { 1 } else { 2 }), Member::Serving)].into());
            known.shards.extend(of.iter().copied().map(shard));
            known
        };
        let later = |groups: &[(&GroupId, Group)], cluster: Option<&GroupId>, lost| {
            let left = Leftover::Group { group: g.clone(), tables: vec!["system.t_s0".to_owned()] };
            let state = State {
                nodes: [(node(1), Node { uuid: String::new(), lost, draining: false, since: 0 })].into(),
                groups: groups.iter().map(|(id, group)| ((*id).clone(), group.clone())).collect(),
                leftovers: [(node(1), [left].into())].into(),
                cluster: cluster.cloned(),
                ..State::default()
            };
            came_later(&state, &observed).into_iter().flat_map(|(_, _, tables)| tables).collect::<Vec<_>>()
        };
        let new = ["system.u_s0"];
        assert_eq!(later(&[], None, false), new);
        assert_eq!(later(&[(&g, member(&["t", "u"], false))], None, false), new);
        assert_eq!(later(&[(&g, member(&[], true))], None, false), new, "a hand-over that is taken back");
        let nothing: [&str; 0] = [];
        assert_eq!(later(&[(&g, member(&["t"], true))], None, false), nothing, "a member has its copy");
        let kept = [(&g, member(&[], true)), (&h, member(&["u"], true))];
        assert_eq!(later(&kept, None, false), nothing, "its copy serves, and is to be handed over");
        assert_eq!(later(&[], Some(&g), false), nothing, "the user's own");
        assert_eq!(later(&[], None, true), nothing, "what it shows is old");
    }

    /// A drop found none of the group's members; they are back, and still have its table in their cluster.
    #[test]
    fn a_table_that_a_drop_left_in_a_group_is_taken_out_of_it_first() {
        let (group, left) = (GroupId::new("g").expect("valid"), vec!["system.t_s0".to_owned()]);
        let observed = shows(&group, &["system.t_s0", "system.u_s0"]);
        let cleaned = |member, shards: &[&str], others: Vec<Operation>| -> Option<Vec<Action>> {
            let mut known = Group::new(2, [(node(1), member)].into());
            known.shards.extend(shards.iter().map(|name| shard(name)));
            let state = State {
                groups: [(group.clone(), known)].into(),
                leftovers: [(node(1), [Leftover::Tables { tables: left.clone() }].into())].into(),
                operations: others.into_iter().map(|operation| (operation.id, operation)).collect(),
                ..State::default()
            };
            let made = cleanup(&state, (&observed, &BTreeSet::new()), OperationId(1), &node(1), 0)?;
            assert!(made.steps.windows(2).all(|two| two[1].after == [StepId(0)]), "one after the other");
            Some(made.steps.iter().filter_map(|step| step.work.action().cloned()).collect())
        };
        let taken_out = vec![
            Action::RemoveTables { group: group.clone(), tables: left.clone() },
            Action::DropTables { tables: left.clone() },
        ];
        let none = Vec::new;
        assert_eq!(cleaned(Member::Serving, &["u"], none()), Some(taken_out.clone()));
        assert_eq!(cleaned(Member::Returning, &["u"], none()), None, "it is not whole");
        assert_eq!(cleaned(Member::Serving, &["t", "u"], none()), None, "the group has that shard");
        // Another member does it.
        let mut steps = Steps::default();
        steps.command(&node(2), taken_out[0].clone(), &[], None);
        let other = Operation::new(OperationId(7), Kind::Cleanup { node: node(2) }, steps.0, 0);
        assert_eq!(cleaned(Member::Serving, &["u"], vec![other]), None, "one at a time");
    }
}
