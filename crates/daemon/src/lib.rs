//! The shell that acts: the driver of the operator with its HTTP API, the sidecar of a node, and configuration.
//!
//! It carries out what `control` decides and reports what it sees; it decides nothing about placement itself.
//! Clocks, randomness and threads live here, so the rule against them ends here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod audit;
mod backup;
pub mod config;
mod crowd;
mod files;
pub mod gate;
mod http;
mod owner;
mod redact;
pub mod serve;
pub mod shutdown;
pub mod sidecar;
pub mod tls;

pub use files::{FileError, read_login};
