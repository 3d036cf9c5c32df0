//! Physical shards: made with exactly the declared columns, or refused.

use super::{LOOK_TIME_MAX, Progress, Turn, done, refused};
use manticore::outcome::is_already_exists;
use manticore::statement::ShardTable;
use manticore::{Statement, columns};
use model::{Action, Outcome, Schema};

impl Turn<'_> {
    pub(super) async fn create_tables(&self, action: &Action, tables: &[String], schema: &Schema) -> Outcome {
        let statements = match self.statements(action, false) {
            Ok(statements) => statements,
            Err(refused) => return refused,
        };
        let mut progress = Progress::default();
        for (statement, table) in statements.iter().zip(tables) {
            let mut outcome = self.say(statement).await;
            if matches!(&outcome, Outcome::Refused { message } if is_already_exists(message)) {
                outcome = self.same_table(statement, table, schema).await;
            }
            if let Some(stopped) = progress.after(outcome) {
                return stopped;
            }
        }
        done()
    }

    /// A table of that name is there: done when it is the very one, left from an earlier try.
    async fn same_table(&self, statement: &Statement, table: &str, schema: &Schema) -> Outcome {
        let Statement::CreateShard { table: shard, .. } = statement else {
            return refused(format!("'{table}' exists"));
        };
        match self.clusters().await {
            Ok(clusters) => {
                if let Some((group, _)) = clusters.iter().find(|(_, cluster)| cluster.tables.contains(table))
                {
                    return refused(format!("'{table}' exists and is in the cluster '{group}'"));
                }
            }
            Err(unseen) => return unseen,
        }
        match self.described(shard).await {
            Ok(Some(found)) if columns::canonical(&found) == columns::canonical(schema) => done(),
            Ok(Some(found)) => {
                let found = columns::canonical(&found);
                refused(format!("'{table}' exists with other columns: {found:?}"))
            }
            Ok(None) => refused(format!("'{table}' exists but cannot be described")),
            Err(unseen) => unseen,
        }
    }

    async fn described(&self, table: &ShardTable) -> Result<Option<Schema>, Outcome> {
        let time_max = LOOK_TIME_MAX.min(self.remaining()?);
        let described = self.sidecar.client.describe(&self.sidecar.node, table, time_max).await;
        described.map_err(|error| refused(format!("'{table}' exists and does not show its columns: {error}")))
    }
}
