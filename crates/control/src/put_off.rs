//! Statements that need every node, put off while one is too busy to be looked at: silence within a node's grace says
//! nothing. A table that is made waits, too, for the ports of groups that a drop has left to be dissolved.

use crate::Controller;
use crate::io::RequestId;
use crate::state::Leftover;
use model::wire::ShardingStatement;
use model::{GroupId, Millis, NodeId, Reach, UserRights};

/// A statement that waits for fresh looks.
#[derive(Clone, Debug)]
pub struct PutOff {
    statement: ShardingStatement,
    rights: Option<UserRights>,
    /// Then it is answered as things are.
    until: Millis,
    /// Until when it waits for ports.
    room_until: Millis,
}

impl Controller {
    /// Takes a statement: now, or once the nodes it needs have been looked at.
    pub(crate) fn take_statement(
        &mut self,
        request: RequestId,
        statement: ShardingStatement,
        rights: Option<UserRights>,
    ) {
        let unseen = self.unseen_for(&statement);
        if unseen.is_empty() && !self.waits_for_room(&statement) {
            return self.asked_by(request, |controller| {
                controller.statement(request, statement, rights.as_ref());
            });
        }
        for node in &unseen {
            self.observed.hurry(node, self.now);
        }
        let until = self.now + self.patience_for(&statement);
        let room_until = match &statement {
            // The other half is for making it.
            ShardingStatement::CreateTable { timeout_seconds, .. } => {
                self.now + Millis(timeout_seconds.saturating_mul(500))
            }
            _ => self.now,
        };
        self.put_off.insert(request, PutOff { statement, rights, until, room_until });
    }

    /// Those put off whose time has come: all nodes were seen, one is gone, or nobody waits any longer.
    pub(crate) fn take_put_off(&mut self) {
        let due: Vec<RequestId> = self
            .put_off
            .iter()
            .filter(|(_, put_off)| {
                let seen = self.now >= put_off.until || self.unseen_for(&put_off.statement).is_empty();
                seen && (self.now >= put_off.room_until || !self.waits_for_room(&put_off.statement))
            })
            .map(|(request, _)| *request)
            .collect();
        for request in due {
            let Some(PutOff { statement, rights, .. }) = self.put_off.remove(&request) else { continue };
            self.asked_by(request, |controller| {
                controller.statement(request, statement, rights.as_ref());
            });
        }
    }

    pub(crate) fn put_off_ends(&self) -> impl Iterator<Item = Millis> + '_ {
        self.put_off.values().flat_map(|put_off| [put_off.until, put_off.room_until])
    }

    /// As long as a silent node's grace: then it is proven lost, or stays a riddle.
    fn patience_for(&self, statement: &ShardingStatement) -> Millis {
        let grace = Millis::from_secs(self.config.settings.silent_node_seconds);
        match statement {
            ShardingStatement::CreateTable { timeout_seconds, .. } => {
                grace.min(Millis::from_secs(*timeout_seconds))
            }
            _ => grace,
        }
    }

    /// The nodes that `statement` needs and that are neither seen to be there nor to be gone.
    fn unseen_for(&self, statement: &ShardingStatement) -> Vec<NodeId> {
        let of_cluster = match statement {
            ShardingStatement::CreateTable { spec, .. } => spec.cluster.is_some(),
            ShardingStatement::DropTable { name, cluster, .. } => self
                .state
                .tables
                .get(name)
                .is_some_and(|table| table.spec.cluster.is_some() && table.spec.cluster == *cluster),
            _ => false,
        };
        let live = self.state.live_nodes().filter(|_| of_cluster);
        live.filter(|node| self.is_unseen(node)).cloned().collect()
    }

    /// Whether a node that may be given groups for the table has ports for fewer than it should have, and will have more in a
    /// moment: clusters are being cleaned off it.
    fn waits_for_room(&self, statement: &ShardingStatement) -> bool {
        let ShardingStatement::CreateTable { spec, .. } = statement else { return false };
        let wanted = self.config.settings.replication_groups_per_node;
        let mut idle = self.idle_groups();
        idle.retain(|_, members| members.len() == spec.rf as usize);
        spec.rf > 1
            && self.state.placing_nodes().any(|node| {
                let going = |group: &GroupId| {
                    self.observed.cluster(node, group).is_some() && !idle.contains_key(group)
                };
                let left = self.state.leftovers.get(node).into_iter().flatten();
                let going = left.filter(|left| matches!(left, Leftover::Group { group, .. } if going(group)));
                let usable = idle.values().filter(|members| members.contains(node)).count();
                let room = self.free_clusters(node).saturating_add(usable as u32);
                going.count() > 0 && room < wanted
            })
    }

    /// Whether a table that was put off waits for ports.
    pub(crate) fn is_room_awaited(&self) -> bool {
        self.put_off.values().any(|put_off| self.waits_for_room(&put_off.statement))
    }

    fn is_unseen(&self, node: &NodeId) -> bool {
        let Some(view) = self.observed.view(node) else { return false };
        match view.reach {
            // Its process is gone, whatever its sidecar said last.
            Some((Reach::Refused, _)) => false,
            Some((Reach::Answered, _)) => !view.has_sidecar(self.now),
            Some((Reach::Silent, _)) | None => true,
        }
    }
}
