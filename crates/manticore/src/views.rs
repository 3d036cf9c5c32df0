//! `SELECT … FROM system.sharding_state|queue|table`: questions to the views of the control state.
//!
//! One table, conditions joined by AND, one column to order by, a limit: what scripts ask. Everything else is refused
//! with what it is near, rather than answered wrongly.

use crate::cursor::Cursor;
use crate::sharding::Refusal;
use model::sql::TokenKind;
use model::wire::{Comparison, Condition, Select, ShardingStatement, View, ViewQuery};

/// The statement behind `SELECT`; `None` when it does not read one of the views.
pub(crate) fn select(cursor: &mut Cursor<'_>) -> Option<Result<ShardingStatement, Refusal>> {
    let view = view_named(cursor)?;
    Some(query(cursor, view).map(|query| ShardingStatement::SelectView { query }))
}

/// The view behind the first FROM; the cursor stays.
fn view_named(cursor: &Cursor<'_>) -> Option<View> {
    let mut ahead = cursor.clone();
    while !ahead.keyword("FROM") {
        ahead.next()?;
    }
    table(&mut ahead)
}

fn table(cursor: &mut Cursor<'_>) -> Option<View> {
    let table = cursor.table().filter(|table| table.cluster.is_none())?;
    match table.name.to_ascii_lowercase().as_str() {
        "system.sharding_state" => Some(View::State),
        "system.sharding_queue" => Some(View::Queue),
        "system.sharding_table" => Some(View::Table),
        _ => None,
    }
}

fn query(cursor: &mut Cursor<'_>, view: View) -> Result<ViewQuery, Refusal> {
    let select = columns(cursor)?;
    if !cursor.keyword("FROM") || table(cursor) != Some(view) {
        return Err(near(cursor));
    }
    let mut conditions = Vec::new();
    if cursor.keyword("WHERE") {
        conditions.push(condition(cursor)?);
        while cursor.keyword("AND") {
            conditions.push(condition(cursor)?);
        }
    }
    let mut order = None;
    if cursor.keywords(&["ORDER", "BY"]) {
        let column = name(cursor)?;
        let descending = cursor.keyword("DESC");
        if !descending {
            cursor.keyword("ASC");
        }
        order = Some((column, descending));
    }
    let mut limit = None;
    if cursor.keyword("LIMIT") {
        limit = Some(value(cursor)?.parse().map_err(|_| near(cursor))?);
    }
    if !cursor.at_end() {
        return Err(near(cursor));
    }
    Ok(ViewQuery { view, select, conditions, order, limit })
}

fn columns(cursor: &mut Cursor<'_>) -> Result<Select, Refusal> {
    if cursor.symbol("*") {
        return Ok(Select::All);
    }
    let mut counts = cursor.clone();
    if counts.keyword("COUNT") && counts.symbol("(") && counts.symbol("*") && counts.symbol(")") {
        *cursor = counts;
        return Ok(Select::Count);
    }
    let mut names = vec![name(cursor)?];
    while cursor.symbol(",") {
        names.push(name(cursor)?);
    }
    Ok(Select::Columns(names))
}

fn condition(cursor: &mut Cursor<'_>) -> Result<Condition, Refusal> {
    let column = name(cursor)?;
    let comparisons = [
        ("=", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<>", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let found = comparisons.into_iter().find(|(symbol, _)| cursor.symbol(symbol));
    let is = match found {
        Some((_, is)) => is,
        None if cursor.keyword("LIKE") => Comparison::Like,
        None => return Err(near(cursor)),
    };
    Ok(Condition { column, is, value: value(cursor)? })
}

fn name(cursor: &mut Cursor<'_>) -> Result<String, Refusal> {
    let refusal = near(cursor);
    cursor.name().map(str::to_owned).ok_or(refusal)
}

fn value(cursor: &mut Cursor<'_>) -> Result<String, Refusal> {
    let refusal = near(cursor);
    if let Some(text) = cursor.text() {
        return Ok(text);
    }
    match cursor.next().map(|token| &token.kind) {
        Some(TokenKind::Number(number)) => Ok((*number).to_owned()),
        _ => Err(refusal),
    }
}

fn near(cursor: &Cursor<'_>) -> Refusal {
    Refusal::Syntax { near: cursor.near().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharding::read;

    fn query_of(sql: &str) -> ViewQuery {
        match read(sql) {
            Some(Ok(ShardingStatement::SelectView { query })) => query,
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn what_scripts_ask_is_read() {
        let all = query_of("select * from system.sharding_state");
        assert_eq!((all.view, all.select), (View::State, Select::All));
        let one = query_of(
            "SELECT `key`, value FROM System.Sharding_Queue WHERE node='127.0.0.1:9312' AND tries >= 2 \
             AND query LIKE 'JOIN%' ORDER BY id DESC LIMIT 5;",
        );
        assert_eq!(one.view, View::Queue);
        assert_eq!(one.select, Select::Columns(vec!["key".into(), "value".into()]));
        let condition =
            |column: &str, is, value: &str| Condition { column: column.into(), is, value: value.into() };
        assert_eq!(
            one.conditions,
            [
                condition("node", Comparison::Equal, "127.0.0.1:9312"),
                condition("tries", Comparison::GreaterOrEqual, "2"),
                condition("query", Comparison::Like, "JOIN%"),
            ]
        );
        assert_eq!((one.order, one.limit), (Some(("id".into(), true)), Some(5)));
        assert_eq!(query_of("SELECT COUNT(*) FROM system.sharding_table").select, Select::Count);
    }

    #[test]
    fn other_selects_are_no_matter_of_ours() {
        for sql in [
            "SELECT 1",
            "SELECT * FROM t",
            "SELECT * FROM system.t_s0",
            "SELECT * FROM c:system.sharding_state",
            "SELECT * FROM sharding_state",
        ] {
            assert!(read(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_guessed() {
        for (sql, near) in [
            ("SELECT * FROM system.sharding_state WHERE", ""),
            ("SELECT * FROM system.sharding_state WHERE key IN ('a')", "IN ('a')"),
            ("SELECT * FROM system.sharding_state WHERE key='a' OR key='b'", "OR key='b'"),
            ("SELECT * FROM system.sharding_state GROUP BY key", "GROUP BY key"),
            ("SELECT sum(tries) FROM system.sharding_queue", "(tries) FROM system.sharding_queue"),
            ("SELECT * FROM system.sharding_state LIMIT 1,2", ",2"),
        ] {
            let refusal = read(sql).expect(sql).expect_err(sql).to_string();
            assert_eq!(refusal, format!("P01: syntax error near '{near}'"), "{sql}");
        }
    }
}
