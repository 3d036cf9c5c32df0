//! What nodes show, read back: rows of statuses, lists and declarations.

use engine::{Reply, ResultSet, Value};
use model::{Content, NodeId, Route, TableName, parse_shard_table};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A value as the MySQL protocol sends it; NULL is empty.
pub fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::Int(value) => Cow::Owned(value.to_string()),
        Value::Float(value) => Cow::Owned(value.to_string()),
        Value::Text(text) => Cow::Borrowed(text),
    }
}

pub const fn rows(reply: &Reply) -> Option<&ResultSet> {
    match reply {
        Reply::Rows(rows) => Some(rows),
        Reply::Done { .. } => None,
    }
}

/// The first and second column.
pub fn pairs(reply: &Reply) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let rows = rows(reply).into_iter().flat_map(|rows| &rows.rows);
    rows.filter_map(|row| Some((text(row.first()?), text(row.get(1)?))))
}

/// The four figures of a copy's content.
pub fn content(reply: &Reply) -> Option<Content> {
    let row = rows(reply)?.rows.first()?;
    let figure = |at: usize| match row.get(at) {
        Some(Value::Int(value)) => Some(*value),
        Some(Value::Null) => Some(0),
        Some(other) => text(other).parse().ok(),
        None => None,
    };
    let rows = figure(0)? as u64;
    if rows == 0 {
        return Some(Content::default());
    }
    Some(Content { rows, id_sum: figure(1)?, id_min: figure(2)?, id_max: figure(3)? })
}

/// A routing table from its declaration, as `own` shows it; `None` when it is none.
pub fn route(declaration: &str, own: &NodeId) -> Option<Route> {
    let name = declaration.strip_prefix("CREATE TABLE ")?.split([' ', '(']).next()?;
    let table = TableName::new(name.trim_matches('`')).ok()?;
    if !declaration.contains("type='shard'") {
        return None;
    }
    let mut shards: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
    let mut own_as_local = false;
    for (key, value) in quoted(declaration) {
        match key {
            "local" => {
                own_as_local = true;
                shards.insert(parse_shard_table(value)?.1, vec![own.clone()]);
            }
            "agent" => {
                let (mirrors, options) = value.split_at(value.find('[').unwrap_or(value.len()));
                own_as_local |= options != "[retry_count=3,ha_strategy=nodeads]";
                let mut named = Vec::new();
                let mut number = 0;
                for mirror in mirrors.split('|') {
                    let (node, shard) = mirror.rsplit_once(':')?;
                    number = parse_shard_table(shard)?.1;
                    named.push(NodeId::new(node).ok()?);
                }
                named.sort();
                shards.insert(number, named);
            }
            _ => {}
        }
    }
    let whole = shards.keys().copied().eq(0..shards.len() as u32) && !shards.is_empty();
    whole.then(|| Route { table, shards: shards.into_values().collect(), own_as_local })
}

/// The `key='value'` pairs of a declaration.
fn quoted(declaration: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = declaration;
    while let Some(at) = rest.find("='") {
        let key = rest[..at].rsplit([' ', '\n', ')']).next().unwrap_or_default();
        let value = &rest[at + 2..];
        let end = value.find('\'').unwrap_or(value.len());
        found.push((key, &value[..end]));
        rest = &value[(end + 1).min(value.len())..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say;
    use model::{ColumnSpec, Schema};

    #[test]
    fn a_route_that_is_written_reads_back_as_itself() {
        let node = |n: u16| NodeId::new(format!("10.0.0.{n}:9308")).expect("valid");
        let schema = Schema {
            columns: vec![ColumnSpec { name: "v".into(), kind: "int".into() }],
            options: Vec::new(),
        };
        for shards in [vec![vec![node(1)], vec![node(2)]], vec![vec![node(1), node(2)], vec![node(3)]]] {
            for own_as_local in [true, false] {
                let table = TableName::new("t").expect("valid");
                let wanted = Route { table, shards: shards.clone(), own_as_local };
                let text = say::create_route(&wanted, &schema, &node(1));
                assert_eq!(route(&text, &node(1)), Some(wanted), "{text}");
            }
        }
        assert_eq!(route("CREATE TABLE t (v int)", &node(1)), None);
    }
}
