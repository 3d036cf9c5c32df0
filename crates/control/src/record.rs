//! The records of the control log: everything durable is the fold of these.
//!
//! Stored as JSON, one record each, so that a person can read a log and a newer version can add fields.

use crate::backup::Backup;
use crate::operation::{NewGroup, Operation};
use crate::state::{Halt, Hold};
use model::api::{Alert, Silence};
use model::{
    AccessToken, AuditMark, BackupId, Content, Epoch, GroupId, NodeId, OperationId, StepId, TableName,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the records that this program writes, and the newest it reads. Every leader notes it in its first record.
///
/// | version | since then |
/// |---|---|
/// | 1 | as first written, without a number |
/// | 2 | histories of groups, halts, recoveries after a total loss, placements by hand |
/// | 3 | backups, snapshots for them, restores |
/// | 4 | tokens, marks of audit logs |
/// | 5 | imports |
/// | 6 | emptied groups that a new table takes up |
/// | 7 | what is noted of a node while it is cleaned stays noted; a move cancelled before it began leaves the copy of another one |
/// | 8 | copies on their way back that are as new as those that went on without them |
///
/// A newer program reads what an older one wrote: fields that are new have defaults that mean what the older one meant. The
/// other way round is refused. A change that no default can express gets a case in [`crate::state::State::apply`].
pub const FORMAT: u32 = 8;

/// One fact. `unix` is seconds, only shown and never decided upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {
    /// A controller took the lead; every lower epoch is deposed.
    LeaderElected {
        epoch: Epoch,
        name: String,
        /// [`FORMAT`] of the program that leads from here on.
        #[serde(default = "first_format")]
        format: u32,
        unix: u64,
    },
    /// The user's own replication cluster, named by the first sharded table.
    ClusterAdopted {
        cluster: GroupId,
    },
    /// A member of the user's cluster; `uuid` is the identity on its disk.
    NodeAdded {
        node: NodeId,
        uuid: String,
        unix: u64,
    },
    /// Proven gone (see `detector`): its copies count as lost until it is back.
    NodeLost {
        node: NodeId,
        unix: u64,
    },
    /// The lost node answers again. Its copies are not routed before each is verified.
    NodeReturned {
        node: NodeId,
        unix: u64,
    },
    /// An operator's mark: the node's copies go elsewhere and it is given no others.
    NodeDraining {
        node: NodeId,
        draining: bool,
        unix: u64,
    },
    /// An operator holds moves back, or lets them go.
    MovesHeld {
        hold: Option<Hold>,
        unix: u64,
    },
    /// An operator wants everything where plans put it: what was placed by hand is so no more.
    PinsEnded {
        unix: u64,
    },
    /// Work to be done, with its whole graph of steps.
    OperationAdded {
        operation: Box<Operation>,
    },
    OperationStarted {
        operation: OperationId,
        /// The steps, for operations that wait with their intent alone because the state moves on meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        graph: Option<Box<Operation>>,
        unix: u64,
    },
    /// A command is about to be sent: from here on its effect may exist.
    StepStarted {
        operation: OperationId,
        step: StepId,
        /// Where it runs; fixed here for steps that choose their node late.
        node: NodeId,
        attempt: u32,
        epoch: Epoch,
        deadline_ms: u64,
        /// This command takes the step back.
        undo: bool,
    },
    /// Proven by observation.
    StepDone {
        operation: OperationId,
        step: StepId,
        /// Filled by `ExitCluster`: what each copy held when it became plain.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        contents: BTreeMap<String, Content>,
    },
    /// One try failed. `last` says that there will be no other.
    StepFailed {
        operation: OperationId,
        step: StepId,
        error: String,
        last: bool,
    },
    /// Not needed any more, for the reason given (its node is proven gone, mostly).
    StepSkipped {
        operation: OperationId,
        step: StepId,
        why: String,
    },
    /// The operation is taken back, in reverse order.
    UnwindStarted {
        operation: OperationId,
        error: String,
        /// By an operator's order, not because it failed.
        #[serde(default)]
        revoked: bool,
    },
    StepUndone {
        operation: OperationId,
        step: StepId,
    },
    OperationDone {
        operation: OperationId,
        unix: u64,
    },
    OperationFailed {
        operation: OperationId,
        error: String,
        unix: u64,
    },
    /// Never started, and not needed or not right any more; or taken back as an operator ordered.
    OperationCancelled {
        operation: OperationId,
        why: String,
        unix: u64,
    },
    /// What a plan asked for, before its moves run: for reports and to compare with what was done.
    RebalancePlanned {
        reason: String,
        operations: Vec<OperationId>,
        /// Units to copy, the fewest that could be, and shard copies.
        copies: u64,
        lower_bound: u64,
        shard_copies: u64,
        unix: u64,
    },
    /// A node may still hold these of ours and must be cleaned before it is trusted with their names. A group whose
    /// copies are to go with it loses the member; one without tables is a cluster alone, and the copies stay.
    LeftBehind {
        node: NodeId,
        group: Option<GroupId>,
        tables: Vec<String>,
        routes: Vec<TableName>,
    },
    /// Groups that a drop has emptied, whole still, are not left over any more: a new table goes into them.
    GroupsTakenUp {
        groups: Vec<NewGroup>,
    },
    /// Both sides show that the member is out of the group's primary view, while its node lives: its copy falls behind,
    /// and is routed again only when it was verified like one that came back.
    MemberCutOff {
        group: GroupId,
        node: NodeId,
    },
    /// One on its way back is seen to have committed what came after the others had gone on without it: its copy, too, may be the
    /// newest. It is not compared yet, and not routed.
    CopyCaughtUp {
        group: GroupId,
        node: NodeId,
    },
    /// All its tables want another rf: the group's copies become more or fewer by moves.
    GroupRf {
        group: GroupId,
        rf: u32,
    },
    /// The group was seen whole under this `state_uuid` for the first time.
    HistoryKnown {
        group: GroupId,
        state_uuid: String,
    },
    /// The group is seen stopped as a whole, or (`None`) has a quorum again under its own history.
    GroupHalted {
        group: GroupId,
        halt: Option<Halt>,
        unix: u64,
    },
    /// An alert began at its `since`.
    AlertFired {
        alert: Alert,
    },
    /// It is over; `key` as of [`crate::alarm::key`].
    AlertResolved {
        key: String,
        unix: u64,
    },
    /// An operator does not want to hear of some alerts for a while.
    AlertSilenced {
        silence: Silence,
    },
    /// An operator has seen the failures of operations before this one.
    FailuresSeen {
        before: OperationId,
    },
    /// What a backup records is in its file; with documents, these follow.
    BackupTaken {
        backup: Box<Backup>,
    },
    /// All its documents are where they were ordered to be.
    BackupSealed {
        backup: BackupId,
        rows: u64,
        bytes: u64,
    },
    /// An operator has moves that failed tried again, as if they had not.
    FailuresForgiven {
        unix: u64,
    },
    /// These finished operations, and what is older than the second `before`, are not shown any more.
    Forgotten {
        operations: Vec<OperationId>,
        before: u64,
        unix: u64,
    },
    /// A token opens from here on. The same name again takes the older one's place.
    TokenAdded {
        token: AccessToken,
    },
    /// The token of this name opens nothing any more.
    TokenRevoked {
        name: String,
        unix: u64,
    },
    /// A controller's audit log goes as far as this at least.
    AuditMarked {
        mark: AuditMark,
    },
    /// A copy that was to leave stays: what should have replaced it is lost.
    MemberServing {
        group: GroupId,
        node: NodeId,
    },
}

const fn first_format() -> u32 {
    1
}
