//! Replication clusters: one state machine per cluster and node, virtual synchrony without I/O.
//!
//! The lowest member of a primary view gives writes their order; a write is acknowledged once every member of the view
//! holds it and its origin has applied it. When members die, the lowest survivor collects what the survivors hold, so
//! an acknowledged write is never lost while a majority, or the bootstrapped survivor, lives.
//!
//! Knows nothing of SQL or storage: writes are opaque bytes with keys, everything else goes through [`Host`]. It is
//! as dangerous as the real thing: see `order` (conflicts), `alter` (ADD's window), `start` (the second starter) and
//! `leave` (DELETE from a joiner).

mod admit;
mod alter;
mod certify;
mod entry;
pub mod errors;
mod host;
mod install;
mod join;
mod leave;
mod log;
mod membership;
mod message;
mod options;
mod order;
mod round;
mod start;
mod status;
mod transfer;
mod view;

pub use entry::{Payload, Ticket};
pub use host::{Descriptor, Host};
pub use message::{ClusterMessage, JoinAnswer, Standing};
pub use options::Options;
pub use order::Write;
pub use status::Aftermath;
pub use view::Member;

use crate::{core::Timing, io::SqlError};
use admit::Frozen;
use alter::Addition;
use certify::Certifier;
use entry::node_hash;
use join::JoinAttempt;
use leave::Departure;
use log::Log;
use membership::Peer;
use message::LastView;
use model::{Millis, NodeId};
use order::Pending;
use round::Rounding;
use start::Starting;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};
use transfer::{Incoming, Outgoing};
use view::{Round, View, ViewId};

/// Where this node stands in the cluster.
#[derive(Debug)]
enum Phase {
    /// It found nobody at its start: `recovery-required`, until the cluster is deleted here.
    Closed,
    /// It asks the persisted members.
    Starting(Starting),
    /// It has no view: it joins for the first time, or returns after a restart.
    Outside {
        since: Millis,
        returning: bool,
        seen: Option<Seen>,
    },
    Member,
    /// No longer a member: the owner forgets the cluster.
    Gone,
}

/// What a returning node was told about the cluster.
#[derive(Clone, Debug)]
struct Seen {
    members: Vec<Member>,
}

/// Plain figures for the status rows.
#[derive(Debug, Default)]
struct Counters {
    replicated: u64,
    replicated_bytes: u64,
    keys: u64,
    received: u64,
    received_bytes: u64,
    commits: u64,
    cert_failures: u64,
}

/// One cluster on one node.
pub struct Cluster {
    me: Member,
    timing: Timing,
    options: Options,
    desc: Descriptor,
    phase: Phase,
    log: Log,
    certifier: Certifier,
    /// The view whose entries the certifier holds.
    certified_conf: u64,

    /// The installed view; before the first, a view of nobody.
    view: View,
    /// The last view that every member had installed.
    confirmed: View,
    /// Views installed since, each perhaps in force elsewhere.
    attempts: Vec<View>,
    primary: bool,
    /// Members that said that they go.
    left: BTreeSet<Member>,
    /// One of them went for good: the persisted members change with the next view.
    left_for_good: bool,
    /// The highest round this member has answered. While it is not the view's own, nothing is acknowledged.
    promised: Round,
    promised_at: Millis,
    /// Since when this node has applied every write itself, none by way of a copy.
    member_since: Millis,
    /// The last round for which this member's log was cut back to what it had applied.
    cut_for: Option<Round>,
    /// The highest round number heard of.
    highest_round: u64,
    peers: BTreeMap<NodeId, Peer>,
    suspected_since: Option<Millis>,
    regroup_at: Millis,
    /// Restarted nodes that asked this one for a place while it waited without a primary view, and when.
    returned: BTreeMap<NodeId, (Millis, LastView)>,
    round: Option<Rounding>,

    acks: BTreeMap<NodeId, u64>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    next_index: u64,
    /// At the sequencer: the last proposal taken from each origin.
    last_index: BTreeMap<NodeId, u64>,
    apply_due: Option<Millis>,
    propose_again_at: Option<Millis>,
    gap_asked: Option<Millis>,

    frozen: Option<Frozen>,
    joining: Option<JoinAttempt>,
    outgoing: BTreeMap<u64, Outgoing>,
    incoming: BTreeMap<u64, Incoming>,
    addition: Option<Addition>,
    departure: Option<Departure>,
    bootstrap: Option<Ticket>,

    alive_at: Millis,
    check_at: Millis,
    ticked_at: Millis,
    counters: Counters,
}

impl fmt::Debug for Cluster {
    /// Where it stands, without what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.desc.name)
            .field("phase", &self.phase)
            .field("primary", &self.primary)
            .field("view", &self.view)
            .field("confirmed", &self.confirmed.id)
            .field("attempts", &self.attempts)
            .field("promised", &self.promised)
            .field("round", &self.round)
            .field("received", &self.log.received())
            .field("applied", &self.log.applied())
            .field("acks", &self.acks)
            .field("pending", &self.pending.len())
            .field("left", &self.left)
            .field("frozen", &self.frozen)
            .field("joining", &self.joining)
            .field("departure", &self.departure)
            .finish_non_exhaustive()
    }
}

/// The members of a cluster that is only known by name.
fn nobody(uuid: &str, me: &NodeId) -> View {
    let id = ViewId { conf: 0, round: Round::zero(me) };
    View { id, uuid: uuid.to_owned(), branch: 0, members: Vec::new(), start: 0 }
}

/// The fingerprint that the history of cluster `uuid` starts from.
fn first_digest(uuid: &str) -> u64 {
    uuid.bytes()
        .fold(0x9e37_79b9_7f4a_7c15, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Cluster {
    fn empty(
        host: &dyn Host,
        me: Member,
        timing: Timing,
        desc: Descriptor,
        phase: Phase,
    ) -> Result<Self, SqlError> {
        let options = Options::parse(&desc.options)
            .map_err(|reason| SqlError::new(format!("cluster '{}', {reason}", desc.name)))?;
        let view = nobody(&desc.uuid, &me.node);
        let now = host.now();
        Ok(Self {
            log: Log::new(desc.seqno, first_digest(&desc.uuid), options.history_bytes),
            promised: Round::zero(&me.node),
            confirmed: view.clone(),
            view,
            attempts: Vec::new(),
            certifier: Certifier::default(),
            certified_conf: 0,
            primary: false,
            left: BTreeSet::new(),
            left_for_good: false,
            promised_at: now,
            member_since: now,
            cut_for: None,
            highest_round: 0,
            peers: BTreeMap::new(),
            suspected_since: None,
            regroup_at: now,
            returned: BTreeMap::new(),
            round: None,
            acks: BTreeMap::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            next_index: 1,
            last_index: BTreeMap::new(),
            apply_due: None,
            propose_again_at: None,
            gap_asked: None,
            frozen: None,
            joining: None,
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            addition: None,
            departure: None,
            bootstrap: None,
            alive_at: now,
            check_at: now + options.check_period,
            ticked_at: now,
            counters: Counters::default(),
            me,
            timing,
            options,
            desc,
            phase,
        })
    }

    /// CREATE CLUSTER: a primary view of this node alone. `desc.uuid` is new.
    pub fn create(
        host: &mut dyn Host,
        me: Member,
        timing: Timing,
        desc: Descriptor,
    ) -> Result<Self, SqlError> {
        let mut cluster = Self::empty(host, me, timing, desc, Phase::Member)?;
        cluster.form_alone(host)?;
        Ok(cluster)
    }

    /// A primary view of this node alone, by its own decision.
    fn form_alone(&mut self, host: &mut dyn Host) -> Result<(), SqlError> {
        self.phase = Phase::Member;
        self.log = Log::new(self.desc.seqno, first_digest(&self.desc.uuid), self.options.history_bytes);
        self.promised.number += 1;
        let round = Round { number: self.promised.number, initiator: self.me.node.clone() };
        self.promised = round.clone();
        let view = View {
            id: ViewId { conf: self.desc.conf + 1, round },
            uuid: self.desc.uuid.clone(),
            branch: host.random(),
            members: vec![self.me.clone()],
            start: self.desc.seqno,
        };
        self.install(host, view, None);
        self.confirm(host);
        self.keep(host).map_err(|reason| SqlError::new(format!("cluster '{}', {reason}", self.desc.name)))
    }

    pub fn name(&self) -> &str {
        &self.desc.name
    }

    pub fn path(&self) -> &str {
        &self.desc.path
    }

    pub fn tables(&self) -> &BTreeSet<String> {
        &self.desc.tables
    }

    /// The owner is to forget the cluster, in storage too.
    pub fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// The last entry applied here: what a write prepared now has seen.
    pub fn applied(&self) -> u64 {
        self.log.applied()
    }

    /// Saves what must outlive the process.
    fn keep(&mut self, host: &mut dyn Host) -> Result<(), String> {
        self.desc.uuid.clone_from(&self.view.uuid);
        self.desc.conf = self.view.id.conf;
        host.save(&self.desc)
    }

    fn i_sequence(&self) -> bool {
        !self.view.members.is_empty() && *self.view.sequencer() == self.me.node
    }

    /// A round was promised that has not ended in this view: nothing may be acknowledged.
    fn flushing(&self) -> bool {
        self.promised != self.view.id.round
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.id == self.view.id
    }

    fn other_members(&self) -> Vec<NodeId> {
        self.view.nodes().into_iter().filter(|node| *node != self.me.node).collect()
    }

    fn tell_members(&self, host: &mut dyn Host, message: &ClusterMessage) {
        for node in self.other_members() {
            host.send(&node, message.clone());
        }
    }

    /// Takes in a message of `from`.
    pub fn handle(&mut self, host: &mut dyn Host, from: &NodeId, message: ClusterMessage) {
        use ClusterMessage as M;
        match message {
            M::Alive(alive) => self.on_alive(host, from, alive),
            M::Propose { view, index, ticket, seen, keys, body } => {
                self.on_propose(
                    host,
                    from,
                    &view,
                    index,
                    entry::Entry {
                        seqno: 0,
                        conf: 0,
                        origin: from.clone(),
                        ticket,
                        incarnation: 0,
                        seen,
                        keys,
                        body,
                    },
                );
            }
            M::Ordered { view, entry } => self.on_ordered(host, from, &view, entry),
            M::OrderedOwn { view, seqno, ticket } => self.on_ordered_own(host, from, &view, seqno, ticket),
            M::Received { view, seqno } => self.on_received(host, from, &view, seqno),
            M::Resend { view, from: seqno } => self.on_resend(host, from, &view, seqno),
            M::Thaw { view } => self.on_thaw(host, &view),
            M::Gather { round } => self.on_gather(host, from, &round),
            M::Gathered { round, state } => self.on_gathered(host, from, &round, state),
            M::Rejected { round, promised } => self.on_rejected(host, &round, &promised),
            M::Fetch { round, from: seqno } => self.on_fetch(host, from, &round, seqno),
            M::Fill { round, base, entries } => self.on_fill(host, from, &round, &base, entries),
            M::Install { round, base, view, nodes_set } => {
                self.on_install(host, from, &round, &base, view, nodes_set);
            }
            M::Lacking { round, from: seqno } => self.on_lacking(host, from, &round, seqno),
            M::Installed { round } => self.on_installed(host, from, &round),
            M::Confirm { view } => self.on_confirm(host, &view),
            M::NoQuorum { round } => self.on_no_quorum(host, &round),
            M::Leave { member, for_good } => self.on_leave(host, member, for_good),
            M::Left => self.on_left(host),
            M::Delete => self.on_delete(host, from),
            M::Deleted => self.on_deleted(host, from),
            M::Hello => host.send(from, M::Standing(self.standing())),
            M::Standing(standing) => self.on_standing(host, from, standing),
            M::Join(request) => self.on_join(host, from, request),
            M::JoinAnswer(answer) => self.on_join_answer(host, from, answer),
            M::Donate { session, joiner, upto, have, wait } => {
                self.on_donate(host, from, session, &joiner, upto, have, wait);
            }
            M::Joined { session } => self.on_joined(host, from, session),
            M::Abort { session } => self.on_abort(host, from, session),
            M::Transfer { session, number, part } => self.on_transfer(host, from, session, number, part),
            M::TransferAck { session, number } => self.on_transfer_ack(host, from, session, number),
        }
    }

    /// The transport lost a node: what was on its way there may be gone, which every exchange here survives by
    /// saying it again. Only questions that have no other end give up on it.
    pub fn peer_unreachable(&mut self, host: &mut dyn Host, node: &NodeId) {
        self.starting_unreachable(host, node);
        self.join_unreachable(host, node);
        self.delete_unreachable(host, node);
    }

    /// Does what is due.
    pub fn tick(&mut self, host: &mut dyn Host) {
        let now = host.now();
        self.notice_own_sleep(now);
        if self.alive_at <= now {
            self.say_alive(host);
        }
        if self.apply_due.is_some_and(|due| due <= now) {
            self.apply_stable(host);
        }
        if self.check_at <= now {
            self.check_at = now + self.options.check_period;
            self.check(host);
        }
        self.propose_again(host);
        self.drive_round(host);
        self.drive_start(host);
        self.drive_join(host);
        self.drive_admission(host);
        self.drive_transfers(host);
        self.drive_departure(host);
    }

    /// When `tick` has something to do, at the latest.
    pub fn next_wake(&self) -> Option<Millis> {
        if self.is_gone() {
            return None;
        }
        let mut wake = self.alive_at.min(self.check_at);
        let others = [
            self.apply_due,
            self.propose_again_at,
            self.round.as_ref().map(Rounding::wake),
            self.start_wake(),
            self.joining.as_ref().map(JoinAttempt::wake),
            self.outgoing.values().map(Outgoing::wake).min(),
            self.departure.as_ref().map(Departure::deadline),
        ];
        for time in others.into_iter().flatten() {
            wake = wake.min(time);
        }
        Some(wake)
    }

    /// This node's name in hashes of origins.
    fn my_hash(&self) -> u64 {
        node_hash(&self.me.node)
    }
}
