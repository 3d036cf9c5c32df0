//! Tables: their names, CREATE, DROP and ALTER.

use super::ast::{
    AlterColumn, AlterTable, ColumnDef, ColumnType, CreateTable, DropTable, Statement, TableRef,
};
use super::cursor::{Cursor, Parsed};
use super::expr::Literal;
use super::parse_select::options;

/// `[cluster:]name`, where the name may be dotted.
pub(super) fn table(cursor: &mut Cursor<'_>) -> Parsed<TableRef> {
    let cluster = if cursor.peek_at(1).is_some_and(|token| token.is_symbol(":")) {
        let cluster = cursor.name()?.to_owned();
        cursor.advance();
        Some(cluster)
    } else {
        None
    };
    Ok(TableRef { cluster, name: plain_table(cursor)? })
}

/// A table's name without cluster: `t` or `system.t_s0`.
pub(super) fn plain_table(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let mut name = cursor.lower_name()?;
    if cursor.eat_symbol(".") {
        name.push('.');
        name.push_str(&cursor.lower_name()?);
    }
    Ok(name)
}

/// `CREATE TABLE` is taken.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let if_not_exists = cursor.eat_all(&["if", "not", "exists"]);
    let table = table(cursor)?;
    let mut columns = Vec::new();
    if cursor.eat_symbol("(") {
        if !cursor.at_symbol(")") {
            columns = cursor.list(column)?;
        }
        cursor.expect_symbol(")")?;
    }
    let mut options = Vec::new();
    while cursor.peek().is_some() && !cursor.at_symbol(";") {
        let key = cursor.lower_name()?;
        cursor.expect_symbol("=")?;
        options.push((key, cursor.text()?));
    }
    Ok(Statement::CreateTable(CreateTable { table, if_not_exists, columns, options }))
}

fn column(cursor: &mut Cursor<'_>) -> Parsed<ColumnDef> {
    let name = cursor.column_name()?;
    let unknown = cursor.unexpected(&[]);
    let word = cursor.lower_name()?;
    let kind = match word.as_str() {
        "text" | "field" => text_flags(cursor),
        "string" => {
            cursor.eat("attribute");
            ColumnType::String
        }
        "int" | "uint" | "integer" => ColumnType::Uint,
        "bigint" => ColumnType::Bigint,
        "float" => ColumnType::Float,
        "bool" => ColumnType::Bool,
        "timestamp" => ColumnType::Timestamp,
        "json" => ColumnType::Json,
        "multi" => ColumnType::Multi,
        "multi64" => ColumnType::Multi64,
        _ => return Err(unknown),
    };
    Ok(ColumnDef { name, kind })
}

/// `indexed` and `stored` in any order; neither means both.
fn text_flags(cursor: &mut Cursor<'_>) -> ColumnType {
    let (mut indexed, mut stored) = (false, false);
    loop {
        if cursor.eat("indexed") {
            indexed = true;
        } else if cursor.eat("stored") {
            stored = true;
        } else {
            break;
        }
    }
    let unsaid = !indexed && !stored;
    ColumnType::Text { indexed: indexed || unsaid, stored: stored || unsaid }
}

/// `DROP TABLE` is taken.
pub(super) fn drop(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let if_exists = cursor.eat_all(&["if", "exists"]);
    let table = table(cursor)?;
    let force = force(cursor)?;
    Ok(Statement::DropTable(DropTable { table, if_exists, force }))
}

/// `OPTION force=1`
pub(super) fn force(cursor: &mut Cursor<'_>) -> Parsed<bool> {
    Ok(options(cursor)?.iter().any(|(name, value)| name == "force" && *value == Literal::Int(1)))
}

/// `ALTER TABLE` is taken.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let table = table(cursor)?;
    let change = if cursor.eat("add") {
        cursor.expect("column")?;
        AlterColumn::Add(column(cursor)?)
    } else if cursor.eat("drop") {
        cursor.expect("column")?;
        AlterColumn::Drop(cursor.lower_name()?)
    } else {
        return Err(cursor.unexpected(&[]));
    };
    Ok(Statement::AlterTable(AlterTable { table, change }))
}
