//! A move of a shard without others whose source is lost before its new copy was compared with it. That copy is all there is
//! until the source is back, so it is not dropped.

use crate::Controller;
use crate::flight::StepKey;
use crate::operation::{Kind, Operation, Status, Step, StepStatus, Work};
use crate::record::Record;
use crate::rules::{self, Gate};
use model::{Action, GroupId, Millis, NodeId, StepId};
use std::collections::BTreeMap;

impl Controller {
    /// Whether the step compares a new copy with a source that is lost, or was. Then it serves if it is known to have all that was
    /// acknowledged, and else stays as it is until the source is back or an operator decides.
    pub(crate) fn verify_orphan(
        &mut self,
        key: StepKey,
        group: &GroupId,
        node: &NodeId,
        since: Millis,
    ) -> bool {
        let Some(source) = self.source_of_orphan(key, group) else { return false };
        if self.state.is_live(&source) {
            // Its copy is what was routed, and may have more.
            let error = format!("node {source} was lost meanwhile");
            self.record(Record::UnwindStarted { operation: key.0, error, revoked: false });
            return true;
        }
        match rules::has_all_of(&self.state, &self.observed, group, (&source, node), since) {
            Gate::Go => self.step_done(key, BTreeMap::new()),
            Gate::Look(nodes) => {
                for node in nodes {
                    self.observed.hurry(&node, self.now + Millis(100));
                }
            }
            Gate::Wait(why) | Gate::Refuse(why) => {
                let waits = format!(
                    "{source}, which had the only other copy, is lost, and {why}: bring it back; if it never will be, `group recover {group} --from {node}` takes this copy, without what only the lost one had"
                );
                self.flights.waits.insert(key, waits);
                self.observed.hurry(node, self.now + Millis(500));
            }
        }
        true
    }

    /// Whether the move has brought the only copy that can be reached: it is not taken back.
    pub(crate) fn keeps_orphan(&self, operation: &Operation) -> bool {
        let is_there = operation.steps.iter().any(|step| {
            matches!(step.work.action(), Some(Action::JoinCluster { .. })) && step.status == StepStatus::Done
        });
        let source =
            operation.group().and_then(|group| self.source_of_orphan((operation.id, StepId(0)), group));
        is_there && source.is_some_and(|source| !self.state.is_live(&source))
    }

    /// An operator's word that the new copy on `from` is to serve, whatever its lost source had. `None`: there is no such copy.
    pub(crate) fn recover_orphan(&mut self, group: &GroupId, from: &NodeId) -> Option<Result<(), String>> {
        let operation = self.state.group_operation(group)?;
        let (id, _) = operation.numbered().find(|(_, step)| is_comparison(operation, step, from))?;
        let key = (operation.id, id);
        let source = self.source_of_orphan(key, group)?;
        if self.state.is_live(&source) {
            return None;
        }
        let there = self.observed.view(from).and_then(|view| view.tables.as_ref());
        let tables = self.state.groups.get(group).map(crate::state::Group::tables).unwrap_or_default();
        let has = there.is_some_and(|(_, seen)| tables.iter().all(|table| seen.shards.contains(table)));
        if !self.answers(from) || !self.sidecar_is_ours(from) || !has {
            return Some(Err(format!("{from} does not answer, or shows no copy: start it first")));
        }
        self.step_done(key, BTreeMap::new());
        Some(Ok(()))
    }

    /// The node that gave the copy that this step compares, where it alone was routed and does not serve now.
    fn source_of_orphan(&self, key: StepKey, group: &GroupId) -> Option<NodeId> {
        let operation = self.state.operations.get(&key.0)?;
        let known = self.state.groups.get(group).filter(|known| !known.is_clustered())?;
        if !matches!(operation.kind, Kind::Move { .. }) || known.serving().next().is_some() {
            return None;
        }
        operation.steps.iter().find_map(|step| match step.work.action() {
            Some(Action::JoinCluster { at, .. }) => Some(at.clone()),
            _ => None,
        })
    }
}

fn is_comparison(operation: &Operation, step: &Step, of: &NodeId) -> bool {
    operation.status == Status::Running
        && operation.is_ready(step)
        && step.status == StepStatus::Pending
        && matches!(&step.work, Work::Verify { node, .. } if node == of)
}
