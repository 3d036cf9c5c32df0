//! The words of Shardwright as types: what every crate speaks of, and nothing that acts.
//!
//! No I/O, clock, thread or randomness here. Times are [`Millis`] of the caller's clock.

pub mod ids;
pub mod sql;
pub mod time;

pub use ids::{Epoch, GroupId, LogIndex, NodeId, OperationId, StepId, TableName};
pub use time::Millis;
