//! Records of a control log, and what sidecars say, damaged: read or refused, without a panic.
//!
//! The corpus is the log of every format there was, in `tests/logs`.

use control::{Config, Controller};
use model::wire::{SidecarPoll, StatementRequest};
use model::{LogIndex, Settings};
use proptest::prelude::*;
use proptest::sample::Index;

const LOG: &str = include_str!("../logs/format-1.jsonl");
const POLL: &str = r#"{"node":"10.0.0.1:9312","uuid":"u","run":"r","taken":1,"log_id":null,"epoch":3,"names_version":2,
"peers":{"10.0.0.2:9312":"answered"},"results":[{"id":{"operation":1,"step":2,"attempt":1},"outcome":{"outcome":"done"}}],"running":[]}"#;
const STATEMENT: &str = r#"{"node":"10.0.0.1:9312","user":"ann","rights":{"user":"ann","rules":[{"action":"read","target":"a*","allow":true}]},
"statement":{"statement":"drop_table","name":"t","cluster":"c","if_exists":false}}"#;

type Change = (Index, u8, u8);

fn change(text: &mut Vec<u8>, changes: &[Change]) {
    for (at, byte, how) in changes {
        if text.is_empty() {
            text.push(*byte);
        }
        let at = at.index(text.len());
        match how {
            0 => text[at] = *byte,
            1 => text.insert(at, *byte),
            _ => drop(text.remove(at)),
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Some records of a real log changed, or others in their places.
    #[test]
    fn hostile_records_are_folded_or_refused(
        which in any::<Index>(), how in changes(), from in any::<Index>(), to in any::<Index>(), swap in any::<bool>(),
    ) {
        let mut records: Vec<Vec<u8>> = LOG.lines().map(|line| line.as_bytes().to_vec()).collect();
        let (from, to) = (from.index(records.len()), to.index(records.len()));
        if swap {
            records.swap(from, to);
        } else {
            let which = which.index(records.len());
            change(&mut records[which], &how);
        }
        let config = Config {
            name: "c".to_owned(),
            log_id: "0".repeat(32),
            settings: Settings::default(),
            seed: 1,
        };
        let _folded = Controller::open(config, None, (1..).map(LogIndex).zip(records));
    }

    #[test]
    fn hostile_words_of_sidecars_are_read_or_refused(how in changes(), poll in any::<bool>()) {
        let mut text = if poll { POLL } else { STATEMENT }.as_bytes().to_vec();
        change(&mut text, &how);
        let _poll = serde_json::from_slice::<SidecarPoll>(&text);
        let _statement = serde_json::from_slice::<StatementRequest>(&text);
    }
}

#[test]
fn corpus_is_read_as_it_is() {
    serde_json::from_str::<StatementRequest>(STATEMENT).expect("reads");
    let _poll: SidecarPoll = serde_json::from_str(POLL).expect("reads");
}
