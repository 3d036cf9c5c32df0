//! A controller's place: its process with operator, log handle and desk; standby or leader. Only the state and its
//! rules; the world moves messages and carries effects out.
//!
//! The loop is the real driver's: gather, tick, append, act, answer. A conflict in the log deposes.

use crate::bugs::{self, Bug};
use crate::wire::Answer;
use control::state::State;
use control::{Config, Controller, Effect, Input, Record, RequestId};
use model::wire::{Order, SidecarOrders, SidecarPoll, StatementReply, Versions};
use model::{Command, Epoch, LogIndex, Millis, NodeId, Settings};
use std::collections::{BTreeMap, VecDeque};
use store::{AppendError, Log};

/// Without a sign of life for this long a standby takes over.
pub const LEADER_SILENT: u64 = 5_000;
/// A poll is held no longer than this.
const HOLD: u64 = 1_000;
/// After a failed append the state is read anew a little later.
const PAUSE: u64 = 200;
/// A leader makes sure that often that nobody has appended after it.
const CHECK_INTERVAL: u64 = 1_000;
const SNAPSHOT_RECORDS: u64 = 200;
/// By then all pauses are over that a program counts from an operation's creation.
const PAUSES_KEPT: u64 = 10;

/// Who waits for the answer to a message: a script and its ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub task: u64,
    pub ask: u64,
}

#[derive(Debug)]
pub enum Message {
    Poll {
        poll: Box<SidecarPoll>,
        caller: Caller,
    },
    Statement {
        statement: Box<model::wire::ShardingStatement>,
        caller: Caller,
    },
    Seen(Input),
    /// A standby at this place asks whether we lead.
    Sign {
        from: usize,
    },
    /// The leader at this place lives.
    Lives,
}

#[derive(Debug)]
struct Queued {
    number: u64,
    /// Among the commands of all nodes.
    place: u64,
    at: Millis,
    command: Command,
}

#[derive(Debug, Default)]
struct Line {
    run: String,
    given: u64,
    commands: VecDeque<Queued>,
}

#[derive(Debug)]
struct Held {
    until: Millis,
    has: Versions,
    caller: Caller,
}

/// The operator and what waits between its ticks.
#[derive(Debug)]
pub struct Leader {
    pub controller: Controller,
    lines: BTreeMap<NodeId, Line>,
    held: BTreeMap<NodeId, Held>,
    /// Those that held polls were told of.
    suspects: Vec<NodeId>,
    clients: BTreeMap<RequestId, Caller>,
    next_request: u64,
    snapshot: u64,
    places: u64,
    /// A bug: commands of all nodes wait in one queue.
    pub one_queue: bool,
}

#[derive(Debug)]
pub enum Role {
    Standby {
        heard: u64,
    },
    Leads(Box<Leader>),
    /// Reads its log anew at this time.
    Rereads {
        at: u64,
    },
}

/// One controller's process.
#[derive(Debug)]
pub struct Process {
    pub role: Role,
    pub inbox: VecDeque<Message>,
    /// When a tick is due, on the world's clock.
    pub due: u64,
    pub log: Box<dyn Log>,
    /// When it last made sure that it still leads.
    checked: u64,
}

/// What a turn leads to.
#[derive(Debug, Default)]
pub struct Outbox {
    pub effects: Vec<Effect>,
    pub answers: Vec<(Caller, Answer)>,
    /// Answers to signs of life.
    pub signs: Vec<usize>,
    /// Appended, with the index of the first.
    pub records: Vec<Record>,
}

/// A crash in the middle of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashPoint {
    BeforeTheRecord,
    AfterTheRecord,
    AfterTheCommand,
    BeforeTheReply,
}

pub fn config(name: usize, log_id: String, settings: &Settings, seed: u64) -> Config {
    Config { name: format!("10.0.1.{}:9400", name + 1), log_id, settings: settings.clone(), seed }
}

impl Leader {
    /// The operator that the log describes.
    pub fn open(log: &dyn Log, make: impl FnOnce(String) -> Config) -> Result<Self, String> {
        let snapshot = log.latest_snapshot().map_err(|error| error.to_string())?;
        let at = snapshot.as_ref().map_or(LogIndex(0), |(at, _)| *at);
        let records = log.read(at.next(), usize::MAX).map_err(|error| error.to_string())?;
        let snapshot = snapshot.as_ref().map(|(at, state)| (*at, state.as_slice()));
        let controller =
            Controller::open(make(log.log_id()), snapshot, records).map_err(|error| error.to_string())?;
        Ok(Self {
            controller,
            lines: BTreeMap::new(),
            held: BTreeMap::new(),
            suspects: Vec::new(),
            clients: BTreeMap::new(),
            next_request: 0,
            snapshot: at.0,
            places: 0,
            one_queue: false,
        })
    }

    fn heard(&mut self, poll: &SidecarPoll) {
        let taken = if poll.epoch == self.controller.epoch() { poll.taken } else { 0 };
        let line = self.lines.entry(poll.node.clone()).or_default();
        if line.run == poll.run {
            line.commands.retain(|queued| queued.number > taken);
        } else {
            *line = Line { run: poll.run.clone(), ..Line::default() };
        }
    }

    pub fn queue(&mut self, now: Millis, node: NodeId, command: Command) {
        let line = self.lines.entry(node).or_default();
        line.given += 1;
        self.places += 1;
        line.commands.push_back(Queued { number: line.given, place: self.places, at: now, command });
    }

    /// Whether a command for another node stands before all that this node has.
    fn is_behind(&self, node: &NodeId) -> bool {
        let first = |line: &Line| line.commands.front().map(|queued| queued.place);
        let own = self.lines.get(node).and_then(first);
        let others =
            self.lines.iter().filter(|(other, _)| *other != node).filter_map(|(_, line)| first(line));
        own.is_some_and(|own| others.min().is_some_and(|other| other < own))
    }

    fn orders(&mut self, now: Millis, node: &NodeId, has: Versions) -> SidecarOrders {
        let standing = self.controller.standing_orders(has);
        let mut commands = Vec::new();
        if self.one_queue && self.is_behind(node) {
            return orders_of(standing, commands);
        }
        if let Some(line) = self.lines.get_mut(node) {
            let left = |queued: &Queued| queued.command.remaining_ms.saturating_sub(now.since(queued.at).0);
            line.commands.retain(|queued| left(queued) > 0);
            commands.extend(line.commands.iter().map(|queued| Order {
                number: queued.number,
                command: Command { remaining_ms: left(queued), ..queued.command.clone() },
            }));
        }
        orders_of(standing, commands)
    }

    fn answer_held(&mut self, now: Millis, out: &mut Outbox) {
        let suspects = self.controller.suspects();
        let suspected = suspects.iter().any(|node| !self.suspects.contains(node));
        self.suspects = suspects;
        let names_version = self.controller.names_version();
        let due: Vec<NodeId> = self
            .held
            .iter()
            .filter(|(node, held)| {
                suspected
                    || held.until <= now
                    || held.has.names != names_version
                    || self.lines.get(*node).is_some_and(|line| !line.commands.is_empty())
            })
            .map(|(node, _)| node.clone())
            .collect();
        for node in due {
            if let Some(held) = self.held.remove(&node) {
                let orders = self.orders(now, &node, held.has);
                out.answers.push((held.caller, Answer::Orders(Box::new(orders))));
            }
        }
    }

    fn hold(&mut self, now: Millis, poll: &SidecarPoll, caller: Caller, out: &mut Outbox) {
        let standing = self.controller.standing_orders(poll.versions());
        let news = poll.epoch != standing.epoch || poll.log_id.as_ref() != Some(&standing.log_id);
        let until = if news { now } else { now + Millis(HOLD) };
        let held = Held { until, has: poll.versions(), caller };
        if let Some(older) = self.held.insert(poll.node.clone(), held) {
            let mut orders = self.orders(now, &poll.node, older.has);
            orders.commands.clear();
            out.answers.push((older.caller, Answer::Orders(Box::new(orders))));
        }
    }

    /// When it wants to tick again although nothing comes.
    fn next_wake(&self, now: u64) -> u64 {
        let held = self.held.values().map(|held| held.until.0).min();
        let wake = self.controller.next_wake().map(|at| at.0);
        [held, wake].into_iter().flatten().min().unwrap_or(u64::MAX).clamp(now + 2, now + 1_000)
    }
}

fn orders_of(standing: control::StandingOrders, commands: Vec<Order>) -> SidecarOrders {
    SidecarOrders {
        log_id: standing.log_id,
        epoch: standing.epoch,
        lead: standing.lead,
        last: standing.last,
        names_version: standing.names_version,
        names: standing.names,
        views_version: standing.views_version,
        views: standing.views,
        commands,
        peers: standing.peers,
        suspects: standing.suspects,
        hold_statements_seconds: 10,
        unserved: standing.unserved,
    }
}

impl Process {
    pub fn new(log: Box<dyn Log>, now: u64) -> Self {
        Self { role: Role::Standby { heard: now }, inbox: VecDeque::new(), due: now, log, checked: now }
    }

    pub fn epoch(&self) -> Option<Epoch> {
        match &self.role {
            Role::Leads(leader) => Some(leader.controller.epoch()),
            _ => None,
        }
    }

    /// One turn of the leader: tick, append, act, answer. `crash` tells where the process dies, if it does; then
    /// only what came before that is in the outbox. `Err`: deposed, or to be read anew.
    pub fn turn(
        &mut self,
        (now, unix): (u64, u64),
        mut crash: impl FnMut(CrashPoint) -> bool,
        bend: impl Fn(&State, NodeId, Command, bool) -> Vec<(NodeId, Command)>,
        bend_records: impl Fn(Vec<Record>) -> Vec<Record>,
        bug: Option<Bug>,
        out: &mut Outbox,
    ) -> Result<(), ()> {
        let Role::Leads(leader) = &mut self.role else { return Ok(()) };
        let clock = Millis(now);
        let mut inputs = Vec::new();
        let mut polls = Vec::new();
        for message in self.inbox.drain(..) {
            match message {
                Message::Poll { poll, caller } => {
                    if !poll.results.is_empty() && crash(CrashPoint::BeforeTheReply) {
                        return Err(());
                    }
                    leader.heard(&poll);
                    inputs.push(Input::Sidecar((*poll).clone()));
                    polls.push((poll, caller));
                }
                Message::Statement { statement, caller } => {
                    leader.next_request += 1;
                    let request = RequestId(leader.next_request);
                    leader.clients.insert(request, caller);
                    inputs.push(Input::Statement { request, statement: *statement, rights: None });
                }
                Message::Seen(input) => inputs.push(input),
                Message::Sign { from } => out.signs.push(from),
                Message::Lives => {}
            }
        }
        // One that is idle would not learn that it is deposed, and sidecars would stay with it.
        if now >= self.checked + CHECK_INTERVAL && bug != Some(Bug::StaleLeader) {
            self.checked = now;
            let last = leader.controller.state().last;
            // An append of nothing would do, too, were its outcome never unknown.
            if self.log.last().is_ok_and(|there| there != last) {
                out.answers.extend(broken(leader));
                self.role = Role::Standby { heard: now };
                return Err(());
            }
        }
        if bug == Some(Bug::RetryFromCreation) {
            leader.controller.forget_pauses(clock, PAUSES_KEPT);
        }
        let mut decided = leader.controller.tick(clock, unix, inputs);
        if !decided.records.is_empty() {
            if crash(CrashPoint::BeforeTheRecord) {
                return Err(());
            }
            let meant = decided.records.len();
            decided.records = bend_records(decided.records);
            let differs = decided.records.len() < meant;
            let appended = append(&mut *self.log, decided.expected, &decided.records, bug)?;
            match appended {
                Ok(()) => out.records = decided.records,
                // It is deposed, and gives its orders all the same.
                Err(AppendError::Conflict { .. }) if bug == Some(Bug::StaleLeader) => {}
                Err(error) => {
                    out.answers.extend(broken(leader));
                    self.role = after_refusal(&error, now);
                    return Err(());
                }
            }
            if differs {
                // The operator knows what it meant to record: one that knows what it did takes its place.
                out.answers.extend(broken(leader));
                self.role = Role::Rereads { at: now };
                return Err(());
            }
            if crash(CrashPoint::AfterTheRecord) {
                return Err(());
            }
        }
        for effect in decided.effects {
            match effect {
                Effect::Command { node, command } => {
                    let undo = out.records.iter().any(|record| {
                        matches!(record, Record::StepStarted { operation, step, undo: true, .. }
                            if (*operation, *step) == (command.id.operation, command.id.step))
                    });
                    for (node, command) in bend(leader.controller.state(), node, command, undo) {
                        leader.queue(clock, node, command);
                    }
                }
                Effect::Answer { request, reply } => {
                    if let Some(caller) = leader.clients.remove(&request) {
                        out.answers.push((caller, Answer::Statement(bugs::bend_reply(bug, reply))));
                    }
                }
                Effect::NamesChanged | Effect::Announce(_) => {}
                look => out.effects.push(look),
            }
        }
        for (poll, caller) in polls {
            leader.hold(clock, &poll, caller, out);
        }
        leader.answer_held(clock, out);
        self.due = leader.next_wake(now);
        if leader.controller.state().last.0 >= leader.snapshot + SNAPSHOT_RECORDS
            && let Ok((at, state)) = leader.controller.snapshot()
            && self.log.snapshot(at, &state).is_ok()
        {
            leader.snapshot = at.0;
        }
        if !out.records.is_empty() && crash(CrashPoint::AfterTheCommand) {
            return Err(());
        }
        Ok(())
    }
}

/// A conflict deposes; else the log is read anew.
const fn after_refusal(error: &AppendError, now: u64) -> Role {
    match error {
        AppendError::Conflict { .. } => Role::Standby { heard: now },
        _ => Role::Rereads { at: now + PAUSE },
    }
}

/// Appends what was decided; a bug does it whoever has appended since. The outer error: records that are no JSON.
fn append(
    log: &mut dyn Log,
    expected: LogIndex,
    records: &[Record],
    bug: Option<Bug>,
) -> Result<Result<(), AppendError>, ()> {
    let encoded: Result<Vec<_>, _> = records.iter().map(serde_json::to_vec).collect();
    let records = encoded.map_err(|_| ())?;
    let appended = log.append(expected, &records);
    Ok(match (bug, &appended) {
        (Some(Bug::TwoLeaders), Err(AppendError::Conflict { actual, .. })) => {
            log.append(*actual, &records).map(drop)
        }
        _ => appended.map(drop),
    })
}

/// The clients and sidecars that waited lose their connection.
fn broken(leader: &mut Leader) -> Vec<(Caller, Answer)> {
    let error = StatementReply::Error { message: "the controller could not write its log".to_owned() };
    let clients = std::mem::take(&mut leader.clients).into_values();
    let held = std::mem::take(&mut leader.held).into_values().map(|held| (held.caller, Answer::Broken));
    clients.map(|caller| (caller, Answer::Statement(error.clone()))).chain(held).collect()
}
