//! Names in expressions: aliases replaced, columns checked, multi-values read as searchd reads them.

use crate::io::{ColumnKind, SqlError};
use crate::sql::ast::ColumnType;
use crate::sql::expr::{Aggregate, BinaryOp, Expr, Literal, MultiTest, Quantifier};
use crate::storage::TableSchema;

/// What names can mean in one SELECT over one table.
pub(super) struct Columns<'a> {
    pub table: &'a str,
    pub schema: &'a TableSchema,
    /// Names of the select list with their expressions, already resolved.
    pub aliases: &'a [(String, Expr)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Output,
    Filter,
    Order,
    Group,
}

impl<'a> Columns<'a> {
    pub(super) const fn new(table: &'a str, schema: &'a TableSchema, aliases: &'a [(String, Expr)]) -> Self {
        Self { table, schema, aliases }
    }

    fn kind(&self, name: &str) -> Option<ColumnType> {
        if name == "id" { Some(ColumnType::Bigint) } else { self.schema.column(name).map(|(_, kind)| kind) }
    }

    fn alias(&self, name: &str) -> Option<&Expr> {
        self.aliases.iter().find(|(alias, _)| alias == name).map(|(_, expr)| expr)
    }

    fn error(&self, what: impl std::fmt::Display) -> SqlError {
        SqlError::new(format!("table {}: {what}", self.table))
    }

    fn unknown(&self, name: &str, place: Place) -> SqlError {
        match place {
            Place::Output => self.error(format_args!("parse error: unknown column: {name}")),
            Place::Filter => self.error(format_args!("unknown column: {name}")),
            Place::Order => self.error(format_args!("sort-by attribute '{name}' not found")),
            Place::Group => self.error(format_args!("group-by attribute '{name}' not found")),
        }
    }

    fn column(&self, name: &str, place: Place) -> Result<Expr, SqlError> {
        let kind = self.kind(name);
        if let Some(aliased) = self.alias(name) {
            // ORDER BY means the select list first, all others the table.
            if kind.is_none() || place == Place::Order {
                return Ok(aliased.clone());
            }
        }
        let refused = |what: &str| self.error(format_args!("{what} '{name}' {}", place.refusal()));
        match (kind, place) {
            (None, _) => Err(self.unknown(name, place)),
            (Some(ColumnType::Text { stored: false, .. }), Place::Output) => {
                Err(self.error(format_args!("field '{name}' is not stored")))
            }
            (Some(ColumnType::Text { .. }), Place::Filter | Place::Order | Place::Group) => {
                Err(refused("field"))
            }
            (Some(ColumnType::Multi | ColumnType::Multi64), Place::Order | Place::Group) => {
                Err(refused("multi-value attribute"))
            }
            _ => Ok(Expr::Column(name.to_owned())),
        }
    }

    fn is_multi(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Column(name) => {
                matches!(self.kind(name), Some(ColumnType::Multi | ColumnType::Multi64)).then(|| name.clone())
            }
            _ => None,
        }
    }
}

impl Place {
    const fn refusal(self) -> &'static str {
        match self {
            Self::Output => "cannot be read",
            Self::Filter => "cannot be filtered by; a full-text field is searched with MATCH()",
            Self::Order => "cannot be sorted by",
            Self::Group => "cannot be grouped by",
        }
    }
}

pub(super) fn output(expr: &Expr, columns: &Columns<'_>) -> Result<Expr, SqlError> {
    resolve(expr, columns, Place::Output)
}

pub(super) fn filter(expr: &Expr, columns: &Columns<'_>) -> Result<Expr, SqlError> {
    if expr.has_aggregate() {
        return Err(SqlError::new("aggregates cannot stand in WHERE"));
    }
    resolve(expr, columns, Place::Filter)
}

pub(super) fn order(expr: &Expr, columns: &Columns<'_>) -> Result<Expr, SqlError> {
    resolve(expr, columns, Place::Order)
}

pub(super) fn group(expr: &Expr, columns: &Columns<'_>) -> Result<Expr, SqlError> {
    let resolved = resolve(expr, columns, Place::Group)?;
    if resolved.has_aggregate() {
        Err(SqlError::new("aggregates cannot stand in GROUP BY"))
    } else {
        Ok(resolved)
    }
}

fn resolve(expr: &Expr, columns: &Columns<'_>, place: Place) -> Result<Expr, SqlError> {
    let inner = |expr: &Expr| resolve(expr, columns, place).map(Box::new);
    Ok(match expr {
        Expr::Literal(_) | Expr::Weight => expr.clone(),
        Expr::Column(name) => columns.column(name, place)?,
        Expr::Json { column, .. } => match columns.kind(column) {
            Some(ColumnType::Json) => expr.clone(),
            Some(_) => return Err(columns.error(format_args!("'{column}' is no JSON column"))),
            None => return Err(columns.unknown(column, place)),
        },
        Expr::Not(of) => Expr::Not(inner(of)?),
        Expr::Negate(of) => Expr::Negate(inner(of)?),
        Expr::Binary { op, left, right } => match any_of(*op, left, right, columns) {
            Some(test) => test,
            None => Expr::Binary { op: *op, left: inner(left)?, right: inner(right)? },
        },
        Expr::In { subject, negated, list } => match columns.is_multi(subject) {
            Some(column) => multi_in(column, *negated, list)?,
            None => Expr::In { subject: inner(subject)?, negated: *negated, list: list.clone() },
        },
        Expr::Between { subject, negated, low, high } => Expr::Between {
            subject: inner(subject)?,
            negated: *negated,
            low: inner(low)?,
            high: inner(high)?,
        },
        Expr::IsNull { subject, negated } => Expr::IsNull { subject: inner(subject)?, negated: *negated },
        Expr::MultiValue { column, .. } => match columns.kind(column) {
            Some(ColumnType::Multi | ColumnType::Multi64) => expr.clone(),
            Some(_) => return Err(columns.error(format_args!("'{column}' is no multi-value attribute"))),
            None => return Err(columns.unknown(column, place)),
        },
        Expr::Call { function, arguments } => Expr::Call {
            function: function.clone(),
            arguments: arguments
                .iter()
                .map(|argument| resolve(argument, columns, place))
                .collect::<Result<_, _>>()?,
        },
        Expr::Aggregate(aggregate) => Expr::Aggregate(aggregate_of(aggregate, columns)?),
        Expr::Match(_) => return Err(SqlError::new("MATCH() can only stand in WHERE")),
        Expr::Variable(name) => return Err(columns.error(format_args!("'@@{name}' is no column"))),
    })
}

fn aggregate_of(aggregate: &Aggregate, columns: &Columns<'_>) -> Result<Aggregate, SqlError> {
    let argument = |of: &Expr| {
        if of.has_aggregate() {
            return Err(SqlError::new("aggregates cannot stand within aggregates"));
        }
        resolve(of, columns, Place::Output).map(Box::new)
    };
    Ok(match aggregate {
        Aggregate::Count => Aggregate::Count,
        Aggregate::CountDistinct(of) => Aggregate::CountDistinct(argument(of)?),
        Aggregate::Sum(of) => Aggregate::Sum(argument(of)?),
        Aggregate::Min(of) => Aggregate::Min(argument(of)?),
        Aggregate::Max(of) => Aggregate::Max(argument(of)?),
        Aggregate::Avg(of) => Aggregate::Avg(argument(of)?),
    })
}

/// A comparison of a multi-value with a number means any of its values.
fn any_of(op: BinaryOp, left: &Expr, right: &Expr, columns: &Columns<'_>) -> Option<Expr> {
    let column = columns.is_multi(left)?;
    let Expr::Literal(literal) = right else { return None };
    let value = super::convert::integer(literal).ok()?;
    let comparison = matches!(
        op,
        BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::Less
            | BinaryOp::LessOrEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterOrEqual
    );
    comparison.then_some(Expr::MultiValue {
        quantifier: Quantifier::Any,
        column,
        test: MultiTest::Compare(op, value),
    })
}

fn multi_in(column: String, negated: bool, list: &[Literal]) -> Result<Expr, SqlError> {
    let list = list.iter().map(super::convert::integer).collect::<Result<_, _>>()?;
    Ok(Expr::MultiValue { quantifier: Quantifier::Any, column, test: MultiTest::In { negated, list } })
}

/// The type of a resolved expression on the wire.
pub(super) fn kind(expr: &Expr, schema: &TableSchema) -> ColumnKind {
    kind_of(expr, &|part| match part {
        Expr::Column(name) if name == "id" => Some(ColumnKind::LongLong),
        Expr::Column(name) => schema.column(name).map(|(_, kind)| match kind {
            ColumnType::Uint | ColumnType::Bool | ColumnType::Timestamp => ColumnKind::Long,
            ColumnType::Bigint => ColumnKind::LongLong,
            ColumnType::Float => ColumnKind::Float,
            _ => ColumnKind::Text,
        }),
        _ => None,
    })
}

/// The same where `known` gives the types of the parts that have one already.
pub(super) fn kind_of(expr: &Expr, known: &dyn Fn(&Expr) -> Option<ColumnKind>) -> ColumnKind {
    if let Some(kind) = known(expr) {
        return kind;
    }
    let of = |expr: &Expr| kind_of(expr, known);
    match expr {
        Expr::Literal(literal) => literal_kind(literal),
        Expr::Column(_) | Expr::Json { .. } | Expr::Variable(_) => ColumnKind::Text,
        Expr::Negate(inner) => of(inner),
        Expr::Binary { op, left, right } => match op {
            BinaryOp::Divide => ColumnKind::Double,
            BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply => {
                let broken = |kind| matches!(kind, ColumnKind::Float | ColumnKind::Double);
                if broken(of(left)) || broken(of(right)) { ColumnKind::Double } else { ColumnKind::LongLong }
            }
            BinaryOp::WholeDivide | BinaryOp::Modulo => ColumnKind::LongLong,
            _ => ColumnKind::Long,
        },
        Expr::Call { function, arguments } => match (function.as_str(), arguments.as_slice()) {
            ("abs", [value]) | ("if", [_, value, _]) => of(value),
            ("double" | "float", _) => ColumnKind::Double,
            ("to_string", _) => ColumnKind::Text,
            _ => ColumnKind::LongLong,
        },
        Expr::Aggregate(aggregate) => match aggregate {
            Aggregate::Count | Aggregate::CountDistinct(_) => ColumnKind::LongLong,
            Aggregate::Sum(inner) => match of(inner) {
                ColumnKind::Float | ColumnKind::Double => ColumnKind::Double,
                _ => ColumnKind::LongLong,
            },
            Aggregate::Min(inner) | Aggregate::Max(inner) => of(inner),
            Aggregate::Avg(_) => ColumnKind::Double,
        },
        Expr::Not(_)
        | Expr::In { .. }
        | Expr::Between { .. }
        | Expr::IsNull { .. }
        | Expr::MultiValue { .. }
        | Expr::Match(_)
        | Expr::Weight => ColumnKind::Long,
    }
}

pub(super) fn literal_kind(literal: &Literal) -> ColumnKind {
    match literal {
        Literal::Int(value) if i32::try_from(*value).is_ok() => ColumnKind::Long,
        Literal::Int(_) | Literal::Unsigned(_) => ColumnKind::LongLong,
        Literal::Float(_) => ColumnKind::Double,
        Literal::Null | Literal::Text(_) | Literal::List(_) => ColumnKind::Text,
    }
}
