//! One node's sidecar: what it keeps on disk, what it knows, and its talk with the controllers. Only the state; the
//! world runs its scripts.

use crate::bugs::Bug;
use crate::copying::Copying;
use crate::execute;
use crate::seat::LEADER_SILENT;
use crate::wire::{Answer, Ask, Finish, Wire};
use model::wire::{SidecarOrders, SidecarPoll};
use model::{
    Action, Command, CommandId, CommandResult, Epoch, GroupId, Millis, NodeId, Outcome, Reach, Route,
    TableName,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// A poll that was not answered by then is asked again, of another controller.
const POLL_TIME_MAX: u64 = 3_000;
/// One look at each suspect per interval, and how long it may take. Nothing follows from looks at others.
pub const PEER_INTERVAL: u64 = 500;
pub const PEER_TIME_MAX: u64 = 1_500;

/// Rule 11, for a write to a table that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// One of ours: its route will be back.
    Held,
    /// None of ours: the stock sidecar makes a table of it, on this node alone.
    Upstream,
    /// Nobody knows whose it is.
    Refused,
}

/// What outlives the process: the fence, the name list, the node's identity, the directories of groups.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub uuid: String,
    pub log_id: Option<String>,
    pub epoch: Epoch,
    pub names_version: u64,
    /// The list of that version; `None` before the first.
    pub names: Option<BTreeSet<TableName>>,
    pub directories: BTreeSet<GroupId>,
}

/// A command and when the poll was sent that brought it.
#[derive(Clone, Debug)]
pub struct Item {
    pub command: Command,
    pub asked: Millis,
}

/// One lane: one command at a time.
#[derive(Debug, Default)]
pub struct Lane {
    pub queue: VecDeque<Item>,
    pub busy: bool,
}

/// Which lane, in the order in which those that are free begin.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    Clusters,
    Quorums,
    Tables,
}

impl Of {
    pub const ALL: [Self; 3] = [Self::Clusters, Self::Quorums, Self::Tables];
}

/// A sidecar's process and its disk.
#[derive(Debug)]
pub struct Sidecar {
    pub node: NodeId,
    pub disk: Disk,
    /// Counts its starts.
    pub run: u64,
    /// The controller asked last.
    pub controller: usize,
    pub controllers: usize,
    /// By [`Of`].
    pub lanes: [Lane; Of::ALL.len()],
    pub results: Vec<CommandResult>,
    pub running: BTreeSet<CommandId>,
    pub copying: Option<Copying>,
    taken: (Epoch, u64),
    views_version: u64,
    /// Since when the controller wants to know how they answer, and how each answered a look that began after that.
    pub suspects: BTreeMap<NodeId, (Millis, Option<Reach>)>,
    pub polls_under_way: u32,
    /// When a leader was heard last.
    heard: Option<Millis>,
    pub bug: Option<Bug>,
    /// What the controller last wanted of each route.
    pub told: BTreeMap<TableName, Option<Route>>,
    /// Tables that were routed here by some command.
    pub written: BTreeSet<TableName>,
    /// Clusters that a bug pretends to have deleted.
    pub hidden: BTreeSet<GroupId>,
    /// Tables that a bug adds to their group later than it says.
    pub late: BTreeMap<GroupId, BTreeSet<String>>,
    /// Statements that a bug says after so many milliseconds.
    pub later: Vec<(u64, String)>,
    /// Routes that a bug has not dropped.
    pub undropped: BTreeSet<TableName>,
}

/// A sidecar that scripts share with the world.
pub type Shared = Rc<RefCell<Sidecar>>;

impl Sidecar {
    pub fn new(node: NodeId, uuid: String, controllers: usize, bug: Option<Bug>) -> Self {
        Self {
            node,
            disk: Disk { uuid, ..Disk::default() },
            run: 0,
            controller: 0,
            controllers,
            lanes: <[Lane; Of::ALL.len()]>::default(),
            results: Vec::new(),
            running: BTreeSet::new(),
            copying: None,
            taken: (Epoch(0), 0),
            views_version: 0,
            suspects: BTreeMap::new(),
            polls_under_way: 0,
            heard: None,
            bug,
            told: BTreeMap::new(),
            written: BTreeSet::new(),
            hidden: BTreeSet::new(),
            late: BTreeMap::new(),
            later: Vec::new(),
            undropped: BTreeSet::new(),
        }
    }

    /// The same disk under a new process.
    pub fn restart(&mut self) {
        let disk = self.disk.clone();
        let mut next = Self::new(self.node.clone(), String::new(), self.controllers, self.bug);
        next.disk = disk;
        next.told = std::mem::take(&mut self.told);
        next.written = std::mem::take(&mut self.written);
        next.hidden = std::mem::take(&mut self.hidden);
        next.late = std::mem::take(&mut self.late);
        next.run = self.run + 1;
        *self = next;
    }

    fn report(&self) -> SidecarPoll {
        SidecarPoll {
            node: self.node.clone(),
            uuid: self.disk.uuid.clone(),
            run: self.run.to_string(),
            taken: if self.taken.0 == self.disk.epoch { self.taken.1 } else { 0 },
            log_id: self.disk.log_id.clone(),
            epoch: self.disk.epoch,
            names_version: self.disk.names_version,
            views_version: self.views_version,
            peers: self.suspects.iter().filter_map(|(node, seen)| Some((node.clone(), seen.1?))).collect(),
            results: self.results.clone(),
            running: self.running.iter().copied().collect(),
            going_on: self.copying.as_ref().and_then(Copying::said).into_iter().collect(),
            machine: Some(Box::new(roomy())),
        }
    }

    /// Takes one answer: epoch, then names, then commands.
    fn take(&mut self, orders: SidecarOrders, asked: Millis, now: Millis) -> bool {
        let bound = self.disk.log_id.as_ref().filter(|_| self.bug != Some(Bug::AnyLog));
        let other_log = bound.is_some_and(|log| *log != orders.log_id);
        let deposed = orders.epoch < self.disk.epoch && self.bug != Some(Bug::StaleLeader);
        if other_log || deposed {
            return false;
        }
        self.disk.log_id = Some(orders.log_id);
        self.disk.epoch = orders.epoch;
        let suspects = orders.suspects.into_iter().map(|node| {
            let known = self.suspects.get(&node).copied();
            (node, known.unwrap_or((now, None)))
        });
        self.suspects = suspects.collect();
        self.views_version = orders.views_version;
        self.heard = Some(now);
        if let Some(names) = orders.names {
            self.disk.names_version = orders.names_version;
            if self.bug != Some(Bug::NamesNotStored) {
                self.disk.names = Some(names.into_iter().map(|entry| entry.table).collect());
            }
        }
        if self.taken.0 != orders.epoch {
            self.taken = (orders.epoch, 0);
        }
        for order in orders.commands {
            let news = self.taken.0 == orders.epoch && self.taken.1 < order.number;
            if news {
                self.taken.1 = self.taken.1.max(order.number);
                self.queue(order.command, asked);
            }
        }
        true
    }

    fn queue(&mut self, command: Command, asked: Millis) {
        self.running.insert(command.id);
        let of = match &command.action {
            action if action.needs_no_lock() => Of::Quorums,
            action if of_clusters(action) => Of::Clusters,
            _ => Of::Tables,
        };
        self.lanes[of as usize].queue.push_back(Item { command, asked });
    }

    /// What becomes of a write to a table that the node has not.
    pub fn missing(&self, table: &str, now: Millis) -> Missing {
        let Some(names) = &self.disk.names else {
            let new = self.bug == Some(Bug::NamesNotStored);
            return if new { Missing::Upstream } else { Missing::Refused };
        };
        if names.iter().any(|name| name.as_str() == table) {
            Missing::Held
        } else if self.heard.is_some_and(|heard| now.since(heard).0 < LEADER_SILENT) {
            Missing::Upstream
        } else {
            Missing::Refused
        }
    }

    /// Whether `command` may begin now.
    pub fn check(&self, item: &Item, now: Millis) -> Result<Millis, Outcome> {
        let Item { command, asked } = item;
        let refused = |message: &str| Outcome::Refused { message: message.to_owned() };
        if command.epoch < self.disk.epoch && self.bug != Some(Bug::StaleLeader) {
            return Err(refused("its leader is deposed"));
        }
        let deadline = *asked + Millis(command.remaining_ms);
        if now >= deadline && self.bug != Some(Bug::LateCommand) {
            return Err(refused("the command's time is over: it was not begun"));
        }
        Ok(deadline.max(now + Millis(1)))
    }

    /// From running to known.
    pub fn finish(&mut self, id: CommandId, outcome: Outcome) {
        self.running.remove(&id);
        self.copying.take_if(|copying| copying.is_of(id));
        self.results.push(CommandResult { id, epoch: self.disk.epoch, outcome });
    }
}

/// Whether the action shares a node's one lock for clusters, or works on what a group leaves behind.
fn of_clusters(action: &Action) -> bool {
    action.group().is_some()
        || matches!(
            action,
            Action::MakeDirectory { .. } | Action::RemoveDirectory { .. } | Action::DropCopies { .. }
        )
}

/// One poll and what follows from its answer. `false` when the next one should wait a little.
async fn ask(wire: &Wire, sidecar: &Shared) -> bool {
    let (poll, controller) = {
        let mut sidecar = sidecar.borrow_mut();
        sidecar.polls_under_way += 1;
        (sidecar.report(), sidecar.controller)
    };
    let asked = wire.now();
    let carried = poll.results.clone();
    let answer = wire.ask(Ask::Orders { controller, poll: Box::new(poll), time_max: POLL_TIME_MAX }).await;
    let mut sidecar = sidecar.borrow_mut();
    sidecar.polls_under_way -= 1;
    if let Answer::Orders(orders) = answer {
        sidecar.results.retain(|result| !carried.contains(result));
        if sidecar.take(*orders, asked, wire.now()) {
            return true;
        }
    }
    if sidecar.controller == controller {
        sidecar.controller = (controller + 1) % sidecar.controllers.max(1);
    }
    false
}

/// Polls as long as the process lives.
pub async fn polls(wire: Wire, sidecar: Shared) -> Finish {
    let mut backoff = 100;
    loop {
        if ask(&wire, &sidecar).await {
            backoff = 100;
            // Without it a controller that answers at once would be asked without a pause.
            wire.sleep(1).await;
        } else {
            wire.sleep(backoff).await;
            backoff = (backoff * 2).min(1_000);
        }
    }
}

/// A poll beside the held one, because there is news to tell.
pub async fn report(wire: Wire, sidecar: Shared) -> Finish {
    ask(&wire, &sidecar).await;
    Finish::Nothing
}

/// Looks at one suspect, after a pause.
pub async fn watch(wire: Wire, sidecar: Shared, peer: NodeId, pause: u64) -> Finish {
    wire.sleep(pause).await;
    let began = wire.now();
    let answer = wire.ask(Ask::Knock { to: peer.clone(), time_max: PEER_TIME_MAX }).await;
    let reach = match answer {
        Answer::Done => Reach::Answered,
        Answer::Refused => Reach::Refused,
        _ => Reach::Silent,
    };
    let mut sidecar = sidecar.borrow_mut();
    let suspect = sidecar.suspects.get_mut(&peer).filter(|(since, _)| *since <= began);
    let news = suspect.is_some_and(|(_, seen)| seen.replace(reach) != Some(reach));
    Finish::Watched { peer, news }
}

/// Carries one command out.
pub async fn carry_out(wire: Wire, sidecar: Shared, item: Item) -> Finish {
    let id = item.command.id;
    let checked = sidecar.borrow().check(&item, wire.now());
    let outcome = match checked {
        Err(refused) => refused,
        Ok(deadline) => {
            wire.ask(Ask::Begin { id, epoch: item.command.epoch }).await;
            if let Some(copying) = Copying::of(&item.command, deadline) {
                sidecar.borrow_mut().copying = Some(copying);
            }
            execute::execute(&wire, &sidecar, &item.command.action, deadline).await
        }
    };
    Finish::Command { id, outcome }
}

/// A machine that keeps nothing from moving.
fn roomy() -> model::Machine {
    model::Machine {
        disk_free_bytes: Some(1 << 40),
        memory_available_bytes: Some(1 << 36),
        ..model::Machine::default()
    }
}
