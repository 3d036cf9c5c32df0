//! Those whom others went on without.

use super::*;

/// What node 1 committed, and what those show that went on without it, look by look.
#[test]
fn a_copy_has_caught_up_when_it_committed_what_came_without_it() {
    let shown = |view: &[u16], conf_id, last_committed| ClusterStatus {
        status: ClusterState::Primary,
        nodes_view: view.iter().copied().map(node).collect(),
        conf_id,
        ..orphan(last_committed, 3)
    };
    let has = |own: ClusterStatus, others: &[&[ClusterStatus]]| {
        let looks = others.iter().zip(2..).map(|(looks, n)| (n, *looks));
        let looks: Vec<Looks<'_>> = [(1, std::slice::from_ref(&own))].into_iter().chain(looks).collect();
        let (mut state, observed) = seen(1 + others.len() as u16, &looks);
        let known = state.groups.get_mut(&group()).expect("there");
        known.members.insert(node(1), Member::Returning);
        known.newest = (2..).take(others.len()).map(node).collect();
        has_caught_up(&state, &observed, &node(1), &group())
    };
    let alone = [shown(&[2], 4, 9), shown(&[2], 4, 10), shown(&[2], 4, 30)];
    assert!(!has(orphan(10, 2), &[&alone]), "as much as there was when the other one went on");
    assert!(has(orphan(11, 2), &[&alone]));
    assert!(!has(orphan(11, 2), &[&alone[..1]]), "a last write of before can be on its way");
    let waits = ClusterStatus { recv_queue: 1, ..shown(&[2], 4, 10) };
    assert!(!has(orphan(11, 2), &[&[alone[0].clone(), waits]]), "and these are");
    assert!(
        !has(ClusterStatus { state_uuid: "v".to_owned(), ..orphan(11, 2) }, &[&alone]),
        "another history"
    );
    assert!(!has(ClusterStatus { recv_queue: 1, ..orphan(11, 2) }, &[&alone]), "not applied yet");
    let again = [&alone[..2], &[shown(&[1, 2], 5, 12)]].concat();
    assert!(has(orphan(11, 2), &[&again]), "it is in it");
    let once_more = [again, vec![shown(&[2], 6, 40)]].concat();
    assert!(!has(orphan(11, 2), &[&once_more]), "and out of it again");
    let both = [shown(&[2, 3], 4, 9), shown(&[2, 3], 4, 10)];
    assert!(has(orphan(11, 3), &[&both, &both]));
    let not_yet = [both[0].clone(), ClusterStatus { recv_queue: 1, ..both[1].clone() }];
    assert!(!has(orphan(11, 3), &[&both, &not_yet]), "each of them tells");
}

/// One whose group has stopped everywhere is not: that has alerts of its own, and its copy may be needed.
#[test]
fn who_is_no_member_any_more_and_is_not_named_is_left_behind_by_a_quorum() {
    for (status, expected) in [(ClusterState::Primary, true), (ClusterState::NonPrimary, false)] {
        let others = [node(2), node(3)];
        let later = ClusterStatus { status, nodes_view: others.into(), ..orphan(9, 3) };
        let (mut state, observed) = seen(
            3,
            &[(1, &[orphan(5, 2)]), (2, std::slice::from_ref(&later)), (3, std::slice::from_ref(&later))],
        );
        state.groups.get_mut(&group()).expect("known").members.remove(&node(1));
        assert_eq!(is_left_behind(&state, &observed, &node(1), &group()), expected, "{status:?}");
    }
}
