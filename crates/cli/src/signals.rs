//! Ctrl-C and SIGTERM: the request to end. SIGHUP: to end, or for `serve` to read its settings again.

use crate::output::CommandError;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Waits for the request to end; SIGHUP counts too, as a closed terminal means that nobody is there any more.
#[derive(Debug)]
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

/// Asks for another reading of the settings with every SIGHUP. Must run inside a runtime.
pub fn reload() -> Result<mpsc::Receiver<()>, CommandError> {
    let mut hang_up = signal(SignalKind::hangup()).map_err(|error| fail(&error))?;
    // One that waits already will read what is there then.
    let (ask, asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            if ask.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(asked)
}

fn fail(error: &io::Error) -> CommandError {
    CommandError::failed(format!("cannot listen for signals: {error}"), "check the limits of this process")
}

/// Must run inside a runtime. From then on the signals no longer end the process by themselves.
pub fn stop() -> Result<Stop, CommandError> {
    Ok(Stop { hang_up: Some(signal(SignalKind::hangup()).map_err(|error| fail(&error))?), ..terminate()? })
}

/// The same without SIGHUP, which then is for something else.
pub fn terminate() -> Result<Stop, CommandError> {
    Ok(Stop {
        interrupt: signal(SignalKind::interrupt()).map_err(|error| fail(&error))?,
        terminate: signal(SignalKind::terminate()).map_err(|error| fail(&error))?,
        hang_up: None,
    })
}

impl Stop {
    pub async fn wait(&mut self) {
        let signal = &mut self.hang_up;
        let closed = async {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = closed => {}
        }
    }
}
