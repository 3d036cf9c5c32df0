//! What nodes show of themselves.

use super::*;

impl Nodes {
    pub fn status(&self, id: &NodeId, tables: bool) -> Option<NodeStatus> {
        let node = self.by_id.get(id).filter(|node| node.live)?;
        let clusters =
            node.member_of.iter().map(|group| (group.clone(), self.cluster_status(id, group))).collect();
        let tables = tables.then(|| TablesStatus {
            shards: node.tables.keys().cloned().collect(),
            plain: BTreeSet::new(),
            routes: node.routes.iter().map(|(name, route)| (name.clone(), route.clone().into())).collect(),
        });
        Some(NodeStatus { clusters, tables })
    }

    fn cluster_status(&self, id: &NodeId, group: &GroupId) -> ClusterStatus {
        let Some(cluster) = self.clusters.get(group) else {
            return ClusterStatus { status: ClusterState::RecoveryRequired, ..ClusterStatus::default() };
        };
        if self.behind.contains(&(id.clone(), group.clone())) {
            let named: BTreeSet<NodeId> = cluster.view.iter().chain([id]).cloned().collect();
            return ClusterStatus {
                status: ClusterState::NonPrimary,
                node_state: MemberState::Synced,
                size: 1,
                nodes_set: named.clone(),
                nodes_view: named,
                tables: cluster.tables.clone(),
                state_uuid: format!("history {}", cluster.uuid),
                conf_id: -1,
                ..ClusterStatus::default()
            };
        }
        if cluster.view.is_empty() || self.by_id[id].closed.contains(group) {
            return ClusterStatus { status: ClusterState::RecoveryRequired, ..ClusterStatus::default() };
        }
        let joined = cluster.view.contains(id);
        let (status, node_state) = match (joined, cluster.primary) {
            (true, true) if *group == user_cluster() && self.receiving.contains(id) => {
                (ClusterState::Primary, MemberState::Joined)
            }
            (true, true) if self.parted.contains(id) => (ClusterState::NonPrimary, MemberState::Synced),
            (true, true) => (ClusterState::Primary, MemberState::Synced),
            (true, false) => (ClusterState::NonPrimary, MemberState::Synced),
            (false, _) => (ClusterState::Disconnected, MemberState::Joining),
        };
        ClusterStatus {
            status,
            node_state,
            size: cluster.view.len() as u32,
            nodes_set: cluster.nodes_set.clone(),
            nodes_view: cluster.view.union(&cluster.fell).cloned().collect(),
            tables: cluster.tables.clone(),
            state_uuid: format!("history {}", cluster.uuid),
            conf_id: 1,
            last_committed: *self.stale.get(&(id.clone(), group.clone())).unwrap_or(&cluster.committed),
            recv_queue: cluster.queue,
        }
    }

    pub fn measure(&self, id: &NodeId, tables: &[String], deep: bool) -> Result<Measurement, String> {
        let node = self.by_id.get(id).filter(|node| node.live).ok_or("connection refused")?;
        let mut contents = BTreeMap::new();
        for table in tables {
            let rows = node.tables.get(table).ok_or_else(|| format!("unknown local table(s) '{table}'"))?;
            contents.insert(table.clone(), content(rows));
        }
        let committed = node
            .member_of
            .iter()
            .filter_map(|group| Some((group.clone(), self.clusters.get(group)?.committed)));
        let digests = deep.then(|| {
            let digest = |table: &String| {
                let mut hasher = DefaultHasher::new();
                node.tables.get(table).hash(&mut hasher);
                (table.clone(), hasher.finish())
            };
            tables.iter().map(digest).collect()
        });
        Ok(Measurement {
            contents,
            digests: digests.unwrap_or_default(),
            last_committed: committed.collect(),
        })
    }
}
