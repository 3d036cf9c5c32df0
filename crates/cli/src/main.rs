//! The `shardwright` binary.

fn main() {}
