//! SELECT over this node's tables, with searchd's habits: LIMIT 20 where none is said, and no more than `max_matches`
//! documents however many there are.

use super::eval::eval;
use super::merge::{merge, shard_select};
use super::resolve::{self, Columns};
use crate::io::{Column, ColumnKind, ResultSet, SqlError, Value};
use crate::sql::ast::{ColumnType, Limit, Select, SelectItem};
use crate::sql::expr::{Expr, Literal};
use crate::sql::search::{SearchQuery, parse_search};
use crate::storage::{Order, Query, Search, Storage, TableSchema};

const LIMIT_DEFAULT: u64 = 20;
const MAX_MATCHES_DEFAULT: u64 = 1000;

/// What a connection knows beside tables.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// `VERSION()`
    pub version: &'a str,
    /// `CONNECTION_ID()`
    pub connection: u64,
    /// The value of `@@name` (in lower case).
    pub variable: &'a dyn Fn(&str) -> Option<Value>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Which of the documents found are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub offset: u64,
    pub count: u64,
    pub max_matches: u64,
}

/// `SELECT` without FROM: one row of constants, variables and functions of the session.
pub fn select_constants(select: &Select, session: &Session<'_>) -> Result<ResultSet, SqlError> {
    let known = |expr: &Expr| match expr {
        Expr::Variable(name) => (session.variable)(name),
        Expr::Call { function, arguments } if arguments.is_empty() => match function.as_str() {
            "version" => Some(Value::Text(session.version.to_owned())),
            "connection_id" => Some(Value::Int(session.connection as i64)),
            "database" | "schema" => Some(Value::Text("Manticore".to_owned())),
            _ => None,
        },
        _ => None,
    };
    let mut result = ResultSet { total: 1, ..ResultSet::default() };
    let mut row = Vec::with_capacity(select.items.len());
    for item in &select.items {
        let SelectItem::Expr { expr, name } = item else {
            return Err(SqlError::new("a SELECT of '*' needs a table"));
        };
        if let Expr::Variable(name) = expr
            && known(expr).is_none()
        {
            return Err(SqlError::new(format!("unknown system variable '{name}'")));
        }
        if let Expr::Column(name) = expr {
            return Err(SqlError::new(format!("unknown column: '{name}'")));
        }
        let value = eval(expr, &known)?;
        let kind = match (&value, expr) {
            (_, Expr::Literal(literal)) => resolve::literal_kind(literal),
            (Value::Int(value), _) => resolve::literal_kind(&Literal::Int(*value)),
            (Value::Float(_), _) => ColumnKind::Double,
            _ => ColumnKind::Text,
        };
        result.columns.push(Column { name: name.clone(), kind });
        row.push(value);
    }
    result.rows.push(row);
    Ok(result)
}

/// Answers from this node's own tables; several are read as one.
pub fn select(select: &Select, storage: &mut dyn Storage) -> Result<ResultSet, SqlError> {
    let missing: Vec<&str> =
        select.from.iter().map(String::as_str).filter(|table| storage.schema(table).is_none()).collect();
    if !missing.is_empty() {
        return Err(SqlError::new(format!(
            "unknown local table(s) '{}' in search request",
            missing.join(",")
        )));
    }
    match select.from.as_slice() {
        [] => Err(SqlError::new("a SELECT over documents needs a table")),
        [table] => select_one(select, table, storage),
        several => {
            let mut part = shard_select(select)?;
            let mut parts = Vec::with_capacity(several.len());
            for table in several {
                part.from = vec![table.clone()];
                parts.push(select_one(&part, table, storage)?);
            }
            merge(select, parts)
        }
    }
}

fn select_one(select: &Select, table: &str, storage: &mut dyn Storage) -> Result<ResultSet, SqlError> {
    let Some(schema) = storage.schema(table) else {
        return Err(SqlError::new(format!("unknown local table(s) '{table}' in search request")));
    };
    let window = window(select)?;
    let search = select.matching.as_deref().map(parse_search).transpose()?;
    let plan = Plan::new(select, table, &schema)?;
    let query = plan.query(search.as_ref(), is_ranked(select)?, window);
    let rows = storage.query(table, &query)?;
    let read = rows.len() as u64;
    let cut = read == window.count || (read == 0 && window.offset > 0);
    let total = if cut { storage.count(table, &query, window.max_matches)? } else { window.offset + read };
    Ok(ResultSet { columns: plan.columns, rows, total, warning: String::new() })
}

/// A SELECT whose names are understood.
struct Plan {
    columns: Vec<Column>,
    output: Vec<Expr>,
    filter: Option<Expr>,
    grouped: bool,
    group_by: Vec<Expr>,
    order_by: Vec<(Expr, bool)>,
}

impl Plan {
    fn new(select: &Select, table: &str, schema: &TableSchema) -> Result<Self, SqlError> {
        let named = output(select, table, schema)?;
        let columns = Columns::new(table, schema, &named);
        let group_by =
            select.group_by.iter().map(|key| resolve::group(key, &columns)).collect::<Result<Vec<_>, _>>()?;
        let filter = select.filter.as_ref().map(|filter| resolve::filter(filter, &columns)).transpose()?;
        let mut order_by = Vec::with_capacity(select.order_by.len() + 1);
        for order in &select.order_by {
            order_by.push((resolve::order(&order.expr, &columns)?, order.descending));
        }
        let grouped = !group_by.is_empty() || named.iter().any(|(_, expr)| expr.has_aggregate());
        if select.order_by.is_empty() && select.matching.is_some() && !grouped {
            order_by.push((Expr::Weight, true));
        }
        let described =
            |(name, expr): &(String, Expr)| Column { name: name.clone(), kind: resolve::kind(expr, schema) };
        let columns = named.iter().map(described).collect();
        let output = named.into_iter().map(|(_, expr)| expr).collect();
        Ok(Self { columns, output, filter, grouped, group_by, order_by })
    }

    fn query<'a>(&'a self, search: Option<&'a SearchQuery>, ranked: bool, window: Window) -> Query<'a> {
        Query {
            output: self.output.iter().collect(),
            filter: self.filter.as_ref(),
            search: search.map(|query| Search { query, ranked }),
            grouped: self.grouped,
            group_by: self.group_by.iter().collect(),
            order_by: self
                .order_by
                .iter()
                .map(|(expr, descending)| Order { expr, descending: *descending })
                .collect(),
            offset: window.offset,
            limit: Some(window.count),
        }
    }
}

/// The select list with `*` spelled out, each with its name.
fn output(select: &Select, table: &str, schema: &TableSchema) -> Result<Vec<(String, Expr)>, SqlError> {
    let mut list: Vec<(String, Expr)> = Vec::with_capacity(select.items.len());
    for item in &select.items {
        match item {
            SelectItem::All => {
                let stored = schema
                    .columns()
                    .iter()
                    .filter(|column| !matches!(column.kind, ColumnType::Text { stored: false, .. }));
                let names = std::iter::once("id").chain(stored.map(|column| column.name.as_str()));
                list.extend(names.map(|name: &str| (name.to_owned(), Expr::Column(name.to_owned()))));
            }
            SelectItem::Expr { expr, name } => {
                let resolved = resolve::output(expr, &Columns::new(table, schema, &list))?;
                list.push((name.clone(), resolved));
            }
        }
    }
    Ok(list)
}

/// The whole number that OPTION gives for `name`.
fn option(select: &Select, name: &str) -> Result<Option<u64>, SqlError> {
    match select.options.iter().find(|(option, _)| option == name) {
        None => Ok(None),
        Some((_, Literal::Int(value))) if *value > 0 => Ok(Some(*value as u64)),
        Some(_) => Err(SqlError::new(format!("option '{name}' must be a whole number above 0"))),
    }
}

pub(super) fn window(select: &Select) -> Result<Window, SqlError> {
    let max_matches = option(select, "max_matches")?.unwrap_or(MAX_MATCHES_DEFAULT);
    let Limit { offset, count } = select.limit.unwrap_or(Limit { offset: 0, count: LIMIT_DEFAULT });
    if offset >= max_matches {
        return Err(SqlError::new(format!(
            "offset out of bounds (offset={offset}, max_matches={max_matches})"
        )));
    }
    Ok(Window { offset, count: count.min(max_matches - offset), max_matches })
}

/// Options that change nothing here: they tune searchd's work, not its answer.
const IDLE_OPTIONS: [&str; 12] = [
    "accurate_aggregation",
    "agent_query_timeout",
    "boolean_simplify",
    "comment",
    "distinct_precision_threshold",
    "low_priority",
    "max_predicted_time",
    "max_query_time",
    "retry_count",
    "retry_delay",
    "sort_method",
    "threads",
];

/// Whether documents are weighed. Options that would change the answer in a way this engine does not have are refused.
fn is_ranked(select: &Select) -> Result<bool, SqlError> {
    let mut ranked = true;
    for (name, value) in &select.options {
        match (name.as_str(), value) {
            ("max_matches", _) => {}
            ("ranker", Literal::Text(name)) if name == "proximity_bm25" => ranked = true,
            ("ranker", Literal::Text(name)) if name == "none" => ranked = false,
            ("ranker", _) => {
                return Err(SqlError::new("this engine ranks by proximity_bm25 or none, no other ranker"));
            }
            (idle, _) if IDLE_OPTIONS.contains(&idle) => {}
            (other, _) => return Err(SqlError::new(format!("unknown option '{other}'"))),
        }
    }
    Ok(ranked)
}
