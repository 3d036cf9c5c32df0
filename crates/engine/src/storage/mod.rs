//! Where tables and small durable facts live.

/// One node's durable state.
pub trait Storage: Send {}
