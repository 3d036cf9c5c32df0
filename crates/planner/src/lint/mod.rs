//! Checks a plan with code of its own, sharing nothing with the planner but the types.
//!
//! Every plan is checked before it is acted on, so a mistake in the planner becomes a refusal and not a loss. The
//! checks are stated over names, counts and pairs of nodes, where the planner works with flows and hulls. They do
//! not judge whether a plan is the cheapest one; they hold for every plan that is safe and fair.

mod balance;
mod moves;
mod placement;
mod rounds;
mod view;

use crate::{outcome::Plan, problem::Problem};
use view::View;

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Violation {
    #[error("the plan was made from another state: make a new one")]
    Stale,
    #[error("unit {unit} of the problem is not in the placement")]
    UnitMissing { unit: String },
    #[error("the plan speaks of unit {unit}, which the problem does not have")]
    UnitUnknown { unit: String },
    #[error("unit {unit}: the problem has no node {node}")]
    NodeUnknown { unit: String, node: String },
    #[error("unit {unit}: {node} is listed twice")]
    NodeTwice { unit: String, node: String },
    #[error("unit {unit}: {node} is down")]
    NodeDown { unit: String, node: String },
    #[error("unit {unit}: {node} is draining or has capacity 0, and the copy need not stay there")]
    NodeClosed { unit: String, node: String },
    #[error("unit {unit}: {copies} copies, more than rf {rf}")]
    TooManyCopies { unit: String, copies: usize, rf: u32 },
    #[error("unit {unit}: {copies} copies, fewer than rf {rf}, and the plan does not report it")]
    NotReported { unit: String, copies: usize, rf: u32 },
    #[error("unit {unit} is reported as unplaceable, but {node} has room for it or it has all its copies")]
    WronglyReported { unit: String, node: String },
    #[error("unit {unit}: zone {crowded} holds two copies more than zone {free}, which has a free node")]
    Zone { unit: String, crowded: String, free: String },
    #[error("{node} holds {units} units, the limit is {limit}")]
    NodeLimit { node: String, units: u32, limit: u32 },
    #[error("{from} holds too much and {to} too little, though a copy of {unit} could move")]
    Unbalanced { from: String, to: String, unit: String },
    #[error("unit {unit}: {left} copies are left of {before} where {floor} must stay")]
    BelowFloor { unit: String, before: usize, left: usize, floor: usize },
    #[error("move {index}: it neither makes nor gives up a copy")]
    MoveEmpty { index: usize },
    #[error("move {index}: {node} has no copy of {unit} to give up")]
    MoveFromAbsent { index: usize, unit: String, node: String },
    #[error("move {index}: {node} already has a copy of {unit}")]
    MoveToPresent { index: usize, unit: String, node: String },
    #[error("unit {unit}: its moves do not lead to its placement")]
    MovesMissPlacement { unit: String },
    #[error("{what} is {told}, but it should be {is}")]
    Number { what: &'static str, told: u64, is: u64 },
    #[error("the load of {node} is told as {told}, but it is {is}")]
    Load { node: String, told: f64, is: f64 },
    #[error("the probability of a loss with {failures} failures is told as {told}")]
    Probability { failures: u32, told: f64 },
    #[error("move {index} is in {count} rounds, it must be in one")]
    RoundCount { index: usize, count: usize },
    #[error("round {round} has move {index}, which does not exist")]
    RoundUnknown { round: usize, index: usize },
    #[error("round {round}: {node} {direction} {count} copies, the limit is {limit}")]
    RoundLimit { round: usize, node: String, direction: &'static str, count: u32, limit: u32 },
}

/// Checks all rules and reports every violation found.
///
/// ```
/// use planner::{Limits, Node, Options, Problem, Unit, lint, plan};
///
/// let nodes = ["a", "b", "c"].map(Node::active).to_vec();
/// let problem = Problem { nodes, units: vec![Unit::new("g", 2, ["a", "b"])], options: Options::default() };
/// let mut made = plan(&problem, &Limits::default());
/// assert_eq!(lint::check(&problem, &made), Ok(()));
///
/// // A copy that is given up without another in its place.
/// made.placement.insert("g".to_owned(), vec!["a".to_owned()]);
/// assert!(lint::check(&problem, &made).is_err());
/// ```
pub fn check(problem: &Problem, plan: &Plan) -> Result<(), Vec<Violation>> {
    let mut found = Vec::new();
    if plan.made_from != problem.fingerprint() {
        found.push(Violation::Stale);
    }
    let view = View::new(problem, plan, &mut found);
    if found.is_empty() {
        placement::check(&view, &mut found);
        balance::check(&view, &mut found);
        moves::check(&view, &mut found);
        moves::numbers(&view, &mut found);
        rounds::check(problem, plan, &mut found);
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}
