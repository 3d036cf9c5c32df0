//! How the other nodes answer, seen from here: a vantage point for the controller's proof of a loss, and the
//! history that tells whether a group stayed primary while a statement failed.
//!
//! The controller looks at every node each interval and tells which groups were primary there, so that nobody else
//! needs to ask a node that answers. Those whose loss is to be proven are looked at from here every interval; and all, one
//! each interval in turn, while no controller is heard.

use super::Sidecar;
use crate::shutdown::Shutdown;
use model::wire::Views;
use model::{ClusterState, GroupId, NodeId, NodeStatus, Reach};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// One look at one peer, and at each suspect.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A node that answers later is silent to its clients, too. Longer than a busy small machine takes.
const LOOK_TIME_MAX: Duration = Duration::from_millis(1_500);
/// A group that was primary under one `conf_id` for this long and still is was so during a statement that just
/// failed: a statement that waits out a change of view fails within moments of that change. Every new view of a group
/// has a `conf_id` of its own, and one that was stopped and made anew does not answer meanwhile.
const PRIMARY_SINCE: Duration = Duration::from_secs(5);

/// Between looks at a target that has no primary view: it is alone only until its group gains a new member.
const VIEW_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Peers {
    known: Mutex<Known>,
    /// A suspect answers otherwise than before.
    pub(super) news: Notify,
    /// There is a suspect that was none.
    suspected: Notify,
}

#[derive(Debug, Default)]
struct Known {
    peers: BTreeMap<NodeId, Peer>,
    /// Of the controller's views, while ours are these; 0 when they are not.
    views_version: u64,
    /// The one whose turn was last.
    last: Option<NodeId>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Since when the controller wants to know how it answers, and how it answered a look that began after that.
    suspect: Option<(Instant, Option<Reach>)>,
    looking: bool,
    views: BTreeMap<GroupId, View>,
}

/// A group that is primary as this peer's member sees it, and since when we know of this view.
#[derive(Clone, Copy, Debug)]
struct View {
    conf_id: i64,
    since: Instant,
    /// Since when the member has been in every primary view that its group had: one that drops out of it comes back in the
    /// next but one at the earliest.
    in_all_since: Instant,
}

/// What is known of a group in which a member has long been in every primary view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LongPrimary {
    conf_id: i64,
    /// All that time under this one `conf_id`.
    steady: bool,
}

impl Peer {
    /// From now on these are its views; whether that is a change.
    fn show(&mut self, now: Instant, primary: BTreeMap<GroupId, i64>) -> bool {
        let known = self.views.iter().map(|(group, view)| (group, view.conf_id));
        if known.eq(primary.iter().map(|(group, conf_id)| (group, *conf_id))) {
            return false;
        }
        let before = std::mem::take(&mut self.views);
        let view = |(group, conf_id)| {
            let view = match before.get(&group) {
                Some(view) if view.conf_id == conf_id => *view,
                Some(view) if view.conf_id.checked_add(1) == Some(conf_id) => {
                    View { conf_id, since: now, in_all_since: view.in_all_since }
                }
                _ => View { conf_id, since: now, in_all_since: now },
            };
            (group, view)
        };
        self.views = primary.into_iter().map(view).collect();
        true
    }
}

impl Peers {
    /// Those to look at from now on, and those of them whose answers the controller misses.
    pub(super) fn watch(&self, nodes: Vec<NodeId>, suspects: &[NodeId], now: Instant) {
        let mut known = self.known();
        let wanted: BTreeSet<NodeId> = nodes.into_iter().collect();
        known.peers.retain(|node, _| wanted.contains(node));
        let mut suspected = false;
        for node in wanted {
            let suspect = suspects.contains(&node);
            let peer = known.peers.entry(node).or_default();
            suspected |= suspect && peer.suspect.is_none();
            peer.suspect = suspect.then(|| peer.suspect.unwrap_or((now, None)));
        }
        drop(known);
        if suspected {
            self.suspected.notify_one();
        }
    }

    /// Takes in what the controller saw.
    pub(super) fn told(&self, version: u64, mut views: Views, now: Instant) {
        let mut known = self.known();
        known.views_version = version;
        for (node, peer) in &mut known.peers {
            peer.show(now, views.remove(node).unwrap_or_default());
        }
    }

    pub(super) fn views_version(&self) -> u64 {
        self.known().views_version
    }

    /// How each suspect answers.
    pub(super) fn seen(&self) -> BTreeMap<NodeId, Reach> {
        let known = self.known();
        known.peers.iter().filter_map(|(node, peer)| Some((node.clone(), peer.suspect?.1?))).collect()
    }

    /// The suspects and, if `turn`, whose turn it is, without those whose last look is not over; they count as being
    /// looked at.
    fn begin_looks(&self, turn: bool) -> Vec<NodeId> {
        let mut known = self.known();
        if turn {
            let after = known.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let next =
                known.peers.range((after, Bound::Unbounded)).next().or_else(|| known.peers.iter().next());
            known.last = next.map(|(node, _)| node.clone());
        }
        let Known { peers, last, .. } = &mut *known;
        let due =
            |node: &NodeId, peer: &Peer| peer.suspect.is_some() || (turn && last.as_ref() == Some(node));
        let due = peers.iter_mut().filter(|(node, peer)| !peer.looking && due(node, peer));
        due.map(|(node, peer)| {
            peer.looking = true;
            node.clone()
        })
        .collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a look that `began` then and ended `now`.
    fn looked(
        &self,
        node: &NodeId,
        (began, now): (Instant, Instant),
        reach: Reach,
        status: Option<&NodeStatus>,
    ) {
        let mut known = self.known();
        let Some(peer) = known.peers.get_mut(node) else { return };
        peer.looking = false;
        if let Some((since, seen)) = peer.suspect.as_mut()
            && *since <= began
            && seen.replace(reach) != Some(reach)
        {
            self.news.notify_one();
        }
        let clusters = status.iter().flat_map(|status| &status.clusters);
        let primary = clusters.filter(|(_, cluster)| cluster.status == ClusterState::Primary);
        // A look without an answer breaks every history.
        let views = primary.map(|(group, cluster)| (group.clone(), cluster.conf_id)).collect();
        if peer.show(now, views) {
            known.views_version = 0;
        }
    }

    /// The groups in which `node` has long been primary.
    fn long_primary(&self, node: &NodeId, now: Instant) -> BTreeMap<GroupId, LongPrimary> {
        let known = self.known();
        let views = known.peers.get(node).into_iter().flat_map(|peer| &peer.views);
        let is_long = |since| now.saturating_duration_since(since) >= PRIMARY_SINCE;
        let long = views.filter(|(_, view)| view.conf_id >= 0 && is_long(view.in_all_since));
        let of = |view: &View| LongPrimary { conf_id: view.conf_id, steady: is_long(view.since) };
        long.map(|(group, view)| (group.clone(), of(view))).collect()
    }
}

/// Looks at the peers until `shutdown`.
pub(super) async fn run(sidecar: Arc<Sidecar>, shutdown: Shutdown) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let turn = tokio::select! {
            () = shutdown.wait() => return,
            _ = interval.tick() => !sidecar.hears_leader(),
            () = sidecar.peers.suspected.notified() => false,
        };
        // Each on its own: a silent peer must not delay the news of another.
        for node in sidecar.peers.begin_looks(turn) {
            let sidecar = Arc::clone(&sidecar);
            tokio::spawn(async move {
                let began = Instant::now();
                let (reach, status) = sidecar.client.poll(&node, false, LOOK_TIME_MAX).await;
                sidecar.peers.looked(&node, (began, Instant::now()), reach, status.as_ref());
            });
        }
    }
}

/// Whether what every target of `error` rolled back is certainly in nobody's history. The target stayed primary under one
/// `conf_id`; or it was in every primary view, and had given the write its place in the order, so that all members tested it
/// alike and refused it; or it lost its primary view and then went on alone, so that its own state is what counts.
///
/// Waits for a target without a primary view until `deadline`. `false` when it cannot be said: a target that came
/// back to others may have missed what they applied.
pub(super) async fn is_in_no_history(sidecar: &Sidecar, error: &str, deadline: Instant) -> bool {
    let targets = targets(error);
    let failed_at = Instant::now();
    let before: Vec<BTreeMap<GroupId, LongPrimary>> =
        targets.iter().map(|(_, node)| sidecar.peers.long_primary(node, failed_at)).collect();
    let places = Places::of(error);
    for ((table, node), before) in targets.iter().zip(before) {
        let mut lost_its_view = false;
        loop {
            let (_, status) = sidecar.client.poll(node, false, LOOK_TIME_MAX).await;
            let clusters = status.map(|status| status.clusters).unwrap_or_default();
            let cluster = clusters.into_iter().find(|(_, cluster)| cluster.tables.contains(table));
            match cluster {
                Some((group, cluster)) if cluster.status == ClusterState::Primary => {
                    let before = before.get(&group).filter(|_| !lost_its_view);
                    let stayed = before.is_some_and(|it| it.steady && it.conf_id == cluster.conf_id);
                    let in_all = before.is_some_and(|it| {
                        (it.conf_id..=it.conf_id.saturating_add(1)).contains(&cluster.conf_id)
                    });
                    let alone = cluster.size == 1 && cluster.nodes_view.iter().all(|member| member == node);
                    let proven =
                        stayed || (in_all && places == Places::All) || (alone && places == Places::None);
                    if !proven {
                        return false;
                    }
                    break;
                }
                Some(_) if Instant::now() < deadline => {
                    lost_its_view = true;
                    tokio::time::sleep(VIEW_PAUSE).await;
                }
                _ => return false,
            }
        }
    }
    !targets.is_empty()
}

/// Whether targets had given the write a place in their order, as far as the error shows places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Places {
    /// None had.
    None,
    /// Each that rolled it back had.
    All,
    Some,
}

impl Places {
    fn of(error: &str) -> Self {
        let shown = || error.split("seqno ").skip(1);
        let is_place = |rest: &&str| rest.starts_with(|first: char| first.is_ascii_digit());
        let places = shown().filter(is_place).count();
        if shown().all(|rest| rest.starts_with("-1")) {
            Self::None
        } else if places == shown().count() && places == error.matches("code 3").count() {
            Self::All
        } else {
            Self::Some
        }
    }
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

    fn group() -> GroupId {
        GroupId::new("g").expect("valid")
    }

    fn status(state: ClusterState, conf_id: i64) -> NodeStatus {
        let cluster = ClusterStatus {
            status: state,
            node_state: MemberState::Synced,
            conf_id,
            ..ClusterStatus::default()
        };
        NodeStatus { clusters: [(group(), cluster)].into(), tables: None }
    }

    /// The `conf_id` under which it has been primary for long.
    fn steady(peers: &Peers, now: Instant) -> Option<i64> {
        let long = peers.long_primary(&node(), now).get(&group()).copied();
        long.filter(|long| long.steady).map(|long| long.conf_id)
    }

    #[test]
    fn who_is_in_every_view_has_a_longer_history_than_each_of_them() {
        use ClusterState::{NonPrimary, Primary};
        let peers = Peers::default();
        let began = Instant::now();
        peers.watch(vec![node()], &[], began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let look = |seconds, state, conf_id| {
            let status = status(state, conf_id);
            peers.looked(&node(), (at(seconds), at(seconds)), Reach::Answered, Some(&status));
            peers.long_primary(&node(), at(seconds)).get(&group()).copied()
        };
        let long = |conf_id, steady| Some(LongPrimary { conf_id, steady });
        assert_eq!(look(0, Primary, 3), None);
        assert_eq!(look(6, Primary, 3), long(3, true));
        assert_eq!(look(7, Primary, 4), long(4, false));
        assert_eq!(look(8, Primary, 5), long(5, false));
        assert_eq!(look(9, Primary, 7), None, "it may have been without one of them");
        assert_eq!(look(14, Primary, 8), long(8, false));
        assert_eq!(look(15, NonPrimary, 8), None);
        assert_eq!(look(16, Primary, 9), None);
    }

    #[test]
    fn places_are_those_of_all_that_rolled_back() {
        let conflict =
            |seqno| format!("error at PostRollback, code 3 (transaction aborted), seqno {seqno}; ");
        let of = |text: &str| Places::of(text);
        assert_eq!(of(&conflict("-1")), Places::None);
        assert_eq!(of("table 't' absent"), Places::None);
        assert_eq!(of(&conflict("66")), Places::All);
        assert_eq!(of(&(conflict("66") + "is locked; " + &conflict("7"))), Places::All);
        assert_eq!(of(&(conflict("66") + &conflict("-1"))), Places::Some);
        assert_eq!(
            of(&(conflict("66") + "error at PostRollback, code 3 (transaction aborted)")),
            Places::Some
        );
    }

    #[test]
    fn a_history_is_broken_by_a_new_view_and_by_silence() {
        use ClusterState::{NonPrimary, Primary};
        let peers = Peers::default();
        let began = Instant::now();
        peers.watch(vec![node()], &[node()], began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let look = |seconds, reach, status: Option<NodeStatus>| {
            peers.looked(&node(), (at(seconds), at(seconds)), reach, status.as_ref());
        };
        let long = |seconds| steady(&peers, at(seconds));
        look(0, Reach::Answered, Some(status(Primary, 3)));
        assert_eq!((long(4), long(5)), (None, Some(3)));
        look(6, Reach::Answered, Some(status(Primary, 4)));
        assert_eq!((long(6), long(11)), (None, Some(4)));
        look(12, Reach::Silent, None);
        look(13, Reach::Answered, Some(status(Primary, 4)));
        assert_eq!((long(14), long(18)), (None, Some(4)));
        look(19, Reach::Answered, Some(status(NonPrimary, 4)));
        assert_eq!(long(30), None);
        assert_eq!(peers.seen(), [(node(), Reach::Answered)].into());
        peers.watch(Vec::new(), &[], at(30));
        assert!(peers.seen().is_empty());
    }

    #[test]
    fn what_the_controller_saw_makes_a_history() {
        let peers = Peers::default();
        let began = Instant::now();
        peers.watch(vec![node()], &[], began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let tell = |seconds, version, conf_id| {
            let views = Views::from([(node(), BTreeMap::from([(group(), conf_id)]))]);
            peers.told(version, views, at(seconds));
        };
        let long = |seconds| steady(&peers, at(seconds));
        tell(0, 7, 3);
        // Told again because of another node, or by another controller.
        tell(3, 8, 3);
        assert_eq!((long(4), long(5), peers.views_version()), (None, Some(3), 8));
        tell(6, 9, 4);
        assert_eq!((long(10), long(11)), (None, Some(4)));
        peers.told(10, Views::new(), at(12));
        assert_eq!((long(12), peers.views_version()), (None, 10), "it did not answer the controller");
        tell(13, 11, 4);
        assert_eq!((long(17), long(18)), (None, Some(4)));
        // A look of our own that shows the same leaves it; one that shows something else needs all of it again.
        peers.looked(&node(), (at(19), at(19)), Reach::Answered, Some(&status(ClusterState::Primary, 4)));
        assert_eq!((long(19), peers.views_version()), (Some(4), 11));
        peers.looked(&node(), (at(20), at(20)), Reach::Silent, None);
        assert_eq!((long(30), peers.views_version()), (None, 0));
    }

    fn nodes(ports: std::ops::Range<u16>) -> Vec<NodeId> {
        ports.map(|port| NodeId::new(format!("127.0.0.1:{port}")).expect("valid")).collect()
    }

    #[test]
    fn peers_are_looked_at_in_turn_and_suspects_each_time() {
        let peers = Peers::default();
        let (all, now) = (nodes(1..4), Instant::now());
        peers.watch(all.clone(), &[], now);
        let look = |turn| {
            let begun = peers.begin_looks(turn);
            for node in &begun {
                peers.looked(node, (now, now), Reach::Answered, None);
            }
            begun
        };
        let turns: Vec<_> = (0..4).map(|_| look(true)).collect();
        assert_eq!(turns, [[all[0].clone()], [all[1].clone()], [all[2].clone()], [all[0].clone()]]);
        assert!(look(false).is_empty());
        assert!(peers.seen().is_empty(), "nobody asked how they answer");
        peers.watch(all.clone(), &all[2..], now);
        assert_eq!((look(false), look(true)), (vec![all[2].clone()], all[1..].to_vec()));
        // The look at one that does not answer is waited for.
        assert_eq!(peers.begin_looks(false), all[2..]);
        assert!(peers.begin_looks(false).is_empty());
        // Whose turn it was is gone: the others still have theirs.
        peers.watch(vec![all[0].clone(), all[2].clone()], &[], now);
        assert_eq!((look(true), look(true)), (Vec::new(), vec![all[0].clone()]));
    }

    #[test]
    fn only_looks_since_the_suspicion_tell_of_a_suspect() {
        let peers = Peers::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let suspect = |seconds, suspects: &[NodeId]| peers.watch(vec![node()], suspects, at(seconds));
        let look = |from, to, reach| peers.looked(&node(), (at(from), at(to)), reach, None);
        suspect(0, &[]);
        look(1, 3, Reach::Silent);
        suspect(2, &[node()]);
        look(1, 3, Reach::Silent);
        assert!(peers.seen().is_empty());
        look(4, 5, Reach::Refused);
        suspect(6, &[node()]);
        assert_eq!(peers.seen(), [(node(), Reach::Refused)].into());
        suspect(7, &[]);
        suspect(8, &[node()]);
        assert!(peers.seen().is_empty(), "of an earlier suspicion");
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
