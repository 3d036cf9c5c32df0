//! Ends the sidecar when the node that started it is gone, so that a new one does not meet an old sidecar.

use crate::shutdown::Shutdown;
use manticore::handover::EXIT_WITH_STDIN_ENV;
use std::io::Read as _;
use std::os::unix::process::parent_id;
use std::time::Duration;
use tokio::sync::oneshot;

/// Soon enough that a restarted searchd finds no second sidecar at work, and no load.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A signal that comes with `shutdown`, when the parent process has changed, or with the end of stdin for a
/// parent that announced it.
pub(super) fn or_gone(shutdown: Shutdown) -> Shutdown {
    let (trigger, either) = Shutdown::new();
    let parent = parent_id();
    let stdin_end = stdin_end();
    tokio::spawn(async move {
        tokio::pin!(stdin_end);
        while parent_id() == parent {
            tokio::select! {
                () = shutdown.wait() => break,
                () = &mut stdin_end => break,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
        trigger.pull();
    });
    either
}

/// Returns with the end of stdin; never, when the parent did not say that it holds the other end.
async fn stdin_end() {
    if std::env::var_os(EXIT_WITH_STDIN_ENV).is_none() {
        return std::future::pending().await;
    }
    let (ended, end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        // A parent that is gone closes the pipe; an error is as good as an end.
        while std::io::stdin().read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
        drop(ended);
    });
    // Nothing is ever sent: the end of the thread is the news.
    let _ended = end.await;
}
