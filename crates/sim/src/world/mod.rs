//! Everything there is, in virtual time: nodes, sidecars, controllers, scripts and the network between them.
//!
//! One queue of events ordered by time and sequence; every choice comes from one seed, so a run repeats exactly.

use crate::bugs::{self, Bug};
use crate::chance::Chance;
use crate::machine::Machine;
use crate::net::{Network, Place};
use crate::play::{Play, SharedPlay};
use crate::report::Violation;
use crate::seat::{Caller, Message, Process};
use crate::sidecar;
use crate::story::Story;
use crate::sweep::Sweep;
use crate::watch::Watch;
use crate::wire::{Answer, Ask, Finish, Owner, Task, Turn};
use control::Input;
use engine::{Input as EngineInput, PeerMessage, Reply, RequestId, SessionId, SqlError};
use model::{Millis, NodeId, Settings};
use std::collections::{BTreeMap, BTreeSet};
use store::memory::MemoryStore;

/// Requests of the world itself, answered at once.
const PEEK: RequestId = RequestId(u64::MAX);
const PEEK_SESSION: SessionId = SessionId(u64::MAX);
/// A broken or cut connection shows after this long.
const BREAK_SHOWS: u64 = 2_000;
/// Between looks of a standby at the leader.
const SIGN_INTERVAL: u64 = 1_000;

mod locks;
mod nodes;
mod seats;

pub enum Event {
    Answer {
        caller: Caller,
        answer: Answer,
    },
    Statement {
        at: usize,
        from: Place,
        caller: Caller,
        session: Option<u64>,
        sql: String,
    },
    Knock {
        at: usize,
        from: Place,
        caller: Caller,
    },
    Close {
        at: usize,
        session: u64,
    },
    Message {
        to: usize,
        message: Message,
    },
    /// What a controller's look came to, if it is still the same process.
    Seen {
        at: usize,
        life: u64,
        message: Message,
    },
    Peer {
        from: usize,
        to: usize,
        life: u64,
        message: Box<PeerMessage>,
    },
    PeerLost {
        at: usize,
        peer: usize,
        refused: bool,
    },
    Sign {
        at: usize,
        life: u64,
    },
    Fault(crate::faults::Turn),
}

/// A place for a controller, with or without a process.
#[derive(Debug)]
pub struct Seat {
    pub process: Option<Process>,
    pub life: u64,
    pub frozen: bool,
    /// It has a log of its own, which the others know nothing of.
    pub foreign: bool,
    /// The process counts time from here.
    began: u64,
}

/// A request that an engine works on.
struct Asked {
    caller: Caller,
    at: usize,
    from: Place,
    session: Option<u64>,
    /// Of a session of its own, which ends with the reply.
    own: bool,
    sql: String,
}

pub struct World {
    pub now: u64,
    pub chance: Chance,
    pub bug: Option<Bug>,
    pub settings: Settings,
    pub net: Network,
    pub machines: Vec<Machine>,
    pub seats: Vec<Seat>,
    pub store: MemoryStore,
    /// The log of another controller, for nodes that it has nothing to do with.
    foreign: MemoryStore,
    pub play: SharedPlay,
    pub watch: Watch,
    pub violations: Vec<Violation>,
    pub story: Story,
    pub sweep: Sweep,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Faults that began while operations of a kind were under way.
    pub coverage: BTreeMap<(&'static str, &'static str), u64>,
    /// In a thousand turns of a controller with records, so many end in a crash.
    pub controller_crashes: u64,
    /// The sidecar that is given the next command stands still at once.
    pub freeze_at_next_command: bool,
    /// The leader stands still once it has recorded the next command, before anybody hears of it.
    pub freeze_leader_at_next_command: bool,
    /// By how many seconds the clocks of controllers and nodes are wrong.
    pub clock_wrong_by: i64,
    /// Events so far.
    pub steps: u64,
    pub(crate) events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    requests: BTreeMap<u64, Asked>,
    next_request: u64,
    /// Calls that controllers have not answered.
    calls: BTreeMap<(u64, u64), usize>,
    peeked: Option<Result<Reply, SqlError>>,
}

impl World {
    pub fn new(seed: u64, settings: Settings, controllers: usize, bug: Option<Bug>) -> Result<Self, String> {
        let log = |id: u64| MemoryStore::new(&format!("{id:032x}")).map_err(|error| error.to_string());
        let (store, foreign) = (log(seed)?, log(!seed)?);
        let mut world = Self {
            now: 1_000,
            chance: Chance::new(seed),
            bug,
            settings,
            net: Network::new(),
            machines: Vec::new(),
            seats: Vec::new(),
            store,
            foreign,
            play: Play::shared(),
            watch: Watch::default(),
            violations: Vec::new(),
            story: Story::default(),
            sweep: Sweep::default(),
            faults: BTreeMap::new(),
            coverage: BTreeMap::new(),
            controller_crashes: 0,
            freeze_at_next_command: false,
            freeze_leader_at_next_command: false,
            clock_wrong_by: 0,
            steps: 0,
            events: BTreeMap::new(),
            sequence: 0,
            tasks: BTreeMap::new(),
            next_task: 0,
            requests: BTreeMap::new(),
            next_request: 0,
            calls: BTreeMap::new(),
            peeked: None,
        };
        world.play.borrow_mut().bug = bug;
        for at in 0..controllers {
            world.seats.push(Seat { process: None, life: 0, frozen: false, foreign: false, began: 0 });
            world.start_controller(at);
        }
        Ok(world)
    }

    /// What the clocks on the walls show.
    pub fn unix(&self) -> u64 {
        (1_700_000_000 + self.now / 1_000).saturating_add_signed(self.clock_wrong_by)
    }

    pub fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at.max(self.now), self.sequence), event);
    }

    pub fn count_fault(&mut self, kind: &'static str) {
        self.story.add(self.now, || format!("fault: {kind}"));
        *self.faults.entry(kind).or_default() += 1;
    }

    pub fn cover(&mut self, fault: &'static str, running: &BTreeSet<&'static str>) {
        for operation in running {
            *self.coverage.entry((fault, operation)).or_default() += 1;
        }
    }

    pub fn violate(&mut self, invariant: &'static str, detail: String) {
        self.violations.push(Violation { invariant, step: self.steps, at_ms: self.now, detail });
    }

    /// Runs until `until`, or until something is violated.
    pub fn run_to(&mut self, until: u64) {
        while self.violations.is_empty() {
            let event = self.events.first_key_value().map_or(u64::MAX, |(&(at, _), _)| at);
            let engines = self.machines.iter().enumerate().filter(|(_, machine)| !machine.is_frozen());
            let engine = engines.map(|(at, machine)| (machine.wake, at)).min();
            let (wake, at) = engine.unwrap_or((u64::MAX, 0));
            let seats = self.seats.iter().enumerate().filter(|(_, seat)| !seat.frozen);
            let due = seats.filter_map(|(at, seat)| Some((seat.process.as_ref()?.due, at))).min();
            let (due, seat) = due.unwrap_or((u64::MAX, 0));
            let next = event.min(wake).min(due);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            self.steps += 1;
            if event <= wake && event <= due {
                if let Some((_, event)) = self.events.pop_first() {
                    self.take(event);
                }
            } else if wake <= due {
                self.engine(at, EngineInput::Tick);
            } else {
                self.turn(seat);
            }
        }
        self.now = self.now.max(until);
    }

    fn take(&mut self, event: Event) {
        let Some(event) = self.hold_back(event) else { return };
        match event {
            Event::Answer { caller, answer } => self.answer(caller, answer),
            Event::Statement { at, from, caller, session, sql } => {
                self.arrive(at, from, caller, session, sql);
            }
            Event::Knock { at, from, caller } => {
                let answer = if self.machines[at].listens(self.now) { Answer::Done } else { Answer::Refused };
                if self.net.hears(Place::Node(at), from) {
                    self.push(self.now + 1, Event::Answer { caller, answer });
                }
            }
            Event::Close { at, session } => {
                self.machines[at].sessions.remove(&session);
                self.engine(at, EngineInput::SessionClosed(SessionId(session)));
            }
            Event::Message { to, message } => self.message(to, message),
            Event::Seen { at, life, message } => {
                if self.seats[at].life == life {
                    self.message(at, message);
                }
            }
            Event::Peer { from, to, life, message } => {
                if self.machines[to].engine.is_some() && self.machines[to].life == life {
                    if message.piece().is_some() {
                        self.copy_goes_on(to);
                    }
                    let from = self.machines[from].node.clone();
                    self.engine(to, EngineInput::Peer { from, message: *message });
                } else {
                    self.push(self.now, Event::PeerLost { at: from, peer: to, refused: false });
                }
            }
            Event::PeerLost { at, peer, refused } => {
                let peer = self.machines[peer].node.clone();
                let input =
                    if refused { EngineInput::PeerRefused(peer) } else { EngineInput::PeerUnreachable(peer) };
                self.engine(at, input);
            }
            Event::Sign { at, life } => self.standby(at, life),
            Event::Fault(turn) => crate::faults::happen(self, turn),
        }
    }

    // Scripts.

    pub fn spawn(&mut self, task: Task) {
        self.next_task += 1;
        self.go_on(self.next_task, task, None);
    }

    fn answer(&mut self, caller: Caller, answer: Answer) {
        if let Some(Task { owner: Owner::Sidecar { at, .. }, .. }) = self.tasks.get(&caller.task)
            && self.machines[*at].sidecar_frozen_until > self.now
        {
            let thaw = self.machines[*at].sidecar_frozen_until;
            return self.push(thaw, Event::Answer { caller, answer });
        }
        if let (Answer::Silent, Some(Task { owner: Owner::Sidecar { at, .. }, .. })) =
            (&answer, self.tasks.get(&caller.task))
            && let Some(until) = self.copy_has_until(*at, caller)
        {
            return self.push(until, Event::Answer { caller, answer });
        }
        self.calls.remove(&(caller.task, caller.ask));
        if self.tasks.get(&caller.task).is_some_and(|task| task.waits_for == caller.ask)
            && let Some(task) = self.tasks.remove(&caller.task)
        {
            if let (Owner::Sidecar { at, .. }, Answer::Orders(orders)) = (task.owner, &answer) {
                crate::invariants::leaders::orders_arrive(self, at, orders.epoch);
            }
            self.go_on(caller.task, task, Some(answer));
        }
    }

    fn go_on(&mut self, id: u64, mut task: Task, answer: Option<Answer>) {
        let owner = task.owner;
        match task.turn(Millis(self.now), answer) {
            Turn::Asks(ask) => {
                task.waits_for += 1;
                let caller = Caller { task: id, ask: task.waits_for };
                self.tasks.insert(id, task);
                self.ask(owner, caller, ask);
            }
            Turn::Ended(finish) => self.finish(owner, finish),
        }
        if let Owner::Sidecar { at, life } = owner {
            self.work_lanes(at, life);
        }
    }

    fn place(owner: Owner) -> Place {
        match owner {
            Owner::Sidecar { at, .. } => Place::Node(at),
            Owner::Controller { at, .. } => Place::Controller(at),
            Owner::Client => Place::Client,
        }
    }

    pub fn find(&self, node: &NodeId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.node == *node)
    }

    fn ask(&mut self, owner: Owner, caller: Caller, ask: Ask) {
        let from = Self::place(owner);
        let silent = |world: &mut Self, time_max: u64| {
            world.push(world.now + time_max, Event::Answer { caller, answer: Answer::Silent });
        };
        match ask {
            Ask::Sleep { millis } => {
                self.push(self.now + millis, Event::Answer { caller, answer: Answer::Done });
            }
            Ask::Begin { id, epoch } => {
                if let Place::Node(at) = from {
                    crate::invariants::leaders::command_begins(self, at, id, epoch);
                }
                self.push(self.now, Event::Answer { caller, answer: Answer::Done });
            }
            Ask::Directory { group, make } => {
                if let (Place::Node(at), true) = (from, make)
                    && let Some(engine) = &mut self.machines[at].engine
                {
                    let _made = engine.storage().make_directory(group.as_str());
                }
                self.push(self.now, Event::Answer { caller, answer: Answer::Done });
            }
            Ask::Missing { to, table } => {
                let answer = self.missing(&to, &table);
                self.push(self.now, Event::Answer { caller, answer });
            }
            Ask::Close { to, session } => {
                if let Some(at) = self.find(&to) {
                    self.push(self.now, Event::Close { at, session });
                }
                self.push(self.now, Event::Answer { caller, answer: Answer::Done });
            }
            Ask::Sql { to, session, sql, time_max } => {
                silent(self, time_max);
                let Some(at) = self.find(&to) else { return };
                if from == Place::Node(at)
                    && sql.starts_with("JOIN CLUSTER ")
                    && let Some(copying) = &mut self.machines[at].sidecar.borrow_mut().copying
                {
                    copying.caller = Some(caller);
                }
                if self.net.hears(from, Place::Node(at)) {
                    let arrival = self.net.arrival(self.now, from, Place::Node(at), &mut self.chance);
                    self.push(arrival, Event::Statement { at, from, caller, session, sql });
                }
            }
            Ask::Knock { to, time_max } => {
                silent(self, time_max);
                let Some(at) = self.find(&to) else { return };
                if self.net.hears(from, Place::Node(at)) {
                    let arrival = self.net.arrival(self.now, from, Place::Node(at), &mut self.chance);
                    self.push(arrival, Event::Knock { at, from, caller });
                }
            }
            Ask::Orders { controller, poll, time_max } => {
                silent(self, time_max);
                if self.net.duplicates > 0 && self.chance.hits(self.net.duplicates) {
                    let twice = Caller { task: u64::MAX, ask: 0 };
                    self.call(from, controller, twice, Message::Poll { poll: poll.clone(), caller: twice });
                }
                self.call(from, controller, caller, Message::Poll { poll, caller });
            }
            Ask::Statement { controller, statement, time_max } => {
                silent(self, time_max);
                self.call(from, controller, caller, Message::Statement { statement, caller });
            }
        }
    }

    fn call(&mut self, from: Place, controller: usize, caller: Caller, message: Message) {
        let to = Place::Controller(controller);
        if controller < self.seats.len() && self.net.hears(from, to) {
            let arrival = self.net.arrival(self.now, from, to, &mut self.chance);
            self.calls.insert((caller.task, caller.ask), controller);
            self.push(arrival, Event::Message { to: controller, message });
        }
    }

    fn finish(&mut self, owner: Owner, finish: Finish) {
        match (owner, finish) {
            (Owner::Sidecar { at, life }, Finish::Command { id, outcome }) => {
                let shared = self.machines[at].sidecar.clone();
                if self.machines[at].sidecar_life != life {
                    return;
                }
                let mut sidecar = shared.borrow_mut();
                if let Some(of) = self.machines[at].lane_of.remove(&id) {
                    sidecar.lanes[of as usize].busy = false;
                }
                sidecar.finish(id, outcome);
                drop(sidecar);
                self.report(owner, &shared);
                bugs::add_late(self);
                bugs::say_later(self, at);
            }
            (Owner::Sidecar { at, life }, Finish::Watched { peer, news }) => {
                let shared = self.machines[at].sidecar.clone();
                if self.machines[at].sidecar_life != life {
                    return;
                }
                if news {
                    self.report(owner, &shared);
                }
                if shared.borrow().suspects.contains_key(&peer) {
                    self.spawn(Task::new(owner, |wire| {
                        sidecar::watch(wire, shared, peer, sidecar::PEER_INTERVAL)
                    }));
                } else {
                    self.machines[at].watched.remove(&peer);
                }
            }
            (Owner::Controller { at, life }, finish) if self.seats[at].life == life => {
                let input = match finish {
                    Finish::Look(mut answer) => {
                        bugs::bend_look(self, &mut answer);
                        let message = Message::Seen(Input::Polled(answer));
                        if self.net.late_looks == 0 {
                            return self.message(at, message);
                        }
                        let arrival = self.now + self.chance.below(self.net.late_looks);
                        return self.push(arrival, Event::Seen { at, life, message });
                    }
                    Finish::Measured { node, token, measured } => Input::Measured { node, token, measured },
                    Finish::Command { .. } | Finish::Watched { .. } | Finish::Nothing => return,
                };
                self.message(at, Message::Seen(input));
            }
            _ => {}
        }
    }

    /// A sidecar has news, and asks once more if it may.
    fn report(&mut self, owner: Owner, shared: &sidecar::Shared) {
        if shared.borrow().polls_under_way < 2 {
            let sidecar = shared.clone();
            self.spawn(Task::new(owner, |wire| sidecar::report(wire, sidecar)));
        }
    }

    /// Begins the next command of every lane that is free, and watches new suspects.
    fn work_lanes(&mut self, at: usize, life: u64) {
        if self.machines[at].sidecar_life != life {
            return;
        }
        let shared = self.machines[at].sidecar.clone();
        let owner = Owner::Sidecar { at, life };
        for of in sidecar::Of::ALL {
            let item = {
                let mut sidecar = shared.borrow_mut();
                let lane = &mut sidecar.lanes[of as usize];
                if lane.busy {
                    continue;
                }
                let Some(item) = lane.queue.pop_front() else { continue };
                lane.busy = true;
                item
            };
            self.machines[at].lane_of.insert(item.command.id, of);
            let sidecar = shared.clone();
            self.spawn(Task::new(owner, |wire| sidecar::carry_out(wire, sidecar, item)));
        }
        let suspects: Vec<NodeId> = shared.borrow().suspects.keys().cloned().collect();
        for peer in suspects {
            if peer != self.machines[at].node && self.machines[at].watched.insert(peer.clone()) {
                let sidecar = shared.clone();
                self.spawn(Task::new(owner, |wire| sidecar::watch(wire, sidecar, peer, 0)));
            }
        }
    }
}
