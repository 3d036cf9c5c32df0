//! Who is given a quorum: the most advanced of those that nobody went on without.

use super::*;

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
