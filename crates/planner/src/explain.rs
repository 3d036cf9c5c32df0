//! Words for people: why a copy is where it is, what would move it, what forbids each other node, and what a plan
//! changes. Decides nothing; every text is made from a finished plan.

use crate::{
    instance::Instance,
    outcome::{Move, Plan},
    problem::{NodeState, Problem},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What the texts need to know of the problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    nodes: BTreeMap<String, NodeFacts>,
    /// Whether copies must be spread over zones.
    zoned: bool,
    node_limit: Option<u32>,
    /// Counted once for all units: how the nodes stand, with a few names each.
    standing: Vec<(Standing, Vec<String>, usize)>,
}

#[derive(Clone, Debug, PartialEq)]
struct NodeFacts {
    zone: Option<String>,
    standing: Standing,
    load: f64,
    /// What it should hold, from and to.
    low: f64,
    high: f64,
}

/// What a node is to a unit that is not on it, before zones are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Down,
    Draining,
    /// Draining, and nothing is on it any more.
    Drained,
    NoCapacity,
    Limit,
    Full,
    Room,
}

impl Standing {
    fn text(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::NoCapacity => "capacity 0",
            Self::Limit => "holds max_units_per_node",
            Self::Full => "has its share",
            Self::Room => "could take one more, but a copy would be made without need",
        }
    }
}

/// So many nodes are named per standing; the rest is counted.
const NAMES_MAX: usize = 3;

impl Facts {
    pub(crate) fn new(
        problem: &Problem,
        instance: &Instance,
        ranges: &[(f64, f64)],
        units: &[u32],
        load: &BTreeMap<String, f64>,
    ) -> Self {
        let holds = |id: &String| problem.units.iter().any(|unit| unit.replicas.contains(id));
        let mut nodes = BTreeMap::new();
        let mut standing: BTreeMap<Standing, (Vec<String>, usize)> = BTreeMap::new();
        for (i, node) in problem.nodes.iter().enumerate() {
            let load = load.get(&node.id).copied().unwrap_or(0.0);
            let (low, high) = ranges[i];
            let here = match node.state {
                NodeState::Down => Standing::Down,
                NodeState::Draining if holds(&node.id) => Standing::Draining,
                NodeState::Draining => Standing::Drained,
                NodeState::Active if !instance.usable[i] => Standing::NoCapacity,
                NodeState::Active if units[i] >= instance.node_limit => Standing::Limit,
                NodeState::Active if load >= high => Standing::Full,
                NodeState::Active => Standing::Room,
            };
            let entry = standing.entry(here).or_default();
            // One spare name for each copy that a text leaves out.
            if entry.0.len() < 2 * NAMES_MAX {
                entry.0.push(node.id.clone());
            }
            entry.1 += 1;
            let zone = node.zone.clone();
            nodes.insert(node.id.clone(), NodeFacts { zone, standing: here, load, low, high });
        }
        let standing = standing.into_iter().map(|(s, (names, count))| (s, names, count)).collect();
        let node_limit = problem.options.max_units_per_node;
        Self { nodes, zoned: instance.zoned(), node_limit, standing }
    }
}

/// All texts of a plan, made while they are written: at a million units they would fill the memory.
pub(crate) struct All<'a>(pub &'a Plan);

impl Serialize for All<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut of_unit: Vec<&Move> = self.0.moves.iter().collect();
        of_unit.sort_by(|a, b| a.unit.cmp(&b.unit));
        let mut rest = of_unit.as_slice();
        let mut map = serializer.serialize_map(Some(self.0.placement.len()))?;
        for (unit, nodes) in &self.0.placement {
            let count = rest.iter().take_while(|m| m.unit == *unit).count();
            let (mine, others) = rest.split_at(count);
            rest = others;
            map.serialize_entry(unit, &text(&self.0.facts, nodes, mine))?;
        }
        map.end()
    }
}

/// The text of one unit that shall be on `nodes` by way of `moves`.
pub(crate) fn text(facts: &Facts, nodes: &[String], moves: &[&Move]) -> String {
    let mut text = String::new();
    if nodes.is_empty() {
        text.push_str("On no node. ");
    }
    for node in nodes {
        let gained = moves.iter().find(|m| m.to.as_ref() == Some(node));
        let why = match (gained, facts.nodes.get(node)) {
            (Some(step), _) => step.reason.to_string(),
            (None, Some(n)) if n.standing < Standing::Limit => {
                "stays until there is a place for it".to_owned()
            }
            _ => "was there already".to_owned(),
        };
        let _ = write!(text, "{node}: {why}. ");
    }
    for step in moves {
        if let (None, Some(from)) = (&step.to, &step.from) {
            let _ = write!(text, "Leaves {from}: {}. ", step.reason);
        }
    }
    if let Some(range) = share_text(facts, nodes) {
        let _ = write!(text, "Would move if its node were lost, drained or {range}. ");
    }
    let zones = closed_zones(facts, nodes);
    if !zones.is_empty() {
        let _ = write!(text, "Closed: zones {} (a copy is there). ", zones.join(", "));
    }
    let others: Vec<String> = facts.standing.iter().filter_map(|of| others_text(facts, of, nodes)).collect();
    if !others.is_empty() {
        let _ = write!(text, "Elsewhere: {}.", others.join("; "));
    }
    text.trim_end().to_owned()
}

/// What would make the fullest of a unit's nodes give copies away.
fn share_text(facts: &Facts, nodes: &[String]) -> Option<String> {
    let own = nodes.iter().filter_map(|n| facts.nodes.get(n)).filter(|n| n.standing >= Standing::Limit);
    let fullest = own.max_by(|a, b| (a.load - a.high).total_cmp(&(b.load - b.high)))?;
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let (low, high) = (rounded(fullest.low), rounded(fullest.high));
    let share = if fullest.low < fullest.high { format!("{low} to {high}") } else { format!("{high}") };
    Some(format!("above its share (holds {} of {share})", rounded(fullest.load)))
}

/// Zones that hold a copy, where each further copy would have to go elsewhere. Only told while the copies are in
/// distinct zones; with fewer zones than copies, several share one.
fn closed_zones<'a>(facts: &'a Facts, nodes: &[String]) -> Vec<&'a str> {
    let zones: Vec<&str> = nodes
        .iter()
        .filter_map(|n| facts.nodes.get(n))
        .filter(|_| facts.zoned)
        .map(|n| n.zone.as_deref().unwrap_or("(none)"))
        .collect();
    let distinct: BTreeSet<&str> = zones.iter().copied().collect();
    if distinct.len() == zones.len() { distinct.into_iter().collect() } else { Vec::new() }
}

/// The nodes of one standing that do not hold the unit: a few names and how many more.
fn others_text(facts: &Facts, of: &(Standing, Vec<String>, usize), nodes: &[String]) -> Option<String> {
    let (standing, names, count) = of;
    let own = nodes.iter().filter(|n| facts.nodes.get(*n).is_some_and(|n| n.standing == *standing)).count();
    let others = count.saturating_sub(own);
    let shown: Vec<&str> =
        names.iter().filter(|n| !nodes.contains(n)).take(NAMES_MAX).map(String::as_str).collect();
    if others == 0 {
        return None;
    }
    let more = others - shown.len();
    let list = match (shown.is_empty(), more) {
        (true, _) => format!("{more} nodes"),
        (false, 0) => shown.join(", "),
        (false, _) => format!("{} and {more} more", shown.join(", ")),
    };
    Some(format!("{list}: {}", standing.text()))
}

/// For each node that does not hold the unit after the plan, in order of ids: what forbids it, or why a move there
/// is not worth its copy. `None` for an unknown unit.
///
/// ```
/// use planner::{Limits, Node, NodeState, Options, Problem, Unit, explain, plan};
///
/// let mut nodes = ["a", "b", "c", "d"].map(Node::active).to_vec();
/// nodes[2].state = NodeState::Draining;
/// nodes[3].state = NodeState::Draining;
/// let units = vec![Unit::new("g", 1, ["a"]), Unit::new("h", 1, ["d"])];
/// let made = plan(&Problem { nodes, units, options: Options::default() }, &Limits::default());
/// let others = explain::other_nodes(&made, "g").expect("a unit of the problem");
/// assert_eq!(others[1], ("c", "drained".to_owned()));
/// assert_eq!(others[2], ("d", "draining".to_owned()));
/// ```
pub fn other_nodes<'a>(plan: &'a Plan, unit: &str) -> Option<Vec<(&'a str, String)>> {
    let nodes = plan.placement.get(unit)?;
    let zones = closed_zones(&plan.facts, nodes);
    let others = plan.facts.nodes.iter().filter(|(id, _)| !nodes.contains(id));
    let why = |n: &NodeFacts| {
        let zone = n.zone.as_deref().unwrap_or("(none)");
        match n.standing {
            Standing::Limit => {
                format!("{} ({})", n.standing.text(), plan.facts.node_limit.unwrap_or(u32::MAX))
            }
            Standing::Full | Standing::Room if zones.contains(&zone) => {
                format!("zone {zone} holds a copy, so only that copy could go there")
            }
            Standing::Full => format!("{} ({} of at most {})", n.standing.text(), n.load, n.high),
            _ => n.standing.text().to_owned(),
        }
    };
    Some(others.map(|(id, n)| (id.as_str(), why(n))).collect())
}

/// What the plan changes, one line a unit, under a summary.
///
/// ```
/// use planner::{Limits, Node, Options, Problem, Unit, explain, plan};
///
/// let nodes = ["a", "b"].map(Node::active).to_vec();
/// let problem = Problem { nodes, units: vec![Unit::new("g", 2, ["a"])], options: Options::default() };
/// let text = explain::difference(&problem, &plan(&problem, &Limits::default()));
/// assert!(text.contains("g: a → a, b"), "{text}");
/// ```
pub fn difference(problem: &Problem, plan: &Plan) -> String {
    let mut text = format!(
        "{} of {} units change: {} copies ({} bytes), at least {} needed, {} rounds\n",
        plan.moves.iter().map(|m| &m.unit).collect::<BTreeSet<_>>().len(),
        problem.units.len(),
        plan.copies,
        plan.bytes,
        plan.lower_bound,
        plan.rounds.len(),
    );
    let mut of_unit: BTreeMap<&str, Vec<&Move>> = BTreeMap::new();
    for step in &plan.moves {
        of_unit.entry(&step.unit).or_default().push(step);
    }
    for unit in &problem.units {
        let Some(moves) = of_unit.get(unit.id.as_str()) else { continue };
        let list = |nodes: &[String]| if nodes.is_empty() { "nowhere".to_owned() } else { nodes.join(", ") };
        let after = plan.placement.get(&unit.id).map_or(&[][..], Vec::as_slice);
        let reasons: BTreeSet<String> = moves.iter().map(|m| m.reason.to_string()).collect();
        let reasons: Vec<String> = reasons.into_iter().collect();
        let _ = writeln!(
            text,
            "{}: {} → {} ({})",
            unit.id,
            list(&unit.replicas),
            list(after),
            reasons.join("; ")
        );
    }
    for short in &plan.unplaceable {
        let _ = writeln!(text, "{}: {}", short.unit, short.why);
    }
    text
}
