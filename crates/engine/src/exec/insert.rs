//! INSERT and REPLACE: rows of constants as documents.

use super::convert::convert;
use super::prepare::WriteSet;
use crate::io::{SqlError, Value};
use crate::sql::ast::{ColumnType, Insert};
use crate::sql::expr::Literal;
use crate::storage::{Change, Row, Storage, TableSchema};
use std::collections::BTreeMap;

/// Where a value of the statement's rows goes.
enum Target {
    Id,
    Column(usize, ColumnType),
}

/// The documents of the statement for a table of this schema, which may be a routing table's: typed, with ids. `ids`
/// makes an id where none (or 0) is given.
pub fn typed_rows(
    insert: &Insert,
    schema: &TableSchema,
    ids: &mut dyn FnMut() -> i64,
) -> Result<Vec<Row>, SqlError> {
    let targets = targets(insert, schema)?;
    let empty: Vec<Value> = schema.columns().iter().map(|column| column.kind.empty()).collect();
    let mut rows = Vec::with_capacity(insert.rows.len());
    for (number, literals) in insert.rows.iter().enumerate() {
        if literals.len() != targets.len() {
            return Err(SqlError::new(format!(
                "column count does not match value count at row {}: {} and {}",
                number + 1,
                targets.len(),
                literals.len()
            )));
        }
        let mut row = Row { id: 0, values: empty.clone() };
        for (at, (literal, target)) in literals.iter().zip(&targets).enumerate() {
            let placed =
                |error: SqlError| SqlError::new(format!("row {}, column {}: {error}", number + 1, at + 1));
            match target {
                Target::Id => row.id = document_id(literal).map_err(placed)?,
                Target::Column(column, kind) => {
                    row.values[*column] = convert(literal, *kind).map_err(placed)?;
                }
            }
        }
        if row.id == 0 {
            row.id = ids();
        }
        rows.push(row);
    }
    Ok(rows)
}

fn targets(insert: &Insert, schema: &TableSchema) -> Result<Vec<Target>, SqlError> {
    let column = |(at, kind)| Target::Column(at, kind);
    let Some(names) = &insert.columns else {
        let all = schema.columns().iter().enumerate().map(|(at, declared)| column((at, declared.kind)));
        return Ok(std::iter::once(Target::Id).chain(all).collect());
    };
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            return Err(SqlError::new(format!("column '{name}' specified twice")));
        }
    }
    names
        .iter()
        .map(|name| match schema.column(name) {
            _ if name == "id" => Ok(Target::Id),
            Some(found) => Ok(column(found)),
            None => Err(SqlError::new(format!("unknown column: '{name}'"))),
        })
        .collect()
}

/// Large ids without sign wrap around, as in searchd; negative ones are refused.
fn document_id(literal: &Literal) -> Result<i64, SqlError> {
    match literal {
        Literal::Int(id) if *id >= 0 => Ok(*id),
        Literal::Int(_) => Err(SqlError::new("Negative document ids are not allowed")),
        Literal::Unsigned(id) => Ok(*id as i64),
        Literal::Null => Ok(0),
        Literal::Text(text) => match text.trim().parse::<u64>() {
            Ok(id) => Ok(id as i64),
            Err(_) => Err(SqlError::new(format!("invalid document id \"{text}\""))),
        },
        Literal::Float(_) | Literal::List(_) => Err(SqlError::new("a document id is a whole number")),
    }
}

/// The write of documents that are already typed, as a routing table sends them to the node of a shard. Without
/// `replace`, an id that the table has is refused; of rows with one id the last wins.
pub fn put_rows(
    table: &str,
    rows: Vec<Row>,
    replace: bool,
    storage: &mut dyn Storage,
) -> Result<WriteSet, SqlError> {
    let Some(schema) = storage.schema(table) else {
        return Err(SqlError::new(format!("table '{table}' absent")));
    };
    if let Some(row) = rows.iter().find(|row| row.values.len() != schema.columns().len()) {
        return Err(SqlError::new(format!(
            "document {} has {} values, table '{table}' has {} columns: the routing table's columns differ from the shard's",
            row.id,
            row.values.len(),
            schema.columns().len()
        )));
    }
    if !replace {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        if let Some(id) = storage.existing(table, &ids)?.first() {
            return Err(SqlError::new(format!("duplicate id '{}'", *id as u64)));
        }
    }
    let affected = rows.len() as u64;
    let mut last: BTreeMap<i64, usize> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        last.insert(row.id, at);
    }
    let rows = if last.len() == rows.len() {
        rows
    } else {
        rows.into_iter()
            .enumerate()
            .filter(|(at, row)| last.get(&row.id) == Some(at))
            .map(|(_, row)| row)
            .collect()
    };
    Ok(WriteSet {
        table: table.to_owned(),
        changes: vec![Change::Put(rows)],
        rows_named: Some(affected),
        blind: replace,
        token: None,
    })
}
