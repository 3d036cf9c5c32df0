//! What can be run, by name: which faults a run draws from, and the sweeps.

use crate::bugs::Bug;
use crate::directed::{self, Directed};
use crate::faults::Fault;
use crate::meet::{self, Met};
use crate::report::RunReport;
use crate::run::{Plan, run};
use crate::sweep::{self, Operation, Victim};

/// What a seed is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Every fault.
    All,
    /// None: the machinery alone.
    Quiet,
    Crashes,
    Partitions,
    Controllers,
    /// All nodes die at once, controllers and single nodes besides.
    TotalLoss,
    /// Membership and tables change under faults of nodes.
    Changes,
    /// Copies are lost for good, one or several at once.
    Losses,
    /// Disks that are slow or full, clocks that jump, looks that come late, leaders that stand still.
    Machines,
    /// Statements stand still on their way while copies move.
    Moves,
    /// Somebody dies at every boundary of one operation; with a number only at that one.
    Sweep(Victim, Operation, Option<u64>),
    /// All sweeps, one after the other.
    Sweeps,
    /// A fault begins while an operation of this kind is under way.
    Meet(Fault, Met),
    /// Each fault with each kind of operation.
    Meetings,
    /// Straight to what a rule prevents.
    Directed(Directed),
    /// All that are directed.
    Rules,
}

/// A name that no scenario has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no scenario '{name}': take all, quiet, crashes, partitions, controllers, total-loss, changes, losses, machines, moves, sweeps, \
         sweep-OPERATION (the controller dies) or nodes-OPERATION (a node dies), those also with @POINT, meetings (every fault meets every \
         kind of operation), meet-FAULT@KIND, rules (each of {directed}); operations are {operations}",
    operations = Operation::ALL.map(Operation::name).join(", "),
    directed = Directed::ALL.map(Directed::name).join(", ")
)]
pub struct UnknownScenario {
    pub name: String,
}

impl std::str::FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, UnknownScenario> {
        let unknown = || UnknownScenario { name: name.to_owned() };
        for victim in Victim::ALL {
            let Some(sweep) = name.strip_prefix(victim.prefix()) else { continue };
            let (operation, point) = match sweep.split_once('@') {
                Some((operation, point)) => (operation, Some(point.parse().map_err(|_| unknown())?)),
                None => (sweep, None),
            };
            let operation = Operation::ALL.into_iter().find(|known| known.name() == operation);
            return operation.map(|operation| Self::Sweep(victim, operation, point)).ok_or_else(unknown);
        }
        if let Some((fault, kind)) = name.strip_prefix("meet-").and_then(|meeting| meeting.split_once('@')) {
            let fault = Fault::ALL.into_iter().find(|known| known.slug() == fault);
            let met = Met::ALL.into_iter().find(|known| known.slug() == kind);
            return fault.zip(met).map(|(fault, met)| Self::Meet(fault, met)).ok_or_else(unknown);
        }
        if let Some(directed) = Directed::ALL.into_iter().find(|known| known.name() == name) {
            return Ok(Self::Directed(directed));
        }
        let plain = [
            Self::All,
            Self::Quiet,
            Self::Crashes,
            Self::Partitions,
            Self::Controllers,
            Self::TotalLoss,
            Self::Changes,
            Self::Losses,
            Self::Machines,
            Self::Moves,
            Self::Sweeps,
            Self::Meetings,
            Self::Rules,
        ];
        plain.into_iter().find(|known| known.name() == name).ok_or_else(unknown)
    }
}

impl Scenario {
    pub fn name(self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Quiet => "quiet".to_owned(),
            Self::Crashes => "crashes".to_owned(),
            Self::Partitions => "partitions".to_owned(),
            Self::Controllers => "controllers".to_owned(),
            Self::TotalLoss => "total-loss".to_owned(),
            Self::Changes => "changes".to_owned(),
            Self::Losses => "losses".to_owned(),
            Self::Machines => "machines".to_owned(),
            Self::Moves => "moves".to_owned(),
            Self::Sweeps => "sweeps".to_owned(),
            Self::Meetings => "meetings".to_owned(),
            Self::Rules => "rules".to_owned(),
            Self::Directed(directed) => directed.name().to_owned(),
            Self::Meet(fault, met) => format!("meet-{}@{}", fault.slug(), met.slug()),
            Self::Sweep(victim, operation, point) => {
                let point = point.map_or(String::new(), |point| format!("@{point}"));
                format!("{}{}{point}", victim.prefix(), operation.name())
            }
        }
    }

    fn faults(self) -> Vec<Fault> {
        use Fault as F;
        match self {
            // Those of `machines` are run apart.
            Self::All => F::ALL[..F::ALL.len() - F::OF_MACHINES].to_vec(),
            Self::Quiet
            | Self::Sweep(..)
            | Self::Sweeps
            | Self::Meet(..)
            | Self::Meetings
            | Self::Directed(_)
            | Self::Rules => Vec::new(),
            Self::Losses => {
                vec![F::TwoNodesGone, F::TwoNodesGone, F::NodeGone, F::TableCreated, F::NodeAdded]
            }
            Self::Machines => vec![
                F::LeaderFreeze,
                F::NodeFreeze,
                F::SlowDisk,
                F::FullDisk,
                F::ClockJump,
                F::LateLooks,
                F::NodeCrash,
                F::TableCreated,
                F::NodeAdded,
                F::ShardMoved,
                F::RfChanged,
            ],
            Self::Moves => vec![
                F::StalledStatements,
                F::StalledStatements,
                F::ShardMoved,
                F::ShardMoved,
                F::ShardMoved,
                F::NodeAdded,
                F::NodeDrained,
                F::RfChanged,
                F::NodeCrash,
            ],
            Self::Crashes => {
                vec![
                    F::NodeCrash,
                    F::NodeFreeze,
                    F::NodeFreeze,
                    F::NodeLongGone,
                    F::SidecarCrash,
                    F::ControllerCrash,
                    F::LostReplies,
                ]
            }
            Self::Partitions => {
                vec![F::Partition, F::OneWay, F::BetweenNodes, F::BrokenConnections, F::SlowNetwork]
            }
            Self::Controllers => vec![
                F::ControllerCrash,
                F::ControllerCrashes,
                F::ControllerFreeze,
                F::ControllerCutOff,
                F::LogCutOff,
                F::LogFails,
                F::LogUnknown,
                F::SidecarFreeze,
                F::TableCreated,
                F::TableDropped,
                F::NodeAdded,
            ],
            Self::TotalLoss => {
                vec![F::TotalLoss, F::TotalLoss, F::ControllerCrash, F::NodeCrash, F::SidecarCrash]
            }
            Self::Changes => vec![
                F::NodeAdded,
                F::NodeDrained,
                F::NodeRemoved,
                F::TableCreated,
                F::TableDropped,
                F::TableEmptied,
                F::RfChanged,
                F::ShardMoved,
                F::MovesHeld,
                F::NodeCrash,
                F::RouteDroppedByHand,
            ],
        }
    }

    /// What it consists of: scenarios that know nothing of each other, so that they can run side by side.
    pub fn parts(self) -> Vec<Self> {
        match self {
            Self::Sweeps => {
                let all = Victim::ALL.into_iter().flat_map(|victim| Operation::ALL.map(|of| (victim, of)));
                all.map(|(victim, of)| Self::Sweep(victim, of, None)).collect()
            }
            Self::Meetings => {
                let all = Fault::ALL.into_iter().flat_map(|fault| Met::ALL.map(|met| (fault, met)));
                all.map(|(fault, met)| Self::Meet(fault, met)).collect()
            }
            Self::Rules => Directed::ALL.map(Self::Directed).to_vec(),
            one => vec![one],
        }
    }

    /// Runs one seed, or the whole sweep under it.
    pub fn run(self, seed: u64, bug: Option<Bug>) -> Vec<(Self, RunReport)> {
        match self {
            Self::Sweeps | Self::Meetings | Self::Rules => {
                self.parts().into_iter().flat_map(|part| part.run(seed, bug)).collect()
            }
            Self::Sweep(victim, operation, None) => {
                let whole = sweep::run(seed, (victim, operation), None, bug, false);
                let points = whole.crash_points;
                let mut reports = vec![(self, whole)];
                for point in 1..=points {
                    let one = Self::Sweep(victim, operation, Some(point));
                    reports.extend(one.run(seed, bug));
                }
                reports
            }
            Self::Sweep(victim, operation, point) => {
                vec![(self, sweep::run(seed, (victim, operation), point, bug, false))]
            }
            Self::Meet(fault, met) => vec![(self, meet::run(seed, fault, met, false))],
            Self::Directed(directed) => vec![(self, directed::run(seed, directed, bug, false))],
            plain => vec![(plain, run(&Plan { seed, faults: plain.faults(), bug, story: false }))],
        }
    }

    /// Runs one seed and tells what happened in it, a line each; of a sweep the run without a crash, unless it names
    /// its point.
    pub fn story(self, seed: u64, bug: Option<Bug>) -> Vec<String> {
        let report = match self {
            Self::Sweep(victim, operation, point) => sweep::run(seed, (victim, operation), point, bug, true),
            Self::Meet(fault, met) => meet::run(seed, fault, met, true),
            Self::Directed(directed) => directed::run(seed, directed, bug, true),
            plain => run(&Plan { seed, faults: plain.faults(), bug, story: true }),
        };
        report.story
    }

    /// The command line that runs it again.
    pub fn replay(self, seed: u64, bug: Option<Bug>) -> String {
        let usual = bug.map_or(Self::All, Bug::scenario);
        let scenario = if self == usual { String::new() } else { format!(" --scenario {}", self.name()) };
        let bug = bug.map_or(String::new(), |bug| format!(" --break {}", bug.name()));
        format!("shardwright sim --seed {seed}{scenario}{bug}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_found_by_its_name() {
        for name in [
            "all",
            "quiet",
            "crashes",
            "partitions",
            "controllers",
            "total-loss",
            "changes",
            "losses",
            "machines",
            "moves",
            "sweeps",
            "sweep-create",
            "sweep-drop@7",
            "nodes-move-alone@12",
            "meetings",
            "meet-two-nodes-gone@hand-over",
            "rules",
            "missed-change",
        ] {
            assert_eq!(name.parse::<Scenario>().expect(name).name(), name);
        }
        for name in ["", "sweep-", "sweep-create@x", "sweep-nothing", "meet-node-crash", "meet-nothing@move"]
        {
            assert!(name.parse::<Scenario>().is_err(), "{name}");
        }
    }
}
