//! The parser against recorded replies and against anything at all.

use super::ast::*;
use super::expr::{Aggregate, BinaryOp, Expr, JsonStep, Literal, MultiTest, Quantifier};
use super::parse;
use proptest::prelude::*;

fn message(sql: &str) -> String {
    parse(sql).expect_err(sql).message
}

fn select(sql: &str) -> Select {
    match parse(sql) {
        Ok(Statement::Select(select)) => select,
        other => panic!("{sql}: {other:?}"),
    }
}

fn table(name: &str) -> TableRef {
    TableRef { cluster: None, name: name.into() }
}

#[test]
fn syntax_errors_are_those_recorded_from_real_nodes() {
    let recorded = [
        ("SHOW CLUSTERS", "P01: syntax error, unexpected identifier, expecting VARIABLES near 'CLUSTERS'"),
        ("CREATE CLUSTER IF NOT EXISTS c", "P03: syntax error, unexpected IF near 'IF NOT EXISTS c'"),
        (
            "SHOW CREATE TABLE system.t_s0",
            "P01: syntax error, unexpected SUBKEY, expecting $end near '.t_s0'",
        ),
        (
            "SHOW CREATE TABLE system.t_s0 OPTION force=1",
            "P01: syntax error, unexpected SUBKEY, expecting $end near '.t_s0 OPTION force=1'",
        ),
        ("THIS IS NOT SQL", "P02: syntax error, unexpected identifier near 'THIS IS NOT SQL'"),
        ("SELECT 1; SELECT 2", "P01: syntax error, unexpected SELECT, expecting $end near 'SELECT 2'"),
    ];
    for (sql, expected) in recorded {
        assert_eq!(message(sql), expected, "{sql}");
        assert_eq!(parse(sql).expect_err(sql).code, 1064);
    }
}

/// What a node does not know goes to its sidecar, which reads the code and what stands behind `near`.
#[test]
fn statements_of_the_sidecar_fail_near_the_word_that_no_node_knows() {
    for (sql, code, near) in [
        ("SHOW SHARDING STATUS c:t", "P01", "SHARDING STATUS c:t"),
        ("REBALANCE TABLE t DRY RUN", "P02", "REBALANCE TABLE t DRY RUN"),
        ("DRAIN NODE '127.0.0.1:9312'", "P02", "DRAIN NODE '127.0.0.1:9312'"),
        ("MOVE SHARD t 1 FROM 'a' TO 'b'", "P02", "MOVE SHARD t 1 FROM 'a' TO 'b'"),
        ("EXPLAIN SHARD t 3", "P01", "SHARD t 3"),
        ("ALTER TABLE c:t rf='2'", "P03", "rf='2'"),
        ("CREATE USER 'john'", "P03", "USER 'john'"),
        ("CREATE TABLE t (a int) shards = rf='1'", "P03", "rf='1'"),
        ("CREATE TABLE t (a int) shards", "P03", "(null)"),
        ("SELECT * FROM t WHERE", "P01", "(null)"),
        ("SELECT * FROM t WHERE a LIKE 'x'", "P01", "LIKE 'x'"),
        ("DELETE FROM t", "P01", "(null)"),
        ("INSERT INTO t VALUES (1,'a", "P01", "'a"),
    ] {
        let message = message(sql);
        assert!(message.starts_with(&format!("{code}: syntax error, ")), "{sql}: {message}");
        assert!(message.ends_with(&format!(" near '{near}'")), "{sql}: {message}");
    }
}

#[test]
fn a_shard_table_is_created_with_its_targets_in_order() {
    let sql = "CREATE TABLE T (Title text, v int, p text indexed, tags multi64) type='shard' local='system.t_s0' \
               agent='127.0.0.1:1:system.t_s1|127.0.0.1:2:system.t_s1[retry_count=3,ha_strategy=nodeads]'";
    let Ok(Statement::CreateTable(create)) = parse(sql) else { panic!("{:?}", parse(sql)) };
    assert_eq!(create.table, table("t"));
    let kinds: Vec<_> = create.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("title", ColumnType::Text { indexed: true, stored: true }),
            ("v", ColumnType::Uint),
            ("p", ColumnType::Text { indexed: true, stored: false }),
            ("tags", ColumnType::Multi64),
        ]
    );
    assert_eq!(
        create.options,
        [
            ("type".to_owned(), "shard".to_owned()),
            ("local".to_owned(), "system.t_s0".to_owned()),
            (
                "agent".to_owned(),
                "127.0.0.1:1:system.t_s1|127.0.0.1:2:system.t_s1[retry_count=3,ha_strategy=nodeads]"
                    .to_owned()
            ),
        ]
    );
    let Ok(Statement::CreateTable(bare)) = parse("create table if not exists c:t SHARDS = '3' rf='1'") else {
        panic!("no columns")
    };
    assert!(bare.if_not_exists && bare.columns.is_empty());
    assert_eq!(bare.table.cluster.as_deref(), Some("c"));
    assert_eq!(bare.options, [("shards".to_owned(), "3".to_owned()), ("rf".to_owned(), "1".to_owned())]);
}

#[test]
fn documents_are_read_with_their_constants() {
    use Literal::{Float, Int, List, Null, Text, Unsigned};
    let sql = "INSERT INTO c:system.t_s0 (id,title,price,tags,meta) VALUES \
               (1,'quick',-1.5,(1,2),'{\"a\":1}'),(18446744073709551615,'',.5,(),NULL);";
    let Ok(Statement::Insert(insert)) = parse(sql) else { panic!("{:?}", parse(sql)) };
    assert_eq!(insert.table, TableRef { cluster: Some("c".into()), name: "system.t_s0".into() });
    assert!(!insert.replace);
    assert_eq!(
        insert.rows,
        [
            vec![Int(1), Text("quick".into()), Float(-1.5), List(vec![1, 2]), Text("{\"a\":1}".into())],
            vec![Unsigned(u64::MAX), Text(String::new()), Float(0.5), List(vec![]), Null],
        ]
    );
    assert!(matches!(
        parse("REPLACE INTO t VALUES (1,2)"),
        Ok(Statement::Insert(Insert { replace: true, columns: None, .. }))
    ));
}

#[test]
fn a_select_is_read_in_all_its_parts() {
    let all = select(
        "SELECT id, COUNT(*) n, meta.a[0] AS m, `from` FROM a, system.b WHERE MATCH('x \"y z\"') AND (v>=-2 OR NOT v=3) \
         AND ANY(tags) IN (1,2) GROUP BY v ORDER BY n DESC, id ASC LIMIT 5, 10 OPTION max_matches=5000, ranker=bm25",
    );
    let names: Vec<_> = all
        .items
        .iter()
        .map(|item| if let SelectItem::Expr { name, .. } = item { name.as_str() } else { "*" })
        .collect();
    assert_eq!(names, ["id", "n", "m", "from"]);
    assert!(matches!(&all.items[2], SelectItem::Expr { expr: Expr::Json { column, path }, .. }
        if column == "meta" && *path == [JsonStep::Key("a".into()), JsonStep::Index(0)]));
    assert_eq!(all.from, ["a", "system.b"]);
    assert_eq!(all.matching.as_deref(), Some("x \"y z\""));
    let Some(Expr::Binary { op: BinaryOp::And, left, right }) = all.filter else {
        panic!("{:?}", all.filter)
    };
    assert!(matches!(*left, Expr::Binary { op: BinaryOp::Or, .. }));
    assert_eq!(
        *right,
        Expr::MultiValue {
            quantifier: Quantifier::Any,
            column: "tags".into(),
            test: MultiTest::In { negated: false, list: vec![1, 2] }
        }
    );
    assert_eq!(all.limit, Some(Limit { offset: 5, count: 10 }));
    assert!(all.order_by[0].descending && !all.order_by[1].descending);
    assert_eq!(
        all.options,
        [("max_matches".to_owned(), Literal::Int(5000)), ("ranker".to_owned(), Literal::Text("bm25".into()))]
    );
}

#[test]
fn unnamed_items_take_their_text_in_lower_case() {
    for (sql, name) in [
        ("SELECT COUNT(*) FROM t", "count(*)"),
        ("SELECT WEIGHT() FROM t", "weight()"),
        ("SELECT SUM(v) FROM t", "sum(v)"),
        ("SELECT VERSION()", "version()"),
        ("SELECT 1", "1"),
        ("SELECT @@session.auto_increment_increment", "@@session.auto_increment_increment"),
        ("SELECT V + 1 FROM t LIMIT 1", "v + 1"),
    ] {
        assert!(
            matches!(&select(sql).items[0], SelectItem::Expr { name: found, .. } if found == name),
            "{sql}: {:?}",
            select(sql).items
        );
    }
    assert!(matches!(
        &select("SELECT COUNT(DISTINCT v) FROM t").items[0],
        SelectItem::Expr { expr: Expr::Aggregate(Aggregate::CountDistinct(_)), .. }
    ));
}

#[test]
fn match_stands_only_beside_other_conditions() {
    assert!(message("SELECT id FROM t WHERE MATCH('a') OR v=1").contains("AND"));
    assert!(message("SELECT id FROM t WHERE MATCH('a') AND MATCH('b')").contains("MATCH"));
}

#[test]
fn statements_of_clusters_are_read() {
    let cluster = |sql: &str| match parse(sql) {
        Ok(Statement::Cluster(statement)) => statement.action,
        other => panic!("{sql}: {other:?}"),
    };
    let options = ClusterOptions { path: Some("g0".into()), options: Some("gcache.size=8M".into()) };
    assert_eq!(
        cluster("CREATE CLUSTER g0 'g0' as path, 'gcache.size=8M' as options"),
        ClusterAction::Create(options)
    );
    assert_eq!(
        cluster("JOIN CLUSTER c AT '127.0.0.1:1312'"),
        ClusterAction::Join { at: "127.0.0.1:1312".into(), options: ClusterOptions::default() }
    );
    assert_eq!(
        cluster("ALTER CLUSTER c ADD system.a_s0, b"),
        ClusterAction::Add(vec!["system.a_s0".into(), "b".into()])
    );
    assert_eq!(cluster("ALTER CLUSTER c DROP t"), ClusterAction::Drop(vec!["t".into()]));
    assert_eq!(cluster("ALTER CLUSTER c UPDATE nodes"), ClusterAction::UpdateNodes);
    assert_eq!(cluster("EXIT CLUSTER c"), ClusterAction::Exit);
    assert_eq!(cluster("DELETE CLUSTER c"), ClusterAction::Delete);
    assert_eq!(
        cluster("SET CLUSTER g0 GLOBAL 'pc.bootstrap' = 1"),
        ClusterAction::Set { variable: "pc.bootstrap".into(), value: "1".into() }
    );
}

#[test]
fn the_small_statements_are_read() {
    let plain = || table("t");
    for (sql, expected) in [
        (
            "SHOW TABLES FROM SYSTEM LIKE 's%'",
            Statement::ShowTables { system: true, like: Some("s%".into()) },
        ),
        ("SHOW STATUS LIKE 'cluster%'", Statement::ShowStatus { like: Some("cluster%".into()) }),
        ("SHOW GLOBAL VARIABLES", Statement::ShowVariables { like: None }),
        ("DESC system.t_s0;", Statement::Describe { table: "system.t_s0".into() }),
        ("SHOW CREATE TABLE t OPTION force=1", Statement::ShowCreateTable { table: "t".into(), force: true }),
        (
            "DROP TABLE t OPTION force=1",
            Statement::DropTable(DropTable { table: plain(), if_exists: false, force: true }),
        ),
        ("TRUNCATE TABLE t", Statement::Truncate(plain())),
        ("FLUSH RAMCHUNK t", Statement::FlushRamchunk(plain())),
        (
            "OPTIMIZE TABLE t OPTION sync=1",
            Statement::Optimize { table: plain(), options: vec![("sync".into(), Literal::Int(1))] },
        ),
        (
            "LOCK TABLES t READ, u WRITE",
            Statement::LockTables(vec![(plain(), LockMode::Read), (table("u"), LockMode::Write)]),
        ),
        ("UNLOCK TABLES", Statement::UnlockTables),
        ("START TRANSACTION", Statement::Begin),
        (
            "ALTER TABLE t ADD COLUMN z int",
            Statement::AlterTable(AlterTable {
                table: plain(),
                change: AlterColumn::Add(ColumnDef { name: "z".into(), kind: ColumnType::Uint }),
            }),
        ),
        (
            "SET NAMES utf8mb4",
            Statement::Set(Set {
                global: false,
                name: "names".into(),
                value: Literal::Text("utf8mb4".into()),
            }),
        ),
        (
            "SET @@session.autocommit=ON",
            Statement::Set(Set {
                global: false,
                name: "autocommit".into(),
                value: Literal::Text("ON".into()),
            }),
        ),
        (
            "SET autocommit = 1",
            Statement::Set(Set { global: false, name: "autocommit".into(), value: Literal::Int(1) }),
        ),
    ] {
        assert_eq!(parse(sql).expect(sql), expected, "{sql}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(message(&deep).contains("nested"));
}

/// Joined one by one, they are a tree as deep as they are many.
#[test]
fn a_row_of_operators_has_a_limit() {
    for operator in ["AND", "OR", "+", "-", "*", "/"] {
        let row = |many: usize| format!("SELECT * FROM t WHERE a{}", format!(" {operator} a").repeat(many));
        let statement = parse(&row(300)).expect(operator);
        let bytes = postcard::to_stdvec(&statement).expect("encodes");
        assert_eq!(postcard::from_bytes::<Statement>(&bytes).expect("decodes"), statement);
        assert!(message(&row(200_000)).contains("more than 300 operators"), "{operator}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(sql in "\\PC{0,80}") {
        let _ = parse(&sql);
    }

    #[test]
    fn no_row_of_words_makes_the_parser_panic(words in proptest::collection::vec(word(), 0..16)) {
        let _ = parse(&words.join(" "));
    }

    #[test]
    fn a_parsed_statement_travels(words in proptest::collection::vec(word(), 1..10)) {
        if let Ok(statement) = parse(&format!("SELECT {}", words.join(" "))) {
            let bytes = postcard::to_stdvec(&statement).expect("encodes");
            prop_assert_eq!(postcard::from_bytes::<Statement>(&bytes).expect("decodes"), statement);
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(
        "select insert into values replace update set delete from where match count distinct sum group by order limit \
         option in between and or not is null any all create drop alter table cluster show desc lock tables read \
         ( ) , ; = != <> < <= - + * / . : [ ] 'x' 1 1.5 99999999999999999999 t id `a` @@x @y \u{e9}"
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    )
}
