//! Ctrl-C and SIGTERM: the request to end.

use crate::output::CommandError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for the request to end; SIGHUP counts too, as a closed terminal means that nobody is there any more.
#[derive(Debug)]
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// Must run inside a runtime. From then on the signals no longer end the process by themselves.
pub fn stop() -> Result<Stop, CommandError> {
    let fail = |error: std::io::Error| {
        CommandError::failed(
            format!("cannot listen for signals: {error}"),
            "check the limits of this process",
        )
    };
    Ok(Stop {
        interrupt: signal(SignalKind::interrupt()).map_err(fail)?,
        terminate: signal(SignalKind::terminate()).map_err(fail)?,
        hang_up: signal(SignalKind::hangup()).map_err(fail)?,
    })
}

impl Stop {
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
