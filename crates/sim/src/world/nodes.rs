//! The nodes of the world: statements, messages between them, starts and kills.

use super::{Asked, BREAK_SHOWS, Event, PEEK, PEEK_SESSION, World};
use crate::bugs::Bug;
use crate::looks::SHOW_CLUSTERS;
use crate::machine::Machine;
use crate::net::Place;
use crate::play::TableIs;
use crate::seat::Caller;
use crate::sidecar::{self, Missing};
use crate::wire::{Answer, Owner, Task};
use engine::{Input as EngineInput, Output, PeerMessage, Reply, RequestId, SessionId, SqlError};
use model::{Millis, NodeId};

impl World {
    pub(super) fn arrive(
        &mut self,
        at: usize,
        from: Place,
        caller: Caller,
        session: Option<u64>,
        sql: String,
    ) {
        if !self.machines[at].listens(self.now) {
            if self.net.hears(Place::Node(at), from) {
                self.push(self.now + 1, Event::Answer { caller, answer: Answer::Refused });
            }
            return;
        }
        if let Some(session) = session
            && !self.machines[at].has_session(session, from)
        {
            if self.net.hears(Place::Node(at), from) {
                self.push(self.now + 1, Event::Answer { caller, answer: Answer::Broken });
            }
            return;
        }
        crate::story::statement(self, at, &format!("{from:?}"), &sql);
        if from == Place::Node(at) && crate::story::changes(&sql) && crate::sweep::node_passes(self, at) {
            return;
        }
        crate::invariants::before_statement(self, at, &sql);
        if self.gets_no_lock(at, &sql) {
            return;
        }
        // Asked for so often that reading its rows would be a good part of a run.
        if sql == SHOW_CLUSTERS {
            let shown = crate::invariants::clusters(self, at);
            self.send_answer(at, from, caller, Answer::Clusters(shown));
            return self.engine(at, EngineInput::Tick);
        }
        self.next_request += 1;
        let request = self.next_request;
        let own = session.is_none();
        let session = session.unwrap_or((1 << 50) | request);
        let asked = Asked { caller, at, from, session: Some(session), own, sql: sql.clone() };
        self.requests.insert(request, asked);
        let statement =
            EngineInput::Statement { request: RequestId(request), session: SessionId(session), sql };
        self.engine(at, statement);
    }

    /// The names of tables that clients may write to are in the list, or the list is no good.
    pub(super) fn missing(&self, to: &NodeId, table: &str) -> Answer {
        let there = self.play.borrow().tables.get(table).is_some_and(|table| table.is == TableIs::There);
        let machine = self.find(to).map(|at| &self.machines[at]);
        // Nobody would make a table of what was dropped a moment ago.
        let missing = match machine {
            Some(machine) if there => machine.sidecar.borrow().missing(table, Millis(self.now)),
            _ => Missing::Held,
        };
        Answer::Missing(missing)
    }

    pub fn engine(&mut self, at: usize, input: EngineInput) {
        let (now, unix) = (Millis(self.now), self.unix());
        let machine = &mut self.machines[at];
        // Whoever looks at one that stands still sees nothing.
        if machine.is_frozen() {
            return;
        }
        let Some(engine) = &mut machine.engine else { return };
        let outputs = engine.handle(now, unix, input);
        machine.wake = engine.next_wake().map_or(u64::MAX, |wake| wake.0);
        self.outputs(at, outputs);
    }

    pub fn outputs(&mut self, at: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { request: PEEK, reply } => self.peeked = Some(reply),
                Output::Reply { request, reply } => self.reply(request.0, reply),
                Output::Send { to, message } => self.transmit(at, &to, message),
            }
        }
    }

    fn reply(&mut self, request: u64, reply: Result<Reply, SqlError>) {
        let Some(asked) = self.requests.remove(&request) else { return };
        crate::story::reply(self, asked.at, &asked.sql, &reply);
        crate::invariants::after_statement(self, asked.at, &asked.sql, &reply);
        if let (true, Some(session)) = (asked.own, asked.session) {
            self.push(self.now, Event::Close { at: asked.at, session });
        }
        let here = Place::Node(asked.at);
        if here == asked.from
            && crate::story::changes(&asked.sql)
            && crate::sweep::node_passes(self, asked.at)
        {
            return;
        }
        self.send_answer(asked.at, asked.from, asked.caller, Answer::Sql(reply));
    }

    /// What a node says goes to whoever asked, if it can reach them.
    fn send_answer(&mut self, at: usize, to: Place, caller: Caller, answer: Answer) {
        let here = Place::Node(at);
        if !self.net.hears(here, to) {
            return;
        }
        let arrival = self.net.arrival(self.now, here, to, &mut self.chance);
        let lost = self.net.lost_replies > 0 && self.chance.hits(self.net.lost_replies);
        if lost {
            self.count_fault("lost reply");
        }
        let answer = if lost { Answer::Broken } else { answer };
        self.push(arrival, Event::Answer { caller, answer });
    }

    fn transmit(&mut self, from: usize, to: &NodeId, message: PeerMessage) {
        let Some(to) = self.find(to) else { return };
        let (here, there) = (Place::Node(from), Place::Node(to));
        let mut arrival = self.net.arrival(self.now, here, there, &mut self.chance);
        if matches!(message, PeerMessage::Work { .. }) {
            arrival += self.net.stall(&mut self.chance);
        }
        if !self.net.hears(here, there) {
            if self.machines[from].broken_to.insert(to) {
                self.push(self.now + BREAK_SHOWS, Event::PeerLost { at: from, peer: to, refused: false });
            }
            return;
        }
        self.machines[from].broken_to.remove(&to);
        if self.net.piece_takes > 0 && message.piece().is_some() {
            match self.piece_arrives(from, to, &message) {
                Some(after) => arrival = arrival.max(after) + self.net.piece_takes,
                None => return,
            }
        }
        if self.machines[to].engine.is_none() {
            self.push(arrival, Event::PeerLost { at: from, peer: to, refused: true });
        } else if self.net.breaks > 0 && self.chance.hits(self.net.breaks) {
            self.count_fault("broken connection");
            let same =
                |event: &Event| matches!(event, Event::Peer { from: f, to: t, .. } if (*f, *t) == (from, to));
            self.events.retain(|_, event| !same(event));
            self.push(arrival, Event::PeerLost { at: from, peer: to, refused: false });
        } else {
            let life = self.machines[to].life;
            self.push(arrival, Event::Peer { from, to, life, message: Box::new(message) });
        }
    }

    /// A statement of the world itself, to see what a client of this node would see; `None` when it is down, or
    /// when the node cannot answer at once.
    pub fn peek(&mut self, at: usize, sql: &str) -> Option<Result<Reply, SqlError>> {
        self.peeked = None;
        self.machines[at].engine.as_ref()?;
        self.engine(at, EngineInput::Statement { request: PEEK, session: PEEK_SESSION, sql: sql.to_owned() });
        self.peeked.take()
    }

    /// Nodes that nobody has asked to leave, and those that were asked and are still in the user's cluster; not those
    /// that are gone for good.
    pub fn members(&mut self) -> Vec<usize> {
        let leaving = self.play.borrow().leaving.clone();
        let stays = |world: &mut Self, at: usize| {
            !leaving.contains(&world.machines[at].node)
                || crate::invariants::clusters(world, at).keys().any(|group| group.as_str() == "c")
        };
        (0..self.machines.len()).filter(|at| !self.machines[*at].gone && stays(self, *at)).collect()
    }

    pub fn add_node(&mut self) -> usize {
        let at = self.machines.len();
        let (controllers, bug) = (self.seats.len(), self.bug);
        self.machines.push(Machine::new(at, controllers, bug));
        self.start_node(at);
        at
    }

    pub fn start_node(&mut self, at: usize) {
        let (now, seed) = (self.now, self.chance.draw());
        let node = &self.machines[at].node;
        self.story.add(now, || format!("{node} starts"));
        if let Err(error) = self.machines[at].open(now, seed) {
            self.violate("8 convergence", format!("node {at} does not start: {error}"));
        }
        self.start_sidecar(at);
    }

    /// Begins the sidecar's polls; its process is new.
    pub fn start_sidecar(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.sidecar_life += 1;
        machine.lane_of.clear();
        machine.watched.clear();
        machine.sidecar.borrow_mut().restart();
        let owner = Owner::Sidecar { at, life: machine.sidecar_life };
        let shared = machine.sidecar.clone();
        self.spawn(Task::new(owner, |wire| sidecar::polls(wire, shared)));
    }

    /// kill -9 of the sidecar alone; searchd starts it again at once.
    pub fn kill_sidecar(&mut self, at: usize) {
        let node = &self.machines[at].node;
        self.story.add(self.now, || format!("the sidecar of {node} is killed"));
        let life = self.machines[at].sidecar_life;
        self.tasks.retain(|_, task| task.owner != Owner::Sidecar { at, life });
        let own = |_: &u64, (from, _): &mut (Place, u64)| *from == Place::Node(at);
        let closed: Vec<u64> =
            self.machines[at].sessions.extract_if(.., own).map(|(session, _)| session).collect();
        for session in closed {
            self.engine(at, EngineInput::SessionClosed(SessionId(session)));
        }
    }

    /// Node and sidecar stand still: who asks them is not refused, and gets no answer.
    pub fn freeze_node(&mut self, at: usize, lasts: u64) {
        let machine = &mut self.machines[at];
        machine.held = Some(Vec::new());
        machine.sidecar_frozen_until = self.now + lasts;
        machine.disturbed = self.now;
        machine.cut_off = true;
        let node = &machine.node;
        self.story.add(self.now, || format!("{node} stands still for {lasts} ms"));
    }

    /// It goes on: with its own clock first, or with what has come meanwhile.
    pub fn thaw_node(&mut self, at: usize) {
        let clock_first = self.chance.hits(500);
        let machine = &mut self.machines[at];
        let Some(held) = machine.held.take() else { return };
        machine.sidecar_frozen_until = self.now;
        machine.disturbed = self.now;
        machine.thawed = self.now;
        machine.cut_off = false;
        if !clock_first {
            machine.wake = machine.wake.max(self.now + 1);
        }
        let node = &machine.node;
        self.story.add(self.now, || format!("{node} goes on, {} were waiting", held.len()));
        for event in held {
            self.push(self.now, event);
        }
    }

    /// What comes for a node that stands still waits.
    pub(super) fn hold_back(&mut self, event: Event) -> Option<Event> {
        let (Event::Statement { at, .. }
        | Event::Knock { at, .. }
        | Event::Close { at, .. }
        | Event::Peer { to: at, .. }
        | Event::PeerLost { at, .. }) = event
        else {
            return Some(event);
        };
        match &mut self.machines[at].held {
            Some(held) => {
                held.push(event);
                None
            }
            None => Some(event),
        }
    }

    /// It died while it stood still: what waited for it never arrives.
    fn lose_held(&mut self, at: usize) {
        for event in self.machines[at].held.take().unwrap_or_default() {
            match event {
                Event::Statement { from, caller, .. } if self.net.hears(Place::Node(at), from) => {
                    self.push(self.now + 1, Event::Answer { caller, answer: Answer::Broken });
                }
                Event::Peer { from, .. } => {
                    self.push(self.now + 1, Event::PeerLost { at: from, peer: at, refused: false });
                }
                _ => {}
            }
        }
        let machine = &mut self.machines[at];
        machine.cut_off = false;
        machine.sidecar_frozen_until = self.now;
    }

    /// kill -9 of the node and of the sidecar that it started.
    pub fn kill_node(&mut self, at: usize) {
        let node = &self.machines[at].node;
        self.story.add(self.now, || format!("{node} is killed"));
        self.kill_sidecar(at);
        if self.machines[at].is_frozen() {
            self.lose_held(at);
        }
        let machine = &mut self.machines[at];
        if let Some(engine) = machine.engine.take() {
            machine.storage = Some(engine.into_storage());
        }
        if self.bug == Some(Bug::NoBinlog) {
            machine.forget_writes();
        }
        machine.wake = u64::MAX;
        machine.sidecar_life += 1;
        let gone: Vec<u64> =
            self.requests.iter().filter(|(_, asked)| asked.at == at).map(|(request, _)| *request).collect();
        for request in gone {
            if let Some(asked) = self.requests.remove(&request)
                && self.net.hears(Place::Node(at), asked.from)
            {
                self.push(self.now + 1, Event::Answer { caller: asked.caller, answer: Answer::Broken });
            }
        }
    }
}
