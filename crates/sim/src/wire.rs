//! Scripts that wait: what a sidecar, a look or a client does over several statements reads from top to bottom, as
//! in the real programs, and stops at every wait. The world answers in virtual time.
//!
//! There is no runtime: a script is a future that the world polls by hand, with a waker that does nothing.

use crate::looks::SHOW_CLUSTERS;
use crate::sidecar::Missing;
use control::PollAnswer;
use engine::{Reply, SqlError};
use model::wire::{ShardingStatement, SidecarOrders, SidecarPoll, StatementReply};
use model::{ClusterStatus, CommandId, Epoch, GroupId, Measurement, Millis, NodeId, Outcome};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What a script asks of the world.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A statement for a node, on a session of its own unless one is given.
    Sql {
        to: NodeId,
        session: Option<u64>,
        sql: String,
        time_max: u64,
    },
    /// Only whether the node's listener answers.
    Knock {
        to: NodeId,
        time_max: u64,
    },
    /// Makes the directory of a group on the script's own node, or removes it.
    Directory {
        group: GroupId,
        make: bool,
    },
    /// A sidecar's poll, for the controller at this place.
    Orders {
        controller: usize,
        poll: Box<SidecarPoll>,
        time_max: u64,
    },
    /// A statement for the controller at this place.
    Statement {
        controller: usize,
        statement: Box<ShardingStatement>,
        time_max: u64,
    },
    /// What the node's sidecar makes of a write to a table that is not there.
    Missing {
        to: NodeId,
        table: String,
    },
    /// The connection that held this session is closed.
    Close {
        to: NodeId,
        session: u64,
    },
    Sleep {
        millis: u64,
    },
    /// The sidecar begins a command under this epoch; the invariants want to know.
    Begin {
        id: CommandId,
        epoch: Epoch,
    },
}

/// How an ask ended.
#[derive(Clone, Debug)]
pub enum Answer {
    Sql(Result<Reply, SqlError>),
    /// To [`SHOW_CLUSTERS`].
    Clusters(BTreeMap<GroupId, ClusterStatus>),
    Orders(Box<SidecarOrders>),
    Statement(StatementReply),
    /// A listener answered, time passed, a directory was made.
    Done,
    /// The connection was refused: nothing arrived.
    Refused,
    /// The connection broke: it may have been carried out.
    Broken,
    /// No answer in time: it may have been carried out.
    Silent,
    /// The controller asked does not lead.
    NotLeader,
    Missing(Missing),
}

/// What a script comes to.
#[derive(Debug)]
pub enum Finish {
    Command {
        id: CommandId,
        outcome: Outcome,
    },
    Look(PollAnswer),
    /// A sidecar's look at a suspect, and whether the controller does not know yet how it ended.
    Watched {
        peer: NodeId,
        news: bool,
    },
    Measured {
        node: NodeId,
        token: u64,
        measured: Result<Measurement, String>,
    },
    /// It did its work by itself.
    Nothing,
}

#[derive(Debug, Default)]
struct Slot {
    asked: Option<Ask>,
    answer: Option<Answer>,
    now: Millis,
}

/// A script's connection to the world.
#[derive(Clone, Debug, Default)]
pub struct Wire(Rc<RefCell<Slot>>);

impl Wire {
    pub fn now(&self) -> Millis {
        self.0.borrow().now
    }

    pub fn ask(&self, ask: Ask) -> impl Future<Output = Answer> + use<> {
        Asking { wire: self.clone(), ask: Some(ask) }
    }

    /// A statement without a session.
    pub async fn sql(&self, to: &NodeId, sql: impl Into<String>, time_max: u64) -> Answer {
        self.ask(Ask::Sql { to: to.clone(), session: None, sql: sql.into(), time_max }).await
    }

    /// The node's clusters, or how it was out of reach.
    pub async fn clusters(
        &self,
        of: &NodeId,
        time_max: u64,
    ) -> Result<BTreeMap<GroupId, ClusterStatus>, Answer> {
        match self.sql(of, SHOW_CLUSTERS, time_max).await {
            Answer::Clusters(shown) => Ok(shown),
            other => Err(other),
        }
    }

    pub async fn sleep(&self, millis: u64) {
        self.ask(Ask::Sleep { millis }).await;
    }
}

struct Asking {
    wire: Wire,
    ask: Option<Ask>,
}

impl Future for Asking {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        let ask = self.ask.take();
        let mut slot = self.wire.0.borrow_mut();
        if let Some(ask) = ask {
            slot.asked = Some(ask);
            return Poll::Pending;
        }
        slot.answer.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// A script under way.
pub struct Task {
    pub owner: Owner,
    /// The number of the ask that it waits for; answers to others come too late.
    pub waits_for: u64,
    wire: Wire,
    script: Pin<Box<dyn Future<Output = Finish>>>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// The process that a script ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The sidecar of this node, in this life of its.
    Sidecar {
        at: usize,
        life: u64,
    },
    Controller {
        at: usize,
        life: u64,
    },
    /// Clients and the operator, who never die.
    Client,
}

/// What a turn of a script came to.
#[derive(Debug)]
pub enum Turn {
    Asks(Ask),
    Ended(Finish),
}

impl Task {
    pub fn new<F>(owner: Owner, script: impl FnOnce(Wire) -> F) -> Self
    where
        F: Future<Output = Finish> + 'static,
    {
        let wire = Wire::default();
        Self { owner, waits_for: 0, script: Box::pin(script(wire.clone())), wire }
    }

    /// Goes on with `answer`, or begins.
    pub fn turn(&mut self, now: Millis, answer: Option<Answer>) -> Turn {
        {
            let mut slot = self.wire.0.borrow_mut();
            slot.now = now;
            slot.answer = answer;
        }
        let mut context = Context::from_waker(Waker::noop());
        match self.script.as_mut().poll(&mut context) {
            Poll::Ready(finish) => Turn::Ended(finish),
            // A script waits for nothing but the world.
            Poll::Pending => {
                self.wire.0.borrow_mut().asked.take().map_or(Turn::Ended(Finish::Nothing), Turn::Asks)
            }
        }
    }
}
