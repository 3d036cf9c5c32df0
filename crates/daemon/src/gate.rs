//! What the gate does on a stopped node: its routing tables go, so that it does not route by an old one when it starts
//! (safety rule 4). The controller's sidecar writes them anew.
//!
//! searchd keeps its tables' declarations in `manticore.json` of its data directory; a routing table is its declaration and
//! a directory with its columns, which would be in the way of the new one. Embedded nodes forget theirs by themselves and
//! have no such file.

use crate::files::{self, FileError};
use crate::sidecar;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const FILE: &str = "manticore.json";
/// Files in the directory of a routing table `t` are `t` with one of these. It has no rows.
const ENDS: [&str; 3] = ["meta", "lock", "settings"];

/// Why routing tables could not be taken away; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{path} is not what searchd writes ({reason}): nothing was changed; take the routing tables away by hand"
    )]
    Unknown { path: PathBuf, reason: String },
}

/// Takes the routing tables of sharded tables out of a stopped searchd's declarations, and names them. Their names are
/// those that the sidecar stored in `sidecar_dir`. Tables with rows are never touched.
pub fn take_routes_away(sidecar_dir: &Path, data_dir: &Path) -> Result<Vec<String>, GateError> {
    let path = data_dir.join(FILE);
    let names = sidecar::stored_names(sidecar_dir)?;
    let Some(text) = files::read_if_present(&path)? else { return Ok(Vec::new()) };
    let unknown = |reason: &str| GateError::Unknown { path: path.clone(), reason: reason.to_owned() };
    let mut document: Value = serde_json::from_str(&text).map_err(|error| unknown(&error.to_string()))?;
    let tables = match document.get_mut("indexes") {
        None => return Ok(Vec::new()),
        Some(Value::Object(tables)) => tables,
        Some(_) => return Err(unknown("`indexes` is no object")),
    };
    let gone = routes(tables).filter(|name| names.iter().any(|ours| ours.as_str() == *name));
    let gone: Vec<String> = gone.map(str::to_owned).collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    let files = gone.iter().map(|name| directory(data_dir, name)).collect::<Result<Vec<_>, _>>()?;
    // Directories first: cut off here, the declarations are still there for the next time.
    for (directory, files) in files.into_iter().flatten() {
        remove(&directory, &files)?;
    }
    for name in &gone {
        tables.remove(name);
    }
    let bytes = serde_json::to_vec_pretty(&document).map_err(|error| unknown(&error.to_string()))?;
    let changed = |error| FileError { action: "keep the permissions of", path: path.clone(), error };
    let permissions = std::fs::metadata(&path).map_err(changed)?.permissions();
    files::write_durably(&path, &bytes)?;
    std::fs::set_permissions(&path, permissions).map_err(changed)?;
    Ok(gone)
}

/// Takes away the directory that a routing table has left behind: one that nobody declares any more, with nothing in
/// it but what describes the table. searchd would never make the table anew beside it. Whether there was one.
pub(crate) fn take_remains_away(data_dir: &Path, name: &str) -> Result<bool, GateError> {
    let Some((directory, files)) = directory(data_dir, name)? else { return Ok(false) };
    remove(&directory, &files)?;
    Ok(true)
}

/// A routing table's directory with its files; an error when there are others.
fn directory(data_dir: &Path, name: &str) -> Result<Option<(PathBuf, Vec<PathBuf>)>, GateError> {
    let path = data_dir.join(name);
    let fail = |error| FileError { action: "read", path: path.clone(), error };
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(fail)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(fail)?.path();
        if !ENDS.iter().any(|end| file == path.join(format!("{name}.{end}"))) {
            let reason = format!("the directory of a routing table holds {}", file.display());
            return Err(GateError::Unknown { path, reason });
        }
        files.push(file);
    }
    Ok(Some((path, files)))
}

fn remove(directory: &Path, files: &[PathBuf]) -> Result<(), FileError> {
    let fail = |error| FileError { action: "remove", path: directory.to_owned(), error };
    files.iter().try_for_each(std::fs::remove_file).map_err(fail)?;
    std::fs::remove_dir(directory).map_err(fail)
}

/// Names of tables that hold nothing themselves.
fn routes(tables: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let is_route = |table: &Value| {
        table.get("type").and_then(Value::as_str).is_some_and(|kind| matches!(kind, "shard" | "distributed"))
    };
    tables.iter().filter(move |(_, table)| is_route(table)).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dirs(names: Option<Value>, declared: Option<&str>) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let (sidecar, data) = (dir.path().join("sidecar"), dir.path().join("data"));
        for path in [&sidecar, &data] {
            std::fs::create_dir(path).expect("made");
        }
        if let Some(names) = names {
            let entry = |name: &Value| json!({ "table": name, "cluster": "c", "generation": 1 });
            let names: Vec<Value> = names.as_array().expect("a list").iter().map(entry).collect();
            let stored = json!({ "log_id": "l", "version": 3, "names": names });
            std::fs::write(sidecar.join("names.json"), stored.to_string()).expect("written");
        }
        if let Some(declared) = declared {
            std::fs::write(data.join(FILE), declared).expect("written");
        }
        (dir, sidecar, data)
    }

    #[test]
    fn only_our_routing_tables_go() {
        let declared = json!({
            "clusters": { "c": { "nodes": "10.0.0.1:9312" } },
            "indexes": {
                "products": { "type": "shard", "agents": ["10.0.0.1:9312:system.products_s0"] },
                "orders": { "type": "rt", "path": "orders" },
                "theirs": { "type": "distributed", "locals": ["orders"] },
                "system.products_s0": { "type": "rt", "path": "system.products_s0" },
            },
        });
        let (_dir, sidecar, data) = dirs(Some(json!(["products", "orders"])), Some(&declared.to_string()));
        assert_eq!(take_routes_away(&sidecar, &data).expect("taken"), ["products"]);
        let left: Value =
            serde_json::from_slice(&std::fs::read(data.join(FILE)).expect("there")).expect("JSON");
        let mut expected = declared;
        expected["indexes"].as_object_mut().expect("an object").remove("products");
        assert_eq!(left, expected);
        assert!(take_routes_away(&sidecar, &data).expect("again").is_empty());
    }

    /// As searchd 29.0.2 leaves it: with the directory there, it refuses to make the table anew.
    #[test]
    fn the_directory_of_a_routing_table_goes_with_it() {
        let declared = r#"{"indexes":{"t":{"type":"shard","path":"t"}}}"#;
        let (_dir, sidecar, data) = dirs(Some(json!(["t"])), Some(declared));
        std::fs::create_dir(data.join("t")).expect("made");
        std::fs::write(data.join("t/t.meta"), "{}").expect("written");
        // Rows where none can be: whatever this is, it stays.
        std::fs::write(data.join("t/t.ram"), "rows").expect("written");
        let refused = take_routes_away(&sidecar, &data).expect_err("unknown");
        assert!(refused.to_string().contains("t.ram"), "{refused}");
        assert!(data.join("t/t.meta").exists());
        assert_eq!(std::fs::read_to_string(data.join(FILE)).expect("there"), declared);

        std::fs::remove_file(data.join("t/t.ram")).expect("removed");
        assert_eq!(take_routes_away(&sidecar, &data).expect("taken"), ["t"]);
        assert!(!data.join("t").exists());
    }

    #[test]
    fn what_is_not_known_is_left_alone() {
        let (_dir, sidecar, data) = dirs(Some(json!(["t"])), None);
        assert!(take_routes_away(&sidecar, &data).expect("an embedded node").is_empty());
        let (_dir, sidecar, data) = dirs(None, Some(r#"{"indexes":{"t":{"type":"shard"}}}"#));
        assert!(take_routes_away(&sidecar, &data).expect("no sidecar yet").is_empty());
        for strange in ["", "[1]", r#"{"indexes":[]}"#] {
            let (_dir, sidecar, data) = dirs(Some(json!(["t"])), Some(strange));
            let taken = take_routes_away(&sidecar, &data);
            assert!(
                strange == "[1]" || matches!(taken, Err(GateError::Unknown { .. })),
                "{strange}: {taken:?}"
            );
            assert_eq!(std::fs::read_to_string(data.join(FILE)).expect("there"), strange);
        }
    }
}
