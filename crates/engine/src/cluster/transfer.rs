//! Copies of tables, and runs of entries, sent piece by piece with a small window.

use super::{
    Cluster, ClusterMessage as M, Host, Phase, Seen,
    entry::Body,
    log::Log,
    message::{Have, Part, TransferHead},
    view::Member,
};
use model::{Millis, NodeId};
use std::collections::{BTreeMap, VecDeque};

/// Pieces under way to a receiver: enough to keep both ends busy, little enough to hold in memory.
const WINDOW: usize = 4;
const PIECE_BYTES: usize = 1 << 20;
const SAY_AGAIN: Millis = Millis(1_000);
/// How soon a donor looks again whether it has applied what it must.
const LOOK_AGAIN: Millis = Millis(10);
/// Transfers a node takes in at once: one join and a few tables that are being added.
const INCOMING_MAX: usize = 8;

#[derive(Debug)]
enum Source {
    /// This member's state up to `upto`, for a joiner; aborts are told to the coordinator.
    State { coordinator: NodeId, upto: u64, have: Option<Have>, entries_from: Option<u64> },
    /// Tables about to be added, for all other members.
    Stage { tables: Vec<String> },
}

/// A transfer this node sends.
#[derive(Debug)]
pub(super) struct Outgoing {
    source: Source,
    acked: BTreeMap<NodeId, u64>,
    next: u64,
    unacked: VecDeque<(u64, Part)>,
    reading: bool,
    ended: bool,
    due: Millis,
}

impl Outgoing {
    pub(super) fn wake(&self) -> Millis {
        self.due
    }

    pub(super) fn is_state(&self) -> bool {
        matches!(self.source, Source::State { .. })
    }

    /// Pieces said to be there, of those sent, for `sst_*`.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.acked.values().copied().min().unwrap_or(0), self.next - 1)
    }
}

/// A transfer this node takes in.
#[derive(Debug)]
pub(super) struct Incoming {
    from: NodeId,
    next: u64,
    head: Option<TransferHead>,
    importing: bool,
    complete: bool,
}

impl Cluster {
    #[expect(clippy::too_many_arguments, reason = "one message, taken apart")]
    pub(super) fn on_donate(
        &mut self,
        host: &mut dyn Host,
        coordinator: &NodeId,
        session: u64,
        joiner: &Member,
        upto: u64,
        have: Option<Have>,
        wait: bool,
    ) {
        if self.outgoing.contains_key(&session) {
            return;
        }
        let pause = if wait { self.timing.join_delay } else { Millis::ZERO };
        let source = Source::State { coordinator: coordinator.clone(), upto, have, entries_from: None };
        self.begin_outgoing(host, session, vec![joiner.node.clone()], source, pause);
    }

    /// Sends copies of `tables` to all other members.
    pub(super) fn stage(&mut self, host: &mut dyn Host, session: u64, tables: Vec<String>) {
        let to = self.other_members();
        self.begin_outgoing(host, session, to, Source::Stage { tables }, Millis::ZERO);
    }

    fn begin_outgoing(
        &mut self,
        host: &mut dyn Host,
        session: u64,
        to: Vec<NodeId>,
        source: Source,
        pause: Millis,
    ) {
        let outgoing = Outgoing {
            source,
            acked: to.into_iter().map(|node| (node, 0)).collect(),
            next: 1,
            unacked: VecDeque::new(),
            reading: false,
            ended: false,
            due: host.now() + pause,
        };
        self.outgoing.insert(session, outgoing);
        self.drive_transfers(host);
    }

    pub(super) fn drive_transfers(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let due: Vec<u64> = self.outgoing.iter().filter(|(_, it)| it.due <= now).map(|(&id, _)| id).collect();
        for session in due {
            self.drive_outgoing(host, session);
        }
    }

    fn drive_outgoing(&mut self, host: &mut dyn Host, session: u64) {
        let now = host.now();
        let applied = self.log.applied();
        let Some(outgoing) = self.outgoing.get_mut(&session) else { return };
        if let Source::State { upto, .. } = outgoing.source
            && applied < upto
        {
            outgoing.due = now + LOOK_AGAIN;
            self.apply_stable(host);
            return;
        }
        outgoing.due = now + SAY_AGAIN;
        for (number, part) in &outgoing.unacked {
            for (node, _) in outgoing.acked.iter().filter(|(_, acked)| *acked < number) {
                host.send(node, M::Transfer { session, number: *number, part: part.clone() });
            }
        }
        self.pump(host, session);
    }

    /// Sends as much as the window allows.
    fn pump(&mut self, host: &mut dyn Host, session: u64) {
        while let Some(outgoing) = self.outgoing.get(&session)
            && outgoing.unacked.len() < WINDOW
            && !outgoing.ended
        {
            let Ok(part) = self.next_part(host, session) else {
                self.abort_outgoing(host, session);
                return;
            };
            let now = host.now();
            let Some(outgoing) = self.outgoing.get_mut(&session) else { return };
            let number = outgoing.next;
            outgoing.next += 1;
            outgoing.due = now + SAY_AGAIN;
            outgoing.ended = matches!(part, Part::End);
            for node in outgoing.acked.keys() {
                host.send(node, M::Transfer { session, number, part: part.clone() });
            }
            outgoing.unacked.push_back((number, part));
        }
    }

    fn next_part(&mut self, host: &mut dyn Host, session: u64) -> Result<Part, String> {
        let gone = || "the transfer is over".to_owned();
        let outgoing = self.outgoing.get_mut(&session).ok_or_else(gone)?;
        if !outgoing.reading {
            outgoing.reading = true;
            return self.first_part(host, session);
        }
        let Source::State { upto, entries_from: Some(from), .. } = &mut outgoing.source else {
            return Ok(host.export_next(session)?.map_or(Part::End, Part::Piece));
        };
        if *from > *upto {
            return Ok(Part::End);
        }
        let mut entries: Vec<_> = self.log.slice(*from, PIECE_BYTES);
        entries.retain(|(entry, _)| entry.seqno <= *upto);
        if entries.is_empty() {
            return Err("the history is no longer kept".to_owned());
        }
        *from += entries.len() as u64;
        Ok(Part::Entries(
            entries.into_iter().map(|(entry, passed)| (entry, passed.unwrap_or(true))).collect(),
        ))
    }

    fn first_part(&mut self, host: &mut dyn Host, session: u64) -> Result<Part, String> {
        let gone = || "the transfer is over".to_owned();
        let outgoing = self.outgoing.get_mut(&session).ok_or_else(gone)?;
        match &mut outgoing.source {
            Source::Stage { tables } => {
                host.export(session, tables)?;
                Ok(Part::Stage)
            }
            Source::State { upto, have, entries_from, .. } => {
                let usable = have.as_ref().filter(|have| {
                    have.uuid == self.view.uuid
                        && self.log.digest_at(have.applied) == Some(have.digest)
                        && have.applied <= *upto
                });
                *entries_from = usable.map(|have| have.applied + 1);
                let incremental = entries_from.is_some();
                let tables: Vec<String> = self.desc.tables.iter().cloned().collect();
                let head = TransferHead {
                    view: self.view.clone(),
                    seqno: *upto,
                    digest: self.log.digest_at(*upto).ok_or("the history is no longer kept")?,
                    tables: tables.clone(),
                    nodes_set: self.desc.nodes_set.clone(),
                    incremental,
                };
                if !incremental {
                    host.export(session, &tables)?;
                }
                Ok(Part::State(head))
            }
        }
    }

    pub(super) fn on_transfer_ack(&mut self, host: &mut dyn Host, from: &NodeId, session: u64, number: u64) {
        let Some(outgoing) = self.outgoing.get_mut(&session) else { return };
        let Some(acked) = outgoing.acked.get_mut(from) else { return };
        *acked = (*acked).max(number);
        let all = outgoing.acked.values().copied().min().unwrap_or(0);
        while outgoing.unacked.front().is_some_and(|(number, _)| *number <= all) {
            outgoing.unacked.pop_front();
        }
        if !(outgoing.ended && outgoing.unacked.is_empty()) {
            self.pump(host, session);
            return;
        }
        let staged = !outgoing.is_state();
        self.stop_outgoing(host, session);
        if staged {
            self.staged(host, session);
        }
    }

    pub(super) fn stop_outgoing(&mut self, host: &mut dyn Host, session: u64) {
        if self.outgoing.remove(&session).is_some() {
            host.export_end(session);
        }
    }

    fn abort_outgoing(&mut self, host: &mut dyn Host, session: u64) {
        let Some(outgoing) = self.outgoing.get(&session) else { return };
        let mut tell: Vec<NodeId> = outgoing.acked.keys().cloned().collect();
        let state = if let Source::State { coordinator, .. } = &outgoing.source {
            tell.push(coordinator.clone());
            true
        } else {
            false
        };
        self.stop_outgoing(host, session);
        for node in tell.into_iter().filter(|node| *node != self.me.node) {
            host.send(&node, M::Abort { session });
        }
        if state {
            self.drop_admission(host);
        } else {
            self.drop_addition(host);
        }
    }

    pub(super) fn on_transfer(
        &mut self,
        host: &mut dyn Host,
        from: &NodeId,
        session: u64,
        number: u64,
        part: Part,
    ) {
        let state = matches!(part, Part::State(_));
        if number == 1 && !self.incoming.contains_key(&session) {
            let wanted = if state {
                self.joining.as_ref().is_some_and(|join| join.expects(session))
            } else {
                self.primary && self.view.has_node(from)
            };
            if !wanted || self.incoming.len() >= INCOMING_MAX {
                host.send(from, M::Abort { session });
                return;
            }
            let incoming =
                Incoming { from: from.clone(), next: 1, head: None, importing: false, complete: false };
            self.incoming.insert(session, incoming);
        }
        let Some(incoming) = self.incoming.get_mut(&session) else { return };
        if number > incoming.next || incoming.from != *from {
            return;
        }
        if number == incoming.next {
            incoming.next += 1;
            if let Err(reason) = self.take_part(host, from, session, part) {
                host.send(from, M::Abort { session });
                self.stop_incoming(host, session);
                if self.joining.as_ref().is_some_and(|join| join.expects(session)) {
                    self.join_failed(host, &reason);
                }
                return;
            }
        }
        host.send(from, M::TransferAck { session, number });
    }

    fn take_part(
        &mut self,
        host: &mut dyn Host,
        from: &NodeId,
        session: u64,
        part: Part,
    ) -> Result<(), String> {
        let now = host.now();
        if self.joining.as_ref().is_some_and(|join| join.expects(session)) {
            self.join_progress(now, from);
        }
        let Some(incoming) = self.incoming.get_mut(&session) else { return Ok(()) };
        match part {
            Part::State(head) => {
                if head.incremental {
                    self.log.truncate(0);
                } else {
                    host.import(session, true);
                    incoming.importing = true;
                }
                incoming.head = Some(head);
            }
            Part::Stage => {
                host.import(session, false);
                incoming.importing = true;
            }
            Part::Piece(piece) => host.import_piece(session, &piece)?,
            Part::Entries(entries) => self.apply_decided(host, entries)?,
            Part::End => {
                incoming.complete = true;
                if let Some(head) = incoming.head.clone() {
                    self.finish_state(host, session, &head)?;
                }
            }
        }
        Ok(())
    }

    fn finish_state(&mut self, host: &mut dyn Host, session: u64, head: &TransferHead) -> Result<(), String> {
        if head.incremental {
            if self.log.applied() != head.seqno {
                return Err("the increments do not fit".to_owned());
            }
        } else {
            host.import_finish(session)?;
            self.log = Log::new(head.seqno, head.digest, self.options.history_bytes);
            self.certifier.reset(head.seqno);
            self.certified_conf = 0;
            // It cannot judge what follows in the same view, so it is no member until a new view has it.
            let members = head.view.members.clone();
            self.phase = Phase::Outside { since: host.now(), returning: true, seen: Some(Seen { members }) };
        }
        self.incoming.remove(&session);
        self.join_copied(host, head);
        Ok(())
    }

    /// Puts a staged copy in place, when there is a complete one.
    pub(super) fn install_staged(&mut self, host: &mut dyn Host, session: u64) -> Result<(), String> {
        match self.incoming.remove(&session) {
            Some(incoming) if incoming.complete => host.import_finish(session),
            Some(_) => {
                host.import_abort(session);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn stop_incoming(&mut self, host: &mut dyn Host, session: u64) {
        if self.incoming.remove(&session).is_some_and(|incoming| incoming.importing) {
            host.import_abort(session);
        }
    }

    /// Pieces of a member's state taken in so far, and the tables they make.
    pub(super) fn incoming_progress(&self) -> (u64, usize) {
        let state = self
            .incoming
            .values()
            .find_map(|it| it.head.as_ref().map(|head| (it.next - 1, head.tables.len())));
        state.unwrap_or_default()
    }

    pub(super) fn drop_incoming_state(&mut self, host: &mut dyn Host) {
        let sessions: Vec<u64> =
            self.incoming.iter().filter(|(_, it)| it.head.is_some()).map(|(&session, _)| session).collect();
        for session in sessions {
            self.stop_incoming(host, session);
        }
    }

    /// A new view: transfers of the old one end, but for copies that an entry not yet applied will put in place.
    pub(super) fn abandon_transfers(&mut self, host: &mut dyn Host) {
        let awaited: Vec<u64> = self
            .log
            .unapplied()
            .filter_map(|entry| match &entry.body {
                Body::AddTables { session, .. } => Some(*session),
                _ => None,
            })
            .collect();
        for session in self.outgoing.keys().copied().collect::<Vec<_>>() {
            self.stop_outgoing(host, session);
        }
        for session in self.incoming.keys().copied().collect::<Vec<_>>() {
            if !awaited.contains(&session) {
                self.stop_incoming(host, session);
            }
        }
    }

    /// This member cannot go on with any transfer.
    pub(super) fn drop_transfers(&mut self, host: &mut dyn Host) {
        for session in self.outgoing.keys().copied().collect::<Vec<_>>() {
            self.abort_outgoing(host, session);
        }
        self.abandon_transfers(host);
    }
}
