//! The cheap proof that a copy is whole: it has reached what the donor had committed, and row count, sum and
//! extremes of ids of every shard agree within a bounded number of re-checks.

use crate::Controller;
use crate::flight::StepKey;
use crate::io::Effect;
use crate::operation::{Operation, Status, Step, StepStatus, Work};
use crate::proof::{self, Proof};
use crate::record::Record;
use crate::rules;
use crate::state::{Group, Member};
use model::{Action, GroupId, Measurement, Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Under constant writes two looks a few milliseconds apart may differ; so many in a row that all differ mean that
/// the copies do.
const ROUNDS_MAX: u32 = 200;
/// So many looks that differ are reason enough not to count a copy as one of the newest, where writes under way may still be
/// the reason.
const DOUBTED_AFTER: u32 = 25;
/// A measurement that is not answered by then is asked again.
const PATIENCE: Millis = Millis(30_000);

/// One verification under way.
#[derive(Debug)]
pub struct Verification {
    donor: NodeId,
    node: NodeId,
    tables: Vec<String>,
    /// What the donor had committed at the first look.
    committed: Option<i64>,
    agreed: BTreeSet<String>,
    round: u32,
    /// Looks at both in which they differed.
    differed: u32,
    asked_at: Millis,
    not_before: Millis,
    tokens: BTreeMap<u64, NodeId>,
    answers: BTreeMap<NodeId, Measurement>,
}

impl Controller {
    /// Goes on with the verification of `group`'s copies on `node`.
    pub(crate) fn verify(&mut self, key: StepKey, group: &GroupId, node: &NodeId, since: Millis) {
        if self.verify_orphan(key, group, node, since) {
            return;
        }
        let Some(known) = self.state.groups.get(group) else {
            return self.step_skipped(key, "the group is gone");
        };
        if !known.members.contains_key(node) {
            return self.step_skipped(key, "it is no member of the group any more");
        }
        let tables = self.tables_to_verify(key, group);
        let present = Action::CreateTables { tables: tables.clone(), schema: model::Schema::default() };
        match proof::of(&self.state, &self.observed, node, &present, since) {
            Proof::Done => {}
            Proof::Look(_) => return self.observed.want(node, since),
            Proof::NotSo(_) => return self.observed.want(node, self.now),
        }
        let remade = self
            .state
            .operations
            .get(&key.0)
            .is_some_and(|operation| matches!(operation.kind, crate::operation::Kind::Remake { .. }));
        let synced = self.is_whole_on(group, node)
            || remade && self.observed.cluster(node, group).is_some_and(model::ClusterStatus::is_synced);
        let clustered = known.is_clustered() || self.observed.cluster(node, group).is_some();
        // One whose replication has stopped falls behind: nobody is compared with it while there is another.
        let live = |other: &&NodeId| *other != node && self.state.is_live(other);
        let stopped = |other: &&NodeId| self.is_closed_on(group, other);
        let donor = known.serving().filter(live).find(|other| !stopped(other));
        let donor = donor.or_else(|| known.serving().find(live)).cloned();
        let Some(donor) = donor else {
            // The only copy there is came back, perhaps with the cluster of a move that its node did not live to see.
            let only = !known.is_clustered() && self.is_return(key);
            // One that stood still shows the view of before for a moment, whoever has gone on without it meanwhile.
            if known.is_clustered() && self.is_return(key) && known.may_lack(node) {
                return self.step_skipped(
                    key,
                    "nobody is left to compare it with, and it may lack what one of them had",
                );
            }
            if synced || !clustered || only {
                self.step_done(key, BTreeMap::new());
            }
            return;
        };
        // Two halves of a group that both went on are both synced, and can even hold the same for a while.
        let apart = known.is_clustered()
            && self.observed.cluster(&donor, group).is_some_and(|theirs| !theirs.nodes_view.contains(node));
        if !synced || apart {
            return;
        }
        // A shard without others whose old copy has stopped meanwhile: that one misses what was written since.
        let shown = |of: &NodeId| self.observed.cluster(of, group);
        if !known.is_clustered()
            && let (Some(own), Some(theirs)) = (shown(node), shown(&donor))
            && rules::went_on_from(own, theirs, node)
        {
            return self.step_done(key, BTreeMap::new());
        }
        let now = self.now;
        let verification = self.verifications.entry(key).or_insert_with(|| Verification {
            donor: donor.clone(),
            node: node.clone(),
            tables,
            committed: None,
            agreed: BTreeSet::new(),
            round: 0,
            differed: 0,
            asked_at: Millis::ZERO,
            not_before: now,
            tokens: BTreeMap::new(),
            answers: BTreeMap::new(),
        });
        if verification.donor != donor {
            self.verifications.remove(&key);
            return;
        }
        self.ask_round(key);
    }

    fn is_return(&self, key: StepKey) -> bool {
        let operation = self.state.operations.get(&key.0);
        operation.is_some_and(|operation| matches!(operation.kind, crate::operation::Kind::Return { .. }))
    }

    /// A table being created is verified alone: the group's others are served already.
    fn tables_to_verify(&self, key: StepKey, group: &GroupId) -> Vec<String> {
        let Some(known) = self.state.groups.get(group) else { return Vec::new() };
        let operation = self.state.operations.get(&key.0);
        if let Some(crate::operation::Kind::HandOver { table, shards, .. }) = operation.map(|it| &it.kind) {
            // The group has none of them before the switch.
            return shards.iter().map(|number| table.shard_table(*number)).collect();
        }
        let creating = self.state.operations.get(&key.0).and_then(|operation| match &operation.kind {
            crate::operation::Kind::CreateTable { spec, .. } => Some(&spec.name),
            _ => None,
        });
        known
            .shards
            .iter()
            .filter(|shard| match creating {
                Some(table) => shard.table == *table,
                None => self
                    .state
                    .tables
                    .get(&shard.table)
                    .is_some_and(|table| table.status == crate::state::TableStatus::Active),
            })
            .map(crate::state::Shard::physical)
            .collect()
    }

    /// Asks both sides when it is time.
    fn ask_round(&mut self, key: StepKey) {
        let Some(verification) = self.verifications.get_mut(&key) else { return };
        let waiting = !verification.tokens.is_empty() && self.now.since(verification.asked_at) < PATIENCE;
        if waiting || self.now < verification.not_before {
            return;
        }
        verification.round += 1;
        verification.asked_at = self.now;
        verification.tokens.clear();
        verification.answers.clear();
        let tables: Vec<String> =
            verification.tables.iter().filter(|t| !verification.agreed.contains(*t)).cloned().collect();
        for node in [&verification.donor, &verification.node] {
            self.next_token += 1;
            verification.tokens.insert(self.next_token, node.clone());
            self.out.effects.push(Effect::Measure {
                node: node.clone(),
                token: self.next_token,
                tables: tables.clone(),
                deep: false,
            });
        }
    }

    /// Takes a measurement in; the last one of a round compares.
    pub(crate) fn measured(&mut self, token: u64, measured: Result<Measurement, String>) {
        let Some((key, verification)) =
            self.verifications.iter_mut().find(|(_, verification)| verification.tokens.contains_key(&token))
        else {
            if !self.measured_for_choice(token, &measured) {
                self.compared(token, measured);
            }
            return;
        };
        let key = *key;
        let Some(node) = verification.tokens.remove(&token) else { return };
        if let Ok(measurement) = measured {
            verification.answers.insert(node, measurement);
        }
        if !verification.tokens.is_empty() {
            return;
        }
        let group = self.state.operations.get(&key.0).and_then(|operation| {
            let step = operation.step(key.1)?;
            match &step.work {
                // An operation that turned round meanwhile has no use for the answer.
                Work::Verify { group, .. } if is_wanted(operation, step) => Some(group.clone()),
                _ => None,
            }
        });
        let Some(group) = group else { return };
        verification.compare(&group, self.now);
        let whole = verification.agreed.len() == verification.tables.len();
        let given_up = verification.round >= ROUNDS_MAX;
        if !whole && verification.differed >= DOUBTED_AFTER {
            let node = verification.node.clone();
            self.doubt(&group, node);
        }
        let Some(verification) = self.verifications.get(&key) else { return };
        if whole {
            self.step_done(key, BTreeMap::new());
        } else if given_up && let Some(operation) = self.state.operations.get(&key.0).cloned() {
            let differing =
                verification.tables.iter().find(|table| !verification.agreed.contains(*table)).cloned();
            let error = format!(
                "{} differs from the copy on {} in {ROUNDS_MAX} looks",
                differing.unwrap_or_default(),
                verification.donor
            );
            self.verifications.remove(&key);
            if let Some(step) = operation.step(key.1) {
                if operation.unwinds() {
                    self.give_up_verified(&operation, key, &error);
                } else {
                    // A returning copy that differs is not served; it is looked at again.
                    self.flights.fail(key, step.attempts.max(5), self.now);
                }
            }
        }
    }

    /// One that is compared and looks different is not as new as the others, whatever it has committed.
    fn doubt(&mut self, group: &GroupId, node: NodeId) {
        let known = self.state.groups.get(group);
        let back = |known: &&Group| known.members.get(&node) == Some(&Member::Returning);
        let Some(known) = known.filter(back) else { return };
        if known.newest.contains(&node) {
            self.record(Record::MemberCutOff { group: group.clone(), node: node.clone() });
        }
        self.doubted.insert((group.clone(), node));
    }

    fn give_up_verified(&mut self, operation: &Operation, key: StepKey, error: &str) {
        if let Some(step) = operation.step(key.1) {
            self.give_up(operation, key.1, step, error);
        }
    }

    /// Forgets verifications of steps that are over.
    pub(crate) fn sweep_verifications(&mut self) {
        let state = &self.state;
        self.verifications.retain(|(operation, step), _| {
            state
                .operations
                .get(operation)
                .and_then(|operation| Some(is_wanted(operation, operation.step(*step)?)))
                .is_some_and(|wanted| wanted)
        });
        self.doubted.retain(|(group, node)| {
            state.groups.get(group).is_some_and(|known| known.members.get(node) == Some(&Member::Returning))
        });
        self.comparisons.retain(|(operation, step), _| {
            let operation = state.operations.get(operation);
            operation.is_some_and(|it| {
                it.step(*step).is_some_and(|step| is_wanted(it, step) || is_compared_first(it, step))
            })
        });
    }
}

/// Whether the copies are compared before the step is taken back.
fn is_compared_first(operation: &Operation, step: &Step) -> bool {
    operation.status == Status::Unwinding
        && step.status != StepStatus::Undone
        && matches!(step.undo, Some(Action::ReturnTables { .. }))
}

fn is_wanted(operation: &Operation, step: &Step) -> bool {
    operation.status == Status::Running && step.status == StepStatus::Pending
}

impl Verification {
    fn compare(&mut self, group: &GroupId, now: Millis) {
        self.not_before = now + Millis(u64::from(self.round.min(10)) * 20);
        let (Some(donor), Some(joiner)) = (self.answers.get(&self.donor), self.answers.get(&self.node))
        else {
            return;
        };
        let committed = donor.last_committed.get(group).copied();
        if self.committed.is_none() {
            self.committed = committed;
        }
        let reached = joiner.last_committed.get(group).copied() >= self.committed;
        if !reached {
            return;
        }
        for table in &self.tables {
            if let (Some(there), Some(here)) = (donor.contents.get(table), joiner.contents.get(table))
                && there == here
            {
                self.agreed.insert(table.clone());
            }
        }
        self.differed += u32::from(self.agreed.len() < self.tables.len());
    }

    pub fn next_wake(&self) -> Option<Millis> {
        self.tokens.is_empty().then_some(self.not_before)
    }
}
