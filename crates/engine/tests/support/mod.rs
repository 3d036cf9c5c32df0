//! What the tests of several nodes share: a deterministic network and time.

pub mod chance;
pub mod cluster_net;
pub mod nodes;
