//! The stock sidecar behind this one: started, watched, started again, and given what is not ours.

use super::Sidecar;
use crate::shutdown::Shutdown;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use reqwest::Client;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// As long as searchd itself waits for a sidecar's line.
const START_TIME_MAX: Duration = Duration::from_secs(3);
/// Before it is started again: it may be dying at once, again and again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// searchd waits no longer than its clients do; this only bounds what is forgotten.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(10);

/// Why a request was not answered by the upstream sidecar.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("it is not running")]
    Down,
    #[error("{0}")]
    Call(#[from] reqwest::Error),
    #[error("{0}")]
    Answer(#[from] axum::http::Error),
}

#[derive(Debug)]
pub(super) struct Upstream {
    program: String,
    arguments: Vec<String>,
    client: Client,
    address: Mutex<Option<SocketAddr>>,
}

impl Upstream {
    /// `command` is a program and its arguments, divided by spaces; searchd's flags follow.
    pub(super) fn new(
        runner: Vec<String>,
        command: &str,
        flags: Vec<String>,
    ) -> Result<Self, reqwest::Error> {
        let mut words = runner.into_iter().chain(command.split_whitespace().map(str::to_owned));
        let program = words.next().unwrap_or_default();
        let arguments = words.chain(flags).collect();
        let client = Client::builder().no_proxy().timeout(ANSWER_TIME_MAX).build()?;
        Ok(Self { program, arguments, client, address: Mutex::new(None) })
    }

    /// The request as it came; the answer as it comes.
    pub(super) async fn forward(&self, headers: HeaderMap, body: Bytes) -> Result<Response, UpstreamError> {
        let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        let address = address.ok_or(UpstreamError::Down)?;
        let answer =
            self.client.post(format!("http://{address}/")).headers(headers).body(body).send().await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(kind) = answer.headers().get("content-type") {
            response = response.header("content-type", kind);
        }
        Ok(response.body(Body::from(answer.bytes().await?))?)
    }

    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set(&self, address: Option<SocketAddr>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    fn start(&self) -> std::io::Result<(Child, Lines<BufReader<ChildStdout>>)> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("it has no stdout"))?;
        Ok((child, BufReader::new(stdout).lines()))
    }

    /// One life of the process: its start line, then everything it says, until it ends.
    async fn live(&self) -> std::io::Result<()> {
        let (mut child, mut lines) = self.start()?;
        let line = tokio::time::timeout(START_TIME_MAX, lines.next_line())
            .await
            .map_err(|_| std::io::Error::other("it did not say within 3 s where it listens"))??;
        let address = line
            .as_deref()
            .and_then(start_line)
            .ok_or_else(|| std::io::Error::other(format!("its first line is not a sidecar's: {line:?}")))?;
        tracing::info!(%address, "the upstream sidecar is up");
        self.set(Some(address));
        // Its output is read to the end, or it would block on a full pipe.
        while let Some(line) = lines.next_line().await? {
            tracing::info!(line, "upstream sidecar");
        }
        child.wait().await.map(drop)
    }
}

/// Keeps the upstream sidecar running until `shutdown`.
pub(super) async fn supervise(sidecar: Arc<Sidecar>, shutdown: Shutdown) {
    let Some(upstream) = &sidecar.upstream else { return };
    loop {
        let ended = tokio::select! {
            () = shutdown.wait() => return,
            ended = upstream.live() => ended,
        };
        upstream.set(None);
        match ended {
            Ok(()) => {
                tracing::warn!(program = upstream.program, "the upstream sidecar ended; it is started again");
            }
            Err(error) => {
                tracing::error!(program = upstream.program, %error, "the upstream sidecar failed; it is started again");
            }
        }
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(RESTART_PAUSE) => {}
        }
    }
}

/// The address in `Buddy v3.1 started 127.0.0.1:41234`.
fn start_line(line: &str) -> Option<SocketAddr> {
    let (buddy, address) = line.trim().rsplit_once(" started ")?;
    if !buddy.starts_with("Buddy v") {
        return None;
    }
    address.trim_start_matches("http://").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_line_is_read() {
        let address: SocketAddr = "127.0.0.1:41234".parse().expect("an address");
        assert_eq!(start_line("Buddy v3.1.2 started 127.0.0.1:41234"), Some(address));
        for line in ["", "started 127.0.0.1:1", "Buddy v3 started", "Buddy v3 started localhost"] {
            assert_eq!(start_line(line), None, "{line}");
        }
    }
}
