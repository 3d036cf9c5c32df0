//! Ends the sidecar when the searchd that started it is gone, so that a new one does not meet an old sidecar.

use crate::shutdown::Shutdown;
use std::os::unix::process::parent_id;
use std::time::Duration;

/// Soon enough that a restarted searchd finds no second sidecar at work, and no load.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A signal that comes with `shutdown` or when the parent process has changed.
pub(super) fn or_gone(shutdown: Shutdown) -> Shutdown {
    let (trigger, either) = Shutdown::new();
    let parent = parent_id();
    tokio::spawn(async move {
        while parent_id() == parent {
            tokio::select! {
                () = shutdown.wait() => break,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
        trigger.pull();
    });
    either
}
