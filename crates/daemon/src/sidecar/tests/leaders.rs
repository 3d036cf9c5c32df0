//! Several controllers: the sidecar finds the one that leads.

use super::script::{LEAD, LOG_ID, Server, Stage, ok, word};
use crate::sidecar::controller::ControllerError;
use model::wire::{Order, ShardingStatement, StatementReply};
use model::{Action, Cell, Command, CommandId, Epoch, OperationId, Rows, StepId, TableName};
use serde_json::{Value, json};

/// One that leads, and says `word` to every statement.
async fn leader(word: &'static str) -> Server {
    Server::start(move |_, _| {
        let reply = StatementReply::Error { message: word.to_owned() };
        (200, serde_json::to_value(reply).expect("JSON"))
    })
    .await
}

/// One that follows, and names `leader`.
async fn follower(leader: Option<String>) -> Server {
    Server::start(move |_, _| match &leader {
        Some(leader) => (421, json!({ "leader": leader })),
        None => (421, Value::Null),
    })
    .await
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// A port that nobody listens on.
fn nobody() -> String {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", gone.local_addr().expect("an address"))
}

async fn ask(stage: &Stage) -> Result<String, ControllerError> {
    let sidecar = &stage.sidecar;
    let reply = sidecar.controller.statement(&sidecar.node, None, ShardingStatement::ShowMaster).await?;
    match reply {
        StatementReply::Error { message } => Ok(message),
        other => panic!("{other:?}"),
    }
}

async fn stage(urls: Vec<String>) -> (Stage, Server) {
    let node = Server::start(|_, _| ok()).await;
    (Stage::with_controllers(&node, urls).await, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_shows_the_way_and_is_not_asked_again() {
    let leads = leader("here").await;
    let follows = follower(Some(url(&leads))).await;
    // The leader need not be on the list.
    let (stage, _node) = stage(vec![url(&follows)]).await;
    for _ in 0..3 {
        assert_eq!(ask(&stage).await.expect("answered"), "here");
    }
    assert_eq!((follows.asked().len(), leads.asked().len()), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_and_those_that_know_no_better_are_passed_over() {
    let leads = leader("here").await;
    let old = follower(Some(nobody())).await;
    let lost = follower(None).await;
    let (stage, _node) = stage(vec![nobody(), url(&lost), url(&old), url(&leads)]).await;
    for _ in 0..2 {
        assert_eq!(ask(&stage).await.expect("answered"), "here");
    }
    assert_eq!((lost.asked().len(), old.asked().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_done_is_not_sent_to_another() {
    let other = leader("there").await;
    // It takes the request and hangs up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let dies = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.read_exact(&mut [0; 16]).await.expect("a request");
    });
    let (stage, _node) = stage(vec![dies, url(&other)]).await;
    let failed = ask(&stage).await.expect_err("in doubt");
    assert!(matches!(failed, ControllerError::Unanswered { .. }), "{failed}");
    assert!(other.asked().is_empty());
    assert_eq!(ask(&stage).await.expect("answered"), "there", "the next one goes elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_frozen_leader_once_there_is_another() {
    let leads = leader("here").await;
    // It takes connections and never answers.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let frozen_url = format!("http://{}", frozen.local_addr().expect("an address"));
    let (stage, _node) = stage(vec![frozen_url, url(&leads)]).await;
    let sidecar = std::sync::Arc::clone(&stage.sidecar);
    let waiting = tokio::spawn(async move {
        sidecar.controller.statement(&sidecar.node, None, ShardingStatement::ShowMaster).await
    });
    // Its connection is there: the request is on its way.
    let _connection =
        tokio::task::spawn_blocking(move || frozen.accept()).await.expect("joined").expect("accepted");
    // Another request, as a poll would, finds the new leader.
    stage.sidecar.controller.pass_over();
    assert_eq!(ask(&stage).await.expect("answered"), "here");
    let failed = waiting.await.expect("joined").expect_err("in doubt");
    assert!(failed.to_string().contains("may have been carried out"), "{failed}");
    assert_eq!(ask(&stage).await.expect("answered"), "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_nothing_is_done() {
    let (one, two) = (follower(None).await, follower(None).await);
    let (stage, _node) = stage(vec![url(&one), url(&two)]).await;
    let failed = ask(&stage).await.expect_err("nobody leads");
    assert!(matches!(failed, ControllerError::NoLeader { .. }), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_deposed_leader_lead_to_the_next_controller() {
    let orders = |epoch: u64| {
        move |_: &str, _: &str| {
            let orders = json!({
                "log_id": LOG_ID, "epoch": epoch, "lead": LEAD, "last": 1, "names_version": 0, "names": null,
                "commands": [], "peers": [],
                "hold_statements_seconds": 10
            });
            (200, orders)
        }
    };
    let (deposed, leads) = (Server::start(orders(1)).await, Server::start(orders(2)).await);
    let (mut stage, _node) = stage(vec![url(&deposed), url(&leads)]).await;
    stage.sidecar.fence.admit(&word(LOG_ID, 2)).expect("admitted");
    let (_, _trigger) = stage.run();
    super::script::until("orders of the leader", || stage.sidecar.knows_names()).await;
    assert!(!leads.asked().is_empty());
}

/// Documents of a restore, under epoch 1.
fn documents(attempt: u32) -> Order {
    let action = Action::PutDocuments {
        table: TableName::new("t").expect("valid"),
        replace: false,
        columns: vec!["id".into(), "title".into()],
        rows: Rows(vec![vec![Cell::Number(attempt.to_string()), Cell::Text("x".into())]]),
    };
    let id = CommandId { operation: OperationId(1), step: StepId(0), attempt };
    let command = Command { id, epoch: Epoch(1), remaining_ms: 600_000, action };
    Order { number: attempt.into(), command }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_wait_their_turn_are_not_written_once_their_leader_is_deposed() {
    let commands = [documents(1), documents(2)];
    let leads = Server::start(move |_, _| {
        let orders = json!({
            "log_id": LOG_ID, "epoch": 1, "lead": LEAD, "last": 1, "names_version": 0, "names": null,
            "commands": commands, "peers": [], "hold_statements_seconds": 10
        });
        (200, orders)
    })
    .await;
    let (mut stage, node) = stage(vec![url(&leads)]).await;
    let written = node.hold("INSERT");
    let (_, _trigger) = stage.run();
    super::script::until("the first documents on their way", || node.changes().len() == 1).await;
    stage.sidecar.fence.admit(&word(LOG_ID, 2)).expect("admitted");
    written.notify_one();
    let told = |word: &str| leads.asked().iter().any(|poll| poll.contains(word));
    super::script::until("the refusal", || told("is deposed")).await;
    assert!(told(r#""attempt":1},"epoch":1,"outcome":{"outcome":"done""#), "{:?}", leads.asked().last());
    assert_eq!(node.changes(), ["INSERT INTO `t` (`id`,`title`) VALUES (1,'x')"]);
}
