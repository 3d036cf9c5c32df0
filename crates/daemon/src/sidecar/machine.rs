//! What this node's machine has, for the controller's plans: disk, memory, ports for replication, sizes of shards, and how
//! long queries take.
//!
//! One read of the data directory, one of `/proc` and one statement to the node, every few seconds; its settings, which do
//! not change while it runs, every minute.

use super::Sidecar;
use crate::owner::SameUser;
use crate::shutdown::Shutdown;
use model::{Machine, NodeSettings};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Well below the time for which the controller takes a report for true, so that one may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The node's settings do not change while it runs; a new run is noticed this late.
const SETTINGS_EVERY: Duration = Duration::from_mins(1);
/// For each of the two statements.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Files of the data directory that are looked at: 3,000 shards with a dozen files each. Beyond that sizes are too low,
/// and the log says so.
const FILES_MAX: usize = 50_000;

/// The newest report, until a poll takes it along.
#[derive(Debug, Default)]
pub(super) struct Report {
    news: Mutex<Option<Machine>>,
}

impl Report {
    /// What is new since the last poll; a poll that is lost costs one report.
    pub(super) fn take(&self) -> Option<Machine> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Looks until `shutdown`.
pub(super) async fn run(sidecar: Arc<Sidecar>, shutdown: Shutdown) {
    let mut interval = tokio::time::interval(LOOK_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut settings = Settings::default();
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = interval.tick() => {}
        }
        read_settings(&sidecar, &mut settings).await;
        let machine = look(&sidecar, settings.said.as_ref()).await;
        *sidecar.machine.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(machine);
    }
}

/// What the node last said of itself, and when.
struct Said {
    at: Instant,
    replication_ports: Option<u32>,
    settings: Option<NodeSettings>,
}

#[derive(Default)]
struct Settings {
    said: Option<Said>,
    /// Why there is none, as the log has it.
    missing: Option<String>,
}

/// Asks anew when it is time to. What cannot be read is told as such, until it can.
async fn read_settings(sidecar: &Sidecar, settings: &mut Settings) {
    if settings.said.as_ref().is_some_and(|said| said.at.elapsed() < SETTINGS_EVERY) {
        return;
    }
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    match sidecar.client.settings(&sidecar.node, processors, ANSWER_TIME_MAX).await {
        Ok((replication_ports, safety)) => {
            let safety = safety.map(|said| NodeSettings { tcp_fastopen: tcp_fastopen(), ..said });
            let said = Said { at: Instant::now(), replication_ports, settings: safety };
            *settings = Settings { said: Some(said), missing: None };
        }
        Err(error) => {
            let why = error.to_string();
            if settings.missing.as_ref() != Some(&why) {
                tracing::warn!(why, "the node's settings cannot be read");
            }
            *settings = Settings { said: None, missing: Some(why) };
        }
    }
}

/// Of the network namespace that searchd, whose child this is, runs in.
fn tcp_fastopen() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").ok()?.trim().parse().ok()
}

async fn look(sidecar: &Arc<Sidecar>, said: Option<&Said>) -> Machine {
    let directory = sidecar.data_dir.clone();
    let local = tokio::task::spawn_blocking(move || {
        let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text));
        (disk_free_bytes(&directory), memory, shard_bytes(&directory))
    });
    let (disk_free_bytes, memory_available_bytes, shard_bytes) = local.await.unwrap_or_default();
    let query_p99_ms = sidecar.client.query_p99_ms(&sidecar.node, ANSWER_TIME_MAX).await;
    Machine {
        disk_free_bytes,
        memory_available_bytes,
        replication_ports: said.and_then(|said| said.replication_ports),
        settings: said.and_then(|said| said.settings),
        settings_unread: said.is_none(),
        // A node that does not answer is news of its own.
        query_p99_ms: query_p99_ms.unwrap_or_default(),
        shard_bytes,
        clock_behind_seconds: sidecar.clock.behind_seconds(crate::files::unix_now()),
        connections_refused: sidecar.door.as_ref().map_or(0, SameUser::refused),
    }
}

/// What may still be written by who is not root.
fn disk_free_bytes(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// `MemAvailable` of `/proc/meminfo`.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The sizes of the files that belong to a physical shard: those whose own or whose directory's name begins with it
/// (searchd keeps a directory for each table, the embedded engine a file).
fn shard_bytes(directory: &Path) -> BTreeMap<String, u64> {
    let (mut found, mut left) = (BTreeMap::new(), FILES_MAX);
    let mut entries: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().collect();
    while let Some(entry) = entries.pop() {
        left = left.saturating_sub(1);
        if left == 0 {
            tracing::warn!(
                FILES_MAX,
                "too many files in the data directory: sizes of shards are told too low"
            );
            break;
        }
        let Some(shard) = shard_of(&entry.file_name().to_string_lossy()) else { continue };
        let Ok(about) = entry.metadata() else { continue };
        let bytes = if about.is_dir() {
            let inside = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
            inside
                .filter_map(|file| file.metadata().ok())
                .filter(std::fs::Metadata::is_file)
                .map(|a| a.len())
                .sum()
        } else {
            about.len()
        };
        *found.entry(shard).or_default() += bytes;
    }
    found
}

/// `system.t_s3` of `system.t_s3`, `system.t_s3.12.db` or `system.t_s3.0.spd`.
fn shard_of(name: &str) -> Option<String> {
    let mut parts = name.split('.');
    let shard = format!("{}.{}", parts.next()?, parts.next()?);
    model::parse_shard_table(&shard).map(|_| shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_files_and_directories_of_shards() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, bytes: usize| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
            std::fs::write(path, vec![0; bytes]).expect("written");
        };
        write("system.t_s0.3.db", 100);
        write("system.t_s0.3.db-wal", 11);
        write("system.t_s12/t_s12.0.spd", 7);
        write("system.t_s12/t_s12.meta", 3);
        write("t/t.meta", 1_000);
        write("catalog.db", 1_000);
        let found = shard_bytes(dir.path());
        let expected = [("system.t_s0".to_owned(), 111), ("system.t_s12".to_owned(), 10)];
        assert_eq!(found, expected.into());
        assert!(disk_free_bytes(dir.path()).is_some_and(|free| free > 0));
        assert_eq!(disk_free_bytes(Path::new("/nonexistent")), None);
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       16266508 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available_bytes(text), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }
}
