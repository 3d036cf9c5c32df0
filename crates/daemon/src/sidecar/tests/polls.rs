use super::super::{Bound, SidecarOptions};
use super::script::{self, LEAD, LOG_ID, Server, Stage, ok, rows, until, word};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use model::wire::{Order, SidecarOrders, SidecarPoll, TableNameEntry};
use model::{
    Action, Command, CommandId, Epoch, GroupId, LogIndex, NodeId, OperationId, Outcome, Reach, StepId,
    TableName,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn orders() -> SidecarOrders {
    SidecarOrders {
        log_id: LOG_ID.to_owned(),
        epoch: Epoch(3),
        lead: LEAD.to_owned(),
        last: LogIndex(1),
        names_version: 0,
        names: None,
        views_version: 0,
        views: None,
        commands: Vec::new(),
        peers: Vec::new(),
        suspects: Vec::new(),
        hold_statements_seconds: 10,
        unserved: std::collections::BTreeMap::new(),
    }
}

fn command(step: u64, epoch: u64, remaining_ms: u64) -> Command {
    Command {
        id: CommandId { operation: OperationId(1), step: StepId(step), attempt: 1 },
        epoch: Epoch(epoch),
        remaining_ms,
        action: Action::MakeDirectory { group: GroupId::from_random(u128::from(step)) },
    }
}

/// A controller that answers each poll by `script`, which gets the number of the poll.
async fn controller(
    mut script: impl FnMut(usize, &SidecarPoll) -> (u16, SidecarOrders) + Send + 'static,
) -> (Server, Arc<Mutex<Vec<SidecarPoll>>>) {
    let polls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&polls);
    let server = Server::start(move |_, body| {
        let poll: SidecarPoll = serde_json::from_str(body).expect("a poll");
        let mut seen = seen.lock().expect("unpoisoned");
        let (status, orders) = script(seen.len(), &poll);
        seen.push(poll);
        (status, serde_json::to_value(orders).expect("JSON"))
    })
    .await;
    (server, polls)
}

fn find(polls: &Mutex<Vec<SidecarPoll>>, step: u64) -> Option<Outcome> {
    let polls = polls.lock().expect("unpoisoned");
    let results = polls.iter().flat_map(|poll| &poll.results);
    results.filter(|result| result.id.step == StepId(step)).map(|result| result.outcome.clone()).next()
}

fn numbered(commands: impl IntoIterator<Item = Command>) -> Vec<Order> {
    (1..).zip(commands).map(|(number, command)| Order { number, command }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_binds_stores_names_and_then_says_so() {
    let entry = TableNameEntry { table: TableName::new("t").expect("valid"), cluster: None, generation: 1 };
    let (server, polls) = controller(move |_, poll| {
        let names = (poll.names_version < 7).then(|| vec![entry.clone()]);
        (200, SidecarOrders { names_version: 7, names, ..orders() })
    })
    .await;
    let node = Server::start(|_, _| ok()).await;
    let mut stage = Stage::new(&node, Some(&server)).await;
    let (_, trigger) = stage.run();
    until("the version is reported", || {
        polls.lock().expect("unpoisoned").iter().any(|poll| poll.names_version == 7)
    })
    .await;
    drop(trigger);
    let polls = polls.lock().expect("unpoisoned").clone();
    assert_eq!((polls[0].log_id.as_deref(), polls[0].epoch), (None, Epoch(0)));
    assert_eq!((polls[1].log_id.as_deref(), polls[1].epoch), (Some(LOG_ID), Epoch(3)));
    assert_eq!(polls[0].uuid.len(), 32);
    // After a restart all of it is still known.
    let dir = stage.dir;
    let again = Stage::in_dir(dir, &node, Vec::new(), None).await;
    assert_eq!(again.sidecar.uuid, polls[0].uuid);
    assert_eq!(again.sidecar.fence.seen(), (Some(LOG_ID.to_owned()), Epoch(3)));
    assert_eq!(again.sidecar.names.version(Some(LOG_ID)), 7);
    assert!(!again.sidecar.knows_names(), "no word from a leader yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_run_once_and_their_outcomes_repeated_until_taken() {
    let (server, polls) = controller(|number, poll| {
        // Handed over twice, as when it is not known whether the first time arrived.
        let commands = if number < 2 {
            numbered([command(1, 3, 60_000), command(2, 3, 0), command(3, 2, 60_000)])
        } else {
            Vec::new()
        };
        // The first report of an outcome is not taken.
        let refuse = !poll.results.is_empty() && number < 4;
        (if refuse { 503 } else { 200 }, SidecarOrders { commands, ..orders() })
    })
    .await;
    let node = Server::start(|_, _| ok()).await;
    let mut stage = Stage::new(&node, Some(&server)).await;
    let (_, _trigger) = stage.run();
    until("outcomes are taken", || {
        let polls = polls.lock().expect("unpoisoned");
        polls.len() > 6 && polls.last().is_some_and(|poll| poll.results.is_empty() && poll.running.is_empty())
    })
    .await;
    assert!(matches!(find(&polls, 1), Some(Outcome::Done { .. })), "{:?}", find(&polls, 1));
    assert!(
        matches!(find(&polls, 2), Some(Outcome::Refused { message }) if message.contains("time is over"))
    );
    assert!(matches!(find(&polls, 3), Some(Outcome::Refused { message }) if message.contains("deposed")));
    let carried = polls.lock().expect("unpoisoned").iter().filter(|poll| !poll.results.is_empty()).count();
    assert!(carried >= 2, "repeated after the refusal");
    assert_eq!(polls.lock().expect("unpoisoned").last().map(|poll| poll.taken), Some(3));
    assert!(stage.dir.path().join("data").join(GroupId::from_random(1).as_str()).is_dir());
    assert!(!stage.dir.path().join("data").join(GroupId::from_random(3).as_str()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_another_log_or_of_a_deposed_leader_are_refused_whole() {
    for (log_id, epoch) in [("f".repeat(32), 9), (LOG_ID.to_owned(), 2)] {
        let (server, polls) = controller(move |number, _| {
            let commands = if number == 0 { numbered([command(1, 9, 60_000)]) } else { Vec::new() };
            let names = Some(Vec::new());
            (
                200,
                SidecarOrders {
                    log_id: log_id.clone(),
                    epoch: Epoch(epoch),
                    names_version: 9,
                    names,
                    commands,
                    ..orders()
                },
            )
        })
        .await;
        let node = Server::start(|_, _| ok()).await;
        let mut stage = Stage::new(&node, Some(&server)).await;
        stage.knows(&["t"], 10);
        stage.sidecar.fence.admit(&word(LOG_ID, 3)).expect("admitted");
        let sidecar = Arc::clone(&stage.sidecar);
        let (_, _trigger) = stage.run();
        until("it is refused", || matches!(find(&polls, 1), Some(Outcome::Refused { .. }))).await;
        assert_eq!(sidecar.fence.seen(), (Some(LOG_ID.to_owned()), Epoch(3)));
        assert_eq!(sidecar.names.version(Some(LOG_ID)), 1);
        assert!(!stage.dir.path().join("data").join(GroupId::from_random(1).as_str()).exists());
    }
}

/// A controller that holds the second poll until a third one comes.
#[derive(Clone, Default)]
struct Holding {
    polls: Arc<Mutex<Vec<SidecarPoll>>>,
    third: Arc<tokio::sync::Notify>,
    let_go: Arc<AtomicBool>,
}

async fn hold(State(controller): State<Holding>, Json(poll): Json<SidecarPoll>) -> Json<SidecarOrders> {
    let number = {
        let mut polls = controller.polls.lock().expect("unpoisoned");
        polls.push(poll);
        polls.len()
    };
    match number {
        1 => {
            let mut slow = command(1, 3, 60_000);
            slow.action = Action::Optimize { table: "system.t_s0".to_owned() };
            Json(SidecarOrders { commands: numbered([slow]), ..orders() })
        }
        2 => {
            // Not reached when the sidecar gives the poll up before it brings the outcome.
            controller.third.notified().await;
            controller.let_go.store(true, Ordering::SeqCst);
            Json(orders())
        }
        _ => {
            controller.third.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
            Json(orders())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_does_not_wait_for_a_held_poll() {
    let controller = Holding::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(post(hold)).with_state(controller.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let node = Server::start(|_, _| ok()).await;
    let held = node.hold("OPTIMIZE");
    let mut stage = Stage::with_controllers(&node, vec![format!("http://{address}")]).await;
    let (_, _trigger) = stage.run();
    until("a poll is held", || controller.polls.lock().expect("unpoisoned").len() == 2).await;
    // The command ends only once the second poll is held.
    held.notify_one();
    until("the outcome is reported", || matches!(find(&controller.polls, 1), Some(Outcome::Done { .. })))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspects_are_looked_at_and_reported() {
    let alive = Server::start(|_, _| rows(&["Counter", "Value"], &[])).await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        listener.local_addr().expect("an address")
    };
    let name = |address: std::net::SocketAddr| NodeId::new(address.to_string()).expect("valid");
    let (living, dead) = (name(alive.address), name(gone));
    let peers = vec![living.clone(), dead.clone()];
    let (server, polls) = controller(move |_, _| {
        (200, SidecarOrders { peers: peers.clone(), suspects: peers.clone(), ..orders() })
    })
    .await;
    let node = Server::start(|_, _| ok()).await;
    let mut stage = Stage::new(&node, Some(&server)).await;
    let (_, _trigger) = stage.run();
    let expected = [(living, Reach::Answered), (dead, Reach::Refused)].into();
    until("both are reported", || {
        polls.lock().expect("unpoisoned").last().is_some_and(|poll| poll.peers == expected)
    })
    .await;
}

/// Watching costs a node the controller's look alone, as long as there is a controller.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_looked_at_only_while_no_controller_is_heard() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let other = Server::start(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        rows(&["Counter", "Value"], &[])
    })
    .await;
    let peers = vec![NodeId::new(other.address.to_string()).expect("valid")];
    let leads = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&leads);
    let (server, _) = controller(move |_, _| {
        let status = if answers.load(Ordering::SeqCst) { 200 } else { 503 };
        (status, SidecarOrders { peers: peers.clone(), ..orders() })
    })
    .await;
    let node = Server::start(|_, _| ok()).await;
    let mut stage = Stage::new(&node, Some(&server)).await;
    let (_, _trigger) = stage.run();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(looks.load(Ordering::SeqCst), 0);
    leads.store(false, Ordering::SeqCst);
    until("the other is looked at", || looks.load(Ordering::SeqCst) > 0).await;
}

/// What the node says of its settings, with what the machine lets it.
#[tokio::test(flavor = "multi_thread")]
async fn the_machine_of_the_node_is_reported() {
    let (server, polls) = controller(|_, _| (200, orders())).await;
    let node = Server::start(|_, sql| match sql {
        "SHOW SETTINGS" => rows(
            &["Setting_name", "Value"],
            &[&["configuration_file", "x"], &["searchd.threads", "8"], &["searchd.listen_backlog", "100"]],
        ),
        _ => rows(&["Counter", "Value"], &[]),
    })
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    let ahead = crate::files::unix_now() + 1_000;
    let kept = dir.path().join("sidecar");
    std::fs::create_dir_all(&kept).expect("made");
    std::fs::write(kept.join("last_start"), ahead.to_string()).expect("written");
    let url = format!("http://{}/", server.address);
    let mut stage = Stage::in_dir(dir, &node, vec![url], None).await;
    let (_, _trigger) = stage.run();
    let reported = || {
        let polls = polls.lock().expect("unpoisoned");
        polls.iter().find_map(|poll| poll.machine.clone())
    };
    until("a report", || reported().is_some()).await;
    let machine = reported().expect("it came");
    assert!((1..=1_000).contains(&machine.clock_behind_seconds), "{machine:?}");
    let settings = machine.settings.expect("it tells its settings");
    assert_eq!((settings.threads, settings.listen_backlog), (8, 100));
    let of_machine = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").ok();
    assert_eq!(settings.tcp_fastopen, of_machine.and_then(|text| text.trim().parse().ok()));
}

#[tokio::test]
async fn plain_text_stays_on_this_machine() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || script::options(dir.path(), "http://127.0.0.1:1".to_owned());
    let refused = async |options: SidecarOptions| match Bound::new(options).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(refused(options()).await, "");
    let local = SidecarOptions { mysql: Some("127.0.0.1:9306".to_owned()), ..options() };
    assert_eq!(refused(local.clone()).await, "");
    let far = SidecarOptions { mysql: Some("10.0.0.1:9306".to_owned()), ..options() };
    assert!(refused(far.clone()).await.contains("beyond loopback"));
    let everywhere = SidecarOptions { bind: "0.0.0.0".parse().expect("an address"), ..options() };
    assert!(refused(everywhere).await.contains("beyond loopback"));
    // Over TLS it may be anywhere, but the CA must be known.
    for options in [local, far] {
        let options = SidecarOptions { node_tls: true, ..options };
        assert!(refused(options.clone()).await.contains("--ca-file"));
        let ca = crate::tls::tests::ca(dir.path(), "ours");
        assert_eq!(
            refused(SidecarOptions { tls: crate::tls::tests::trusting(&ca.file), ..options }).await,
            ""
        );
    }
}
