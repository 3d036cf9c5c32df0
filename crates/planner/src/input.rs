//! Reads the JSON of `shardwright plan`, and says where it is wrong. Decides nothing.

use crate::problem::{Node, NodeState, Options, Problem, Unit};
use serde::{Deserialize, Deserializer, de};
use std::{collections::BTreeMap, fmt};

/// What is wrong with the input, and where: a JSON path such as `$.units[3].replicas[0]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct InputError {
    pub path: String,
    pub reason: String,
}

/// Sums of that many such numbers stay far below the largest `f64`, and differences of 1 between two of them count.
const NUMBER_MAX: f64 = 1e15;
/// 2^53, the largest integer that every JSON reader keeps exactly.
const BYTES_MAX: u64 = 1 << 53;
/// Ten times the largest layout that is measured; more would only exhaust memory.
const COPIES_MAX: u64 = 100_000_000;

/// Reads and checks a problem.
///
/// ```
/// use planner::{Limits, input::read_problem, plan};
///
/// let problem = read_problem(br#"{"nodes": [{"id": "a"}, {"id": "b"}], "units": [{"id": 1, "rf": 2}]}"#)?;
/// assert_eq!(plan(&problem, &Limits::default()).placement["1"], ["a", "b"]);
///
/// let error = read_problem(br#"{"nodes": [{"id": "a"}], "units": [{"id": 1, "rf": 1, "replicas": ["z"]}]}"#);
/// assert_eq!(error.expect_err("there is no z").path, "$.units[0].replicas[0]");
/// # Ok::<(), planner::input::InputError>(())
/// ```
pub fn read_problem(json: &[u8]) -> Result<Problem, InputError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let wire: WireProblem = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = match e.path().to_string().as_str() {
            "." => "$".to_owned(),
            path => format!("$.{path}"),
        };
        InputError { path, reason: e.into_inner().to_string() }
    })?;
    reader.end().map_err(|e| InputError { path: "$".to_owned(), reason: e.to_string() })?;
    let problem = Problem {
        nodes: wire.nodes.into_iter().map(Node::from).collect(),
        units: wire.units.into_iter().map(Unit::from).collect(),
        options: wire.options.unwrap_or_default().into(),
    };
    problem.check()?;
    Ok(problem)
}

impl Problem {
    /// What a plan needs to make sense: unique ids, known nodes, numbers within limits. The path in the error is
    /// that of the same problem as JSON.
    pub fn check(&self) -> Result<(), InputError> {
        let fail = |path: String, reason: String| Err(InputError { path, reason });
        let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if let Some(first) = nodes.insert(&node.id, i) {
                return fail(format!("$.nodes[{i}].id"), format!("'{}' is already nodes[{first}]", node.id));
            }
            if !(0.0..=NUMBER_MAX).contains(&node.capacity) {
                let reason =
                    format!("{} is not a capacity: give a number from 0 to {NUMBER_MAX:e}", node.capacity);
                return fail(format!("$.nodes[{i}].capacity"), reason);
            }
        }
        let mut active = self.nodes.iter().filter(|n| n.state == NodeState::Active).peekable();
        if active.peek().is_some() && active.all(|n| n.capacity <= 0.0) {
            let i = self.nodes.iter().position(|n| n.state == NodeState::Active).unwrap_or(0);
            let reason = "no active node has a capacity above 0: give at least one".to_owned();
            return fail(format!("$.nodes[{i}].capacity"), reason);
        }
        let mut units: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, unit) in self.units.iter().enumerate() {
            if let Some(first) = units.insert(&unit.id, i) {
                return fail(format!("$.units[{i}].id"), format!("'{}' is already units[{first}]", unit.id));
            }
            check_unit(unit, i, &nodes)?;
        }
        let copies = self.units.iter().map(|u| (u64::from(u.rf)).min(self.nodes.len() as u64));
        if copies.fold(0, u64::saturating_add) > COPIES_MAX {
            return fail(
                "$.units".to_owned(),
                format!("more than {COPIES_MAX} copies in all: plan in parts"),
            );
        }
        check_options(&self.options)
    }
}

fn check_unit(unit: &Unit, i: usize, nodes: &BTreeMap<&str, usize>) -> Result<(), InputError> {
    let fail =
        |field: &str, reason: String| Err(InputError { path: format!("$.units[{i}].{field}"), reason });
    if unit.rf == 0 {
        return fail("rf", "0 copies cannot be placed: give at least 1".to_owned());
    }
    if !(0.0..=NUMBER_MAX).contains(&unit.weight) {
        return fail(
            "weight",
            format!("{} is not a weight: give a number from 0 to {NUMBER_MAX:e}", unit.weight),
        );
    }
    if unit.bytes > BYTES_MAX {
        return fail("bytes", format!("{} is above {BYTES_MAX}", unit.bytes));
    }
    for (k, node) in unit.replicas.iter().enumerate() {
        if !nodes.contains_key(node.as_str()) {
            return fail(&format!("replicas[{k}]"), format!("node '{node}' is not in nodes"));
        }
    }
    let mut sorted: Vec<(&str, usize)> = unit.replicas.iter().map(String::as_str).zip(0..).collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            fail(&format!("replicas[{}]", pair[1].1), format!("node '{}' is listed twice", pair[1].0))
        }
        None => Ok(()),
    }
}

fn check_options(options: &Options) -> Result<(), InputError> {
    let zero = "0 leaves nothing to do: give at least 1";
    for (name, value) in [
        ("max_units_per_node", options.max_units_per_node),
        ("transfers_in_per_node", Some(options.transfers_in_per_node)),
        ("transfers_out_per_node", Some(options.transfers_out_per_node)),
    ] {
        if value == Some(0) {
            return Err(InputError { path: format!("$.options.{name}"), reason: zero.to_owned() });
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireProblem {
    nodes: Vec<WireNode>,
    units: Vec<WireUnit>,
    options: Option<WireOptions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireNode {
    id: String,
    zone: Option<String>,
    capacity: Option<f64>,
    state: Option<NodeState>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireUnit {
    id: UnitId,
    rf: u32,
    weight: Option<f64>,
    bytes: Option<u64>,
    #[serde(default)]
    replicas: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are those of the JSON")]
struct WireOptions {
    max_units_per_node: Option<u32>,
    transfers_in_per_node: Option<u32>,
    transfers_out_per_node: Option<u32>,
}

/// A string, or an integer that becomes one.
struct UnitId(String);

impl<'de> Deserialize<'de> for UnitId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = UnitId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an integer")
            }
            fn visit_str<E>(self, id: &str) -> Result<UnitId, E> {
                Ok(UnitId(id.to_owned()))
            }
            fn visit_u64<E>(self, id: u64) -> Result<UnitId, E> {
                Ok(UnitId(id.to_string()))
            }
            fn visit_i64<E>(self, id: i64) -> Result<UnitId, E> {
                Ok(UnitId(id.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl From<WireNode> for Node {
    fn from(wire: WireNode) -> Self {
        Self {
            id: wire.id,
            zone: wire.zone,
            capacity: wire.capacity.unwrap_or(1.0),
            state: wire.state.unwrap_or_default(),
        }
    }
}

impl From<WireUnit> for Unit {
    fn from(wire: WireUnit) -> Self {
        Self {
            id: wire.id.0,
            rf: wire.rf,
            weight: wire.weight.unwrap_or(1.0),
            bytes: wire.bytes.unwrap_or(0),
            replicas: wire.replicas,
        }
    }
}

impl From<WireOptions> for Options {
    fn from(wire: WireOptions) -> Self {
        let default = Self::default();
        Self {
            max_units_per_node: wire.max_units_per_node,
            transfers_in_per_node: wire.transfers_in_per_node.unwrap_or(default.transfers_in_per_node),
            transfers_out_per_node: wire.transfers_out_per_node.unwrap_or(default.transfers_out_per_node),
        }
    }
}
