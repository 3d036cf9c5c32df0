//! A limit on what is read and written a second.

use std::time::Duration;
use tokio::time::Instant;

/// Lets bytes through as fast as was ordered, on average since it began.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    bytes: u64,
    bytes_per_second: u64,
}

impl Pace {
    pub(super) fn new(mib_per_second: u32) -> Self {
        let bytes_per_second = u64::from(mib_per_second.max(1)) << 20;
        Self { began: Instant::now(), bytes: 0, bytes_per_second }
    }

    /// Waits until `bytes` more are due.
    pub(super) async fn take(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let due = self.began + Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second as f64);
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_takes_its_time() {
        let mut pace = Pace::new(1);
        let began = Instant::now();
        pace.take(1 << 17).await;
        pace.take(1 << 17).await;
        assert!(began.elapsed() >= Duration::from_millis(240), "{:?}", began.elapsed());
    }
}
