//! The JSON of `shardwright plan`: what is read, what is refused and where, what is written.

use planner::{Limits, Node, NodeState, Problem, Unit, input::read_problem, lint, plan};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};

fn refused(input: &str) -> (String, String) {
    let error = read_problem(input.as_bytes()).expect_err(input);
    (error.path, error.reason)
}

#[test]
fn all_fields_are_read() {
    let input = r#"{"nodes":[{"id":"a","zone":"z","capacity":2.5,"state":"draining"},{"id":"b"},{"id":"c","zone":null}],
        "units":[{"id":7,"rf":2,"weight":1.5,"bytes":9,"replicas":["a"]},{"id":"t","rf":1,"replicas":[]}],
        "options":{"max_units_per_node":4,"transfers_in_per_node":1}}"#;
    let problem = read_problem(input.as_bytes()).expect("valid");
    assert_eq!((problem.nodes[0].capacity, problem.nodes[0].state), (2.5, NodeState::Draining));
    assert_eq!((problem.nodes[1].capacity, problem.nodes[1].state), (1.0, NodeState::Active));
    assert_eq!((problem.nodes[0].zone.as_deref(), &problem.nodes[2].zone), (Some("z"), &None));
    assert_eq!((problem.units[0].id.as_str(), problem.units[0].bytes), ("7", 9));
    assert_eq!((problem.units[1].weight, problem.units[1].bytes), (1.0, 0));
    assert_eq!(problem.options.max_units_per_node, Some(4));
    assert_eq!((problem.options.transfers_in_per_node, problem.options.transfers_out_per_node), (1, 2));
    read_problem(br#"{"nodes":[],"units":[]}"#).expect("nothing to do is a problem too");
}

#[test]
fn mistakes_are_told_with_their_path() {
    let node = r#""nodes":[{"id":"a"}]"#;
    let unit = |fields: &str| format!(r#"{{{node},"units":[{{"id":"u",{fields}}}]}}"#);
    let cases = [
        ("[]".to_owned(), "$"),
        (String::new(), "$"),
        (r#"{"nodes":[]}"#.to_owned(), "$"),
        (r#"{"nodes":[{"id":"a"},{"id":"a"}],"units":[]}"#.to_owned(), "$.nodes[1].id"),
        (r#"{"nodes":[{"id":"a","capacity":-1}],"units":[]}"#.to_owned(), "$.nodes[0].capacity"),
        (r#"{"nodes":[{"id":"a","capacity":NaN}],"units":[]}"#.to_owned(), "$.nodes[0].capacity"),
        (r#"{"nodes":[{"id":"a","capacity":1e300}],"units":[]}"#.to_owned(), "$.nodes[0].capacity"),
        (r#"{"nodes":[{"id":"a","state":"gone"}],"units":[]}"#.to_owned(), "$.nodes[0].state"),
        (r#"{"nodes":[{"id":"a","capacity":0}],"units":[]}"#.to_owned(), "$.nodes[0].capacity"),
        (r#"{"nodes":[{"id":"a","colour":"red"}],"units":[]}"#.to_owned(), "$.nodes[0].colour"),
        (unit(r#""rf":1,"weight":-0.5"#), "$.units[0].weight"),
        (unit(r#""rf":1,"weight":1e999"#), "$.units[0].weight"),
        (unit(r#""rf":1,"weight":NaN"#), "$.units[0].weight"),
        (unit(r#""rf":1,"bytes":-1"#), "$.units[0].bytes"),
        (unit(r#""rf":1,"bytes":18446744073709551615"#), "$.units[0].bytes"),
        (unit(r#""rf":0"#), "$.units[0].rf"),
        (unit(r#""rf":-2"#), "$.units[0].rf"),
        (unit(r#""rf":"2""#), "$.units[0].rf"),
        (unit(r#""rf":1,"replicas":["b"]"#), "$.units[0].replicas[0]"),
        (unit(r#""rf":2,"replicas":["a","a"]"#), "$.units[0].replicas[1]"),
        (unit(r#""rf":2,"replicas":"a""#), "$.units[0].replicas"),
        (format!(r#"{{{node},"units":[{{"id":"1","rf":1}},{{"id":1,"rf":1}}]}}"#), "$.units[1].id"),
        (format!(r#"{{{node},"units":[{{"id":1.5,"rf":1}}]}}"#), "$.units[0].id"),
        (
            format!(r#"{{{node},"units":[],"options":{{"max_units_per_node":0}}}}"#),
            "$.options.max_units_per_node",
        ),
        (
            format!(r#"{{{node},"units":[],"options":{{"transfers_in_per_node":0}}}}"#),
            "$.options.transfers_in_per_node",
        ),
        (format!(r#"{{{node},"units":[]}} x"#), "$"),
    ];
    for (input, path) in cases {
        let (at, reason) = refused(&input);
        assert_eq!(at, path, "{input}: {reason}");
        assert!(!reason.is_empty());
    }
}

#[test]
fn huge_and_empty_inputs_do_not_run_away() {
    let many = |count: usize, of: &dyn Fn(usize) -> String| (0..count).map(of).collect::<Vec<_>>().join(",");
    let nodes = many(1_000_000, &|i| format!(r#"{{"id":"{i}","capacity":0}}"#));
    let error = read_problem(format!(r#"{{"nodes":[{nodes}],"units":[{{"id":1,"rf":3}}]}}"#).as_bytes());
    assert_eq!(error.expect_err("no capacity anywhere").path, "$.nodes[0].capacity");
    let nodes = many(100_000, &|i| format!(r#"{{"id":"{i}"}}"#));
    let units = many(2000, &|i| format!(r#"{{"id":{i},"rf":4000000000}}"#));
    let error = read_problem(format!(r#"{{"nodes":[{nodes}],"units":[{units}]}}"#).as_bytes());
    assert_eq!(error.expect_err("too much").path, "$.units");
}

/// A problem that was never checked still gets a plan.
#[test]
fn any_problem_gets_a_plan() {
    let mut problem = Problem::default();
    let solve = |problem: &Problem| plan(problem, &Limits::default());
    assert_eq!(solve(&problem).placement.len(), 0);
    problem.units.push(Unit::new("u", 3, ["gone", "gone"]));
    assert_eq!(solve(&problem).unplaceable.len(), 1, "no node at all");
    problem.nodes = (0..50_000).map(|i| Node::active(i.to_string())).collect();
    assert_eq!(solve(&problem).copies, 3);
    problem.nodes.iter_mut().for_each(|n| n.capacity = 0.0);
    assert_eq!(solve(&problem).placement["u"].len(), 0, "no capacity");
    problem.nodes.truncate(3);
    for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e308, 5e-324] {
        for (k, node) in problem.nodes.iter_mut().enumerate() {
            node.capacity = if k == 0 { bad } else { 1.0 };
        }
        problem.units[0].weight = bad;
        problem.units.truncate(1);
        problem.units.push(Unit::new("v", u32::MAX, ["1", "0", "1", "1"]));
        problem.units[1].bytes = u64::MAX;
        let made = solve(&problem);
        assert!(made.placement["u"].len() >= 2, "{bad}: {made:?}");
        assert_eq!(made.placement["v"].iter().filter(|n| *n == "1").count(), 1, "told twice, there once");
    }
}

#[test]
fn the_output_has_the_fields_that_scripts_read() {
    let input = br#"{"nodes":[{"id":"a"},{"id":"b","state":"down"},{"id":"c"}],
        "units":[{"id":1,"rf":2,"replicas":["a","b"],"bytes":5},{"id":2,"rf":3,"replicas":["c"]},{"id":"x","rf":1,"replicas":["a","c"]}]}"#;
    let problem = read_problem(input).expect("valid");
    let out: Value = serde_json::to_value(plan(&problem, &Limits::default())).expect("json");
    assert_eq!(out["placement"]["1"], json!(["a", "c"]));
    assert_eq!(
        out["moves"][0],
        json!({"unit": "1", "to": "c", "from": null, "reason": "restore: the copy on b is lost"})
    );
    assert_eq!(
        out["moves"][1],
        json!({"unit": "2", "to": "a", "from": null, "reason": "fewer copies than rf 3"})
    );
    assert_eq!(out["moves"][2]["to"], Value::Null);
    assert_eq!(out["moves"][2]["reason"], "more copies than rf 1");
    assert_eq!(
        (&out["copies"], &out["lower_bound"], &out["bytes"], &out["gap"]),
        (&json!(2), &json!(2), &json!(5), &json!(0))
    );
    assert_eq!(out["load"].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(
        out["unplaceable"],
        json!([{"unit": "2", "why": "rf 3, 2 copies: only 2 active nodes take copies"}])
    );
    assert_eq!(out["rounds"], json!([[0, 1, 2]]));
    assert_eq!(out["proof"], "bound");
    assert!(out["loss_probability"]["2"].is_number());
    assert!(out["explain"]["1"].as_str().is_some_and(|text| text.contains("restore")));
    assert_eq!(out.as_object().map(serde_json::Map::len), Some(12));
}

/// Values that are at home somewhere in the input, and values that are at home nowhere.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0..4u32).prop_map(|k| json!(format!("n{k}"))),
        3 => (0..5i64).prop_map(|n| json!(n)),
        2 => prop_oneof![Just("active"), Just("draining"), Just("down"), Just("z0"), Just("z1")].prop_map(|word| json!(word)),
        1 => prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!(-1)),
            Just(json!(0.5)),
            Just(json!(1e300)),
            Just(json!(5e-324)),
            Just(json!(-0.0)),
            Just(json!(u64::MAX)),
            Just(json!(i64::MIN)),
            Just(json!(u32::MAX)),
            Just(json!("")),
            Just(json!("\u{0}'\"\\")),
            Just(json!([])),
            Just(json!({})),
            Just(json!([["n0"]])),
        ],
    ]
}

/// An object that has some of `keys`, mostly with a value of its own kind.
fn object(keys: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let field = |(key, own): (&'static str, BoxedStrategy<Value>)| {
        prop_oneof![40 => own.prop_map(Some), 15 => Just(None), 1 => value().prop_map(Some)]
            .prop_map(move |value| value.map(|value| (key.to_owned(), value)))
    };
    let fields: Vec<_> = keys.into_iter().map(field).collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
}

fn number(values: &'static [f64]) -> BoxedStrategy<Value> {
    prop::sample::select(values).prop_map(|number| json!(number)).boxed()
}

fn one_of(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(words).prop_map(|word| json!(word)).boxed()
}

/// Inputs of the right shape with odd values in them.
fn odd_problem() -> impl Strategy<Value = Value> {
    let count = |range: std::ops::Range<u32>| range.prop_map(|n| json!(n)).boxed();
    let node = object(vec![
        ("zone", one_of(&["x", "y"])),
        ("capacity", number(&[0.0, 1.0, 1.0, 2.5, 1e15, 1e-9])),
        ("state", one_of(&["active", "active", "active", "draining", "down"])),
    ]);
    let replicas =
        prop::collection::vec(one_of(&["n0", "n1", "n2", "n3"]), 0..4).prop_map(|list| json!(list));
    let unit = object(vec![
        ("rf", count(1..5)),
        ("weight", number(&[0.0, 1.0, 1.0, 3.0, 1e15, 1e-9])),
        ("bytes", count(0..9)),
        ("replicas", replicas.boxed()),
    ]);
    let options = object(vec![
        ("max_units_per_node", count(1..4)),
        ("transfers_in_per_node", count(1..3)),
        ("transfers_out_per_node", count(1..3)),
    ]);
    let numbered = |prefix: &'static str, list: Vec<Value>| -> Value {
        let with_id = list.into_iter().enumerate().map(|(at, mut one)| {
            if let Value::Object(fields) = &mut one {
                fields.insert("id".to_owned(), json!(format!("{prefix}{at}")));
                if prefix == "u" {
                    fields.entry("rf").or_insert(json!(2));
                }
            }
            one
        });
        with_id.collect()
    };
    (prop::collection::vec(node, 0..5), prop::collection::vec(unit, 0..6), options).prop_map(
        move |(nodes, units, options)| {
            json!({"nodes": numbered("n", nodes), "units": numbered("u", units), "options": options})
        },
    )
}

/// Whatever is read is either refused with a place, or gets a plan that the independent check passes.
fn refused_or_planned(input: &[u8]) -> bool {
    match read_problem(input) {
        Err(error) => {
            assert!(error.path.starts_with('$') && !error.reason.is_empty(), "{error:?}");
            false
        }
        Ok(problem) => {
            let made = plan(&problem, &Limits::default());
            let broken = lint::check(&problem, &made);
            assert_eq!(broken, Ok(()), "{problem:#?}\n{made:#?}");
            serde_json::to_string(&made).expect("every number can be written");
            true
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_values_are_refused_or_planned(problem in odd_problem()) {
        refused_or_planned(problem.to_string().as_bytes());
    }

    /// Bytes changed anywhere in a text that is right.
    #[test]
    fn damaged_texts_are_refused_or_planned(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let mut text = br#"{"nodes":[{"id":"a","zone":"z","capacity":2.5,"state":"draining"},{"id":"b"},{"id":"c"}],
            "units":[{"id":7,"rf":2,"weight":1.5,"bytes":9,"replicas":["a"]},{"id":"t","rf":1,"replicas":[]}],
            "options":{"max_units_per_node":4}}"#.to_vec();
        for (at, byte, how) in damage {
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => drop(text.remove(at)),
            }
        }
        refused_or_planned(&text);
    }
}

/// The inputs above are not all refused, or they would show little.
#[test]
fn many_odd_problems_are_planned() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let trees = (0..500).map(|_| odd_problem().new_tree(&mut runner).expect("a problem").current());
    let planned = trees.filter(|problem| refused_or_planned(problem.to_string().as_bytes())).count();
    assert!((150..480).contains(&planned), "{planned} of 500");
}
