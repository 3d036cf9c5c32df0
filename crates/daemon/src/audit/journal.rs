//! The files of the audit log: written at the end, synced, rotated, and taken away when their time is over.
//!
//! `DIR/audit/audit-NNNNNNNNNNNN.jsonl`, each named by its first line's number; `id` names the whole. Nothing in a file is
//! ever changed, but for a last line that a crash left unfinished.

use super::line::{self, Entry, Event, NO_HASH};
use super::syslog::Syslog;
use crate::files;
use model::AuditMark;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is longer is followed by a new one: an editor still opens it.
const FILE_BYTES_MAX: u64 = 16 << 20;
const DAY_SECONDS: u64 = 24 * 3600;

/// The audit log could not be written or opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit log {} cannot be written: {error}; give it space and the controller's user the right to write there",
    path.display()
)]
pub struct AuditError {
    pub path: PathBuf,
    pub error: io::Error,
}

/// What is kept, and where copies go.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    pub(super) directory: PathBuf,
    pub(super) retention_days: u64,
    /// Every line goes there, too.
    pub(super) syslog: Option<PathBuf>,
}

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    seq: u64,
    hash: String,
}

/// The file that is written to.
#[derive(Debug)]
struct Current {
    file: File,
    bytes: u64,
    /// The day of its first line, since 1970.
    day: u64,
}

/// One writer of one audit log.
#[derive(Debug)]
pub(super) struct Journal {
    keeping: Keeping,
    id: String,
    head: Head,
    /// The number of the first line that is kept.
    first: u64,
    /// `None` after a failure: the end is read again before the next line.
    current: Option<Current>,
    syslog: Option<Syslog>,
    /// Lines that could not be written since the last one that was.
    missed: u64,
    /// Held as long as this lives.
    _lock: File,
}

impl Journal {
    /// Opens the log, or begins one.
    pub(super) fn open(keeping: Keeping) -> Result<Self, AuditError> {
        let fail = |error| AuditError { path: keeping.directory.clone(), error };
        fs::create_dir_all(&keeping.directory).map_err(fail)?;
        let lock = lock(&keeping.directory.join("lock")).map_err(fail)?;
        let id = id(&keeping.directory.join("id")).map_err(fail)?;
        let syslog = keeping.syslog.as_deref().map(Syslog::new);
        let head = Head { seq: 0, hash: NO_HASH.to_owned() };
        let mut journal = Self { id, head, first: 1, current: None, syslog, missed: 0, _lock: lock, keeping };
        journal.find_end(files::unix_now()).map_err(|error| journal.failed(error))?;
        Ok(journal)
    }

    fn failed(&self, error: io::Error) -> AuditError {
        AuditError { path: self.keeping.directory.clone(), error }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.keeping.directory
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// How far it goes, for the control log. `None` before the first line.
    pub(super) fn mark(&self, controller: &str) -> Option<AuditMark> {
        (self.head.seq > 0).then(|| AuditMark {
            log: self.id.clone(),
            controller: controller.to_owned(),
            last: self.head.seq,
            hash: self.head.hash.clone(),
            first: self.first,
        })
    }

    /// The last line's number; 0 before the first.
    pub(super) const fn last(&self) -> u64 {
        self.head.seq
    }

    /// Writes the lines and syncs them: after `Ok` with the first one's number they survive a loss of power. After an error
    /// they count as missed, and may be there all the same.
    pub(super) fn append(&mut self, unix: u64, entries: Vec<Entry>) -> Result<u64, AuditError> {
        let count = entries.len() as u64;
        let written = self.try_append(unix, entries);
        if written.is_err() {
            self.current = None;
            self.missed += count;
        }
        written.map_err(|error| self.failed(error))
    }

    /// As after a failure: the end is read again before the next line.
    #[cfg(test)]
    pub(super) fn forget_file(&mut self) {
        self.current = None;
    }

    fn try_append(&mut self, unix: u64, entries: Vec<Entry>) -> io::Result<u64> {
        if self.current.is_none() {
            self.find_end(unix)?;
        }
        let rotates = self
            .current
            .as_ref()
            .is_some_and(|current| current.bytes >= FILE_BYTES_MAX || current.day != unix / DAY_SECONDS);
        if rotates {
            self.current = None;
            self.prune(unix)?;
        }
        let first = self.head.seq + 1;
        self.write(unix, entries)?;
        Ok(first)
    }

    /// Writes at the end of the current file, or of a new one.
    fn write(&mut self, unix: u64, entries: Vec<Entry>) -> io::Result<()> {
        let (mut text, mut head, mut missed) = (String::new(), self.head.clone(), self.missed);
        let begins = text.len();
        for entry in entries {
            let (line, hash) = line::seal(head.seq + 1, unix, std::mem::take(&mut missed), &head.hash, entry);
            head = Head { seq: head.seq + 1, hash };
            text.push_str(&line);
            text.push('\n');
        }
        if text.len() == begins {
            return Ok(());
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin_file(unix)?,
        };
        let written = current.file.write_all(text.as_bytes()).and_then(|()| current.file.sync_data());
        if let Err(error) = written {
            // What is there of it was not done: on a full disk half a line would stand there until the next one.
            if let Err(error) = current.file.set_len(current.bytes) {
                tracing::warn!(%error, "an unfinished line stays at the end of the audit log");
            }
            return Err(error);
        }
        current.bytes += text.len() as u64;
        self.current = Some(current);
        (self.head, self.missed) = (head, 0);
        if let Some(syslog) = &mut self.syslog {
            text.lines().for_each(|line| syslog.send(unix, line));
        }
        Ok(())
    }

    /// A new file whose first line is the next one.
    fn begin_file(&self, unix: u64) -> io::Result<Current> {
        let path = self.keeping.directory.join(name(self.head.seq + 1));
        // An empty one is there when the first line of it could not be written.
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        files::sync_directory(&self.keeping.directory)?;
        Ok(Current { file, bytes: 0, day: unix / DAY_SECONDS })
    }

    /// Reads the last file for the end of the chain.
    fn find_end(&mut self, unix: u64) -> io::Result<()> {
        let files = files(&self.keeping.directory)?;
        let Some((_, last)) = files.last() else { return Ok(()) };
        self.first = files[0].0;
        let mut file = OpenOptions::new().read(true).append(true).open(last)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let cut = bytes.len() - whole;
        let text = String::from_utf8_lossy(&bytes[..whole]);
        if cut > 0 {
            file.set_len(whole as u64)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::End(0))?;
        let (mut head, mut day, mut bad) = (None, unix / DAY_SECONDS, None);
        for (number, one) in text.lines().enumerate() {
            match line::read(one) {
                Ok(link) => {
                    if number == 0 {
                        day = link.unix / DAY_SECONDS;
                    }
                    head = Some(Head { seq: link.seq, hash: link.hash });
                }
                Err(error) => {
                    bad.get_or_insert_with(|| format!("{}, line {}: {error}", last.display(), number + 1));
                }
            }
        }
        if let Some(head) = head {
            self.head = head;
        } else {
            // An empty file: the one before it has the end, and this one is written to.
            self.head = end_before(&files)?;
        }
        self.current = Some(Current { file, bytes: whole as u64, day });
        if cut > 0 || bad.is_some() {
            let mut entry = Entry::new(Event::Damaged, "controller", "the end of the audit log");
            entry.detail = Some(json!({ "cut_bytes": cut, "bad_line": bad }));
            tracing::error!(cut_bytes = cut, bad_line = ?bad, "the audit log does not end as it was written");
            self.write(unix, vec![entry])?;
        }
        Ok(())
    }

    /// Takes away files all of whose lines are older than is kept, after a line that says so.
    fn prune(&mut self, unix: u64) -> io::Result<()> {
        let files = files(&self.keeping.directory)?;
        let oldest_kept = unix.saturating_sub(self.keeping.retention_days * DAY_SECONDS);
        // The last one is never taken: it has the end of the chain.
        for pair in files.windows(2) {
            let [(first, path), (next, _)] = pair else { break };
            let text = text_of(path)?;
            let Some(last) = text.lines().rev().find_map(|one| line::read(one).ok()) else { break };
            if last.unix >= oldest_kept {
                break;
            }
            let mut entry = Entry::new(Event::Pruned, "controller", "older than audit_retention_days");
            entry.detail = Some(json!({ "first": first, "last": last.seq, "hash": last.hash }));
            self.write(unix, vec![entry])?;
            fs::remove_file(path)?;
            files::sync_directory(&self.keeping.directory)?;
            self.first = *next;
        }
        Ok(())
    }
}

/// What stands in a file. Bytes that are no text were not written by us; they make their line a bad one, and no more.
pub(super) fn text_of(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// The end of the chain before the last file, which is empty.
fn end_before(files: &[(u64, PathBuf)]) -> io::Result<Head> {
    let Some((_, path)) = files.len().checked_sub(2).and_then(|at| files.get(at)) else {
        return Ok(Head { seq: 0, hash: NO_HASH.to_owned() });
    };
    let text = text_of(path)?;
    let link = text.lines().rev().find_map(|one| line::read(one).ok());
    link.map(|link| Head { seq: link.seq, hash: link.hash })
        .ok_or_else(|| io::Error::other(format!("{} has no line that can be read", path.display())))
}

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.try_lock().map_err(|_| io::Error::other("another controller writes to it"))?;
    Ok(file)
}

/// The log's own id, made when there is none.
fn id(path: &Path) -> io::Result<String> {
    if let Some(id) = files::read_if_present(path).map_err(io::Error::other)? {
        return Ok(id.trim().to_owned());
    }
    let id = files::random_hex(16).map_err(io::Error::other)?;
    files::write_durably(path, format!("{id}\n").as_bytes()).map_err(io::Error::other)?;
    Ok(id)
}

fn name(first: u64) -> String {
    format!("audit-{first:012}.jsonl")
}

/// The files with the numbers of their first lines, in order.
pub(super) fn files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("audit-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(first) = number.and_then(|number| number.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}
