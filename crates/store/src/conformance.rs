//! The contract of [`Log`] as code, for the tests of every store: each check makes logs of its own and panics with
//! what was broken. Faults are not part of it; they differ between stores.

use crate::{APPEND_BYTES_MAX, APPEND_RECORDS_MAX, AppendError, Log, ReadError, SnapshotError, is_log_id};
use model::LogIndex;

/// What one handle on a log of its own owes its caller. `make` gives a new, empty log each time.
pub fn run(mut make: impl FnMut() -> Box<dyn Log>) {
    empty_log(&mut *make());
    appends_number_the_records(&mut *make());
    a_wrong_index_is_a_conflict(&mut *make());
    limits_hold(&mut *make());
    reads_keep_to_their_bytes(&mut *make());
    reads_beyond_the_end_are_refused(&mut *make());
    snapshots_replace_records(&mut *make());
    snapshots_outside_the_log_are_refused(&mut *make());
    recover_changes_nothing_on_a_sound_log(&mut *make());
}

/// What is still there when a log is opened again. `make` gives an opener of one new log each time; no two handles
/// are held at once.
pub fn run_reopened<Open: FnMut() -> Box<dyn Log>>(mut make: impl FnMut() -> Open) {
    nothing_is_forgotten(make());
    snapshots_stay(make());
}

/// What two handles on the same log owe their callers. `make` gives a new, empty log each time.
pub fn run_shared(mut make: impl FnMut() -> (Box<dyn Log>, Box<dyn Log>)) {
    one_of_two_writers_wins(make());
    a_snapshot_counts_for_all(make());
}

fn record(number: u64) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

/// Appends records numbered by their index, so that a reader can tell them apart.
fn append(log: &mut dyn Log, count: u64) -> LogIndex {
    let last = log.last().expect("last index");
    let records: Vec<_> = (1..=count).map(|number| record(last.0 + number)).collect();
    log.append(last, &records).expect("append at the last index")
}

#[track_caller]
fn expect_records(log: &dyn Log, from: u64, to: u64) {
    let expected: Vec<_> = (from..=to).map(|index| (LogIndex(index), record(index))).collect();
    assert_eq!(log.read(LogIndex(from), usize::MAX).expect("readable"), expected);
}

fn empty_log(log: &mut dyn Log) {
    assert_eq!(log.last(), Ok(LogIndex(0)));
    assert_eq!(log.read(LogIndex(1), 100), Ok(Vec::new()));
    assert_eq!(log.read(LogIndex(0), 100), Ok(Vec::new()));
    assert_eq!(log.latest_snapshot(), Ok(None));
    assert!(is_log_id(&log.log_id()), "the id is 32 hex digits");
    assert_eq!(log.append(LogIndex(0), &[]), Ok(LogIndex(0)), "an append of nothing is a check");
}

fn appends_number_the_records(log: &mut dyn Log) {
    assert_eq!(log.append(LogIndex(0), &[record(1)]), Ok(LogIndex(1)));
    assert_eq!(log.append(LogIndex(1), &[record(2), record(3), record(4)]), Ok(LogIndex(4)));
    assert_eq!(log.append(LogIndex(4), &[Vec::new()]), Ok(LogIndex(5)), "an empty record is a record");
    assert_eq!(log.last(), Ok(LogIndex(5)));
    let all: Vec<_> =
        (1..=4).map(record).chain([Vec::new()]).zip(1..).map(|(r, i)| (LogIndex(i), r)).collect();
    assert_eq!(log.read(LogIndex(1), usize::MAX).as_ref(), Ok(&all));
    assert_eq!(log.read(LogIndex(0), usize::MAX).as_ref(), Ok(&all));
    assert_eq!(log.read(LogIndex(3), usize::MAX).expect("in the middle of an append"), all[2..]);
}

fn a_wrong_index_is_a_conflict(log: &mut dyn Log) {
    append(log, 3);
    for expected in [0, 2, 4, u64::MAX].map(LogIndex) {
        let conflict = Err(AppendError::Conflict { expected, actual: LogIndex(3) });
        assert_eq!(log.append(expected, &[record(9)]), conflict);
        assert_eq!(log.append(expected, &[]), conflict);
    }
    expect_records(log, 1, 3);
}

fn limits_hold(log: &mut dyn Log) {
    let largest = vec![7; APPEND_BYTES_MAX];
    assert_eq!(log.append(LogIndex(0), std::slice::from_ref(&largest)), Ok(LogIndex(1)));
    let refused = log.append(LogIndex(1), &[largest.clone(), vec![7]]);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    let refused = log.append(LogIndex(1), &vec![Vec::new(); APPEND_RECORDS_MAX + 1]);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    let many = log.append(LogIndex(1), &vec![Vec::new(); APPEND_RECORDS_MAX]);
    assert_eq!(many, Ok(LogIndex(1 + APPEND_RECORDS_MAX as u64)));
    assert_eq!(log.read(LogIndex(1), 0), Ok(vec![(LogIndex(1), largest)]));
}

fn reads_keep_to_their_bytes(log: &mut dyn Log) {
    log.append(LogIndex(0), &[vec![1; 10], vec![2; 10]]).expect("append");
    log.append(LogIndex(2), &[vec![3; 10]]).expect("append");
    for (bytes_max, count) in [(0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (31, 3)] {
        let read = log.read(LogIndex(1), bytes_max).expect("readable");
        assert_eq!(read.len(), count, "records within {bytes_max} bytes");
    }
    assert_eq!(log.read(LogIndex(2), 20).expect("readable").len(), 2);
}

fn reads_beyond_the_end_are_refused(log: &mut dyn Log) {
    append(log, 2);
    assert_eq!(log.read(LogIndex(3), 100), Ok(Vec::new()), "one past the end is where a reader waits");
    for from in [4, u64::MAX].map(LogIndex) {
        assert_eq!(log.read(from, 100), Err(ReadError::BeyondEnd { from, last: LogIndex(2) }));
    }
}

fn snapshots_replace_records(log: &mut dyn Log) {
    append(log, 5);
    append(log, 5);
    for (at, state) in [(3, "three"), (3, "three again"), (5, "five"), (10, "ten")] {
        log.snapshot(LogIndex(at), state.as_bytes()).expect("a snapshot within the log");
        assert_eq!(log.latest_snapshot(), Ok(Some((LogIndex(at), state.as_bytes().to_vec()))));
        assert_eq!(log.last(), Ok(LogIndex(10)), "compaction does not lower the last index");
        for from in [0, 1, at].map(LogIndex) {
            let compacted = ReadError::Compacted { from: from.max(LogIndex(1)), snapshot: LogIndex(at) };
            assert_eq!(log.read(from, 100), Err(compacted));
        }
        expect_records(log, at + 1, 10);
    }
    append(log, 2);
    expect_records(log, 11, 12);
    log.snapshot(LogIndex(11), b"").expect("an empty state is a state");
    assert_eq!(log.latest_snapshot(), Ok(Some((LogIndex(11), Vec::new()))));
    expect_records(log, 12, 12);
}

fn snapshots_outside_the_log_are_refused(log: &mut dyn Log) {
    let outside = |at, last| Err(SnapshotError::OutOfRange { at: LogIndex(at), last: LogIndex(last) });
    assert_eq!(log.snapshot(LogIndex(0), b"x"), outside(0, 0));
    append(log, 4);
    assert_eq!(log.snapshot(LogIndex(0), b"x"), outside(0, 4));
    assert_eq!(log.snapshot(LogIndex(5), b"x"), outside(5, 4));
    log.snapshot(LogIndex(3), b"kept").expect("within the log");
    let older = Err(SnapshotError::Older { at: LogIndex(2), latest: LogIndex(3) });
    assert_eq!(log.snapshot(LogIndex(2), b"x"), older);
    assert_eq!(log.latest_snapshot(), Ok(Some((LogIndex(3), b"kept".to_vec()))));
}

fn recover_changes_nothing_on_a_sound_log(log: &mut dyn Log) {
    assert_eq!(log.recover(), Ok(LogIndex(0)));
    append(log, 2);
    assert_eq!(log.recover(), Ok(LogIndex(2)));
    append(log, 1);
    expect_records(log, 1, 3);
}

fn nothing_is_forgotten(mut open: impl FnMut() -> Box<dyn Log>) {
    let id = open().log_id();
    for round in 0..4 {
        let mut log = open();
        assert_eq!(log.log_id(), id, "the id is for life");
        assert_eq!(log.last(), Ok(LogIndex(round * 3)));
        append(&mut *log, 1);
        append(&mut *log, 2);
    }
    let log = open();
    expect_records(&*log, 1, 12);
}

fn snapshots_stay(mut open: impl FnMut() -> Box<dyn Log>) {
    append(&mut *open(), 6);
    open().snapshot(LogIndex(4), b"four").expect("within the log");
    {
        let mut log = open();
        assert_eq!(log.latest_snapshot(), Ok(Some((LogIndex(4), b"four".to_vec()))));
        assert_eq!(
            log.read(LogIndex(4), 9),
            Err(ReadError::Compacted { from: LogIndex(4), snapshot: LogIndex(4) })
        );
        expect_records(&*log, 5, 6);
        log.snapshot(LogIndex(6), b"six").expect("within the log");
    }
    let mut log = open();
    assert_eq!(log.last(), Ok(LogIndex(6)), "a log of nothing but a snapshot knows its end");
    append(&mut *log, 1);
    expect_records(&*log, 7, 7);
}

fn one_of_two_writers_wins((mut one, mut two): (Box<dyn Log>, Box<dyn Log>)) {
    assert_eq!(one.log_id(), two.log_id());
    assert_eq!(one.append(LogIndex(0), &[record(1)]), Ok(LogIndex(1)));
    let conflict = Err(AppendError::Conflict { expected: LogIndex(0), actual: LogIndex(1) });
    assert_eq!(two.append(LogIndex(0), &[record(9)]), conflict);
    expect_records(&*two, 1, 1);
    assert_eq!(two.append(LogIndex(1), &[record(2)]), Ok(LogIndex(2)));
    expect_records(&*one, 1, 2);
}

fn a_snapshot_counts_for_all((mut one, mut two): (Box<dyn Log>, Box<dyn Log>)) {
    append(&mut *one, 3);
    two.snapshot(LogIndex(2), b"two").expect("within the log");
    assert_eq!(one.latest_snapshot(), Ok(Some((LogIndex(2), b"two".to_vec()))));
    let compacted = Err(ReadError::Compacted { from: LogIndex(1), snapshot: LogIndex(2) });
    assert_eq!(one.read(LogIndex(1), 9), compacted);
    let older = Err(SnapshotError::Older { at: LogIndex(1), latest: LogIndex(2) });
    assert_eq!(one.snapshot(LogIndex(1), b"one"), older);
}
