//! JOINs that take longer than the time they were given.

use super::script::{Server, Stage, cluster, error, execute, ok};
use model::{Action, GroupId, NodeId, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(2_500);

fn group() -> GroupId {
    GroupId::from_random(1)
}

/// A donor that was looked at so often, and shows a percent more each time when it `goes_on`.
async fn donor(goes_on: bool) -> (Server, Arc<AtomicU64>) {
    let looks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&looks);
    let server = Server::start(move |_, _| {
        let look = counted.fetch_add(1, Ordering::Relaxed);
        let percent = if goes_on { look } else { 7 }.to_string();
        let fields = [
            ("status", "primary"),
            ("node_state", "donor"),
            ("indexes", "system.t_s0"),
            ("sst_total", percent.as_str()),
        ];
        cluster(group().as_str(), &fields)
    })
    .await;
    (server, looks)
}

/// A node that joins, and answers its JOIN when the test says so.
async fn joiner() -> (Server, Arc<tokio::sync::Notify>) {
    let node =
        Server::start(|_, sql| if sql.starts_with("SHOW") { cluster("other", &[]) } else { ok() }).await;
    let held = node.hold("JOIN");
    (node, held)
}

fn from(donor: &Server) -> Action {
    Action::JoinCluster { group: group(), at: NodeId::new(donor.address.to_string()).expect("valid") }
}

#[tokio::test]
async fn a_join_has_its_time_anew_whenever_more_of_the_copy_is_seen() {
    let ((donor, looks), (node, held)) = (donor(true).await, joiner().await);
    let stage = Stage::new(&node, None).await;
    let (sidecar, join) = (Arc::clone(&stage.sidecar), from(&donor));
    let began = Instant::now();
    let under_way = tokio::spawn(async move { execute(&sidecar, &join, Instant::now() + PATIENCE).await });
    // Longer than it was given in all, whatever each look takes.
    while looks.load(Ordering::Relaxed) < 5 || began.elapsed() < PATIENCE * 2 {
        assert!(!under_way.is_finished(), "it was given up while it went on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    held.notify_one();
    let outcome = under_way.await.expect("it ends");
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

/// A percent of a large copy takes long.
#[tokio::test]
async fn a_copy_goes_on_while_more_of_its_tables_is_on_disk() {
    let ((donor, looks), (node, held)) = (donor(false).await, joiner().await);
    let stage = Stage::new(&node, None).await;
    let (sidecar, join) = (Arc::clone(&stage.sidecar), from(&donor));
    let table = stage.dir.path().join("data/system.t_s0");
    std::fs::create_dir_all(&table).expect("made");
    let began = Instant::now();
    let under_way = tokio::spawn(async move { execute(&sidecar, &join, Instant::now() + PATIENCE).await });
    let mut written = 0;
    while looks.load(Ordering::Relaxed) < 5 || began.elapsed() < PATIENCE * 2 {
        assert!(!under_way.is_finished(), "it was given up while it went on");
        written += 1;
        std::fs::write(table.join("system.t_s0.0.spd"), vec![0; written]).expect("written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    held.notify_one();
    let outcome = under_way.await.expect("it ends");
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_join_whose_copy_stands_still_is_given_up() {
    let ((donor, looks), (node, _held)) = (donor(false).await, joiner().await);
    let stage = Stage::new(&node, None).await;
    let began = Instant::now();
    let outcome = execute(&stage.sidecar, &from(&donor), began + PATIENCE).await;
    assert!(began.elapsed() >= PATIENCE);
    assert!(looks.load(Ordering::Relaxed) > 1, "it was looked at");
    let Outcome::Unknown { message } = outcome else { panic!("{outcome:?}") };
    assert!(
        message.contains("no more of the copy") && message.contains(&donor.address.to_string()),
        "{message}"
    );
}

/// searchd itself would wait for ever, and no other statement of clusters could run on the node.
#[tokio::test]
async fn a_join_whose_donor_is_gone_before_it_gave_anything_is_ended() {
    let end = format!("SET CLUSTER {} GLOBAL 'gmcast.isolate' = '2'", group());
    for (status, state, shown, refusal, is_told, is_ended) in [
        ("non-primary", "joining", u32::MAX, None, true, true),
        ("non-primary", "joining", u32::MAX, Some("unknown cluster 'g' in SET statement"), true, false),
        // Since the first look the node has shown nothing.
        ("non-primary", "joining", 1, None, false, false),
        // It copies, as far as it shows, or is whole.
        ("primary", "joining", u32::MAX, None, false, false),
        ("non-primary", "synced", u32::MAX, None, false, false),
    ] {
        let (donor, looks) = donor(false).await;
        let mut left = shown;
        let node = Server::start(move |_, sql| {
            let fields = [("status", status), ("node_state", state), ("size", "1")];
            match (sql, refusal) {
                (sql, _) if sql.starts_with("SHOW") && left == 0 => error("busy"),
                (sql, _) if sql.starts_with("SHOW") => {
                    left -= 1;
                    cluster(group().as_str(), &fields)
                }
                (sql, _) if sql.starts_with("JOIN") => error(""),
                (_, Some(refusal)) => error(refusal),
                _ => ok(),
            }
        })
        .await;
        let held = node.hold("JOIN");
        let stage = Stage::new(&node, None).await;
        let (sidecar, join) = (Arc::clone(&stage.sidecar), from(&donor));
        let deadline = Instant::now() + Duration::from_mins(5);
        let under_way = tokio::spawn(async move { execute(&sidecar, &join, deadline).await });
        let mut then = u64::MAX;
        // One look after it was told, or for longer than that takes.
        while looks.load(Ordering::Relaxed) < if is_told { then } else { 9 } {
            if then == u64::MAX && node.asked().contains(&end) {
                then = looks.load(Ordering::Relaxed) + 1;
            }
            assert!(!under_way.is_finished(), "it waits");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        held.notify_one();
        let outcome = under_way.await.expect("it ends");
        let message = format!(
            "the JOIN was ended (without a word): {} was gone before it gave anything",
            donor.address
        );
        assert_eq!(outcome == Outcome::Refused { message }, is_ended, "{status} {state}: {outcome:?}");
        assert!(!matches!(outcome, Outcome::Done { .. }), "{status} {state}");
        assert_eq!(node.asked().contains(&end), is_told, "{status} {state}");
    }
}

#[tokio::test]
async fn a_join_that_comes_too_late_is_not_begun() {
    let ((donor, _), (node, _held)) = (donor(true).await, joiner().await);
    let stage = Stage::new(&node, None).await;
    let outcome = execute(&stage.sidecar, &from(&donor), Instant::now()).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    assert_eq!(node.changes(), Vec::<String>::new());
}
