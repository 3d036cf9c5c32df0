//! Child processes that cannot outlive their parent.

use crate::output::CommandError;
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a process may take to stop cleanly before it is killed; a searchd with many clusters takes longest.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The end of a log that an error quotes.
const LOG_TAIL_BYTES: u64 = 600;

/// Asks the system to kill this process when the one that started it dies; for processes that make no sense alone.
/// `parent` is its id; when it is another by now, the parent died before.
pub fn die_with_parent(parent: u32) -> Result<(), CommandError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| {
        CommandError::failed(
            format!("cannot tie this process to its parent: {error}"),
            "run it without that option",
        )
    })?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) {
        Ok(())
    } else {
        Err(CommandError::failed("the process that started this one is gone", "start it again"))
    }
}

/// A child with its output in a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts this very binary with `arguments`. Must run on a thread that lives as long as the runtime: the system
    /// takes the thread's end for the parent's.
    pub fn start(name: &str, arguments: &[String], log: &Path) -> Result<Self, CommandError> {
        let fail = |error: std::io::Error| {
            CommandError::failed(
                format!("cannot start {name}: {error}"),
                "check the disk and the limits on processes",
            )
        };
        let program = std::env::current_exe().map_err(fail)?;
        let output = File::options().create(true).append(true).open(log).map_err(fail)?;
        let child = Command::new(program)
            .arg(format!("--die-with-parent={}", std::process::id()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(fail)?)
            .stderr(output)
            // Ctrl-C at a terminal goes to a whole group; the order of stopping is the parent's to choose.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(fail)?;
        let pid = child.id().ok_or_else(|| fail(std::io::Error::other("it ended at once")))?;
        Ok(Self { name: name.to_owned(), child, pid, log: log.to_owned() })
    }

    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub async fn wait(&mut self) {
        if let Err(error) = self.child.wait().await {
            tracing::warn!(name = self.name, %error, "cannot wait for a process");
        }
    }

    /// Kill -9, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait().await;
    }

    /// Kill -9 for it and for all that it started, and waits until none of them is left.
    pub async fn kill_with_children(&mut self) {
        let group = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // Both fail only when nobody is left in the group.
            let _gone = rustix::process::kill_process_group(group, Signal::KILL);
            self.wait().await;
            while is_alive(self.pid) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Asks it to stop; kills it when it does not. Tells whether it ended cleanly.
    pub async fn stop(&mut self) -> bool {
        self.signal(Signal::TERM);
        match tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_late) => {
                tracing::warn!(name = self.name, "did not stop in time and is killed");
                self.kill_with_children().await;
                false
            }
        }
    }

    /// Why it is not there any more, for an error: how it ended and the last words of its log.
    pub fn obituary(&mut self) -> String {
        let how =
            self.ended().map_or_else(|| "still runs".to_owned(), |status| format!("ended with {status}"));
        match last_line(&self.log) {
            Some(line) => format!("{} {how}: {line}", self.name),
            None => format!("{} {how}", self.name),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && self.child.id().is_some()
            && let Err(error) = rustix::process::kill_process(pid, signal)
        {
            tracing::debug!(name = self.name, %error, "a process was gone before the signal");
        }
    }
}

/// Whether any process of a group still runs. One that ended and was not collected by its new parent does not.
fn is_alive(group: u32) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name in brackets: state, parent, group.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let state = fields.next();
        let of = fields.nth(1).and_then(|of| of.parse::<u32>().ok());
        of == Some(group) && !matches!(state, Some("Z" | "X"))
    })
}

fn last_line(log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}

/// The memory that these processes hold at the moment, resident, in bytes; with all processes they started.
pub fn resident_bytes(roots: &[u32]) -> u64 {
    let mut parents = std::collections::BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ended meanwhile holds nothing.
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        parents.insert(pid, (field("PPid:").unwrap_or(0) as u32, field("VmRSS:").unwrap_or(0) * 1024));
    }
    let belongs = |mut pid: u32| loop {
        if roots.contains(&pid) {
            return true;
        }
        match parents.get(&pid) {
            Some((parent, _)) if *parent > 1 && *parent != pid => pid = *parent,
            _ => return false,
        }
    };
    parents.iter().filter(|(pid, _)| belongs(**pid)).map(|(_, (_, bytes))| bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_this_process_and_its_children() {
        let own = resident_bytes(&[std::process::id()]);
        assert!(own > 1 << 20, "{own}");
        let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("sleep is there");
        let both = resident_bytes(&[std::process::id()]);
        let alone = resident_bytes(&[child.id()]);
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert!(alone > 0 && both > alone);
    }

    #[test]
    fn a_group_lives_as_long_as_one_of_its_processes() {
        use std::os::unix::process::CommandExt;
        let mut child =
            std::process::Command::new("sleep").arg("30").process_group(0).spawn().expect("sleep");
        assert!(is_alive(child.id()));
        child.kill().expect("killed");
        while is_alive(child.id()) {
            std::thread::yield_now();
        }
        child.wait().expect("collected only now");
    }

    #[test]
    fn the_last_words_of_a_log_are_its_last_line_with_text() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "one\ntwo\n\n").expect("written");
        assert_eq!(last_line(file.path()).as_deref(), Some("two"));
    }
}
