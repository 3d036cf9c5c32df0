//! The loop that keeps a node in touch with its controller: report, take orders, hand them to the lanes.

use super::Sidecar;
use super::controller::ControllerError;
use super::fence::{Refused, Word};
use crate::shutdown::Shutdown;
use model::wire::{GoingOn, Order, SidecarOrders, SidecarPoll, TableNameEntry};
use model::{Command, CommandId, CommandResult, Epoch, Outcome};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Between failed polls: short enough that a restarted controller is found before anyone notices, long enough
/// not to be a load on a host that is away.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// One poll that is held, and one that brings news meanwhile; the controller then lets the first one go.
const POLLS_MAX: usize = 2;

/// What commands came to, and which are still open.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    inner: Mutex<Entries>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    results: Vec<CommandResult>,
    running: BTreeSet<CommandId>,
    /// How often those that copy were seen to go on.
    going_on: BTreeMap<CommandId, u64>,
    /// The number of the latest command taken, and the epoch it counts in.
    taken: (Epoch, u64),
}

impl Ledger {
    /// The commands among `orders` that were not taken before; they count as running.
    fn take(&self, epoch: Epoch, orders: Vec<Order>) -> Vec<Command> {
        let mut entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.taken.0 < epoch {
            entries.taken = (epoch, 0);
        }
        let mut commands = Vec::new();
        for order in orders {
            if entries.taken.0 == epoch && entries.taken.1 < order.number {
                entries.taken.1 = order.number;
                entries.running.insert(order.command.id);
                commands.push(order.command);
            }
        }
        commands
    }

    fn taken(&self, epoch: Epoch) -> u64 {
        let entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.taken.0 == epoch { entries.taken.1 } else { 0 }
    }

    /// From running to known, in one step: a report must never lack a command in both.
    pub(super) fn finish(&self, id: CommandId, epoch: Epoch, outcome: Outcome) {
        let mut entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        entries.running.remove(&id);
        entries.going_on.remove(&id);
        entries.results.push(CommandResult { id, epoch, outcome });
        drop(entries);
        self.changed.notify_one();
    }

    /// More of what the command copies was seen. The next poll tells; none is made for it.
    pub(super) fn goes_on(&self, id: CommandId) {
        let mut entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.running.contains(&id) {
            *entries.going_on.entry(id).or_default() += 1;
        }
    }

    fn report(&self) -> (Vec<CommandResult>, Vec<CommandId>) {
        let entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (entries.results.clone(), entries.running.iter().copied().collect())
    }

    pub(super) fn going_on(&self) -> Vec<GoingOn> {
        let entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        entries.going_on.iter().map(|(id, times)| GoingOn { id: *id, times: *times }).collect()
    }

    /// A poll that carried these was answered.
    fn delivered(&self, results: &[CommandResult]) {
        let mut entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        entries.results.retain(|result| !results.contains(result));
    }
}

/// A poll on its way.
struct Asked {
    at: Instant,
    carried: Vec<CommandResult>,
    answer: Result<SidecarOrders, ControllerError>,
}

/// Polls until `shutdown`.
pub(super) async fn run(sidecar: Arc<Sidecar>, shutdown: Shutdown) {
    let mut in_flight: VecDeque<JoinHandle<Asked>> = VecDeque::with_capacity(POLLS_MAX);
    let mut backoff = BACKOFF_MIN;
    loop {
        if in_flight.is_empty() {
            in_flight.push_back(tokio::spawn(ask(Arc::clone(&sidecar))));
        }
        let may_add = in_flight.len() < POLLS_MAX;
        let news = async {
            tokio::select! {
                () = sidecar.ledger.changed.notified() => {}
                () = sidecar.peers.news.notified() => {}
            }
        };
        let Some(first) = in_flight.front_mut() else { continue };
        let asked = tokio::select! {
            () = shutdown.wait() => return,
            () = news, if may_add => {
                in_flight.push_back(tokio::spawn(ask(Arc::clone(&sidecar))));
                continue;
            }
            asked = first => asked,
        };
        in_flight.pop_front();
        let went_well = match asked {
            Ok(Asked { at, carried, answer: Ok(orders) }) => {
                sidecar.ledger.delivered(&carried);
                take(&sidecar, orders, at).await
            }
            Ok(Asked { answer: Err(error), .. }) => {
                tracing::warn!(%error, "no orders");
                false
            }
            Err(error) => {
                tracing::error!(%error, "a poll ended early");
                false
            }
        };
        if went_well {
            backoff = BACKOFF_MIN;
        } else {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

async fn ask(sidecar: Arc<Sidecar>) -> Asked {
    let (log_id, epoch) = sidecar.fence.seen();
    let (results, running) = sidecar.ledger.report();
    let poll = SidecarPoll {
        node: sidecar.node.clone(),
        uuid: sidecar.uuid.clone(),
        run: sidecar.run.clone(),
        taken: sidecar.ledger.taken(epoch),
        names_version: sidecar.names.version(log_id.as_deref()),
        views_version: sidecar.peers.views_version(),
        log_id,
        epoch,
        peers: sidecar.peers.seen(),
        results,
        running,
        going_on: sidecar.ledger.going_on(),
        machine: sidecar.machine.take().map(Box::new),
    };
    let at = Instant::now();
    let answer = sidecar.controller.poll(&poll).await;
    Asked { at, carried: poll.results, answer }
}

/// Takes one answer: epoch, then names, then commands. `false` when the next poll should wait a little.
async fn take(sidecar: &Arc<Sidecar>, orders: SidecarOrders, asked: Instant) -> bool {
    let admitted = {
        let sidecar = Arc::clone(sidecar);
        let word = Word {
            log_id: orders.log_id.clone(),
            epoch: orders.epoch,
            lead: orders.lead.clone(),
            last: orders.last,
        };
        // Syncing a file takes milliseconds on a good day.
        tokio::task::spawn_blocking(move || sidecar.fence.admit(&word)).await
    };
    match admitted {
        Ok(Ok(())) => {}
        Ok(Err(refused)) => {
            tracing::error!(%refused, "orders refused");
            if !matches!(refused, Refused::NotStored(_)) {
                // A deposed leader, or none of ours: another controller may be the right one.
                sidecar.controller.pass_over();
            }
            refuse(sidecar, &orders.commands, &refused);
            return false;
        }
        Err(error) => {
            tracing::error!(%error, "orders refused");
            return false;
        }
    }
    sidecar.heard(asked, orders.hold_statements_seconds, orders.unserved);
    let now = Instant::now();
    sidecar.peers.watch(orders.peers, &orders.suspects, now);
    if let Some(views) = orders.views {
        sidecar.peers.told(orders.views_version, views, now);
    }
    // Without tables a first list never comes, since its version is the one we have: then it is empty.
    let names = match orders.names {
        None if orders.names_version == 0 && !sidecar.names.is_of(&orders.log_id) => Some(Vec::new()),
        names => names,
    };
    let stored = match names {
        None => true,
        Some(names) => store(sidecar, orders.log_id, orders.names_version, names).await,
    };
    for command in sidecar.ledger.take(orders.epoch, orders.commands) {
        sidecar.lanes.push(&sidecar.ledger, command, asked);
    }
    stored
}

/// Puts the list on disk. `false` when it is not there: then it does not hold, and is not reported.
async fn store(sidecar: &Arc<Sidecar>, log_id: String, version: u64, names: Vec<TableNameEntry>) -> bool {
    let shared = Arc::clone(sidecar);
    let stored = tokio::task::spawn_blocking(move || shared.names.store(&log_id, version, names)).await;
    let error = match stored {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::error!(error, "the names of tables were not stored; the old list holds");
    false
}

fn refuse(sidecar: &Sidecar, orders: &[Order], refused: &Refused) {
    for order in orders {
        let Command { id, epoch, .. } = &order.command;
        sidecar.ledger.finish(*id, *epoch, Outcome::Refused { message: refused.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Action, GroupId, OperationId, StepId};

    fn id(step: u64) -> CommandId {
        CommandId { operation: OperationId(1), step: StepId(step), attempt: 1 }
    }

    /// Of step `number - 1`.
    fn order(number: u64) -> Order {
        let action = Action::Bootstrap { group: GroupId::new("g").expect("valid") };
        Order {
            number,
            command: Command { id: id(number - 1), epoch: Epoch(1), remaining_ms: 1_000, action },
        }
    }

    #[test]
    fn what_is_handed_over_twice_is_taken_once() {
        let ledger = Ledger::default();
        assert_eq!(ledger.taken(Epoch(1)), 0);
        assert_eq!(ledger.take(Epoch(1), vec![order(1), order(2)]).len(), 2);
        // Number 3 was not taken before its time was over.
        let again = ledger.take(Epoch(1), vec![order(1), order(2), order(4)]);
        assert_eq!(again.iter().map(|command| command.id).collect::<Vec<_>>(), [id(3)]);
        assert_eq!((ledger.taken(Epoch(1)), ledger.taken(Epoch(2))), (4, 0));
        // A new leader counts anew, and the one before it is not listened to any more.
        assert_eq!(ledger.take(Epoch(2), vec![order(1)]).len(), 1);
        assert!(ledger.take(Epoch(1), vec![order(5)]).is_empty());
    }

    #[test]
    fn an_outcome_is_repeated_until_a_poll_that_carried_it_was_answered() {
        let ledger = Ledger::default();
        ledger.take(Epoch(1), vec![order(1), order(2)]);
        ledger.finish(id(0), Epoch(1), Outcome::Unknown { message: "x".into() });
        let (results, running) = ledger.report();
        assert_eq!((results.len(), running), (1, vec![id(1)]));
        ledger.goes_on(id(1));
        ledger.goes_on(id(1));
        assert_eq!(ledger.going_on(), [GoingOn { id: id(1), times: 2 }]);
        ledger.finish(id(1), Epoch(1), Outcome::Unknown { message: "y".into() });
        ledger.goes_on(id(1));
        assert!(ledger.going_on().is_empty(), "it is over");
        ledger.delivered(&results);
        let (left, running) = ledger.report();
        assert_eq!(left.iter().map(|result| result.id).collect::<Vec<_>>(), vec![id(1)]);
        assert!(running.is_empty());
    }
}
