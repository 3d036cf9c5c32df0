//! All that knows searchd: statements as types, quoting, client, reading of replies.
//!
//! Pure parts: [`statement`] and [`render`] (what is said to a node), [`reply`], [`status`], [`declared`] and
//! [`outcome`] (what it answers), [`documents`] (what backups read and write), [`sharding`], [`names`] and [`rerun`] (what users say). They read no clock and
//! open no socket. [`client`] and [`session`] are the only ones that talk. It decides nothing about clusters.

pub mod client;
pub mod closed_set;
pub mod columns;
mod cursor;
pub mod declared;
pub mod documents;
pub mod handover;
pub mod login;
pub mod names;
pub mod outcome;
pub mod render;
pub mod reply;
pub mod rerun;
pub mod session;
pub mod sharding;
pub mod statement;
pub mod status;
pub mod stock;
mod views;

pub use client::{Client, Way};
pub use login::{Login, Logins};
pub use outcome::{CallError, outcome};
pub use render::{RenderContext, RenderError, render};
pub use reply::{Reply, Rows};
pub use session::{Session, SessionTls};
pub use statement::Statement;

/// What every request of a sidecar or controller calls itself, so that searchd does not hand a failing statement
/// back to the sidecar.
pub const USER_AGENT: &str = concat!("Manticore Buddy/", env!("CARGO_PKG_VERSION"));

/// How [`USER_AGENT`] and its like begin.
pub const USER_AGENT_PREFIX: &str = "Manticore Buddy/";
