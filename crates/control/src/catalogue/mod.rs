//! The catalogue of operations: for each kind, the graph of steps that does it. Pure functions of the state.

mod backup;
mod create;
mod drop;
mod hand_over;
mod import;
mod moves;
mod recover;
mod remove;
mod repair;

pub use backup::{backup, restore, snapshot};
pub use create::{Create, create_table};
pub use drop::drop_table;
pub use hand_over::{HandOver, hand_over};
pub use import::{Adoption, import};
pub use moves::{donor, move_group, shed};
pub use recover::{let_go, remake, tables_to_keep, user_cluster, user_quorum};
pub use remove::remove_node;
pub use repair::{came_later, cleanup, every_shard, failover, keeps_quorum, reroute, returned};

use crate::operation::{Steps, Work};
use crate::state::State;
use model::{NodeId, StepId, TableName};

/// One step per live node that writes these tables' routes there.
fn route_everywhere(state: &State, steps: &mut Steps, tables: &[TableName], after: &[StepId]) -> Vec<StepId> {
    let nodes: Vec<NodeId> = state.live_nodes().cloned().collect();
    nodes
        .iter()
        .map(|node| steps.push(Some(node), Work::Route { tables: tables.to_vec() }, after, None))
        .collect()
}
