//! Statements from text to result, against recorded facts; and many tables against one.

use super::*;
use crate::io::{ColumnKind, ResultSet, SqlError, Value};
use crate::sql::ast::{ClusterStatement, CreateTable, Select};
use crate::sql::{Statement, parse};
use crate::storage::{SqliteStorage, Storage, TableSchema};
use proptest::prelude::*;

/// What a statement did.
#[derive(Debug, PartialEq)]
enum Did {
    Affected(u64),
    Rows(ResultSet),
}

/// Runs statements as a node without clusters would. Automatic ids count from 1000.
fn run(storage: &mut SqliteStorage, sql: &str) -> Result<Did, SqlError> {
    let statement = parse(sql)?;
    match &statement {
        Statement::CreateTable(CreateTable { table, columns, options, .. }) => {
            storage.create_table(&table.name, &TableSchema::new(columns, options)?)?;
            Ok(Did::Affected(0))
        }
        Statement::Select(query) => Ok(Did::Rows(select(query, storage)?)),
        Statement::Describe { table } => Ok(Did::Rows(describe(&storage.schema(table).expect("a table")))),
        Statement::ShowCreateTable { table, .. } => {
            let schema = storage.schema(table).expect("a table");
            Ok(Did::Rows(create_table_text(table, &schema, &schema.options)))
        }
        Statement::Cluster(ClusterStatement { name, .. }) => panic!("no clusters here: {name}"),
        _ => {
            let mut id = 1000;
            let mut ids = || {
                id += 1;
                id - 1
            };
            let write = prepare(&statement, storage, &mut ids)?;
            // What travels must arrive as it left.
            let bytes = postcard::to_stdvec(&write).expect("encodes");
            let write: WriteSet = postcard::from_bytes(&bytes).expect("decodes");
            Ok(Did::Affected(apply(&write, storage, None)?))
        }
    }
}

fn node() -> SqliteStorage {
    SqliteStorage::memory().expect("opens")
}

fn all(storage: &mut SqliteStorage, statements: &[&str]) {
    for sql in statements {
        run(storage, sql).expect(sql);
    }
}

fn rows(storage: &mut SqliteStorage, sql: &str) -> ResultSet {
    match run(storage, sql) {
        Ok(Did::Rows(rows)) => rows,
        other => panic!("{sql}: {other:?}"),
    }
}

/// Rows as the MySQL protocol shows them; `~` is NULL.
fn shown(result: &ResultSet) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => "~".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => text.clone(),
    };
    result.rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("|")).collect()
}

fn lines(storage: &mut SqliteStorage, sql: &str) -> Vec<String> {
    shown(&rows(storage, sql))
}

fn names(result: &ResultSet) -> Vec<&str> {
    result.columns.iter().map(|column| column.name.as_str()).collect()
}

fn error(storage: &mut SqliteStorage, sql: &str) -> String {
    run(storage, sql).expect_err(sql).message
}

/// As searchd 29.0.2 has it.
#[test]
fn which_names_of_columns_stand_in_backticks() {
    let mut node = node();
    for bare in ["table", "INT", "option", "float_vector"] {
        assert!(error(&mut node, &format!("CREATE TABLE t ({bare} int)")).contains("P03"), "{bare}");
    }
    for quoted in ["a b", "a-b", "ä", "a.b"] {
        let error = error(&mut node, &format!("CREATE TABLE t (`{quoted}` int)"));
        assert!(error.contains("invalid token"), "{quoted}: {error}");
    }
    let words = "`table` int, `option` int, order int, engine int, type int, plain int";
    all(&mut node, &[&format!("CREATE TABLE t ({words})")]);
    let shown = lines(&mut node, "SHOW CREATE TABLE t").concat();
    for column in [
        "`table` integer",
        "option integer",
        "order integer",
        "`engine` integer",
        "`type` integer",
        "plain integer",
    ] {
        assert!(shown.contains(&format!("\n{column}")), "{column}: {shown}");
    }
}

#[test]
fn as_many_operators_as_a_statement_may_have_are_worked_out() {
    let mut node = node();
    all(&mut node, &["CREATE TABLE t (a int)", "INSERT INTO t (id, a) VALUES (1, 1), (2, 2)"]);
    let row = |between: &str, many: usize| vec!["a = 1"; many].join(between);
    let deepest = format!("SELECT id FROM t WHERE {}{}{}", "(".repeat(90), row(" AND ", 301), ")".repeat(90));
    assert_eq!(lines(&mut node, &deepest), ["1"]);
    assert_eq!(lines(&mut node, &format!("SELECT id FROM t WHERE {}", row(" OR ", 301))), ["1"]);
    assert_eq!(lines(&mut node, &format!("SELECT {} FROM t", vec!["a"; 301].join(" + "))), ["301", "602"]);
    for sql in [
        format!("UPDATE t SET a = 3 WHERE {}", row(" OR ", 301)),
        format!("DELETE FROM t WHERE {}", row(" OR ", 301)),
    ] {
        run(&mut node, &sql).expect("done");
    }
}

#[test]
fn tables_are_described_as_recorded() {
    let mut node = node();
    all(
        &mut node,
        &[
            "CREATE TABLE plain (title text, n int)",
            "CREATE TABLE system.t_s0 (title text, price float, tags multi, meta json)",
            "CREATE TABLE wide (a text indexed, b text stored, s string, t timestamp, o bool, m multi64) min_infix_len='2'",
        ],
    );
    let described = rows(&mut node, "DESC plain");
    assert_eq!(names(&described), ["Field", "Type", "Properties"]);
    assert_eq!(shown(&described), ["id|bigint|", "title|text|indexed stored", "n|uint|"]);
    assert_eq!(
        lines(&mut node, "DESC system.t_s0"),
        ["id|bigint|", "title|text|indexed stored", "price|float|", "tags|mva|", "meta|json|"]
    );
    let created = rows(&mut node, "SHOW CREATE TABLE plain");
    assert_eq!(names(&created), ["Table", "Create Table"]);
    assert_eq!(shown(&created), ["plain|CREATE TABLE plain (\nid bigint,\ntitle text,\nn integer\n)"]);
    assert_eq!(
        lines(&mut node, "SHOW CREATE TABLE wide"),
        [
            "wide|CREATE TABLE wide (\nid bigint,\na text indexed,\nb text stored,\ns string,\nt timestamp,\no bool,\nm multi64\n) min_infix_len='2'"
        ]
    );
    let tables = show_tables([("plain", "rt"), ("system.t_s0", "rt"), ("t", "shard")], false, None);
    assert_eq!(names(&tables), ["Table", "Type"]);
    assert_eq!(shown(&tables), ["plain|rt", "t|shard"]);
    let system = show_tables([("plain", "rt"), ("system.t_s0", "rt")], true, Some("system.t%"));
    assert_eq!(shown(&system), ["system.t_s0|rt"]);
}

#[test]
fn documents_live_as_recorded() {
    let mut node = node();
    let create = "CREATE TABLE system.t_s0 (title text, price float, tags multi, meta json)";
    assert_eq!(run(&mut node, create), Ok(Did::Affected(0)));
    let insert = "INSERT INTO c:system.t_s0 (id,title,price,tags,meta) VALUES (1,'quick brown fox',1.5,(1,2),'{\"a\":1}'),\
                  (2,'lazy dog',2.5,(),'{}')";
    assert_eq!(run(&mut node, insert), Ok(Did::Affected(2)));
    assert_eq!(
        error(&mut node, "INSERT INTO c:system.t_s0 (id,title) VALUES (1,'again')"),
        "duplicate id '1'"
    );
    let everything = rows(&mut node, "SELECT * FROM system.t_s0 ORDER BY id ASC");
    assert_eq!(names(&everything), ["id", "title", "price", "tags", "meta"]);
    assert_eq!(shown(&everything), ["1|quick brown fox|1.5|1,2|{\"a\":1}", "2|lazy dog|2.5||{}"]);
    let weighed = rows(&mut node, "SELECT id, WEIGHT() FROM system.t_s0 WHERE MATCH('fox')");
    assert_eq!(names(&weighed), ["id", "weight()"]);
    assert_eq!(shown(&weighed), ["1|1643"]);
    let replace = "REPLACE INTO c:system.t_s0 (id,title,price) VALUES (2,'sleepy cat',3.5)";
    assert_eq!(run(&mut node, replace), Ok(Did::Affected(1)));
    assert_eq!(lines(&mut node, "SELECT * FROM system.t_s0 WHERE id=2"), ["2|sleepy cat|3.5||~"]);
    assert_eq!(run(&mut node, "DELETE FROM c:system.t_s0 WHERE id=2"), Ok(Did::Affected(1)));
    let counted = rows(&mut node, "SELECT COUNT(*) FROM system.t_s0");
    assert_eq!(names(&counted), ["count(*)"]);
    assert_eq!(shown(&counted), ["1"]);
    assert_eq!(error(&mut node, "SELECT * FROM nope"), "unknown local table(s) 'nope' in search request");
    assert_eq!(error(&mut node, "INSERT INTO t (id,title,v) VALUES (9,'nine',9)"), "table 't' absent");
    assert_eq!(error(&mut node, "TRUNCATE TABLE t"), "TRUNCATE RTINDEX requires an existing RT table");
}

#[test]
fn sharded_reads_are_those_recorded() {
    let mut node = node();
    all(
        &mut node,
        &[
            "CREATE TABLE a (title text, v int)",
            "CREATE TABLE b (title text, v int)",
            "INSERT INTO a (id,title,v) VALUES (1,'one',1),(2,'two',2),(6,'six',6)",
            "INSERT INTO b (id,title,v) VALUES (3,'three',3),(4,'four',4),(5,'five',5),(7,'seven',7),(8,'eight',8)",
        ],
    );
    assert_eq!(lines(&mut node, "SELECT COUNT(*) FROM a,b"), ["8"]);
    let top = rows(&mut node, "SELECT id,v FROM a,b ORDER BY v DESC LIMIT 3");
    assert_eq!((names(&top), top.total), (vec!["id", "v"], 8));
    assert_eq!(shown(&top), ["8|8", "7|7", "6|6"]);
    assert_eq!(lines(&mut node, "SELECT id FROM a,b WHERE MATCH('three')"), ["3"]);
    assert_eq!(run(&mut node, "REPLACE INTO b (id,title,v) VALUES (3,'drei',33)"), Ok(Did::Affected(1)));
    let star = rows(&mut node, "SELECT * FROM a,b WHERE id=3");
    assert_eq!((names(&star), shown(&star)), (vec!["id", "title", "v"], vec!["3|drei|33".to_owned()]));
    assert_eq!(run(&mut node, "UPDATE b SET v=44 WHERE id=4"), Ok(Did::Affected(1)));
    assert_eq!(run(&mut node, "DELETE FROM b WHERE id=8"), Ok(Did::Affected(1)));
    let sums = rows(&mut node, "SELECT COUNT(*), SUM(v) FROM a,b");
    assert_eq!((names(&sums), shown(&sums)), (vec!["count(*)", "sum(v)"], vec!["7|98".to_owned()]));
}

#[test]
fn types_on_the_wire_are_those_recorded() {
    use ColumnKind::{Double, Float, Long, LongLong, Text};
    let kinds = |result: &ResultSet| result.columns.iter().map(|column| column.kind).collect::<Vec<_>>();
    let mut node = node();
    all(&mut node, &["CREATE TABLE plain (title text, n int, f float, j json)"]);
    assert_eq!(kinds(&rows(&mut node, "SELECT * FROM plain")), [LongLong, Text, Long, Float, Text]);
    assert_eq!(
        kinds(&rows(&mut node, "SELECT COUNT(*), SUM(n), SUM(f), AVG(n), MIN(n) FROM plain")),
        [LongLong, LongLong, Double, Double, Long]
    );
    let constant = |sql: &str| match parse(sql) {
        Ok(Statement::Select(select)) => {
            let variable = |name: &str| (name == "autocommit").then_some(Value::Int(1));
            select_constants(&select, &Session { version: "v9", connection: 7, variable: &variable })
        }
        other => panic!("{other:?}"),
    };
    let one = constant("SELECT 1").expect("a constant");
    assert_eq!((names(&one), kinds(&one), shown(&one)), (vec!["1"], vec![Long], vec!["1".to_owned()]));
    let version = constant("SELECT VERSION()").expect("a version");
    assert_eq!((names(&version), shown(&version)), (vec!["version()"], vec!["v9".to_owned()]));
    assert_eq!(shown(&constant("SELECT @@autocommit, 2+3*2, 7/2").expect("known")), ["1|8|3.5"]);
    assert!(constant("SELECT @@nothing").expect_err("unknown").message.contains("nothing"));
}

fn numbers(node: &mut SqliteStorage) {
    all(node, &["CREATE TABLE t (title text, v int, s string, tags multi, j json, p float)"]);
    for id in 1..=1200 {
        let sql = format!(
            "INSERT INTO t (id,title,v,s,tags,j,p) VALUES ({id},'word{}',{},'{}',({},7),'{{\"a\":{{\"b\":{}}}}}',{}.25)",
            id % 3,
            id % 10,
            ["Red", "red", "Blue"][id % 3],
            id % 2,
            id % 5,
            id
        );
        run(node, &sql).expect("inserted");
    }
}

#[test]
fn searchd_shows_twenty_and_finds_a_thousand() {
    let mut node = node();
    numbers(&mut node);
    let implicit = rows(&mut node, "SELECT id FROM t");
    assert_eq!((implicit.rows.len(), implicit.total), (20, 1000));
    assert_eq!(rows(&mut node, "SELECT id FROM t LIMIT 5000").rows.len(), 1000);
    assert_eq!(rows(&mut node, "SELECT id FROM t LIMIT 5000 OPTION max_matches=5000").rows.len(), 1200);
    assert_eq!(lines(&mut node, "SELECT id FROM t LIMIT 998, 50"), ["999", "1000"]);
    assert_eq!(
        error(&mut node, "SELECT id FROM t LIMIT 1000, 50"),
        "offset out of bounds (offset=1000, max_matches=1000)"
    );
    assert_eq!(rows(&mut node, "SELECT id FROM t WHERE id>1190").total, 10);
    assert_eq!(lines(&mut node, "SELECT id FROM t ORDER BY id DESC LIMIT 1,2"), ["1199", "1198"]);
    // Deletes know no limit.
    assert_eq!(run(&mut node, "DELETE FROM t WHERE v<9"), Ok(Did::Affected(1080)));
    assert_eq!(run(&mut node, "TRUNCATE TABLE t"), Ok(Did::Affected(0)));
    assert_eq!(lines(&mut node, "SELECT COUNT(*), SUM(v), MIN(v), AVG(v) FROM t"), ["0|~|~|~"]);
}

#[test]
fn conditions_choose_documents() {
    let mut node = node();
    numbers(&mut node);
    for (condition, count) in [
        ("v=3", 120),
        ("v!=3 AND v<>4", 960),
        ("v IN (1,2) OR v=3", 360),
        ("v NOT IN (1,2)", 960),
        ("v BETWEEN 2 AND 4", 360),
        ("NOT v<8", 240),
        ("id>=1000 AND id<1010", 10),
        // Strings compare without case.
        ("s='RED'", 800),
        ("s IN ('blue','x')", 400),
        // Multi-values: any, unless ALL is said.
        ("tags=1", 600),
        ("tags IN (0,1)", 1200),
        ("ANY(tags)>6", 1200),
        ("ALL(tags) IN (1,7)", 600),
        ("ALL(tags) BETWEEN 5 AND 9", 0),
        ("j.a.b=4", 240),
        ("j.a.c IS NULL", 1200),
        ("p=2.25", 1),
        ("p/2>599.5", 2),
        ("v+1=10", 120),
        ("MATCH('word1')", 400),
        ("MATCH('wor*') AND v=1", 120),
        ("MATCH('word1 | word2')", 800),
        ("MATCH('@title word1 -word2')", 400),
        ("MATCH('')", 1200),
        ("MATCH('...')", 0),
    ] {
        let sql = format!("SELECT COUNT(*) FROM t WHERE {condition}");
        assert_eq!(lines(&mut node, &sql), [count.to_string()], "{sql}");
    }
    for (sql, part) in [
        ("SELECT * FROM t WHERE nope=1", "table t: unknown column: nope"),
        ("SELECT nope FROM t", "table t: parse error: unknown column: nope"),
        ("SELECT * FROM t ORDER BY nope ASC", "sort-by attribute 'nope' not found"),
        ("SELECT * FROM t WHERE title='x'", "MATCH()"),
        ("SELECT * FROM t WHERE MATCH('@nope x')", "no field 'nope' found in schema"),
        ("SELECT * FROM t WHERE MATCH('\"x')", "query error"),
        ("SELECT COUNT(*) FROM t GROUP BY tags", "multi-value"),
        ("SELECT * FROM t WHERE COUNT(*)=1", "WHERE"),
        ("SELECT id FROM t OPTION ranker=sph04", "ranker"),
        ("SELECT frobnicate(v) FROM t", "frobnicate"),
    ] {
        let message = error(&mut node, sql);
        assert!(message.contains(part), "{sql}: {message}");
    }
}

#[test]
fn values_are_shown_in_the_order_of_the_table() {
    let mut node = node();
    all(&mut node, &["CREATE TABLE t (v int, title text)", "INSERT INTO t VALUES (5,'five',50)"]);
    assert_eq!(lines(&mut node, "SELECT * FROM t"), ["5|five|50"]);
    // Ids: automatic ones, large ones, refused ones.
    all(
        &mut node,
        &[
            "INSERT INTO t (title) VALUES ('auto'),('auto')",
            "INSERT INTO t (id) VALUES (18446744073709551615)",
        ],
    );
    assert_eq!(lines(&mut node, "SELECT id FROM t WHERE MATCH('auto')"), ["1000", "1001"]);
    assert_eq!(lines(&mut node, "SELECT id FROM t WHERE id=18446744073709551615"), ["-1"]);
    for (sql, message) in [
        ("INSERT INTO t (id) VALUES (-5)", "row 1, column 1: Negative document ids are not allowed"),
        ("INSERT INTO t (id,nope) VALUES (1,2)", "unknown column: 'nope'"),
        ("INSERT INTO t (id,v,v) VALUES (1,2,3)", "column 'v' specified twice"),
        (
            "INSERT INTO t (id,v) VALUES (1,(2,3))",
            "row 1, column 2: MVA value specified for a non-MVA column",
        ),
        ("INSERT INTO t (id) VALUES (77),(5)", "duplicate id '5'"),
        ("UPDATE t SET title='x' WHERE id=5", "attribute 'title' can not be updated (full-text field)"),
        ("UPDATE t SET nope=1 WHERE id=5", "attribute 'nope' not found"),
        ("UPDATE nope SET v=1 WHERE id=5", "unknown table 'nope' in update request"),
        ("DELETE FROM nope WHERE id=5", "unknown table 'nope' in delete request"),
    ] {
        assert_eq!(error(&mut node, sql), message, "{sql}");
    }
    // Nothing of the refused statement stayed; of one id twice the last wins.
    assert!(lines(&mut node, "SELECT id FROM t WHERE id=77").is_empty());
    assert_eq!(run(&mut node, "INSERT INTO t (id,v) VALUES (88,1),(88,2)"), Ok(Did::Affected(2)));
    assert_eq!(lines(&mut node, "SELECT v FROM t WHERE id=88"), ["2"]);
}

#[test]
fn a_duplicate_that_came_between_the_steps_is_overwritten() {
    let mut node = node();
    all(&mut node, &["CREATE TABLE t (v int)"]);
    let statement = |sql: &str| parse(sql).expect("parses");
    let mut ids = || 1;
    let first =
        prepare(&statement("INSERT INTO t (id,v) VALUES (1,10)"), &mut node, &mut ids).expect("prepared");
    let second =
        prepare(&statement("INSERT INTO t (id,v) VALUES (1,20)"), &mut node, &mut ids).expect("prepared");
    assert_eq!(first.ids(), Some(vec![1]));
    assert_eq!(apply(&first, &mut node, Some(1)), Ok(1));
    assert_eq!(apply(&second, &mut node, Some(2)), Ok(1));
    assert_eq!(lines(&mut node, "SELECT v FROM t"), ["20"]);
    let truncate = prepare(&statement("TRUNCATE TABLE t"), &mut node, &mut ids).expect("prepared");
    assert_eq!(truncate.ids(), None);
}

fn any_row() -> impl Strategy<Value = (u8, i16, String, u8)> {
    (
        0..4u8,
        -9..9i16,
        proptest::sample::select(vec!["red", "Red", "blue", "green"]).prop_map(str::to_owned),
        0..3u8,
    )
}

fn any_query() -> impl Strategy<Value = String> {
    let items = proptest::sample::select(vec![
        "id",
        "*",
        "id, f, v AS x",
        "COUNT(*)",
        "COUNT(*), SUM(f), MIN(v), MAX(v), AVG(v)",
        "COUNT(DISTINCT v) AS d, SUM(v)/COUNT(*) AS m",
    ]);
    let grouped = proptest::sample::select(vec![
        "v, COUNT(*) AS n FROM $ GROUP BY v ORDER BY n DESC",
        "v, id, COUNT(DISTINCT s) FROM $ GROUP BY v ORDER BY v ASC",
        "s, v, AVG(f), MAX(f)-MIN(f) FROM $ GROUP BY s, v",
        "v, COUNT(*) FROM $ GROUP BY v LIMIT 2, 3",
        "v+1 AS w, SUM(f) FROM $ GROUP BY w ORDER BY w DESC",
    ])
    .prop_map(|query| format!("SELECT {query}"));
    let condition = proptest::sample::select(vec!["", "WHERE v>1", "WHERE s='red'", "WHERE v=99"]);
    let order = proptest::sample::select(vec![
        "",
        "ORDER BY v DESC, id ASC",
        "ORDER BY s ASC",
        "LIMIT 3,4",
        "LIMIT 2",
    ]);
    let plain = (items, condition, order).prop_map(|(items, condition, order)| {
        let aggregate = items.contains('(');
        format!("SELECT {items} FROM $ {condition} {}", if aggregate { "" } else { order })
    });
    prop_oneof![3 => plain, 2 => grouped]
}

fn parsed(sql: &str) -> Select {
    match parse(sql) {
        Ok(Statement::Select(select)) => select,
        other => panic!("{sql}: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever the distribution of documents over shards, the merged answer is that of one table with all of them.
    #[test]
    fn many_tables_answer_as_one(
        documents in proptest::collection::vec(any_row(), 0..40),
        queries in proptest::collection::vec(any_query(), 6),
    ) {
        let mut node = node();
        for table in ["one", "a", "b", "c"] {
            run(&mut node, &format!("CREATE TABLE {table} (v bigint, s string, f float)")).expect("created");
        }
        for (id, (v, f, s, shard)) in documents.iter().enumerate() {
            for table in ["one", ["a", "b", "c"][usize::from(*shard)]] {
                let f = f64::from(*f) / 4.0;
                let sql = format!("INSERT INTO {table} (id,v,s,f) VALUES ({},{v},'{s}',{f})", id + 1);
                run(&mut node, &sql).expect("inserted");
            }
        }
        for query in queries {
            let whole = rows(&mut node, &query.replace('$', "one"));
            let split = rows(&mut node, &query.replace('$', "a, b, c"));
            prop_assert_eq!(&whole.rows, &split.rows, "{}", query);
            prop_assert_eq!(&whole.columns, &split.columns, "{}", query);
            prop_assert_eq!(whole.total, split.total, "{}", query);
        }
    }
}

#[test]
fn an_absent_shard_makes_a_smaller_answer() {
    let mut node = node();
    all(&mut node, &["CREATE TABLE a (v int)", "INSERT INTO a (id,v) VALUES (1,1),(2,3)"]);
    let query = parsed("SELECT AVG(v), COUNT(*) FROM t");
    let mut part = shard_select(&query).expect("a part");
    part.from = vec!["a".into()];
    let answer = select(&part, &mut node).expect("an answer");
    assert_eq!(shown(&merge(&query, vec![answer]).expect("merged")), ["2|2"]);
    assert_eq!(shown(&merge(&query, vec![]).expect("merged")), ["~|0"]);
    assert!(merge(&query, vec![ResultSet::default()]).is_err(), "an answer of another shape");
    assert!(shard_select(&parsed("SELECT *, COUNT(*) FROM t")).is_err());
    // What every routing table is asked most is known without reading documents.
    let counting = shard_select(&parsed("SELECT COUNT(*) FROM t")).expect("a part");
    assert_eq!(counting.items.len(), 1);
}
