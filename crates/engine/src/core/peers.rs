//! Messages of other nodes, and calls to them that wait for an answer.

use super::{Asker, Engine, RUNNING_MAX, Side};
use crate::{
    cluster::{Cluster, ClusterMessage, Host, JoinAnswer, Standing},
    io::{Reply, SqlError},
    peer::PeerMessage,
    routing::Work,
};
use model::{Millis, NodeId};

/// Work that another node does for a statement of this one.
#[derive(Debug)]
pub(super) struct Call {
    node: NodeId,
    spread: u64,
    part: usize,
    deadline: Millis,
}

/// How a mirror that was asked went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// What it was asked never left this node.
    Unsent,
    /// The connection broke: it may have done the work.
    Broken,
    /// It is silent for longer than is waited.
    Late,
}

impl Loss {
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unsent => "error when sending data: Connection refused",
            Self::Broken => "connection closed by peer",
            Self::Late => "connect and query timed out",
        }
    }
}

impl Call {
    pub fn deadline(&self) -> Millis {
        self.deadline
    }
}

impl Engine {
    pub(super) fn peer(&mut self, from: &NodeId, message: PeerMessage) {
        match message {
            PeerMessage::Cluster { cluster, message } => self.cluster_message(from, &cluster, *message),
            PeerMessage::Work { call, work } => {
                let asker = Asker::Peer { node: from.clone(), call };
                self.peer_work += 1;
                let refused = if self.peer_work > RUNNING_MAX {
                    Err(SqlError::new(format!("{RUNNING_MAX} statements of other nodes are under way here")))
                } else {
                    self.check_work(&work)
                };
                match refused {
                    Ok(()) => self.work(asker, *work),
                    Err(error) => self.answer(asker, Err(error)),
                }
            }
            PeerMessage::WorkDone { call, result } => {
                if let Some(call) = self.calls.remove(&call) {
                    self.part_done(call.spread, call.part, result);
                }
            }
        }
    }

    fn cluster_message(&mut self, from: &NodeId, name: &str, message: ClusterMessage) {
        if self.clusters.contains_key(name) {
            self.with_cluster(name, |cluster, host| cluster.handle(host, from, message));
            return;
        }
        // Only questions need an answer from a node that is not in the cluster.
        let answer = match message {
            ClusterMessage::Hello => ClusterMessage::Standing(Standing::Absent),
            ClusterMessage::Join(_) => ClusterMessage::JoinAnswer(JoinAnswer::Unknown),
            ClusterMessage::Delete => ClusterMessage::Deleted,
            _ => return,
        };
        Side { node: &mut self.node, cluster: name }.send(from, answer);
    }

    pub(super) fn answer_peer(&mut self, node: &NodeId, call: u64, result: Result<Reply, SqlError>) {
        self.peer_work = self.peer_work.saturating_sub(1);
        self.node.send(node, PeerMessage::WorkDone { call, result });
    }

    /// Sends a part of a spread statement to `node`.
    pub(super) fn call(&mut self, node: &NodeId, spread: u64, part: usize, work: Work) {
        let timing = &self.config.timing;
        let patience = if work.is_write() { timing.remote_write_timeout } else { timing.remote_read_timeout };
        let number = self.number();
        let deadline = self.node.now + patience;
        self.calls.insert(number, Call { node: node.clone(), spread, part, deadline });
        self.node.send(node, PeerMessage::Work { call: number, work: Box::new(work) });
    }

    /// The transport lost `peer`. With `unsent` nothing of what it was given for the peer was delivered, so even a
    /// write may go to another mirror.
    pub(super) fn peer_lost(&mut self, peer: &NodeId, unsent: bool) {
        self.health.failed(peer, self.node.now);
        let broken: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.node == *peer).map(|(&number, _)| number).collect();
        for number in broken {
            if let Some(call) = self.calls.remove(&number) {
                let loss = if unsent { Loss::Unsent } else { Loss::Broken };
                self.part_cut_off(call.spread, call.part, loss);
            }
        }
        for name in self.clusters.keys().cloned().collect::<Vec<_>>() {
            self.with_cluster(&name, |cluster, host| cluster.peer_unreachable(host, peer));
        }
    }

    pub(super) fn drop_late_calls(&mut self) {
        let now = self.node.now;
        let late: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.deadline <= now).map(|(&number, _)| number).collect();
        for number in late {
            if let Some(call) = self.calls.remove(&number) {
                self.health.failed(&call.node, now);
                self.part_cut_off(call.spread, call.part, Loss::Late);
            }
        }
    }

    /// Runs `act` on a cluster and forgets the cluster when it is gone after that.
    pub(super) fn with_cluster<R>(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Cluster, &mut dyn Host) -> R,
    ) -> Option<R> {
        let mut cluster = self.clusters.remove(name)?;
        let result = act(&mut cluster, &mut Side { node: &mut self.node, cluster: name });
        if cluster.is_gone() {
            let change = (super::node::cluster_key(name), None);
            // A descriptor that stays behind makes the node look for the cluster at its next start, and find none.
            let _ = self.node.storage.set_meta(&[change]);
        } else {
            self.clusters.insert(name.to_owned(), cluster);
        }
        Some(result)
    }
}
