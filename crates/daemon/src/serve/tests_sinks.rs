//! Webhook and collector over real TLS, by a CA of one's own: whom nothing is sent to.

use super::announce::{Announcer, Webhook};
use super::exposition::{Format, Page};
use super::meters::Meters;
use super::spans::{Exporter, Spans};
use crate::http::{self, ConnectionLimits};
use crate::shutdown::{Shutdown, Trigger};
use crate::tls::tests::{NOW, ca, issue, trusting};
use crate::tls::{ServerSide, ServerTls};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::routing::post;
use control::Record;
use control::operation::{Kind, Operation, Steps};
use control::state::State;
use model::api::Alert;
use model::{NodeId, OperationId};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LOG_ID: &str = "0123456789abcdef0123456789abcdef";

/// A sink that counts what gets through to it.
struct Sink {
    url: String,
    taken: Arc<AtomicUsize>,
    _trigger: Trigger,
}

async fn sink(files: (PathBuf, PathBuf)) -> Sink {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let take = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    };
    let router = Router::new().route("/api/v2/alerts", post(take.clone())).route("/v1/traces", post(take));
    serving(files, router, taken).await
}

/// One whose answers have no end; it counts the bytes that were taken of them.
async fn endless_sink(files: (PathBuf, PathBuf)) -> Sink {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let answer = move || {
        let counted = Arc::clone(&counted);
        let parts = futures_util::stream::repeat_with(move || {
            let part = Bytes::from_static(&[b'x'; 16 << 10]);
            counted.fetch_add(part.len(), Ordering::SeqCst);
            Ok::<_, std::convert::Infallible>(part)
        });
        async move { (StatusCode::INTERNAL_SERVER_ERROR, Body::from_stream(parts)) }
    };
    let router =
        Router::new().route("/api/v2/alerts", post(answer.clone())).route("/v1/traces", post(answer));
    serving(files, router, taken).await
}

async fn serving((cert, key): (PathBuf, PathBuf), router: Router, taken: Arc<AtomicUsize>) -> Sink {
    let side = ServerSide::open(ServerTls { cert, key, client_ca: None }).expect("opens");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let (trigger, shutdown) = Shutdown::new();
    let limits = ConnectionLimits { connections_max: 8, header_time_max: Duration::from_secs(30) };
    tokio::spawn(http::serve(listener, http::Entry::Tls(Arc::new(side)), router, limits, shutdown));
    Sink { url, taken, _trigger: trigger }
}

fn figures(meters: &Meters) -> String {
    let mut page = Page::new(Format::Prometheus);
    meters.show(&mut page);
    page.end()
}

async fn until(meters: &Meters, wanted: &str) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !figures(meters).contains(wanted) {
        assert!(Instant::now() < deadline, "never {wanted}: {}", figures(meters));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn alert() -> Alert {
    Alert {
        level: "warning".into(),
        kind: "k".into(),
        message: "m".into(),
        action: "a".into(),
        since: 1,
        labels: std::collections::BTreeMap::new(),
        state: "firing".into(),
        silenced_until: None,
    }
}

/// Tells the sink of an alert and of an operation; what became of both stands in the meters.
async fn tell(sink: &Sink, trusted: &std::path::Path, outcome: &str) {
    let (tls, meters) = (trusting(trusted), Arc::new(Meters::default()));
    let (_trigger, shutdown) = Shutdown::new();
    let webhook = Webhook::new(&sink.url, LOG_ID.to_owned(), 300, &tls).expect("a webhook");
    let announcer = Announcer::default();
    tokio::spawn(webhook.run(announcer.clone(), Arc::clone(&meters), shutdown.clone()));
    // It takes what is announced only once it runs.
    let deadline = Instant::now() + Duration::from_mins(2);
    while !announcer.delivers() {
        assert!(Instant::now() < deadline, "it never runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    announcer.announce(&meters, alert());
    until(&meters, &format!("{{sink=\"webhook\",outcome=\"{outcome}\"}} 1")).await;

    let spans = Spans::default();
    let exporter = Exporter::new(&sink.url, "n", LOG_ID, (&spans, &meters), &tls).expect("an exporter");
    tokio::spawn(exporter.run(shutdown));
    let kind = Kind::Cleanup { node: NodeId::new("127.0.0.1:9").expect("a node") };
    let operation = Operation::new(OperationId(0), kind, Steps::default().0, 1);
    let mut state = State::default();
    for record in [
        Record::OperationAdded { operation: Box::new(operation) },
        Record::OperationStarted { operation: OperationId(0), graph: None, unix: 1 },
        Record::OperationDone { operation: OperationId(0), unix: 2 },
    ] {
        state.apply(&record).expect("legal");
        spans.record(&state, &record);
    }
    until(&meters, &format!("shardwright_trace_spans_total{{outcome=\"{outcome}\"}} 1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_get_something_only_with_the_right_name_by_the_right_ca_in_its_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let good = sink(issue(dir.path(), &ours, "127.0.0.1", NOW)).await;
    tell(&good, &ours.file, "sent").await;
    assert_eq!(good.taken.load(Ordering::SeqCst), 2);
    tell(&good, &other.file, "failed").await;
    assert_eq!(good.taken.load(Ordering::SeqCst), 2, "another CA");
    for (what, name, years) in [
        ("another name", "elsewhere.test", NOW),
        ("expired", "127.0.0.1", (2019, 2020)),
        ("not yet", "127.0.0.1", (2089, 2090)),
    ] {
        let sink = sink(issue(dir.path(), &ours, name, years)).await;
        tell(&sink, &ours.file, "failed").await;
        assert_eq!(sink.taken.load(Ordering::SeqCst), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_without_an_end_little_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = ca(dir.path(), "ours");
    let endless = endless_sink(issue(dir.path(), &ours, "127.0.0.1", NOW)).await;
    tell(&endless, &ours.file, "failed").await;
    // What the kernel keeps of a few answers, and not what comes in ten seconds of each.
    let taken = endless.taken.load(Ordering::SeqCst);
    assert!(taken > 0 && taken < 100 << 20, "{taken}");
}
