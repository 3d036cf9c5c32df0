//! What nodes hold: shards, clusters and routes, asked of the nodes themselves.

use super::{Client, Endpoint, Fault};
use model::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// A replication cluster as one node shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSeen {
    pub status: String,
    pub node_state: String,
    pub tables: BTreeSet<String>,
}

impl ClusterSeen {
    /// Takes writes and holds what was acknowledged.
    pub fn is_synced(&self) -> bool {
        self.status == "primary" && matches!(self.node_state.as_str(), "synced" | "donor")
    }
}

/// One node's share of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeHoldings {
    /// Numbers of the table's shards.
    pub shards: BTreeSet<u32>,
    /// Every shard of every table, by full name.
    pub all_shards: BTreeSet<String>,
    pub clusters: BTreeMap<String, ClusterSeen>,
    /// Per shard the nodes that the routing table names; `None` without one.
    pub route: Option<BTreeMap<u32, BTreeSet<NodeId>>>,
}

/// What the asked nodes hold of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings(pub BTreeMap<NodeId, NodeHoldings>);

impl Holdings {
    pub async fn look(endpoints: &[Endpoint], table: &str) -> Result<Self, Fault> {
        let mut nodes = BTreeMap::new();
        for endpoint in endpoints {
            nodes.insert(endpoint.node.clone(), look_at(endpoint, table).await?);
        }
        Ok(Self(nodes))
    }

    /// Every copy there is, as `(shard, node)`.
    pub fn copies(&self) -> BTreeSet<(u32, NodeId)> {
        self.0
            .iter()
            .flat_map(|(node, held)| held.shards.iter().map(|shard| (*shard, node.clone())))
            .collect()
    }

    /// Every membership in a group that holds shards of a table, as `(group, node)`.
    pub fn memberships(&self) -> BTreeSet<(String, NodeId)> {
        let members = |(node, held): (&NodeId, &NodeHoldings)| {
            let groups = held.clusters.iter().filter(|(_, cluster)| {
                cluster.tables.iter().any(|name| model::parse_shard_table(name).is_some())
            });
            groups.map(|(group, _)| (group.clone(), node.clone())).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(members).collect()
    }

    /// The nodes that hold a shard.
    pub fn holders(&self, shard: u32) -> BTreeSet<NodeId> {
        let holds = |(_, held): &(&NodeId, &NodeHoldings)| held.shards.contains(&shard);
        self.0.iter().filter(holds).map(|(node, _)| node.clone()).collect()
    }

    /// What is still missing until every shard has exactly `rf` synced copies on these nodes and every node routes
    /// to just those; `None` when nothing is.
    pub fn missing(&self, table: &str, shards: u32, rf: u32) -> Option<String> {
        for shard in 0..shards {
            let holders = self.holders(shard);
            if holders.len() != rf as usize {
                return Some(format!("shard {shard} has {} of {rf} copies", holders.len()));
            }
            let name = format!("system.{table}_s{shard}");
            for node in &holders {
                let synced = rf == 1
                    || self.0[node]
                        .clusters
                        .values()
                        .any(|cluster| cluster.is_synced() && cluster.tables.contains(&name));
                if !synced {
                    return Some(format!("the copy of shard {shard} on {node} is not synced"));
                }
            }
            for (node, held) in &self.0 {
                let named = held.route.as_ref().and_then(|route| route.get(&shard));
                if named != Some(&holders) {
                    return Some(format!("{node} does not route shard {shard} to its copies yet"));
                }
            }
        }
        None
    }
}

/// The replication clusters that a node remembers, by name.
pub async fn clusters_of(client: &mut Client) -> Result<BTreeMap<String, ClusterSeen>, Fault> {
    Ok(clusters(&client.rows("SHOW STATUS LIKE 'cluster%'").await?))
}

async fn look_at(endpoint: &Endpoint, table: &str) -> Result<NodeHoldings, Fault> {
    let mut client = Client::new(endpoint.clone());
    let tables = client.rows("SHOW TABLES FROM SYSTEM").await?;
    let clusters = clusters_of(&mut client).await?;
    let user_tables = client.rows("SHOW TABLES").await?;
    let routed = user_tables.iter().any(|row| row.first().and_then(Option::as_deref) == Some(table));
    let route = if routed {
        let rows = client.rows(&format!("SHOW CREATE TABLE {table} OPTION force=1")).await;
        client_route(rows, &endpoint.node)?
    } else {
        None
    };
    client.close().await;
    let all_shards: BTreeSet<String> = tables.into_iter().filter_map(|row| row.into_iter().next()?).collect();
    let shards = all_shards
        .iter()
        .filter_map(|name| model::parse_shard_table(name))
        .filter(|(of, _)| of.as_str() == table)
        .map(|(_, shard)| shard)
        .collect();
    Ok(NodeHoldings { shards, all_shards, clusters, route })
}

/// A routing table that vanishes between two looks is being rewritten: then there is none at this moment.
fn client_route(
    rows: Result<Vec<Vec<Option<String>>>, Fault>,
    own: &NodeId,
) -> Result<Option<BTreeMap<u32, BTreeSet<NodeId>>>, Fault> {
    match rows {
        Ok(rows) => Ok(rows
            .first()
            .and_then(|row| row.get(1))
            .and_then(Option::as_deref)
            .map(|text| targets(text, own))),
        Err(Fault::Refused { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Reads `cluster_{name}_{field}` rows.
fn clusters(rows: &[Vec<Option<String>>]) -> BTreeMap<String, ClusterSeen> {
    let mut clusters: BTreeMap<String, ClusterSeen> = BTreeMap::new();
    for row in rows {
        let [Some(counter), value, ..] = row.as_slice() else { continue };
        let value = value.clone().unwrap_or_default();
        let Some(rest) = counter.strip_prefix("cluster_") else { continue };
        if let Some(name) = rest.strip_suffix("_node_state") {
            clusters.entry(name.to_owned()).or_default().node_state = value;
        } else if let Some(name) = rest.strip_suffix("_indexes") {
            let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
            clusters.entry(name.to_owned()).or_default().tables = names.map(str::to_owned).collect();
        } else if let Some(name) = rest.strip_suffix("_status") {
            clusters.entry(name.to_owned()).or_default().status = value;
        }
    }
    // Counters with longer names end alike (`…_evs_status`); a cluster without a node state is no cluster.
    clusters.retain(|_, cluster| !cluster.node_state.is_empty());
    clusters
}

/// The targets of a routing table's declaration: `local='system.t_s0'`, `agent='a:1:system.t_s1|b:2:system.t_s1[…]'`.
fn targets(declaration: &str, own: &NodeId) -> BTreeMap<u32, BTreeSet<NodeId>> {
    let mut targets: BTreeMap<u32, BTreeSet<NodeId>> = BTreeMap::new();
    for (key, local) in [("local='", true), ("agent='", false)] {
        for part in declaration.split(key).skip(1) {
            let value = part.split('\'').next().unwrap_or_default();
            let mirrors = value.split('[').next().unwrap_or_default();
            for mirror in mirrors.split('|') {
                let (node, name) = if local {
                    (Some(own.clone()), mirror)
                } else {
                    let Some((address, name)) = mirror.rsplit_once(':') else { continue };
                    (NodeId::new(address).ok(), name)
                };
                if let (Some(node), Some((_, shard))) = (node, model::parse_shard_table(name)) {
                    targets.entry(shard).or_default().insert(node);
                }
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> NodeId {
        NodeId::new(format!("127.0.0.1:{port}")).expect("valid")
    }

    #[test]
    fn routes_are_read_from_declarations() {
        let text = "CREATE TABLE t (\nid bigint\n) type='shard' local='system.t_s0' \
                    agent='127.0.0.1:2:system.t_s1|127.0.0.1:3:system.t_s1[retry_count=3,ha_strategy=nodeads]'";
        let targets = targets(text, &node(1));
        assert_eq!(targets[&0], BTreeSet::from([node(1)]));
        assert_eq!(targets[&1], BTreeSet::from([node(2), node(3)]));
    }

    fn row(counter: &str, value: &str) -> Vec<Option<String>> {
        vec![Some(counter.to_owned()), Some(value.to_owned())]
    }

    #[test]
    fn clusters_are_read_from_status_rows() {
        let rows = [
            row("cluster_a1_status", "primary"),
            row("cluster_a1_node_state", "synced"),
            row("cluster_a1_indexes", "system.t_s0,system.t_s1"),
            row("cluster_a1_size", "2"),
        ];
        let clusters = clusters(&rows);
        assert_eq!(clusters.len(), 1);
        assert!(clusters["a1"].is_synced());
        assert_eq!(clusters["a1"].tables.len(), 2);
    }

    #[test]
    fn what_is_missing_is_named_until_nothing_is() {
        let cluster = ClusterSeen {
            status: "primary".into(),
            node_state: "synced".into(),
            tables: BTreeSet::from(["system.t_s0".to_owned()]),
        };
        let both = BTreeSet::from([node(1), node(2)]);
        let held = NodeHoldings {
            shards: BTreeSet::from([0]),
            clusters: BTreeMap::from([("g".to_owned(), cluster)]),
            route: Some(BTreeMap::from([(0, both)])),
            ..NodeHoldings::default()
        };
        let mut holdings = Holdings(BTreeMap::from([(node(1), held.clone()), (node(2), held)]));
        assert_eq!(holdings.missing("t", 1, 2), None);
        assert_eq!(holdings.missing("t", 2, 2).as_deref(), Some("shard 1 has 0 of 2 copies"));
        let second = holdings.0.get_mut(&node(2)).expect("there");
        second.clusters.get_mut("g").expect("there").node_state = "joining".into();
        assert!(holdings.missing("t", 1, 2).expect("not synced").contains("not synced"));
        let second = holdings.0.get_mut(&node(2)).expect("there");
        second.clusters.get_mut("g").expect("there").node_state = "synced".into();
        second.route = None;
        assert!(holdings.missing("t", 1, 2).expect("no route").contains("route"));
        holdings.0.get_mut(&node(2)).expect("there").shards.clear();
        assert_eq!(holdings.missing("t", 1, 2).as_deref(), Some("shard 0 has 1 of 2 copies"));
    }
}
