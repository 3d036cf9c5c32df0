//! What the gate does on a stopped node: its routing tables go, so that it does not route by an old one when it starts
//! (safety rule 4). The controller's sidecar writes them anew.
//!
//! searchd keeps its tables' declarations in `manticore.json` of its data directory; a routing table is nothing but its
//! declaration. Embedded nodes forget theirs by themselves and have no such file.

use crate::files::{self, FileError};
use crate::sidecar;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const FILE: &str = "manticore.json";

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
