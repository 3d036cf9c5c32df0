//! The process is killed at any moment: what a write was acknowledged for is there, whole, and nothing is half done.
//!
//! The test runs itself a second time as the process that writes, and kills that one.

use engine::exec::{apply, prepare, select};
use engine::io::Value;
use engine::sql::{Statement, parse};
use engine::storage::{SqliteStorage, Storage, TableSchema};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Tells the second process where to write.
const DIRECTORY: &str = "SHARDWRIGHT_TEST_KILLED_DIRECTORY";
const BATCH: u64 = 20;

type Outcome = Result<(), Box<dyn Error>>;

/// Writes numbered batches and restores a second table from the first over and over, telling of each batch that is
/// acknowledged. Ends only by being killed.
fn write_for_ever(directory: &Path) -> Outcome {
    let mut storage = SqliteStorage::open(directory)?;
    if storage.schema("t").is_none() {
        let Statement::CreateTable(create) = parse("CREATE TABLE t (title text, v int)")? else {
            return Err("not a CREATE TABLE".into());
        };
        storage.create_table("t", &TableSchema::new(&create.columns, &[])?)?;
    }
    let mut batch = storage.position("t")?;
    loop {
        let rows: Vec<String> = (0..BATCH)
            .map(|row| {
                let id = batch * BATCH + row + 1;
                format!("({id},'every word{id} counts',{row})")
            })
            .collect();
        batch += 1;
        let sql = format!("INSERT INTO t (id,title,v) VALUES {}", rows.join(","));
        let write = prepare(&parse(&sql)?, &mut storage, &mut || 0)?;
        apply(&write, &mut storage, Some(batch))?;
        writeln!(std::io::stdout(), "acknowledged {batch}")?;
        std::io::stdout().flush()?;
        if batch % 16 == 0 {
            let snapshot = storage.snapshot_begin("t")?;
            let restore = storage.restore_begin("copy")?;
            while let Some(chunk) = storage.snapshot_next(snapshot)? {
                storage.restore_chunk(restore, &chunk)?;
            }
            storage.restore_finish(restore)?;
        }
    }
}

fn number(storage: &mut SqliteStorage, sql: &str) -> Result<u64, Box<dyn Error>> {
    let Statement::Select(query) = parse(sql)? else { return Err("not a SELECT".into()) };
    match select(&query, storage)?.rows.first().and_then(|row| row.first()) {
        Some(Value::Int(value)) => Ok(u64::try_from(*value)?),
        other => Err(format!("{sql}: {other:?}").into()),
    }
}

#[test]
fn acknowledged_writes_survive_kill_9() -> Outcome {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return write_for_ever(Path::new(&directory));
    }
    let directory = tempfile::tempdir()?;
    let mut acknowledged = 0;
    // Differing numbers, so that the kill meets writing, checkpoints and restores.
    for wanted in [3, 40, 17, 64, 129, 1] {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "acknowledged_writes_survive_kill_9", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let target = acknowledged + wanted;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        for line in output.lines() {
            // The test harness may begin the line.
            let Some((_, batch)) =
                line?.rsplit_once("acknowledged ").map(|(a, b)| (a.to_owned(), b.to_owned()))
            else {
                continue;
            };
            acknowledged = batch.parse()?;
            if acknowledged >= target {
                break;
            }
        }
        child.kill()?;
        child.wait()?;
        assert!(acknowledged >= target, "the writer ended by itself after batch {acknowledged} of {target}");
        let mut storage = SqliteStorage::open(directory.path())?;
        let position = storage.position("t")?;
        assert!(position >= acknowledged, "batch {acknowledged} was acknowledged, {position} is there");
        let rows = position * BATCH;
        assert_eq!(number(&mut storage, "SELECT COUNT(*) FROM t")?, rows);
        assert_eq!(number(&mut storage, "SELECT MAX(id) FROM t WHERE MATCH('every')")?, rows);
        assert_eq!(number(&mut storage, "SELECT COUNT(*) FROM t WHERE MATCH('every') AND id>0")?, rows);
        if storage.schema("copy").is_some() {
            let copied = number(&mut storage, "SELECT COUNT(*) FROM copy")?;
            assert_eq!(copied % (16 * BATCH), 0, "a copy is whole or not there");
        }
        acknowledged = position;
    }
    Ok(())
}
