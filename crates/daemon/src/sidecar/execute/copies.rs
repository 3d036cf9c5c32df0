//! How copies leave: out of the cluster once nothing old writes to them, and dropped only while they are still
//! what they were when they left.

use super::{LOOK_TIME_MAX, Progress, Turn, done, refused, threads};
use manticore::statement::ShardTable;
use manticore::{Reply, Statement, status};
use model::{Action, Content, GroupId, Outcome};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between looks at what runs.
const THREADS_PAUSE: Duration = Duration::from_millis(50);

impl Turn<'_> {
    pub(super) async fn exit(
        &self,
        action: &Action,
        group: &GroupId,
        tables: &[String],
        floor: u32,
    ) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => return unseen,
            Ok(None) => return self.contents(tables).await,
            Ok(Some(cluster)) if self.is_alone(&cluster) => {
                return refused(format!(
                    "this node is the last member of cluster '{group}': its copies are the only ones"
                ));
            }
            Ok(Some(_)) => {}
        }
        if let Err(old) = self.nothing_old_runs().await {
            return old;
        }
        // Others may have died while it waited.
        match self.cluster(group).await {
            Ok(Some(cluster)) if cluster.size <= floor => {
                let others = cluster.size.saturating_sub(1);
                return refused(format!(
                    "only {others} other members of cluster '{group}' are in view, {floor} must stay"
                ));
            }
            // Of two, searchd has the one that leaves wait until it takes the other for lost, a second and more. Where
            // nothing can be written any more it need not; without this word it only takes longer.
            Ok(Some(cluster)) if cluster.size == 2 && cluster.tables.is_empty() && tables.is_empty() => {
                self.say(&Statement::SuspectSoon { group: group.clone() }).await;
            }
            Ok(_) => {}
            Err(unseen) => return unseen,
        }
        match self.one_by_one(action).await {
            Outcome::Done { .. } => self.contents(tables).await,
            other => other,
        }
    }

    pub(super) async fn await_quiet(&self, lock: bool) -> Outcome {
        if lock {
            match self.session().await {
                Ok(session) => session.close().await,
                Err(refused) => return refused,
            }
        }
        self.nothing_old_runs().await.err().unwrap_or_else(done)
    }

    /// Waits until no statement on this node is older than the routes it has.
    async fn nothing_old_runs(&self) -> Result<(), Outcome> {
        while let Some(old) = self.oldest_before_routes().await? {
            if self.remaining().is_ok_and(|left| left > THREADS_PAUSE * 2) {
                tokio::time::sleep(THREADS_PAUSE).await;
            } else {
                let (age, what) = (old.age.as_secs_f64(), &old.info);
                return Err(refused(format!("a statement is older than the routes, {age:.1} s: {what}")));
            }
        }
        Ok(())
    }

    /// The oldest statement that runs, if it began before the routes were written.
    async fn oldest_before_routes(&self) -> Result<Option<threads::Running>, Outcome> {
        // Taken before the look, so that a moment between them makes the routes younger, not the statements.
        let routes_age = self.sidecar.routes_age();
        let held = self.sidecar.hold.held();
        let node = &self.sidecar.node;
        match self.sidecar.client.execute(node, &Statement::ShowThreads, LOOK_TIME_MAX).await {
            Ok(Reply::Rows(rows)) => {
                // Only what was held all the time: one that is let go meanwhile runs.
                let held = self.sidecar.hold.still_held(held);
                Ok(threads::oldest(&rows, &held).filter(|oldest| oldest.age >= routes_age))
            }
            Ok(other) => Err(refused(format!("the node does not show its threads: {other:?}"))),
            Err(error) => Err(refused(format!("the node does not show its threads: {error}"))),
        }
    }

    /// The content of each copy that is there, now that they are plain.
    async fn contents(&self, tables: &[String]) -> Outcome {
        let mut contents = BTreeMap::new();
        for name in tables {
            let Some(table) = ShardTable::new(name) else { continue };
            let statement = Statement::Content { table };
            let answer =
                self.sidecar.client.execute(&self.sidecar.node, &statement, LOOK_TIME_MAX * 12).await;
            let content = match answer {
                Ok(Reply::Rows(rows)) => status::content(&rows).map_err(|error| error.to_string()),
                // Dropped by an earlier try.
                Ok(Reply::Error { message }) if message.contains("unknown local table") => continue,
                Ok(other) => Err(format!("{other:?}")),
                Err(error) => Err(error.to_string()),
            };
            match content {
                Ok(content) => contents.insert(name.clone(), content),
                // It has left the cluster; what it left with is not known.
                Err(message) => {
                    return Outcome::Unknown {
                        message: format!("left, but '{name}' cannot be measured: {message}"),
                    };
                }
            };
        }
        Outcome::Done { contents }
    }

    pub(super) async fn drop_copies(&self, copies: &BTreeMap<String, Content>) -> Outcome {
        match self.clusters().await {
            Err(unseen) => return unseen,
            Ok(clusters) => {
                let in_cluster =
                    |table: &String| clusters.values().any(|cluster| cluster.tables.contains(table));
                if let Some(table) = copies.keys().find(|table| in_cluster(table)) {
                    return refused(format!("'{table}' is in a cluster: it is no copy that was left behind"));
                }
            }
        }
        let mut session = match self.session().await {
            Ok(session) => session,
            Err(refused) => return refused,
        };
        let mut progress = Progress::default();
        let mut ended = done();
        for (table, content) in copies {
            if let Err(over) = self.remaining() {
                ended = progress.after(over).unwrap_or_else(done);
                break;
            }
            let dropped = session.drop_copies(&[(table.clone(), *content)].into()).await;
            if let Some(stopped) = progress.after(dropped) {
                ended = stopped;
                break;
            }
        }
        session.close().await;
        ended
    }
}
