//! Shards that change groups: a table's rf, and a shard that is to move alone. What each table wants is in the log; what
//! is missing is added here, one hand-over at a time.

use crate::Controller;
use crate::catalogue::{self, HandOver};
use crate::moves::touches;
use crate::operation::{Kind, NewGroup, Operation, Status, Step, StepStatus, Steps, Work};
use crate::record::Record;
use crate::state::{Group, Member, Table, TableStatus};
use model::wire::StatementReply;
use model::{GroupId, Millis, NodeId, OperationId, StepId, TableName};
use std::collections::BTreeMap;

/// Shards of one hand-over at most: each is compared, and copied while its table's statements are held.
const SHARDS_MAX: usize = 16;
/// The first pause after a hand-over that failed; it doubles with each, up to [`PAUSE_MAX`].
const PAUSE: Millis = Millis(10_000);
const PAUSE_MAX: Millis = Millis(600_000);

impl Controller {
    /// `ALTER TABLE … rf='M'`.
    pub(crate) fn set_rf(
        &mut self,
        name: &TableName,
        cluster: Option<&str>,
        rf: u32,
    ) -> Result<StatementReply, String> {
        let Some(table) = self.state.tables.get(name).cloned() else {
            return Err(format!("table '{name}' is missing: ALTER TABLE failed: table '{name}' must exist"));
        };
        if cluster.is_some() && table.spec.cluster.as_deref() != cluster {
            return Err(match &table.spec.cluster {
                Some(own) => {
                    format!("table '{name}' belongs to cluster '{own}': use ALTER TABLE {own}:{name}")
                }
                None => format!("table '{name}' belongs to no cluster: use ALTER TABLE {name}"),
            });
        }
        if table.spec.cluster.is_none() {
            return Err(format!(
                "table '{name}' is on a single node, its rf stays 1: create it in a replication cluster for more copies"
            ));
        }
        if table.spec.rf == rf {
            return Err(format!("table '{name}' has rf {rf} already"));
        }
        self.check_queue()?;
        let nodes = self.state.placing_nodes().count();
        if nodes < rf as usize {
            return Err(format!("The node count ({nodes}) is lower than replication factor ({rf})"));
        }
        self.check_may_change(name, &table)?;
        let operation = self
            .add(|_, id, unix| Some(change_rf(id, name, &table, rf, unix)))
            .ok_or("the operation could not be made")?;
        let status = match self.state.hold {
            Some(_) => "waits: moves are held, REBALANCE TABLE … RESUME lets them go",
            None => "queued",
        };
        Ok(StatementReply::Rows {
            columns: ["operation", "table", "rf", "status"].map(str::to_owned).to_vec(),
            rows: vec![
                [operation.to_string(), name.to_string(), rf.to_string(), status.to_owned()]
                    .map(Some)
                    .to_vec(),
            ],
        })
    }

    /// Before shards change groups: the table is whole, every node is there, and nothing else is at work on it.
    pub(crate) fn check_may_change(&self, name: &TableName, table: &Table) -> Result<(), String> {
        if table.status != TableStatus::Active {
            return Err(format!("table '{name}' is being created or dropped: retry when that is done"));
        }
        if let Some(node) = self.unreachable_node() {
            return Err(format!(
                "node {node} does not answer: every node must route by the new layout; bring it back or remove it, then retry"
            ));
        }
        // An earlier order for the same table is replaced by this one.
        let other = self.state.active().find(|operation| {
            let replaced = matches!(&operation.kind, Kind::ChangeRf { table, .. } | Kind::HandOver { table, .. } if table == name);
            !replaced
                && !matches!(operation.kind, Kind::Reroute { .. })
                && (operation.table() == Some(name)
                    || table.homes.iter().any(|home| touches(&self.state, operation, home)))
        });
        if let Some(other) = other {
            return Err(format!(
                "operation {} ({} {}) is at work on table '{name}' or its groups: retry when it is done",
                other.id,
                other.name(),
                other.subject()
            ));
        }
        for home in &table.homes {
            let Some(group) = self.state.groups.get(home) else { continue };
            if let Some(why) = self.is_not_whole(home, group) {
                return Err(format!(
                    "{why}: retry when SHOW SHARDING STATUS shows every copy of '{name}' active"
                ));
            }
        }
        Ok(())
    }

    /// A node that is lost, or whose sidecar or process does not answer.
    fn unreachable_node(&self) -> Option<&NodeId> {
        self.state.nodes.keys().find(|node| !self.answers(node) || !self.sidecar_is_ours(node))
    }

    /// Why the group cannot be changed now, if so: a copy is missing, or a member is out of view or behind.
    fn is_not_whole(&self, id: &GroupId, group: &Group) -> Option<String> {
        if let Some((node, _)) = group.members.iter().find(|(_, member)| **member != Member::Serving) {
            return Some(format!("the copy of group {id} on {node} is not whole"));
        }
        if group.members.is_empty() {
            return Some(format!("group {id} has no copy"));
        }
        if !group.is_clustered() {
            return self.still_in_a_cluster(id).map(|node| {
                format!("node {node} may still have the cluster of an earlier move of group {id}")
            });
        }
        group.members.keys().find_map(|node| {
            let cluster = self.observed.cluster(node, id);
            let whole = cluster.is_some_and(|cluster| {
                cluster.is_synced()
                    && group.members.keys().eq(&cluster.nodes_view)
                    && cluster.nodes_set.is_subset(&cluster.nodes_view)
            });
            (!whole).then(|| format!("group {id} is not fully in view and synced on {node}"))
        })
    }

    /// Adds what is missing between the rf that tables want and the groups that their shards are in.
    pub(crate) fn change_rfs(&mut self) {
        self.note_failed_hand_overs();
        if self.state.hold.is_some() || self.is_busy(|kind| matches!(kind, Kind::HandOver { .. })) {
            return;
        }
        let changing: Vec<TableName> = self
            .state
            .active()
            .filter_map(|operation| match &operation.kind {
                Kind::ChangeRf { table, .. } => Some(table.clone()),
                _ => None,
            })
            .collect();
        for name in changing {
            self.change_groups(&name);
            let ready = self.hand_over_not_before.get(&name).is_none_or(|at| *at <= self.now);
            if ready && self.unreachable_node().is_none() && self.add_hand_over(&name) {
                return;
            }
        }
    }

    /// A group whose tables all want one other rf becomes it as it is.
    fn change_groups(&mut self, name: &TableName) {
        let Some(table) = self.state.tables.get(name).filter(|table| table.status == TableStatus::Active)
        else {
            return;
        };
        let rf = table.spec.rf;
        let mut changed: Vec<GroupId> = table.homes.clone();
        changed.sort();
        changed.dedup();
        changed.retain(|id| {
            let Some(group) = self.state.groups.get(id) else { return false };
            self.changes_by_itself(group, rf)
                && group.rf != rf
                && self.is_not_whole(id, group).is_none()
                && !self.state.active().any(|operation| touches(&self.state, operation, id))
        });
        for group in changed {
            self.record(Record::GroupRf { group, rf });
        }
    }

    fn changes_by_itself(&self, group: &Group, rf: u32) -> bool {
        let wants = |name: &TableName| {
            self.state
                .tables
                .get(name)
                .is_some_and(|table| table.spec.rf == rf && table.status == TableStatus::Active)
        };
        rf > 1 && group.is_clustered() && group.table_names().iter().all(wants)
    }

    /// The next shards of the table that must leave their group.
    fn add_hand_over(&mut self, name: &TableName) -> bool {
        let Some(table) = self.state.tables.get(name).filter(|table| table.status == TableStatus::Active)
        else {
            return false;
        };
        let rf = table.spec.rf;
        let next = table.homes.iter().enumerate().find_map(|(number, home)| {
            let group = self.state.groups.get(home)?;
            let leaves = group.rf != rf && !self.changes_by_itself(group, rf);
            (leaves && self.is_not_whole(home, group).is_none()).then(|| (number as u32, home.clone(), group))
        });
        let Some((first, home, group)) = next else { return false };
        let shards: Vec<u32> = if group.is_clustered() {
            group.shards.iter().filter(|shard| shard.table == *name).map(|shard| shard.number).collect()
        } else {
            self.units_beside(table, first, group)
        };
        let shards: Vec<u32> = shards.into_iter().take(SHARDS_MAX).collect();
        let busy = |number: &u32| {
            let home = table.homes.get(*number as usize).unwrap_or(&home);
            self.state.active().any(|operation| touches(&self.state, operation, home))
        };
        if shards.iter().any(busy) {
            return false;
        }
        self.hand_over_of(name.clone(), shards, rf).is_some()
    }

    /// Of the table's shards on the same node, as many as one group of the pool gets.
    fn units_beside(&self, table: &Table, first: u32, unit: &Group) -> Vec<u32> {
        let per_group = u64::from(table.spec.shards).div_ceil(self.pool_size(table.spec.rf));
        let is_beside = |number: &u32| {
            let home = table.homes.get(*number as usize).and_then(|home| self.state.groups.get(home));
            home.is_some_and(|home| home.rf == 1 && home.members == unit.members)
        };
        (first..table.spec.shards).filter(is_beside).take(per_group as usize).collect()
    }

    /// How many groups of `rf` the nodes are to have, other pools aside: what a new table of that rf would be spread over.
    fn pool_size(&self, rf: u32) -> u64 {
        let nodes = self.state.placing_nodes().count() as u64;
        (nodes * u64::from(self.config.settings.replication_groups_per_node) / u64::from(rf.max(1))).max(1)
    }

    fn hand_over_of(
        &mut self,
        table: TableName,
        shards: Vec<u32>,
        rf: u32,
    ) -> Option<(OperationId, GroupId)> {
        let groups = if rf == 1 { shards.len() } else { 1 };
        let new_groups: Vec<NewGroup> =
            (0..groups).map(|_| NewGroup { id: self.new_group_id(), rf, members: Vec::new() }).collect();
        let first = new_groups.first()?.id.clone();
        let kind = Kind::HandOver { table, shards, rf, source: None, new_groups };
        // Its steps are made when its turn comes.
        let id = self.add(|_, id, unix| Some(Operation::new(id, kind, Vec::new(), unix)))?;
        Some((id, first))
    }

    /// Takes one shard out of its group, to move alone afterwards. Gives the group it will be in.
    pub(crate) fn split(&mut self, name: &TableName, shard: u32, rf: u32) -> Option<(OperationId, GroupId)> {
        self.hand_over_of(name.clone(), vec![shard], rf)
    }

    /// Why a hand-over that waits has no sense any more, if so.
    pub(crate) fn hand_over_is_void(&self, name: &TableName, rf: u32) -> Option<String> {
        let Some(table) = self.state.tables.get(name).filter(|table| table.status == TableStatus::Active)
        else {
            return Some(format!("table {name} is gone or going"));
        };
        if table.spec.rf != rf {
            return Some(format!("table {name} is to have rf {} now", table.spec.rf));
        }
        None
    }

    /// Whether a hand-over may begin: every node is there and its groups are whole. Where statements will be held nothing
    /// else runs, for they would be held the longer.
    pub(crate) fn hand_over_may_begin(
        &self,
        operation: &Operation,
        name: &TableName,
        shards: &[u32],
    ) -> bool {
        let Some(table) = self.state.tables.get(name) else { return false };
        let homes: Vec<(&GroupId, &Group)> = shards
            .iter()
            .filter_map(|number| table.homes.get(*number as usize))
            .filter_map(|home| Some((home, self.state.groups.get(home)?)))
            .collect();
        let whole = homes.iter().all(|(id, group)| self.is_not_whole(id, group).is_none());
        let holds = homes.iter().any(|(_, group)| group.is_clustered());
        let alone = self.state.active().all(|other| {
            let queued = other.id == operation.id || other.status == Status::Queued;
            let apart = !holds && homes.iter().all(|(id, _)| !touches(&self.state, other, id));
            queued || apart || matches!(other.kind, Kind::ChangeRf { .. })
        });
        alone && whole && homes.len() == shards.len() && self.unreachable_node().is_none()
    }

    pub(crate) fn hand_over_graph(&self, operation: &Operation) -> Option<Operation> {
        let Kind::HandOver { table, shards, rf, new_groups, .. } = &operation.kind else { return None };
        let order = HandOver {
            table: table.clone(),
            shards: shards.clone(),
            rf: *rf,
            new_groups: new_groups.clone(),
        };
        catalogue::hand_over(&self.state, operation.id, order, operation.created_at)
    }

    /// From here on statements wait: only when all that the rest needs is seen to be so.
    pub(crate) fn withhold(&mut self, operation: &Operation, id: StepId, step: &Step, since: Millis) {
        let Kind::HandOver { source: Some(source), .. } = &operation.kind else { return };
        let Some(group) = self.state.groups.get(source) else { return };
        let members: Vec<NodeId> = group.members.keys().cloned().collect();
        let unseen = |node: &&NodeId| {
            self.observed.view(node).is_none_or(|view| view.cluster_since(source, since).is_none())
        };
        let unseen: Vec<NodeId> = members.iter().filter(unseen).cloned().collect();
        if !unseen.is_empty() {
            return self.look(&unseen, since);
        }
        let why = self
            .unreachable_node()
            .map(|node| format!("node {node} does not answer"))
            .or_else(|| self.is_not_whole(source, group));
        match why {
            Some(why) => self.give_up(operation, id, step, &why),
            None => self.step_done((operation.id, id), BTreeMap::new()),
        }
    }

    /// Why a hand-over that holds statements must be taken back now, if so.
    pub(crate) fn hold_is_over(&mut self, operation: &Operation) -> Option<String> {
        let held = operation.may_hold()
            && operation.numbered().any(|(_, step)| {
                matches!(step.work, Work::Withhold { .. }) && step.status == StepStatus::Done
            });
        if !held {
            return None;
        }
        let since = *self.held_since.entry(operation.id).or_insert(self.now);
        if let Some(node) = self.unreachable_node() {
            return Some(format!("node {node} does not answer any more: everything was put back"));
        }
        let limit = self.hold_limit();
        (self.now.since(since) >= limit).then(|| {
            let waits = operation
                .numbered()
                .filter(|(_, step)| !step.status.lets_go_on())
                .find_map(|(id, _)| self.flights.waits.get(&(operation.id, id)).cloned());
            format!(
                "statements had been held for {} ms and it was not done{}: everything was put back; \
                 a higher hold_statements_seconds gives it more time",
                limit.0,
                waits.map(|why| format!(" ({why})")).unwrap_or_default()
            )
        })
    }

    /// How long it may take from the withdrawal of the routes to the switch: putting everything back takes time, too.
    fn hold_limit(&self) -> Millis {
        Millis(self.config.settings.hold_statements_seconds * 600)
    }

    /// Whether its statements have long been answered with an error, and it is being put back still: others wait no longer.
    pub(crate) fn is_held_too_long(&self, operation: &Operation) -> bool {
        let longest = Millis::from_secs(self.config.settings.hold_statements_seconds);
        operation.status == Status::Unwinding
            && self.held_since.get(&operation.id).is_some_and(|since| self.now.since(*since) >= longest)
    }

    pub(crate) fn hold_ends(&self) -> impl Iterator<Item = Millis> + '_ {
        self.held_since.values().map(|since| *since + self.hold_limit())
    }

    /// After a hand-over that failed the table's next one waits: the more of them failed in a row, the longer.
    fn note_failed_hand_overs(&mut self) {
        let state = &self.state;
        self.held_since.retain(|id, _| state.operations.contains_key(id));
        if self.hand_overs_noted_with == self.state.operations_failed {
            return;
        }
        self.hand_overs_noted_with = self.state.operations_failed;
        let mut failed: BTreeMap<TableName, u32> = BTreeMap::new();
        let mut ended = std::collections::BTreeSet::new();
        for operation in self.state.finished.iter().rev() {
            let Kind::HandOver { table, .. } = &operation.kind else { continue };
            if operation.status == Status::Done {
                ended.insert(table.clone());
            } else if operation.status == Status::Failed && !ended.contains(table) {
                *failed.entry(table.clone()).or_default() += 1;
            }
        }
        for (table, times) in failed {
            let pause = Millis(PAUSE.0 << times.saturating_sub(1).min(10)).min(PAUSE_MAX);
            let at = self.now + pause;
            self.hand_over_not_before
                .entry(table)
                .and_modify(|before| *before = at.max(*before))
                .or_insert(at);
        }
    }

    /// Whether the shard has the rf that was ordered; `Err` says why nobody will see to it any more.
    pub(crate) fn has_rf(&self, name: &TableName, shard: u32, rf: u32) -> Result<bool, String> {
        let table = self.state.tables.get(name).filter(|table| table.status == TableStatus::Active);
        let Some(table) = table.filter(|table| table.spec.rf == rf) else {
            return Err("the table is dropped, or another rf was ordered".to_owned());
        };
        let Some(home) = table.homes.get(shard as usize) else { return Err("no such shard".to_owned()) };
        let Some(group) = self.state.groups.get(home) else { return Ok(false) };
        let all = group.rf == rf
            && group.members.len() == rf as usize
            && group.members.values().all(|member| *member == Member::Serving);
        let at_work = self.state.active().any(|operation| {
            !matches!(operation.kind, Kind::ChangeRf { .. }) && touches(&self.state, operation, home)
        });
        Ok(all && !at_work)
    }
}

fn change_rf(id: OperationId, name: &TableName, table: &Table, rf: u32, unix: u64) -> Operation {
    let mut steps = Steps::default();
    for shard in 0..table.spec.shards {
        steps.push(None, Work::AwaitRf { table: name.clone(), shard, rf }, &[], None);
    }
    Operation::new(id, Kind::ChangeRf { table: name.clone(), rf }, steps.0, unix)
}
