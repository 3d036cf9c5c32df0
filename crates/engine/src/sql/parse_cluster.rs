//! Replication clusters.

use super::ast::{ClusterAction, ClusterOptions, ClusterStatement, Statement};
use super::cursor::{Cursor, Parsed};
use super::parse_table::plain_table;
use model::sql::TokenKind;

fn statement(name: &str, action: ClusterAction) -> Statement {
    Statement::Cluster(ClusterStatement { name: name.to_owned(), action })
}

/// `CREATE CLUSTER` is taken.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let name = cursor.name()?;
    Ok(statement(name, ClusterAction::Create(cluster_options(cursor)?)))
}

/// `JOIN CLUSTER` is taken.
pub(super) fn join(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let name = cursor.name()?;
    cursor.expect("at")?;
    let at = cursor.text()?;
    Ok(statement(name, ClusterAction::Join { at, options: cluster_options(cursor)? }))
}

fn cluster_options(cursor: &mut Cursor<'_>) -> Parsed<ClusterOptions> {
    let mut options = ClusterOptions::default();
    if cursor.peek().is_none() || cursor.at_symbol(";") {
        return Ok(options);
    }
    cursor.list(|cursor| {
        let value = cursor.text()?;
        cursor.expect("as")?;
        if cursor.eat("path") {
            options.path = Some(value);
        } else if cursor.eat("options") {
            options.options = Some(value);
        } else {
            return Err(cursor.unexpected(&[]));
        }
        Ok(())
    })?;
    Ok(options)
}

/// `ALTER CLUSTER` is taken.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let name = cursor.name()?;
    let action = if cursor.eat("add") {
        ClusterAction::Add(cursor.list(plain_table)?)
    } else if cursor.eat("drop") {
        ClusterAction::Drop(cursor.list(plain_table)?)
    } else {
        cursor.expect("update")?;
        cursor.expect("nodes")?;
        ClusterAction::UpdateNodes
    };
    Ok(statement(name, action))
}

/// `EXIT CLUSTER` is taken.
pub(super) fn exit(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    Ok(statement(cursor.name()?, ClusterAction::Exit))
}

/// `DELETE CLUSTER` is taken.
pub(super) fn delete(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    Ok(statement(cursor.name()?, ClusterAction::Delete))
}

/// `SET CLUSTER` is taken.
pub(super) fn set(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let name = cursor.name()?;
    cursor.expect("global")?;
    let variable = cursor.text()?;
    cursor.expect_symbol("=")?;
    let value = match cursor.peek().map(|token| &token.kind) {
        Some(TokenKind::Number(value)) => {
            cursor.advance();
            (*value).to_owned()
        }
        _ => cursor.text()?,
    };
    Ok(statement(name, ClusterAction::Set { variable, value }))
}
