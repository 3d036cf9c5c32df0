//! A view takes effect on one member: first installed, then, once all have it, in force.

use super::{
    Cluster, ClusterMessage as M, Host, Phase,
    view::{Round, View, ViewId},
};
use model::NodeId;

impl Cluster {
    pub(super) fn on_install(
        &mut self,
        host: &mut dyn Host,
        from: &NodeId,
        round: &Round,
        base: &ViewId,
        view: View,
        nodes_set: Option<Vec<NodeId>>,
    ) {
        if view.id == self.view.id {
            host.send(from, M::Installed { round: round.clone() });
            return;
        }
        if *round != self.promised || !view.contains(&self.me) {
            return;
        }
        self.cut_back(round, base);
        if self.log.received() < view.start {
            let lacking = self.log.received() + 1;
            host.send(from, M::Lacking { round: round.clone(), from: lacking });
            return;
        }
        self.install(host, view, nodes_set);
        host.send(from, M::Installed { round: round.clone() });
    }

    /// Makes `view` the installed one; nothing is acknowledged in it before it is in force.
    pub(super) fn install(&mut self, host: &mut dyn Host, view: View, nodes_set: Option<Vec<NodeId>>) {
        self.log.truncate(view.start);
        self.attempts.push(view.clone());
        self.view = view;
        self.acks.clear();
        self.acks.insert(self.me.node.clone(), self.log.received());
        self.renumber_pending();
        self.watch_members(host.now());
        if let Some(nodes_set) = nodes_set {
            self.desc.nodes_set = nodes_set;
        }
        self.abandon_transfers(host);
        self.drop_addition(host);
    }

    pub(super) fn on_confirm(&mut self, host: &mut dyn Host, view: &ViewId) {
        if *view == self.view.id {
            self.confirm(host);
        }
    }

    /// Every member has installed the view: it is primary and writes go on. Does nothing the second time.
    pub(super) fn confirm(&mut self, host: &mut dyn Host) {
        if self.is_confirmed() {
            return;
        }
        self.confirmed = self.view.clone();
        self.attempts.clear();
        self.left.retain(|member| self.view.contains(member));
        self.left_for_good = false;
        self.primary = true;
        if !matches!(self.phase, Phase::Member) {
            self.member_since = host.now();
        }
        self.phase = Phase::Member;
        self.frozen = None;
        self.desc.clean = false;
        self.desc.safe_to_bootstrap = false;
        self.desc.members = self.confirmed.nodes();
        self.returned.clear();
        // What could not be saved shows at the next start as older membership, which asks more nodes, not fewer.
        let _ = self.keep(host);
        self.tell_members(host, &M::Received { view: self.view.id.clone(), seqno: self.log.received() });
        self.join_done(host);
        self.advance(host);
        self.propose_pending(host);
        self.alive_at = host.now();
    }
}
