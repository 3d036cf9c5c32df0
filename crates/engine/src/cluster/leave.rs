//! Going: EXIT, DELETE CLUSTER, a clean stop; `pc.bootstrap`, which goes on without the others;
//! and `evs.suspect_timeout`, which EXIT from two waits for in searchd.
//!
//! DELETE dissolves the cluster on every node that the executing one knows as a member, whatever its own state: from
//! a returning node it takes the healthy members with it, as recorded. Only a `recovery-required` node keeps it to
//! itself.

use super::{Cluster, ClusterMessage as M, Host, Phase, Ticket, errors, round::Kind, view::Member};
use crate::io::SqlError;
use model::{Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// How long a going member waits for the others.
const DEPARTURE_MAX: Millis = Millis(5_000);

/// A member that is on its way out.
#[derive(Debug)]
pub(super) enum Departure {
    /// EXIT: `told` once the others know.
    Exit { ticket: Ticket, told: bool, deadline: Millis },
    /// DELETE: waits for the word of `waiting`; with each, how often it could not be reached.
    Delete { ticket: Ticket, waiting: BTreeMap<NodeId, u32>, deadline: Millis, again: Millis },
}

impl Departure {
    pub(super) fn deadline(&self) -> Millis {
        match self {
            Self::Exit { deadline, .. } => *deadline,
            Self::Delete { deadline, again, .. } => (*deadline).min(*again),
        }
    }
}

impl Cluster {
    /// EXIT CLUSTER: detaches this node, from a primary cluster only.
    pub fn exit(&mut self, host: &mut dyn Host, ticket: Ticket) -> Result<(), SqlError> {
        let state = self.node_state();
        if state != "synced" {
            let name = &self.desc.name;
            return Err(SqlError::new(format!("can not exit cluster '{name}': current state is {state}")));
        }
        if !self.is_primary() {
            let name = &self.desc.name;
            return Err(SqlError::new(format!("can not exit cluster '{name}': cluster is not primary")));
        }
        self.writable()?;
        let deadline = host.now() + DEPARTURE_MAX;
        self.departure = Some(Departure::Exit { ticket, told: false, deadline });
        self.drive_departure(host);
        Ok(())
    }

    /// Whether this member has stopped ordering because it goes.
    pub(super) fn departing_sequencer(&self) -> bool {
        self.departure.is_some() && self.pending.is_empty()
    }

    /// DELETE CLUSTER: dissolves it on all nodes known as members, and here.
    pub fn delete(&mut self, host: &mut dyn Host, ticket: Ticket) {
        let others: BTreeSet<NodeId> = match &self.phase {
            Phase::Closed | Phase::Gone => BTreeSet::new(),
            Phase::Member => self.other_members().into_iter().collect(),
            Phase::Starting(_) | Phase::Outside { .. } => self.known_members(),
        };
        let now = host.now();
        let waiting = others.into_iter().map(|node| (node, 0)).collect();
        self.departure =
            Some(Departure::Delete { ticket, waiting, deadline: now + DEPARTURE_MAX, again: now });
        self.drive_departure(host);
    }

    pub(super) fn on_delete(&mut self, host: &mut dyn Host, from: &NodeId) {
        host.send(from, M::Deleted);
        if !matches!(self.phase, Phase::Closed) {
            self.dissolve(host);
        }
    }

    pub(super) fn on_deleted(&mut self, host: &mut dyn Host, from: &NodeId) {
        if let Some(Departure::Delete { waiting, .. }) = &mut self.departure {
            waiting.remove(from);
            self.drive_departure(host);
        }
    }

    /// Twice unreachable is gone: once may be one broken connection.
    pub(super) fn delete_unreachable(&mut self, host: &mut dyn Host, node: &NodeId) {
        if let Some(Departure::Delete { waiting, .. }) = &mut self.departure {
            if let Some(times) = waiting.get_mut(node) {
                *times += 1;
            }
            waiting.retain(|_, times| *times < 2);
            self.drive_departure(host);
        }
    }

    pub(super) fn on_leave(&mut self, host: &mut dyn Host, member: Member, for_good: bool) {
        if !matches!(self.phase, Phase::Member) {
            return;
        }
        if !self.view.contains(&member) {
            host.send(&member.node, M::Left);
            return;
        }
        self.left_for_good |= for_good;
        self.left.insert(member);
        self.check(host);
    }

    pub(super) fn on_left(&mut self, host: &mut dyn Host) {
        if matches!(self.departure, Some(Departure::Exit { told: true, .. })) {
            self.dissolve(host);
        }
    }

    /// Moves a departure on.
    pub(super) fn drive_departure(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let drained = self.pending.is_empty() && (!self.i_sequence() || self.drained());
        let alone = self.other_members().is_empty();
        match &mut self.departure {
            None => {}
            Some(Departure::Exit { told, deadline, .. }) => {
                if *deadline <= now || (alone && drained) {
                    self.dissolve(host);
                } else if drained && !*told {
                    *told = true;
                    self.tell_members(host, &M::Leave { member: self.me.clone(), for_good: true });
                }
            }
            Some(Departure::Delete { waiting, deadline, again, .. }) => {
                if waiting.is_empty() || *deadline <= now {
                    self.dissolve(host);
                } else if *again <= now {
                    *again = now + Millis(500);
                    for node in waiting.keys() {
                        host.send(node, M::Delete);
                    }
                }
            }
        }
    }

    /// The cluster ends here: all that was acknowledged is applied, the tables stay as plain ones.
    pub(super) fn dissolve(&mut self, host: &mut dyn Host) {
        if matches!(self.phase, Phase::Gone) {
            return;
        }
        let departure = self.departure.take();
        self.round = None;
        self.frozen = None;
        if matches!(self.phase, Phase::Member) {
            self.apply_to(host, self.log.received());
        }
        self.primary = false;
        self.drop_transfers(host);
        self.drop_addition(host);
        self.fail_pending(host, &errors::exiting(&self.desc.name));
        self.phase = Phase::Gone;
        if let Some(Departure::Exit { ticket, .. } | Departure::Delete { ticket, .. }) = departure {
            host.finish(ticket, Ok(()));
        }
        let joining = self.joining.take().and_then(|join| join.ticket());
        for ticket in [self.bootstrap.take(), joining].into_iter().flatten() {
            host.finish(ticket, Err(errors::unknown(&self.desc.name)));
        }
    }

    /// A clean stop: the others go on without waiting, and if there are none this node may start the cluster again.
    pub fn stop(&mut self, host: &mut dyn Host) {
        if !matches!(self.phase, Phase::Member) {
            return;
        }
        let last = self.primary
            && self.view.members.iter().all(|member| *member == self.me || self.left.contains(member));
        if last {
            self.apply_to(host, self.log.received());
        } else {
            self.apply_stable(host);
            self.tell_members(host, &M::Leave { member: self.me.clone(), for_good: false });
        }
        self.desc.seqno = self.log.applied();
        self.desc.clean = true;
        self.desc.safe_to_bootstrap = last;
        // Unsaved it comes back as after a crash, which is the careful way.
        let _ = self.keep(host);
        self.fail_pending(host, &errors::exiting(&self.desc.name));
        self.primary = false;
    }

    /// `SET CLUSTER … 'pc.bootstrap' = 1`: this component becomes primary, whoever else lives.
    pub fn bootstrap(&mut self, host: &mut dyn Host, ticket: Ticket) -> Result<(), SqlError> {
        if !matches!(self.phase, Phase::Member) || self.joining.is_some() {
            return Err(errors::not_primary(&self.desc.name, self.node_state()));
        }
        if self.primary {
            host.finish(ticket, Ok(()));
            return Ok(());
        }
        // Who asks again has mostly lost the first answer; nobody may wait for ever.
        if let Some(earlier) = self.bootstrap.replace(ticket) {
            host.finish(earlier, Err(errors::not_primary(&self.desc.name, self.node_state())));
        }
        let company = self.component(host.now());
        self.start_round(host, company, Kind::Bootstrap(ticket));
        Ok(())
    }

    /// `SET CLUSTER … 'evs.suspect_timeout' = 'PT1S'`: until the node starts again. In searchd a time shorter than the one
    /// between two signs of life costs the quorum for some seconds; here it would for ever, so it is taken as that long.
    pub fn set_suspect_timeout(&mut self, value: &str) -> Result<(), SqlError> {
        match super::options::duration(value).filter(|time| time.0 > 0) {
            Some(time) => {
                self.options.suspect_timeout =
                    time.max(self.options.keepalive_period + self.options.check_period);
                Ok(())
            }
            None => Err(SqlError::new(format!(
                "cluster '{}', option 'evs.suspect_timeout' has the bad duration '{value}'",
                self.desc.name
            ))),
        }
    }

    pub(super) fn bootstrap_done(&mut self, host: &mut dyn Host, ticket: Ticket) {
        if self.bootstrap.take_if(|it| *it == ticket).is_some() {
            host.finish(ticket, Ok(()));
        }
    }

    pub(super) fn bootstrap_failed(&mut self, host: &mut dyn Host, ticket: Ticket) {
        let error = errors::not_primary(&self.desc.name, self.node_state());
        if self.bootstrap.take_if(|it| *it == ticket).is_some() {
            host.finish(ticket, Err(error));
        }
    }
}
