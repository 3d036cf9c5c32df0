//! What an operator orders: nodes drained, taken back and removed; shards moved by hand; moves held and let go.

use crate::Controller;
use crate::catalogue;
use crate::operation::{Kind, Operation, Status};
use crate::record::Record;
use crate::state::{Hold, Member};
use crate::statements::object;
use model::operate::{OrderReply, RebalanceReply};
use model::wire::{RebalanceOrder, StatementReply};
use model::{GroupId, Millis, NodeId, OperationId, TableName};
use planner::{Limits, NodeState, Plan, Problem};

type Refusal = String;

impl Controller {
    /// Marks a node, or takes the mark away. The moves follow by themselves.
    pub(crate) fn drain(&mut self, node: &NodeId, draining: bool) -> Result<StatementReply, Refusal> {
        let known = self.known_node(node)?;
        if self.is_busy(|kind| matches!(kind, Kind::RemoveNode { node: leaving } if leaving == node)) {
            return Err(format!("node {node} is being removed: its copies are gone already"));
        }
        if known == draining {
            return Ok(StatementReply::Ok);
        }
        if draining {
            self.check_room_without(node)?;
        }
        self.record(Record::NodeDraining { node: node.clone(), draining, unix: self.unix_now });
        Ok(StatementReply::Ok)
    }

    /// Whether the node is draining; an error when there is no such node.
    fn known_node(&self, node: &NodeId) -> Result<bool, Refusal> {
        self.state.nodes.get(node).map(|known| known.draining).ok_or_else(|| {
            let nodes: Vec<String> = self.state.nodes.keys().map(ToString::to_string).collect();
            format!("there is no node '{node}': the nodes are {}", nodes.join(", "))
        })
    }

    /// A drained node's copies must have somewhere to go.
    fn check_room_without(&self, node: &NodeId) -> Result<(), Refusal> {
        let left = self.state.placing_nodes().filter(|other| *other != node).count();
        let of_groups = self.state.groups.values().map(|group| group.rf);
        let wanted = self.state.tables.values().map(|table| table.spec.rf);
        let most = of_groups.chain(wanted).max().unwrap_or(0);
        if left < most as usize || left == 0 {
            return Err(format!(
                "node {node} cannot be drained: {left} nodes would be left for tables of rf {most}; add a node first"
            ));
        }
        Ok(())
    }

    /// A node leaves for good: a live one when it holds nothing any more, a lost one when nothing needs it.
    pub(crate) fn remove_node(&mut self, node: &NodeId) -> Result<Option<OperationId>, Refusal> {
        let draining = self.known_node(node)?;
        if self.is_busy(|kind| matches!(kind, Kind::RemoveNode { .. })) {
            return Err("a node is being removed already: retry when that is done".to_owned());
        }
        self.check_queue()?;
        let holds: Vec<GroupId> = self
            .state
            .groups
            .iter()
            .filter(|(_, group)| group.members.contains_key(node))
            .map(|(id, _)| id.clone())
            .collect();
        if self.state.is_live(node) {
            if !draining || !holds.is_empty() {
                return Err(format!(
                    "node {node} is not drained, it holds copies of {} groups: DRAIN NODE '{node}' first, and wait until SHOW SHARDING STATUS does not name it",
                    holds.len()
                ));
            }
        } else if let Some(needed) = holds.iter().find(|id| self.state.groups[*id].serving().next().is_none())
        {
            return Err(format!(
                "lost node {node} holds the only copies of group {needed}: bring it back, or restore its tables from a backup first"
            ));
        }
        if !self.state.is_live(node) {
            self.give_up_node(node, holds);
        }
        Ok(self.add(|state, id, unix| catalogue::remove_node(state, id, node, unix)))
    }

    /// What a lost node may still hold is remembered: it must not come to be trusted if it ever returns.
    fn give_up_node(&mut self, node: &NodeId, holds: Vec<GroupId>) {
        let routes = self.state.tables.keys().cloned().collect();
        self.record(Record::LeftBehind { node: node.clone(), group: None, tables: Vec::new(), routes });
        for group in holds {
            let tables = self.state.groups.get(&group).map(crate::state::Group::tables).unwrap_or_default();
            let (node, routes) = (node.clone(), Vec::new());
            self.record(Record::LeftBehind { node, group: Some(group), tables, routes });
        }
    }

    /// The shard's group goes from one node to another, and stays there: pinned, if the next plan would take it back.
    pub(crate) fn move_shard(
        &mut self,
        name: &TableName,
        shard: u32,
        from: &NodeId,
        to: &NodeId,
        split: bool,
    ) -> Result<StatementReply, Refusal> {
        let group = self.home_of(name, shard)?;
        self.known_node(from)?;
        if self.known_node(to)? {
            return Err(format!("node {to} is draining: it is given no copies"));
        }
        let members = &self.state.groups[&group].members;
        if members.get(from) != Some(&Member::Serving) {
            let holders: Vec<String> = members.keys().map(ToString::to_string).collect();
            return Err(format!(
                "node {from} holds no whole copy of shard {shard} of '{name}': it is on {}",
                holders.join(", ")
            ));
        }
        if members.contains_key(to) {
            return Err(format!("node {to} holds a copy of shard {shard} of '{name}' already"));
        }
        let brings = |operation: &&Operation| matches!(&operation.kind, Kind::Move { group: g, to: t, .. } if *g == group && t == to);
        if let Some(operation) = self.state.active().find(brings) {
            return Err(format!(
                "operation {} brings shard {shard} of '{name}' to node {to} already: see SHOW SHARDING OPERATIONS",
                operation.id
            ));
        }
        if let Some(node) = self.still_in_a_cluster(&group) {
            return Err(format!(
                "node {node} may still have the cluster of an earlier move: retry when it is cleaned"
            ));
        }
        for node in [from, to] {
            if !self.state.is_live(node) || !self.sidecar_is_ours(node) {
                return Err(format!("node {node} does not answer: a move needs both nodes"));
            }
        }
        self.check_queue()?;
        // A shard that has its group for itself is split already.
        let split = split && self.state.groups[&group].shards.len() > 1;
        if split {
            let table = self.state.tables[name].clone();
            self.check_may_change(name, &table)?;
        }
        let pin = self.would_be_moved_back(&group, from, to, split);
        let (group, tables) = if split {
            let rf = self.state.groups[&group].rf;
            let (_, group) = self.split(name, shard, rf).ok_or("the operation could not be made")?;
            (group, vec![name.to_string()])
        } else {
            let tables = self.state.groups[&group].table_names().iter().map(ToString::to_string).collect();
            (group, tables)
        };
        let kind = Kind::Move {
            group,
            to: to.clone(),
            from: Some(from.clone()),
            floor: 0,
            reason: "ordered by hand".to_owned(),
            pin,
        };
        let id = self
            .add(|_, id, unix| Some(Operation::new(id, kind, Vec::new(), unix)))
            .ok_or("the operation could not be made")?;
        Ok(row(&[
            ("operation", id.to_string()),
            ("status", "queued".to_owned()),
            ("moves_along", tables.join(",")),
            ("pinned", pin.to_string()),
        ]))
    }

    fn home_of(&self, name: &TableName, shard: u32) -> Result<GroupId, Refusal> {
        let table = self.state.tables.get(name).ok_or_else(|| no_table(name))?;
        table.homes.get(shard as usize).cloned().ok_or_else(|| {
            format!("table '{name}' has no shard {shard}: its shards are 0 to {}", table.spec.shards - 1)
        })
    }

    /// Whether the next plan would take a move back: then the group is pinned where it comes to be.
    fn would_be_moved_back(&self, group: &GroupId, from: &NodeId, to: &NodeId, split: bool) -> bool {
        let Some(mut problem) = self.problem() else { return false };
        if split && let Some(unit) = problem.units.iter().find(|unit| unit.id == group.as_str()).cloned() {
            // The others of the group stay as they are.
            problem.units.push(planner::Unit { id: format!("{group}~"), ..unit });
        }
        if let Some(unit) = problem.units.iter_mut().find(|unit| unit.id == group.as_str()) {
            unit.replicas.retain(|node| node != from.as_str());
            unit.replicas.push(to.to_string());
        }
        !planner::plan(&problem, &Limits::default()).moves.is_empty()
    }

    /// Why the shard is where it is, what would move it, and what forbids each other node.
    pub(crate) fn explain_shard(&self, name: &TableName, shard: u32) -> Result<StatementReply, Refusal> {
        let group = self.home_of(name, shard)?;
        if self.state.groups.get(&group).is_some_and(|known| self.is_pinned(known)) {
            let text = "Placed by hand: no plan moves it until REBALANCE TABLE … START or RESET, or until a copy of it is lost or its node drained.";
            let rows = vec![vec![Some(String::new()), Some(text.to_owned())]];
            return Ok(StatementReply::Rows { columns: vec!["node".to_owned(), "why".to_owned()], rows });
        }
        let problem = self.problem().ok_or_else(|| format!("no shard of '{name}' has a whole copy"))?;
        let plan = planner::plan(&problem, &Limits::default());
        let text = plan
            .explain(group.as_str())
            .ok_or_else(|| format!("group {group} has no whole copy: it is placed when one is back"))?;
        let mut found = vec![vec![Some(String::new()), Some(text)]];
        for (node, why) in planner::explain::other_nodes(&plan, group.as_str()).into_iter().flatten() {
            found.push(vec![Some(node.to_owned()), Some(why)]);
        }
        Ok(StatementReply::Rows { columns: vec!["node".to_owned(), "why".to_owned()], rows: found })
    }

    pub(crate) fn rebalance_order(
        &mut self,
        name: &TableName,
        order: RebalanceOrder,
    ) -> Result<StatementReply, Refusal> {
        if !self.state.tables.contains_key(name) && order != RebalanceOrder::Start {
            return Err(no_table(name));
        }
        let reply = match order {
            RebalanceOrder::DryRun => OrderReply::Plan(self.dry_run(name)),
            RebalanceOrder::Status => {
                OrderReply::Progress(self.progress(name).ok_or_else(|| no_table(name))?)
            }
            RebalanceOrder::Start => OrderReply::Rebalance(self.start_rebalance(name)),
            RebalanceOrder::Resume => {
                self.hold(None);
                self.held_now(name, "moves go on")
            }
            RebalanceOrder::Pause => {
                self.hold(Some(Hold::Paused));
                self.held_now(name, "moves under way go on to their end, no other begins")
            }
            RebalanceOrder::Stop => {
                self.hold(Some(Hold::Stopped));
                self.cancel_moves("stopped by an operator");
                self.held_now(name, "moves under way go on to their end, the queue is empty")
            }
            RebalanceOrder::StopNow => {
                self.hold(Some(Hold::Stopped));
                self.cancel_moves("stopped by an operator");
                self.take_moves_back();
                self.held_now(name, "moves under way are taken back where their new copy is not used yet")
            }
            RebalanceOrder::Reset => {
                self.cancel_moves("reset by an operator");
                self.hold(None);
                self.end_pins();
                self.forgive();
                self.flights.try_again_at(self.now, |_| true);
                self.replan();
                self.see_failures();
                self.held_now(name, "failures and pauses are forgotten, moves are planned anew")
            }
        };
        Ok(object(reply))
    }

    /// What has failed until now is known, and no warning any more.
    fn see_failures(&mut self) {
        if self.failed_since_reset(self.unix_now).next().is_some() {
            self.record(Record::FailuresSeen { before: self.state.next_operation });
        }
    }

    fn held_now(&self, name: &TableName, message: &str) -> OrderReply {
        let first = self.state.active().find(|operation| operation.is_move()).map(|operation| operation.id.0);
        OrderReply::Rebalance(RebalanceReply::done(message, first, self.rebalance_status(name)))
    }

    pub(crate) fn hold(&mut self, hold: Option<Hold>) {
        if self.state.hold != hold {
            self.record(Record::MovesHeld { hold, unix: self.unix_now });
        }
    }

    pub(crate) fn end_pins(&mut self) {
        if self.state.groups.values().any(|group| group.pinned) {
            self.record(Record::PinsEnded { unix: self.unix_now });
        }
    }

    /// The next tick plans even if nothing has changed.
    pub(crate) fn replan(&mut self) {
        self.planned_at = None;
        self.plan_not_before = Millis::ZERO;
    }

    fn cancel_moves(&mut self, why: &str) {
        let queued: Vec<OperationId> = self
            .state
            .active()
            .filter(|operation| operation.status == Status::Queued && operation.is_move())
            .filter(|operation| !self.restores(&operation.kind))
            .map(|operation| operation.id)
            .collect();
        for operation in queued {
            let why = why.to_owned();
            self.record(Record::OperationCancelled { operation, why, unix: self.unix_now });
        }
    }

    /// Those whose new copy serves already go on: taking that away would need the same steps again.
    fn take_moves_back(&mut self) {
        let running: Vec<OperationId> = self
            .state
            .active()
            .filter(|operation| operation.status == Status::Running)
            .filter(|operation| operation.is_move() && operation.unwinds() && !self.restores(&operation.kind))
            .filter(|operation| !self.keeps_orphan(operation))
            .map(|operation| operation.id)
            .collect();
        for operation in running {
            let error = "stopped by an operator".to_owned();
            self.record(Record::UnwindStarted { operation, error, revoked: true });
        }
    }

    /// What a plan made now would be.
    pub(crate) fn planned(&self) -> Option<(Problem, Plan)> {
        let problem = self.problem()?;
        let plan = planner::plan(&problem, &Limits::default());
        Some((problem, plan))
    }
}

/// How the planner is to see a node.
pub(crate) fn node_state(node: &crate::state::Node) -> NodeState {
    match (node.lost, node.draining) {
        (true, _) => NodeState::Down,
        (false, true) => NodeState::Draining,
        (false, false) => NodeState::Active,
    }
}

pub(crate) fn no_table(name: &TableName) -> String {
    format!("table '{name}' is missing: there is no sharded table of this name")
}

fn row(fields: &[(&str, String)]) -> StatementReply {
    StatementReply::Rows {
        columns: fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: vec![fields.iter().map(|(_, value)| Some(value.clone())).collect()],
    }
}
