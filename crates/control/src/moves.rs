//! Plans made and carried out: what the planner says of the state becomes operations, started within the limits.

use crate::Controller;
use crate::catalogue;
use crate::operation::{Kind, Operation, Status, StepStatus, Work};
use crate::orders::node_state;
use crate::record::Record;
use crate::recovery::Retry;
use crate::rules;
use crate::state::{Group, Member, State};
use model::{Action, GroupId, Millis, NodeId, OperationId};
use planner::{Node, NodeState, Options, Plan, Problem, Reason, Unit};
use std::collections::BTreeMap;

/// How long the next plan waits after an operation failed.
const PAUSE_AFTER_FAILURE: Millis = Millis(5_000);

/// Whether no copy of the group can be the source of another one now.
fn is_stopped(group: &Group) -> bool {
    group.serving().next().is_none() || group.halt.is_some()
}

impl Controller {
    /// Plans when there is something to plan and nothing else going on that a plan would have to guess about.
    pub(crate) fn plan_moves(&mut self) {
        if self.state.operations_failed != self.failures_planned_with {
            self.failures_planned_with = self.state.operations_failed;
            self.plan_not_before = self.now + PAUSE_AFTER_FAILURE;
        }
        let probed = self.gains.next_wake(self.now);
        let again = self.plan_again_at.is_some_and(|at| self.now >= at);
        let known = self.planned_at == Some((self.state.last, probed)) && !again;
        if self.state.groups.is_empty()
            || known
            || self.now < self.plan_not_before
            || !self.pace.is_open()
            || !self.is_settled()
        {
            return;
        }
        self.out.planned = true;
        let Some((problem, plan)) = self.planned() else { return };
        if let Err(violations) = planner::lint::check(&problem, &plan) {
            self.plan_refused = Some(format!("{violations:?}"));
            self.planned_at = Some((self.state.last, probed));
            return;
        }
        self.plan_refused = None;
        self.carry_out(&plan);
        self.planned_at = Some((self.state.last, probed));
    }

    /// What the operation that was just over says of the node that it brought a copy to, or cleaned.
    pub(crate) fn note_success(&mut self) {
        let Some(last) = self.state.finished.back() else { return };
        match (&last.kind, last.status) {
            (Kind::Cleanup { node }, Status::Done) => self.cleanings.succeed(&node.clone()),
            (Kind::Cleanup { node }, Status::Failed) if self.state.is_live(node) => {
                let node = node.clone();
                self.cleanings.fail(&node, self.now);
            }
            (Kind::Move { to, .. }, Status::Done) => self.gains.succeed(&to.clone()),
            (Kind::Move { to, .. }, Status::Failed) if self.state.is_live(to) => {
                let to = to.clone();
                self.gains.fail(&to, self.now);
            }
            _ => {}
        }
    }

    /// Whether it makes good a copy that was lost: no hold stands before that.
    pub(crate) fn restores(&self, kind: &Kind) -> bool {
        let Kind::Move { group, from: None, .. } = kind else { return false };
        let known = self.state.groups.get(group);
        known.is_some_and(|known| known.serving().count() < known.rf as usize)
    }

    /// Whether it is back with copies that are not its any more, and that stay until there are others.
    fn holds_spares(&self, node: &NodeId) -> bool {
        self.state.is_live(node) && rules::holds_spares(&self.state, &self.observed, node)
    }

    /// A node that has no copy and to which none can be brought now: others may take what it should have.
    fn is_out_of_use(&self, node: &NodeId) -> bool {
        let has_to_wait =
            || self.state.is_live(node) && rules::holds_what_waits(&self.state, &self.observed, node);
        (self.gains.is_paused(node, self.now) || has_to_wait())
            && !self.state.groups.values().any(|group| group.members.contains_key(node))
    }

    /// A group that an operator placed, while all its copies are where they should be.
    pub(crate) fn is_pinned(&self, group: &Group) -> bool {
        group.pinned
            && group.members.len() == group.rf as usize
            && group.members.iter().all(|(node, member)| {
                *member == Member::Serving && self.state.placing_nodes().any(|placing| placing == node)
            })
    }

    /// Nothing under way changes copies, every live node was seen, no loss is younger than its grace.
    pub(crate) fn is_settled(&self) -> bool {
        let quiet = self.state.active().all(|operation| {
            matches!(
                operation.kind,
                Kind::Reroute { .. } | Kind::ChangeRf { .. } | Kind::Backup { .. } | Kind::Restore { .. }
            ) || operation.status == Status::Queued
                && match &operation.kind {
                    Kind::HandOver { .. } => true,
                    Kind::RemoveNode { node } => self.holds_spares(node),
                    _ => false,
                }
        });
        let seen = self.state.live_nodes().all(|node| {
            self.sidecar_is_ours(node)
                && self
                    .observed
                    .view(node)
                    .and_then(|view| view.reach)
                    .is_some_and(|(reach, _)| reach == model::Reach::Answered)
        });
        let mut left = self.state.leftovers.keys().filter(|node| self.state.is_live(node));
        let clean = left.all(|node| rules::holds_only_what_waits(&self.state, &self.observed, node));
        let whole = self.state.groups.values().all(|group| {
            group.members.values().all(|member| matches!(member, Member::Serving | Member::Lost))
        });
        quiet && seen && clean && whole && self.next_grace_end().is_none()
    }

    /// When the youngest loss will have been long enough ago; `None` when all are.
    pub(crate) fn next_grace_end(&self) -> Option<Millis> {
        let grace = Millis::from_secs(self.config.settings.node_loss_grace_seconds);
        self.lost_since.values().map(|since| *since + grace).filter(|end| *end > self.now).max()
    }

    /// The state as the planner reads it. A unit is a group; all weigh the same, for their number of shards is kept
    /// even when tables are made.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let nodes: Vec<Node> = self
            .state
            .nodes
            .iter()
            .map(|(id, node)| {
                let state = match node_state(node) {
                    NodeState::Active if self.is_out_of_use(id) => NodeState::Draining,
                    state => state,
                };
                Node { id: id.to_string(), zone: None, capacity: 1.0, state }
            })
            .collect();
        let units: Vec<Unit> = self
            .state
            .groups
            .iter()
            // One that stopped is not to be placed anew: its data is where it is.
            .filter(|(_, group)| !is_stopped(group) && !self.is_pinned(group))
            .map(|(id, group)| Unit {
                id: id.to_string(),
                rf: group.rf,
                weight: 1.0,
                bytes: self.bytes_of(id),
                replicas: group.members.keys().map(ToString::to_string).collect(),
            })
            .collect();
        if units.is_empty() {
            return None;
        }
        let options = Options {
            transfers_in_per_node: self.config.settings.transfers_in_per_node,
            transfers_out_per_node: self.config.settings.transfers_out_per_node,
            ..Options::default()
        };
        Some(Problem { nodes, units, options })
    }

    /// What of the plan is to be done now, those first whose copies are missing: not what an operator holds back, nor
    /// what failed before and has to wait.
    fn due_moves(&mut self, plan: &Plan) -> Vec<Kind> {
        self.plan_again_at = None;
        // Their nodes look emptier than they are.
        let places = |node: &NodeId| self.state.placing_nodes().any(|placing| placing == node);
        let mut stopped = self.state.groups.values().filter(|group| is_stopped(group));
        let hidden = stopped.any(|group| group.members.keys().any(places));
        let mut order: Vec<usize> = plan.rounds.iter().flatten().copied().collect();
        let rest: Vec<usize> = (0..plan.moves.len()).filter(|index| !order.contains(index)).collect();
        order.extend(rest);
        let mut due = Vec::new();
        for planned in order.into_iter().filter_map(|index| plan.moves.get(index)) {
            let Ok(group) = GroupId::new(planned.unit.clone()) else { continue };
            if self.still_in_a_cluster(&group).is_some() {
                continue;
            }
            let node = |id: &Option<String>| id.as_ref().and_then(|id| NodeId::new(id.clone()).ok());
            let (to, from) = (node(&planned.to), node(&planned.from));
            // A copy on a node that is gone is no source and needs no shedding.
            let from = from.filter(|from| self.state.is_live(from));
            let reason = planned.reason.to_string();
            let kind = match (to, from) {
                (Some(to), _) if self.gains.is_paused(&to, self.now) => continue,
                (Some(to), from) => {
                    let Some(to) = self.clean_place(&group, to, from.as_ref()) else { continue };
                    Kind::Move { group: group.clone(), to, from, floor: 0, reason, pin: false }
                }
                (None, Some(from)) => Kind::Shed { group: group.clone(), from, floor: 0, reason },
                (None, None) => continue,
            };
            let restores = self.restores(&kind);
            if self.state.hold.is_some() && !restores || hidden && planned.reason == Reason::Balance {
                continue;
            }
            match self.may_retry(&group, restores) {
                Retry::Now => due.push(kind),
                Retry::At(at) => {
                    self.plan_again_at = Some(self.plan_again_at.map_or(at, |other| other.min(at)));
                }
                Retry::GivenUp => {}
            }
        }
        due.sort_by_key(|kind| !matches!(kind, Kind::Move { from: None, .. }));
        due
    }

    /// The node of the plan, unless it is to be cleaned of an old copy first. What was lost is made good elsewhere then, on the
    /// node with the fewest copies; anything else waits.
    fn clean_place(&self, group: &GroupId, to: NodeId, from: Option<&NodeId>) -> Option<NodeId> {
        let has_old = |node: &NodeId| {
            self.state.is_left_over(group, node)
                || rules::is_left_behind(&self.state, &self.observed, node, group)
        };
        if !has_old(&to) {
            return Some(to);
        }
        let members = from.is_none().then(|| self.state.groups.get(group))??;
        let copies = |node: &NodeId| {
            self.state.groups.values().filter(|group| group.members.contains_key(node)).count()
        };
        let free = |node: &&NodeId| {
            !members.members.contains_key(*node) && !has_old(node) && !self.gains.is_paused(node, self.now)
        };
        self.state.placing_nodes().filter(free).min_by_key(|node| copies(node)).cloned()
    }

    pub(crate) fn carry_out(&mut self, plan: &Plan) {
        let due = self.due_moves(plan);
        self.back_up_before(&due);
        let mut operations = Vec::new();
        let (mut copies, mut shard_copies) = (0, 0);
        for kind in due {
            let shards = match &kind {
                Kind::Move { group, .. } => {
                    self.state.groups.get(group).map(|group| group.shards.len() as u64)
                }
                _ => None,
            };
            // Its steps are made when its turn comes: the moves before it change the group.
            let added = self.add(|_, id, unix| Some(Operation::new(id, kind, Vec::new(), unix)));
            let Some(id) = added else { continue };
            operations.push(id);
            copies += u64::from(shards.is_some());
            shard_copies += shards.unwrap_or(0);
        }
        if operations.is_empty() {
            return;
        }
        let lost = self.state.nodes.values().any(|node| node.lost);
        self.record(Record::RebalancePlanned {
            reason: if lost {
                "a node was lost".to_owned()
            } else if self.is_busy(|kind| matches!(kind, Kind::ChangeRf { .. })) {
                "a table's rf changed".to_owned()
            } else {
                "the nodes changed".to_owned()
            },
            operations,
            copies,
            lower_bound: plan.lower_bound,
            shard_copies,
            unix: self.unix_now,
        });
    }

    /// Starts a queued operation when its turn has come.
    pub(crate) fn admit(&mut self, operation: &Operation) {
        if let Some(why) = self.has_no_sense_any_more(operation) {
            let record = Record::OperationCancelled { operation: operation.id, why, unix: self.unix_now };
            return self.record(record);
        }
        if self.may_begin(operation) {
            let graph = self.graph_of(operation).map(Box::new);
            self.record(Record::OperationStarted { operation: operation.id, graph, unix: self.unix_now });
        }
    }

    /// Why an operation that waits for its turn cannot be begun as it was meant, if so.
    fn has_no_sense_any_more(&self, operation: &Operation) -> Option<String> {
        // A shard that is to move alone gets its group by the operation before.
        let coming = |group: &GroupId| self.state.active().any(|operation| operation.makes_group(group));
        if let Some(group) = operation.group()
            && !self.state.groups.contains_key(group)
        {
            if coming(group) {
                return None;
            }
            return Some("its group is gone".to_owned());
        }
        match &operation.kind {
            Kind::RemoveNode { node } => {
                let holds = self.state.groups.values().any(|group| group.members.contains_key(node));
                holds.then(|| format!("{node} holds copies again"))
            }
            Kind::HandOver { table, rf, .. } => self.hand_over_is_void(table, *rf),
            Kind::Move { group, to, from, .. } if !self.group_is_busy(group, operation.id) => {
                let members = &self.state.groups.get(group)?.members;
                let gone = from.as_ref().filter(|from| members.get(*from) != Some(&Member::Serving));
                if let Some(node) = self.still_in_a_cluster(group) {
                    return Some(format!(
                        "{node} may still have the cluster of an earlier move: planned anew"
                    ));
                }
                if !self.state.placing_nodes().any(|node| node == to) {
                    return Some(format!("{to} takes no copies now: planned anew"));
                }
                if self.gains.is_paused(to, self.now) {
                    return Some(format!("no copy could be brought to {to}: tried again later"));
                }
                if members.contains_key(to) {
                    return Some(format!("{to} has a copy already: planned anew"));
                }
                if rules::is_left_behind(&self.state, &self.observed, to, group) {
                    return Some(format!(
                        "{to} has an old copy that waits without a quorum: restart that node"
                    ));
                }
                gone.map(|from| format!("{from} has no whole copy any more: planned anew"))
            }
            Kind::Snapshot { group, to, .. } if !self.group_is_busy(group, operation.id) => {
                let has_copy = self.state.groups.get(group)?.members.contains_key(to);
                has_copy.then(|| format!("{to} has a copy already: another node is looked for"))
            }
            _ => None,
        }
    }

    /// The steps of an operation that waited with its intent alone.
    fn graph_of(&self, operation: &Operation) -> Option<Operation> {
        let (id, unix) = (operation.id, operation.created_at);
        match &operation.kind {
            Kind::Move { group, to, from, reason, pin, .. } => {
                let mut made =
                    catalogue::move_group(&self.state, id, group, to, from.as_ref(), reason, unix)?;
                if let Kind::Move { pin: of_graph, .. } = &mut made.kind {
                    *of_graph = *pin;
                }
                Some(made)
            }
            Kind::Shed { group, from, reason, .. } => {
                catalogue::shed(&self.state, id, group, from, reason, unix)
            }
            Kind::HandOver { .. } => self.hand_over_graph(operation),
            // What was under way when it was ordered has changed where the copies are.
            Kind::DropTable { table } => Some(catalogue::drop_table(&self.state, id, table, unix)),
            Kind::Snapshot { backup, group, to, .. } => {
                catalogue::snapshot(&self.state, id, backup, group, to, unix)
            }
            _ => None,
        }
    }

    fn may_begin(&self, operation: &Operation) -> bool {
        if operation.is_move()
            && ((self.state.hold.is_some() && !self.restores(&operation.kind))
                || !self.pace.is_open()
                || self.is_held_back(operation).is_some())
        {
            return false;
        }
        // While statements are held, nothing that can wait is to make them wait longer.
        let urgent =
            matches!(operation.kind, Kind::Failover { .. } | Kind::Reroute { .. } | Kind::ChangeRf { .. });
        if !urgent && self.state.active().any(|other| other.may_hold() && !self.is_held_too_long(other)) {
            return false;
        }
        if let Kind::Move { group, .. }
        | Kind::Shed { group, .. }
        | Kind::Return { group, .. }
        | Kind::Snapshot { group, .. } = &operation.kind
            && self.state.groups.get(group).is_some_and(|known| known.halt.is_some())
        {
            return false;
        }
        if self.is_backed_up_first(operation) {
            return false;
        }
        match &operation.kind {
            Kind::Snapshot { group, to, from, .. } => {
                !self.group_is_busy(group, operation.id) && self.within_transfer_limits(to, Some(from))
            }
            Kind::Move { group, to, from, .. } => {
                let Some(known) = self.state.groups.get(group) else { return false };
                !self.group_is_busy(group, operation.id)
                    && !self.is_being_left(to, group)
                    && self.within_transfer_limits(to, catalogue::donor(known, from.as_ref()))
            }
            Kind::Shed { group, .. } | Kind::Return { group, .. } => !self.group_is_busy(group, operation.id),
            Kind::DropTable { table } => self
                .state
                .groups
                .iter()
                .filter(|(_, group)| group.shards.iter().any(|shard| shard.table == *table))
                .all(|(id, _)| !self.group_is_busy(id, operation.id)),
            Kind::HandOver { table, shards, .. } => self.hand_over_may_begin(operation, table, shards),
            // Every node must keep its routes while others are changed. A failover can wait for the word that a lost one
            // will not be back.
            Kind::RemoveNode { node } => self.state.active().all(|other| match other.kind {
                Kind::ChangeRf { .. } | Kind::Backup { .. } | Kind::Restore { .. } => true,
                Kind::Failover { .. } => !self.state.is_live(node),
                _ => other.id == operation.id && !self.holds_spares(node),
            }),
            _ => true,
        }
    }

    /// A node that may still have the temporary cluster of an earlier move: a new one would have the same name, and
    /// the two would meet when that node is back.
    pub(crate) fn still_in_a_cluster(&self, group: &GroupId) -> Option<&NodeId> {
        let known = self.state.groups.get(group)?;
        let there = |node: &&NodeId| {
            self.state.is_left_over(group, node)
                || (self.state.is_live(node) && self.observed.cluster(node, group).is_some())
        };
        if known.is_clustered() { None } else { self.state.nodes.keys().find(there) }
    }

    /// Whether a running operation changes the group's members or tables.
    pub(crate) fn group_is_busy(&self, group: &GroupId, except: OperationId) -> bool {
        self.state
            .active()
            .filter(|other| other.id != except && other.status != Status::Queued)
            .any(|other| touches(&self.state, other, group))
    }

    /// Whether a clean-up drops the node's copies of the group, or has dropped them and is about to end its membership: that of
    /// a move which has begun meanwhile would end with it.
    fn is_being_left(&self, node: &NodeId, group: &GroupId) -> bool {
        let begun = |status: StepStatus| status == StepStatus::Started || status.lets_go_on();
        let ends = |operation: &Operation| {
            operation.steps.iter().any(|step| {
                matches!(step.work.action(), Some(Action::RemoveDirectory { group: left }) if left == group)
                    && !step.status.lets_go_on()
                    && step
                        .after
                        .iter()
                        .all(|id| operation.step(*id).is_some_and(|other| begun(other.status)))
            })
        };
        let cleans = |kind: &Kind| matches!(kind, Kind::Cleanup { node: cleaned } if cleaned == node);
        self.state.active().any(|other| other.status == Status::Running && cleans(&other.kind) && ends(other))
    }

    /// The node that gives its copy in a move.
    fn source(operation: &Operation) -> Option<NodeId> {
        operation.steps.iter().find_map(|step| match &step.work {
            Work::Command { action: Action::JoinCluster { at, .. } } => Some(at.clone()),
            _ => None,
        })
    }

    fn within_transfer_limits(&self, to: &NodeId, source: Option<&NodeId>) -> bool {
        let (mut incoming, mut outgoing) = (BTreeMap::new(), BTreeMap::new());
        for other in self.state.active().filter(|other| other.status != Status::Queued) {
            if let Kind::Move { to, .. } | Kind::Snapshot { to, .. } = &other.kind {
                *incoming.entry(to.clone()).or_insert(0u32) += 1;
                if let Some(source) = Self::source(other) {
                    *outgoing.entry(source).or_insert(0u32) += 1;
                }
            }
        }
        let settings = &self.config.settings;
        let most = if self.gains.is_doubtful(to) { 1 } else { settings.transfers_in_per_node };
        incoming.get(to).copied().unwrap_or(0) < most
            && source.is_none_or(|source| {
                outgoing.get(source).copied().unwrap_or(0) < settings.transfers_out_per_node
            })
    }
}

/// Whether the operation changes the group's members or tables.
pub(crate) fn touches(state: &State, operation: &Operation, group: &GroupId) -> bool {
    match &operation.kind {
        Kind::CreateTable { homes, .. } => homes.contains(group),
        Kind::DropTable { table } | Kind::EveryShard { table, .. } => state
            .groups
            .get(group)
            .is_some_and(|known| known.shards.iter().any(|shard| shard.table == *table)),
        Kind::HandOver { table, shards, source, .. } => {
            let home = |number: &u32| state.tables.get(table)?.homes.get(*number as usize);
            source.as_ref() == Some(group)
                || operation.makes_group(group)
                || shards.iter().any(|number| home(number) == Some(group))
        }
        // What a drop could not take out of it.
        Kind::Cleanup { .. } => operation.steps.iter().any(|step| {
            !step.status.lets_go_on()
                && matches!(step.work.action(), Some(Action::RemoveTables { group: g, .. }) if g == group)
        }),
        _ => operation.group() == Some(group),
    }
}
