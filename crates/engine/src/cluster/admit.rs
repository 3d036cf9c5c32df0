//! The coordinator lets a joiner in: writes wait, a donor sends its copy, then a view with the joiner is formed.

use super::{
    Cluster, ClusterMessage as M, Host, Phase,
    message::{Have, JoinAnswer, JoinRequest},
    round::Kind,
    view::Member,
};
use model::{Millis, NodeId};

const SAY_AGAIN: Millis = Millis(1_000);

/// A join under way; no write gets a number meanwhile.
#[derive(Debug)]
pub(super) struct Frozen {
    joiner: Member,
    session: u64,
    donor: NodeId,
    returning: bool,
    have: Option<Have>,
    /// The donor was told; it is told again at this time.
    donating: Option<Millis>,
}

impl Frozen {
    pub(super) fn joiner(&self) -> &Member {
        &self.joiner
    }
}

impl Cluster {
    pub(super) fn on_join(&mut self, host: &mut dyn Host, from: &NodeId, request: JoinRequest) {
        // It was restarted while it was let in: nobody takes what is sent to the one before, and it would be waited for for ever.
        let restarted = |frozen: &Frozen| frozen.joiner.node == *from && frozen.joiner != request.member;
        if self.frozen.as_ref().is_some_and(restarted) {
            self.drop_admission(host);
        }
        let answer = self.answer_join(host, from, request);
        host.send(from, M::JoinAnswer(answer));
        self.drive_admission(host);
    }

    fn answer_join(&mut self, host: &mut dyn Host, from: &NodeId, request: JoinRequest) -> JoinAnswer {
        if !matches!(self.phase, Phase::Member) || request.member.node != *from {
            return JoinAnswer::NotPrimary;
        }
        if !self.primary {
            if let Some(last) = request.last.filter(|_| self.related().contains(from)) {
                self.returned.insert(from.clone(), (host.now(), last));
            }
            return JoinAnswer::NotPrimary;
        }
        if !self.i_sequence() {
            return JoinAnswer::Ask(self.view.sequencer().clone());
        }
        if let Some(frozen) = &self.frozen {
            if frozen.joiner == request.member {
                return JoinAnswer::Accepted { session: frozen.session };
            }
            return JoinAnswer::Busy;
        }
        let now = host.now();
        let settled = self.round.is_none() && !self.flushing() && self.is_confirmed();
        let all_here =
            self.other_members().iter().all(|node| self.heard_lately(node, now)) && self.left.is_empty();
        let idle = self.addition.is_none() && self.departure.is_none();
        if !settled || !all_here || !idle || self.view.has_node(from) {
            return JoinAnswer::Busy;
        }
        let session = host.random();
        let donor = self.view.members.last().map_or(&self.me, |member| member).node.clone();
        self.touch(from, now);
        self.frozen = Some(Frozen {
            joiner: request.member,
            session,
            donor,
            returning: request.returning,
            have: request.have,
            donating: None,
        });
        JoinAnswer::Accepted { session }
    }

    /// Moves a join on: the donor starts once every member holds all that has a number.
    pub(super) fn drive_admission(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let drained = self.drained();
        let upto = self.log.received();
        let Some(frozen) = &mut self.frozen else { return };
        let joiner = frozen.joiner.node.clone();
        if self.round.is_none() && !self.heard_lately(&joiner, now) {
            self.drop_admission(host);
            return;
        }
        let Some(frozen) = &mut self.frozen else { return };
        if !drained || self.round.is_some() || frozen.donating.is_some_and(|again| again > now) {
            return;
        }
        frozen.donating = Some(now + SAY_AGAIN);
        let (session, joiner, have, donor) =
            (frozen.session, frozen.joiner.clone(), frozen.have.clone(), frozen.donor.clone());
        let wait = have.is_none();
        if donor == self.me.node {
            self.on_donate(host, &donor, session, &joiner, upto, have, wait);
        } else {
            host.send(&donor, M::Donate { session, joiner, upto, have, wait });
        }
    }

    pub(super) fn on_joined(&mut self, host: &mut dyn Host, from: &NodeId, session: u64) {
        let Some(frozen) = &self.frozen else {
            if !self.view.has_node(from) {
                host.send(from, M::Abort { session });
            }
            return;
        };
        if frozen.session == session && self.round.is_none() && self.drained() {
            let (joiner, returning) = (frozen.joiner.clone(), frozen.returning);
            let mut candidates = self.view.members.clone();
            candidates.push(joiner.clone());
            self.start_round(host, candidates, Kind::Admit { joiner, returning });
        }
    }

    /// The join is over without success: writes get numbers again.
    pub(super) fn drop_admission(&mut self, host: &mut dyn Host) {
        if let Some(frozen) = self.frozen.take() {
            let abort = M::Abort { session: frozen.session };
            host.send(&frozen.joiner.node, abort.clone());
            if frozen.donor == self.me.node {
                self.stop_outgoing(host, frozen.session);
            } else {
                host.send(&frozen.donor, abort);
            }
            self.tell_members(host, &M::Thaw { view: self.view.id.clone() });
            if self.propose_again_at.is_some() {
                self.propose_again_at = Some(host.now());
            }
        }
    }

    /// Donor or coordinator gave a transfer up.
    pub(super) fn on_abort(&mut self, host: &mut dyn Host, from: &NodeId, session: u64) {
        if self.frozen.as_ref().is_some_and(|frozen| frozen.session == session && frozen.donor == *from) {
            self.drop_admission(host);
        }
        if self.joining.as_ref().is_some_and(|join| join.expects(session)) {
            self.join_failed(host, "retries limit exceeded");
        }
        self.stop_outgoing(host, session);
        self.stop_incoming(host, session);
    }
}
