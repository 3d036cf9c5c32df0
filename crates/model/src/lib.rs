//! The words of Shardwright as types: what every crate speaks of, and nothing that acts.
//!
//! No I/O, clock, thread or randomness here. Times are [`Millis`] of the caller's clock.

pub mod access;
pub mod action;
pub mod api;
pub mod backup;
pub mod documents;
pub mod ids;
pub mod import;
pub mod observe;
pub mod operate;
pub mod rights;
pub mod settings;
pub mod sql;
pub mod table;
pub mod time;
pub mod wire;

pub use access::{AccessToken, AuditMark, Role, TokenOrder};
pub use action::{Action, Command, CommandId, CommandResult, Content, Outcome, RouteSpec, WRITTEN_TO};
pub use backup::{BackupCause, BackupData, BackupId, BackupOrder, BackupState, RestoreOrder, ShardRecord};
pub use documents::{Cell, Rows};
pub use ids::{
    Epoch, GroupId, InvalidName, LogIndex, NodeId, OperationId, StepId, TableName, parse_shard_table,
};
pub use import::{
    ImportBody, ImportFacts, ImportReport, ImportedGroup, ImportedTable, STOCK_TABLES, StockRow,
};
pub use observe::{
    ClusterState, ClusterStatus, LISTEN_BACKLOG_DEFAULT, Machine, Measurement, MemberState, NodeSettings,
    NodeStatus, Reach, Routes, TablesStatus,
};
pub use rights::{UserAction, UserRights, UserRule};
pub use settings::Settings;
pub use table::{ColumnSpec, Route, Schema, TableSpec};
pub use time::Millis;
