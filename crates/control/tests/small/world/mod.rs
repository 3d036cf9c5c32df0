//! A small world for the operator: nodes, clusters and sidecars as plain data, a log, clients that remember what was
//! acknowledged. Seeded; every command can be refused, lost on the way, or done with its reply lost, and the
//! controller can be killed between any two things it does.

mod nodes;

pub use nodes::{Fault, Nodes};

use control::backup::{Done, Job, JobEnd};
use control::{Config, Controller, Effect, Input, PollAnswer, Record, RequestId};
use model::wire::{GoingOn, ShardingStatement, SidecarPoll, StatementReply, Versions};
use model::{
    Action, Command, CommandResult, Epoch, LogIndex, Machine, Millis, NodeId, Reach, Schema, Settings,
    StepId, TableName, TableSpec, UserRights,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// SplitMix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// Which commands are refused, and how many still are.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    pub kind: &'static str,
    pub step: StepId,
    pub undo: bool,
    pub times: u32,
}

/// One sidecar's memory.
#[derive(Debug, Default)]
struct Sidecar {
    /// Counts its starts.
    run: u32,
    epoch: Epoch,
    names_version: u64,
    log_id: Option<String>,
    results: Vec<CommandResult>,
    orders: VecDeque<Command>,
    /// JOINs under way, and when each began.
    copying: Vec<(Command, Millis)>,
}

/// How copies come.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    pub takes: Millis,
    /// For so long more of each is seen every second.
    pub goes_on: Millis,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    pub now: Millis,
    pub random: Random,
    pub nodes: Nodes,
    pub controller: Controller,
    pub answers: BTreeMap<RequestId, StatementReply>,
    /// Percent of commands that meet a fault.
    pub command_faults: u64,
    /// Percent of ticks after which the controller dies: before its records are durable, or right after.
    pub controller_deaths: u64,
    pub deaths: u64,
    /// Every command is carried out twice.
    pub twice: bool,
    /// Commands of this step are refused: of an operation of this kind, on its way forward or back.
    pub refused: Option<Refused>,
    /// Everything that backups and restores asked for.
    pub jobs: Vec<Job>,
    pub busy: bool,
    /// Shards whose documents a backup has.
    pub saved: BTreeSet<u32>,
    /// Those are lost on the way instead: nobody hears of them.
    pub lost: bool,
    /// Ids acknowledged, by physical shard.
    pub acknowledged: BTreeMap<String, BTreeSet<i64>>,
    pub failed_writes: u64,
    /// Nodes whose disk is another one than before.
    pub impostors: BTreeSet<NodeId>,
    /// Nodes that are too busy to answer a look in time; their sidecars ask as always.
    pub silent: BTreeSet<NodeId>,
    /// Nodes that refuse the controller's looks, and nobody else's.
    pub refusing: BTreeSet<NodeId>,
    /// Nodes between whom and all others the network is broken; the controller reaches them.
    pub cut_off: BTreeSet<NodeId>,
    /// Nodes whose sidecars say of nobody whether they reach it.
    pub wordless: BTreeSet<NodeId>,
    /// Nodes whose sidecars ask for nothing.
    pub mute: BTreeSet<NodeId>,
    /// `None`: they are there at once.
    pub slow: Option<Slow>,
    /// What sidecars say of their machines.
    pub machines: BTreeMap<NodeId, Machine>,
    log: Vec<Vec<u8>>,
    sidecars: BTreeMap<NodeId, Sidecar>,
    inputs: Vec<Input>,
    next_request: u64,
    next_id: i64,
}

pub fn node(n: usize) -> NodeId {
    NodeId::new(format!("127.0.0.1:{}", 9000 + n)).expect("valid")
}

pub fn table(name: &str) -> TableName {
    TableName::new(name).expect("valid")
}

fn config(seed: u64) -> Config {
    Config {
        name: "127.0.0.1:8000".to_owned(),
        log_id: "l".repeat(32),
        settings: Settings { node_loss_grace_seconds: 3, ..Settings::default() },
        seed,
    }
}

impl World {
    pub fn new(seed: u64, nodes: usize) -> Self {
        let mut world = Self {
            now: Millis(1_000),
            random: Random(seed),
            nodes: Nodes::default(),
            controller: Controller::open(config(u64::MAX), None, Vec::new()).expect("an empty log opens"),
            answers: BTreeMap::new(),
            command_faults: 0,
            controller_deaths: 0,
            deaths: 0,
            twice: false,
            refused: None,
            jobs: Vec::new(),
            busy: false,
            saved: BTreeSet::new(),
            lost: false,
            acknowledged: BTreeMap::new(),
            failed_writes: 0,
            impostors: BTreeSet::new(),
            silent: BTreeSet::new(),
            refusing: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            wordless: BTreeSet::new(),
            mute: BTreeSet::new(),
            slow: None,
            machines: BTreeMap::new(),
            log: Vec::new(),
            sidecars: BTreeMap::new(),
            inputs: Vec::new(),
            next_request: 0,
            next_id: 0,
        };
        for n in 1..=nodes {
            world.add_node(n);
        }
        world
    }

    /// With all nodes known to be members.
    pub fn warmed_up(seed: u64, nodes: usize) -> Self {
        let mut world = Self::new(seed, nodes);
        world.until("all members", |world| world.state().nodes.len() == nodes);
        world
    }

    /// And at rest with the table `t`.
    pub fn with_table(seed: u64, nodes: usize, shards: u32, rf: u32) -> Self {
        let mut world = Self::warmed_up(seed, nodes);
        world.made("t", shards, rf);
        world.settle();
        world
    }

    pub fn add_node(&mut self, n: usize) {
        let machine = Machine {
            disk_free_bytes: Some(1 << 40),
            memory_available_bytes: Some(1 << 36),
            ..Machine::default()
        };
        self.machines.insert(node(n), machine);
        self.nodes.add(&node(n));
        self.sidecars.insert(node(n), Sidecar::default());
    }

    /// kill -9, of the node and the sidecar it started.
    pub fn kill(&mut self, id: &NodeId) {
        self.nodes.kill(id);
    }

    pub fn start(&mut self, id: &NodeId) {
        self.nodes.start(id);
        self.restart_sidecar(id);
    }

    /// What it was given and what it had to tell is forgotten.
    pub fn restart_sidecar(&mut self, id: &NodeId) {
        let sidecar = self.sidecars.entry(id.clone()).or_default();
        sidecar.run += 1;
        sidecar.orders.clear();
        sidecar.results.clear();
        sidecar.copying.clear();
    }

    /// Whether a command of this class was sent to the node and its outcome is not known yet.
    pub fn is_under_way(&self, id: &NodeId, class: &str) -> bool {
        self.state().operations.values().flat_map(|operation| &operation.steps).any(|step| {
            step.status == control::operation::StepStatus::Started
                && step.node.as_ref() == Some(id)
                && step.work.class() == class
        })
    }

    /// The settings of [`config`] with a change, until the controller is restarted.
    pub fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = config(0).settings;
        change(&mut settings);
        self.controller.set_settings(settings);
    }

    pub fn state(&self) -> &control::state::State {
        self.controller.state()
    }

    /// Sends a statement; its answer comes to stand in `answers`.
    pub fn ask(&mut self, statement: ShardingStatement) -> RequestId {
        self.ask_as(statement, None)
    }

    /// As a user of searchd sends it, where `rights` are given.
    pub fn ask_as(&mut self, statement: ShardingStatement, rights: Option<UserRights>) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.inputs.push(Input::Statement { request, statement, rights });
        request
    }

    /// Sends a statement, and waits for its answer.
    pub fn told(&mut self, statement: ShardingStatement) -> StatementReply {
        let request = self.ask(statement);
        self.answer_to(request)
    }

    pub fn answer_to(&mut self, request: RequestId) -> StatementReply {
        self.until("an answer", |world| world.answers.contains_key(&request));
        self.answers[&request].clone()
    }

    pub fn refused(&mut self, statement: ShardingStatement) -> String {
        match self.told(statement) {
            StatementReply::Error { message } => message,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Creates a table, which must succeed.
    pub fn made(&mut self, name: &str, shards: u32, rf: u32) {
        let request = self.create(name, shards, rf);
        assert_eq!(self.answer_to(request), StatementReply::Ok);
    }

    pub fn create(&mut self, name: &str, shards: u32, rf: u32) -> RequestId {
        let spec = TableSpec {
            name: table(name),
            cluster: Some("c".to_owned()),
            schema: Schema::default(),
            shards,
            rf,
        };
        self.ask(ShardingStatement::CreateTable { spec, if_not_exists: false, timeout_seconds: 600 })
    }

    pub fn drop(&mut self, name: &str) -> RequestId {
        self.ask(ShardingStatement::DropTable {
            name: table(name),
            cluster: Some("c".to_owned()),
            if_exists: false,
        })
    }

    /// One round of 50 ms: sidecars ask, the controller decides, what it asked for happens.
    pub fn step(&mut self) {
        self.now = self.now + Millis(50);
        self.nodes.catch_up(self.now);
        let live: Vec<NodeId> =
            self.nodes.live().into_iter().filter(|node| !self.mute.contains(node)).collect();
        for id in &live {
            let poll = self.poll_of(id);
            self.inputs.push(Input::Sidecar(poll));
        }
        let inputs = std::mem::take(&mut self.inputs);
        let out = self.controller.tick(self.now, self.now.0 / 1000, inputs);
        if self.random.chance(self.controller_deaths) {
            // It dies before its records are durable, or after, but before anything comes of them.
            if self.random.chance(50) {
                self.append(out.expected, &out.records);
            }
            self.restart_controller();
            return;
        }
        self.append(out.expected, &out.records);
        for effect in out.effects {
            self.carry_out(effect);
        }
        for id in &live {
            self.take_orders(id);
        }
    }

    fn poll_of(&mut self, id: &NodeId) -> SidecarPoll {
        let peers = self.nodes.all().into_iter().map(|other| {
            let cut = other != *id && (self.cut_off.contains(&other) || self.cut_off.contains(id));
            let reach = match self.nodes.is_live(&other) {
                false => Reach::Refused,
                true if cut => Reach::Silent,
                true => Reach::Answered,
            };
            (other, reach)
        });
        let peers = peers.filter(|_| !self.wordless.contains(id)).collect();
        let (now, slow) = (self.now, self.slow);
        let sidecar = self.sidecars.entry(id.clone()).or_default();
        let running = sidecar.copying.iter().map(|(command, _)| command.id).collect();
        let seen = |began: Millis| slow.map_or(0, |slow| now.since(began).min(slow.goes_on).0 / 1_000);
        let copying = sidecar.copying.iter();
        let going_on =
            copying.map(|(command, began)| GoingOn { id: command.id, times: seen(*began) }).collect();
        SidecarPoll {
            node: id.clone(),
            uuid: format!("uuid of {id}{}", if self.impostors.contains(id) { "'s successor" } else { "" }),
            run: sidecar.run.to_string(),
            taken: 0,
            log_id: sidecar.log_id.clone(),
            epoch: sidecar.epoch,
            names_version: sidecar.names_version,
            views_version: 0,
            peers,
            results: sidecar.results.clone(),
            running,
            going_on,
            machine: self.machines.get(id).cloned().map(Box::new),
        }
    }

    fn take_orders(&mut self, id: &NodeId) {
        let Some(sidecar) = self.sidecars.get_mut(id) else { return };
        let orders = self.controller.standing_orders(Versions { names: sidecar.names_version, views: 0 });
        sidecar.results.clear();
        sidecar.epoch = sidecar.epoch.max(orders.epoch);
        sidecar.log_id = Some(orders.log_id);
        sidecar.names_version = orders.names_version;
        let mut commands: Vec<Command> = sidecar.orders.drain(..).collect();
        commands.retain(|command| command.epoch >= sidecar.epoch);
        if self.slow.is_some() {
            let begins = |command: &Command| matches!(command.action, Action::JoinCluster { .. });
            let begun = commands.extract_if(.., |command| begins(command));
            sidecar.copying.extend(begun.map(|command| (command, self.now)));
        }
        let takes = self.slow.map_or(Millis::ZERO, |slow| slow.takes);
        let over = sidecar.copying.extract_if(.., |(_, began)| self.now.since(*began) >= takes);
        commands.extend(over.map(|(command, _)| command));
        for command in commands {
            let fault = if self.is_refused(&command) {
                if self.lost { Fault::Lost } else { Fault::Refused }
            } else if self.random.chance(self.command_faults) {
                [Fault::Refused, Fault::Lost, Fault::ReplyLost][self.random.below(3)]
            } else {
                Fault::None
            };
            if self.twice {
                self.nodes.run(id, &command.action, fault);
            }
            if let Some(outcome) = self.nodes.run(id, &command.action, fault) {
                let result = CommandResult { id: command.id, epoch: command.epoch, outcome };
                self.sidecars.entry(id.clone()).or_default().results.push(result);
            }
        }
    }

    fn is_refused(&mut self, command: &Command) -> bool {
        let Some(refused) = self.refused.as_mut().filter(|refused| refused.times > 0) else { return false };
        let Some(operation) = self.controller.state().operations.get(&command.id.operation) else {
            return false;
        };
        let undo = operation.status == control::operation::Status::Unwinding;
        let is_it =
            operation.name() == refused.kind && command.id.step == refused.step && undo == refused.undo;
        if is_it {
            refused.times -= 1;
        }
        is_it
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Poll { node, token, tables, .. } => {
                let silent = self.silent.contains(&node);
                let refusing = self.refusing.contains(&node);
                let status = self.nodes.status(&node, tables).filter(|_| !silent && !refusing);
                let reach = match &status {
                    Some(_) => Reach::Answered,
                    None if silent => Reach::Silent,
                    None => Reach::Refused,
                };
                self.inputs.push(Input::Polled(PollAnswer { node, token, reach, status }));
            }
            Effect::Measure { node, token, tables, deep } => {
                let measured = self.nodes.measure(&node, &tables, deep);
                self.inputs.push(Input::Measured { node, token, measured });
            }
            Effect::Job { operation, step, attempt, job } => {
                let end = self.job_end(&job);
                self.jobs.push(*job);
                self.inputs.push(Input::JobOver { operation, step, attempt, end });
            }
            Effect::Command { node, command } => {
                self.sidecars.entry(node).or_default().orders.push_back(command);
            }
            Effect::Answer { request, reply } => {
                assert!(self.answers.insert(request, reply).is_none(), "{request:?} is answered twice");
            }
            Effect::NamesChanged | Effect::Announce(_) | Effect::EndJob { .. } => {}
        }
    }

    /// Copies that serve are always written to while `busy`; all else is done at once.
    fn job_end(&mut self, job: &Job) -> JobEnd {
        if let Job::Save(save) = job {
            let mut shards = save.sources.iter().map(|source| source.shard);
            if save.frozen.is_none() && self.busy {
                if let Some(shard) = shards.find(|shard| !self.saved.contains(shard)) {
                    return JobEnd::Busy { shard, why: "it was written to".to_owned() };
                }
            } else {
                self.saved.extend(shards);
            }
        }
        JobEnd::Done(Done { rows: Some(7), bytes: 70, path: "/record".to_owned() })
    }

    fn append(&mut self, expected: LogIndex, records: &[Record]) {
        assert_eq!(expected.0 as usize, self.log.len(), "records continue the log");
        for record in records {
            self.log.push(serde_json::to_vec(record).expect("a record is JSON"));
        }
    }

    /// The controller process dies and another reads the log.
    pub fn restart_controller(&mut self) {
        self.deaths += 1;
        let records: Vec<(LogIndex, Vec<u8>)> = self
            .log
            .iter()
            .enumerate()
            .map(|(index, bytes)| (LogIndex(index as u64 + 1), bytes.clone()))
            .collect();
        // Half of the time from a snapshot, which must come to the same.
        let whole = Controller::open(config(self.deaths), None, records.clone()).expect("the log opens");
        let (at, snapshot) = whole.snapshot().expect("the state is JSON");
        let from_snapshot =
            Controller::open(config(self.deaths), Some((at, &snapshot)), Vec::new()).expect("it opens");
        assert_eq!(whole.state(), from_snapshot.state());
        self.controller = from_snapshot;
        self.inputs.clear();
        for sidecar in self.sidecars.values_mut() {
            sidecar.orders.clear();
        }
    }

    /// A client on a random live node writes one row, as its routing table there says.
    pub fn write(&mut self, name: &str) {
        let live = self.nodes.live();
        let router = live[self.random.below(live.len())].clone();
        self.next_id += 1;
        match self.nodes.write(&router, name, self.next_id, &mut self.random) {
            Ok(shard) => {
                self.acknowledged.entry(shard).or_default().insert(self.next_id);
            }
            Err(_) => self.failed_writes += 1,
        }
    }

    /// Steps until `done`, with a limit of virtual time.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = self.now;
        while !done(self) {
            assert!(
                self.now.since(start) < Millis::from_secs(900),
                "{what} did not come:\n{}",
                self.open_steps()
            );
            self.step();
        }
    }

    fn open_steps(&self) -> String {
        let StatementReply::Rows { rows, .. } = self.controller.show(&ShardingStatement::ShowQueue) else {
            return String::new();
        };
        let lines = rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" | "));
        let mut lines: Vec<String> = lines.collect();
        for (id, group) in &self.state().groups {
            lines.push(format!("{id} {:?}", group.members));
            for node in self.nodes.live() {
                let status = self.nodes.status(&node, false).expect("a live node");
                if let Some(cluster) = status.clusters.get(id) {
                    lines.push(format!(
                        "  on {node}: {:?} {:?} {:?}",
                        cluster.status, cluster.node_state, cluster.nodes_view
                    ));
                }
            }
        }
        lines.join("\n")
    }

    /// Until nothing is to be done any more, and all that was seen is as it should be.
    pub fn settle(&mut self) {
        self.until("rest", |world| world.state().operations.is_empty());
        let mut quiet = 0;
        self.until("lasting rest", |world| {
            // A cleaning that failed is tried again after a pause.
            let left = |node: &NodeId| world.nodes.is_live(node) && world.state().nodes.contains_key(node);
            let clean = !world.state().leftovers.keys().any(left);
            quiet = if clean && world.state().operations.is_empty() { quiet + 1 } else { 0 };
            quiet > 240
        });
        self.check();
    }

    /// What must hold at rest: nothing acknowledged is missing, all copies of a shard are equal, routes are the same
    /// everywhere and name whole copies, and nothing is left over.
    pub fn check(&self) {
        let state = self.state();
        let mut expected: BTreeMap<NodeId, BTreeSet<String>> = BTreeMap::new();
        for (name, table) in &state.tables {
            for (number, home) in table.homes.iter().enumerate() {
                let shard = name.shard_table(number as u32);
                let group = &state.groups[home];
                let serving: Vec<NodeId> = group.serving().cloned().collect();
                let placing = state.placing_nodes().filter(|node| self.nodes.is_live(node)).count();
                let want = (group.rf as usize).min(placing.max(1));
                assert_eq!(serving.len(), want, "{shard} has all its copies: {group:?}");
                for copy in &serving {
                    let rows = self.nodes.rows(copy, &shard).expect("a serving copy exists");
                    if let Some(acknowledged) = self.acknowledged.get(&shard) {
                        let missing: Vec<_> = acknowledged.difference(rows).collect();
                        assert!(missing.is_empty(), "{shard} on {copy} lost {missing:?}");
                    }
                    assert_eq!(
                        self.nodes.rows(&serving[0], &shard),
                        Some(rows),
                        "copies of {shard} are equal"
                    );
                    expected.entry(copy.clone()).or_default().insert(shard.clone());
                }
                let routers = self.nodes.live().into_iter().filter(|node| state.nodes.contains_key(node));
                for router in routers {
                    let route = self.nodes.route(&router, name.as_str());
                    let route = route.unwrap_or_else(|| panic!("{router} does not route {name}"));
                    assert_eq!(route.shards[number], serving, "{router} routes {shard}");
                }
            }
        }
        for id in self.nodes.live() {
            let there = self.nodes.shards(&id);
            assert_eq!(there, expected.remove(&id).unwrap_or_default(), "shards on {id}");
            for cluster in self.nodes.clusters(&id) {
                let known = state.groups.get(&cluster).is_some_and(|group| group.members.contains_key(&id));
                assert!(known || cluster.as_str() == "c", "{id} is a member of {cluster}, left over");
            }
        }
    }
}
