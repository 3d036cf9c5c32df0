//! Cluster statements, each only where its rule allows it.

use super::copy::ENDED;
use super::{LOOK_TIME_MAX, Turn, done, refused};
use crate::tls::Pem;
use manticore::Statement;
use manticore::session::Session;
use manticore::statement::{ShardTable, StockTable};
use model::{Action, ClusterState, ClusterStatus, Content, GroupId, NodeId, Outcome, Reach, WRITTEN_TO};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A second joiner in the first seconds after another finds no donor: it asks again for so long. Other commands for
/// clusters wait behind it, so a donor that stays away is the controller's matter soon.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);
const NO_DONOR: &str = "no nodes available";
const JOIN_PAUSE: Duration = Duration::from_millis(300);

impl Turn<'_> {
    pub(super) async fn join(&self, action: &Action, group: &GroupId, at: &NodeId) -> Outcome {
        let statements = match self.statements(action, false) {
            Ok(statements) => statements,
            Err(refused) => return refused,
        };
        let began = Instant::now();
        loop {
            let mut outcome = done();
            for statement in &statements {
                outcome = self.say_while_it_goes_on(statement, group, at).await;
                if !matches!(outcome, Outcome::Done { .. }) {
                    break;
                }
            }
            // One that was ended has no donor for longer than that, whatever searchd says of it.
            let no_donor = matches!(&outcome, Outcome::Refused { message }
                if message.contains(NO_DONOR) && !message.starts_with(ENDED));
            let in_time = self.remaining().is_ok_and(|left| left > JOIN_PAUSE);
            if !no_donor || !in_time || began.elapsed() >= JOIN_PATIENCE {
                return outcome;
            }
            tokio::time::sleep(JOIN_PAUSE).await;
        }
    }

    pub(super) async fn bootstrap(&self, action: &Action, group: &GroupId) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => unseen,
            Ok(None) => refused(format!("unknown cluster '{group}'")),
            Ok(Some(cluster)) => match cluster.status {
                ClusterState::Primary => done(),
                ClusterState::NonPrimary => self.one_by_one(action).await,
                other => {
                    refused(format!("cluster '{group}' is {other:?}, only a non-primary one is bootstrapped"))
                }
            },
        }
    }

    pub(super) async fn delete(&self, action: &Action, group: &GroupId, whole: bool) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => unseen,
            Ok(None) => done(),
            // It dissolves the cluster on whomever this node knows, on healthy members, too.
            Ok(Some(cluster)) => match cluster.status {
                ClusterState::RecoveryRequired => self.one_by_one(action).await,
                ClusterState::NonPrimary if whole => self.one_by_one(action).await,
                ClusterState::NonPrimary => match self.has_a_quorum(group, &cluster).await {
                    None => self.one_by_one(action).await,
                    Some(why) => refused(format!("not begun: {why}")),
                },
                ClusterState::Primary if self.is_alone(&cluster) && cluster.is_synced() => {
                    self.one_by_one(action).await
                }
                other => refused(format!(
                    "cluster '{group}' is {other:?} with {} members: DELETE CLUSTER is only for the last member, a \
                     recovery-required node, or where no member has a quorum",
                    cluster.size
                )),
            },
        }
    }

    /// Why a member of the group may have a quorum that this one has not: it shows one, or does not say. Of one whose
    /// listener refuses, the process is gone.
    async fn has_a_quorum(&self, group: &GroupId, own: &ClusterStatus) -> Option<String> {
        let time_max = match self.remaining() {
            Ok(left) => LOOK_TIME_MAX.min(left),
            Err(_) => return Some("its time is over".to_owned()),
        };
        for node in own.nodes_set.union(&own.nodes_view).filter(|node| **node != self.sidecar.node) {
            match self.sidecar.client.poll(node, false, time_max).await {
                (Reach::Refused, _) => {}
                (_, Some(shown)) => {
                    let theirs = shown.clusters.get(group);
                    if theirs.is_some_and(|cluster| cluster.status == ClusterState::Primary) {
                        return Some(format!("cluster '{group}' is primary on {node}"));
                    }
                }
                (_, None) => {
                    return Some(format!("{node} does not show whether it has a quorum of '{group}'"));
                }
            }
        }
        None
    }

    /// The group, when tables may be added or taken out: primary, synced, and nobody out of view.
    async fn whole_group(&self, group: &GroupId) -> Result<ClusterStatus, Outcome> {
        let Some(cluster) = self.cluster(group).await? else {
            return Err(refused(format!("unknown cluster '{group}'")));
        };
        if !cluster.is_synced() {
            let (status, state) = (cluster.status, cluster.node_state);
            return Err(refused(format!("cluster '{group}' is {status:?} and this member {state:?}")));
        }
        let mut out_of_view = cluster.nodes_set.difference(&cluster.nodes_view);
        match out_of_view.next() {
            // It could come back by increments with the old rows of a table of the same name.
            Some(node) => Err(refused(format!("member {node} of cluster '{group}' is out of view"))),
            None => Ok(cluster),
        }
    }

    pub(super) async fn add_tables(&self, group: &GroupId, tables: &[String]) -> Outcome {
        let cluster = match self.whole_group(group).await {
            Ok(cluster) => cluster,
            Err(refused) => return refused,
        };
        let missing: Vec<String> =
            tables.iter().filter(|table| !cluster.tables.contains(*table)).cloned().collect();
        if missing.is_empty() {
            return done();
        }
        let alone = self.is_alone(&cluster);
        let action = Action::AddTables { group: group.clone(), tables: missing.clone() };
        let statements = match self.statements(&action, alone) {
            Ok(statements) => statements,
            Err(refused) => return refused,
        };
        let filled = match self.filled(&missing).await {
            Ok(filled) => filled,
            Err(unseen) => return unseen,
        };
        match (filled.first(), alone) {
            (None, _) => self.say_all(&statements).await,
            // A write may have looked up its cluster before.
            (Some(_), true) => self.locked(&missing, self.say_all(&statements)).await,
            // It would be copied onto the others from here, and writes of that moment would be lost.
            (Some(table), false) => refused(format!(
                "'{table}' has rows and cluster '{group}' has {} members: only empty tables are added there",
                cluster.size
            )),
        }
    }

    async fn filled(&self, tables: &[String]) -> Result<Vec<String>, Outcome> {
        let filled = self.measured(tables).await?.into_iter().filter(|(_, content)| content.rows > 0);
        Ok(filled.map(|(table, _)| table).collect())
    }

    async fn measured(&self, tables: &[String]) -> Result<BTreeMap<String, Content>, Outcome> {
        let time_max = LOOK_TIME_MAX.min(self.remaining()?);
        match self.sidecar.client.measure(&self.sidecar.node, tables, false, time_max).await {
            Ok(measured) => Ok(measured.contents),
            Err(error) => Err(refused(format!("not begun, the tables cannot be counted: {error}"))),
        }
    }

    /// Does `work` while nobody can write to `tables`.
    async fn locked(&self, tables: &[String], work: impl Future<Output = Outcome>) -> Outcome {
        let Some(shards) = tables.iter().map(|table| ShardTable::new(table)).collect::<Option<Vec<_>>>()
        else {
            return refused("a table is no physical shard");
        };
        let mut session = match self.session().await {
            Ok(session) => session,
            Err(refused) => return refused,
        };
        let said = session.while_locked(shards, work).await;
        session.close().await;
        match said {
            Ok(outcome) => outcome,
            // The lock was not had, so nothing was said under it.
            Err(Outcome::Unknown { message }) => refused(format!("not begun without the lock: {message}")),
            Err(other) => other,
        }
    }

    /// A MySQL session for what needs a lock.
    pub(super) async fn session(&self) -> Result<Session, Outcome> {
        let Some(address) = &self.sidecar.mysql else {
            return Err(refused(
                "this needs LOCK TABLES: start the sidecar with --mysql HOST:PORT of searchd",
            ));
        };
        let left = self.remaining()?;
        let tls = self.sidecar.session_tls.as_ref().map(Pem::now);
        Session::connect(address, self.sidecar.login.as_ref(), tls.as_ref(), left)
            .await
            .map_err(|error| refused(format!("not begun without a MySQL session: {error}")))
    }

    /// Takes back a [`Self::remove_tables`] of tables that nobody has written to since.
    pub(super) async fn return_tables(
        &self,
        action: &Action,
        group: &GroupId,
        copies: &BTreeMap<String, Content>,
    ) -> Outcome {
        let cluster = match self.whole_group(group).await {
            Ok(cluster) => cluster,
            Err(refused) => return refused,
        };
        let out = copies.iter().filter(|(table, _)| !cluster.tables.contains(*table));
        let out: BTreeMap<String, Content> = out.map(|(table, content)| (table.clone(), *content)).collect();
        if out.is_empty() {
            return done();
        }
        let Action::ReturnTables { .. } = action else { return refused("it returns no tables") };
        let action = Action::ReturnTables { group: group.clone(), copies: out.clone() };
        let statements = match self.statements(&action, false) {
            Ok(statements) => statements,
            Err(refused) => return refused,
        };
        let tables: Vec<String> = out.keys().cloned().collect();
        let unchanged = async {
            match self.measured(&tables).await {
                Err(unseen) => unseen,
                // The others' copies are what this one was: what it became since would be copied over them.
                Ok(contents) => {
                    match out.iter().find(|(table, content)| contents.get(*table) != Some(*content)) {
                        Some((table, _)) => refused(format!(
                            "'{table}' {WRITTEN_TO} cluster '{group}': compare its copies before it is put back"
                        )),
                        None => self.say_all(&statements).await,
                    }
                }
            }
        };
        self.locked(&tables, unchanged).await
    }

    /// The tables of the stock sidecar leave the user's cluster, which must be whole for it, and are dropped here.
    pub(super) async fn end_stock(&self, action: &Action, cluster: Option<&GroupId>) -> Outcome {
        if let Some(id) = cluster {
            let present = match self.cluster(id).await {
                Err(unseen) => return unseen,
                Ok(known) => known.map(|known| known.tables).unwrap_or_default(),
            };
            let held = StockTable::ALL.into_iter().filter(|table| present.contains(table.as_str()));
            let removed: Vec<Statement> =
                held.map(|table| Statement::RemoveStock { cluster: id.clone(), table }).collect();
            if !removed.is_empty() {
                if let Err(refused) = self.whole_group(id).await {
                    return refused;
                }
                match self.say_all(&removed).await {
                    Outcome::Done { .. } => {}
                    other => return other,
                }
            }
        }
        self.one_by_one(action).await
    }

    pub(super) async fn remove_tables(&self, group: &GroupId, tables: &[String]) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => return unseen,
            // Without the cluster they are plain already.
            Ok(None) => return done(),
            Ok(Some(cluster)) if tables.iter().all(|table| !cluster.tables.contains(table)) => return done(),
            Ok(Some(_)) => {}
        }
        let cluster = match self.whole_group(group).await {
            Ok(cluster) => cluster,
            Err(refused) => return refused,
        };
        let present = tables.iter().filter(|table| cluster.tables.contains(*table)).cloned().collect();
        let action = Action::RemoveTables { group: group.clone(), tables: present };
        match self.statements(&action, false) {
            Ok(statements) => self.say_all(&statements).await,
            Err(refused) => refused,
        }
    }
}
