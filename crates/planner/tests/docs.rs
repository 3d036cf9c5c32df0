//! The worked examples of `docs/planner.md` are what the planner answers.

use planner::{Limits, input::read_problem, lint, plan};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/planner.md");

/// The blocks of one kind, in order.
fn blocks(kind: &str) -> Vec<&'static str> {
    let open = format!("```json {kind}\n");
    PAGE.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap_or("")).collect()
}

#[test]
fn examples_are_true() {
    let (inputs, outputs) = (blocks("input"), blocks("output"));
    assert!(inputs.len() >= 5);
    assert_eq!(inputs.len(), outputs.len());
    for (input, output) in inputs.into_iter().zip(outputs) {
        let problem = read_problem(input.as_bytes()).expect("a valid example");
        let made = plan(&problem, &Limits::default());
        lint::check(&problem, &made).expect("a valid plan");
        let is = serde_json::to_value(&made).expect("json");
        let told: serde_json::Map<String, Value> =
            serde_json::from_str(output).unwrap_or_else(|e| panic!("{e}: {is}"));
        for (field, value) in told {
            assert_eq!(is[&field], value, "{field} of {input}");
        }
    }
}
