//! What statements do to tables.
