//! Writes in two steps: decide, then do.

use super::convert::convert;
use super::insert::{put_rows, typed_rows};
use super::resolve::{self, Columns};
use crate::io::{SqlError, Value};
use crate::routing::Token;
use crate::sql::Statement;
use crate::sql::ast::{ColumnType, Delete, Update};
use crate::sql::expr::Expr;
use crate::sql::search::{SearchQuery, parse_search};
use crate::storage::{Change, Query, Storage, TableSchema};
use serde::{Deserialize, Serialize};

/// What a statement will do to one table, decided: the ids and values are fixed, so that every copy of the table ends
/// alike, and applying it again changes nothing more. Duplicates were looked for when it was made; a row that came
/// since is overwritten, as on a real replicated table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriteSet {
    pub table: String,
    pub changes: Vec<Change>,
    /// How many documents the client wrote, where that is not what the changes touch.
    pub rows_named: Option<u64>,
    /// What it writes depends on nothing that was read: whole documents, whatever was there.
    #[serde(skip)]
    pub blind: bool,
    /// Names the attempt of a routing table that it carries out, so that a second attempt can tell.
    pub token: Option<Token>,
}

impl WriteSet {
    /// The ids it writes, for certification; `None` means the whole table.
    pub fn ids(&self) -> Option<Vec<i64>> {
        let mut all = Vec::new();
        for change in &self.changes {
            all.extend(change.ids()?);
        }
        Some(all)
    }

    /// Adds a later write to the same table, as a transaction does.
    pub fn append(&mut self, later: Self) {
        self.rows_named = self.rows_named.zip(later.rows_named).map(|(a, b)| a + b);
        self.changes.extend(later.changes);
        self.blind &= later.blind;
    }
}

/// Decides what INSERT, REPLACE, UPDATE, DELETE or TRUNCATE will do to its table. `ids` makes automatic ids.
pub fn prepare(
    statement: &Statement,
    storage: &mut dyn Storage,
    ids: &mut dyn FnMut() -> i64,
) -> Result<WriteSet, SqlError> {
    match statement {
        Statement::Insert(insert) => {
            let table = &insert.table.name;
            let Some(schema) = storage.schema(table) else {
                return Err(SqlError::new(format!("table '{table}' absent")));
            };
            let rows = typed_rows(insert, &schema, ids)?;
            put_rows(table, rows, insert.replace, storage)
        }
        Statement::Update(update) => prepare_update(update, storage),
        Statement::Delete(delete) => prepare_delete(delete, storage),
        Statement::Truncate(table) => {
            if storage.schema(&table.name).is_none() {
                return Err(SqlError::new("TRUNCATE RTINDEX requires an existing RT table"));
            }
            // searchd does not count what it empties.
            Ok(WriteSet {
                table: table.name.clone(),
                changes: vec![Change::Truncate],
                rows_named: Some(0),
                blind: false,
                token: None,
            })
        }
        _ => Err(SqlError::new("this statement writes no documents")),
    }
}

/// Does it; `position` is kept with the rows (see [`Storage::position`]). Returns how many documents the client is told of.
pub fn apply(write: &WriteSet, storage: &mut dyn Storage, position: Option<u64>) -> Result<u64, SqlError> {
    let touched = storage.write(&write.table, &write.changes, position)?;
    Ok(write.rows_named.unwrap_or(touched))
}

fn prepare_update(update: &Update, storage: &mut dyn Storage) -> Result<WriteSet, SqlError> {
    let table = &update.table.name;
    let Some(schema) = storage.schema(table) else {
        return Err(SqlError::new(format!("unknown table '{table}' in update request")));
    };
    let assignments = assignments(update, &schema)?;
    let ids = matching_ids(table, &schema, update.filter.as_ref(), update.matching.as_deref(), storage)?;
    let changes = vec![Change::Update { ids, assignments }];
    Ok(WriteSet { table: table.clone(), changes, rows_named: None, blind: false, token: None })
}

fn assignments(update: &Update, schema: &TableSchema) -> Result<Vec<(u32, Value)>, SqlError> {
    let mut assignments = Vec::with_capacity(update.assignments.len());
    for (name, literal) in &update.assignments {
        match schema.column(name) {
            Some((_, ColumnType::Text { .. })) => {
                return Err(SqlError::new(format!(
                    "attribute '{name}' can not be updated (full-text field)"
                )));
            }
            Some((at, kind)) => {
                let value = convert(literal, kind)
                    .map_err(|error| SqlError::new(format!("attribute '{name}': {error}")))?;
                assignments.push((at as u32, value));
            }
            None if name == "id" => {
                return Err(SqlError::new("'id' attribute cannot be updated"));
            }
            None => return Err(SqlError::new(format!("attribute '{name}' not found"))),
        }
    }
    Ok(assignments)
}

fn prepare_delete(delete: &Delete, storage: &mut dyn Storage) -> Result<WriteSet, SqlError> {
    let table = &delete.table.name;
    let Some(schema) = storage.schema(table) else {
        return Err(SqlError::new(format!("unknown table '{table}' in delete request")));
    };
    let ids = matching_ids(table, &schema, delete.filter.as_ref(), delete.matching.as_deref(), storage)?;
    Ok(WriteSet {
        table: table.clone(),
        changes: vec![Change::Delete(ids)],
        rows_named: None,
        blind: false,
        token: None,
    })
}

fn matching_ids(
    table: &str,
    schema: &TableSchema,
    filter: Option<&Expr>,
    matching: Option<&str>,
    storage: &mut dyn Storage,
) -> Result<Vec<i64>, SqlError> {
    let columns = Columns::new(table, schema, &[]);
    let filter = filter.map(|filter| resolve::filter(filter, &columns)).transpose()?;
    let search: Option<SearchQuery> = matching.map(parse_search).transpose()?;
    let id = Expr::Column("id".to_owned());
    let rows = storage.query(table, &Query::ids(filter.as_ref(), search.as_ref(), &id))?;
    Ok(rows
        .into_iter()
        .filter_map(|row| if let Some(Value::Int(id)) = row.first() { Some(*id) } else { None })
        .collect())
}
