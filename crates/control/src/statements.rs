//! Statements from clients: checked in the order and refused in the words of `sql.md`, then carried out as operations.

use crate::Controller;
use crate::catalogue::{self, Create};
use crate::io::{Effect, RequestId};
use crate::moves::touches;
use crate::operation::{Kind, NewGroup, Status};
use crate::record::Record;
use crate::rights::Sight;
use crate::state::{Member, Node, TableStatus};
use model::operate::OrderReply;
use model::wire::{ShardingStatement, StatementReply};
use model::{GroupId, Millis, NodeId, OperationId, ShardRecord, TableName, TableSpec, UserRights};
use planner::groups::{self, Place};
use std::collections::BTreeSet;

/// Where a node names no range of replication ports of its own: more clusters than this are too much for any node.
pub(crate) const GROUPS_MAX_PER_NODE: u32 = 100;

/// A client that waits for an operation.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub request: RequestId,
    /// `CREATE TABLE … timeout=`.
    pub deadline: Option<Millis>,
}

type Refusal = String;

/// As the answer to an order.
pub(crate) fn object(reply: OrderReply) -> StatementReply {
    StatementReply::Object(Box::new(reply))
}

impl Controller {
    pub(crate) fn statement(
        &mut self,
        request: RequestId,
        statement: ShardingStatement,
        rights: Option<&UserRights>,
    ) {
        if let Some(Err(message)) = rights.map(|rights| self.permitted(&statement, rights)) {
            return self.answer(request, StatementReply::Error { message });
        }
        let sight = Sight(rights);
        let begun = match statement {
            ShardingStatement::CreateTable { spec, if_not_exists, timeout_seconds } => {
                self.create_table(spec, if_not_exists, timeout_seconds)
            }
            ShardingStatement::DropTable { name, cluster, if_exists } => {
                self.drop_table(&name, cluster.as_deref(), if_exists)
            }
            ShardingStatement::TruncateTable { name } => self.every_shard(&name, "TRUNCATE"),
            ShardingStatement::OptimizeTable { name } => self.every_shard(&name, "OPTIMIZE"),
            ShardingStatement::FlushRamchunk { name } => self.every_shard(&name, "FLUSH RAMCHUNK"),
            ShardingStatement::Backup { order } => {
                let reply =
                    self.order_backup(&order).unwrap_or_else(|message| StatementReply::Error { message });
                return self.answer(request, reply);
            }
            ShardingStatement::Restore { order } => {
                let reply =
                    self.order_restore(&order).unwrap_or_else(|message| StatementReply::Error { message });
                return self.answer(request, reply);
            }
            ShardingStatement::Import { facts, dry_run } => match self.import(&facts, dry_run) {
                Ok(operation) => Ok(Some((operation, None))),
                Err(reply) => return self.answer(request, *reply),
            },
            ShardingStatement::RemoveNode { node } => {
                self.remove_node(&node).map(|operation| operation.map(|id| (id, None)))
            }
            other => {
                let reply =
                    self.ordered(other, sight).unwrap_or_else(|message| StatementReply::Error { message });
                return self.answer(request, reply);
            }
        };
        match begun {
            Ok(Some((operation, timeout))) => {
                let deadline = timeout.map(|timeout| self.now + timeout);
                self.waiting.insert(operation, Waiting { request, deadline });
            }
            Ok(None) => self.answer(request, StatementReply::Ok),
            Err(message) => self.answer(request, StatementReply::Error { message }),
        }
    }

    /// What is answered at once.
    fn ordered(&mut self, statement: ShardingStatement, sight: Sight<'_>) -> Result<StatementReply, Refusal> {
        match statement {
            ShardingStatement::DrainNode { node } => self.drain(&node, true),
            ShardingStatement::UndrainNode { node } => self.drain(&node, false),
            ShardingStatement::MoveShard { name, shard, from, to, split } => {
                self.move_shard(&name, shard, &from, &to, split)
            }
            ShardingStatement::SetRf { name, cluster, rf } => self.set_rf(&name, cluster.as_deref(), rf),
            ShardingStatement::ExplainShard { name, shard } => self.explain_shard(&name, shard),
            ShardingStatement::Rebalance { name, order } => self.rebalance_order(&name, order),
            ShardingStatement::RecoverGroup { group, from } => {
                self.recover_from(&group, &from).map(|()| StatementReply::Ok)
            }
            ShardingStatement::Gate { node } => Ok(object(OrderReply::Gate(self.gate(&node)))),
            ShardingStatement::SelectView { query } => self.select(&query, sight),
            ShardingStatement::Silence { kind, labels, seconds, comment } => {
                self.silence(kind, labels, seconds, comment).map(|()| StatementReply::Ok)
            }
            ShardingStatement::Recover => Ok(object(OrderReply::Recovery(self.recover_all()))),
            ShardingStatement::CleanUp => Ok(object(OrderReply::CleanUp(self.clean_up_now()))),
            look => Ok(self.show_to(&look, sight)),
        }
    }

    fn answer(&mut self, request: RequestId, reply: StatementReply) {
        self.out.effects.push(Effect::Answer { request, reply });
    }

    /// Answers those whose operation is over, and those who waited long enough: their table is taken back.
    pub(crate) fn answer_waiting(&mut self) {
        let waiting: Vec<(OperationId, Waiting)> =
            self.waiting.iter().map(|(id, waiting)| (*id, *waiting)).collect();
        for (id, waiting) in waiting {
            let reply = match self.state.operations.get(&id).map(|operation| operation.status) {
                None => self.outcome_of(id),
                Some(status) if waiting.deadline.is_some_and(|deadline| self.now >= deadline) => {
                    let message = "Waiting timeout exceeded.".to_owned();
                    if matches!(status, Status::Running) {
                        self.record(Record::UnwindStarted {
                            operation: id,
                            error: message.clone(),
                            revoked: false,
                        });
                    }
                    StatementReply::Error { message }
                }
                Some(_) => continue,
            };
            self.waiting.remove(&id);
            self.answer(waiting.request, reply);
        }
    }

    fn outcome_of(&self, id: OperationId) -> StatementReply {
        let finished = self.state.finished.iter().rev().find(|operation| operation.id == id);
        match finished.map(|operation| (operation.status, operation.error.clone())) {
            Some((Status::Done, _)) => StatementReply::Ok,
            Some((_, error)) => {
                let error = error.unwrap_or_else(|| "it failed without a reason".to_owned());
                let undone =
                    if finished.is_some_and(|operation| matches!(operation.kind, Kind::CreateTable { .. })) {
                        "; everything created was undone"
                    } else {
                        ""
                    };
                StatementReply::Error { message: format!("{error}{undone}") }
            }
            None => StatementReply::Error {
                message: "the outcome is not known any more: look at SHOW SHARDING STATUS".to_owned(),
            },
        }
    }

    fn create_table(
        &mut self,
        spec: TableSpec,
        if_not_exists: bool,
        timeout_seconds: u64,
    ) -> Result<Option<(OperationId, Option<Millis>)>, Refusal> {
        if if_not_exists && self.table_exists(&spec.name) {
            return Ok(None);
        }
        let id = self.begin_create(spec, None)?;
        Ok(Some((id, Some(Millis::from_secs(timeout_seconds)))))
    }

    /// The same for a table that was recorded: where it was, if that can be.
    pub(crate) fn create_as_recorded(
        &mut self,
        spec: TableSpec,
        placement: &[ShardRecord],
    ) -> Result<OperationId, Refusal> {
        self.begin_create(spec, Some(placement))
    }

    fn begin_create(
        &mut self,
        spec: TableSpec,
        recorded: Option<&[ShardRecord]>,
    ) -> Result<OperationId, Refusal> {
        let name = spec.name.clone();
        if self.table_exists(&name) {
            return Err(format!("table '{name}': CREATE TABLE failed: table '{name}' already exists"));
        }
        self.check_cluster_of(&spec)?;
        let nodes = self.nodes_for(&spec)?;
        if let Some(node) = self.state.node_holding_name(&name) {
            return Err(format!(
                "table '{name}': CREATE TABLE failed: {node} may still hold shards of an earlier table '{name}'; bring the node back so that it can be cleaned, then retry"
            ));
        }
        self.check_queue()?;
        if let Some(node) = nodes.iter().find(|node| !self.state.is_live(node)) {
            return Err(format!(
                "node {node} is lost: CREATE TABLE needs every node, bring it back or remove it"
            ));
        }
        if let Some(node) = nodes.iter().find(|node| !self.sidecar_is_ours(node)) {
            return Err(format!("the sidecar of node {node} does not answer: start it, then retry"));
        }
        let recorded = recorded.and_then(|placement| self.groups_as_recorded(&spec, placement));
        let (new_groups, homes) = match recorded {
            Some(placed) => placed,
            None => self.assign(&spec)?,
        };
        let generation = self.state.generations.get(&name).copied().unwrap_or(0) + 1;
        let create = Create { spec, generation, new_groups, homes };
        let id = self
            .add(|state, id, unix| Some(catalogue::create_table(state, id, create, unix)))
            .ok_or("the operation could not be made")?;
        self.out.effects.push(Effect::NamesChanged);
        Ok(id)
    }

    /// What clients ask for is refused when too much is under way; what the cluster needs is done all the same.
    pub(crate) fn check_queue(&self) -> Result<(), Refusal> {
        let limit = self.config.settings.max_queue_depth;
        if (self.state.active().count() as u64) < limit {
            return Ok(());
        }
        Err(format!("the queue is full ({limit} operations): retry when some are done"))
    }

    fn table_exists(&self, name: &TableName) -> bool {
        self.state.tables.contains_key(name)
            || self.observed.nodes.values().filter_map(|view| view.tables.as_ref()).any(|(_, tables)| {
                tables.plain.contains(name.as_str()) || tables.routes.contains_key(name.as_str())
            })
    }

    fn check_cluster_of(&mut self, spec: &TableSpec) -> Result<(), Refusal> {
        let Some(cluster) = &spec.cluster else {
            return match self.user_clusters().first().or(self.state.cluster.as_ref()) {
                Some(cluster) => Err(format!(
                    "Local sharded tables cannot be created on a node that is part of a replication cluster ('{cluster}'). Use CREATE TABLE {cluster}:{} instead.",
                    spec.name
                )),
                None => Ok(()),
            };
        };
        let seen = GroupId::new(cluster.clone())
            .ok()
            .filter(|id| self.user_clusters().contains(id) || self.state.cluster.as_ref() == Some(id));
        let Some(seen) = seen else { return Err(format!("Cluster '{cluster}' does not exist")) };
        match &self.state.cluster {
            Some(known) if *known != seen => Err(format!(
                "cluster '{cluster}' cannot be used: this controller keeps the tables of cluster '{known}', and one controller keeps one cluster"
            )),
            Some(_) => Ok(()),
            None => {
                self.record(Record::ClusterAdopted { cluster: seen });
                self.watch_membership();
                Ok(())
            }
        }
    }

    /// The nodes that the table will be on, when there are enough.
    fn nodes_for(&mut self, spec: &TableSpec) -> Result<Vec<NodeId>, Refusal> {
        let Some(cluster) = &spec.cluster else { return self.local_node() };
        if self.is_busy(|kind| matches!(kind, Kind::RemoveNode { .. })) {
            return Err("a node is being removed: retry when that is done".to_owned());
        }
        let nodes: Vec<NodeId> = self.state.nodes.keys().cloned().collect();
        if nodes.len() < 2 {
            return Err(format!(
                "The node count for cluster {cluster} is too low: {}. You can create local sharded table.",
                nodes.len()
            ));
        }
        let placing =
            nodes.iter().filter(|node| self.state.nodes.get(*node).is_some_and(|n| !n.draining)).count();
        if placing < spec.rf as usize {
            return Err(format!("The node count ({placing}) is lower than replication factor ({})", spec.rf));
        }
        Ok(nodes)
    }

    /// A local table lives on the only node there is.
    pub(crate) fn local_node(&mut self) -> Result<Vec<NodeId>, Refusal> {
        let mut nodes = self.observed.nodes.iter().filter(|(_, view)| view.has_sidecar(self.now));
        let (Some((node, view)), None) = (nodes.next(), nodes.next()) else {
            return Err(
                "Local sharded tables need exactly one node: this controller sees several; put them into a replication cluster and use CREATE TABLE cluster:table"
                    .to_owned(),
            );
        };
        let (node, uuid) =
            (node.clone(), view.sidecar.as_ref().map(|s| s.poll.uuid.clone()).unwrap_or_default());
        if !self.state.nodes.contains_key(&node) {
            self.record(Record::NodeAdded { node: node.clone(), uuid, unix: self.unix_now });
        }
        Ok(vec![node])
    }

    /// Which group each shard goes to, and the groups to make.
    fn assign(&mut self, spec: &TableSpec) -> Result<(Vec<NewGroup>, Vec<GroupId>), Refusal> {
        if spec.rf == 1 {
            return Ok(self.assign_single(spec));
        }
        let mut idle = self.idle_groups();
        idle.retain(|_, members| members.len() == spec.rf as usize);
        let sites: Vec<groups::Site> = self
            .state
            .placing_nodes()
            .map(|node| {
                let count =
                    self.state.groups.values().filter(|group| group.members.contains_key(node)).count()
                        + idle.values().filter(|members| members.contains(node)).count();
                groups::Site {
                    id: node.to_string(),
                    zone: None,
                    capacity: 1.0,
                    groups: count as u32,
                    free_ports: self.free_clusters(node),
                }
            })
            .collect();
        let usable: Vec<groups::Group> = self
            .state
            .groups
            .iter()
            .filter(|(id, group)| group.rf == spec.rf && self.takes_shards(id))
            .map(|(id, group)| groups::Group {
                id: id.to_string(),
                members: group.members.keys().map(ToString::to_string).collect(),
                shards: group.shards.len() as u32,
            })
            .chain(idle.iter().map(|(id, members)| groups::Group {
                id: id.to_string(),
                members: members.iter().map(ToString::to_string).collect(),
                shards: 0,
            }))
            .collect();
        let request = groups::Request {
            shards: spec.shards,
            rf: spec.rf,
            groups_per_node: self.config.settings.replication_groups_per_node,
        };
        let assigned = groups::assign(&sites, &usable, &request).map_err(|error| error.to_string())?;
        let mut new_groups = Vec::new();
        for members in assigned.new_groups {
            let members: Vec<NodeId> = members.into_iter().filter_map(|id| NodeId::new(id).ok()).collect();
            new_groups.push(NewGroup { id: self.new_group_id(), rf: spec.rf, members });
        }
        let mut homes = Vec::with_capacity(assigned.places.len());
        for place in assigned.places {
            let home = match place {
                Place::Existing(id) => GroupId::new(id).map_err(|error| error.to_string())?,
                Place::New(index) => new_groups[index].id.clone(),
            };
            homes.push(home);
        }
        // A group that got no shard would be a cluster for nothing.
        let used: BTreeSet<&GroupId> = homes.iter().collect();
        new_groups.retain(|group| used.contains(&group.id));
        idle.retain(|id, _| used.contains(id));
        if !idle.is_empty() {
            let whole = |(id, members): (_, BTreeSet<NodeId>)| NewGroup {
                id,
                rf: spec.rf,
                members: members.into_iter().collect(),
            };
            self.record(Record::GroupsTakenUp { groups: idle.into_iter().map(whole).collect() });
        }
        Ok((new_groups, homes))
    }

    /// A table without copies: each shard is a unit of its own, the emptiest node takes the next.
    fn assign_single(&mut self, spec: &TableSpec) -> (Vec<NewGroup>, Vec<GroupId>) {
        let mut load: Vec<(usize, NodeId)> = self
            .state
            .placing_nodes()
            .map(|node| {
                let singles = self.state.groups.values().filter(|group| group.rf == 1);
                (singles.filter(|group| group.members.contains_key(node)).count(), node.clone())
            })
            .collect();
        let mut new_groups = Vec::new();
        for _ in 0..spec.shards {
            load.sort();
            let Some((count, node)) = load.first_mut() else { break };
            *count += 1;
            let members = vec![node.clone()];
            new_groups.push(NewGroup { id: self.new_group_id(), rf: 1, members });
        }
        let homes = new_groups.iter().map(|group| group.id.clone()).collect();
        (new_groups, homes)
    }

    /// Whether shards may enter the group now: all its members are there and nothing changes it.
    pub(crate) fn takes_shards(&self, id: &GroupId) -> bool {
        let Some(group) = self.state.groups.get(id) else { return false };
        group.members.len() == group.rf as usize
            && group.members.iter().all(|(node, member)| {
                *member == Member::Serving
                    && self.state.nodes.get(node).is_some_and(|node| !node.lost && !node.draining)
                    && self.observed.cluster(node, id).is_some_and(model::ClusterStatus::is_synced)
            })
            // Its tables stay in it.
            && group.table_names().iter().all(|table| {
                self.state.tables.get(table).is_some_and(|table| table.spec.rf == group.rf)
            })
            // Not even another table's creation: were that taken back, the group would go with it.
            && !self.state.active().any(|operation| touches(&self.state, operation, id))
    }

    fn drop_table(
        &mut self,
        name: &TableName,
        cluster: Option<&str>,
        if_exists: bool,
    ) -> Result<Option<(OperationId, Option<Millis>)>, Refusal> {
        let Some(table) = self.state.tables.get(name) else {
            return self.drop_of_no_table(name, cluster, if_exists);
        };
        if table.spec.cluster.as_deref() != cluster {
            return Err(match &table.spec.cluster {
                Some(own) => {
                    format!("table '{name}' belongs to cluster '{own}': use DROP TABLE {own}:{name}")
                }
                None => format!("table '{name}' belongs to no cluster: use DROP TABLE {name}"),
            });
        }
        if table.status != TableStatus::Active {
            return Err(format!("table '{name}' is being created or dropped: retry when that is done"));
        }
        self.check_queue()?;
        if let Some(cluster) = table.spec.cluster.clone() {
            self.check_cluster_is_whole(&cluster)?;
        }
        self.cancel_queued_moves(name);
        let id = self
            .add(|state, id, unix| Some(catalogue::drop_table(state, id, name, unix)))
            .ok_or("the operation could not be made")?;
        Ok(Some((id, None)))
    }

    /// Moves that have not begun know the tables that their group had when they were planned.
    fn cancel_queued_moves(&mut self, name: &TableName) {
        let homes: BTreeSet<GroupId> = self
            .state
            .tables
            .get(name)
            .map(|table| table.homes.iter().cloned().collect())
            .unwrap_or_default();
        let queued: Vec<OperationId> = self
            .state
            .active()
            .filter(|operation| operation.status == Status::Queued)
            .filter(|operation| {
                let hands_over = matches!(&operation.kind, Kind::HandOver { table, .. } if table == name);
                hands_over || operation.group().is_some_and(|group| homes.contains(group))
            })
            .map(|operation| operation.id)
            .collect();
        for operation in queued {
            let why = format!("table {name} is dropped: planned anew");
            self.record(Record::OperationCancelled { operation, why, unix: self.unix_now });
        }
    }

    fn drop_of_no_table(
        &self,
        name: &TableName,
        cluster: Option<&str>,
        if_exists: bool,
    ) -> Result<Option<(OperationId, Option<Millis>)>, Refusal> {
        let plain =
            self.observed.nodes.values().any(|view| {
                view.tables.as_ref().is_some_and(|(_, tables)| tables.plain.contains(name.as_str()))
            });
        match cluster {
            _ if !plain && if_exists => Ok(None),
            _ if !plain => {
                Err(format!("table '{name}' is missing: DROP TABLE failed: table '{name}' must exist"))
            }
            Some(cluster) => Err(format!(
                "table '{name}' is a regular table in cluster '{cluster}': use ALTER CLUSTER {cluster} DROP {name} to remove it from the cluster, then DROP TABLE {name}"
            )),
            None => Err(format!(
                "table '{name}' is not sharded: DROP SHARDED TABLE failed: table '{name}' must be sharded"
            )),
        }
    }

    /// Every member must be there, or a shard could come back with one that was away.
    fn check_cluster_is_whole(&self, cluster: &str) -> Result<(), Refusal> {
        let again = "refusing to DROP — retry when the cluster is fully synced";
        let Ok(id) = GroupId::new(cluster.to_owned()) else {
            return Err(format!("Cluster '{cluster}' does not exist"));
        };
        let mut alive = 0;
        for node in self.state.live_nodes() {
            let Some(status) = self.observed.cluster(node, &id) else { continue };
            if status.status != model::ClusterState::Primary {
                let state = serde_json::to_value(status.status).unwrap_or_default();
                let state = state.as_str().unwrap_or_default();
                return Err(format!(
                    "cluster '{cluster}' is not in primary view (status='{state}'): {again}"
                ));
            }
            if !status.is_synced() {
                let state = serde_json::to_value(status.node_state).unwrap_or_default();
                let state = state.as_str().unwrap_or_default();
                return Err(format!(
                    "cluster '{cluster}' local node is not synced (node_state='{state}'): {again}"
                ));
            }
            alive += usize::from(self.answers(node) && self.sidecar_is_ours(node));
        }
        let all = self.state.nodes.len();
        if alive < all {
            return Err(format!(
                "cluster '{cluster}' has unreachable members ({alive} of {all} alive): {again}"
            ));
        }
        Ok(())
    }

    fn every_shard(
        &mut self,
        name: &TableName,
        what: &str,
    ) -> Result<Option<(OperationId, Option<Millis>)>, Refusal> {
        let Some(table) = self.state.tables.get(name).cloned() else {
            return Err(format!("table '{name}' is missing: {what} failed: table '{name}' must exist"));
        };
        if table.status != TableStatus::Active {
            return Err(format!("table '{name}' is being created or dropped: retry when that is done"));
        }
        self.check_queue()?;
        let id = self
            .add(|state, id, unix| Some(catalogue::every_shard(state, id, &table, what, unix)))
            .ok_or("the operation could not be made")?;
        Ok(Some((id, None)))
    }

    /// Members by the log, for messages and lists.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&NodeId, &Node)> {
        self.state.nodes.iter()
    }
}
