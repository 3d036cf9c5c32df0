//! Queries: one SQLite statement each, after the words have been looked up and weighed.

use super::table::{TableFile, value};
use super::translate::Translator;
use super::{rank, search};
use crate::io::Value;
use crate::sql::expr::{Aggregate, Expr};
use crate::sql::search::SearchQuery;
use crate::storage::{Query, StorageError};
use rusqlite::{Connection, ToSql, params_from_iter};
use std::fmt::Write;

/// Longer statements (lists of thousands of ids) are compiled once and not kept.
const CACHED_BYTES_MAX: usize = 4096;

impl TableFile {
    pub(super) fn query(&self, query: &Query<'_>) -> Result<Vec<Vec<Value>>, StorageError> {
        if let Some(counted) = self.known_count(query) {
            return Ok(counted);
        }
        let source = self.source(query)?;
        let mut translator = Translator::new(self.schema(), source.weight());
        let output = output(query, &mut translator)?;
        let tail = source.tail(query, &mut translator)?;
        let mut sql = format!("SELECT {output} {tail}");
        sql.push_str(&order(query, &mut translator)?);
        if query.offset > 0 || query.limit.is_some() {
            let limit = query.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
            let limit = translator.parameter(limit.into());
            let offset = i64::try_from(query.offset).unwrap_or(i64::MAX);
            let offset = translator.parameter(offset.into());
            let _ = write!(sql, " LIMIT {limit} OFFSET {offset}");
        }
        let width = query.output.len();
        read(&self.connection, &sql, &translator.parameters, width).map_err(self.cannot_read())
    }

    pub(super) fn count(&self, query: &Query<'_>, limit: u64) -> Result<u64, StorageError> {
        if query.filter.is_none() && query.search.is_none() && !query.grouped {
            return Ok(self.rows().min(limit));
        }
        let source = self.source(query)?;
        let mut translator = Translator::new(self.schema(), source.weight());
        let tail = source.tail(query, &mut translator)?;
        let limit = translator.parameter(i64::try_from(limit).unwrap_or(i64::MAX).into());
        let one = if query.grouped { "MIN(docs.id)" } else { "1" };
        let sql = format!("SELECT COUNT(*) FROM (SELECT {one} {tail} LIMIT {limit})");
        let rows = read(&self.connection, &sql, &translator.parameters, 1).map_err(self.cannot_read())?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Int(count)) => Ok(*count as u64),
            _ => Ok(0),
        }
    }

    fn cannot_read(&self) -> impl FnOnce(rusqlite::Error) -> StorageError {
        StorageError::failed("read", format!("table '{}'", self.name))
    }

    /// `COUNT(*)` of all documents is known without looking.
    fn known_count(&self, query: &Query<'_>) -> Option<Vec<Vec<Value>>> {
        let counts = query.output.iter().all(|expr| matches!(expr, Expr::Aggregate(Aggregate::Count)));
        let all = query.filter.is_none() && query.search.is_none() && query.group_by.is_empty();
        let whole = query.offset == 0 && query.limit != Some(0);
        (counts && all && whole && query.grouped)
            .then(|| vec![vec![Value::Int(self.rows() as i64); query.output.len()]])
    }

    /// Finds the documents of the query's search, and weighs them when weights are asked for.
    fn source(&self, query: &Query<'_>) -> Result<Source, StorageError> {
        let Some(search) = query.search.filter(|search| *search.query != SearchQuery::Everything) else {
            return Ok(Source::All);
        };
        if self.schema().fields().next().is_none() {
            return Err(StorageError::Refused(format!(
                "query error: table '{}' has no full-text field to match",
                self.name
            )));
        }
        let Some(expression) = search::expression(search.query, self.schema())? else {
            return Ok(Source::Nothing);
        };
        if !search.ranked || !query.uses_weight() {
            return Ok(Source::Matching(expression));
        }
        let find = || {
            let mut statement =
                self.connection.prepare_cached("SELECT rowid FROM fts WHERE fts MATCH ?1 ORDER BY rowid")?;
            statement.query_map([&expression], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
        };
        let ids = find().map_err(self.cannot_read())?;
        let weights = rank::weights(self, search.query, &ids)?;
        fill_hits(&self.connection, &ids, &weights).map_err(self.cannot_read())?;
        Ok(Source::Ranked)
    }
}

/// Puts found documents where the statement can join them; in memory, of this connection alone.
fn fill_hits(connection: &Connection, ids: &[i64], weights: &[i64]) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS hits(id INTEGER PRIMARY KEY, weight INTEGER NOT NULL); BEGIN; DELETE FROM hits",
    )?;
    let mut insert = connection.prepare_cached("INSERT INTO hits VALUES (?1, ?2)")?;
    for row in ids.iter().zip(weights) {
        insert.execute([row.0, row.1])?;
    }
    connection.execute_batch("COMMIT")
}

/// Where the documents come from.
enum Source {
    All,
    Nothing,
    /// Those of an FTS5 expression.
    Matching(String),
    /// Those in `hits`.
    Ranked,
}

impl Source {
    const fn weight(&self) -> &'static str {
        match self {
            Self::Ranked => "hits.weight",
            Self::All | Self::Nothing | Self::Matching(_) => "1",
        }
    }

    /// From FROM to GROUP BY.
    fn tail(&self, query: &Query<'_>, translator: &mut Translator<'_>) -> Result<String, StorageError> {
        let mut conditions = Vec::new();
        let from = match self {
            Self::All => "FROM docs",
            Self::Nothing => {
                conditions.push("0".to_owned());
                "FROM docs"
            }
            Self::Matching(expression) => {
                let expression = translator.parameter(expression.clone().into());
                conditions.push(format!("docs.id IN (SELECT rowid FROM fts WHERE fts MATCH {expression})"));
                "FROM docs"
            }
            Self::Ranked => "FROM hits CROSS JOIN docs ON docs.id = hits.id",
        };
        if let Some(filter) = query.filter {
            conditions.push(translator.expr(filter)?);
        }
        let mut tail = from.to_owned();
        if !conditions.is_empty() {
            let _ = write!(tail, " WHERE {}", conditions.join(" AND "));
        }
        if !query.group_by.is_empty() {
            let keys: Vec<String> =
                query.group_by.iter().map(|key| translator.expr(key)).collect::<Result<_, _>>()?;
            let _ = write!(tail, " GROUP BY {}", keys.join(", "));
        }
        Ok(tail)
    }
}

fn output<'a>(query: &Query<'a>, translator: &mut Translator<'a>) -> Result<String, StorageError> {
    let mut output = Vec::with_capacity(query.output.len() + 1);
    for expr in &query.output {
        output.push(if query.grouped {
            translator.of_group(expr, &query.group_by)?
        } else {
            translator.expr(expr)?
        });
    }
    Ok(output.join(", "))
}

fn order<'a>(query: &Query<'a>, translator: &mut Translator<'a>) -> Result<String, StorageError> {
    let mut keys = Vec::with_capacity(query.order_by.len() + 1);
    for order in &query.order_by {
        // A bare number would be a column's place.
        let key = if query.grouped {
            translator.of_group(order.expr, &query.group_by)?
        } else {
            translator.expr(order.expr)?
        };
        keys.push(format!("({key}){}", if order.descending { " DESC" } else { "" }));
    }
    keys.push(if query.grouped { "MIN(docs.id)" } else { "docs.id" }.to_owned());
    Ok(format!(" ORDER BY {}", keys.join(", ")))
}

fn read(
    connection: &Connection,
    sql: &str,
    parameters: &[rusqlite::types::Value],
    width: usize,
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let parameters = || params_from_iter(parameters.iter().map(|value| value as &dyn ToSql));
    let collect = |mut rows: rusqlite::Rows<'_>| {
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push((0..width).map(|at| row.get_ref(at).map(value)).collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok(all)
    };
    if sql.len() > CACHED_BYTES_MAX {
        collect(connection.prepare(sql)?.query(parameters())?)
    } else {
        collect(connection.prepare_cached(sql)?.query(parameters())?)
    }
}
