//! The sidecar's process: started as searchd starts its `buddy_path`, restarted when it dies, ended with the node.
//!
//! It holds the other end of the child's stdin: a child that knows [`handover::EXIT_WITH_STDIN_ENV`] ends with it,
//! even when this process is killed.

use manticore::handover;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::Instant;

/// As searchd's `MANTICORE_BUDDY_TIMEOUT`: the line must come within it.
const START_TIME_MAX: Duration = Duration::from_secs(3);
/// A program that fails at once is not started in a circle; one that ran a while is back almost at once.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Having run so long, it is taken for healthy again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// To end by itself once its stdin has ended.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(2);
/// One line of chatter; what is longer is cut into several.
const LINE_BYTES_MAX: u64 = 8 << 10;
/// How many threads it is told to use.
const THREADS: usize = 4;

/// Where the sidecar listens, while it does; nowhere on a node without one.
#[derive(Clone, Debug)]
pub(crate) struct SidecarAddress(watch::Receiver<Option<String>>);

impl SidecarAddress {
    /// The address, and the side that sets it.
    pub(crate) fn new() -> (watch::Sender<Option<String>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

/// What is started.
#[derive(Debug)]
pub(crate) struct Program {
    /// With its first arguments.
    pub(crate) command: Vec<String>,
    /// The node's own HTTP address.
    pub(crate) http: String,
    /// `BUDDY_TOKEN`, where the node has users.
    pub(crate) token: Option<String>,
}

/// The supervisor; dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Sidecar {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Sidecar {
    /// Starts the program and waits until it listens, or did not in time.
    pub(crate) async fn start(program: Program, address: watch::Sender<Option<String>>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tried, mut first_try) = watch::channel(false);
        let task = tokio::spawn(supervise(program, address, tried, stopped));
        let _ = first_try.wait_for(|tried| *tried).await;
        Self { stop, task }
    }

    /// Ends the child and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

async fn supervise(
    program: Program,
    address: watch::Sender<Option<String>>,
    tried: watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pause = RESTART_PAUSE_MIN;
    while !*stopped.borrow() {
        let started = Instant::now();
        match spawn(&program) {
            Ok(child) => life(child, &address, &tried, &mut stopped).await,
            Err(error) => {
                tracing::error!(program = program.command.first(), %error, "the sidecar cannot be started");
            }
        }
        address.send_replace(None);
        tried.send_replace(true);
        pause = if started.elapsed() > HEALTHY_AFTER { RESTART_PAUSE_MIN } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = pulled(&mut stopped) => return,
        }
        pause = (pause * 2).min(RESTART_PAUSE_MAX);
    }
}

/// Returns once the signal was given, or nobody is left to give it.
async fn pulled(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn spawn(program: &Program) -> std::io::Result<Child> {
    let (name, arguments) =
        program.command.split_first().ok_or_else(|| std::io::Error::other("no program is named"))?;
    Command::new(name)
        .args(arguments)
        .envs(program.token.iter().map(|token| ("BUDDY_TOKEN", token)))
        .arg(format!("--listen=http://{}", program.http))
        .arg("--bind=127.0.0.1")
        .arg(format!("--threads={THREADS}"))
        .arg("--log-level=info")
        .env(handover::EXIT_WITH_STDIN_ENV, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// From the start of one child to its end.
async fn life(
    mut child: Child,
    address: &watch::Sender<Option<String>>,
    tried: &watch::Sender<bool>,
    stopped: &mut watch::Receiver<bool>,
) {
    let stdin = child.stdin.take();
    let Some(stdout) = child.stdout.take() else { return };
    let mut lines = BufReader::new(stdout);
    let listening = tokio::select! {
        found = tokio::time::timeout(START_TIME_MAX, started(&mut lines)) => found.ok().flatten(),
        () = pulled(stopped) => None,
    };
    match listening {
        Some(found) => {
            tracing::info!(address = found, "the sidecar has started");
            address.send_replace(Some(found));
        }
        None if *stopped.borrow() => {}
        None => {
            tracing::error!(
                "the sidecar said no 'Buddy v… started HOST:PORT' within 3 s: it is started again"
            );
            let _ = child.kill().await;
            return;
        }
    }
    tried.send_replace(true);
    let chatter = tokio::spawn(chatter(lines));
    tokio::select! {
        ended = child.wait() => tracing::warn!(?ended, "the sidecar ended: it is started again"),
        () = pulled(stopped) => {
            drop(stdin);
            if tokio::time::timeout(GOODBYE_TIME_MAX, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
    chatter.abort();
}

async fn started(lines: &mut BufReader<ChildStdout>) -> Option<String> {
    while let Some(line) = line(lines).await {
        if let Some(address) = handover::started_address(&line) {
            return Some(address.to_owned());
        }
        tracing::info!(target: "sidecar", "{}", line.trim_end());
    }
    None
}

/// A pipe that nobody reads would stop the child some day.
async fn chatter(mut lines: BufReader<ChildStdout>) {
    while let Some(line) = line(&mut lines).await {
        tracing::info!(target: "sidecar", "{}", line.trim_end());
    }
}

async fn line(lines: &mut BufReader<impl AsyncRead + Unpin>) -> Option<String> {
    let mut bytes = Vec::new();
    match lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).await {
        Ok(1..) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(0) | Err(_) => None,
    }
}
