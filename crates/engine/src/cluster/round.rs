//! Agreeing on a view: the initiator stops the candidates, learns what they hold, completes it, and installs.
//!
//! A view comes into force only when every member has installed it, and a member that installed one that perhaps came
//! into force joins another only with a majority of the first: so two primary views never live side by side, unless
//! both are bootstrapped. Those who lost a view get together again only when all of its members do.

use super::{
    Cluster, ClusterMessage as M, Host, Phase, Ticket,
    message::{Holding, LastView},
    view::{Member, Round, View, ViewId},
};
use model::{Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// How long candidates may take to answer before the round starts again without them.
const GATHER_MAX: Millis = Millis(2_000);
/// How often an unanswered question is put again.
const SAY_AGAIN: Millis = Millis(250);
const FILL_BYTES_MAX: usize = 1 << 20;

/// Why a round is run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Members were lost or left, or those without a primary view try again.
    Repair,
    /// A joiner has its copy.
    Admit { joiner: Member, returning: bool },
    /// `pc.bootstrap`: without asking for a majority.
    Bootstrap(Ticket),
}

#[derive(Debug)]
enum Stage {
    Gathering,
    /// Entries are coming from the member that holds most.
    Fetching(NodeId),
    Installing {
        /// The view whose log the new one goes on from.
        base: ViewId,
        view: View,
        nodes_set: Option<Vec<NodeId>>,
        installed: BTreeSet<NodeId>,
    },
}

/// A round that this node leads.
#[derive(Debug)]
pub(super) struct Rounding {
    round: Round,
    kind: Kind,
    candidates: Vec<Member>,
    replies: BTreeMap<NodeId, Holding>,
    stage: Stage,
    deadline: Millis,
    again: Millis,
}

impl Rounding {
    pub(super) fn wake(&self) -> Millis {
        self.again.min(self.deadline)
    }
}

impl Cluster {
    pub(super) fn start_round(&mut self, host: &mut dyn Host, mut candidates: Vec<Member>, kind: Kind) {
        // A joiner may stand in a view already that has not come into force.
        candidates.sort();
        candidates.dedup();
        if !matches!(kind, Kind::Admit { .. }) {
            self.drop_admission(host);
        }
        let now = host.now();
        let number = self.promised.number.max(self.view.id.round.number).max(self.highest_round) + 1;
        let round = Round { number, initiator: self.me.node.clone() };
        self.promise(now, round.clone());
        let mut rounding = Rounding {
            round: round.clone(),
            kind,
            candidates,
            replies: BTreeMap::new(),
            stage: Stage::Gathering,
            deadline: now + GATHER_MAX,
            again: now + SAY_AGAIN,
        };
        rounding.replies.insert(self.me.node.clone(), self.holding(now));
        for member in rounding.candidates.iter().filter(|member| member.node != self.me.node) {
            host.send(&member.node, M::Gather { round: round.clone() });
        }
        self.round = Some(rounding);
        self.weigh(host);
    }

    fn promise(&mut self, now: Millis, round: Round) {
        self.promised = round;
        self.promised_at = now;
        self.apply_due = None;
    }

    fn holding(&self, now: Millis) -> Holding {
        Holding {
            member: self.me.clone(),
            primary: self.primary,
            installed: self.view.clone(),
            confirmed: self.confirmed.clone(),
            attempts: self.attempts.clone(),
            received: self.log.received(),
            applied: self.log.applied(),
            digest: self.log.digest_at(self.log.applied()).unwrap_or_default(),
            left: self.left.clone(),
            returned: self.returned_lately(now),
        }
    }

    pub(super) fn on_gather(&mut self, host: &mut dyn Host, from: &NodeId, round: &Round) {
        let ready = self.joining.as_ref().is_some_and(|join| join.is_ready_for(from));
        let welcome = match self.phase {
            Phase::Member => ready || self.view.has_node(from) || !self.primary,
            Phase::Outside { .. } => ready,
            _ => false,
        };
        if !welcome || *round < self.promised {
            let promised = self.promised.clone();
            host.send(from, M::Rejected { round: round.clone(), promised });
            return;
        }
        if *round > self.promised {
            let now = host.now();
            self.round = None;
            self.promise(now, round.clone());
        }
        host.send(from, M::Gathered { round: round.clone(), state: self.holding(host.now()) });
    }

    pub(super) fn on_rejected(&mut self, host: &mut dyn Host, round: &Round, promised: &Round) {
        let Some(mine) = &self.round else { return };
        if mine.round != *round {
            return;
        }
        let kind = mine.kind.clone();
        self.round = None;
        // The other round may end first; the next one of ours is above it.
        self.highest_round = self.highest_round.max(promised.number);
        self.promised_at = host.now();
        if let Kind::Bootstrap(ticket) = kind {
            self.bootstrap_failed(host, ticket);
        }
    }

    pub(super) fn on_gathered(&mut self, host: &mut dyn Host, from: &NodeId, round: &Round, state: Holding) {
        let Some(mine) = &mut self.round else { return };
        if mine.round != *round
            || !matches!(mine.stage, Stage::Gathering)
            || !mine.candidates.contains(&state.member)
        {
            return;
        }
        mine.replies.insert(from.clone(), state);
        self.weigh(host);
    }

    /// Once all candidates have answered: may they go on, and who holds most?
    fn weigh(&mut self, host: &mut dyn Host) {
        let Some(mine) = &self.round else { return };
        if mine.replies.len() < mine.candidates.len() {
            return;
        }
        let left: BTreeSet<Member> = mine.replies.values().flat_map(|it| it.left.iter().cloned()).collect();
        if !matches!(mine.kind, Kind::Bootstrap(_)) && !may_go_on(&mine.replies, &left) {
            let round = mine.round.clone();
            for node in mine.replies.keys().filter(|node| **node != self.me.node) {
                host.send(node, M::NoQuorum { round: round.clone() });
            }
            self.round = None;
            self.lose_primary(host);
            return;
        }
        self.left.extend(left);
        let most = mine.replies.values().max_by_key(|it| (&it.installed.id, it.received));
        let Some(most) = most.cloned() else { return };
        if most.installed.id > self.view.id {
            let round = self.promised.clone();
            self.cut_back(&round, &most.installed.id);
        } else if most.received <= self.log.received() {
            self.propose_view(host);
            return;
        }
        let from = self.log.received() + 1;
        if let Some(mine) = &mut self.round {
            mine.stage = Stage::Fetching(most.member.node.clone());
            host.send(&most.member.node, M::Fetch { round: mine.round.clone(), from });
        }
    }

    pub(super) fn on_fetch(&mut self, host: &mut dyn Host, from: &NodeId, round: &Round, seqno: u64) {
        if *round == self.promised {
            let entries = self.log.slice(seqno, FILL_BYTES_MAX).into_iter().map(|(entry, _)| entry).collect();
            host.send(from, M::Fill { round: round.clone(), base: self.view.id.clone(), entries });
        }
    }

    pub(super) fn on_fill(
        &mut self,
        host: &mut dyn Host,
        from: &NodeId,
        round: &Round,
        base: &ViewId,
        entries: Vec<super::entry::Entry>,
    ) {
        if *round != self.promised || self.view.id.round == *round {
            return;
        }
        self.cut_back(round, base);
        for entry in entries {
            self.log.append(entry);
        }
        let received = self.log.received();
        let Some(mine) = &mut self.round else { return };
        if !matches!(&mine.stage, Stage::Fetching(source) if source == from) {
            return;
        }
        let most = mine.replies.get(from).map_or(0, |it| it.received);
        if received < most {
            host.send(from, M::Fetch { round: round.clone(), from: received + 1 });
        } else {
            self.propose_view(host);
        }
    }

    /// This member's log is complete: name the view, complete the others, install.
    fn propose_view(&mut self, host: &mut dyn Host) {
        let Some(mine) = &self.round else { return };
        let (round, kind) = (mine.round.clone(), mine.kind.clone());
        let newest = mine.replies.values().map(|it| &it.installed).max_by_key(|view| &view.id).cloned();
        let Some(newest) = newest else { return };
        let conf = mine
            .replies
            .values()
            .flat_map(|it| it.attempts.iter().map(|view| view.id.conf).chain([it.installed.id.conf]))
            .max()
            .unwrap_or(0);
        let mut fills = Vec::new();
        let mut members = vec![self.me.clone()];
        for (node, holding) in mine.replies.iter().filter(|(node, _)| **node != self.me.node) {
            let same = holding.installed.id == newest.id;
            let base = if same { holding.received } else { holding.applied };
            let known = same || self.log.digest_at(holding.applied) == Some(holding.digest);
            // One whose history is not ours, or too old, joins later with a whole copy.
            if known && base + 1 >= self.log.first() && base <= self.log.received() {
                members.push(holding.member.clone());
                fills.push((node.clone(), base));
            }
        }
        members.sort();
        let branch = if matches!(kind, Kind::Bootstrap(_)) { host.random() } else { newest.branch };
        let view = View {
            id: ViewId { conf: conf + 1, round: round.clone() },
            uuid: newest.uuid.clone(),
            branch,
            members,
            start: self.log.received(),
        };
        let changes = self.left_for_good || matches!(kind, Kind::Admit { returning: false, .. });
        let nodes_set = changes.then(|| view.nodes());
        for (node, held) in fills {
            self.fill(host, &node, held, &newest.id);
            let message = M::Install {
                round: round.clone(),
                base: newest.id.clone(),
                view: view.clone(),
                nodes_set: nodes_set.clone(),
            };
            host.send(&node, message);
        }
        let stage = Stage::Installing {
            base: newest.id.clone(),
            view: view.clone(),
            nodes_set: nodes_set.clone(),
            installed: BTreeSet::from([self.me.node.clone()]),
        };
        let now = host.now();
        if let Some(mine) = &mut self.round {
            mine.stage = stage;
            mine.deadline = now + GATHER_MAX;
        }
        self.install(host, view, nodes_set);
        self.settle(host);
    }

    /// Sends what a candidate that holds all up to `held` lacks, in pieces.
    fn fill(&self, host: &mut dyn Host, node: &NodeId, mut held: u64, base: &ViewId) {
        while held < self.log.received() {
            let entries: Vec<_> =
                self.log.slice(held + 1, FILL_BYTES_MAX).into_iter().map(|(entry, _)| entry).collect();
            held += entries.len() as u64;
            host.send(node, M::Fill { round: self.promised.clone(), base: base.clone(), entries });
        }
    }

    /// What this member received in an older view than `base` and did not apply may have been ordered otherwise since:
    /// it is forgotten, once in a round.
    pub(super) fn cut_back(&mut self, round: &Round, base: &ViewId) {
        if self.view.id != *base && self.cut_for.as_ref() != Some(round) {
            self.cut_for = Some(round.clone());
            self.log.truncate(0);
        }
    }

    pub(super) fn on_lacking(&mut self, host: &mut dyn Host, from: &NodeId, round: &Round, seqno: u64) {
        let Some(mine) = &self.round else { return };
        if let Stage::Installing { base, view, nodes_set, .. } = &mine.stage
            && mine.round == *round
            && seqno >= self.log.first()
        {
            let (base, view, nodes_set) = (base.clone(), view.clone(), nodes_set.clone());
            self.fill(host, from, seqno - 1, &base);
            host.send(from, M::Install { round: round.clone(), base, view, nodes_set });
        }
    }

    pub(super) fn on_installed(&mut self, host: &mut dyn Host, from: &NodeId, round: &Round) {
        if let Some(mine) = &mut self.round
            && mine.round == *round
            && let Stage::Installing { installed, .. } = &mut mine.stage
        {
            installed.insert(from.clone());
            self.settle(host);
        }
    }

    /// Once every member has installed the view it is in force.
    fn settle(&mut self, host: &mut dyn Host) {
        let Some(mine) = &self.round else { return };
        let Stage::Installing { view, installed, .. } = &mine.stage else { return };
        if !view.members.iter().all(|member| installed.contains(&member.node)) {
            return;
        }
        let id = view.id.clone();
        let kind = mine.kind.clone();
        self.round = None;
        self.tell_members(host, &M::Confirm { view: id });
        for member in self.left.clone() {
            if !self.view.contains(&member) {
                host.send(&member.node, M::Left);
            }
        }
        self.confirm(host);
        if let Kind::Bootstrap(ticket) = kind {
            self.bootstrap_done(host, ticket);
        }
    }

    pub(super) fn on_no_quorum(&mut self, host: &mut dyn Host, round: &Round) {
        if *round == self.promised && matches!(self.phase, Phase::Member) {
            self.lose_primary(host);
        }
    }

    /// Repeats what is unanswered, and starts anew without those who stay silent.
    pub(super) fn drive_round(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let Some(mine) = &mut self.round else { return self.end_bootstrap(host) };
        if mine.deadline <= now {
            self.start_again(host);
            return;
        }
        if mine.again > now {
            return;
        }
        mine.again = now + SAY_AGAIN;
        let round = mine.round.clone();
        match &mine.stage {
            Stage::Gathering => {
                for member in mine.candidates.iter().filter(|member| !mine.replies.contains_key(&member.node))
                {
                    host.send(&member.node, M::Gather { round: round.clone() });
                }
            }
            Stage::Fetching(source) => {
                let from = self.log.received() + 1;
                host.send(source, M::Fetch { round, from });
            }
            Stage::Installing { base, view, nodes_set, installed } => {
                for member in view.members.iter().filter(|member| !installed.contains(&member.node)) {
                    let (view, nodes_set) = (view.clone(), nodes_set.clone());
                    let base = base.clone();
                    host.send(&member.node, M::Install { round: round.clone(), base, view, nodes_set });
                }
            }
        }
    }

    /// Its round gave way to another member's: whoever asked for it is told what came of it.
    fn end_bootstrap(&mut self, host: &mut dyn Host) {
        match self.bootstrap {
            Some(ticket) if self.primary => self.bootstrap_done(host, ticket),
            Some(ticket) => self.bootstrap_failed(host, ticket),
            None => {}
        }
    }

    fn start_again(&mut self, host: &mut dyn Host) {
        let Some(mine) = self.round.take() else { return };
        let answered: BTreeSet<NodeId> = match &mine.stage {
            Stage::Gathering => mine.replies.keys().cloned().collect(),
            Stage::Fetching(source) => mine.replies.keys().filter(|node| *node != source).cloned().collect(),
            Stage::Installing { installed, .. } => installed.clone(),
        };
        let candidates: Vec<Member> =
            mine.candidates.into_iter().filter(|member| answered.contains(&member.node)).collect();
        let kind = match mine.kind {
            Kind::Admit { joiner, .. } if !answered.contains(&joiner.node) => Kind::Repair,
            kind => kind,
        };
        self.start_round(host, candidates, kind);
    }
}

/// Whether the candidates may form a primary view: a majority of the last view in force, and of every later one that
/// may have been, have never been without it; or all of its members are there. Who lost it counts no more, as
/// with Galera: somebody may have been bootstrapped meanwhile, by one who saw that half of the members had lost theirs.
///
/// Restarted ones count as there, and what they were in last counts when it is newer; but none of them brings a copy, not even
/// the newest: those that only waited keep theirs, and all others get it. A node that starts must be held back from that.
fn may_go_on(replies: &BTreeMap<NodeId, Holding>, left: &BTreeSet<Member>) -> bool {
    let members = |is: &dyn Fn(&Holding) -> bool| -> BTreeSet<Member> {
        replies.values().filter(|it| is(it)).map(|it| it.member.clone()).collect()
    };
    let (present, primary) = (members(&|_| true), members(&|it| it.primary));
    let returned: BTreeMap<&NodeId, &LastView> = replies.values().flat_map(|it| &it.returned).collect();
    let there = |node: &NodeId| replies.contains_key(node) || returned.contains_key(node);
    let Some(base) = replies.values().map(|it| &it.confirmed).max_by_key(|view| &view.id) else {
        return false;
    };
    let newest = returned.values().max_by_key(|last| last.conf);
    if let Some(newest) = newest.filter(|last| last.conf > base.id.conf && primary.is_empty()) {
        return newest.members.iter().all(there);
    }
    let back = |member: &Member| returned.contains_key(&member.node);
    let may = |view: &View| {
        view.majority(&primary, left)
            || view.is_whole(left, &|member| present.contains(member) || back(member))
    };
    let later = replies.values().flat_map(|it| &it.attempts).filter(|attempt| attempt.id > base.id);
    may(base) && later.into_iter().all(may)
}
