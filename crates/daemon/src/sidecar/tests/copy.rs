//! JOINs that take longer than the time they were given.

use super::script::{Server, Stage, cluster, execute, ok};
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

#[tokio::test]
async fn a_join_that_comes_too_late_is_not_begun() {
    let ((donor, _), (node, _held)) = (donor(true).await, joiner().await);
    let stage = Stage::new(&node, None).await;
    let outcome = execute(&stage.sidecar, &from(&donor), Instant::now()).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    assert_eq!(node.changes(), Vec::<String>::new());
}
