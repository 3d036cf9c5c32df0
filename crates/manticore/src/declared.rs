//! `SHOW CREATE TABLE` and `DESC`, read back into a schema and a route.

use crate::columns::{read_columns, read_value};
use crate::cursor::Cursor;
use crate::reply::Rows;
use crate::statement::{Retry, ShardTable};
use crate::status::{Unreadable, unreadable};
use model::{ColumnSpec, NodeId, Route, Schema, TableName, parse_shard_table};
use std::collections::BTreeMap;

/// A routing table as a node shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredRoute {
    pub route: Route,
    /// With `id` where the node shows it; compare by [`crate::columns::canonical`].
    pub schema: Schema,
}

fn fault(reason: impl Into<String>) -> Unreadable {
    unreadable("a routing table's declaration", reason)
}

/// Reads the reply to [`crate::Statement::ShowRoute`] as shown by `own`.
pub fn route(rows: &Rows, own: &NodeId) -> Result<DeclaredRoute, Unreadable> {
    let text =
        rows.rows.first().and_then(|row| row.get(1)?.as_deref()).ok_or_else(|| fault("no second column"))?;
    route_text(text, own)
}

/// Reads `CREATE TABLE t (…) type='shard' local='…' agent='…'`.
pub fn route_text(text: &str, own: &NodeId) -> Result<DeclaredRoute, Unreadable> {
    let mut cursor = Cursor::new(text).map_err(|error| fault(error.to_string()))?;
    let named = cursor.keywords(&["CREATE", "TABLE"]).then(|| cursor.name()).flatten();
    let table = named.ok_or_else(|| fault("it does not begin with CREATE TABLE and a name"))?;
    let table = TableName::new(table).map_err(|error| fault(error.to_string()))?;
    let columns = if cursor.symbol("(") {
        read_columns(&mut cursor).ok_or_else(|| fault(format!("columns near '{}'", cursor.near())))?
    } else {
        Vec::new()
    };
    let mut schema = Schema { columns, options: Vec::new() };
    let mut targets = Targets::default();
    while !cursor.at_end() {
        let key = cursor.name().filter(|_| cursor.symbol("="));
        let option = key.and_then(|key| Some((key.to_ascii_lowercase(), read_value(&mut cursor)?)));
        let (key, value) = option.ok_or_else(|| fault(format!("options near '{}'", cursor.near())))?;
        match key.as_str() {
            "type" if value.eq_ignore_ascii_case("shard") => {}
            "type" => return Err(fault(format!("type '{value}' instead of 'shard'"))),
            "local" => targets.local(&table, &value, own)?,
            "agent" => targets.agent(&table, &value)?,
            _ => schema.options.push((key, value)),
        }
    }
    Ok(DeclaredRoute { route: targets.route(table)?, schema })
}

/// The targets seen so far, by shard number.
#[derive(Default)]
struct Targets {
    shards: BTreeMap<u32, Vec<NodeId>>,
    one_copy_each: bool,
}

impl Targets {
    fn local(&mut self, table: &TableName, value: &str, own: &NodeId) -> Result<(), Unreadable> {
        self.one_copy_each = true;
        let number = shard_of(table, value)?;
        self.put(number, vec![own.clone()])
    }

    fn agent(&mut self, table: &TableName, value: &str) -> Result<(), Unreadable> {
        let mirrors_until = value.find('[').unwrap_or(value.len());
        let (mirrors, options) = value.split_at(mirrors_until);
        self.one_copy_each |= options != Retry::Mirrors.suffix();
        let mut nodes = Vec::new();
        let mut number = None;
        let mut last_table = "";
        for mirror in mirrors.split('|') {
            // `host:port:table`; a mirror without a table is of the one named by the next.
            let (node, shard) = split_mirror(mirror).ok_or_else(|| fault(format!("agent '{mirror}'")))?;
            let this = shard_of(table, shard)?;
            if number.is_some_and(|number| number != this) {
                return Err(fault(format!("one agent of two shards: '{shard}' beside '{last_table}'")));
            }
            number = Some(this);
            last_table = shard;
            nodes.push(node);
        }
        nodes.sort();
        nodes.dedup();
        self.put(number.ok_or_else(|| fault("an agent without a mirror"))?, nodes)
    }

    fn put(&mut self, shard: u32, nodes: Vec<NodeId>) -> Result<(), Unreadable> {
        match self.shards.insert(shard, nodes) {
            None => Ok(()),
            Some(_) => Err(fault(format!("shard {shard} twice"))),
        }
    }

    fn route(self, table: TableName) -> Result<Route, Unreadable> {
        let whole = self.shards.keys().copied().eq(0..self.shards.len() as u32);
        if !whole || self.shards.is_empty() {
            let seen: Vec<String> = self.shards.keys().map(u32::to_string).collect();
            return Err(fault(format!("shards {} are not 0, 1, 2 … without a gap", seen.join(","))));
        }
        Ok(Route { table, shards: self.shards.into_values().collect(), own_as_local: self.one_copy_each })
    }
}

fn split_mirror(mirror: &str) -> Option<(NodeId, &str)> {
    let (node, table) = mirror.trim().rsplit_once(':')?;
    Some((NodeId::new(node).ok()?, table))
}

fn shard_of(table: &TableName, physical: &str) -> Result<u32, Unreadable> {
    let known = ShardTable::new(physical).and_then(|shard| parse_shard_table(shard.as_str()));
    match known {
        Some((of, number)) if of == *table => Ok(number),
        _ => Err(fault(format!("'{physical}' is no shard of '{table}'"))),
    }
}

/// Reads `DESC system.t_s0` (`Field`, `Type`, `Properties`) into columns; their kinds are as shown.
pub fn described(rows: &Rows) -> Result<Schema, Unreadable> {
    let column = |row: &Vec<Option<String>>| match row.as_slice() {
        [Some(name), Some(kind), properties, ..] => {
            let properties = properties.as_deref().unwrap_or_default();
            Ok(ColumnSpec { name: name.clone(), kind: format!("{kind} {properties}").trim_end().to_owned() })
        }
        _ => Err(unreadable("a table's description", "a row without field, type and properties")),
    };
    Ok(Schema { columns: rows.rows.iter().map(column).collect::<Result<_, _>>()?, options: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::canonical;
    use crate::render::create_route;

    fn node(port: u16) -> NodeId {
        NodeId::new(format!("127.0.0.1:{port}")).expect("valid")
    }

    fn schema() -> Schema {
        let column = |name: &str, kind: &str| ColumnSpec { name: name.into(), kind: kind.into() };
        let columns = vec![column("title", "text"), column("order", "int")];
        Schema { columns, options: vec![("min_infix_len".into(), "3".into())] }
    }

    #[test]
    fn every_route_that_is_written_reads_back_as_itself() {
        let shards = [
            vec![vec![node(1)]],
            vec![vec![node(1)], vec![node(2)], vec![node(1)]],
            vec![vec![node(1), node(2)], vec![node(3)]],
            vec![vec![node(1), node(2)]],
        ];
        for shards in shards {
            for own_as_local in [true, false] {
                for own in [node(1), node(2), node(9)] {
                    let table = TableName::new("t").expect("valid");
                    let route = Route { table, shards: shards.clone(), own_as_local };
                    let text = create_route(&route, &schema(), &own).expect("renders").to_string();
                    let read = route_text(&text, &own).expect("reads");
                    assert_eq!(read.route, route, "{text}");
                    assert_eq!(canonical(&read.schema), canonical(&schema()));
                    assert_eq!(read.schema.options, schema().options);
                }
            }
        }
    }

    /// It is told apart from ours of the same nodes, and so written anew.
    #[test]
    fn a_route_that_tries_mirrors_otherwise_reads_as_another_one() {
        let read = |options: &str| {
            let agent = format!("n1:1:system.t_s0|n2:2:system.t_s0{options}");
            let text = format!("CREATE TABLE t (a int) type='shard' agent='{agent}'");
            route_text(&text, &node(1)).expect("reads").route
        };
        assert!(!read(Retry::Mirrors.suffix()).own_as_local);
        for stock in ["[retry_count=2,ha_strategy=noerrors]", ""] {
            assert!(read(stock).own_as_local, "{stock}");
        }
    }

    #[test]
    fn a_declaration_that_is_no_whole_route_is_an_error() {
        for text in [
            "CREATE TABLE t (a int)",
            "CREATE TABLE t (a int) type='rt'",
            "CREATE TABLE t (a int) type='shard' agent='n:1:system.t_s1'",
            "CREATE TABLE t (a int) type='shard' agent='n:1:system.t_s0' local='system.t_s0'",
            "CREATE TABLE t (a int) type='shard' agent='n:1:system.u_s0'",
            "CREATE TABLE t (a int) type='shard' agent='n:1:system.t_s0|n:2:system.t_s1'",
            "CREATE TABLE t (a int) type='shard' agent='system.t_s0'",
            "CREATE TABLE t (a int type='shard'",
            "DROP TABLE t",
        ] {
            assert!(route_text(text, &node(1)).is_err(), "{text}");
        }
    }
}
