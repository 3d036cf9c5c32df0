//! Known bugs, each a switch of the simulated world alone: what goes into the operator or comes out of it is bent, or a
//! sidecar leaves out one of its checks. No invariant knows of them, and every one must be found.

use crate::world::World;
use control::PollAnswer;
use model::wire::StatementReply;
use model::{Action, Command, NodeId};
use std::sync::Arc;

/// A bug that was made once, here or in the program that this one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    ShedBeforeRoute,
    StaleLeader,
    LateCommand,
    UnsyncedRoute,
    SuccessOnFailure,
    UndoOnTheWrongNode,
    BootstrapOnBothSides,
    EdgeTriggered,
    LeakedCluster,
    LeakedDirectory,
    TwoLeaders,
}

impl Bug {
    pub const ALL: [Self; 11] = [
        Self::ShedBeforeRoute,
        Self::StaleLeader,
        Self::LateCommand,
        Self::UnsyncedRoute,
        Self::SuccessOnFailure,
        Self::UndoOnTheWrongNode,
        Self::BootstrapOnBothSides,
        Self::EdgeTriggered,
        Self::LeakedCluster,
        Self::LeakedDirectory,
        Self::TwoLeaders,
    ];

    /// As the command line knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShedBeforeRoute => "shed-before-route",
            Self::StaleLeader => "stale-leader",
            Self::LateCommand => "late-command",
            Self::UnsyncedRoute => "unsynced-route",
            Self::SuccessOnFailure => "success-on-failure",
            Self::UndoOnTheWrongNode => "undo-on-the-wrong-node",
            Self::BootstrapOnBothSides => "bootstrap-on-both-sides",
            Self::EdgeTriggered => "edge-triggered",
            Self::LeakedCluster => "leaked-cluster",
            Self::LeakedDirectory => "leaked-directory",
            Self::TwoLeaders => "two-leaders",
        }
    }

    pub const fn what(self) -> &'static str {
        match self {
            Self::ShedBeforeRoute => "a copy is shed while nodes still route to it",
            Self::StaleLeader => "a sidecar takes commands of a deposed leader",
            Self::LateCommand => "a sidecar begins a command after its deadline",
            Self::UnsyncedRoute => "routes name a copy that is still being filled or verified",
            Self::SuccessOnFailure => "the client is told that a failed creation succeeded",
            Self::UndoOnTheWrongNode => "an undo is sent to another node than the step ran on",
            Self::BootstrapOnBothSides => "pc.bootstrap is sent to every member of a group",
            Self::EdgeTriggered => "what was written once is taken to be there for ever",
            Self::LeakedCluster => "DELETE CLUSTER is taken to be done without being sent",
            Self::LeakedDirectory => "a group's directory is taken to be removed without being removed",
            Self::TwoLeaders => "an append does not care who else has appended",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// What the operator believes to see.
pub fn bend_look(world: &World, answer: &mut PollAnswer) {
    let Some(machine) = world.machines.iter().find(|machine| machine.node == answer.node) else { return };
    let sidecar = machine.sidecar.borrow();
    let Some(status) = &mut answer.status else { return };
    match (world.bug, &mut status.tables) {
        (Some(Bug::ShedBeforeRoute | Bug::EdgeTriggered), Some(tables)) => {
            for (table, route) in &sidecar.told {
                match route {
                    Some(route) => tables.routes.insert(table.to_string(), Arc::new(route.clone())),
                    None => tables.routes.remove(table.as_str()),
                };
            }
        }
        (Some(Bug::LeakedCluster), _) => status.clusters.retain(|group, _| !sidecar.hidden.contains(group)),
        _ => {}
    }
}

/// What becomes of a command on its way from the operator: where it goes, and what it says there.
pub fn bend_command(world: &World, node: NodeId, command: Command, undo: bool) -> Vec<(NodeId, Command)> {
    match (world.bug, &command.action) {
        (Some(Bug::UndoOnTheWrongNode), _) if undo => {
            let other = world.machines.iter().map(|machine| &machine.node).find(|other| **other != node);
            vec![(other.cloned().unwrap_or(node), command)]
        }
        (Some(Bug::BootstrapOnBothSides), Action::Bootstrap { .. }) => {
            let everyone = world.machines.iter().map(|machine| (machine.node.clone(), command.clone()));
            everyone.collect()
        }
        (Some(Bug::UnsyncedRoute), Action::SetRoutes { .. }) => {
            let mut command = command;
            if let Action::SetRoutes { routes } = &mut command.action {
                for spec in routes {
                    name_everyone(world, spec);
                }
            }
            vec![(node, command)]
        }
        _ => vec![(node, command)],
    }
}

/// All members of a shard's group, whatever their copies are good for.
fn name_everyone(world: &World, spec: &mut model::RouteSpec) {
    let Some(leader) = world.leader() else { return };
    let state = leader.controller.state();
    let Some(table) = state.tables.get(&spec.route.table) else { return };
    for (home, copies) in table.homes.iter().zip(&mut spec.route.shards) {
        if let Some(group) = state.groups.get(home) {
            *copies = group.members.keys().cloned().collect();
        }
    }
}

pub fn bend_reply(bug: Option<Bug>, reply: StatementReply) -> StatementReply {
    match reply {
        StatementReply::Error { .. } if bug == Some(Bug::SuccessOnFailure) => StatementReply::Ok,
        reply => reply,
    }
}
