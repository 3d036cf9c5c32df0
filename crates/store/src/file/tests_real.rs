//! The file store on a real file system.

use super::{FileLog, Note};
use crate::{Log, OpenError, conformance};
use model::LogIndex;
use std::{fs, path::Path};
use tempfile::TempDir;

const ID: &str = "fedcba9876543210fedcba9876543210";

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(path: &Path) -> FileLog {
    FileLog::open(path, "a test", || ID.to_owned()).expect("a sound log")
}

#[test]
fn keeps_the_contract() {
    let dir = dir();
    let mut number = 0;
    let mut fresh = || {
        number += 1;
        dir.path().join(format!("log/{number}"))
    };
    conformance::run(|| Box::new(open(&fresh())));
    conformance::run_reopened(|| {
        let path = fresh();
        move || Box::new(open(&path))
    });
}

#[test]
fn a_second_holder_is_told_who_has_the_log() {
    let dir = dir();
    let first = FileLog::open(dir.path(), "shardwright serve, process 4711", || ID.to_owned()).expect("free");
    let error = FileLog::open(dir.path(), "another", || ID.to_owned()).expect_err("in use");
    assert_eq!(
        error,
        OpenError::InUse { dir: dir.path().to_owned(), holder: "shardwright serve, process 4711".to_owned() }
    );
    drop(first);
    assert_eq!(open(dir.path()).last(), Ok(LogIndex(0)));
}

#[test]
fn the_id_is_given_once_and_must_be_one() {
    let dir = dir();
    for bad in ["", "abc", &ID.to_uppercase(), &format!("{ID}0")] {
        let error = FileLog::open(dir.path(), "a test", || bad.to_owned()).expect_err("no id");
        assert_eq!(error, OpenError::InvalidLogId { id: bad.to_owned() });
    }
    assert_eq!(open(dir.path()).take_notes(), [Note::Created { log_id: ID.to_owned() }]);
    let log = FileLog::open(dir.path(), "a test", || panic!("the log has an id")).expect("a sound log");
    assert_eq!(log.log_id(), ID);
}

#[test]
fn a_torn_tail_is_cut_and_told_and_foreign_files_are_left() {
    let dir = dir();
    open(dir.path()).append(LogIndex(0), &[b"one".to_vec()]).expect("room");
    let segment = dir.path().join("records-00000000000000000001");
    let sound = fs::read(&segment).expect("readable");
    fs::write(&segment, [&sound[..], b"torn"].concat()).expect("writable");
    fs::write(dir.path().join("readme.txt"), "by hand").expect("writable");
    fs::write(dir.path().join("snapshot-00000000000000000001.unfinished"), "half").expect("writable");
    let mut log = open(dir.path());
    let notes: Vec<String> = log.take_notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0].contains("cut 4 bytes") && notes[0].contains("records-00000000000000000001"),
        "{notes:?}"
    );
    assert!(notes[1].contains("removed") && notes[2].contains("readme.txt"), "{notes:?}");
    assert_eq!(fs::read(&segment).expect("readable"), sound);
    assert_eq!(log.append(LogIndex(1), &[b"two".to_vec()]), Ok(LogIndex(2)));
    drop(log);
    assert_eq!(open(dir.path()).take_notes(), [Note::ForeignFile { file: dir.path().join("readme.txt") }]);
}

#[test]
fn a_snapshot_frees_the_space_of_what_it_replaces() {
    let dir = dir();
    let mut log = open(dir.path());
    let mut last = LogIndex(0);
    for _ in 0..12 {
        last = log.append(last, &[vec![1; 1 << 20]]).expect("room");
    }
    let used = || -> u64 {
        let entries = fs::read_dir(dir.path()).expect("readable");
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |data| data.len())).sum()
    };
    assert!(used() > 12 << 20);
    log.snapshot(last, b"all of it").expect("room");
    assert!(used() < 20_000, "{} bytes are left", used());
}

#[test]
fn a_directory_that_cannot_be_made_says_so() {
    let dir = dir();
    let file = dir.path().join("file");
    fs::write(&file, "").expect("writable");
    let error =
        FileLog::open(&file.join("log"), "a test", || ID.to_owned()).expect_err("a file is in the way");
    assert!(matches!(&error, OpenError::Io { action: "create the directory", .. }), "{error}");
}
