//! What users say about sharded tables: read from their statements, or refused in the fixed words.
//!
//! Decides only what the text alone decides; whether the names exist is the controller's matter.

use crate::columns::{is_column_name, is_table_option, read_columns, read_value};
use crate::cursor::{Cursor, TableRef};
use crate::views;
use model::sql::{TokenKind, is_reserved_table_name};
use model::wire::{RebalanceOrder, ShardingStatement};
use model::{GroupId, NodeId, Schema, TableName, TableSpec};

/// Seconds a CREATE may take when the statement does not say.
const TIMEOUT_SECONDS: u64 = 30;

/// More shards than this are refused.
const SHARDS_MAX: u64 = 3000;

/// Why a statement of the sharding family is refused before anyone is asked. Texts are fixed: clients know them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Duplicate parameter '{0}' found")]
    Duplicate(String),
    #[error("Parameter '{0}' requires to have a value")]
    NoValue(String),
    #[error("Parameter '{0}' requires to have a numeric value")]
    NotNumeric(String),
    #[error("Shard count cannot be greater than 3000")]
    TooManyShards,
    #[error("Sharded table requires `rf=n`")]
    NoRf,
    #[error("You cannot set rf greater than 1 when creating single node sharded table.")]
    LocalRf,
    #[error("You cannot set timeout less than 1 second")]
    ShortTimeout,
    #[error("Invalid shards or rf options are set")]
    Invalid,
    #[error("option '{0}' cannot be given for a sharded table: leave it out")]
    Option(String),
    #[error("{0}")]
    Name(String),
    #[error("a column's name is not 1 to 255 letters, digits and underlines: searchd takes no others")]
    ColumnName,
    #[error("table '{0}': CREATE TABLE failed: '{0}' is a reserved keyword")]
    ReservedName(String),
    #[error("P01: syntax error near '{near}'")]
    Syntax { near: String },
}

/// Reads `sql` as a statement of the sharding family.
///
/// `None` when it is none: CREATE TABLE without `shards` and `rf`, and everything that is not listed in
/// [`ShardingStatement`]. DROP, TRUNCATE, OPTIMIZE and FLUSH RAMCHUNK of one table are always read: whether that
/// table is sharded the caller knows.
pub fn read(sql: &str) -> Option<Result<ShardingStatement, Refusal>> {
    let mut cursor = Cursor::new(sql).ok()?;
    if cursor.keywords(&["CREATE", "TABLE"]) {
        return create(&mut cursor);
    }
    if cursor.keywords(&["SHOW", "SHARDING"]) {
        return Some(show(&mut cursor));
    }
    if cursor.keyword("SELECT") {
        return views::select(&mut cursor);
    }
    if cursor.keywords(&["ALTER", "TABLE"]) {
        return set_rf(&mut cursor);
    }
    if let Some(read) = on_nodes(&mut cursor) {
        return Some(read);
    }
    on_a_table(&mut cursor).map(Ok)
}

/// What an operator orders; `None` for statements that begin with other words.
fn on_nodes(cursor: &mut Cursor<'_>) -> Option<Result<ShardingStatement, Refusal>> {
    let node: fn(NodeId) -> ShardingStatement = if cursor.keywords(&["DRAIN", "NODE"]) {
        |node| ShardingStatement::DrainNode { node }
    } else if cursor.keywords(&["UNDRAIN", "NODE"]) {
        |node| ShardingStatement::UndrainNode { node }
    } else if cursor.keywords(&["REMOVE", "NODE"]) {
        |node| ShardingStatement::RemoveNode { node }
    } else {
        return of_shards(cursor);
    };
    let read = quoted_node(cursor).map(node);
    Some(ended(cursor, read))
}

fn of_shards(cursor: &mut Cursor<'_>) -> Option<Result<ShardingStatement, Refusal>> {
    let read = if cursor.keywords(&["MOVE", "SHARD"]) {
        move_shard(cursor)
    } else if cursor.keywords(&["EXPLAIN", "SHARD"]) {
        shard(cursor).map(|(name, shard)| ShardingStatement::ExplainShard { name, shard })
    } else if cursor.keywords(&["REBALANCE", "TABLE"]) {
        rebalance(cursor)
    } else {
        return None;
    };
    Some(ended(cursor, read))
}

fn ended(
    cursor: &Cursor<'_>,
    read: Result<ShardingStatement, Refusal>,
) -> Result<ShardingStatement, Refusal> {
    let read = read?;
    if cursor.at_end() { Ok(read) } else { Err(syntax(cursor)) }
}

fn move_shard(cursor: &mut Cursor<'_>) -> Result<ShardingStatement, Refusal> {
    let (name, shard) = shard(cursor)?;
    let mut behind =
        |word: &str| if cursor.keyword(word) { quoted_node(cursor) } else { Err(syntax(cursor)) };
    let from = behind("FROM")?;
    let to = behind("TO")?;
    let split = cursor.keyword("SPLIT");
    Ok(ShardingStatement::MoveShard { name, shard, from, to, split })
}

/// `[cluster:]t rf='M'`; `None` for every other ALTER TABLE, which is searchd's.
fn set_rf(cursor: &mut Cursor<'_>) -> Option<Result<ShardingStatement, Refusal>> {
    let table = cursor.table()?;
    let (given, misread) = options(cursor);
    if !given.first().is_some_and(|option| option.is("rf")) {
        return None;
    }
    let read = || {
        let mut rf = None;
        for Given { key, value } in given {
            if key != "rf" {
                return Err(Refusal::Option(key));
            }
            rf = Some(number(rf.as_ref(), key, value)?);
        }
        if let Some(misread) = misread {
            return Err(misread);
        }
        let rf = rf.filter(|rf| *rf > 0).ok_or(Refusal::Invalid)?;
        let (cluster, name) = checked(table)?;
        Ok(ShardingStatement::SetRf { name, cluster, rf: u32::try_from(rf).unwrap_or(u32::MAX) })
    };
    Some(read())
}

fn rebalance(cursor: &mut Cursor<'_>) -> Result<ShardingStatement, Refusal> {
    let table = cursor.table().ok_or_else(|| syntax(cursor))?;
    let (_, name) = checked(table)?;
    let order = if cursor.keywords(&["DRY", "RUN"]) {
        RebalanceOrder::DryRun
    } else if cursor.keyword("STATUS") {
        RebalanceOrder::Status
    } else if cursor.keyword("PAUSE") {
        RebalanceOrder::Pause
    } else if cursor.keyword("RESUME") {
        RebalanceOrder::Resume
    } else if cursor.keywords(&["STOP", "NOW"]) {
        RebalanceOrder::StopNow
    } else if cursor.keyword("STOP") {
        RebalanceOrder::Stop
    } else if cursor.keyword("RESET") {
        RebalanceOrder::Reset
    } else {
        RebalanceOrder::Start
    };
    Ok(ShardingStatement::Rebalance { name, order })
}

/// `[cluster:]t N`.
fn shard(cursor: &mut Cursor<'_>) -> Result<(TableName, u32), Refusal> {
    let table = cursor.table().ok_or_else(|| syntax(cursor))?;
    let (_, name) = checked(table)?;
    let near = syntax(cursor);
    let number = cursor.next().and_then(|token| match token.kind {
        TokenKind::Number(digits) => digits.parse().ok(),
        _ => None,
    });
    number.map(|number| (name, number)).ok_or(near)
}

fn quoted_node(cursor: &mut Cursor<'_>) -> Result<NodeId, Refusal> {
    let near = syntax(cursor);
    let text = cursor.text().ok_or(near)?;
    NodeId::new(text).map_err(|error| Refusal::Name(error.to_string()))
}

fn syntax(cursor: &Cursor<'_>) -> Refusal {
    Refusal::Syntax { near: cursor.near().to_owned() }
}

fn show(cursor: &mut Cursor<'_>) -> Result<ShardingStatement, Refusal> {
    let statement = if cursor.keyword("MASTER") {
        ShardingStatement::ShowMaster
    } else if cursor.keyword("OPERATIONS") {
        ShardingStatement::ShowOperations
    } else if cursor.keyword("QUEUE") {
        ShardingStatement::ShowQueue
    } else if cursor.keyword("ALERTS") {
        ShardingStatement::ShowAlerts
    } else if cursor.keyword("STATUS") {
        match cursor.table() {
            None => ShardingStatement::ShowStatus { cluster: None, name: None },
            Some(table) => {
                let (cluster, name) = checked(table)?;
                ShardingStatement::ShowStatus { cluster, name: Some(name) }
            }
        }
    } else {
        return Err(syntax(cursor));
    };
    if cursor.at_end() { Ok(statement) } else { Err(syntax(cursor)) }
}

fn on_a_table(cursor: &mut Cursor<'_>) -> Option<ShardingStatement> {
    if cursor.keywords(&["DROP", "TABLE"]) {
        let if_exists = cursor.keywords(&["IF", "EXISTS"]);
        let (cluster, name) = checked(cursor.table()?).ok()?;
        return cursor.at_end().then_some(ShardingStatement::DropTable { name, cluster, if_exists });
    }
    let make: fn(TableName) -> ShardingStatement = if cursor.keywords(&["TRUNCATE", "TABLE"]) {
        |name| ShardingStatement::TruncateTable { name }
    } else if cursor.keywords(&["OPTIMIZE", "TABLE"]) {
        |name| ShardingStatement::OptimizeTable { name }
    } else if cursor.keywords(&["FLUSH", "RAMCHUNK"]) {
        |name| ShardingStatement::FlushRamchunk { name }
    } else {
        return None;
    };
    let (_, name) = checked(cursor.table()?).ok()?;
    // `OPTIMIZE TABLE t OPTION sync=1, cutoff=2`: every copy decides by its own settings.
    (cursor.at_end() || cursor.keyword("OPTION")).then(|| make(name))
}

fn checked(table: TableRef) -> Result<(Option<String>, TableName), Refusal> {
    let cluster =
        table.cluster.map(GroupId::new).transpose().map_err(|error| Refusal::Name(error.to_string()))?;
    let name = TableName::new(table.name).map_err(|error| Refusal::Name(error.to_string()))?;
    Ok((cluster.map(String::from), name))
}

/// `[IF NOT EXISTS] [cluster:]t [(columns)] [options]`; `None` without `shards` or `rf` among the options.
fn create(cursor: &mut Cursor<'_>) -> Option<Result<ShardingStatement, Refusal>> {
    let if_not_exists = cursor.keywords(&["IF", "NOT", "EXISTS"]);
    let table = cursor.table()?;
    let mut fault = None;
    let mut columns = Vec::new();
    if cursor.symbol("(") {
        if let Some(read) = read_columns(cursor) {
            columns = read;
        } else {
            fault = Some(syntax(cursor));
            // Only to learn from the options whether the statement is of this family.
            if !cursor.skip_brackets() {
                return None;
            }
        }
    }
    let (options, misread) = options(cursor);
    if !options.iter().any(|option| option.is("shards") || option.is("rf")) {
        return None;
    }
    if let Some(fault) = fault.or(misread) {
        return Some(Err(fault));
    }
    Some(decide(table, if_not_exists, columns, options))
}

struct Given {
    /// Lower case.
    key: String,
    value: Option<String>,
}

impl Given {
    fn is(&self, key: &str) -> bool {
        self.key == key
    }
}

/// The options to the end, or up to what cannot be read as one.
fn options(cursor: &mut Cursor<'_>) -> (Vec<Given>, Option<Refusal>) {
    let mut options = Vec::new();
    while !cursor.at_end() {
        let Some(key) = cursor.name() else { return (options, Some(syntax(cursor))) };
        let key = key.to_ascii_lowercase();
        let value = if cursor.symbol("=") { read_value(cursor) } else { None };
        let ours = ["shards", "rf", "timeout"].contains(&key.as_str());
        if value.is_none() && !ours {
            return (options, Some(syntax(cursor)));
        }
        options.push(Given { key, value });
    }
    (options, None)
}

/// The refusals in their fixed order; then the statement.
fn decide(
    table: TableRef,
    if_not_exists: bool,
    columns: Vec<model::ColumnSpec>,
    options: Vec<Given>,
) -> Result<ShardingStatement, Refusal> {
    let mut own = Own::default();
    if !columns.iter().all(|column| is_column_name(&column.name)) {
        return Err(Refusal::ColumnName);
    }
    if is_reserved_table_name(table.name.as_str()) {
        return Err(Refusal::ReservedName(table.name.clone()));
    }
    let mut schema = Schema { columns, options: Vec::new() };
    for Given { key, value } in options {
        match own.slot(&key) {
            Some(slot) => *slot = Some(number(slot.as_ref(), key, value)?),
            None if is_table_option(&key) => schema.options.push((key, value.unwrap_or_default())),
            None => return Err(Refusal::Option(key)),
        }
    }
    let Own { shards, rf, timeout } = own;
    if shards.is_some_and(|shards| shards > SHARDS_MAX) {
        return Err(Refusal::TooManyShards);
    }
    let rf = rf.ok_or(Refusal::NoRf)?;
    if rf > 1 && table.cluster.is_none() {
        return Err(Refusal::LocalRf);
    }
    let timeout_seconds = timeout.unwrap_or(TIMEOUT_SECONDS);
    if timeout_seconds < 1 {
        return Err(Refusal::ShortTimeout);
    }
    let shards = shards.filter(|shards| *shards > 0).ok_or(Refusal::Invalid)?;
    if rf == 0 {
        return Err(Refusal::Invalid);
    }
    let (cluster, name) = checked(table)?;
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let spec = TableSpec { name, cluster, schema, shards: small(shards), rf: small(rf) };
    Ok(ShardingStatement::CreateTable { spec, if_not_exists, timeout_seconds })
}

#[derive(Default)]
struct Own {
    shards: Option<u64>,
    rf: Option<u64>,
    timeout: Option<u64>,
}

impl Own {
    fn slot(&mut self, key: &str) -> Option<&mut Option<u64>> {
        match key {
            "shards" => Some(&mut self.shards),
            "rf" => Some(&mut self.rf),
            "timeout" => Some(&mut self.timeout),
            _ => None,
        }
    }
}

/// Digits; a minus is numeric too, and as little as zero.
fn number(before: Option<&u64>, key: String, value: Option<String>) -> Result<u64, Refusal> {
    if before.is_some() {
        return Err(Refusal::Duplicate(key));
    }
    let value = value.filter(|value| !value.is_empty()).ok_or_else(|| Refusal::NoValue(key.clone()))?;
    let digits = value.strip_prefix('-').unwrap_or(&value);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::NotNumeric(key));
    }
    if digits.len() < value.len() {
        return Ok(0);
    }
    // Only too many digits can fail here.
    Ok(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ColumnSpec;

    #[test]
    fn refusals_come_in_their_order_and_words() {
        for (sql, text) in [
            ("CREATE TABLE t shards='1' shards='2' rf='1'", "Duplicate parameter 'shards' found"),
            ("CREATE TABLE t RF='1' rf='a' shards='1'", "Duplicate parameter 'rf' found"),
            ("CREATE TABLE t shards='' rf='1'", "Parameter 'shards' requires to have a value"),
            ("CREATE TABLE t rf= shards='1'", "Parameter 'rf' requires to have a value"),
            ("CREATE TABLE t shards rf='1'", "Parameter 'shards' requires to have a value"),
            ("CREATE TABLE t shards='1' rf='1' timeout=", "Parameter 'timeout' requires to have a value"),
            ("CREATE TABLE t shards='x' rf=''", "Parameter 'shards' requires to have a numeric value"),
            ("CREATE TABLE t rf='' shards='x'", "Parameter 'rf' requires to have a value"),
            ("CREATE TABLE t shards='1.5' rf='1'", "Parameter 'shards' requires to have a numeric value"),
            ("CREATE TABLE t shards='3001'", "Shard count cannot be greater than 3000"),
            (
                "CREATE TABLE t shards='99999999999999999999' rf='1'",
                "Shard count cannot be greater than 3000",
            ),
            ("CREATE TABLE t shards='3' timeout='0'", "Sharded table requires `rf=n`"),
            (
                "CREATE TABLE t shards='3' rf='2' timeout='0'",
                "You cannot set rf greater than 1 when creating single node sharded table.",
            ),
            ("CREATE TABLE c:t shards='0' rf='2' timeout='0'", "You cannot set timeout less than 1 second"),
            ("CREATE TABLE c:t shards='0' rf='2'", "Invalid shards or rf options are set"),
            ("CREATE TABLE t rf='1'", "Invalid shards or rf options are set"),
            ("CREATE TABLE t shards='-1' rf='1'", "Invalid shards or rf options are set"),
            ("CREATE TABLE t shards='1' rf='0'", "Invalid shards or rf options are set"),
            (
                "CREATE TABLE t type='pq' shards='1' rf='1'",
                "option 'type' cannot be given for a sharded table: leave it out",
            ),
            ("CREATE TABLE t (a) shards='1' rf='1'", "P01: syntax error near ') shards='1' rf='1''"),
            ("CREATE TABLE t shards='1' rf='1'; DROP TABLE u", "P01: syntax error near '; DROP TABLE u'"),
            (
                "CREATE TABLE `order` (a int) shards='1' rf='1'",
                "table 'order': CREATE TABLE failed: 'order' is a reserved keyword",
            ),
            ("SHOW SHARDING", "P01: syntax error near ''"),
            ("SHOW SHARDING STATUS t u", "P01: syntax error near 'u'"),
            ("DRAIN NODE h", "P01: syntax error near 'h'"),
            ("DRAIN NODE 'h:1' 'h:2'", "P01: syntax error near ''h:2''"),
            ("MOVE SHARD t x FROM 'h:1' TO 'h:2'", "P01: syntax error near 'x FROM 'h:1' TO 'h:2''"),
            ("MOVE SHARD t 1 TO 'h:2'", "P01: syntax error near 'TO 'h:2''"),
            ("REBALANCE TABLE t NOW", "P01: syntax error near 'NOW'"),
        ] {
            let refused = read(sql).expect("of the family").expect_err(sql);
            assert_eq!(refused.to_string(), text, "{sql}");
        }
        let long = format!("CREATE TABLE {} shards='1' rf='1'", "x".repeat(65));
        assert!(matches!(read(&long), Some(Err(Refusal::Name(_)))));
    }

    #[test]
    fn a_sharded_table_is_read_in_every_spelling() {
        let plain = TableSpec {
            name: TableName::new("t").expect("valid"),
            cluster: None,
            schema: Schema::default(),
            shards: 3,
            rf: 1,
        };
        let make = |spec: &TableSpec, if_not_exists, timeout_seconds| ShardingStatement::CreateTable {
            spec: spec.clone(),
            if_not_exists,
            timeout_seconds,
        };
        let columns = vec![
            ColumnSpec { name: "title".into(), kind: "text indexed".into() },
            ColumnSpec { name: "v".into(), kind: "int".into() },
        ];
        let schema = Schema { columns, options: vec![("min_infix_len".into(), "3".into())] };
        let full = TableSpec { cluster: Some("c".into()), schema, rf: 2, ..plain.clone() };
        for (sql, expected) in [
            ("CREATE TABLE t shards='3' rf='1'", make(&plain, false, 30)),
            ("create table T rf = '1' SHARDS = '3' ;", make(&plain, false, 30)),
            ("CREATE TABLE IF NOT EXISTS t shards=3 rf=1 timeout='60'", make(&plain, true, 60)),
            (
                "CREATE TABLE c:t (title TEXT indexed, `v` int) rf='2' min_infix_len='3' shards='3'",
                make(&full, false, 30),
            ),
        ] {
            assert_eq!(read(sql), Some(Ok(expected)), "{sql}");
        }
    }

    #[test]
    fn the_other_statements_of_the_family_are_read() {
        let name = || TableName::new("t").expect("valid");
        let c = || Some("c".to_owned());
        let node = |id: &str| NodeId::new(id).expect("valid");
        let rebalance = |order| ShardingStatement::Rebalance { name: name(), order };
        for (sql, expected) in [
            ("DROP TABLE t", ShardingStatement::DropTable { name: name(), cluster: None, if_exists: false }),
            (
                "drop table if exists c:T;",
                ShardingStatement::DropTable { name: name(), cluster: c(), if_exists: true },
            ),
            ("SHOW SHARDING STATUS", ShardingStatement::ShowStatus { cluster: None, name: None }),
            ("SHOW SHARDING STATUS c:t", ShardingStatement::ShowStatus { cluster: c(), name: Some(name()) }),
            ("show sharding master", ShardingStatement::ShowMaster),
            ("SHOW SHARDING OPERATIONS", ShardingStatement::ShowOperations),
            ("SHOW SHARDING QUEUE", ShardingStatement::ShowQueue),
            ("SHOW SHARDING ALERTS", ShardingStatement::ShowAlerts),
            ("TRUNCATE TABLE t", ShardingStatement::TruncateTable { name: name() }),
            ("OPTIMIZE TABLE t OPTION sync=1", ShardingStatement::OptimizeTable { name: name() }),
            ("FLUSH RAMCHUNK t", ShardingStatement::FlushRamchunk { name: name() }),
            ("drain node 'h:1'", ShardingStatement::DrainNode { node: node("h:1") }),
            ("UNDRAIN NODE 'h:1';", ShardingStatement::UndrainNode { node: node("h:1") }),
            ("REMOVE NODE 'h:1'", ShardingStatement::RemoveNode { node: node("h:1") }),
            (
                "MOVE SHARD t 3 FROM 'h:1' TO 'h:2'",
                ShardingStatement::MoveShard {
                    name: name(),
                    shard: 3,
                    from: node("h:1"),
                    to: node("h:2"),
                    split: false,
                },
            ),
            (
                "move shard t 3 from 'h:1' to 'h:2' split;",
                ShardingStatement::MoveShard {
                    name: name(),
                    shard: 3,
                    from: node("h:1"),
                    to: node("h:2"),
                    split: true,
                },
            ),
            ("ALTER TABLE c:t rf='3'", ShardingStatement::SetRf { name: name(), cluster: c(), rf: 3 }),
            ("alter table T RF = '1';", ShardingStatement::SetRf { name: name(), cluster: None, rf: 1 }),
            ("EXPLAIN SHARD c:t 0", ShardingStatement::ExplainShard { name: name(), shard: 0 }),
            ("REBALANCE TABLE t", rebalance(RebalanceOrder::Start)),
            ("REBALANCE TABLE t DRY RUN", rebalance(RebalanceOrder::DryRun)),
            ("REBALANCE TABLE t STATUS", rebalance(RebalanceOrder::Status)),
            ("REBALANCE TABLE t pause", rebalance(RebalanceOrder::Pause)),
            ("REBALANCE TABLE t RESUME", rebalance(RebalanceOrder::Resume)),
            ("REBALANCE TABLE t STOP", rebalance(RebalanceOrder::Stop)),
            ("REBALANCE TABLE t STOP NOW", rebalance(RebalanceOrder::StopNow)),
            ("REBALANCE TABLE t RESET", rebalance(RebalanceOrder::Reset)),
        ] {
            assert_eq!(read(sql), Some(Ok(expected)), "{sql}");
        }
    }

    #[test]
    fn what_is_not_of_the_family_is_left_alone() {
        for sql in [
            "CREATE TABLE t (title text)",
            "CREATE TABLE t (title text) type='shard' local='system.t_s0'",
            "CREATE TABLE t timeout='3'",
            "CREATE TABLE t LIKE u",
            "CREATE CLUSTER c",
            "ALTER TABLE t ADD COLUMN x int",
            "ALTER TABLE t DROP COLUMN x",
            "ALTER TABLE t min_infix_len='3'",
            "DROP TABLE t OPTION force=1",
            "DROP TABLE t, u",
            "SHOW TABLES",
            "SELECT * FROM t",
            "TRUNCATE TABLE system.t_s0",
            "'unterminated",
            "",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }

    /// A name is taken as it is or not at all, so that no two can become one.
    #[test]
    fn a_clusters_name_that_searchd_would_not_take_is_refused_with_the_rule() {
        let long = "c".repeat(65);
        for name in ["my-c", "1c", "", "c c", "ü", "c;", "c'", long.as_str()] {
            let sql = format!("CREATE TABLE `{name}`:t (id bigint) shards='2' rf='2'");
            match read(&sql) {
                // An empty name in backticks is no name at all.
                None if name.is_empty() => {}
                Some(Err(refusal)) => {
                    let told = refusal.to_string();
                    let rule = "letters, digits and _, starting with a letter or _, at most 64 characters";
                    assert!(told.contains(rule), "{sql}: {told}");
                }
                other => panic!("{sql}: {other:?}"),
            }
        }
    }
}
