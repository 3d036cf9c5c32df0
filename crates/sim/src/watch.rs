//! What the invariants remember between events.

use model::{CommandId, Epoch, GroupId, NodeId, OperationId, StepId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An operation that sheds a copy of a group.
#[derive(Debug)]
pub struct Begun {
    pub group: GroupId,
    /// Copies of it at the beginning.
    pub whole: usize,
    /// Who gains one before. Until it is routed nobody counts on that copy, and it may be taken back.
    pub gains: Option<NodeId>,
}

#[derive(Debug, Default)]
pub struct Watch {
    /// Who was elected under each epoch: place and process.
    pub leaders: BTreeMap<Epoch, (usize, u64)>,
    /// Until when each command may begin, by the clock of the world.
    pub deadlines: BTreeMap<CommandId, u64>,
    /// The highest epoch that each node's sidecar has ever taken.
    pub epochs: BTreeMap<usize, Epoch>,
    /// Operations that shed, with what they began with.
    pub floors: BTreeMap<OperationId, Begun>,
    /// When the tries of each step began, of late.
    pub tries: BTreeMap<(OperationId, StepId), VecDeque<u64>>,
    /// Groups of which a bug makes one copy good where several were lost.
    pub short: RefCell<BTreeSet<GroupId>>,
}
