//! What the invariants remember between events.

use model::{CommandId, Epoch, GroupId, OperationId, StepId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Debug, Default)]
pub struct Watch {
    /// Who was elected under each epoch: place and process.
    pub leaders: BTreeMap<Epoch, (usize, u64)>,
    /// Until when each command may begin, by the clock of the world.
    pub deadlines: BTreeMap<CommandId, u64>,
    /// The highest epoch that each node's sidecar has ever taken.
    pub epochs: BTreeMap<usize, Epoch>,
    /// Operations that shed, with their group and the whole copies it had when they began.
    pub floors: BTreeMap<OperationId, (GroupId, usize)>,
    /// When the tries of each step began, of late.
    pub tries: BTreeMap<(OperationId, StepId), VecDeque<u64>>,
    /// Groups of which a bug makes one copy good where several were lost.
    pub short: RefCell<BTreeSet<GroupId>>,
}
