//! What the gate does on a stopped node: its routing tables go, so that it does not route by an old one when it starts
//! (safety rule 4), and so do the groups that have gone on without it. The controller's sidecar writes routes anew.
//!
//! searchd keeps its tables' and clusters' declarations in `manticore.json` of its data directory; a routing table is its
//! declaration and a directory with its columns, which would be in the way of the new one. A cluster's directory has what Galera
//! knows of its place in it. Embedded nodes forget their routes by themselves, go back into their groups, and have no such file.

use crate::files::{self, FileError};
use crate::sidecar;
use model::GroupId;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

const FILE: &str = "manticore.json";
/// Files in the directory of a routing table `t` are `t` with one of these. It has no rows.
const ENDS: [&str; 3] = ["meta", "lock", "settings"];
/// Galera's files in the directory of a cluster.
const PLACE: [&str; 3] = ["grastate.dat", "gvwstate.dat", "galera.cache"];

/// Why routing tables or groups could not be taken away; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} is not what searchd writes ({reason}): nothing was changed")]
    Unknown { path: PathBuf, reason: String },
}

/// Takes the routing tables of sharded tables out of a stopped searchd's declarations, and names them. Their names are
/// those that the sidecar stored in `sidecar_dir`. Tables with rows are never touched.
pub fn take_routes_away(sidecar_dir: &Path, data_dir: &Path) -> Result<Vec<String>, GateError> {
    let names = sidecar::stored_names(sidecar_dir)?;
    let Some(mut declared) = Declared::read(data_dir)? else { return Ok(Vec::new()) };
    let Some(tables) = declared.objects("indexes")? else { return Ok(Vec::new()) };
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
    tables.retain(|name, _| !gone.contains(name));
    declared.write()?;
    Ok(gone)
}

/// Takes groups out of a stopped searchd's declarations, with what Galera stored of its place in them, and names those that it
/// had. Their tables stay, as plain ones.
pub fn forget_groups(data_dir: &Path, groups: &BTreeSet<GroupId>) -> Result<Vec<GroupId>, GateError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let Some(mut declared) = Declared::read(data_dir)? else { return Ok(Vec::new()) };
    let file = declared.path.clone();
    let Some(clusters) = declared.objects("clusters")? else { return Ok(Vec::new()) };
    let had: Vec<GroupId> = groups.iter().filter(|id| clusters.contains_key(id.as_str())).cloned().collect();
    let mut found = Vec::new();
    for group in &had {
        let path =
            clusters.get(group.as_str()).and_then(|cluster| cluster.get("path")).and_then(Value::as_str);
        // Another cluster's, or everybody's, is not taken for this one's.
        let own = path.filter(|path| {
            matches!(Path::new(path).components().collect::<Vec<_>>()[..], [Component::Normal(_)])
        });
        let Some(own) = own else {
            let reason = format!("cluster {group} has no directory of its own");
            return Err(GateError::Unknown { path: file, reason });
        };
        found.push(place(&data_dir.join(own))?);
    }
    // The place first: without it a JOIN takes a whole copy, where with an old one it would take what came since.
    for file in found.into_iter().flatten() {
        let fail = |error| FileError { action: "remove", path: file.clone(), error };
        std::fs::remove_file(&file).map_err(fail)?;
    }
    clusters.retain(|name, _| !had.iter().any(|group| group.as_str() == name));
    if !had.is_empty() {
        declared.write()?;
    }
    Ok(had)
}

/// What Galera stored in a cluster's directory; an error when there is something else.
fn place(directory: &Path) -> Result<Vec<PathBuf>, GateError> {
    let fail = |error| FileError { action: "read", path: directory.to_owned(), error };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let files =
        entries.map(|entry| Ok(entry.map_err(fail)?.path())).collect::<Result<Vec<_>, GateError>>()?;
    if let Some(other) = files.iter().find(|file| !PLACE.iter().any(|name| **file == directory.join(name))) {
        let reason = format!("the directory of a group holds {}", other.display());
        return Err(GateError::Unknown { path: directory.to_owned(), reason });
    }
    Ok(files)
}

/// A stopped searchd's declarations.
struct Declared {
    path: PathBuf,
    document: Value,
}

impl Declared {
    /// `None`: there are none, as on an embedded node.
    fn read(data_dir: &Path) -> Result<Option<Self>, GateError> {
        let path = data_dir.join(FILE);
        let Some(text) = files::read_if_present(&path)? else { return Ok(None) };
        match serde_json::from_str(&text) {
            Ok(document) => Ok(Some(Self { path, document })),
            Err(error) => Err(GateError::Unknown { path, reason: error.to_string() }),
        }
    }

    /// The objects of one kind, by name.
    fn objects(&mut self, kind: &str) -> Result<Option<&mut Map<String, Value>>, GateError> {
        match self.document.get_mut(kind) {
            None => Ok(None),
            Some(Value::Object(objects)) => Ok(Some(objects)),
            Some(_) => {
                let reason = format!("`{kind}` is no object");
                Err(GateError::Unknown { path: self.path.clone(), reason })
            }
        }
    }

    /// In place of the old ones, with their permissions.
    fn write(&self) -> Result<(), GateError> {
        let path = &self.path;
        let bytes = serde_json::to_vec_pretty(&self.document)
            .map_err(|error| GateError::Unknown { path: path.clone(), reason: error.to_string() })?;
        let changed = |error| FileError { action: "keep the permissions of", path: path.clone(), error };
        let permissions = std::fs::metadata(path).map_err(changed)?.permissions();
        files::write_durably(path, &bytes)?;
        std::fs::set_permissions(path, permissions).map_err(changed)?;
        Ok(())
    }
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

    #[test]
    fn a_group_that_has_gone_on_is_forgotten_with_its_place() {
        let (group, other) = ("a123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        let id = |name: &str| GroupId::new(name).expect("valid");
        let declared = json!({
            "clusters": {
                "c": { "nodes": ["10.0.0.1:9312"] },
                group: { "nodes": ["10.0.0.1:9312"], "path": group },
                other: { "nodes": ["10.0.0.1:9312"], "path": other },
            },
            "indexes": { "system.t_s0": { "type": "rt", "path": "system.t_s0" } },
        });
        let (_dir, _sidecar, data) = dirs(None, Some(&declared.to_string()));
        for name in [group, other] {
            std::fs::create_dir(data.join(name)).expect("made");
            std::fs::write(data.join(name).join("grastate.dat"), "seqno: 12").expect("written");
        }
        assert_eq!(forget_groups(&data, &[id(group), id("missing")].into()).expect("taken"), [id(group)]);
        let mut expected = declared;
        expected["clusters"].as_object_mut().expect("an object").remove(group);
        let left = || {
            serde_json::from_slice::<Value>(&std::fs::read(data.join(FILE)).expect("there")).expect("JSON")
        };
        assert_eq!(left(), expected);
        assert!(!data.join(group).join("grastate.dat").exists());
        assert!(data.join(other).join("grastate.dat").exists());

        // Not what searchd writes: nothing is touched.
        assert!(forget_groups(&data, &[id("c")].into()).is_err(), "it has no directory of its own");
        std::fs::write(data.join(other).join("notes"), "mine").expect("written");
        assert!(forget_groups(&data, &[id(other)].into()).is_err());
        assert_eq!(left(), expected);
        assert!(data.join(other).join("grastate.dat").exists());
    }
}
