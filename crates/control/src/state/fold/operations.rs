//! How operations begin, go on and end in the state, and what they leave behind.

use super::super::{FINISHED_KEPT, Group, Leftover, Member, Shard, State, Table, TableStatus};
use super::{Folded, illegal};
use crate::operation::{Kind, NewGroup, Operation, Status, Step, StepStatus, Work};
use model::{Action, Content, GroupId, NodeId, OperationId, StepId, TableName, TableSpec};
use std::collections::{BTreeMap, BTreeSet};

impl State {
    pub(super) fn add_operation(&mut self, operation: &Operation) -> Folded {
        if operation.id < self.next_operation {
            return illegal(format!("operation {} is added twice", operation.id));
        }
        self.next_operation = operation.id.next();
        match &operation.kind {
            Kind::CreateTable { spec, generation, new_groups, homes } => {
                self.begin_groups(new_groups)?;
                for (number, home) in homes.iter().enumerate() {
                    let Some(group) = self.groups.get_mut(home) else {
                        return illegal(format!("shard {number} of {} goes to no group", spec.name));
                    };
                    group.shards.insert(Shard { table: spec.name.clone(), number: number as u32 });
                }
                let table = Table {
                    spec: spec.clone(),
                    generation: *generation,
                    status: TableStatus::Creating,
                    homes: homes.clone(),
                    withheld: false,
                };
                self.tables.insert(spec.name.clone(), table);
                self.generations.insert(spec.name.clone(), *generation);
                self.names_version += 1;
            }
            Kind::DropTable { table } => match self.tables.get_mut(table) {
                Some(table) => table.status = TableStatus::Dropping,
                None => return illegal(format!("table {table} is dropped but unknown")),
            },
            Kind::Remake { group, from, .. } => self.begin_remake(group, from)?,
            Kind::Import { tables, groups, .. } => self.adopt(tables, groups)?,
            Kind::ChangeRf { table, rf } => match self.tables.get_mut(table) {
                Some(table) => table.spec.rf = *rf,
                None => return illegal(format!("table {table} is to get rf {rf} but is unknown")),
            },
            _ => {}
        }
        self.operations.insert(operation.id, operation.clone());
        Ok(())
    }

    /// Tables that are there already, with all their copies.
    fn adopt(&mut self, tables: &[(TableSpec, Vec<GroupId>)], groups: &[NewGroup]) -> Folded {
        self.begin_whole(groups)?;
        for (spec, homes) in tables {
            for (number, home) in homes.iter().enumerate() {
                let Some(group) = self.groups.get_mut(home) else {
                    return illegal(format!("shard {number} of {} is in no group", spec.name));
                };
                group.shards.insert(Shard { table: spec.name.clone(), number: number as u32 });
            }
            let generation = self.generations.get(&spec.name).copied().unwrap_or(0) + 1;
            let table = Table {
                spec: spec.clone(),
                generation,
                status: TableStatus::Active,
                homes: homes.clone(),
                withheld: false,
            };
            if self.tables.insert(spec.name.clone(), table).is_some() {
                return illegal(format!("table {} is adopted but known", spec.name));
            }
            self.generations.insert(spec.name.clone(), generation);
        }
        self.names_version += 1;
        Ok(())
    }

    /// Emptied groups are groups again.
    pub(super) fn take_up(&mut self, groups: &[NewGroup]) -> Folded {
        self.begin_whole(groups)?;
        for (new, node) in groups.iter().flat_map(|new| new.members.iter().map(move |node| (new, node))) {
            self.retain_leftovers(
                node,
                |left| !matches!(left, Leftover::Group { group, .. } if *group == new.id),
            );
        }
        Ok(())
    }

    /// Groups that are there already, with all their members.
    fn begin_whole(&mut self, groups: &[NewGroup]) -> Folded {
        self.begin_groups(groups)?;
        for new in groups {
            if let Some(group) = self.groups.get_mut(&new.id) {
                group.members.values_mut().for_each(|member| *member = Member::Serving);
                group.newest = new.members.iter().cloned().collect();
            }
        }
        Ok(())
    }

    pub(super) fn begin_groups(&mut self, new_groups: &[NewGroup]) -> Folded {
        for new in new_groups {
            let members = new.members.iter().map(|node| (node.clone(), Member::Joining)).collect();
            let group = Group::new(new.rf, members);
            if self.groups.insert(new.id.clone(), group).is_some() {
                return illegal(format!("group {} is made twice", new.id));
            }
        }
        Ok(())
    }

    pub(super) fn begin_gain(&mut self, group: &GroupId, to: &NodeId) -> Folded {
        let Some(known) = self.groups.get_mut(group) else {
            return illegal(format!("unknown group {group} moves"));
        };
        if known.members.contains_key(to) {
            return illegal(format!("{to} gains {group} twice"));
        }
        known.members.insert(to.clone(), Member::Joining);
        Ok(())
    }

    pub(super) fn finish_step(
        &mut self,
        operation: OperationId,
        step: StepId,
        contents: &BTreeMap<String, Content>,
    ) -> Folded {
        let step = self.step(operation, step)?;
        if !matches!(step.status, StepStatus::Started | StepStatus::Pending) {
            return illegal(format!("a step that is {:?} was done", step.status));
        }
        step.status = StepStatus::Done;
        step.error = None;
        step.contents = contents.clone();
        match (step.work.clone(), step.node.clone()) {
            (Work::Verify { group, node }, _) => self.set_member(&group, &node, Member::Serving),
            (Work::Withdraw { group, node }, _) => self.set_member(&group, &node, Member::Leaving),
            (Work::Withhold { table }, _) => self.withhold(&table, true),
            (Work::Regain { group }, _) => {
                self.regained(&group);
                Ok(())
            }
            (Work::Switch, _) => self.hand_over(operation),
            (Work::Command { action: Action::RemoveDirectory { group } }, Some(node)) => {
                self.end_membership(operation, &group, &node);
                Ok(())
            }
            (Work::Command { action: Action::DropTables { tables } }, Some(node)) => {
                self.forget_tables(&node, &tables);
                Ok(())
            }
            (
                Work::Route { tables } | Work::Command { action: Action::DropRoutes { tables } },
                Some(node),
            ) => {
                self.forget_routes(&node, &tables);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The node holds nothing of the group any more; of a temporary cluster that a move dissolves, it keeps the copy, also
    /// when it was away meanwhile and its copy has still to be looked at.
    fn end_membership(&mut self, operation: OperationId, group: &GroupId, node: &NodeId) {
        let kind = self.operations.get(&operation).map(|operation| &operation.kind);
        let keeps = matches!(kind, Some(Kind::Move { to, .. }) if to == node);
        if let Some(known) = self.groups.get_mut(group)
            && known.members.get(node).is_some_and(|member| *member != Member::Serving)
            && !keeps
        {
            known.members.remove(node);
            known.newest.remove(node);
        }
        let kept = self.not_dropped(operation, group, node);
        self.retain_leftovers(node, |left| !matches!(left, Leftover::Group { group: g, .. } if g == group));
        if !kept.is_empty() {
            self.leave_behind(node, None, &kept, &[]);
        }
    }

    /// What was noted of a group on a node after its clean-up had begun, and is not dropped by it.
    fn not_dropped(&self, operation: OperationId, group: &GroupId, node: &NodeId) -> Vec<String> {
        let Some(operation) = self.operations.get(&operation) else { return Vec::new() };
        if !matches!(operation.kind, Kind::Cleanup { .. }) || self.format < 7 {
            return Vec::new();
        }
        let left = self.leftovers.get(node).into_iter().flatten();
        let noted = left.filter_map(|left| match left {
            Leftover::Group { group: g, tables } if g == group => Some(tables),
            _ => None,
        });
        let is_dropped = |table: &&String| {
            operation.steps.iter().any(
                |step| matches!(step.work.action(), Some(Action::DropTables { tables }) if tables.contains(*table)),
            )
        };
        noted.flatten().filter(|table| !is_dropped(table)).cloned().collect()
    }

    /// The node joins the group, and had nothing of its tables any more: what it has of them from now on is not left over.
    /// Those that are handed over into the group are not yet known to be in it.
    pub(super) fn place_again(&mut self, operation: OperationId, node: &NodeId, group: &GroupId) {
        let Some(mut tables) = self.groups.get(group).map(Group::tables) else { return };
        let kind = self.operations.get(&operation).map(|operation| &operation.kind);
        if let Some(Kind::HandOver { table, shards, new_groups, .. }) = kind {
            let into = |at: usize| new_groups.get(at).or(new_groups.first()).map(|new| &new.id);
            let handed = shards.iter().enumerate().filter(|(at, _)| into(*at) == Some(group));
            tables.extend(handed.map(|(_, number)| table.shard_table(*number)));
        }
        self.forget_tables(node, &tables);
        self.retain_leftovers(node, |left| !matches!(left, Leftover::Group { group: g, .. } if g == group));
    }

    fn forget_tables(&mut self, node: &NodeId, gone: &[String]) {
        self.retain_leftovers(node, |left| match left {
            Leftover::Tables { tables } => !tables.iter().all(|table| gone.contains(table)),
            _ => true,
        });
    }

    fn forget_routes(&mut self, node: &NodeId, gone: &[TableName]) {
        self.retain_leftovers(
            node,
            |left| !matches!(left, Leftover::Route { table } if gone.contains(table)),
        );
    }

    pub(super) fn retain_leftovers(&mut self, node: &NodeId, keep: impl Fn(&Leftover) -> bool) {
        if let Some(left) = self.leftovers.get_mut(node) {
            left.retain(keep);
            if left.is_empty() {
                self.leftovers.remove(node);
            }
        }
    }

    pub(super) fn leave_behind(
        &mut self,
        node: &NodeId,
        group: Option<&GroupId>,
        tables: &[String],
        routes: &[TableName],
    ) {
        let left = self.leftovers.entry(node.clone()).or_default();
        left.extend(routes.iter().map(|table| Leftover::Route { table: table.clone() }));
        match group {
            Some(group) => {
                note_group(left, group, tables);
                if let Some(known) = self.groups.get_mut(group)
                    && !tables.is_empty()
                {
                    known.members.remove(node);
                    known.newest.remove(node);
                    // Given up, whatever it did.
                    known.told.take_if(|told| told == node);
                }
            }
            None if !tables.is_empty() => {
                left.insert(Leftover::Tables { tables: tables.to_vec() });
            }
            None => {}
        }
    }

    pub(super) fn undo_step(&mut self, operation: OperationId, step: StepId) -> Folded {
        let step = self.step(operation, step)?;
        if matches!(step.status, StepStatus::Pending | StepStatus::Undone) {
            return illegal(format!("a step that is {:?} was undone", step.status));
        }
        step.status = StepStatus::Undone;
        let work = step.work.clone();
        // One that was left behind meanwhile stays so.
        let is_member = |group: &GroupId, node: &NodeId| {
            self.groups.get(group).is_some_and(|known| known.members.contains_key(node))
        };
        match work {
            Work::Withdraw { group, node } if is_member(&group, &node) => {
                self.set_member(&group, &node, Member::Serving)
            }
            Work::Withhold { table } => self.withhold(&table, false),
            Work::Verify { group, node } if is_member(&group, &node) => {
                self.set_member(&group, &node, Member::Joining)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn finish(
        &mut self,
        id: OperationId,
        status: Status,
        error: Option<&String>,
        unix: u64,
    ) -> Folded {
        let Some(mut operation) = self.operations.remove(&id) else {
            return illegal(format!("operation {id} ends but is unknown"));
        };
        operation.status = status;
        operation.finished_at = Some(unix);
        if let Some(error) = error {
            operation.error = Some(error.clone());
        }
        match (&operation.kind, status) {
            (Kind::CreateTable { spec, .. }, Status::Done) => {
                if let Some(table) = self.tables.get_mut(&spec.name) {
                    table.status = TableStatus::Active;
                }
            }
            (Kind::CreateTable { spec, new_groups, .. }, _) => {
                let (table, made) = (spec.name.clone(), new_groups.clone());
                self.leave_emptied_groups(&table, &made);
                self.forget_table(&table);
            }
            (Kind::HandOver { new_groups, source, .. }, _) => {
                for group in new_groups.iter().map(|new| &new.id).chain(source) {
                    if self.groups.get(group).is_some_and(|known| known.shards.is_empty()) {
                        self.groups.remove(group);
                    }
                }
            }
            (Kind::Move { group, pin: true, .. }, Status::Done) => {
                if let Some(known) = self.groups.get_mut(group) {
                    known.pinned = true;
                }
            }
            (Kind::Remake { group, from, .. }, Status::Done) => {
                self.end_remake(&group.clone(), &from.clone());
            }
            (Kind::RemoveNode { node }, Status::Done) => {
                let exits = |step: &Step| matches!(step.work.action(), Some(Action::ExitCluster { .. }));
                if operation.steps.iter().any(|step| exits(step) && step.status == StepStatus::Done) {
                    self.forget_removal(node);
                    self.left.insert(node.clone());
                }
                self.remove_node(&node.clone(), unix)?;
            }
            (Kind::DropTable { table }, Status::Done) => self.forget_table(&table.clone()),
            (Kind::Move { group, .. }, Status::Done) => {
                self.move_failures.remove(group);
            }
            (Kind::Backup { backup, .. }, Status::Failed | Status::Cancelled) => {
                if let Some(known) = self.backups.get_mut(backup) {
                    known.fail();
                }
            }
            // One that had not begun has given nobody anything; the copy may be another one's. Before format 7 it went, and
            // what was logged since follows from that.
            (
                Kind::Move { group, to, .. } | Kind::Snapshot { group, to, .. },
                Status::Failed | Status::Cancelled,
            ) if operation.started_at.is_some() || self.format < 7 => {
                if status == Status::Failed && matches!(operation.kind, Kind::Move { .. }) {
                    *self.move_failures.entry(group.clone()).or_default() += 1;
                }
                if let Some(known) = self.groups.get_mut(group)
                    && known.members.get(to) == Some(&Member::Joining)
                {
                    known.members.remove(to);
                }
            }
            _ => {}
        }
        match status {
            Status::Done => self.operations_completed += 1,
            Status::Failed => self.operations_failed += 1,
            _ => {}
        }
        self.finished.push_back(operation);
        if self.finished.len() > FINISHED_KEPT {
            self.finished.pop_front();
        }
        Ok(())
    }

    /// The table is gone everywhere, and with it the groups that held nothing else.
    fn forget_table(&mut self, name: &TableName) {
        self.tables.remove(name);
        self.names_version += 1;
        self.groups.retain(|_, group| {
            let held = group.shards.len();
            group.shards.retain(|shard| shard.table != *name);
            // One that is empty for another reason is being filled or dissolved.
            held == 0 || !group.shards.is_empty()
        });
        self.move_failures.retain(|group, _| self.groups.contains_key(group));
    }

    /// A creation was taken back, and what it `made` with it. The groups that were there before and hold nothing else are
    /// there still, and go.
    fn leave_emptied_groups(&mut self, name: &TableName, made: &[NewGroup]) {
        let only_its =
            |group: &Group| !group.shards.is_empty() && group.shards.iter().all(|shard| shard.table == *name);
        let emptied: Vec<(GroupId, NodeId)> = self
            .groups
            .iter()
            .filter(|(id, group)| {
                group.is_clustered() && only_its(group) && made.iter().all(|new| new.id != **id)
            })
            .flat_map(|(id, group)| group.members.keys().map(|node| (id.clone(), node.clone())))
            .collect();
        for (group, node) in emptied {
            self.leave_behind(&node, Some(&group), &[], &[]);
        }
    }

    fn withhold(&mut self, table: &TableName, withheld: bool) -> Folded {
        match self.tables.get_mut(table) {
            Some(table) => table.withheld = withheld,
            None => return illegal(format!("unknown table {table} is withheld")),
        }
        Ok(())
    }

    /// The shards of a hand-over change homes.
    fn hand_over(&mut self, id: OperationId) -> Folded {
        let Kind::HandOver { table, shards, new_groups, .. } = self.operation(id)?.kind.clone() else {
            return illegal(format!("operation {id} hands nothing over"));
        };
        for (at, number) in shards.into_iter().enumerate() {
            let shard = Shard { table: table.clone(), number };
            let home = self.tables.get_mut(&table).and_then(|known| known.homes.get_mut(number as usize));
            let (Some(home), Some(new)) = (home, new_groups.get(at).or(new_groups.first())) else {
                return illegal(format!("shard {number} of {table} is handed over but unknown"));
            };
            let old = std::mem::replace(home, new.id.clone());
            let Some(group) = self.groups.get_mut(&new.id) else {
                return illegal(format!("group {} is handed a shard but unknown", new.id));
            };
            group.shards.insert(shard.clone());
            if new.rf == 1 {
                // It is the plain copy that was found equal.
                group.members.values_mut().for_each(|member| *member = Member::Serving);
            }
            self.take_shard_out(&old, &shard);
        }
        self.withhold(&table, false)
    }

    /// A group without shards dissolves; a unit without a cluster is no more.
    fn take_shard_out(&mut self, id: &GroupId, shard: &Shard) {
        let Some(group) = self.groups.get_mut(id) else { return };
        group.shards.remove(shard);
        if group.shards.is_empty() && group.is_clustered() {
            group.members.values_mut().for_each(|member| *member = Member::Leaving);
        } else if group.shards.is_empty() {
            self.groups.remove(id);
        }
    }
}

/// One entry for each group: what was noted before stays.
fn note_group(left: &mut BTreeSet<Leftover>, group: &GroupId, tables: &[String]) {
    let of_group = |left: &Leftover| matches!(left, Leftover::Group { group: g, .. } if g == group);
    let mut all: BTreeSet<String> = tables.iter().cloned().collect();
    // Snapshots of earlier versions can have several.
    for before in left.iter().filter(|left| of_group(left)) {
        if let Leftover::Group { tables, .. } = before {
            all.extend(tables.iter().cloned());
        }
    }
    left.retain(|left| !of_group(left));
    left.insert(Leftover::Group { group: group.clone(), tables: all.into_iter().collect() });
}
