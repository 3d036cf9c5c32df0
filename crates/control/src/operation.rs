//! An operation as a saga: a graph of steps, each with its undo, and the legal ways their states change.

use crate::backup::JobKind;
use crate::state::Shard;
use model::{
    Action, BackupCause, BackupId, Content, GroupId, NodeId, OperationId, StepId, TableName, TableSpec,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Durable work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub kind: Kind,
    pub steps: Vec<Step>,
    pub status: Status,
    /// Unix seconds.
    pub created_at: u64,
    #[serde(default)]
    pub started_at: Option<u64>,
    #[serde(default)]
    pub finished_at: Option<u64>,
    #[serde(default)]
    pub error: Option<String>,
    /// An operator has it taken back: when that is done it is cancelled, not failed.
    #[serde(default)]
    pub revoked: bool,
}

/// What an operation is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Kind {
    CreateTable {
        spec: TableSpec,
        generation: u64,
        /// Groups made for it.
        new_groups: Vec<NewGroup>,
        /// By shard number.
        homes: Vec<GroupId>,
    },
    DropTable {
        table: TableName,
    },
    /// Makes the groups that lost a member writable again and routes without it.
    Failover {
        node: NodeId,
    },
    /// A copy more at `to`; then, for a move, one less at `from`.
    Move {
        group: GroupId,
        to: NodeId,
        from: Option<NodeId>,
        /// A copy may go only while this many others are whole: the smaller of rf and what there was.
        floor: u32,
        reason: String,
        /// An operator wants the group where it then is, whatever a plan would say.
        #[serde(default)]
        pin: bool,
    },
    /// One copy less: after a return, when the plan has no place for it.
    Shed {
        group: GroupId,
        from: NodeId,
        floor: u32,
        reason: String,
    },
    /// A copy that came back is verified and routed again.
    Return {
        group: GroupId,
        node: NodeId,
    },
    /// What a node still holds of ours goes.
    Cleanup {
        node: NodeId,
    },
    /// Writes routing tables that differ from what they should be.
    Reroute {
        node: NodeId,
    },
    /// The node leaves the user's cluster for good.
    RemoveNode {
        node: NodeId,
    },
    /// The table's shards get another rf, by the hand-overs and moves that the reconciliation makes for it.
    ChangeRf {
        table: TableName,
        rf: u32,
    },
    /// These shards leave the groups that they are in for new ones of `rf`.
    HandOver {
        table: TableName,
        shards: Vec<u32>,
        rf: u32,
        /// The group with a cluster that they leave; set when it begins.
        #[serde(default)]
        source: Option<GroupId>,
        /// One for all shards, or with rf 1 one for each. Their members are set when it begins.
        new_groups: Vec<NewGroup>,
    },
    /// A stopped cluster is given up on a node; its copies stay there as plain tables.
    LetGo {
        group: GroupId,
        node: NodeId,
    },
    /// After a total loss the group is made anew from the copy on one node.
    Remake {
        group: GroupId,
        from: NodeId,
        /// How that copy was chosen.
        why: String,
    },
    /// After a total loss the user's own cluster, which holds no tables, is made anew on `node`, or joined `at` another; or,
    /// where members live and have no quorum, it gets one from `node` on.
    UserCluster {
        cluster: GroupId,
        node: NodeId,
        at: Option<NodeId>,
    },
    /// A table is recorded, and with `to` its documents are copied there.
    Backup {
        backup: BackupId,
        to: Option<String>,
        checksums: bool,
        mib_per_second: u32,
        cause: BackupCause,
    },
    /// A copy of a group that is made for a backup alone: it joins, leaves, is read while nothing changes it, and dropped.
    Snapshot {
        backup: BackupId,
        group: GroupId,
        to: NodeId,
        from: NodeId,
    },
    /// A table is made as it was recorded (by the operation `create`, unless it is there), filled, and compared.
    Restore {
        backup: BackupId,
        table: TableName,
        generation: u64,
        create: Option<OperationId>,
        from: Option<String>,
        overwrite: bool,
        mib_per_second: u32,
    },
    /// Tables that the stock sidecar sharded are ours from here on, where they are; what it knows of them ends.
    Import {
        cluster: Option<GroupId>,
        /// Each with its shards' groups, in order.
        tables: Vec<(TableSpec, Vec<GroupId>)>,
        /// Replication clusters that become groups, and single shards; all their members serve.
        groups: Vec<NewGroup>,
    },
    /// A statement on every shard: `TRUNCATE`, `OPTIMIZE`, `FLUSH RAMCHUNK`.
    EveryShard {
        table: TableName,
        what: String,
    },
}

/// A group that comes into being with a table, or for shards that leave theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGroup {
    pub id: GroupId,
    pub rf: u32,
    /// The first one makes it, the others join.
    pub members: Vec<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Unwinding,
    Done,
    Failed,
    Cancelled,
}

impl Status {
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Unwinding => "unwinding",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One action on one node, or one condition to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `None` until it starts, for steps that choose their node late.
    #[serde(default)]
    pub node: Option<NodeId>,
    pub work: Work,
    /// Steps that must be over first.
    #[serde(default)]
    pub after: Vec<StepId>,
    /// Takes it back; `None`: nothing to take back.
    #[serde(default)]
    pub undo: Option<Action>,
    #[serde(default)]
    pub status: StepStatus,
    #[serde(default)]
    pub attempts: u32,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub contents: BTreeMap<String, Content>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "work")]
pub enum Work {
    Command {
        action: Action,
    },
    /// Writes these tables' routes on its node as the state then has them; what is not to be routed is taken away.
    Route {
        tables: Vec<TableName>,
    },
    /// `pc.bootstrap` on the most advanced survivor, unless the group is primary already.
    Regain {
        group: GroupId,
    },
    /// Drops the copies that step `exit` left plain or found equal, with the contents it recorded: `tables` of them, all
    /// when none is named.
    DropExited {
        exit: StepId,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tables: Vec<String>,
    },
    /// Documents are read and written by the controller itself.
    Job {
        job: JobKind,
    },
    /// The table is made and serves.
    AwaitTable {
        table: TableName,
        generation: u64,
    },
    /// From here until the switch the table is routed nowhere: its statements are held.
    Withhold {
        table: TableName,
    },
    /// All of the group's copies of these tables are equal, by id and content of every row; recorded.
    Compare {
        group: GroupId,
        tables: Vec<String>,
        /// By figures only: that they are equal was proven before, it is what they hold that is asked.
        #[serde(default)]
        quick: bool,
    },
    /// From here on the shards are in their new groups, and the table is routed again.
    Switch,
    /// The shard's group has this rf and all its copies.
    AwaitRf {
        table: TableName,
        shard: u32,
        rf: u32,
    },
    /// The copies of `group` on `node` agree with another member's; then they are served.
    Verify {
        group: GroupId,
        node: NodeId,
    },
    /// From here on routes do not name `group`'s copies on `node`.
    Withdraw {
        group: GroupId,
        node: NodeId,
    },
    /// Every reachable sidecar has stored the name list of this version or a later one.
    AwaitNames {
        version: u64,
    },
    /// Its node is a synced member of the group's cluster again, by itself.
    AwaitSynced {
        group: GroupId,
    },
    /// Its node has none of these tables, so what comes to be there under these names is this operation's.
    Reserve {
        tables: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    #[default]
    Pending,
    /// The command may have reached the node.
    Started,
    Done,
    /// No further try; what it may have left is undone.
    Failed,
    Skipped,
    /// The undo may have reached the node.
    Undoing,
    Undone,
}

impl StepStatus {
    /// Whether steps behind this one may start.
    pub const fn lets_go_on(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }

    /// Whether there is nothing left of it to take back.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Pending | Self::Skipped | Self::Undone)
    }
}

impl Operation {
    pub fn new(id: OperationId, kind: Kind, steps: Vec<Step>, unix: u64) -> Self {
        Self {
            id,
            kind,
            steps,
            status: Status::Queued,
            created_at: unix,
            started_at: None,
            finished_at: None,
            error: None,
            revoked: false,
        }
    }

    /// Whether it does nothing but give the user's own cluster a quorum again.
    pub fn gives_quorum(&self) -> bool {
        matches!(self.kind, Kind::UserCluster { .. })
            && self
                .steps
                .iter()
                .all(|step| matches!(step.work, Work::Command { action: Action::Bootstrap { .. } }))
    }

    /// Whether failure takes everything back. Else it is tried until it is done: half of it would be worse.
    /// A move goes forward only once its new copy is verified, for from then on it is routed and written to.
    pub fn unwinds(&self) -> bool {
        match self.kind {
            Kind::CreateTable { .. } => true,
            Kind::HandOver { .. } => {
                !self.steps.iter().any(|step| step.work == Work::Switch && step.status.lets_go_on())
            }
            Kind::Snapshot { .. } => !self.steps.iter().any(|step| {
                matches!(step.work, Work::Command { action: Action::ExitCluster { .. } })
                    && step.status.lets_go_on()
            }),
            Kind::Move { .. } => !self.steps.iter().any(|step| {
                matches!(step.work, Work::Verify { .. })
                    && matches!(step.status, StepStatus::Done | StepStatus::Skipped)
            }),
            _ => false,
        }
    }

    pub fn step(&self, step: StepId) -> Option<&Step> {
        self.steps.get(usize::try_from(step.0).ok()?)
    }

    /// What the copies held when the step saw them, of `tables` or all.
    pub fn left_with(&self, step: StepId, tables: &[String]) -> BTreeMap<String, Content> {
        let mut contents = self.step(step).map(|step| step.contents.clone()).unwrap_or_default();
        contents.retain(|table, _| tables.is_empty() || tables.contains(table));
        contents
    }

    pub fn step_mut(&mut self, step: StepId) -> Option<&mut Step> {
        self.steps.get_mut(usize::try_from(step.0).ok()?)
    }

    /// Steps with their ids.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (StepId, &Step)> {
        self.steps.iter().enumerate().map(|(index, step)| (StepId(index as u64), step))
    }

    /// Whether the step still has to be done, or taken back.
    pub fn is_open(&self, step: &Step) -> bool {
        match self.status {
            Status::Unwinding => !step.status.is_gone(),
            Status::Queued | Status::Running => !step.status.lets_go_on(),
            Status::Done | Status::Failed | Status::Cancelled => false,
        }
    }

    pub fn is_ready(&self, step: &Step) -> bool {
        step.status == StepStatus::Pending
            && step.after.iter().all(|id| self.step(*id).is_some_and(|s| s.status.lets_go_on()))
    }

    /// Whether every step that waits for `step` has nothing left to take back.
    pub fn may_undo(&self, step: StepId) -> bool {
        self.steps.iter().all(|other| !other.after.contains(&step) || other.status.is_gone())
    }

    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::CreateTable { .. } => "create",
            Kind::DropTable { .. } => "drop",
            Kind::Failover { .. } => "failover",
            Kind::Move { .. } => "move",
            Kind::Shed { .. } => "shed",
            Kind::Return { .. } => "return",
            Kind::Cleanup { .. } => "cleanup",
            Kind::Reroute { .. } => "reroute",
            Kind::RemoveNode { .. } => "remove node",
            Kind::ChangeRf { .. } => "change rf",
            Kind::HandOver { .. } => "hand over",
            Kind::EveryShard { .. } => "every shard",
            Kind::LetGo { .. } => "let go",
            Kind::Remake { .. } => "remake",
            Kind::UserCluster { .. } => "user cluster",
            Kind::Backup { .. } => "backup",
            Kind::Snapshot { .. } => "snapshot",
            Kind::Restore { .. } => "restore",
            Kind::Import { .. } => "import",
        }
    }

    pub fn subject(&self) -> String {
        match &self.kind {
            Kind::CreateTable { spec, .. } => spec.name.to_string(),
            Kind::DropTable { table } => table.to_string(),
            Kind::EveryShard { table, what } => format!("{what} {table}"),
            Kind::Backup { backup, .. } => backup.to_string(),
            Kind::Snapshot { group, to, .. } => format!("{group} on {to}"),
            Kind::Restore { backup, table, .. } => format!("{table} from {backup}"),
            Kind::Import { tables, .. } => {
                let names: Vec<&str> = tables.iter().map(|(spec, _)| spec.name.as_str()).collect();
                names.join(", ")
            }
            Kind::ChangeRf { table, rf } => format!("{table} to rf {rf}"),
            Kind::HandOver { table, shards, rf, .. } => {
                let shards: Vec<String> = shards.iter().map(ToString::to_string).collect();
                format!("{table} shards {} to groups of rf {rf}", shards.join(", "))
            }
            Kind::Failover { node }
            | Kind::Cleanup { node }
            | Kind::Reroute { node }
            | Kind::RemoveNode { node } => node.to_string(),
            Kind::Move { group, to, from: Some(from), .. } => format!("{group} from {from} to {to}"),
            Kind::Move { group, to, from: None, .. } => format!("{group} to {to}"),
            Kind::Shed { group, from, .. } | Kind::Remake { group, from, .. } => {
                format!("{group} from {from}")
            }
            Kind::Return { group, node } | Kind::LetGo { group, node } => format!("{group} on {node}"),
            Kind::UserCluster { cluster, node, at: Some(at) } => format!("{cluster} on {node} at {at}"),
            Kind::UserCluster { cluster, node, at: None } => format!("{cluster} on {node}"),
        }
    }

    /// Whether it is part of a rebalance: an operator can hold it back.
    pub const fn is_move(&self) -> bool {
        matches!(self.kind, Kind::Move { .. } | Kind::Shed { .. } | Kind::HandOver { .. })
    }

    /// The table whose state this operation is part of, if it is one table's alone.
    pub fn table(&self) -> Option<&TableName> {
        match &self.kind {
            Kind::CreateTable { spec, .. } => Some(&spec.name),
            Kind::DropTable { table }
            | Kind::EveryShard { table, .. }
            | Kind::Restore { table, .. }
            | Kind::ChangeRf { table, .. }
            | Kind::HandOver { table, .. } => Some(table),
            _ => None,
        }
    }

    /// Whether the group comes into being with this operation.
    pub fn makes_group(&self, group: &GroupId) -> bool {
        let (Kind::CreateTable { new_groups, .. } | Kind::HandOver { new_groups, .. }) = &self.kind else {
            return false;
        };
        new_groups.iter().any(|new| new.id == *group)
    }

    /// Whether it is a hand-over out of a cluster before its switch: it may hold statements, or soon will.
    pub fn may_hold(&self) -> bool {
        matches!(self.kind, Kind::HandOver { source: Some(_), .. })
            && (self.status == Status::Unwinding || self.status == Status::Running && self.unwinds())
    }

    /// Whether it brings a group back that is stopped everywhere.
    pub const fn recovers(&self) -> bool {
        matches!(self.kind, Kind::LetGo { .. } | Kind::Remake { .. })
    }

    /// Whether the loss of `node` makes it impossible to finish: all of a create, and of a gain its target, and its donor before
    /// it was asked; what comes of a JOIN under way shows, and a copy that is there is needed all the more. The copy that was
    /// to be shed is none of them.
    pub fn needs_node(&self, node: &NodeId) -> bool {
        let on_it = |step: &Step| step.node.as_ref() == Some(node);
        match &self.kind {
            // Every node routes, and what it did while nobody saw it is not known.
            // And what was lost is made good before a backup goes on.
            Kind::HandOver { source: Some(_), .. } | Kind::Snapshot { .. } => true,
            Kind::CreateTable { .. } | Kind::HandOver { .. } => self.steps.iter().any(on_it),
            Kind::Move { to, .. } => to == node || self.needs_donor(node),
            _ => false,
        }
    }

    /// Whether a move copies from `node` and has not begun to. The temporary cluster of a shard without others falls with its
    /// source until the copy is there: then that is all there is.
    fn needs_donor(&self, node: &NodeId) -> bool {
        let temporary =
            self.steps.iter().any(|step| matches!(step.work.action(), Some(Action::CreateCluster { .. })));
        self.steps.iter().any(|step| {
            matches!(step.work.action(), Some(Action::JoinCluster { at, .. }) if at == node)
                && (temporary && step.status != StepStatus::Done || step.status == StepStatus::Pending)
        })
    }

    /// The group that gains or loses a member.
    pub const fn group(&self) -> Option<&GroupId> {
        match &self.kind {
            Kind::HandOver { source, .. } => source.as_ref(),
            Kind::Move { group, .. }
            | Kind::Shed { group, .. }
            | Kind::Return { group, .. }
            | Kind::LetGo { group, .. }
            | Kind::Remake { group, .. }
            | Kind::Snapshot { group, .. } => Some(group),
            _ => None,
        }
    }
}

impl Work {
    /// The action sent for it, where that is known without the state.
    pub const fn action(&self) -> Option<&Action> {
        match self {
            Self::Command { action } => Some(action),
            _ => None,
        }
    }

    /// Whether completing it needs no command to a node.
    pub const fn is_internal(&self) -> bool {
        matches!(
            self,
            Self::Verify { .. }
                | Self::Withdraw { .. }
                | Self::AwaitNames { .. }
                | Self::AwaitSynced { .. }
                | Self::Reserve { .. }
                | Self::Withhold { .. }
                | Self::Compare { .. }
                | Self::Job { .. }
                | Self::AwaitTable { .. }
                | Self::Switch
                | Self::AwaitRf { .. }
        )
    }

    /// Its name in messages and queues.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Command { action } => action.class(),
            Self::Route { .. } => "CREATE TABLE",
            Self::Regain { .. } => "SET CLUSTER",
            Self::DropExited { .. } => "DROP TABLE",
            Self::Verify { .. } => "VERIFY",
            Self::Withdraw { .. } => "WITHDRAW",
            Self::AwaitNames { .. } => "AWAIT NAMES",
            Self::AwaitSynced { .. } => "AWAIT SYNCED",
            Self::Reserve { .. } => "RESERVE",
            Self::Withhold { .. } => "WITHHOLD",
            Self::Compare { .. } => "COMPARE",
            Self::Job { job } => job.class(),
            Self::AwaitTable { .. } => "AWAIT TABLE",
            Self::Switch => "SWITCH",
            Self::AwaitRf { .. } => "AWAIT RF",
        }
    }
}

/// Collects steps; what is pushed gets the next number.
#[derive(Debug, Default)]
pub struct Steps(pub Vec<Step>);

impl Steps {
    pub fn push(
        &mut self,
        node: Option<&NodeId>,
        work: Work,
        after: &[StepId],
        undo: Option<Action>,
    ) -> StepId {
        self.0.push(Step {
            node: node.cloned(),
            work,
            after: after.to_vec(),
            undo,
            status: StepStatus::Pending,
            attempts: 0,
            error: None,
            contents: BTreeMap::new(),
        });
        StepId(self.0.len() as u64 - 1)
    }

    pub fn command(
        &mut self,
        node: &NodeId,
        action: Action,
        after: &[StepId],
        undo: Option<Action>,
    ) -> StepId {
        self.push(Some(node), Work::Command { action }, after, undo)
    }

    /// Every step so far that nothing waits for: what "all of the above" means.
    pub fn ends(&self) -> Vec<StepId> {
        (0..self.0.len() as u64)
            .map(StepId)
            .filter(|id| !self.0.iter().any(|step| step.after.contains(id)))
            .collect()
    }
}

/// The physical tables of these shards.
pub fn physical<'a>(shards: impl IntoIterator<Item = &'a Shard>) -> Vec<String> {
    shards.into_iter().map(Shard::physical).collect()
}
