//! What the planner is asked: nodes, units and where the units are now. Holds no decision.

use serde::{Deserialize, Serialize};

/// Whether a node may hold copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Holds copies and takes new ones.
    #[default]
    Active,
    /// Still holds its copies, and shall lose all of them.
    Draining,
    /// Its copies are lost.
    Down,
}

/// A node that holds copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub id: String,
    /// Copies of one unit go to distinct zones while there are enough. Nodes without a zone form one zone of
    /// their own when any other node has one.
    pub zone: Option<String>,
    /// Its share of the load, relative to the others'. A node of capacity 0 takes nothing and loses what it has.
    pub capacity: f64,
    pub state: NodeState,
}

/// What is placed: a replication group, or one shard of a table with rf 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    pub id: String,
    /// How many copies it shall have.
    pub rf: u32,
    /// The load that one copy puts on its node, in any unit common to all.
    pub weight: f64,
    /// What copying it once transfers.
    pub bytes: u64,
    /// The nodes that hold a copy now; none for a new unit. Copies on nodes that are down, or that the problem
    /// does not list, are lost. A unit whose copies are all lost is planned as a new one, with
    /// [`Reason::NoCopyLeft`](crate::Reason::NoCopyLeft): leave it out of the problem to wait for its nodes.
    pub replicas: Vec<String>,
}

/// Limits set by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many copies one node may hold at most; a replication group costs a port on each member.
    pub max_units_per_node: Option<u32>,
    /// How many copies a node receives at the same time, at least 1.
    pub transfers_in_per_node: u32,
    /// How many copies a node sends at the same time, at least 1.
    pub transfers_out_per_node: u32,
}

/// A question to the planner. Ids are unique; [`Problem::check`] tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    pub nodes: Vec<Node>,
    pub units: Vec<Unit>,
    pub options: Options,
}

/// How much work the planner may spend on proving or reaching the optimum. Counted in elementary steps, so that
/// the same input gives the same plan on a fast and on a slow machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Copies and exchanges that the search for cheaper placements may look at; tens of millions a second.
    pub search_steps: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_units_per_node: None, transfers_in_per_node: 2, transfers_out_per_node: 2 }
    }
}

impl Default for Limits {
    /// A few seconds on one core; events of real clusters need none, or a hundredth of it.
    fn default() -> Self {
        Self { search_steps: 200_000_000 }
    }
}

impl Node {
    /// An active node of capacity 1 without a zone.
    pub fn active(id: impl Into<String>) -> Self {
        Self { id: id.into(), zone: None, capacity: 1.0, state: NodeState::Active }
    }
}

impl Unit {
    /// A unit of weight 1 whose copies cost nothing to transfer.
    pub fn new<'a>(id: impl Into<String>, rf: u32, replicas: impl IntoIterator<Item = &'a str>) -> Self {
        let replicas = replicas.into_iter().map(str::to_owned).collect();
        Self { id: id.into(), rf, weight: 1.0, bytes: 0, replicas }
    }
}
