//! Manticore's SQL dialect: text to [`Statement`], with searchd's syntax errors. It knows no table and runs nothing.

pub mod ast;
mod cursor;
pub mod expr;
pub mod needs;
mod parse_cluster;
mod parse_expr;
mod parse_select;
mod parse_show;
mod parse_table;
mod parse_write;
pub mod search;
#[cfg(test)]
mod tests;

pub use ast::Statement;
pub(crate) use cursor::shown_column;

use crate::io::SqlError;
use cursor::{Cursor, Grammar, Parsed};
use model::sql::{Token, tokenize};

/// Reads one statement. The error is the one that a real node would send: code, grammar, and the text from the
/// offending token on.
pub fn parse(sql: &str) -> Result<Statement, SqlError> {
    let tokens = tokenize(sql).map_err(|error| {
        let near = sql.get(error.start..).unwrap_or("");
        SqlError::new(format!(
            "P01: syntax error, {} near '{near}'",
            format_args!("unterminated {}", error.what)
        ))
    })?;
    let Some(first) = tokens.first().filter(|token| !token.is_symbol(";")) else {
        return Err(SqlError::new("query was empty"));
    };
    let mut cursor = Cursor::new(sql, &tokens, grammar(first, &tokens));
    let statement = statement(&mut cursor)?;
    cursor.end()?;
    Ok(statement)
}

fn grammar(first: &Token<'_>, tokens: &[Token<'_>]) -> Grammar {
    let any = |words: &[&str]| words.iter().any(|word| first.is(word));
    let cluster = tokens.get(1).is_some_and(|token| token.is("cluster"));
    if any(&["create", "drop", "alter", "join", "exit"]) || (cluster && any(&["delete", "set"])) {
        Grammar::Definition
    } else if any(&QUERY_WORDS) {
        Grammar::Query
    } else {
        Grammar::Unknown
    }
}

/// First words of the query grammar.
const QUERY_WORDS: [&str; 19] = [
    "select", "insert", "replace", "update", "delete", "truncate", "show", "desc", "describe", "set",
    "begin", "start", "commit", "rollback", "lock", "unlock", "flush", "optimize", "explain",
];

fn statement(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    if cursor.at_word("select") {
        return Ok(Statement::Select(parse_select::select(cursor)?));
    }
    if cursor.at_word("insert") {
        return parse_write::insert(cursor, false);
    }
    if cursor.at_word("replace") {
        return parse_write::insert(cursor, true);
    }
    if let Some(parsed) = definition(cursor) {
        return parsed;
    }
    if cursor.at_word("update") {
        return parse_write::update(cursor);
    }
    if cursor.at_word("delete") {
        return parse_write::delete(cursor);
    }
    session(cursor)
}

/// Statements known by their first two words.
fn definition(cursor: &mut Cursor<'_>) -> Option<Parsed<Statement>> {
    type Rest = fn(&mut Cursor<'_>) -> Parsed<Statement>;
    let statements: [(&[&str], Rest); 9] = [
        (&["create", "table"], parse_table::create),
        (&["drop", "table"], parse_table::drop),
        (&["alter", "table"], parse_table::alter),
        (&["create", "cluster"], parse_cluster::create),
        (&["join", "cluster"], parse_cluster::join),
        (&["alter", "cluster"], parse_cluster::alter),
        (&["exit", "cluster"], parse_cluster::exit),
        (&["delete", "cluster"], parse_cluster::delete),
        (&["set", "cluster"], parse_cluster::set),
    ];
    let (_, rest) = statements.into_iter().find(|(words, _)| cursor.eat_all(words))?;
    Some(rest(cursor))
}

fn session(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    if cursor.eat("show") {
        return parse_show::show(cursor);
    }
    if cursor.eat("desc") || cursor.eat("describe") {
        return parse_show::describe(cursor);
    }
    if cursor.eat("set") {
        return parse_show::set(cursor);
    }
    if cursor.eat("begin") || cursor.eat_all(&["start", "transaction"]) {
        return Ok(Statement::Begin);
    }
    if cursor.eat("commit") {
        return Ok(Statement::Commit);
    }
    if cursor.eat("rollback") {
        return Ok(Statement::Rollback);
    }
    if cursor.eat_all(&["lock", "tables"]) {
        return parse_show::lock(cursor);
    }
    if cursor.eat_all(&["unlock", "tables"]) {
        return Ok(Statement::UnlockTables);
    }
    if cursor.eat_all(&["truncate", "table"]) {
        return Ok(Statement::Truncate(parse_table::table(cursor)?));
    }
    if cursor.eat_all(&["flush", "ramchunk"]) {
        return Ok(Statement::FlushRamchunk(parse_table::table(cursor)?));
    }
    if cursor.eat_all(&["optimize", "table"]) {
        let table = parse_table::table(cursor)?;
        return Ok(Statement::Optimize { table, options: parse_select::options(cursor)? });
    }
    Err(unknown(cursor))
}

/// The error at the second word where the first begins a statement, else at the first.
fn unknown(cursor: &mut Cursor<'_>) -> SqlError {
    const SECOND: [(&str, &[&str]); 12] = [
        ("create", &["CLUSTER", "TABLE"]),
        ("drop", &["TABLE"]),
        ("alter", &["CLUSTER", "TABLE"]),
        ("join", &["CLUSTER"]),
        ("exit", &["CLUSTER"]),
        ("start", &["TRANSACTION"]),
        ("lock", &["TABLES"]),
        ("unlock", &["TABLES"]),
        ("truncate", &["TABLE"]),
        ("flush", &["RAMCHUNK"]),
        ("optimize", &["TABLE"]),
        ("explain", &["QUERY"]),
    ];
    let Some((_, expecting)) = SECOND.into_iter().find(|(first, _)| cursor.at_word(first)) else {
        return cursor.unexpected(&[]);
    };
    cursor.advance();
    cursor.unexpected(expecting)
}
