//! The way into the driver for everyone else: bounded, and never waiting for a place.

use super::desk::Orders;
use super::diary::Origin;
use crate::backup::Errand;
use control::backup::JobEnd;
use control::{Controller, PollAnswer, RequestId};
use model::wire::{ShardingStatement, SidecarPoll, StatementReply};
use model::{Epoch, Measurement, Millis, NodeId, OperationId, Settings, StepId, TokenOrder, UserRights};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// What waits for the driver. A tick takes milliseconds, so more than this means that it hangs: then refusing is
/// better than a growing queue.
pub(super) const MESSAGES_MAX: usize = 4096;

/// A look at the operator between two ticks: with the monotonic time and the Unix second.
pub(super) type Read = Box<dyn FnOnce(&Controller, Millis, u64) + Send>;

/// Something for the driver.
pub(super) enum Message {
    Poll {
        poll: SidecarPoll,
        reply: oneshot::Sender<Orders>,
    },
    Statement {
        request: RequestId,
        statement: ShardingStatement,
        rights: Option<UserRights>,
        origin: Origin,
        reply: oneshot::Sender<StatementReply>,
    },
    Token {
        request: RequestId,
        order: TokenOrder,
        origin: Origin,
        reply: oneshot::Sender<StatementReply>,
    },
    Abandoned(RequestId),
    Polled(PollAnswer),
    Measured {
        node: NodeId,
        token: u64,
        measured: Result<Measurement, String>,
    },
    JobOver {
        operation: OperationId,
        step: StepId,
        attempt: u64,
        end: JobEnd,
    },
    /// What a job wants a sidecar to do.
    Errand(Errand),
    Read(Read),
    /// They hold from now on.
    Settings(Box<Settings>),
    /// When the certificates of this process end.
    Certificates(BTreeMap<String, u64>),
    /// The leader of epoch `after` is silent, and the lead is this controller's to take.
    Lead {
        after: Epoch,
    },
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poll { .. } => "Poll",
            Self::Statement { .. } => "Statement",
            Self::Token { .. } => "Token",
            Self::Abandoned(_) => "Abandoned",
            Self::Polled(_) => "Polled",
            Self::Measured { .. } => "Measured",
            Self::JobOver { .. } => "JobOver",
            Self::Errand(_) => "Errand",
            Self::Read(_) => "Read",
            Self::Settings(_) => "Settings",
            Self::Certificates(_) => "Certificates",
            Self::Lead { .. } => "Lead",
        })
    }
}

/// Why the driver did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("the controller has too much waiting")]
    Full,
    #[error("the controller is reading its log again or is stopping")]
    Gone,
}

/// Cheap to clone; all clones speak to one driver.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    messages: mpsc::Sender<Message>,
    requests: Arc<AtomicU64>,
}

/// A statement that was handed over. Dropping it tells the operator that nobody waits any more.
#[derive(Debug)]
pub(super) struct Pending {
    request: RequestId,
    handle: Handle,
    reply: oneshot::Receiver<StatementReply>,
    answered: bool,
}

impl Handle {
    pub(super) fn new(messages: mpsc::Sender<Message>) -> Self {
        Self { messages, requests: Arc::new(AtomicU64::new(1)) }
    }

    pub(super) async fn poll(&self, poll: SidecarPoll) -> Result<Orders, NoAnswer> {
        let (reply, orders) = oneshot::channel();
        self.send(Message::Poll { poll, reply })?;
        orders.await.map_err(|_| NoAnswer::Gone)
    }

    pub(super) fn statement(
        &self,
        statement: ShardingStatement,
        rights: Option<UserRights>,
        origin: Origin,
    ) -> Result<Pending, NoAnswer> {
        self.ask(|request, reply| Message::Statement { request, statement, rights, origin, reply })
    }

    pub(super) fn token(&self, order: TokenOrder, origin: Origin) -> Result<Pending, NoAnswer> {
        self.ask(|request, reply| Message::Token { request, order, origin, reply })
    }

    fn ask(
        &self,
        message: impl FnOnce(RequestId, oneshot::Sender<StatementReply>) -> Message,
    ) -> Result<Pending, NoAnswer> {
        let request = RequestId(self.requests.fetch_add(1, Ordering::Relaxed));
        let (sender, reply) = oneshot::channel();
        self.send(message(request, sender))?;
        Ok(Pending { request, handle: self.clone(), reply, answered: false })
    }

    /// What `read` sees between two ticks: the operator, the monotonic time and the Unix second.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Controller, Millis, u64) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (sender, seen) = oneshot::channel();
        self.send(Message::Read(Box::new(move |controller, now, unix_now| {
            // The reader may have left; then nobody wants it.
            let _gone = sender.send(read(controller, now, unix_now));
        })))?;
        seen.await.map_err(|_| NoAnswer::Gone)
    }

    /// Without a place the errand is dropped, which its job sees.
    pub(super) fn errand(&self, errand: Errand) {
        if let Err(error) = self.send(Message::Errand(errand)) {
            tracing::warn!(%error, "a job's order found no place");
        }
    }

    /// What a node answered. Waits for a place: looks are bounded by the operator, which waits for them.
    pub(super) async fn seen(&self, message: Message) {
        // A driver that is gone wants no answers.
        let _gone = self.messages.send(message).await;
    }

    fn send(&self, message: Message) -> Result<(), NoAnswer> {
        self.messages.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Full,
            mpsc::error::TrySendError::Closed(_) => NoAnswer::Gone,
        })
    }
}

impl Pending {
    /// The operator's answer, whenever it comes.
    pub(super) async fn answer(mut self) -> Result<StatementReply, NoAnswer> {
        let reply = (&mut self.reply).await;
        self.answered = true;
        reply.map_err(|_| NoAnswer::Gone)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered && self.handle.send(Message::Abandoned(self.request)).is_err() {
            tracing::debug!(request = self.request.0, "the driver had no place to hear that a client left");
        }
    }
}
