//! A single INSERT, REPLACE, UPDATE, DELETE or SELECT, and the ids that it names.

use crate::cursor::{Cursor, TableRef};
use crate::names::names_table;
use model::sql::TokenKind;
use std::collections::BTreeSet;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Insert,
    Replace,
    Update,
    Delete,
    Select,
}

pub(super) struct Single {
    pub(super) kind: Kind,
    pub(super) tables: Vec<TableRef>,
    /// Of an INSERT or full REPLACE with explicit distinct ids, or a DELETE by ids.
    pub(super) ids: Option<Ids>,
}

/// The ids of a statement, each with the bytes that go when the id is taken out.
pub(super) struct Ids {
    /// Bytes of all items and the commas between them.
    list: Range<usize>,
    items: Vec<(i64, Range<usize>)>,
}

impl Ids {
    /// The statement without `processed`; `None` when one of these is not in it, or nothing would be left.
    pub(super) fn without(&self, sql: &str, processed: &BTreeSet<i64>) -> Option<String> {
        let known: BTreeSet<i64> = self.items.iter().map(|(id, _)| *id).collect();
        if !processed.is_subset(&known) || processed.len() == known.len() {
            return None;
        }
        let left = self.items.iter().filter(|(id, _)| !processed.contains(id));
        let left: Vec<&str> = left.map(|(_, range)| &sql[range.clone()]).collect();
        Some(format!("{}{}{}", &sql[..self.list.start], left.join(","), &sql[self.list.end..]))
    }
}

impl Single {
    /// `None` when `sql` is several statements, or one of another kind.
    pub(super) fn read(sql: &str) -> Option<Self> {
        let mut cursor = Cursor::new(sql).ok()?;
        if cursor.has_symbol(";") {
            return None;
        }
        let (kind, ids) = if cursor.keyword("INSERT") {
            (Kind::Insert, rows(&mut cursor))
        } else if cursor.keyword("REPLACE") {
            (Kind::Replace, rows(&mut cursor))
        } else if cursor.keyword("DELETE") {
            (Kind::Delete, deleted(&mut cursor))
        } else if cursor.keyword("UPDATE") {
            (Kind::Update, None)
        } else if cursor.keyword("SELECT") {
            (Kind::Select, None)
        } else {
            return None;
        };
        Some(Self { kind, tables: names_table(sql), ids })
    }
}

/// `INTO t (…, id, …) VALUES (…), (…)` to the end, every row with an id of its own that is not 0: 0 and no id at
/// all get an automatic one, which would be another one the next time.
fn rows(cursor: &mut Cursor<'_>) -> Option<Ids> {
    cursor.keyword("INTO");
    cursor.table()?;
    let place = id_column(cursor)?;
    if !cursor.keyword("VALUES") {
        return None;
    }
    let list_start = cursor.byte();
    let mut items = Vec::new();
    loop {
        let start = cursor.byte();
        let id = row_id(cursor, place)?;
        items.push((id, start..cursor.byte_behind()));
        if !cursor.symbol(",") {
            break;
        }
    }
    let list = list_start..cursor.byte_behind();
    let distinct: BTreeSet<i64> = items.iter().map(|(id, _)| *id).collect();
    let explicit = distinct.len() == items.len() && !distinct.contains(&0);
    (explicit && cursor.at_end()).then_some(Ids { list, items })
}

/// The place of `id` in the column list.
fn id_column(cursor: &mut Cursor<'_>) -> Option<usize> {
    if !cursor.symbol("(") {
        return None;
    }
    let mut place = None;
    let mut index = 0;
    loop {
        if cursor.name()?.eq_ignore_ascii_case("id") && place.replace(index).is_some() {
            return None;
        }
        index += 1;
        if cursor.symbol(")") {
            return place;
        }
        if !cursor.symbol(",") {
            return None;
        }
    }
}

/// Passes over `( … )` and gives the whole number at `place`.
fn row_id(cursor: &mut Cursor<'_>, place: usize) -> Option<i64> {
    if !cursor.symbol("(") {
        return None;
    }
    let mut index = 0;
    let mut id = None;
    loop {
        if index == place && id.is_none() {
            id = Some(whole_number(cursor)?);
        }
        if cursor.symbol("(") {
            if !cursor.skip_brackets() {
                return None;
            }
        } else if cursor.symbol(")") {
            return id;
        } else if cursor.symbol(",") {
            index += 1;
        } else {
            // Behind the id itself only a comma or the end of the row may come: `1+1` is no explicit id.
            if index == place {
                return None;
            }
            cursor.next()?;
        }
    }
}

fn whole_number(cursor: &mut Cursor<'_>) -> Option<i64> {
    let minus = if cursor.symbol("-") { "-" } else { "" };
    let TokenKind::Number(digits) = cursor.peek()?.kind else { return None };
    let number = format!("{minus}{digits}").parse().ok()?;
    cursor.next();
    Some(number)
}

/// `FROM t WHERE id = 1` or `FROM t WHERE id IN (1,2)` to the end.
fn deleted(cursor: &mut Cursor<'_>) -> Option<Ids> {
    if !cursor.keyword("FROM") {
        return None;
    }
    cursor.table()?;
    if !cursor.keywords(&["WHERE", "id"]) {
        return None;
    }
    if cursor.symbol("=") {
        let start = cursor.byte();
        let id = whole_number(cursor)?;
        let list = start..cursor.byte_behind();
        return cursor.at_end().then(|| Ids { list: list.clone(), items: vec![(id, list)] });
    }
    if !(cursor.keyword("IN") && cursor.symbol("(")) {
        return None;
    }
    let list_start = cursor.byte();
    let mut items = Vec::new();
    loop {
        let start = cursor.byte();
        let id = whole_number(cursor)?;
        items.push((id, start..cursor.byte_behind()));
        if !cursor.symbol(",") {
            break;
        }
    }
    let list = list_start..cursor.byte_behind();
    let distinct: BTreeSet<i64> = items.iter().map(|(id, _)| *id).collect();
    let whole = cursor.symbol(")") && cursor.at_end() && distinct.len() == items.len();
    whole.then_some(Ids { list, items })
}
