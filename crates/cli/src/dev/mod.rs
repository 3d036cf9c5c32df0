//! A whole cluster as child processes, of embedded engines or of real searchd: `dev`, and the ground that `demo` stands on.

mod cluster;
mod layout;
mod ports;
mod process;
mod remote;
mod run;
mod searchd;
mod start;

pub use cluster::{Cluster, ClusterOptions};
pub use layout::{ClusterFile, ClusterNode};
pub use ports::Ports;
pub use process::{die_with_parent, resident_bytes};
pub use remote::{Request, ask};
pub use run::run;
pub use searchd::become_program;

/// Where `dev` keeps its cluster when nothing else is said.
pub const DEFAULT_DIR: &str = ".shardwright";
/// The replication cluster that the nodes are members of.
pub const CLUSTER: &str = "c";
