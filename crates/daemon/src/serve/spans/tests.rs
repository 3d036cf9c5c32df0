use super::*;
use axum::Router;
use axum::body::Bytes as Body;
use axum::routing::post;
use control::operation::{Kind, Steps, Work};
use model::{Action, Epoch, GroupId, NodeId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

const LOG_ID: &str = "0123456789abcdef0123456789abcdef";

/// A collector that hands on what it is sent, as long as the last part is kept.
async fn collector() -> (String, mpsc::Receiver<ExportTraceServiceRequest>, impl Sized) {
    let (heard, spans) = mpsc::channel(16);
    let take = move |body: Body| {
        let heard = heard.clone();
        async move {
            let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
            heard.send(request).await.expect("the test listens");
        }
    };
    let (trigger, shutdown) = Shutdown::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(crate::http::serve(
        listener,
        crate::http::Entry::Anyone,
        router,
        crate::http::ConnectionLimits { connections_max: 4, header_time_max: Duration::from_secs(5) },
        shutdown,
    ));
    (url, spans, trigger)
}

/// Folds and tells, as the driver does.
fn tell(state: &mut State, spans: &Spans, records: Vec<Record>) {
    for record in records {
        state.apply(&record).expect("legal");
        spans.record(state, &record);
    }
}

fn operation(node: &NodeId) -> Operation {
    let mut steps = Steps::default();
    let group = GroupId::new("g").expect("a name");
    let made = steps.command(node, Action::MakeDirectory { group: group.clone() }, &[], None);
    steps.push(Some(node), Work::AwaitSynced { group }, &[made], None);
    let kind = Kind::Cleanup { node: node.clone() };
    Operation::new(OperationId(0), kind, steps.0, 1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_a_trace_and_its_steps_are_spans_of_it() {
    let (url, mut heard, _collecting) = collector().await;
    let (spans, meters) = (Spans::default(), Arc::new(Meters::default()));
    let exporter = Exporter::new(&url, "127.0.0.1:1", LOG_ID, (&spans, &meters), &ClientTls::default())
        .expect("an exporter");
    let (_trigger, shutdown) = Shutdown::new();
    tokio::spawn(exporter.run(shutdown));
    let node = NodeId::new("127.0.0.1:9").expect("a node");
    let (operation_id, step) = (OperationId(0), StepId(0));
    let started = Record::StepStarted {
        operation: operation_id,
        step,
        node: node.clone(),
        attempt: 1,
        epoch: Epoch(1),
        deadline_ms: 1,
        undo: false,
    };
    let mut state = State::default();
    tell(
        &mut state,
        &spans,
        vec![
            Record::OperationAdded { operation: Box::new(operation(&node)) },
            Record::OperationStarted { operation: operation_id, graph: None, unix: 1_001 },
            started,
            Record::StepDone { operation: operation_id, step, contents: BTreeMap::new() },
            Record::StepDone { operation: operation_id, step: StepId(1), contents: BTreeMap::new() },
            Record::OperationFailed { operation: operation_id, error: "why".to_owned(), unix: 1_007 },
        ],
    );
    let mut found = Vec::new();
    while found.len() < 2 {
        let request = tokio::time::timeout(Duration::from_mins(1), heard.recv()).await.expect("in time");
        for resource in request.expect("a request").resource_spans {
            let attributes = resource.resource.expect("a resource").attributes;
            assert!(attributes.iter().any(|one| one.key == "service.name"), "{attributes:?}");
            found.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let [step, whole] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((step.name.as_str(), whole.name.as_str()), ("MAKE DIRECTORY", "cleanup"));
    assert_eq!(step.trace_id, whole.trace_id);
    assert_eq!(step.parent_span_id, whole.span_id);
    assert_ne!(step.span_id, whole.span_id);
    assert!(whole.parent_span_id.is_empty());
    assert_eq!(whole.end_time_unix_nano - whole.start_time_unix_nano, 6_000_000_000);
    assert_eq!(whole.status.as_ref().map(|status| status.message.as_str()), Some("why"));
    assert!(step.attributes.iter().any(|one| one.key == "shardwright.node"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_waits_and_the_rest_is_dropped() {
    let (spans, meters) = (Spans::default(), Arc::new(Meters::default()));
    let node = NodeId::new("127.0.0.1:9").expect("a node");
    let mut state = State::default();
    let done = vec![
        Record::OperationAdded { operation: Box::new(operation(&node)) },
        Record::OperationStarted { operation: OperationId(0), graph: None, unix: 1 },
        Record::OperationDone { operation: OperationId(0), unix: 2 },
    ];
    // Nobody asked for an export.
    tell(&mut state, &spans, done);
    let exporter = Exporter::new("http://127.0.0.1:9", "n", LOG_ID, (&spans, &meters), &ClientTls::default())
        .expect("an exporter");
    let over = Record::OperationDone { operation: OperationId(0), unix: 2 };
    for _ in 0..WAITING_MAX + 3 {
        spans.record(&state, &over);
    }
    let mut page = super::super::exposition::Page::new(super::super::exposition::Format::Prometheus);
    meters.show(&mut page);
    let text = page.end();
    assert!(text.contains("shardwright_trace_spans_total{outcome=\"dropped\"} 3\n"), "{text}");
    drop(exporter);
    for wrong in ["http://10.0.0.1:4318", "127.0.0.1:4318", "http://"] {
        let error = Exporter::new(wrong, "n", LOG_ID, (&Spans::default(), &meters), &ClientTls::default())
            .expect_err(wrong)
            .to_string();
        assert!(error.contains("--otlp-endpoint"), "{error}");
    }
}
