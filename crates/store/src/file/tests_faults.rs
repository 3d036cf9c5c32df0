//! The file store over a disk that fails, fills up and loses power, at every operation and at random.

use super::{
    FileLog, Note, open,
    sim_disk::{Dice, Fault, SimDisk},
};
use crate::{AppendError, Log, OpenError, SnapshotError};
use model::LogIndex;
use proptest::prelude::*;
use std::io::ErrorKind;

pub(super) const ID: &str = "0123456789abcdef0123456789abcdef";
/// Small, so that a few appends fill a segment.
pub(super) const SEGMENT: u64 = 200;

pub(super) fn open_on(disk: &SimDisk) -> Result<FileLog, OpenError> {
    open::open(disk.directory(), SEGMENT, || Some(ID.to_owned()))
}

/// A step of a run. Numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// An append of records of these sizes.
    Append(Vec<usize>),
    /// A snapshot this many records before the end.
    Snapshot(u64),
    Reopen,
}

/// What a caller was told, and hence may rely on.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    records: Vec<Vec<u8>>,
    /// An append whose outcome is open.
    open: Vec<Vec<u8>>,
    snapshot: u64,
    /// Snapshots that failed in a way that may have left them there.
    open_snapshots: Vec<u64>,
}

fn state(at: u64) -> Vec<u8> {
    format!("the state after record {at}").into_bytes()
}

impl Told {
    fn end(&self) -> u64 {
        self.records.len() as u64
    }

    /// Panics unless the log holds what was told and nothing else; then takes up what it decided.
    pub(super) fn check(&mut self, log: &FileLog) {
        let last = log.last().expect("not stopped").0;
        if last != self.end() {
            assert_eq!(last, self.end() + self.open.len() as u64, "an append is there whole or not at all");
            self.records.append(&mut self.open);
        }
        self.open.clear();
        let snapshot = log.latest_snapshot().expect("readable");
        let at = snapshot.as_ref().map_or(0, |(at, _)| at.0);
        assert!(at == self.snapshot || self.open_snapshots.contains(&at), "snapshot of {at}, told {self:?}");
        if let Some((_, found)) = snapshot {
            assert_eq!(found, state(at));
        }
        self.snapshot = at;
        self.open_snapshots.clear();
        let read = log.read(LogIndex(at + 1), usize::MAX).expect("readable");
        let expected: Vec<_> =
            (at + 1..).map(LogIndex).zip(self.records[at as usize..].iter().cloned()).collect();
        assert_eq!(read, expected);
    }

    fn append(&mut self, log: &mut FileLog, sizes: &[usize]) -> Result<(), OpenError> {
        let fill = (1..).map(|number| (self.end() + number) as u8);
        self.open = sizes.iter().zip(fill).map(|(size, fill)| vec![fill; *size]).collect();
        match log.append(LogIndex(self.end()), &self.open) {
            Ok(last) => {
                self.records.append(&mut self.open);
                assert_eq!(last.0, self.end());
            }
            Err(error) if error.nothing_added() => {
                assert!(matches!(error, AppendError::Io { .. } | AppendError::Full { .. }), "{error}");
                self.open.clear();
                self.check_running(log);
            }
            Err(_) => {
                assert!(log.last().is_err(), "an uncertain log says so");
                log.recover()?;
                self.check(log);
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, log: &mut FileLog, back: u64) {
        let at = self.end() - back % (self.end() - self.snapshot).max(1);
        match log.snapshot(LogIndex(at), &state(at)) {
            Ok(()) => self.snapshot = at,
            Err(SnapshotError::OutOfRange { .. }) => assert_eq!(at, 0),
            Err(error) => {
                assert!(matches!(error, SnapshotError::Io { .. } | SnapshotError::Full { .. }), "{error}");
                self.open_snapshots.push(at);
            }
        }
        self.check_running(log);
    }

    /// Like [`Self::check`], on a handle that does not look for the snapshot whose making failed.
    fn check_running(&mut self, log: &FileLog) {
        let open = std::mem::take(&mut self.open_snapshots);
        self.check(log);
        self.open_snapshots = open;
    }

    /// Runs the steps until one leaves no log to go on with.
    pub(super) fn run(&mut self, disk: &SimDisk, steps: &[Step]) -> Result<(), OpenError> {
        let mut log = open_on(disk)?;
        self.check(&log);
        for step in steps {
            match step {
                Step::Append(sizes) => self.append(&mut log, sizes)?,
                Step::Snapshot(back) => self.snapshot(&mut log, *back),
                Step::Reopen => {
                    drop(log);
                    log = open_on(disk)?;
                    self.check(&log);
                }
            }
        }
        Ok(())
    }
}

/// Meets everything the store does on disk: appends, segments begun, snapshots in the middle and at the end.
fn tour() -> Vec<Step> {
    let append = |sizes: &[usize]| Step::Append(sizes.to_vec());
    vec![
        append(&[10]),
        append(&[20, 0, 30]),
        Step::Snapshot(2),
        append(&[100]),
        append(&[150, 60]),
        append(&[5]),
        Step::Reopen,
        append(&[70]),
        Step::Snapshot(1),
        append(&[8]),
        Step::Snapshot(0),
        append(&[90]),
        Step::Reopen,
        append(&[9, 9]),
    ]
}

/// A cheap, repeatable dice.
pub(super) fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % below
    }
}

/// Loses power, opens, checks; and again with a second loss of power at each operation of that opening.
fn check_after_power_loss(disk: &SimDisk, told: &Told, dice: Dice) {
    let found = disk.after_power_loss(dice);
    let before = found.operations();
    let opened = found.copy();
    let mut expected = told.clone();
    let log = open_on(&opened).unwrap_or_else(|error| panic!("refused after a loss of power: {error}"));
    expected.check(&log);
    for operation in before + 1..=opened.operations() {
        let again = found.copy();
        again.lay(operation, Fault::Always(ErrorKind::Other));
        assert!(open_on(&again).is_err(), "opening went on over a dead disk");
        let mut expected = told.clone();
        expected.check(&open_on(&again.after_power_loss(dice)).expect("only a second loss of power"));
    }
}

#[test]
fn power_may_be_lost_at_every_operation() {
    let disk = SimDisk::default();
    Told::default().run(&disk, &tour()).expect("a sound disk");
    for operation in 1..=disk.operations() {
        for seed in 0..12 {
            let disk = SimDisk::default();
            disk.lay(operation, Fault::Always(ErrorKind::Other));
            let mut told = Told::default();
            // Over a dead disk the run ends when opening or recovering fails, or goes on in vain.
            let _ = told.run(&disk, &tour());
            check_after_power_loss(&disk, &told, &mut dice(operation * 100 + seed));
        }
    }
}

#[test]
fn every_operation_may_fail_once_or_for_a_while() {
    let disk = SimDisk::default();
    Told::default().run(&disk, &tour()).expect("a sound disk");
    for operation in 1..=disk.operations() {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            for fault in [Fault::Once(kind), Fault::Always(kind)] {
                let disk = SimDisk::default();
                disk.lay(operation, fault);
                let mut told = Told::default();
                let _ = told.run(&disk, &tour());
                disk.heal();
                // The process starts again over what the cache holds. Everything must go on from there, and be there
                // after a loss of power: at once, after one more append, after much more.
                for steps in [vec![], vec![Step::Append(vec![9])], tour()] {
                    told.run(&disk, &steps)
                        .unwrap_or_else(|error| panic!("{fault:?} at {operation}: {error}"));
                    for seed in 0..4 {
                        check_after_power_loss(&disk, &told, &mut dice(operation * 100 + seed));
                    }
                }
            }
        }
    }
}

#[test]
fn a_full_disk_leaves_the_log_readable_and_refuses_appends() {
    for room in 0..300 {
        let disk = SimDisk::default();
        let mut told = Told::default();
        told.run(&disk, &[Step::Append(vec![50]), Step::Append(vec![20, 20])]).expect("a sound disk");
        let used: usize = disk.names().iter().map(|name| disk.bytes(name).len()).sum();
        disk.limit(Some(used + room));
        let mut log = open_on(&disk).expect("opening needs no room");
        let record = vec![vec![1; 400]];
        let error = log.append(LogIndex(3), &record).expect_err("there is no room");
        assert!(matches!(error, AppendError::Full { .. }), "{error}");
        told.check(&log);
        assert!(matches!(log.snapshot(LogIndex(3), &[0; 400]), Err(SnapshotError::Full { .. })));
        told.check(&log);
        drop(log);
        let mut log = open_on(&disk).expect("opening needs no room");
        told.check(&log);
        disk.limit(None);
        assert_eq!(log.append(LogIndex(3), &record), Ok(LogIndex(4)), "room is all it takes");
    }
}

#[test]
fn compaction_without_room_is_told_and_made_up_for() {
    let disk = SimDisk::default();
    let mut told = Told::default();
    told.run(&disk, &[Step::Append(vec![50])]).expect("a sound disk");
    let mut log = open_on(&disk).expect("a sound log");
    let snapshot_operations = 6;
    disk.lay(disk.operations() + snapshot_operations + 1, Fault::Always(ErrorKind::StorageFull));
    log.snapshot(LogIndex(1), &state(1)).expect("the snapshot itself has room");
    assert!(log.take_notes().iter().any(|note| matches!(note, Note::CompactionPostponed { .. })));
    let error = log.append(LogIndex(1), &[vec![1]]).expect_err("no room for a new segment");
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    disk.heal();
    assert_eq!(log.append(LogIndex(1), &[vec![1]]), Ok(LogIndex(2)));
    drop(log);
    open_on(&disk).expect("a sound log");
    assert!(!disk.names().contains(&super::segment::segment_name(LogIndex(1))), "opening frees the space");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::collection::vec(0..150usize, 1..4).prop_map(Step::Append),
        2 => (0..5u64).prop_map(Step::Snapshot),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

fn fault() -> impl Strategy<Value = Fault> {
    let kind = prop_oneof![Just(ErrorKind::StorageFull), Just(ErrorKind::Other)];
    (any::<bool>(), kind).prop_map(|(once, kind)| if once { Fault::Once(kind) } else { Fault::Always(kind) })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Runs over failing disks and losses of power, one after the other on the same log: whatever was
    /// acknowledged stays, and whatever is there was appended.
    #[test]
    fn acknowledged_records_outlive_any_run(
        runs in prop::collection::vec((steps(), 1..60u64, fault(), any::<bool>(), any::<u64>()), 1..4)
    ) {
        let mut disk = SimDisk::default();
        let mut told = Told::default();
        for (steps, operation, fault, power_loss, seed) in runs {
            disk.lay(disk.operations() + operation, fault);
            let _ = told.run(&disk, &steps);
            disk.heal();
            if power_loss {
                disk = disk.after_power_loss(&mut dice(seed));
            }
            told.run(&disk, &[]).expect("no more than a crash happened");
        }
    }
}
