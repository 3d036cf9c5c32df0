//! Operations and steps as OpenTelemetry traces: one trace an operation, its steps as spans below it.
//!
//! Made from the records, so a trace goes on over restarts and other leaders: its ids follow from the log's id and the
//! operation's. Handed over without waiting; what a collector does not take is dropped and counted.

use super::ServeError;
use super::meters::Meters;
use super::sinks::beginning;
use crate::shutdown::Shutdown;
use crate::tls::{self, ClientTls};
use async_trait::async_trait;
use control::Record;
use control::operation::{Operation, Status as OperationStatus};
use control::state::State;
use model::{OperationId, StepId};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use reqwest::Url;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Spans that wait for the collector: those of a large operation.
const WAITING_MAX: usize = 20_000;
const BATCH_MAX: usize = 512;
/// It says how many spans it did not take.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// A trace of one operation would not show the steps of a table of thousands of shards anyway.
const STARTED_MAX: usize = 100_000;

/// Takes records from the driver; does nothing unless an exporter was started. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    out: OnceLock<Out>,
    started: Mutex<BTreeMap<(OperationId, StepId), SystemTime>>,
}

#[derive(Debug)]
struct Out {
    /// As a number, to make ids from.
    log: u128,
    spans: mpsc::Sender<SpanData>,
    meters: Arc<Meters>,
}

impl Spans {
    /// A record is durable; `state` is from after it.
    pub(super) fn record(&self, state: &State, record: &Record) {
        let Some(out) = self.0.out.get() else { return };
        let now = SystemTime::now();
        let mut started = self.0.started.lock().unwrap_or_else(PoisonError::into_inner);
        match record {
            Record::StepStarted { operation, step, .. } if started.len() < STARTED_MAX => {
                started.entry((*operation, *step)).or_insert(now);
            }
            Record::StepDone { operation, step, .. } | Record::StepUndone { operation, step } => {
                // A step that needs no command, or that an earlier leader began, has no beginning here.
                if let Some(began) = started.remove(&(*operation, *step)) {
                    out.step(state, (*operation, *step), began, now, None);
                }
            }
            Record::StepFailed { operation, step, error, last: true } => {
                let began = started.remove(&(*operation, *step)).unwrap_or(now);
                out.step(state, (*operation, *step), began, now, Some(error));
            }
            Record::OperationDone { operation, .. }
            | Record::OperationFailed { operation, .. }
            | Record::OperationCancelled { operation, .. } => {
                started.retain(|(other, _), _| other != operation);
                if let Some(ended) = find(state, *operation) {
                    out.send(out.operation(ended));
                }
            }
            _ => {}
        }
    }
}

impl Out {
    fn send(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.meters.exported("dropped", 1);
        }
    }

    /// The span's place: the operation's own is number 0 of its trace, its steps follow.
    fn context(&self, operation: OperationId, number: u64) -> SpanContext {
        let trace = self.log ^ (u128::from(operation.0).wrapping_add(1) << 64);
        // Never 0, which would be no id.
        let span = operation.0.wrapping_mul(1 << 20).wrapping_add(number + 1).max(1);
        let (trace, span) =
            (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
    }

    fn operation(&self, operation: &Operation) -> SpanData {
        let at = |unix: u64| UNIX_EPOCH + Duration::from_secs(unix);
        let ended = at(operation.finished_at.unwrap_or(operation.created_at));
        let began = operation.started_at.map_or(ended, at);
        let mut span = span(self.context(operation.id, 0), operation.name(), began, ended);
        span.attributes = vec![
            KeyValue::new("shardwright.operation", operation.id.0 as i64),
            KeyValue::new("shardwright.subject", operation.subject()),
            KeyValue::new("shardwright.outcome", operation.status.as_str()),
        ];
        span.status = match (&operation.error, operation.status) {
            (error, OperationStatus::Failed) => Status::error(error.clone().unwrap_or_default()),
            _ => Status::Ok,
        };
        span
    }

    fn step(
        &self,
        state: &State,
        (operation, id): (OperationId, StepId),
        began: SystemTime,
        ended: SystemTime,
        error: Option<&String>,
    ) {
        let Some(step) = find(state, operation).and_then(|known| known.step(id)) else { return };
        let mut span = span(self.context(operation, id.0 + 1), step.work.class(), began, ended);
        span.parent_span_id = self.context(operation, 0).span_id();
        span.span_kind = SpanKind::Client;
        span.attributes = vec![
            KeyValue::new("shardwright.operation", operation.0 as i64),
            KeyValue::new("shardwright.step", id.0 as i64),
            KeyValue::new("shardwright.tries", i64::from(step.attempts)),
        ];
        span.attributes
            .extend(step.node.iter().map(|node| KeyValue::new("shardwright.node", node.to_string())));
        span.status = error.map_or(Status::Ok, |error| Status::error(error.clone()));
        self.send(span);
    }
}

fn span(context: SpanContext, name: &'static str, began: SystemTime, ended: SystemTime) -> SpanData {
    SpanData {
        span_context: context,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: began,
        end_time: ended.max(began),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("shardwright")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// One under way, or that just ended.
fn find(state: &State, id: OperationId) -> Option<&Operation> {
    let ended = || state.finished.iter().rev().find(|operation| operation.id == id);
    state.operations.get(&id).or_else(ended)
}

/// Sends spans to a collector over OTLP/HTTP.
#[derive(Debug)]
pub(super) struct Exporter {
    collector: opentelemetry_otlp::SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    meters: Arc<Meters>,
}

impl Exporter {
    /// `url` is the collector's, with or without the path for traces. From here on `spans` are kept for it.
    pub(super) fn new(
        url: &str,
        name: &str,
        log_id: &str,
        (spans, meters): (&Spans, &Arc<Meters>),
        tls: &ClientTls,
    ) -> Result<Self, ServeError> {
        let wrong = |reason: &str| ServeError::Collector(reason.to_owned());
        let mut url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("it must begin with https://, or http:// on loopback"));
        }
        tls::check_url(url.as_str()).map_err(|error| wrong(&error.to_string()))?;
        if url.path() == "/" {
            url.set_path("/v1/traces");
        }
        let client = tls.builder()?.timeout(REQUEST_TIME_MAX).build();
        let client = client.map_err(|error| ServeError::Client(error.to_string()))?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Plain(client))
            .with_endpoint(url.as_str())
            .with_timeout(REQUEST_TIME_MAX)
            .build();
        let mut exporter = exporter.map_err(|error| wrong(&error.to_string()))?;
        let of_process = [KeyValue::new("service.instance.id", name.to_owned())];
        let resource = Resource::builder_empty().with_service_name("shardwright").with_attributes(of_process);
        exporter.set_resource(&resource.build());
        let (out, waiting) = mpsc::channel(WAITING_MAX);
        let log = u128::from_str_radix(log_id, 16).unwrap_or(1);
        let out = Out { log, spans: out, meters: Arc::clone(meters) };
        // A second exporter for one controller would be a fault of ours; the first goes on.
        let _second = spans.0.out.set(out);
        Ok(Self { collector: exporter, spans: waiting, meters: Arc::clone(meters) })
    }

    /// Sends until `shutdown`.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let (mut batch, mut failing) = (Vec::with_capacity(BATCH_MAX), false);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                _ = self.spans.recv_many(&mut batch, BATCH_MAX) => {}
            }
            let count = batch.len();
            if count == 0 {
                // The driver is gone.
                return;
            }
            match self.collector.export(std::mem::take(&mut batch)).await {
                Ok(()) => {
                    failing = false;
                    self.meters.exported("sent", count);
                }
                Err(error) => {
                    self.meters.exported("failed", count);
                    // Said once, not with every batch.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the collector of traces does not take them: they are dropped");
                    }
                }
            }
        }
    }
}

/// The client that the rest of the program uses, too.
#[derive(Debug)]
struct Plain(reqwest::Client);

#[async_trait]
impl HttpClient for Plain {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let asked = self.0.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let answer = asked.send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        let mut response = Response::new(beginning(answer, ANSWER_BYTES_MAX).await?.into());
        *response.status_mut() = status;
        Ok(response)
    }
}

#[cfg(test)]
mod tests;
