//! Nodes and clusters as data: what each action does to them, and what they show.

use super::Random;
use model::WRITTEN_TO;
use model::{
    Action, ClusterState, ClusterStatus, Content, GroupId, Measurement, MemberState, Millis, NodeId,
    NodeStatus, Outcome, Route, TablesStatus,
};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

mod shown;

/// What happens to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The node refuses it once.
    Refused,
    /// It never arrives; nobody hears of it.
    Lost,
    /// It is done, and the outcome comes back as unknown.
    ReplyLost,
}

#[derive(Debug, Default)]
struct Node {
    live: bool,
    /// Live again, but its clusters come back later.
    rejoins_at: Option<Millis>,
    tables: BTreeMap<String, BTreeSet<i64>>,
    routes: BTreeMap<String, Route>,
    directories: BTreeSet<GroupId>,
    /// Clusters in its configuration.
    member_of: BTreeSet<GroupId>,
    /// Of those, the ones whose replication stopped here for good.
    closed: BTreeSet<GroupId>,
}

#[derive(Debug, Default)]
struct Cluster {
    /// Synced members in view.
    view: BTreeSet<NodeId>,
    /// Those with whom its quorum was lost: without one, the last view that had one is shown.
    fell: BTreeSet<NodeId>,
    nodes_set: BTreeSet<NodeId>,
    tables: BTreeSet<String>,
    primary: bool,
    committed: i64,
    /// Changes with every history that begins.
    uuid: u64,
    /// Received and not applied.
    queue: u64,
}

/// All nodes and clusters.
#[derive(Debug, Default)]
pub struct Nodes {
    by_id: BTreeMap<NodeId, Node>,
    clusters: BTreeMap<GroupId, Cluster>,
    now: Millis,
    histories: u64,
    refuses_joins: BTreeSet<NodeId>,
    /// JOINs that would have waited for a dead member of the list.
    pub slow_joins: u32,
    /// Nodes that find nobody of a group.
    out: BTreeSet<(NodeId, GroupId)>,
    /// Members of the user's cluster that receive its state.
    receiving: BTreeSet<NodeId>,
    /// Nodes that show every cluster without a quorum, although its others have one.
    pub parted: BTreeSet<NodeId>,
    /// What nodes that died had committed, until they are in their groups again.
    stale: BTreeMap<(NodeId, GroupId), i64>,
    /// Nodes that wait for members of a group where they are no more.
    behind: BTreeSet<(NodeId, GroupId)>,
    /// The second node to start makes a new history of its own copy, as real ones do.
    pub second_wins: bool,
}

fn user_cluster() -> GroupId {
    GroupId::new("c").expect("valid")
}

impl Nodes {
    pub fn add(&mut self, id: &NodeId) {
        let member_of = [user_cluster()].into();
        self.by_id.insert(id.clone(), Node { live: true, member_of, ..Node::default() });
        let cluster = self.clusters.entry(user_cluster()).or_default();
        cluster.view.insert(id.clone());
        cluster.nodes_set.insert(id.clone());
        cluster.primary = true;
    }

    pub fn all(&self) -> Vec<NodeId> {
        self.by_id.keys().cloned().collect()
    }

    pub fn live(&self) -> Vec<NodeId> {
        self.by_id.iter().filter(|(_, node)| node.live).map(|(id, _)| id.clone()).collect()
    }

    pub fn is_live(&self, id: &NodeId) -> bool {
        self.by_id[id].live
    }

    pub fn rows(&self, id: &NodeId, table: &str) -> Option<&BTreeSet<i64>> {
        self.by_id[id].tables.get(table)
    }

    pub fn route(&self, id: &NodeId, table: &str) -> Option<&Route> {
        self.by_id[id].routes.get(table)
    }

    pub fn shards(&self, id: &NodeId) -> BTreeSet<String> {
        self.by_id[id].tables.keys().cloned().collect()
    }

    pub fn clusters(&self, id: &NodeId) -> BTreeSet<GroupId> {
        self.by_id[id].member_of.clone()
    }

    /// kill -9.
    pub fn kill(&mut self, id: &NodeId) {
        let Some(node) = self.by_id.get_mut(id) else { return };
        node.live = false;
        node.rejoins_at = None;
        self.out.retain(|(out, _)| out != id);
        self.behind.retain(|(behind, _)| behind != id);
        for (group, cluster) in &mut self.clusters {
            if cluster.view.remove(id) {
                self.stale.insert((id.clone(), group.clone()), cluster.committed);
                // A strict majority of the last view goes on.
                cluster.primary &= cluster.view.len() > cluster.view.len().div_ceil(2);
                if !cluster.primary {
                    cluster.fell.insert(id.clone());
                }
            }
        }
    }

    /// The node stood still, and goes on while the others of the group, restarted meanwhile, are elsewhere.
    pub fn thaw_behind(&mut self, id: &NodeId, group: &GroupId) {
        self.node(id).live = true;
        self.behind.insert((id.clone(), group.clone()));
        if let Some(cluster) = self.clusters.get_mut(group) {
            cluster.view.remove(id);
        }
    }

    /// What the gate does while the node is down.
    pub fn forget(&mut self, id: &NodeId, group: &GroupId) {
        self.node(id).member_of.remove(group);
    }

    /// The node stood still, and goes on with what it had. Where nobody else is left it waits without a quorum.
    pub fn thaw(&mut self, id: &NodeId) {
        self.node(id).live = true;
        for group in self.clusters(id) {
            if let Some(cluster) = self.clusters.get_mut(&group).filter(|cluster| cluster.view.is_empty()) {
                cluster.view = [id.clone()].into();
            }
        }
    }

    /// Until it is killed the node finds nobody of this group.
    pub fn stays_out(&mut self, id: &NodeId, group: &GroupId) {
        self.out.insert((id.clone(), group.clone()));
    }

    /// The copy on this node has not applied the last writes.
    pub fn forget_newest(&mut self, id: &NodeId, table: &str, count: usize) {
        let rows = self.node(id).tables.get_mut(table).expect("a copy");
        for _ in 0..count {
            rows.pop_last();
        }
    }

    pub fn insert_row(&mut self, id: &NodeId, table: &str, row: i64) {
        self.node(id).tables.get_mut(table).expect("a copy").insert(row);
    }

    pub fn lose_table(&mut self, id: &NodeId, table: &str) {
        self.node(id).tables.remove(table);
    }

    pub fn refuse_joins(&mut self, id: &NodeId, refuses: bool) {
        if refuses {
            self.refuses_joins.insert(id.clone());
        } else {
            self.refuses_joins.remove(id);
        }
    }

    /// The node receives the state of the user's cluster, and is a member that is not synced.
    pub fn receives(&mut self, id: &NodeId) {
        self.receiving.insert(id.clone());
    }

    /// Those in view show a quorum, whether they have one or not.
    pub fn keep_quorum(&mut self, group: &GroupId) {
        self.clusters.get_mut(group).expect("a cluster").primary = true;
    }

    /// All members lose sight of each other.
    pub fn break_quorum(&mut self, group: &GroupId) {
        self.clusters.get_mut(group).expect("a cluster").primary = false;
    }

    /// Whom those that start again look for.
    pub fn listed(&self, group: &GroupId) -> &BTreeSet<NodeId> {
        &self.clusters[group].nodes_set
    }

    /// While set nobody is fit to go on alone.
    pub fn unsynced(&mut self, group: &GroupId, unsynced: bool) {
        self.clusters.get_mut(group).expect("a cluster").queue = u64::from(unsynced);
    }

    /// The disk is full: replication stops in all groups of the node, which goes on answering.
    pub fn fill_disk(&mut self, id: &NodeId) {
        let user = user_cluster();
        let groups: Vec<GroupId> =
            self.by_id[id].member_of.iter().filter(|group| **group != user).cloned().collect();
        for group in groups {
            if let Some(cluster) = self.clusters.get_mut(&group) {
                cluster.view.remove(id);
                cluster.nodes_set.remove(id);
            }
            self.node(id).closed.insert(group);
        }
    }

    /// The process is started again; its clusters take a while to come back. The gate has taken its routes away.
    pub fn start(&mut self, id: &NodeId) {
        // Who finds nobody knows it at once.
        let rejoins_at = self.now + Millis(if self.second_wins { 500 } else { 6_000 });
        if let Some(node) = self.by_id.get_mut(id) {
            node.live = true;
            node.routes.clear();
            node.rejoins_at = Some(rejoins_at);
        }
    }

    /// Time passes: nodes that came back rejoin what is elsewhere, with the donor's content.
    pub fn catch_up(&mut self, now: Millis) {
        self.now = now;
        let due: Vec<NodeId> = self
            .by_id
            .iter()
            .filter(|(_, node)| node.live && node.rejoins_at.is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let clusters: Vec<GroupId> = self.by_id[&id].member_of.iter().cloned().collect();
            for group in clusters {
                self.form_anew(&id, &group, now);
                let Some(cluster) = self.clusters.get_mut(&group) else { continue };
                let gave_up = self.by_id[&id].closed.contains(&group)
                    || self.out.contains(&(id.clone(), group.clone()))
                    || self.behind.contains(&(id.clone(), group.clone()));
                if !cluster.view.is_empty() && !gave_up && !cluster.view.contains(&id) {
                    // Who waits without a quorum has one as soon as another starts, and keeps its copy.
                    cluster.primary = true;
                    self.join(&id, &group);
                }
            }
        }
    }

    /// Another one has started before, found nobody, and given up.
    fn form_anew(&mut self, id: &NodeId, group: &GroupId, now: Millis) {
        let gave_up = |node: &Node| {
            node.live && node.member_of.contains(group) && node.rejoins_at.is_some_and(|at| at < now)
        };
        let others: Vec<NodeId> = self
            .by_id
            .iter()
            .filter(|(other, node)| *other != id && gave_up(node))
            .map(|(id, _)| id.clone())
            .collect();
        let Some(cluster) = self.clusters.get_mut(group) else { return };
        if !self.second_wins || others.is_empty() || !cluster.view.is_empty() || cluster.primary {
            return;
        }
        self.histories += 1;
        cluster.view = [id.clone()].into();
        (cluster.primary, cluster.committed, cluster.uuid) = (true, 0, self.histories);
        self.stale.remove(&(id.clone(), group.clone()));
        for other in others {
            self.node(&other).closed.insert(group.clone());
        }
    }

    fn join(&mut self, id: &NodeId, group: &GroupId) {
        let Some(cluster) = self.clusters.get_mut(group) else { return };
        let donor = cluster.view.first().cloned();
        cluster.view.insert(id.clone());
        self.stale.remove(&(id.clone(), group.clone()));
        let tables = cluster.tables.clone();
        for table in tables {
            let rows = donor.as_ref().and_then(|donor| self.by_id[donor].tables.get(&table)).cloned();
            if let (Some(rows), Some(node)) = (rows, self.by_id.get_mut(id)) {
                node.tables.insert(table, rows);
            }
        }
        if let Some(node) = self.by_id.get_mut(id) {
            node.member_of.insert(group.clone());
        }
    }

    /// One that comes back by itself, by `join` alone, is not put on the list again (recorded: `lists-of-members`).
    fn join_anew(&mut self, id: &NodeId, group: &GroupId) {
        if self.clusters[group].nodes_set.iter().any(|listed| !self.is_live(listed)) {
            self.slow_joins += 1;
        }
        self.join(id, group);
        let cluster = self.clusters.get_mut(group).expect("joined");
        cluster.nodes_set.extend(cluster.view.iter().cloned());
    }

    /// Carries an action out; `None`: nobody will ever hear of it.
    pub fn run(&mut self, id: &NodeId, action: &Action, fault: Fault) -> Option<Outcome> {
        if !self.is_live(id) {
            return None;
        }
        match fault {
            Fault::Lost => None,
            Fault::Refused => Some(Outcome::Refused { message: "refused by chance".to_owned() }),
            Fault::ReplyLost => {
                let _ = self.act(id, action);
                Some(Outcome::Unknown { message: "connect and query timed out".to_owned() })
            }
            Fault::None => Some(match self.act(id, action) {
                Ok(contents) => Outcome::Done { contents },
                Err(message) => Outcome::Refused { message },
            }),
        }
    }

    fn act(&mut self, id: &NodeId, action: &Action) -> Result<BTreeMap<String, Content>, String> {
        let mut contents = BTreeMap::new();
        match action {
            Action::CreateTables { tables, .. } => {
                for table in tables {
                    self.node(id).tables.entry(table.clone()).or_default();
                }
            }
            Action::DropTables { tables } => {
                for table in tables {
                    self.drop_plain(id, table)?;
                }
            }
            Action::DropCopies { copies } => {
                for (table, content_then) in copies {
                    if let Some(rows) = self.by_id[id].tables.get(table)
                        && content(rows) != *content_then
                    {
                        return Err(format!("{table} was written to after it left"));
                    }
                    self.drop_plain(id, table)?;
                }
            }
            Action::MakeDirectory { group } => {
                self.node(id).directories.insert(group.clone());
            }
            Action::RemoveDirectory { group } => {
                if self.by_id[id].member_of.contains(group) {
                    return Err(format!("{group} is in use"));
                }
                self.node(id).directories.remove(group);
            }
            Action::SetRoutes { routes } => {
                for spec in routes {
                    self.node(id).routes.insert(spec.route.table.to_string(), spec.route.clone());
                }
            }
            Action::DropRoutes { tables } => {
                for table in tables {
                    self.node(id).routes.remove(table.as_str());
                }
            }
            other => contents = self.act_on_cluster(id, other)?,
        }
        Ok(contents)
    }

    fn act_on_cluster(&mut self, id: &NodeId, action: &Action) -> Result<BTreeMap<String, Content>, String> {
        let mut contents = BTreeMap::new();
        match action {
            Action::CreateCluster { group } => {
                if self.by_id[id].member_of.contains(group) {
                    return Ok(contents);
                }
                if *group != user_cluster() && !self.by_id[id].directories.contains(group) {
                    return Err(format!("cannot access directory {group}"));
                }
                let lives = self.clusters.get(group).is_some_and(|cluster| !cluster.view.is_empty());
                assert!(!lives, "{group} is created twice");
                let view: BTreeSet<NodeId> = [id.clone()].into();
                self.histories += 1;
                let uuid = self.histories;
                self.clusters
                    .insert(group.clone(), Cluster { view, primary: true, uuid, ..Cluster::default() });
                self.node(id).member_of.insert(group.clone());
            }
            Action::JoinCluster { group, at } => {
                if self.by_id[id].member_of.contains(group) {
                    return Ok(contents);
                }
                if self.refuses_joins.contains(id) {
                    return Err("no space left on device".to_owned());
                }
                let donor = self.clusters.get(group).filter(|c| c.primary && c.view.contains(at));
                if donor.is_none() || !self.is_live(at) {
                    return Err(format!("cluster '{group}', failed to fetch donor user from any node"));
                }
                let mut overwritten =
                    self.clusters[group].tables.iter().filter(|t| self.by_id[id].tables.contains_key(*t));
                let foreign = overwritten.find(|t| !self.is_quiet_and_same(t, id, at));
                assert!(foreign.is_none(), "JOIN would overwrite {foreign:?} on {id}");
                self.join_anew(id, group);
            }
            Action::AddTables { group, tables } => self.add_tables(id, group, tables)?,
            Action::RemoveTables { group, tables } => {
                let cluster = self.whole(id, group)?;
                cluster.tables.retain(|table| !tables.contains(table));
            }
            Action::ReturnTables { group, copies } => self.return_tables(id, group, copies)?,
            Action::AwaitQuiet { .. } => {}
            Action::UpdateNodes { group } => {
                let cluster = self.primary(id, group)?;
                cluster.nodes_set = cluster.view.clone();
            }
            Action::Bootstrap { group } => {
                let cluster = self.clusters.get_mut(group).ok_or("unknown cluster")?;
                assert!(cluster.view.contains(id), "{id} is bootstrapped without being a member of {group}");
                cluster.primary = true;
                cluster.fell.clear();
            }
            Action::ExitCluster { group, tables, .. } => {
                if self.by_id[id].member_of.contains(group) {
                    let cluster = self.primary(id, group)?;
                    if cluster.view.len() == 1 {
                        return Err(format!("this node is the last member of cluster '{group}'"));
                    }
                    cluster.view.remove(id);
                    cluster.nodes_set.remove(id);
                    self.node(id).member_of.remove(group);
                }
                for table in tables {
                    if let Some(rows) = self.by_id[id].tables.get(table) {
                        contents.insert(table.clone(), content(rows));
                    }
                }
            }
            Action::DeleteCluster { group, .. } => {
                if self.node(id).closed.remove(group) {
                    self.node(id).member_of.remove(group);
                    return Ok(contents);
                }
                if self.clusters.get(group).is_some_and(|cluster| cluster.view.is_empty()) {
                    self.node(id).member_of.remove(group);
                    if !self.by_id.values().any(|node| node.member_of.contains(group)) {
                        self.clusters.remove(group);
                    }
                    return Ok(contents);
                }
                // Without a quorum, too, and for everybody who is there.
                if self.clusters.get(group).is_some_and(|cluster| !cluster.primary) {
                    self.clusters.remove(group);
                    for node in self.by_id.values_mut().filter(|node| node.live) {
                        node.member_of.remove(group);
                    }
                    return Ok(contents);
                }
                let others: Vec<NodeId> = self.clusters.get(group).map_or(Vec::new(), |cluster| {
                    cluster.view.iter().filter(|other| *other != id).cloned().collect()
                });
                assert!(others.is_empty(), "DELETE CLUSTER {group} on {id} dissolves it on {others:?}");
                self.clusters.remove(group);
                self.node(id).member_of.remove(group);
            }
            other => return Err(format!("{other:?} is not simulated")),
        }
        Ok(contents)
    }

    fn return_tables(
        &mut self,
        id: &NodeId,
        group: &GroupId,
        copies: &BTreeMap<String, Content>,
    ) -> Result<(), String> {
        let members: Vec<NodeId> = self.whole(id, group)?.view.iter().cloned().collect();
        for (table, content_then) in copies {
            if self.clusters[group].tables.contains(table) {
                continue;
            }
            let rows = self.by_id[id].tables.get(table).ok_or("unknown table")?;
            if content(rows) != *content_then {
                return Err(format!("{table} {WRITTEN_TO} {group}"));
            }
            for other in &members {
                assert!(self.is_quiet_and_same(table, id, other), "ADD of {table}, which differs on {other}");
            }
            self.whole(id, group)?.tables.insert(table.clone());
        }
        Ok(())
    }

    /// Whether no node routes the shard's table, it is in no cluster on `id`, and its copies there and on `other` are equal.
    fn is_quiet_and_same(&self, shard: &str, id: &NodeId, other: &NodeId) -> bool {
        let (name, _) = model::parse_shard_table(shard).expect("a shard");
        let routed = self.by_id.values().any(|node| node.live && node.routes.contains_key(name.as_str()));
        let in_a_cluster = self.by_id[id]
            .member_of
            .iter()
            .any(|group| self.clusters.get(group).is_some_and(|cluster| cluster.tables.contains(shard)));
        !routed && !in_a_cluster && self.by_id[id].tables.get(shard) == self.by_id[other].tables.get(shard)
    }

    fn add_tables(&mut self, id: &NodeId, group: &GroupId, tables: &[String]) -> Result<(), String> {
        let cluster = self.whole(id, group)?;
        let others: Vec<NodeId> = cluster.view.iter().filter(|other| *other != id).cloned().collect();
        let new: Vec<String> = tables.iter().filter(|t| !cluster.tables.contains(*t)).cloned().collect();
        cluster.tables.extend(new.iter().cloned());
        for table in new {
            let taken = self.by_id[id].member_of.iter().any(|other| {
                other != group
                    && self.clusters.get(other).is_some_and(|cluster| cluster.tables.contains(&table))
            });
            assert!(!taken, "{table} is in two clusters on {id}");
            let rows = self.by_id[id].tables.get(&table).cloned().ok_or("unknown or wrong type of table")?;
            assert!(rows.is_empty() || others.is_empty(), "ADD of the filled {table} in a group of several");
            for other in &others {
                self.node(other).tables.insert(table.clone(), rows.clone());
            }
        }
        Ok(())
    }

    fn primary(&mut self, id: &NodeId, group: &GroupId) -> Result<&mut Cluster, String> {
        let cluster = self.clusters.get_mut(group).ok_or_else(|| format!("unknown cluster '{group}'"))?;
        if !cluster.view.contains(id) {
            return Err(format!("can not exit cluster '{group}': current state is joining"));
        }
        if !cluster.primary {
            return Err(format!("cluster '{group}' is not ready, not primary state (synced)"));
        }
        Ok(cluster)
    }

    /// The cluster, with nobody of its list out of view.
    fn whole(&mut self, id: &NodeId, group: &GroupId) -> Result<&mut Cluster, String> {
        let cluster = self.primary(id, group)?;
        match cluster.nodes_set.difference(&cluster.view).next() {
            Some(out) => Err(format!("member {out} of cluster '{group}' is out of view")),
            None => Ok(cluster),
        }
    }

    fn drop_plain(&mut self, id: &NodeId, table: &str) -> Result<(), String> {
        let held = self.by_id[id]
            .member_of
            .iter()
            .any(|group| self.clusters.get(group).is_some_and(|cluster| cluster.tables.contains(table)));
        if held {
            return Err(format!("DROP TABLE failed: unable to drop a cluster table '{table}'"));
        }
        self.node(id).tables.remove(table);
        Ok(())
    }

    fn node(&mut self, id: &NodeId) -> &mut Node {
        self.by_id.get_mut(id).expect("a known node")
    }

    /// A row through a routing table, to one of the shard's named copies, and from there to its cluster's view.
    pub fn write(
        &mut self,
        router: &NodeId,
        table: &str,
        row: i64,
        random: &mut Random,
    ) -> Result<String, String> {
        let route = self.by_id[router].routes.get(table).ok_or("table absent")?;
        let number = random.below(route.shards.len());
        let mirrors: Vec<NodeId> = route.shards[number].iter().filter(|m| self.is_live(m)).cloned().collect();
        let Some(mirror) = mirrors.get(random.below(mirrors.len().max(1))).cloned() else {
            return Err("no mirror answers".to_owned());
        };
        let shard = format!("system.{table}_s{number}");
        let cluster = self.by_id[&mirror].member_of.iter().find_map(|group| {
            self.clusters.get(group).filter(|c| c.tables.contains(&shard)).map(|_| group.clone())
        });
        let targets: BTreeSet<NodeId> = match &cluster {
            Some(group) => {
                let cluster = self.primary(&mirror, group)?;
                cluster.committed += 1;
                cluster.view.clone()
            }
            None => [mirror.clone()].into(),
        };
        if !self.by_id[&mirror].tables.contains_key(&shard) {
            return Err(format!("table '{shard}' absent"));
        }
        for target in targets {
            if let Some(rows) = self.node(&target).tables.get_mut(&shard) {
                rows.insert(row);
            }
        }
        Ok(shard)
    }
}

fn content(rows: &BTreeSet<i64>) -> Content {
    Content {
        rows: rows.len() as u64,
        id_sum: rows.iter().sum(),
        id_min: rows.first().copied().unwrap_or(0),
        id_max: rows.last().copied().unwrap_or(0),
    }
}
