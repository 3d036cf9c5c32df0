use super::*;
use crate::serve::diary::Origin;
use crate::serve::handle::NoAnswer;
use model::{Epoch, NodeId};
use std::collections::BTreeMap;
use store::memory::{Fault, MemoryStore};

const LOG_ID: &str = "0123456789abcdef0123456789abcdef";

struct Bench {
    runtime: tokio::runtime::Runtime,
    store: MemoryStore,
    driver: Driver,
    shutdown: Shutdown,
    _trigger: Trigger,
}

fn start() -> Start {
    Start {
        scheme: "http",
        name: "127.0.0.1:1".to_owned(),
        settings: Settings::development(),
        seed: 1,
        watchers: Watchers::default(),
        dir: "/nonexistent".into(),
        nodes: Client::new(manticore::USER_AGENT, manticore::Logins::default(), manticore::Way::plain())
            .expect("a client"),
        audit: None,
        records: None,
    }
}

fn bench() -> Bench {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = MemoryStore::new(LOG_ID).expect("a log");
    let driver = Driver::open(start(), Box::new(store.handle(1)), None).expect("opens");
    let (trigger, shutdown) = Shutdown::new();
    Bench { runtime, store, driver, shutdown, _trigger: trigger }
}

impl Bench {
    fn turn(&mut self, received: Vec<Message>) -> Result<(), ServeError> {
        self.driver.turn(received, self.runtime.handle(), &self.shutdown)
    }

    fn last(&self) -> LogIndex {
        self.store.handle(2).last().expect("read")
    }
}

fn poll() -> (Message, oneshot::Receiver<super::super::desk::Orders>) {
    let (reply, orders) = oneshot::channel();
    let poll = SidecarPoll {
        node: NodeId::new("127.0.0.1:9").expect("valid"),
        uuid: "u".to_owned(),
        run: "r".to_owned(),
        taken: 0,
        log_id: None,
        epoch: Epoch(0),
        names_version: 0,
        views_version: 0,
        peers: BTreeMap::new(),
        results: Vec::new(),
        running: Vec::new(),
        going_on: Vec::new(),
        machine: None,
    };
    (Message::Poll { poll, reply }, orders)
}

#[test]
fn a_leader_that_could_not_write_gives_no_orders() {
    for (fault, records, epoch) in [
        (Fault::AppendFull, 1, 1),
        (Fault::AppendFails, 1, 1),
        (Fault::UnknownLost, 1, 1),
        // The record was there all the same: the one built anew leads under the next epoch.
        (Fault::UnknownApplied, 2, 2),
    ] {
        let mut bench = bench();
        bench.store.inject(fault.clone());
        let (message, mut orders) = poll();
        bench.turn(vec![message]).expect("goes on");
        assert!(
            matches!(orders.try_recv(), Err(oneshot::error::TryRecvError::Closed)),
            "{fault:?}: orders of an epoch that is in no log"
        );
        let (message, mut orders) = poll();
        bench.turn(vec![message]).expect("goes on");
        let orders = orders.try_recv().expect("a new node is answered at once");
        assert_eq!((orders.epoch, orders.log_id.as_str()), (Epoch(epoch), LOG_ID), "{fault:?}");
        assert!(bench.last() >= LogIndex(records), "{fault:?}");
        assert_eq!(bench.driver.failures, 0);
    }
}

#[test]
fn clients_are_told_when_the_operator_begins_anew() {
    let mut bench = bench();
    bench.store.inject(Fault::AppendFull);
    let (reply, mut answer) = oneshot::channel();
    let statement = model::wire::ShardingStatement::ShowMaster;
    bench
        .turn(vec![Message::Statement {
            request: control::RequestId(1),
            statement,
            rights: None,
            origin: Origin::default(),
            reply,
        }])
        .expect("goes on");
    let answer = answer.try_recv().expect("answered");
    assert!(
        matches!(&answer, model::wire::StatementReply::Error { message } if message.contains("may or may not")),
        "{answer:?}"
    );
}

#[test]
fn a_log_that_stays_unwritable_ends_the_process() {
    let mut bench = bench();
    bench.driver.failures = TRIES_MAX - 1;
    bench.store.inject(Fault::AppendFull);
    let error = bench.turn(Vec::new()).expect_err("ends");
    assert!(matches!(error, ServeError::Unwritable { tries: TRIES_MAX, .. }), "{error}");
}

#[test]
fn another_writers_records_are_read_and_not_overwritten() {
    let mut bench = bench();
    // What cannot be read as a record is refused rather than skipped.
    bench.store.inject(Fault::Overtaken(vec![b"{}".to_vec()]));
    let error = bench.turn(Vec::new()).expect_err("unreadable");
    assert!(matches!(error, ServeError::Replay(_)), "{error}");
    assert_eq!(bench.last(), LogIndex(1));
}

#[test]
fn a_restart_continues_from_the_log() {
    let mut bench = bench();
    bench.turn(Vec::new()).expect("leads");
    let last = bench.last();
    let mut again = Driver::open(start(), Box::new(bench.store.handle(3)), None).expect("opens");
    again.turn(Vec::new(), bench.runtime.handle(), &bench.shutdown).expect("leads");
    assert!(bench.last() > last);
    // The first one is deposed: its next record meets a conflict, and it reads on instead of acting.
    assert_eq!(again.controller.epoch(), Epoch(2));
}

#[test]
fn reads_see_the_operator_between_ticks_and_end_with_the_driver() {
    let bench = bench();
    let handle = bench.driver.handle();
    let (failed, stopped) = Shutdown::new();
    let (trigger, shutdown) = Shutdown::new();
    let (epoch, gone) = bench.runtime.block_on(async move {
        let driving = bench.driver.spawn(shutdown, failed).expect("a thread");
        let epoch = handle.read(|controller, _, _| controller.epoch()).await;
        trigger.pull();
        driving.await.expect("joined").expect("ended well");
        stopped.wait().await;
        (epoch, handle.read(|_, _, _| ()).await)
    });
    assert_eq!(epoch, Ok(Epoch(1)));
    assert_eq!(gone, Err(NoAnswer::Gone));
}
