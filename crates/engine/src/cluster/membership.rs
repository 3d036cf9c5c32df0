//! Signs of life: who is silent, who has gone, and when the lowest survivor calls for a new view.

use super::{
    Cluster, ClusterMessage as M, Host, Phase, errors,
    join::JoinAttempt,
    message::{Alive, LastView},
    round::Kind,
    view::{Member, View},
};
use model::{Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// From a suspicion to acting on it: the others come to suspect meanwhile. With the library's default of 5 s of
/// silence a death shows after about 6 s, with the quick options after about 2 s, as recorded.
const INSTALL_DELAY: Millis = Millis(1_000);
/// How often members without a primary view try again with whom they hear.
const REGROUP_EVERY: Millis = Millis(3_000);
/// A restarted node that has found nobody asks each member anew within this time.
const ASKS_WITHIN: Millis = Millis(5_000);
/// A promise to a round that never ends: the coordinator starts another.
const FLUSH_MAX: Millis = Millis(3_000);

/// What is known of another node.
#[derive(Debug)]
pub(super) struct Peer {
    /// The last word of that process.
    heard: Millis,
    alive: Option<Alive>,
}

impl Cluster {
    /// A word of a member of the view.
    pub(super) fn touch(&mut self, node: &NodeId, now: Millis) {
        self.peers.entry(node.clone()).or_insert(Peer { heard: now, alive: None }).heard = now;
    }

    /// Nodes that a new view begins to watch get a whole timeout.
    pub(super) fn watch_members(&mut self, now: Millis) {
        for node in self.view.nodes() {
            self.touch(&node, now);
        }
        let keep: BTreeSet<NodeId> = self.related();
        self.peers.retain(|node, _| keep.contains(node));
        self.suspected_since = None;
    }

    pub(super) fn heard_lately(&self, node: &NodeId, now: Millis) -> bool {
        self.peers.get(node).is_some_and(|peer| now.since(peer.heard) <= self.options.suspect_timeout)
    }

    /// Everyone this cluster may speak with.
    pub(super) fn related(&self) -> BTreeSet<NodeId> {
        let views = [&self.view, &self.confirmed].into_iter().chain(&self.attempts);
        let mut nodes: BTreeSet<NodeId> = views.flat_map(View::nodes).collect();
        nodes.extend(self.desc.nodes_set.iter().cloned());
        nodes.extend(self.frozen.as_ref().map(|frozen| frozen.joiner().node.clone()));
        nodes.extend(self.joining.iter().flat_map(JoinAttempt::partners));
        nodes.remove(&self.me.node);
        nodes
    }

    /// A process that slept, or a machine that stood still, must not take its own silence for that of others.
    pub(super) fn notice_own_sleep(&mut self, now: Millis) {
        let slept = now.since(self.ticked_at);
        self.ticked_at = now;
        if slept.0 * 2 > self.options.suspect_timeout.0 {
            for peer in self.peers.values_mut() {
                peer.heard = now;
            }
        }
    }

    pub(super) fn say_alive(&mut self, host: &mut dyn Host) {
        let now = host.now();
        self.alive_at = now + self.options.keepalive_period;
        let to: Vec<NodeId> = match self.phase {
            Phase::Member if self.primary => {
                let joiner = self.frozen.as_ref().map(|frozen| frozen.joiner().node.clone());
                self.other_members().into_iter().chain(joiner).collect()
            }
            Phase::Member => self.related().into_iter().collect(),
            Phase::Outside { .. } => self.joining.iter().flat_map(JoinAttempt::partners).collect(),
            _ => Vec::new(),
        };
        let suspects = self.suspects(now);
        for node in to {
            self.send_alive(host, &node, &suspects, true);
        }
    }

    fn send_alive(&self, host: &mut dyn Host, to: &NodeId, suspects: &BTreeSet<NodeId>, probe: bool) {
        let alive = Alive {
            member: self.me.clone(),
            uuid: self.view.uuid.clone(),
            branch: self.view.branch,
            view: self.view.id.clone(),
            confirmed: self.is_confirmed(),
            primary: self.primary && matches!(self.phase, Phase::Member),
            you: self.view.members.iter().find(|member| member.node == *to).map(|member| member.incarnation),
            received: self.log.received(),
            stuck: self.is_stuck(host.now()),
            suspects: suspects.clone(),
            probe,
        };
        host.send(to, M::Alive(alive));
    }

    pub(super) fn on_alive(&mut self, host: &mut dyn Host, from: &NodeId, alive: Alive) {
        if matches!(self.phase, Phase::Closed | Phase::Starting(_) | Phase::Gone) {
            return;
        }
        if !self.related().contains(from) {
            // It was struck off while it was away, and is told so. A process that was restarted since listens at another port,
            // where the one that was away does not ask: as recorded, that one waits without a primary view for ever.
            let asks_here = self.is_in(&alive) && alive.uuid == self.view.uuid;
            if alive.probe && asks_here && matches!(self.phase, Phase::Member) {
                self.send_alive(host, from, &BTreeSet::new(), false);
            }
            return;
        }
        let now = host.now();
        let probe = alive.probe;
        let in_view = self.view.contains(&alive.member);
        // Another process under a member's name is no sign that the member lives.
        if in_view || !self.view.has_node(from) {
            self.touch(from, now);
        }
        if self.joining.is_some() {
            self.join_heard(host, from, &alive);
        }
        if in_view && alive.view == self.view.id {
            if alive.confirmed {
                self.confirm(host);
            }
            if self.primary && !self.flushing() {
                if *from == *self.view.sequencer() && alive.received > self.log.received() {
                    self.ask_missing(host);
                }
                self.note_received(host, from, alive.received);
            }
        }
        let elsewhere = alive.primary && alive.confirmed && !self.is_in(&alive);
        let superseded = elsewhere
            && self.primary
            && alive.uuid == self.view.uuid
            && alive.branch == self.view.branch
            && alive.view > self.view.id;
        if superseded {
            self.lose_primary(host);
        }
        let outcast =
            matches!(self.phase, Phase::Member) && elsewhere && !self.primary && self.departure.is_none();
        if let Some(peer) = self.peers.get_mut(from) {
            peer.alive = Some(alive);
        }
        if outcast {
            self.come_back(host, from);
        }
        if probe && !in_view {
            let suspects = self.suspects(now);
            self.send_alive(host, from, &suspects, false);
        }
    }

    /// Whether the sender's view has this very process.
    fn is_in(&self, alive: &Alive) -> bool {
        alive.you == Some(self.me.incarnation)
    }

    /// Members of the view that have been silent for too long.
    fn suspects(&self, now: Millis) -> BTreeSet<NodeId> {
        if !matches!(self.phase, Phase::Member) {
            return BTreeSet::new();
        }
        let others = self.view.members.iter().filter(|member| member.node != self.me.node);
        others
            .filter(|member| !self.left.contains(*member) && !self.heard_lately(&member.node, now))
            .map(|member| member.node.clone())
            .collect()
    }

    /// Own suspicions, and those of others about nodes above themselves: where two members cannot hear each other,
    /// the higher one goes.
    fn gone(&self, now: Millis) -> BTreeSet<NodeId> {
        let mut gone = self.suspects(now);
        gone.extend(self.bootstrapped_elsewhere(now));
        for member in &self.view.members {
            let Some(alive) = self.peers.get(&member.node).and_then(|peer| peer.alive.as_ref()) else {
                continue;
            };
            if alive.view == self.view.id && alive.member == *member && self.heard_lately(&member.node, now) {
                gone.extend(
                    alive
                        .suspects
                        .iter()
                        .filter(|node| **node > member.node && **node != self.me.node)
                        .cloned(),
                );
            }
        }
        gone
    }

    /// Members that were bootstrapped apart from this one before it noticed that they had gone. They live, and are in this
    /// view no more.
    fn bootstrapped_elsewhere(&self, now: Millis) -> impl Iterator<Item = NodeId> {
        let others = self.view.members.iter().filter(|member| member.node != self.me.node);
        let gone = others.filter(move |member| {
            let alive = self.peers.get(&member.node).and_then(|peer| peer.alive.as_ref());
            let apart = |alive: &Alive| alive.primary && alive.confirmed && !self.is_in(alive);
            self.heard_lately(&member.node, now)
                && alive.is_some_and(|alive| {
                    alive.member == **member
                        && apart(alive)
                        && alive.uuid == self.view.uuid
                        && alive.branch != self.view.branch
                })
        });
        gone.map(|member| member.node.clone())
    }

    /// This member promised itself to a round that does not end, or installed a view that does not come into force.
    fn is_stuck(&self, now: Millis) -> bool {
        (self.flushing() || !self.is_confirmed()) && now.since(self.promised_at) > FLUSH_MAX
    }

    /// Looks for members that are silent or have left and, as the lowest of the rest, calls for a new view.
    pub(super) fn check(&mut self, host: &mut dyn Host) {
        if !matches!(self.phase, Phase::Member) || self.view.members.is_empty() {
            return;
        }
        if !self.primary {
            self.regroup(host);
            return;
        }
        let now = host.now();
        let gone = self.gone(now);
        let left: BTreeSet<NodeId> =
            self.view.members.iter().filter(|it| self.left.contains(*it)).map(|it| it.node.clone()).collect();
        let rest: Vec<Member> = self
            .view
            .members
            .iter()
            .filter(|it| !gone.contains(&it.node) && !left.contains(&it.node))
            .cloned()
            .collect();
        let stuck = self.is_stuck(now);
        let fallen = rest.iter().any(|member| self.has_fallen_out(member, now));
        if gone.is_empty() && left.is_empty() && !stuck && !fallen {
            self.suspected_since = None;
            return;
        }
        let leader = rest.iter().find(|member| !self.has_fallen_out(member, now));
        let since = *self.suspected_since.get_or_insert(now);
        let patience = self.options.inactive_timeout - self.options.suspect_timeout;
        let delay = INSTALL_DELAY.min(patience);
        let ripe = gone.is_empty() || now.since(since) >= delay;
        if ripe && self.round.is_none() && leader == Some(&self.me) {
            self.start_round(host, rest, Kind::Repair);
        } else if !ripe {
            self.check_at = self.check_at.min(since + delay);
        }
    }

    /// Whether a member lost the primary view that this node still sees it in, or went on to one that came to nothing:
    /// it acknowledges nothing any more, so a new view is needed, with it but not led by it. Neither does one that never
    /// came into the view, and lost its own while this node waited for it.
    fn has_fallen_out(&self, member: &Member, now: Millis) -> bool {
        let alive = self.peers.get(&member.node).and_then(|peer| peer.alive.as_ref());
        alive.is_some_and(|alive| {
            let here = alive.view == self.view.id && alive.confirmed;
            let behind = alive.view < self.view.id && !self.is_confirmed() && self.is_stuck(now);
            alive.member == *member
                && ((!alive.primary && (here || behind || alive.view > self.view.id))
                    || (here && alive.stuck))
        })
    }

    /// Without a primary view: whoever of the old views is heard tries to be all of them again.
    fn regroup(&mut self, host: &mut dyn Host) {
        let now = host.now();
        if self.round.is_some() || self.joining.is_some() || now < self.regroup_at || self.departure.is_some()
        {
            return;
        }
        let mut company: Vec<Member> = self
            .peers
            .iter()
            .filter(|(node, _)| self.heard_lately(node, now))
            .filter_map(|(_, peer)| peer.alive.as_ref())
            .filter(|alive| alive.branch == self.view.branch && alive.uuid == self.view.uuid)
            // One whose view is in force calls for a new one itself; in one that is not nothing is acknowledged, and one that
            // waits for others to come into it cannot go on without them.
            .filter(|alive| !alive.primary || !alive.confirmed && (alive.view == self.view.id || alive.stuck))
            .map(|alive| alive.member.clone())
            .collect();
        company.push(self.me.clone());
        company.sort();
        let alone = company.len() == 1 && self.returned_lately(now).is_empty();
        if !alone && company.first() == Some(&self.me) {
            self.regroup_at = now + REGROUP_EVERY;
            self.start_round(host, company, Kind::Repair);
        }
    }

    /// Restarted nodes that look for a primary view, and what each of them was in last.
    pub(super) fn returned_lately(&self, now: Millis) -> BTreeMap<NodeId, LastView> {
        let lately = self.returned.iter().filter(|(_, (asked, _))| now.since(*asked) <= ASKS_WITHIN);
        lately.map(|(node, (_, last))| (node.clone(), last.clone())).collect()
    }

    /// The members heard now that have no primary view either: the component that `pc.bootstrap` makes primary.
    pub(super) fn component(&self, now: Millis) -> Vec<Member> {
        let mut company: Vec<Member> = self
            .view
            .members
            .iter()
            .filter(|member| self.heard_lately(&member.node, now) && !self.left.contains(*member))
            .filter(|member| {
                let alive = self.peers.get(&member.node).and_then(|peer| peer.alive.as_ref());
                alive.is_some_and(|alive| alive.member == **member && !alive.primary)
            })
            .cloned()
            .collect();
        company.push(self.me.clone());
        company.sort();
        company.dedup();
        company
    }

    /// This component may not write any more.
    pub(super) fn lose_primary(&mut self, host: &mut dyn Host) {
        if !self.primary {
            return;
        }
        self.primary = false;
        self.round = None;
        self.regroup_at = host.now() + REGROUP_EVERY;
        // The state before was synced, and the texts of refusals say so.
        let refusal = errors::not_primary(&self.desc.name, "synced");
        self.drop_admission(host);
        self.drop_transfers(host);
        self.drop_addition(host);
        self.fail_pending(host, &refusal);
    }
}
