//! Replication clusters after all their nodes were down.
//!
//! After a clean stop the member that stopped last forms each cluster again by itself; it only has to start first.
//! After a crash nobody may: the second node to start would win, however old its copy. So every node is started
//! alone, lets go of its clusters (its copies stay as plain tables), and when all are up the clusters are made anew
//! around the fullest copies.
//!
//! Only for a whole development cluster under one hand; where nodes start by themselves the controller decides.

use super::start::{CLUSTER_OPTIONS, join};
use super::{CLUSTER, layout};
use crate::load::{Client, ClusterSeen, Endpoint, Fault, clusters_of};
use crate::output::CommandError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A node that died asks for seconds before it joins again; a copy of a large table takes its time.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until every cluster that the node remembers is synced there.
pub async fn settle(endpoint: &Endpoint) -> Result<(), CommandError> {
    wait(endpoint, "be synced", ClusterSeen::is_synced).await.map(drop)
}

/// Waits until every cluster that the node remembers is synced there, or one of them shows that it never will be.
pub async fn goes_on(endpoint: &Endpoint) -> Result<bool, CommandError> {
    let clusters = wait(endpoint, "a decision", is_decided).await?;
    Ok(clusters.values().all(ClusterSeen::is_synced))
}

/// A starting member has found the others, or has found nobody and stays so until its cluster is deleted there.
fn is_decided(seen: &ClusterSeen) -> bool {
    seen.status == "recovery-required" || seen.is_synced()
}

async fn wait(
    endpoint: &Endpoint,
    what: &str,
    enough: impl Fn(&ClusterSeen) -> bool,
) -> Result<BTreeMap<String, ClusterSeen>, CommandError> {
    let mut client = Client::new(endpoint.clone());
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let clusters = clusters_of(&mut client).await.map_err(|fault| failed(&fault))?;
        let open: Vec<String> = clusters
            .iter()
            .filter(|(_, seen)| !enough(seen))
            .map(|(name, seen)| format!("{name} is {} / {}", seen.status, seen.node_state))
            .collect();
        if open.is_empty() {
            client.close().await;
            return Ok(clusters);
        }
        if Instant::now() > deadline {
            let message =
                format!("clusters of {} did not come to {what}: {}", endpoint.node, open.join(", "));
            return Err(CommandError::failed(
                message,
                "the node's log says more; its documents are untouched",
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The clusters there were before a crash. Kept in a file until all are made anew, as the nodes forget them one by
/// one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Survey {
    #[serde(skip)]
    path: PathBuf,
    clusters: BTreeMap<String, Surveyed>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Surveyed {
    tables: BTreeSet<String>,
    /// Ids of nodes.
    members: BTreeSet<model::NodeId>,
}

impl Survey {
    /// A new one, or that of a recovery which was interrupted.
    pub fn open(dir: &Path) -> Result<Self, CommandError> {
        let path = Self::path_in(dir);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { path, ..Self::default() })
            }
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                Err(CommandError::failed(message, "check the path's permissions"))
            }
            Ok(bytes) => {
                let mut survey: Self = serde_json::from_slice(&bytes).map_err(|error| {
                    let message = format!("{} is not what `dev` writes ({error})", path.display());
                    CommandError::failed(message, "restore it: it names the clusters of this directory")
                })?;
                survey.path = path;
                Ok(survey)
            }
        }
    }

    pub fn is_under_way(dir: &Path) -> bool {
        Self::path_in(dir).exists()
    }

    fn path_in(dir: &Path) -> PathBuf {
        dir.join("recover.json")
    }

    /// Makes a node that runs alone let go of its clusters, after writing down which they were.
    pub async fn dissolve(&mut self, endpoint: &Endpoint) -> Result<(), CommandError> {
        let clusters = wait(endpoint, "a decision", is_decided).await?;
        for (name, seen) in &clusters {
            let surveyed = self.clusters.entry(name.clone()).or_default();
            surveyed.members.insert(endpoint.node.clone());
            surveyed.tables.extend(seen.tables.iter().cloned());
        }
        layout::write_json(&self.path, self)?;
        let mut client = Client::new(endpoint.clone());
        for name in clusters.keys() {
            client.execute(&format!("DELETE CLUSTER {name}")).await.map_err(|fault| failed(&fault))?;
        }
        client.close().await;
        Ok(())
    }

    /// Makes every cluster anew on the nodes that run.
    pub async fn make_anew(self, endpoints: &[Endpoint]) -> Result<(), CommandError> {
        for (name, surveyed) in &self.clusters {
            let members: Vec<&Endpoint> =
                endpoints.iter().filter(|endpoint| surveyed.members.contains(&endpoint.node)).collect();
            make_anew(name, surveyed, &members).await.map_err(|fault| failed(&fault))?;
        }
        layout::remove(&self.path);
        Ok(())
    }
}

async fn make_anew(name: &str, surveyed: &Surveyed, members: &[&Endpoint]) -> Result<(), Fault> {
    let mut fullest: Option<(u64, &Endpoint)> = None;
    for endpoint in members {
        let rows = rows(endpoint, &surveyed.tables).await?;
        if fullest.is_none_or(|(most, _)| rows > most) {
            fullest = Some((rows, endpoint));
        }
    }
    let Some((_, first)) = fullest else { return Ok(()) };
    // A recovery that was interrupted may have made it already; then it is made once more.
    let path = if name == CLUSTER { String::new() } else { format!("'{name}' AS path, ") };
    let options = format!("{path}'{CLUSTER_OPTIONS}' AS options");
    let mut client = Client::new(first.clone());
    client.execute(&format!("CREATE CLUSTER {name} {options}")).await?;
    let held = tables(&mut client).await?;
    for table in surveyed.tables.intersection(&held) {
        client.execute(&format!("ALTER CLUSTER {name} ADD {table}")).await?;
    }
    client.close().await;
    for endpoint in members.iter().filter(|endpoint| endpoint.node != first.node) {
        let mut client = Client::new((*endpoint).clone());
        join(&mut client, name, &first.node, &options).await?;
        client.close().await;
    }
    Ok(())
}

/// Rows of all the cluster's tables on one node.
async fn rows(endpoint: &Endpoint, names: &BTreeSet<String>) -> Result<u64, Fault> {
    let mut client = Client::new(endpoint.clone());
    let held = tables(&mut client).await?;
    let mut rows = 0;
    for table in names.intersection(&held) {
        rows += client.number(&format!("SELECT COUNT(*) FROM {table}")).await?;
    }
    client.close().await;
    Ok(rows)
}

async fn tables(client: &mut Client) -> Result<BTreeSet<String>, Fault> {
    let mut names = BTreeSet::new();
    for statement in ["SHOW TABLES FROM SYSTEM", "SHOW TABLES"] {
        names.extend(client.rows(statement).await?.into_iter().filter_map(|row| row.into_iter().next()?));
    }
    Ok(names)
}

fn failed(fault: &Fault) -> CommandError {
    CommandError::failed(format!("a cluster could not be brought back: {fault}"), "the node's log says more")
}
