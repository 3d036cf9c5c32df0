//! Commands that need no cluster.

use super::SettingArgs;
use clap::{Args, Subcommand};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Shows and checks settings.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every setting with its value and where that comes from: default, profile, file, env or flag
    #[command(
        after_help = "Example: SHARDWRIGHT_SILENT_NODE_SECONDS=8 shardwright config show --config prod.toml"
    )]
    Show(SettingArgs),
    /// Whether the settings would be accepted; names file, line and valid range when not
    Check(SettingArgs),
}

/// Plans placement alone: reads nodes and units, writes who shall hold what and which copies lead there.
///
/// Input: {"nodes": [{"id", "zone"?, "capacity"?: 1, "state"?: "active"|"draining"|"down"}],
/// "units": [{"id", "rf", "weight"?: 1, "bytes"?: 0, "replicas"?: [node ids]}],
/// "options"?: {"max_units_per_node"?, "transfers_in_per_node"?: 2, "transfers_out_per_node"?: 2}}.
/// A unit without replicas is new; copies on nodes that are down are lost. What is wrong is told with its JSON path.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  echo '{\"nodes\":[{\"id\":\"a\"},{\"id\":\"b\"},{\"id\":\"c\"}],\n    \
                        \"units\":[{\"id\":1,\"rf\":2,\"replicas\":[\"a\",\"b\"]},{\"id\":2,\"rf\":2,\"replicas\":[]}]}' \\\n    \
                        | shardwright plan --input -")]
pub struct PlanArgs {
    /// The problem as JSON; - reads stdin
    #[arg(long, value_name = "FILE|-")]
    pub input: PathBuf,
}

/// Runs whole clusters in virtual time under faults drawn from a seed, and checks the invariants.
///
/// The controller, the planner and the engine are the very same code as in production. Exit code 1 when an invariant
/// was violated; each violation comes with the command line that replays it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  shardwright sim --seeds 1..1000\n  shardwright sim --seed 7\n  \
                        shardwright sim --scenario sweep-failover --seed 1\n  \
                        shardwright sim --seeds 1..200 --break late-command")]
pub struct SimArgs {
    /// The seeds, both ends included
    #[arg(long, value_name = "A..B", default_value = "1..100", value_parser = seeds)]
    pub seeds: RangeInclusive<u64>,
    /// One seed alone
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// all, quiet, crashes, partitions, controllers, total-loss, changes, losses, machines, moves; sweeps, or one of them: sweep-OPERATION
    /// (the controller dies at every step boundary) or nodes-OPERATION (a node dies at every statement); meetings; rules (straight to what
    /// a rule of safety prevents) [default: all, or the one that finds the bug of --break]
    #[arg(long, value_name = "SCENARIO")]
    pub scenario: Option<::sim::Scenario>,
    /// Prints what happens, line by line: faults, statements that change something, records of the log
    #[arg(long, requires = "seed")]
    pub story: bool,
    /// Re-introduces a known bug, which must then be found; stops at the first seed that finds it
    #[arg(long = "break", value_name = "BUG", value_parser = bug)]
    pub bug: Option<::sim::Bug>,
    /// Threads; the result is the same with any number [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// The known bugs
    #[arg(long)]
    pub list_bugs: bool,
}

impl SimArgs {
    /// What is run: where no scenario was named, the one that finds the bug, or every fault.
    pub fn scenario(&self) -> ::sim::Scenario {
        let usual = self.bug.map_or(::sim::Scenario::All, ::sim::Bug::scenario);
        self.scenario.unwrap_or(usual)
    }
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let ends = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match ends {
        Some((from, to)) if from <= to => Ok(from..=to),
        _ => Err("it must be A..B with A no greater than B".to_owned()),
    }
}

fn bug(name: &str) -> Result<::sim::Bug, String> {
    ::sim::Bug::from_name(name)
        .ok_or_else(|| "no such bug: `shardwright sim --list-bugs` names them".to_owned())
}

/// The benchmarks behind the figures of the README.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// A turn of the controller while nothing happens, its start and its memory
    Control {
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=200))]
        nodes: u32,
        #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=1000))]
        tables: u32,
        /// Of each table
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=3000))]
        shards: u32,
    },
    /// The control log against writing and syncing the same bytes
    Log {
        /// Where to write; the disk under it is what is measured
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// The planner on clusters of up to 10 million copies, each in a process of its own
    Planner {
        /// Only this one, in this process; numbers are those of the table
        #[arg(long, value_name = "NUMBER")]
        case: Option<usize>,
        /// How often each is solved; the median is shown
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        runs: u32,
    },
}
