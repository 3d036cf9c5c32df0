//! The storage as its callers see it, on disk and in memory.

use super::*;
use crate::sql::ast::{ColumnDef, ColumnType};
use crate::sql::expr::{Aggregate, Expr, Literal};
use crate::sql::search::parse_search;
use crate::storage::{Order, Row, Search};
use proptest::prelude::*;

const TEXT: ColumnType = ColumnType::Text { indexed: true, stored: true };

fn schema(columns: &[(&str, ColumnType)]) -> TableSchema {
    let columns: Vec<ColumnDef> =
        columns.iter().map(|(name, kind)| ColumnDef { name: (*name).into(), kind: *kind }).collect();
    TableSchema::new(&columns, &[]).expect("valid")
}

fn articles() -> TableSchema {
    schema(&[("title", TEXT), ("body", TEXT), ("v", ColumnType::Uint), ("tags", ColumnType::Multi)])
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

fn row(id: i64, title: &str, v: i64) -> Row {
    Row { id, values: vec![text(title), text(""), Value::Int(v), text("")] }
}

fn id() -> Expr {
    Expr::Column("id".into())
}

fn found(storage: &mut SqliteStorage, table: &str, query: &str) -> Vec<i64> {
    let search = parse_search(query).expect("a query");
    let rows = storage.query(table, &Query::ids(None, Some(&search), &id())).expect("found");
    rows.iter().map(|row| if let Value::Int(id) = row[0] { id } else { panic!("{row:?}") }).collect()
}

fn copy(from: &mut SqliteStorage, to: &mut SqliteStorage, table: &str) -> usize {
    let snapshot = from.snapshot_begin(table).expect("a snapshot");
    let restore = to.restore_begin(table).expect("a restore");
    let mut chunks = 0;
    while let Some(chunk) = from.snapshot_next(snapshot).expect("a chunk") {
        assert!(chunk.len() <= crate::storage::CHUNK_BYTES_MAX);
        to.restore_chunk(restore, &chunk).expect("taken");
        chunks += 1;
    }
    to.restore_finish(restore).expect("restored");
    chunks
}

#[test]
fn rows_and_words_change_together() {
    let mut storage = SqliteStorage::memory().expect("opens");
    storage.create_table("t", &articles()).expect("created");
    let put = Change::Put(vec![row(1, "quick brown fox", 1), row(-2, "Lazy Dog", 2), row(3, "brown dog", 3)]);
    assert_eq!(storage.write("t", &[put], None).expect("written"), 3);
    assert_eq!(found(&mut storage, "t", "brown"), [1, 3]);
    assert_eq!(storage.write("t", &[Change::Put(vec![row(3, "red cat", 4)])], Some(7)).expect("written"), 1);
    assert_eq!(found(&mut storage, "t", "brown"), [1]);
    assert_eq!(found(&mut storage, "t", "@body cat"), [0; 0]);
    assert_eq!(found(&mut storage, "t", "@title ca* | \"lazy dog\""), [-2, 3]);
    assert_eq!(storage.write("t", &[Change::Delete(vec![1, 99])], None).expect("deleted"), 1);
    assert_eq!(found(&mut storage, "t", "fox"), [0; 0]);
    let stats = IdStats { rows: 2, sum: 1, min: -2, max: 3 };
    assert_eq!(storage.id_stats("t").expect("stats"), stats);
    assert_eq!(storage.existing("t", &[1, 3, -2]).expect("read"), [3, -2]);
    let update = Change::Update { ids: vec![3, 99], assignments: vec![(2, Value::Int(44))] };
    assert_eq!(storage.write("t", &[update], None).expect("updated"), 1);
    assert_eq!(storage.position("t").expect("position"), 7);
    assert_eq!(storage.write("t", &[Change::Truncate], Some(8)).expect("emptied"), 2);
    assert_eq!(storage.id_stats("t").expect("stats"), IdStats::default());
    assert_eq!(found(&mut storage, "t", "cat"), [0; 0]);
    assert_eq!(storage.position("t").expect("position"), 8);
}

#[test]
fn sums_of_ids_wrap_around() {
    let mut storage = SqliteStorage::memory().expect("opens");
    storage.create_table("t", &schema(&[])).expect("created");
    let rows = [i64::MAX, i64::MAX - 1, 5].map(|id| Row { id, values: vec![] }).to_vec();
    storage.write("t", &[Change::Put(rows.clone())], None).expect("written");
    storage.write("t", &[Change::Put(rows)], None).expect("written again");
    let stats = storage.id_stats("t").expect("stats");
    assert_eq!(stats.rows, 3);
    assert_eq!(stats.sum, i64::MAX.wrapping_add(i64::MAX - 1).wrapping_add(5));
}

#[test]
fn what_was_written_is_there_after_reopening_and_strays_are_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let mut storage = SqliteStorage::open(path).expect("opens");
    for table in ["t", "system.t_s0", "gone"] {
        storage.create_table(table, &articles()).expect("created");
    }
    storage.write("t", &[Change::Put(vec![row(1, "one", 1)])], Some(5)).expect("written");
    storage.drop_table("gone").expect("dropped");
    storage.set_meta(&[("a/1".into(), Some(b"x".to_vec())), ("b".into(), Some(vec![]))]).expect("set");
    let restore = storage.restore_begin("t").expect("begun");
    storage.restore_chunk(restore, b"half a table").expect("taken");
    assert!(SqliteStorage::open(path).is_err(), "a second process must not open it");
    // A crash: nothing is closed in order, transfers stay half done.
    std::fs::write(path.join("77.part"), b"left over").expect("written");
    std::fs::write(path.join("gone.99.db-wal"), b"left over").expect("written");
    std::fs::write(path.join("somebody's.txt"), b"not ours").expect("written");
    drop(storage);
    let mut storage = SqliteStorage::open(path).expect("opens again");
    assert_eq!(storage.tables(), ["system.t_s0", "t"]);
    assert_eq!(found(&mut storage, "t", "one"), [1]);
    assert_eq!(storage.position("t").expect("position"), 5);
    assert_eq!(storage.meta("a/1").expect("read"), Some(b"x".to_vec()));
    assert_eq!(storage.meta_with_prefix("a/").expect("read").len(), 1);
    storage.set_meta(&[("b".into(), None)]).expect("removed");
    assert_eq!(storage.meta("b").expect("read"), None);
    assert!(!path.join("77.part").exists() && !path.join("gone.99.db-wal").exists());
    assert!(path.join("somebody's.txt").exists());
}

#[test]
fn a_table_is_copied_whole_between_nodes_of_either_kind() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut disk = SqliteStorage::open(directory.path()).expect("opens");
    let mut memory = SqliteStorage::memory().expect("opens");
    disk.create_table("t", &articles()).expect("created");
    let rows: Vec<Row> =
        (1..=3000).map(|id| row(id, &format!("word{id} {}", "filler ".repeat(60)), id)).collect();
    disk.write("t", &[Change::Put(rows)], Some(42)).expect("written");
    // The joiner's own table of that name is overwritten, other columns and all.
    memory.create_table("t", &schema(&[("x", ColumnType::Json)])).expect("created");
    assert!(copy(&mut disk, &mut memory, "t") > 1, "a table of this size needs several chunks");
    assert_eq!(memory.checksum("t").expect("sum"), disk.checksum("t").expect("sum"));
    assert_eq!(memory.schema("t").as_deref(), Some(&articles()));
    assert_eq!(memory.position("t").expect("position"), 42);
    memory.write("t", &[Change::Delete(vec![17])], None).expect("the copy can be written");
    assert_eq!(found(&mut memory, "t", "word17 | word18"), [18]);
    copy(&mut memory, &mut disk, "t");
    assert_eq!(memory.checksum("t").expect("sum"), disk.checksum("t").expect("sum"));
    drop(disk);
    let mut disk = SqliteStorage::open(directory.path()).expect("opens again");
    assert_eq!(disk.id_stats("t").expect("stats").rows, 2999);
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    let mut storage = SqliteStorage::memory().expect("opens");
    let mut other = SqliteStorage::memory().expect("opens");
    storage.create_table("t", &articles()).expect("created");
    storage.write("t", &[Change::Put(vec![row(1, "one", 1)])], None).expect("written");
    let snapshot = storage.snapshot_begin("t").expect("begun");
    storage.write("t", &[Change::Put(vec![row(2, "two", 2)])], None).expect("written");
    let restore = other.restore_begin("t").expect("begun");
    while let Some(chunk) = storage.snapshot_next(snapshot).expect("a chunk") {
        other.restore_chunk(restore, &chunk).expect("taken");
    }
    other.restore_finish(restore).expect("restored");
    assert_eq!(other.id_stats("t").expect("stats").rows, 1);
    assert!(matches!(storage.snapshot_next(snapshot), Err(StorageError::NoTransfer(_))));
}

#[test]
fn what_is_damaged_is_refused_and_the_old_table_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    for mut storage in
        [SqliteStorage::open(directory.path()), SqliteStorage::memory()].map(|s| s.expect("opens"))
    {
        storage.create_table("t", &articles()).expect("created");
        storage.write("t", &[Change::Put(vec![row(1, "one", 1)])], None).expect("written");
        for chunk in [&b"no database at all, only text of some length"[..], b""] {
            let restore = storage.restore_begin("t").expect("begun");
            storage.restore_chunk(restore, chunk).expect("taken");
            let error = storage.restore_finish(restore).expect_err("damaged");
            assert!(matches!(error, StorageError::Damaged { .. } | StorageError::Failed { .. }), "{error}");
        }
        assert_eq!(found(&mut storage, "t", "one"), [1]);
        let restore = storage.restore_begin("new").expect("begun");
        storage.abort_transfers();
        assert!(matches!(storage.restore_finish(restore), Err(StorageError::NoTransfer(_))));
        assert_eq!(storage.tables(), ["t"]);
    }
}

#[test]
fn columns_come_and_go_with_their_words() {
    let mut storage = SqliteStorage::memory().expect("opens");
    storage.create_table("t", &articles()).expect("created");
    let rows: Vec<Row> = (1..=1200).map(|id| row(id, "same", id)).collect();
    storage.write("t", &[Change::Put(rows)], Some(9)).expect("written");
    let wider =
        schema(&[("title", TEXT), ("note", TEXT), ("tags", ColumnType::Multi), ("price", ColumnType::Float)]);
    storage.alter_table("t", &wider).expect("altered");
    assert_eq!(found(&mut storage, "t", "@title same").len(), 1200);
    let price = Expr::Column("price".into());
    let own = id();
    let query = Query { output: vec![&own, &price], limit: Some(1), ..Query::ids(None, None, &own) };
    assert_eq!(storage.query("t", &query).expect("read"), [vec![Value::Int(1), Value::Float(0.0)]]);
    assert_eq!(storage.position("t").expect("position"), 9);
}

#[test]
fn more_tables_than_connections_are_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut storage = SqliteStorage::open(directory.path()).expect("opens");
    let tables: Vec<String> = (0..300).map(|number| format!("t{number}")).collect();
    for (number, table) in (0..).zip(&tables) {
        storage.create_table(table, &articles()).expect("created");
        storage.write(table, &[Change::Put(vec![row(number, "word", number)])], None).expect("written");
    }
    for (number, table) in (0..).zip(&tables) {
        assert_eq!(found(&mut storage, table, "word"), [number]);
    }
}

#[test]
fn groups_show_their_first_document_and_order_by_anything() {
    let mut storage = SqliteStorage::memory().expect("opens");
    storage.create_table("t", &articles()).expect("created");
    let rows = vec![row(4, "d", 1), row(1, "a", 2), row(3, "c", 2), row(2, "b", 1)];
    storage.write("t", &[Change::Put(rows)], None).expect("written");
    let (own, v, title) = (id(), Expr::Column("v".into()), Expr::Column("title".into()));
    let count = Expr::Aggregate(Aggregate::Count);
    let query = Query {
        output: vec![&title, &v, &count],
        grouped: true,
        group_by: vec![&v],
        order_by: vec![Order { expr: &v, descending: true }],
        ..Query::ids(None, None, &own)
    };
    assert_eq!(
        storage.query("t", &query).expect("read"),
        [vec![text("a"), Value::Int(2), Value::Int(2)], vec![text("b"), Value::Int(1), Value::Int(2)]]
    );
    assert_eq!(storage.count("t", &query, 100).expect("counted"), 2);
}

#[test]
fn weights_order_what_is_found() {
    let mut storage = SqliteStorage::memory().expect("opens");
    storage.create_table("t", &articles()).expect("created");
    let rows = vec![row(1, "quick brown fox", 0), row(2, "lazy dog", 0)];
    storage.write("t", &[Change::Put(rows)], None).expect("written");
    let weight = |storage: &mut SqliteStorage, query: &str| {
        let search = parse_search(query).expect("a query");
        let (own, weight) = (id(), Expr::Weight);
        let query = Query {
            output: vec![&own, &weight],
            search: Some(Search { query: &search, ranked: true }),
            order_by: vec![Order { expr: &weight, descending: true }],
            ..Query::ids(None, None, &own)
        };
        storage.query("t", &query).expect("read")
    };
    // Recorded: 1643 for one of two documents.
    assert_eq!(weight(&mut storage, "fox"), [vec![Value::Int(1), Value::Int(1643)]]);
    assert_eq!(weight(&mut storage, "FO*"), [vec![Value::Int(1), Value::Int(1643)]]);
    assert!(weight(&mut storage, "cat").is_empty());
    let phrase = weight(&mut storage, "\"brown fox\" | dog");
    assert_eq!(phrase[0][0], Value::Int(1));
    assert!(matches!(phrase[0][1], Value::Int(weight) if weight > 2000), "{phrase:?}");
}

fn any_value(kind: ColumnType) -> BoxedStrategy<Value> {
    match kind {
        ColumnType::Float => any::<i32>().prop_map(|n| Value::Float(f64::from(n) / 8.0)).boxed(),
        ColumnType::Json => prop_oneof![Just(Value::Null), "\\PC{0,9}".prop_map(Value::Text)].boxed(),
        ColumnType::Text { .. } | ColumnType::String => "\\PC{0,20}".prop_map(Value::Text).boxed(),
        _ => any::<i64>().prop_map(Value::Int).boxed(),
    }
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let values = (
        any_value(TEXT),
        any_value(ColumnType::Json),
        any_value(ColumnType::Float),
        any_value(ColumnType::Bigint),
    );
    let row = (any::<i64>(), values).prop_map(|(id, (a, b, c, d))| Row { id, values: vec![a, b, c, d] });
    proptest::collection::vec(row, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rows_are_read_back_as_written(first in any_rows(), second in any_rows(), cut in any::<usize>()) {
        let mut storage = SqliteStorage::memory().expect("opens");
        let kinds = [("a", TEXT), ("b", ColumnType::Json), ("c", ColumnType::Float), ("d", ColumnType::Bigint)];
        storage.create_table("t", &schema(&kinds)).expect("created");
        let mut expected: std::collections::BTreeMap<i64, Row> =
            first.iter().chain(&second).map(|row| (row.id, row.clone())).collect();
        let deleted: Vec<i64> = second.iter().take(cut % (second.len() + 1)).map(|row| row.id).collect();
        let changes = [Change::Put(first), Change::Put(second), Change::Delete(deleted.clone())];
        storage.write("t", &changes, None).expect("written");
        for id in deleted {
            expected.remove(&id);
        }
        let columns: Vec<Expr> = ["id", "a", "b", "c", "d"].map(|name| Expr::Column(name.into())).to_vec();
        let query = Query { output: columns.iter().collect(), ..Query::ids(None, None, &columns[0]) };
        let read: Vec<Row> = storage.query("t", &query).expect("read").into_iter().map(|mut row| {
            let Value::Int(id) = row.remove(0) else { panic!("an id") };
            Row { id, values: row }
        }).collect();
        prop_assert_eq!(&read, &expected.into_values().collect::<Vec<_>>());
        prop_assert_eq!(storage.id_stats("t").expect("stats").rows, read.len() as u64);
        // The same rows written otherwise have the same checksum; one value changed gives another.
        let mut other = SqliteStorage::memory().expect("opens");
        other.create_table("t", &schema(&kinds)).expect("created");
        let reversed: Vec<Row> = read.iter().rev().cloned().collect();
        other.write("t", &[Change::Put(reversed)], None).expect("written");
        prop_assert_eq!(storage.checksum("t").expect("sum"), other.checksum("t").expect("sum"));
        if let Some(row) = read.first() {
            let update = Change::Update { ids: vec![row.id], assignments: vec![(1, text("changed by the test"))] };
            other.write("t", &[update], None).expect("written");
            prop_assert_ne!(storage.checksum("t").expect("sum"), other.checksum("t").expect("sum"));
        }
    }
}

#[test]
fn unknown_columns_and_tables_are_named() {
    let mut storage = SqliteStorage::memory().expect("opens");
    storage.create_table("t", &articles()).expect("created");
    assert_eq!(storage.create_table("t", &articles()), Err(StorageError::TableExists("t".into())));
    assert_eq!(storage.drop_table("u"), Err(StorageError::NoTable("u".into())));
    assert!(matches!(storage.create_table("../t", &articles()), Err(StorageError::Refused(_))));
    let (own, filter) = (
        id(),
        Expr::In {
            subject: Box::new(Expr::Column("nope".into())),
            negated: false,
            list: vec![Literal::Int(1)],
        },
    );
    let error = storage.query("t", &Query::ids(Some(&filter), None, &own)).expect_err("no such column");
    assert!(error.to_string().contains("nope"), "{error}");
}
