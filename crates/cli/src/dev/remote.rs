//! How `dev add|kill|stop|start` reach the process that runs the cluster: one line of JSON there, one back, over
//! loopback, with a secret that only the directory's owner can read.

use super::layout::{remote_file, remove, write_json};
use crate::output::{CommandError, Failure};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// A request is a word and a name.
const LINE_BYTES_MAX: u64 = 4096;
/// Who connects and says nothing is no client of ours.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// A node that joins while large copies move can take this long.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);
/// Requests are carried out one after the other; more than a few waiting means that something hangs.
const REQUESTS_MAX: usize = 16;

/// What may be asked of a running cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", content = "node")]
pub enum Request {
    Add,
    Kill(String),
    Stop(String),
    Start(String),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The node it concerned.
    Done {
        node: model::NodeId,
    },
    Error {
        exit_code: u8,
        message: String,
        hint: String,
    },
}

/// A request with the way back to who asked.
pub type Asked = (Request, oneshot::Sender<Answer>);

#[derive(Debug, Serialize, Deserialize)]
struct Contact {
    address: SocketAddr,
    secret: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    secret: String,
    #[serde(flatten)]
    request: Request,
}

/// Listens for requests; the file that says where goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    file: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    pub async fn open(file: PathBuf) -> Result<(Self, mpsc::Receiver<Asked>), CommandError> {
        let fail = |error: std::io::Error| {
            CommandError::failed(
                format!("cannot listen for `dev` commands: {error}"),
                "check loopback networking",
            )
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let secret = secret().map_err(fail)?;
        write_json(&file, &Contact { address, secret: secret.clone() })?;
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, secret.clone(), sender.clone()));
            }
        });
        Ok((Self { file, task }, requests))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        remove(&self.file);
    }
}

async fn converse(stream: TcpStream, secret: String, sender: mpsc::Sender<Asked>) {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reading.take(LINE_BYTES_MAX));
    let read = tokio::time::timeout(READ_TIMEOUT, reader.read_line(&mut line)).await;
    let Ok(Ok(_)) = read else { return };
    let refused = |message: &str| Answer::Error {
        exit_code: Failure::Refused.exit_code(),
        message: message.to_owned(),
        hint: "use the `dev` of the same version and user".to_owned(),
    };
    let answer = match serde_json::from_str::<Letter>(&line) {
        Ok(letter) if letter.secret == secret => {
            let (reply, answer) = oneshot::channel();
            match sender.send((letter.request, reply)).await {
                Ok(()) => answer.await.unwrap_or_else(|_| refused("the cluster is stopping")),
                Err(_stopping) => refused("the cluster is stopping"),
            }
        }
        _ => refused("this is no request of ours"),
    };
    if let Ok(mut text) = serde_json::to_string(&answer) {
        text.push('\n');
        // Who asked may have gone; then nobody wants the answer.
        let _gone = writing.write_all(text.as_bytes()).await;
    }
}

fn secret() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
}

/// Asks the cluster that runs in `dir`.
pub async fn ask(dir: &Path, request: Request) -> Result<model::NodeId, CommandError> {
    let none = || {
        let message = format!("no cluster runs in {}", dir.display());
        CommandError::new(
            Failure::Unreachable,
            message,
            "start one with `shardwright dev`, or give its --dir",
        )
    };
    let bytes = std::fs::read(remote_file(dir)).map_err(|_| none())?;
    let contact: Contact = serde_json::from_slice(&bytes).map_err(|_| none())?;
    let mut stream = TcpStream::connect(contact.address).await.map_err(|_| none())?;
    let broken = |error: std::io::Error| {
        CommandError::failed(
            format!("the cluster in {} did not answer: {error}", dir.display()),
            "see where it runs",
        )
    };
    let letter = Letter { secret: contact.secret, request };
    let mut line = serde_json::to_string(&letter).map_err(|error| broken(error.into()))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await.map_err(broken)?;
    let mut answer = String::new();
    let reading = stream.take(LINE_BYTES_MAX).read_to_string(&mut answer).await;
    let patience = async { reading };
    tokio::time::timeout(ANSWER_TIMEOUT, patience)
        .await
        .map_err(|_| broken(std::io::ErrorKind::TimedOut.into()))?
        .map_err(broken)?;
    match serde_json::from_str(&answer).map_err(|error| broken(error.into()))? {
        Answer::Done { node } => Ok(node),
        Answer::Error { exit_code, message, hint } => {
            let all = [Failure::Usage, Failure::Refused, Failure::Unreachable];
            let failure = all.into_iter().find(|one| one.exit_code() == exit_code).unwrap_or(Failure::Failed);
            Err(CommandError::new(failure, message, hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_the_cluster_and_its_answer_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(ask(dir.path(), Request::Add).await.expect_err("nobody").failure, Failure::Unreachable);
        let (listener, mut requests) = Listener::open(remote_file(dir.path())).await.expect("open");
        let node = model::NodeId::new("127.0.0.1:9308").expect("valid");
        let answered = node.clone();
        tokio::spawn(async move {
            let (request, reply) = requests.recv().await.expect("a request");
            assert_eq!(request, Request::Kill("2".into()));
            reply.send(Answer::Done { node: answered }).expect("waiting");
            let (_, reply) = requests.recv().await.expect("a request");
            let error =
                Answer::Error { exit_code: 3, message: "down already".into(), hint: "start it".into() };
            reply.send(error).expect("waiting");
        });
        assert_eq!(ask(dir.path(), Request::Kill("2".into())).await.expect("done"), node);
        let error = ask(dir.path(), Request::Kill("2".into())).await.expect_err("refused");
        assert_eq!((error.failure, error.line()), (Failure::Refused, "error: down already; start it".into()));
        drop(listener);
        assert!(!remote_file(dir.path()).exists());
    }

    #[tokio::test]
    async fn who_does_not_know_the_secret_is_turned_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let (_listener, mut requests) = Listener::open(remote_file(dir.path())).await.expect("open");
        let bytes = std::fs::read(remote_file(dir.path())).expect("written");
        let mut contact: Contact = serde_json::from_slice(&bytes).expect("JSON");
        contact.secret = "guess".into();
        write_json(&remote_file(dir.path()), &contact).expect("written");
        assert_eq!(ask(dir.path(), Request::Add).await.expect_err("refused").failure, Failure::Refused);
        assert!(requests.try_recv().is_err());
    }
}
