//! A node that has no place in the view asks for one: by JOIN CLUSTER, after a restart, or after being cut off.

use super::{
    Cluster, ClusterMessage as M, Descriptor, Host, Phase, Ticket,
    message::{Alive, Have, JoinAnswer, JoinRequest, LastView, TransferHead},
    view::Member,
};
use crate::{core::Timing, io::SqlError};
use model::{Millis, NodeId};

/// How long a member may take to answer.
const ANSWER_MAX: Millis = Millis(2_000);
/// Between two attempts.
const PAUSE: Millis = Millis(700);
/// How often a JOIN statement asks a busy cluster: a hasty second joiner runs into it, as on the real node.
const TRIES_MAX: u32 = 4;
/// A transfer that has not moved for so long is given up; longer than noticing a dead member takes.
const PROGRESS_MAX: Millis = Millis(15_000);
const SAY_AGAIN: Millis = Millis(300);

/// The way into a view.
#[derive(Debug)]
pub(super) struct JoinAttempt {
    /// Whom to ask, in turn.
    at: Vec<NodeId>,
    next: usize,
    asked: Option<NodeId>,
    due: Millis,
    tries: u32,
    returning: bool,
    /// How many in a row did not know the cluster, or were not there.
    refusals: usize,
    ticket: Option<Ticket>,
    session: Option<u64>,
    coordinator: Option<NodeId>,
    donor: Option<NodeId>,
    progress_at: Millis,
    /// The copy is complete.
    ready: bool,
}

impl JoinAttempt {
    fn new(at: Vec<NodeId>, returning: bool, ticket: Option<Ticket>, due: Millis) -> Self {
        Self {
            at,
            next: 0,
            asked: None,
            due,
            tries: 0,
            returning,
            refusals: 0,
            ticket,
            session: None,
            coordinator: None,
            donor: None,
            progress_at: due,
            ready: false,
        }
    }

    pub(super) fn wake(&self) -> Millis {
        self.due
    }

    /// Those who must see that this node lives.
    pub(super) fn partners(&self) -> impl Iterator<Item = NodeId> + '_ {
        [&self.asked, &self.coordinator, &self.donor].into_iter().flatten().cloned()
    }

    pub(super) fn is_ready_for(&self, coordinator: &NodeId) -> bool {
        self.ready && self.coordinator.as_ref() == Some(coordinator)
    }

    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    pub(super) fn in_transfer(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn expects(&self, session: u64) -> bool {
        self.session == Some(session)
    }

    fn pause(&mut self, now: Millis) {
        self.asked = None;
        self.session = None;
        self.coordinator = None;
        self.donor = None;
        self.ready = false;
        self.next += 1;
        self.due = now + PAUSE;
    }
}

impl Cluster {
    /// JOIN CLUSTER: asks `at` for a place; [`Host::finish`] tells the end of it. Nothing is saved before.
    pub fn join(
        host: &mut dyn Host,
        me: Member,
        timing: Timing,
        desc: Descriptor,
        at: Vec<NodeId>,
        ticket: Ticket,
    ) -> Result<Self, SqlError> {
        let since = host.now();
        let phase = Phase::Outside { since, returning: false, seen: None };
        let mut cluster = Self::empty(host, me, timing, desc, phase)?;
        cluster.joining = Some(JoinAttempt::new(at, false, Some(ticket), since));
        cluster.drive_join(host);
        Ok(cluster)
    }

    /// After a restart: asks the known members, again and again.
    pub(super) fn begin_return(&mut self, due: Millis, at: Vec<NodeId>) {
        self.joining = Some(JoinAttempt::new(at, true, None, due));
    }

    /// Cut off from the primary view, and now one of its members was heard.
    pub(super) fn come_back(&mut self, host: &mut dyn Host, heard: &NodeId) {
        if self.joining.is_none() && self.round.is_none() {
            let now = host.now();
            self.joining = Some(JoinAttempt::new(vec![heard.clone()], true, None, now));
            self.drive_join(host);
        }
    }

    pub(super) fn drive_join(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let Some(join) = &mut self.joining else { return };
        if join.due > now {
            return;
        }
        if join.session.is_some() {
            if now.since(join.progress_at) > PROGRESS_MAX {
                self.join_failed(host, "the transfer does not move");
                return;
            }
            join.due = now + SAY_AGAIN;
            if let (true, Some(coordinator), Some(session)) = (join.ready, &join.coordinator, join.session) {
                host.send(coordinator, M::Joined { session });
            }
            return;
        }
        if join.asked.is_some() {
            self.join_failed(host, "query timed out");
            return;
        }
        let node = join.at[join.next % join.at.len()].clone();
        self.ask(host, &node);
    }

    fn ask(&mut self, host: &mut dyn Host, node: &NodeId) {
        let now = host.now();
        let member = self.me.clone();
        let have = matches!(self.phase, Phase::Member).then(|| Have {
            uuid: self.view.uuid.clone(),
            applied: self.log.applied(),
            digest: self.log.digest_at(self.log.applied()).unwrap_or_default(),
        });
        // Of a view from before this was saved nothing is known.
        let restarted = matches!(self.phase, Phase::Outside { returning: true, .. });
        let last = (restarted && !self.desc.members.is_empty())
            .then(|| LastView { conf: self.desc.conf, members: self.desc.members.clone() });
        if let Some(join) = &mut self.joining {
            join.asked = Some(node.clone());
            join.due = now + ANSWER_MAX;
            host.send(node, M::Join(JoinRequest { member, returning: join.returning, have, last }));
        }
    }

    pub(super) fn on_join_answer(&mut self, host: &mut dyn Host, from: &NodeId, answer: JoinAnswer) {
        let now = host.now();
        let Some(join) = &mut self.joining else { return };
        if join.asked.as_ref() != Some(from) {
            return;
        }
        if !matches!(answer, JoinAnswer::Unknown) {
            join.refusals = 0;
        }
        match answer {
            JoinAnswer::Accepted { session } => {
                join.session = Some(session);
                join.coordinator = Some(from.clone());
                join.progress_at = now;
                join.due = now + SAY_AGAIN;
                self.alive_at = now;
            }
            JoinAnswer::Ask(node) => self.ask(host, &node),
            JoinAnswer::Unknown => self.join_refused(host),
            JoinAnswer::NotPrimary => self.join_failed(host, "not primary state"),
            JoinAnswer::Busy => self.join_failed(host, "retries limit exceeded"),
        }
    }

    /// The cluster is not known there: a statement ends, a returning node asks on.
    fn join_refused(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let name = self.desc.name.clone();
        let Some(join) = &mut self.joining else { return };
        if join.ticket.is_some() && join.next + 1 >= join.at.len() {
            let text = format!("cluster '{name}', failed to fetch donor user from any node");
            self.end_join(host, SqlError::new(text));
            return;
        }
        join.pause(now);
        join.refusals += 1;
        let by_all = join.refusals >= join.at.len();
        if by_all && matches!(self.phase, Phase::Member) {
            // Whom it heard is no member any more, and it was not restarted: it must not wait for that one for ever.
            self.joining = None;
            return;
        }
        if let Phase::Outside { since, returning: true, .. } = self.phase
            && by_all
            && now.since(since) >= self.timing.discovery_timeout
        {
            self.joining = None;
            self.ask_anew(host);
        }
    }

    /// This attempt came to nothing: again later, or, for a statement that has tried enough, an error.
    pub(super) fn join_failed(&mut self, host: &mut dyn Host, reason: &str) {
        let now = host.now();
        let name = self.desc.name.clone();
        self.drop_incoming_state(host);
        let Some(join) = &mut self.joining else { return };
        join.tries += 1;
        if join.ticket.is_some() && join.tries >= TRIES_MAX {
            let at: Vec<&str> = join.at.iter().map(NodeId::as_str).collect();
            let at = at.join(",");
            let text = format!("cluster '{name}', no nodes available({at}), error: '{at}': {reason}");
            self.end_join(host, SqlError::new(text));
        } else {
            let primary_heard = matches!(self.phase, Phase::Member);
            join.pause(now);
            if primary_heard {
                // Not restarted: the next sign of a primary member starts anew.
                self.joining = None;
            }
        }
    }

    fn end_join(&mut self, host: &mut dyn Host, error: SqlError) {
        if let Some(ticket) = self.joining.take().and_then(|join| join.ticket) {
            self.phase = Phase::Gone;
            host.finish(ticket, Err(error));
        }
    }

    pub(super) fn join_unreachable(&mut self, host: &mut dyn Host, node: &NodeId) {
        let asked = self
            .joining
            .as_ref()
            .is_some_and(|join| join.session.is_none() && join.asked.as_ref() == Some(node));
        if asked {
            self.join_refused(host);
        }
    }

    /// Signs of life of a partner in a join say nothing; its silence does.
    pub(super) fn join_heard(&mut self, host: &mut dyn Host, from: &NodeId, alive: &Alive) {
        let gone = self.joining.as_ref().is_some_and(|join| {
            join.coordinator.as_ref() == Some(from)
                && !(alive.primary && alive.confirmed)
                && join.session.is_some()
        });
        if gone && !self.joining.as_ref().is_some_and(|join| join.ready) {
            self.join_failed(host, "not primary state");
        }
    }

    /// The copy is here: say so until the coordinator calls for the view.
    pub(super) fn join_copied(&mut self, host: &mut dyn Host, head: &TransferHead) {
        self.view = head.view.clone();
        self.confirmed = head.view.clone();
        self.attempts.clear();
        self.primary = false;
        self.desc.nodes_set.clone_from(&head.nodes_set);
        self.desc.tables = head.tables.iter().cloned().collect();
        let now = host.now();
        if let Some(join) = &mut self.joining {
            join.ready = true;
            join.due = now;
            join.progress_at = now;
        }
        self.drive_join(host);
    }

    pub(super) fn join_progress(&mut self, now: Millis, donor: &NodeId) {
        if let Some(join) = &mut self.joining {
            join.progress_at = now;
            join.donor = Some(donor.clone());
        }
    }

    /// The view with this node in it is in force.
    pub(super) fn join_done(&mut self, host: &mut dyn Host) {
        if let Some(ticket) = self.joining.take().and_then(|join| join.ticket) {
            host.finish(ticket, Ok(()));
        }
    }
}
