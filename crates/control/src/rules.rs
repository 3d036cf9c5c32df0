//! The rules of safety, asked before every command: may it be sent now?
//!
//! Each check is stated over what nodes show in a look taken after the step became ready, and over the log.

use crate::flight::Flights;
use crate::observed::Observed;
use crate::operation::{Kind, Operation, Status};
use crate::state::{Group, Leftover, Member, State};
use model::{Action, ClusterState, ClusterStatus, GroupId, Millis, NodeId, Reach, Routes};
use std::collections::BTreeSet;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    Go,
    /// Not now; why, for whoever asks what an operation waits for.
    Wait(String),
    /// Not before these nodes were looked at.
    Look(Vec<NodeId>),
    /// Never, as things are: the try counts as failed.
    Refuse(String),
}

/// Everything a rule may look at.
#[derive(Debug)]
pub struct Case<'a> {
    pub state: &'a State,
    pub observed: &'a Observed,
    pub flights: &'a Flights,
    pub operation: &'a Operation,
    pub node: &'a NodeId,
    /// Looks count from here.
    pub since: Millis,
    /// An earlier try may have done it already, in part.
    pub tried: bool,
}

/// Whether `action` may be sent to `case.node` now.
pub fn check(case: &Case<'_>, action: &Action) -> Gate {
    let recovers = matches!(case.operation.kind, Kind::LetGo { .. } | Kind::Remake { .. });
    if recovers && let Some(group) = action.group() {
        let gate = not_routed_at_all(case, group);
        if gate != Gate::Go {
            return gate;
        }
    }
    // However the copy that is to go leaves its cluster, what stands against its EXIT stands against that.
    if let Action::Bootstrap { group } | Action::DeleteCluster { group, .. } = action
        && is_source(case)
    {
        let gate = may_exit(case, group);
        if gate != Gate::Go {
            return gate;
        }
    }
    match action {
        Action::CreateCluster { group } => may_create(case, group),
        Action::Bootstrap { group } => may_bootstrap(case, group),
        Action::CreateTables { tables, .. } if !case.tried => names_are_free(case, tables),
        Action::JoinCluster { group, at } => held(case).unwrap_or_else(|| may_join(case, group, at)),
        Action::AddTables { group, .. } => {
            held(case).unwrap_or_else(|| match all_members_in_view(case, group) {
                Gate::Go => nobody_else_in_view(case, group),
                gate => gate,
            })
        }
        Action::RemoveTables { group, .. } | Action::ReturnTables { group, .. } => {
            held(case).unwrap_or_else(|| all_members_in_view(case, group))
        }
        Action::UpdateNodes { group } => may_list_anew(case, group),
        Action::ExitCluster { group, .. } => may_exit(case, group),
        Action::DeleteCluster { group, whole } => may_delete(case, group, *whole),
        Action::EndStock { cluster: Some(cluster) } => user_cluster_is_whole(case, cluster),
        Action::DropTables { tables } => not_routed(case, tables),
        Action::DropCopies { copies } => not_routed(case, &copies.keys().cloned().collect::<Vec<_>>()),
        _ => Gate::Go,
    }
}

/// Rules 4 and 9: while a hand-over out of a cluster takes tables from group to group, no node routes them, and none that
/// could come back with an old route is away. What stands against the next command, if anything does.
fn held(case: &Case<'_>) -> Option<Gate> {
    let Kind::HandOver { table, source: Some(_), .. } = &case.operation.kind else { return None };
    if case.operation.status == Status::Running
        && let Some((lost, _)) = case.state.nodes.iter().find(|(_, node)| node.lost)
    {
        return Some(Gate::Refuse(format!("node {lost} was lost and may come back with an old route")));
    }
    let gate = routers(case, |routes| routes.contains_key(table.as_str()).then(|| table.to_string()));
    (gate != Gate::Go).then_some(gate)
}

/// Rules 3 and 4: plain copies acknowledge whatever is sent to them, so nobody may send while a stopped group is
/// brought back.
fn not_routed_at_all(case: &Case<'_>, group: &GroupId) -> Gate {
    let Some(known) = case.state.groups.get(group) else { return Gate::Go };
    let names = known.table_names();
    routers(case, |routes| {
        names.iter().find(|name| routes.contains_key(name.as_str())).map(ToString::to_string)
    })
}

/// A cluster is made where nobody has one of its name: two of one name would meet some day.
fn may_create(case: &Case<'_>, group: &GroupId) -> Gate {
    if !matches!(case.operation.kind, Kind::Remake { .. } | Kind::UserCluster { .. }) || case.tried {
        return Gate::Go;
    }
    let others = case.state.live_nodes().filter(|node| *node != case.node);
    let mut shown = others.filter(|node| case.observed.cluster(node, group).is_some_and(|c| !c.is_stopped()));
    shown.next().map_or(Gate::Go, |other| Gate::Refuse(format!("{other} has the cluster {group}")))
}

/// Rule 12: undo drops only what this operation made, so a name must be free before.
pub fn names_are_free(case: &Case<'_>, tables: &[String]) -> Gate {
    let Some(seen) = case.observed.view(case.node).and_then(|view| view.tables_since(case.since)) else {
        return Gate::Look(vec![case.node.clone()]);
    };
    match tables.iter().find(|table| seen.shards.contains(*table)) {
        Some(table) => {
            Gate::Refuse(format!("{} has a table {table} that is not of this operation", case.node))
        }
        None => Gate::Go,
    }
}

/// Rule 9 is kept by `Reserve` before it; here: the donor is whole and primary, so that JOIN has a source.
fn may_join(case: &Case<'_>, group: &GroupId, at: &NodeId) -> Gate {
    if !case.state.is_live(at) {
        return Gate::Refuse(format!("the donor {at} was lost"));
    }
    let Some(view) = case.observed.view(at) else { return Gate::Look(vec![at.clone()]) };
    match view.cluster_since(group, case.since) {
        None => Gate::Look(vec![at.clone()]),
        Some(Some(cluster)) if cluster.is_synced() => Gate::Go,
        Some(Some(cluster)) if has_ended(case, group, cluster) => {
            Gate::Refuse(format!("{at} was restarted, and the cluster of the move ended with it"))
        }
        Some(_) => Gate::Wait(format!("{at} is no synced member of {group} yet")),
    }
}

/// Whether the cluster is the temporary one of a move, and has stopped on its only member: nobody brings it back, and the move
/// makes it anew.
fn has_ended(case: &Case<'_>, group: &GroupId, shown: &ClusterStatus) -> bool {
    shown.is_stopped()
        && matches!(case.operation.kind, Kind::Move { .. } | Kind::Snapshot { .. })
        && case.state.groups.get(group).is_some_and(|known| !known.is_clustered())
}

/// The new list has those in view alone, and who starts again looks for those on its list: no serving member that lives may
/// be missing. A side of its own, whose node is no member, lists who it likes.
fn may_list_anew(case: &Case<'_>, group: &GroupId) -> Gate {
    let known = case.state.groups.get(group).filter(|known| known.members.contains_key(case.node));
    let Some(known) = known else { return Gate::Go };
    let view = match case.observed.view(case.node).map(|view| view.cluster_since(group, case.since)) {
        Some(Some(Some(cluster))) if cluster.is_synced() => cluster,
        Some(Some(_)) => return Gate::Wait(format!("{} is no synced member of {group}", case.node)),
        _ => return Gate::Look(vec![case.node.clone()]),
    };
    let out = |node: &&NodeId| case.state.is_live(node) && !view.nodes_view.contains(*node);
    let out = known.serving().find(out);
    out.map_or(Gate::Go, |out| Gate::Wait(format!("member {out} of {group} is out of view")))
}

/// Rule 7: a member out of view would come back with other tables and look synced.
fn all_members_in_view(case: &Case<'_>, group: &GroupId) -> Gate {
    let Some(known) = case.state.groups.get(group) else { return Gate::Go };
    let view = match case.observed.view(case.node).map(|view| view.cluster_since(group, case.since)) {
        Some(Some(Some(cluster))) => cluster,
        Some(Some(None)) => return Gate::Wait(format!("{} shows no cluster {group}", case.node)),
        _ => return Gate::Look(vec![case.node.clone()]),
    };
    if has_ended(case, group, view) {
        return Gate::Refuse(format!(
            "{} was restarted, and the cluster of the move ended with it",
            case.node
        ));
    }
    if view.status != ClusterState::Primary {
        return Gate::Wait(format!("{group} has no quorum on {}", case.node));
    }
    if matches!(case.operation.kind, Kind::Remake { .. }) {
        // The others let go of it, and are told apart by the log.
        return if view.is_synced() && view.size <= 1 {
            Gate::Go
        } else {
            Gate::Wait(format!("{} is not alone in {group} yet", case.node))
        };
    }
    // One that is proven gone will not come back unseen: `retire_absent` sees to it that it joins anew.
    let out = |node: &&NodeId| case.state.is_live(node) && !view.nodes_view.contains(*node);
    if let Some(out) = view.nodes_set.iter().find(out) {
        return Gate::Wait(format!("member {out} of {group} is out of view"));
    }
    for (member, state) in known.members.iter().filter(|(member, _)| case.state.is_live(member)) {
        if *state == Member::Joining && !view.nodes_view.contains(member) {
            continue;
        }
        match case.observed.view(member).map(|view| view.cluster_since(group, case.since)) {
            Some(Some(Some(cluster))) if cluster.is_synced() => {}
            // It left already: taking back an operation goes member by member.
            Some(Some(None)) if case.operation.status == Status::Unwinding => {}
            Some(Some(_)) => return Gate::Wait(format!("member {member} of {group} is not synced")),
            _ => return Gate::Look(vec![member.clone()]),
        }
    }
    Gate::Go
}

/// Rule 7 for the user's own cluster, while it still holds tables of the stock sidecar's.
fn user_cluster_is_whole(case: &Case<'_>, cluster: &GroupId) -> Gate {
    let view = match case.observed.view(case.node).map(|view| view.cluster_since(cluster, case.since)) {
        Some(Some(Some(view))) => view,
        Some(Some(None)) => return Gate::Wait(format!("{} shows no cluster {cluster}", case.node)),
        _ => return Gate::Look(vec![case.node.clone()]),
    };
    if !view.is_synced() {
        return Gate::Wait(format!("{} is no synced member of {cluster}", case.node));
    }
    let away = case.state.nodes.keys().chain(&view.nodes_set).find(|node| !view.nodes_view.contains(*node));
    away.map_or(Gate::Go, |node| Gate::Wait(format!("member {node} of {cluster} is out of view")))
}

/// A node that came back and is to leave again would be given the tables, too, and keep them.
fn nobody_else_in_view(case: &Case<'_>, group: &GroupId) -> Gate {
    let (Some(known), Some(view)) = (case.state.groups.get(group), case.observed.cluster(case.node, group))
    else {
        return Gate::Go;
    };
    let stranger =
        view.nodes_view.iter().find(|node| *node != case.node && !known.members.contains_key(*node));
    match stranger {
        None => Gate::Go,
        // It leaves when there are other copies, and these are made when nothing else is under way.
        Some(node) if is_spare(case.state, case.observed, node, group) => Gate::Refuse(format!(
            "{node}, which is no member of {group} any more, has a copy of it that is still needed: try again when the group has all its copies"
        )),
        Some(node) => {
            Gate::Wait(format!("{node}, which is no member of {group} any more, has not left it yet"))
        }
    }
}

/// Rule 4 and the floor: every router was seen on a route that does not name the copy, and enough whole copies
/// stay. A node that was never routed (an undone gain, a cleaned-up return) gives nothing away.
fn may_exit(case: &Case<'_>, group: &GroupId) -> Gate {
    let gate = not_named_by_routes(case, group);
    if gate != Gate::Go {
        return gate;
    }
    if let Some(gate) = named_by_the_absent(case, group) {
        return gate;
    }
    // Out already: it is only asked again what its copies then held.
    let view = case.observed.view(case.node);
    if case.tried && view.is_some_and(|view| view.cluster_since(group, case.since) == Some(None)) {
        return Gate::Go;
    }
    if let Kind::RemoveNode { node } = &case.operation.kind
        && let Some(left) = case.state.leftovers.get(node)
        && left.iter().any(|left| !matches!(left, Leftover::Group { group: g, .. } if g == group))
    {
        return Gate::Wait(format!("{node} is to be cleaned first: nobody would know it afterwards"));
    }
    let floor = match &case.operation.kind {
        Kind::Move { floor, from: Some(from), .. } if from == case.node => *floor,
        Kind::Shed { floor, .. } => *floor,
        // Others were lost since it was to be cleaned: that is begun anew, without this one.
        Kind::Cleanup { .. } if is_spare(case.state, case.observed, case.node, group) => {
            return Gate::Refuse(format!(
                "too few other copies of {group} are whole: the one on {} stays until they are more",
                case.node
            ));
        }
        _ => return Gate::Go,
    };
    let Some(known) = case.state.groups.get(group) else { return Gate::Go };
    if !known.is_clustered() || known.members.len() > 1 {
        let mut whole = 0;
        for node in known.serving().filter(|node| *node != case.node) {
            match case.observed.view(node).map(|view| view.cluster_since(group, case.since)) {
                Some(Some(Some(cluster))) if cluster.is_synced() => whole += 1,
                Some(Some(_)) => {}
                _ => return Gate::Look(vec![node.clone()]),
            }
        }
        if whole < floor.max(1) {
            return Gate::Wait(format!("{whole} whole copies of {group} would stay, fewer than {floor}"));
        }
    }
    Gate::Go
}

/// Whether the node holds the copy that the operation takes away, and nothing of it is taken back.
fn is_source(case: &Case<'_>) -> bool {
    let (Kind::Move { from: Some(from), .. } | Kind::Shed { from, .. }) = &case.operation.kind else {
        return false;
    };
    from == case.node && case.operation.status == Status::Running
}

/// Rule 4: a node that is lost and not proven gone may come back at any moment and route as it did; what it then sends to a
/// copy that has left its group would be acknowledged there and nowhere else. One whose process is gone comes back
/// through the gate, without routes. What stands against the EXIT of a copy that was routed, if anything does.
fn named_by_the_absent(case: &Case<'_>, group: &GroupId) -> Option<Gate> {
    if !matches!(
        case.operation.kind,
        Kind::Move { from: Some(_), .. } | Kind::Shed { .. } | Kind::Cleanup { .. }
    ) || case.operation.status != Status::Running
    {
        return None;
    }
    let known = case.state.groups.get(group)?;
    let mut lost = case.state.nodes.iter().filter(|(node, known)| known.lost && *node != case.node);
    let (node, _) =
        lost.find(|(node, _)| may_come_to(case.observed, case.flights, node, case.node, known))?;
    Some(Gate::Wait(format!(
        "{node} is silent and not proven gone, and may come back with a route to {}: bring it back, or give it up by REMOVE NODE",
        case.node
    )))
}

/// Whether a statement of this router may come to the node's copies of the group: by the routes that it showed last, and by those
/// that may still be written there. One whose process is gone comes back through the gate, without routes.
pub fn may_come_to(
    observed: &Observed,
    flights: &Flights,
    router: &NodeId,
    node: &NodeId,
    known: &Group,
) -> bool {
    let names = |routes: &Routes| {
        known.shards.iter().any(|shard| {
            let copies =
                routes.get(shard.table.as_str()).and_then(|route| route.shards.get(shard.number as usize));
            copies.is_some_and(|copies| copies.contains(node))
        })
    };
    let view = observed.view(router);
    let reach = view.and_then(|view| view.reach).map(|(reach, _)| reach);
    let shown = view.and_then(|view| view.tables.as_ref()).map(|(_, tables)| &tables.routes);
    // Its sidecar may be there, and do what it was told before.
    let given = || flights.routes_under_way(router).any(|given| given.is_none_or(|given| names(&given)));
    reach != Some(Reach::Refused) && (shown.is_none_or(names) || given())
}

fn not_named_by_routes(case: &Case<'_>, group: &GroupId) -> Gate {
    let Some(known) = case.state.groups.get(group) else { return Gate::Go };
    let shards: Vec<(&str, usize)> =
        known.shards.iter().map(|shard| (shard.table.as_str(), shard.number as usize)).collect();
    routers(case, |routes| {
        shards.iter().find_map(|(table, number)| {
            let named = routes.get(*table)?.shards.get(*number)?.contains(case.node);
            named.then(|| (*table).to_owned())
        })
    })
}

/// Before a shard is dropped no router may name it on this node.
fn not_routed(case: &Case<'_>, tables: &[String]) -> Gate {
    let shards: Vec<(String, usize)> = tables
        .iter()
        .filter_map(|table| model::parse_shard_table(table))
        .map(|(table, number)| (table.to_string(), number as usize))
        .collect();
    routers(case, |routes| {
        shards.iter().find_map(|(table, number)| {
            let named = routes.get(table)?.shards.get(*number)?.contains(case.node);
            named.then(|| table.clone())
        })
    })
}

/// Looks through the routes of every live node, and through those that are being written on one; a node counts as a router
/// until it is seen or proven gone.
fn routers(case: &Case<'_>, names: impl Fn(&Routes) -> Option<String>) -> Gate {
    let mut unseen = Vec::new();
    let live: BTreeSet<&NodeId> = case.state.live_nodes().collect();
    for node in live {
        let Some(seen) = case.observed.view(node).and_then(|view| view.tables_since(case.since)) else {
            unseen.push(node.clone());
            continue;
        };
        if let Some(table) = names(&seen.routes) {
            return Gate::Wait(format!("{node} still routes {table} to {}", case.node));
        }
        if case.flights.routes_under_way(node).any(|routes| routes.is_none_or(|it| names(&it).is_some())) {
            return Gate::Wait(format!("{node} may still be given a route to {}", case.node));
        }
    }
    if unseen.is_empty() { Gate::Go } else { Gate::Look(unseen) }
}

/// Whether the node's side of the group is adrift, by looks that are new enough to act on.
fn is_adrift_now(case: &Case<'_>, group: &GroupId) -> Gate {
    let seen = |node: &&NodeId| {
        case.observed.view(node).is_some_and(|v| v.cluster_since(group, case.since).is_some())
    };
    let unseen: Vec<NodeId> = case.state.live_nodes().filter(|node| !seen(node)).cloned().collect();
    if !unseen.is_empty() {
        return Gate::Look(unseen);
    }
    if is_adrift(case.state, case.observed, case.node, group) {
        Gate::Go
    } else {
        Gate::Wait(format!("{} may still find members of {group}", case.node))
    }
}

/// Rule 7: DELETE CLUSTER dissolves the cluster of all whom the node reaches, which is right for one that goes `whole`.
fn may_delete(case: &Case<'_>, group: &GroupId, whole: bool) -> Gate {
    let Some(view) = case.observed.view(case.node) else { return Gate::Look(vec![case.node.clone()]) };
    let cluster = match view.cluster_since(group, case.since) {
        None => return Gate::Look(vec![case.node.clone()]),
        Some(None) => return Gate::Go,
        Some(Some(cluster)) => cluster,
    };
    if cluster.status == ClusterState::RecoveryRequired {
        return may_leave_stopped(case, group, cluster);
    }
    if whole && cluster.status == ClusterState::NonPrimary {
        return Gate::Go;
    }
    if case.operation.recovers() && cluster.status == ClusterState::NonPrimary {
        return nobody_is_primary(case, group);
    }
    if is_apart(case.state, case.observed, case.node, group) {
        return match cluster.nodes_set.iter().find(|listed| *listed != case.node) {
            Some(other) => Gate::Wait(format!("{} still lists {other} for {group}", case.node)),
            None => Gate::Go,
        };
    }
    if is_adrift(case.state, case.observed, case.node, group) {
        return is_adrift_now(case, group);
    }
    // A side of its own of a group that goes as a whole: whoever else it reached is to go, too.
    if cluster.size <= 1 && drops_all_of(case, group) {
        return Gate::Go;
    }
    let others: Vec<&NodeId> = case
        .state
        .live_nodes()
        .filter(|node| *node != case.node)
        .filter(|node| case.observed.cluster(node, group).is_some())
        .collect();
    let has_stopped =
        |node: &&&NodeId| case.observed.cluster(node, group).is_some_and(ClusterStatus::is_stopped);
    match others.first() {
        Some(_) if let Some(other) = others.iter().find(has_stopped) => {
            Gate::Wait(format!("{group} has stopped on {other}: restart that node"))
        }
        Some(other) => Gate::Wait(format!("{other} is still a member of {group}")),
        None if cluster.size > 1 => Gate::Wait(format!("{group} still shows {} members", cluster.size)),
        None => Gate::Go,
    }
}

/// One that has stopped cannot EXIT. What stands against its EXIT stands against this: once its copies are plain they
/// acknowledge what an old route sends them, that of a node, too, that came back after the others were given new ones.
fn may_leave_stopped(case: &Case<'_>, group: &GroupId, cluster: &ClusterStatus) -> Gate {
    match &case.operation.kind {
        Kind::RemoveNode { .. } if !cluster.tables.is_empty() => {
            Gate::Wait(format!("{group} has stopped on {} and holds tables of your own", case.node))
        }
        Kind::RemoveNode { .. } => may_exit(case, group),
        Kind::Cleanup { .. } | Kind::Move { .. } | Kind::Shed { .. }
            if !cluster.tables.is_empty() && !stays_alone(case, group) =>
        {
            match not_named_by_routes(case, group) {
                Gate::Go => named_by_the_absent(case, group).unwrap_or(Gate::Go),
                named => named,
            }
        }
        _ => Gate::Go,
    }
}

/// Whether the copy is that of a shard without others, and only the cluster of a move ends on it.
fn stays_alone(case: &Case<'_>, group: &GroupId) -> bool {
    let is_its = |known: &Group| !known.is_clustered() && known.members.contains_key(case.node);
    case.state.groups.get(group).is_some_and(is_its) && !is_source(case)
}

/// All of the group is let go of, so whoever else the node reaches is to lose it, too: while none of them takes writes.
fn nobody_is_primary(case: &Case<'_>, group: &GroupId) -> Gate {
    let holders = case.state.groups.get(group).map(Group::newest_holders).unwrap_or_default();
    let chosen = matches!(case.operation.kind, Kind::Remake { .. });
    let is_away = |node: &&NodeId| !case.state.is_live(node) && !case.observed.is_at_gate(node);
    if let Some(lost) = holders.iter().find(|node| !chosen && is_away(node)) {
        return Gate::Wait(format!("{lost}, whose copy may be the newest, is away"));
    }
    is_primary_nowhere(case, group, |_| true)
}

fn drops_all_of(case: &Case<'_>, group: &GroupId) -> bool {
    let (Kind::DropTable { table: dropped }, Some(known)) =
        (&case.operation.kind, case.state.groups.get(group))
    else {
        return false;
    };
    known.shards.iter().all(|shard| shard.table == *dropped)
}

/// Whether no live node out of these shows the group with a quorum, by looks that are new enough to act on.
fn is_primary_nowhere(case: &Case<'_>, group: &GroupId, of: impl Fn(&NodeId) -> bool) -> Gate {
    let mut unseen = Vec::new();
    for node in case.state.live_nodes().filter(|node| of(node)) {
        match case.observed.view(node).and_then(|view| view.cluster_since(group, case.since)) {
            None => unseen.push(node.clone()),
            Some(Some(shown)) if shown.status == ClusterState::Primary => {
                return Gate::Wait(format!("{group} is primary on {node}"));
            }
            Some(_) => {}
        }
    }
    if unseen.is_empty() { Gate::Go } else { Gate::Look(unseen) }
}

/// Rule 6 at the moment of sending. An operation that ends the cluster asks who is the most advanced of nobody: no data is
/// in it any more. One that takes a member away that the group has forgotten makes sure that the two cannot meet.
fn may_bootstrap(case: &Case<'_>, group: &GroupId) -> Gate {
    let found = match &case.operation.kind {
        Kind::Failover { .. } => survivor(case.state, case.observed, group, case.since),
        Kind::Cleanup { .. } if case.state.groups.get(group).is_some_and(Group::is_clustered) => {
            return is_adrift_now(case, group);
        }
        Kind::UserCluster { .. } if case.operation.gives_quorum() => {
            user_survivor(case.state, case.observed, group, case.since)
        }
        // It would be a second quorum beside theirs, whom it finds again.
        _ => return is_primary_nowhere(case, group, |node| node != case.node),
    };
    match found {
        Ok(node) if node == *case.node => Gate::Go,
        Ok(node) => Gate::Wait(format!("{node} is the most advanced member of {group}")),
        Err(gate) => gate,
    }
}

mod adrift;
mod caught_up;
mod source;
mod spare;
mod survivor;
#[cfg(test)]
mod tests;

pub use adrift::{is_adrift, is_apart, is_left_behind, is_member_adrift};
pub use caught_up::has_caught_up;
pub use source::{has_all_of, went_on_from};
pub use spare::{holds_only_what_waits, holds_spares, holds_what_waits, is_spare, is_whole_without};
pub use survivor::{fell_behind, survivor, user_survivor};
