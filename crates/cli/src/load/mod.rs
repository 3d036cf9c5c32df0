//! The recording client: loads, writes, reads and judges from outside, over nothing but the nodes' MySQL ports.
//!
//! It shares no code with what it judges and never repeats a statement: every error a client would have seen is
//! counted as one.

mod client;
mod holdings;
mod loader;
mod probe;
mod record;
mod routing;
mod traffic;
mod verify;

pub use client::{Client, Endpoint, Fault};
pub use holdings::{ClusterSeen, Holdings, NodeHoldings, clusters_of};
pub use loader::{LoadError, LoadReport, Loader};
pub use probe::{ProbeReport, probe_every_shard};
pub use record::{Record, WriteOutcome};
pub use routing::shard_of;
pub use traffic::{Rates, Traffic, TrafficReport};
pub use verify::{Verification, VerifyError, verify};
