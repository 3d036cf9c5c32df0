//! A bounded set of runs: fixed seeds, fresh ones (printed), those that once were not clean, and a sample of the crash sweep.
//!
//! Each seed that was not clean is named after what it found. Faults that were added since, and the gate at every start, have
//! changed what is drawn: it is clean, and need not lead to the same place any more.

#![allow(clippy::print_stdout, reason = "fresh seeds must be seen")]

use sim::{Fault, Met, Operation, Report, Scenario, Victim};

/// Runs the seeds and gives every violation with its replay line.
fn violations(scenario: Scenario, seeds: std::ops::RangeInclusive<u64>) -> Vec<String> {
    let mut report = Report::default();
    for seed in seeds {
        for (scenario, run) in scenario.run(seed, None) {
            report.add(&run, &scenario.replay(seed, None));
        }
    }
    assert!(report.acknowledged_writes > 0, "somebody wrote");
    report
        .violations
        .iter()
        .map(|one| format!("{}: {} ({})", one.invariant, one.detail, one.replay))
        .collect()
}

#[test]
fn fixed_seeds_are_clean() {
    assert_eq!(violations(Scenario::All, 6..=11), Vec::<String>::new());
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "fresh seeds must differ between processes; each run is still told by its seed"
)]
fn fresh_seeds_are_clean() {
    let first = 1_000 + u64::from(std::process::id()) * 100;
    println!("fresh seeds {first}..{}", first + 2);
    assert_eq!(violations(Scenario::All, first..=first + 2), Vec::<String>::new());
}

/// One stood still, is in its group again and not compared yet, and has a write that the other one, which dies, had not applied.
#[test]
fn a_copy_that_has_caught_up_is_as_new_as_the_one_that_went_on_without_it() {
    let scenario: Scenario = "stood-still".parse().expect("a scenario");
    for seed in [335, 377] {
        assert_eq!(violations(scenario, seed..=seed), Vec::<String>::new());
    }
}

/// The looks at an older copy that waited were not answered, and the gate let the newest one start beside it: it was overwritten.
#[test]
fn the_newest_copy_does_not_start_beside_an_older_one_that_nobody_sees() {
    for seed in [2572, 6226] {
        assert_eq!(violations(Scenario::All, seed..=seed), Vec::<String>::new());
    }
}

/// All of a group let go of it, and one that was no member any more waited for them without a quorum, for ever.
#[test]
fn who_is_no_member_any_more_lets_go_of_a_stopped_group_too() {
    assert_eq!(violations(Scenario::All, 270..=270), Vec::<String>::new());
}

/// A member heard one that went on, and that left before it could come back to it: it asked that one for ever, and took no quorum.
#[test]
fn a_member_does_not_wait_for_ever_for_one_that_has_left() {
    assert_eq!(violations(Scenario::All, 185..=185), Vec::<String>::new());
}

/// A sidecar asked for a quorum, was killed and asked again: the first statement was never answered, and an EXIT waited for it.
#[test]
fn a_quorum_that_is_asked_for_twice_is_answered_twice() {
    assert_eq!(violations(Scenario::All, 3401..=3401), Vec::<String>::new());
}

/// A removed node came back into its group, was given a table that had been made meanwhile, and left without it being dropped.
#[test]
fn what_a_node_is_given_on_its_way_back_is_cleaned_too() {
    assert_eq!(violations(Scenario::All, 10345..=10345), Vec::<String>::new());
}

/// A hand-over was taken back while the JOIN of its new copy still ran: the copy came after it had been cleaned.
#[test]
fn a_copy_that_comes_after_its_node_was_cleaned_goes_too() {
    assert_eq!(violations(Scenario::All, 11748..=11748), Vec::<String>::new());
}

/// One move was ordered twice, and the second one cancelled before it began: it took the copy of the first with it.
#[test]
fn a_move_that_had_not_begun_takes_nothing_with_it() {
    assert_eq!(violations(Scenario::All, 12266..=12266), Vec::<String>::new());
}

/// Of the user's own cluster one lost the others, and came back when these had no quorum any more: neither had the other in view.
#[test]
fn two_that_lost_each_other_get_a_quorum_all_the_same() {
    assert_eq!(violations(Scenario::All, 15687..=15687), Vec::<String>::new());
}

/// One that was let in was killed and back at once: the others waited for the process before it, for ever.
#[test]
fn who_is_restarted_while_it_is_let_in_is_let_in_anew() {
    assert_eq!(violations(Scenario::All, 17545..=17545), Vec::<String>::new());
}

/// The donor of a JOIN lost its quorum: the failover waited for the JOIN, and the JOIN for the quorum.
#[test]
fn a_quorum_does_not_wait_for_a_join_of_its_own_group() {
    assert_eq!(violations(Scenario::All, 1006..=1006), Vec::<String>::new());
}

/// A removed node came back with its copy while the move that made it good was taken back: it left its group at once, and one
/// whole copy stayed.
#[test]
fn a_copy_that_is_left_over_stays_while_others_are_too_few() {
    assert_eq!(violations(Scenario::All, 4994..=4994), Vec::<String>::new());
}

/// A node was cut off when the drop of a table began, and came back with its route.
#[test]
fn a_drop_does_not_wait_for_a_route_that_nobody_takes_away() {
    assert_eq!(violations(Scenario::All, 3..=3), Vec::<String>::new());
}

/// A failover began while the node was being removed.
#[test]
fn a_node_that_leaves_keeps_no_route() {
    assert_eq!(violations(Scenario::Changes, 2..=2), Vec::<String>::new());
}

/// A member was cut off while all the members it knew left its group: it found nobody and could not EXIT.
#[test]
fn nothing_is_left_of_a_member_that_knew_nobody_any_more() {
    assert_eq!(violations(Scenario::All, 5..=5), Vec::<String>::new());
}

/// The same, where the one it knew was lost and removed: what that one showed last says nothing any more.
#[test]
fn a_member_that_knew_only_one_that_is_gone_is_cleaned() {
    assert_eq!(violations(Scenario::All, 103..=103), Vec::<String>::new());
}

/// A group fell apart while its only table was dropped: each side waited for the other to go.
#[test]
fn a_drop_ends_both_sides_of_a_group() {
    assert_eq!(violations(Scenario::All, 2_346_702..=2_346_702), Vec::<String>::new());
}

/// A drop left the emptied group to be cleaned off both its members, and each waited for the other to be gone.
#[test]
fn of_two_members_that_are_left_over_one_goes_first() {
    assert_eq!(violations(Scenario::All, 54..=54), Vec::<String>::new());
}

/// A group got its quorum back without a member that had been cut off, and the next route named that member, too.
#[test]
fn whom_a_quorum_goes_on_without_is_not_routed() {
    assert_eq!(violations(Scenario::All, 5022..=5022), Vec::<String>::new());
}

/// A member was left out, found back, and the others were lost, one of them for good, before they were looked at again.
#[test]
fn what_was_seen_before_a_member_was_back_is_not_held_against_it() {
    assert_eq!(violations(Scenario::All, 4941..=4941), Vec::<String>::new());
}

/// The new node of an rf 1 shard's move died, came back, and its copy was to be verified against one that it has no cluster with.
#[test]
fn a_copy_that_a_move_was_ended_with_is_left_behind() {
    assert_eq!(violations(Scenario::All, 5667..=5667), Vec::<String>::new());
}

/// The new node of an rf 1 shard's move was started anew before anybody saw it lost, with the routes on it: its source was to leave.
#[test]
fn a_source_stays_while_only_it_can_give_its_new_copy_a_quorum() {
    assert_eq!(violations(Scenario::All, 7399..=7399), Vec::<String>::new());
}

/// A member was cut off, the two others went on and lost their quorum, and all three stood without one when a controller was back:
/// which of them had fallen behind showed in their last views alone.
#[test]
fn who_fell_behind_before_all_lost_their_quorum_is_not_routed() {
    assert_eq!(violations(Scenario::All, 8622..=8622), Vec::<String>::new());
}

/// A sidecar was held up and said an EXIT so late that nobody waited for its end: the next one, elsewhere, began beside it.
#[test]
fn an_exit_waits_for_one_that_was_not_answered() {
    assert_eq!(violations(Scenario::All, 8376..=8376), Vec::<String>::new());
}

/// A left-over member of a group whose shards had been handed over was kept as a spare copy, and its dissolving waited for it.
#[test]
fn what_is_left_of_a_group_without_shards_is_no_spare() {
    assert_eq!(violations(Scenario::All, 6846..=6846), Vec::<String>::new());
}

/// A group was made anew on one node and then on another; the first was its cluster's last member and could not EXIT.
#[test]
fn a_cluster_that_was_made_anew_twice_is_deleted_where_it_is_not_the_group() {
    assert_eq!(violations(Scenario::TotalLoss, 5..=5), Vec::<String>::new());
}

/// Two nodes each had a copy left over that was to stay until the other node had been given its like; and a copy of a table that
/// was being dropped was kept.
#[test]
fn copies_that_are_left_over_do_not_wait_for_each_other() {
    for seed in [4152, 4509] {
        assert_eq!(violations(Scenario::All, seed..=seed), Vec::<String>::new());
    }
}

/// An EXIT waited for older statements, and meanwhile another member was lost.
#[test]
fn an_exit_that_waited_leaves_no_fewer_copies_than_it_was_to() {
    assert_eq!(violations(Scenario::All, 460..=460), Vec::<String>::new());
}

/// It came back between an EXIT's order and the EXIT, and routed as it had before it was lost.
#[test]
fn a_node_that_comes_back_writes_to_no_copy_that_has_left() {
    assert_eq!(violations(Scenario::All, 522..=522), Vec::<String>::new());
}

/// The user's own cluster was to be given a quorum, and found it again by itself.
#[test]
fn what_has_a_quorum_again_is_given_none() {
    assert_eq!(violations(Scenario::All, 654..=654), Vec::<String>::new());
}

/// A leader whose append had an unknown outcome never learned that it was deposed, and the sidecars stayed with it.
#[test]
fn a_leader_that_cannot_append_learns_that_it_is_deposed() {
    assert_eq!(violations(Scenario::All, 1_448..=1_448), Vec::<String>::new());
}

/// The copy that a move was to shed had stopped, could not EXIT, and was too few to go.
#[test]
fn a_copy_that_stopped_is_shed_without_an_exit() {
    assert_eq!(violations(Scenario::Machines, 70..=70), Vec::<String>::new());
}

/// It dies at the end of its own removal, and is back in the user's cluster some seconds later.
#[test]
fn a_node_that_dies_while_it_is_removed_leaves_when_it_is_back() {
    for point in 27..=29 {
        let (_, run) = Scenario::Sweep(Victim::Node, Operation::Remove, Some(point)).run(2, None).remove(0);
        assert!(run.violations.is_empty(), "{point}: {:?}", run.violations);
    }
}

/// The copy that a move was to shed is lost while the new one is on its way.
#[test]
fn a_move_goes_on_without_the_copy_that_it_was_to_shed() {
    assert_eq!(violations(Scenario::Losses, 77..=77), Vec::<String>::new());
}

/// Somebody writes to a shard itself between the comparison of its copies and their way out of the group.
#[test]
fn a_transaction_that_commits_during_a_hand_over_holds_nothing_up() {
    assert_eq!(violations(Scenario::Changes, 53..=53), Vec::<String>::new());
}

/// Its copy was left behind, and its node came back before the move came to shed it.
#[test]
fn a_copy_that_was_left_behind_is_not_shed_as_well() {
    assert_eq!(violations(Scenario::All, 150..=150), Vec::<String>::new());
}

/// One member waits in a new view for another that never came into it, and that lost the old one.
#[test]
fn a_view_that_half_of_its_members_have_comes_to_an_end() {
    assert_eq!(violations(Scenario::Machines, 15..=15), Vec::<String>::new());
}

/// The same, where the member that led the change of view was refused by a late answer, and the other never had it.
#[test]
fn a_view_that_its_leader_alone_has_comes_to_an_end() {
    assert_eq!(violations(Scenario::Machines, 223..=223), Vec::<String>::new());
}

/// Its node was told to go on with a group alone and was cut off before anybody saw it: the other member was told, too.
#[test]
fn only_one_is_told_to_go_on_alone() {
    assert_eq!(violations(Scenario::All, 987..=987), Vec::<String>::new());
}

/// By the log a member, but all the members it knew have left.
#[test]
fn a_member_that_finds_nobody_is_made_anew() {
    assert_eq!(violations(Scenario::All, 685..=685), Vec::<String>::new());
}

/// Another member's round took the place of its own, and its statement ran for ever.
#[test]
fn a_bootstrap_that_gives_way_ends() {
    assert_eq!(violations(Scenario::All, 693..=693), Vec::<String>::new());
}

/// A full disk: a copy stops and falls behind in the middle of a move.
#[test]
fn a_copy_that_stopped_is_no_measure_and_holds_no_move_up() {
    assert_eq!(violations(Scenario::Machines, 42..=42), Vec::<String>::new());
    assert_eq!(violations(Scenario::Machines, 57..=57), Vec::<String>::new());
}

/// A client's connection is its own: it had begun a transaction when the sidecar was killed, and committed it afterwards.
#[test]
fn a_client_keeps_its_session_when_the_sidecar_dies() {
    assert_eq!(violations(Scenario::All, 2_548..=2_548), Vec::<String>::new());
}

/// A DELETE was refused after a TRUNCATE that began later was done: what was there before the two is there no more.
#[test]
fn a_write_beside_a_truncate_is_in_doubt() {
    assert_eq!(violations(Scenario::All, 6_250..=6_250), Vec::<String>::new());
}

/// The only copy of a shard was taken for good, of a table whose drop had been asked for and not been done.
#[test]
fn no_last_copy_is_taken_of_a_table_that_may_be_there() {
    assert_eq!(violations(Scenario::All, 171..=171), Vec::<String>::new());
}

/// The new copy of a shard without others was lost before the old one had left: that one left by another way, and what it held
/// was not known, so it stayed for ever.
#[test]
fn an_old_copy_stays_or_goes_however_it_leaves() {
    assert_eq!(violations(Scenario::All, 1_804..=1_804), Vec::<String>::new());
}

/// It had left the user's cluster before what it still held was cleaned, died, and nobody knew it any more.
#[test]
fn a_node_is_cleaned_before_it_is_removed() {
    assert_eq!(violations(Scenario::All, 1_872..=1_872), Vec::<String>::new());
}

/// Its removal waited for a move, and the move for its routes.
#[test]
fn a_node_whose_removal_waits_is_given_routes() {
    assert_eq!(violations(Scenario::All, 2_258..=2_258), Vec::<String>::new());
}

/// A node joined the user's cluster and was not known yet when that lost its quorum.
#[test]
fn one_that_has_just_joined_does_not_keep_the_others_from_a_quorum() {
    assert_eq!(violations(Scenario::All, 3_346..=3_346), Vec::<String>::new());
}

/// A creation was taken back on a member that was cut off, while the other side went on.
#[test]
fn what_is_taken_back_is_given_no_second_quorum() {
    assert_eq!(violations(Scenario::All, 3_646..=3_646), Vec::<String>::new());
}

/// The new copy of a move that was taken back was given a quorum, to end it: a client wrote to it.
#[test]
fn a_copy_that_is_given_away_takes_no_writes() {
    assert_eq!(violations(Scenario::All, 3_675..=3_675), Vec::<String>::new());
}

/// The new copy of a move stopped after it was verified, and was routed as long as the move went on.
#[test]
fn a_new_copy_that_stopped_is_not_routed() {
    assert_eq!(violations(Scenario::Machines, 116..=116), Vec::<String>::new());
    assert_eq!(violations(Scenario::Machines, 278..=278), Vec::<String>::new());
}

/// A dead node was always the one whose tables had not been looked at for longest, and no other's turn came.
#[test]
fn a_dead_node_keeps_no_other_from_being_looked_at() {
    assert_eq!(violations(Scenario::All, 4_543..=4_543), Vec::<String>::new());
}

/// Two members were restarted and knew only each other and one that had left, while a third went on.
#[test]
fn restarted_members_that_know_nobody_else_are_made_anew() {
    assert_eq!(violations(Scenario::All, 5_931..=5_931), Vec::<String>::new());
}

/// What a rule prevents does not happen where everything leads to it.
#[test]
fn directed_scenarios_are_clean() {
    assert_eq!(violations(Scenario::Rules, 20..=20), Vec::<String>::new());
}

#[test]
fn a_seed_repeats_exactly() {
    let run = || Scenario::All.run(7, None);
    assert_eq!(run(), run());
}

/// A few boundaries of every sweep; `shardwright sim --scenario sweeps` takes them all.
#[test]
fn every_operation_survives_a_crash_at_some_of_its_boundaries() {
    for victim in Victim::ALL {
        for operation in Operation::ALL {
            let whole = Scenario::Sweep(victim, operation, Some(0)).run(2, None);
            let points = whole[0].1.crash_points;
            assert!(points > 0, "{operation:?} passes no boundary");
            assert!(whole[0].1.violations.is_empty(), "{:?}", whole[0]);
            for point in (1..=points).step_by(points.div_ceil(2) as usize) {
                let (scenario, run) = Scenario::Sweep(victim, operation, Some(point)).run(2, None).remove(0);
                assert!(run.violations.is_empty(), "{}: {:?}", scenario.replay(2, None), run.violations);
            }
        }
    }
}

/// Some cells of the table of faults and operations; `shardwright sim --scenario meetings` takes them all.
#[test]
fn faults_meet_operations() {
    for (fault, kind) in [(Fault::ControllerCrash, "create"), (Fault::Partition, "move")] {
        let met = Met::ALL.into_iter().find(|met| met.kind == kind).expect("a kind");
        let (cell, run) = Scenario::Meet(fault, met).run(2, None).remove(0);
        assert!(run.violations.is_empty(), "{}: {:?}", cell.replay(2, None), run.violations);
        let is_met = run.coverage.contains_key(&(fault.name(), met.kind));
        assert!(is_met, "{}", cell.name());
    }
}

/// Two without a quorum and one that waited for them in a view that never came into force each waited for another to begin.
#[test]
fn who_waits_for_a_view_that_does_not_come_is_asked_by_the_others() {
    assert_eq!(violations(Scenario::Machines, 75..=75), Vec::<String>::new());
}

/// The disk of the new copy of a shard without others was full right after the routes had changed: they stayed on it, and its source
/// never left.
#[test]
fn a_shard_stays_with_its_source_when_the_new_copy_has_stopped() {
    assert_eq!(violations(Scenario::Machines, 594..=594), Vec::<String>::new());
}

/// The only copy stopped after a new one had come: that had gone on, and was measured against it.
#[test]
fn a_shard_goes_with_its_new_copy_when_the_source_has_stopped() {
    assert_eq!(violations(Scenario::Machines, 3952..=3952), Vec::<String>::new());
}

/// A member died in the moment in which a hand-over had begun to end its emptied group: the others had no quorum to leave by.
#[test]
fn an_emptied_group_without_a_quorum_is_dissolved_after_the_hand_over() {
    assert_eq!(violations(Scenario::Machines, 698..=698), Vec::<String>::new());
}

/// The member that was told to take a table out of its group stopped by a full disk: it alone was to put it back.
#[test]
fn a_hand_over_is_taken_back_without_the_member_that_has_stopped() {
    assert_eq!(violations(Scenario::Machines, 1867..=1867), Vec::<String>::new());
}

/// A member was given up while a table was being made: the others listed it still, and waited for it, and its list was to be
/// brought up to date by a move that waited for the table.
#[test]
fn a_table_does_not_wait_for_who_is_listed_and_no_member() {
    assert_eq!(violations(Scenario::Machines, 1564..=1564), Vec::<String>::new());
    assert_eq!(violations(Scenario::Machines, 1840..=1840), Vec::<String>::new());
}

/// A copy that a move had brought in vain had stopped: it could not EXIT.
#[test]
fn a_copy_that_has_stopped_is_taken_away_without_an_exit() {
    assert_eq!(violations(Scenario::Machines, 3145..=3145), Vec::<String>::new());
}

/// A node was to join the user's own cluster again when that lost its quorum: nobody was told to regain it before.
#[test]
fn a_user_cluster_regains_its_quorum_beside_a_node_that_waits_to_join() {
    assert_eq!(violations(Scenario::Machines, 2550..=2550), Vec::<String>::new());
}

/// A shard without others was dropped while the cluster of a move that had come to nothing still held it: each waited for the other.
#[test]
fn a_shard_is_taken_out_of_a_cluster_that_is_left_over_before_it_is_dropped() {
    assert_eq!(violations(Scenario::All, 20427..=20427), Vec::<String>::new());
}

/// Two members of a group that was dissolved came back after the one that could have led them had gone.
#[test]
fn members_that_nobody_leads_any_more_let_go_of_a_group_that_is_gone() {
    assert_eq!(violations(Scenario::All, 21200..=21200), Vec::<String>::new());
}

/// A member that was given up for lost came back. On its old list were one that had stopped and one that had only just started: the
/// gate let it through because of the second, and it formed the group anew from its old copy, where a client wrote to it.
#[test]
fn one_that_is_only_coming_back_itself_lets_nobody_start() {
    assert_eq!(violations(Scenario::Machines, 1069..=1069), Vec::<String>::new());
}

/// The new copy of a shard without others died when all had been told to route to the old one again: that left the cluster of the
/// move with EXIT, which is no copy leaving the others.
#[test]
fn a_copy_that_stays_alone_may_leave_the_cluster_of_its_move() {
    assert_eq!(violations(Scenario::Machines, 1042..=1042), Vec::<String>::new());
}

/// A node came back with an old route to a copy that was being cleaned away and had stopped: once plain, it acknowledged what came
/// by that route, and was dropped.
#[test]
fn a_stopped_copy_is_let_go_of_when_nobody_routes_to_it() {
    assert_eq!(violations(Scenario::Machines, 3576..=3576), Vec::<String>::new());
}

/// A hand-over was being taken back while replication had stopped on the member that it began with: what it waits for names that
/// node, and a restart of it is all that it takes.
#[test]
fn a_hand_over_waits_for_a_restart_of_the_member_that_has_stopped() {
    assert_eq!(violations(Scenario::Machines, 1269..=1269), Vec::<String>::new());
}

/// Everything died while nodes were being given copies of each other's groups: each had the newest copy of one and an older one of
/// another, and the gate held all of them for ever.
#[test]
fn the_gate_lets_one_start_of_those_who_wait_for_each_other() {
    assert_eq!(violations(Scenario::TotalLoss, 194..=194), Vec::<String>::new());
}

/// A shard was moved by hand to a node that was being cleaned of its group: the end of the clean-up took the new membership with it,
/// and the table that had come was nobody's.
#[test]
fn a_shard_does_not_come_to_a_node_before_that_is_clean() {
    assert_eq!(violations(Scenario::Machines, 6964..=6964), Vec::<String>::new());
}

/// A node left the user's cluster while others were restarted: one that was not restarted was left, without a quorum.
#[test]
fn the_user_cluster_goes_on_with_the_one_that_was_not_restarted() {
    assert_eq!(violations(Scenario::All, 453..=453), Vec::<String>::new());
}
