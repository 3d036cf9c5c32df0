//! Routing tables: written only where they differ, each gap as short as two statements.

use super::{LOOK_TIME_MAX, Progress, Turn, done, refused};
use manticore::declared::{self, DeclaredRoute};
use manticore::render::create_route;
use manticore::{Reply, Statement, columns};
use model::{Outcome, RouteSpec, TableName};
use std::time::Duration;

/// In the gap between drop and create a failure is tried again, since clients wait: this often, and so long apart.
const CREATE_TRIES: u32 = 5;
const CREATE_PAUSE: Duration = Duration::from_millis(50);

/// How searchd refuses a table whose directory is there, left by one that nobody declares any more.
const REMAINS: &str = "directory is not empty";

/// What has the name of a routing table.
enum Present {
    Nothing,
    Route(Box<DeclaredRoute>),
    /// Something that is no routing table of ours: never dropped.
    Other(String),
}

impl Turn<'_> {
    pub(super) async fn set_routes(&self, routes: &[RouteSpec]) -> Outcome {
        let mut progress = Progress::default();
        for spec in routes {
            let outcome = self.set_route(spec).await;
            if let Some(stopped) = progress.after(outcome) {
                return stopped;
            }
        }
        done()
    }

    async fn set_route(&self, spec: &RouteSpec) -> Outcome {
        let table = &spec.route.table;
        // Made first: what cannot be written must not cost the route that is there.
        let create = match create_route(&spec.route, &spec.schema, &self.sidecar.node) {
            Ok(create) => create,
            Err(error) => return refused(error.to_string()),
        };
        match self.present(table).await {
            Ok(Present::Nothing) => {}
            Ok(Present::Route(present)) if is_same(&present, spec) => return done(),
            Ok(Present::Route(_)) => {
                let dropped = self.say(&Statement::DropRoute { table: table.clone() }).await;
                if !matches!(dropped, Outcome::Done { .. }) {
                    return dropped;
                }
            }
            Ok(Present::Other(reason)) => return refused(foreign(table, &reason)),
            Err(unseen) => return unseen,
        }
        let created = self.create(&create, table).await;
        // Also when it failed: what is held looks for itself, and an old statement stays old.
        self.sidecar.routes_written();
        match created {
            // The old route is gone and the new one is not there.
            Outcome::Refused { message } => {
                Outcome::Unknown { message: format!("'{table}' has no route now: {message}") }
            }
            other => other,
        }
    }

    async fn create(&self, create: &Statement, table: &TableName) -> Outcome {
        let mut tries = 1;
        loop {
            let outcome = self.say(create).await;
            let remains = match &outcome {
                Outcome::Refused { message } | Outcome::Unknown { message } => message.contains(REMAINS),
                Outcome::Done { .. } => return outcome,
            };
            let again = remains || matches!(outcome, Outcome::Refused { .. });
            if !again || tries == CREATE_TRIES || self.remaining().is_err() {
                return outcome;
            }
            tries += 1;
            if remains && self.take_remains_away(table) {
                continue;
            }
            tokio::time::sleep(CREATE_PAUSE).await;
        }
    }

    fn take_remains_away(&self, table: &TableName) -> bool {
        match crate::gate::take_remains_away(&self.sidecar.data_dir, table.as_str()) {
            Ok(taken) => {
                tracing::warn!(%table, taken, "the directory of an old routing table was in the way of the new one");
                taken
            }
            Err(error) => {
                tracing::error!(%table, %error, "the directory of an old routing table is in the way of the new one");
                false
            }
        }
    }

    pub(super) async fn drop_routes(&self, tables: &[TableName]) -> Outcome {
        let mut progress = Progress::default();
        for table in tables {
            let outcome = match self.present(table).await {
                Ok(Present::Nothing) => done(),
                Ok(Present::Route(_)) => {
                    let dropped = self.say(&Statement::DropRoute { table: table.clone() }).await;
                    self.sidecar.routes_written();
                    dropped
                }
                Ok(Present::Other(reason)) => refused(foreign(table, &reason)),
                Err(unseen) => unseen,
            };
            if let Some(stopped) = progress.after(outcome) {
                return stopped;
            }
        }
        done()
    }

    /// What has the name now: first whether there is a table at all, since errors about a missing one vary.
    async fn present(&self, table: &TableName) -> Result<Present, Outcome> {
        let listed = match self.look(&Statement::ShowTables).await? {
            Reply::Rows(rows) => manticore::status::table_list(&rows)
                .map_err(|error| refused(format!("not begun: {error}")))?,
            other => return Err(refused(format!("not begun, the node does not list its tables: {other:?}"))),
        };
        match listed.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(table.as_str())) {
            None => return Ok(Present::Nothing),
            Some((_, kind)) if kind != "shard" => {
                return Ok(Present::Other(format!("it is of type '{kind}'")));
            }
            Some(_) => {}
        }
        match self.look(&Statement::ShowRoute { table: table.clone() }).await? {
            Reply::Rows(rows) => match declared::route(&rows, &self.sidecar.node) {
                Ok(route) => Ok(Present::Route(Box::new(route))),
                Err(error) => Ok(Present::Other(error.to_string())),
            },
            other => Err(refused(format!("not begun, the node does not show '{table}': {other:?}"))),
        }
    }

    async fn look(&self, statement: &Statement) -> Result<Reply, Outcome> {
        let time_max = LOOK_TIME_MAX.min(self.remaining()?);
        let seen = self.sidecar.client.execute(&self.sidecar.node, statement, time_max).await;
        seen.map_err(|error| refused(format!("not begun: {error}")))
    }
}

fn foreign(table: &TableName, reason: &str) -> String {
    format!(
        "'{table}' is there and is no routing table of ours ({reason}): it was left alone; rename or drop it"
    )
}

/// Whether the node shows the route as it would after writing `spec`.
fn is_same(present: &DeclaredRoute, spec: &RouteSpec) -> bool {
    let same_columns = columns::canonical(&present.schema) == columns::canonical(&spec.schema);
    same_columns && present.route == spec.route
}
