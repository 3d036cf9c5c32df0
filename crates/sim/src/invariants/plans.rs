//! Invariant 7: a plan makes no more copies than the fewest there could be, no copy where one is, and its moves keep
//! within the limits of each node.

use crate::world::World;
use control::Record;
use control::operation::{Kind, Status};
use model::NodeId;
use std::collections::BTreeMap;

/// These records are in the log of the controller that leads.
pub fn appended(world: &mut World, records: &[Record]) {
    for record in records {
        match record {
            Record::RebalancePlanned { copies, lower_bound, .. } if copies > lower_bound => {
                let detail = format!("a plan makes {copies} copies where {lower_bound} are enough");
                world.violate("7 plans", detail);
            }
            Record::OperationStarted { .. } => within_limits(world),
            _ => {}
        }
    }
}

/// Copies on their way to each node.
fn within_limits(world: &mut World) {
    let limit = world.settings.transfers_in_per_node;
    let Some(leader) = world.leader() else { return };
    let mut incoming: BTreeMap<NodeId, u32> = BTreeMap::new();
    for operation in leader.controller.state().active() {
        if let (Kind::Move { to, .. }, Status::Running) = (&operation.kind, operation.status) {
            *incoming.entry(to.clone()).or_default() += 1;
        }
    }
    if let Some((node, count)) = incoming.into_iter().find(|(_, count)| *count > limit) {
        world.violate("7 plans", format!("{count} copies move to {node} at once, {limit} may"));
    }
}
