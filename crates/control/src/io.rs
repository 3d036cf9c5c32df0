//! What goes into the operator and what comes out: the whole surface between it and the driver.

use crate::backup::{Job, JobEnd};
use model::api::Alert;
use model::wire::{ShardingStatement, SidecarPoll, StatementReply, TableNameEntry, Views};
use model::{
    AuditMark, Command, Epoch, LogIndex, Measurement, NodeId, NodeStatus, OperationId, Reach, StepId,
    TableName, TokenOrder, UserRights,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A client's request that waits for its answer; chosen by the driver, unique while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Something that happened since the last tick.
#[derive(Clone, Debug)]
pub enum Input {
    /// A sidecar reported. Its orders are read right after the tick by [`crate::Controller::standing_orders`].
    Sidecar(SidecarPoll),
    /// The answer to [`Effect::Poll`].
    Polled(PollAnswer),
    /// The answer to [`Effect::Measure`].
    Measured {
        node: NodeId,
        token: u64,
        /// The node's own words when it could not.
        measured: Result<Measurement, String>,
    },
    /// The end of an [`Effect::Job`].
    JobOver { operation: OperationId, step: StepId, attempt: u64, end: JobEnd },
    /// A statement for the controller; exactly one [`Effect::Answer`] follows, at once or later. `rights` are those of
    /// searchd's user who sent it; `None`: whoever sent it was let through before.
    Statement { request: RequestId, statement: ShardingStatement, rights: Option<UserRights> },
    /// A change of the tokens; exactly one [`Effect::Answer`] follows.
    Token { request: RequestId, order: TokenOrder },
    /// This controller's audit log goes so far.
    Audited(AuditMark),
    /// The client of `request` is gone; a table it asked for is still made or undone.
    Abandoned { request: RequestId },
}

/// One look at one node.
#[derive(Clone, Debug)]
pub struct PollAnswer {
    pub node: NodeId,
    pub token: u64,
    pub reach: Reach,
    /// Present when `reach` is [`Reach::Answered`]; `tables` inside only when they were asked for.
    pub status: Option<NodeStatus>,
}

/// What the driver must do after the records of the same tick are durable, and only then.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Ask the node itself (HTTP): cluster status, and its tables and routes when `tables`. Answer within
    /// `timeout_ms`, else [`Reach::Silent`]. The look must begin after this effect was given.
    Poll { node: NodeId, token: u64, tables: bool, timeout_ms: u64 },
    /// Ask for rows, sum and extremes of ids of these tables, and `last_committed` of the node's clusters; when `deep`
    /// for a digest of all rows, too.
    Measure { node: NodeId, token: u64, tables: Vec<String>, deep: bool },
    /// Work of a backup or a restore that reads and writes documents. Exactly one [`Input::JobOver`] follows, unless it
    /// is ended. A second one of the same step takes the place of the first.
    Job { operation: OperationId, step: StepId, attempt: u64, job: Box<Job> },
    /// The job of this step is not wanted any more.
    EndJob { operation: OperationId, step: StepId },
    /// A command for the node's sidecar, to go out with its next orders (wake a held poll).
    Command { node: NodeId, command: Command },
    /// The answer to a statement.
    Answer { request: RequestId, reply: StatementReply },
    /// Wake the held poll of every sidecar: the name list changed.
    NamesChanged,
    /// Tell whoever is to be told: the alert fires, fires still, or is over.
    Announce(Alert),
}

/// The outcome of a tick.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be appended right after [`Effects::expected`], durably, before any effect is carried out. When the
    /// append does not succeed the controller must be thrown away and built anew from the log.
    pub records: Vec<crate::record::Record>,
    /// The last index before these records.
    pub expected: LogIndex,
    /// Which of the records a client's request asked for.
    pub asked: Vec<(RequestId, std::ops::Range<usize>)>,
    pub effects: Vec<Effect>,
    /// The planner ran in this tick, which took most of its time.
    pub planned: bool,
}

/// What a sidecar is told with every answer, besides commands.
#[derive(Clone, Debug)]
pub struct StandingOrders {
    pub log_id: String,
    pub epoch: Epoch,
    pub lead: String,
    pub last: LogIndex,
    pub names_version: u64,
    pub names: Option<Vec<TableNameEntry>>,
    pub views_version: u64,
    pub views: Option<Views>,
    pub peers: Vec<NodeId>,
    /// Tables of which a shard has no live copy, and why.
    pub unserved: BTreeMap<TableName, String>,
    pub suspects: Vec<NodeId>,
}
