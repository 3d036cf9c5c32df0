//! What the last backups say.

use super::alert;
use crate::Controller;
use crate::backup::Backup;
use model::BackupState;
use model::TableName;
use model::api::Alert;
use std::collections::BTreeMap;

impl Controller {
    /// Tables whose newest backup failed: nobody should find that out when it is needed.
    pub(super) fn of_backups(&self) -> Vec<Alert> {
        let mut newest: BTreeMap<(&TableName, bool), &Backup> = BTreeMap::new();
        // An id orders by table, then time.
        for backup in self.state.backups.values().filter(|backup| backup.state != BackupState::Running) {
            if self.state.tables.contains_key(&backup.id.table) {
                newest.insert((&backup.id.table, backup.with_data.is_some()), backup);
            }
        }
        let failed = newest.into_values().filter(|backup| backup.state == BackupState::Failed);
        let told = failed.map(|backup| {
            let operation = self.state.finished.iter().find(|operation| operation.id == backup.operation);
            let why = operation.and_then(|operation| operation.error.clone());
            let why = why.unwrap_or_else(|| "the operation is forgotten".to_owned());
            let (what, repeat) = if backup.with_data.is_some() {
                ("backup", "mend what it says and make another: `shardwright backup create`")
            } else {
                ("record", "mend what it says: one is written before copies are moved")
            };
            alert(
                "warning",
                "backup_failed",
                format!("the last {what} of table '{}' failed ({}): {why}", backup.id.table, backup.id),
                repeat,
                &[("table", backup.id.table.to_string())],
            )
        });
        told.collect()
    }
}
