//! The thread that owns the engine: everything the engine hears goes through one queue, in one order.
//!
//! Statements are answered whenever the engine says so; messages for peers are only queued here.

use crate::NodeError;
use crate::files::Home;
use crate::peers::Peers;
use engine::{Engine, Input, Output, Reply, RequestId, SessionId, SqlError};
use model::{Millis, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Inputs that wait for the engine: beyond it listeners and peers wait, and TCP makes their senders wait.
const QUEUE_LENGTH_MAX: usize = 1024;

/// What the thread runs: the engine, or in tests something that answers by a script.
pub(crate) trait Core {
    fn handle(&mut self, now: Millis, unix_now: u64, input: Input) -> Vec<Output>;
    fn next_wake(&self) -> Option<Millis>;
    fn shutdown(&mut self, now: Millis) -> Vec<Output>;
}

impl Core for Engine {
    fn handle(&mut self, now: Millis, unix_now: u64, input: Input) -> Vec<Output> {
        Self::handle(self, now, unix_now, input)
    }

    fn next_wake(&self) -> Option<Millis> {
        Self::next_wake(self)
    }

    fn shutdown(&mut self, now: Millis) -> Vec<Output> {
        Self::shutdown(self, now)
    }
}

/// A statement's outcome.
pub(crate) type Answer = Result<Reply, SqlError>;

#[derive(Debug)]
enum Message {
    Input(Box<Input>),
    Statement {
        session: SessionId,
        sql: String,
        answer: oneshot::Sender<Answer>,
    },
    /// A peer was not reached: what the engine handed out for it until now is lost. `certain`: all of it.
    PeerLost {
        peer: NodeId,
        certain: bool,
        heard: oneshot::Sender<()>,
    },
    /// Leave the clusters; answered when what had to be said to the peers is queued.
    Stop {
        stopped: oneshot::Sender<()>,
    },
}

/// The way to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    queue: mpsc::Sender<Message>,
    sessions: Arc<AtomicU64>,
}

/// Ends with the engine's thread; says why when that was not asked for.
pub(crate) type Ended = oneshot::Receiver<String>;

/// Opens the core on the thread.
pub(crate) type OpenCore = Box<dyn FnOnce(Clock) -> Result<Box<dyn Core>, engine::OpenError> + Send>;

/// What the thread starts with.
pub(crate) struct Parts {
    pub(crate) core: OpenCore,
    pub(crate) peers: Box<dyn FnOnce(Machine) -> Peers + Send>,
    /// Ends the thread at once, like a crash, when its other side is dropped.
    pub(crate) death: oneshot::Receiver<()>,
    /// The directory is this node's until the thread has ended.
    pub(crate) home: Arc<Home>,
}

/// Monotonic time since the node started, and the time of day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn now(self) -> Millis {
        // A little behind zero, so that "not yet" and "at the start" differ.
        Millis(1 + u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn unix_now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn instant(self, at: Millis) -> tokio::time::Instant {
        (self.started + Duration::from_millis(at.0.saturating_sub(1))).into()
    }
}

impl Machine {
    /// Starts the thread; returns once the engine is open.
    pub(crate) async fn start(parts: Parts) -> Result<(Self, Ended), NodeError> {
        let (queue, inputs) = mpsc::channel(QUEUE_LENGTH_MAX);
        let machine = Self { queue, sessions: Arc::new(AtomicU64::new(1)) };
        let (opened, open) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        let own = machine.clone();
        let spawned = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let clock = Clock { started: Instant::now() };
            match (parts.core)(clock) {
                Err(error) => {
                    let _ = opened.send(Err(error.to_string()));
                }
                Ok(engine) => {
                    let _ = opened.send(Ok(()));
                    let peers = (parts.peers)(own);
                    let reason = turn(Loop::new(engine, peers, clock), inputs, parts.death);
                    drop(parts.home);
                    let _ = ended.send(reason);
                }
            }
        });
        spawned.map_err(|error| NodeError::EngineStopped(format!("no thread: {error}")))?;
        match open.await {
            Ok(Ok(())) => Ok((machine, end)),
            Ok(Err(reason)) => Err(NodeError::EngineStopped(reason)),
            Err(_) => Err(NodeError::EngineStopped("it panicked while opening".to_owned())),
        }
    }

    pub(crate) fn new_session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// The engine's answer to one statement; waits as long as the engine lets it wait.
    pub(crate) async fn statement(&self, session: SessionId, sql: String) -> Answer {
        let (answer, answered) = oneshot::channel();
        let stopping = || SqlError::new("the node is stopping");
        self.queue.send(Message::Statement { session, sql, answer }).await.map_err(|_| stopping())?;
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Something happened. Lost when the engine is gone.
    pub(crate) async fn input(&self, input: Input) {
        let _ = self.queue.send(Message::Input(Box::new(input))).await;
    }

    /// Returns when the engine has heard it: from then on its messages for the peer are new ones.
    pub(crate) async fn peer_lost(&self, peer: &NodeId, certain: bool) {
        let (heard, done) = oneshot::channel();
        if self.queue.send(Message::PeerLost { peer: peer.clone(), certain, heard }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Leaves the clusters. The thread ends when this returns.
    pub(crate) async fn stop(&self) {
        let (stopped, stop) = oneshot::channel();
        if self.queue.send(Message::Stop { stopped }).await.is_ok() {
            let _ = stop.await;
        }
    }
}

/// The thread's life; returns why it ended.
fn turn(mut looped: Loop, mut inputs: mpsc::Receiver<Message>, death: oneshot::Receiver<()>) -> String {
    // A runtime of its own, for one timer: the engine's work never holds up a socket.
    match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                biased;
                _ = death => "it was dropped".to_owned(),
                reason = looped.run(&mut inputs) => reason,
            }
        }),
        Err(error) => format!("no timer: {error}"),
    }
}

struct Loop {
    engine: Box<dyn Core>,
    peers: Peers,
    clock: Clock,
    waiting: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    next_request: u64,
}

impl Loop {
    fn new(engine: Box<dyn Core>, peers: Peers, clock: Clock) -> Self {
        Self { engine, peers, clock, waiting: BTreeMap::new(), next_request: 1 }
    }

    async fn run(&mut self, inputs: &mut mpsc::Receiver<Message>) -> String {
        loop {
            match self.next(inputs).await {
                None => return "nobody is left to ask it".to_owned(),
                Some(Message::Input(input)) => {
                    let closed = matches!(*input, Input::SessionClosed(_));
                    self.handle(*input);
                    if closed {
                        // The engine drops the replies of a closed session.
                        self.waiting.retain(|_, answer| !answer.is_closed());
                    }
                }
                Some(Message::Statement { session, sql, answer }) => {
                    let request = RequestId(self.next_request);
                    self.next_request += 1;
                    self.waiting.insert(request, answer);
                    self.handle(Input::Statement { request, session, sql });
                }
                Some(Message::PeerLost { peer, certain, heard }) => {
                    self.peers.lose(&peer);
                    self.handle(if certain {
                        Input::PeerRefused(peer)
                    } else {
                        Input::PeerUnreachable(peer)
                    });
                    let _ = heard.send(());
                }
                Some(Message::Stop { stopped }) => {
                    let outputs = self.engine.shutdown(self.clock.now());
                    self.carry_out(outputs);
                    let _ = stopped.send(());
                    return "it was stopped".to_owned();
                }
            }
        }
    }

    /// The next message; meanwhile the clock ticks whenever the engine wants it to.
    async fn next(&mut self, inputs: &mut mpsc::Receiver<Message>) -> Option<Message> {
        loop {
            let Some(at) = self.engine.next_wake() else { return inputs.recv().await };
            // First: a queue that never runs empty must not starve the clock.
            if at <= self.clock.now() {
                self.handle(Input::Tick);
                if let Ok(message) = inputs.try_recv() {
                    return Some(message);
                }
                // Lets the thread be ended even by an engine that always wants to be woken.
                tokio::task::yield_now().await;
                continue;
            }
            if let Ok(message) = tokio::time::timeout_at(self.clock.instant(at), inputs.recv()).await {
                return message;
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let outputs = self.engine.handle(self.clock.now(), Clock::unix_now(), input);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { request, reply } => {
                    // The client may be gone; its answer goes nowhere.
                    if let Some(answer) = self.waiting.remove(&request) {
                        let _ = answer.send(reply);
                    }
                }
                Output::Send { to, message } => self.peers.send(&to, &message),
            }
        }
    }
}
