//! One table's database: its layout, and how changes are written.
//!
//! `docs` holds the documents (`id`, then `c0`, `c1`, … by column number), `fts` the words of the indexed fields (`c…`
//! likewise) without their text, `info` the schema, the number of rows and the caller's position. Rows and words
//! change in one transaction.

use super::catalog::{decode, encode};
use super::connect;
use crate::io::Value;
use crate::sql::ast::ColumnType;
use crate::storage::words::fold_into;
use crate::storage::{Change, IdStats, Row, StorageError, TableSchema};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, TransactionBehavior};

#[derive(Debug)]
pub(super) struct TableFile {
    pub(super) name: String,
    pub(super) connection: Connection,
    schema: TableSchema,
    sql: WriteSql,
    rows: u64,
    position: u64,
}

/// The texts of the statements that write; their compiled forms are in the connection's cache.
#[derive(Debug)]
struct WriteSql {
    insert: String,
    overwrite: String,
    /// `None` when no field is indexed.
    index: Option<String>,
    /// Numbers of the indexed columns.
    fields: Vec<usize>,
    /// Whether each column's value is kept.
    stored: Vec<bool>,
}

impl WriteSql {
    fn new(schema: &TableSchema) -> Self {
        let count = schema.columns().len();
        let sets: Vec<String> = (0..count).map(|at| format!("c{at}=?{}", at + 2)).collect();
        let fields: Vec<usize> = schema.fields().map(|(at, _)| at).collect();
        let index = (!fields.is_empty()).then(|| {
            let columns: Vec<String> = fields.iter().map(|at| format!("c{at}")).collect();
            format!("INSERT INTO fts(rowid, {}) VALUES ({})", columns.join(", "), marks(fields.len() + 1))
        });
        let stored = schema
            .columns()
            .iter()
            .map(|column| !matches!(column.kind, ColumnType::Text { stored: false, .. }))
            .collect();
        Self {
            insert: format!("INSERT OR IGNORE INTO docs VALUES ({})", marks(count + 1)),
            // Without columns there is nothing to overwrite, only the document's being there.
            overwrite: format!("UPDATE docs SET {} WHERE id=?1", or(&sets.join(", "), "id=id")),
            index,
            fields,
            stored,
        }
    }
}

/// `?1, ?2, …`
fn marks(count: usize) -> String {
    (1..=count).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ")
}

fn or<'a>(text: &'a str, empty: &'a str) -> &'a str {
    if text.is_empty() { empty } else { text }
}

/// The statements that make an empty table.
fn layout(schema: &TableSchema) -> String {
    let mut columns = vec!["id INTEGER PRIMARY KEY".to_owned()];
    for (at, column) in schema.columns().iter().enumerate() {
        // Strings compare without case, as searchd's default collation does.
        let collation = if column.kind == ColumnType::String { " COLLATE NOCASE" } else { "" };
        columns.push(format!("c{at}{collation}"));
    }
    let fields: Vec<String> = schema.fields().map(|(at, _)| format!("c{at}")).collect();
    let words = if fields.is_empty() {
        String::new()
    } else {
        // The text is folded before it comes here, so the simplest tokenizer will do.
        format!(
            "CREATE VIRTUAL TABLE fts USING fts5({}, content='', contentless_delete=1, \
             tokenize=\"ascii tokenchars '_'\"); \
             CREATE VIRTUAL TABLE words USING fts5vocab(fts, instance);",
            fields.join(", ")
        )
    };
    format!(
        "CREATE TABLE info(schema TEXT NOT NULL, rows INTEGER NOT NULL, position INTEGER NOT NULL); \
         CREATE TABLE docs({}); {words}",
        columns.join(", ")
    )
}

impl TableFile {
    fn failed(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> StorageError {
        StorageError::failed(action, format!("table '{}'", self.name))
    }

    pub(super) fn create(
        name: &str,
        connection: Connection,
        schema: &TableSchema,
    ) -> Result<Self, StorageError> {
        let text = encode(schema)?;
        let make = |connection: &Connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            connection.execute_batch(&layout(schema))?;
            connection.execute("INSERT INTO info VALUES (?1, 0, 0)", [text])?;
            connection.execute_batch("COMMIT")?;
            connect::set_durable(connection)
        };
        make(&connection).map_err(StorageError::failed("create", format!("table '{name}'")))?;
        Self::open(name, connection, schema.clone())
    }

    pub(super) fn open(
        name: &str,
        connection: Connection,
        schema: TableSchema,
    ) -> Result<Self, StorageError> {
        let (rows, position) = connection
            .query_row("SELECT rows, position FROM info", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(StorageError::failed("open", format!("table '{name}'")))?;
        let sql = WriteSql::new(&schema);
        Ok(Self { name: name.to_owned(), connection, schema, sql, rows, position })
    }

    /// A table that came from another node, by the schema it brings along.
    pub(super) fn received(name: &str, connection: Connection) -> Result<Self, StorageError> {
        let damaged =
            |detail: String| StorageError::Damaged { place: format!("the received table '{name}'"), detail };
        let text: String = connection
            .query_row("SELECT schema FROM info", [], |row| row.get(0))
            .map_err(|error| damaged(error.to_string()))?;
        let schema = decode(name, &text)?;
        let table = Self::open(name, connection, schema)?;
        let found: u64 = table
            .connection
            .query_row("SELECT COUNT(*) FROM docs", [], |row| row.get(0))
            .map_err(|error| damaged(error.to_string()))?;
        if found != table.rows {
            return Err(damaged(format!("it has {found} documents and should have {}", table.rows)));
        }
        Ok(table)
    }

    pub(super) const fn schema(&self) -> &TableSchema {
        &self.schema
    }

    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn write(&mut self, changes: &[Change], position: Option<u64>) -> Result<u64, StorageError> {
        let position = position.unwrap_or(self.position);
        let place = format!("table '{}'", self.name);
        let (affected, rows) = write(&mut self.connection, &self.sql, self.rows, changes, position)
            .map_err(StorageError::failed("write to", place))?;
        (self.rows, self.position) = (rows, position);
        Ok(affected)
    }

    pub(super) fn existing(&self, ids: &[i64]) -> Result<Vec<i64>, StorageError> {
        let find = || {
            let mut statement = self.connection.prepare_cached("SELECT 1 FROM docs WHERE id=?1")?;
            let mut found = Vec::new();
            for id in ids {
                if statement.exists([id])? {
                    found.push(*id);
                }
            }
            Ok(found)
        };
        find().map_err(self.failed("read"))
    }

    pub(super) fn id_stats(&self) -> Result<IdStats, StorageError> {
        self.connection
            .prepare_cached(
                "SELECT COALESCE(wrap_sum(id), 0), COALESCE(MIN(id), 0), COALESCE(MAX(id), 0) FROM docs",
            )
            .and_then(|mut statement| {
                statement.query_row([], |row| {
                    Ok(IdStats { rows: self.rows, sum: row.get(0)?, min: row.get(1)?, max: row.get(2)? })
                })
            })
            .map_err(self.failed("read"))
    }

    /// FNV-1a over 128 bits: of all documents by id, each value with its kind and length, so that no two tables of
    /// different content share a byte sequence.
    pub(super) fn checksum(&self) -> Result<u128, StorageError> {
        let read = || {
            let mut hash = Fnv::new();
            let mut statement = self.connection.prepare("SELECT * FROM docs ORDER BY id")?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                for at in 0..columns {
                    hash.value(row.get_ref(at)?);
                }
            }
            Ok(hash.0)
        };
        read().map_err(self.failed("read"))
    }

    /// Fills this empty table from one with other columns.
    pub(super) fn copy_from(&mut self, source: &mut Self, before: &TableSchema) -> Result<(), StorageError> {
        /// Documents written at once: bounds memory.
        const BATCH: usize = 500;
        let columns: Vec<(Option<usize>, ColumnType)> = self
            .schema
            .columns()
            .iter()
            .map(|column| {
                let same = before.column(&column.name).filter(|(_, kind)| *kind == column.kind);
                (same.map(|(at, _)| at), column.kind)
            })
            .collect();
        let failed = StorageError::failed("read", format!("table '{}'", source.name));
        let position = source.position;
        let mut read = || -> rusqlite::Result<Result<(), StorageError>> {
            let mut statement = source.connection.prepare("SELECT * FROM docs ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut batch = Vec::with_capacity(BATCH);
            while let Some(row) = rows.next()? {
                let mut values = Vec::with_capacity(columns.len());
                for (at, kind) in &columns {
                    values.push(match at {
                        Some(at) => value(row.get_ref(at + 1)?),
                        None => kind.empty(),
                    });
                }
                batch.push(Row { id: row.get(0)?, values });
                if batch.len() == BATCH {
                    let full = std::mem::take(&mut batch);
                    if let Err(error) = self.write(&[Change::Put(full)], Some(position)) {
                        return Ok(Err(error));
                    }
                }
            }
            Ok(self.write(&[Change::Put(batch)], Some(position)).map(|_| ()))
        };
        read().map_err(failed)?
    }
}

/// Applies the changes in one transaction: how many documents they touched, and how many there are now.
fn write(
    connection: &mut Connection,
    sql: &WriteSql,
    rows: u64,
    changes: &[Change],
    position: u64,
) -> rusqlite::Result<(u64, u64)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut affected, mut rows) = (0, rows);
    for change in changes {
        let touched = match change {
            Change::Put(put) => {
                rows += put_rows(&transaction, sql, put)?;
                put.len() as u64
            }
            Change::Delete(ids) => {
                let deleted = delete(&transaction, sql, ids)?;
                rows -= deleted;
                deleted
            }
            Change::Update { ids, assignments } => update(&transaction, ids, assignments)?,
            Change::Truncate => {
                transaction.execute_batch("DELETE FROM docs")?;
                if sql.index.is_some() {
                    transaction.execute_batch("INSERT INTO fts(fts) VALUES ('delete-all')")?;
                }
                std::mem::take(&mut rows)
            }
        };
        affected += touched;
    }
    transaction.prepare_cached("UPDATE info SET rows=?1, position=?2")?.execute([rows, position])?;
    transaction.commit()?;
    Ok((affected, rows))
}

/// Writes whole documents: how many of them are new.
fn put_rows(connection: &Connection, sql: &WriteSql, rows: &[Row]) -> rusqlite::Result<u64> {
    let mut insert = connection.prepare_cached(&sql.insert)?;
    let mut index = sql.index.as_deref().map(|text| connection.prepare_cached(text)).transpose()?;
    let mut folded = String::new();
    let mut added = 0;
    for row in rows {
        bind(&mut insert, sql, row)?;
        if insert.raw_execute()? == 1 {
            added += 1;
        } else {
            let mut overwrite = connection.prepare_cached(&sql.overwrite)?;
            bind(&mut overwrite, sql, row)?;
            overwrite.raw_execute()?;
            if index.is_some() {
                connection.prepare_cached("DELETE FROM fts WHERE rowid=?1")?.execute([row.id])?;
            }
        }
        if let Some(index) = &mut index {
            index.raw_bind_parameter(1, row.id)?;
            for (at, column) in sql.fields.iter().enumerate() {
                folded.clear();
                if let Some(Value::Text(text)) = row.values.get(*column) {
                    fold_into(text, &mut folded);
                }
                index.raw_bind_parameter(at + 2, folded.as_str())?;
            }
            index.raw_execute()?;
        }
    }
    Ok(added)
}

fn bind(statement: &mut CachedStatement<'_>, sql: &WriteSql, row: &Row) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(1, row.id)?;
    for (at, (value, stored)) in row.values.iter().zip(&sql.stored).enumerate() {
        statement.raw_bind_parameter(at + 2, Bound(if *stored { value } else { &Value::Null }))?;
    }
    Ok(())
}

fn delete(connection: &Connection, sql: &WriteSql, ids: &[i64]) -> rusqlite::Result<u64> {
    let mut docs = connection.prepare_cached("DELETE FROM docs WHERE id=?1")?;
    let mut deleted = 0;
    for id in ids {
        if docs.execute([id])? == 1 {
            deleted += 1;
            if sql.index.is_some() {
                connection.prepare_cached("DELETE FROM fts WHERE rowid=?1")?.execute([id])?;
            }
        }
    }
    Ok(deleted)
}

fn update(connection: &Connection, ids: &[i64], assignments: &[(u32, Value)]) -> rusqlite::Result<u64> {
    let sets: Vec<String> =
        assignments.iter().enumerate().map(|(at, (column, _))| format!("c{column}=?{}", at + 2)).collect();
    let sql = format!("UPDATE docs SET {} WHERE id=?1", or(&sets.join(", "), "id=id"));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut updated = 0;
    for id in ids {
        statement.raw_bind_parameter(1, id)?;
        for (at, (_, value)) in assignments.iter().enumerate() {
            statement.raw_bind_parameter(at + 2, Bound(value))?;
        }
        updated += statement.raw_execute()? as u64;
    }
    Ok(updated)
}

/// A value on its way into SQLite.
pub(super) struct Bound<'a>(pub &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Float(value) => ValueRef::Real(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// A value on its way out. Blobs are never written.
pub(super) fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Float(value),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            Value::Text(String::from_utf8_lossy(text).into_owned())
        }
    }
}

struct Fnv(u128);

impl Fnv {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.bytes(&[0]),
            ValueRef::Integer(value) => {
                self.bytes(&[1]);
                self.bytes(&value.to_le_bytes());
            }
            ValueRef::Real(value) => {
                self.bytes(&[2]);
                self.bytes(&value.to_bits().to_le_bytes());
            }
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                self.bytes(&[3]);
                self.bytes(&(bytes.len() as u64).to_le_bytes());
                self.bytes(bytes);
            }
        }
    }
}
