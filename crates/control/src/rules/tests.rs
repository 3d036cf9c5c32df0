//! Rule 6 as a table: who may be bootstrapped, and what forbids it.

use super::*;
use crate::io::PollAnswer;
use crate::state::{Group, Node};
use model::{ClusterStatus, MemberState, NodeStatus, Reach};
use std::collections::BTreeMap;

mod adrift;
mod behind;
mod survivors;

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
