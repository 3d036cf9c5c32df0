//! Replication clusters by themselves: agreement, faults, and the dangerous habits of the real thing.

use crate::support::chance::Chance;
use crate::support::cluster_net::{Net, Table, node_id};
use model::Millis;

#[test]
fn members_hold_what_was_acknowledged() {
    let mut net = Net::cluster(3, 1);
    for key in 0..20 {
        net.written(key as usize % 3, key, key * 10);
    }
    net.run(200);
    let table = net.table(0);
    assert_eq!(table.len(), 20);
    assert!((1..3).all(|at| net.table(at) == table));
    assert_eq!(net.row(1, "nodes_set"), "n:1000,n:1001,n:1002");
    assert_eq!(net.row(2, "conf_id"), "3");
    assert_eq!(net.row(0, "last_committed"), "21");
}

#[test]
fn a_reader_elsewhere_may_lag_behind_an_acknowledgement() {
    let mut net = Net::cluster(2, 1);
    net.written(0, 1, 1);
    assert_eq!((net.table(0).len(), net.table(1).len()), (1, 0));
    net.run(100);
    assert_eq!(net.table(1).len(), 1);
}

#[test]
fn two_writers_of_one_document_on_two_nodes_conflict_and_on_one_node_do_not() {
    let mut net = Net::cluster(3, 1);
    let first = net.write(0, 7, 1).expect("accepted");
    let second = net.write(1, 7, 2).expect("accepted");
    let (first, second) = (net.outcome(0, first), net.outcome(1, second));
    assert_eq!(first, Ok(()), "the sequencer's own comes first");
    let error = second.expect_err("the later one fails").message;
    assert!(error.starts_with("error at PostRollback, code 3 (transaction aborted"), "{error}");
    net.run(100);
    assert!((0..3).all(|at| net.table(at) == Table::from([(7, 1)])));

    let first = net.write(1, 8, 1).expect("accepted");
    let second = net.write(1, 8, 2).expect("accepted");
    assert_eq!((net.outcome(1, first), net.outcome(1, second)), (Ok(()), Ok(())));
    net.run(100);
    assert!((0..3).all(|at| net.table(at)[&8] == 2), "the later one wins");
}

#[test]
fn one_of_three_dies_and_writes_go_on_after_a_wait() {
    for dead in 0..3 {
        let mut net = Net::cluster(3, 1);
        net.kill(dead);
        let origin = (dead + 1) % 3;
        let begun = net.now;
        net.written(origin, 1, 1);
        let waited = net.now - begun;
        assert!((1_500..3_000).contains(&waited), "{waited}");
        assert_eq!(net.status(origin), "primary");
        assert_eq!(net.row(origin, "size"), "2");
    }
}

#[test]
fn what_one_survivor_holds_all_survivors_get() {
    let mut net = Net::cluster(3, 1);
    net.cut.insert((0, 1));
    net.write(0, 9, 9).expect("accepted");
    net.run(20);
    net.kill(0);
    net.cut.clear();
    net.until(4_000, "a view without it", |net| net.row(1, "size") == "2");
    net.run(100);
    let held = Table::from([(9, 9)]);
    assert_eq!(
        (net.table(1), net.table(2)),
        (held.clone(), held),
        "only 2 had it, and 1 led the change of view"
    );
}

#[test]
fn one_of_two_dies_and_the_survivor_is_read_only_until_bootstrapped() {
    let mut net = Net::cluster(2, 1);
    net.kill(1);
    let waiting = net.write(0, 1, 1).expect("it waits");
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary");
    let error = net.outcome(0, waiting).expect_err("nobody else has it").message;
    assert!(error.contains("code 3"), "{error}");
    assert_eq!(net.state(0), "synced");
    assert_eq!(net.row(0, "nodes_view"), "n:1000,n:5000,n:1001,n:5001", "stale");
    let error = net.write(0, 2, 2).expect_err("read-only").message;
    assert_eq!(error, "cluster 'c' is not ready, not primary state (synced)");
    net.bootstrapped(0);
    net.written(0, 3, 3);
    assert_eq!(net.row(0, "size"), "1");
}

#[test]
fn a_member_that_waits_goes_on_with_its_copy_once_those_of_its_last_view_are_restarted() {
    let mut net = Net::cluster(3, 1);
    net.written(0, 1, 1);
    net.kill(1);
    net.kill(2);
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary");
    net.start(1);
    net.run(15_000);
    assert_eq!((net.status(0).as_str(), net.synced(1)), ("non-primary", false), "one is missing");
    net.start(2);
    net.until(15_000, "all are there again", |net| (0..3).all(|at| net.synced(at)));
    assert_eq!(net.row(0, "size"), "3");
    let held = Table::from([(1, 1)]);
    assert!((0..3).all(|at| net.table(at) == held), "{}", net.describe());
}

/// What the gate is for.
#[test]
fn the_newest_copy_that_starts_beside_an_older_one_which_waits_gets_the_older_one() {
    let mut net = Net::cluster(2, 1);
    net.cut_off(1);
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary");
    net.bootstrapped(0);
    net.written(0, 1, 1);
    net.kill(0);
    net.cut.clear();
    net.run(10_000);
    assert_eq!(net.status(1), "non-primary");
    net.start(0);
    net.until(15_000, "both go on", |net| net.synced(0) && net.synced(1));
    assert_eq!((net.table(0).len(), net.table(1).len()), (0, 0), "what was acknowledged is gone");
}

/// A process that was restarted is at another port, where one that stood still does not look for it.
#[test]
fn a_member_that_stood_still_finds_only_those_that_were_not_restarted() {
    for all_restarted in [false, true] {
        let mut net = Net::cluster(3, 1);
        net.cut_off(2);
        net.until(5_000, "two go on", |net| net.row(0, "size") == "2" && net.status(2) == "non-primary");
        let ticket = net.ticket();
        net.on(0, |cluster, host| cluster.as_mut().expect("there").update_nodes(host, ticket))
            .expect("begun");
        net.outcome(0, ticket).expect("listed");
        for at in if all_restarted { vec![1, 0] } else { vec![1] } {
            net.kill(at);
            net.until(5_000, "the other waits", |net| net.status(1 - at) == "non-primary");
            net.start(at);
            net.until(15_000, "both again", |net| net.synced(0) && net.synced(1));
        }
        net.cut.clear();
        net.run(30_000);
        let is_back = net.synced(2);
        assert_eq!(is_back, !all_restarted, "{}", net.describe());
        assert_eq!(net.status(2), if is_back { "primary" } else { "non-primary" });
    }
}

/// One of them was in another view since, with somebody who is not there: there may be more.
#[test]
fn a_member_that_waits_goes_on_only_with_all_of_the_newest_view_that_any_of_them_was_in() {
    let mut net = Net::cluster(3, 1);
    net.kill(2);
    net.until(3_000, "two go on", |net| net.row(0, "size") == "2");
    net.cut_off(1);
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary");
    net.bootstrapped(0);
    net.start(2);
    net.until(15_000, "one is back", |net| net.synced(2));
    net.kill(0);
    net.kill(2);
    net.cut.clear();
    net.start(0);
    net.run(15_000);
    assert_eq!((net.status(1).as_str(), net.synced(0)), ("non-primary", false), "{}", net.describe());
    net.start(2);
    net.until(15_000, "all are there", |net| (0..3).all(|at| net.synced(at)));
}

#[test]
fn a_restarted_member_comes_back_by_itself_with_the_whole_copy() {
    let mut net = Net::cluster(3, 1);
    net.written(0, 1, 1);
    net.run(100);
    net.kill(2);
    net.written(0, 2, 2);
    net.start(2);
    net.run(50);
    assert_eq!((net.status(2).as_str(), net.state(2).as_str()), ("disconnected", "joining"));
    assert_eq!(net.row(2, "nodes_view"), "n:1000,n:5000,n:1001,n:5001");
    assert_eq!(net.table(2).len(), 1, "stale");
    net.until(5_000, "back", |net| net.synced(2));
    assert_eq!(net.table(2), net.table(0));
    assert_eq!(net.row(0, "size"), "3");
    assert_eq!(net.row(0, "nodes_set"), "n:1000,n:1001,n:1002");
}

#[test]
fn a_clean_stop_keeps_the_survivor_primary() {
    let mut net = Net::cluster(2, 1);
    net.stop(1);
    net.run(30);
    assert_eq!(net.status(0), "primary");
    net.written(0, 1, 1);
    net.start(1);
    net.until(500, "back at once", |net| net.synced(1));
    assert_eq!(net.table(1), net.table(0));
    net.stop(0);
    net.run(30);
    net.stop(1);
    net.start(1);
    assert_eq!(net.status(1), "primary", "the last to stop may start alone");
    assert_eq!(net.row(1, "last_committed"), "2");
}

#[test]
fn after_a_total_loss_the_second_starter_wins_however_old_its_copy() {
    let mut net = Net::cluster(2, 1);
    net.kill(1);
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary");
    net.bootstrapped(0);
    net.written(0, 1, 1);
    net.kill(0);
    net.start(0);
    net.run(1_500);
    assert_eq!((net.status(0).as_str(), net.state(0).as_str()), ("recovery-required", "closed"));
    assert_eq!(net.row(0, "last_committed"), "", "no such row");
    net.start(1);
    net.run(50);
    assert!(net.synced(1), "{}", net.describe());
    assert_eq!(net.row(1, "last_committed"), "0");
    assert_eq!(net.table(1).len(), 0, "the older copy is primary now");
    assert_eq!(net.status(0), "recovery-required");
}

/// It would be of no use to anybody otherwise: not a member, and not to be deleted either.
#[test]
fn a_node_whose_cluster_went_while_it_came_back_gives_up() {
    let mut net = Net::cluster(2, 1);
    net.kill(1);
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary");
    net.bootstrapped(0);
    net.start(1);
    net.run(50);
    net.cut_off(1);
    let ticket = net.ticket();
    net.on(0, |cluster, host| cluster.as_mut().expect("there").delete(host, ticket));
    net.outcome(0, ticket).expect("deleted");
    net.cut.clear();
    net.until(20_000, "giving up", |net| net.status(1) == "recovery-required");
    let ticket = net.ticket();
    net.on(1, |cluster, host| cluster.as_mut().expect("there").delete(host, ticket));
    net.outcome(1, ticket).expect("deleted");
}

#[test]
fn both_sides_of_a_partition_can_be_bootstrapped() {
    let mut net = Net::cluster(2, 1);
    net.cut_off(0);
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary" && net.status(1) == "non-primary");
    for at in 0..2 {
        net.bootstrapped(at);
        net.written(at, 1, at as u64);
    }
    net.cut.clear();
    net.run(10_000);
    assert_ne!(net.table(0), net.table(1), "split brain stays");
    assert!(net.synced(0) && net.synced(1));
}

/// The other half heard it throughout, and went on in a view that nobody else had.
#[test]
fn a_half_that_was_bootstrapped_unnoticed_is_joined_again() {
    let mut net = Net::cluster(2, 1);
    net.deaf.insert((0, 1));
    net.until(3_000, "non-primary", |net| net.status(1) == "non-primary");
    net.bootstrapped(1);
    assert_eq!(net.status(0), "primary", "it has not noticed");
    net.deaf.clear();
    net.written(1, 1, 1);
    net.until(10_000, "together", |net| (0..2).all(|at| net.synced(at) && net.row(at, "size") == "2"));
    net.run(100);
    assert_eq!(net.table(0), net.table(1));
}

#[test]
fn a_member_that_was_cut_off_comes_back_by_increments() {
    let mut net = Net::cluster(3, 1);
    net.cut_off(2);
    net.until(4_000, "cut off", |net| net.status(2) == "non-primary");
    for key in 0..30 {
        net.written(0, key, key);
    }
    net.cut.clear();
    net.until(4_000, "back", |net| net.synced(2));
    net.run(100);
    assert_eq!(net.table(2), net.table(0));
    assert_eq!(
        net.row(2, "local_cached_downto"),
        "2",
        "its history goes on since its join: no whole copy came"
    );
}

#[test]
fn halves_that_meet_again_are_primary_without_help() {
    let mut net = Net::cluster(2, 1);
    net.written(0, 1, 1);
    net.cut_off(0);
    net.until(3_000, "non-primary", |net| net.status(0) == "non-primary" && net.status(1) == "non-primary");
    net.cut.clear();
    net.until(8_000, "merged", |net| net.synced(0) && net.synced(1));
    net.written(1, 2, 2);
    net.run(100);
    assert_eq!(net.table(0), net.table(1));
}

/// The third may have been bootstrapped meanwhile.
#[test]
fn members_that_lost_their_view_are_primary_only_when_all_of_it_meet_again() {
    let mut net = Net::cluster(3, 1);
    (0..3).for_each(|at| net.cut_off(at));
    net.until(4_000, "apart", |net| (0..3).all(|at| net.status(at) == "non-primary"));
    net.cut.remove(&(1, 2));
    net.run(10_000);
    assert!([1, 2].iter().all(|at| net.status(*at) == "non-primary"), "two of three");
    net.cut.clear();
    net.until(10_000, "together", |net| (0..3).all(|at| net.synced(at)));

    (0..3).for_each(|at| net.cut_off(at));
    net.until(4_000, "apart", |net| (0..3).all(|at| net.status(at) == "non-primary"));
    net.bootstrapped(0);
    net.written(0, 1, 1);
    net.cut.remove(&(1, 2));
    net.run(10_000);
    assert!([1, 2].iter().all(|at| net.status(*at) == "non-primary"), "one quorum is enough");
    net.cut.clear();
    net.until(20_000, "together", |net| (0..3).all(|at| net.synced(at) && net.table(at) == net.table(0)));
}

#[test]
fn exit_detaches_only_this_node() {
    let mut net = Net::cluster(3, 1);
    net.written(0, 1, 1);
    for at in [0, 2] {
        let ticket = net.ticket();
        net.on(at, |cluster, host| cluster.as_mut().expect("there").exit(host, ticket)).expect("begun");
        net.outcome(at, ticket).expect("out");
        assert_eq!(net.status(at), "none");
        assert_eq!(net.table(at).len(), 1, "its copy stays, complete");
        net.run(10);
        assert_eq!(net.status(1), "primary");
    }
    assert_eq!(net.row(1, "nodes_set"), "n:1001");
    net.written(1, 2, 2);
}

#[test]
fn delete_from_a_returning_node_dissolves_the_healthy_members() {
    let mut net = Net::cluster(3, 1);
    net.kill(2);
    net.until(4_000, "dropped", |net| net.row(0, "size") == "2");
    net.timing.rejoin_delay = Millis(6_000);
    net.start(2);
    net.run(50);
    assert_eq!(net.state(2), "joining");
    let ticket = net.ticket();
    net.on(2, |cluster, host| cluster.as_mut().expect("there").delete(host, ticket));
    net.outcome(2, ticket).expect("gone");
    assert!((0..3).all(|at| net.status(at) == "none"));
}

#[test]
fn writes_wait_while_a_joiner_copies_and_a_hasty_second_joiner_is_refused() {
    let mut net = Net::cluster(2, 1);
    net.nodes.extend(Net::new(4, 1).nodes.into_iter().skip(2));
    net.timing.join_delay = Millis(4_000);
    for at in 0..2 {
        // The donor's own pace counts.
        net.stop(at);
        net.run(50);
        net.start(at);
        net.until(10_000, "back", |net| net.synced(at));
    }
    let first = net.join(2, 0);
    net.run(500);
    let second = net.join(3, 0);
    let begun = net.now;
    net.written(0, 1, 1);
    assert!(net.now - begun > 3_000, "it waited {}", net.now - begun);
    assert_eq!(net.outcome(2, first), Ok(()));
    let error = net.outcome(3, second).expect_err("hasty").message;
    assert_eq!(error, "cluster 'c', no nodes available(n:1000), error: 'n:1000': retries limit exceeded");
    assert_eq!(net.status(3), "none");
    net.run(100);
    assert_eq!(net.table(2), net.table(0));
    net.joined(3, 0);
    assert_eq!(net.table(3), net.table(0));
}

#[test]
fn joining_an_unknown_cluster_names_the_donor_user() {
    let mut net = Net::new(2, 1);
    let ticket = net.join(1, 0);
    let error = net.outcome(1, ticket).expect_err("unknown").message;
    assert_eq!(error, "cluster 'c', failed to fetch donor user from any node");
}

#[test]
fn add_to_several_members_loses_what_is_written_meanwhile() {
    let mut net = Net::cluster(3, 1);
    net.nodes[1].tables.insert("u".into(), (0..500).map(|key| (key, key)).collect());
    net.nodes[2].tables.insert("u".into(), Table::from([(9_999, 1)]));
    let ticket = net.ticket();
    net.on(1, |cluster, host| cluster.as_mut().expect("there").add(host, ticket, vec!["u".into()]))
        .expect("begun");
    net.run(20);
    // Not in the cluster yet: a plain write, on this node alone.
    net.nodes[1].tables.get_mut("u").expect("there").insert(1_000, 1);
    net.outcome(1, ticket).expect("added");
    net.run(100);
    assert_eq!(net.nodes[0].tables["u"].len(), 500, "copied onto all members, what they had is overwritten");
    assert_eq!(net.nodes[2].tables["u"].len(), 500);
    assert_eq!(net.nodes[1].tables["u"].len(), 501, "and this one is lost to the others");
    assert_eq!(net.row(2, "indexes"), "t,u");
}

#[test]
fn a_member_cut_off_during_drop_and_add_keeps_the_old_rows_and_looks_synced() {
    let mut net = Net::cluster(3, 1);
    net.written(0, 1, 1);
    net.run(100);
    net.cut_off(2);
    net.until(4_000, "dropped", |net| net.row(0, "size") == "2");
    let ticket = net.ticket();
    net.on(0, |cluster, host| cluster.as_mut().expect("there").drop_tables(host, ticket, vec!["t".into()]))
        .expect("begun");
    net.outcome(0, ticket).expect("dropped");
    net.run(50);
    for at in 0..2 {
        net.nodes[at].tables.insert("t".into(), Table::from([(5, 5)]));
    }
    let ticket = net.ticket();
    net.on(0, |cluster, host| cluster.as_mut().expect("there").add(host, ticket, vec!["t".into()]))
        .expect("begun");
    net.outcome(0, ticket).expect("added");
    net.cut.clear();
    net.until(4_000, "back", |net| net.synced(2));
    assert_eq!(net.table(0), Table::from([(5, 5)]));
    assert_eq!(net.table(2), Table::from([(1, 1)]), "the old rows");
}

#[test]
fn a_frozen_sequencer_that_thaws_finds_itself_outside() {
    let mut net = Net::cluster(3, 1);
    net.cut_off(0);
    let waiting = net.write(0, 1, 100).expect("accepted");
    net.written(1, 1, 1);
    net.cut.clear();
    net.until(5_000, "back", |net| net.synced(0));
    net.run(100);
    assert!(net.outcome(0, waiting).is_err());
    assert!((0..3).all(|at| net.table(at) == Table::from([(1, 1)])));
    assert_eq!(net.nodes[0].id, node_id(0));
}

/// Restarted before or after its death was noticed, once or twice, it is a synced member again in the end.
#[test]
fn a_member_that_restarts_at_any_moment_comes_back() {
    for seed in 0..100 {
        let mut net = Net::cluster(2, seed);
        let mut chance = Chance::new(seed);
        net.written(0, 1, 1);
        let victim = chance.below(2) as usize;
        let other = 1 - victim;
        net.kill(victim);
        net.run(chance.below(4_000));
        net.start(victim);
        if chance.percent(50) {
            net.run(chance.below(9_000));
            net.kill(victim);
            net.run(chance.below(4_000));
            net.start(victim);
        }
        let synced = (0..600).any(|_| {
            net.run(100);
            if net.status(other) == "non-primary" {
                let ticket = net.ticket();
                // Refused when it found a quorum meanwhile.
                let _refused = net
                    .on(other, |cluster, host| cluster.as_mut().expect("there").bootstrap(host, ticket))
                    .is_err();
            }
            net.synced(0) && net.synced(1)
        });
        assert!(synced, "seed {seed}: {}", net.describe());
    }
}
