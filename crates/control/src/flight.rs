//! Commands under way: what was sent where, until when it may act, and what came back. In memory only; a new
//! controller inherits those its predecessor recorded and waits for their outcome before it goes on.

use model::wire::GoingOn;
use model::{Action, Millis, NodeId, OperationId, Outcome, Routes, StepId};
use std::collections::BTreeMap;

/// A step of an operation.
pub type StepKey = (OperationId, StepId);

/// One command.
#[derive(Clone, Debug)]
pub struct Flight {
    pub node: NodeId,
    pub attempt: u32,
    pub action: Action,
    pub undo: bool,
    pub sent: Millis,
    pub deadline: Millis,
    /// With when it came.
    pub outcome: Option<(Outcome, Millis)>,
    /// Sent by an earlier leader: nothing is known but that it may have been.
    pub inherited: bool,
    /// How often its node has said that it goes on.
    pub went_on: u64,
}

/// All of them, with the pauses between tries.
#[derive(Debug, Default)]
pub struct Flights {
    pub open: BTreeMap<StepKey, Flight>,
    /// Routes that nobody waits for any more, and that their node may still begin to write.
    abandoned: Vec<Flight>,
    /// When a step may be tried again, after a failed try.
    retry_at: BTreeMap<StepKey, Millis>,
    /// Since when a step could have started: looks for its preconditions must begin after this.
    ready_since: BTreeMap<StepKey, Millis>,
    /// What a rule makes a step wait for, for whoever asks.
    pub waits: BTreeMap<StepKey, String>,
}

/// The longest pause between two tries.
const BACKOFF_MAX: Millis = Millis(10_000);

impl Flights {
    /// A failed try: the next one not before a pause that doubles from 200 ms, counted from now.
    pub fn fail(&mut self, key: StepKey, attempt: u32, now: Millis) {
        self.open.remove(&key);
        let pause = Millis(200u64.saturating_mul(1 << attempt.min(10).saturating_sub(1))).min(BACKOFF_MAX);
        self.retry_at.insert(key, now + pause);
        self.ready_since.remove(&key);
    }

    pub fn may_try(&self, key: StepKey, now: Millis) -> bool {
        self.retry_at.get(&key).is_none_or(|at| *at <= now)
    }

    /// Since when the step is ready; the first call sets it.
    pub fn ready_since(&mut self, key: StepKey, now: Millis) -> Millis {
        *self.ready_since.entry(key).or_insert(now)
    }

    /// Nothing of these operations waits out a pause any more.
    pub fn try_again_at(&mut self, now: Millis, of: impl Fn(&OperationId) -> bool) {
        for (_, at) in self.retry_at.iter_mut().filter(|((operation, _), _)| of(operation)) {
            *at = (*at).min(now);
        }
    }

    pub fn end_step(&mut self, key: StepKey) {
        self.waits.remove(&key);
        if let Some(flight) = self.open.remove(&key) {
            self.abandon(flight);
        }
        self.retry_at.remove(&key);
        self.ready_since.remove(&key);
    }

    pub fn end_operation(&mut self, id: OperationId) {
        self.waits.retain(|(operation, _), _| *operation != id);
        let over: Vec<StepKey> =
            self.open.keys().filter(|(operation, _)| *operation == id).copied().collect();
        for flight in over.iter().filter_map(|key| self.open.remove(key)).collect::<Vec<_>>() {
            self.abandon(flight);
        }
        self.retry_at.retain(|(operation, _), _| *operation != id);
        self.ready_since.retain(|(operation, _), _| *operation != id);
    }

    /// The node says that a command goes on; if it says so oftener than before, it has `patience` from now. Whether it did.
    pub fn goes_on(&mut self, node: &NodeId, said: GoingOn, now: Millis, patience: Millis) -> bool {
        let key = (said.id.operation, said.id.step);
        if let Some(flight) = self.open.get_mut(&key)
            && flight.attempt == said.id.attempt
            && flight.node == *node
            && flight.outcome.is_none()
            && flight.went_on < said.times
        {
            flight.went_on = said.times;
            flight.deadline = flight.deadline.max(now + patience);
            return true;
        }
        false
    }

    /// Whether a command of the operation was seen to go on, and its time is not over.
    pub fn is_going_on(&self, operation: OperationId, now: Millis) -> bool {
        let under_way = |flight: &Flight| flight.outcome.is_none() && flight.deadline > now;
        let mut of_it = self.open.iter().filter(|(key, _)| key.0 == operation);
        of_it.any(|(_, flight)| flight.went_on > 0 && under_way(flight))
    }

    /// Its node has its time left, whatever has become of the step.
    pub fn abandon(&mut self, flight: Flight) {
        if flight.outcome.is_none() && matches!(flight.action, Action::SetRoutes { .. }) {
            self.abandoned.push(flight);
        }
    }

    /// Those whose time is over are not begun any more, nor those of a sidecar that has ended.
    pub fn forget_abandoned(&mut self, now: Millis, ended: Option<&NodeId>) {
        self.abandoned.retain(|flight| flight.deadline > now && Some(&flight.node) != ended);
    }

    /// Those of an earlier leader: the node's sidecar has seen ours and runs nothing, so that none of them is begun any more.
    pub fn forget_inherited(&mut self, node: &NodeId) {
        self.abandoned.retain(|flight| !flight.inherited || flight.node != *node);
    }

    /// The next moment at which something here changes by time alone.
    pub fn next_wake(&self, now: Millis) -> Option<Millis> {
        let of_abandoned = self.abandoned.iter().map(|flight| flight.deadline);
        let deadlines = self.open.values().filter(|flight| flight.outcome.is_none()).map(|f| f.deadline);
        deadlines.chain(of_abandoned).chain(self.retry_at.values().copied()).filter(|at| *at > now).min()
    }

    /// The routes that are being written on this node and are not seen there yet, or may still be; `None` where an earlier leader ordered it
    /// and nobody knows which.
    pub fn routes_under_way(&self, node: &NodeId) -> impl Iterator<Item = Option<Routes>> {
        let there = self.open.values().chain(&self.abandoned).filter(move |flight| flight.node == *node);
        there.filter_map(|flight| match &flight.action {
            Action::SetRoutes { .. } if flight.inherited => Some(None),
            Action::SetRoutes { routes } => {
                let named = routes.iter().map(|it| (it.route.table.to_string(), it.route.clone().into()));
                Some(Some(named.collect()))
            }
            _ => None,
        })
    }

    /// Whether a cluster statement on this node or group is under way; for an EXIT also whether another EXIT is, wherever:
    /// each tells all other members, and several at once were seen to wait for each other on real nodes.
    pub fn holds_lock(&self, node: &NodeId, action: &Action, except: StepKey) -> bool {
        let Some(group) = action.group() else { return false };
        let exits = |action: &Action| matches!(action, Action::ExitCluster { .. });
        self.open.iter().any(|(key, flight)| {
            *key != except
                && (exits(action) && exits(&flight.action)
                    || flight.action.group().is_some_and(|other| other == group || flight.node == *node))
        })
    }
}
