//! Tables and routing tables: made, dropped, altered, described.

use super::Engine;
use crate::{
    exec,
    io::{Reply, SqlError},
    routing::{Definition, Mirror, Route, refused_route},
    sql::ast::{AlterColumn, AlterTable, ColumnDef, CreateTable, DropTable},
    storage::TableSchema,
};

/// MySQL's number of that error, which DESC and SHOW CREATE TABLE say.
const NO_SUCH_TABLE: u16 = 1146;

const DONE: Result<Reply, SqlError> = Ok(Reply::Done { affected: 0 });

impl Engine {
    fn is_table(&self, name: &str) -> bool {
        self.routes.contains_key(name) || self.node.storage.schema(name).is_some()
    }

    /// What the gate does before a node starts: the routing tables of sharded tables go, for the node would route by
    /// them at once, to copies that left their group while it was away. Gives their names.
    pub fn take_routes_away(&mut self) -> Result<Vec<String>, SqlError> {
        let ours = |name: &String, route: &Route| {
            let prefix = format!("system.{name}_s");
            route
                .targets
                .iter()
                .flat_map(|target| &target.mirrors)
                .all(|mirror| mirror.table.starts_with(&prefix))
        };
        let names: Vec<String> = self
            .routes
            .iter()
            .filter(|(name, route)| ours(name, route))
            .map(|(name, _)| name.clone())
            .collect();
        let changes: Vec<(String, Option<Vec<u8>>)> =
            names.iter().map(|name| (route_key(name), None)).collect();
        self.node.storage.set_meta(&changes).map_err(|error| SqlError::new(error.to_string()))?;
        self.routes.retain(|name, _| !names.contains(name));
        Ok(names)
    }

    pub(super) fn create_table(&mut self, create: &CreateTable) -> Result<Reply, SqlError> {
        let name = &create.table.name;
        let failed = |reason: &str| SqlError::new(format!("table '{name}': CREATE TABLE failed: {reason}"));
        // Sharded tables are the sidecar's matter; the words are those by which searchd hands them over.
        let has = |key: &str| create.options.iter().any(|(option, _)| option == key);
        if has("shards") || has("rf") || create.table.cluster.is_some() {
            let inner =
                format!("table '{name}': CREATE TABLE failed: 'shards' and 'rf' options require Buddy");
            return Err(failed(&inner));
        }
        if model::sql::is_reserved_table_name(name) {
            return Err(failed(&format!("'{name}' is a reserved keyword")));
        }
        if self.is_table(name) {
            if create.if_not_exists {
                return DONE;
            }
            return Err(failed(&format!("table '{name}' already exists")));
        }
        match create.options.iter().find(|(key, _)| key == "type").map(|(_, kind)| kind.to_lowercase()) {
            Some(kind) if kind == "shard" => self.create_route(create)?,
            Some(kind) if kind != "rt" => {
                return Err(failed(&format!("type '{kind}' is not supported here")));
            }
            _ => {
                let schema = TableSchema::new(&create.columns, &create.options)?;
                self.node.storage.create_table(name, &schema)?;
            }
        }
        DONE
    }

    fn create_route(&mut self, create: &CreateTable) -> Result<(), SqlError> {
        let name = &create.table.name;
        let schema = TableSchema::new(&create.columns, &[])?;
        let route = Route::new(name, Definition { schema, options: create.options.clone() })?;
        let locals = route.targets.iter().flat_map(|target| &target.mirrors).filter(|it| it.node.is_none());
        for Mirror { table, .. } in locals {
            if self.node.storage.schema(table).is_none() {
                return Err(refused_route(name, &format!("no such local table '{table}'")));
            }
        }
        let bytes = postcard::to_stdvec(&route.definition).expect("plain data has bytes");
        self.node.storage.set_meta(&[(route_key(name), Some(bytes))])?;
        self.routes.insert(name.clone(), route);
        Ok(())
    }

    pub(super) fn drop_table(&mut self, drop: &DropTable) -> Result<Reply, SqlError> {
        let name = &drop.table.name;
        if let Some(route) = self.routes.get(name) {
            if route.over_system_tables() && !drop.force {
                let text = format!("can not drop table '{name}' because it contains system table");
                return Err(SqlError::new(text));
            }
            self.node.storage.set_meta(&[(route_key(name), None)])?;
            self.routes.remove(name);
            return DONE;
        }
        if self.cluster_of(name).is_some() {
            return Err(SqlError::new(format!("DROP TABLE failed: unable to drop a cluster table '{name}'")));
        }
        if self.node.storage.schema(name).is_none() {
            // What is named with a cluster may be there for the cluster although this node has nothing of it.
            if drop.if_exists && drop.table.cluster.is_none() {
                return DONE;
            }
            return Err(SqlError::new(format!("DROP TABLE failed: unknown table '{name}'")));
        }
        if drop.table.cluster.is_some() {
            return Err(SqlError::new(format!("table '{name}' is not in any cluster, use just '{name}'")));
        }
        self.node.storage.drop_table(name)?;
        self.drop_stale_locks();
        DONE
    }

    pub(super) fn alter_table(&mut self, alter: &AlterTable) -> Result<Reply, SqlError> {
        let name = &alter.table.name;
        if self.routes.contains_key(name) {
            return Err(SqlError::new("ALTER is only supported for local (not distributed) tables"));
        }
        let refused = |reason: &str| SqlError::new(format!("table {name}: {reason}"));
        if let Some(cluster) = self.cluster_of(name) {
            let text = format!("is part of cluster {cluster}, ALTER is not supported for tables in cluster");
            return Err(refused(&text));
        }
        let Some(schema) = self.node.storage.schema(name) else {
            return Err(refused("unknown local table in ALTER request"));
        };
        if self.locks.is_locked(name) {
            return Err(refused("is locked, ALTER is not supported for locked tables"));
        }
        let mut columns: Vec<ColumnDef> = schema.columns().to_vec();
        match &alter.change {
            AlterColumn::Add(column) => {
                if column.name == "id" || schema.column(&column.name).is_some() {
                    return Err(refused(&format!("'{}' attribute already in schema", column.name)));
                }
                columns.push(column.clone());
            }
            AlterColumn::Drop(column) => {
                if schema.column(column).is_none() {
                    return Err(refused(&format!("attribute '{column}' does not exist")));
                }
                columns.retain(|kept| kept.name != *column);
            }
        }
        let altered = TableSchema::new(&columns, &schema.options)?;
        self.node.storage.alter_table(name, &altered)?;
        DONE
    }

    pub(super) fn show_tables(&self, system: bool, like: Option<&str>) -> Reply {
        let plain = self.node.storage.tables();
        let plain = plain.iter().map(|name| (name.as_str(), "rt"));
        let routes = self.routes.keys().map(|name| (name.as_str(), "shard"));
        Reply::Rows(exec::show_tables(plain.chain(routes), system, like))
    }

    pub(super) fn describe(&self, table: &str) -> Result<Reply, SqlError> {
        if let Some(route) = self.routes.get(table) {
            return Ok(Reply::Rows(exec::describe(&route.definition.schema)));
        }
        let schema = self.node.storage.schema(table).ok_or_else(|| no_such_table(table))?;
        Ok(Reply::Rows(exec::describe(&schema)))
    }

    /// A routing table shows the table that its user declared; with `force` what it truly is.
    pub(super) fn show_create_table(&self, table: &str, force: bool) -> Result<Reply, SqlError> {
        if let Some(route) = self.routes.get(table) {
            let declared = || {
                let plain = route
                    .definition
                    .options
                    .iter()
                    .filter(|(key, _)| !matches!(key.as_str(), "type" | "local" | "agent"));
                let counts = [("shards", route.targets.len()), ("rf", route.copies())];
                let counts = counts.map(|(key, count)| (key.to_owned(), count.to_string()));
                plain.cloned().chain(counts).collect()
            };
            let options = if force { route.definition.options.clone() } else { declared() };
            return Ok(Reply::Rows(exec::create_table_text(table, &route.definition.schema, &options)));
        }
        let schema = self.node.storage.schema(table).ok_or_else(|| no_such_table(table))?;
        Ok(Reply::Rows(exec::create_table_text(table, &schema, &schema.options)))
    }
}

fn route_key(name: &str) -> String {
    format!("route/{name}")
}

fn no_such_table(table: &str) -> SqlError {
    SqlError { code: NO_SUCH_TABLE, message: format!("no such table '{table}'") }
}
