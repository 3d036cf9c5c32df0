//! The embedded node's core: Manticore's dialect over SQLite, clusters and routing; messages and time in, messages out.
//!
//! Owns no socket, thread or clock: a shell (or a simulator) feeds [`io::Input`] with the time and carries out
//! [`io::Output`]. It is for trying, developing and testing; it is no production search engine.

pub mod cluster;
pub mod core;
mod depth;
pub mod exec;
pub mod io;
mod peer;
pub mod routing;
pub mod sql;
pub mod storage;

pub use core::{Engine, EngineConfig, OpenError, Timing, forget_clusters};
pub use io::{Column, ColumnKind, Input, Output, Reply, RequestId, ResultSet, SessionId, SqlError, Value};
pub use peer::{DecodeError, PeerMessage};
