use super::*;
use crate::operation::{Kind, NewGroup, Operation, Status, Step, StepStatus, Steps, Work};
use crate::record::Record;
use model::{Action, Epoch, StepId};

fn node(n: u16) -> NodeId {
    NodeId::new(format!("h:{n}")).expect("valid")
}

fn move_of(group: &GroupId, from: NodeId, to: NodeId) -> Kind {
    Kind::Move { group: group.clone(), to, from: Some(from), floor: 1, reason: String::new(), pin: false }
}

/// A move that is taken back after its source was withdrawn: what becomes of the source when that is undone.
fn source_after_undo(left_behind: bool) -> Option<Member> {
    let group = GroupId::new("g").expect("valid");
    let members = [(node(1), Member::Leaving), (node(2), Member::Serving), (node(3), Member::Joining)];
    let mut state = State::default();
    state.groups.insert(group.clone(), Group::new(2, members.into()));
    let kind = move_of(&group, node(1), node(3));
    let mut steps = Steps::default();
    let withdraw = Work::Withdraw { group: group.clone(), node: node(1) };
    steps.push(Some(&node(1)), withdraw, &[], None);
    let done = Step { status: StepStatus::Done, ..steps.0.remove(0) };
    let id = OperationId(1);
    let mut operation = Operation::new(id, kind, vec![done], 0);
    operation.status = Status::Unwinding;
    state.operations.insert(id, operation);
    if left_behind {
        let (tables, group) = (vec!["system.t_s0".to_owned()], Some(group.clone()));
        let record = Record::LeftBehind { node: node(1), group, tables, routes: Vec::new() };
        state.apply(&record).expect("follows");
    }
    state.apply(&Record::StepUndone { operation: id, step: StepId(0) }).expect("follows");
    state.groups[&group].members.get(&node(1)).copied()
}

#[test]
fn what_was_left_behind_stays_so_when_its_move_is_taken_back() {
    assert_eq!(source_after_undo(false), Some(Member::Serving));
    assert_eq!(source_after_undo(true), None);
}

/// Who is left of a group when the temporary cluster of its move has been dissolved on the new copy's node.
fn members_after_move(to: Member) -> Vec<(NodeId, Member)> {
    let group = GroupId::new("g").expect("valid");
    let mut state = State::default();
    let members = [(node(1), Member::Leaving), (node(2), to)];
    state.groups.insert(group.clone(), Group::new(1, members.into()));
    let kind = move_of(&group, node(1), node(2));
    let mut steps = Steps::default();
    for n in [1, 2] {
        steps.command(&node(n), Action::RemoveDirectory { group: group.clone() }, &[], None);
    }
    for step in &mut steps.0 {
        step.status = StepStatus::Started;
    }
    let id = OperationId(1);
    let mut operation = Operation::new(id, kind, steps.0, 0);
    operation.status = Status::Running;
    state.operations.insert(id, operation);
    for step in [StepId(0), StepId(1)] {
        let contents = BTreeMap::new();
        state.apply(&Record::StepDone { operation: id, step, contents }).expect("follows");
    }
    state.groups.remove(&group).expect("a group").members.into_iter().collect()
}

#[test]
fn a_move_that_ends_keeps_the_new_copy_also_of_a_node_that_was_away() {
    for to in [Member::Serving, Member::Returning, Member::Lost] {
        assert_eq!(members_after_move(to), [(node(2), to)]);
    }
}

/// What is noted of a node that joins a group, with what was noted of another group's and of other tables before.
#[test]
fn what_a_node_is_given_again_is_not_left_over() {
    let group = GroupId::new("g").expect("valid");
    let table = TableName::new("t").expect("valid");
    let mut known = Group::new(1, [(node(1), Member::Serving)].into());
    known.shards.insert(Shard { table, number: 0 });
    let mut steps = Steps::default();
    steps.command(&node(2), Action::JoinCluster { group: group.clone(), at: node(1) }, &[], None);
    let id = OperationId(1);
    let mut operation = Operation::new(id, move_of(&group, node(1), node(2)), steps.0, 0);
    operation.status = Status::Running;
    let tables = |name: &str| Leftover::Tables { tables: vec![name.to_owned()] };
    let of_group = Leftover::Group { group: group.clone(), tables: vec!["system.t_s0".to_owned()] };
    let left = [tables("system.t_s0"), tables("system.u_s0"), of_group];
    let state = State {
        groups: [(group, known)].into(),
        operations: [(id, operation)].into(),
        leftovers: [(node(2), left.into())].into(),
        ..State::default()
    };
    let started = Record::StepStarted {
        operation: id,
        step: StepId(0),
        node: node(2),
        attempt: 1,
        epoch: Epoch(0),
        deadline_ms: 1,
        undo: false,
    };
    // The same where the table is yet to be handed over into the group.
    let mut handed = state.clone();
    let known = handed.groups.values_mut().next().expect("one");
    let shard = known.shards.pop_first().expect("one");
    let new = NewGroup { id: GroupId::new("g").expect("valid"), rf: 2, members: vec![node(1), node(2)] };
    handed.operations.values_mut().next().expect("one").kind =
        Kind::HandOver { table: shard.table, shards: vec![0], rf: 2, source: None, new_groups: vec![new] };
    for mut state in [state, handed] {
        state.apply(&started).expect("follows");
        assert_eq!(state.leftovers[&node(2)], [tables("system.u_s0")].into());
    }
}

/// Of a shard of rf 1 that moves it can give the new copy a quorum until it has left, and is no copy to come back to.
#[test]
fn the_source_of_a_move_is_a_survivor_and_no_heir() {
    let members = [(node(1), Member::Leaving), (node(2), Member::Serving)];
    for (rf, survivors) in [(1, vec![node(2), node(1)]), (2, vec![node(2)])] {
        let group = Group::new(rf, members.clone().into());
        assert_eq!(group.survivors().cloned().collect::<Vec<_>>(), survivors);
        assert_eq!(group.heirs().collect::<Vec<_>>(), [&node(2)]);
    }
}

/// Two failovers of one group: the one of a deposed leader ends when the other one has told somebody else.
#[test]
fn a_failure_of_one_failover_does_not_forget_whom_the_other_told() {
    let group = GroupId::new("g").expect("valid");
    let members = (1..=3).map(|n| (node(n), Member::Serving)).collect();
    let mut state = State::default();
    state.groups.insert(group.clone(), Group::new(3, members));
    for id in [1, 2] {
        let mut steps = Steps::default();
        steps.push(None, Work::Regain { group: group.clone() }, &[], None);
        let kind = Kind::Failover { node: node(9) };
        let mut operation = Operation::new(OperationId(id), kind, steps.0, 0);
        operation.status = Status::Running;
        state.operations.insert(OperationId(id), operation);
        let started = Record::StepStarted {
            operation: OperationId(id),
            step: StepId(0),
            node: node(id as u16),
            attempt: 1,
            epoch: Epoch(1),
            deadline_ms: 0,
            undo: false,
        };
        state.apply(&started).expect("follows");
    }
    let failed = |id| Record::StepFailed {
        operation: OperationId(id),
        step: StepId(0),
        error: String::new(),
        last: false,
    };
    state.apply(&failed(1)).expect("follows");
    assert_eq!(state.groups[&group].told, Some(node(2)));
    state.apply(&failed(2)).expect("follows");
    assert_eq!(state.groups[&group].told, None);
}

/// A copy that is noted while a clean-up of its group runs is left when that ends; there is one entry for each group.
#[test]
fn what_is_noted_while_a_clean_up_runs_is_not_forgotten_with_it() {
    let group = GroupId::new("g").expect("valid");
    let names = |shards: &[&str]| shards.iter().map(|shard| (*shard).to_owned()).collect::<Vec<String>>();
    let left_behind = |tables: &[&str]| Record::LeftBehind {
        node: node(1),
        group: Some(group.clone()),
        tables: names(tables),
        routes: Vec::new(),
    };
    let mut steps = Steps::default();
    let dropped = steps.command(&node(1), Action::DropTables { tables: names(&["system.t_s0"]) }, &[], None);
    let removed = steps.command(&node(1), Action::RemoveDirectory { group: group.clone() }, &[dropped], None);
    let id = OperationId(1);
    let mut operation = Operation::new(id, Kind::Cleanup { node: node(1) }, steps.0, 0);
    operation.status = Status::Running;
    let format = crate::record::FORMAT;
    let mut state = State { operations: [(id, operation)].into(), format, ..State::default() };
    state.apply(&left_behind(&["system.t_s0"])).expect("follows");
    state.apply(&left_behind(&["system.u_s0"])).expect("follows");
    let both = Leftover::Group { group: group.clone(), tables: names(&["system.t_s0", "system.u_s0"]) };
    assert_eq!(state.leftovers[&node(1)], [both].into());
    for step in [dropped, removed] {
        let contents = BTreeMap::new();
        state.apply(&Record::StepDone { operation: id, step, contents }).expect("follows");
    }
    assert_eq!(state.leftovers[&node(1)], [Leftover::Tables { tables: names(&["system.u_s0"]) }].into());
}

/// Two moves of one group to the same node, of which the second had not begun when it was cancelled.
#[test]
fn a_move_that_had_not_begun_takes_no_copy_with_it() {
    let group = GroupId::new("g").expect("valid");
    let members = [(node(1), Member::Serving), (node(2), Member::Joining)];
    let format = crate::record::FORMAT;
    for (started_at, format, kept) in [(None, format, true), (Some(1), format, false), (None, 6, false)] {
        let mut state = State { format, ..State::default() };
        state.groups.insert(group.clone(), Group::new(2, members.clone().into()));
        for id in [1, 2].map(OperationId) {
            let operation = Operation::new(id, move_of(&group, node(1), node(2)), Vec::new(), 0);
            state.operations.insert(id, Operation { started_at, ..operation });
        }
        let why = String::new();
        state
            .apply(&Record::OperationCancelled { operation: OperationId(2), why, unix: 1 })
            .expect("follows");
        assert_eq!(state.groups[&group].members.contains_key(&node(2)), kept);
    }
}
