//! INSERT, REPLACE, UPDATE and DELETE.

use super::ast::{Delete, Insert, Statement, Update};
use super::cursor::{Cursor, Parsed};
use super::parse_expr::literal;
use super::parse_select::where_clause;
use super::parse_table::table;

pub(super) fn insert(cursor: &mut Cursor<'_>, replace: bool) -> Parsed<Statement> {
    cursor.advance();
    cursor.expect("into")?;
    let table = table(cursor)?;
    let columns = if cursor.eat_symbol("(") {
        let columns = cursor.list(Cursor::lower_name)?;
        cursor.expect_symbol(")")?;
        Some(columns)
    } else {
        None
    };
    if !cursor.eat("values") {
        return Err(cursor.unexpected(&["VALUES"]));
    }
    let rows = cursor.list(|cursor| {
        cursor.expect_symbol("(")?;
        let values = cursor.list(literal)?;
        if columns.as_ref().is_some_and(|columns| columns.len() != values.len()) && cursor.at_symbol(")") {
            return Err(cursor.wrong_number_of_values());
        }
        cursor.expect_symbol(")")?;
        Ok(values)
    })?;
    Ok(Statement::Insert(Insert { table, replace, columns, rows }))
}

pub(super) fn update(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    cursor.advance();
    let table = table(cursor)?;
    cursor.expect("set")?;
    let assignments = cursor.list(|cursor| {
        let column = cursor.lower_name()?;
        cursor.expect_symbol("=")?;
        Ok((column, literal(cursor)?))
    })?;
    let condition = where_clause(cursor)?;
    Ok(Statement::Update(Update {
        table,
        assignments,
        filter: condition.filter,
        matching: condition.matching,
    }))
}

pub(super) fn delete(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    cursor.advance();
    cursor.expect("from")?;
    let table = table(cursor)?;
    if !cursor.at_word("where") {
        return Err(cursor.unexpected(&["WHERE"]));
    }
    let condition = where_clause(cursor)?;
    Ok(Statement::Delete(Delete { table, filter: condition.filter, matching: condition.matching }))
}
