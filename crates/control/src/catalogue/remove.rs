//! A node leaves for good. A live one holds no copies any more: it loses its routes, then leaves the user's cluster.
//! A lost one is struck off the list of members, so that nobody waits for it.

use crate::operation::{Kind, Operation, Steps};
use crate::state::State;
use model::{Action, NodeId, OperationId, TableName};

/// `None` without a cluster: the only node of local tables cannot be removed from anything.
pub fn remove_node(state: &State, id: OperationId, node: &NodeId, unix: u64) -> Option<Operation> {
    let group = state.cluster.clone()?;
    let mut steps = Steps::default();
    if state.is_live(node) {
        let tables: Vec<TableName> = state.tables.keys().cloned().collect();
        let before = if tables.is_empty() {
            Vec::new()
        } else {
            vec![steps.command(node, Action::DropRoutes { tables }, &[], None)]
        };
        steps.command(node, Action::ExitCluster { group, tables: Vec::new(), floor: 0 }, &before, None);
    } else {
        let survivor = state.live_nodes().next()?;
        steps.command(survivor, Action::UpdateNodes { group }, &[], None);
    }
    Some(Operation::new(id, Kind::RemoveNode { node: node.clone() }, steps.0, unix))
}
