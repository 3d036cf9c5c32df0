//! Import: tables that the stock sidecar sharded are adopted where they are, without moving a byte.
//!
//! Its replication clusters are what groups are here: nodes that hold the same shards. So each becomes a group under the name
//! that it has, and from then on moves like any other. Everything is judged by what the nodes show; what the stock sidecar
//! has written down must agree with that. All of it is adopted or nothing: two controllers must not share one cluster.

use crate::Controller;
use crate::catalogue::{self, Adoption};
use crate::operation::{Kind, NewGroup};
use crate::record::Record;
use crate::state::State;
use crate::statements::object;
use model::operate::OrderReply;
use model::wire::StatementReply;
use model::{
    ClusterStatus, Content, GroupId, ImportFacts, ImportReport, ImportedGroup, ImportedTable, NodeId,
    NodeStatus, OperationId, Schema, TableName, TableSpec,
};
use std::collections::{BTreeMap, BTreeSet};

/// A stock sidecar that was heard of within this many seconds is at work.
const SIGN_FRESH_SECONDS: u64 = 30;
/// So many of each kind are named; whoever has more of them has one cause.
const NAMED_MAX: usize = 50;

impl Controller {
    /// The nodes that an import looks at.
    pub fn reporting_nodes(&self) -> Vec<NodeId> {
        let reporting = self.observed.nodes.iter().filter(|(_, view)| view.has_sidecar(self.now));
        reporting.map(|(node, _)| node.clone()).collect()
    }

    /// A dry run, or an import that cannot be, is answered at once; an import when it is done.
    pub(crate) fn import(
        &mut self,
        facts: &ImportFacts,
        dry_run: bool,
    ) -> Result<OperationId, Box<StatementReply>> {
        let sidecars: BTreeSet<NodeId> =
            self.observed.nodes.keys().filter(|node| self.sidecar_is_ours(node)).cloned().collect();
        let mut judged = judge(&self.state, &sidecars, facts, self.unix_now);
        if let Err(full) = self.check_queue() {
            judged.report.refusals.push(full);
        }
        let success = judged.report.refusals.is_empty();
        if dry_run || !success {
            let report = ImportReport { success, dry_run, ..judged.report };
            return Err(Box::new(object(OrderReply::Import(report))));
        }
        self.adopt(judged.cluster.as_ref(), &judged.tables)
            .map_err(|message| Box::new(StatementReply::Error { message }))
    }

    fn adopt(&mut self, cluster: Option<&GroupId>, tables: &[Found]) -> Result<OperationId, String> {
        match cluster {
            Some(cluster) if self.state.cluster.is_none() => {
                self.record(Record::ClusterAdopted { cluster: cluster.clone() });
                self.watch_membership();
            }
            Some(_) => {}
            None => drop(self.local_node()?),
        }
        let named = tables.iter().flat_map(|table| table.placement.iter().flatten());
        if let Some(node) = named.into_iter().find(|node| !self.state.is_live(node)) {
            return Err(format!("node {node} is not known as a live member yet: retry in a few seconds"));
        }
        let adoption = self.adoption(cluster, tables);
        let id = self
            .add(|state, id, unix| Some(catalogue::import(state, id, adoption, unix)))
            .ok_or("the operation could not be made")?;
        self.out.effects.push(crate::Effect::NamesChanged);
        Ok(id)
    }

    /// The clusters become groups; a shard without one is a unit of its own.
    fn adoption(&mut self, cluster: Option<&GroupId>, tables: &[Found]) -> Adoption {
        let mut groups: BTreeMap<GroupId, NewGroup> = BTreeMap::new();
        let mut specs = Vec::new();
        for table in tables {
            let mut homes = Vec::new();
            for (number, members) in table.placement.iter().enumerate() {
                let id = table.clusters[number].clone().unwrap_or_else(|| self.new_group_id());
                let new = NewGroup { id: id.clone(), rf: table.rf, members: members.clone() };
                groups.entry(id.clone()).or_insert(new);
                homes.push(id);
            }
            let spec = TableSpec {
                name: table.name.clone(),
                cluster: cluster.map(ToString::to_string),
                schema: table.schema.clone(),
                shards: table.placement.len() as u32,
                rf: table.rf,
            };
            specs.push((spec, homes));
        }
        Adoption { cluster: cluster.cloned(), tables: specs, groups: groups.into_values().collect() }
    }
}

/// A table that can be adopted, as far as it is known.
#[derive(Clone, Debug)]
struct Found {
    name: TableName,
    rf: u32,
    schema: Schema,
    /// By shard, its nodes and the replication cluster that it is in.
    placement: Vec<Vec<NodeId>>,
    clusters: Vec<Option<GroupId>>,
}

/// What the facts come to.
#[derive(Debug)]
struct Judged {
    report: ImportReport,
    cluster: Option<GroupId>,
    tables: Vec<Found>,
}

/// Judges everything, so that one look names all that stands against it.
fn judge(state: &State, sidecars: &BTreeSet<NodeId>, facts: &ImportFacts, unix_now: u64) -> Judged {
    let mut case = Case { state, sidecars, facts, refusals: facts.unreadable.clone(), notes: Vec::new() };
    if facts.rows.is_empty() {
        case.refuse("no node shows a system.sharding_table with rows: there is nothing to adopt");
    }
    case.judge_stock(unix_now);
    let cluster = case.judge_cluster();
    let names: BTreeSet<&TableName> = facts.rows.iter().map(|row| &row.table).collect();
    let tables: Vec<Found> = names.into_iter().filter_map(|name| case.judge_table(name)).collect();
    let groups = case.judge_groups(&tables);
    case.refusals.extend(facts.other_columns.iter().cloned());
    case.note_strangers(&tables);
    let listed = tables.iter().map(|table| ImportedTable {
        name: table.name.clone(),
        cluster: cluster.as_ref().map(ToString::to_string),
        shards: table.placement.len() as u32,
        rf: table.rf,
        rows: rows_of(facts, table),
        placement: table.placement.clone(),
    });
    let report = ImportReport {
        tables: listed.collect(),
        groups,
        refusals: shortened(case.refusals),
        notes: shortened(case.notes),
        way_back: facts.way_back.clone(),
        ..ImportReport::default()
    };
    Judged { report, cluster: cluster.clone(), tables }
}

fn shortened(mut sentences: Vec<String>) -> Vec<String> {
    let more = sentences.len().saturating_sub(NAMED_MAX);
    sentences.truncate(NAMED_MAX);
    sentences.extend((more > 0).then(|| format!("and {more} more")));
    sentences
}

fn rows_of(facts: &ImportFacts, table: &Found) -> u64 {
    (0..table.placement.len())
        .filter_map(|number| facts.contents.get(&table.name.shard_table(number as u32))?.values().next())
        .map(|content| content.rows)
        .sum()
}

struct Case<'a> {
    state: &'a State,
    sidecars: &'a BTreeSet<NodeId>,
    facts: &'a ImportFacts,
    refusals: Vec<String>,
    notes: Vec<String>,
}

impl Case<'_> {
    fn refuse(&mut self, why: impl Into<String>) {
        self.refusals.push(why.into());
    }

    /// Two controllers must never act on one cluster.
    fn judge_stock(&mut self, unix_now: u64) {
        if let Some(at) = self.facts.last_sign
            && unix_now.saturating_sub(at) < SIGN_FRESH_SECONDS
        {
            let ago = unix_now.saturating_sub(at);
            self.refuse(format!(
                "the stock sidecar's sharding is at work, it wrote its state {ago} s ago: switch it off on every node (--skip), and try again {SIGN_FRESH_SECONDS} s later"
            ));
        }
        if self.state.active().any(|operation| matches!(operation.kind, Kind::Import { .. })) {
            self.refuse("an import is under way already: SHOW SHARDING QUEUE tells what it waits for");
        }
        let lost = self.state.nodes.iter().filter(|(_, node)| node.lost).map(|(id, _)| id);
        for node in lost.collect::<Vec<_>>() {
            self.refuse(format!("node {node} is lost: bring it back, or remove it"));
        }
    }

    /// The user's cluster that all tables name, with all its members there; `None` for local tables.
    fn judge_cluster(&mut self) -> Option<GroupId> {
        let names: BTreeSet<&str> = self.facts.rows.iter().map(|row| row.cluster.as_str()).collect();
        let mut names = names.into_iter();
        let (name, another) = (names.next()?, names.next());
        if let Some(another) = another {
            self.refuse(format!(
                "there are tables of '{name}' and of '{another}': one controller keeps the tables of one cluster"
            ));
            return None;
        }
        if name.is_empty() {
            if self.sidecars.len() != 1 || self.state.cluster.is_some() {
                self.refuse(
                    "there are local sharded tables: they can be adopted where one node is by itself",
                );
            }
            return None;
        }
        let id = match GroupId::new(name) {
            Ok(id) => id,
            Err(error) => {
                self.refuse(error.to_string());
                return None;
            }
        };
        match &self.state.cluster {
            Some(known) if *known != id => {
                self.refuse(format!("this controller keeps the tables of cluster '{known}', not of '{id}'"));
            }
            _ => self.judge_members(&id),
        }
        Some(id)
    }

    fn judge_members(&mut self, id: &GroupId) {
        let facts = self.facts;
        let shown = facts.nodes.values().filter_map(|node| node.clusters.get(id));
        let members: BTreeSet<&NodeId> =
            shown.flat_map(|cluster| cluster.nodes_view.iter().chain(&cluster.nodes_set)).collect();
        if members.is_empty() {
            self.refuse(format!("no node shows the cluster '{id}'"));
        }
        for node in members {
            match facts.nodes.get(node).map(|status| status.clusters.get(id)) {
                None => self.refuse(format!(
                    "node {node} of cluster '{id}' does not answer, or has no sidecar of this controller: start it"
                )),
                Some(cluster) if !cluster.is_some_and(ClusterStatus::is_synced) => {
                    self.refuse(format!("node {node} is no synced member of cluster '{id}'"));
                }
                Some(_) if !self.sidecars.contains(node) => {
                    self.refuse(format!("the sidecar of node {node} does not answer: start it"));
                }
                Some(_) => {}
            }
        }
    }

    /// Where the table's shards are, and that every node agrees; `None` where even that cannot be said.
    fn judge_table(&mut self, name: &TableName) -> Option<Found> {
        if self.state.tables.contains_key(name) {
            self.refuse(format!("table '{name}' is kept by this controller already"));
        }
        if let Some(node) = self.state.node_holding_name(name) {
            self.refuse(format!("{node} may still hold shards of an earlier table '{name}'"));
        }
        let mut held: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
        for row in self.facts.rows.iter().filter(|row| row.table == *name) {
            for shard in &row.shards {
                held.entry(*shard).or_default().push(row.node.clone());
            }
        }
        let whole = held.keys().copied().eq(0..held.len() as u32);
        if held.is_empty() || !whole {
            let seen: Vec<String> = held.keys().map(ToString::to_string).collect();
            self.refuse(format!(
                "table '{name}': system.sharding_table has the shards [{}], which are not 0, 1, 2 … without a gap",
                seen.join(",")
            ));
            return None;
        }
        let mut placement: Vec<Vec<NodeId>> = held.into_values().collect();
        for nodes in &mut placement {
            nodes.sort();
            nodes.dedup();
        }
        let rf = placement[0].len();
        if let Some(number) = placement.iter().position(|nodes| nodes.len() != rf) {
            let other = placement[number].len();
            self.refuse(format!(
                "table '{name}': shard 0 has {rf} copies and shard {number} has {other}; let the stock sidecar make them good, or drop the table"
            ));
        }
        self.judge_routes(name, &placement);
        let clusters = (0..placement.len())
            .map(|number| self.judge_shard(&name.shard_table(number as u32), &placement[number]))
            .collect();
        let schema = self.facts.declared.get(name).cloned();
        if schema.is_none() {
            self.refuse(format!("table '{name}': no node shows a routing table of it that can be read"));
        }
        Some(Found {
            name: name.clone(),
            rf: rf as u32,
            schema: schema.unwrap_or_default(),
            placement,
            clusters,
        })
    }

    fn judge_routes(&mut self, name: &TableName, placement: &[Vec<NodeId>]) {
        let facts = self.facts;
        for (node, status) in &facts.nodes {
            let route = status.tables.as_ref().and_then(|tables| tables.routes.get(name.as_str()));
            let Some(route) = route else {
                self.refuse(format!("table '{name}': node {node} has no routing table of it"));
                continue;
            };
            if route.shards.len() != placement.len() {
                let (there, known) = (route.shards.len(), placement.len());
                self.refuse(format!(
                    "table '{name}': the routing table of {node} has {there} shards, system.sharding_table {known}"
                ));
                continue;
            }
            let differs = route.shards.iter().zip(placement).position(|(there, known)| {
                there.iter().collect::<BTreeSet<_>>() != known.iter().collect::<BTreeSet<_>>()
            });
            if let Some(number) = differs {
                self.refuse(format!(
                    "table '{name}': the routing table of {node} names {} for shard {number}, system.sharding_table {}",
                    list(&route.shards[number]),
                    list(&placement[number])
                ));
            }
        }
    }

    /// The shard's copies are where they should be, equal, and in one cluster of just these nodes, which is given.
    fn judge_shard(&mut self, physical: &str, nodes: &[NodeId]) -> Option<GroupId> {
        let facts = self.facts;
        let has = |status: &NodeStatus| {
            status.tables.as_ref().is_some_and(|tables| tables.shards.contains(physical))
        };
        for node in nodes {
            if !facts.nodes.get(node).is_some_and(has) {
                self.refuse(format!("{physical}: node {node} does not show it"));
            }
        }
        for (node, _) in facts.nodes.iter().filter(|(node, status)| !nodes.contains(node) && has(status)) {
            self.refuse(format!(
                "{physical}: node {node} holds it, too, and nothing says so: see what is in it, and drop it there"
            ));
        }
        let contents: BTreeSet<Content> =
            facts.contents.get(physical).into_iter().flat_map(BTreeMap::values).copied().collect();
        if facts.contents.get(physical).map_or(0, BTreeMap::len) < nodes.len() {
            self.refuse(format!("{physical}: not all of its copies could be counted"));
        } else if contents.len() > 1 {
            let counts: Vec<String> = contents.iter().map(|content| content.rows.to_string()).collect();
            self.refuse(format!(
                "{physical}: its copies on {} differ ({} rows): find out which is right, and make the others anew",
                list(nodes),
                counts.join(" and ")
            ));
        }
        self.judge_home(physical, nodes)
    }

    fn judge_home(&mut self, physical: &str, nodes: &[NodeId]) -> Option<GroupId> {
        let facts = self.facts;
        let homes: BTreeSet<&GroupId> = nodes
            .iter()
            .filter_map(|node| facts.nodes.get(node))
            .flat_map(|status| &status.clusters)
            .filter(|(_, cluster)| cluster.tables.contains(physical))
            .map(|(id, _)| id)
            .collect();
        let mut homes = homes.into_iter();
        match (nodes.len(), homes.next(), homes.next()) {
            (1, None, _) => None,
            (1, Some(home), _) => {
                self.refuse(format!(
                    "{physical}: its only copy is in the cluster '{home}': ALTER CLUSTER {home} DROP {physical} takes it out"
                ));
                None
            }
            (_, Some(home), None) if home.is_ours() => Some(home.clone()),
            (_, Some(home), None) => {
                self.refuse(format!(
                    "{physical}: it is in the cluster '{home}', which is none of the stock sidecar's"
                ));
                None
            }
            (_, None, _) => {
                self.refuse(format!(
                    "{physical}: its copies on {} are in no replication cluster",
                    list(nodes)
                ));
                None
            }
            (_, Some(one), Some(other)) => {
                self.refuse(format!("{physical}: it is in two clusters, '{one}' and '{other}'"));
                None
            }
        }
    }

    /// Each cluster has just the members that its shards have, all synced, and no other tables.
    fn judge_groups(&mut self, tables: &[Found]) -> Vec<ImportedGroup> {
        let mut groups: BTreeMap<&GroupId, (&[NodeId], BTreeSet<String>)> = BTreeMap::new();
        for table in tables {
            for (number, home) in table.clusters.iter().enumerate() {
                let Some(home) = home else { continue };
                let physical = table.name.shard_table(number as u32);
                groups.entry(home).or_insert((&table.placement[number], BTreeSet::new())).1.insert(physical);
            }
        }
        for (id, (nodes, shards)) in &groups {
            if self.state.groups.contains_key(*id) {
                self.refuse(format!("cluster '{id}' is a group of this controller already"));
            }
            for node in *nodes {
                if let Some(why) =
                    self.facts.nodes.get(node).and_then(|status| member_fault(status, id, nodes, shards))
                {
                    self.refuse(format!("cluster '{id}' on {node}: {why}"));
                }
            }
        }
        let listed = groups.into_iter().map(|(id, (nodes, shards))| ImportedGroup {
            name: id.to_string(),
            nodes: nodes.to_vec(),
            shards: shards.len() as u64,
        });
        listed.collect()
    }

    /// What no table of the stock sidecar's explains stays, and is named.
    fn note_strangers(&mut self, tables: &[Found]) {
        let facts = self.facts;
        let known: BTreeSet<&TableName> = tables.iter().map(|table| &table.name).collect();
        let homes: BTreeSet<&GroupId> =
            tables.iter().flat_map(|table| table.clusters.iter().flatten()).collect();
        for (node, status) in &facts.nodes {
            for shard in status.tables.iter().flat_map(|tables| &tables.shards) {
                let of = model::parse_shard_table(shard).map(|(table, _)| table);
                if of.is_some_and(|table| !known.contains(&table) && !self.state.tables.contains_key(&table))
                {
                    self.notes.push(format!("{node} holds {shard}, of no known table: it is left alone"));
                }
            }
            for (id, cluster) in &status.clusters {
                if id.is_ours() && !homes.contains(id) && !self.state.groups.contains_key(id) {
                    let tables = cluster.tables.len();
                    self.notes.push(format!(
                        "{node} is in the cluster '{id}' with {tables} tables, none of them adopted: it is left alone"
                    ));
                }
            }
        }
    }
}

/// What stands against this node as a member of the group.
fn member_fault(
    status: &NodeStatus,
    id: &GroupId,
    nodes: &[NodeId],
    shards: &BTreeSet<String>,
) -> Option<String> {
    let Some(cluster) = status.clusters.get(id) else { return Some("it is no member".to_owned()) };
    if !cluster.is_synced() {
        return Some(format!(
            "{:?} and {:?}, it must be primary and synced",
            cluster.status, cluster.node_state
        ));
    }
    let nodes: BTreeSet<&NodeId> = nodes.iter().collect();
    if cluster.nodes_view.iter().collect::<BTreeSet<_>>() != nodes {
        let view: Vec<NodeId> = cluster.nodes_view.iter().cloned().collect();
        return Some(format!("its members are {}, the shards are elsewhere", list(&view)));
    }
    if let Some(away) = cluster.nodes_set.iter().find(|node| !nodes.contains(node)) {
        return Some(format!(
            "{away} is a member that is away: ALTER CLUSTER {id} UPDATE nodes strikes it off"
        ));
    }
    if let Some(plain) = shards.iter().find(|shard| !cluster.tables.contains(*shard)) {
        return Some(format!("{plain} is not in it there, so writes to the other copies do not reach it"));
    }
    let other = cluster.tables.iter().find(|table| !shards.contains(*table));
    other.map(|table| format!("it also holds {table}, which is no shard that is adopted: take it out first"))
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests;
