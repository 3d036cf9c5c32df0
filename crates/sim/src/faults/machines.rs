//! Machines that do not do what they should: disks that are slow or full, clocks that jump, looks that come late, a
//! leader or a node that stands still.

use super::{Fault, Turn, later, may_be_killed, victim};
use crate::invariants;
use crate::net::Place;
use crate::world::World;
use std::sync::atomic::Ordering;

/// `false` when there is nothing it could befall.
pub fn strike(world: &mut World, fault: Fault) -> bool {
    match fault {
        Fault::LeaderFreeze => {
            world.freeze_leader_at_next_command = true;
            let after = world.chance.between(7_000, 14_000);
            later(world, after, Turn::ThawAlone);
        }
        Fault::NodeFreeze => {
            let Some(at) = victim(world) else { return false };
            stand_still(world, at);
        }
        Fault::SlowDisk => {
            let Some(at) = victim(world) else { return false };
            let slow = world.chance.between(50, 3_000);
            world.net.slow.insert(Place::Node(at), slow);
            later(world, 15_000, Turn::Calm);
        }
        Fault::FullDisk => {
            // With two of them full an operator has to choose between copies.
            if world.machines.iter().any(|machine| machine.disk_full.load(Ordering::Relaxed)) {
                return false;
            }
            let Some(at) = victim(world) else { return false };
            world.machines[at].disturbed = world.now;
            fill_disk(world, at, true);
            let lasts = world.chance.between(500, 40_000);
            later(world, lasts, Turn::DiskHasRoom { at });
        }
        Fault::ClockJump => {
            let seconds = world.chance.between(1, 90_000) as i64;
            world.clock_wrong_by += if world.chance.hits(500) { seconds } else { -seconds };
        }
        Fault::LateLooks => {
            world.net.late_looks = world.chance.between(100, 4_000);
            later(world, 15_000, Turn::Calm);
        }
        Fault::StalledStatements => {
            world.net.stalls = world.chance.between(100, 500);
            later(world, 30_000, Turn::Calm);
        }
        _ => return false,
    }
    true
}

/// For less than it takes to notice, until others have gone on, or until copies are made good elsewhere; now and then another
/// node dies in the moments in which this one still shows what it was before.
fn stand_still(world: &mut World, at: usize) {
    let lasts = match world.chance.below(3) {
        0 => world.chance.between(500, 3_000),
        1 => world.chance.between(3_000, 12_000),
        _ => world.chance.between(12_000, 60_000),
    };
    world.freeze_node(at, lasts);
    let life = world.machines[at].life;
    later(world, lasts, Turn::ThawNode { at, life });
    if world.chance.hits(400) {
        let after = lasts + world.chance.below(1_500);
        later(world, after, Turn::KillBeside { at });
    }
}

/// What it alone acknowledged while the other stood still is there again once it is.
pub fn kill_beside(world: &mut World, at: usize) {
    let own = invariants::clusters(world, at);
    let shares = |world: &World, other: usize| {
        let theirs = invariants::clusters(world, other);
        theirs.keys().any(|group| group.as_str() != "c" && own.contains_key(group))
    };
    let others = (0..world.machines.len()).filter(|other| *other != at && world.machines[*other].is_up());
    let beside: Vec<usize> = others.filter(|other| shares(world, *other)).collect();
    let Some(other) = world.chance.pick(&beside).copied() else { return };
    if world.play.borrow().ending || !may_be_killed(world, other) {
        return;
    }
    world.count_fault("node crash beside a thawed one");
    world.machines[other].disturbed = world.now;
    world.kill_node(other);
    let down = world.chance.between(500, 30_000);
    later(world, down, Turn::StartNode { at: other });
}

/// Whether what is said to the node comes late.
pub fn is_slow(world: &World, at: usize) -> bool {
    world.net.slow.contains_key(&Place::Node(at))
}

/// A node that was slow may have fallen out of its groups meanwhile, as one that was cut off.
pub fn end_slow(world: &mut World) {
    for at in 0..world.machines.len() {
        if world.net.slow.remove(&Place::Node(at)).is_some() {
            world.machines[at].disturbed = world.now;
        }
    }
}

pub fn has_room(world: &World, at: usize) -> bool {
    !world.machines[at].disk_full.load(Ordering::Relaxed)
}

pub fn fill_disk(world: &mut World, at: usize, full: bool) {
    world.machines[at].disk_full.store(full, Ordering::Relaxed);
    world.machines[at].disturbed = world.now;
}

/// It does not learn that it was deposed, and sidecars go to and fro between it and its successor.
pub fn thaw_alone(world: &mut World) {
    world.freeze_leader_at_next_command = false;
    for at in (0..world.seats.len()).filter(|at| world.seats[*at].frozen).collect::<Vec<_>>() {
        world.store.cut_off(at as u64, true);
        world.net.lost_replies = 300;
        world.thaw(at);
        let lasts = world.chance.between(2_000, 12_000);
        later(world, lasts, Turn::ReconnectController { at });
        later(world, 15_000, Turn::Calm);
    }
}
