//! Tests in a small world of nodes, clusters and sidecars as plain data.

mod operations;
mod orders;
mod world;
