//! Damage at rest, bit by bit: what was acknowledged is there unchanged, or the log is refused.

use super::{
    FileLog, Note,
    format::{FRAME_HEAD_LEN, Kind, encode_frame, encode_header},
    mark::MARK,
    segment::segment_name,
    sim_disk::SimDisk,
    snapshot::snapshot_name,
    tests_faults::{ID, Step, Told, open_on},
};
use crate::{Log, OpenError, ReadError};
use model::LogIndex;
use proptest::prelude::*;
use proptest::sample::Index;

/// A log with a snapshot of record 3, a segment from record 2 and one from record 6 with the last of seven records.
fn filled() -> (SimDisk, Told) {
    let append = |sizes: &[usize]| Step::Append(sizes.to_vec());
    let steps = [
        append(&[200]),
        append(&[20, 0]),
        append(&[100, 30]),
        append(&[40]),
        Step::Snapshot(3),
        append(&[25]),
    ];
    let disk = SimDisk::default();
    let mut told = Told::default();
    told.run(&disk, &steps).expect("a sound disk");
    assert_eq!(
        disk.names(),
        [MARK.to_owned(), segment_name(LogIndex(2)), segment_name(LogIndex(6)), snapshot_name(LogIndex(3))]
    );
    (disk, told)
}

/// The log after `change` to one of its files, opened; all that was told must be there if it opens.
fn open_changed(
    disk: &SimDisk,
    told: &Told,
    name: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<Vec<Note>, OpenError> {
    let changed = disk.copy();
    let mut bytes = disk.bytes(name);
    change(&mut bytes);
    changed.put(name, &bytes);
    let opened = open_on(&changed);
    if let Err(error) = &opened {
        assert!(matches!(error, OpenError::Damaged(_)), "{name}: {error}");
        for other in disk.names() {
            let expected = if other == name { bytes.clone() } else { disk.bytes(&other) };
            assert_eq!(changed.bytes(&other), expected, "a refused log is left as it is");
        }
    }
    let mut log = opened?;
    told.clone().check(&log);
    Ok(log.take_notes())
}

fn flip(bit: usize) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes[bit / 8] ^= 1 << (bit % 8)
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let (disk, told) = filled();
    for name in disk.names() {
        let bits = disk.bytes(&name).len() * 8;
        for bit in 0..bits {
            let opened = open_changed(&disk, &told, &name, flip(bit));
            if name == MARK {
                let notes = opened.expect("the other slot is sound");
                let in_slot = !(56 * 8..4096 * 8).contains(&bit);
                assert_eq!(notes.iter().any(|note| matches!(note, Note::MarkRenewed { .. })), in_slot);
            } else {
                assert!(opened.is_err(), "{name}: bit {bit} went unseen");
            }
        }
    }
}

#[test]
fn every_cut_is_refused_or_harmless() {
    let (disk, told) = filled();
    for name in disk.names() {
        for len in 0..disk.bytes(&name).len() {
            let opened = open_changed(&disk, &told, &name, |bytes| bytes.truncate(len));
            assert!(opened.is_err() || (name == MARK && len >= 56), "{name} cut to {len} bytes went unseen");
        }
    }
}

#[test]
fn every_missing_file_is_refused() {
    let (disk, _) = filled();
    for name in disk.names() {
        let changed = disk.copy();
        changed.take(&name);
        let error = open_on(&changed).expect_err("a file is missing");
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
}

#[test]
fn overwritten_stretches_and_foreign_ends_are_refused_or_cut() {
    let (disk, told) = filled();
    let last = segment_name(LogIndex(6));
    for name in disk.names().into_iter().filter(|name| name != MARK) {
        let len = disk.bytes(&name).len();
        for from in 0..len {
            for (fill, stretch) in [(0, 8), (0xff, 8), (0, 64), (0x5a, 512)] {
                let to = len.min(from + stretch);
                let unchanged = disk.bytes(&name)[from..to].iter().all(|byte| *byte == fill);
                let opened = open_changed(&disk, &told, &name, |bytes| bytes[from..to].fill(fill));
                assert_eq!(opened.is_ok(), unchanged, "{name} from {from} to {to}");
            }
        }
        for end in [vec![0; 30], vec![7; 5000]] {
            let opened = open_changed(&disk, &told, &name, |bytes| bytes.extend_from_slice(&end));
            assert_eq!(opened.is_ok(), name == last, "only the last file may have the remains of an append");
        }
    }
}

/// The log with an eighth record whose append was never acknowledged, and where its frame lies.
fn with_unacknowledged() -> (SimDisk, Told, String, std::ops::Range<usize>) {
    let (disk, told) = filled();
    let name = segment_name(LogIndex(6));
    let mut bytes = disk.bytes(&name);
    let start = bytes.len();
    bytes.extend_from_slice(&encode_frame(LogIndex(8), &[vec![8; 50]]).1);
    disk.put(&name, &bytes);
    (disk, told, name, start..bytes.len())
}

#[test]
fn an_unacknowledged_append_is_kept_whole_or_cut_whole() {
    let (disk, told, name, frame) = with_unacknowledged();
    let mut log = open_on(&disk.copy()).expect("a crash before the acknowledgement");
    assert_eq!(log.read(LogIndex(8), 100), Ok(vec![(LogIndex(8), vec![8; 50])]));
    assert!(log.take_notes().contains(&Note::UnacknowledgedKept { first: LogIndex(8), last: LogIndex(8) }));
    let kept = disk.copy();
    open_on(&kept).expect("a crash before the acknowledgement");
    let mut bytes = kept.bytes(&name);
    bytes[frame.end - 1] ^= 1;
    kept.put(&name, &bytes);
    assert!(open_on(&kept).is_err(), "once kept, it counts as acknowledged");
    for bit in frame.start * 8..frame.end * 8 {
        expect_cut(open_changed(&disk, &told, &name, flip(bit)), frame.start, frame.len());
    }
    for len in frame.start + 1..frame.end {
        let notes = open_changed(&disk, &told, &name, |bytes| bytes.truncate(len));
        expect_cut(notes, frame.start, len - frame.start);
    }
}

fn expect_cut(opened: Result<Vec<Note>, OpenError>, start: usize, len: usize) {
    let notes = opened.expect("the remains of a crash");
    let cut = notes.iter().any(|note| {
        matches!(note, Note::TornTailCut { offset, bytes, .. } if (*offset, *bytes) == (start as u64, len as u64))
    });
    assert!(cut, "{notes:?}");
}

#[test]
fn a_broken_end_beside_a_broken_mark_is_refused() {
    let (disk, told, name, frame) = with_unacknowledged();
    for slot in [0, 4096] {
        let both = disk.copy();
        let mut mark = disk.bytes(MARK);
        mark[slot + 20] ^= 1;
        both.put(MARK, &mark);
        assert!(open_changed(&both, &told, &name, flip(frame.start * 8 + 3)).is_err(), "slot at {slot}");
        let last_acknowledged = frame.start - 1;
        assert!(open_changed(&both, &told, &name, |bytes| bytes.truncate(last_acknowledged)).is_err());
    }
}

#[test]
fn files_of_different_times_or_logs_are_refused() {
    let (disk, told) = filled();
    let slot = |id, index| encode_header(Kind::Acknowledged, id, LogIndex(index));
    let both_slots = |index| {
        move |bytes: &mut Vec<u8>| {
            for at in [0, 4096] {
                bytes[at..at + 56].copy_from_slice(&slot(ID, index));
            }
        }
    };
    for older_or_newer in [0, 2, 4, 5, 8, 100] {
        assert!(open_changed(&disk, &told, MARK, both_slots(older_or_newer)).is_err(), "{older_or_newer}");
    }
    // A mark from before the last append is what a crash leaves, but not with remains behind that append…
    assert!(open_changed(&disk, &told, MARK, both_slots(6)).is_ok());
    let older = disk.copy();
    let mut mark = disk.bytes(MARK);
    both_slots(6)(&mut mark);
    older.put(MARK, &mark);
    let last = segment_name(LogIndex(6));
    assert!(open_changed(&older, &told, &last, |bytes| bytes.extend_from_slice(b"more")).is_err());
    // …nor in the middle of an append, nor before the snapshot.
    for snapshot in [None, Some(LogIndex(9))] {
        let disk = disk.copy();
        let mut log = open_on(&disk).expect("a sound log");
        assert_eq!(log.append(LogIndex(7), &[vec![8], vec![9]]), Ok(LogIndex(9)));
        if let Some(at) = snapshot {
            log.snapshot(at, b"").expect("room");
        }
        let mut mark = disk.bytes(MARK);
        both_slots(8)(&mut mark);
        disk.put(MARK, &mark);
        assert!(open_on(&disk).is_err(), "{snapshot:?}");
    }
    let other = "ffffffffffffffffffffffffffffffff";
    let foreign = |kind: Kind, index: u64| encode_header(kind, other, LogIndex(index));
    for (name, kind, index) in [
        (segment_name(LogIndex(6)), Kind::Records, 6),
        (snapshot_name(LogIndex(3)), Kind::Snapshot, 3),
        (MARK.to_owned(), Kind::Acknowledged, 7),
    ] {
        let opened =
            open_changed(&disk, &told, &name, |bytes| bytes[..56].copy_from_slice(&foreign(kind, index)));
        let error = opened.expect_err("a file of another log");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let (disk, _) = filled();
    for name in disk.names() {
        let newer = disk.copy();
        let mut bytes = disk.bytes(&name);
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        newer.put(&name, &bytes);
        let error = open_on(&newer).expect_err("newer");
        assert!(matches!(error, OpenError::NewerFormat { found: 2, supported: 1, .. }), "{error}");
    }
}

#[test]
fn damage_that_comes_while_the_log_is_open_is_refused_on_reading() {
    let (disk, _) = filled();
    let log: FileLog = open_on(&disk).expect("a sound log");
    for (name, offset) in [(segment_name(LogIndex(6)), 56 + FRAME_HEAD_LEN), (snapshot_name(LogIndex(3)), 70)]
    {
        disk.corrupt(&name, offset);
    }
    let Err(ReadError::Damaged(damage)) = log.read(LogIndex(4), usize::MAX) else { panic!("went unseen") };
    let text = damage.to_string();
    assert!(
        text.contains("records-00000000000000000006 at byte 56") && text.contains("To restore"),
        "{text}"
    );
    assert!(matches!(log.latest_snapshot(), Err(ReadError::Damaged(_))));
    assert_eq!(log.read(LogIndex(4), 0).map(|records| records.len()), Ok(1), "the rest is readable");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Bytes changed, put in, taken out and copied anywhere in one of the files.
    #[test]
    fn hostile_changes_are_refused_or_harmless(
        file in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8, any::<Index>()), 1..6),
    ) {
        let (disk, told) = filled();
        let name = file.get(&disk.names()).clone();
        // It fails by itself when something that was told is not there.
        let _opened = open_changed(&disk, &told, &name, |bytes| {
            for (at, byte, how, other) in changes {
                if bytes.is_empty() {
                    bytes.push(byte);
                }
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    _ => {
                        let from = other.index(bytes.len());
                        let piece: Vec<u8> = bytes[from..].iter().take(usize::from(byte)).copied().collect();
                        bytes.splice(at..at, piece);
                    }
                }
            }
        });
    }
}
