//! Sides of a group that nobody will find again.

use super::*;

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
