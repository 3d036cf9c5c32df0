//! What the planner answers: the plan, its moves and their reasons, and how a plan is written as JSON.
//!
//! Holds no decision. The JSON is that of `shardwright plan`; `solve_seconds` is added by the caller, who owns the
//! clock.

use crate::explain;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use std::{collections::BTreeMap, fmt};

/// Where every unit shall be, and the copies that lead there from the state the plan was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Unit id → the nodes that shall hold it. A copy that must leave its node but has nowhere to go stays listed
    /// where it is, and the unit is in `unplaceable`.
    pub placement: BTreeMap<String, Vec<String>>,
    pub moves: Vec<Move>,
    /// Copies made: the moves that have a `to`.
    pub copies: u64,
    /// No placement of the same validity and balance makes fewer copies than this.
    pub lower_bound: u64,
    /// Sum of the bytes of the copies made.
    pub bytes: u64,
    /// Load per node after the plan: all active nodes, and others that keep a copy.
    pub load: BTreeMap<String, f64>,
    /// Units that have fewer copies than their rf after the plan, or keep one where it should not be.
    pub unplaceable: Vec<Unplaceable>,
    /// Indices into `moves`; the moves of one round run together, within the limits of the options.
    pub rounds: Vec<Vec<usize>>,
    pub proof: Proof,
    /// `copies − lower_bound`.
    pub gap: u64,
    /// By number of nodes that fail at the same moment, chosen by chance: how likely some unit loses all copies.
    /// Only values that could be computed exactly.
    pub loss_probability: BTreeMap<u32, f64>,
    /// What the texts of [`Plan::explain`] are made from.
    pub facts: explain::Facts,
    /// [`Problem::fingerprint`](crate::Problem::fingerprint) of the problem; a plan is void when that has changed.
    pub made_from: u64,
}

/// One copy to make, to give up, or both. With both, the new copy is made before the old one goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    pub unit: String,
    /// The node that gets a copy; `None`: a copy is only given up.
    pub to: Option<String>,
    /// The node that gives its copy up; `None`: nothing is given up.
    pub from: Option<String>,
    pub reason: Reason,
}

/// Why a move is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The unit is new.
    New,
    /// A copy went with its node.
    CopyLost {
        node: String,
    },
    /// All copies are on nodes that are down: whoever makes this one must bring the data from elsewhere.
    NoCopyLeft {
        node: String,
    },
    /// The unit has fewer copies than its rf though none was lost.
    TooFew {
        rf: u32,
    },
    /// The unit has more copies than its rf: that was lowered, or a node came back with old copies.
    TooMany {
        rf: u32,
    },
    Draining {
        node: String,
    },
    /// The node's capacity is 0.
    NoCapacity {
        node: String,
    },
    /// The node holds more units than `max_units_per_node`.
    NodeLimit {
        node: String,
    },
    /// Two copies share a zone while another has none.
    Zone {
        zone: String,
    },
    /// The old node is above its share or the new one below.
    Balance,
}

/// A unit that does not get what its rf asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unplaceable {
    pub unit: String,
    pub why: String,
}

/// How it is known that no plan makes fewer copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The copies made meet a bound that follows from the loads alone.
    Bound,
    /// An exhaustive search found no cheaper placement.
    Search,
    /// Not known; the optimum is at most `gap` copies lower.
    Gap,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => write!(f, "new unit"),
            Self::CopyLost { node } => write!(f, "restore: the copy on {node} is lost"),
            Self::NoCopyLeft { node } => {
                write!(f, "no copy is left (the last known was on {node}): its data must come from elsewhere")
            }
            Self::TooFew { rf } => write!(f, "fewer copies than rf {rf}"),
            Self::TooMany { rf } => write!(f, "more copies than rf {rf}"),
            Self::Draining { node } => write!(f, "{node} is draining"),
            Self::NoCapacity { node } => write!(f, "{node} has capacity 0"),
            Self::NodeLimit { node } => write!(f, "{node} holds more units than max_units_per_node"),
            Self::Zone { zone } => write!(f, "zone {zone} holds more copies than it should"),
            Self::Balance => write!(f, "balance"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Plan {
    /// Why the copies of `unit` are where they are and what would move them; `None` for an unknown unit.
    pub fn explain(&self, unit: &str) -> Option<String> {
        let nodes = self.placement.get(unit)?;
        let moves: Vec<&Move> = self.moves.iter().filter(|m| m.unit == unit).collect();
        Some(explain::text(&self.facts, nodes, &moves))
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Plan", 12)?;
        out.serialize_field("placement", &self.placement)?;
        out.serialize_field("moves", &self.moves)?;
        out.serialize_field("copies", &self.copies)?;
        out.serialize_field("lower_bound", &self.lower_bound)?;
        out.serialize_field("bytes", &self.bytes)?;
        out.serialize_field("load", &self.load)?;
        out.serialize_field("unplaceable", &self.unplaceable)?;
        out.serialize_field("rounds", &self.rounds)?;
        out.serialize_field("proof", &self.proof)?;
        out.serialize_field("gap", &self.gap)?;
        out.serialize_field("loss_probability", &self.loss_probability)?;
        out.serialize_field("explain", &explain::All(self))?;
        out.end()
    }
}
