//! The lint refuses broken plans: every kind of break by its name, and random edits of any kind.

use planner::{
    Limits, Move, Node, NodeState, Options, Plan, Problem, Reason, Unit, Unplaceable,
    lint::{self, Violation, Violation as V},
    plan,
};
use proptest::prelude::*;

/// Six nodes in three zones, one of them down, one draining and one new; eight units of rf 2, one more that is new.
fn problem() -> Problem {
    let mut nodes: Vec<Node> = (0..6).map(|i| Node::active(format!("n{i}"))).collect();
    for (i, node) in nodes.iter_mut().enumerate() {
        node.zone = Some(format!("z{}", i % 3));
    }
    nodes[0].state = NodeState::Down;
    nodes[1].state = NodeState::Draining;
    let mut units: Vec<Unit> = (0..8)
        .map(|u| {
            Unit::new(format!("u{u}"), 2, [["n0", "n1"], ["n1", "n2"], ["n2", "n3"], ["n3", "n4"]][u % 4])
        })
        .collect();
    units.push(Unit::new("u8", 2, []));
    for unit in &mut units {
        unit.bytes = 10;
    }
    Problem { nodes, units, options: Options::default() }
}

/// The same without zones.
fn flat() -> Problem {
    let mut problem = problem();
    problem.nodes.iter_mut().for_each(|n| n.zone = None);
    problem
}

/// A name, the problem, the break, and how the violation is recognised.
type Break = (&'static str, fn() -> Problem, fn(&mut Problem, &mut Plan), fn(&Violation) -> bool);

fn strings(nodes: &[&str]) -> Vec<String> {
    nodes.iter().map(|n| (*n).to_owned()).collect()
}

/// Breaks of the placement.
fn placements() -> Vec<Break> {
    vec![
        ("stale", flat, |p, _| p.units[0].bytes = 11, |v| matches!(v, V::Stale)),
        (
            "unit missing",
            flat,
            |_, plan| drop(plan.placement.remove("u3")),
            |v| matches!(v, V::UnitMissing { .. }),
        ),
        (
            "unit unknown",
            flat,
            |_, plan| drop(plan.placement.insert("x".into(), vec![])),
            |v| matches!(v, V::UnitUnknown { .. }),
        ),
        (
            "unknown unit moved",
            flat,
            |_, plan| plan.moves[0].unit = "x".into(),
            |v| matches!(v, V::UnitUnknown { .. }),
        ),
        (
            "node unknown",
            flat,
            |_, plan| plan.placement.get_mut("u3").expect("u3")[0] = "x".into(),
            |v| matches!(v, V::NodeUnknown { .. }),
        ),
        (
            "node twice",
            flat,
            |_, plan| *plan.placement.get_mut("u3").expect("u3") = strings(&["n3", "n3"]),
            |v| matches!(v, V::NodeTwice { .. }),
        ),
        (
            "node down",
            flat,
            |_, plan| *plan.placement.get_mut("u3").expect("u3") = strings(&["n0", "n3"]),
            |v| matches!(v, V::NodeDown { .. }),
        ),
        (
            "node draining",
            flat,
            |_, plan| *plan.placement.get_mut("u1").expect("u1") = strings(&["n1", "n2"]),
            |v| matches!(v, V::NodeClosed { .. }),
        ),
        (
            "too many",
            flat,
            |_, plan| *plan.placement.get_mut("u3").expect("u3") = strings(&["n2", "n3", "n4"]),
            |v| matches!(v, V::TooManyCopies { .. }),
        ),
        (
            "too few",
            flat,
            |_, plan| *plan.placement.get_mut("u3").expect("u3") = strings(&["n3"]),
            |v| matches!(v, V::NotReported { .. }),
        ),
        (
            "reported for nothing",
            flat,
            |_, plan| plan.unplaceable.push(Unplaceable { unit: "u3".into(), why: "no reason".into() }),
            |v| matches!(v, V::WronglyReported { .. }),
        ),
        (
            "not placed though there is room",
            flat,
            |_, plan| {
                *plan.placement.get_mut("u8").expect("u8") = strings(&["n5"]);
                plan.unplaceable.push(Unplaceable { unit: "u8".into(), why: "no reason".into() });
            },
            |v| matches!(v, V::WronglyReported { .. }),
        ),
    ]
}

/// Breaks of what the placement must be as a whole.
fn wholes() -> Vec<Break> {
    vec![
        (
            "one zone",
            problem,
            |_, plan| *plan.placement.get_mut("u3").expect("u3") = strings(&["n2", "n5"]),
            |v| matches!(v, V::Zone { .. }),
        ),
        (
            "node limit",
            flat,
            |p, plan| {
                p.options.max_units_per_node = Some(1);
                plan.made_from = p.fingerprint();
            },
            |v| matches!(v, V::NodeLimit { .. }),
        ),
        (
            "unbalanced",
            flat,
            |_, plan| {
                for nodes in plan.placement.values_mut() {
                    *nodes = strings(&["n2", "n3"]);
                }
            },
            |v| matches!(v, V::Unbalanced { .. }),
        ),
    ]
}

/// Breaks of the moves.
fn moves() -> Vec<Break> {
    vec![
        (
            "below the floor",
            flat,
            |_, plan| {
                *plan.placement.get_mut("u3").expect("u3") = strings(&["n3"]);
                plan.moves.push(Move {
                    unit: "u3".into(),
                    to: None,
                    from: Some("n4".into()),
                    reason: Reason::Balance,
                });
            },
            |v| matches!(v, V::BelowFloor { .. }),
        ),
        (
            "empty move",
            flat,
            |_, plan| {
                plan.moves.push(Move { unit: "u3".into(), to: None, from: None, reason: Reason::Balance });
            },
            |v| matches!(v, V::MoveEmpty { .. }),
        ),
        (
            "sheds what is not there",
            flat,
            |_, plan| {
                plan.moves.push(Move {
                    unit: "u3".into(),
                    to: None,
                    from: Some("n5".into()),
                    reason: Reason::Balance,
                });
            },
            |v| matches!(v, V::MoveFromAbsent { .. }),
        ),
        (
            "sheds what it has just made",
            flat,
            |_, plan| {
                let made = plan.moves[0].clone();
                plan.moves.push(Move { to: None, from: made.to.clone(), ..made });
            },
            |v| matches!(v, V::MoveFromAbsent { .. }),
        ),
        (
            "the same move twice",
            flat,
            |_, plan| plan.moves.push(plan.moves[0].clone()),
            |v| matches!(v, V::MoveToPresent { .. }),
        ),
        (
            "a move left out",
            flat,
            |_, plan| drop(plan.moves.pop()),
            |v| matches!(v, V::MovesMissPlacement { .. }),
        ),
    ]
}

/// Breaks of what the plan tells of itself and of its rounds.
fn numbers() -> Vec<Break> {
    vec![
        ("copies", flat, |_, plan| plan.copies += 1, |v| matches!(v, V::Number { what: "copies", .. })),
        ("bytes", flat, |_, plan| plan.bytes -= 1, |v| matches!(v, V::Number { what: "bytes", .. })),
        (
            "bound",
            flat,
            |_, plan| plan.lower_bound += 1,
            |v| matches!(v, V::Number { what: "lower_bound", .. }),
        ),
        ("gap", flat, |_, plan| plan.gap += 1, |v| matches!(v, V::Number { what: "gap", .. })),
        (
            "gap of a proven plan",
            flat,
            |_, plan| {
                plan.lower_bound -= 1;
                plan.gap += 1;
            },
            |v| matches!(v, V::Number { what: "the gap of a proven plan", .. }),
        ),
        (
            "load",
            flat,
            |_, plan| *plan.load.get_mut("n5").expect("n5") += 0.5,
            |v| matches!(v, V::Load { .. }),
        ),
        (
            "load is no number",
            flat,
            |_, plan| *plan.load.get_mut("n5").expect("n5") = f64::NAN,
            |v| matches!(v, V::Load { .. }),
        ),
        (
            "probability",
            flat,
            |_, plan| plan.loss_probability.extend([(2, 1.5)]),
            |v| matches!(v, V::Probability { .. }),
        ),
        (
            "in no round",
            flat,
            |_, plan| plan.rounds[0].truncate(1),
            |v| matches!(v, V::RoundCount { count: 0, .. }),
        ),
        (
            "in two rounds",
            flat,
            |_, plan| plan.rounds.push(vec![0]),
            |v| matches!(v, V::RoundCount { count: 2, .. }),
        ),
        ("no such move", flat, |_, plan| plan.rounds[0].push(999), |v| matches!(v, V::RoundUnknown { .. })),
        (
            "a busy round",
            flat,
            |_, plan| plan.rounds = vec![(0..plan.moves.len()).collect()],
            |v| matches!(v, V::RoundLimit { .. }),
        ),
    ]
}

/// The largest node, of a part of 7.3 by capacity, holds 7 units at most, and the two largest 11 copies: what is left
/// is more for the others, so that four copies on a node of a part of 2.9 are fair.
#[test]
fn what_the_largest_cannot_hold_is_divided_among_the_others() {
    let node = |(i, &(capacity, state)): (usize, &(f64, NodeState))| {
        let mut node = Node::active(format!("n{i}"));
        (node.capacity, node.state) = (capacity, state);
        node
    };
    let (active, draining) = (NodeState::Active, NodeState::Draining);
    let nodes =
        [(1.5, active), (2.5, draining), (1.0, active), (0.5, active), (2.5, active), (2.5, draining)];
    let units: [(u32, &[&str], u64); 7] = [
        (3, &["n0", "n3", "n4"], 8),
        (4, &["n0", "n2", "n1", "n4"], 2),
        (3, &["n4", "n2", "n1"], 0),
        (3, &["n0", "n1", "n4"], 7),
        (1, &["n1"], 9),
        (1, &["n4"], 3),
        (1, &["n1"], 10),
    ];
    let unit = |(u, &(rf, on, bytes)): (usize, &(u32, &[&str], u64))| {
        let mut unit = Unit::new(format!("u{u}"), rf, on.iter().copied());
        unit.bytes = bytes;
        unit
    };
    let problem = Problem {
        nodes: nodes.iter().enumerate().map(node).collect(),
        units: units.iter().enumerate().map(unit).collect(),
        options: Options::default(),
    };
    let mut made = plan(&problem, &Limits::default());
    assert_eq!(lint::check(&problem, &made), Ok(()));

    // Six on that node are too many.
    for unit in ["u4", "u5"] {
        made.placement.insert(unit.into(), strings(&["n2"]));
    }
    let found = lint::check(&problem, &made).expect_err("unbalanced");
    assert!(found.iter().any(|v| matches!(v, V::Unbalanced { from, .. } if from == "n2")), "{found:?}");
}

#[test]
fn every_kind_of_break_is_caught() {
    for (name, make, break_it, caught) in [placements(), wholes(), moves(), numbers()].concat() {
        let mut problem = make();
        let mut made = plan(&problem, &Limits::default());
        lint::check(&problem, &made).unwrap_or_else(|v| panic!("{name}: valid before it is broken: {v:?}"));
        break_it(&mut problem, &mut made);
        let found = lint::check(&problem, &made).expect_err(name);
        assert!(found.iter().any(caught), "{name}: {found:?}");
    }
}

/// Edits a plan at a place that numbers select.
fn edit(plan: &mut Plan, kind: u8, a: usize, b: usize) {
    let unit = format!("u{}", a % 9);
    let node = format!("n{}", b % 6);
    let moves = plan.moves.len();
    match kind {
        0 => plan.placement.get_mut(&unit).expect("unit").push(node),
        1 => drop(plan.placement.get_mut(&unit).expect("unit").pop()),
        2 => plan.placement.get_mut(&unit).expect("unit")[b % 2] = node,
        3 => drop(plan.moves.remove(a % moves)),
        4 => plan.moves[a % moves].to = Some(node),
        5 => plan.moves[a % moves].from = Some(node),
        6 => plan.moves[a % moves].from = None,
        7 => plan.moves[a % moves].unit = unit,
        8 => plan.moves.swap(a % moves, b % moves),
        9 => {
            let other = format!("u{}", b % 9);
            let nodes = plan.placement.insert(unit, plan.placement[&other].clone()).expect("unit");
            plan.placement.insert(other, nodes);
        }
        10 => {
            let count = plan.rounds.len();
            let index = plan.rounds[a % count].pop();
            plan.rounds[b % count].extend(index);
        }
        _ => *plan.load.entry(node).or_insert(0.0) += 1.0,
    }
}

/// What a plan does, without the order in which it is told.
fn meaning(plan: &Plan) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let sorted = |nodes: &Vec<String>| {
        let mut nodes = nodes.clone();
        nodes.sort();
        nodes
    };
    let placement = plan.placement.iter().map(|(u, nodes)| (u.clone(), sorted(nodes))).collect();
    let mut moves: Vec<String> = plan
        .moves
        .iter()
        .flat_map(|m| [format!("{} +{:?}", m.unit, m.to), format!("{} -{:?}", m.unit, m.from)])
        .collect();
    moves.sort();
    (placement, moves)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// An edited plan is refused, unless it means the same or is just as good.
    #[test]
    fn random_edits_are_caught(kind in 0..12u8, a in 0..1000usize, b in 0..1000usize, zoned in any::<bool>()) {
        let problem = if zoned { problem() } else { flat() };
        let made = plan(&problem, &Limits::default());
        let mut edited = made.clone();
        edit(&mut edited, kind, a, b);
        let result = lint::check(&problem, &edited);
        // Exchanging rounds or the order of moves may leave the plan valid; everything else must not.
        if result.is_ok() {
            prop_assert_eq!(meaning(&edited), meaning(&made), "kind {} slipped through", kind);
        }
    }
}
