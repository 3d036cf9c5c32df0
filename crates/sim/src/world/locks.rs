//! Each node's one lock for clusters, as searchd has it (rule 13): an EXIT holds its node's while every other member writes its
//! list, for which that one needs its own. So two nodes that leave groups of each other at once wait for each other, and for
//! ever: nothing of clusters is answered there until they are started anew. The engine's nodes do not wait so.

use super::World;
use model::ClusterStatus;

const EXIT: &str = "EXIT CLUSTER ";

impl World {
    /// Whether a statement that has come to its node never gets the lock that it needs.
    pub(super) fn gets_no_lock(&mut self, at: usize, sql: &str) -> bool {
        let of_clusters = ["CREATE CLUSTER ", "JOIN CLUSTER ", "ALTER CLUSTER ", "DELETE CLUSTER ", EXIT];
        if !of_clusters.iter().any(|start| sql.starts_with(start)) {
            return false;
        }
        if !self.machines[at].waits_for_ever
            && let Some(group) = sql.strip_prefix(EXIT)
            && let Some((request, other)) = self.crossing_exit(at, group)
        {
            let (here, there) = (self.machines[at].node.clone(), self.machines[other].node.clone());
            self.story.add(self.now, || {
                format!("{here} and {there} leave groups of each other, and wait for ever")
            });
            self.requests.remove(&request);
            self.machines[at].waits_for_ever = true;
            self.machines[other].waits_for_ever = true;
        }
        self.machines[at].waits_for_ever
    }

    /// An EXIT under way on a member of `group`, from a group that `at` is a member of.
    fn crossing_exit(&mut self, at: usize, group: &str) -> Option<(u64, usize)> {
        let exits: Vec<(u64, usize, String)> = self
            .requests
            .iter()
            .filter(|(_, asked)| asked.at != at)
            .filter_map(|(request, asked)| {
                Some((*request, asked.at, asked.sql.strip_prefix(EXIT)?.to_owned()))
            })
            .collect();
        exits.into_iter().find_map(|(request, other, theirs)| {
            let knows = |world: &mut Self, who: usize, group: &str, whom: usize| {
                let whom = world.machines[whom].node.clone();
                let shown = crate::invariants::clusters(world, who);
                let of_group = |(name, shown): (&model::GroupId, &ClusterStatus)| {
                    name.as_str() == group && shown.nodes_view.contains(&whom)
                };
                shown.iter().any(of_group)
            };
            let cross = knows(self, at, group, other) && knows(self, other, &theirs, at);
            cross.then_some((request, other))
        })
    }
}
