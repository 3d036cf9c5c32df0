//! Times the file store against the least that durability costs: the same bytes, written and synced.
//!
//! Reads no clock of its own. The two take turns, so that a busy disk burdens both alike; ratios count, the times
//! themselves only hint.

use crate::{AppendError, Log as _, OpenError, file::FileLog};
use std::{fmt, fs::File, io, io::Write as _, path::Path};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of one record.
    pub record_bytes: usize,
    /// Appends of one record each.
    pub singles: usize,
    /// Appends of [`BATCH`] records each.
    pub batches: usize,
}

/// Records of one batch.
pub const BATCH: usize = 100;

impl Default for Settings {
    /// A typical step record; enough turns for a steady median within seconds.
    fn default() -> Self {
        Self { record_bytes: 256, singles: 1000, batches: 300 }
    }
}

/// The log and the bare file over the same appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub appends: usize,
    pub records_per_append: usize,
    pub record_bytes: usize,
    pub log_ns_median: u64,
    pub log_ns_p99: u64,
    pub bare_ns_median: u64,
    pub bare_ns_p99: u64,
}

impl Comparison {
    /// How many times as long the log takes, by medians. Not a number without a bare time.
    pub fn ratio(&self) -> f64 {
        self.log_ns_median as f64 / self.bare_ns_median as f64
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| ns as f64 / 1000.0;
        write!(
            f,
            "{} appends of {} × {} bytes, durable: log {:.0} µs (p99 {:.0}), write + fdatasync {:.0} µs (p99 {:.0}), \
             ratio {:.2}",
            self.appends,
            self.records_per_append,
            self.record_bytes,
            us(self.log_ns_median),
            us(self.log_ns_p99),
            us(self.bare_ns_median),
            us(self.bare_ns_p99),
            self.ratio()
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub single: Comparison,
    pub batch: Comparison,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.single, self.batch)
    }
}

/// Why nothing could be timed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the bare file could not be written: {0}")]
    Bare(#[from] io::Error),
}

/// Times both in `dir`, an empty directory on the disk in question, which the caller removes afterwards.
/// `clock_ns` gives monotonic nanoseconds.
pub fn run(dir: &Path, settings: Settings, mut clock_ns: impl FnMut() -> u64) -> Result<Report, BenchError> {
    let mut single =
        || compare(&dir.join("single"), settings.singles, 1, settings.record_bytes, &mut clock_ns);
    let single = single()?;
    let batch = compare(&dir.join("batch"), settings.batches, BATCH, settings.record_bytes, &mut clock_ns)?;
    Ok(Report { single, batch })
}

fn compare(
    dir: &Path,
    appends: usize,
    records_per_append: usize,
    record_bytes: usize,
    clock_ns: &mut dyn FnMut() -> u64,
) -> Result<Comparison, BenchError> {
    let mut log = FileLog::open(&dir.join("log"), "bench", || "0".repeat(crate::LOG_ID_LEN))?;
    let mut bare = File::create_new(dir.join("bare"))?;
    let mut last = log.recover()?;
    let (mut log_ns, mut bare_ns) = (Vec::with_capacity(appends), Vec::with_capacity(appends));
    for number in 0..appends {
        let records = vec![vec![number as u8; record_bytes]; records_per_append];
        let bytes = records.concat();
        let start = clock_ns();
        last = log.append(last, &records)?;
        log_ns.push(clock_ns().saturating_sub(start));
        let start = clock_ns();
        bare.write_all(&bytes)?;
        bare.sync_data()?;
        bare_ns.push(clock_ns().saturating_sub(start));
    }
    log_ns.sort_unstable();
    bare_ns.sort_unstable();
    let at = |sorted: &[u64], percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or(0);
    Ok(Comparison {
        appends,
        records_per_append,
        record_bytes,
        log_ns_median: at(&log_ns, 50),
        log_ns_p99: at(&log_ns, 99),
        bare_ns_median: at(&bare_ns, 50),
        bare_ns_p99: at(&bare_ns, 99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::LogIndex;

    /// The log's appends take 1, 3, 5… ticks of this clock and the bare ones 2, 4, 6…
    #[test]
    fn medians_come_from_the_clock_and_records_from_the_settings() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut now, mut calls) = (0, 0);
        let clock = || {
            calls += 1;
            now += if calls % 2 == 0 { calls / 2 } else { 0 };
            now
        };
        let settings = Settings { record_bytes: 10, singles: 5, batches: 2 };
        let report = run(dir.path(), settings, clock).expect("room");
        assert_eq!((report.single.log_ns_median, report.single.bare_ns_median), (5, 6));
        assert_eq!((report.single.log_ns_p99, report.batch.log_ns_p99), (9, 13));
        assert!((report.single.ratio() - 5.0 / 6.0).abs() < 1e-9);
        let log = FileLog::open(&dir.path().join("batch/log"), "a test", String::new).expect("made");
        assert_eq!(log.last(), Ok(LogIndex(2 * BATCH as u64)));
        let bare = std::fs::metadata(dir.path().join("batch/bare")).expect("made");
        assert_eq!(bare.len(), (2 * BATCH * 10) as u64);
    }
}
