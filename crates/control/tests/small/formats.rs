//! Logs of earlier versions, kept as they were written: this program must read them, and refuse what a newer one wrote.

use control::record::FORMAT;
use control::state::Member;
use control::{Config, Controller, OpenError, Record};
use model::{LogIndex, Millis, Settings};

/// Written by a controller of format 1 over embedded nodes: three tables made, a node added and filled,
/// another killed, replaced, and back; killed in the end.
const FORMAT_1: &str = include_str!("../logs/format-1.jsonl");

fn config() -> Config {
    Config {
        name: "127.0.0.1:8000".to_owned(),
        log_id: "l".repeat(32),
        settings: Settings::default(),
        seed: 1,
    }
}

fn records(text: &str) -> Vec<(LogIndex, Vec<u8>)> {
    text.lines().zip(1..).map(|(line, index)| (LogIndex(index), line.as_bytes().to_vec())).collect()
}

#[test]
fn a_log_of_the_first_format_is_read_and_gone_on_with() {
    let records = records(FORMAT_1);
    let count = records.len() as u64;
    let mut controller = Controller::open(config(), None, records).expect("it is read");
    let state = controller.state();
    assert_eq!((state.last, state.format), (LogIndex(count), 1));
    assert_eq!(state.nodes.len(), 4);
    let names: Vec<&str> = state.tables.keys().map(model::TableName::as_str).collect();
    assert_eq!(names, ["gone", "products", "single"]);
    for group in state.groups.values().filter(|group| group.is_clustered()) {
        assert!(group.history.is_none() && group.halt.is_none() && !group.pinned);
        // Nothing was noted then: those that serve.
        let serving: Vec<_> = group.in_state(Member::Serving).cloned().collect();
        assert!(!serving.is_empty() && serving.iter().all(|node| group.newest_holders().contains(node)));
    }
    let out = controller.tick(Millis(1), 1, Vec::new());
    assert_eq!(out.expected, LogIndex(count));
    assert!(matches!(out.records[0], Record::LeaderElected { format: FORMAT, .. }));
    // What it goes on from is read again, from records and from a snapshot.
    let (at, snapshot) = controller.snapshot().expect("JSON");
    let again = Controller::open(config(), Some((at, &snapshot)), Vec::new()).expect("it is read");
    assert_eq!(again.state(), controller.state());
    assert_eq!(again.state().format, FORMAT);
}

#[test]
fn a_newer_log_is_refused_with_what_to_do() {
    let newer = FORMAT + 1;
    let line =
        format!(r#"{{"record":"leader_elected","epoch":1,"name":"n","format":{newer},"unix":1,"more":[]}}"#);
    let refused = Controller::open(config(), None, records(&line)).map(drop);
    match refused {
        Err(OpenError::Newer { index: LogIndex(1), format }) => assert_eq!(format, newer),
        other => panic!("{other:?}"),
    }
    let text = Controller::open(config(), None, records(&line)).map(drop).expect_err("refused").to_string();
    assert!(text.contains("start the newer shardwright"), "{text}");
    let snapshot = format!(r#"{{"last":7,"format":{newer},"shaped":"otherwise"}}"#);
    let refused = Controller::open(config(), Some((LogIndex(7), snapshot.as_bytes())), Vec::new()).map(drop);
    assert!(matches!(refused, Err(OpenError::Newer { index: LogIndex(7), .. })), "{refused:?}");
}

#[test]
fn a_record_that_nobody_knows_is_refused_and_not_skipped() {
    let mut lines = records(FORMAT_1);
    lines.truncate(5);
    lines.push((LogIndex(6), br#"{"record":"never_heard_of"}"#.to_vec()));
    let refused = Controller::open(config(), None, lines).map(drop);
    assert!(matches!(refused, Err(OpenError::Unreadable { index: LogIndex(6), .. })), "{refused:?}");
}
