//! Several controllers on one log in memory, with its faults.

use super::follow::Register;
use super::*;
use crate::serve::diary::Origin;
use crate::serve::handle::NoAnswer;
use control::Record;
use model::Epoch;
use model::wire::{ShardingStatement, StatementReply};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use store::ReadError;
use store::memory::{Fault, MemoryStore};

const LOG_ID: &str = "0123456789abcdef0123456789abcdef";

#[derive(Clone, Debug, Default)]
struct List(Arc<Mutex<BTreeSet<String>>>);

impl Register for List {
    fn enter(&self, name: &str) -> Result<(), ReadError> {
        self.0.lock().expect("unpoisoned").insert(name.to_owned());
        Ok(())
    }

    fn leave(&self, name: &str) -> Result<(), ReadError> {
        self.0.lock().expect("unpoisoned").remove(name);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, ReadError> {
        Ok(self.0.lock().expect("unpoisoned").iter().cloned().collect())
    }
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    store: MemoryStore,
    list: List,
    shutdown: Shutdown,
    _trigger: Trigger,
}

impl Bench {
    fn new() -> Self {
        let (trigger, shutdown) = Shutdown::new();
        Self {
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            store: MemoryStore::new(LOG_ID).expect("a log"),
            list: List::default(),
            shutdown,
            _trigger: trigger,
        }
    }

    fn driver(&self, number: u64) -> Driver {
        let name = format!("127.0.0.1:{number}");
        let start = Start {
            scheme: "http",
            name,
            settings: Settings::development(),
            seed: number,
            watchers: Watchers::default(),
            dir: "/nonexistent".into(),
            nodes: Client::new(manticore::USER_AGENT, manticore::Logins::default(), manticore::Way::plain())
                .expect("a client"),
            audit: None,
            records: None,
        };
        let log = Box::new(self.store.handle(number));
        Driver::open(start, log, Some(Box::new(self.list.clone()))).expect("opens")
    }

    /// One pass of the driver's loop.
    fn pass(&self, driver: &mut Driver, received: Vec<Message>) -> Result<(), ServeError> {
        if driver.role == Role::Leads && driver.still_leads()? {
            driver.turn(received, self.runtime.handle(), &self.shutdown)
        } else {
            driver.follow(received, self.runtime.handle(), &self.shutdown)
        }
    }

    /// The same a while later.
    fn pass_later(&self, driver: &mut Driver) -> Result<(), ServeError> {
        let several = driver.several.as_mut().expect("one of several");
        several.contact = several.contact.checked_sub(Duration::from_secs(2)).expect("a clock that has run");
        self.pass(driver, Vec::new())
    }

    fn records(&self) -> Vec<Record> {
        let records = self.store.handle(99).read(LogIndex(1), usize::MAX).expect("readable");
        records.iter().map(|(_, bytes)| serde_json::from_slice(bytes).expect("JSON")).collect()
    }
}

fn lead(after: u64) -> Vec<Message> {
    vec![Message::Lead { after: Epoch(after) }]
}

/// Whether it leads, the epoch, and the leader's number by the log.
fn seen(driver: &Driver) -> (bool, u64, Option<u64>) {
    let show = driver.seen().borrow().show();
    let leader = show.leader.as_deref().and_then(|name| name.rsplit(':').next()?.parse().ok());
    (show.leads, show.epoch, leader)
}

fn elected(epoch: u64, number: u64) -> Vec<u8> {
    let record = Record::LeaderElected {
        epoch: Epoch(epoch),
        name: format!("127.0.0.1:{number}"),
        format: control::record::FORMAT,
        unix: 0,
    };
    serde_json::to_vec(&record).expect("JSON")
}

#[test]
fn nobody_leads_without_being_told_and_one_does_then() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.driver(1), bench.driver(2));
    for driver in [&mut one, &mut two] {
        bench.pass_later(driver).expect("follows");
        assert_eq!(seen(driver), (false, 0, None));
    }
    assert_eq!(*one.standing().candidates, ["127.0.0.1:1", "127.0.0.1:2"]);
    bench.pass(&mut one, lead(0)).expect("leads");
    assert_eq!(seen(&one), (true, 1, Some(1)));
    // It was told before it could see that the first one had been faster.
    bench.pass(&mut two, lead(0)).expect("follows");
    assert_eq!(seen(&two), (false, 1, Some(1)));
    assert_eq!(bench.records().len(), 1);
}

#[test]
fn a_leader_that_was_frozen_acts_no_more() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.driver(1), bench.driver(2));
    bench.pass(&mut one, lead(0)).expect("leads");
    bench.pass(&mut two, lead(1)).expect("leads");
    assert_eq!(seen(&two), (true, 2, Some(2)));
    let before = bench.records();
    bench.pass_later(&mut one).expect("follows");
    assert_eq!(seen(&one), (false, 2, Some(2)));
    bench.pass_later(&mut one).expect("follows");
    assert_eq!(bench.records(), before);
    // The other one is not disturbed, and the lead comes back only when it is asked for.
    bench.pass_later(&mut two).expect("leads");
    assert_eq!(seen(&two), (true, 2, Some(2)));
    bench.pass(&mut one, lead(2)).expect("leads");
    assert_eq!(seen(&one), (true, 3, Some(1)));
}

#[test]
fn a_leader_that_has_not_looked_yet_loses_its_append() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.driver(1), bench.driver(2));
    bench.pass(&mut one, lead(0)).expect("leads");
    bench.pass(&mut two, lead(1)).expect("leads");
    let before = bench.records();
    // The operator anew, as after a restart, would record that it leads: the other one's record is in its place.
    let (controller, _) =
        rebuild(&one.start, &MemoryStore::new(LOG_ID).expect("a log").handle(1)).expect("empty");
    one.controller = controller;
    let (reply, mut answer) = oneshot::channel();
    let statement = ShardingStatement::ShowMaster;
    let asked = Message::Statement {
        request: control::RequestId(1),
        statement,
        rights: None,
        origin: Origin::default(),
        reply,
    };
    bench.pass(&mut one, vec![asked]).expect("steps down");
    assert!(matches!(answer.try_recv(), Ok(StatementReply::Error { .. })));
    assert_eq!((seen(&one).0, one.role), (false, Role::Follows));
    bench.pass(&mut one, Vec::new()).expect("follows");
    assert_eq!(seen(&one), (false, 2, Some(2)));
    assert_eq!(bench.records(), before);
}

#[test]
fn the_log_decides_about_an_append_in_doubt() {
    // The fault of the append that takes the lead, and what is seen after the log was read again.
    let cases = [
        (Fault::UnknownApplied, (true, 2, Some(1))),
        (Fault::UnknownLost, (false, 0, None)),
        (Fault::AppendFails, (false, 0, None)),
        (Fault::AppendFull, (false, 0, None)),
        (Fault::Overtaken(vec![elected(1, 7)]), (false, 1, Some(7))),
    ];
    for (fault, expected) in cases {
        let bench = Bench::new();
        let mut one = bench.driver(1);
        bench.store.inject(fault.clone());
        bench.pass(&mut one, lead(0)).expect("goes on");
        assert!(!seen(&one).0, "{fault:?}");
        bench.pass(&mut one, Vec::new()).expect("goes on");
        assert_eq!(seen(&one), expected, "{fault:?}");
    }
}

#[test]
fn a_controller_that_comes_back_as_the_leader_goes_on_at_once() {
    let bench = Bench::new();
    let mut one = bench.driver(1);
    bench.pass(&mut one, lead(0)).expect("leads");
    let mut again = bench.driver(1);
    bench.pass_later(&mut again).expect("leads");
    assert_eq!(seen(&again), (true, 2, Some(1)));
}

#[test]
fn a_log_that_is_away_ends_nothing_and_damage_does() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.driver(1), bench.driver(2));
    bench.pass(&mut one, lead(0)).expect("leads");
    bench.store.cut_off(1, true);
    bench.store.cut_off(2, true);
    bench.pass_later(&mut one).expect("waits");
    bench.pass_later(&mut two).expect("waits");
    bench.store.end_faults();
    bench.pass_later(&mut one).expect("leads still");
    assert_eq!(seen(&one), (true, 1, Some(1)));
    let mut other = bench.store.handle(9);
    other.append(LogIndex(1), &[b"no record".to_vec()]).expect("appended");
    assert!(matches!(bench.pass_later(&mut two), Err(ServeError::Replay(_))));
    assert!(matches!(bench.pass_later(&mut one), Err(ServeError::Replay(_))));
    assert!(!seen(&one).0);
}

#[test]
fn a_log_that_went_back_ends_the_leader() {
    let bench = Bench::new();
    let mut one = bench.driver(1);
    let shorter = AppendError::Conflict { expected: LogIndex(9), actual: LogIndex(4) };
    let ended = one.lost_append(shorter).expect_err("an older copy");
    assert!(matches!(ended, ServeError::ReadLog(ReadError::BeyondEnd { .. })), "{ended:?}");
    bench.pass(&mut one, lead(0)).expect("leads");
    // The same place, with an empty log.
    one.log = Box::new(MemoryStore::new(LOG_ID).expect("a log").handle(1));
    assert!(matches!(bench.pass_later(&mut one), Err(ServeError::ReadLog(ReadError::BeyondEnd { .. }))));
}

#[test]
fn a_follower_says_that_it_is_one() {
    let bench = Bench::new();
    let mut one = bench.driver(1);
    let handle = one.handle();
    let pending = handle.statement(ShardingStatement::ShowMaster, None, Origin::default()).expect("sent");
    let read = bench.runtime.spawn(async move { handle.read(|controller, _, _| controller.epoch()).await });
    let received = bench.runtime.block_on(async {
        let mut received = Vec::new();
        while received.len() < 2 {
            received.extend(one.messages.recv().await);
        }
        received
    });
    bench.pass(&mut one, received).expect("follows");
    let answer: Result<StatementReply, NoAnswer> = bench.runtime.block_on(pending.answer());
    assert!(
        matches!(&answer, Ok(StatementReply::Error { message }) if message.contains("nothing was done")),
        "{answer:?}"
    );
    let epoch = bench.runtime.block_on(read).expect("joined");
    assert!(matches!(epoch, Ok(Epoch(0))), "{epoch:?}");
}

#[test]
fn who_ends_cleanly_is_no_candidate_any_more() {
    let bench = Bench::new();
    let (one, _two) = (bench.driver(1), bench.driver(2));
    one.leave();
    assert_eq!(bench.list.list(), Ok(vec!["127.0.0.1:2".to_owned()]));
}
