//! Pace: how often the queue is worked on, how much moves at once, and what was measured of it.
//!
//! Figures of `operations.md`, section 2. Everything here is in memory: a new controller measures anew.

use crate::Controller;
use crate::flight::Flight;
use crate::operation::{Kind, Operation, Status};
use crate::record::Record;
use model::{Action, GroupId, Millis, NodeId, OperationId, Settings};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Memory that one rebalance may need.
const MEMORY_MIB_PER_REBALANCE: u64 = 4096;
/// One rebalance for so many nodes.
const NODES_PER_REBALANCE: u64 = 3;
const REBALANCES_MAX: u64 = 5;
/// Samples kept: enough to even out single slow copies, few enough to follow a change of the network.
const SAMPLES_MAX: usize = 32;
/// A cluster takes the first of a pair for as long as it is there, the second while a copy is sent.
pub(crate) const PORTS_PER_CLUSTER: u32 = 2;
/// What a sidecar said of its machine holds for this long: six of its reports.
const MACHINE_FRESH: Millis = Millis(30_000);
/// Free disk beside the bytes to receive, in percent of them.
pub(crate) const HEADROOM_PERCENT: u64 = 10;

/// How long the queue may wait when nothing finishes.
pub(crate) fn queue_interval(settings: &Settings, active_nodes: usize) -> Millis {
    let seconds = match active_nodes {
        _ if settings.queue_interval_is_chosen => settings.queue_processing_interval_seconds,
        0..=3 => 1,
        4..=10 => 2,
        _ => 5,
    };
    Millis::from_secs(seconds)
}

/// How many rebalances run at once.
pub(crate) fn rebalances_at_once(settings: &Settings, available_memory_mib: u64, nodes: u64) -> u64 {
    let by_memory = (available_memory_mib / MEMORY_MIB_PER_REBALANCE).max(1);
    let by_nodes = (nodes / NODES_PER_REBALANCE).max(1);
    by_memory.min(by_nodes).min(REBALANCES_MAX).min(settings.max_concurrent_rebalances)
}

/// One finished copy of a group to another node.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    bytes: u64,
    took: Millis,
}

/// The queue's clock, and what was measured.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    transfers: VecDeque<Transfer>,
    /// Bytes of all of them, since this controller was opened.
    carried: u64,
    /// How long commands other than copies took.
    commands: VecDeque<Millis>,
    /// How long a node took to write a route: statements for the table are held meanwhile.
    routes: VecDeque<Millis>,
    /// When each operation under way last came nearer to its end, with the Unix second.
    progress: BTreeMap<OperationId, (Millis, u64)>,
    /// Since when each is seen running.
    running: BTreeMap<OperationId, Millis>,
    /// The queue's next turn by time alone.
    due: Millis,
    /// Whether the queue has its turn now.
    open: bool,
}

fn keep<T>(samples: &mut VecDeque<T>, sample: T) {
    if samples.len() == SAMPLES_MAX {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn average(samples: &VecDeque<Millis>) -> Option<u64> {
    let sum: u64 = samples.iter().map(|took| took.0).sum();
    (!samples.is_empty()).then(|| sum / samples.len() as u64)
}

impl Pace {
    /// Begins a tick.
    pub(crate) fn turn(&mut self, now: Millis, interval: Millis) {
        self.open = now >= self.due;
        if self.open {
            self.due = now + interval;
        }
        // A shorter interval holds at once.
        self.due = self.due.min(now + interval);
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) const fn next_turn(&self) -> Millis {
        self.due
    }

    /// At `at` there is something to do for the queue.
    pub(crate) fn wake_at(&mut self, at: Millis) {
        self.due = self.due.min(at);
    }

    /// A record was made: whatever finishes gives the queue its turn.
    pub(crate) fn note(&mut self, record: &Record, now: Millis, unix: u64) {
        match record {
            Record::StepDone { operation, .. }
            | Record::StepSkipped { operation, .. }
            | Record::StepUndone { operation, .. } => {
                self.progress.insert(*operation, (now, unix));
                self.open = true;
            }
            Record::OperationStarted { operation, .. } => {
                self.progress.insert(*operation, (now, unix));
                self.running.insert(*operation, now);
            }
            Record::UnwindStarted { operation, .. } => {
                self.progress.insert(*operation, (now, unix));
            }
            Record::OperationDone { operation, .. }
            | Record::OperationFailed { operation, .. }
            | Record::OperationCancelled { operation, .. } => {
                self.progress.remove(operation);
                self.running.remove(operation);
                self.open = true;
            }
            _ => {}
        }
    }

    /// Operations that another controller began count from now on.
    pub(crate) fn inherit(&mut self, operations: impl Iterator<Item = OperationId>, now: Millis, unix: u64) {
        for operation in operations {
            self.progress.insert(operation, (now, unix));
            self.running.insert(operation, now);
        }
    }

    /// How long the operation has not come nearer to its end.
    pub(crate) fn still_for(&self, operation: OperationId, now: Millis) -> Millis {
        self.progress.get(&operation).map_or(Millis::ZERO, |(at, _)| now.since(*at))
    }

    pub(crate) fn runs_for(&self, operation: OperationId, now: Millis) -> Millis {
        self.running.get(&operation).map_or(Millis::ZERO, |at| now.since(*at))
    }

    pub(crate) fn last_activity(&self, operation: OperationId) -> Option<u64> {
        self.progress.get(&operation).map(|(_, unix)| *unix)
    }

    /// It is looked at anew: its clocks begin again.
    pub(crate) fn begin_again(&mut self, operation: OperationId, now: Millis, unix: u64) {
        self.progress.insert(operation, (now, unix));
    }

    /// A command was proven; `bytes` is what a copy carried.
    fn measured(&mut self, action: &Action, took: Millis, bytes: u64) {
        match action {
            Action::JoinCluster { .. } => {
                self.carried = self.carried.saturating_add(bytes);
                keep(&mut self.transfers, Transfer { bytes, took });
            }
            Action::SetRoutes { .. } => {
                keep(&mut self.routes, took);
                keep(&mut self.commands, took);
            }
            _ => keep(&mut self.commands, took),
        }
    }

    /// Milliseconds for a copy of so many bytes, by the copies that were measured.
    pub(crate) fn transfer_ms(&self, bytes: u64) -> Option<u64> {
        let known = || self.transfers.iter().filter(|transfer| transfer.bytes > 0);
        let (carried, took) = known()
            .fold((0u128, 0u128), |(b, t), one| (b + u128::from(one.bytes), t + u128::from(one.took.0)));
        if bytes > 0 && carried > 0 {
            return u64::try_from(u128::from(bytes) * took / carried).ok();
        }
        let all: VecDeque<Millis> = self.transfers.iter().map(|transfer| transfer.took).collect();
        average(&all)
    }

    /// Milliseconds for a command that copies nothing.
    pub(crate) fn command_ms(&self) -> Option<u64> {
        average(&self.commands)
    }

    /// Milliseconds for which a table's route is away while it is written.
    pub(crate) fn route_ms(&self) -> Option<u64> {
        average(&self.routes)
    }
}

impl Controller {
    /// What a proven command says of the pace. One that an earlier leader sent began nobody knows when.
    pub(crate) fn measure(&mut self, flight: &Flight) {
        if flight.inherited || flight.undo {
            return;
        }
        let bytes = match &flight.action {
            Action::JoinCluster { group, .. } => self.bytes_of(group),
            _ => 0,
        };
        self.pace.measured(&flight.action, self.now.since(flight.sent), bytes);
    }

    /// Nodes that answer, for the interval and the formula.
    pub(crate) fn active_nodes(&self) -> usize {
        self.state.nodes.keys().filter(|node| self.answers(node)).count()
    }

    /// What the node's sidecar last said of its machine.
    pub(crate) fn machine(&self, node: &NodeId) -> Option<&model::Machine> {
        let (at, machine) = self.observed.view(node)?.machine.as_ref()?;
        (self.now.since(*at) <= MACHINE_FRESH).then_some(machine)
    }

    /// On disk, of one copy of every shard of the group: the largest that a node shows. 0 while nobody has said.
    pub(crate) fn bytes_of(&self, group: &GroupId) -> u64 {
        let Some(known) = self.state.groups.get(group) else { return 0 };
        let copies = |shard: &str| {
            known.members.keys().filter_map(|node| self.machine(node)?.shard_bytes.get(shard)).copied().max()
        };
        known.tables().iter().filter_map(|shard| copies(shard)).sum()
    }

    /// Of the copies that were made on other nodes since this controller was opened: by the sizes of shards that sidecars
    /// told, at the end of each.
    pub fn transferred_bytes(&self) -> u64 {
        self.pace.carried
    }

    /// Of the machine that has least; 0 while one has not said.
    pub(crate) fn available_memory_mib(&self) -> u64 {
        let nodes = self.state.nodes.keys().filter(|node| self.answers(node));
        let memory =
            |node| self.machine(node).and_then(|machine| machine.memory_available_bytes).unwrap_or(0);
        nodes.map(memory).min().unwrap_or(0) >> 20
    }

    pub(crate) fn rebalances_at_once(&self) -> u64 {
        let nodes = self.active_nodes() as u64;
        rebalances_at_once(&self.config.settings, self.available_memory_mib(), nodes)
    }

    /// Which rebalance a move belongs to: that of all groups of its rf, which are planned together.
    pub(crate) fn pool_of(&self, operation: &Operation) -> Option<u32> {
        match &operation.kind {
            Kind::HandOver { rf, .. } => Some(*rf),
            Kind::Move { group, .. } | Kind::Shed { group, .. } => {
                self.state.groups.get(group).map(|group| group.rf)
            }
            _ => None,
        }
    }

    /// Rebalances with a move under way.
    pub(crate) fn running_pools(&self) -> BTreeSet<u32> {
        let moves = self.state.active().filter(|operation| operation.status != Status::Queued);
        moves.filter_map(|operation| self.pool_of(operation)).collect()
    }

    /// How many clusters more the node's range of replication ports takes. Nodes without a range of their own take any
    /// port: there `GROUPS_MAX_PER_NODE` bounds them. Clusters that are being made on it count already.
    pub(crate) fn free_clusters(&self, node: &NodeId) -> u32 {
        let range = self.machine(node).and_then(|machine| machine.replication_ports);
        let room = range.map_or(crate::statements::GROUPS_MAX_PER_NODE, |ports| ports / PORTS_PER_CLUSTER);
        let shown = self.observed.view(node).and_then(|view| view.status.as_ref()).map(|(_, shown)| shown);
        let used = shown.map_or(0, BTreeMap::len);
        let coming = self.state.groups.iter().filter(|(id, group)| {
            group.is_clustered()
                && group.members.contains_key(node)
                && shown.is_none_or(|shown| !shown.contains_key(*id))
        });
        room.saturating_sub(u32::try_from(used + coming.count()).unwrap_or(u32::MAX))
    }

    /// The slowest node's query p99 in ms, and the node.
    pub(crate) fn query_p99(&self) -> Option<(u64, &NodeId)> {
        let nodes = self.state.nodes.keys().filter(|node| self.answers(node));
        nodes.filter_map(|node| Some((self.machine(node)?.query_p99_ms?, node))).max()
    }

    /// Why a move has to wait although its turn has come. A copy that is missing is made whatever the pace is: data
    /// goes before speed.
    pub(crate) fn is_held_back(&self, operation: &Operation) -> Option<String> {
        let transfers = matches!(operation.kind, Kind::Move { .. } | Kind::HandOver { .. });
        if let Kind::Move { group, to, .. } = &operation.kind {
            let bytes = with_headroom(self.bytes_of(group));
            let free = self.machine(to).and_then(|machine| machine.disk_free_bytes);
            if let Some(free) = free.filter(|free| *free < bytes) {
                return Some(format!("{to} has {free} bytes free on disk, {bytes} are needed"));
            }
        }
        if self.restores(&operation.kind) {
            return None;
        }
        if let (Some(budget), Some((p99, node))) =
            (self.config.settings.query_p99_budget_ms, self.query_p99())
            && transfers
            && p99 > budget
        {
            return Some(format!("queries on {node} take {p99} ms (p99), the budget is {budget} ms"));
        }
        let (pool, running) = (self.pool_of(operation)?, self.running_pools());
        let limit = self.rebalances_at_once();
        if !running.contains(&pool) && running.len() as u64 >= limit {
            return Some(format!("{} rebalances run, {limit} may run at once", running.len()));
        }
        None
    }
}

/// The free disk that so many bytes ask for.
pub(crate) const fn with_headroom(bytes: u64) -> u64 {
    bytes.saturating_add(bytes.div_ceil(100 / HEADROOM_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_interval_follows_the_nodes_unless_a_person_chose_it() {
        let by_nodes = Settings::default();
        let seconds = |settings: &Settings, nodes| queue_interval(settings, nodes).0 / 1000;
        let table = [(0, 1), (3, 1), (4, 2), (10, 2), (11, 5), (500, 5)];
        for (nodes, expected) in table {
            assert_eq!(seconds(&by_nodes, nodes), expected, "{nodes} nodes");
        }
        let chosen =
            Settings { queue_processing_interval_seconds: 7, queue_interval_is_chosen: true, ..by_nodes };
        assert!([1, 3, 50].into_iter().all(|nodes| seconds(&chosen, nodes) == 7));
        assert!([1, 3, 50].into_iter().all(|nodes| seconds(&Settings::development(), nodes) == 1));
        assert_eq!(seconds(&Settings::staging(), 11), 5, "a profile's default is no choice");
    }

    #[test]
    fn rebalances_at_once_are_the_least_of_memory_nodes_and_bounds() {
        let any = Settings { max_concurrent_rebalances: 100, ..Settings::default() };
        let table = [
            (0, 100, 1),
            (4_095, 100, 1),
            (8_191, 100, 1),
            (8_192, 100, 2),
            (1 << 20, 1, 1),
            (1 << 20, 5, 1),
            (1 << 20, 6, 2),
            (1 << 20, 14, 4),
            (1 << 20, 15, 5),
            (1 << 20, 1_000, 5),
        ];
        for (memory, nodes, expected) in table {
            assert_eq!(rebalances_at_once(&any, memory, nodes), expected, "{memory} MiB, {nodes} nodes");
        }
        assert_eq!(rebalances_at_once(&Settings::default(), 1 << 20, 1_000), 2);
        assert_eq!(rebalances_at_once(&Settings::staging(), 1 << 20, 1_000), 1);
    }

    #[test]
    fn what_finishes_gives_the_queue_its_turn_and_time_does() {
        let mut pace = Pace::default();
        pace.turn(Millis(100), Millis(2_000));
        assert!(pace.is_open(), "the first turn");
        pace.turn(Millis(2_099), Millis(2_000));
        assert!(!pace.is_open());
        let (operation, step) = (OperationId(1), model::StepId(0));
        pace.note(&Record::StepDone { operation, step, contents: BTreeMap::new() }, Millis(2_099), 2);
        assert!(pace.is_open(), "a step was done");
        pace.turn(Millis(2_100), Millis(2_000));
        assert!(pace.is_open(), "the interval is over");
        pace.turn(Millis(2_101), Millis(500));
        assert!(!pace.is_open());
        pace.turn(Millis(2_601), Millis(500));
        assert!(pace.is_open(), "a shorter interval holds at once");
    }

    #[test]
    fn rates_come_of_what_was_measured() {
        let mut pace = Pace::default();
        let join = Action::JoinCluster {
            group: GroupId::new("g").expect("valid"),
            at: NodeId::new("h:1").expect("valid"),
        };
        assert_eq!((pace.transfer_ms(10), pace.command_ms(), pace.route_ms()), (None, None, None));
        pace.measured(&join, Millis(4_000), 0);
        assert_eq!(pace.transfer_ms(1_000), Some(4_000), "no bytes were known");
        pace.measured(&join, Millis(1_000), 500);
        pace.measured(&join, Millis(3_000), 1_500);
        assert_eq!(pace.transfer_ms(1_000), Some(2_000), "2,000 bytes in 4 s");
        assert_eq!(pace.carried, 2_000);
        pace.measured(&Action::SetRoutes { routes: Vec::new() }, Millis(30), 0);
        let group = GroupId::new("g").expect("valid");
        pace.measured(&Action::MakeDirectory { group }, Millis(10), 0);
        assert_eq!((pace.command_ms(), pace.route_ms()), (Some(20), Some(30)));
    }

    #[test]
    fn headroom_is_ten_percent_rounded_up() {
        assert_eq!([0, 1, 10, 100, 1_005].map(with_headroom), [0, 2, 11, 110, 1_106]);
    }
}
