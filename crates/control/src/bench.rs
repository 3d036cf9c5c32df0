//! A cluster at rest for `bench control`: every table whole, every node answering. Pure, so that every machine
//! measures the same work; the command holds the clock.

use crate::state::{Group, Member, Node, Shard, State, Table, TableStatus};
use crate::{Config, Effect, Input, PollAnswer, route};
use model::wire::SidecarPoll;
use model::{
    ClusterState, ClusterStatus, Epoch, GroupId, LogIndex, MemberState, NodeId, NodeStatus, OperationId,
    Reach, Schema, Settings, TableName, TableSpec, TablesStatus,
};
use std::collections::BTreeMap;

/// How large it is. Tables have two copies of every shard.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// At least 2.
    pub nodes: u32,
    pub tables: u32,
    /// Of each table.
    pub shards: u32,
}

const LOG_ID: &str = "5a1d0000000000000000000000000000";

/// The nodes, with what each answers when it is asked.
#[derive(Debug)]
pub struct Idle {
    state: State,
    /// As they come over the wire, so that nothing is shared with the state from the start.
    answers: BTreeMap<NodeId, Vec<u8>>,
}

impl Idle {
    /// The nodes of a state in which nothing is left to do.
    pub fn new(size: Size) -> Result<Self, serde_json::Error> {
        let state = state(size).map_err(serde::de::Error::custom)?;
        let mut answers = BTreeMap::new();
        for node in state.nodes.keys() {
            answers.insert(node.clone(), serde_json::to_vec(&status(&state, node))?);
        }
        Ok(Self { state, answers })
    }

    pub fn config() -> Config {
        Config { name: "bench".to_owned(), log_id: LOG_ID.to_owned(), settings: Settings::default(), seed: 1 }
    }

    /// What a controller is opened with.
    pub fn snapshot(&self) -> Result<(LogIndex, Vec<u8>), serde_json::Error> {
        Ok((self.state.last, serde_json::to_vec(&self.state)?))
    }

    /// What comes in until the next tick: every sidecar reports, and the looks that were asked for are answered.
    pub fn answer(&self, epoch: Epoch, effects: &[Effect]) -> Vec<Input> {
        let sidecars = self.answers.keys().map(|node| Input::Sidecar(self.poll(node, epoch)));
        let looks = effects.iter().filter_map(|effect| match effect {
            Effect::Poll { node, token, tables, .. } => {
                let mut status: NodeStatus = serde_json::from_slice(self.answers.get(node)?).ok()?;
                status.tables = status.tables.filter(|_| *tables);
                let (node, token) = (node.clone(), *token);
                Some(Input::Polled(PollAnswer { node, token, reach: Reach::Answered, status: Some(status) }))
            }
            _ => None,
        });
        sidecars.chain(looks).collect()
    }

    fn poll(&self, node: &NodeId, epoch: Epoch) -> SidecarPoll {
        SidecarPoll {
            node: node.clone(),
            uuid: uuid(node),
            run: "1".to_owned(),
            taken: 0,
            log_id: Some(LOG_ID.to_owned()),
            epoch,
            names_version: self.state.names_version,
            views_version: 0,
            peers: BTreeMap::new(),
            results: Vec::new(),
            running: Vec::new(),
            going_on: Vec::new(),
            machine: None,
        }
    }
}

fn uuid(node: &NodeId) -> String {
    format!("uuid of {node}")
}

/// The history of every group.
const HISTORY: &str = "1";

/// Four groups for each node, so that each is a member of eight.
fn state(size: Size) -> Result<State, model::InvalidName> {
    let nodes: Result<Vec<NodeId>, _> =
        (0..size.nodes).map(|n| NodeId::new(format!("10.0.{}.{}:9308", n / 250, n % 250 + 1))).collect();
    let nodes = nodes?;
    let count = nodes.len();
    let mut groups: Vec<(GroupId, Group)> = (0..count * 4)
        .map(|g| {
            let apart = 1 + g / count % (count - 1).max(1);
            let members = [g % count, (g + apart) % count];
            let members = members.into_iter().map(|m| (nodes[m].clone(), Member::Serving)).collect();
            let mut group = Group::new(2, members);
            group.history = Some(HISTORY.to_owned());
            (GroupId::from_random(g as u128), group)
        })
        .collect();
    let mut tables = BTreeMap::new();
    for t in 0..size.tables {
        let name = TableName::new(format!("table_{t}"))?;
        let mut homes = Vec::new();
        for number in 0..size.shards {
            let (id, group) = &mut groups[(t + number) as usize % (count * 4)];
            group.shards.insert(Shard { table: name.clone(), number });
            homes.push(id.clone());
        }
        let spec = TableSpec {
            name: name.clone(),
            cluster: Some("c".to_owned()),
            schema: Schema::default(),
            shards: size.shards,
            rf: 2,
        };
        tables
            .insert(name, Table { spec, generation: 1, status: TableStatus::Active, homes, withheld: false });
    }
    let member = |node: &NodeId| Node { uuid: uuid(node), lost: false, draining: false, since: 0 };
    Ok(State {
        last: LogIndex(1),
        epoch: Epoch(1),
        cluster: Some(GroupId::new("c")?),
        nodes: nodes.iter().map(|node| (node.clone(), member(node))).collect(),
        groups: groups.into_iter().collect(),
        generations: tables.keys().map(|name| (name.clone(), 1)).collect(),
        tables,
        names_version: 1,
        next_operation: OperationId(1),
        ..State::default()
    })
}

fn status(state: &State, node: &NodeId) -> NodeStatus {
    let cluster = |members: Vec<NodeId>, tables| ClusterStatus {
        status: ClusterState::Primary,
        node_state: MemberState::Synced,
        size: members.len() as u32,
        nodes_set: members.iter().cloned().collect(),
        nodes_view: members.into_iter().collect(),
        tables,
        state_uuid: HISTORY.to_owned(),
        conf_id: 2,
        last_committed: 100,
        recv_queue: 0,
    };
    let mut tables = TablesStatus::default();
    let mut clusters = BTreeMap::new();
    for (id, group) in state.groups.iter().filter(|(_, group)| group.members.contains_key(node)) {
        tables.shards.extend(group.tables());
        let members = group.members.keys().cloned().collect();
        clusters.insert(id.clone(), cluster(members, group.tables().into_iter().collect()));
    }
    if let Some(own) = &state.cluster {
        clusters.insert(own.clone(), cluster(state.nodes.keys().cloned().collect(), [].into()));
    }
    for name in state.tables.keys() {
        if let route::Desired::Routed(wanted) = route::desired(state, name) {
            tables.routes.insert(name.to_string(), wanted.route.into());
        }
    }
    NodeStatus { clusters, tables: Some(tables) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Controller;
    use crate::operation::{Kind, Operation, Status};
    use model::Millis;

    /// A day after an operation failed nobody needs to look at it any more.
    #[test]
    fn a_failed_operation_is_a_warning_for_a_day() {
        let mut idle = Idle::new(Size { nodes: 3, tables: 1, shards: 4 }).expect("good names");
        let kind = Kind::DropTable { table: TableName::new("gone").expect("a name") };
        let mut failed = Operation::new(OperationId(0), kind, Vec::new(), 1000);
        failed.status = Status::Failed;
        failed.finished_at = Some(1000);
        idle.state.finished.push_back(failed);
        let (last, snapshot) = idle.snapshot().expect("JSON");
        let mut controller =
            Controller::open(Idle::config(), Some((last, &snapshot)), []).expect("a legal state");
        let mut inputs = Vec::new();
        for turn in 0..20 {
            let out = controller.tick(Millis(turn * 100), 1000, inputs);
            inputs = idle.answer(controller.epoch(), &out.effects);
        }
        assert_eq!(controller.dashboard(1000 + 86_399).overall_status, "warning");
        assert_eq!(controller.dashboard(1000 + 86_400).overall_status, "healthy");
    }

    #[test]
    fn nothing_is_left_to_do() {
        for nodes in [2, 3, 5] {
            let idle = Idle::new(Size { nodes, tables: 3, shards: 40 }).expect("good names");
            let (last, snapshot) = idle.snapshot().expect("JSON");
            let mut controller =
                Controller::open(Idle::config(), Some((last, &snapshot)), []).expect("a legal state");
            let mut inputs = Vec::new();
            let mut looks = 0;
            for turn in 0..100 {
                let out = controller.tick(Millis(turn * 100), 0, inputs);
                let new: Vec<_> = out
                    .records
                    .iter()
                    .filter(|r| !matches!(r, crate::Record::LeaderElected { .. }))
                    .collect();
                assert!(new.is_empty(), "{nodes} nodes: {new:?}");
                looks += out.effects.len();
                inputs = idle.answer(controller.epoch(), &out.effects);
            }
            assert!(looks as u32 >= nodes * 15, "the nodes are looked at: {looks}");
        }
    }
}
