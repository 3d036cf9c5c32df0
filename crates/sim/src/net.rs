//! The network: who can hear whom, how long it takes, what is lost.

use crate::chance::Chance;
use std::collections::{BTreeMap, BTreeSet};

/// A lost packet is sent again after 200 ms, and after twice as long with each loss more.
const STALL_MAX: u64 = 2_500;

/// Somewhere a message can come from or go to. Clients sit beside the node they ask and are never cut off from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Node(usize),
    Controller(usize),
    Client,
}

/// One network for everybody.
#[derive(Debug)]
pub struct Network {
    /// From the first the second hears nothing.
    cut: BTreeSet<(Place, Place)>,
    pub delay_max: u64,
    /// In a thousand messages between nodes, so many break their connection.
    pub breaks: u64,
    /// In a thousand replies, so many are lost with their connection.
    pub lost_replies: u64,
    /// In a thousand polls of sidecars, so many arrive twice.
    pub duplicates: u64,
    /// What reaches a place waits up to so long before anything comes of it.
    pub slow: BTreeMap<Place, u64>,
    /// What nodes show of themselves comes up to so much later.
    pub late_looks: u64,
    /// In a thousand statements that a node sends on to another, so many stand still on their way, as on a connection that
    /// lost a packet.
    pub stalls: u64,
    /// A piece of a copy takes so long, one after the other: tables are large, which is no fault.
    pub piece_takes: u64,
    /// Messages keep their order between two places.
    last: BTreeMap<(Place, Place), u64>,
}

impl Network {
    pub fn new() -> Self {
        Self {
            cut: BTreeSet::new(),
            delay_max: 2,
            breaks: 0,
            lost_replies: 0,
            duplicates: 0,
            slow: BTreeMap::new(),
            late_looks: 0,
            stalls: 0,
            piece_takes: 0,
            last: BTreeMap::new(),
        }
    }

    /// Nothing is cut, lost or slow any more.
    pub fn heal(&mut self) {
        let last = std::mem::take(&mut self.last);
        *self = Self { last, piece_takes: self.piece_takes, ..Self::new() };
    }

    pub fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    pub fn mend(&mut self, place: Place) {
        self.cut.retain(|(from, to)| *from != place && *to != place);
    }

    pub fn hears(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// How much later than other messages a statement that one node sends on to another arrives: each has a connection of its
    /// own.
    pub fn stall(&self, chance: &mut Chance) -> u64 {
        if self.stalls > 0 && chance.hits(self.stalls) { chance.between(200, STALL_MAX) } else { 0 }
    }

    /// When a message sent now arrives.
    pub fn arrival(&mut self, now: u64, from: Place, to: Place, chance: &mut Chance) -> u64 {
        if from == to {
            // A sidecar waits for its node's disk, too.
            return now + self.slow.get(&to).map_or(0, |slow| chance.below(*slow));
        }
        let slow = self.slow.get(&to).map_or(0, |slow| chance.below(*slow));
        let at = now + 1 + chance.below(self.delay_max) + slow;
        // Clients are many and independent of each other.
        if from == Place::Client || to == Place::Client {
            return at;
        }
        let last = self.last.entry((from, to)).or_default();
        *last = at.max(*last);
        *last
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}
