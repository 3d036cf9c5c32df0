//! A disk in memory for tests: it fills up, fails at a chosen operation and loses power, as adversarially as real
//! ones may. What was synced stays; of what was not, any part may survive a loss of power.

use super::disk::{Directory, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

/// How the disk behaves at and after the operation a fault is laid on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// That operation fails, a write after half of its bytes.
    Once(io::ErrorKind),
    /// So do all later ones, until [`SimDisk::heal`].
    Always(io::ErrorKind),
}

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// In the order of the journal: a prefix of them survives.
    pending_names: Vec<NameChange>,
    /// Changing operations so far: writes, truncations, syncs, creations, renames, removals.
    operations: u64,
    fault: Option<(u64, Fault)>,
    /// Bytes of all files together, when limited.
    capacity: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    seen: Vec<u8>,
    /// What certainly lies on the disk, but for the changes after it.
    base: Vec<u8>,
    changes: Vec<(Change, Fate)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not synced yet.
    Pending,
    Durable,
    /// Its sync failed: it may be on the disk, and no later sync writes it.
    Unsure,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
}

/// The caller's dice for what survives: each call gives a number below its argument.
pub(super) type Dice<'a> = &'a mut dyn FnMut(usize) -> usize;

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    pub(super) fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(self.clone())
    }

    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(super) fn lay(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    pub(super) fn limit(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    pub(super) fn heal(&self) {
        self.state().fault = None;
    }

    /// A disk of its own with the same contents, all of them durable.
    pub(super) fn copy(&self) -> Self {
        let mut state = self.state().clone();
        for contents in &mut state.files {
            contents.base.clone_from(&contents.seen);
            contents.changes.clear();
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        state.fault = None;
        Self(Arc::new(Mutex::new(state)))
    }

    /// A disk of its own, as this one may be found after a loss of power right now.
    pub(super) fn after_power_loss(&self, dice: Dice) -> Self {
        let mut state = self.state().clone();
        let survive = dice(state.pending_names.len() + 1);
        for change in state.pending_names.drain(..).take(survive) {
            change.apply(&mut state.durable_names);
        }
        for contents in &mut state.files {
            for (change, fate) in std::mem::take(&mut contents.changes) {
                if fate == Fate::Durable {
                    change.apply(&mut contents.base);
                } else {
                    change.survive(&mut contents.base, dice);
                }
            }
            contents.seen.clone_from(&contents.base);
        }
        state.names = state.durable_names.clone();
        state.fault = None;
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[name]].seen.clone()
    }

    /// Puts a file there as if it had always been.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        state.files.push(Contents { seen: bytes.to_vec(), base: bytes.to_vec(), changes: Vec::new() });
        let number = state.files.len() - 1;
        state.names.insert(name.to_owned(), number);
        state.durable_names.insert(name.to_owned(), number);
    }

    /// Flips one bit of a file, under the hands of whoever has it open.
    pub(super) fn corrupt(&self, name: &str, offset: usize) {
        let mut state = self.state();
        let number = state.names[name];
        state.files[number].seen[offset] ^= 1;
    }

    pub(super) fn take(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.durable_names.remove(name);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, number) => names.insert(name.clone(), *number),
            Self::Unlink(name) => names.remove(name),
        };
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Truncate(len) => bytes.resize(*len, 0),
        }
    }

    /// Applies what a loss of power leaves of this change: all, nothing, a part, or a grown file full of zeros.
    fn survive(&self, bytes: &mut Vec<u8>, dice: Dice) {
        match (self, dice(4)) {
            (_, 0) => {}
            (Self::Write(offset, written), 1) => {
                Self::Write(*offset, written[..dice(written.len() + 1)].to_vec()).apply(bytes);
            }
            (Self::Write(offset, written), 2) if offset + written.len() > bytes.len() => {
                bytes.resize(offset + written.len(), 0);
                let from = dice(written.len() + 1);
                Self::Write(offset + from, written[from..].to_vec()).apply(bytes);
            }
            _ => self.apply(bytes),
        }
    }
}

impl State {
    /// Counts one operation and says whether it fails.
    fn begin(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Once(kind))) if at == self.operations => Err(kind.into()),
            Some((at, Fault::Always(kind))) if at <= self.operations => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    fn number(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> usize {
        self.names.values().map(|number| self.files[*number].seen.len()).sum()
    }
}

impl Directory for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SimFile { disk: self.clone(), number: self.state().number(name)? }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.begin()?;
        state.files.push(Contents::default());
        let number = state.files.len() - 1;
        state.rename(NameChange::Link(name.to_owned(), number));
        Ok(Box::new(SimFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        let number = state.number(from)?;
        state.rename(NameChange::Link(to.to_owned(), number));
        state.rename(NameChange::Unlink(from.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.number(name)?;
        state.rename(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.pending_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/log").join(name)
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    number: usize,
}

impl SimFile {
    fn change(&self, state: &mut State, change: Change) {
        let contents = &mut state.files[self.number];
        change.apply(&mut contents.seen);
        contents.changes.push((change, Fate::Pending));
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.number].seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = state.files[self.number].seen.get(offset as usize..).unwrap_or_default();
        // Short reads are the rule here, so that nobody relies on long ones.
        let len = buffer.len().min(bytes.len()).min(1000);
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let (failed, mut len) = match state.begin() {
            Ok(()) => (None, bytes.len()),
            Err(error) => (Some(error), bytes.len() / 2),
        };
        if let Some(capacity) = state.capacity {
            let grown = (offset as usize + len).saturating_sub(state.files[self.number].seen.len());
            len -= grown.saturating_sub(capacity.saturating_sub(state.used())).min(len);
        }
        if len > 0 {
            self.change(&mut state, Change::Write(offset as usize, bytes[..len].to_vec()));
        }
        match failed {
            Some(error) => Err(error),
            None if len == 0 => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(len),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin()?;
        self.change(&mut state, Change::Truncate(len as usize));
        Ok(())
    }

    /// A sync that fails leaves what was written readable but will not write it again, as Linux does.
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.begin();
        let becomes = if result.is_ok() { Fate::Durable } else { Fate::Unsure };
        for (_, fate) in &mut state.files[self.number].changes {
            if *fate == Fate::Pending {
                *fate = becomes;
            }
        }
        result
    }
}
