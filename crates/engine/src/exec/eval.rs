//! Expressions over values that are already here: constants, and what shards have sent.
//!
//! Means the same as the storage's own reading of these expressions.

use crate::io::{SqlError, Value};
use crate::sql::expr::{BinaryOp, Expr, Literal};
use std::cmp::Ordering;

/// The value of `expr`; `known` gives the values of parts that are not computed here.
pub(super) fn eval(expr: &Expr, known: &dyn Fn(&Expr) -> Option<Value>) -> Result<Value, SqlError> {
    if let Some(value) = known(expr) {
        return Ok(value);
    }
    match expr {
        Expr::Literal(literal) => Ok(constant(literal)),
        Expr::Negate(inner) => Ok(match eval(inner, known)? {
            Value::Int(value) => Value::Int(value.wrapping_neg()),
            Value::Float(value) => Value::Float(-value),
            other => other,
        }),
        Expr::Not(inner) => Ok(truth(!is_true(&eval(inner, known)?))),
        Expr::Binary { op, left, right } => Ok(binary(*op, &eval(left, known)?, &eval(right, known)?)),
        Expr::Call { function, arguments } => {
            let values: Vec<Value> =
                arguments.iter().map(|argument| eval(argument, known)).collect::<Result<_, _>>()?;
            call(function, &values)
        }
        _ => Err(SqlError::new(
            "this expression over aggregates is not supported: use arithmetic, comparisons and functions of numbers",
        )),
    }
}

fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Int(value) => Value::Int(*value),
        Literal::Unsigned(value) => Value::Int(*value as i64),
        Literal::Float(value) => Value::Float(*value),
        Literal::Text(text) => Value::Text(text.clone()),
        Literal::List(values) => Value::Text(values.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
    }
}

fn truth(value: bool) -> Value {
    Value::Int(i64::from(value))
}

fn is_true(value: &Value) -> bool {
    number(value) != 0.0
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Int(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Text(text) => text.parse().unwrap_or(0.0),
    }
}

fn binary(op: BinaryOp, left: &Value, right: &Value) -> Value {
    let whole = match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some((*left, *right)),
        _ => None,
    };
    let (a, b) = (number(left), number(right));
    let ordering = compare(left, right);
    match op {
        BinaryOp::Or => truth(is_true(left) || is_true(right)),
        BinaryOp::And => truth(is_true(left) && is_true(right)),
        BinaryOp::Equal => truth(ordering == Ordering::Equal),
        BinaryOp::NotEqual => truth(ordering != Ordering::Equal),
        BinaryOp::Less => truth(ordering == Ordering::Less),
        BinaryOp::LessOrEqual => truth(ordering != Ordering::Greater),
        BinaryOp::Greater => truth(ordering == Ordering::Greater),
        BinaryOp::GreaterOrEqual => truth(ordering != Ordering::Less),
        BinaryOp::Add => whole.map_or(Value::Float(a + b), |(a, b)| Value::Int(a.wrapping_add(b))),
        BinaryOp::Subtract => whole.map_or(Value::Float(a - b), |(a, b)| Value::Int(a.wrapping_sub(b))),
        BinaryOp::Multiply => whole.map_or(Value::Float(a * b), |(a, b)| Value::Int(a.wrapping_mul(b))),
        BinaryOp::Divide => Value::Float(if b == 0.0 { 0.0 } else { a / b }),
        BinaryOp::WholeDivide => Value::Int((a as i64).checked_div(b as i64).unwrap_or(0)),
        BinaryOp::Modulo => Value::Int((a as i64).checked_rem(b as i64).unwrap_or(0)),
    }
}

fn call(function: &str, values: &[Value]) -> Result<Value, SqlError> {
    match (function, values) {
        ("abs", [Value::Int(value)]) => Ok(Value::Int(value.wrapping_abs())),
        ("abs", [value]) => Ok(Value::Float(number(value).abs())),
        ("if", [condition, yes, no]) => Ok(if is_true(condition) { yes.clone() } else { no.clone() }),
        ("integer" | "uint" | "bigint" | "sint", [value]) => Ok(Value::Int(number(value) as i64)),
        ("double" | "float", [value]) => Ok(Value::Float(number(value))),
        ("to_string", [value]) => Ok(Value::Text(match value {
            Value::Null => String::new(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => text.clone(),
        })),
        _ => Err(SqlError::new(format!(
            "function {function}() with {} arguments is not supported by this engine",
            values.len()
        ))),
    }
}

/// The order of values in ORDER BY: nothing, numbers, then texts without regard to ASCII case.
pub(super) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => {
            let folded = |text: &str| text.bytes().map(|b| b.to_ascii_lowercase()).collect::<Vec<u8>>();
            folded(left).cmp(&folded(right))
        }
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            number(left).total_cmp(&number(right))
        }
        _ => rank(left).cmp(&rank(right)),
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Int(_) | Value::Float(_) => 1,
        Value::Text(_) => 2,
    }
}
