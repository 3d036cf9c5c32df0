//! Expressions of SELECT, WHERE, GROUP BY and ORDER BY.

use crate::depth;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A constant as it stands in a statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Literal {
    Null,
    Int(i64),
    /// A number above `i64::MAX`, such as a large document id.
    Unsigned(u64),
    Float(f64),
    Text(String),
    /// A multi-value `(1,2)`.
    List(Vec<i64>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub enum Expr {
    Literal(Literal),
    /// A column, or an alias of the select list.
    Column(String),
    /// A path into a JSON column: `meta.a[0]`.
    Json {
        column: String,
        path: Vec<JsonStep>,
    },
    /// `@@name`
    Variable(String),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    In {
        subject: Box<Expr>,
        negated: bool,
        list: Vec<Literal>,
    },
    /// Both ends included.
    Between {
        subject: Box<Expr>,
        negated: bool,
        low: Box<Expr>,
        high: Box<Expr>,
    },
    IsNull {
        subject: Box<Expr>,
        negated: bool,
    },
    /// `ANY(column)` or `ALL(column)` compared with constants.
    MultiValue {
        quantifier: Quantifier,
        column: String,
        test: MultiTest,
    },
    /// `MATCH('…')`; the parser takes it out of WHERE, so it stands only where it is not allowed.
    Match(String),
    Weight,
    Call {
        function: String,
        arguments: Vec<Expr>,
    },
    Aggregate(Aggregate),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JsonStep {
    Key(String),
    Index(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BinaryOp {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    /// `DIV`: whole numbers.
    WholeDivide,
    Modulo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quantifier {
    Any,
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MultiTest {
    Compare(BinaryOp, i64),
    In { negated: bool, list: Vec<i64> },
    Between { negated: bool, low: i64, high: i64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Aggregate {
    Count,
    CountDistinct(Box<Expr>),
    Sum(Box<Expr>),
    Min(Box<Expr>),
    Max(Box<Expr>),
    Avg(Box<Expr>),
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        depth::one_deeper(depth::EXPRESSION_DEPTH_MAX, || Self::deserialize(deserializer))
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Expr {
    pub fn binary(op: BinaryOp, left: Expr, right: Expr) -> Self {
        Self::Binary { op, left: Box::new(left), right: Box::new(right) }
    }

    /// Calls `visit` on this expression and on all below it, parents first.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        visit(self);
        match self {
            Self::Literal(_)
            | Self::Column(_)
            | Self::Json { .. }
            | Self::Variable(_)
            | Self::MultiValue { .. }
            | Self::Match(_)
            | Self::Weight => {}
            Self::Not(inner) | Self::Negate(inner) => inner.walk(visit),
            Self::Binary { left, right, .. } => {
                left.walk(visit);
                right.walk(visit);
            }
            Self::In { subject, .. } | Self::IsNull { subject, .. } => subject.walk(visit),
            Self::Between { subject, low, high, .. } => {
                subject.walk(visit);
                low.walk(visit);
                high.walk(visit);
            }
            Self::Call { arguments, .. } => arguments.iter().for_each(|argument| argument.walk(visit)),
            Self::Aggregate(aggregate) => {
                if let Some(argument) = aggregate.argument() {
                    argument.walk(visit);
                }
            }
        }
    }

    /// The expression with columns replaced where `replace` gives something for their name.
    #[must_use]
    pub fn with_columns(&self, replace: &dyn Fn(&str) -> Option<Self>) -> Self {
        let inner = |expr: &Self| Box::new(expr.with_columns(replace));
        match self {
            Self::Column(name) => replace(name).unwrap_or_else(|| self.clone()),
            Self::Literal(_)
            | Self::Json { .. }
            | Self::Variable(_)
            | Self::MultiValue { .. }
            | Self::Match(_)
            | Self::Weight => self.clone(),
            Self::Not(of) => Self::Not(inner(of)),
            Self::Negate(of) => Self::Negate(inner(of)),
            Self::Binary { op, left, right } => {
                Self::Binary { op: *op, left: inner(left), right: inner(right) }
            }
            Self::In { subject, negated, list } => {
                Self::In { subject: inner(subject), negated: *negated, list: list.clone() }
            }
            Self::Between { subject, negated, low, high } => Self::Between {
                subject: inner(subject),
                negated: *negated,
                low: inner(low),
                high: inner(high),
            },
            Self::IsNull { subject, negated } => Self::IsNull { subject: inner(subject), negated: *negated },
            Self::Call { function, arguments } => Self::Call {
                function: function.clone(),
                arguments: arguments.iter().map(|argument| argument.with_columns(replace)).collect(),
            },
            Self::Aggregate(aggregate) => Self::Aggregate(match aggregate {
                Aggregate::Count => Aggregate::Count,
                Aggregate::CountDistinct(of) => Aggregate::CountDistinct(inner(of)),
                Aggregate::Sum(of) => Aggregate::Sum(inner(of)),
                Aggregate::Min(of) => Aggregate::Min(inner(of)),
                Aggregate::Max(of) => Aggregate::Max(inner(of)),
                Aggregate::Avg(of) => Aggregate::Avg(inner(of)),
            }),
        }
    }

    /// Whether an aggregate stands anywhere in it.
    pub fn has_aggregate(&self) -> bool {
        let mut found = false;
        self.walk(&mut |expr| found |= matches!(expr, Self::Aggregate(_)));
        found
    }
}

impl Aggregate {
    pub fn argument(&self) -> Option<&Expr> {
        match self {
            Self::Count => None,
            Self::CountDistinct(argument)
            | Self::Sum(argument)
            | Self::Min(argument)
            | Self::Max(argument)
            | Self::Avg(argument) => Some(argument),
        }
    }
}
