//! Several nodes in one thread of virtual time: replication clusters alone, and whole engines.

#![expect(clippy::print_stdout, reason = "a skipped test and a failing seed must be seen")]
#![expect(clippy::format_push_string, reason = "texts of tests, nowhere near a hot path")]

mod cluster;
mod cluster_faults;
mod faults;
mod golden;
mod hostile;
mod routing;
mod statements;
mod support;
