//! One SELECT over several tables or shards: what to ask each, and how the answers become one.
//!
//! Rows without aggregates carry hidden columns to sort by. Aggregates travel as parts that can be put together: counts,
//! sums, extremes; groups are split by the arguments of COUNT(DISTINCT), so that it is exact.

use super::eval::{compare, eval};
use super::resolve::kind_of;
use super::select::window;
use crate::io::{Column, ColumnKind, ResultSet, SqlError, Value};
use crate::sql::ast::{Limit, OrderBy, Select, SelectItem};
use crate::sql::expr::{Aggregate, Expr, Literal};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Groups taken from one shard. More would make the answer wrong in silence, so the statement fails.
const GROUPS_MAX: u64 = 1_000_000;

/// The statement for each shard. Its `from` is the caller's to set; its answer is for [`merge`] alone.
pub fn shard_select(select: &Select) -> Result<Select, SqlError> {
    let shape = Shape::new(select);
    let window = window(select)?;
    let wanted = if shape.grouped { GROUPS_MAX } else { window.offset + window.count };
    let mut part = select.clone();
    part.limit = Some(Limit { offset: 0, count: wanted });
    part.options.retain(|(name, _)| name != "max_matches");
    let max_matches = wanted.max(window.max_matches);
    part.options
        .push(("max_matches".to_owned(), Literal::Int(i64::try_from(max_matches).unwrap_or(i64::MAX))));
    if shape.grouped {
        if select.items.contains(&SelectItem::All) {
            return Err(SqlError::new(
                "'*' beside aggregates is not supported over several tables: name the columns",
            ));
        }
        part.items = shape.parts().map(hidden).collect();
        part.group_by.clone_from(&shape.keys);
        part.order_by = Vec::new();
    } else {
        part.items.extend(shape.order.iter().map(|(expr, _)| hidden(expr)));
        part.order_by = shape
            .order
            .iter()
            .map(|(expr, descending)| OrderBy { expr: expr.clone(), descending: *descending })
            .collect();
    }
    Ok(part)
}

/// An item that no alias can mean.
fn hidden(expr: &Expr) -> SelectItem {
    SelectItem::Expr { expr: expr.clone(), name: "@merge".to_owned() }
}

/// Puts the shards' answers to [`shard_select`] together. Shards that gave nothing are left out by the caller.
pub fn merge(select: &Select, parts: Vec<ResultSet>) -> Result<ResultSet, SqlError> {
    let shape = Shape::new(select);
    let window = window(select)?;
    let mut merged = if shape.grouped { merge_groups(&shape, parts)? } else { merge_rows(&shape, parts)? };
    merged.total = merged.total.min(window.max_matches);
    merged.rows = std::mem::take(&mut merged.rows)
        .into_iter()
        .skip(usize::try_from(window.offset).unwrap_or(usize::MAX))
        .take(usize::try_from(window.count).unwrap_or(usize::MAX))
        .collect();
    Ok(merged)
}

/// What a SELECT is made of, aliases replaced. Both halves of the work read the same shape.
struct Shape {
    grouped: bool,
    items: Vec<(String, Option<Expr>)>,
    order: Vec<(Expr, bool)>,
    /// GROUP BY, then the arguments of COUNT(DISTINCT).
    keys: Vec<Expr>,
    /// How many of the keys are GROUP BY's.
    group_keys: usize,
    /// Values of a group's first document.
    bare: Vec<Expr>,
    /// Aggregates that can be put together; the first counts documents. Where groups have an order or values of
    /// their first document, the second is the lowest id.
    partial: Vec<Expr>,
}

impl Shape {
    fn new(select: &Select) -> Self {
        let mut items: Vec<(String, Option<Expr>)> = Vec::with_capacity(select.items.len());
        for item in &select.items {
            items.push(match item {
                SelectItem::All => ("*".to_owned(), None),
                SelectItem::Expr { expr, name } => (name.clone(), Some(expr.clone())),
            });
        }
        let alias =
            |name: &str| items.iter().find(|(alias, _)| alias == name).and_then(|(_, expr)| expr.clone());
        let aliased = |expr: &Expr| expr.with_columns(&alias);
        let mut order: Vec<(Expr, bool)> =
            select.order_by.iter().map(|order| (aliased(&order.expr), order.descending)).collect();
        let keys: Vec<Expr> = select.group_by.iter().map(aliased).collect();
        let grouped =
            !keys.is_empty() || items.iter().any(|(_, expr)| expr.as_ref().is_some_and(Expr::has_aggregate));
        if !grouped {
            if order.is_empty() && select.matching.is_some() {
                order.push((Expr::Weight, true));
            }
            order.push((Expr::Column("id".to_owned()), false));
        }
        let mut shape = Self {
            grouped,
            group_keys: keys.len(),
            keys,
            items,
            order,
            bare: Vec::new(),
            partial: vec![Expr::Aggregate(Aggregate::Count)],
        };
        if grouped {
            let wanted: Vec<Expr> = shape
                .items
                .iter()
                .filter_map(|(_, expr)| expr.clone())
                .chain(shape.order.iter().map(|(expr, _)| expr.clone()))
                .collect();
            for expr in &wanted {
                shape.need(expr);
            }
            // A bare COUNT(*) must stay one: storages know it without looking.
            if !shape.keys.is_empty() || !shape.bare.is_empty() {
                let lowest = Aggregate::Min(Box::new(Expr::Column("id".to_owned())));
                shape.partial.retain(|partial| *partial != Expr::Aggregate(lowest.clone()));
                shape.partial.insert(1, Expr::Aggregate(lowest));
            }
        }
        shape
    }

    /// Notes what must be asked of the shards to compute `expr`.
    fn need(&mut self, expr: &Expr) {
        fn add<T: PartialEq>(all: &mut Vec<T>, one: T) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        if let Expr::Aggregate(aggregate) = expr {
            match aggregate {
                Aggregate::CountDistinct(of) => {
                    // Behind GROUP BY's own keys, even when it is one of them.
                    if !self.keys[self.group_keys..].contains(of) {
                        self.keys.push((**of).clone());
                    }
                }
                Aggregate::Avg(of) => add(&mut self.partial, Expr::Aggregate(Aggregate::Sum(of.clone()))),
                _ => add(&mut self.partial, expr.clone()),
            }
        } else if expr.has_aggregate() {
            match expr {
                Expr::Not(inner) | Expr::Negate(inner) => self.need(inner),
                Expr::Binary { left, right, .. } => {
                    self.need(left);
                    self.need(right);
                }
                Expr::Call { arguments, .. } => arguments.iter().for_each(|argument| self.need(argument)),
                // Not computed over aggregates: `eval` refuses it.
                _ => {}
            }
        } else if !matches!(expr, Expr::Literal(_)) {
            add(&mut self.bare, expr.clone());
        }
    }

    /// The columns of a shard's answer when grouped.
    fn parts(&self) -> impl Iterator<Item = &Expr> {
        self.keys.iter().chain(&self.bare).chain(&self.partial)
    }
}

/// Values in the order of [`compare`], as a key of a map.
#[derive(Clone, Debug)]
struct Key(Vec<Value>);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        pairs.map(|(a, b)| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

fn strange_answer() -> SqlError {
    SqlError::new(
        "a shard's answer does not fit the query: its columns differ from those of the other shards",
    )
}

fn merge_rows(shape: &Shape, parts: Vec<ResultSet>) -> Result<ResultSet, SqlError> {
    let mut merged = ResultSet::default();
    let mut rows = Vec::new();
    for part in parts {
        let width = part.columns.len();
        let Some(shown) = width.checked_sub(shape.order.len()) else { return Err(strange_answer()) };
        if merged.columns.is_empty() {
            merged.columns = part.columns[..shown].to_vec();
        } else if merged.columns.len() != shown {
            return Err(strange_answer());
        }
        merged.total += part.total;
        if merged.warning.is_empty() {
            merged.warning = part.warning;
        }
        for mut row in part.rows {
            if row.len() != width {
                return Err(strange_answer());
            }
            let keys = row.split_off(shown);
            rows.push((keys, row));
        }
    }
    sort(&mut rows, shape);
    merged.rows = rows.into_iter().map(|(_, row)| row).collect();
    Ok(merged)
}

fn sort(rows: &mut [(Vec<Value>, Vec<Value>)], shape: &Shape) {
    let directions: Vec<bool> = shape.order.iter().map(|(_, descending)| *descending).collect();
    rows.sort_by(|(left, _), (right, _)| {
        for (at, (a, b)) in left.iter().zip(right).enumerate() {
            let order = compare(a, b);
            let descending = directions.get(at).copied().unwrap_or(false);
            let order = if descending { order.reverse() } else { order };
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    });
}

/// A group while it is put together.
struct Group {
    bare: Vec<Value>,
    partial: Vec<Value>,
    /// For each argument of COUNT(DISTINCT), its values.
    distinct: Vec<BTreeSet<Key>>,
}

fn merge_groups(shape: &Shape, parts: Vec<ResultSet>) -> Result<ResultSet, SqlError> {
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    let mut kinds: Vec<ColumnKind> = Vec::new();
    let width = shape.parts().count();
    let mut warning = String::new();
    for part in parts {
        if part.columns.len() != width || part.rows.iter().any(|row| row.len() != width) {
            return Err(strange_answer());
        }
        if part.rows.len() as u64 >= GROUPS_MAX {
            return Err(SqlError::new(format!(
                "a shard has more than {GROUPS_MAX} groups: narrow the query"
            )));
        }
        if kinds.is_empty() {
            kinds = part.columns.iter().map(|column| column.kind).collect();
            warning = part.warning;
        }
        for row in part.rows {
            add_to_group(shape, &mut groups, row);
        }
    }
    if groups.is_empty() && shape.group_keys == 0 {
        // Aggregates over nothing are one row: a count of 0, and NULL for the others.
        let of_nothing = |expr: &Expr| match expr {
            Expr::Aggregate(Aggregate::Count) => Value::Int(0),
            _ => Value::Null,
        };
        let nothing = Group {
            bare: vec![Value::Null; shape.bare.len()],
            partial: shape.partial.iter().map(of_nothing).collect(),
            distinct: vec![BTreeSet::new(); shape.keys.len()],
        };
        groups.insert(Key(Vec::new()), nothing);
    }
    let mut rows = Vec::with_capacity(groups.len());
    for group in groups.values() {
        let known = |expr: &Expr| group.value(shape, expr);
        let all = |exprs: Vec<&Expr>| {
            exprs.into_iter().map(|expr| eval(expr, &known)).collect::<Result<Vec<Value>, SqlError>>()
        };
        let mut keys = all(shape.order.iter().map(|(expr, _)| expr).collect())?;
        keys.extend(group.partial.get(1).cloned());
        rows.push((keys, all(shape.items.iter().filter_map(|(_, expr)| expr.as_ref()).collect())?));
    }
    sort(&mut rows, shape);
    let rows: Vec<Vec<Value>> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(ResultSet { columns: columns(shape, &kinds), total: rows.len() as u64, rows, warning })
}

fn add_to_group(shape: &Shape, groups: &mut BTreeMap<Key, Group>, mut row: Vec<Value>) {
    let partial = row.split_off(shape.keys.len() + shape.bare.len());
    let bare = row.split_off(shape.keys.len());
    let distinct = row.split_off(shape.group_keys);
    if matches!(partial.first(), Some(Value::Int(0))) {
        // The row of a shard without documents.
        return;
    }
    let group = groups.entry(Key(row)).or_insert_with(|| Group {
        bare: bare.clone(),
        partial: Vec::new(),
        distinct: vec![BTreeSet::new(); distinct.len()],
    });
    for (values, value) in group.distinct.iter_mut().zip(distinct) {
        if value != Value::Null {
            values.insert(Key(vec![value]));
        }
    }
    if group.partial.is_empty() {
        group.partial = partial;
        return;
    }
    if let (Some(ours), Some(theirs)) = (group.partial.get(1), partial.get(1))
        && compare(theirs, ours).is_lt()
    {
        group.bare = bare;
    }
    for ((ours, theirs), expr) in group.partial.iter_mut().zip(partial).zip(&shape.partial) {
        let better = match expr {
            Expr::Aggregate(Aggregate::Min(_)) => compare(&theirs, ours).is_lt(),
            Expr::Aggregate(Aggregate::Max(_)) => compare(&theirs, ours).is_gt(),
            _ => {
                *ours = add(ours, &theirs);
                false
            }
        };
        if better {
            *ours = theirs;
        }
    }
}

fn add(left: &Value, right: &Value) -> Value {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_add(*b)),
        _ => Value::Float(float(left) + float(right)),
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Int(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Null | Value::Text(_) => 0.0,
    }
}

impl Group {
    fn value(&self, shape: &Shape, expr: &Expr) -> Option<Value> {
        let partial = |wanted: &Expr| {
            let at = shape.partial.iter().position(|expr| expr == wanted)?;
            self.partial.get(at).cloned()
        };
        match expr {
            Expr::Aggregate(Aggregate::CountDistinct(of)) => {
                let at = shape.keys[shape.group_keys..].iter().position(|key| *key == **of)?;
                Some(Value::Int(self.distinct.get(at)?.len() as i64))
            }
            Expr::Aggregate(Aggregate::Avg(of)) => {
                let sum = float(&partial(&Expr::Aggregate(Aggregate::Sum(of.clone())))?);
                let count = float(self.partial.first()?);
                Some(if count == 0.0 { Value::Null } else { Value::Float(sum / count) })
            }
            Expr::Aggregate(_) => partial(expr),
            _ => {
                let at = shape.bare.iter().position(|bare| bare == expr)?;
                self.bare.get(at).cloned()
            }
        }
    }
}

/// The shown columns: types as the shards gave them, or of what was computed from those.
fn columns(shape: &Shape, kinds: &[ColumnKind]) -> Vec<Column> {
    let known = |expr: &Expr| {
        let at = shape.parts().skip(shape.keys.len()).position(|part| part == expr)?;
        kinds.get(shape.keys.len() + at).copied()
    };
    let shown = shape.items.iter().filter_map(|(name, expr)| expr.as_ref().map(|expr| (name, expr)));
    shown.map(|(name, expr)| Column { name: name.clone(), kind: kind_of(expr, &known) }).collect()
}
