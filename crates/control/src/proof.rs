//! What proves an action complete: looks at nodes taken after its reply, never the reply alone.

use crate::observed::Observed;
use crate::route;
use crate::state::State;
use model::{Action, ClusterState, GroupId, Millis, NodeId};

/// What the looks say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    Done,
    /// The node shows that it is not so.
    NotSo(String),
    /// A look at these nodes that began at the given time or later is needed first.
    Look(Vec<NodeId>),
}

/// Whether `action` on `node` is seen to be complete by looks begun at `since` or later.
pub fn of(state: &State, observed: &Observed, node: &NodeId, action: &Action, since: Millis) -> Proof {
    let Some(view) = observed.view(node) else { return Proof::Look(vec![node.clone()]) };
    let (Some(tables), Some((began, clusters))) = (view.tables_since(since), view.status.as_ref()) else {
        return Proof::Look(vec![node.clone()]);
    };
    if *began < since {
        return Proof::Look(vec![node.clone()]);
    }
    let all = |names: &[String], there: bool| match names
        .iter()
        .find(|name| tables.shards.contains(*name) != there)
    {
        Some(name) if there => Proof::NotSo(format!("{node} shows no table {name}")),
        Some(name) => Proof::NotSo(format!("{node} still shows table {name}")),
        None => Proof::Done,
    };
    match action {
        // Nothing that a node shows tells these; their reply has to do, and they can be repeated.
        Action::MakeDirectory { .. }
        | Action::RemoveDirectory { .. }
        | Action::UpdateNodes { .. }
        | Action::AwaitQuiet { .. }
        | Action::Truncate { .. }
        | Action::Optimize { .. }
        | Action::FlushRamchunk { .. }
        | Action::PutDocuments { .. } => Proof::Done,
        Action::CreateTables { tables, .. } => all(tables, true),
        Action::DropTables { tables } => all(tables, false),
        Action::EndStock { cluster } => {
            let held = cluster.as_ref().and_then(|cluster| clusters.get(cluster));
            match model::STOCK_TABLES
                .into_iter()
                .find(|name| held.is_some_and(|it| it.tables.contains(*name)))
            {
                Some(name) => Proof::NotSo(format!("{node} still shows {name} in its cluster")),
                None => all(&model::STOCK_TABLES.map(str::to_owned), false),
            }
        }
        Action::DropCopies { copies } => all(&copies.keys().cloned().collect::<Vec<_>>(), false),
        Action::CreateCluster { group } | Action::JoinCluster { group, .. } => match clusters.get(group) {
            Some(cluster) if cluster.is_synced() => Proof::Done,
            Some(cluster) => Proof::NotSo(format!(
                "{node} shows cluster {group} {:?}, {:?}",
                cluster.status, cluster.node_state
            )),
            None => Proof::NotSo(format!("{node} shows no cluster {group}")),
        },
        Action::Bootstrap { group } => match clusters.get(group) {
            Some(cluster) if cluster.status == ClusterState::Primary => Proof::Done,
            _ => Proof::NotSo(format!("{node} does not show cluster {group} as primary")),
        },
        Action::ExitCluster { group, .. } | Action::DeleteCluster { group, .. } => {
            match clusters.get(group) {
                None => Proof::Done,
                Some(_) => Proof::NotSo(format!("{node} still shows cluster {group}")),
            }
        }
        Action::AddTables { group, tables } => {
            members_show(state, observed, node, group, tables, true, since)
        }
        Action::ReturnTables { group, copies } => {
            let tables: Vec<String> = copies.keys().cloned().collect();
            members_show(state, observed, node, group, &tables, true, since)
        }
        Action::RemoveTables { group, tables } => {
            members_show(state, observed, node, group, tables, false, since)
        }
        Action::SetRoutes { routes } => {
            let wrong = routes.iter().find(|wanted| {
                tables
                    .routes
                    .get(wanted.route.table.as_str())
                    .is_none_or(|there| !route::same(there, &wanted.route))
            });
            match wrong {
                Some(wrong) => {
                    Proof::NotSo(format!("{node} does not show the new route of {}", wrong.route.table))
                }
                None => Proof::Done,
            }
        }
        Action::DropRoutes { tables: names } => {
            match names.iter().find(|name| tables.routes.contains_key(name.as_str())) {
                Some(name) => Proof::NotSo(format!("{node} still shows a route of {name}")),
                None => Proof::Done,
            }
        }
    }
}

/// Every live member of the group, as the log has them, shows the tables in the cluster (or none of them).
fn members_show(
    state: &State,
    observed: &Observed,
    node: &NodeId,
    group: &GroupId,
    tables: &[String],
    there: bool,
    since: Millis,
) -> Proof {
    let mut unseen = Vec::new();
    let members = state.groups.get(group).into_iter().flat_map(|group| group.members.keys());
    for member in members.chain([node]).filter(|member| state.is_live(member)) {
        let Some(view) = observed.view(member) else { continue };
        match view.cluster_since(group, since) {
            None => unseen.push(member.clone()),
            // Not in it yet (or any more): what it shows says nothing about the tables.
            Some(None) if member != node => {}
            Some(None) => return Proof::NotSo(format!("{member} shows no cluster {group}")),
            Some(Some(cluster)) => {
                if let Some(table) = tables.iter().find(|table| cluster.tables.contains(*table) != there) {
                    let verb = if there { "does not show" } else { "still shows" };
                    return Proof::NotSo(format!("{member} {verb} {table} in cluster {group}"));
                }
            }
        }
    }
    if unseen.is_empty() { Proof::Done } else { Proof::Look(unseen) }
}
