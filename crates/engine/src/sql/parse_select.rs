//! SELECT, and the WHERE and OPTION parts that other statements share with it.

use super::ast::{Limit, OrderBy, Select, SelectItem};
use super::cursor::{Cursor, Parsed};
use super::expr::{BinaryOp, Expr, Literal};
use super::parse_expr::{expression, integer, scalar};
use super::parse_table::plain_table;
use crate::io::SqlError;
use model::sql::TokenKind;

/// What stands behind WHERE, its MATCH apart.
#[derive(Debug, Default)]
pub(super) struct Where {
    pub filter: Option<Expr>,
    pub matching: Option<String>,
}

pub(super) fn select(cursor: &mut Cursor<'_>) -> Parsed<Select> {
    cursor.expect("select")?;
    let items = cursor.list(item)?;
    let from = if cursor.eat("from") { cursor.list(plain_table)? } else { Vec::new() };
    let condition = where_clause(cursor)?;
    let group_by = if cursor.eat_all(&["group", "by"]) { cursor.list(expression)? } else { Vec::new() };
    let order_by = if cursor.eat_all(&["order", "by"]) { cursor.list(order)? } else { Vec::new() };
    let limit = limit(cursor)?;
    let options = options(cursor)?;
    Ok(Select {
        items,
        from,
        filter: condition.filter,
        matching: condition.matching,
        group_by,
        order_by,
        limit,
        options,
    })
}

fn item(cursor: &mut Cursor<'_>) -> Parsed<SelectItem> {
    if cursor.eat_symbol("*") {
        return Ok(SelectItem::All);
    }
    let start = cursor.position();
    let expr = expression(cursor)?;
    let written = cursor.text_since(start).to_ascii_lowercase();
    let named = cursor.eat("as");
    let aliased =
        matches!(cursor.peek().map(|token| &token.kind), Some(TokenKind::Quoted(_) | TokenKind::Word(_)))
            && !CLAUSES.iter().any(|clause| cursor.at_word(clause));
    let name = if named || aliased {
        cursor.lower_name()?
    } else {
        match &expr {
            // `a` in backticks is named without them.
            Expr::Column(column) => column.clone(),
            Expr::Literal(Literal::Text(text)) => text.clone(),
            _ => written,
        }
    };
    Ok(SelectItem::Expr { expr, name })
}

/// What can follow a select item and is no alias.
const CLAUSES: [&str; 7] = ["from", "where", "group", "order", "limit", "option", "facet"];

fn order(cursor: &mut Cursor<'_>) -> Parsed<OrderBy> {
    let expr = expression(cursor)?;
    let descending = cursor.eat("desc");
    if !descending {
        cursor.eat("asc");
    }
    Ok(OrderBy { expr, descending })
}

fn limit(cursor: &mut Cursor<'_>) -> Parsed<Option<Limit>> {
    if !cursor.eat("limit") {
        return Ok(None);
    }
    let first = natural(cursor)?;
    if cursor.eat_symbol(",") {
        return Ok(Some(Limit { offset: first, count: natural(cursor)? }));
    }
    let offset = if cursor.eat("offset") { natural(cursor)? } else { 0 };
    Ok(Some(Limit { offset, count: first }))
}

fn natural(cursor: &mut Cursor<'_>) -> Parsed<u64> {
    let error = cursor.unexpected(&["integer"]);
    u64::try_from(integer(cursor)?).map_err(|_| error)
}

pub(super) fn options(cursor: &mut Cursor<'_>) -> Parsed<Vec<(String, Literal)>> {
    if !cursor.eat("option") {
        return Ok(Vec::new());
    }
    cursor.list(|cursor| {
        let name = cursor.any_word()?;
        cursor.expect_symbol("=")?;
        let value = match cursor.peek().map(|token| &token.kind) {
            Some(TokenKind::Word(word)) => {
                cursor.advance();
                Literal::Text((*word).to_owned())
            }
            _ => scalar(cursor)?,
        };
        Ok((name, value))
    })
}

pub(super) fn where_clause(cursor: &mut Cursor<'_>) -> Parsed<Where> {
    if !cursor.eat("where") {
        return Ok(Where::default());
    }
    split_match(expression(cursor)?)
}

/// Takes MATCH out of a condition. It may only stand beside the rest, joined by AND, and once.
fn split_match(condition: Expr) -> Parsed<Where> {
    let mut parts = Where::default();
    let mut open = vec![condition];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::Binary { op: BinaryOp::And, left, right } => {
                open.push(*right);
                open.push(*left);
            }
            Expr::Match(query) => {
                if parts.matching.replace(query).is_some() {
                    return Err(SqlError::new("too many MATCH() conditions: a statement can have one"));
                }
            }
            other => {
                let mut inside = false;
                other.walk(&mut |part| inside |= matches!(part, Expr::Match(_)));
                if inside {
                    return Err(SqlError::new("MATCH() can only be joined to other conditions by AND"));
                }
                parts.filter = Some(match parts.filter.take() {
                    Some(before) => Expr::binary(BinaryOp::And, before, other),
                    None => other,
                });
            }
        }
    }
    Ok(parts)
}
