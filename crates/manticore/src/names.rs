//! Which tables a statement names: what names one of ours is never passed to another sidecar.
//!
//! Where the kind of statement is known the tables are read exactly; of every other statement each word counts,
//! since holding back too much costs a message and letting one write through costs the table.

use crate::cursor::Cursor;
use model::{TableName, parse_shard_table};
use std::collections::BTreeSet;

pub use crate::cursor::TableRef;

/// The tables that `sql` names, each once, in order.
pub fn names_table(sql: &str) -> Vec<TableRef> {
    let mut names = BTreeSet::new();
    // Several statements, or none that has words, can still be read differently by somebody else.
    let known = Cursor::new(sql)
        .is_ok_and(|mut cursor| !cursor.has_symbol(";") && known_statement(&mut cursor, &mut names));
    if !known {
        names.extend(every_word(sql));
    }
    names.into_iter().collect()
}

/// Those of `ours` that `sql` names, by the table's own name or by that of one of its shards.
pub fn names_ours(sql: &str, ours: &BTreeSet<TableName>) -> BTreeSet<TableName> {
    names_table(sql)
        .iter()
        .filter_map(|table| user_table(&table.name))
        .filter(|table| ours.contains(table))
        .collect()
}

/// Those of `ours` that the body of a JSON request (`/insert`, `/bulk`, `/search`, …) or its path names.
pub fn json_names_ours(path: &str, body: &str, ours: &BTreeSet<TableName>) -> BTreeSet<TableName> {
    let mut names = every_word(path);
    for line in body.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(value) => named_in_json(&value, 0, &mut names),
            // An object over several lines, or none at all.
            Err(_) => match serde_json::from_str(body) {
                Ok(value) => {
                    named_in_json(&value, 0, &mut names);
                    break;
                }
                Err(_) => names.extend(every_word(line)),
            },
        }
    }
    names.iter().filter_map(|table| user_table(&table.name)).filter(|table| ours.contains(table)).collect()
}

/// The table stands behind `table`, `index` or `_index`, at the top or inside a bulk action; deeper is content.
fn named_in_json(value: &serde_json::Value, depth: usize, names: &mut BTreeSet<TableRef>) {
    let Some(object) = value.as_object() else { return };
    for (key, value) in object {
        match value.as_str() {
            Some(name) if ["table", "index", "_index"].contains(&key.as_str()) => {
                names.extend(every_word(name));
            }
            _ if depth == 0 && key != "doc" => named_in_json(value, 1, names),
            _ => {}
        }
    }
}

fn user_table(name: &str) -> Option<TableName> {
    let lower = name.to_ascii_lowercase();
    match parse_shard_table(&lower) {
        Some((table, _)) => Some(table),
        None => TableName::new(lower).ok(),
    }
}

/// Reads the tables of a statement whose shape is known. `false` when it is not.
fn known_statement(cursor: &mut Cursor<'_>, names: &mut BTreeSet<TableRef>) -> bool {
    let one = |cursor: &mut Cursor<'_>, names: &mut BTreeSet<TableRef>| {
        cursor.table().map(|t| names.insert(t)).is_some()
    };
    if cursor.keyword("INSERT") || cursor.keyword("REPLACE") {
        cursor.keyword("INTO");
        return one(cursor, names);
    }
    if cursor.keyword("SELECT") {
        select(cursor, names);
        return true;
    }
    if cursor.keyword("DELETE") && cursor.keyword("FROM") || cursor.keyword("UPDATE") {
        return one(cursor, names);
    }
    if cursor.keywords(&["CREATE", "TABLE"]) {
        cursor.keywords(&["IF", "NOT", "EXISTS"]);
        let found = one(cursor, names);
        return found && (!cursor.keyword("LIKE") || one(cursor, names));
    }
    if cursor.keywords(&["DROP", "TABLE"]) {
        cursor.keywords(&["IF", "EXISTS"]);
        return one(cursor, names);
    }
    let before_one_table: [&[&str]; 8] = [
        &["TRUNCATE", "TABLE"],
        &["OPTIMIZE", "TABLE"],
        &["FLUSH", "RAMCHUNK"],
        &["FLUSH", "TABLE"],
        &["ALTER", "TABLE"],
        &["SHOW", "CREATE", "TABLE"],
        &["DESC"],
        &["DESCRIBE"],
    ];
    before_one_table.iter().any(|words| cursor.keywords(words)) && one(cursor, names)
}

/// Behind every FROM and JOIN at any depth: a list of tables, or a bracket whose inside is walked over anyway.
fn select(cursor: &mut Cursor<'_>, names: &mut BTreeSet<TableRef>) {
    while !cursor.at_end() {
        if cursor.keyword("FROM") || cursor.keyword("JOIN") {
            while let Some(table) = cursor.table() {
                names.insert(table);
                if !cursor.symbol(",") {
                    break;
                }
            }
        } else {
            cursor.next();
        }
    }
}

/// Every run of letters, digits, `_` and dots, wherever it stands.
fn every_word(text: &str) -> BTreeSet<TableRef> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
    text.split(part)
        .flat_map(|word| [word, word.rsplit('.').next().unwrap_or(word)])
        .filter(|word| !word.is_empty())
        .map(|word| TableRef { cluster: None, name: word.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sql: &str) -> Vec<String> {
        names_table(sql)
            .into_iter()
            .map(|table| table.cluster.map_or(String::new(), |cluster| format!("{cluster}:")) + &table.name)
            .collect()
    }

    #[test]
    fn tables_are_read_where_the_statement_is_known() {
        for (sql, tables) in [
            ("INSERT INTO t (id, u) VALUES (1, 'w')", vec!["t"]),
            ("insert into c:t values (1)", vec!["c:t"]),
            ("REPLACE INTO `t` SET u=1 WHERE id=1", vec!["t"]),
            ("UPDATE t SET u=1", vec!["t"]),
            ("DELETE FROM system.t_s0 WHERE id=1", vec!["system.t_s0"]),
            ("SELECT u FROM t, v WHERE w='x'", vec!["t", "v"]),
            ("SELECT * FROM (SELECT a FROM t) LEFT JOIN c:u ON t.id=u.id", vec!["t", "c:u"]),
            ("SELECT 1", vec![]),
            ("CREATE TABLE IF NOT EXISTS c:t (u text) shards='1'", vec!["c:t"]),
            ("CREATE TABLE t LIKE u", vec!["t", "u"]),
            ("DROP TABLE IF EXISTS t;", vec!["t"]),
            ("SHOW CREATE TABLE t OPTION force=1", vec!["t"]),
            ("TRUNCATE TABLE t", vec!["t"]),
            ("DESC t", vec!["t"]),
        ] {
            assert_eq!(named(sql), tables, "{sql}");
        }
    }

    #[test]
    fn of_other_statements_every_word_counts() {
        let ours = BTreeSet::from([TableName::new("t").expect("valid")]);
        for sql in [
            "CALL SNIPPETS('x', 't', 'y')",
            "LOCK TABLES u READ, t READ",
            "INSERT INTO u (id) VALUES (1); INSERT INTO t",
            "BACKUP TABLES `t` TO '/x'",
            "SELECT 'unterminated FROM t",
            "INSERT INTO system.T_s3 (id) VALUES (1)",
            "ALTER CLUSTER c ADD system.t_s0",
        ] {
            assert_eq!(names_ours(sql, &ours).len(), 1, "{sql}");
        }
        assert!(names_ours("INSERT INTO u (t) VALUES ('t')", &ours).is_empty());
        for (path, body) in [
            ("/insert", r#"{"table":"t","id":1}"#),
            ("/bulk", "{\"insert\":{\"index\":\"u\"}}\n{\"insert\":{\"index\":\"T\"}}"),
            ("/t/_doc/1", "{}"),
            ("/insert", "{\n  \"table\": \"t\"\n}"),
            ("/insert", "{\"table\": \"t\", cut off"),
        ] {
            assert_eq!(json_names_ours(path, body, &ours).len(), 1, "{path} {body}");
        }
        assert!(
            json_names_ours("/insert", r#"{"table":"u","doc":{"title":"t","table":"t"}}"#, &ours).is_empty()
        );
    }
}
