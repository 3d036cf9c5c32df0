//! How each record changes the state. A record that does not follow from the state is refused: the log is damaged
//! or was written by a wrong program, and going on would act on fiction.

use super::{Leftover, Member, Node, Rebalance, State, TableStatus};
use crate::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use crate::record::Record;
use model::{Action, GroupId, LogIndex, NodeId, OperationId, StepId};

mod operations;

/// Why a record cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Illegal(pub String);

type Folded = Result<(), Illegal>;

fn illegal<T>(why: impl Into<String>) -> Result<T, Illegal> {
    Err(Illegal(why.into()))
}

const TOPOLOGY_CHANGES_KEPT: usize = 1000;

impl State {
    /// Folds the record at `last + 1` in.
    pub fn apply(&mut self, record: &Record) -> Folded {
        match record {
            Record::LeaderElected { epoch, name, format, .. } => {
                if *epoch <= self.epoch {
                    return illegal(format!("epoch {epoch} after epoch {}", self.epoch));
                }
                self.format = self.format.max(*format);
                self.epoch = *epoch;
                self.leader = Some(name.clone());
            }
            Record::ClusterAdopted { cluster } => match &self.cluster {
                Some(known) if known != cluster => {
                    return illegal(format!("cluster {cluster} after {known}"));
                }
                _ => self.cluster = Some(cluster.clone()),
            },
            Record::NodeAdded { node, uuid, unix } => self.add_node(node, uuid, *unix)?,
            Record::NodeLost { node, unix } => self.lose_node(node, *unix)?,
            Record::NodeReturned { node, unix } => self.return_node(node, *unix)?,
            Record::NodeDraining { node, draining, .. } => self.drain_node(node, *draining)?,
            Record::MovesHeld { hold, .. } => self.hold = *hold,
            Record::PinsEnded { .. } => self.groups.values_mut().for_each(|group| group.pinned = false),
            Record::OperationAdded { operation } => self.add_operation(operation)?,
            Record::RebalancePlanned { reason, operations, copies, lower_bound, shard_copies, unix } => {
                self.rebalance = Some(Rebalance {
                    reason: reason.clone(),
                    operations: operations.clone(),
                    copies: *copies,
                    lower_bound: *lower_bound,
                    shard_copies: *shard_copies,
                    unix: *unix,
                });
            }
            Record::LeftBehind { node, group, tables, routes } => {
                self.leave_behind(node, group.as_ref(), tables, routes);
            }
            Record::GroupsTakenUp { groups } => self.take_up(groups)?,
            Record::GroupRf { group, rf } => match self.groups.get_mut(group) {
                Some(group) if group.is_clustered() && *rf > 1 => group.rf = *rf,
                _ => return illegal(format!("group {group} cannot get rf {rf} by itself")),
            },
            Record::AlertFired { alert } => self.alarms.fire(alert),
            Record::AlertResolved { key, unix } => {
                if !self.alarms.resolve(key, *unix) {
                    return illegal(format!("alert {key} is over but did not fire"));
                }
            }
            Record::AlertSilenced { silence } => self.alarms.silence(silence),
            Record::FailuresSeen { before } => self.failures_seen_before = *before,
            Record::FailuresForgiven { .. } => self.move_failures.clear(),
            Record::Forgotten { operations, before, .. } => {
                self.finished.retain(|operation| !operations.contains(&operation.id));
                self.topology_changes.retain(|at| at >= before);
                self.rebalance.take_if(|last| last.unix < *before);
            }
            Record::MemberCutOff { group, node } => self.set_member(group, node, Member::Returning)?,
            Record::CopyCaughtUp { group, node } => self.caught_up(group, node)?,
            Record::BackupTaken { backup } => crate::backup::keep(&mut self.backups, backup),
            Record::BackupSealed { backup, rows, bytes } => match self.backups.get_mut(backup) {
                Some(known) => known.seal(*rows, *bytes),
                None => return illegal(format!("{backup} is sealed but unknown")),
            },
            Record::MemberServing { group, node } => self.set_member(group, node, Member::Serving)?,
            Record::TokenAdded { token } => {
                self.tokens.insert(token.name.clone(), token.clone());
            }
            Record::TokenRevoked { name, .. } => {
                if self.tokens.remove(name).is_none() {
                    return illegal(format!("token {name} is revoked but unknown"));
                }
            }
            Record::AuditMarked { mark } => {
                self.audits.insert(mark.log.clone(), mark.clone());
            }
            Record::HistoryKnown { group, state_uuid } => match self.groups.get_mut(group) {
                Some(known) if known.history.is_none() => known.history = Some(state_uuid.clone()),
                _ => return illegal(format!("group {group} has a history already, or is unknown")),
            },
            Record::GroupHalted { group, halt, .. } => match self.groups.get_mut(group) {
                Some(known) => known.halt = *halt,
                None => return illegal(format!("unknown group {group} is halted")),
            },
            other => self.apply_to_operation(other)?,
        }
        self.last = LogIndex(self.last.0 + 1);
        Ok(())
    }

    fn apply_to_operation(&mut self, record: &Record) -> Folded {
        match record {
            Record::OperationStarted { operation, graph, unix } => {
                let operation = self.operation(*operation)?;
                if let Some(graph) = graph.as_ref().filter(|graph| graph.id == operation.id) {
                    operation.kind = graph.kind.clone();
                    operation.steps.clone_from(&graph.steps);
                }
                if operation.status != Status::Queued {
                    return illegal(format!("operation {} started twice", operation.id));
                }
                operation.status = Status::Running;
                operation.started_at = Some(*unix);
                match operation.kind.clone() {
                    Kind::Move { group, to, .. } | Kind::Snapshot { group, to, .. } => {
                        self.begin_gain(&group, &to)?;
                    }
                    Kind::HandOver { new_groups, .. } => self.begin_groups(&new_groups)?,
                    _ => {}
                }
            }
            Record::StepStarted { operation, step, node, attempt, undo, .. } => {
                let step = self.step(*operation, *step)?;
                let from = step.status;
                step.status = match (undo, from) {
                    (false, StepStatus::Pending | StepStatus::Started) => StepStatus::Started,
                    (
                        true,
                        StepStatus::Started | StepStatus::Done | StepStatus::Failed | StepStatus::Undoing,
                    ) => StepStatus::Undoing,
                    _ => return illegal(format!("a step that is {from:?} was started (undo: {undo})")),
                };
                step.attempts = *attempt;
                step.node = Some(node.clone());
                match step.work.clone() {
                    Work::Regain { group } => self.tell(&group, Some(node)),
                    Work::Command { action: Action::JoinCluster { group, .. } } if !undo => {
                        self.place_again(*operation, node, &group);
                    }
                    _ => {}
                }
            }
            Record::StepDone { operation, step, contents } => {
                self.finish_step(*operation, *step, contents)?;
            }
            Record::StepFailed { operation, step, error, last } => {
                let step = self.step(*operation, *step)?;
                step.error = Some(error.clone());
                if *last {
                    step.status = StepStatus::Failed;
                }
                // The node was seen, and had not done it. Another failover may have told another one meanwhile.
                if let (Work::Regain { group }, asked) = (step.work.clone(), step.node.clone())
                    && let Some(known) = self.groups.get_mut(&group)
                {
                    known.told.take_if(|told| asked.as_ref() == Some(told));
                }
            }
            Record::StepSkipped { operation, step, why } => {
                let step = self.step(*operation, *step)?;
                step.status = StepStatus::Skipped;
                step.error = Some(why.clone());
            }
            Record::UnwindStarted { operation, error, revoked } => {
                let operation = self.operation(*operation)?;
                if !operation.unwinds() || operation.status.is_over() {
                    return illegal(format!("operation {} cannot be taken back", operation.id));
                }
                operation.status = Status::Unwinding;
                operation.error = Some(error.clone());
                operation.revoked = *revoked;
                // From here on no route is to name it.
                if let Kind::CreateTable { spec, .. } = operation.kind.clone()
                    && let Some(table) = self.tables.get_mut(&spec.name)
                {
                    table.status = TableStatus::Dropping;
                }
            }
            Record::StepUndone { operation, step } => self.undo_step(*operation, *step)?,
            Record::OperationDone { operation, unix } => {
                self.finish(*operation, Status::Done, None, *unix)?;
            }
            Record::OperationFailed { operation, error, unix } => {
                self.finish(*operation, Status::Failed, Some(error), *unix)?;
            }
            Record::OperationCancelled { operation, why, unix } => {
                let known = self.operation(*operation)?;
                let taken_back = known.revoked && known.steps.iter().all(|step| step.status.is_gone());
                if known.status != Status::Queued && !taken_back {
                    return illegal(format!("operation {operation} is cancelled after it started"));
                }
                self.finish(*operation, Status::Cancelled, Some(why), *unix)?;
            }
            other => return illegal(format!("{other:?} is no record of an operation")),
        }
        Ok(())
    }

    fn operation(&mut self, id: OperationId) -> Result<&mut Operation, Illegal> {
        self.operations.get_mut(&id).ok_or_else(|| Illegal(format!("there is no operation {id}")))
    }

    fn step(&mut self, id: OperationId, step: StepId) -> Result<&mut Step, Illegal> {
        self.operation(id)?
            .step_mut(step)
            .ok_or_else(|| Illegal(format!("operation {id} has no step {step}")))
    }

    fn add_node(&mut self, node: &NodeId, uuid: &str, unix: u64) -> Folded {
        if self.nodes.contains_key(node) {
            return illegal(format!("node {node} is added twice"));
        }
        self.nodes
            .insert(node.clone(), Node { uuid: uuid.to_owned(), lost: false, draining: false, since: unix });
        self.left.remove(node);
        self.note_topology_change(unix);
        Ok(())
    }

    fn lose_node(&mut self, node: &NodeId, unix: u64) -> Folded {
        let Some(known) = self.nodes.get_mut(node) else {
            return illegal(format!("unknown node {node} lost"));
        };
        known.lost = true;
        known.since = unix;
        for group in self.groups.values_mut() {
            if let Some(member) = group.members.get_mut(node)
                && matches!(member, Member::Serving | Member::Returning)
            {
                *member = Member::Lost;
            }
        }
        self.note_topology_change(unix);
        Ok(())
    }

    fn return_node(&mut self, node: &NodeId, unix: u64) -> Folded {
        let Some(known) = self.nodes.get_mut(node) else {
            return illegal(format!("unknown node {node} returned"));
        };
        known.lost = false;
        known.since = unix;
        for group in self.groups.values_mut() {
            if let Some(member) = group.members.get_mut(node)
                && *member == Member::Lost
            {
                *member = Member::Returning;
            }
        }
        self.note_topology_change(unix);
        Ok(())
    }

    fn remove_node(&mut self, node: &NodeId, unix: u64) -> Folded {
        if self.groups.values().any(|group| group.members.contains_key(node)) {
            return illegal(format!("node {node} is removed while it is a member of a group"));
        }
        self.nodes.remove(node);
        self.note_topology_change(unix);
        Ok(())
    }

    fn drain_node(&mut self, node: &NodeId, draining: bool) -> Folded {
        let Some(known) = self.nodes.get_mut(node) else {
            return illegal(format!("unknown node {node} is drained"));
        };
        known.draining = draining;
        self.move_failures.clear();
        if !draining {
            self.forget_removal(node);
        }
        Ok(())
    }

    /// Nothing is left of a removal that was to take the node out of the user's cluster.
    fn forget_removal(&mut self, node: &NodeId) {
        let cluster = self.cluster.clone();
        self.retain_leftovers(
            node,
            |left| !matches!(left, Leftover::Group { group, .. } if cluster.as_ref() == Some(group)),
        );
    }

    fn note_topology_change(&mut self, unix: u64) {
        // What failed before failed among other nodes.
        self.move_failures.clear();
        self.topology_changes.push_back(unix);
        if self.topology_changes.len() > TOPOLOGY_CHANGES_KEPT {
            self.topology_changes.pop_front();
        }
    }

    fn set_member(&mut self, group: &GroupId, node: &NodeId, member: Member) -> Folded {
        let Some(known) = self.groups.get_mut(group).and_then(|group| group.members.get_mut(node)) else {
            return illegal(format!("{node} is no member of {group}"));
        };
        *known = member;
        if let Some(known) = self.groups.get_mut(group) {
            known.told.take_if(|told| member == Member::Serving && told == node);
            match member {
                Member::Serving => known.newest.insert(node.clone()),
                // The others go on without it.
                _ => known.newest.remove(node),
            };
        }
        Ok(())
    }

    fn caught_up(&mut self, group: &GroupId, node: &NodeId) -> Folded {
        let known = self.groups.get_mut(group).filter(|known| known.members.contains_key(node));
        let Some(known) = known else { return illegal(format!("{node} is no member of {group}")) };
        known.newest = known.newest_holders();
        known.newest.insert(node.clone());
        Ok(())
    }

    /// Who was told to go on with the group alone.
    fn tell(&mut self, group: &GroupId, node: Option<&NodeId>) {
        if let Some(known) = self.groups.get_mut(group) {
            known.told = node.cloned();
        }
    }

    /// The group has a quorum without those that were lost: what they hold falls behind.
    fn regained(&mut self, group: &GroupId) {
        self.tell(group, None);
        if let Some(known) = self.groups.get_mut(group) {
            known.newest = known.heirs().cloned().collect();
            known.halt = None;
        }
    }

    /// The copy on `from` is to be the group from here on; the others are not served any more.
    fn begin_remake(&mut self, group: &GroupId, from: &NodeId) -> Folded {
        let Some(known) = self.groups.get_mut(group) else {
            return illegal(format!("unknown group {group} is made anew"));
        };
        known.newest = known.newest_holders();
        for (node, member) in &mut known.members {
            if node == from {
                *member = Member::Serving;
            } else if *member != Member::Lost {
                *member = Member::Returning;
            }
        }
        if !known.members.contains_key(from) {
            return illegal(format!("group {group} is made anew from {from}, which is no member"));
        }
        Ok(())
    }

    /// The group is the copy on `from` alone, under a new history. The others are older, and go when their nodes can.
    fn end_remake(&mut self, group: &GroupId, from: &NodeId) {
        let Some(known) = self.groups.get_mut(group) else { return };
        known.history = None;
        known.halt = None;
        known.told = None;
        known.newest = [from.clone()].into();
        let tables = known.tables();
        let others: Vec<NodeId> = known.members.keys().filter(|node| *node != from).cloned().collect();
        for node in others {
            self.leave_behind(&node, Some(group), &tables, &[]);
        }
    }
}
