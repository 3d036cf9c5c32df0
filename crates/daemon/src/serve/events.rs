//! `GET /api/v1/events`: what changes, as server-sent events, so that a page need not ask again and again.
//!
//! One task looks at the operator while somebody listens, whatever number they are; each client has a small buffer, and one
//! that does not keep up is let go and may come again. So is one whose token ends meanwhile.

use super::board::Board;
use super::handle::Handle;
use super::problem::ApiError;
use crate::shutdown::Shutdown;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Frame;
use model::api::{Alert, Dashboard, OperationList};
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Pages that may be open at once.
const CLIENTS_MAX: usize = 64;
/// Events that a client may be behind.
const BUFFER: usize = 32;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Something is said this often, so that both ends notice a connection that is gone.
const SAY_EVERY: u32 = 15;
/// Finished operations in an event: what a page shows.
const OPERATIONS_MAX: usize = 200;

type Client = Sender<Bytes, Infallible>;

/// Those who listen. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(Arc<Shared>);

#[derive(Default)]
struct Shared {
    clients: Mutex<Vec<Listener>>,
    came: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// Whether the client may still listen.
type May = Box<dyn Fn() -> bool + Send>;

struct Listener {
    client: Client,
    may: May,
    /// It has had the whole picture.
    greeted: bool,
}

/// What was said last of each kind.
#[derive(Debug, Default)]
struct Said {
    dashboard: Option<Dashboard>,
    operations: Option<OperationList>,
    alerts: Option<Vec<Alert>>,
    quiet: u32,
}

impl Events {
    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clients(&self) -> usize {
        self.listeners().len()
    }

    /// A stream for one more client, for as long as it `may` listen.
    pub(super) fn listen(&self, may: impl Fn() -> bool + Send + 'static) -> Result<Response, ApiError> {
        let mut listeners = self.listeners();
        if listeners.len() >= CLIENTS_MAX {
            return Err(ApiError::busy(&format!("{CLIENTS_MAX} clients listen to the events already")));
        }
        let (client, body) = Channel::<Bytes, Infallible>::new(BUFFER);
        listeners.push(Listener { client, may: Box::new(may), greeted: false });
        drop(listeners);
        self.0.came.notify_one();
        let mut response = Response::new(Body::new(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// Sends `news` to all, and the whole picture to who has just come. Who does not keep up is let go, and who may not listen
    /// any longer.
    fn say(&self, news: &[Bytes], whole: &[Bytes]) {
        self.listeners().retain_mut(|listener| {
            if !(listener.may)() {
                return false;
            }
            let events = if listener.greeted { news } else { whole };
            listener.greeted = true;
            events.iter().all(|event| listener.client.try_send(Frame::data(event.clone())).is_ok())
        });
    }
}

fn event(kind: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("event: {kind}\ndata: {data}\n\n"))
}

impl Said {
    /// What is new, and all of it.
    fn hear(&mut self, board: Dashboard, operations: OperationList) -> (Vec<Bytes>, Vec<Bytes>) {
        let whole = vec![
            event("dashboard", &board),
            event("operations", &operations),
            event("alerts", &json!({ "alerts": board.alerts })),
        ];
        // The moment alone is no news.
        let same_but_time = self
            .dashboard
            .as_ref()
            .is_some_and(|said| Dashboard { timestamp: board.timestamp, ..said.clone() } == board);
        let changed = [
            !same_but_time,
            self.operations.as_ref() != Some(&operations),
            self.alerts.as_ref() != Some(&board.alerts),
        ];
        let mut news: Vec<Bytes> = whole
            .iter()
            .zip(changed)
            .filter(|(_, changed)| *changed)
            .map(|(event, _)| event.clone())
            .collect();
        self.alerts = Some(board.alerts.clone());
        (self.dashboard, self.operations) = (Some(board), Some(operations));
        self.quiet = if news.is_empty() { self.quiet + 1 } else { 0 };
        if self.quiet >= SAY_EVERY {
            self.quiet = 0;
            news.push(Bytes::from_static(b": nothing new\n\n"));
        }
        (news, whole)
    }
}

/// Looks while somebody listens, until `shutdown`.
pub(super) async fn run(events: Events, driver: Handle, shutdown: Shutdown) {
    let mut said = Said::default();
    loop {
        if events.clients() == 0 {
            said = Said::default();
            tokio::select! {
                () = shutdown.wait() => return,
                () = events.0.came.notified() => {}
            }
        }
        let seen = driver.read(|controller, _, unix| {
            let mut operations = controller.operations();
            operations.operations.truncate(OPERATIONS_MAX);
            (Board::of(controller, unix).dashboard, operations)
        });
        if let Ok((board, operations)) = seen.await {
            let (news, whole) = said.hear(board, operations);
            events.say(&news, &whole);
        }
        tokio::select! {
            () = shutdown.wait() => return,
            () = events.0.came.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn texts(events: &[Bytes]) -> Vec<String> {
        let kind = |event: &Bytes| String::from_utf8_lossy(event).lines().next().map(str::to_owned);
        events.iter().filter_map(kind).collect()
    }

    #[test]
    fn only_what_changed_is_news_and_silence_is_broken() {
        let mut said = Said::default();
        let board = |timestamp| Dashboard { timestamp, ..Board::default().dashboard };
        let none = || OperationList { operations: Vec::new() };
        let (news, whole) = said.hear(board(1), none());
        assert_eq!(texts(&news), ["event: dashboard", "event: operations", "event: alerts"]);
        assert_eq!(news, whole);
        for second in 2..16 {
            assert!(said.hear(board(second), none()).0.is_empty(), "{second}");
        }
        assert_eq!(texts(&said.hear(board(16), none()).0), [": nothing new"]);
        let changed = Dashboard { overall_status: "warning".to_owned(), ..board(17) };
        assert_eq!(texts(&said.hear(changed, none()).0), ["event: dashboard"]);
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_let_go_and_their_number_is_bounded() {
        let events = Events::default();
        let mut streams: Vec<Response> = (0..CLIENTS_MAX)
            .map(|_| events.listen(|| true).unwrap_or_else(|error| panic!("{error:?}")))
            .collect();
        assert!(events.listen(|| true).is_err());
        let one = [Bytes::from_static(b"event: x\n\n")];
        let mut reader = streams.remove(0).into_body();
        for round in 0..=BUFFER {
            events.say(&one, &one);
            assert!(reader.frame().await.is_some(), "{round}");
        }
        assert_eq!(events.clients(), 1, "the one who reads stays");
        drop(reader);
        events.say(&one, &one);
        assert_eq!(events.clients(), 0, "who left is forgotten");
    }

    #[tokio::test]
    async fn who_may_not_listen_any_longer_is_let_go() {
        let (events, good) = (Events::default(), Arc::new(AtomicBool::new(true)));
        let may = Arc::clone(&good);
        let stream =
            events.listen(move || may.load(Ordering::Relaxed)).unwrap_or_else(|error| panic!("{error:?}"));
        let (mut reader, one) = (stream.into_body(), [Bytes::from_static(b"event: x\n\n")]);
        events.say(&one, &one);
        assert!(reader.frame().await.is_some());
        good.store(false, Ordering::Relaxed);
        events.say(&one, &one);
        assert!(reader.frame().await.is_none(), "nothing more is said");
        assert_eq!(events.clients(), 0);
    }
}
