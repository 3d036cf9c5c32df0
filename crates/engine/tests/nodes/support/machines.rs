//! Whole engines on a virtual network: statements in, replies out, kills, restarts and partitions.

use super::chance::Chance;
use engine::{
    Engine, EngineConfig, Input, Output, PeerMessage, Reply, RequestId, SessionId, SqlError, Timing, Value,
    storage::{SqliteStorage, Storage},
};
use model::{Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet};

pub type Answer = Result<Reply, SqlError>;

/// How long a started process takes until it answers clients.
const START_MILLIS: u64 = 1_500;

struct Machine {
    config: EngineConfig,
    engine: Option<Engine>,
    /// What the last process left behind.
    storage: Option<Box<dyn Storage>>,
    life: u64,
}

enum Event {
    Deliver { from: usize, to: usize, bytes: Vec<u8>, life: u64 },
    Refused { at: usize, peer: usize },
    Broken { at: usize, peer: usize },
}

pub struct Nodes {
    pub now: u64,
    pub chance: Chance,
    /// Pairs that cannot hear each other.
    pub cut: BTreeSet<(usize, usize)>,
    pub delay_max: u64,
    /// In a hundred messages, so many break their connection.
    pub breaks: u64,
    /// All that nodes say to each other, where it is to be kept.
    pub heard: Option<Vec<Vec<u8>>>,
    machines: Vec<Machine>,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    last: BTreeMap<(usize, usize), u64>,
    answers: BTreeMap<u64, Answer>,
    /// Which process was asked.
    asked: BTreeMap<u64, (usize, u64)>,
    next_request: u64,
}

pub const VERSION: &str = "29.0.2-embedded";

impl Nodes {
    pub fn new(count: usize, seed: u64) -> Self {
        Self::with_timing(count, seed, &Timing::default())
    }

    pub fn with_timing(count: usize, seed: u64, timing: &Timing) -> Self {
        let mut nodes = Self {
            now: 1_000,
            chance: Chance::new(seed),
            cut: BTreeSet::new(),
            delay_max: 1,
            breaks: 0,
            heard: None,
            machines: Vec::new(),
            events: BTreeMap::new(),
            sequence: 0,
            last: BTreeMap::new(),
            answers: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: 0,
        };
        for at in 0..count {
            nodes.add(timing);
            nodes.open(at);
        }
        nodes
    }

    fn add(&mut self, timing: &Timing) {
        let number = self.machines.len() + 1;
        let config = EngineConfig {
            node: NodeId::new(format!("127.0.0.1:{number}312")).expect("valid"),
            replication_address: format!("127.0.0.1:{number}320:replication"),
            uuid: format!("{number:032x}"),
            server_id: number as u8,
            version: VERSION.into(),
            data_dir: format!("/data/{number}"),
            timing: timing.clone(),
        };
        let storage = SqliteStorage::memory().expect("memory");
        self.machines.push(Machine { config, engine: None, storage: Some(Box::new(storage)), life: 0 });
    }

    pub fn config(&self, at: usize) -> &EngineConfig {
        &self.machines[at].config
    }

    pub fn count(&self) -> usize {
        self.machines.len()
    }

    pub fn alive(&self, at: usize) -> bool {
        self.machines[at].engine.is_some()
    }

    pub fn storage(&mut self, at: usize) -> &mut dyn Storage {
        let machine = &mut self.machines[at];
        match (&mut machine.engine, &mut machine.storage) {
            (Some(engine), _) => engine.storage(),
            (None, Some(storage)) => &mut **storage,
            (None, None) => panic!("a machine without storage"),
        }
    }

    fn unix(&self) -> u64 {
        1_700_000_000 + self.now / 1_000
    }

    fn open(&mut self, at: usize) {
        let (now, unix, seed) = (Millis(self.now), self.unix(), self.chance.next());
        let machine = &mut self.machines[at];
        let storage = machine.storage.take().expect("a stopped machine");
        machine.life += 1;
        machine.engine = Some(Engine::open(machine.config.clone(), storage, now, unix, seed).expect("opens"));
    }

    /// Starts a process and waits until it would answer clients.
    pub fn start(&mut self, at: usize) {
        self.open(at);
        self.run(START_MILLIS);
    }

    pub fn kill(&mut self, at: usize) {
        let engine = self.machines[at].engine.take().expect("alive");
        self.machines[at].storage = Some(engine.into_storage());
    }

    /// A clean stop.
    pub fn stop(&mut self, at: usize) {
        let now = Millis(self.now);
        let outputs = self.machines[at].engine.as_mut().expect("alive").shutdown(now);
        self.carry_out(at, outputs);
        self.kill(at);
        self.run(30);
    }

    pub fn cut_off(&mut self, at: usize) {
        for other in (0..self.count()).filter(|other| *other != at) {
            self.cut.insert((at.min(other), at.max(other)));
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    pub fn input(&mut self, at: usize, input: Input) {
        let (now, unix) = (Millis(self.now), self.unix());
        if let Some(engine) = &mut self.machines[at].engine {
            let outputs = engine.handle(now, unix, input);
            self.carry_out(at, outputs);
        }
    }

    fn carry_out(&mut self, at: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { request, reply } => {
                    let before = self.answers.insert(request.0, reply);
                    assert!(before.is_none(), "answered twice");
                }
                Output::Send { to, message } => self.transmit(at, &to, &message),
            }
        }
    }

    fn transmit(&mut self, from: usize, to: &NodeId, message: &PeerMessage) {
        if let Some(heard) = &mut self.heard {
            heard.push(message.encode());
        }
        let arrival = self.now + 1 + self.chance.below(self.delay_max);
        let Some(to) = self.machines.iter().position(|machine| machine.config.node == *to) else { return };
        let arrival = arrival.max(self.last.get(&(from, to)).copied().unwrap_or(0));
        self.last.insert((from, to), arrival);
        if self.cut.contains(&(from.min(to), from.max(to))) {
            return;
        }
        if !self.alive(to) {
            self.push(arrival, Event::Refused { at: from, peer: to });
        } else if self.breaks > 0 && self.chance.percent(self.breaks) {
            let same = |event: &Event| matches!(event, Event::Deliver { from: f, to: t, .. } if (*f, *t) == (from, to));
            self.events.retain(|_, event| !same(event));
            self.push(arrival, Event::Broken { at: from, peer: to });
        } else {
            let life = self.machines[to].life;
            self.push(arrival, Event::Deliver { from, to, bytes: message.encode(), life });
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Refused { at, peer } => {
                let peer = self.machines[peer].config.node.clone();
                self.input(at, Input::PeerRefused(peer));
            }
            Event::Broken { at, peer } => {
                let peer = self.machines[peer].config.node.clone();
                self.input(at, Input::PeerUnreachable(peer));
            }
            Event::Deliver { from, to, bytes, life } => {
                if self.machines[to].life == life && self.alive(to) {
                    let from = self.machines[from].config.node.clone();
                    let message = PeerMessage::decode(&bytes).expect("own bytes");
                    self.input(to, Input::Peer { from, message });
                } else if self.alive(from) {
                    // The process died with the message in its hands.
                    self.push(self.now, Event::Broken { at: from, peer: to });
                }
            }
        }
    }

    pub fn run_to(&mut self, until: u64) {
        loop {
            let event = self.events.first_key_value().map_or(u64::MAX, |(&(at, _), _)| at);
            let wakes = self.machines.iter().enumerate();
            let wake =
                wakes.filter_map(|(at, machine)| Some((machine.engine.as_ref()?.next_wake()?.0, at))).min();
            let (wake, at) = wake.unwrap_or((u64::MAX, 0));
            let next = event.min(wake);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if event <= wake {
                let (_, event) = self.events.pop_first().expect("seen");
                self.take(event);
            } else {
                self.input(at, Input::Tick);
            }
        }
        self.now = until;
    }

    pub fn run(&mut self, millis: u64) {
        self.run_to(self.now + millis);
    }

    /// Sends a statement on a session of its own; the answer comes later.
    pub fn send(&mut self, at: usize, sql: &str) -> u64 {
        let session = 1_000_000 + self.next_request;
        self.send_on(at, session, sql)
    }

    pub fn send_on(&mut self, at: usize, session: u64, sql: &str) -> u64 {
        self.next_request += 1;
        let request = self.next_request;
        self.asked.insert(request, (at, self.machines[at].life));
        let statement = Input::Statement {
            request: RequestId(request),
            session: SessionId(session),
            sql: sql.to_owned(),
        };
        self.input(at, statement);
        request
    }

    pub fn answered(&self, request: u64) -> Option<&Answer> {
        self.answers.get(&request)
    }

    /// Whether the process that was asked is dead, so that no answer will come.
    pub fn is_orphan(&self, request: u64) -> bool {
        self.asked.get(&request).is_none_or(|&(at, life)| !self.alive(at) || self.machines[at].life != life)
    }

    pub fn wait(&mut self, request: u64, what: &str) -> Answer {
        let end = self.now + 60_000;
        while !self.answers.contains_key(&request) {
            assert!(self.now < end, "no answer to {what}");
            self.run(1);
        }
        self.answers.remove(&request).expect("seen")
    }

    pub fn sql(&mut self, at: usize, sql: &str) -> Answer {
        let request = self.send(at, sql);
        self.wait(request, sql)
    }

    pub fn sql_on(&mut self, at: usize, session: u64, sql: &str) -> Answer {
        let request = self.send_on(at, session, sql);
        self.wait(request, sql)
    }

    /// Runs statements that must succeed.
    pub fn ok(&mut self, at: usize, statements: &[&str]) {
        for sql in statements {
            if let Err(error) = self.sql(at, sql) {
                panic!("{sql}: {error}");
            }
        }
    }

    pub fn error(&mut self, at: usize, sql: &str) -> String {
        self.sql(at, sql).expect_err(sql).message
    }

    /// Rows as text; NULL is `None`.
    pub fn rows(&mut self, at: usize, sql: &str) -> Vec<Vec<Option<String>>> {
        match self.sql(at, sql) {
            Ok(Reply::Rows(set)) => set.rows.iter().map(|row| row.iter().map(text).collect()).collect(),
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The one value of a result.
    pub fn value(&mut self, at: usize, sql: &str) -> String {
        let rows = self.rows(at, sql);
        rows.first().and_then(|row| row.last().cloned().flatten()).unwrap_or_default()
    }

    pub fn status(&mut self, at: usize, cluster: &str, row: &str) -> String {
        self.value(at, &format!("SHOW STATUS LIKE 'cluster_{cluster}_{row}'"))
    }

    /// Waits until `done`; fails after `millis`.
    pub fn until(&mut self, millis: u64, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + millis;
        while !done(self) {
            assert!(self.now < end, "not within {millis} ms: {what}");
            self.run(20);
        }
    }

    pub fn synced(&mut self, at: usize, cluster: &str) -> bool {
        self.alive(at)
            && self.status(at, cluster, "status") == "primary"
            && self.status(at, cluster, "node_state") == "synced"
    }
}

/// A value as the MySQL protocol sends it.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Int(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Text(text) => Some(text.clone()),
    }
}
