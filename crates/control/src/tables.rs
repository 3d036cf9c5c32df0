//! The control state as tables: `system.sharding_state`, `…_queue` and `…_table`, for whoever reads with SELECT.
//!
//! Columns and keys are those that scripts know. What the state has no equal of is NULL.

use crate::Controller;
use crate::operation::{Operation, Step, Work};
use crate::rights::Sight;
use crate::views::{Row, rows};
use model::wire::{Comparison, Condition, Select, StatementReply, View, ViewQuery};
use model::{Action, StepId, TableName};
use serde_json::json;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

const STATE: [&str; 3] = ["key", "value", "updated_at"];
const QUEUE: [&str; 12] = [
    "id",
    "node",
    "query",
    "rollback_query",
    "wait_for_id",
    "rollback_wait_for_id",
    "operation_group",
    "tries",
    "status",
    "created_at",
    "updated_at",
    "duration",
];
const TABLE: [&str; 4] = ["cluster", "node", "table", "shards"];

/// Rows given at once without a LIMIT: searchd's own default for SELECT is 20, which would hide most of a queue.
const LIMIT_DEFAULT: u64 = 1_000;

impl Controller {
    pub(crate) fn select(&self, query: &ViewQuery, sight: Sight<'_>) -> Result<StatementReply, String> {
        let (columns, found): (&[&str], Vec<Row>) = match query.view {
            View::State => (&STATE, self.state_rows()),
            View::Queue => (&QUEUE, self.queue_rows()),
            View::Table => (&TABLE, self.table_rows(sight)),
        };
        answer(query, columns, found)
    }

    fn state_rows(&self) -> Vec<Row> {
        let state = &self.state;
        let mut found = Vec::new();
        let mut row = |key: String, value: String, at: Option<u64>| {
            found.push(vec![Some(key), Some(value), at.map(|at| at.to_string())]);
        };
        if let Some(leader) = &state.leader {
            row("master".to_owned(), leader.clone(), None);
        }
        if let Some(cluster) = &state.cluster {
            row("cluster".to_owned(), cluster.to_string(), None);
        }
        let hash = crate::hash::cluster_hash(state.live_nodes());
        row("cluster_hash".to_owned(), hash, state.topology_changes.back().copied());
        for (id, node) in &state.nodes {
            let status = if node.lost { "inactive" } else { "active" };
            let value = json!({ "status": status, "draining": node.draining, "uuid": node.uuid });
            row(format!("node:{id}"), value.to_string(), Some(node.since));
        }
        for (name, table) in &state.tables {
            let value = json!({
                "cluster": table.spec.cluster,
                "shards": table.spec.shards,
                "rf": table.spec.rf,
                "status": self.table_state(table),
            });
            row(format!("table:{name}"), value.to_string(), None);
        }
        for (name, operation) in self.rebalances() {
            let value = json!({
                "operation": operation.id,
                "status": operation.status.as_str(),
                "error": operation.error,
            });
            let at = operation.finished_at.or(operation.started_at).or(Some(operation.created_at));
            row(format!("rebalance:{name}"), value.to_string(), at);
        }
        for (id, backup) in &state.backups {
            let value = json!({
                "operation": backup.operation,
                "status": backup.state,
                "rows": backup.rows,
                "with_data": backup.with_data,
                "record": backup.record_path,
            });
            row(id.to_string(), value.to_string(), Some(id.unix));
        }
        found
    }

    /// The operation under way that moves copies of each table, else the last one that did.
    fn rebalances(&self) -> BTreeMap<TableName, &Operation> {
        let mut by_table = BTreeMap::new();
        for operation in self.state.finished.iter().chain(self.state.active()) {
            if !crate::alerts::is_rebalance(operation) {
                continue;
            }
            let shared = operation.group().and_then(|group| self.state.groups.get(group));
            let tables: BTreeSet<TableName> = match (operation.table(), shared) {
                (Some(table), _) => [table.clone()].into(),
                (None, Some(group)) => group.table_names(),
                (None, None) => BTreeSet::new(),
            };
            by_table.extend(tables.into_iter().map(|table| (table, operation)));
        }
        by_table
    }

    /// Every step of the operations that are not over.
    fn queue_rows(&self) -> Vec<Row> {
        let steps = self
            .state
            .active()
            .flat_map(|operation| operation.numbered().map(move |(id, step)| (operation, id, step)));
        steps.map(|(operation, id, step)| self.queue_row(operation, id, step)).collect()
    }

    fn queue_row(&self, operation: &Operation, id: StepId, step: &Step) -> Row {
        let named = |id: StepId| format!("{}.{id}", operation.id);
        let list = |ids: Vec<StepId>| {
            let all: Vec<String> = ids.into_iter().map(named).collect();
            (!all.is_empty()).then(|| all.join(","))
        };
        let behind = operation.numbered().filter(|(_, other)| other.after.contains(&id)).map(|(id, _)| id);
        let status = serde_json::to_value(step.status).unwrap_or_default();
        let duration = operation.started_at.map_or(0, |at| self.unix_now.saturating_sub(at));
        vec![
            Some(named(id)),
            step.node.as_ref().map(ToString::to_string),
            Some(query(&step.work)),
            step.undo.as_ref().map(described),
            list(step.after.clone()),
            step.undo.as_ref().and_then(|_| list(behind.collect())),
            Some(format!("{}:{}", operation.id, operation.name())),
            Some(step.attempts.to_string()),
            status.as_str().map(str::to_owned),
            Some(operation.created_at.to_string()),
            operation.started_at.map(|at| at.to_string()),
            Some(duration.to_string()),
        ]
    }

    /// One row for each table on each node.
    fn table_rows(&self, sight: Sight<'_>) -> Vec<Row> {
        let mut held: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
        for group in self.state.groups.values() {
            for node in group.members.keys() {
                for shard in group.shards.iter().filter(|shard| sight.sees(shard.table.as_str())) {
                    held.entry((shard.table.as_str(), node.as_str())).or_default().push(shard.number);
                }
            }
        }
        let cluster = |table: &str| {
            let known = TableName::new(table).ok().and_then(|name| self.state.tables.get(&name));
            known.and_then(|known| known.spec.cluster.clone()).unwrap_or_default()
        };
        held.into_iter()
            .map(|((table, node), mut shards)| {
                shards.sort_unstable();
                let shards: Vec<String> = shards.iter().map(ToString::to_string).collect();
                [cluster(table), node.to_owned(), table.to_owned(), shards.join(",")].map(Some).to_vec()
            })
            .collect()
    }
}

/// What a step does, in the words of its command.
fn query(work: &Work) -> String {
    match work {
        Work::Command { action } => described(action),
        Work::Route { tables } => format!("CREATE TABLE {}", joined(tables)),
        Work::Regain { group } => format!("SET CLUSTER {group} GLOBAL 'pc.bootstrap' = 1"),
        Work::DropExited { tables, .. } => format!("DROP TABLE {}", tables.join(", ")).trim().to_owned(),
        other => other.class().to_owned(),
    }
}

fn described(action: &Action) -> String {
    let class = action.class();
    match action {
        Action::AddTables { group, tables } => format!("{class} {group} ADD {}", tables.join(", ")),
        Action::RemoveTables { group, tables } => format!("{class} {group} DROP {}", tables.join(", ")),
        Action::ReturnTables { group, copies } => {
            format!("{class} {group} ADD {}", copies.keys().cloned().collect::<Vec<_>>().join(", "))
        }
        Action::UpdateNodes { group } => format!("{class} {group} UPDATE nodes"),
        Action::JoinCluster { group, at } => format!("{class} {group} AT '{at}'"),
        Action::Bootstrap { group } => format!("{class} {group} GLOBAL 'pc.bootstrap' = 1"),
        Action::MakeDirectory { group }
        | Action::RemoveDirectory { group }
        | Action::CreateCluster { group }
        | Action::ExitCluster { group, .. }
        | Action::DeleteCluster { group, .. } => format!("{class} {group}"),
        Action::CreateTables { tables, .. } | Action::DropTables { tables } => {
            format!("{class} {}", tables.join(", "))
        }
        Action::DropCopies { copies } => {
            format!("{class} {}", copies.keys().cloned().collect::<Vec<_>>().join(", "))
        }
        Action::SetRoutes { routes } => {
            let names: Vec<String> = routes.iter().map(|spec| spec.route.table.to_string()).collect();
            format!("{class} {}", names.join(", "))
        }
        Action::DropRoutes { tables } => format!("{class} {}", joined(tables)),
        Action::AwaitQuiet { .. } => class.to_owned(),
        Action::Truncate { table, .. } | Action::Optimize { table } => format!("{class} TABLE {table}"),
        Action::FlushRamchunk { table } => format!("{class} {table}"),
        Action::EndStock { .. } => format!("{class} {}", model::STOCK_TABLES.join(", ")),
        Action::PutDocuments { table, .. } => format!("{class} {table}"),
    }
}

fn joined(tables: &[TableName]) -> String {
    tables.iter().map(TableName::as_str).collect::<Vec<_>>().join(", ")
}

fn answer(query: &ViewQuery, columns: &[&str], mut found: Vec<Row>) -> Result<StatementReply, String> {
    let place = |name: &str| {
        columns
            .iter()
            .position(|column| column.eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("unknown column: '{name}'; there are {}", columns.join(", ")))
    };
    let conditions: Vec<(usize, &Condition)> = query
        .conditions
        .iter()
        .map(|condition| Ok((place(&condition.column)?, condition)))
        .collect::<Result<_, String>>()?;
    found.retain(|row| conditions.iter().all(|(at, condition)| holds(row[*at].as_deref(), condition)));
    if let Some((column, descending)) = &query.order {
        let at = place(column)?;
        found.sort_by(|a, b| {
            let order = compare(a[at].as_deref().unwrap_or_default(), b[at].as_deref().unwrap_or_default());
            if *descending { order.reverse() } else { order }
        });
    }
    if query.select == Select::Count {
        return Ok(rows(&["count(*)"], vec![vec![Some(found.len().to_string())]]));
    }
    found.truncate(usize::try_from(query.limit.unwrap_or(LIMIT_DEFAULT)).unwrap_or(usize::MAX));
    let wanted: Vec<usize> = match &query.select {
        Select::Columns(names) => names.iter().map(|name| place(name)).collect::<Result<_, _>>()?,
        Select::All | Select::Count => (0..columns.len()).collect(),
    };
    let names: Vec<&str> = wanted.iter().map(|at| columns[*at]).collect();
    let found = found.into_iter().map(|row| wanted.iter().map(|at| row[*at].clone()).collect()).collect();
    Ok(rows(&names, found))
}

/// NULL meets no condition, as in SQL.
fn holds(value: Option<&str>, condition: &Condition) -> bool {
    let Some(value) = value else { return false };
    let order = compare(value, &condition.value);
    match condition.is {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
        Comparison::Like => like(&condition.value, value),
    }
}

fn compare(one: &str, other: &str) -> Ordering {
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one.total_cmp(&other),
        _ => one.cmp(other),
    }
}

/// `%` is any text, `_` any one character. Runs in the product of the lengths at worst.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut in_text, mut again) = (0, 0, None);
    while in_text < text.len() {
        match pattern.get(at) {
            Some('%') => {
                again = Some((at, in_text));
                at += 1;
            }
            Some(one) if *one == '_' || *one == text[in_text] => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((percent, from)) = again else { return false };
                again = Some((percent, from + 1));
                at = percent + 1;
                in_text = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|one| *one == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(texts: &[&str]) -> Row {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    fn query(select: Select) -> ViewQuery {
        ViewQuery { view: View::State, select, conditions: Vec::new(), order: None, limit: None }
    }

    fn condition(column: &str, is: Comparison, value: &str) -> Condition {
        Condition { column: column.to_owned(), is, value: value.to_owned() }
    }

    fn found(query: &ViewQuery) -> Vec<Row> {
        let there = vec![some(&["a:1", "2"]), some(&["a:2", "10"]), vec![Some("b".to_owned()), None]];
        match answer(query, &["key", "value"], there).expect("an answer") {
            StatementReply::Rows { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rows_are_chosen_ordered_and_counted() {
        assert_eq!(found(&query(Select::All)).len(), 3);
        let like = |pattern: &str| ViewQuery {
            conditions: vec![condition("key", Comparison::Like, pattern)],
            ..query(Select::Columns(vec!["VALUE".to_owned()]))
        };
        assert_eq!(found(&like("a:%")), [some(&["2"]), some(&["10"])]);
        assert_eq!(found(&like("_:2")), [some(&["10"])]);
        assert!(found(&like("a")).is_empty());
        let more = |is| ViewQuery { conditions: vec![condition("value", is, "2")], ..query(Select::Count) };
        assert_eq!(found(&more(Comparison::Greater)), [some(&["1"])], "as numbers, and NULL is none");
        assert_eq!(found(&more(Comparison::GreaterOrEqual)), [some(&["2"])]);
        assert_eq!(found(&more(Comparison::NotEqual)), [some(&["1"])]);
        let last = ViewQuery { order: Some(("key".to_owned(), true)), limit: Some(1), ..query(Select::All) };
        assert_eq!(found(&last), [vec![Some("b".to_owned()), None]]);
    }

    #[test]
    fn an_unknown_column_is_named() {
        let wrong = query(Select::Columns(vec!["colour".to_owned()]));
        let error = answer(&wrong, &["key", "value"], Vec::new()).expect_err("refused");
        assert_eq!(error, "unknown column: 'colour'; there are key, value");
    }
}
