//! Whatever stands in the files of an audit log: it is read or found bad, and never taken for right.

use super::journal::{Journal, Keeping, files};
use super::{Entry, Event, tail, verify};
use proptest::prelude::*;

proptest! {
    // Each case makes and syncs some files.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn hostile_lines_are_none(text in ".{0,200}") {
        prop_assert!(super::line::read(&text).is_err());
    }

    /// Any bytes in the place of any others, anywhere in a log of two files.
    #[test]
    fn hostile_changes_of_files_are_found(
        at in any::<prop::sample::Index>(),
        taken in 0..40_usize,
        put in prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), Just(b"\n".to_vec()), Just(Vec::new())],
        what in ".{0,30}",
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let keeping = Keeping { directory: dir.path().to_owned(), retention_days: 90, syslog: None };
        let mut journal = Journal::open(keeping).expect("opens");
        for day in 0..2 {
            for _ in 0..3 {
                journal.append(day * 86_400, vec![Entry::new(Event::Request, "a", what.as_str())]).expect("written");
            }
        }
        let mark = journal.mark("c").expect("a mark");
        prop_assert!(verify(dir.path(), Some(&mark)).expect("read").ok);
        let path = at.get(&files(dir.path()).expect("listed")).1.clone();
        let before = std::fs::read(&path).expect("read");
        let from = at.index(before.len());
        let mut after = before.clone();
        after.splice(from..(from + taken).min(before.len()), put);
        std::fs::write(&path, &after).expect("written");
        let found = verify(dir.path(), Some(&mark)).expect("read");
        prop_assert_eq!(found.ok, after == before, "{:?}", found);
        let _lines = tail(dir.path(), 100, None).expect("read");
        // A controller starts on it all the same, writes on, and nothing of that makes it right.
        drop(journal);
        let keeping = Keeping { directory: dir.path().to_owned(), retention_days: 90, syslog: None };
        let mut journal = Journal::open(keeping).expect("opens");
        journal.append(86_401, vec![Entry::new(Event::Request, "a", "later")]).expect("written");
        let found = verify(dir.path(), Some(&mark)).expect("read");
        prop_assert_eq!(found.ok, after == before, "{:?}", found);
    }
}
