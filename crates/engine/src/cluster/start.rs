//! A node starts again with a cluster it remembers: it asks the other members and decides alone.
//!
//! It never asks whose copy is newest. Whoever finds nobody gives up (`recovery-required`); whoever finds one that
//! has given up forms a new primary view from its own copy, however old that is. Both are as recorded, and why a
//! starter must be held back from outside.

use super::{
    Cluster, ClusterMessage as M, Descriptor, Host, Phase, Seen, log::Log, message::Standing, view::Member,
};
use crate::{core::Timing, io::SqlError};
use model::{Millis, NodeId};
use std::collections::{BTreeMap, BTreeSet};

const ASK_AGAIN: Millis = Millis(200);

/// The question to the other members.
#[derive(Debug)]
pub(super) struct Starting {
    until: Millis,
    again: Millis,
    /// What each has said.
    answers: BTreeMap<NodeId, Standing>,
    /// How often each could not be reached.
    unreachable: BTreeMap<NodeId, u32>,
}

/// One broken connection is no proof that nobody is there.
const UNREACHABLE_ENOUGH: u32 = 2;

impl Starting {
    fn new(now: Millis, timing: &Timing) -> Self {
        let until = now + timing.discovery_timeout;
        Self { until, again: now, answers: BTreeMap::new(), unreachable: BTreeMap::new() }
    }
}

impl Cluster {
    /// Opens a remembered cluster after a restart.
    pub fn open(host: &mut dyn Host, me: Member, timing: Timing, desc: Descriptor) -> Result<Self, SqlError> {
        let starting = Starting::new(host.now(), &timing);
        let mut cluster = Self::empty(host, me, timing, desc, Phase::Starting(starting))?;
        if cluster.desc.safe_to_bootstrap {
            cluster.form_alone(host)?;
        } else {
            cluster.drive_start(host);
        }
        Ok(cluster)
    }

    /// The members that had answered have none of the cluster any more: everybody is asked once again.
    pub(super) fn ask_anew(&mut self, host: &mut dyn Host) {
        self.phase = Phase::Starting(Starting::new(host.now(), &self.timing));
        self.drive_start(host);
    }

    fn remembered(&self) -> Vec<NodeId> {
        self.desc.nodes_set.iter().filter(|node| **node != self.me.node).cloned().collect()
    }

    pub(super) fn standing(&self) -> Standing {
        match self.phase {
            Phase::Closed => Standing::Closed,
            Phase::Starting(_) | Phase::Outside { .. } => Standing::Starting,
            Phase::Gone => Standing::Absent,
            Phase::Member => Standing::Member {
                primary: self.primary,
                nodes_set: self.desc.nodes_set.clone(),
                members: self.view.members.clone(),
            },
        }
    }

    pub(super) fn start_wake(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Starting(starting) => Some(starting.until.min(starting.again)),
            _ => None,
        }
    }

    pub(super) fn on_standing(&mut self, host: &mut dyn Host, from: &NodeId, standing: Standing) {
        if let Phase::Starting(starting) = &mut self.phase {
            starting.answers.insert(from.clone(), standing);
            self.drive_start(host);
        }
    }

    pub(super) fn starting_unreachable(&mut self, host: &mut dyn Host, node: &NodeId) {
        if let Phase::Starting(starting) = &mut self.phase {
            *starting.unreachable.entry(node.clone()).or_default() += 1;
            self.drive_start(host);
        }
    }

    pub(super) fn drive_start(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let nodes = self.remembered();
        let Phase::Starting(starting) = &mut self.phase else { return };
        let living = starting.answers.values().find_map(|answer| match answer {
            Standing::Member { nodes_set, members, .. } => Some((nodes_set.clone(), members.clone())),
            _ => None,
        });
        if let Some((nodes_set, members)) = living {
            self.come_back_after_restart(host, nodes_set, members);
            return;
        }
        let given_up = starting.answers.values().any(|answer| matches!(answer, Standing::Closed));
        // One that is starting too may still find something out.
        let decided = nodes.iter().all(|node| {
            matches!(starting.answers.get(node), Some(Standing::Closed | Standing::Absent))
                || starting.unreachable.get(node).is_some_and(|&times| times >= UNREACHABLE_ENOUGH)
        });
        if decided || starting.until <= now {
            if given_up {
                self.form_anew(host);
            } else {
                self.phase = Phase::Closed;
            }
            return;
        }
        if starting.again <= now {
            starting.again = now + ASK_AGAIN;
            let answers = &starting.answers;
            let open = nodes
                .iter()
                .filter(|node| !matches!(answers.get(*node), Some(Standing::Closed | Standing::Absent)));
            for node in open {
                host.send(node, M::Hello);
            }
        }
    }

    fn come_back_after_restart(&mut self, host: &mut dyn Host, nodes_set: Vec<NodeId>, members: Vec<Member>) {
        let now = host.now();
        let delay = if self.desc.clean { Millis::ZERO } else { self.timing.rejoin_delay };
        if !nodes_set.is_empty() {
            self.desc.nodes_set = nodes_set;
        }
        self.phase = Phase::Outside { since: now, returning: true, seen: Some(Seen { members }) };
        let at: Vec<NodeId> = self.known_members().into_iter().collect();
        self.begin_return(now + delay, at);
        self.drive_join(host);
    }

    /// A new history from this node's copy. Nothing of it is checked.
    fn form_anew(&mut self, host: &mut dyn Host) {
        self.desc.uuid = crate::core::random_uuid(host.random(), host.random());
        self.desc.seqno = 0;
        self.desc.conf = 0;
        self.log = Log::new(0, 0, self.options.history_bytes);
        if self.form_alone(host).is_err() {
            self.phase = Phase::Closed;
        }
    }

    /// All that this node, which has no view, takes for members.
    pub(super) fn known_members(&self) -> BTreeSet<NodeId> {
        let mut known: BTreeSet<NodeId> = self.remembered().into_iter().collect();
        if let Phase::Outside { seen: Some(seen), .. } = &self.phase {
            known.extend(seen.members.iter().map(|member| member.node.clone()));
        }
        known.remove(&self.me.node);
        known
    }
}
