//! The operator: `tick(now, inputs) -> effects`; it decides everything and does nothing.
//!
//! The driver's loop: gather [`io::Input`]s → [`Controller::tick`] → append `records` to the log → carry out
//! `effects`. All durable state is the fold of the records; what was observed is kept in memory only.
//!
//! ```text
//! let mut controller = Controller::open(config, snapshot, records)?;   // from the log
//! loop {
//!     let out = controller.tick(now, unix_now, inputs);
//!     log.append(out.expected, encode(out.records))?;                  // conflict: rebuild from the log
//!     for effect in out.effects { … }
//! }
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`record`], [`state`] | the log's records and their fold |
//! | [`operation`], `catalogue` | operations as graphs of steps, and how each kind is built |
//! | `saga`, `steps`, `unwind`, `prelude`, `flight`, `proof`, `verify`, `orphan` | running them: recorded before, proven after, undone in reverse |
//! | `hand_over`, `compare` | shards that change groups: another rf, a split |
//! | `import` | tables that the stock sidecar sharded are adopted |
//! | [`backup`] | tables recorded, copied out and brought back |
//! | `rules` | what must be so before a command is sent |
//! | `recover`, `gate` | groups that stopped as a whole, the choice of the newest copy, and who may start before |
//! | `observed`, `detector`, `reconcile`, `moves`, `gains` | what is seen, and the work that follows from it |
//! | `alerts`, [`alarm`] | what people must know: the conditions, and since when, to whom and how often it is said |
//! | `statements`, `rights`, `orders`, `preflight` | what clients ask, which of them may, what operators order, and what must be so before |
//! | `views`, `tables` | what people see |
//! | `pace`, `progress` | how much is done at once, and how far it is |
//! | `recovery`, `health` | what went wrong is tried again, what is old goes, and what to do next |
//! | [`bench`] | a cluster at rest, to measure a turn on |

mod access;
pub mod alarm;
mod alerts;
pub mod backup;
pub mod bench;
mod catalogue;
mod compare;
mod detector;
mod dissolve;
mod flight;
mod forget;
mod gains;
mod gate;
mod hand_over;
mod hash;
mod health;
mod import;
pub mod io;
mod map;
mod moves;
mod observed;
pub mod operation;
mod orders;
mod orphan;
mod pace;
mod preflight;
mod prelude;
mod progress;
mod proof;
mod put_off;
mod reconcile;
pub mod record;
mod recover;
mod recovery;
mod rights;
mod route;
mod rules;
mod saga;
mod settings_check;
pub mod state;
mod statements;
mod steps;
mod tables;
mod unwind;
mod verify;
mod views;

pub use alerts::no_master;
pub use io::{Effect, Effects, Input, PollAnswer, RequestId, StandingOrders};
pub use record::Record;

use compare::Comparison;
use flight::{Flight, Flights, StepKey};
use gains::Gains;
use model::wire::{SidecarPoll, TableNameEntry, Versions};
use model::{
    Action, Epoch, GroupId, LogIndex, Millis, NodeId, OperationId, Outcome, Reach, Settings, TableName,
};
use observed::Observed;
use operation::{StepStatus, Work};
use pace::Pace;
use put_off::PutOff;
use recover::{Choice, Standing};
use recovery::Recovery;
use state::{State, TableStatus};
use statements::Waiting;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use verify::Verification;

/// What a controller is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This controller's name among others, shown as master: `host:port` of its API.
    pub name: String,
    /// The control log's own id, 32 hex digits.
    pub log_id: String,
    pub settings: Settings,
    /// Injected randomness, for names of groups.
    pub seed: u64,
}

/// Why a log could not be read as control state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "control log record {index} cannot be read ({reason}): restore the log from a copy, or start a newer shardwright if a newer one wrote it"
    )]
    Unreadable { index: LogIndex, reason: String },
    #[error(
        "the control log is of format {format} from record {index} on, and this program reads up to {newest}: start the newer shardwright that wrote it",
        newest = record::FORMAT
    )]
    Newer { index: LogIndex, format: u32 },
    #[error(
        "control log record {index} does not follow from those before it ({reason}): the log is damaged; restore it from a copy"
    )]
    Illegal { index: LogIndex, reason: String },
}

/// What every version's record of a leader has, and no other record.
#[derive(serde::Deserialize)]
struct Leads {
    format: u32,
}

/// It ticks several times a second while it looks at nodes: after a longer pause it stood still.
const ASLEEP_AFTER: Millis = Millis(3_000);

const fn check_format(index: LogIndex, format: u32) -> Result<(), OpenError> {
    if format > record::FORMAT { Err(OpenError::Newer { index, format }) } else { Ok(()) }
}

/// Takes the next record into `state`, and gives it.
fn fold(state: &mut State, index: LogIndex, bytes: &[u8]) -> Result<Record, OpenError> {
    if index != state.last.next() {
        let reason = format!("it follows record {}", state.last);
        return Err(OpenError::Illegal { index, reason });
    }
    // Before the rest is read: a newer one may look different.
    if let Ok(Leads { format }) = serde_json::from_slice::<Leads>(bytes) {
        check_format(index, format)?;
    }
    let record: Record = serde_json::from_slice(bytes)
        .map_err(|error| OpenError::Unreadable { index, reason: error.to_string() })?;
    state.apply(&record).map_err(|error| OpenError::Illegal { index, reason: error.to_string() })?;
    Ok(record)
}

/// The operator. One per process; only the leader's acts.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    state: State,
    observed: Observed,
    flights: Flights,
    verifications: BTreeMap<StepKey, Verification>,
    /// Copies on their way back that looked different when they were compared.
    doubted: BTreeSet<(GroupId, NodeId)>,
    comparisons: BTreeMap<StepKey, Comparison>,
    backups: backup::Jobs,
    /// Files of certificates, and when each ends in Unix seconds, as this process last saw them.
    certificates: BTreeMap<String, u64>,
    /// Since when this controller sees a hand-over hold statements.
    held_since: BTreeMap<OperationId, Millis>,
    /// Hand-overs that failed wait longer each time.
    hand_over_not_before: BTreeMap<TableName, Millis>,
    hand_overs_noted_with: u64,
    waiting: BTreeMap<OperationId, Waiting>,
    put_off: BTreeMap<RequestId, PutOff>,
    /// On the monotonic clock; a new controller counts the grace anew, which only delays a rebuild.
    lost_since: BTreeMap<NodeId, Millis>,
    /// Until when a group that a failover was begun for is given no other one.
    regain_not_before: BTreeMap<GroupId, Millis>,
    /// What was last planned from, the state and the next end of a pause: the same gives the same plan.
    planned_at: Option<(LogIndex, Option<Millis>)>,
    /// After a move that failed the next plan waits a little, or it would fail again at once.
    plan_not_before: Millis,
    failures_planned_with: u64,
    /// Since when a serving copy's replication is seen to have stopped.
    closed_since: BTreeMap<(GroupId, NodeId), Millis>,
    /// Since when each group is idle ([`dissolve`]).
    idle_since: BTreeMap<GroupId, Millis>,
    /// How each group is seen, and since when.
    standings: BTreeMap<GroupId, (Standing, Millis)>,
    choices: BTreeMap<GroupId, Choice>,
    user_cluster_broken_since: Option<Millis>,
    /// When each node was lost, lately.
    losses: BTreeMap<NodeId, VecDeque<Millis>>,
    gains: Gains,
    /// The same of cleanings.
    cleanings: Gains,
    /// Nodes that the gate let through, and when.
    admitted: BTreeMap<NodeId, Millis>,
    /// Per node, the state and the look that its routes were last compared with.
    routes_compared: BTreeMap<NodeId, (LogIndex, Millis)>,
    /// As of which record.
    unserved: (LogIndex, BTreeMap<TableName, String>),
    plan_refused: Option<String>,
    alarm: alarm::Alarm,
    wrong: alerts::Wrong,
    /// A move was left out of the last plan until then: it failed before.
    plan_again_at: Option<Millis>,
    pace: Pace,
    recovery: Recovery,
    next_token: u64,
    random: u64,
    now: Millis,
    unix_now: u64,
    /// False until this controller's own epoch stands in the log.
    leads: bool,
    leads_since: Millis,
    out: Effects,
}

impl Controller {
    /// Builds the state from the newest snapshot and the records after it, each with its index.
    pub fn open(
        config: Config,
        snapshot: Option<(LogIndex, &[u8])>,
        records: impl IntoIterator<Item = (LogIndex, Vec<u8>)>,
    ) -> Result<Self, OpenError> {
        let mut state = State::default();
        if let Some((index, bytes)) = snapshot {
            let unreadable = |reason: String| OpenError::Unreadable { index, reason };
            if let Ok(Leads { format }) = serde_json::from_slice::<Leads>(bytes) {
                check_format(index, format)?;
            }
            state = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
            if state.last != index {
                return Err(unreadable(format!("its snapshot says it ends at {}", state.last)));
            }
        }
        for (index, bytes) in records {
            fold(&mut state, index, &bytes)?;
        }
        let mut observed = Observed::default();
        for node in state.nodes.keys() {
            observed.know(node);
        }
        let mut controller = Self {
            random: config.seed,
            config,
            state,
            observed,
            flights: Flights::default(),
            verifications: BTreeMap::new(),
            doubted: BTreeSet::new(),
            comparisons: BTreeMap::new(),
            backups: backup::Jobs::default(),
            certificates: BTreeMap::new(),
            held_since: BTreeMap::new(),
            hand_over_not_before: BTreeMap::new(),
            hand_overs_noted_with: 0,
            waiting: BTreeMap::new(),
            put_off: BTreeMap::new(),
            lost_since: BTreeMap::new(),
            regain_not_before: BTreeMap::new(),
            planned_at: None,
            plan_not_before: Millis::ZERO,
            failures_planned_with: 0,
            closed_since: BTreeMap::new(),
            idle_since: BTreeMap::new(),
            standings: BTreeMap::new(),
            choices: BTreeMap::new(),
            user_cluster_broken_since: None,
            losses: BTreeMap::new(),
            gains: Gains::default(),
            cleanings: Gains::default(),
            admitted: BTreeMap::new(),
            routes_compared: BTreeMap::new(),
            unserved: (LogIndex(0), BTreeMap::new()),
            plan_refused: None,
            alarm: alarm::Alarm::default(),
            wrong: alerts::Wrong::default(),
            plan_again_at: None,
            pace: Pace::default(),
            recovery: Recovery::default(),
            next_token: 0,
            now: Millis::ZERO,
            unix_now: 0,
            leads: false,
            leads_since: Millis::ZERO,
            out: Effects::default(),
        };
        // Far from those of a controller before it in this process: an answer to its question is not taken for one of
        // ours, which was asked later.
        let first_token = controller.next_random() >> 1;
        controller.observed.count_from(first_token);
        controller.next_token = first_token;
        Ok(controller)
    }

    /// Folds in one record that another controller has appended, and gives it. For a follower, which never ticks:
    /// to lead it is built anew.
    pub fn read_on(&mut self, index: LogIndex, record: &[u8]) -> Result<Record, OpenError> {
        fold(&mut self.state, index, record)
    }

    /// Settings that hold from the next tick on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.config.settings = settings;
    }

    /// When the certificates of this process end, in Unix seconds, by their files.
    pub fn set_certificates(&mut self, ends: BTreeMap<String, u64>) {
        self.certificates = ends;
    }

    /// The state, for invariants and views outside.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// One turn: `now` is monotonic, `unix_now` in seconds is only written and shown.
    pub fn tick(&mut self, now: Millis, unix_now: u64, inputs: Vec<Input>) -> Effects {
        if now.since(self.now) > ASLEEP_AFTER {
            self.observed.slept(now);
        }
        self.now = now;
        self.observed.look_to_the_gate(now);
        self.unix_now = unix_now;
        self.out = Effects { expected: self.state.last, ..Effects::default() };
        self.flights.forget_abandoned(now, None);
        self.observed.forget_asked(now);
        if !self.leads {
            self.take_lead();
        }
        let mut statements = Vec::new();
        let mut tokens = Vec::new();
        for input in inputs {
            match input {
                Input::Sidecar(poll) => self.hear(poll),
                Input::Polled(answer) => {
                    self.observed.see(answer);
                }
                Input::Measured { token, measured, .. } => self.measured(token, measured),
                Input::JobOver { operation, step, attempt, end } => {
                    self.job_over((operation, step), attempt, end);
                }
                Input::Statement { request, statement, rights } => {
                    statements.push((request, statement, rights));
                }
                Input::Token { request, order } => tokens.push((request, order)),
                Input::Audited(mark) => self.record(Record::AuditMarked { mark }),
                Input::Abandoned { request } => {
                    self.waiting.retain(|_, waiting| waiting.request != request);
                    self.put_off.remove(&request);
                }
            }
        }
        self.pace.turn(now, pace::queue_interval(&self.config.settings, self.active_nodes()));
        self.watch_membership();
        for (request, statement, rights) in statements {
            self.take_statement(request, statement, rights);
        }
        self.take_put_off();
        for (request, order) in tokens {
            self.asked_by(request, |controller| controller.token_order(request, order));
        }
        self.run_operations();
        self.retire_replaced();
        self.look_after_itself();
        self.reconcile();
        self.run_operations();
        self.answer_waiting();
        self.run_operations();
        self.sweep_verifications();
        self.watch_alerts();
        self.sweep_jobs();
        self.take_looks();
        if self.unserved.0 != self.state.last {
            self.unserved = (self.state.last, route::unserved(&self.state));
        }
        std::mem::take(&mut self.out)
    }

    /// Notes what is recorded in `work` as asked for by `request`.
    fn asked_by(&mut self, request: RequestId, work: impl FnOnce(&mut Self)) {
        let before = self.out.records.len();
        work(self);
        let records = before..self.out.records.len();
        if !records.is_empty() {
            self.out.asked.push((request, records));
        }
    }

    /// Takes the lead under a new epoch, and takes over what the one before had begun.
    fn take_lead(&mut self) {
        let epoch = self.state.epoch.next();
        let name = self.config.name.clone();
        self.record(Record::LeaderElected { epoch, name, format: record::FORMAT, unix: self.unix_now });
        self.leads = true;
        self.leads_since = self.now;
        for node in self.state.nodes.iter().filter(|(_, node)| node.lost).map(|(id, _)| id) {
            self.lost_since.insert(node.clone(), self.now);
        }
        let running = self.state.active().filter(|operation| operation.status != operation::Status::Queued);
        let running: Vec<OperationId> = running.map(|operation| operation.id).collect();
        self.pace.inherit(running.into_iter(), self.now, self.unix_now);
        let mut inherited = Vec::new();
        for operation in self.state.operations.values() {
            for (id, step) in operation.numbered() {
                let undo = step.status == StepStatus::Undoing;
                if !undo && step.status != StepStatus::Started {
                    continue;
                }
                let action = match (&step.work, undo) {
                    (_, true) => step.undo.clone(),
                    (Work::Command { action }, _) => Some(action.clone()),
                    (Work::Regain { group }, _) => Some(Action::Bootstrap { group: group.clone() }),
                    (Work::DropExited { exit, tables }, _) => {
                        Some(Action::DropCopies { copies: operation.left_with(*exit, tables) })
                    }
                    // What it wrote is compared with what it should have written now.
                    (Work::Route { .. }, _) => Some(Action::SetRoutes { routes: Vec::new() }),
                    _ => None,
                };
                if let (Some(action), Some(node)) = (action, step.node.clone()) {
                    // No earlier leader gave the like of it more time, nor later than now.
                    let deadline = self.now + self.deadline_of(operation.id, &action);
                    let flight = Flight {
                        node,
                        attempt: step.attempts,
                        action,
                        undo,
                        sent: self.now,
                        deadline,
                        outcome: None,
                        inherited: true,
                        went_on: 0,
                    };
                    inherited.push(((operation.id, id), flight));
                }
            }
        }
        self.flights.open.extend(inherited);
        // What an earlier leader gave them, and nobody waits for, is not in the log.
        let lost: Vec<NodeId> = self.lost_since.keys().cloned().collect();
        for node in lost {
            self.flights.abandon(Flight {
                node,
                attempt: 0,
                action: Action::SetRoutes { routes: Vec::new() },
                undo: false,
                sent: self.now,
                deadline: self.now + saga::DEADLINE,
                outcome: None,
                inherited: true,
                went_on: 0,
            });
        }
    }

    /// Records a fact: folds it in and hands it to the driver.
    fn record(&mut self, record: Record) {
        let failed = self.failed_move(&record);
        let folded = self.state.apply(&record);
        self.pace.note(&record, self.now, self.unix_now);
        if let Some((group, repair)) = failed {
            self.note_failed_move(&group, repair);
        }
        assert!(folded.is_ok(), "a record of our own does not follow from the state: {record:?}: {folded:?}");
        if matches!(record, Record::OperationDone { .. } | Record::OperationFailed { .. }) {
            self.note_success();
        }
        self.out.records.push(record);
    }

    /// The group of the move that this record ends as failed, and whether the copy is missing.
    fn failed_move(&self, record: &Record) -> Option<(GroupId, bool)> {
        let Record::OperationFailed { operation, .. } = record else { return None };
        let operation = self.state.operations.get(operation)?;
        let operation::Kind::Move { group, .. } = &operation.kind else { return None };
        Some((group.clone(), self.restores(&operation.kind)))
    }

    /// A sidecar's poll: sign of life, votes, outcomes.
    fn hear(&mut self, poll: SidecarPoll) {
        let known = self.observed.view(&poll.node).and_then(|view| view.sidecar.as_ref());
        let restarted = known.is_some_and(|known| known.poll.run != poll.run);
        for result in &poll.results {
            let key = (result.id.operation, result.id.step);
            if let Some(flight) = self.flights.open.get_mut(&key)
                && flight.attempt == result.id.attempt
                && flight.node == poll.node
                && flight.outcome.is_none()
            {
                flight.outcome = Some((result.outcome.clone(), self.now));
            }
        }
        for said in &poll.going_on {
            let flight = self.flights.open.get(&(said.id.operation, said.id.step));
            let patience = flight.and_then(|flight| self.patience_with(said.id.operation, &flight.action));
            if let Some(patience) = patience
                && self.flights.goes_on(&poll.node, *said, self.now, patience)
            {
                self.pace.begin_again(said.id.operation, self.now, self.unix_now);
            }
        }
        // A sidecar that has seen our epoch takes no older command any more: what it neither runs nor reports
        // will not be run.
        if poll.epoch == self.state.epoch {
            for (key, flight) in &mut self.flights.open {
                let runs = poll.running.iter().any(|id| (id.operation, id.step) == *key);
                if flight.inherited && flight.node == poll.node && flight.outcome.is_none() && !runs {
                    let message = "the controller restarted and the sidecar knows nothing of it".to_owned();
                    flight.outcome = Some((Outcome::Unknown { message }, self.now));
                }
            }
            if poll.running.is_empty() {
                self.flights.forget_inherited(&poll.node);
            }
        }
        if restarted {
            self.flights.forget_abandoned(self.now, Some(&poll.node));
            for flight in self.flights.open.values_mut() {
                if flight.node == poll.node && flight.outcome.is_none() {
                    let message = format!("the sidecar of {} was restarted meanwhile", poll.node);
                    flight.outcome = Some((Outcome::Unknown { message }, self.now));
                }
            }
        }
        self.observed.hear(self.now, poll);
    }

    /// A copy that was lost and is made good elsewhere: its node may still hold it, and is cleaned when it is back.
    fn retire_replaced(&mut self) {
        let mut replaced = Vec::new();
        for (id, group) in &self.state.groups {
            if group.serving().count() < group.rf as usize || self.state.group_operation(id).is_some() {
                continue;
            }
            for node in group.in_state(state::Member::Lost) {
                replaced.push((id.clone(), node.clone(), group.tables()));
            }
        }
        for (group, node, tables) in replaced {
            self.record(Record::LeftBehind { node, group: Some(group), tables, routes: Vec::new() });
        }
    }

    fn take_looks(&mut self) {
        let interval = Millis(self.config.settings.node_poll_interval_ms);
        for look in self.observed.due_looks(self.now, interval) {
            self.out.effects.push(Effect::Poll {
                node: look.node,
                token: look.token,
                tables: look.tables,
                timeout_ms: interval.0.max(500) * 2,
            });
        }
    }

    /// Nothing of an operation that was made this many seconds ago waits out a pause between two tries. For simulations
    /// of a program that counts them from there.
    pub fn forget_pauses(&mut self, now: Millis, seconds: u64) {
        let old = |id: &OperationId| {
            self.state.operations.get(id).is_some_and(|of| of.created_at + seconds <= self.unix_now)
        };
        self.flights.try_again_at(now, old);
    }

    /// When to tick again although nothing happens.
    pub fn next_wake(&self) -> Option<Millis> {
        let waiting = self.waiting.values().filter_map(|waiting| waiting.deadline);
        let verifying = self.verifications.values().filter_map(Verification::next_wake);
        let comparing = self.comparisons.values().filter_map(Comparison::next_wake);
        [
            self.observed.next_look(),
            self.flights.next_wake(self.now),
            self.next_grace_end(),
            self.gains.next_wake(self.now),
            self.cleanings.next_wake(self.now),
            Some(self.plan_not_before),
            self.plan_again_at,
            Some(self.pace.next_turn()),
            Some(self.next_self_check()),
        ]
        .into_iter()
        .flatten()
        .chain(waiting)
        .chain(verifying)
        .chain(comparing)
        .chain(self.choices.values().filter_map(Choice::next_wake))
        .chain(self.next_halt())
        .chain(self.hold_ends())
        .chain(self.put_off_ends())
        .chain(self.hand_over_not_before.values().copied())
        // What is due and could not go on waits for something to happen, not for time.
        .filter(|at| *at > self.now)
        .min()
    }

    /// The state for a snapshot at the last record, and that record's index.
    pub fn snapshot(&self) -> Result<(LogIndex, Vec<u8>), serde_json::Error> {
        Ok((self.state.last, serde_json::to_vec(&self.state)?))
    }

    /// What the sidecar that has these lists is told with every answer.
    pub fn standing_orders(&self, has: Versions) -> StandingOrders {
        let names = (has.names != self.state.names_version).then(|| self.names());
        let views_version = self.observed.views_version();
        StandingOrders {
            log_id: self.config.log_id.clone(),
            epoch: self.state.epoch,
            lead: format!("{:016x}", self.config.seed),
            last: self.state.last,
            names_version: self.state.names_version,
            names,
            views_version,
            views: (has.views != views_version).then(|| self.observed.views()),
            peers: self.observed.nodes.keys().cloned().collect(),
            unserved: self.unserved.1.clone(),
            suspects: self.suspects(),
        }
    }

    /// The version of the list of names that every sidecar should have.
    pub const fn names_version(&self) -> u64 {
        self.state.names_version
    }

    /// Nodes that did not answer the last look and are not yet counted as lost, and those that may be cut off from the
    /// others: what others see of them decides.
    pub fn suspects(&self) -> Vec<NodeId> {
        let views = self.observed.nodes.iter();
        let silent = views.filter(|(_, view)| view.reach.is_some_and(|(reach, _)| reach != Reach::Answered));
        let suspects: BTreeSet<&NodeId> = silent.map(|(node, _)| node).chain(self.observed.asked()).collect();
        suspects
            .into_iter()
            .filter(|node| self.state.nodes.get(*node).is_none_or(|known| !known.lost))
            .cloned()
            .collect()
    }

    fn names(&self) -> Vec<TableNameEntry> {
        self.state
            .tables
            .iter()
            .map(|(name, table)| TableNameEntry {
                table: name.clone(),
                cluster: table.spec.cluster.clone(),
                generation: table.generation,
            })
            .collect()
    }

    pub const fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// Whether a table of this name is there and whole, for readiness checks.
    pub fn is_active(&self, name: &TableName) -> bool {
        self.state.tables.get(name).is_some_and(|table| table.status == TableStatus::Active)
    }

    /// SplitMix64 over the injected seed.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn new_group_id(&mut self) -> GroupId {
        let bits = u128::from(self.next_random()) << 64 | u128::from(self.next_random());
        GroupId::from_random(bits)
    }
}
