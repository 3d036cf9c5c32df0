//! The control log in memory, for the simulator and for tests: several handles on one log, and faults on demand or
//! by seeded chance. No file, clock or thread; the same calls give the same answers.
//!
//! The log is as strict as the file store: after an append with unknown outcome a handle is stopped until recovered.

use crate::{
    AppendError, Log, OpenError, ReadError, SnapshotError, check_append, check_read, check_snapshot,
    is_log_id,
};
use model::LogIndex;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Something that goes wrong once. Each waits for the next operation it can befall, whichever handle that comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An append is refused; nothing is added.
    AppendFails,
    /// An append is refused for want of space; nothing is added.
    AppendFull,
    /// An append is added, but its outcome is reported as unknown.
    UnknownApplied,
    /// An append is not added, and its outcome is reported as unknown.
    UnknownLost,
    /// Another writer's records come first, so the append meets a conflict.
    Overtaken(Vec<Vec<u8>>),
    /// A read of records, of the last index or of the snapshot fails.
    ReadFails,
    /// A snapshot is refused; the log stays as it is.
    SnapshotFails,
}

/// How often things go wrong by chance, each per thousand operations it can befall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    pub append_fails: u16,
    pub append_full: u16,
    pub unknown_applied: u16,
    pub unknown_lost: u16,
    pub overtaken: u16,
    /// What the other writer appends when an append is overtaken.
    pub overtaken_by: Vec<u8>,
    pub read_fails: u16,
    pub snapshot_fails: u16,
}

/// One log in memory, and the faults laid on it. Clones are the same log.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    log_id: String,
}

/// A client's handle on a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryLog {
    shared: Arc<Mutex<Shared>>,
    log_id: String,
    client: u64,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Shared {
    records: BTreeMap<LogIndex, Vec<u8>>,
    last: LogIndex,
    snapshot: Option<(LogIndex, Vec<u8>)>,
    append_faults: VecDeque<Fault>,
    read_faults: u32,
    snapshot_faults: u32,
    rates: FaultRates,
    random: u64,
    cut_off: BTreeSet<u64>,
}

const INJECTED: &str = "injected fault";
const CUT_OFF: &str = "the log cannot be reached";

impl MemoryStore {
    /// An empty log without faults. The id must be 32 lower-case hex digits.
    pub fn new(log_id: &str) -> Result<Self, OpenError> {
        if !is_log_id(log_id) {
            return Err(OpenError::InvalidLogId { id: log_id.to_owned() });
        }
        Ok(Self { shared: Arc::default(), log_id: log_id.to_owned() })
    }

    /// A handle for `client`, a number by which [`Self::cut_off`] knows it.
    pub fn handle(&self, client: u64) -> MemoryLog {
        MemoryLog { shared: Arc::clone(&self.shared), log_id: self.log_id.clone(), client, stopped: false }
    }

    /// Lays one fault on the next operation it can befall; several append faults come in the order they were laid.
    pub fn inject(&self, fault: Fault) {
        let mut shared = lock(&self.shared);
        match fault {
            Fault::ReadFails => shared.read_faults += 1,
            Fault::SnapshotFails => shared.snapshot_faults += 1,
            fault => shared.append_faults.push_back(fault),
        }
    }

    /// From now on faults come by chance, too, the same ones for the same seed and calls.
    pub fn set_rates(&self, rates: FaultRates, seed: u64) {
        let mut shared = lock(&self.shared);
        shared.rates = rates;
        shared.random = seed;
    }

    /// Ends all faults, those laid and not yet met included, and every client reaches the log again.
    pub fn end_faults(&self) {
        let mut shared = lock(&self.shared);
        shared.append_faults.clear();
        shared.read_faults = 0;
        shared.snapshot_faults = 0;
        shared.rates = FaultRates::default();
        shared.cut_off.clear();
    }

    /// Whether all handles of `client` are cut off from the log: everything they ask for fails, nothing is applied.
    pub fn cut_off(&self, client: u64, cut_off: bool) {
        let mut shared = lock(&self.shared);
        if cut_off {
            shared.cut_off.insert(client);
        } else {
            shared.cut_off.remove(&client);
        }
    }
}

/// Nothing panics while it holds this lock, so a poisoned one says nothing about the log.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether an event of `per_mille` chances in a thousand befalls; one step of splitmix64 for every question
    /// that is open, so that switching a rate off does not shift the others within one operation.
    fn chance(&mut self, per_mille: u16) -> bool {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % 1000 < u64::from(per_mille)
    }

    fn append_fault(&mut self) -> Option<Fault> {
        let rates = [
            (self.rates.append_fails, Fault::AppendFails),
            (self.rates.append_full, Fault::AppendFull),
            (self.rates.unknown_applied, Fault::UnknownApplied),
            (self.rates.unknown_lost, Fault::UnknownLost),
            (self.rates.overtaken, Fault::Overtaken(vec![self.rates.overtaken_by.clone()])),
        ];
        let mut by_chance = None;
        for (rate, fault) in rates {
            if self.chance(rate) && by_chance.is_none() {
                by_chance = Some(fault);
            }
        }
        self.append_faults.pop_front().or(by_chance)
    }

    fn read_fault(&mut self) -> bool {
        let by_chance = self.chance(self.rates.read_fails);
        let laid = self.read_faults > 0;
        self.read_faults -= u32::from(laid);
        laid || by_chance
    }

    fn snapshot_fault(&mut self) -> bool {
        let by_chance = self.chance(self.rates.snapshot_fails);
        let laid = self.snapshot_faults > 0;
        self.snapshot_faults -= u32::from(laid);
        laid || by_chance
    }

    fn push(&mut self, records: &[Vec<u8>]) {
        for record in records {
            self.last = self.last.next();
            self.records.insert(self.last, record.clone());
        }
    }

    fn snapshot_index(&self) -> LogIndex {
        self.snapshot.as_ref().map_or(LogIndex(0), |(at, _)| *at)
    }
}

impl MemoryLog {
    /// The log for reading, unless something stands in the way.
    fn readable(&self) -> Result<MutexGuard<'_, Shared>, ReadError> {
        if self.stopped {
            return Err(ReadError::Stopped { detail: INJECTED.to_owned() });
        }
        let mut shared = lock(&self.shared);
        if shared.cut_off.contains(&self.client) {
            return Err(ReadError::Io { detail: CUT_OFF.to_owned() });
        }
        if shared.read_fault() {
            return Err(ReadError::Io { detail: INJECTED.to_owned() });
        }
        Ok(shared)
    }
}

impl Log for MemoryLog {
    fn append(&mut self, expected: LogIndex, records: &[Vec<u8>]) -> Result<LogIndex, AppendError> {
        let detail = INJECTED.to_owned();
        if self.stopped {
            return Err(AppendError::Stopped { detail });
        }
        let mut shared = lock(&self.shared);
        if shared.cut_off.contains(&self.client) {
            return Err(AppendError::Io { detail: CUT_OFF.to_owned() });
        }
        let fault = shared.append_fault();
        match &fault {
            Some(Fault::AppendFails) => return Err(AppendError::Io { detail }),
            Some(Fault::AppendFull) => return Err(AppendError::Full { detail }),
            Some(Fault::Overtaken(by)) => shared.push(by),
            _ => {}
        }
        check_append(expected, shared.last, records)?;
        if fault != Some(Fault::UnknownLost) {
            shared.push(records);
        }
        if matches!(fault, Some(Fault::UnknownLost | Fault::UnknownApplied)) {
            self.stopped = true;
            return Err(AppendError::Unknown { detail });
        }
        Ok(shared.last)
    }

    fn read(&self, from: LogIndex, bytes_max: usize) -> Result<Vec<(LogIndex, Vec<u8>)>, ReadError> {
        let shared = self.readable()?;
        let from = check_read(from, shared.last, shared.snapshot_index())?;
        let mut bytes = 0;
        let mut records = Vec::new();
        for (index, record) in shared.records.range(from..) {
            bytes += record.len();
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push((*index, record.clone()));
        }
        Ok(records)
    }

    fn last(&self) -> Result<LogIndex, ReadError> {
        Ok(self.readable()?.last)
    }

    fn snapshot(&mut self, at: LogIndex, state: &[u8]) -> Result<(), SnapshotError> {
        if self.stopped {
            return Err(SnapshotError::Stopped { detail: INJECTED.to_owned() });
        }
        let mut shared = lock(&self.shared);
        if shared.cut_off.contains(&self.client) {
            return Err(SnapshotError::Io { detail: CUT_OFF.to_owned() });
        }
        if shared.snapshot_fault() {
            return Err(SnapshotError::Io { detail: INJECTED.to_owned() });
        }
        check_snapshot(at, shared.last, shared.snapshot_index(), state.len())?;
        shared.snapshot = Some((at, state.to_vec()));
        shared.records = shared.records.split_off(&at.next());
        Ok(())
    }

    fn latest_snapshot(&self) -> Result<Option<(LogIndex, Vec<u8>)>, ReadError> {
        Ok(self.readable()?.snapshot.clone())
    }

    fn recover(&mut self) -> Result<LogIndex, OpenError> {
        let mut shared = lock(&self.shared);
        let failed = if shared.cut_off.contains(&self.client) {
            Some(CUT_OFF)
        } else if shared.read_fault() {
            Some(INJECTED)
        } else {
            None
        };
        if let Some(detail) = failed {
            let path = PathBuf::from(format!("log {}", self.log_id));
            return Err(OpenError::Io { path, action: "recover", detail: detail.to_owned() });
        }
        self.stopped = false;
        Ok(shared.last)
    }

    fn log_id(&self) -> String {
        self.log_id.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    const ID: &str = "00000000000000000000000000000001";

    fn store() -> MemoryStore {
        MemoryStore::new(ID).expect("a valid id")
    }

    fn all(log: &MemoryLog) -> Vec<Vec<u8>> {
        log.read(LogIndex(1), usize::MAX).expect("readable").into_iter().map(|(_, record)| record).collect()
    }

    #[test]
    fn keeps_the_contract() {
        conformance::run(|| Box::new(store().handle(0)));
        conformance::run_reopened(|| {
            let store = store();
            move || Box::new(store.handle(0))
        });
        conformance::run_shared(|| {
            let store = store();
            (Box::new(store.handle(0)), Box::new(store.handle(1)))
        });
    }

    #[test]
    fn keeps_the_contract_once_faults_have_ended() {
        conformance::run(|| {
            let store = store();
            store.set_rates(FaultRates { append_fails: 1000, read_fails: 1000, ..FaultRates::default() }, 1);
            store.inject(Fault::UnknownApplied);
            store.cut_off(0, true);
            let mut log = store.handle(0);
            assert!(log.append(LogIndex(0), &[vec![1]]).is_err());
            store.end_faults();
            Box::new(log)
        });
    }

    #[test]
    fn each_fault_does_what_it_says_once() {
        let store = store();
        let mut log = store.handle(0);
        let mut last = LogIndex(0);
        for (fault, full) in [(Fault::AppendFails, false), (Fault::AppendFull, true)] {
            store.inject(fault);
            let error = log.append(last, &[vec![1]]).expect_err("refused");
            assert_eq!(matches!(error, AppendError::Full { .. }), full);
            assert!(error.nothing_added() && log.last() == Ok(last));
            last = log.append(last, &[vec![2]]).expect("only once");
        }
        for (fault, added) in [(Fault::UnknownLost, 0), (Fault::UnknownApplied, 1)] {
            store.inject(fault);
            let error = log.append(last, &[vec![3]]).expect_err("unknown");
            assert!(!error.nothing_added());
            assert!(matches!(log.append(last, &[vec![4]]), Err(AppendError::Stopped { .. })));
            assert!(matches!(log.last(), Err(ReadError::Stopped { .. })));
            assert!(matches!(log.snapshot(last, b""), Err(SnapshotError::Stopped { .. })));
            assert_eq!(log.recover(), Ok(LogIndex(last.0 + added)));
            last = log.last().expect("recovered");
        }
        store.inject(Fault::Overtaken(vec![vec![5], vec![6]]));
        assert_eq!(
            log.append(last, &[vec![7]]),
            Err(AppendError::Conflict { expected: last, actual: LogIndex(last.0 + 2) })
        );
        assert_eq!(all(&log), [vec![2], vec![2], vec![3], vec![5], vec![6]]);
        store.inject(Fault::ReadFails);
        assert!(log.read(LogIndex(1), 9).is_err() && log.read(LogIndex(1), 9).is_ok());
        store.inject(Fault::SnapshotFails);
        assert!(log.snapshot(LogIndex(1), b"").is_err() && log.latest_snapshot() == Ok(None));
        assert_eq!(log.snapshot(LogIndex(1), b""), Ok(()));
    }

    #[test]
    fn a_client_can_be_cut_off_while_another_goes_on() {
        let store = store();
        let (mut near, mut far) = (store.handle(0), store.handle(1));
        store.cut_off(1, true);
        assert!(
            far.append(LogIndex(0), &[vec![1]]).is_err() && far.last().is_err() && far.recover().is_err()
        );
        assert_eq!(near.append(LogIndex(0), &[vec![2]]), Ok(LogIndex(1)));
        store.cut_off(1, false);
        assert_eq!(all(&far), [vec![2]]);
    }

    #[test]
    fn chance_repeats_with_its_seed_and_differs_between_seeds() {
        let run = |seed: u64| {
            let store = store();
            let rates = FaultRates {
                append_fails: 100,
                append_full: 100,
                unknown_applied: 100,
                unknown_lost: 100,
                overtaken: 100,
                overtaken_by: vec![9],
                read_fails: 100,
                snapshot_fails: 100,
            };
            store.set_rates(rates, seed);
            let mut log = store.handle(0);
            let mut answers = Vec::new();
            for number in 0..200u8 {
                let last = log.recover().or_else(|_| log.recover()).unwrap_or_default();
                answers.push(format!("{:?}", log.append(last, &[vec![number]])));
                answers.push(format!("{:?}", log.snapshot(last, &[number]).is_ok()));
            }
            store.end_faults();
            log.recover().expect("no faults any more");
            answers.push(format!("{:?}", log.latest_snapshot()));
            answers
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        for name in ["Io", "Full", "Unknown", "Conflict", "Ok"] {
            assert!(run(7).iter().any(|answer| answer.contains(name)), "{name} never happened");
        }
    }
}
