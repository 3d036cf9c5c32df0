//! Expressions and constants: a descent by precedence, lowest first.

use super::cursor::{Cursor, Parsed};
use super::expr::{Aggregate, BinaryOp, Expr, JsonStep, Literal, MultiTest, Quantifier};
use crate::io::SqlError;
use model::sql::TokenKind;

/// Deeper nesting is refused, so that no statement can exhaust the stack.
const DEPTH_MAX: usize = 100;

pub(super) fn expression(cursor: &mut Cursor<'_>) -> Parsed<Expr> {
    or(cursor, 0)
}

fn or(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    if depth > DEPTH_MAX {
        return Err(SqlError::new(format!("expression is nested deeper than {DEPTH_MAX} levels")));
    }
    let mut left = and(cursor, depth)?;
    while cursor.eat("or") || cursor.eat_symbol("||") {
        cursor.count_operator()?;
        left = Expr::binary(BinaryOp::Or, left, and(cursor, depth)?);
    }
    Ok(left)
}

fn and(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let mut left = not(cursor, depth)?;
    while cursor.eat("and") || cursor.eat_symbol("&&") {
        cursor.count_operator()?;
        left = Expr::binary(BinaryOp::And, left, not(cursor, depth)?);
    }
    Ok(left)
}

fn not(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let mut negations = 0usize;
    while cursor.eat("not") {
        negations += 1;
    }
    let inner = comparison(cursor, depth)?;
    Ok(if negations % 2 == 1 { Expr::Not(Box::new(inner)) } else { inner })
}

fn comparison_operator(cursor: &mut Cursor<'_>) -> Option<BinaryOp> {
    let TokenKind::Symbol(symbol) = cursor.peek()?.kind else { return None };
    let op = match symbol {
        "=" => BinaryOp::Equal,
        "!=" | "<>" => BinaryOp::NotEqual,
        "<" => BinaryOp::Less,
        "<=" => BinaryOp::LessOrEqual,
        ">" => BinaryOp::Greater,
        ">=" => BinaryOp::GreaterOrEqual,
        _ => return None,
    };
    cursor.advance();
    Some(op)
}

fn comparison(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    if let Some(quantifier) = quantifier(cursor) {
        return multi_value(cursor, quantifier);
    }
    let left = sum(cursor, depth)?;
    if let Some(op) = comparison_operator(cursor) {
        return Ok(Expr::binary(op, left, sum(cursor, depth)?));
    }
    if cursor.eat("is") {
        let negated = cursor.eat("not");
        cursor.expect("null")?;
        return Ok(Expr::IsNull { subject: Box::new(left), negated });
    }
    let negated = cursor.eat("not");
    if cursor.eat("in") {
        let list = in_list(cursor)?;
        return Ok(Expr::In { subject: Box::new(left), negated, list });
    }
    if cursor.eat("between") {
        let low = sum(cursor, depth)?;
        cursor.expect("and")?;
        let high = sum(cursor, depth)?;
        return Ok(Expr::Between {
            subject: Box::new(left),
            negated,
            low: Box::new(low),
            high: Box::new(high),
        });
    }
    if negated { Err(cursor.unexpected(&["IN", "BETWEEN"])) } else { Ok(left) }
}

fn in_list(cursor: &mut Cursor<'_>) -> Parsed<Vec<Literal>> {
    cursor.expect_symbol("(")?;
    let list = cursor.list(scalar)?;
    cursor.expect_symbol(")")?;
    Ok(list)
}

fn quantifier(cursor: &Cursor<'_>) -> Option<Quantifier> {
    let bracket = cursor.peek_at(1).is_some_and(|token| token.is_symbol("("));
    match bracket {
        true if cursor.at_word("any") => Some(Quantifier::Any),
        true if cursor.at_word("all") => Some(Quantifier::All),
        _ => None,
    }
}

fn multi_value(cursor: &mut Cursor<'_>, quantifier: Quantifier) -> Parsed<Expr> {
    cursor.advance();
    cursor.advance();
    let column = cursor.lower_name()?;
    cursor.expect_symbol(")")?;
    let test = if let Some(op) = comparison_operator(cursor) {
        MultiTest::Compare(op, integer(cursor)?)
    } else {
        let negated = cursor.eat("not");
        if cursor.eat("in") {
            cursor.expect_symbol("(")?;
            let list = cursor.list(integer)?;
            cursor.expect_symbol(")")?;
            MultiTest::In { negated, list }
        } else {
            cursor.expect("between")?;
            let low = integer(cursor)?;
            cursor.expect("and")?;
            MultiTest::Between { negated, low, high: integer(cursor)? }
        }
    };
    Ok(Expr::MultiValue { quantifier, column, test })
}

fn sum(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let mut left = product(cursor, depth)?;
    loop {
        let op = if cursor.eat_symbol("+") {
            BinaryOp::Add
        } else if cursor.eat_symbol("-") {
            BinaryOp::Subtract
        } else {
            return Ok(left);
        };
        cursor.count_operator()?;
        left = Expr::binary(op, left, product(cursor, depth)?);
    }
}

fn product(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let mut left = unary(cursor, depth)?;
    loop {
        let op = if cursor.eat_symbol("*") {
            BinaryOp::Multiply
        } else if cursor.eat_symbol("/") {
            BinaryOp::Divide
        } else if cursor.eat_symbol("%") || cursor.eat("mod") {
            BinaryOp::Modulo
        } else if cursor.eat("div") {
            BinaryOp::WholeDivide
        } else {
            return Ok(left);
        };
        cursor.count_operator()?;
        left = Expr::binary(op, left, unary(cursor, depth)?);
    }
}

fn unary(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let mut negations = 0usize;
    while cursor.at_symbol("-") && !next_is_number(cursor, 1) {
        cursor.advance();
        negations += 1;
    }
    let inner = primary(cursor, depth)?;
    Ok(if negations % 2 == 1 { Expr::Negate(Box::new(inner)) } else { inner })
}

fn next_is_number(cursor: &Cursor<'_>, ahead: usize) -> bool {
    cursor.peek_at(ahead).is_some_and(|token| matches!(token.kind, TokenKind::Number(_)))
}

fn primary(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let Some(token) = cursor.peek() else { return Err(cursor.unexpected(&[])) };
    match &token.kind {
        TokenKind::Text(_) | TokenKind::Number(_) | TokenKind::Symbol("-") => {
            Ok(Expr::Literal(scalar(cursor)?))
        }
        TokenKind::Symbol("(") => {
            cursor.advance();
            let inner = or(cursor, depth + 1)?;
            cursor.expect_symbol(")")?;
            Ok(inner)
        }
        TokenKind::Word(word) if word.starts_with("@@") => {
            cursor.advance();
            Ok(Expr::Variable(variable(cursor, word)))
        }
        TokenKind::Word(word) if is_constant(word) => Ok(Expr::Literal(scalar(cursor)?)),
        TokenKind::Word(word) if cursor.peek_at(1).is_some_and(|next| next.is_symbol("(")) => {
            cursor.advance();
            cursor.advance();
            call(cursor, word, depth + 1)
        }
        _ => column(cursor),
    }
}

/// `@@session.x` and `@@global.x` are `x`.
fn variable(cursor: &mut Cursor<'_>, word: &str) -> String {
    let mut name = word.trim_start_matches('@');
    while cursor.at_symbol(".") {
        let Some(TokenKind::Word(next)) = cursor.peek_at(1).map(|token| &token.kind) else { break };
        name = next;
        cursor.advance();
        cursor.advance();
    }
    name.to_ascii_lowercase()
}

fn is_constant(word: &str) -> bool {
    ["null", "true", "false"].iter().any(|constant| constant.eq_ignore_ascii_case(word))
}

fn column(cursor: &mut Cursor<'_>) -> Parsed<Expr> {
    let column = cursor.lower_name()?;
    let mut path = Vec::new();
    loop {
        if cursor.eat_symbol(".") {
            path.push(JsonStep::Key(json_key(cursor)?));
        } else if cursor.eat_symbol("[") {
            path.push(match cursor.peek().map(|token| &token.kind) {
                Some(TokenKind::Text(_)) => JsonStep::Key(cursor.text()?),
                _ => match u64::try_from(integer(cursor)?) {
                    Ok(index) => JsonStep::Index(index),
                    Err(_) => return Err(cursor.unexpected(&[])),
                },
            });
            cursor.expect_symbol("]")?;
        } else {
            break;
        }
    }
    Ok(if path.is_empty() { Expr::Column(column) } else { Expr::Json { column, path } })
}

/// Keys keep their case and may be any word.
fn json_key(cursor: &mut Cursor<'_>) -> Parsed<String> {
    match cursor.peek().map(|token| &token.kind) {
        Some(TokenKind::Word(word)) if !word.starts_with('@') => {
            cursor.advance();
            Ok((*word).to_owned())
        }
        _ => Ok(cursor.name()?.to_owned()),
    }
}

/// A call whose name and opening bracket are already taken.
fn call(cursor: &mut Cursor<'_>, word: &str, depth: usize) -> Parsed<Expr> {
    let function = word.to_ascii_lowercase();
    if function == "count" {
        return count(cursor, depth);
    }
    if function == "match" {
        let query = cursor.text()?;
        cursor.expect_symbol(")")?;
        return Ok(Expr::Match(query));
    }
    let mut arguments = Vec::new();
    if !cursor.at_symbol(")") {
        arguments = cursor.list(|cursor| or(cursor, depth))?;
    }
    cursor.expect_symbol(")")?;
    let aggregate = match function.as_str() {
        "weight" if arguments.is_empty() => return Ok(Expr::Weight),
        "sum" => Aggregate::Sum,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "avg" => Aggregate::Avg,
        _ => return Ok(Expr::Call { function, arguments }),
    };
    match <[Expr; 1]>::try_from(arguments) {
        Ok([argument]) => Ok(Expr::Aggregate(aggregate(Box::new(argument)))),
        Err(_) => Err(SqlError::new(format!("{function}() takes exactly one argument"))),
    }
}

fn count(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let aggregate = if cursor.eat_symbol("*") {
        Aggregate::Count
    } else if cursor.eat("distinct") {
        Aggregate::CountDistinct(Box::new(or(cursor, depth)?))
    } else {
        return Err(cursor.unexpected(&["DISTINCT", "'*'"]));
    };
    cursor.expect_symbol(")")?;
    Ok(Expr::Aggregate(aggregate))
}

/// A constant that is one value: a number with its sign, a string, NULL, TRUE or FALSE.
pub(super) fn scalar(cursor: &mut Cursor<'_>) -> Parsed<Literal> {
    let negative = cursor.at_symbol("-") && next_is_number(cursor, 1);
    let literal = match cursor.peek_at(usize::from(negative)).map(|token| &token.kind) {
        Some(TokenKind::Number(number)) => match numeric(number, negative) {
            Some(literal) => literal,
            None => return Err(SqlError::new(format!("number '{number}' is out of range"))),
        },
        Some(TokenKind::Text(text)) => Literal::Text(text.to_string()),
        Some(TokenKind::Word(word)) if word.eq_ignore_ascii_case("null") => Literal::Null,
        Some(TokenKind::Word(word)) if word.eq_ignore_ascii_case("true") => Literal::Int(1),
        Some(TokenKind::Word(word)) if word.eq_ignore_ascii_case("false") => Literal::Int(0),
        _ => return Err(cursor.unexpected(&[])),
    };
    if negative {
        cursor.advance();
    }
    cursor.advance();
    Ok(literal)
}

fn numeric(digits: &str, negative: bool) -> Option<Literal> {
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let magnitude: u64 = digits.parse().ok()?;
        return match (i64::try_from(magnitude), negative) {
            (Ok(value), false) => Some(Literal::Int(value)),
            (Err(_), false) => Some(Literal::Unsigned(magnitude)),
            (_, true) => 0i64.checked_sub_unsigned(magnitude).map(Literal::Int),
        };
    }
    let magnitude: f64 = digits.parse().ok()?;
    magnitude.is_finite().then_some(Literal::Float(if negative { -magnitude } else { magnitude }))
}

/// A whole number with its sign; one above `i64::MAX` wraps, as document ids do.
pub(super) fn integer(cursor: &mut Cursor<'_>) -> Parsed<i64> {
    let error = cursor.unexpected(&["integer"]);
    match scalar(cursor)? {
        Literal::Int(value) => Ok(value),
        Literal::Unsigned(value) => Ok(value as i64),
        _ => Err(error),
    }
}

/// A constant of INSERT and UPDATE: one value or a bracketed multi-value.
pub(super) fn literal(cursor: &mut Cursor<'_>) -> Parsed<Literal> {
    if !cursor.eat_symbol("(") {
        return scalar(cursor);
    }
    let mut values = Vec::new();
    if !cursor.at_symbol(")") {
        values = cursor.list(integer)?;
    }
    cursor.expect_symbol(")")?;
    Ok(Literal::List(values))
}
