//! The functions that SQLite lacks for the dialect.

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};

pub(super) fn register(connection: &Connection) -> Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_aggregate_function("wrap_sum", 1, pure, WrapSum)?;
    connection.create_aggregate_function("at_first", 2, pure, AtFirst)?;
    connection.create_scalar_function("multi_any", -1, pure, |context| {
        multi(context, |values, test| values.iter().any(|value| test(*value)))
    })?;
    // searchd: ALL over an empty set does not match.
    connection.create_scalar_function("multi_all", -1, pure, |context| {
        multi(context, |values, test| !values.is_empty() && values.iter().all(|value| test(*value)))
    })
}

/// SUM that wraps around as searchd's 64-bit sums do, where SQLite's own fails.
struct WrapSum;

#[derive(Default)]
struct Sum {
    whole: i64,
    broken: f64,
    is_float: bool,
}

impl Aggregate<Sum, Value> for WrapSum {
    fn init(&self, _: &mut Context<'_>) -> Result<Sum> {
        Ok(Sum::default())
    }

    fn step(&self, context: &mut Context<'_>, sum: &mut Sum) -> Result<()> {
        match context.get_raw(0) {
            ValueRef::Integer(value) => sum.whole = sum.whole.wrapping_add(value),
            ValueRef::Real(value) => {
                sum.broken += value;
                sum.is_float = true;
            }
            ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => {}
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, sum: Option<Sum>) -> Result<Value> {
        Ok(match sum {
            None => Value::Null,
            Some(sum) if sum.is_float => Value::Real(sum.broken + sum.whole as f64),
            Some(sum) => Value::Integer(sum.whole),
        })
    }
}

/// `at_first(id, x)`: the x of the lowest id of a group.
struct AtFirst;

impl Aggregate<Option<(i64, Value)>, Value> for AtFirst {
    fn init(&self, _: &mut Context<'_>) -> Result<Option<(i64, Value)>> {
        Ok(None)
    }

    fn step(&self, context: &mut Context<'_>, first: &mut Option<(i64, Value)>) -> Result<()> {
        let id = context.get(0)?;
        if first.as_ref().is_none_or(|(lowest, _)| id < *lowest) {
            *first = Some((id, context.get(1)?));
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, first: Option<Option<(i64, Value)>>) -> Result<Value> {
        Ok(first.flatten().map_or(Value::Null, |(_, value)| value))
    }
}

/// `multi_any(values, test, numbers…)`: whether any value of the multi-value passes. Tests: the comparison operators, `in`
/// and `between`.
fn multi(context: &Context<'_>, quantify: fn(&[i64], &dyn Fn(i64) -> bool) -> bool) -> Result<bool> {
    let column =
        context.get_raw(0).as_str_or_null().map_err(|error| Error::UserFunctionError(error.into()))?;
    let values: Vec<i64> =
        column.unwrap_or("").split(',').filter_map(|number| number.trim().parse().ok()).collect();
    let test: String = context.get(1)?;
    let numbers = (2..context.len()).map(|at| context.get(at)).collect::<Result<Vec<i64>>>()?;
    let first = numbers.first().copied().unwrap_or(0);
    let last = numbers.last().copied().unwrap_or(0);
    Ok(quantify(&values, &|value| match test.as_str() {
        "=" => value == first,
        "<>" => value != first,
        "<" => value < first,
        "<=" => value <= first,
        ">" => value > first,
        ">=" => value >= first,
        "between" => (first..=last).contains(&value),
        _ => numbers.contains(&value),
    }))
}
