//! Disks of nodes that fill up.

use super::world::{World, node};
use model::wire::{ShardingStatement, StatementReply};

/// Where the alert fires.
fn full(world: &mut World) -> Vec<String> {
    for _ in 0..40 {
        world.step();
    }
    let StatementReply::Rows { rows, .. } = world.controller.show(&ShardingStatement::ShowAlerts) else {
        panic!("no rows");
    };
    let fires = |row: &&Vec<Option<String>>| {
        row[0].as_deref() == Some("critical")
            && row[1].as_deref() == Some("disk_full")
            && row[5].as_deref() == Some("firing")
    };
    rows.iter().filter(fires).filter_map(|row| row[2].clone()).collect()
}

#[test]
fn a_disk_with_less_than_64_mib_is_a_critical_alert_of_its_node() {
    let mut world = World::new(1, 3);
    let mut with = |free: Option<u64>| {
        world.machines.get_mut(&node(2)).expect("it").disk_free_bytes = free;
        full(&mut world)
    };
    assert_eq!(with(Some(64 << 20)), Vec::<String>::new());
    let told = with(Some((64 << 20) - 1));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(node(2).as_str()) && told[0].contains("67108863 bytes free"), "{told:?}");
    assert_eq!(with(Some(0)).len(), 1);
    assert_eq!(with(None), Vec::<String>::new(), "what is not known is `health`'s to tell");
    assert_eq!(with(Some(1 << 40)), Vec::<String>::new());
}
