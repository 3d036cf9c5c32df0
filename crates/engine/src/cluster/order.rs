//! The total order: proposals, their numbers, acknowledgements, and applying them in order.
//!
//! Writers on two nodes that touch one document collide here (the later one in order fails at its origin); writers
//! on one node do not, so INSERT is no compare-and-swap. Both are as on the real node.

use super::{
    Cluster, ClusterMessage as M, Host, Phase,
    entry::{Body, Entry, Keys, Payload, Ticket, node_hash},
    errors,
    view::ViewId,
};
use crate::io::SqlError;
use model::{Millis, NodeId};

/// Local writes under way on one cluster; more are refused, so that a stalled cluster costs bounded memory.
const PENDING_MAX: usize = 4_000;
const PENDING_BYTES_MAX: usize = 128 << 20;
/// What one request for missing entries is answered with; the rest is asked for again.
const RESEND_BYTES_MAX: usize = 4 << 20;
const RESEND_AFTER: Millis = Millis(500);
/// Bytes of entries applied in one go.
const APPLY_BYTES_MAX: usize = 4 << 20;

/// A write, ready to be ordered.
#[derive(Clone, Debug)]
pub struct Write {
    /// Hashes of the documents it touches.
    pub keys: Vec<u64>,
    pub payload: Payload,
    /// It depends on nothing that was read, so whatever is known to come before it is no conflict.
    pub blind: bool,
}

/// A local proposal that is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    seen: u64,
    keys: Keys,
    body: Body,
    /// Its place among this node's proposals of the view; `None`: not proposed in this view.
    index: Option<u64>,
    seqno: Option<u64>,
    /// It was proposed in some view, so it may be known to others.
    told: bool,
}

impl Cluster {
    /// Whether a write may be prepared now, else why not.
    pub fn writable(&self) -> Result<(), SqlError> {
        let name = &self.desc.name;
        if !matches!(self.phase, Phase::Member) || !self.primary {
            return Err(errors::not_primary(name, self.node_state()));
        }
        if self.departure.is_some() {
            return Err(errors::exiting(name));
        }
        if self.pending.len() >= PENDING_MAX || self.pending_bytes >= PENDING_BYTES_MAX {
            return Err(errors::overloaded(name, self.pending.len()));
        }
        Ok(())
    }

    /// Puts a write in order; [`Host::finish`] is called with `ticket`, perhaps before this returns.
    pub fn submit(&mut self, host: &mut dyn Host, ticket: Ticket, write: Write) -> Result<(), SqlError> {
        let seen = if write.blind { self.log.received() } else { self.log.applied() };
        self.propose_seen(host, ticket, write.keys, Body::Write(write.payload), seen)
    }

    pub(super) fn propose(
        &mut self,
        host: &mut dyn Host,
        ticket: Ticket,
        keys: Vec<u64>,
        body: Body,
    ) -> Result<(), SqlError> {
        let seen = self.log.applied();
        self.propose_seen(host, ticket, keys, body, seen)
    }

    fn propose_seen(
        &mut self,
        host: &mut dyn Host,
        ticket: Ticket,
        keys: Vec<u64>,
        body: Body,
        seen: u64,
    ) -> Result<(), SqlError> {
        self.writable()?;
        self.counters.replicated += 1;
        self.counters.keys += keys.len() as u64;
        let pending =
            Pending { ticket, seen, keys: Keys(keys.into()), body, index: None, seqno: None, told: false };
        self.pending_bytes += pending.bytes();
        self.counters.replicated_bytes += pending.bytes() as u64;
        self.pending.push_back(pending);
        self.propose_pending(host);
        Ok(())
    }

    /// Sends what waits to the sequencer, once the view is in force and all of the view before is applied.
    pub(super) fn propose_pending(&mut self, host: &mut dyn Host) {
        if !self.primary || !self.is_confirmed() || self.flushing() || self.log.applied() < self.view.start {
            return;
        }
        self.rebase_pending(host, self.view.start);
        let waiting: Vec<usize> =
            (0..self.pending.len()).filter(|&at| self.pending[at].index.is_none()).collect();
        for at in &waiting {
            let pending = &mut self.pending[*at];
            pending.index = Some(self.next_index);
            pending.told = true;
            self.next_index += 1;
        }
        if waiting.is_empty() {
            return;
        }
        self.propose_again_at = Some(host.now() + RESEND_AFTER);
        if self.i_sequence() {
            self.sequence_own(host);
        } else {
            for at in waiting {
                self.send_proposal(host, at);
            }
        }
    }

    fn send_proposal(&self, host: &mut dyn Host, at: usize) {
        let pending = &self.pending[at];
        if let Some(index) = pending.index {
            let message = M::Propose {
                view: self.view.id.clone(),
                index,
                ticket: pending.ticket,
                seen: pending.seen,
                keys: pending.keys.clone(),
                body: pending.body.clone(),
            };
            host.send(self.view.sequencer(), message);
        }
    }

    /// Says proposals again whose number has not come.
    pub(super) fn propose_again(&mut self, host: &mut dyn Host) {
        let now = host.now();
        if self.propose_again_at.is_none_or(|at| at > now) {
            return;
        }
        self.propose_again_at = None;
        if !self.primary || self.flushing() {
            return;
        }
        let silent: Vec<usize> = (0..self.pending.len())
            .filter(|&at| self.pending[at].index.is_some() && self.pending[at].seqno.is_none())
            .collect();
        if silent.is_empty() {
            return;
        }
        self.propose_again_at = Some(now + RESEND_AFTER);
        if self.i_sequence() {
            self.sequence_own(host);
        } else {
            for at in silent {
                self.send_proposal(host, at);
            }
        }
    }

    /// A write that had seen less than the last view's end is checked against it by its own node, which holds all
    /// of that view; from then on it counts as having seen it.
    fn rebase_pending(&mut self, host: &mut dyn Host, start: u64) {
        let me = self.my_hash();
        let mut lost = Vec::new();
        for pending in &mut self.pending {
            if pending.index.is_none() && pending.seqno.is_none() && pending.seen < start {
                if self.certifier.conflicts(&pending.keys.0, me, pending.seen) && !pending.keys.0.is_empty() {
                    lost.push(pending.ticket);
                } else {
                    pending.seen = start;
                }
            }
        }
        for ticket in lost {
            self.counters.cert_failures += 1;
            self.finish(host, ticket, Err(errors::aborted("PostRollback", None)));
        }
    }

    /// Orders this node's own proposals, when it is the sequencer.
    fn sequence_own(&mut self, host: &mut dyn Host) {
        if !self.may_sequence() {
            return;
        }
        while let Some(pending) = self.pending.iter().find(|it| it.index.is_some() && it.seqno.is_none()) {
            let entry = Entry {
                seqno: 0,
                conf: 0,
                origin: self.me.node.clone(),
                ticket: pending.ticket,
                incarnation: self.me.incarnation,
                seen: pending.seen,
                keys: pending.keys.clone(),
                body: pending.body.clone(),
            };
            self.sequence(host, entry);
        }
        self.advance(host);
    }

    fn may_sequence(&self) -> bool {
        self.i_sequence()
            && self.primary
            && self.is_confirmed()
            && !self.flushing()
            && self.frozen.is_none()
            && !self.departing_sequencer()
    }

    pub(super) fn on_propose(
        &mut self,
        host: &mut dyn Host,
        from: &NodeId,
        view: &ViewId,
        index: u64,
        mut entry: Entry,
    ) {
        if *view != self.view.id || !self.may_sequence() {
            return;
        }
        let Some(position) = self.view.position(from) else { return };
        entry.incarnation = self.view.members[position].incarnation;
        self.touch(from, host.now());
        let last = self.last_index.entry(from.clone()).or_default();
        if index != *last + 1 {
            return;
        }
        *last = index;
        self.counters.received += 1;
        self.counters.received_bytes += entry.bytes() as u64;
        self.sequence(host, entry);
        self.advance(host);
    }

    /// Gives `entry` the next number and tells the members.
    fn sequence(&mut self, host: &mut dyn Host, mut entry: Entry) {
        entry.seqno = self.log.received() + 1;
        entry.conf = self.view.id.conf;
        for node in self.other_members() {
            let message = if node == entry.origin {
                M::OrderedOwn { view: self.view.id.clone(), seqno: entry.seqno, ticket: entry.ticket }
            } else {
                M::Ordered { view: self.view.id.clone(), entry: entry.clone() }
            };
            host.send(&node, message);
        }
        self.note_own(&entry);
        self.log.append(entry);
        self.acks.insert(self.me.node.clone(), self.log.received());
    }

    /// Marks the local proposal that `entry` is, so that it is not said again.
    pub(super) fn note_own(&mut self, entry: &Entry) {
        if entry.origin == self.me.node
            && entry.incarnation == self.me.incarnation
            && let Some(pending) = self.pending.iter_mut().find(|it| it.ticket == entry.ticket)
        {
            pending.seqno = Some(entry.seqno);
        }
    }

    pub(super) fn on_ordered(&mut self, host: &mut dyn Host, from: &NodeId, view: &ViewId, entry: Entry) {
        if *view != self.view.id || self.flushing() || self.view.members.is_empty() {
            return;
        }
        self.touch(from, host.now());
        // Only a confirmed view's sequencer orders.
        self.confirm(host);
        self.counters.received += 1;
        self.counters.received_bytes += entry.bytes() as u64;
        self.take(host, entry);
    }

    pub(super) fn on_ordered_own(
        &mut self,
        host: &mut dyn Host,
        from: &NodeId,
        view: &ViewId,
        seqno: u64,
        ticket: Ticket,
    ) {
        if *view != self.view.id || self.flushing() {
            return;
        }
        self.touch(from, host.now());
        let Some(pending) = self.pending.iter().find(|it| it.ticket == ticket) else { return };
        let entry = Entry {
            seqno,
            conf: self.view.id.conf,
            origin: self.me.node.clone(),
            ticket,
            incarnation: self.me.incarnation,
            seen: pending.seen,
            keys: pending.keys.clone(),
            body: pending.body.clone(),
        };
        self.take(host, entry);
    }

    /// Appends an ordered entry and acknowledges it to all members.
    fn take(&mut self, host: &mut dyn Host, entry: Entry) {
        let sequencer = self.view.sequencer().clone();
        let seqno = entry.seqno;
        if seqno > self.log.received() + 1 {
            self.ask_missing(host);
            return;
        }
        if seqno == self.log.received() + 1 {
            self.note_own(&entry);
            self.log.append(entry);
            self.acks.insert(self.me.node.clone(), seqno);
        }
        let known = self.acks.entry(sequencer).or_default();
        *known = (*known).max(seqno);
        self.tell_members(host, &M::Received { view: self.view.id.clone(), seqno: self.log.received() });
        self.advance(host);
    }

    /// Asks the sequencer for what lies behind the unbroken sequence, at most every so often.
    pub(super) fn ask_missing(&mut self, host: &mut dyn Host) {
        let now = host.now();
        if self.gap_asked.is_some_and(|asked| now.since(asked) < RESEND_AFTER) || self.i_sequence() {
            return;
        }
        self.gap_asked = Some(now);
        let message = M::Resend { view: self.view.id.clone(), from: self.log.received() + 1 };
        host.send(self.view.sequencer(), message);
    }

    pub(super) fn on_resend(&mut self, host: &mut dyn Host, from: &NodeId, view: &ViewId, seqno: u64) {
        if *view != self.view.id || !self.i_sequence() || self.flushing() {
            return;
        }
        for (entry, _) in self.log.slice(seqno, RESEND_BYTES_MAX) {
            host.send(from, M::Ordered { view: view.clone(), entry });
        }
    }

    pub(super) fn on_received(&mut self, host: &mut dyn Host, from: &NodeId, view: &ViewId, seqno: u64) {
        if *view != self.view.id {
            return;
        }
        self.touch(from, host.now());
        self.note_received(host, from, seqno);
    }

    pub(super) fn note_received(&mut self, host: &mut dyn Host, from: &NodeId, seqno: u64) {
        let known = self.acks.entry(from.clone()).or_default();
        if *known < seqno {
            *known = seqno;
            self.advance(host);
        }
    }

    /// What every member of the view holds.
    fn stable(&self) -> u64 {
        self.view
            .members
            .iter()
            .map(|member| self.acks.get(&member.node).copied().unwrap_or(0))
            .min()
            .unwrap_or(0)
            .min(self.log.received())
    }

    /// Whether every member holds all that was ordered.
    pub(super) fn drained(&self) -> bool {
        self.stable() == self.log.received()
    }

    /// Applies what may be applied: at once when a client here waits for it, else a moment later.
    pub(super) fn advance(&mut self, host: &mut dyn Host) {
        if self.flushing() || !self.primary {
            return;
        }
        let stable = self.stable();
        if stable > self.log.applied() {
            let own = self.pending.iter().find_map(|it| it.seqno).is_some_and(|seqno| seqno <= stable);
            if own || self.timing.apply_delay == Millis::ZERO {
                self.apply_to(host, stable);
            } else if self.apply_due.is_none() {
                self.apply_due = Some(host.now() + self.timing.apply_delay);
            }
        }
        self.drive_admission(host);
        self.drive_departure(host);
    }

    pub(super) fn apply_stable(&mut self, host: &mut dyn Host) {
        self.apply_due = None;
        if !self.flushing() && self.primary {
            self.apply_to(host, self.stable());
        }
    }

    /// Applies everything up to `upto`, in order, with each entry's verdict.
    pub(super) fn apply_to(&mut self, host: &mut dyn Host, upto: u64) {
        while self.log.applied() < upto && !matches!(self.phase, Phase::Closed | Phase::Gone) {
            let Some(logged) = self.log.get(self.log.applied() + 1) else { break };
            let entry = logged.entry.clone();
            if let Body::Write(_) = entry.body {
                self.apply_writes(host, upto);
            } else {
                self.apply_change(host, &entry);
            }
        }
        self.apply_due = None;
        self.propose_pending(host);
    }

    /// The run of writes that comes next, in one transaction.
    fn apply_writes(&mut self, host: &mut dyn Host, upto: u64) {
        let mut payloads = Vec::new();
        let mut verdicts = Vec::new();
        let mut size = 0;
        let mut seqno = self.log.applied() + 1;
        while seqno <= upto && size < APPLY_BYTES_MAX {
            let Some(entry) = self.log.get(seqno).map(|logged| logged.entry.clone()) else { break };
            let Body::Write(payload) = &entry.body else { break };
            size += entry.bytes();
            let passed = self.certify(host, &entry);
            if passed {
                payloads.push(payload.clone());
            }
            verdicts.push((entry.ticket, self.is_mine(&entry), passed));
            seqno += 1;
        }
        if let Err(reason) = host.apply(&payloads) {
            self.inconsistent(host, &reason);
            return;
        }
        for (ticket, mine, passed) in verdicts {
            self.log.mark_applied(passed);
            if mine {
                let seqno = self.log.applied();
                let outcome = if passed { Ok(()) } else { Err(errors::aborted("PostRollback", Some(seqno))) };
                self.counters.commits += u64::from(passed);
                self.counters.cert_failures += u64::from(!passed);
                self.finish(host, ticket, outcome);
            }
        }
    }

    fn is_mine(&self, entry: &Entry) -> bool {
        entry.origin == self.me.node && entry.incarnation == self.me.incarnation
    }

    /// An entry that is about the cluster itself.
    fn apply_change(&mut self, host: &mut dyn Host, entry: &Entry) {
        self.certify(host, entry);
        let outcome = self.change(host, entry);
        self.log.mark_applied(true);
        if let Err(reason) = outcome {
            self.inconsistent(host, &reason);
        } else if self.is_mine(entry) {
            self.finish(host, entry.ticket, Ok(()));
        }
    }

    /// The verdict on the next entry; the same on every member.
    fn certify(&mut self, host: &mut dyn Host, entry: &Entry) -> bool {
        if entry.conf != self.certified_conf {
            self.rebase_pending(host, entry.seqno - 1);
        }
        self.begin_certifying(entry);
        let origin = node_hash(&entry.origin);
        let passed = entry.keys.0.is_empty() || !self.certifier.conflicts(&entry.keys.0, origin, entry.seen);
        self.note_verdict(entry, passed);
        passed
    }

    fn begin_certifying(&mut self, entry: &Entry) {
        if entry.conf != self.certified_conf {
            self.certifier.reset(entry.seqno - 1);
            self.certified_conf = entry.conf;
        }
    }

    fn note_verdict(&mut self, entry: &Entry, passed: bool) {
        if passed {
            self.certifier.record(&entry.keys.0, node_hash(&entry.origin), entry.seqno);
        }
    }

    /// Applies entries whose verdicts came with them, from a member that had applied them.
    pub(super) fn apply_decided(
        &mut self,
        host: &mut dyn Host,
        entries: Vec<(Entry, bool)>,
    ) -> Result<(), String> {
        for (entry, passed) in entries {
            if entry.seqno != self.log.applied() + 1 {
                continue;
            }
            if passed {
                match &entry.body {
                    Body::Write(payload) => host.apply(std::slice::from_ref(payload))?,
                    _ => self.change(host, &entry)?,
                }
            }
            // Entries of the same view may follow without verdicts.
            self.begin_certifying(&entry);
            self.note_verdict(&entry, passed);
            self.log.append(entry);
            self.log.mark_applied(passed);
        }
        Ok(())
    }

    /// This copy could not follow: it stops being a member, as the real node does.
    fn inconsistent(&mut self, host: &mut dyn Host, _reason: &str) {
        self.tell_members(host, &M::Leave { member: self.me.clone(), for_good: false });
        self.lose_primary(host);
        self.phase = Phase::Closed;
    }

    pub(super) fn finish(&mut self, host: &mut dyn Host, ticket: Ticket, outcome: Result<(), SqlError>) {
        if let Some(at) = self.pending.iter().position(|it| it.ticket == ticket)
            && let Some(pending) = self.pending.remove(at)
        {
            self.pending_bytes -= pending.bytes();
            host.finish(ticket, outcome);
        }
    }

    /// Fails all local writes: those that others may know of with an outcome that leaves it open.
    pub(super) fn fail_pending(&mut self, host: &mut dyn Host, unheard: &SqlError) {
        self.pending_bytes = 0;
        for pending in std::mem::take(&mut self.pending) {
            let outcome = match &pending.body {
                Body::Write(_) if !pending.told => unheard.clone(),
                Body::Write(_) => errors::aborted("PostRollback", pending.seqno),
                _ => errors::aborted("ToExecuteStart", pending.seqno),
            };
            host.finish(pending.ticket, Err(outcome));
        }
    }

    /// Local ADDs that have no number.
    pub(super) fn unordered_additions(&self) -> Vec<Ticket> {
        let waiting = self.pending.iter().filter(|it| it.seqno.is_none());
        waiting.filter(|it| matches!(it.body, Body::AddTables { .. })).map(|it| it.ticket).collect()
    }

    /// A new view: what did not get into the log of the old one is proposed anew.
    pub(super) fn renumber_pending(&mut self) {
        self.next_index = 1;
        self.last_index.clear();
        self.gap_asked = None;
        self.propose_again_at = None;
        for pending in &mut self.pending {
            pending.index = None;
            pending.seqno = None;
        }
        let unapplied: Vec<Entry> = self.log.unapplied().cloned().collect();
        for entry in unapplied {
            self.note_own(&entry);
            if self.is_mine(&entry)
                && let Some(pending) = self.pending.iter_mut().find(|it| it.ticket == entry.ticket)
            {
                // It has its number; an index keeps it from being proposed again.
                pending.index = Some(0);
            }
        }
    }

    pub(super) fn on_thaw(&mut self, host: &mut dyn Host, view: &ViewId) {
        if *view == self.view.id && self.propose_again_at.is_some() {
            self.propose_again_at = Some(host.now());
            self.propose_again(host);
        }
    }
}

impl Pending {
    fn bytes(&self) -> usize {
        let body = match &self.body {
            Body::Write(payload) => payload.0.len(),
            _ => 0,
        };
        96 + self.keys.0.len() * 8 + body
    }
}
