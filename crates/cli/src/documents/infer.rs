//! From the first documents to the columns of a table.
//!
//! A column's kind keeps every value it was inferred from exactly; where no narrower kind does, it is text.

use super::value::{Kind, ascending_ints, survives_f32};
use super::{Cell, Document};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// searchd's limit is far higher; past this a file is a dump of something else than documents.
const COLUMNS_MAX: usize = 250;
/// Above this many characters a string is something to search in, not to filter by.
const STRING_CHARS_MAX: usize = 32;

/// A column made for a field.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Column {
    /// The key in the documents.
    pub field: String,
    /// The name in the table; differs where the key is no plain identifier.
    pub name: String,
    pub kind: Kind,
}

/// Where ids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRule {
    /// The field `id`, a positive integer in every document looked at.
    Given,
    /// The number of the line; a field `id` is a column `source_id` then.
    LineNumber,
}

/// The columns of a table and the rule for ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub columns: Vec<Column>,
    pub ids: IdRule,
}

impl Shape {
    /// The column list of `CREATE TABLE`, without parentheses.
    pub fn declaration(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("{} {}", model::sql::Ident(&column.name), column.kind.sql()))
            .collect();
        columns.join(", ")
    }

    /// The document of one line, or what in it contradicts the columns.
    pub fn document(&self, line: u64, mut object: Map<String, Value>) -> Result<Document, String> {
        let id = match self.ids {
            IdRule::LineNumber => i64::try_from(line).map_err(|_| "line number beyond 2^63".to_owned())?,
            IdRule::Given => match object.remove("id") {
                Some(value) => match value.as_i64() {
                    Some(id) if id > 0 => id,
                    _ => return Err(format!("id is {}, not a positive integer", excerpt(&value))),
                },
                None => return Err("it has no id, the documents before it have".to_owned()),
            },
        };
        let mut cells = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let value = object.remove(&column.field).unwrap_or(Value::Null);
            let Some(cell) = column.kind.take(&value) else {
                return Err(format!(
                    "field '{}' is {}, its column is {}",
                    column.field,
                    excerpt(&value),
                    column.kind.sql()
                ));
            };
            cells.push(cell);
        }
        match object.keys().next() {
            Some(unknown) => Err(format!("field '{unknown}' has no column")),
            None => Ok(Document { id, cells }),
        }
    }

    /// A document of made-up values, different for different numbers; for writers beside the load.
    pub fn made_up(&self, id: i64, number: u64) -> Document {
        let cells = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let value = number.wrapping_mul(31).wrapping_add(at as u64);
                match column.kind {
                    Kind::Text => Cell::Text(format!("écrit №{value} \"beside\" the load, it's {number}")),
                    Kind::String => Cell::Text(format!("v{value}")),
                    Kind::Bigint => Cell::Int((value >> 1) as i64),
                    Kind::Float => Cell::Float((value % 100_000) as f32 / 4.0),
                    Kind::Bool => Cell::Bool(value.is_multiple_of(2)),
                    Kind::Json => Cell::Json(serde_json::json!({"number": value, "by": "writer"})),
                    Kind::Multi | Kind::Multi64 => {
                        let first = (value % 1000) as i64;
                        Cell::Ints(vec![first, first + 1])
                    }
                }
            })
            .collect();
        Document { id, cells }
    }
}

fn excerpt(value: &Value) -> String {
    const CHARS_MAX: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// What was seen of one field.
#[expect(clippy::struct_excessive_bools, reason = "each is one independent sighting")]
#[derive(Clone, Debug, Default)]
struct Seen {
    ints: bool,
    /// Beyond 2^24, where a float column would round.
    ints_beyond_f32: bool,
    floats: bool,
    bools: bool,
    strings: bool,
    long_strings: bool,
    /// Objects, and arrays that are no multi-value.
    json: bool,
    multis: bool,
    wide_multis: bool,
    /// Numbers that neither a bigint nor a float column keeps.
    only_as_text: bool,
}

impl Seen {
    fn see(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.bools = true,
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => {
                    self.ints = true;
                    self.ints_beyond_f32 |= !survives_f32(int as f64) || int as f64 as i64 != int;
                }
                (None, Some(wide)) if number.is_f64() && survives_f32(wide) => self.floats = true,
                _ => self.only_as_text = true,
            },
            Value::String(text) => {
                self.strings = true;
                self.long_strings |= text.chars().nth(STRING_CHARS_MAX).is_some() || text.contains('\n');
            }
            Value::Array(items) => match ascending_ints(items) {
                Some(ints) => {
                    self.multis = true;
                    self.wide_multis |= ints.iter().any(|int| u32::try_from(*int).is_err());
                }
                None => self.json = true,
            },
            Value::Object(_) => self.json = true,
        }
    }

    fn kind(&self) -> Kind {
        let numbers = self.ints || self.floats || self.only_as_text;
        let lists = self.json || self.multis;
        let families = [numbers, self.bools, self.strings, lists].into_iter().filter(|seen| *seen).count();
        match families {
            0 => Kind::String,
            1 if self.bools => Kind::Bool,
            1 if lists => match (self.json, self.wide_multis) {
                (true, _) => Kind::Json,
                (false, true) => Kind::Multi64,
                (false, false) => Kind::Multi,
            },
            1 if numbers && !self.only_as_text => match (self.floats, self.ints_beyond_f32) {
                (false, _) => Kind::Bigint,
                (true, false) => Kind::Float,
                (true, true) => Kind::String,
            },
            _ if self.long_strings || lists => Kind::Text,
            _ => Kind::String,
        }
    }
}

/// Gathers what the first documents show.
#[derive(Clone, Debug, Default)]
pub struct Inference {
    /// In order of first sight.
    fields: Vec<(String, Seen)>,
    documents: u64,
    usable_ids: u64,
}

impl Inference {
    pub fn see(&mut self, object: &Map<String, Value>) -> Result<(), String> {
        self.documents += 1;
        self.usable_ids += u64::from(object.get("id").and_then(Value::as_i64).is_some_and(|id| id > 0));
        for (field, value) in object {
            let at = match self.fields.iter().position(|(known, _)| known == field) {
                Some(at) => at,
                None if self.fields.len() == COLUMNS_MAX => {
                    return Err(format!("more than {COLUMNS_MAX} different fields"));
                }
                None => {
                    self.fields.push((field.clone(), Seen::default()));
                    self.fields.len() - 1
                }
            };
            self.fields[at].1.see(value);
        }
        Ok(())
    }

    pub const fn documents(&self) -> u64 {
        self.documents
    }

    pub fn shape(self) -> Shape {
        let given = self.documents > 0 && self.usable_ids == self.documents;
        let mut taken = BTreeSet::from(["id".to_owned()]);
        let mut columns = Vec::new();
        for (field, seen) in self.fields {
            if given && field == "id" {
                continue;
            }
            let base = if field == "id" { "source_id".to_owned() } else { column_name(&field) };
            let mut name = base.clone();
            let mut count = 1;
            while !taken.insert(name.clone()) {
                count += 1;
                name = format!("{base}_{count}");
            }
            columns.push(Column { field, name, kind: seen.kind() });
        }
        Shape { columns, ids: if given { IdRule::Given } else { IdRule::LineNumber } }
    }
}

/// Words that searchd reads as syntax where a column may stand.
const RESERVED: [&str; 40] = [
    "and",
    "as",
    "between",
    "by",
    "case",
    "columnarscan",
    "count",
    "date",
    "distinct",
    "div",
    "docidindex",
    "explain",
    "facet",
    "false",
    "force",
    "from",
    "group",
    "having",
    "ignore",
    "in",
    "indexes",
    "inner",
    "is",
    "join",
    "knn",
    "left",
    "limit",
    "match",
    "mod",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "select",
    "sysfilters",
    "true",
    "weight",
    "where",
];

fn column_name(field: &str) -> String {
    let mut name: String = field
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .take(60)
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert_str(0, "f_");
    }
    if RESERVED.contains(&name.as_str()) {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shape_of(documents: &[Value]) -> Shape {
        let mut inference = Inference::default();
        for document in documents {
            inference.see(document.as_object().expect("an object")).expect("few fields");
        }
        inference.shape()
    }

    fn kind_of(values: &[Value]) -> Kind {
        let documents: Vec<Value> = values.iter().map(|value| json!({ "f": value })).collect();
        shape_of(&documents).columns[0].kind
    }

    #[test]
    fn kinds_widen_only_as_far_as_they_must() {
        assert_eq!(kind_of(&[json!(1), json!(-5)]), Kind::Bigint);
        assert_eq!(kind_of(&[json!(1), json!(2.5)]), Kind::Float);
        assert_eq!(kind_of(&[json!(16_777_217), json!(2.5)]), Kind::String);
        assert_eq!(kind_of(&[json!(0.123_456_789_012)]), Kind::String);
        assert_eq!(kind_of(&[json!(u64::MAX)]), Kind::String);
        assert_eq!(kind_of(&[json!(true), json!(null)]), Kind::Bool);
        assert_eq!(kind_of(&[json!(true), json!(1)]), Kind::String);
        assert_eq!(kind_of(&[json!("short")]), Kind::String);
        assert_eq!(kind_of(&[json!("a title of more than thirty-two characters")]), Kind::Text);
        assert_eq!(kind_of(&[json!([1, 2]), json!([])]), Kind::Multi);
        assert_eq!(kind_of(&[json!([1, 5_000_000_000_u64])]), Kind::Multi64);
        assert_eq!(kind_of(&[json!([2, 1])]), Kind::Json);
        assert_eq!(kind_of(&[json!({"a": 1}), json!([1])]), Kind::Json);
        assert_eq!(kind_of(&[json!({"a": 1}), json!("x")]), Kind::Text);
        assert_eq!(kind_of(&[json!(null)]), Kind::String);
    }

    #[test]
    fn every_value_looked_at_fits_its_column() {
        let values = [
            json!(1),
            json!(-1),
            json!(2.5),
            json!(0.1),
            json!(1e300),
            json!(u64::MAX),
            json!(true),
            json!("x"),
            json!([1, 2]),
            json!([2, 1]),
            json!({"a": null}),
            json!(null),
            json!(16_777_217),
        ];
        for a in &values {
            for b in &values {
                let shape = shape_of(&[json!({ "f": a }), json!({ "f": b })]);
                for value in [a, b] {
                    let object = json!({ "f": value }).as_object().expect("an object").clone();
                    shape.document(1, object).unwrap_or_else(|why| panic!("{a} with {b}: {why}"));
                }
            }
        }
    }

    #[test]
    fn ids_are_taken_when_every_document_has_a_usable_one() {
        assert_eq!(shape_of(&[json!({"id": 4, "a": 1})]).ids, IdRule::Given);
        for bad in [json!(0), json!(-4), json!("x"), json!(null), json!(1.5)] {
            let shape = shape_of(&[json!({"id": 4}), json!({ "id": bad })]);
            assert_eq!(shape.ids, IdRule::LineNumber);
            assert_eq!(shape.columns[0].name, "source_id");
        }
        let shape = shape_of(&[json!({"id": 4})]);
        let object = json!({"id": 0}).as_object().expect("an object").clone();
        assert!(shape.document(2, object).expect_err("bad id").contains("positive"));
    }

    #[test]
    fn names_become_identifiers_and_stay_apart() {
        let shape = shape_of(&[json!({"Größe": 1, "a-b": 1, "a b": 1, "9": 1, "order": 1, "A_B": 1})]);
        let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(BTreeSet::from_iter(&names).len(), names.len());
        for expected in ["gr__e", "a_b", "a_b_2", "a_b_3", "f_9", "order_"] {
            assert!(names.contains(&expected), "{expected} in {names:?}");
        }
    }

    #[test]
    fn a_contradiction_names_the_field() {
        let shape = shape_of(&[json!({"v": 1})]);
        let later = |value: Value| shape.document(9, value.as_object().expect("an object").clone());
        assert_eq!(later(json!({"v": "x"})).expect_err("kind"), "field 'v' is \"x\", its column is bigint");
        assert_eq!(later(json!({"v": 1, "w": 2})).expect_err("new"), "field 'w' has no column");
        assert_eq!(later(json!({})).expect("absent is zero").cells, [Cell::Int(0)]);
    }

    #[test]
    fn made_up_documents_differ_by_number() {
        let shape = shape_of(&[json!({"s": "x", "n": 1, "j": {}, "m": [1], "b": true, "f": 0.5})]);
        assert_ne!(shape.made_up(1, 1), shape.made_up(1, 2));
        assert_eq!(shape.made_up(1, 1), shape.made_up(1, 1));
    }
}
