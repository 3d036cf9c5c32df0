//! Placement and rebalancing: one call, one plan, whatever happened.
//!
//! [`plan()`] turns a [`Problem`] (nodes, units and where the units are now) into a [`Plan`] (where they shall be,
//! and the copies that lead there). It is a pure function: the same input gives the same plan on every machine.
//! It never reads a clock, never talks to anybody and never acts; `control` carries plans out.
//!
//! # Objectives, in order
//!
//! 1. Validity: a unit's copies on distinct active nodes, in distinct zones while there are enough of them; no
//!    more units on a node than `max_units_per_node`; no copy given up that has no replacement.
//! 2. Balance by capacity: with equal weights every node holds the floor or the ceiling of its share.
//! 3. Fewest copies made, 4. fewest bytes copied, 5. earliest position in the input. Callers list nodes by name,
//!    so that the last rule means the lowest names; since it is the position that counts, renaming nodes changes
//!    nothing but names.
//!
//! # The parts
//!
//! | entry | does |
//! |---|---|
//! | [`input::read_problem`] | reads the JSON of `shardwright plan`; errors carry the JSON path |
//! | [`plan()`] | the planner |
//! | [`lint::check`] | checks a plan with code of its own; run on every plan before it is acted on |
//! | [`groups::assign`] | which replication group each shard of a new table enters, and which groups to make |
//! | [`explain`] | why a copy is where it is, what would move it, what forbids each other node |
//!
//! # Example
//!
//! ```
//! use planner::{Limits, Node, Options, Problem, Unit, lint, plan};
//!
//! let problem = Problem {
//!     nodes: ["a:9308", "b:9308", "c:9308"].map(Node::active).to_vec(),
//!     units: vec![Unit::new("group-1", 2, ["a:9308", "b:9308"]), Unit::new("group-2", 2, [])],
//!     options: Options::default(),
//! };
//! let plan = plan(&problem, &Limits::default());
//! assert_eq!(plan.placement["group-1"], ["a:9308", "b:9308"]);
//! assert_eq!(plan.copies, 2, "both of the new group");
//! lint::check(&problem, &plan).expect("a plan of the planner is valid");
//! ```

mod bound;
mod crowded;
mod fill;
mod fingerprint;
mod instance;
mod loss;
mod names;
mod outcome;
mod problem;
mod schedule;
mod search;
mod share;
mod solve;
mod weigh;
mod words;

pub mod bench;
pub mod explain;
pub mod groups;
pub mod input;
pub mod lint;

pub use outcome::{Move, Plan, Proof, Reason, Unplaceable};
pub use problem::{Limits, Node, NodeState, Options, Problem, Unit};
pub use solve::plan;
