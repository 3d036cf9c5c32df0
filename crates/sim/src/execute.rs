//! Carries out one action on a node, statement by statement, under the same rules as the real sidecar: what is
//! already so is done, what was begun and not finished is unknown.

use crate::bugs::Bug;
use crate::read;
use crate::say::{self, done, refused};
use crate::sidecar::Shared;
use crate::wire::{Answer, Ask, Wire};
use model::WRITTEN_TO;
use model::sql::Ident;
use model::{
    Action, ClusterState, ClusterStatus, Content, GroupId, Millis, NodeId, Outcome, RouteSpec, Schema,
};
use std::collections::BTreeMap;

/// For a look that belongs to an action.
const LOOK_TIME_MAX: u64 = 5_000;
const JOIN_PAUSE: u64 = 300;
const THREADS_PAUSE: u64 = 50;
const CREATE_TRIES: u32 = 5;
/// So much later bugs write a route that they have answered for, and repeat what failed.
const ROUTE_LATER: u64 = 10_000;
const TRUNCATE_AGAIN: u64 = 30_000;
/// All that a bug lets overlap begin together.
const EXITS_EVERY: u64 = 1_000;

/// One action under way.
struct Turn<'a> {
    wire: &'a Wire,
    sidecar: &'a Shared,
    node: NodeId,
    deadline: Millis,
    bug: Option<Bug>,
}

/// Carries `action` out, and is over by `deadline` but for the last look.
pub async fn execute(wire: &Wire, sidecar: &Shared, action: &Action, deadline: Millis) -> Outcome {
    let (node, bug) = (sidecar.borrow().node.clone(), sidecar.borrow().bug);
    let turn = Turn { wire, sidecar, node, deadline, bug };
    turn.action(action).await
}

/// What several statements have come to: a refusal after something was done leaves a part.
fn after(done_parts: usize, outcome: Outcome) -> Option<Outcome> {
    match outcome {
        Outcome::Done { .. } => None,
        Outcome::Refused { message } if done_parts > 0 => {
            Some(Outcome::Unknown { message: format!("{done_parts} parts were done, then: {message}") })
        }
        other => Some(other),
    }
}

impl Turn<'_> {
    async fn action(&self, action: &Action) -> Outcome {
        match action {
            Action::MakeDirectory { group } => self.directory(group, true).await,
            Action::RemoveDirectory { .. } if self.bug == Some(Bug::LeakedDirectory) => done(),
            Action::DeleteCluster { group, .. } if self.bug == Some(Bug::LeakedCluster) => {
                self.sidecar.borrow_mut().hidden.insert(group.clone());
                done()
            }
            Action::RemoveDirectory { group } => match self.cluster(group).await {
                Ok(None) => self.directory(group, false).await,
                Ok(Some(_)) => refused(format!("the node still has the cluster '{group}'")),
                Err(unseen) => unseen,
            },
            // What its group does without it, it is taken to have done.
            Action::CreateTables { .. } | Action::DropTables { .. } if self.is_out_of_view().await => done(),
            Action::CreateTables { tables, schema } => self.create_tables(tables, schema).await,
            Action::DropTables { tables } => {
                self.say_all(tables.iter().map(|table| say::drop_shard(table)).collect()).await
            }
            Action::CreateCluster { group } => self.say(&say::create_cluster(group)).await,
            Action::JoinCluster { group, at } => self.join(group, at).await,
            Action::AddTables { group, tables } => self.add_tables(group, tables).await,
            Action::RemoveTables { group, tables } => self.remove_tables(group, tables).await,
            Action::ReturnTables { group, copies } => self.return_tables(group, copies).await,
            Action::AwaitQuiet { .. } => self.nothing_runs().await.err().unwrap_or_else(done),
            Action::UpdateNodes { group } => self.say(&format!("ALTER CLUSTER {group} UPDATE nodes")).await,
            Action::Bootstrap { group } => self.bootstrap(group).await,
            Action::ExitCluster { group, tables, floor } => self.exit(group, tables, *floor).await,
            Action::DeleteCluster { group, whole } => self.delete(group, *whole).await,
            Action::DropCopies { copies } => self.drop_copies(copies).await,
            Action::SetRoutes { routes } => {
                for spec in routes {
                    self.told(&spec.route.table, Some(&spec.route));
                }
                if self.bug == Some(Bug::ShedBeforeRoute)
                    && routes.iter().any(|spec| self.was_written(&spec.route.table))
                {
                    return done();
                }
                self.set_routes(routes).await
            }
            Action::DropRoutes { tables } => {
                for table in tables {
                    self.told(table, None);
                }
                if self.bug == Some(Bug::RoutedWithoutQuorum) {
                    return done();
                }
                if self.bug == Some(Bug::NameMadeAgain) {
                    self.sidecar.borrow_mut().undropped.extend(tables.iter().cloned());
                    return done();
                }
                let drop =
                    |table: &model::TableName| format!("DROP TABLE {} OPTION force=1", Ident(table.as_str()));
                self.say_all(tables.iter().map(drop).collect()).await
            }
            Action::Truncate { table, group: Some(group) } => {
                self.truncate(format!("TRUNCATE TABLE {group}:{table}")).await
            }
            Action::Truncate { table, group: None } => self.truncate(format!("TRUNCATE TABLE {table}")).await,
            Action::Optimize { table } => self.say(&format!("OPTIMIZE TABLE {table}")).await,
            Action::FlushRamchunk { table } => self.say(&format!("FLUSH RAMCHUNK {table}")).await,
            // Nobody imports here.
            Action::EndStock { .. } => refused("the simulated cluster has no stock sidecar"),
            Action::PutDocuments { .. } => refused("nothing is restored here"),
        }
    }

    async fn truncate(&self, sql: String) -> Outcome {
        let outcome = self.say(&sql).await;
        if self.bug == Some(Bug::TruncateAgain) && !matches!(outcome, Outcome::Done { .. }) {
            self.sidecar.borrow_mut().later.push((TRUNCATE_AGAIN, sql));
        }
        outcome
    }

    /// Notes what the controller wants a route to be, for the bugs that believe it.
    fn told(&self, table: &model::TableName, route: Option<&model::Route>) {
        self.sidecar.borrow_mut().told.insert(table.clone(), route.cloned());
    }

    /// Whether the table was routed here before; the first call for each says no.
    fn was_written(&self, table: &model::TableName) -> bool {
        !self.sidecar.borrow_mut().written.insert(table.clone())
    }

    fn left(&self) -> Result<u64, Outcome> {
        match self.deadline.since(self.wire.now()).0 {
            0 => Err(refused("its time was over before it was sent")),
            left => Ok(left),
        }
    }

    async fn say(&self, sql: &str) -> Outcome {
        self.say_on(None, sql).await
    }

    async fn say_on(&self, session: Option<u64>, sql: &str) -> Outcome {
        match self.left() {
            Ok(time_max) => {
                let ask = Ask::Sql { to: self.node.clone(), session, sql: sql.to_owned(), time_max };
                say::outcome(sql, &self.wire.ask(ask).await)
            }
            Err(over) => over,
        }
    }

    async fn say_all(&self, statements: Vec<String>) -> Outcome {
        for (at, sql) in statements.iter().enumerate() {
            let outcome = self.say(sql).await;
            if let Some(stopped) = after(at, outcome) {
                return stopped;
            }
        }
        done()
    }

    /// A statement that only looks.
    async fn look(&self, sql: &str) -> Result<engine::Reply, Outcome> {
        let time_max = LOOK_TIME_MAX.min(self.left()?);
        match self.wire.sql(&self.node, sql, time_max).await {
            Answer::Sql(Ok(reply)) => Ok(reply),
            other => Err(refused(format!("not begun, the look failed: {other:?}"))),
        }
    }

    async fn clusters(&self) -> Result<BTreeMap<GroupId, ClusterStatus>, Outcome> {
        let time_max = LOOK_TIME_MAX.min(self.left()?);
        let shown = self.wire.clusters(&self.node, time_max).await;
        shown.map_err(|other| refused(format!("not begun, the look failed: {other:?}")))
    }

    async fn cluster(&self, group: &GroupId) -> Result<Option<ClusterStatus>, Outcome> {
        Ok(self.clusters().await?.remove(group))
    }

    /// A bug: whether one of its groups goes on without this node, which takes that for nothing.
    async fn is_out_of_view(&self) -> bool {
        let without = |(group, cluster): (&GroupId, &ClusterStatus)| {
            group.is_ours() && cluster.status == ClusterState::NonPrimary
        };
        self.bug == Some(Bug::RejoinByIncrements)
            && self.clusters().await.is_ok_and(|clusters| clusters.iter().any(without))
    }

    fn is_alone(&self, cluster: &ClusterStatus) -> bool {
        cluster.size == 1 && cluster.nodes_view.iter().all(|node| *node == self.node)
    }

    async fn directory(&self, group: &GroupId, make: bool) -> Outcome {
        self.wire.ask(Ask::Directory { group: group.clone(), make }).await;
        let mut sidecar = self.sidecar.borrow_mut();
        if make {
            sidecar.disk.directories.insert(group.clone());
        } else {
            sidecar.disk.directories.remove(group);
        }
        done()
    }

    async fn create_tables(&self, tables: &[String], schema: &Schema) -> Outcome {
        for (at, table) in tables.iter().enumerate() {
            let mut outcome = self.say(&say::create_shard(table, schema)).await;
            if matches!(&outcome, Outcome::Refused { message } if message.ends_with("already exists")) {
                outcome = match self.clusters().await {
                    Err(unseen) => unseen,
                    Ok(clusters) => match clusters.iter().find(|(_, cluster)| cluster.tables.contains(table))
                    {
                        Some((group, _)) => {
                            refused(format!("'{table}' exists and is in the cluster '{group}'"))
                        }
                        None => done(),
                    },
                };
            }
            if let Some(stopped) = after(at, outcome) {
                return stopped;
            }
        }
        done()
    }

    async fn join(&self, group: &GroupId, at: &NodeId) -> Outcome {
        loop {
            let outcome = self.say(&say::join_cluster(group, at)).await;
            let no_donor =
                matches!(&outcome, Outcome::Refused { message } if message.contains("no nodes available"));
            if !no_donor || self.left().map_or(true, |left| left <= JOIN_PAUSE) {
                return outcome;
            }
            self.wire.sleep(JOIN_PAUSE).await;
        }
    }

    /// The group, when tables may be added or taken out: primary, synced, and nobody out of view.
    async fn whole_group(&self, group: &GroupId) -> Result<ClusterStatus, Outcome> {
        let Some(cluster) = self.cluster(group).await? else {
            return Err(refused(format!("unknown cluster '{group}'")));
        };
        if !cluster.is_synced() {
            return Err(refused(format!(
                "cluster '{group}' is {:?}, {:?}",
                cluster.status, cluster.node_state
            )));
        }
        let mut away = cluster.nodes_set.difference(&cluster.nodes_view);
        match away.next().filter(|_| self.bug != Some(Bug::RejoinByIncrements)) {
            Some(node) => Err(refused(format!("member {node} of cluster '{group}' is out of view"))),
            None => Ok(cluster),
        }
    }

    async fn add_tables(&self, group: &GroupId, tables: &[String]) -> Outcome {
        let cluster = match self.whole_group(group).await {
            Ok(cluster) => cluster,
            Err(refused) => return refused,
        };
        let missing: Vec<&String> = tables.iter().filter(|table| !cluster.tables.contains(*table)).collect();
        let mut filled = Vec::new();
        for table in &missing {
            match self.look(&say::content(table)).await {
                Ok(reply) if read::content(&reply).is_some_and(|content| content.rows == 0) => {}
                Ok(_) => filled.push((*table).clone()),
                Err(unseen) => return unseen,
            }
        }
        let alone = self.is_alone(&cluster);
        if self.bug == Some(Bug::FilledAdd) && !filled.is_empty() {
            self.sidecar.borrow_mut().late.entry(group.clone()).or_default().extend(filled);
            return done();
        }
        if !alone && !filled.is_empty() {
            return refused(format!(
                "{filled:?} have rows and cluster '{group}' has {} members",
                cluster.size
            ));
        }
        let statements: Vec<String> = if alone && !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|table| table.as_str()).collect();
            vec![format!("ALTER CLUSTER {group} ADD {}", names.join(","))]
        } else {
            missing.iter().map(|table| format!("ALTER CLUSTER {group} ADD {table}")).collect()
        };
        if filled.is_empty() {
            return self.say_all(statements).await;
        }
        let session = self.session();
        let locks: Vec<String> = missing.iter().map(|table| format!("{table} READ")).collect();
        let locked = self.say_on(Some(session), &format!("LOCK TABLES {}", locks.join(", "))).await;
        let outcome = match locked {
            Outcome::Done { .. } => self.say_all(statements).await,
            other => refused(format!("not begun without the lock: {other:?}")),
        };
        self.close(session).await;
        outcome
    }

    async fn remove_tables(&self, group: &GroupId, tables: &[String]) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => return unseen,
            Ok(None) => return done(),
            Ok(Some(cluster)) if tables.iter().all(|table| !cluster.tables.contains(table)) => return done(),
            Ok(Some(_)) => {}
        }
        match self.whole_group(group).await {
            Ok(cluster) => {
                let present = tables.iter().filter(|table| cluster.tables.contains(*table));
                self.say_all(present.map(|table| format!("ALTER CLUSTER {group} DROP {table}")).collect())
                    .await
            }
            Err(refused) => refused,
        }
    }

    /// Takes back a [`Self::remove_tables`]: under a lock, and only what is still as it was taken out.
    async fn return_tables(&self, group: &GroupId, copies: &BTreeMap<String, Content>) -> Outcome {
        let cluster = match self.whole_group(group).await {
            Ok(cluster) => cluster,
            Err(refused) => return refused,
        };
        let out: Vec<&String> = copies.keys().filter(|table| !cluster.tables.contains(*table)).collect();
        if out.is_empty() {
            return done();
        }
        let session = self.session();
        let locks: Vec<String> = out.iter().map(|table| format!("{table} READ")).collect();
        let mut outcome = self.say_on(Some(session), &format!("LOCK TABLES {}", locks.join(", "))).await;
        for table in &out {
            if matches!(outcome, Outcome::Done { .. }) {
                outcome = match self.look(&say::content(table)).await {
                    Ok(reply) if read::content(&reply).as_ref() == copies.get(*table) => done(),
                    Ok(_) => refused(format!("'{table}' {WRITTEN_TO} '{group}'")),
                    Err(unseen) => unseen,
                };
            }
        }
        if matches!(outcome, Outcome::Done { .. }) {
            let adds = out.iter().map(|table| format!("ALTER CLUSTER {group} ADD {table}"));
            outcome = self.say_all(adds.collect()).await;
        }
        self.close(session).await;
        outcome
    }

    async fn bootstrap(&self, group: &GroupId) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => unseen,
            Ok(None) => refused(format!("unknown cluster '{group}'")),
            Ok(Some(cluster)) => match cluster.status {
                ClusterState::Primary => done(),
                ClusterState::NonPrimary => {
                    self.say(&format!("SET CLUSTER {group} GLOBAL 'pc.bootstrap' = 1")).await
                }
                other => refused(format!("cluster '{group}' is {other:?}")),
            },
        }
    }

    async fn delete(&self, group: &GroupId, whole: bool) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => unseen,
            Ok(None) => done(),
            Ok(Some(cluster)) => {
                let last =
                    cluster.status == ClusterState::Primary && self.is_alone(&cluster) && cluster.is_synced();
                let without_quorum = whole && cluster.status == ClusterState::NonPrimary;
                if cluster.status == ClusterState::RecoveryRequired || last || without_quorum {
                    self.say(&format!("DELETE CLUSTER {group}")).await
                } else if cluster.status == ClusterState::NonPrimary {
                    match self.has_a_quorum(group, &cluster).await {
                        None => self.say(&format!("DELETE CLUSTER {group}")).await,
                        Some(why) => refused(why),
                    }
                } else {
                    refused(format!(
                        "cluster '{group}' is {:?} with {} members",
                        cluster.status, cluster.size
                    ))
                }
            }
        }
    }

    /// Why a member may have a quorum that this one has not.
    async fn has_a_quorum(&self, group: &GroupId, own: &ClusterStatus) -> Option<String> {
        for node in own.nodes_set.union(&own.nodes_view).filter(|node| **node != self.node) {
            match self.wire.clusters(node, LOOK_TIME_MAX).await {
                Err(Answer::Refused) => {}
                Ok(mut shown) => {
                    if shown.remove(group).is_some_and(|cluster| cluster.status == ClusterState::Primary) {
                        return Some(format!("cluster '{group}' is primary on {node}"));
                    }
                }
                Err(_) => return Some(format!("{node} does not show whether it has a quorum of '{group}'")),
            }
        }
        None
    }

    async fn exit(&self, group: &GroupId, tables: &[String], floor: u32) -> Outcome {
        match self.cluster(group).await {
            Err(unseen) => return unseen,
            Ok(None) => return self.contents(tables).await,
            Ok(Some(cluster)) if self.is_alone(&cluster) => {
                return refused(format!("this node is the last member of cluster '{group}'"));
            }
            Ok(Some(_)) => {}
        }
        if let Err(old) = self.nothing_runs().await {
            return old;
        }
        match self.cluster(group).await {
            Ok(Some(cluster)) if cluster.size <= floor => {
                return refused(format!(
                    "{} members of cluster '{group}' are in view, {floor} must stay",
                    cluster.size
                ));
            }
            Ok(_) => {}
            Err(unseen) => return unseen,
        }
        let sql = format!("EXIT CLUSTER {group}");
        if self.bug == Some(Bug::CrossingExits) {
            let pause = EXITS_EVERY - self.wire.now().0 % EXITS_EVERY;
            self.sidecar.borrow_mut().later.push((pause, sql));
            return refused("it was not begun");
        }
        match self.say(&sql).await {
            Outcome::Done { .. } => self.contents(tables).await,
            other => other,
        }
    }

    /// Waits until no statement runs that may be older than the routes.
    async fn nothing_runs(&self) -> Result<(), Outcome> {
        if self.bug == Some(Bug::DropWhileWritten) {
            return Ok(());
        }
        let begun = self.wire.now();
        loop {
            let reply = self.look("SHOW THREADS").await?;
            let waited = self.wire.now().since(begun).0;
            let old = read::rows(&reply).into_iter().flat_map(|rows| &rows.rows).any(|row| {
                let info = row.last().map(read::text).unwrap_or_default();
                let age = row.get(6).map(read::text).unwrap_or_default();
                !info.starts_with("SHOW THREADS") && !info.is_empty() && age_millis(&age) >= waited
            });
            if !old {
                return Ok(());
            }
            if self.left()? <= THREADS_PAUSE * 2 {
                return Err(refused("a statement is older than the routes"));
            }
            self.wire.sleep(THREADS_PAUSE).await;
        }
    }

    async fn contents(&self, tables: &[String]) -> Outcome {
        let mut contents = BTreeMap::new();
        for table in tables {
            match self.wire.sql(&self.node, say::content(table), LOOK_TIME_MAX).await {
                Answer::Sql(Ok(reply)) => match read::content(&reply) {
                    Some(content) => contents.insert(table.clone(), content),
                    None => return Outcome::Unknown { message: format!("'{table}' cannot be measured") },
                },
                // Dropped by an earlier try.
                Answer::Sql(Err(error)) if error.message.contains("unknown local table") => continue,
                other => {
                    return Outcome::Unknown {
                        message: format!("left, but '{table}' is not measured: {other:?}"),
                    };
                }
            };
        }
        Outcome::Done { contents }
    }

    async fn drop_copies(&self, copies: &BTreeMap<String, Content>) -> Outcome {
        match self.clusters().await {
            Err(unseen) => return unseen,
            Ok(clusters) => {
                let held = |table: &String| clusters.values().any(|cluster| cluster.tables.contains(table));
                if let Some(table) = copies.keys().find(|table| held(table)) {
                    return refused(format!("'{table}' is in a cluster: it is no copy that was left behind"));
                }
            }
        }
        let session = self.session();
        let mut ended = done();
        for (at, (table, content)) in copies.iter().enumerate() {
            let outcome = self.drop_copy(session, table, content).await;
            if let Some(stopped) = after(at, outcome) {
                ended = stopped;
                break;
            }
        }
        self.close(session).await;
        ended
    }

    async fn drop_copy(&self, session: u64, table: &str, left_with: &Content) -> Outcome {
        let absent = |message: &str| message.contains("unknown") || message.contains("absent");
        match self.say_on(Some(session), &format!("LOCK TABLES {table} READ")).await {
            Outcome::Done { .. } => {}
            Outcome::Refused { message } | Outcome::Unknown { message } if absent(&message) => return done(),
            other => return other,
        }
        let dropped = match self.look(&say::content(table)).await {
            Ok(reply)
                if read::content(&reply).as_ref() == Some(left_with)
                    || self.bug == Some(Bug::DropWhileWritten) =>
            {
                self.say_on(Some(session), &say::drop_shard(table)).await
            }
            Ok(_) => refused(format!("the copy of '{table}' was written to after it left its group")),
            Err(Outcome::Refused { message }) if absent(&message) => done(),
            Err(unseen) => unseen,
        };
        self.say_on(Some(session), "UNLOCK TABLES").await;
        dropped
    }

    async fn set_routes(&self, routes: &[RouteSpec]) -> Outcome {
        for (at, spec) in routes.iter().enumerate() {
            let outcome = self.set_route(spec).await;
            if let Some(stopped) = after(at, outcome) {
                return stopped;
            }
        }
        done()
    }

    async fn set_route(&self, spec: &RouteSpec) -> Outcome {
        let name = Ident(spec.route.table.as_str()).to_string();
        if self.sidecar.borrow_mut().undropped.remove(&spec.route.table) {
            self.sidecar.borrow_mut().later.extend([
                (ROUTE_LATER, format!("DROP TABLE {name} OPTION force=1")),
                (ROUTE_LATER + 100, say::create_route(&spec.route, &spec.schema, &self.node)),
            ]);
            return done();
        }
        let tables = match self.look("SHOW TABLES").await {
            Ok(reply) => reply,
            Err(unseen) => return unseen,
        };
        match read::pairs(&tables).find(|(table, _)| table == spec.route.table.as_str()) {
            None => {}
            Some((_, kind)) if kind != "shard" => {
                return refused(format!("{name} is no routing table of ours"));
            }
            Some(_) => {
                let sql = format!("SHOW CREATE TABLE {name} OPTION force=1");
                let reply = match self.look(&sql).await {
                    Ok(reply) => reply,
                    Err(unseen) => return unseen,
                };
                let route = read::pairs(&reply).next().and_then(|(_, text)| read::route(&text, &self.node));
                if route.as_ref() == Some(&spec.route) {
                    return done();
                }
                let dropped = self.say(&format!("DROP TABLE {name} OPTION force=1")).await;
                if !matches!(dropped, Outcome::Done { .. }) {
                    return dropped;
                }
            }
        }
        let create = say::create_route(&spec.route, &spec.schema, &self.node);
        for _ in 1..CREATE_TRIES {
            let outcome = self.say(&create).await;
            if !matches!(outcome, Outcome::Refused { .. }) || self.left().is_err() {
                return outcome;
            }
            self.wire.sleep(50).await;
        }
        match self.say(&create).await {
            Outcome::Refused { message } => {
                Outcome::Unknown { message: format!("{name} has no route now: {message}") }
            }
            other => other,
        }
    }

    /// A session's number that no other has: the time and this node's lock make it so.
    fn session(&self) -> u64 {
        1 << 40 | self.wire.now().0
    }

    async fn close(&self, session: u64) {
        self.wire.ask(Ask::Close { to: self.node.clone(), session }).await;
    }
}

/// `12ms` or `3s`.
fn age_millis(text: &str) -> u64 {
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match text.strip_suffix("ms") {
        Some(millis) => number(millis),
        None => text.strip_suffix('s').map_or(u64::MAX, |seconds| number(seconds).saturating_mul(1_000)),
    }
}
