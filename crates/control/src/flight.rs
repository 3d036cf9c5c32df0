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
    /// What nobody waits for any more: routes that their node may still begin to write, EXITs that may run on theirs.
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
/// An EXIT that was not answered may run for so long: searchd's wait for the others, 5 s with the times it has by default, twice.
const EXIT_LASTS: Millis = Millis(10_000);

const fn exits(action: &Action) -> bool {
    matches!(action, Action::ExitCluster { .. })
}

impl Flights {
    /// A failed try: the next one not before a pause that doubles from 200 ms, counted from now.
    pub fn fail(&mut self, key: StepKey, attempt: u32, now: Millis) {
        if let Some(flight) = self.open.remove(&key) {
            self.abandon(flight);
        }
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

    /// Its node has its time left, whatever has become of the step, and an EXIT that it may have begun goes on without its sidecar.
    pub fn abandon(&mut self, mut flight: Flight) {
        let last_begun = match &flight.outcome {
            None => flight.deadline,
            Some((Outcome::Unknown { .. }, at)) => *at,
            Some(_) => return,
        };
        if exits(&flight.action) {
            flight.deadline = last_begun + EXIT_LASTS;
            self.abandoned.push(flight);
        } else if flight.outcome.is_none() && matches!(flight.action, Action::SetRoutes { .. }) {
            self.abandoned.push(flight);
        }
    }

    /// Those whose time is over are not begun any more, nor routes by a sidecar that has ended.
    pub fn forget_abandoned(&mut self, now: Millis, ended: Option<&NodeId>) {
        let may_begin = |flight: &Flight| exits(&flight.action) || Some(&flight.node) != ended;
        self.abandoned.retain(|flight| flight.deadline > now && may_begin(flight));
    }

    /// Routes of an earlier leader: the node's sidecar has seen ours and runs nothing, so that none of them is begun any more.
    pub fn forget_inherited(&mut self, node: &NodeId) {
        let may_begin = |flight: &Flight| exits(&flight.action) || !flight.inherited || flight.node != *node;
        self.abandoned.retain(may_begin);
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

    /// Whether a cluster statement on this node or group is under way; for an EXIT also whether another EXIT is, or may be, wherever:
    /// each tells all other members, and several at once were seen to wait for each other on real nodes. One more on the same node
    /// waits there. A quorum, which needs no lock of searchd's, waits for statements on its own group alone: a JOIN of another one
    /// may copy for an hour. Nor does it wait for a JOIN of its group, which waits for it.
    pub fn holds_lock(&self, node: &NodeId, action: &Action, except: StepKey) -> bool {
        let Some(group) = action.group() else { return false };
        let runs = |flight: &Flight| exits(&flight.action) && flight.node != *node;
        if exits(action) && self.abandoned.iter().any(runs) {
            return true;
        }
        let on_node = |flight: &Flight| {
            flight.node == *node && !action.needs_no_lock() && !flight.action.needs_no_lock()
        };
        let on_group = |flight: &Flight| {
            let joins = matches!(flight.action, Action::JoinCluster { .. });
            flight.action.group() == Some(group) && !(joins && action.needs_no_lock())
        };
        self.open.iter().any(|(key, flight)| {
            *key != except
                && (exits(action) && exits(&flight.action)
                    || on_group(flight)
                    || flight.action.group().is_some() && on_node(flight))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CommandId;

    fn node(n: u16) -> NodeId {
        NodeId::new(format!("h:{n}")).expect("valid")
    }

    fn exit(group: &str) -> Action {
        let group = model::GroupId::new(group).expect("valid");
        Action::ExitCluster { group, tables: Vec::new(), floor: 0 }
    }

    /// An EXIT on the first node ended so; until when one of another group is kept back on the second node.
    fn kept_until(outcome: Option<(Outcome, Millis)>, end: impl FnOnce(&mut Flights, StepKey)) -> Millis {
        let id = CommandId { operation: OperationId(1), step: StepId(0), attempt: 1 };
        let key = (id.operation, id.step);
        let mut flights = Flights::default();
        let flight = Flight {
            node: node(1),
            attempt: 1,
            action: exit("a"),
            undo: false,
            sent: Millis(0),
            deadline: Millis(20_000),
            outcome,
            inherited: true,
            went_on: 0,
        };
        flights.open.insert(key, flight);
        let other = (OperationId(2), StepId(0));
        assert!(flights.holds_lock(&node(2), &exit("b"), other), "it is under way");
        end(&mut flights, key);
        assert!(!flights.holds_lock(&node(1), &exit("b"), other), "its own node lets one wait for the other");
        let create = Action::CreateCluster { group: model::GroupId::new("b").expect("valid") };
        assert!(!flights.holds_lock(&node(2), &create, other), "only EXITs wait for each other");
        for now in (0..60_000).step_by(1_000).map(Millis) {
            flights.forget_abandoned(now, Some(&node(1)));
            flights.forget_inherited(&node(1));
            if !flights.holds_lock(&node(2), &exit("b"), other) {
                return now;
            }
        }
        panic!("for ever");
    }

    #[test]
    fn an_exit_that_was_not_answered_keeps_those_of_other_nodes_back() {
        let unknown = || Some((Outcome::Unknown { message: String::new() }, Millis(3_000)));
        let refused = Some((Outcome::Refused { message: String::new() }, Millis(3_000)));
        let done = Some((Outcome::Done { contents: BTreeMap::new() }, Millis(3_000)));
        let failed = |flights: &mut Flights, key: StepKey| flights.fail(key, 1, Millis(3_000));
        let over = |flights: &mut Flights, key: StepKey| flights.end_step(key);
        let all_over = |flights: &mut Flights, key: StepKey| flights.end_operation(key.0);
        assert_eq!(kept_until(unknown(), failed), Millis(13_000));
        assert_eq!(kept_until(unknown(), over), Millis(13_000));
        assert_eq!(kept_until(None, all_over), Millis(30_000), "it may be begun until its deadline");
        assert_eq!(kept_until(refused, failed), Millis(0));
        assert_eq!(kept_until(done, over), Millis(0));
    }

    /// A JOIN can last for hours, and whoever waits for a quorum is another group.
    #[test]
    fn a_quorum_waits_for_statements_on_its_own_group_alone() {
        let group = |name: &str| model::GroupId::new(name).expect("valid");
        let join = Action::JoinCluster { group: group("a"), at: node(2) };
        let quorum = |name: &str| Action::Bootstrap { group: group(name) };
        let other = (OperationId(2), StepId(0));
        let beside = |open: Action| {
            let id = CommandId { operation: OperationId(1), step: StepId(0), attempt: 1 };
            let flight = Flight {
                node: node(1),
                attempt: 1,
                action: open,
                undo: false,
                sent: Millis(0),
                deadline: Millis(300_000),
                outcome: None,
                inherited: false,
                went_on: 0,
            };
            Flights { open: [((id.operation, id.step), flight)].into(), ..Flights::default() }
        };
        let copying = beside(join.clone());
        assert!(!copying.holds_lock(&node(1), &quorum("b"), other));
        let list = Action::UpdateNodes { group: group("b") };
        assert!(copying.holds_lock(&node(1), &list, other), "it needs searchd's lock");
        assert!(!copying.holds_lock(&node(2), &quorum("a"), other), "or nobody gives what it waits for");
        assert!(copying.holds_lock(&node(1), &exit("b"), other), "that, too");
        let giving = beside(quorum("b"));
        assert!(!giving.holds_lock(&node(1), &join, other));
        assert!(giving.holds_lock(&node(1), &exit("b"), other), "of the same group");
        assert!(beside(exit("a")).holds_lock(&node(1), &quorum("a"), other), "it may be gone");
    }
}
