//! Expressions of the dialect as SQLite's.

use crate::sql::ast::ColumnType;
use crate::sql::expr::{Aggregate, BinaryOp, Expr, JsonStep, Literal, MultiTest, Quantifier};
use crate::storage::{StorageError, TableSchema};
use rusqlite::types::Value;
use std::fmt::Write;

/// Collects the parameters while it writes; texts with the same shape are the same, so that compiled statements are
/// found again.
pub(super) struct Translator<'a> {
    schema: &'a TableSchema,
    /// What stands for `WEIGHT()`.
    weight: &'static str,
    /// GROUP BY's keys while parts are translated that stand for whole groups: a column there is that of the
    /// group's first document.
    keys: Option<Vec<&'a Expr>>,
    pub parameters: Vec<Value>,
}

type Translated = Result<String, StorageError>;

impl<'a> Translator<'a> {
    pub(super) const fn new(schema: &'a TableSchema, weight: &'static str) -> Self {
        Self { schema, weight, keys: None, parameters: Vec::new() }
    }

    pub(super) fn parameter(&mut self, value: Value) -> String {
        self.parameters.push(value);
        format!("?{}", self.parameters.len())
    }

    fn literal(&mut self, literal: &Literal) -> String {
        let value = match literal {
            Literal::Null => return "NULL".to_owned(),
            Literal::Int(value) => Value::Integer(*value),
            Literal::Unsigned(value) => Value::Integer(*value as i64),
            Literal::Float(value) => Value::Real(*value),
            Literal::Text(text) => Value::Text(text.clone()),
            Literal::List(values) => Value::Text(join(values)),
        };
        self.parameter(value)
    }

    pub(super) fn column(&self, name: &str) -> Translated {
        if name == "id" {
            return Ok("docs.id".to_owned());
        }
        match self.schema.column(name) {
            Some((at, _)) => Ok(format!("docs.c{at}")),
            None => Err(StorageError::Refused(format!("unknown column: '{name}'"))),
        }
    }

    /// Translates a part that stands for a whole group.
    pub(super) fn of_group(&mut self, expr: &Expr, keys: &[&'a Expr]) -> Translated {
        self.keys = Some(keys.to_vec());
        let translated = self.expr(expr);
        self.keys = None;
        translated
    }

    /// As before, for each document and not for its group.
    fn of_document(&mut self, expr: &Expr) -> Translated {
        let keys = self.keys.take();
        let translated = self.expr(expr);
        self.keys = keys;
        translated
    }

    fn in_group(&mut self, expr: &Expr, keys: &[&Expr]) -> Option<Translated> {
        let string = matches!(expr, Expr::Column(name)
            if matches!(self.schema.column(name), Some((_, ColumnType::String))));
        // Strings of one group can differ in case.
        if !string && keys.contains(&expr) {
            return Some(self.of_document(expr));
        }
        let of_one =
            matches!(expr, Expr::Column(_) | Expr::Json { .. } | Expr::MultiValue { .. } | Expr::Weight);
        of_one.then(|| {
            let collation = if string { " COLLATE NOCASE" } else { "" };
            Ok(format!("at_first(docs.id, {}){collation}", self.of_document(expr)?))
        })
    }

    pub(super) fn expr(&mut self, expr: &Expr) -> Translated {
        if let Some(keys) = self.keys.clone()
            && let Some(translated) = self.in_group(expr, &keys)
        {
            return translated;
        }
        Ok(match expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Column(name) => self.column(name)?,
            Expr::Json { column, path } => {
                let column = self.column(column)?;
                let path = self.parameter(Value::Text(json_path(path)));
                format!("json_extract({column}, {path})")
            }
            Expr::Not(inner) => format!("(NOT {})", self.expr(inner)?),
            Expr::Negate(inner) => format!("(-{})", self.expr(inner)?),
            Expr::Binary { op, left, right } => {
                let (left, right) = (self.expr(left)?, self.expr(right)?);
                binary(*op, &left, &right)
            }
            Expr::In { subject, negated, list } => self.in_list(subject, *negated, list)?,
            Expr::Between { subject, negated, low, high } => {
                let subject = self.expr(subject)?;
                let (low, high) = (self.expr(low)?, self.expr(high)?);
                format!("({subject} {}BETWEEN {low} AND {high})", not(*negated))
            }
            Expr::IsNull { subject, negated } => {
                format!("({} IS {}NULL)", self.expr(subject)?, not(*negated))
            }
            Expr::MultiValue { quantifier, column, test } => self.multi(*quantifier, column, test)?,
            Expr::Weight => self.weight.to_owned(),
            Expr::Call { function, arguments } => self.call(function, arguments)?,
            Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Expr::Match(_) | Expr::Variable(_) => {
                return Err(StorageError::Refused("MATCH() and @@variables cannot stand here".to_owned()));
            }
        })
    }

    fn in_list(&mut self, subject: &Expr, negated: bool, list: &[Literal]) -> Translated {
        let mut sql = format!("({} {}IN (", self.expr(subject)?, not(negated));
        for (at, literal) in list.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            // Long lists of ids are common, and SQLite's parameters are limited.
            let written = match literal {
                Literal::Int(value) => value.to_string(),
                Literal::Unsigned(value) => (*value as i64).to_string(),
                other => self.literal(other),
            };
            let _ = write!(sql, "{comma}{written}");
        }
        sql.push_str("))");
        Ok(sql)
    }

    fn multi(&mut self, quantifier: Quantifier, column: &str, test: &MultiTest) -> Translated {
        let column = self.column(column)?;
        let (negated, test, numbers) = match test {
            MultiTest::Compare(op, value) => (false, comparison(*op), value.to_string()),
            MultiTest::In { negated, list } => (*negated, "in", join(list)),
            MultiTest::Between { negated, low, high } => (*negated, "between", format!("{low},{high}")),
        };
        let function = match quantifier {
            Quantifier::Any => "multi_any",
            Quantifier::All => "multi_all",
        };
        Ok(format!("({}{function}({column}, '{test}', {numbers}))", not(negated)))
    }

    fn call(&mut self, function: &str, arguments: &[Expr]) -> Translated {
        let translated: Vec<String> =
            arguments.iter().map(|argument| self.expr(argument)).collect::<Result<_, _>>()?;
        let parts: Vec<&str> = translated.iter().map(String::as_str).collect();
        Ok(match (function, parts.as_slice()) {
            ("abs", [value]) => format!("abs({value})"),
            ("if", [condition, yes, no]) => format!("(CASE WHEN {condition} THEN {yes} ELSE {no} END)"),
            ("integer" | "uint" | "bigint" | "sint", [value]) => format!("CAST({value} AS INTEGER)"),
            ("double" | "float", [value]) => format!("CAST({value} AS REAL)"),
            ("to_string", [value]) => format!("CAST({value} AS TEXT)"),
            _ => {
                return Err(StorageError::Refused(format!(
                    "function {function}() with {} arguments is not supported by this engine",
                    parts.len()
                )));
            }
        })
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Translated {
        let argument = aggregate.argument().map(|of| self.of_document(of)).transpose()?.unwrap_or_default();
        Ok(match aggregate {
            Aggregate::Count => "COUNT(*)".to_owned(),
            Aggregate::CountDistinct(_) => format!("COUNT(DISTINCT {argument})"),
            // Over nothing all of these are NULL.
            Aggregate::Sum(_) => format!("wrap_sum({argument})"),
            Aggregate::Min(_) => format!("MIN({argument})"),
            Aggregate::Max(_) => format!("MAX({argument})"),
            Aggregate::Avg(_) => format!("1.0 * wrap_sum({argument}) / COUNT(*)"),
        })
    }
}

const fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn join(values: &[i64]) -> String {
    values.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

const fn comparison(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::NotEqual => "<>",
        BinaryOp::Less => "<",
        BinaryOp::LessOrEqual => "<=",
        BinaryOp::Greater => ">",
        BinaryOp::GreaterOrEqual => ">=",
        _ => "=",
    }
}

fn binary(op: BinaryOp, left: &str, right: &str) -> String {
    match op {
        BinaryOp::Or => format!("({left} OR {right})"),
        BinaryOp::And => format!("({left} AND {right})"),
        BinaryOp::Add => format!("({left} + {right})"),
        BinaryOp::Subtract => format!("({left} - {right})"),
        BinaryOp::Multiply => format!("({left} * {right})"),
        // searchd divides as floats, and by zero to 0.
        BinaryOp::Divide => format!("COALESCE(1.0 * {left} / {right}, 0.0)"),
        BinaryOp::WholeDivide => format!("COALESCE(CAST({left} AS INTEGER) / CAST({right} AS INTEGER), 0)"),
        BinaryOp::Modulo => format!("COALESCE({left} % {right}, 0)"),
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessOrEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterOrEqual => format!("({left} {} {right})", comparison(op)),
    }
}

/// `$."a"[0]`
fn json_path(path: &[JsonStep]) -> String {
    let mut text = "$".to_owned();
    for step in path {
        let _ = match step {
            JsonStep::Key(key) => write!(text, ".\"{}\"", key.replace('"', "\\\"")),
            JsonStep::Index(index) => write!(text, "[{index}]"),
        };
    }
    text
}
