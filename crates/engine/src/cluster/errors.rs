//! searchd's words for what a cluster refuses.

use crate::io::SqlError;

/// A write lost against another node's, or its node lost the primary view while it was under way. The sequence
/// number is -1 when none was given.
pub fn aborted(at: &str, seqno: Option<u64>) -> SqlError {
    let seqno = seqno.map_or_else(|| "-1".to_owned(), |seqno| seqno.to_string());
    SqlError::new(format!("error at {at}, code 3 (transaction aborted, server can continue), seqno {seqno}"))
}

pub fn not_primary(cluster: &str, node_state: &str) -> SqlError {
    SqlError::new(format!("cluster '{cluster}' is not ready, not primary state ({node_state})"))
}

pub fn not_ready(cluster: &str, node_state: &str) -> SqlError {
    SqlError::new(format!("cluster '{cluster}' is not ready, current state is {node_state}"))
}

pub fn exiting(cluster: &str) -> SqlError {
    SqlError::new(format!("cluster '{cluster}' is exiting"))
}

pub fn unknown(cluster: &str) -> SqlError {
    SqlError::new(format!("unknown cluster '{cluster}'"))
}

pub fn overloaded(cluster: &str, limit: usize) -> SqlError {
    SqlError::new(format!("cluster '{cluster}' has {limit} writes under way on this node: try again later"))
}
