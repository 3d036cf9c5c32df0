//! What the stock sidecar keeps in its own tables, read; and the statements that would give it back.
//!
//! The columns are those of `system.sharding_table` (`cluster, node, table, shards`) and `system.sharding_state` (`key, value,
//! updated_at`); others are passed over.

use crate::reply::Rows;
use crate::statement::StockTable;
use crate::status::integer;
use model::sql::Literal;
use model::{GroupId, NodeId, Schema, StockRow, TableName};
use std::collections::BTreeSet;

/// Rows in one INSERT of the way back.
const ROWS_A_STATEMENT: usize = 100;

/// The rows of `system.sharding_table`, and a sentence for each that cannot be read.
pub fn placements(rows: &Rows) -> (Vec<StockRow>, Vec<String>) {
    let (mut read, mut faults) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for index in 0..rows.rows.len() {
        match placement(rows, index) {
            Ok(row) if !seen.insert((row.table.clone(), row.node.clone())) => {
                faults.push(format!("system.sharding_table has {} on {} twice", row.table, row.node));
            }
            Ok(row) => read.push(row),
            Err(why) => {
                let id = rows.value(index, "id").unwrap_or("without an id");
                faults.push(format!("row {id} of system.sharding_table: {why}"));
            }
        }
    }
    read.sort();
    (read, faults)
}

fn placement(rows: &Rows, index: usize) -> Result<StockRow, String> {
    let value = |column: &str| rows.value(index, column).ok_or_else(|| format!("no column '{column}'"));
    let shards = value("shards")?.split(',').map(str::trim).filter(|part| !part.is_empty());
    let number = |part: &str| part.parse().map_err(|_| format!("'{part}' is no shard's number"));
    Ok(StockRow {
        cluster: value("cluster")?.to_owned(),
        node: NodeId::new(value("node")?).map_err(|error| error.to_string())?,
        table: TableName::new(value("table")?).map_err(|error| error.to_string())?,
        shards: shards.map(number).collect::<Result<_, _>>()?,
    })
}

/// The newest `updated_at` of `system.sharding_state`, in Unix seconds; `None` without rows. A row that does not say when it
/// was written may have been written just now: that is an error.
pub fn last_sign(rows: &Rows) -> Result<Option<u64>, String> {
    let time = |row: usize| {
        let text = rows.value(row, "updated_at").unwrap_or("nothing");
        text.parse::<u64>().map_err(|_| {
            format!(
                "row {} of system.sharding_state has {text} for 'updated_at', no time in seconds",
                row + 1
            )
        })
    };
    let times: Result<Vec<u64>, String> = (0..rows.rows.len()).map(time).collect();
    Ok(times?.into_iter().max())
}

/// The statements that make the table anew with these rows, in `cluster` where it was in one.
pub fn way_back(table: StockTable, declared: &Schema, rows: &Rows, cluster: Option<&GroupId>) -> Vec<String> {
    let columns: Vec<String> = declared
        .columns
        .iter()
        .filter(|column| !column.name.eq_ignore_ascii_case("id"))
        .map(|column| format!("{} {}", quoted(&column.name), column.kind))
        .collect();
    let mut statements = vec![format!("CREATE TABLE {table} ({})", columns.join(", "))];
    let kind = |name: &str| {
        let known = declared.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        known.map_or("bigint", |column| column.kind.as_str())
    };
    let names: Vec<String> = rows.columns.iter().map(|name| quoted(name)).collect();
    let cell = |(name, value): (&String, &Option<String>)| {
        let text = value.as_deref().unwrap_or_default();
        match kind(name).split_whitespace().next().unwrap_or_default() {
            "multi" | "multi64" | "mva" | "mva64" => format!("({text})"),
            "text" | "string" | "json" => Literal(text).to_string(),
            _ if integer(text).is_some() || text.parse::<f64>().is_ok() => text.to_owned(),
            _ => Literal(text).to_string(),
        }
    };
    for some in rows.rows.chunks(ROWS_A_STATEMENT) {
        let values: Vec<String> = some
            .iter()
            .map(|row| rows.columns.iter().zip(row).map(cell).collect::<Vec<_>>().join(", "))
            .map(|row| format!("({row})"))
            .collect();
        statements.push(format!("INSERT INTO {table} ({}) VALUES {}", names.join(", "), values.join(", ")));
    }
    statements.extend(cluster.map(|cluster| format!("ALTER CLUSTER {cluster} ADD {table}")));
    statements
}

/// `cluster` and `table` are words of searchd's grammar.
fn quoted(name: &str) -> String {
    if name == "id" { name.to_owned() } else { format!("`{}`", name.replace('`', "")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ColumnSpec;

    fn rows(columns: &[&str], rows: &[&[&str]]) -> Rows {
        Rows {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows: rows.iter().map(|row| row.iter().map(|v| Some((*v).to_owned())).collect()).collect(),
            ..Rows::default()
        }
    }

    const COLUMNS: [&str; 5] = ["id", "cluster", "node", "table", "shards"];

    #[test]
    fn rows_name_the_shards_of_a_table_on_a_node() {
        let (read, faults) = placements(&rows(
            &COLUMNS,
            &[&["2", "c", "127.0.0.1:2312", "t", "1, 2"], &["1", "c", "127.0.0.1:1312", "T", ""]],
        ));
        assert_eq!(faults, Vec::<String>::new());
        let shards: Vec<(&str, &str, Vec<u32>)> =
            read.iter().map(|row| (row.node.as_str(), row.table.as_str(), row.shards.clone())).collect();
        assert_eq!(shards, [("127.0.0.1:1312", "t", vec![]), ("127.0.0.1:2312", "t", vec![1, 2])]);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_not_guessed() {
        let (read, faults) = placements(&rows(
            &COLUMNS,
            &[
                &["1", "c", "127.0.0.1:1312", "t", "0,x"],
                &["2", "c", "nowhere", "t", "0"],
                &["3", "c", "127.0.0.1:1312", "u", "0"],
                &["4", "c", "127.0.0.1:1312", "u", "1"],
            ],
        ));
        assert_eq!(read.len(), 1);
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("row 1") && faults[0].contains("'x'"), "{faults:?}");
        let (_, faults) = placements(&rows(&["id", "node"], &[&["1", "127.0.0.1:1312"]]));
        assert!(faults[0].contains("'shards'"), "{faults:?}");
    }

    #[test]
    fn the_last_sign_is_the_newest() {
        let state = rows(&["key", "updated_at"], &[&["master", "7"], &["cluster", "9"]]);
        assert_eq!(last_sign(&state), Ok(Some(9)));
        assert_eq!(last_sign(&rows(&["key", "updated_at"], &[])), Ok(None));
        let odd = last_sign(&rows(&["key", "updated_at"], &[&["master", "7"], &["x", "?"]]));
        assert!(odd.as_ref().is_err_and(|why| why.contains("row 2")), "{odd:?}");
        assert!(last_sign(&rows(&["key"], &[&["master"]])).is_err());
    }

    #[test]
    fn the_way_back_is_the_table_as_it_was() {
        let column = |name: &str, kind: &str| ColumnSpec { name: name.into(), kind: kind.into() };
        let declared = Schema {
            columns: vec![
                column("id", "bigint"),
                column("table", "string"),
                column("order", "uint"),
                column("shards", "multi"),
            ],
            options: Vec::new(),
        };
        let found = rows(&["id", "table", "order", "shards"], &[&["1", "it's", "3", "0,1"]]);
        let cluster = GroupId::new("c").expect("valid");
        assert_eq!(
            way_back(StockTable::ALL[2], &declared, &found, Some(&cluster)),
            [
                "CREATE TABLE system.sharding_table (`table` string, `order` uint, `shards` multi)",
                r"INSERT INTO system.sharding_table (id, `table`, `order`, `shards`) VALUES (1, 'it\'s', 3, (0,1))",
                "ALTER CLUSTER c ADD system.sharding_table",
            ]
        );
    }
}
