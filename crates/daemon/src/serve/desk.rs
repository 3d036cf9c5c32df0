//! What waits between ticks: commands for sidecars, polls that are held, clients that wait for their answer.
//!
//! Keeps and hands out; it neither decides nor talks. Times are the driver's.

use crate::backup::Errand;
use control::{RequestId, StandingOrders};
use model::wire::{Order, SidecarOrders, StatementReply, Versions};
use model::{Command, CommandId, CommandResult, Epoch, Millis, NodeId, Outcome};
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot;

/// Commands that wait for one node's sidecar. The operator gives each a deadline, so a sidecar that is away
/// leaves at most what was given within one deadline; more than this is a fault and the oldest go.
const COMMANDS_MAX: usize = 10_000;

/// The orders of one poll, and the moment by which they must be on their way.
pub(super) type Orders = SidecarOrders;

/// A command and when it was given.
#[derive(Debug)]
struct Queued {
    number: u64,
    at: Millis,
    command: Command,
}

/// What is between the operator and one run of a sidecar: commands not yet known to be taken.
#[derive(Debug, Default)]
struct Line {
    run: String,
    given: u64,
    commands: VecDeque<Queued>,
}

/// A poll that is answered when there is something to say, or when its time is over.
#[derive(Debug)]
struct Held {
    until: Millis,
    has: Versions,
    reply: oneshot::Sender<Orders>,
}

#[derive(Debug, Default)]
pub(super) struct Desk {
    lines: BTreeMap<NodeId, Line>,
    held: BTreeMap<NodeId, Held>,
    clients: BTreeMap<RequestId, oneshot::Sender<StatementReply>>,
    /// Jobs that wait for what a sidecar does for them, and since which epoch.
    errands: BTreeMap<(NodeId, CommandId), (Epoch, oneshot::Sender<Outcome>)>,
    errands_given: u32,
    hold_statements_seconds: u64,
    /// Those that held polls were told of, or need not be.
    suspects: Vec<NodeId>,
}

/// What lets held polls go before their time.
#[derive(Debug)]
pub(super) struct News {
    pub(super) names_version: u64,
    pub(super) suspects: Vec<NodeId>,
}

impl Desk {
    pub(super) fn new(hold_statements_seconds: u64) -> Self {
        Self { hold_statements_seconds, ..Self::default() }
    }

    /// How long sidecars hold statements from their next orders on.
    pub(super) fn hold_statements(&mut self, seconds: u64) {
        self.hold_statements_seconds = seconds;
    }

    /// A command for `node`, to go out with its next orders.
    pub(super) fn queue(&mut self, now: Millis, node: NodeId, command: Command) {
        let line = self.lines.entry(node).or_default();
        if line.commands.len() == COMMANDS_MAX {
            let lost = line.commands.pop_front().map(|queued| queued.command.id);
            let (operation, step) = lost.map(|id| (id.operation, id.step)).unzip();
            tracing::error!(
                ?operation,
                ?step,
                "a command was dropped: its node's sidecar takes none; its step will time out"
            );
        }
        line.given += 1;
        line.commands.push_back(Queued { number: line.given, at: now, command });
    }

    /// The same for a job, which is told what came of it. It is numbered in this desk alone: the epoch tells it from
    /// another leader's.
    pub(super) fn errand(&mut self, now: Millis, epoch: Epoch, errand: Errand) {
        self.forget_left();
        let Errand { node, operation, step, action, time_max, over } = errand;
        self.errands_given = self.errands_given.wrapping_add(1);
        let id = CommandId { operation, step, attempt: self.errands_given };
        let remaining_ms = u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX);
        self.queue(now, node.clone(), Command { id, epoch, remaining_ms, action });
        self.errands.insert((node, id), (epoch, over));
    }

    /// What nobody waits for any more is not handed over: a batch of documents takes memory.
    fn forget_left(&mut self) {
        let lines = &mut self.lines;
        self.errands.retain(|(node, id), (_, over)| {
            let left = over.is_closed();
            if left && let Some(line) = lines.get_mut(node) {
                line.commands.retain(|queued| queued.command.id != *id);
            }
            !left
        });
    }

    /// What a sidecar did: jobs hear what was theirs.
    pub(super) fn ended(&mut self, node: &NodeId, results: &[CommandResult]) {
        for result in results {
            let key = (node.clone(), result.id);
            if self.errands.get(&key).is_some_and(|(epoch, _)| *epoch == result.epoch)
                && let Some((_, over)) = self.errands.remove(&key)
            {
                // A job that was ended needs no answer.
                let _gone = over.send(result.outcome.clone());
            }
        }
    }

    /// A sidecar has asked: what it has taken is not handed over again, and what an earlier run of it was given is
    /// nobody's any more (the operator counts it as unknown).
    pub(super) fn heard(&mut self, node: &NodeId, run: &str, taken: u64) {
        let line = self.lines.entry(node.clone()).or_default();
        if line.run == run {
            line.commands.retain(|queued| queued.number > taken);
        } else {
            *line = Line { run: run.to_owned(), ..Line::default() };
            self.errands.retain(|(of, _), _| of != node);
        }
    }

    /// Holds a poll until `until`. An older one of the same node is answered at once: its sidecar has asked anew.
    pub(super) fn hold(
        &mut self,
        node: NodeId,
        until: Millis,
        has: Versions,
        reply: oneshot::Sender<Orders>,
        standing: impl Fn(Versions) -> StandingOrders,
    ) {
        let held = Held { until, has, reply };
        if let Some(older) = self.held.insert(node, held) {
            let orders = self.orders(standing(older.has), Vec::new());
            let _gone = older.reply.send(orders);
        }
    }

    /// Answers every held poll that has commands, whose names are old or whose time is over; and all of them when
    /// there is a new suspect, since a loss is proven only once others have looked.
    pub(super) fn answer_held(
        &mut self,
        now: Millis,
        news: News,
        standing: impl Fn(Versions) -> StandingOrders,
    ) {
        let suspected = news.suspects.iter().any(|node| !self.suspects.contains(node));
        self.suspects = news.suspects;
        let due: Vec<NodeId> = self
            .held
            .iter()
            .filter(|(node, held)| {
                suspected
                    || held.until <= now
                    || held.has.names != news.names_version
                    || self.lines.get(*node).is_some_and(|line| !line.commands.is_empty())
            })
            .map(|(node, _)| node.clone())
            .collect();
        for node in due {
            let Some(held) = self.held.remove(&node) else { continue };
            let commands = self.commands(now, &node);
            let orders = self.orders(standing(held.has), commands);
            // A connection that is gone takes nothing with it: the next poll tells what was taken.
            let _gone = held.reply.send(orders);
        }
    }

    /// When a held poll must be answered at the latest.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.held.values().map(|held| held.until).min()
    }

    /// A client waits for the answer to `request`.
    pub(super) fn wait(&mut self, request: RequestId, reply: oneshot::Sender<StatementReply>) {
        self.clients.insert(request, reply);
    }

    pub(super) fn answer(&mut self, request: RequestId, reply: StatementReply) {
        if let Some(client) = self.clients.remove(&request) {
            // A client that left needs no answer.
            let _gone = client.send(reply);
        }
    }

    pub(super) fn forget(&mut self, request: RequestId) {
        self.clients.remove(&request);
    }

    /// The operator is built anew from the log: it knows none of these any more.
    pub(super) fn clear(&mut self, message: &str) {
        for (_, client) in std::mem::take(&mut self.clients) {
            let _gone = client.send(StatementReply::Error { message: message.to_owned() });
        }
        self.lines.clear();
        self.errands.clear();
        self.held.clear();
    }

    /// The commands for `node` whose time is not over, with the time they have left now.
    fn commands(&mut self, now: Millis, node: &NodeId) -> Vec<Order> {
        let Some(line) = self.lines.get_mut(node) else { return Vec::new() };
        let left = |queued: &Queued| queued.command.remaining_ms.saturating_sub(now.since(queued.at).0);
        line.commands.retain(|queued| {
            let in_time = left(queued) > 0;
            if !in_time {
                let (operation, step) = (queued.command.id.operation, queued.command.id.step);
                tracing::warn!(%node, %operation, %step, "a command's time was over before it was taken");
            }
            in_time
        });
        let order = |queued: &Queued| Order {
            number: queued.number,
            command: Command { remaining_ms: left(queued), ..queued.command.clone() },
        };
        line.commands.iter().map(order).collect()
    }

    fn orders(&self, standing: StandingOrders, commands: Vec<Order>) -> Orders {
        SidecarOrders {
            log_id: standing.log_id,
            epoch: standing.epoch,
            lead: standing.lead,
            last: standing.last,
            names_version: standing.names_version,
            names: standing.names,
            views_version: standing.views_version,
            views: standing.views,
            commands,
            peers: standing.peers,
            suspects: standing.suspects,
            hold_statements_seconds: self.hold_statements_seconds,
            unserved: standing.unserved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::wire::TableNameEntry;
    use model::{Action, GroupId, OperationId, StepId};
    use std::time::Duration;

    fn node() -> NodeId {
        NodeId::new("127.0.0.1:9312").expect("valid")
    }

    fn command(step: u64, remaining_ms: u64) -> Command {
        Command {
            id: CommandId { operation: OperationId(1), step: StepId(step), attempt: 1 },
            epoch: Epoch(1),
            remaining_ms,
            action: Action::Bootstrap { group: GroupId::new("g").expect("valid") },
        }
    }

    fn standing(has: Versions) -> StandingOrders {
        let entry = TableNameEntry {
            table: model::TableName::new("t").expect("valid"),
            cluster: None,
            generation: 1,
        };
        StandingOrders {
            log_id: "l".to_owned(),
            epoch: Epoch(1),
            lead: "l".to_owned(),
            last: model::LogIndex(1),
            names_version: 3,
            names: (has.names < 3).then(|| vec![entry]),
            views_version: 0,
            views: None,
            peers: Vec::new(),
            unserved: BTreeMap::new(),
            suspects: Vec::new(),
        }
    }

    const fn has(names: u64) -> Versions {
        Versions { names, views: 0 }
    }

    fn news(suspects: &[NodeId]) -> News {
        News { names_version: 3, suspects: suspects.to_vec() }
    }

    #[test]
    fn remaining_time_is_measured_when_a_poll_is_answered() {
        let mut desk = Desk::new(10);
        desk.queue(Millis(100), node(), command(0, 500));
        desk.queue(Millis(100), node(), command(1, 50));
        let (reply, mut orders) = oneshot::channel();
        desk.hold(node(), Millis(1_100), has(3), reply, standing);
        desk.answer_held(Millis(300), news(&[]), standing);
        let orders = orders.try_recv().expect("answered");
        assert_eq!(orders.commands, vec![Order { number: 1, command: command(0, 300) }]);
        assert_eq!(orders.hold_statements_seconds, 10);
    }

    #[test]
    fn a_poll_is_held_until_there_is_something_or_its_time_is_over() {
        let mut desk = Desk::new(10);
        let (reply, mut orders) = oneshot::channel();
        desk.hold(node(), Millis(1_000), has(3), reply, standing);
        desk.answer_held(Millis(999), news(&[]), standing);
        assert!(orders.try_recv().is_err());
        assert_eq!(desk.next_due(), Some(Millis(1_000)));
        desk.answer_held(Millis(1_000), news(&[]), standing);
        assert!(orders.try_recv().expect("answered").commands.is_empty());
        let (reply, mut orders) = oneshot::channel();
        desk.hold(node(), Millis(2_000), has(2), reply, standing);
        desk.answer_held(Millis(1_000), news(&[]), standing);
        assert_eq!(orders.try_recv().expect("answered").names.map(|names| names.len()), Some(1));
    }

    #[test]
    fn a_new_suspect_is_told_at_once_and_an_old_one_is_none() {
        let mut desk = Desk::new(10);
        let mut told = |now, suspects: &[NodeId]| {
            let (reply, mut orders) = oneshot::channel();
            desk.hold(node(), Millis(now + 1_000), has(3), reply, standing);
            desk.answer_held(Millis(now), news(suspects), standing);
            orders.try_recv().is_ok()
        };
        let other = NodeId::new("127.0.0.1:9313").expect("valid");
        assert!(!told(0, &[]));
        assert!(told(1, &[node()]));
        assert!(!told(2, &[node()]));
        assert!(told(3, &[node(), other.clone()]));
        assert!(!told(4, &[other]));
        assert!(!told(5, &[]));
        assert!(told(6, &[node()]), "anew");
    }

    #[test]
    fn commands_are_handed_over_until_they_are_taken() {
        let mut desk = Desk::new(10);
        let ask = |desk: &mut Desk, now, taken| {
            let (reply, mut orders) = oneshot::channel();
            desk.heard(&node(), "first", taken);
            desk.hold(node(), Millis(1_000), has(3), reply, standing);
            desk.answer_held(now, news(&[]), standing);
            orders.try_recv().map(|orders| orders.commands).ok()
        };
        assert_eq!(ask(&mut desk, Millis(0), 0), None);
        desk.queue(Millis(0), node(), command(0, 500));
        // Its connection was gone: the next poll brings the same again.
        desk.answer_held(Millis(10), news(&[]), standing);
        let first = Order { number: 1, command: command(0, 480) };
        assert_eq!(ask(&mut desk, Millis(20), 0), Some(vec![first]));
        desk.queue(Millis(30), node(), command(1, 500));
        let second = Order { number: 2, command: command(1, 500) };
        assert_eq!(ask(&mut desk, Millis(30), 1), Some(vec![second]));
        assert_eq!(ask(&mut desk, Millis(40), 2), None);
    }

    #[test]
    fn another_run_of_a_sidecar_is_not_given_what_was_for_the_one_before() {
        let mut desk = Desk::new(10);
        desk.heard(&node(), "first", 0);
        desk.queue(Millis(0), node(), command(0, 500));
        desk.heard(&node(), "second", 0);
        desk.queue(Millis(0), node(), command(1, 500));
        let (reply, mut orders) = oneshot::channel();
        desk.hold(node(), Millis(1_000), has(3), reply, standing);
        desk.answer_held(Millis(0), news(&[]), standing);
        let taken = orders.try_recv().expect("answered").commands;
        assert_eq!(taken, vec![Order { number: 1, command: command(1, 500) }]);
    }

    #[test]
    fn a_newer_poll_frees_the_older_one_without_commands() {
        let mut desk = Desk::new(10);
        let (first, mut older) = oneshot::channel();
        desk.hold(node(), Millis(1_000), has(3), first, standing);
        desk.queue(Millis(0), node(), command(0, 500));
        let (second, mut newer) = oneshot::channel();
        desk.hold(node(), Millis(1_000), has(3), second, standing);
        assert!(older.try_recv().expect("answered").commands.is_empty());
        desk.answer_held(Millis(0), news(&[]), standing);
        assert_eq!(newer.try_recv().expect("answered").commands.len(), 1);
    }

    fn errand(desk: &mut Desk, epoch: u64) -> oneshot::Receiver<Outcome> {
        let (over, outcome) = oneshot::channel();
        let Command { action, .. } = command(0, 0);
        let (operation, step, time_max) = (OperationId(1), StepId(0), Duration::from_millis(500));
        desk.errand(
            Millis(0),
            Epoch(epoch),
            Errand { node: node(), operation, step, action, time_max, over },
        );
        outcome
    }

    #[test]
    fn a_job_hears_of_its_own_order_alone_and_one_that_left_leaves_nothing() {
        let mut desk = Desk::new(10);
        desk.heard(&node(), "first", 0);
        let mut outcome = errand(&mut desk, 2);
        let id = CommandId { operation: OperationId(1), step: StepId(0), attempt: 1 };
        let done = Outcome::Done { contents: BTreeMap::new() };
        let of = |epoch| CommandResult { id, epoch: Epoch(epoch), outcome: done.clone() };
        // The leader before numbered as this one does.
        desk.ended(&node(), &[of(1)]);
        assert!(outcome.try_recv().is_err());
        desk.ended(&node(), &[of(2)]);
        assert_eq!(outcome.try_recv(), Ok(done));
        drop(errand(&mut desk, 2));
        let mut last = errand(&mut desk, 2);
        let given: Vec<u64> = desk.commands(Millis(0), &node()).iter().map(|order| order.number).collect();
        assert_eq!(given, [1, 3], "the first was not taken yet, the second is wanted by nobody");
        desk.heard(&node(), "second", 0);
        assert_eq!(last.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn clients_hear_that_the_operator_began_anew() {
        let mut desk = Desk::new(10);
        let (reply, mut answer) = oneshot::channel();
        desk.wait(RequestId(1), reply);
        desk.clear("begun anew");
        assert_eq!(answer.try_recv(), Ok(StatementReply::Error { message: "begun anew".to_owned() }));
        desk.answer(RequestId(1), StatementReply::Ok);
    }
}
