use super::journal::{Journal, Keeping, files};
use super::*;
use model::AuditMark;
use std::fs;

const DAY: u64 = 24 * 3600;

fn keeping(dir: &Path) -> Keeping {
    Keeping { directory: dir.to_owned(), retention_days: 90, syslog: None }
}

fn entry(what: &str) -> Entry {
    Entry::new(Event::Request, "alice", what)
}

/// Three days of lines, and their mark.
fn filled(dir: &Path) -> AuditMark {
    let mut journal = Journal::open(keeping(dir)).expect("opens");
    for day in 0..3 {
        for line in 0..4 {
            journal
                .append(100 * DAY + day * DAY + line, vec![entry(&format!("{day} {line}"))])
                .expect("written");
        }
    }
    journal.mark("127.0.0.1:1").expect("there are lines")
}

/// The lines of all files, for changing them.
fn lines(dir: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("read");
        (path, text.lines().map(str::to_owned).collect())
    };
    files(dir).expect("listed").into_iter().map(|(_, path)| read(path)).collect()
}

fn write(path: &Path, lines: &[String]) {
    fs::write(path, lines.join("\n") + "\n").expect("written");
}

#[test]
fn an_untouched_log_is_right_with_and_without_its_mark() {
    let dir = tempfile::tempdir().expect("a directory");
    let mark = filled(dir.path());
    assert_eq!(files(dir.path()).expect("listed").len(), 3, "one file a day");
    for mark in [None, Some(&mark)] {
        let found = verify(dir.path(), mark).expect("read");
        assert_eq!((found.ok, found.lines, found.first_bad, found.first), (true, 12, None, 1), "{found:?}");
    }
    let last = tail(dir.path(), 5, None).expect("read");
    let whats: Vec<_> = last.iter().map(|line| line["what"].as_str().expect("text")).collect();
    assert_eq!(whats, ["1 3", "2 0", "2 1", "2 2", "2 3"]);
    assert_eq!(tail(dir.path(), 2, Some(3)).expect("read")[0]["seq"], 1);
}

/// Forged well: a line with a right hash of its own. The next one gives it away, and the last one the mark.
#[test]
fn a_line_made_anew_with_its_own_hash_is_found_by_the_one_after_it() {
    for at in 0..12_u64 {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = filled(dir.path());
        let (path, mut all) = lines(dir.path())[at as usize / 4].clone();
        let old = line::read(&all[at as usize % 4]).expect("a line");
        let (forged, _) = line::seal(old.seq, old.unix, 0, &old.prev, entry("something else"));
        all[at as usize % 4] = forged;
        write(&path, &all);
        let found = verify(dir.path(), Some(&mark)).expect("read");
        let given_away = if at == 11 { 12 } else { at + 2 };
        assert_eq!(found.first_bad, Some(given_away), "{at}: {found:?}");
    }
}

#[test]
fn a_changed_removed_or_moved_line_is_found_wherever_it_is() {
    for at in 0..12_usize {
        let (file, line, seq) = (at / 4, at % 4, at as u64 + 1);
        // Changed.
        let dir = tempfile::tempdir().expect("a directory");
        let mark = filled(dir.path());
        let (path, mut all) = lines(dir.path())[file].clone();
        all[line] = all[line].replace("alice", "bobby");
        write(&path, &all);
        assert_eq!(verify(dir.path(), Some(&mark)).expect("read").first_bad, Some(seq), "changed {seq}");
        // Removed.
        let dir = tempfile::tempdir().expect("a directory");
        let mark = filled(dir.path());
        let (path, mut all) = lines(dir.path())[file].clone();
        all.remove(line);
        write(&path, &all);
        assert_eq!(verify(dir.path(), Some(&mark)).expect("read").first_bad, Some(seq), "removed {seq}");
        // Moved.
        let dir = tempfile::tempdir().expect("a directory");
        let mark = filled(dir.path());
        let (path, mut all) = lines(dir.path())[file].clone();
        let other = if line == 3 { 0 } else { line + 1 };
        all.swap(line, other);
        write(&path, &all);
        let first = (file * 4 + line.min(other)) as u64 + 1;
        assert_eq!(verify(dir.path(), Some(&mark)).expect("read").first_bad, Some(first), "moved {seq}");
    }
}

#[test]
fn a_cut_end_and_a_log_written_anew_show_by_the_mark_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mark = filled(dir.path());
    let (path, mut all) = lines(dir.path())[2].clone();
    all.truncate(2);
    write(&path, &all);
    assert!(verify(dir.path(), None).expect("read").ok, "a chain alone does not know its end");
    let found = verify(dir.path(), Some(&mark)).expect("read");
    assert_eq!((found.ok, found.first_bad, found.lines), (false, Some(11), 10), "{found:?}");
    fs::remove_file(&path).expect("removed");
    assert_eq!(verify(dir.path(), Some(&mark)).expect("read").first_bad, Some(9));
    // All written anew by someone who knows how.
    let other = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(keeping(other.path())).expect("opens");
    for line in 0..20 {
        journal.append(100 * DAY, vec![entry(&format!("forged {line}"))]).expect("written");
    }
    let found = verify(other.path(), Some(&mark)).expect("read");
    assert_eq!((found.ok, found.first_bad), (false, Some(12)), "{found:?}");
}

#[test]
fn a_file_that_is_gone_shows_unless_its_time_was_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let mark = filled(dir.path());
    let all = lines(dir.path());
    fs::remove_file(&all[1].0).expect("removed");
    assert_eq!(verify(dir.path(), Some(&mark)).expect("read").first_bad, Some(5));
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path());
    fs::remove_file(&lines(dir.path())[0].0).expect("removed");
    assert_eq!(verify(dir.path(), None).expect("read").first_bad, Some(5));
    // The first two days are over, the third is not.
    let dir = tempfile::tempdir().expect("a directory");
    let before = filled(dir.path());
    let mut journal = Journal::open(keeping(dir.path())).expect("opens");
    journal.append(192 * DAY, vec![entry("later")]).expect("written");
    let mark = journal.mark("127.0.0.1:1").expect("a mark");
    let found = verify(dir.path(), Some(&mark)).expect("read");
    assert_eq!((found.ok, found.first, mark.first), (true, 9, 9), "{found:?}");
    assert!(verify(dir.path(), Some(&before)).expect("read").ok, "an older mark still holds");
}

#[test]
fn a_line_that_a_crash_left_unfinished_is_cut_and_told() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path());
    let path = files(dir.path()).expect("listed").pop().expect("a file").1;
    let mut text = fs::read_to_string(&path).expect("read");
    text.push_str("{\"seq\":13,\"ti");
    fs::write(&path, text).expect("written");
    let mut journal = Journal::open(keeping(dir.path())).expect("opens");
    assert_eq!(journal.append(103 * DAY, vec![entry("next")]).expect("written"), 14);
    let found = verify(dir.path(), None).expect("read");
    assert_eq!((found.ok, found.lines), (true, 14), "{found:?}");
    let last = tail(dir.path(), 2, None).expect("read");
    assert_eq!((&last[0]["event"], &last[0]["detail"]["cut_bytes"]), (&"damaged".into(), &13.into()));
}

#[test]
fn a_second_writer_is_refused_and_a_failure_is_told_in_the_next_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(keeping(dir.path())).expect("opens");
    assert!(Journal::open(keeping(dir.path())).is_err());
    journal.append(1, vec![entry("a")]).expect("written");
    // The next day's file cannot be made: something else has its name.
    let blocked = dir.path().join("audit-000000000002.jsonl");
    fs::create_dir(&blocked).expect("made");
    assert!(journal.append(DAY + 1, vec![entry("b"), entry("c")]).is_err());
    assert!(journal.append(DAY + 1, vec![entry("d")]).is_err());
    fs::remove_dir(&blocked).expect("removed");
    assert_eq!(journal.append(DAY + 1, vec![entry("e")]).expect("written"), 2);
    assert_eq!(tail(dir.path(), 1, None).expect("read")[0]["missed"], 3);
    assert!(verify(dir.path(), None).expect("read").ok);
}

#[test]
fn changes_stop_when_the_log_cannot_be_written_unless_the_settings_say_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = AuditOptions { syslog: None, retention_days: 90, failure_stops_changes: true };
    let audit = Audit::open(dir.path(), &options).expect("opens");
    assert_eq!(audit.before(vec![entry("a")]).expect("written"), Some(1));
    let directory = audit.directory();
    let away = dir.path().join("away");
    // No file can be made any more, and the one that is open is left.
    audit.journal().forget_file();
    fs::rename(&directory, &away).expect("moved");
    let error = audit.before(vec![entry("b")]).expect_err("nowhere to write").to_string();
    assert!(error.contains("audit log") && error.contains("cannot be written"), "{error}");
    audit.stop_changes_on_failure(false);
    assert_eq!(audit.before(vec![entry("c")]).expect("allowed"), None);
    fs::rename(&away, &directory).expect("moved");
    assert_eq!(audit.before(vec![entry("d")]).expect("written"), Some(2));
    assert_eq!(tail(&directory, 1, None).expect("read")[0]["missed"], 2);
    assert_eq!(audit.figures(), (2, 2));
}

#[test]
fn syslog_gets_a_copy_of_every_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    let options = AuditOptions { syslog: Some(path), retention_days: 90, failure_stops_changes: true };
    let audit = Audit::open(dir.path(), &options).expect("opens");
    audit.after(vec![entry("DROP TABLE t")]);
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("received");
    let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(message.starts_with("<109>1 ") && message.contains(" audit - {\"seq\":1,"), "{message}");
    assert!(message.contains("DROP TABLE t"), "{message}");
}
