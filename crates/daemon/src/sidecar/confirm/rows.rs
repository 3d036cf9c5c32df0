//! The rows that an INSERT or REPLACE writes, as far as they are plain literals, and their comparison with what a
//! node shows. What cannot be compared for certain counts as different.

use model::sql::{Token, TokenKind, tokenize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Rows that are read back at once. Larger statements come from loaders, and are theirs to look after.
const ROWS_MAX: usize = 100;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Text(String),
    Number(String),
    List(Vec<i64>),
}

/// What a statement writes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    pub(super) table: String,
    /// In lower case, `id` among them.
    pub(super) columns: Vec<String>,
    /// By id, in the order of the columns.
    rows: BTreeMap<i64, Vec<Literal>>,
}

impl Written {
    pub(super) fn ids(&self) -> impl ExactSizeIterator<Item = i64> {
        self.rows.keys().copied()
    }

    /// Whether the row of `id` is just what was written.
    pub(super) fn has(&self, id: i64, shown: &BTreeMap<String, Value>) -> bool {
        self.rows.get(&id).is_some_and(|literals| {
            self.columns
                .iter()
                .zip(literals)
                .all(|(column, literal)| shown.get(column).is_some_and(|value| literal.is_shown_as(value)))
        })
    }
}

impl Literal {
    fn is_shown_as(&self, shown: &Value) -> bool {
        match (self, shown) {
            (Self::Text(text), Value::String(shown)) => text == shown || same_json(text, shown),
            (Self::Text(text), shown) => serde_json::from_str::<Value>(text)
                .is_ok_and(|json| (json.is_object() || json.is_array()) && json == *shown),
            (Self::Number(number), Value::Bool(shown)) => number == if *shown { "1" } else { "0" },
            (Self::Number(number), Value::Number(shown)) => same_number(number, &shown.to_string()),
            (Self::List(list), Value::Array(shown)) => shown
                .iter()
                .map(Value::as_i64)
                .collect::<Option<Vec<_>>>()
                .is_some_and(|shown| same_set(list, &shown)),
            (Self::List(list), Value::String(shown)) => {
                let numbers =
                    shown.split(',').filter(|part| !part.is_empty()).map(|part| part.trim().parse().ok());
                numbers.collect::<Option<Vec<i64>>>().is_some_and(|shown| same_set(list, &shown))
            }
            _ => false,
        }
    }
}

/// A JSON column shows its text with other spaces.
fn same_json(text: &str, shown: &str) -> bool {
    match (serde_json::from_str::<Value>(text), serde_json::from_str::<Value>(shown)) {
        (Ok(text), Ok(shown)) => (text.is_object() || text.is_array()) && text == shown,
        _ => false,
    }
}

fn same_number(written: &str, shown: &str) -> bool {
    match (written.parse::<i64>(), shown.parse::<i64>()) {
        (Ok(written), Ok(shown)) => written == shown,
        // A float column keeps 32 bits and shows what it kept.
        _ => match (written.parse::<f32>(), shown.parse::<f32>()) {
            (Ok(written), Ok(shown)) => written.to_bits() == shown.to_bits(),
            _ => false,
        },
    }
}

/// Multi-value columns are sets, kept in order.
fn same_set(one: &[i64], other: &[i64]) -> bool {
    let set = |list: &[i64]| list.iter().copied().collect::<std::collections::BTreeSet<_>>();
    set(one) == set(other)
}

/// Walks over the tokens of one statement.
struct Walk<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Option<&Token<'a>> {
        self.at += 1;
        self.tokens.get(self.at - 1)
    }

    fn takes(&mut self, taken: impl Fn(&Token<'a>) -> bool) -> bool {
        let fits = self.tokens.get(self.at).is_some_and(taken);
        self.at += usize::from(fits);
        fits
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.takes(|token| token.is_symbol(symbol))
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        self.takes(|token| token.is(keyword))
    }

    fn name(&mut self) -> Option<String> {
        match self.next()?.kind {
            TokenKind::Word(name) | TokenKind::Quoted(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<String> {
        let minus = if self.symbol("-") { "-" } else { "" };
        match self.next()?.kind {
            TokenKind::Number(number) => Some(format!("{minus}{number}")),
            _ => None,
        }
    }

    fn literal(&mut self) -> Option<Literal> {
        if let Some(TokenKind::Text(text)) = self.tokens.get(self.at).map(|token| &token.kind) {
            let text = text.clone().into_owned();
            self.at += 1;
            return Some(Literal::Text(text));
        }
        if !self.symbol("(") {
            return self.number().map(Literal::Number);
        }
        let mut list = Vec::new();
        if self.symbol(")") {
            return Some(Literal::List(list));
        }
        loop {
            list.push(self.number()?.parse().ok()?);
            if self.symbol(")") {
                return Some(Literal::List(list));
            }
            if !self.symbol(",") {
                return None;
            }
        }
    }
}

/// `INSERT|REPLACE INTO t (…, id, …) VALUES (…), …` of literals only; everything else is `None`.
pub(super) fn read(sql: &str) -> Option<Written> {
    let mut walk = Walk { tokens: tokenize(sql).ok()?, at: 0 };
    if !(walk.keyword("INSERT") || walk.keyword("REPLACE")) {
        return None;
    }
    walk.keyword("INTO");
    let mut table = walk.name()?;
    if walk.symbol(":") {
        table = walk.name()?;
    }
    if !walk.symbol("(") {
        return None;
    }
    let mut columns = Vec::new();
    loop {
        columns.push(walk.name()?);
        if walk.symbol(")") {
            break;
        }
        if !walk.symbol(",") {
            return None;
        }
    }
    let id_at = columns.iter().position(|column| column == "id")?;
    if !walk.keyword("VALUES") {
        return None;
    }
    let rows = rows(&mut walk, columns.len(), id_at)?;
    Some(Written { table, columns, rows })
}

fn rows(walk: &mut Walk<'_>, width: usize, id_at: usize) -> Option<BTreeMap<i64, Vec<Literal>>> {
    let mut rows = BTreeMap::new();
    loop {
        if !walk.symbol("(") {
            return None;
        }
        let mut row = Vec::with_capacity(width);
        loop {
            row.push(walk.literal()?);
            if walk.symbol(")") {
                break;
            }
            if !walk.symbol(",") {
                return None;
            }
        }
        let Literal::Number(id) = row.get(id_at)? else { return None };
        let id: i64 = id.parse().ok()?;
        if row.len() != width || id == 0 || rows.len() == ROWS_MAX || rows.insert(id, row).is_some() {
            return None;
        }
        if !walk.symbol(",") {
            break;
        }
    }
    walk.symbol(";");
    (walk.at == walk.tokens.len()).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shows(sql: &str, row: &Value) -> bool {
        let written = read(sql).expect("reads");
        let shown: BTreeMap<String, Value> = row
            .as_object()
            .expect("a row")
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        written.has(row["id"].as_i64().expect("an id"), &shown)
    }

    #[test]
    fn literals_are_compared_with_what_a_node_shows() {
        let sql = "INSERT INTO c:t (id, Title, v, f, b, tags, meta) VALUES (-7, 'it\\'s', 3, 1.1, 1, (2,1,2), '{\"a\": [1]}')";
        let same = json!({ "id": -7, "title": "it's", "v": 3, "f": 1.1, "b": true, "tags": [1, 2], "meta": { "a": [1] } });
        assert!(shows(sql, &same));
        let text = json!({ "id": -7, "title": "it's", "v": 3, "f": 1.1, "b": 1, "tags": "1,2", "meta": "{\"a\":[1]}" });
        assert!(shows(sql, &text));
        for (column, other) in [
            ("title", json!("its")),
            ("v", json!(4)),
            ("v", json!("3")),
            ("f", json!(1.2)),
            ("b", json!(false)),
            ("tags", json!([1])),
            ("meta", json!({ "a": [2] })),
            ("meta", Value::Null),
        ] {
            let mut row = same.clone();
            row[column] = other;
            assert!(!shows(sql, &row), "{row}");
        }
        let mut row = same;
        row.as_object_mut().expect("a row").remove("v");
        assert!(!shows(sql, &row), "a column that is not shown");
    }

    #[test]
    fn only_plain_rows_with_ids_are_read() {
        assert_eq!(
            read("REPLACE INTO `t` (v,id) VALUES (1,2),(3,4);").map(|written| written.rows.len()),
            Some(2)
        );
        for sql in [
            "INSERT INTO t VALUES (1,2)",
            "INSERT INTO t (v) VALUES (1)",
            "INSERT INTO t (id,v) VALUES (1,1+1)",
            "INSERT INTO t (id,v) VALUES (1,now())",
            "INSERT INTO t (id,v) VALUES (0,1)",
            "INSERT INTO t (id,v) VALUES (1,1),(1,2)",
            "INSERT INTO t (id,v) VALUES (1)",
            "INSERT INTO t (id,v) VALUES (1,2) x",
            "UPDATE t SET v=1 WHERE id=1",
            "DELETE FROM t WHERE id=1",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
        let many: Vec<String> = (1..=101).map(|id| format!("({id})")).collect();
        assert_eq!(read(&format!("INSERT INTO t (id) VALUES {}", many.join(","))), None);
    }
}
