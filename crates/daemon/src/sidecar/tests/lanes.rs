//! What waits for what on one node.

use super::script::{LOG_ID, Server, Stage, cluster, ok, until, word};
use model::{Action, Command, CommandId, Epoch, GroupId, NodeId, OperationId, StepId};
use std::time::Instant;

fn command(step: u64, action: Action) -> Command {
    let id = CommandId { operation: OperationId(1), step: StepId(step), attempt: 1 };
    Command { id, epoch: Epoch(1), remaining_ms: 60_000, action }
}

/// A copy can take hours, and the groups that the node has already may need it meanwhile.
#[tokio::test]
async fn a_quorum_does_not_wait_for_a_join() {
    let (joined, other) = (GroupId::from_random(1), GroupId::from_random(2));
    let (orphan, shown) = ([("status", "non-primary"), ("node_state", "synced")], other.clone());
    let node = Server::start(
        move |_, sql| if sql.starts_with("SHOW") { cluster(shown.as_str(), &orphan) } else { ok() },
    )
    .await;
    let _held = node.hold("JOIN");
    let mut stage = Stage::new(&node, None).await;
    let (_address, _trigger) = stage.run();
    let sidecar = &stage.sidecar;
    sidecar.fence.admit(&word(LOG_ID, 1)).expect("admitted");
    let said = |start: &str| node.changes().iter().filter(|sql| sql.contains(start)).count();
    let donor = NodeId::new("127.0.0.1:1").expect("valid");
    let push = |step, action| sidecar.lanes.push(&sidecar.ledger, command(step, action), Instant::now());
    push(1, Action::JoinCluster { group: joined, at: donor });
    until("the JOIN is under way", || said("JOIN CLUSTER") == 1).await;
    push(2, Action::UpdateNodes { group: other.clone() });
    push(3, Action::Bootstrap { group: other });
    until("a quorum", || said("pc.bootstrap") == 1).await;
    assert_eq!(said("UPDATE nodes"), 0, "it needs searchd's lock, and waits for its turn");
}
