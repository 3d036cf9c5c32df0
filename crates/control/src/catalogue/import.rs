//! Import: the names to every sidecar, then the end of what the stock sidecar knows, node by node. Nothing is moved.

use crate::operation::{Kind, NewGroup, Operation, Steps, Work};
use crate::state::State;
use model::{Action, GroupId, NodeId, OperationId, TableSpec};

/// What is adopted.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// `None`: local sharded tables of the only node.
    pub cluster: Option<GroupId>,
    /// Each table with its shards' groups, in order.
    pub tables: Vec<(TableSpec, Vec<GroupId>)>,
    /// All of them serve as they are.
    pub groups: Vec<NewGroup>,
}

pub fn import(state: &State, id: OperationId, adoption: Adoption, unix: u64) -> Operation {
    let mut steps = Steps::default();
    // The list of names that this operation makes is the next one. With it no statement about these tables goes upstream.
    let mut before = steps.push(None, Work::AwaitNames { version: state.names_version + 1 }, &[], None);
    let nodes: Vec<NodeId> = state.live_nodes().cloned().collect();
    for node in &nodes {
        // One after the other: the first takes them out of the cluster for all.
        let end = Action::EndStock { cluster: adoption.cluster.clone() };
        before = steps.command(node, end, &[before], None);
    }
    let Adoption { cluster, tables, groups } = adoption;
    Operation::new(id, Kind::Import { cluster, tables, groups }, steps.0, unix)
}
