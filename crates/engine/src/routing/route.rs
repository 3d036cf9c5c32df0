//! The definition of a `type='shard'` table: columns, targets in the order of their shards, and the text as given.

use crate::{io::SqlError, storage::TableSchema};
use model::NodeId;
use serde::{Deserialize, Serialize};

/// Where one copy of a shard is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `None`: a `local=` table of this node. A node may also name itself as an agent.
    pub node: Option<NodeId>,
    pub table: String,
}

/// One shard: any of its mirrors has all of its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub mirrors: Vec<Mirror>,
}

/// What is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub schema: TableSchema,
    /// `key='value'` as given, `type` among them.
    pub options: Vec<(String, String)>,
}

/// A routing table, ready to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub definition: Definition,
    pub targets: Vec<Target>,
}

impl Route {
    pub fn new(table: &str, definition: Definition) -> Result<Self, SqlError> {
        let refuse =
            |reason: String| SqlError::new(format!("table '{table}': CREATE TABLE failed: {reason}"));
        let mut numbered = Vec::new();
        for (key, value) in &definition.options {
            let target = match key.as_str() {
                "local" => {
                    Target { mirrors: vec![Mirror { node: None, table: value.trim().to_lowercase() }] }
                }
                "agent" => {
                    let target = agent(value).map_err(refuse)?;
                    let first = &target.mirrors[0].table;
                    if target.mirrors.iter().any(|mirror| mirror.table != *first) {
                        let hosts = value.split('[').next().unwrap_or(value);
                        let reason = format!(
                            "shard remote target '{hosts}' must name the same remote table on every mirror"
                        );
                        return Err(refused_route(table, &reason));
                    }
                    target
                }
                _ => continue,
            };
            let name = &target.mirrors[0].table;
            let number = name.rsplit_once("_s").and_then(|(_, number)| number.parse::<u32>().ok());
            let Some(number) = number else {
                return Err(refuse(format!("'{name}' does not end in the number of a shard (_s0, _s1, …)")));
            };
            numbered.push((number, target));
        }
        if numbered.is_empty() {
            return Err(refused_route(table, "no valid local/remote tables in shard table"));
        }
        numbered.sort_by_key(|(number, _)| *number);
        Ok(Self { targets: numbered.into_iter().map(|(_, target)| target).collect(), definition })
    }

    /// Copies per shard: the replication factor that SHOW CREATE TABLE shows.
    pub fn copies(&self) -> usize {
        self.targets.iter().map(|target| target.mirrors.len()).max().unwrap_or(1)
    }

    /// Whether it stands over `system.…` tables, which plain DROP TABLE leaves alone.
    pub fn over_system_tables(&self) -> bool {
        self.targets
            .iter()
            .flat_map(|target| &target.mirrors)
            .any(|mirror| mirror.table.starts_with("system."))
    }
}

/// How searchd refuses a routing table that was declared well and cannot be.
pub fn refused_route(table: &str, reason: &str) -> SqlError {
    SqlError::new(format!("error adding table '{table}': table '{table}': {reason}"))
}

/// `host:port:table|host:port:table[retry_count=3,ha_strategy=nodeads]`. The options ask for what is always done.
fn agent(text: &str) -> Result<Target, String> {
    let hosts = match text.split_once('[') {
        Some((hosts, options)) if options.ends_with(']') => hosts,
        Some(_) => return Err(format!("agent '{text}' has options without an end")),
        None => text,
    };
    let mut mirrors = Vec::new();
    for mirror in hosts.split('|') {
        let (node, table) =
            mirror.trim().rsplit_once(':').ok_or_else(|| format!("agent '{mirror}' has no table"))?;
        let node = NodeId::new(node).map_err(|error| format!("agent '{mirror}': {error}"))?;
        if table.is_empty() {
            return Err(format!("agent '{mirror}' has no table"));
        }
        mirrors.push(Mirror { node: Some(node), table: table.to_lowercase() });
    }
    Ok(Target { mirrors })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(options: &[(&str, &str)]) -> Result<Route, SqlError> {
        let schema = TableSchema::new(&[], &[]).expect("no columns");
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Route::new("t", Definition { schema, options })
    }

    #[test]
    fn targets_follow_the_numbers_of_their_shards() {
        let route = route(&[
            ("type", "shard"),
            ("agent", "a:1:system.t_s10|b:1:system.t_s10[retry_count=3,ha_strategy=nodeads]"),
            ("agent", "a:1:system.t_s9"),
            ("local", "system.t_s0"),
        ])
        .expect("valid");
        let first: Vec<&str> = route.targets.iter().map(|target| target.mirrors[0].table.as_str()).collect();
        assert_eq!(first, ["system.t_s0", "system.t_s9", "system.t_s10"]);
        assert_eq!(route.copies(), 2);
        assert_eq!(route.targets[0].mirrors[0].node, None);
        assert_eq!(route.targets[2].mirrors[1].node, Some(NodeId::new("b:1").expect("valid")));
    }

    #[test]
    fn what_names_no_shard_is_refused() {
        for options in [
            &[("type", "shard")][..],
            &[("agent", "a:1:t")],
            &[("agent", "a:1")],
            &[("agent", "a:1:t_s0[retry_count=3")],
            &[("agent", "a:t_s0")],
            &[("agent", "a:1:t_s0|b:1:t_s1")],
        ] {
            assert!(route(options).is_err(), "{options:?}");
        }
    }
}
