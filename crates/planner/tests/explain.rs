//! The texts: why here, what would move it, what forbids the other nodes, what a plan changes.

use planner::{
    Limits, Node, NodeState, Options, Problem, Unit,
    explain::{difference, other_nodes},
    plan,
};

/// Five nodes, one down, one draining, one without capacity; three units.
fn problem() -> Problem {
    let mut nodes: Vec<Node> = ["a", "b", "c", "d", "e"].map(Node::active).to_vec();
    nodes[1].state = NodeState::Down;
    nodes[2].state = NodeState::Draining;
    nodes[4].capacity = 0.0;
    let units = vec![
        Unit::new("u1", 2, ["a", "b"]),
        Unit::new("u2", 1, ["c"]),
        Unit::new("u3", 3, ["a", "c"]),
        Unit::new("u4", 1, ["b"]),
    ];
    Problem { nodes, units, options: Options::default() }
}

#[test]
fn each_copy_has_its_reason() {
    let made = plan(&problem(), &Limits::default());
    let text = |unit| made.explain(unit).expect("known");
    assert_eq!(
        text("u1"),
        "a: was there already. d: restore: the copy on b is lost. Would move if its node were lost, drained or \
         above its share (holds 3 of 3). Elsewhere: b: down; c: draining; e: capacity 0."
    );
    assert!(text("u2").starts_with("d: c is draining. "), "{}", text("u2"));
    assert!(text("u4").contains("no copy is left (the last known was on b)"), "{}", text("u4"));
    assert_eq!(made.explain("nobody"), None);
}

#[test]
fn a_copy_that_cannot_leave_says_so() {
    let mut problem = problem();
    problem.units = vec![Unit::new("u", 3, ["a", "c"])];
    let made = plan(&problem, &Limits::default());
    assert_eq!(made.placement["u"], ["a", "d"]);
    problem.nodes[3].state = NodeState::Down;
    let made = plan(&problem, &Limits::default());
    assert_eq!(made.placement["u"], ["a", "c"]);
    assert_eq!(made.moves, []);
    assert!(made.explain("u").expect("known").contains("c: stays until there is a place for it."));
    assert!(made.unplaceable[0].why.contains("the copy on c stays"));
}

#[test]
fn other_nodes_are_told_one_by_one() {
    let mut problem = problem();
    problem.nodes.push(Node::active("f"));
    for (node, zone) in problem.nodes.iter_mut().zip(["z1", "z1", "z1", "z2", "z2", "z2"]) {
        node.zone = Some(zone.to_owned());
    }
    problem.units.truncate(1);
    let made = plan(&problem, &Limits::default());
    assert_eq!(made.placement["u1"], ["a", "d"]);
    let others = other_nodes(&made, "u1").expect("known");
    let why = |id: &str| others.iter().find(|(node, _)| *node == id).expect("another node").1.clone();
    assert_eq!(others.len(), 4);
    assert_eq!(why("b"), "down");
    assert_eq!(why("c"), "drained");
    assert_eq!(why("e"), "capacity 0");
    assert_eq!(why("f"), "zone z2 holds a copy, so only that copy could go there");
    assert_eq!(other_nodes(&made, "nobody"), None);
}

#[test]
fn a_difference_reads_like_a_list_of_changes() {
    let problem = problem();
    let text = difference(&problem, &plan(&problem, &Limits::default()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "4 of 4 units change: 4 copies (0 bytes), at least 4 needed, 2 rounds");
    assert_eq!(lines[1], "u1: a, b → a, d (restore: the copy on b is lost)");
    assert_eq!(lines[2], "u2: c → d (c is draining)");
    assert_eq!(lines[3], "u3: a, c → a, d (c is draining)");
    assert_eq!(lines[5], "u3: rf 3, 2 copies: only 2 active nodes take copies");
}
