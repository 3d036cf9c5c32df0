//! Another rf and a shard that leaves its group, through the binary and by statements, under readers and writers: nothing
//! is lost, no read or write fails, and no reader sees fewer rows.

// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use cli::documents::{Catalogue, Source};
use cli::load::{Endpoint, Holdings, Loader, Rates, Record, Traffic, verify};
use common::{Dev, json, refusal, sql, wait_for};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

const TABLE: &str = "kept";
const SHARDS: u32 = 4;
const DOCUMENTS: u64 = 2_000;
/// It has a shard in every group, so that `kept` has none for itself.
const BESIDE: &str = "CREATE TABLE c:beside (title text, v int) shards='12' rf='2' timeout='120'";

struct Stage {
    // Dropped before the directory, so that nothing writes there any more.
    dev: Dev,
    _dir: tempfile::TempDir,
    source: Source,
    record: Arc<Record>,
    traffic: Traffic,
}

impl Stage {
    async fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // A hand-over is put back when statements were held for too long: on a busy machine 6 s are not enough.
        let patient = [("SHARDWRIGHT_HOLD_STATEMENTS_SECONDS", "60")];
        let dev = Dev::start_with(dir.path(), 3, &patient);
        let nodes = dev.endpoints();
        let source = Source::Catalogue(Catalogue::new(seed, DOCUMENTS));
        let columns = source.shape().declaration();
        sql(&nodes[0], BESIDE).await.expect("created");
        sql(&nodes[0], "INSERT INTO beside (id,title,v) VALUES (1,'a',1),(2,'b',2),(3,'c',3)")
            .await
            .expect("written");
        let create = format!("CREATE TABLE c:{TABLE} ({columns}) shards='{SHARDS}' rf='2' timeout='120'");
        sql(&nodes[0], &create).await.expect("created");
        let into = Loader { source: &source, table: TABLE, endpoints: &nodes, acknowledged: Arc::default() };
        let loaded = into.run().await.expect("loaded");
        let record = Arc::new(Record::default());
        record.loaded(loaded.documents, Instant::now());
        let rates = Rates { writes_per_second: 40.0, reads_per_second: 10.0 };
        let ids = (loaded.free_id, seed);
        let traffic = Traffic::start(&nodes, TABLE, source.shape(), ids, rates, Arc::clone(&record));
        Self { dev, _dir: dir, source, record, traffic }
    }

    /// Until every shard has exactly `rf` copies and nothing is left to do.
    async fn has_rf(&self, rf: u32) {
        let nodes = self.dev.endpoints();
        wait_for(&format!("rf {rf} of every shard"), || async {
            let held = Holdings::look(&nodes, TABLE).await.map_err(|fault| fault.to_string())?;
            if let Some(missing) = held.missing(TABLE, SHARDS, rf) {
                return Err(missing);
            }
            let copies = held.copies().len() as u32;
            let show = json(&self.dev.ask(&["table", "show", TABLE]));
            if show["status"] != "idle" || show["rf"] != rf || copies != rf * SHARDS {
                return Err(format!("{copies} copies, {show}"));
            }
            Ok(())
        })
        .await;
        for row in sql(&nodes[1], &format!("SHOW SHARDING STATUS {TABLE}")).await.expect("shown") {
            assert_eq!(row[6].as_deref(), Some(rf.to_string().as_str()), "{row:?}");
            assert_eq!(row[7].as_deref(), Some("ok"), "{row:?}");
        }
    }

    /// Orders another rf. On real nodes a member that left is in its group's view for seconds more, and until then an order
    /// is refused for now.
    async fn set_rf(&self, table: &str, rf: u32) {
        wait_for(&format!("the order of rf {rf}"), || async {
            let ordered = self.dev.ask(&["table", "set-rf", table, &rf.to_string()]);
            let said = json(&ordered).to_string();
            assert!(ordered.status.success() || said.contains("is not fully in view and synced"), "{said}");
            if ordered.status.success() { Ok(()) } else { Err(said) }
        })
        .await;
    }

    /// The operations of this kind that are done.
    async fn done(&self, kind: &str) -> usize {
        let api =
            cli::api::Api::at(&self.dev.file().api, None, &daemon::tls::ClientTls::default()).expect("a URL");
        let found = wait_for("the operations", || async {
            api.operations().await.map(|list| list.operations).map_err(|error| error.message)
        })
        .await;
        let failed: Vec<_> = found.iter().filter(|one| one.status == "failed").collect();
        assert!(failed.is_empty(), "{failed:?}");
        found.iter().filter(|one| one.kind == kind && one.status == "done").count()
    }

    async fn end(self) {
        let nodes = self.dev.endpoints();
        let Self { dev, source, record, traffic, .. } = self;
        let met = traffic.stop().await;
        println!("{} writes acknowledged", record.acknowledged_writes());
        let table = (TABLE, SHARDS);
        let found = verify(Some(&source), source.shape(), table, &record, &nodes).await.expect("read back");
        assert_eq!((found.lost, found.surplus), (0, 0), "{:?}", found.first_faults);
        let errors = (met.failed_writes, met.failed_reads, met.read_regressions);
        assert_eq!(errors, (0, 0, 0), "{:?}", met.first_faults);
        for node in &nodes {
            assert_eq!(count(node, "beside").await, "3", "the table beside it is as it was");
        }
        dev.stop();
    }
}

async fn count(at: &Endpoint, table: &str) -> String {
    let found = sql(at, &format!("SELECT COUNT(*) FROM {table}")).await.expect("counted");
    found[0][0].clone().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn rf_goes_up_and_down_while_the_table_is_used() {
    let stage = Stage::new(11).await;
    let nodes = stage.dev.endpoints();
    let more = refusal(&nodes[2], "ALTER TABLE c:kept rf='4'").await;
    assert!(more.contains("lower than replication factor (4)"), "{more}");
    let same = stage.dev.ask(&["table", "set-rf", "kept", "2"]);
    assert_eq!(same.status.code(), Some(3), "{}", json(&same));
    let missing = refusal(&nodes[2], "ALTER TABLE nothing rf='3'").await;
    assert!(missing.contains("must exist"), "{missing}");

    // Out of groups that it shares, by held hand-over.
    sql(&nodes[2], "ALTER TABLE c:kept rf='3'").await.expect("ordered");
    stage.has_rf(3).await;
    let handed_over = stage.done("hand over").await;
    assert!(handed_over > 0);
    // Alone in its groups now: nothing is held.
    stage.set_rf("c:kept", 2).await;
    stage.has_rf(2).await;
    assert_eq!(stage.done("hand over").await, handed_over);
    for rf in [1, 2] {
        stage.set_rf("kept", rf).await;
        stage.has_rf(rf).await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_moves_alone_while_the_table_is_used() {
    let stage = Stage::new(12).await;
    let nodes = stage.dev.endpoints();
    let show = json(&stage.dev.ask(&["table", "show", TABLE]));
    let group = show["placement"][0]["group"].clone();
    let copies = show["placement"][0]["nodes"].as_array().expect("copies");
    let holders: BTreeSet<&str> = copies.iter().filter_map(|copy| copy["id"].as_str()).collect();
    let free = nodes.iter().map(|node| node.node.as_str()).find(|node| !holders.contains(node));
    let (from, to) = (*holders.first().expect("a holder"), free.expect("two of three hold it"));
    assert!(stage.dev.ask(&["rebalance", "pause", TABLE]).status.success());
    let moved = stage.dev.ask(&["move", TABLE, "0", "--from", from, "--to", to, "--split"]);
    assert!(moved.status.success(), "{}", json(&moved));
    assert_eq!(json(&moved)["rows"][0][2], TABLE, "nothing else moves along");
    assert!(stage.dev.ask(&["rebalance", "resume", TABLE]).status.success());
    wait_for("the move", || async {
        let by_hand = stage.done("move").await;
        if by_hand > 0 { Ok(()) } else { Err(format!("{by_hand} moves")) }
    })
    .await;
    stage.has_rf(2).await;
    assert_eq!(stage.done("hand over").await, 1);
    let show = json(&stage.dev.ask(&["table", "show", TABLE]));
    assert_ne!(show["placement"][0]["group"], group, "it has a group of its own");
    stage.end().await;
}
