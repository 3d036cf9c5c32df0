//! Disks of nodes that are full: searchd goes on as a synced member then, and is not one.

use super::alert;
use crate::Controller;
use model::api::Alert;

/// A binlog of searchd's grows by up to this before the next look at the disk.
const FREE_BYTES_MIN: u64 = 64 << 20;

impl Controller {
    pub(super) fn of_disks(&self) -> Vec<Alert> {
        let free = |node| self.machine(node).and_then(|machine| machine.disk_free_bytes);
        let full = self.state.live_nodes().filter_map(|node| Some((node, free(node)?)));
        let alerts = full.filter(|(_, free)| *free < FREE_BYTES_MIN).map(|(node, free)| {
            alert(
                "critical",
                "disk_full",
                format!(
                    "the data directory of {node} has {free} bytes free: without any searchd cannot write its binlog, writes hang on \
                     every node, and copies on it come to lack rows although they are shown as synced"
                ),
                "free some; when it was full already stop the node at once, free some, and start it when it has been away for \
                 longer than node_loss_grace_seconds: its copies are then made anew (docs/runbooks/disk-full.md)",
                &[("node", node.to_string())],
            )
        });
        alerts.collect()
    }
}
