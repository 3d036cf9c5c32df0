//! Tests in a small world of nodes, clusters and sidecars as plain data.

mod access;
mod backups;
mod copies;
mod cut_off;
mod disks;
mod drops;
mod forget;
mod formats;
mod gate;
mod hand_over;
mod hostile;
mod operate;
mod operations;
mod orders;
mod orphans;
mod refusals;
mod rights;
mod rules;
mod sagas;
mod total_loss;
mod world;

/// The first `count` seeds; others by `SHARDWRIGHT_SEEDS=first..last`, both included.
fn seeds(count: u64) -> std::ops::RangeInclusive<u64> {
    let Ok(seeds) = std::env::var("SHARDWRIGHT_SEEDS") else { return 0..=count - 1 };
    let (first, last) = seeds.split_once("..").expect("SHARDWRIGHT_SEEDS is first..last");
    first.parse().expect("a number")..=last.parse().expect("a number")
}
