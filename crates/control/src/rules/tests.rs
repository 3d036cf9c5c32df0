//! Rule 6 as a table: who may be bootstrapped, and what forbids it.

use super::*;
use crate::io::PollAnswer;
use crate::state::{Group, Node};
use model::{ClusterStatus, MemberState, NodeStatus, Reach};
use std::collections::BTreeMap;

mod behind;

/// A node's number, and what it shows look by look.
type Looks<'a> = (u16, &'a [ClusterStatus]);

fn node(n: u16) -> NodeId {
    NodeId::new(format!("h:{n}")).expect("valid")
}

fn group() -> GroupId {
    GroupId::new("g").expect("valid")
}

/// A member that lost its quorum, as it shows itself.
fn orphan(committed: i64, view: u16) -> ClusterStatus {
    ClusterStatus {
        status: ClusterState::NonPrimary,
        node_state: MemberState::Synced,
        size: 1,
        nodes_view: (1..=view).map(node).collect(),
        state_uuid: "u".to_owned(),
        conf_id: 3,
        last_committed: committed,
        ..ClusterStatus::default()
    }
}

/// The verdict after these looks at each node, one after the other; who is not looked at is lost.
fn verdict(members: u16, looks: &[Looks<'_>]) -> Result<NodeId, Gate> {
    let (state, observed) = seen(members, looks);
    survivor(&state, &observed, &group(), Millis(0))
}

/// The same for a cluster that is the user's own.
fn user_verdict(members: u16, looks: &[Looks<'_>]) -> Result<NodeId, Gate> {
    let (state, observed) = seen(members, looks);
    user_survivor(&state, &observed, &group(), Millis(0))
}

fn seen(members: u16, looks: &[Looks<'_>]) -> (State, Observed) {
    let all = || (1..=members).map(node);
    let mut known = Group::new(2, all().map(|node| (node, Member::Serving)).collect());
    known.history = Some("u".to_owned());
    let is_lost = |of: &NodeId| looks.iter().all(|(n, _)| node(*n) != *of);
    let of_log = |id: NodeId| {
        let lost = is_lost(&id);
        (id, Node { uuid: String::new(), lost, draining: false, since: 0 })
    };
    for lost in all().filter(|id| is_lost(id)) {
        known.members.insert(lost, Member::Lost);
    }
    let nodes: BTreeMap<NodeId, Node> = all().map(of_log).collect();
    let state = State { groups: [(group(), known)].into(), nodes, ..State::default() };
    let mut observed = Observed::default();
    for (n, _) in looks {
        observed.know(&node(*n));
    }
    let most = looks.iter().map(|(_, shown)| shown.len()).max().unwrap_or(0);
    for round in 0..most {
        let now = Millis(10_000 + 500 * round as u64);
        for look in observed.due_looks(now, Millis(500)) {
            let (_, shown) = looks.iter().find(|(n, _)| node(*n) == look.node).expect("a known node");
            let cluster = shown[round.min(shown.len() - 1)].clone();
            let tables = Some(model::TablesStatus::default());
            let status = NodeStatus { clusters: [(group(), cluster)].into(), tables };
            let (node, token) = (look.node, look.token);
            observed.see(PollAnswer { node, token, reach: Reach::Answered, status: Some(status) });
        }
    }
    for (n, _) in looks {
        observed.ask_peers(Millis(20_000), &node(*n));
    }
    (state, observed)
}

/// Whether the survivor is as expected; of one that is waited for a part of the reason.
fn is_as_expected(found: Result<NodeId, Gate>, expected: Result<NodeId, &str>) {
    match (found, expected) {
        (Ok(found), expected) => assert_eq!(Ok(found), expected),
        (Err(Gate::Wait(text)), Err(why)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
}

fn waits(members: u16, looks: &[Looks<'_>], why: &str) {
    match verdict(members, looks) {
        Err(Gate::Wait(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}, not: {why}"),
    }
}

#[test]
fn the_most_advanced_of_calm_survivors_is_bootstrapped() {
    let twice = |committed| [orphan(committed, 3), orphan(committed, 3)];
    assert_eq!(verdict(3, &[(1, &twice(5)), (2, &twice(7))]), Ok(node(2)));
    assert_eq!(verdict(3, &[(1, &twice(5)), (2, &twice(5))]), Ok(node(1)), "the lowest name among equals");
}

/// Which of two that have no quorum was left out of the last one shows in their views alone.
#[test]
fn whoever_is_in_no_later_view_fell_behind() {
    let (state, _) = seen(3, &[(1, &[orphan(5, 3)]), (2, &[orphan(7, 3)]), (3, &[orphan(7, 3)])]);
    let known = &state.groups[&group()];
    let of = |nodes: &[u16]| ClusterStatus {
        nodes_view: nodes.iter().copied().map(node).collect(),
        ..orphan(7, 3)
    };
    let behind =
        |own: &ClusterStatus, other: &ClusterStatus| fell_behind(known, (&node(1), own), (&node(2), other));
    let (all, later) = (of(&[1, 2, 3]), of(&[2, 3]));
    assert!(behind(&all, &later));
    assert!(!behind(&all, &all), "both are in the last view");
    assert!(!behind(&of(&[1, 3]), &later), "nothing says which of the two views is the later one");
    let restarted = ClusterStatus { node_state: MemberState::Joining, ..later.clone() };
    let another = ClusterStatus { state_uuid: "v".to_owned(), ..later.clone() };
    let primary = ClusterStatus { status: ClusterState::Primary, ..later.clone() };
    for other in [restarted, another, primary] {
        assert!(!behind(&all, &other), "{other:?}");
    }
}

/// All that served were lost, and one of them is back.
#[test]
fn one_that_came_back_is_a_survivor_while_nobody_has_gone_on_without_it() {
    let twice = [orphan(5, 2), orphan(5, 2)];
    for (newest, expected) in [(1, Ok(node(1))), (2, Err("fit"))] {
        let (mut state, observed) = seen(2, &[(1, &twice)]);
        let known = state.groups.get_mut(&group()).expect("there");
        known.members.insert(node(1), Member::Returning);
        known.newest = [node(newest)].into();
        is_as_expected(survivor(&state, &observed, &group(), Millis(0)), expected);
    }
}

/// Nothing is known of whose copies are the newest, and nobody serves: an operator decides.
#[test]
fn those_on_their_way_back_are_no_survivors_while_nobody_has_let_go() {
    let twice = [orphan(5, 2), orphan(5, 2)];
    let (mut state, observed) = seen(2, &[(1, &twice), (2, &twice)]);
    let known = state.groups.get_mut(&group()).expect("there");
    known.members = [(node(1), Member::Returning), (node(2), Member::Returning)].into();
    known.newest.clear();
    is_as_expected(survivor(&state, &observed, &group(), Millis(0)), Err("fit"));
}

#[test]
fn one_look_is_not_enough() {
    waits(2, &[(1, &[orphan(5, 2)])], "twice");
}

#[test]
fn a_place_that_still_moves_is_waited_for() {
    waits(2, &[(1, &[orphan(5, 2), orphan(6, 2)])], "twice");
    let other_view = ClusterStatus { conf_id: 4, ..orphan(5, 2) };
    waits(2, &[(1, &[orphan(5, 2), other_view])], "twice");
    let calm_again = [orphan(5, 2), orphan(6, 2), orphan(6, 2)];
    assert_eq!(verdict(2, &[(1, &calm_again)]), Ok(node(1)));
}

#[test]
fn what_is_received_and_not_applied_is_no_candidate() {
    let full = ClusterStatus { recv_queue: 1, ..orphan(5, 2) };
    waits(2, &[(1, &[full.clone(), full])], "fit");
}

#[test]
fn a_member_that_was_restarted_is_no_candidate() {
    let restarted = ClusterStatus { node_state: MemberState::Joining, ..orphan(9, 3) };
    let old = [restarted.clone(), restarted];
    assert_eq!(verdict(3, &[(1, &[orphan(5, 3), orphan(5, 3)]), (2, &old)]), Ok(node(1)));
    waits(2, &[(2, &old)], "fit");
}

#[test]
fn another_history_forbids_it() {
    let other = ClusterStatus { state_uuid: "v".to_owned(), ..orphan(9, 2) };
    waits(2, &[(1, &[other.clone(), other])], "another history");
}

#[test]
fn half_of_the_last_view_must_be_reachable() {
    let twice = |view| [orphan(5, view), orphan(5, view)];
    waits(3, &[(1, &twice(3))], "only 1 of the 3");
    assert_eq!(verdict(2, &[(1, &twice(2))]), Ok(node(1)), "one of two is half");
    assert_eq!(verdict(4, &[(1, &twice(4)), (3, &twice(4))]), Ok(node(1)));
}

#[test]
fn where_somebody_has_a_quorum_nobody_is_bootstrapped() {
    let primary = ClusterStatus { status: ClusterState::Primary, ..orphan(5, 2) };
    waits(3, &[(1, &[orphan(5, 3), orphan(5, 3)]), (2, &[primary])], "is primary on");
}

/// A member that the others left behind shows as much as they, and its name is lower.
#[test]
fn whoever_was_left_behind_is_no_survivor() {
    let behind = [orphan(5, 3), orphan(5, 3)];
    let later = ClusterStatus { nodes_view: [node(2), node(3)].into(), ..orphan(5, 3) };
    let went_on = [later.clone(), later.clone()];
    assert_eq!(verdict(3, &[(1, &behind), (2, &went_on)]), Ok(node(2)));
    assert_eq!(user_verdict(3, &[(1, &behind), (2, &went_on)]), Ok(node(2)));

    // Those who were seen to go on are away, and may still be a quorum.
    for (history, expected) in [("u", Err("h:3 went on with g without h:1")), ("v", Ok(node(1)))] {
        let last =
            ClusterStatus { status: ClusterState::Primary, state_uuid: history.to_owned(), ..later.clone() };
        let (mut state, observed) = seen(3, &[(1, &behind), (2, &behind), (3, std::slice::from_ref(&last))]);
        state.nodes.get_mut(&node(3)).expect("known").lost = true;
        state.groups.get_mut(&group()).expect("known").members.insert(node(3), Member::Lost);
        is_as_expected(survivor(&state, &observed, &group(), Millis(0)), expected);
    }
}

/// It was left out of a quorum, found back into a later one, and then those died who had been looked at before.
#[test]
fn what_the_lost_showed_before_they_were_together_again_says_nothing() {
    let primary = |conf_id, view: &[u16]| ClusterStatus {
        status: ClusterState::Primary,
        conf_id,
        nodes_view: view.iter().copied().map(node).collect(),
        ..orphan(5, 3)
    };
    let left_out = primary(4, &[2, 3]);
    for (own, expected) in [
        (vec![primary(5, &[1, 2, 3])], Ok(node(1))),
        (vec![primary(3, &[1, 2, 3]), primary(5, &[1, 2, 3])], Ok(node(1))),
        (vec![primary(4, &[1, 2, 3])], Err("h:3 went on with g without h:1")),
        (vec![primary(5, &[1, 2])], Err("h:3 went on with g without h:1")),
        (vec![ClusterStatus { state_uuid: "v".to_owned(), ..primary(5, &[1, 2, 3]) }], Err("went on")),
    ] {
        let behind = [own, vec![orphan(5, 3), orphan(5, 3)]].concat();
        let looks: [Looks<'_>; 3] = [(1, &behind), (2, &behind), (3, std::slice::from_ref(&left_out))];
        let (mut state, observed) = seen(3, &looks);
        state.nodes.get_mut(&node(3)).expect("known").lost = true;
        state.groups.get_mut(&group()).expect("known").members.insert(node(3), Member::Lost);
        is_as_expected(survivor(&state, &observed, &group(), Millis(0)), expected);
    }
}

/// One of two members dies while a third, which came back and is wanted no more, is made to leave.
#[test]
fn who_left_meanwhile_does_not_count_unless_the_dead_may_have_gone_on_without_the_survivor() {
    let before = ClusterStatus { status: ClusterState::Primary, ..orphan(5, 3) };
    let parted = ClusterStatus { nodes_view: [node(2), node(3)].into(), ..before.clone() };
    let survivor_of = |last: &ClusterStatus, is_member: bool| {
        let looks: [Looks<'_>; 3] = [
            (1, &[orphan(5, 3), orphan(5, 3)]),
            (2, std::slice::from_ref(last)),
            (3, std::slice::from_ref(&before)),
        ];
        let (mut state, mut observed) = seen(3, &looks);
        state.nodes.get_mut(&node(2)).expect("known").lost = true;
        let members = &mut state.groups.get_mut(&group()).expect("known").members;
        members.insert(node(2), Member::Lost);
        if !is_member {
            members.remove(&node(3));
        }
        let now = Millis(20_000);
        let looks = observed.due_looks(now, Millis(500));
        let look = looks.iter().find(|look| look.node == node(3)).expect("due");
        let status = Some(NodeStatus { clusters: BTreeMap::new(), tables: None });
        let (node, token) = (look.node.clone(), look.token);
        observed.see(PollAnswer { node, token, reach: Reach::Answered, status });
        survivor(&state, &observed, &group(), Millis(0))
    };
    assert_eq!(survivor_of(&before, false), Ok(node(1)));
    for (last, is_member) in [(&parted, false), (&before, true)] {
        let found = survivor_of(last, is_member);
        assert!(matches!(&found, Err(Gate::Wait(why)) if why.contains("only 1 of the 3")), "{found:?}");
    }
}

/// One of three left while the second died, and a new leader has seen neither before: once the dead is removed by an
/// operator's word nobody is waited for, unless somebody else is away, too.
#[test]
fn whom_an_operator_gave_up_does_not_count_unless_others_are_away() {
    let twice = [orphan(5, 3), orphan(5, 3)];
    let empty = Some(NodeStatus { clusters: BTreeMap::new(), tables: None });
    for (given_up, third_is_lost, expected) in [
        (false, false, Err("only 1 of the 3")),
        (true, false, Ok(node(1))),
        (true, true, Err("only 1 of the 3")),
    ] {
        let (mut state, mut observed) = seen(3, &[(1, &twice)]);
        state.nodes.get_mut(&node(3)).expect("known").lost = third_is_lost;
        let members = &mut state.groups.get_mut(&group()).expect("known").members;
        members.retain(|member, _| *member == node(1));
        if given_up {
            state.nodes.remove(&node(2));
        }
        observed.know(&node(3));
        for look in
            observed.due_looks(Millis(20_000), Millis(500)).into_iter().filter(|it| it.node == node(3))
        {
            let (node, token, status) = (look.node, look.token, empty.clone());
            observed.see(PollAnswer { node, token, reach: Reach::Answered, status });
        }
        is_as_expected(survivor(&state, &observed, &group(), Millis(0)), expected);
    }
}

#[test]
fn an_empty_user_cluster_gets_a_quorum_from_half_of_all_that_are_known() {
    let twice = |view| [orphan(5, view), orphan(5, view)];
    assert_eq!(user_verdict(3, &[(1, &twice(2)), (2, &twice(3))]), Ok(node(1)));
    let later = [orphan(7, 3), orphan(7, 3)];
    assert_eq!(user_verdict(3, &[(1, &twice(3)), (2, &later)]), Ok(node(2)));
    assert_eq!(user_verdict(2, &[(2, &twice(2))]), Ok(node(2)));
    // Each was cut off from the other, and then lost its quorum.
    let apart = |of: u16| [(); 2].map(|()| ClusterStatus { nodes_view: [node(of)].into(), ..orphan(5, 1) });
    assert_eq!(user_verdict(3, &[(1, &apart(1)), (2, &apart(2))]), Ok(node(1)));
    let last = apart(2).map(|shown| ClusterStatus { conf_id: 4, ..shown });
    assert_eq!(user_verdict(3, &[(1, &apart(1)), (2, &last)]), Ok(node(2)));
    let refusals: [(u16, &[Looks<'_>], &str); 6] = [
        (3, &[(1, &twice(3))], "only 1 of the 3"),
        (3, &[(1, &twice(1))], "only 1 of the 3"),
        (3, &[(1, &[orphan(5, 3), orphan(6, 3)]), (2, &twice(3))], "twice"),
        // A member of it that has no sidecar here.
        (2, &[(1, &twice(3)), (2, &twice(3))], "is not known"),
        (
            3,
            &[(1, &twice(3)), (2, &[ClusterStatus { status: ClusterState::Primary, ..orphan(5, 3) }])],
            "Primary",
        ),
        (
            3,
            &[(1, &twice(3)), (2, &[ClusterStatus { status: ClusterState::Disconnected, ..orphan(5, 3) }])],
            "Disconnected",
        ),
    ];
    for (members, looks, why) in refusals {
        match user_verdict(members, looks) {
            Err(Gate::Wait(text)) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?}, not: {why}"),
        }
    }
    // Those that were restarted since are none that could be told, but have no quorum either.
    let restarted = || [(); 2].map(|()| ClusterStatus { node_state: MemberState::Joining, ..orphan(-1, 0) });
    assert_eq!(user_verdict(3, &[(1, &restarted()), (2, &restarted()), (3, &twice(3))]), Ok(node(3)));
    match user_verdict(4, &[(1, &restarted()), (2, &restarted()), (3, &twice(3))]) {
        Err(Gate::Wait(text)) => assert!(text.contains("only 1 of the 4"), "{text}"),
        other => panic!("{other:?}, though node 4 may have a quorum"),
    }
    // One that was seen to leave it.
    let (mut state, observed) = seen(2, &[(1, &twice(3)), (2, &twice(3))]);
    state.left.insert(node(3));
    assert_eq!(user_survivor(&state, &observed, &group(), Millis(0)), Ok(node(1)));
    let filled = ClusterStatus { tables: ["mine".to_owned()].into(), ..orphan(5, 3) };
    let looks: [Looks<'_>; 2] = [(1, &[filled.clone(), filled]), (2, &twice(3))];
    assert!(matches!(user_verdict(3, &looks), Err(Gate::Refuse(text)) if text.contains("mine")));
}

/// Rule 4: what stands against the EXIT of node 1 while node 3 is lost, which last showed a route to `routed`, and now
/// answers in this way.
fn exit_with_an_absent(reach: Option<Reach>, routed: Option<u16>) -> Option<Gate> {
    let (mut state, _) = seen(3, &[(1, &[orphan(5, 3)]), (2, &[orphan(5, 3)])]);
    let table = model::TableName::new("t").expect("valid");
    let shard = crate::state::Shard { table: table.clone(), number: 0 };
    state.groups.get_mut(&group()).expect("there").shards.insert(shard);
    let mut observed = Observed::default();
    observed.know(&node(3));
    let shown = routed.map(|n| {
        let route = model::Route { table, shards: vec![vec![node(n)]], own_as_local: false };
        model::TablesStatus { routes: [("t".to_owned(), route.into())].into(), ..Default::default() }
    });
    let before = shown.map(|tables| NodeStatus { clusters: BTreeMap::new(), tables: Some(tables) });
    let looks = before.map(|status| (Reach::Answered, Some(status))).into_iter();
    for (round, (reach, status)) in looks.chain(reach.map(|reach| (reach, None))).enumerate() {
        for look in observed.due_looks(Millis(10_000 + 500 * round as u64), Millis(500)) {
            observed.see(PollAnswer { node: look.node, token: look.token, reach, status: status.clone() });
        }
    }
    let reason = String::new();
    let kind = Kind::Shed { group: group(), from: node(1), floor: 1, reason };
    let mut operation = Operation::new(model::OperationId(1), kind, Vec::new(), 0);
    operation.status = Status::Running;
    let (node, since) = (&node(1), Millis(0));
    let (flights, tried) = (&Flights::default(), false);
    let case =
        Case { state: &state, observed: &observed, flights, operation: &operation, node, since, tried };
    named_by_the_absent(&case, &group())
}

#[test]
fn a_silent_node_counts_as_a_router_and_one_that_is_proven_gone_does_not() {
    use Reach::{Answered, Refused, Silent};
    for (reach, routed, stands_against) in [
        (Some(Silent), Some(1), true),
        // It flaps, and is taken for lost although it answers.
        (Some(Answered), Some(1), true),
        // Never seen by this leader: nobody knows how it routes.
        (None, None, true),
        (Some(Silent), None, true),
        (Some(Silent), Some(2), false),
        (Some(Refused), Some(1), false),
        (Some(Refused), None, false),
    ] {
        let found = exit_with_an_absent(reach, routed);
        assert_eq!(found.is_some(), stands_against, "{reach:?} {routed:?}: {found:?}");
    }
}

/// Rule 7: what is let go of is dissolved on everybody whom the node reaches.
#[test]
fn a_group_without_a_quorum_is_let_go_of_only_while_nobody_goes_on_with_it() {
    let orphans = [orphan(5, 2)];
    let primary = [ClusterStatus { status: ClusterState::Primary, ..orphan(5, 2) }];
    let remake = || Kind::Remake { group: group(), from: node(1), why: String::new() };
    let let_go = || Kind::LetGo { group: group(), node: node(1) };
    let gate = |kind: Kind, looks: &[Looks<'_>], since: u64| {
        let (mut state, observed) = seen(2, looks);
        state.groups.get_mut(&group()).expect("there").newest = [node(1), node(2)].into();
        let operation = Operation::new(model::OperationId(1), kind, Vec::new(), 0);
        let (node, since, tried) = (&node(1), Millis(since), false);
        let (state, observed, operation) = (&state, &observed, &operation);
        let flights = &Flights::default();
        may_delete(&Case { state, observed, flights, operation, node, since, tried }, &group(), false)
    };
    let waits = |gate: &Gate, why: &str| matches!(gate, Gate::Wait(text) if text.contains(why));
    for kind in [let_go, remake] {
        assert_eq!(gate(kind(), &[(1, &orphans), (2, &orphans)], 0), Gate::Go);
        let other = gate(kind(), &[(1, &orphans), (2, &primary)], 0);
        assert!(waits(&other, "is primary on h:2"), "{other:?}");
    }
    // Who is away may have gone on; once the copy is chosen that was decided.
    let away = gate(let_go(), &[(1, &orphans)], 0);
    assert!(waits(&away, "h:2, whose copy may be the newest, is away"), "{away:?}");
    assert_eq!(gate(remake(), &[(1, &orphans)], 0), Gate::Go);
}

/// Rule 4: what stands against the EXIT of node 1, which no node routes to by the looks, while node 2 is given routes to
/// `written`, or what an earlier leader ordered.
fn exit_with_routes_under_way(written: Option<Vec<NodeId>>, then: impl FnOnce(&mut Flights)) -> Gate {
    let (mut state, _) = seen(2, &[(1, &[orphan(5, 2)]), (2, &[orphan(5, 2)])]);
    let table = model::TableName::new("t").expect("valid");
    let shard = crate::state::Shard { table: table.clone(), number: 0 };
    state.groups.get_mut(&group()).expect("there").shards.insert(shard);
    let mut observed = Observed::default();
    (1..=2).for_each(|n| observed.know(&node(n)));
    for look in observed.due_looks(Millis(10_000), Millis(500)) {
        let status = NodeStatus { clusters: BTreeMap::new(), tables: Some(model::TablesStatus::default()) };
        let (node, token) = (look.node, look.token);
        observed.see(PollAnswer { node, token, reach: Reach::Answered, status: Some(status) });
    }
    let kind = Kind::Return { group: group(), node: node(1) };
    let operation = Operation::new(model::OperationId(1), kind, Vec::new(), 0);
    let inherited = written.is_none();
    let route = |nodes| model::Route { table, shards: vec![nodes], own_as_local: false };
    let schema = model::Schema { columns: Vec::new(), options: Vec::new() };
    let routes = written.map(|nodes| model::RouteSpec { route: route(nodes), schema });
    let flight = crate::flight::Flight {
        node: node(2),
        attempt: 1,
        action: Action::SetRoutes { routes: routes.into_iter().collect() },
        undo: false,
        sent: Millis(0),
        deadline: Millis(20_000),
        outcome: None,
        inherited,
        went_on: 0,
    };
    let mut flights = Flights::default();
    flights.open.insert((model::OperationId(2), model::StepId(0)), flight);
    then(&mut flights);
    let (flights, node, since, tried) = (&flights, &node(1), Millis(0), false);
    let case =
        Case { state: &state, observed: &observed, flights, operation: &operation, node, since, tried };
    check(&case, &Action::ExitCluster { group: group(), tables: Vec::new(), floor: 0 })
}

#[test]
fn a_route_that_is_being_written_counts_before_it_is_seen() {
    for (written, goes) in [(Some(vec![node(2)]), true), (Some(vec![node(1), node(2)]), false), (None, false)]
    {
        let gate = exit_with_routes_under_way(written.clone(), |_| {});
        let waits = matches!(&gate, Gate::Wait(why) if why == "h:2 may still be given a route to h:1");
        assert_eq!((gate == Gate::Go, waits), (goes, !goes), "{written:?}: {gate:?}");
    }
}

/// A sidecar that stood still has its time left although nobody waits for it any more.
#[test]
fn a_route_that_nobody_waits_for_counts_until_its_time_is_over() {
    let given = || Some(vec![node(1), node(2)]);
    for abandoned_at in [19_999, 20_000] {
        let gate = exit_with_routes_under_way(given(), |flights| {
            flights.end_operation(model::OperationId(2));
            flights.forget_abandoned(Millis(abandoned_at), None);
        });
        assert_eq!(gate == Gate::Go, abandoned_at == 20_000, "{gate:?}");
    }
    let ended = exit_with_routes_under_way(given(), |flights| {
        flights.end_step((model::OperationId(2), model::StepId(0)));
        flights.forget_abandoned(Millis(1), Some(&node(2)));
    });
    assert_eq!(ended, Gate::Go, "its sidecar is gone");
    for (of, goes) in [(node(1), false), (node(2), true)] {
        let gate = exit_with_routes_under_way(None, |flights| {
            flights.end_operation(model::OperationId(2));
            flights.forget_inherited(&of);
        });
        assert_eq!(
            gate == Gate::Go,
            goes,
            "an earlier leader's, and the sidecar of {of} runs nothing: {gate:?}"
        );
    }
}

/// Two members that were restarted know each other and node 4, which has left meanwhile; node 3 goes on with the group.
#[test]
fn restarted_members_that_find_only_each_other_are_adrift() {
    let named = |nodes: &[u16]| -> BTreeSet<NodeId> { nodes.iter().copied().map(node).collect() };
    let joining = |set: &[u16]| ClusterStatus {
        node_state: MemberState::Joining,
        nodes_set: named(set),
        nodes_view: named(&[4]),
        ..orphan(-1, 1)
    };
    let primary = |set: &[u16]| ClusterStatus {
        status: ClusterState::Primary,
        nodes_set: named(set),
        nodes_view: named(&[3]),
        ..orphan(9, 1)
    };
    let adrift = |two: ClusterStatus, three: ClusterStatus| {
        let (state, observed) = seen(3, &[(1, &[joining(&[1, 2, 4])]), (2, &[two]), (3, &[three])]);
        is_member_adrift(&state, &observed, &node(1), &group())
    };
    assert!(adrift(joining(&[1, 2, 4]), primary(&[3])));
    assert!(!adrift(joining(&[1, 2, 3]), primary(&[3])), "the other one knows who goes on");
    assert!(!adrift(joining(&[1, 2, 4]), primary(&[2, 3])), "who goes on knows the other one");
    assert!(!adrift(ClusterStatus { status: ClusterState::Primary, ..joining(&[2]) }, primary(&[3])));
}

/// Nodes 1 and 2 are no members any more and know each other; node 3 goes on. Node 2 is lost: while it may run, the two can meet.
#[test]
fn who_is_lost_and_may_run_is_still_found() {
    let nobody = ClusterStatus { nodes_view: BTreeSet::new(), ..orphan(5, 1) };
    let pair = ClusterStatus { nodes_set: [node(1), node(2)].into(), ..nobody.clone() };
    let alone = ClusterStatus { status: ClusterState::Primary, nodes_set: [node(3)].into(), ..nobody };
    for (reach, found) in [(Reach::Silent, true), (Reach::Answered, true), (Reach::Refused, false)] {
        let shown = |cluster| std::slice::from_ref(cluster);
        let looks: [Looks<'_>; 3] = [(1, shown(&pair)), (2, shown(&pair)), (3, shown(&alone))];
        let (mut state, mut observed) = seen(3, &looks);
        let known = state.groups.get_mut(&group()).expect("there");
        known.members.retain(|member, _| *member == node(3));
        state.nodes.get_mut(&node(2)).expect("there").lost = true;
        for look in
            observed.due_looks(Millis(30_000), Millis(500)).into_iter().filter(|it| it.node == node(2))
        {
            observed.see(PollAnswer { node: look.node, token: look.token, reach, status: None });
        }
        assert_eq!(is_adrift(&state, &observed, &node(1), &group()), !found, "{reach:?}");
        assert_eq!(is_left_behind(&state, &observed, &node(1), &group()), found, "{reach:?}");
        state.nodes.remove(&node(2));
        assert!(is_adrift(&state, &observed, &node(1), &group()), "{reach:?}, and it was given up");
    }
}

/// The same by a controller that leads since node 2 fell silent and has never seen it. Node 1 was restarted before it was replaced.
#[test]
fn who_was_never_seen_may_be_found_too() {
    let restarted = ClusterStatus {
        node_state: MemberState::Joining,
        nodes_set: [node(1), node(2)].into(),
        nodes_view: BTreeSet::new(),
        ..orphan(-1, 1)
    };
    let alone = ClusterStatus {
        status: ClusterState::Primary,
        nodes_set: [node(3)].into(),
        nodes_view: [node(3)].into(),
        ..orphan(5, 1)
    };
    let shown = |cluster| std::slice::from_ref(cluster);
    let (mut state, mut observed) = seen(3, &[(1, shown(&restarted)), (3, shown(&alone))]);
    state.groups.get_mut(&group()).expect("there").members.retain(|member, _| *member == node(3));
    observed.know(&node(2));
    assert!(!is_adrift(&state, &observed, &node(1), &group()));
    assert!(is_left_behind(&state, &observed, &node(1), &group()), "people are told to restart it");
    for look in observed.due_looks(Millis(30_000), Millis(500)).into_iter().filter(|it| it.node == node(2)) {
        let (node, token, reach) = (look.node, look.token, Reach::Refused);
        observed.see(PollAnswer { node, token, reach, status: None });
    }
    assert!(is_adrift(&state, &observed, &node(1), &group()), "its process is gone");
    assert!(!is_left_behind(&state, &observed, &node(1), &group()));
}

/// It joined a moment before the quorum was lost, and the log does not know it.
#[test]
fn a_member_that_is_not_known_yet_counts_by_what_it_shows() {
    let twice = [orphan(5, 3), orphan(5, 3)];
    let unknown = |third: ClusterStatus| {
        let (mut state, observed) = seen(3, &[(1, &twice), (2, &twice), (3, &[third.clone(), third])]);
        state.nodes.remove(&node(3));
        user_survivor(&state, &observed, &group(), Millis(0))
    };
    assert_eq!(unknown(orphan(9, 3)), Ok(node(1)), "it is not told itself");
    let goes_on = ClusterStatus { status: ClusterState::Primary, ..orphan(9, 3) };
    assert!(matches!(unknown(goes_on), Err(Gate::Wait(why)) if why.contains("Primary")));
}

/// Whatever ends its cluster there: an EXIT, or the quorum and the DELETE in its stead.
#[test]
fn the_old_copy_of_a_move_goes_in_no_way_while_too_few_others_are_whole() {
    let alone = ClusterStatus { nodes_view: [node(1)].into(), ..orphan(5, 1) };
    let whole = ClusterStatus { status: ClusterState::Primary, ..orphan(5, 2) };
    for (other, goes) in [(orphan(5, 2), false), (whole, true)] {
        let (mut state, observed) = seen(2, &[(1, std::slice::from_ref(&alone)), (2, &[other])]);
        state.groups.get_mut(&group()).expect("there").rf = 1;
        let (to, from) = (node(2), Some(node(1)));
        let kind = Kind::Move { group: group(), to, from, floor: 1, reason: String::new(), pin: false };
        let mut operation = Operation::new(model::OperationId(1), kind, Vec::new(), 0);
        operation.status = Status::Running;
        let (flights, node, since, tried) = (&Flights::default(), &node(1), Millis(0), false);
        let (state, observed, operation) = (&state, &observed, &operation);
        let case = Case { state, observed, flights, operation, node, since, tried };
        let gate = check(&case, &Action::DeleteCluster { group: group(), whole: false });
        let too_few = matches!(&gate, Gate::Wait(why) if why.contains("fewer than"));
        assert_eq!(too_few, !goes, "{gate:?}");
    }
}

/// Rule 7: `UPDATE nodes` strikes off whoever is out of view, and that may be the lost alone.
#[test]
fn a_list_of_members_is_written_anew_where_all_that_serve_and_live_are_in_view() {
    let whole = |in_view: &[u16]| ClusterStatus {
        status: ClusterState::Primary,
        nodes_view: in_view.iter().copied().map(node).collect(),
        ..orphan(5, 0)
    };
    let said = |members: u16, looks: &[Looks<'_>], on: u16| {
        let (state, observed) = seen(members, looks);
        let operation = crate::catalogue::reroute(model::OperationId(1), &node(on), Vec::new(), 0);
        let (flights, node, since, tried) = (&Flights::default(), &node(on), Millis(0), false);
        let (state, observed, operation) = (&state, &observed, &operation);
        let case = Case { state, observed, flights, operation, node, since, tried };
        check(&case, &Action::UpdateNodes { group: group() })
    };
    let is_waited_for = |gate: Gate, why: &str| match gate {
        Gate::Wait(text) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}, not: {why}"),
    };
    let all = [whole(&[1, 2, 3])];
    assert_eq!(said(3, &[(1, &all), (2, &all), (3, &all)], 1), Gate::Go);
    let two = [whole(&[1, 2])];
    assert_eq!(said(3, &[(1, &two), (2, &two)], 1), Gate::Go, "the third is lost");
    is_waited_for(said(3, &[(1, &two), (2, &two), (3, &[orphan(5, 3)])], 1), "h:3 of g is out of view");
    is_waited_for(said(3, &[(1, &[orphan(5, 3)]), (2, &two)], 1), "h:1 is no synced member");
    assert_eq!(said(3, &[(1, &two)], 2), Gate::Look(vec![node(2)]), "it was not looked at");
    assert_eq!(said(2, &[(1, &two), (3, &[orphan(5, 3)])], 3), Gate::Go, "a side of its own is no member");
}

/// The source of a shard without others, which may be a survivor until it has left.
#[test]
fn a_source_that_the_new_copy_went_on_without_is_no_survivor() {
    let alone = ClusterStatus {
        status: ClusterState::Primary,
        nodes_view: [node(1)].into(),
        conf_id: 4,
        ..orphan(6, 2)
    };
    let stopped = ClusterStatus { status: ClusterState::RecoveryRequired, ..alone.clone() };
    let verdict = |new: &[ClusterStatus]| {
        let (mut state, observed) = seen(2, &[(1, new), (2, &[orphan(5, 2), orphan(5, 2), orphan(5, 2)])]);
        let known = state.groups.get_mut(&group()).expect("it");
        known.rf = 1;
        known.members.insert(node(2), Member::Leaving);
        survivor(&state, &observed, &group(), Millis(0))
    };
    let waits = Err("no member of g is fit to be the survivor");
    is_as_expected(verdict(&[alone, stopped.clone(), stopped.clone()]), waits);
    is_as_expected(verdict(&[orphan(5, 2), stopped.clone(), stopped]), Ok(node(2)));
}

/// The copy that is cleaned away has stopped, so that it cannot EXIT.
#[test]
fn what_stands_against_an_exit_stands_against_letting_go_of_a_stopped_copy() {
    let stopped = |tables: &[&str]| ClusterStatus {
        status: ClusterState::RecoveryRequired,
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        ..orphan(5, 2)
    };
    let verdict = |kind: Kind, tables: &[&str]| {
        let (state, observed) = seen(3, &[(1, &[stopped(tables)]), (2, &[orphan(5, 2)])]);
        let operation = Operation::new(model::OperationId(1), kind, Vec::new(), 0);
        let operation = Operation { status: Status::Running, ..operation };
        let (flights, node) = (Flights::default(), node(1));
        let case = Case {
            state: &state,
            observed: &observed,
            flights: &flights,
            operation: &operation,
            node: &node,
            since: Millis(0),
            tried: false,
        };
        check(&case, &Action::DeleteCluster { group: group(), whole: false })
    };
    let cleanup = || Kind::Cleanup { node: node(1) };
    let waits = |gate: Gate, why: &str| match gate {
        Gate::Wait(text) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}, not: {why}"),
    };
    waits(verdict(cleanup(), &["system.t_s0"]), "may come back with a route to h:1");
    assert_eq!(verdict(cleanup(), &[]), Gate::Go, "nothing in it can be written to");
    waits(verdict(Kind::RemoveNode { node: node(1) }, &["mine"]), "holds tables of your own");
}
