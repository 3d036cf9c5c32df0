//! Replication clusters alone, over maps instead of storage: many nodes, virtual time, faults.

use super::chance::Chance;
use engine::{
    SqlError, Timing,
    cluster::{
        Cluster, ClusterMessage, Descriptor, Host, JoinAnswer, Member, Payload, Standing, Ticket, Write,
    },
};
use model::{Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet};

pub type Table = BTreeMap<u64, u64>;
pub type Outcome = Result<(), SqlError>;

/// One node: its durable state and, while it lives, its process.
pub struct Node {
    pub id: NodeId,
    pub tables: BTreeMap<String, Table>,
    pub saved: Option<Descriptor>,
    pub cluster: Option<Cluster>,
    pub alive: bool,
    pub incarnation: u64,
    pub finished: BTreeMap<u64, Outcome>,
    exports: BTreeMap<u64, Vec<Payload>>,
    imports: BTreeMap<u64, BTreeMap<String, Table>>,
}

enum Event {
    Deliver { from: usize, to: usize, bytes: Vec<u8>, incarnation: u64 },
    Unreachable { at: usize, peer: usize },
}

pub struct Net {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub chance: Chance,
    pub timing: Timing,
    pub options: String,
    /// Pairs that cannot hear each other.
    pub cut: BTreeSet<(usize, usize)>,
    /// Links that carry nothing one way: from, to.
    pub deaf: BTreeSet<(usize, usize)>,
    /// Processes that stand still until then; what comes meanwhile waits.
    pub paused: BTreeMap<usize, u64>,
    /// In a hundred messages, so many break the connection: it and all under way behind it are lost.
    pub breaks: u64,
    pub delay_max: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    last: BTreeMap<(usize, usize), u64>,
    next_ticket: u64,
}

struct Side<'a> {
    now: u64,
    chance: &'a mut Chance,
    node: &'a mut NodeParts,
    out: Vec<(NodeId, ClusterMessage)>,
}

struct NodeParts {
    tables: BTreeMap<String, Table>,
    saved: Option<Descriptor>,
    finished: BTreeMap<u64, Outcome>,
    exports: BTreeMap<u64, Vec<Payload>>,
    imports: BTreeMap<u64, BTreeMap<String, Table>>,
}

type Sets = Vec<(String, u64, u64)>;

impl Host for Side<'_> {
    fn now(&self) -> Millis {
        Millis(self.now)
    }
    fn random(&mut self) -> u64 {
        self.chance.next()
    }
    fn send(&mut self, to: &NodeId, message: ClusterMessage) {
        self.out.push((to.clone(), message));
    }
    fn apply(&mut self, writes: &[Payload]) -> Result<(), String> {
        for write in writes {
            let sets: Sets = postcard::from_bytes(&write.0).expect("own bytes");
            for (table, key, value) in sets {
                self.node.tables.entry(table).or_default().insert(key, value);
            }
        }
        Ok(())
    }
    fn save(&mut self, descriptor: &Descriptor) -> Result<(), String> {
        self.node.saved = Some(descriptor.clone());
        Ok(())
    }
    fn finish(&mut self, ticket: Ticket, outcome: Outcome) {
        let before = self.node.finished.insert(ticket.0, outcome);
        assert!(before.is_none(), "answered twice");
    }
    fn export(&mut self, session: u64, tables: &[String]) -> Result<(), String> {
        let mut pieces = Vec::new();
        for table in tables {
            let rows: Vec<(u64, u64)> =
                self.node.tables.get(table).into_iter().flatten().map(|(&k, &v)| (k, v)).collect();
            for rows in rows.chunks(10).chain(rows.is_empty().then_some(&[][..])) {
                pieces.push(Payload::from(postcard::to_stdvec(&(table, rows)).expect("plain")));
            }
        }
        pieces.reverse();
        self.node.exports.insert(session, pieces);
        Ok(())
    }
    fn export_next(&mut self, session: u64) -> Result<Option<Payload>, String> {
        Ok(self.node.exports.get_mut(&session).ok_or("no export")?.pop())
    }
    fn export_end(&mut self, session: u64) {
        self.node.exports.remove(&session);
    }
    fn import(&mut self, session: u64, _at_once: bool) {
        self.node.imports.insert(session, BTreeMap::new());
    }
    fn import_piece(&mut self, session: u64, piece: &Payload) -> Result<(), String> {
        let (table, rows): (String, Vec<(u64, u64)>) = postcard::from_bytes(&piece.0).expect("own bytes");
        let import = self.node.imports.get_mut(&session).ok_or("no import")?;
        import.entry(table).or_default().extend(rows);
        Ok(())
    }
    fn import_finish(&mut self, session: u64) -> Result<(), String> {
        let tables = self.node.imports.remove(&session).ok_or("no import")?;
        self.node.tables.extend(tables);
        Ok(())
    }
    fn import_abort(&mut self, session: u64) {
        self.node.imports.remove(&session);
    }
}

pub fn node_id(index: usize) -> NodeId {
    NodeId::new(format!("n:{}", 1000 + index)).expect("valid")
}

impl Net {
    pub fn new(nodes: usize, seed: u64) -> Self {
        let node = |index| Node {
            id: node_id(index),
            tables: BTreeMap::new(),
            saved: None,
            cluster: None,
            alive: true,
            incarnation: 1,
            finished: BTreeMap::new(),
            exports: BTreeMap::new(),
            imports: BTreeMap::new(),
        };
        Self {
            now: 1_000,
            nodes: (0..nodes).map(node).collect(),
            chance: Chance::new(seed),
            timing: Timing { join_delay: Millis(50), rejoin_delay: Millis(500), ..Timing::default() },
            options: "evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;\
                      evs.inactive_check_period=PT0.3S"
                .into(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            paused: BTreeMap::new(),
            breaks: 0,
            delay_max: 5,
            events: BTreeMap::new(),
            sequence: 0,
            last: BTreeMap::new(),
            next_ticket: 1,
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    fn index(&self, id: &NodeId) -> usize {
        self.nodes.iter().position(|node| node.id == *id).expect("known node")
    }

    /// Runs `act` on one node's cluster and carries out what it sends.
    pub fn on<R>(&mut self, at: usize, act: impl FnOnce(&mut Option<Cluster>, &mut dyn Host) -> R) -> R {
        let node = &mut self.nodes[at];
        let mut parts = NodeParts {
            tables: std::mem::take(&mut node.tables),
            saved: node.saved.take(),
            finished: std::mem::take(&mut node.finished),
            exports: std::mem::take(&mut node.exports),
            imports: std::mem::take(&mut node.imports),
        };
        let mut cluster = node.cluster.take();
        let mut side = Side { now: self.now, chance: &mut self.chance, node: &mut parts, out: Vec::new() };
        let result = act(&mut cluster, &mut side);
        let out = side.out;
        if cluster.as_ref().is_some_and(Cluster::is_gone) {
            cluster = None;
            parts.saved = None;
        }
        let node = &mut self.nodes[at];
        node.tables = parts.tables;
        node.saved = parts.saved;
        node.finished = parts.finished;
        node.exports = parts.exports;
        node.imports = parts.imports;
        node.cluster = cluster;
        for (to, message) in out {
            let to = self.index(&to);
            self.transmit(at, to, &message);
        }
        result
    }

    fn transmit(&mut self, from: usize, to: usize, message: &ClusterMessage) {
        let arrival = self.now + 1 + self.chance.below(self.delay_max);
        let arrival = arrival.max(self.last.get(&(from, to)).copied().unwrap_or(0));
        self.last.insert((from, to), arrival);
        if self.cut.contains(&(from.min(to), from.max(to))) || self.deaf.contains(&(from, to)) {
            return;
        }
        if !self.nodes[to].alive {
            self.push(arrival, Event::Unreachable { at: from, peer: to });
            return;
        }
        if self.breaks > 0 && self.chance.percent(self.breaks) {
            self.events.retain(
                |_, event| !matches!(event, Event::Deliver { from: f, to: t, .. } if (*f, *t) == (from, to)),
            );
            self.push(arrival, Event::Unreachable { at: from, peer: to });
            return;
        }
        let bytes = postcard::to_stdvec(message).expect("plain data");
        let incarnation = self.nodes[to].incarnation;
        self.push(arrival, Event::Deliver { from, to, bytes, incarnation });
    }

    /// Until when a process stands still.
    fn asleep(&self, at: usize) -> u64 {
        self.paused.get(&at).copied().unwrap_or(0)
    }

    /// Runs until `until`.
    pub fn run_to(&mut self, until: u64) {
        let mut still = 0;
        loop {
            let event = self.events.first_key_value().map_or(u64::MAX, |(&(at, _), _)| at);
            let wake = self.nodes.iter().enumerate().filter(|(_, node)| node.alive);
            let wake = wake
                .filter_map(|(at, node)| {
                    Some((node.cluster.as_ref()?.next_wake()?.0.max(self.asleep(at)), at))
                })
                .min();
            let (wake, at) = wake.unwrap_or((u64::MAX, 0));
            let next = event.min(wake);
            if next > until {
                break;
            }
            let before = self.now;
            self.now = self.now.max(next);
            if event <= wake {
                let (_, event) = self.events.pop_first().expect("seen");
                self.take(event);
            } else {
                self.on(at, |cluster, host| cluster.as_mut().expect("woken").tick(host));
                still = if self.now == before { still + 1 } else { 0 };
                assert!(still < 1_000, "time stands still\n{}", self.describe());
            }
        }
        self.now = until;
    }

    pub fn run(&mut self, millis: u64) {
        self.run_to(self.now + millis);
    }

    /// Runs until `done`; fails after `millis`.
    pub fn until(&mut self, millis: u64, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + millis;
        while !done(self) {
            assert!(self.now < end, "not within {millis} ms: {what}\n{}", self.describe());
            self.run(5);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Deliver { to, .. } if self.asleep(to) > self.now => self.push(self.asleep(to), event),
            Event::Unreachable { at, .. } if self.asleep(at) > self.now => self.push(self.asleep(at), event),
            Event::Unreachable { at, peer } => {
                let peer = self.nodes[peer].id.clone();
                if self.nodes[at].alive {
                    self.on(at, |cluster, host| {
                        if let Some(cluster) = cluster {
                            cluster.peer_unreachable(host, &peer);
                        }
                    });
                }
            }
            Event::Deliver { from, to, bytes, incarnation } => {
                if !self.nodes[to].alive || self.nodes[to].incarnation != incarnation {
                    return;
                }
                let message: ClusterMessage = postcard::from_bytes(&bytes).expect("own bytes");
                let sender = self.nodes[from].id.clone();
                self.on(to, |cluster, host| match cluster {
                    Some(cluster) => cluster.handle(host, &sender, message),
                    None => match message {
                        ClusterMessage::Hello => {
                            host.send(&sender, ClusterMessage::Standing(Standing::Absent));
                        }
                        ClusterMessage::Join(_) => {
                            host.send(&sender, ClusterMessage::JoinAnswer(JoinAnswer::Unknown));
                        }
                        ClusterMessage::Delete => host.send(&sender, ClusterMessage::Deleted),
                        _ => {}
                    },
                });
            }
        }
    }

    pub fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn member(&self, at: usize) -> Member {
        Member {
            node: node_id(at),
            incarnation: self.nodes[at].incarnation,
            replication: format!("n:{}", 5000 + at),
        }
    }

    fn descriptor(&self, uuid: &str) -> Descriptor {
        Descriptor {
            name: "c".into(),
            path: String::new(),
            options: self.options.clone(),
            nodes_set: Vec::new(),
            tables: BTreeSet::new(),
            uuid: uuid.into(),
            seqno: 0,
            conf: 0,
            clean: false,
            members: Vec::new(),
            safe_to_bootstrap: false,
        }
    }

    pub fn create(&mut self, at: usize) {
        let (me, timing) = (self.member(at), self.timing.clone());
        let desc = self.descriptor(&format!("uuid{}", self.now));
        self.on(at, |cluster, host| {
            *cluster = Some(Cluster::create(host, me, timing, desc).expect("created"));
        });
    }

    pub fn bootstrapped(&mut self, at: usize) {
        let ticket = self.ticket();
        self.on(at, |cluster, host| cluster.as_mut().expect("there").bootstrap(host, ticket)).expect("begun");
        assert_eq!(self.outcome(at, ticket), Ok(()));
    }

    /// Starts a JOIN; its outcome comes under the ticket.
    pub fn join(&mut self, at: usize, member: usize) -> Ticket {
        let (me, timing, desc, ticket) =
            (self.member(at), self.timing.clone(), self.descriptor(""), self.ticket());
        let to = vec![node_id(member)];
        self.on(at, |cluster, host| {
            *cluster = Some(Cluster::join(host, me, timing, desc, to, ticket).expect("begun"));
        });
        ticket
    }

    pub fn joined(&mut self, at: usize, member: usize) {
        let ticket = self.join(at, member);
        assert_eq!(self.outcome(at, ticket), Ok(()));
    }

    /// Waits for a ticket's outcome.
    pub fn outcome(&mut self, at: usize, ticket: Ticket) -> Outcome {
        self.until(60_000, "an answer", |net| net.nodes[at].finished.contains_key(&ticket.0));
        self.nodes[at].finished[&ticket.0].clone()
    }

    /// A write of `value` under `key`; refused at once or answered under the ticket.
    pub fn write(&mut self, at: usize, key: u64, value: u64) -> Result<Ticket, SqlError> {
        let ticket = self.ticket();
        let sets: Sets = vec![("t".into(), key, value)];
        let payload = Payload::from(postcard::to_stdvec(&sets).expect("plain"));
        self.on(at, |cluster, host| match cluster {
            Some(cluster) => cluster.submit(host, ticket, Write { keys: vec![key], payload, blind: false }),
            None => Err(SqlError::new("no cluster")),
        })?;
        Ok(ticket)
    }

    pub fn written(&mut self, at: usize, key: u64, value: u64) {
        let ticket = self.write(at, key, value).expect("accepted");
        assert_eq!(self.outcome(at, ticket), Ok(()));
    }

    pub fn kill(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.alive = false;
        node.cluster = None;
        node.exports.clear();
        node.imports.clear();
        self.events.retain(|_, event| !matches!(event, Event::Unreachable { at: a, .. } if *a == at));
    }

    pub fn stop(&mut self, at: usize) {
        self.on(at, |cluster, host| {
            if let Some(cluster) = cluster {
                cluster.stop(host);
            }
        });
        self.kill(at);
    }

    pub fn start(&mut self, at: usize) {
        assert!(!self.nodes[at].alive);
        self.nodes[at].alive = true;
        self.nodes[at].incarnation += 1;
        let (me, timing) = (self.member(at), self.timing.clone());
        if let Some(desc) = self.nodes[at].saved.clone() {
            self.on(at, |cluster, host| {
                *cluster = Some(Cluster::open(host, me, timing, desc).expect("opened"));
            });
        }
    }

    pub fn cut_off(&mut self, at: usize) {
        for other in 0..self.nodes.len() {
            if other != at {
                self.cut.insert((at.min(other), at.max(other)));
            }
        }
    }

    pub fn status(&self, at: usize) -> String {
        self.nodes[at].cluster.as_ref().map_or("none", |cluster| cluster.status(Millis(self.now))).to_owned()
    }

    pub fn state(&self, at: usize) -> String {
        self.nodes[at].cluster.as_ref().map_or("none", |cluster| cluster.node_state()).to_owned()
    }

    /// The value of one row; and all rows say what whoever looks without them sees.
    pub fn row(&self, at: usize, name: &str) -> String {
        let Some(cluster) = self.nodes[at].cluster.as_ref() else { return String::new() };
        let (rows, shown) = (cluster.rows(Millis(self.now)), cluster.shown(Millis(self.now)));
        let row = |name: &str| {
            let name = format!("cluster_c_{name}");
            rows.iter().find(|(row, _)| *row == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let list = |nodes: &BTreeSet<NodeId>| nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(",");
        let view: Vec<String> = row("nodes_view").split(',').step_by(2).map(str::to_owned).collect();
        assert_eq!(shown.status.as_str(), row("status"));
        assert_eq!(shown.node_state.as_str(), row("node_state"));
        assert_eq!(shown.size.to_string(), row("size"));
        assert_eq!(list(&shown.nodes_set), row("nodes_set"));
        assert_eq!(list(&shown.nodes_view), view.join(","));
        assert_eq!(shown.tables.iter().cloned().collect::<Vec<_>>().join(","), row("indexes"));
        assert_eq!(shown.state_uuid, row("state_uuid"));
        assert_eq!(shown.conf_id.to_string(), row("conf_id"));
        assert_eq!(shown.last_committed, row("last_committed").parse().unwrap_or(-1));
        assert_eq!(shown.recv_queue, row("local_recv_queue").parse().unwrap_or(0));
        row(name)
    }

    pub fn synced(&self, at: usize) -> bool {
        self.status(at) == "primary" && self.state(at) == "synced"
    }

    pub fn table(&self, at: usize) -> Table {
        self.nodes[at].tables.get("t").cloned().unwrap_or_default()
    }

    pub fn describe(&self) -> String {
        let mut text = format!("at {}, cut {:?}\n", self.now, self.cut);
        for (at, node) in self.nodes.iter().enumerate() {
            text += &format!(
                "node {at} alive {} {} {}\n  {:?}\n",
                node.alive,
                self.status(at),
                self.state(at),
                node.cluster
            );
        }
        text
    }

    /// A cluster `c` of nodes `0..count` with the table `t`, all synced.
    pub fn cluster(count: usize, seed: u64) -> Self {
        let mut net = Self::new(count, seed);
        net.create(0);
        net.nodes[0].tables.insert("t".into(), Table::new());
        let ticket = net.ticket();
        net.on(0, |cluster, host| cluster.as_mut().expect("there").add(host, ticket, vec!["t".into()]))
            .expect("added");
        assert_eq!(net.outcome(0, ticket), Ok(()));
        for at in 1..count {
            net.joined(at, 0);
        }
        net
    }
}
