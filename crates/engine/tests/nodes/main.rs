//! Several nodes in one thread of virtual time: replication clusters alone, and whole engines.

mod cluster;
mod cluster_faults;
mod faults;
mod golden;
mod routing;
mod statements;
mod support;
