//! SHOW, DESCRIBE, SET and the small statements of a session.

use super::ast::{LockMode, Set, Statement};
use super::cursor::{Cursor, Parsed};
use super::expr::Literal;
use super::parse_expr::scalar;
use super::parse_table::{force, plain_table, table};
use model::sql::TokenKind;

/// `SHOW` is taken.
pub(super) fn show(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    if cursor.eat("tables") {
        let system = cursor.eat_all(&["from", "system"]);
        return Ok(Statement::ShowTables { system, like: like(cursor)? });
    }
    if cursor.eat_all(&["create", "table"]) {
        return show_create(cursor);
    }
    if cursor.eat("status") {
        return Ok(Statement::ShowStatus { like: like(cursor)? });
    }
    let scoped = cursor.eat("global") || cursor.eat("session");
    if cursor.eat("variables") {
        return Ok(Statement::ShowVariables { like: like(cursor)? });
    }
    if scoped {
        return Err(cursor.unexpected(&["VARIABLES"]));
    }
    if cursor.eat("settings") {
        return Ok(Statement::ShowSettings);
    }
    if cursor.eat("threads") {
        return Ok(Statement::ShowThreads);
    }
    if cursor.eat("locks") {
        return Ok(Statement::ShowLocks);
    }
    if cursor.eat("warnings") {
        return Ok(Statement::ShowWarnings);
    }
    if cursor.eat("meta") {
        return Ok(Statement::ShowMeta { like: like(cursor)? });
    }
    Err(cursor.unexpected(&["VARIABLES"]))
}

fn like(cursor: &mut Cursor<'_>) -> Parsed<Option<String>> {
    if cursor.eat("like") { cursor.text().map(Some) } else { Ok(None) }
}

/// This grammar knows no dotted name: the recorded nodes refuse `SHOW CREATE TABLE system.t`.
fn show_create(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let table = cursor.lower_name()?;
    let force = force(cursor)?;
    Ok(Statement::ShowCreateTable { table, force })
}

/// `DESC` is taken.
pub(super) fn describe(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    Ok(Statement::Describe { table: plain_table(cursor)? })
}

/// `SET` is taken. Drivers send many forms; all but the cluster's are a name and a value.
pub(super) fn set(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    if cursor.eat("names") {
        let value = word_or_scalar(cursor)?;
        if cursor.eat("collate") {
            word_or_scalar(cursor)?;
        }
        return Ok(Statement::Set(Set { global: false, name: "names".to_owned(), value }));
    }
    let mut global = cursor.eat("global");
    if !global {
        cursor.eat("session");
    }
    if cursor.eat_all(&["transaction", "isolation", "level"]) {
        let start = cursor.position();
        while cursor.peek().is_some() && !cursor.at_symbol(";") {
            cursor.advance();
        }
        let value = Literal::Text(cursor.text_since(start).to_owned());
        return Ok(Statement::Set(Set { global, name: "transaction isolation level".to_owned(), value }));
    }
    let mut name = variable_name(cursor)?;
    while cursor.eat_symbol(".") {
        global |= name == "global";
        name = cursor.lower_name()?;
    }
    cursor.expect_symbol("=")?;
    let value = word_or_scalar(cursor)?;
    Ok(Statement::Set(Set { global, name, value }))
}

fn variable_name(cursor: &mut Cursor<'_>) -> Parsed<String> {
    match cursor.peek().map(|token| &token.kind) {
        Some(TokenKind::Word(word)) if word.starts_with('@') => {
            cursor.advance();
            Ok(word.trim_start_matches('@').to_ascii_lowercase())
        }
        _ => cursor.lower_name(),
    }
}

fn word_or_scalar(cursor: &mut Cursor<'_>) -> Parsed<Literal> {
    match cursor.peek().map(|token| &token.kind) {
        Some(TokenKind::Word(word)) if !word.eq_ignore_ascii_case("null") => {
            cursor.advance();
            Ok(Literal::Text((*word).to_owned()))
        }
        _ => scalar(cursor),
    }
}

/// `LOCK TABLES` is taken.
pub(super) fn lock(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let tables = cursor.list(|cursor| {
        let table = table(cursor)?;
        let mode = if cursor.eat("read") {
            cursor.eat("local");
            LockMode::Read
        } else {
            cursor.expect("write")?;
            LockMode::Write
        };
        Ok((table, mode))
    })?;
    Ok(Statement::LockTables(tables))
}
