//! What goes wrong, and when: drawn from the seed, and only what the cluster is meant to survive. The last whole copy
//! of a shard is never taken while it is the last; everything else may go at any moment, two at once.

pub mod machines;

use crate::bugs::Bug;
use crate::invariants;
use crate::net::Place;
use crate::people;
use crate::play::{self, Gate};
use crate::wire::{Owner, Task};
use crate::world::{Event, World};
use model::NodeId;
use std::collections::BTreeSet;

/// Until a node that stood still has learnt what happened meanwhile.
const KNOWS_AFTER: u64 = 10_000;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Strike(Fault),
    KillNode {
        at: usize,
    },
    StartNode {
        at: usize,
    },
    StartController {
        at: usize,
    },
    Thaw {
        at: usize,
    },
    /// A node that stood still goes on, if it is still the same process.
    ThawNode {
        at: usize,
        life: u64,
    },
    Reconnect {
        at: usize,
    },
    /// One of those that can have gone on without this node, which stood still until now, dies.
    KillBeside {
        at: usize,
    },
    /// A frozen leader goes on, and can reach its log no more than the others can.
    ThawAlone,
    ReconnectController {
        at: usize,
    },
    Calm,
    /// A node's disk has room again.
    DiskHasRoom {
        at: usize,
    },
    /// Every node is killed at once.
    AllDie,
    /// A stopped node asks whether it may start.
    AtGate {
        at: usize,
    },
}

/// A kind of fault, or of something that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    NodeCrash,
    NodeLongGone,
    NodeGone,
    TwoNodesGone,
    /// With its sidecar: for others it is silent, and when it goes on it shows what it was before.
    NodeFreeze,
    SidecarCrash,
    ControllerCrash,
    ControllerCrashes,
    ControllerFreeze,
    ControllerCutOff,
    LogUnknown,
    LogFails,
    Partition,
    OneWay,
    BetweenNodes,
    SidecarFreeze,
    LogCutOff,
    SlowNetwork,
    LostReplies,
    BrokenConnections,
    RouteDroppedByHand,
    NodeAdded,
    TableCreated,
    TableDropped,
    /// Of the whole cluster, while nobody writes: what was acknowledged a moment ago is only where it was written.
    TotalLoss,
    TableEmptied,
    RfChanged,
    ShardMoved,
    MovesHeld,
    NodeDrained,
    NodeRemoved,
    /// In the worst moment, and when it goes on another one leads.
    LeaderFreeze,
    SlowDisk,
    FullDisk,
    ClockJump,
    LateLooks,
    /// Statements stand still between the node that routes them and the one that has the shard.
    StalledStatements,
}

impl Fault {
    /// So many of the last ones befall machines and clocks.
    pub const OF_MACHINES: usize = 6;

    pub const ALL: [Self; 36] = [
        Self::NodeCrash,
        Self::NodeLongGone,
        Self::NodeGone,
        Self::TwoNodesGone,
        Self::NodeFreeze,
        Self::SidecarCrash,
        Self::ControllerCrash,
        Self::ControllerCrashes,
        Self::ControllerFreeze,
        Self::ControllerCutOff,
        Self::LogUnknown,
        Self::LogFails,
        Self::Partition,
        Self::OneWay,
        Self::BetweenNodes,
        Self::SidecarFreeze,
        Self::LogCutOff,
        Self::SlowNetwork,
        Self::LostReplies,
        Self::BrokenConnections,
        Self::RouteDroppedByHand,
        Self::NodeAdded,
        Self::TableCreated,
        Self::TableDropped,
        Self::TableEmptied,
        Self::RfChanged,
        Self::ShardMoved,
        Self::MovesHeld,
        Self::NodeDrained,
        Self::NodeRemoved,
        Self::LeaderFreeze,
        Self::SlowDisk,
        Self::FullDisk,
        Self::ClockJump,
        Self::LateLooks,
        Self::StalledStatements,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeCrash => "node crash",
            Self::NodeLongGone => "node long gone",
            Self::NodeGone => "node gone for good",
            Self::TwoNodesGone => "two nodes gone",
            Self::NodeFreeze => "node frozen",
            Self::SidecarCrash => "sidecar crash",
            Self::ControllerCrash => "controller crash",
            Self::ControllerCrashes => "controller crashes between steps",
            Self::ControllerFreeze => "controller frozen",
            Self::ControllerCutOff => "controller cut off",
            Self::LogUnknown => "log append unknown",
            Self::LogFails => "log append fails",
            Self::Partition => "partition",
            Self::OneWay => "one-way partition",
            Self::BetweenNodes => "partition between nodes",
            Self::SidecarFreeze => "sidecar frozen",
            Self::LogCutOff => "log cut off",
            Self::SlowNetwork => "slow network",
            Self::LostReplies => "lost replies",
            Self::BrokenConnections => "broken connections",
            Self::RouteDroppedByHand => "route dropped by hand",
            Self::TotalLoss => "total loss",
            Self::NodeAdded => "node added",
            Self::TableCreated => "table created",
            Self::TableDropped => "table dropped",
            Self::TableEmptied => "table emptied",
            Self::RfChanged => "rf changed",
            Self::ShardMoved => "shard moved by hand",
            Self::MovesHeld => "moves held",
            Self::NodeDrained => "node drained",
            Self::NodeRemoved => "node removed",
            Self::LeaderFreeze => "leader frozen with a command",
            Self::SlowDisk => "slow disk",
            Self::FullDisk => "full disk",
            Self::ClockJump => "clock jump",
            Self::LateLooks => "late looks",
            Self::StalledStatements => "stalled statements",
        }
    }
}

impl Fault {
    /// As part of a scenario's name.
    pub fn slug(self) -> String {
        self.name().replace(' ', "-")
    }
}

/// Lets one thing happen now.
pub fn happen(world: &mut World, turn: Turn) {
    world.story.add(world.now, || format!("{turn:?}"));
    match turn {
        Turn::Strike(fault) => {
            strike(world, fault);
        }
        Turn::KillNode { at } => world.kill_node(at),
        Turn::StartNode { at } => {
            let at_gate = world.play.borrow().gates.contains_key(&world.machines[at].node);
            if !world.machines[at].is_up() && !world.machines[at].gone && !at_gate {
                if machines::has_room(world, at) {
                    come_back(world, at);
                } else {
                    // It ends at once, and is started again.
                    later(world, 1_000, turn);
                }
            }
        }
        Turn::AllDie => all_die(world),
        Turn::AtGate { at } => at_gate(world, at),
        Turn::StartController { at } => {
            if world.seats[at].process.is_none() {
                world.start_controller(at);
            }
        }
        Turn::Thaw { at } => world.thaw(at),
        Turn::ThawNode { at, life } => {
            if world.machines[at].life == life {
                world.thaw_node(at);
            }
        }
        Turn::KillBeside { at } => machines::kill_beside(world, at),
        Turn::ThawAlone => machines::thaw_alone(world),
        Turn::DiskHasRoom { at } => machines::fill_disk(world, at, false),
        Turn::Reconnect { at } => {
            world.machines[at].disturbed = world.now;
            world.machines[at].cut_off = false;
            world.net.mend(Place::Node(at));
        }
        Turn::ReconnectController { at } => {
            world.net.mend(Place::Controller(at));
            world.store.cut_off(at as u64, false);
        }
        Turn::Calm => {
            world.net.delay_max = 2;
            world.net.breaks = 0;
            world.net.lost_replies = 0;
            world.net.duplicates = 0;
            machines::end_slow(world);
            world.net.late_looks = 0;
            world.net.stalls = 0;
            world.controller_crashes = 0;
        }
    }
    refresh_live(world);
}

/// Tells the clients which nodes answer.
pub fn refresh_live(world: &mut World) {
    let mut play = world.play.borrow_mut();
    let up = world.machines.iter().filter(|machine| machine.is_up()).map(|machine| machine.node.clone());
    let live: Vec<NodeId> = up.filter(|node| !play.leaving.contains(node)).collect();
    play.live = live;
}

/// Everything works again from now on.
pub fn end(world: &mut World) {
    world.story.add(world.now, || "faults end".to_owned());
    world.freeze_at_next_command = false;
    world.freeze_leader_at_next_command = false;
    world.net.heal();
    world.store.end_faults();
    world.controller_crashes = 0;
    for at in 0..world.machines.len() {
        world.thaw_node(at);
        if std::mem::take(&mut world.machines[at].cut_off) {
            world.machines[at].disturbed = world.now;
        }
        world.machines[at].sidecar_frozen_until = world.now;
        if !machines::has_room(world, at) {
            machines::fill_disk(world, at, false);
        }
        let at_gate = world.play.borrow().gates.contains_key(&world.machines[at].node);
        if !world.machines[at].is_up() && !world.machines[at].gone && !at_gate {
            come_back(world, at);
        }
    }
    world.play.borrow_mut().ending = true;
    for at in 0..world.seats.len() {
        if world.seats[at].process.is_none() {
            world.start_controller(at);
        }
        if world.seats[at].frozen {
            world.thaw(at);
        }
    }
    refresh_live(world);
}

/// Nobody writes any more, and then all die: what was acknowledged a moment before may be only where it was written.
pub fn rest_and_die(world: &mut World) {
    world.play.borrow_mut().resting = true;
    world.play.borrow_mut().all_die_soon = true;
    later(world, 5_000, Turn::AllDie);
}

/// kill -9 of all; each is started again through the gate, in any order.
fn all_die(world: &mut World) {
    world.play.borrow_mut().all_die_soon = false;
    if world.play.borrow().ending {
        world.play.borrow_mut().resting = false;
        return;
    }
    for at in 0..world.machines.len() {
        world.machines[at].disturbed = world.now;
        if world.machines[at].is_up() {
            world.kill_node(at);
        }
        let node = world.machines[at].node.clone();
        world.play.borrow_mut().gates.insert(node, Gate::Shut);
        let wait = world.chance.between(500, 20_000);
        later(world, wait, Turn::AtGate { at });
    }
    refresh_live(world);
}

/// A node that died is started through the gate: beside one that waits without a quorum, or whose replication has stopped, it
/// could bring an older copy into force.
fn come_back(world: &mut World, at: usize) {
    let node = world.machines[at].node.clone();
    world.play.borrow_mut().gates.insert(node, Gate::Shut);
    at_gate(world, at);
}

/// A node that died starts on what it left behind, but for its routing tables: the gate takes them away, and an embedded
/// node forgets them by itself.
fn start_again(world: &mut World, at: usize) {
    world.start_node(at);
    let names: Vec<String> = world.play.borrow().tables.keys().cloned().collect();
    for name in names {
        // One that is not there is none to take away.
        let _absent = world.peek(at, &format!("DROP TABLE {name} OPTION force=1"));
    }
}

/// Asks, and asks again, until the node may start.
fn at_gate(world: &mut World, at: usize) {
    let node = world.machines[at].node.clone();
    let mut gate = world.play.borrow().gates.get(&node).copied();
    if world.bug == Some(Bug::OlderCopyFirst) {
        gate = gate.map(|_| Gate::Open);
    }
    match gate {
        None => return,
        Some(Gate::Open) if machines::has_room(world, at) => {
            world.play.borrow_mut().gates.remove(&node);
            if !world.machines[at].is_up() {
                world.machines[at].disturbed = world.now;
                let forget = world.play.borrow_mut().forget.remove(&node).unwrap_or_default();
                world.machines[at].forget(&forget);
                world.story.add(world.now, || format!("{node} forgets {forget:?}"));
                start_again(world, at);
            }
            if world.play.borrow().gates.is_empty() && !world.play.borrow().all_die_soon {
                world.play.borrow_mut().resting = false;
            }
            return refresh_live(world);
        }
        Some(Gate::Shut) => {
            let play = world.play.clone();
            world.play.borrow_mut().gates.insert(node.clone(), Gate::Asked);
            world.spawn(Task::new(Owner::Client, |wire| play::gate(wire, play, node)));
        }
        Some(Gate::Asked | Gate::Open) => {}
    }
    later(world, 500, Turn::AtGate { at });
}

/// Lets the fault begin, and notes which operations it met; `false` when there is nothing it could befall now.
pub fn strike(world: &mut World, fault: Fault) -> bool {
    // Drawn for later than the end.
    if world.play.borrow().ending {
        return false;
    }
    // Before the leader itself is gone.
    let running: BTreeSet<&'static str> = world.leader().map_or(BTreeSet::new(), |leader| {
        leader.controller.state().active().map(control::operation::Operation::name).collect()
    });
    let happens = happens(world, fault);
    if happens {
        world.count_fault(fault.name());
        world.cover(fault.name(), &running);
    }
    happens
}

/// `false` when there is nothing it could befall.
fn happens(world: &mut World, fault: Fault) -> bool {
    match fault {
        Fault::NodeCrash | Fault::NodeLongGone => {
            let Some(at) = victim(world) else { return false };
            world.machines[at].disturbed = world.now;
            world.kill_node(at);
            let down = if fault == Fault::NodeLongGone {
                world.chance.between(120_000, 400_000)
            } else if world.chance.hits(300) {
                world.chance.between(100, 3_000)
            } else {
                world.chance.between(3_000, 60_000)
            };
            later(world, down, Turn::StartNode { at });
        }
        Fault::NodeGone => return lose(world),
        Fault::TwoNodesGone => {
            if !lose(world) {
                return false;
            }
            // The groups go on without the first, and nothing of it is made good yet.
            later(world, 5_000, Turn::Strike(Fault::NodeGone));
        }
        Fault::SidecarCrash => {
            let runs = |at: &usize| world.machines[*at].is_up() && !world.machines[*at].is_frozen();
            let up: Vec<usize> = (0..world.machines.len()).filter(runs).collect();
            let Some(at) = world.chance.pick(&up).copied() else { return false };
            world.kill_sidecar(at);
            world.start_sidecar(at);
        }
        // In the worst moment: when the next command is on its way to it.
        Fault::SidecarFreeze => world.freeze_at_next_command = true,
        Fault::ControllerCrash | Fault::ControllerFreeze | Fault::ControllerCutOff | Fault::LogCutOff => {
            return strike_controller(world, fault);
        }
        Fault::ControllerCrashes => {
            world.controller_crashes = 60;
            later(world, 15_000, Turn::Calm);
        }
        Fault::LogUnknown => {
            let applied = world.chance.hits(500);
            let fault = if applied {
                store::memory::Fault::UnknownApplied
            } else {
                store::memory::Fault::UnknownLost
            };
            world.store.inject(fault);
        }
        Fault::LogFails => world.store.inject(store::memory::Fault::AppendFails),
        Fault::Partition | Fault::OneWay | Fault::BetweenNodes => {
            let Some(at) = victim(world) else { return false };
            cut_off(world, at, fault);
            let lasts = world.chance.between(500, 40_000);
            later(world, lasts, Turn::Reconnect { at });
        }
        Fault::TotalLoss => {
            // Whoever is down already has an older copy.
            if world.machines.iter().any(|machine| machine.cut_off || machine.gone)
                || world.play.borrow().resting
            {
                return false;
            }
            rest_and_die(world);
        }
        Fault::SlowNetwork => {
            world.net.delay_max = world.chance.between(20, 400);
            later(world, 15_000, Turn::Calm);
        }
        Fault::LostReplies => {
            world.net.lost_replies = world.chance.between(10, 100);
            world.net.duplicates = 100;
            later(world, 15_000, Turn::Calm);
        }
        Fault::BrokenConnections => {
            world.net.breaks = world.chance.between(1, 10);
            for machine in &mut world.machines {
                machine.disturbed = world.now + 10_000;
            }
            later(world, 10_000, Turn::Calm);
        }
        Fault::NodeFreeze
        | Fault::LeaderFreeze
        | Fault::SlowDisk
        | Fault::FullDisk
        | Fault::ClockJump
        | Fault::LateLooks
        | Fault::StalledStatements => return machines::strike(world, fault),
        Fault::RouteDroppedByHand
        | Fault::NodeAdded
        | Fault::TableCreated
        | Fault::TableDropped
        | Fault::TableEmptied
        | Fault::RfChanged
        | Fault::ShardMoved
        | Fault::MovesHeld
        | Fault::NodeDrained
        | Fault::NodeRemoved => return people::act(world, fault),
    }
    true
}

fn later(world: &mut World, after: u64, turn: Turn) {
    world.push(world.now + after, Event::Fault(turn));
}

fn strike_controller(world: &mut World, fault: Fault) -> bool {
    let up: Vec<usize> = (0..world.seats.len())
        .filter(|at| world.seats[*at].process.is_some() && !world.seats[*at].frozen)
        .collect();
    // Mostly the one that leads.
    let leads: Vec<usize> = up
        .iter()
        .copied()
        .filter(|at| world.seats[*at].process.as_ref().is_some_and(|process| process.epoch().is_some()))
        .collect();
    let from = if leads.is_empty() || world.chance.hits(200) { &up } else { &leads };
    let Some(at) = world.chance.pick(from).copied() else { return false };
    match fault {
        Fault::ControllerCrash => {
            world.kill_controller(at);
            let down = world.chance.between(100, 15_000);
            later(world, down, Turn::StartController { at });
        }
        Fault::ControllerFreeze => {
            world.freeze(at);
            let lasts = world.chance.between(500, 40_000);
            later(world, lasts, Turn::Thaw { at });
        }
        _ => {
            // Without its log, and alone; the nodes may still hear it, and go to and fro between two leaders.
            let from_nodes = fault == Fault::ControllerCutOff;
            for node in (0..world.machines.len()).filter(|_| from_nodes) {
                world.net.cut(Place::Controller(at), Place::Node(node));
                world.net.cut(Place::Node(node), Place::Controller(at));
            }
            if !from_nodes {
                world.net.lost_replies = 200;
                later(world, 15_000, Turn::Calm);
            }
            if !from_nodes || world.chance.hits(500) {
                world.store.cut_off(at as u64, true);
                for other in 0..world.seats.len() {
                    world.net.cut(Place::Controller(at), Place::Controller(other));
                    world.net.cut(Place::Controller(other), Place::Controller(at));
                }
            }
            let lasts = world.chance.between(500, 30_000);
            later(world, lasts, Turn::ReconnectController { at });
        }
    }
    true
}

/// A node whose loss the cluster is meant to survive: each of its groups has another whole member that can be reached,
/// and its user's cluster keeps a majority. A shard of one copy is away with its node, and comes back with it.
fn victim(world: &mut World) -> Option<usize> {
    let members = world.members();
    let nodes = members.len();
    let fine: Vec<usize> = members
        .into_iter()
        .filter(|at| world.machines[*at].is_up() && !world.machines[*at].cut_off)
        .collect();
    if fine.len() * 2 <= nodes + 1 {
        return None;
    }
    let at = world.chance.pick(&fine).copied()?;
    leaves_others_whole(world, at, &fine).then_some(at)
}

/// Whether each group of the node has another whole member among `fine`, and the user's cluster a majority.
fn leaves_others_whole(world: &mut World, at: usize, fine: &[usize]) -> bool {
    let own = invariants::clusters(world, at);
    own.into_iter().all(|(group, cluster)| {
        let others = fine.iter().filter(|other| **other != at).filter(|other| {
            invariants::clusters(world, **other).get(&group).is_some_and(model::ClusterStatus::is_synced)
        });
        let others = others.count();
        // The user's own cluster is not ours to bootstrap.
        if group.as_str() == "c" { others * 2 > cluster.nodes_view.len() } else { others > 0 }
    })
}

/// Whether the cluster is meant to survive that this node dies for a while: while all others are there, any.
pub fn may_be_killed(world: &mut World, at: usize) -> bool {
    let up: Vec<usize> = world.members().into_iter().filter(|other| world.machines[*other].is_up()).collect();
    let is_away = |machine: &crate::machine::Machine| !machine.is_up() || machine.is_frozen();
    let away = world.machines.iter().enumerate().any(|(other, machine)| other != at && is_away(machine));
    !away || leaves_others_whole(world, at, &up)
}

/// A node goes and never comes back. It holds no shard alone, and enough nodes stay for what it held.
fn lose(world: &mut World) -> bool {
    let Some(at) = victim(world).filter(|at| leaves_half(world, *at)) else { return false };
    let members = world.members();
    // One that stood still until now shows what it was before, and may be no whole copy any more.
    let counts = |at: &usize| {
        let machine = &world.machines[*at];
        machine.is_up() && !machine.is_frozen() && machine.thawed + KNOWS_AFTER <= world.now
    };
    if members.len() < 4 || !members.iter().all(counts) {
        return false;
    }
    let node = world.machines[at].node.clone();
    let there = people::tables(world);
    // One whose creation or drop was only asked for may be there, too.
    let known: Vec<String> = world.play.borrow().tables.keys().cloned().collect();
    for name in known {
        let route = invariants::routes::shown(world, at, &name);
        let keeps = |copies: &Vec<NodeId>| copies.iter().any(|copy| *copy != node);
        if route.map_or(there.contains(&name), |route| !route.shards.iter().all(keeps)) {
            return false;
        }
    }
    if holds_alone(world, at) {
        return false;
    }
    world.machines[at].disturbed = world.now;
    world.machines[at].gone = true;
    world.kill_node(at);
    true
}

/// Whether the node has a shard that no other one has. Its table may have no route now.
fn holds_alone(world: &mut World, at: usize) -> bool {
    let shards = |world: &mut World, at| invariants::leftovers::names(world, at, "SHOW TABLES FROM SYSTEM");
    let mut own = shards(world, at);
    for other in (0..world.machines.len()).filter(|other| *other != at) {
        let theirs = shards(world, other);
        own.retain(|shard| !theirs.contains(shard));
    }
    !own.is_empty()
}

/// Whether of each group of the node half of those that its last view names stay: fewer may go on only by an operator's word.
fn leaves_half(world: &mut World, at: usize) -> bool {
    let own = invariants::clusters(world, at);
    let stays = |node: &NodeId| {
        let is_it = |machine: &crate::machine::Machine| machine.node == *node && machine.is_up();
        *node != world.machines[at].node && world.machines.iter().any(is_it)
    };
    own.values().all(|cluster| {
        cluster.nodes_view.iter().filter(|node| stays(node)).count() * 2 >= cluster.nodes_view.len()
    })
}

/// Cuts a node off, in the way of this fault, until [`Turn::Reconnect`].
pub fn cut_off(world: &mut World, at: usize, fault: Fault) {
    let one_way = fault == Fault::OneWay;
    world.machines[at].disturbed = world.now;
    world.machines[at].cut_off = true;
    let node = &world.machines[at].node;
    world.story.add(world.now, || format!("{node} is cut off: {fault:?}"));
    let hears = one_way && world.chance.hits(500);
    let others = (0..world.machines.len()).filter(|other| *other != at).map(Place::Node);
    // Between nodes alone, the controllers see all of them.
    let cut = if fault == Fault::BetweenNodes { 0 } else { world.seats.len() };
    let controllers = (0..cut).map(Place::Controller);
    for other in others.chain(controllers).collect::<Vec<_>>() {
        if !hears {
            world.net.cut(other, Place::Node(at));
        }
        if hears || !one_way {
            world.net.cut(Place::Node(at), other);
        }
    }
}
