//! Known bugs, each a switch of the simulated world alone: what goes into the operator or comes out of it is bent, or a
//! sidecar leaves out one of its checks. No invariant knows of them, and every one must be found.

use crate::directed::Directed;
use crate::play::schema;
use crate::scenario::Scenario;
use crate::wire::{Answer, Finish, Owner, Task};
use crate::world::World;
use control::operation::Kind;
use control::state::State;
use control::{PollAnswer, Record};
use model::wire::StatementReply;
use model::{Action, ClusterState, Command, GroupId, NodeId, OperationId, RouteSpec};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Of a statement that a bug says later.
const TRIES: usize = 5;

/// A bug that was made once, here or in the program that this one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    ShedBeforeRoute,
    LateCommand,
    UnsyncedRoute,
    SuccessOnFailure,
    UndoOnTheWrongNode,
    BootstrapOnBothSides,
    EdgeTriggered,
    LeakedCluster,
    LeakedDirectory,
    TwoLeaders,
    FilledAdd,
    RetryFromCreation,
    OneCopyAfterTwoLosses,
    DeadNodeBlocks,
    CommitAgain,
    DropWhileWritten,
    RejoinByIncrements,
    OlderCopyFirst,
    StaleLeader,
    TruncateAgain,
    UndoOfWhatWasThere,
    NameMadeAgain,
    RoutedWithoutQuorum,
    NamesNotStored,
    AnyLog,
    NoBinlog,
    AnyNode,
    CrossingExits,
    CopyByTheClock,
}

impl Bug {
    pub const ALL: [Self; 29] = [
        Self::ShedBeforeRoute,
        Self::LateCommand,
        Self::UnsyncedRoute,
        Self::SuccessOnFailure,
        Self::UndoOnTheWrongNode,
        Self::BootstrapOnBothSides,
        Self::EdgeTriggered,
        Self::LeakedCluster,
        Self::LeakedDirectory,
        Self::TwoLeaders,
        Self::FilledAdd,
        Self::RetryFromCreation,
        Self::OneCopyAfterTwoLosses,
        Self::DeadNodeBlocks,
        Self::CommitAgain,
        Self::DropWhileWritten,
        Self::RejoinByIncrements,
        Self::OlderCopyFirst,
        Self::StaleLeader,
        Self::TruncateAgain,
        Self::UndoOfWhatWasThere,
        Self::NameMadeAgain,
        Self::RoutedWithoutQuorum,
        Self::NamesNotStored,
        Self::AnyLog,
        Self::NoBinlog,
        Self::AnyNode,
        Self::CrossingExits,
        Self::CopyByTheClock,
    ];

    /// The scenario that finds it; every fault does where none is named.
    pub const fn scenario(self) -> Scenario {
        match self {
            Self::RetryFromCreation => Scenario::Machines,
            Self::OneCopyAfterTwoLosses => Scenario::Losses,
            Self::StaleLeader => Scenario::Controllers,
            Self::OlderCopyFirst => Scenario::Directed(Directed::StoodStill),
            Self::RejoinByIncrements => Scenario::Directed(Directed::MissedChange),
            Self::TruncateAgain => Scenario::Directed(Directed::Emptied),
            Self::UndoOfWhatWasThere => Scenario::Directed(Directed::MadeByHand),
            Self::NameMadeAgain => Scenario::Directed(Directed::SameName),
            Self::RoutedWithoutQuorum => Scenario::Directed(Directed::NoQuorum),
            Self::NamesNotStored => Scenario::Directed(Directed::RouteGaps),
            Self::AnyLog => Scenario::Directed(Directed::TwoLogs),
            Self::AnyNode => Scenario::Directed(Directed::AnotherNode),
            Self::CopyByTheClock => Scenario::Directed(Directed::LongCopies),
            Self::NoBinlog => Scenario::Directed(Directed::PowerCut),
            Self::DropWhileWritten => Scenario::Moves,
            _ => Scenario::All,
        }
    }

    /// As the command line knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShedBeforeRoute => "shed-before-route",
            Self::LateCommand => "late-command",
            Self::UnsyncedRoute => "unsynced-route",
            Self::SuccessOnFailure => "success-on-failure",
            Self::UndoOnTheWrongNode => "undo-on-the-wrong-node",
            Self::BootstrapOnBothSides => "bootstrap-on-both-sides",
            Self::EdgeTriggered => "edge-triggered",
            Self::LeakedCluster => "leaked-cluster",
            Self::LeakedDirectory => "leaked-directory",
            Self::TwoLeaders => "two-leaders",
            Self::FilledAdd => "filled-add",
            Self::RetryFromCreation => "retry-from-creation",
            Self::OneCopyAfterTwoLosses => "one-copy-after-two-losses",
            Self::DeadNodeBlocks => "dead-node-blocks",
            Self::CommitAgain => "commit-again",
            Self::DropWhileWritten => "drop-while-written",
            Self::RejoinByIncrements => "rejoin-by-increments",
            Self::OlderCopyFirst => "older-copy-first",
            Self::StaleLeader => "stale-leader",
            Self::TruncateAgain => "truncate-again",
            Self::UndoOfWhatWasThere => "undo-of-what-was-there",
            Self::NameMadeAgain => "name-made-again",
            Self::RoutedWithoutQuorum => "routed-without-quorum",
            Self::NamesNotStored => "names-not-stored",
            Self::AnyLog => "any-log",
            Self::NoBinlog => "no-binlog",
            Self::AnyNode => "any-node",
            Self::CrossingExits => "crossing-exits",
            Self::CopyByTheClock => "copy-by-the-clock",
        }
    }

    pub const fn what(self) -> &'static str {
        match self {
            Self::ShedBeforeRoute => "a copy is shed while nodes still route to it",
            Self::LateCommand => "a sidecar begins a command after its deadline",
            Self::UnsyncedRoute => "routes name a copy that is still being filled or verified",
            Self::SuccessOnFailure => "the client is told that a failed creation succeeded",
            Self::UndoOnTheWrongNode => "an undo is sent to another node than the step ran on",
            Self::BootstrapOnBothSides => "pc.bootstrap is sent to every member of a group",
            Self::EdgeTriggered => "what was written once is taken to be there for ever",
            Self::LeakedCluster => "DELETE CLUSTER is taken to be done without being sent",
            Self::LeakedDirectory => "a group's directory is taken to be removed without being removed",
            Self::TwoLeaders => "an append does not care who else has appended",
            Self::FilledAdd => "a filled table is added to its group after others have joined it",
            Self::RetryFromCreation => "pauses between tries are counted from an operation's creation",
            Self::OneCopyAfterTwoLosses => "two copies lost at once are made good by one",
            Self::DeadNodeBlocks => {
                "a command for a dead node keeps those behind it waiting, whoever they are for"
            }
            Self::CommitAgain => "a COMMIT that failed is run again",
            Self::DropWhileWritten => {
                "a copy leaves and is dropped while statements of an old route still write to it"
            }
            Self::RejoinByIncrements => {
                "a member out of view is taken to be in it, and to have made what it missed"
            }
            Self::OlderCopyFirst => "after a total loss nodes start without asking which copy is the newest",
            Self::TruncateAgain => "a TRUNCATE that failed is repeated until it is done",
            Self::UndoOfWhatWasThere => {
                "whether a name is free is not asked, and a creation takes over or drops what has it"
            }
            Self::NameMadeAgain => {
                "a name is made again when nodes were told to drop its routes, before they have"
            }
            Self::RoutedWithoutQuorum => "a group without a quorum stays in the routes",
            Self::NamesNotStored => "a sidecar says that it has stored the names of tables, and has not",
            Self::AnyNode => "whoever answers at a node's address is taken for that node",
            Self::NoBinlog => "a node that is killed has lost what was written to it since it started",
            Self::CrossingExits => {
                "an EXIT is said not to have begun and runs all the same, and others begin beside it"
            }
            Self::CopyByTheClock => "a JOIN is given up after its time, however much of its copy has come",
            Self::AnyLog => "a sidecar obeys the leader of any control log",
            Self::StaleLeader => {
                "a deposed leader goes on giving orders that its log refuses, and sidecars take them"
            }
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// What the operator believes to see.
pub fn bend_look(world: &mut World, answer: &mut PollAnswer) {
    if world.bug == Some(Bug::RejoinByIncrements) {
        return take_for_whole(world, answer);
    }
    let Some(machine) = world.machines.iter().find(|machine| machine.node == answer.node) else { return };
    let sidecar = machine.sidecar.borrow();
    let Some(status) = &mut answer.status else { return };
    match (world.bug, &mut status.tables) {
        (Some(Bug::ShedBeforeRoute | Bug::EdgeTriggered | Bug::NameMadeAgain), Some(tables)) => {
            for (table, route) in &sidecar.told {
                match route {
                    Some(route) => tables.routes.insert(table.to_string(), Arc::new(route.clone())),
                    None => tables.routes.remove(table.as_str()),
                };
            }
        }
        (Some(Bug::RoutedWithoutQuorum), Some(tables)) => {
            let told = |table: &String| sidecar.told.iter().find(|(name, _)| name.as_str() == table);
            tables.routes.retain(|table, _| told(table).is_none_or(|(_, route)| route.is_some()));
        }
        (Some(Bug::FilledAdd), _) => {
            for (group, tables) in &sidecar.late {
                if let Some(cluster) = status.clusters.get_mut(group) {
                    cluster.tables.extend(tables.iter().cloned());
                }
            }
        }
        (Some(Bug::UndoOfWhatWasThere), Some(tables)) => {
            let play = world.play.borrow();
            tables.shards.retain(|table| !play.by_hand.contains_key(&(answer.node.clone(), table.clone())));
        }
        (Some(Bug::LeakedCluster), _) => status.clusters.retain(|group, _| !sidecar.hidden.contains(group)),
        _ => {}
    }
}

/// Who does not hear the others of a group that has a quorum is taken to be in it, and to have what they have.
fn take_for_whole(world: &mut World, answer: &mut PollAnswer) {
    let Some(own) = world.machines.iter().position(|machine| machine.node == answer.node) else { return };
    let Some(status) = &mut answer.status else { return };
    for (group, cluster) in status.clusters.iter_mut().filter(|(group, _)| group.is_ours()) {
        if cluster.status == ClusterState::NonPrimary {
            let others = (0..world.machines.len()).filter(|at| *at != own).collect::<Vec<_>>();
            let with_it = |world: &mut World, at: usize| {
                crate::invariants::clusters(world, at).remove(group).filter(model::ClusterStatus::is_synced)
            };
            let Some((at, theirs)) = others.into_iter().find_map(|at| Some((at, with_it(world, at)?))) else {
                continue;
            };
            if let Some(tables) = &mut status.tables {
                tables.shards = crate::invariants::leftovers::names(world, at, "SHOW TABLES FROM SYSTEM");
            }
            *cluster = theirs;
        }
        cluster.nodes_view = cluster.nodes_set.clone();
        cluster.size = cluster.nodes_view.len() as u32;
    }
}

/// What becomes of a command on its way from the operator: where it goes, and what it says there.
pub fn bend_command(
    world: &World,
    state: &State,
    node: NodeId,
    command: Command,
    undo: bool,
) -> Vec<(NodeId, Command)> {
    match (world.bug, &command.action) {
        (Some(Bug::UndoOnTheWrongNode), _) if undo => {
            let other = world.machines.iter().map(|machine| &machine.node).find(|other| **other != node);
            vec![(other.cloned().unwrap_or(node), command)]
        }
        (Some(Bug::BootstrapOnBothSides), Action::Bootstrap { .. }) => {
            let everyone = world.machines.iter().map(|machine| (machine.node.clone(), command.clone()));
            everyone.collect()
        }
        (Some(Bug::UnsyncedRoute), Action::JoinCluster { group, .. }) => {
            let mut all = routes_with(world, state, group, &node, &command);
            all.push((node, command));
            all
        }
        _ => vec![(node, command)],
    }
}

/// Routes that name a node as a copy of the group's shards before it has joined, for all the other nodes.
fn routes_with(
    world: &World,
    state: &State,
    group: &GroupId,
    node: &NodeId,
    command: &Command,
) -> Vec<(NodeId, Command)> {
    let Some(known) = state.groups.get(group) else { return Vec::new() };
    let mut commands = Vec::new();
    for machine in world.machines.iter().filter(|machine| machine.node != *node) {
        let told = machine.sidecar.borrow().told.clone();
        let mut routes = Vec::new();
        for (table, route) in told {
            let Some(mut route) = route else { continue };
            let numbers = known.shards.iter().filter(|shard| shard.table == table).map(|shard| shard.number);
            for number in numbers {
                if let Some(copies) = route.shards.get_mut(number as usize) {
                    copies.push(node.clone());
                    copies.sort();
                    copies.dedup();
                }
            }
            routes.push(RouteSpec { route, schema: schema() });
        }
        let command = Command { action: Action::SetRoutes { routes }, ..command.clone() };
        commands.push((machine.node.clone(), command));
    }
    commands
}

/// What a leader of such a program would have recorded; fewer records than it was given when they are bent.
pub fn bend_records(world: &World, records: Vec<Record>) -> Vec<Record> {
    match world.bug {
        Some(Bug::OneCopyAfterTwoLosses) => one_copy_each(world, records),
        _ => records,
    }
}

/// Of a plan the first copy of each group that lost several, and none for it in any later plan.
fn one_copy_each(world: &World, records: Vec<Record>) -> Vec<Record> {
    let mut seen = BTreeSet::new();
    let mut cut = world.watch.short.borrow_mut();
    let mut without = BTreeSet::new();
    let mut kept = Vec::new();
    for record in records {
        match record {
            Record::OperationAdded { operation } => match &operation.kind {
                Kind::Move { group, from: None, .. }
                    if cut.contains(group) || !seen.insert(group.clone()) =>
                {
                    cut.insert(group.clone());
                    without.insert(operation.id);
                }
                _ => kept.push(Record::OperationAdded { operation }),
            },
            Record::RebalancePlanned { reason, operations, copies, lower_bound, shard_copies, unix } => {
                let operations = operations.into_iter().filter(|id| !without.contains(id)).collect();
                let planned =
                    Record::RebalancePlanned { reason, operations, copies, lower_bound, shard_copies, unix };
                kept.push(planned);
            }
            other if is_of(&other, &without) => {}
            other => kept.push(other),
        }
    }
    kept
}

/// Whether the record says something of one of these operations, which nobody knows of.
fn is_of(record: &Record, operations: &BTreeSet<OperationId>) -> bool {
    match record {
        Record::OperationStarted { operation, .. }
        | Record::OperationCancelled { operation, .. }
        | Record::StepStarted { operation, .. }
        | Record::StepDone { operation, .. }
        | Record::StepSkipped { operation, .. } => operations.contains(operation),
        _ => false,
    }
}

/// Tables that a sidecar has said to have added go in as soon as there is somebody to get it wrong with.
pub fn add_late(world: &mut World) {
    if world.bug != Some(Bug::FilledAdd) {
        return;
    }
    for at in 0..world.machines.len() {
        let late = world.machines[at].sidecar.borrow().late.clone();
        for (group, tables) in late {
            let seen = crate::invariants::clusters(world, at).remove(&group);
            if seen.is_none_or(|cluster| cluster.size < 2) {
                continue;
            }
            world.machines[at].sidecar.borrow_mut().late.remove(&group);
            let node = world.machines[at].node.clone();
            world.spawn(Task::new(Owner::Client, |wire| async move {
                for table in tables {
                    wire.sql(&node, format!("ALTER CLUSTER {group} ADD {table}"), 20_000).await;
                }
                Finish::Nothing
            }));
        }
    }
}

/// What a sidecar says to its node some time after it has answered for it, until it is done.
pub fn say_later(world: &mut World, at: usize) {
    let later = std::mem::take(&mut world.machines[at].sidecar.borrow_mut().later);
    for (after, sql) in later {
        let node = world.machines[at].node.clone();
        world.spawn(Task::new(Owner::Client, move |wire| async move {
            for _ in 0..TRIES {
                wire.sleep(after).await;
                if matches!(wire.sql(&node, sql.clone(), 20_000).await, Answer::Sql(Ok(_))) {
                    break;
                }
            }
            Finish::Nothing
        }));
    }
}

pub fn bend_reply(bug: Option<Bug>, reply: StatementReply) -> StatementReply {
    match reply {
        StatementReply::Error { .. } if bug == Some(Bug::SuccessOnFailure) => StatementReply::Ok,
        reply => reply,
    }
}
