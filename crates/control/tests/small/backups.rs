//! Backups and restores in the small world: what is recorded when, copies made for reading alone, tables made again.

use super::world::{World, node, table};
use control::backup::Job;
use control::operation::{Kind, Status};
use control::state::Member;
use model::wire::{ShardingStatement, StatementReply};
use model::{BackupCause, BackupData, BackupId, BackupOrder, BackupState, RestoreOrder, TableName};

fn ordered(world: &mut World, with_data: bool) -> BackupId {
    let order = BackupOrder {
        name: table("t"),
        with_data: with_data.then(|| "/b".to_owned()),
        checksums: false,
        mib_per_second: 1,
    };
    match world.told(ShardingStatement::Backup { order }) {
        StatementReply::Rows { rows, .. } => {
            rows[0][0].as_ref().expect("an id").parse().expect("a backup's id")
        }
        other => panic!("{other:?}"),
    }
}

fn state(world: &World, id: &BackupId) -> Option<BackupState> {
    world.state().backups.get(id).map(|backup| backup.state)
}

fn snapshots(world: &World, status: Status) -> usize {
    let is = |kind: &Kind| matches!(kind, Kind::Snapshot { .. });
    world.state().finished.iter().filter(|it| is(&it.kind) && it.status == status).count()
}

fn recorded(world: &World, id: &BackupId) -> BackupData {
    let of = |job: &Job| match job {
        Job::Facts { data, .. } if data.backup_id == *id => Some((**data).clone()),
        _ => None,
    };
    world.jobs.iter().find_map(of).expect("it was recorded")
}

#[test]
fn moves_begin_only_when_their_tables_are_recorded() {
    let mut world = World::with_table(1, 3, 12, 2);
    world.add_node(4);
    world.until("a move", |world| {
        world.state().active().any(|it| matches!(it.kind, Kind::Move { .. }) && it.status == Status::Running)
    });
    let backup = world.state().backups.values().next().expect("it is recorded before");
    assert_eq!((backup.cause, backup.state), (BackupCause::Rebalance, BackupState::Complete));
    assert_eq!((backup.shards, backup.rf, backup.rows), (12, 2, Some(7)));
    let data = recorded(&world, &backup.id.clone());
    assert_eq!((data.placement.len(), data.cluster.as_deref()), (12, Some("c")));
    assert!(data.placement.iter().all(|shard| shard.nodes.len() == 2 && !shard.nodes.contains(&node(4))));
    world.settle();
}

#[test]
fn two_backups_in_one_second_have_two_names() {
    let mut world = World::with_table(2, 3, 4, 2);
    let (first, second) = (ordered(&mut world, false), ordered(&mut world, false));
    assert_ne!(first, second);
    world.settle();
    assert_eq!(state(&world, &first), Some(BackupState::Complete));
    assert_eq!(state(&world, &second), Some(BackupState::Complete));
}

#[test]
fn quiet_copies_are_read_where_they_are() {
    let mut world = World::with_table(3, 3, 6, 2);
    let id = ordered(&mut world, true);
    world.settle();
    assert_eq!(state(&world, &id), Some(BackupState::Complete));
    assert_eq!(world.saved.len(), 6, "every shard was saved");
    assert_eq!(snapshots(&world, Status::Done), 0);
    assert!(matches!(world.jobs.last(), Some(Job::Seal { .. })), "the seal is last");
}

/// A copy more is read and dropped; the world checks on every step that no copy is missing and none is routed that is
/// not whole.
fn busy(seed: u64, nodes: usize, rf: u32) -> (World, BackupId) {
    let mut world = World::with_table(seed, nodes, 6, rf);
    world.busy = true;
    let id = ordered(&mut world, true);
    (world, id)
}

fn over(world: &mut World, id: &BackupId) {
    world.until("the end of the backup", |world| {
        world.write("t");
        let is = |kind: &Kind| matches!(kind, Kind::Backup { .. } | Kind::Snapshot { .. });
        !world.state().active().any(|it| is(&it.kind)) && state(world, id) != Some(BackupState::Running)
    });
    world.settle();
    let routed = |shard: &control::state::Group| shard.members.values().all(|m| *m == Member::Serving);
    assert!(world.state().groups.values().all(routed));
}

#[test]
fn busy_copies_are_read_from_a_copy_of_their_own() {
    for rf in [1, 2] {
        let (mut world, id) = busy(4, 3, rf);
        over(&mut world, &id);
        assert_eq!(state(&world, &id), Some(BackupState::Complete), "rf {rf}");
        assert_eq!(world.saved.len(), 6);
        assert_eq!(snapshots(&world, Status::Done), world.state().groups.len(), "one for each group");
        let frozen = world.jobs.iter().filter_map(|job| match job {
            Job::Save(save) => save.frozen.as_ref().map(|frozen| (frozen, &save.sources)),
            _ => None,
        });
        for (frozen, sources) in frozen {
            assert!(sources.iter().all(|source| frozen.contents.contains_key(&source.physical)));
            assert!(sources.iter().all(|source| source.nodes.len() == 1));
        }
    }
}

#[test]
fn without_a_node_to_spare_a_busy_table_is_given_up_with_the_reason() {
    let (mut world, id) = busy(5, 2, 2);
    over(&mut world, &id);
    assert_eq!(state(&world, &id), Some(BackupState::Failed));
    assert_eq!(snapshots(&world, Status::Done), 0);
    let failed = world.state().finished.iter().find(|it| it.name() == "backup").expect("it is known");
    assert!(failed.error.as_ref().is_some_and(|error| error.contains("written to")), "{:?}", failed.error);
    // It is told, until one is made.
    let told = |world: &World| {
        let alerts = world.controller.alerts(0).into_iter().filter(|alert| alert.state == "firing");
        alerts.filter(|alert| alert.kind == "backup_failed").map(|alert| alert.message).collect::<Vec<_>>()
    };
    world.until("the alert", |world| !told(world).is_empty());
    assert!(
        told(&world)[0].contains(&id.to_string()) && told(&world)[0].contains("written to"),
        "{:?}",
        told(&world)
    );
    world.busy = false;
    let again = ordered(&mut world, true);
    over(&mut world, &again);
    assert_eq!(state(&world, &again), Some(BackupState::Complete));
    world.until("the end of the alert", |world| told(world).is_empty());
}

#[test]
fn a_loss_is_made_good_before_a_backup_goes_on() {
    for rf in [1, 2] {
        for at in 0..12 {
            let (mut world, id) = busy(6, 4, rf);
            let steps = |world: &World| {
                let mut snapshots =
                    world.state().active().filter(|it| matches!(it.kind, Kind::Snapshot { .. }));
                snapshots.next().map(|it| it.steps.iter().filter(|s| s.status.lets_go_on()).count())
            };
            world.until("the moment", |world| {
                steps(world).is_some_and(|steps| steps >= at)
                    || state(world, &id) == Some(BackupState::Complete)
            });
            world.kill(&node(1 + at % 4));
            for _ in 0..200 {
                world.step();
            }
            world.start(&node(1 + at % 4));
            over(&mut world, &id);
            assert_eq!(state(&world, &id), Some(BackupState::Complete), "rf {rf}, step {at}");
        }
    }
}

#[test]
fn a_backup_survives_a_storm() {
    for seed in super::seeds(8) {
        let (mut world, id) = busy(seed, 4, 1 + (seed % 2) as u32);
        world.command_faults = 15;
        world.controller_deaths = 2;
        for round in 0..600 {
            world.write("t");
            if round == 100 {
                world.kill(&node(2));
            }
            if round == 250 {
                world.start(&node(2));
            }
            world.step();
        }
        world.command_faults = 0;
        world.controller_deaths = 0;
        over(&mut world, &id);
        assert_eq!(state(&world, &id), Some(BackupState::Complete), "seed {seed}");
    }
}

fn restore(world: &mut World, data: &BackupData, rf: Option<u32>) -> StatementReply {
    let order = RestoreOrder {
        data: data.clone(),
        from: Some("/b".to_owned()),
        overwrite: false,
        rf,
        mib_per_second: 1,
    };
    world.told(ShardingStatement::Restore { order: Box::new(order) })
}

fn members(world: &World, name: &TableName) -> Vec<Vec<model::NodeId>> {
    let homes = &world.state().tables[name].homes;
    homes.iter().map(|home| world.state().groups[home].members.keys().cloned().collect()).collect()
}

#[test]
fn a_table_that_is_gone_is_made_where_it_was_and_filled() {
    let mut world = World::with_table(7, 4, 8, 2);
    let id = ordered(&mut world, true);
    world.settle();
    let before = members(&world, &id.table);
    let data = recorded(&world, &id);
    let dropped = world.drop("t");
    world.until("the drop", |world| world.answers.contains_key(&dropped));
    world.acknowledged.clear();
    world.settle();
    world.jobs.clear();
    assert!(matches!(restore(&mut world, &data, None), StatementReply::Rows { .. }));
    world.until("the restore", |world| world.state().operations.is_empty());
    world.settle();
    assert_eq!(members(&world, &id.table), before);
    let fills = world.jobs.iter().filter(|job| matches!(job, Job::Fill(_))).count();
    assert_eq!(fills, 8);
    assert!(matches!(world.jobs.last(), Some(Job::Check { .. })));
    assert!(world.state().finished.back().is_some_and(|it| it.status == Status::Done));
}

#[test]
fn a_table_that_does_not_fit_is_refused() {
    let mut world = World::with_table(8, 3, 4, 2);
    let id = ordered(&mut world, true);
    world.settle();
    let data = recorded(&world, &id);
    let error = |reply: StatementReply| match reply {
        StatementReply::Error { message } => message,
        other => panic!("not refused: {other:?}"),
    };
    let more = BackupData { shards: 5, ..data.clone() };
    assert!(error(restore(&mut world, &more, None)).contains("4 shards and the backup 5"));
    assert!(error(restore(&mut world, &data, Some(3))).contains("with rf 2"));
    let mut other = data.clone();
    other.schema.columns.push(model::ColumnSpec { name: "x".into(), kind: "int".into() });
    assert!(error(restore(&mut world, &other, None)).contains("other columns"));
    let dropped = world.drop("t");
    world.until("the drop", |world| world.answers.contains_key(&dropped));
    world.acknowledged.clear();
    assert!(error(restore(&mut world, &data, Some(4))).contains("lower than replication factor"));
    let made = world.state().operations.values().filter(|it| it.name() != "cleanup");
    assert_eq!(made.count(), 0, "nothing half-made stays");
}
