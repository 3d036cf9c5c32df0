//! What the tests of several nodes share: deterministic networks and virtual time.

pub mod chance;
pub mod cluster_net;
pub mod machines;

/// How many seeds a seeded test runs and from which on: `SHARDWRIGHT_SEEDS` and `SHARDWRIGHT_SEED`, or `usual` from 0.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SHARDWRIGHT_SEED").unwrap_or(0);
    first..first + number("SHARDWRIGHT_SEEDS").unwrap_or(usual)
}

/// Names the seed of a run that fails, however it fails.
pub struct Named(pub u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("SHARDWRIGHT_SEED={} SHARDWRIGHT_SEEDS=1 repeats it", self.0);
        }
    }
}
