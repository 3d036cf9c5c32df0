//! What statements do to this node's own tables, and how reads over several tables become one.
//!
//! Writes take two steps, because replication stands between them: [`prepare`] looks at the table and decides,
//! [`apply`] carries out without looking. Knows no cluster and no route.

mod convert;
mod eval;
mod insert;
mod merge;
mod prepare;
mod resolve;
mod select;
mod show;
#[cfg(test)]
mod tests;

pub use insert::{put_rows, typed_rows};
pub use merge::{merge, shard_select};
pub use prepare::{WriteSet, apply, prepare};
pub use select::{Session, select, select_constants};
pub use show::{create_table_text, describe, like, show_tables};
