//! How fast one node takes small rows: batches of 80, round robin over 8 tables, from INSERT text to rows on disk.
//! `cargo run --release -p engine --example load -- DIRECTORY [ROWS]`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement on the command line needs a clock"
)]

use engine::exec::{apply, prepare};
use engine::sql::{Statement, parse};
use engine::storage::{SqliteStorage, Storage, TableSchema};
use std::error::Error;
use std::fmt::Write;
use std::time::{Duration, Instant};

const TABLES: u64 = 8;
const BATCH: u64 = 80;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: load DIRECTORY [ROWS]")?;
    let rows: u64 = arguments.next().map_or(Ok(100_000), |rows| rows.parse())?;
    let mut storage = SqliteStorage::open(directory.as_ref())?;
    for table in 0..TABLES {
        let sql = format!(
            "CREATE TABLE system.load_s{table} (title text, brand string, price float, stock int, tags multi, meta json)"
        );
        let Statement::CreateTable(create) = parse(&sql)? else { return Err("not a CREATE TABLE".into()) };
        storage.create_table(&create.table.name, &TableSchema::new(&create.columns, &create.options)?)?;
    }
    let (mut parsing, mut preparing, mut applying) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let begun = Instant::now();
    for batch in 0..rows / BATCH {
        let sql = insert(batch);
        let start = Instant::now();
        let statement = parse(&sql)?;
        let parsed = Instant::now();
        let write = prepare(&statement, &mut storage, &mut || 0)?;
        let prepared = Instant::now();
        apply(&write, &mut storage, Some(batch))?;
        parsing += parsed - start;
        preparing += prepared - parsed;
        applying += prepared.elapsed();
    }
    let passed = begun.elapsed();
    println!(
        "{rows} rows in {passed:.2?}: {:.0} rows/s; parse {parsing:.2?}, prepare {preparing:.2?}, apply {applying:.2?}",
        rows as f64 / passed.as_secs_f64()
    );
    for sql in [
        "SELECT COUNT(*) FROM $",
        "SELECT id, title FROM $ WHERE id=5",
        "SELECT id, weight() FROM $ WHERE MATCH('blue kettle')",
        "SELECT id FROM $ WHERE MATCH('steel')",
        "SELECT brand, COUNT(*), AVG(price) FROM $ GROUP BY brand",
        "SELECT * FROM $ ORDER BY price DESC LIMIT 20",
    ] {
        let Statement::Select(select) = parse(&sql.replace('$', "system.load_s0"))? else { continue };
        let start = Instant::now();
        let found = engine::exec::select(&select, &mut storage)?;
        println!("{:>9.2?} {sql}: {} of {}", start.elapsed(), found.rows.len(), found.total);
    }
    let start = Instant::now();
    let sum = storage.checksum("system.load_s0")?;
    println!("{:>9.2?} checksum {sum:032x}", start.elapsed());
    let start = Instant::now();
    let snapshot = storage.snapshot_begin("system.load_s0")?;
    let restore = storage.restore_begin("system.copy_s0")?;
    let mut bytes = 0;
    while let Some(chunk) = storage.snapshot_next(snapshot)? {
        bytes += chunk.len();
        storage.restore_chunk(restore, &chunk)?;
    }
    storage.restore_finish(restore)?;
    println!(
        "{:>9.2?} copy of {} KiB; equal: {}",
        start.elapsed(),
        bytes >> 10,
        storage.checksum("system.copy_s0")? == sum
    );
    Ok(())
}

/// About 250 bytes a row, words drawn from a small vocabulary by a fixed rule.
fn insert(batch: u64) -> String {
    const WORDS: [&str; 16] = [
        "blue", "steel", "kettle", "garden", "light", "wooden", "chair", "compact", "travel", "bottle",
        "classic", "lamp", "soft", "blanket", "kitchen", "knife",
    ];
    let mut sql =
        format!("INSERT INTO system.load_s{} (id,title,brand,price,stock,tags,meta) VALUES ", batch % TABLES);
    for row in 0..BATCH {
        let id = batch * BATCH + row + 1;
        let mut mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut title = String::new();
        for _ in 0..12 {
            mixed = mixed.rotate_left(13).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let _ = write!(title, "{} ", WORDS[(mixed >> 60) as usize]);
        }
        let comma = if row == 0 { "" } else { "," };
        let _ = write!(
            sql,
            "{comma}({id},'{title}model{id}','brand{}',{}.99,{},({},{}),'{{\"color\":\"{}\",\"weight\":{}}}')",
            id % 50,
            id % 500,
            id % 1000,
            id % 7,
            id % 11,
            WORDS[(id % 16) as usize],
            id % 90
        );
    }
    sql
}
