//! How the other nodes answer, seen from here: a vantage point for the controller's proof of a loss, and the
//! history that tells whether a group stayed primary while a statement failed.

use super::Sidecar;
use crate::shutdown::Shutdown;
use model::{ClusterState, GroupId, NodeId, NodeStatus, Reach};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One look at each peer per interval.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A node that answers later is silent to its clients, too. Longer than a busy small machine takes.
const LOOK_TIME_MAX: Duration = Duration::from_millis(1_500);
/// A group that was primary under one `conf_id` for this long and still is was so during a statement that just
/// failed: a statement that waits out a change of view fails within moments of that change.
const PRIMARY_SINCE: Duration = Duration::from_secs(5);

/// Between looks at a target that has no primary view: it is alone only until its group gains a new member.
const VIEW_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Peers {
    known: Mutex<BTreeMap<NodeId, Peer>>,
}

#[derive(Debug, Default)]
struct Peer {
    reach: Option<Reach>,
    looking: bool,
    views: BTreeMap<GroupId, View>,
}

/// A group as this peer's member saw it, and since when without a change.
#[derive(Clone, Debug)]
struct View {
    conf_id: i64,
    since: Instant,
    tables: BTreeSet<String>,
}

impl Peers {
    /// Those to look at from now on.
    pub(super) fn watch(&self, nodes: Vec<NodeId>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: BTreeSet<NodeId> = nodes.into_iter().collect();
        known.retain(|node, _| wanted.contains(node));
        for node in wanted {
            known.entry(node).or_default();
        }
    }

    /// How each peer that was looked at answered last.
    pub(super) fn seen(&self) -> BTreeMap<NodeId, Reach> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(|(node, peer)| Some((node.clone(), peer.reach?))).collect()
    }

    /// Those whose last look is over; they count as being looked at.
    fn begin_looks(&self) -> Vec<NodeId> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let free = known.iter_mut().filter(|(_, peer)| !peer.looking);
        free.map(|(node, peer)| {
            peer.looking = true;
            node.clone()
        })
        .collect()
    }

    fn looked(&self, node: &NodeId, now: Instant, reach: Reach, status: Option<&NodeStatus>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = known.get_mut(node) else { return };
        peer.looking = false;
        peer.reach = Some(reach);
        let mut views = BTreeMap::new();
        for (group, cluster) in status.iter().flat_map(|status| &status.clusters) {
            if cluster.status == ClusterState::Primary {
                let since = match peer.views.get(group) {
                    Some(view) if view.conf_id == cluster.conf_id => view.since,
                    _ => now,
                };
                let view = View { conf_id: cluster.conf_id, since, tables: cluster.tables.clone() };
                views.insert(group.clone(), view);
            }
        }
        // A look without an answer breaks every history.
        peer.views = views;
    }

    /// The `conf_id` under which `node` has long been primary in the group of `table`.
    fn long_primary(&self, node: &NodeId, table: &str, now: Instant) -> Option<i64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let view = known.get(node)?.views.values().find(|view| view.tables.contains(table))?;
        let long = now.saturating_duration_since(view.since) >= PRIMARY_SINCE;
        (long && view.conf_id >= 0).then_some(view.conf_id)
    }
}

/// Looks at the peers until `shutdown`.
pub(super) async fn run(sidecar: Arc<Sidecar>, shutdown: Shutdown) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = interval.tick() => {}
        }
        // Each on its own: a silent peer must not delay the news of another.
        for node in sidecar.peers.begin_looks() {
            let sidecar = Arc::clone(&sidecar);
            tokio::spawn(async move {
                let (reach, status) = sidecar.client.poll(&node, false, LOOK_TIME_MAX).await;
                sidecar.peers.looked(&node, Instant::now(), reach, status.as_ref());
            });
        }
    }
}

/// Whether what every target of `error` rolled back is certainly in nobody's history: the target stayed primary
/// under one `conf_id`, or it lost its primary view and then went on alone, so that its own state is what counts.
///
/// Waits for a target without a primary view until `deadline`. `false` when it cannot be said: a target that came
/// back to others may have missed what they applied.
pub(super) async fn is_in_no_history(sidecar: &Sidecar, error: &str, deadline: Instant) -> bool {
    let targets = targets(error);
    let failed_at = Instant::now();
    let before: Vec<Option<i64>> =
        targets.iter().map(|(table, node)| sidecar.peers.long_primary(node, table, failed_at)).collect();
    for ((table, node), before) in targets.iter().zip(before) {
        loop {
            let (_, status) = sidecar.client.poll(node, false, LOOK_TIME_MAX).await;
            let clusters = status.map(|status| status.clusters).unwrap_or_default();
            let cluster = clusters.into_values().find(|cluster| cluster.tables.contains(table));
            match cluster {
                Some(cluster) if cluster.status == ClusterState::Primary => {
                    let stayed = before == Some(cluster.conf_id);
                    let alone = cluster.size == 1 && cluster.nodes_view.iter().all(|member| member == node);
                    let proven = stayed || (alone && is_unordered(error));
                    if !proven {
                        return false;
                    }
                    break;
                }
                Some(_) if Instant::now() < deadline => tokio::time::sleep(VIEW_PAUSE).await,
                _ => return false,
            }
        }
    }
    !targets.is_empty()
}

/// Whether no target had given the write a place in its order, as far as the error shows places.
fn is_unordered(error: &str) -> bool {
    error.split("seqno ").skip(1).all(|rest| rest.starts_with("-1"))
}

/// The tables and nodes of `remote table 't' at host:port failed`.
pub(super) fn targets(error: &str) -> BTreeSet<(String, NodeId)> {
    let part = |part: &str| {
        let (table, rest) = part.split_once("' at ")?;
        let (node, _) = rest.split_once(" failed")?;
        Some((table.to_owned(), NodeId::new(node).ok()?))
    };
    error.split("remote table '").skip(1).filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ClusterStatus, MemberState};

    fn node() -> NodeId {
        NodeId::new("127.0.0.1:9").expect("valid")
    }

    fn status(state: ClusterState, conf_id: i64) -> NodeStatus {
        let cluster = ClusterStatus {
            status: state,
            node_state: MemberState::Synced,
            conf_id,
            tables: ["system.t_s0".to_owned()].into(),
            ..ClusterStatus::default()
        };
        let group = GroupId::new("g").expect("valid");
        NodeStatus { clusters: [(group, cluster)].into(), tables: None }
    }

    #[test]
    fn a_history_is_broken_by_a_new_view_and_by_silence() {
        use ClusterState::{NonPrimary, Primary};
        let peers = Peers::default();
        peers.watch(vec![node()]);
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let look = |seconds, reach, status: Option<NodeStatus>| {
            peers.looked(&node(), at(seconds), reach, status.as_ref());
        };
        let long = |seconds| peers.long_primary(&node(), "system.t_s0", at(seconds));
        look(0, Reach::Answered, Some(status(Primary, 3)));
        assert_eq!((long(4), long(5)), (None, Some(3)));
        assert_eq!(peers.long_primary(&node(), "system.t_s1", at(9)), None);
        look(6, Reach::Answered, Some(status(Primary, 4)));
        assert_eq!((long(6), long(11)), (None, Some(4)));
        look(12, Reach::Silent, None);
        look(13, Reach::Answered, Some(status(Primary, 4)));
        assert_eq!((long(14), long(18)), (None, Some(4)));
        look(19, Reach::Answered, Some(status(NonPrimary, 4)));
        assert_eq!(long(30), None);
        assert_eq!(peers.seen(), [(node(), Reach::Answered)].into());
        peers.watch(Vec::new());
        assert!(peers.seen().is_empty());
    }

    #[test]
    fn a_peer_is_looked_at_once_at_a_time_and_unknown_before_the_first_look() {
        let peers = Peers::default();
        peers.watch(vec![node()]);
        assert!(peers.seen().is_empty());
        assert_eq!(peers.begin_looks(), vec![node()]);
        assert!(peers.begin_looks().is_empty());
        peers.looked(&node(), Instant::now(), Reach::Refused, None);
        assert_eq!(peers.begin_looks(), vec![node()]);
    }

    #[test]
    fn the_targets_of_an_error_are_read() {
        let error = "remote table 'system.t_s0' at 127.0.0.1:9 failed: remote error: code 3; \
                     remote table 'system.t_s1' at h:1 failed: x";
        let found: Vec<_> =
            targets(error).into_iter().map(|(table, node)| format!("{table}@{node}")).collect();
        assert_eq!(found, ["system.t_s0@127.0.0.1:9", "system.t_s1@h:1"]);
        assert!(targets("table 't' absent").is_empty());
    }
}
