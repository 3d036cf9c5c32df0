//! What is shown of the whole: the dashboard as the operator sees it, or as it looks to a controller without a leader.

use super::api::{Shared, look};
use super::problem::ApiError;
use super::standing::Standing;
use model::NodeId;
use model::api::{Alert, Dashboard};
use std::collections::BTreeMap;

/// The dashboard with what only metrics and history show.
#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) dashboard: Dashboard,
    /// Shards that are ok, degraded, broken.
    pub(super) shards: (u64, u64, u64),
    pub(super) sidecars_away: u64,
    /// By node; since its sidecar started.
    pub(super) connections_refused: BTreeMap<NodeId, u64>,
    pub(super) moves_held: bool,
    /// By this process.
    pub(super) transferred_bytes: u64,
    pub(super) epoch: u64,
    pub(super) last: u64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            dashboard: Dashboard {
                timestamp: 0,
                overall_status: String::new(),
                rebalancing: model::api::RebalancingMetrics::default(),
                queue: model::api::QueueMetrics::default(),
                cluster: model::api::ClusterMetrics::default(),
                alerts: Vec::new(),
            },
            shards: (0, 0, 0),
            sidecars_away: 0,
            connections_refused: BTreeMap::new(),
            moves_held: false,
            transferred_bytes: 0,
            epoch: 0,
            last: 0,
        }
    }
}

impl Board {
    /// As the operator has it between two ticks.
    pub(super) fn of(controller: &control::Controller, unix: u64) -> Self {
        let state = controller.state();
        Self {
            dashboard: controller.dashboard(unix),
            shards: controller.shards_by_rf_status(),
            sidecars_away: controller.sidecars_away(),
            connections_refused: controller.connections_refused(),
            moves_held: state.hold.is_some(),
            transferred_bytes: controller.transferred_bytes(),
            epoch: state.epoch.0,
            last: state.last.0,
        }
    }
}

pub(super) async fn whole(shared: &Shared) -> Result<Board, ApiError> {
    let mut board = look(shared, |controller, _, unix| Board::of(controller, unix)).await?;
    // Only while nobody leads does a follower answer itself.
    let standing = shared.standing.borrow().clone();
    if let Some(why) = leaderless(&standing) {
        let at = board.dashboard.timestamp;
        without_leader(&mut board.dashboard, &why, at);
    }
    Ok(board)
}

/// The dashboard alone.
pub(super) async fn dashboard(shared: &Shared) -> Result<Dashboard, ApiError> {
    whole(shared).await.map(|board| board.dashboard)
}

/// Why nobody leads, as this controller sees it; `None` while it leads itself.
fn leaderless(standing: &Standing) -> Option<String> {
    if standing.leads_now() {
        return None;
    }
    Some(match &standing.leader {
        _ if !standing.is_able() => {
            format!("{} has not reached the control log for some seconds", standing.name)
        }
        Some(leader) => format!("the leader {leader} shows no sign of life"),
        None => "none was ever elected".to_owned(),
    })
}

/// What a cluster without a leader looks like: the figures of the log, and the one alert above all others.
fn without_leader(board: &mut Dashboard, why: &str, unix: u64) {
    let since = board.alerts.iter().find(|alert| alert.kind == "no_master").map_or(unix, |alert| alert.since);
    board.alerts.retain(|alert| alert.kind != "no_master");
    board.alerts.insert(0, Alert { since, ..control::no_master(why) });
    board.cluster.master_node = None;
    "critical".clone_into(&mut board.overall_status);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Epoch, LogIndex};
    use std::sync::Arc;

    #[test]
    fn without_a_leader_nothing_is_well() {
        let mut board = Board::default().dashboard;
        board.cluster.master_node = Some("127.0.0.1:2".to_owned());
        let standing = Standing {
            scheme: "http",
            name: "127.0.0.1:1".into(),
            log_id: "l".into(),
            leads: false,
            leader: Some("127.0.0.1:2".into()),
            epoch: Epoch(1),
            last: LogIndex(1),
            contact: None,
            silence_max: std::time::Duration::from_secs(5),
            candidates: Arc::default(),
        };
        let why = leaderless(&standing).expect("it follows");
        assert_eq!(why, "the leader 127.0.0.1:2 shows no sign of life");
        assert_eq!(leaderless(&Standing { leads: true, ..standing }), None);
        without_leader(&mut board, &why, 7);
        assert_eq!((board.overall_status.as_str(), board.cluster.master_node), ("critical", None));
        assert_eq!((board.alerts[0].kind.as_str(), board.alerts[0].since), ("no_master", 7));
    }
}
