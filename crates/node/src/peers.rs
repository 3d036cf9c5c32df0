//! Messages between engines: one outgoing connection per peer, in order, with a bounded queue.
//!
//! A connection begins with a greeting (magic, version, the sender's node id) and then carries frames of
//! [`PeerMessage`] bytes behind their length. A broken one is reported at once, and what the engine handed out
//! before it hears of that is never sent. Who a peer is and where it listens, its HTTP listener says (`GET /replication`).

use crate::machine::Machine;
use crate::wire::{self, BoxWire, NodeTls};
use engine::{Input, PeerMessage};
use model::NodeId;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter, WriteHalf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

/// Messages that wait for one peer. A member that stands still gets no more; it is cut off and comes back by itself.
const QUEUE_LENGTH_MAX: usize = 8192;
/// The same in bytes: a few dozen pieces of a state transfer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// One message: a statement at its limit, turned into rows.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Looking up, connecting and greeting on loopback take milliseconds.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// A peer that takes nothing for so long is gone as far as the engine is concerned.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two tries to reach a peer: a dead one costs little, one that starts is found soon.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Peers and strangers that connect; each holds a small buffer.
const INCOMING_MAX: usize = 256;
const GREETING_MAGIC: &[u8; 8] = b"shwpeer1";
/// A node id is at most a host name and a port.
const GREETING_NAME_MAX: usize = 300;

/// What `GET /replication` answers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub(crate) node: NodeId,
    pub(crate) uuid: String,
    pub(crate) replication: String,
    pub(crate) mysql: String,
}

/// The outgoing side; owned by the engine's thread.
#[derive(Debug)]
pub(crate) struct Peers {
    own: NodeId,
    machine: Machine,
    http: reqwest::Client,
    tls: Option<NodeTls>,
    runtime: tokio::runtime::Handle,
    links: BTreeMap<NodeId, Link>,
    unsent: Arc<Unsent>,
}

/// How many messages are not yet handed to the system: a clean stop waits for none.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    messages: AtomicUsize,
    changed: tokio::sync::Notify,
}

impl Unsent {
    fn done(&self, messages: usize) {
        self.messages.fetch_sub(messages, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Returns when everything queued so far has gone out or was dropped.
    pub(crate) async fn none(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.messages.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// A message on its way out, with the count of its link when the engine handed it out.
#[derive(Debug)]
struct Message {
    reports: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Link {
    queue: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    /// Counts reports that the peer could not be reached: a message of an earlier count was reported as lost, and is
    /// never sent.
    reports: Arc<AtomicU64>,
    /// Set when a message did not fit: the connection must break, for one without that message would be a lie.
    overflow: Arc<tokio::sync::Notify>,
}

impl Peers {
    pub(crate) fn new(
        own: NodeId,
        machine: Machine,
        (http, tls): (reqwest::Client, Option<NodeTls>),
        runtime: tokio::runtime::Handle,
        unsent: Arc<Unsent>,
    ) -> Self {
        Self { own, machine, http, tls, runtime, links: BTreeMap::new(), unsent }
    }

    /// Queues a message; never waits.
    pub(crate) fn send(&mut self, to: &NodeId, message: &PeerMessage) {
        let bytes = message.encode();
        let length = bytes.len();
        let link = self.links.get(to).cloned().unwrap_or_else(|| self.open(to.clone()));
        let queued = link.bytes.fetch_add(length, Ordering::AcqRel) + length;
        self.unsent.messages.fetch_add(1, Ordering::AcqRel);
        let fits = length <= FRAME_BYTES_MAX && queued <= QUEUE_BYTES_MAX.max(length);
        let message = Message { reports: link.reports.load(Ordering::Acquire), bytes };
        if !fits || link.queue.try_send(message).is_err() {
            link.bytes.fetch_sub(length, Ordering::AcqRel);
            link.overflow.notify_one();
            self.unsent.done(1);
        }
    }

    /// The engine is about to hear that what it handed out for `peer` is lost: now it is.
    pub(crate) fn lose(&mut self, peer: &NodeId) {
        if let Some(link) = self.links.get(peer) {
            link.reports.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn open(&mut self, to: NodeId) -> Link {
        let (queue, messages) = mpsc::channel(QUEUE_LENGTH_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let reports = Arc::new(AtomicU64::new(0));
        let overflow = Arc::new(tokio::sync::Notify::new());
        let outgoing = Outgoing {
            own: self.own.clone(),
            to: to.clone(),
            machine: self.machine.clone(),
            http: self.http.clone(),
            tls: self.tls.clone(),
            messages,
            bytes: bytes.clone(),
            reports: reports.clone(),
            overflow: overflow.clone(),
            unsent: self.unsent.clone(),
        };
        self.runtime.spawn(outgoing.run());
        let link = Link { queue, bytes, reports, overflow };
        self.links.insert(to, link.clone());
        link
    }
}

/// The task behind one link; ends with its queue.
struct Outgoing {
    own: NodeId,
    to: NodeId,
    machine: Machine,
    http: reqwest::Client,
    tls: Option<NodeTls>,
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
    reports: Arc<AtomicU64>,
    overflow: Arc<tokio::sync::Notify>,
    unsent: Arc<Unsent>,
}

impl Outgoing {
    async fn run(mut self) {
        while let Some(first) = self.messages.recv().await {
            self.bytes.fetch_sub(first.bytes.len(), Ordering::AcqRel);
            if first.reports < self.reports.load(Ordering::Acquire) {
                self.unsent.done(1);
                continue;
            }
            // Until a connection stands nothing can have been delivered, and that is certain.
            let (certain, reason) = match tokio::time::timeout(CONNECT_TIME_MAX, self.connect()).await {
                Ok(Ok(stream)) => match self.carry(stream, first.bytes).await {
                    Some(reason) => (false, reason),
                    None => return,
                },
                Ok(Err(reason)) => (true, reason),
                Err(_) => (true, "no answer".to_owned()),
            };
            if certain {
                self.unsent.done(1);
            }
            tracing::debug!(peer = %self.to, certain, reason, "peer not reached");
            self.machine.peer_lost(&self.to, certain).await;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn connect(&self) -> Result<BoxWire, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let introduction = introduction(&self.http, scheme, &self.to).await?;
        let stream = wire::connect(&introduction.replication, self.tls.as_ref()).await;
        stream.map_err(|error| error.to_string())
    }

    /// Sends until the connection breaks (why), or the queue ends (`None`).
    async fn carry(&mut self, stream: BoxWire, first: Vec<u8>) -> Option<String> {
        let (mut reader, writer) = tokio::io::split(stream);
        let mut writer = BufWriter::with_capacity(64 << 10, writer);
        let greeted = async {
            writer.write_all(GREETING_MAGIC).await?;
            write_frame(&mut writer, self.own.as_str().as_bytes()).await?;
            write_frame(&mut writer, &first).await?;
            writer.flush().await
        };
        let greeted = tokio::time::timeout(WRITE_TIME_MAX, greeted).await;
        self.unsent.done(1);
        match greeted {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(error.to_string()),
            Err(_) => return Some("it takes no more".to_owned()),
        }
        loop {
            let mut nothing = [0; 1];
            let message = tokio::select! {
                message = self.messages.recv() => message?,
                () = self.overflow.notified() => return Some("too much is queued".to_owned()),
                // Nothing ever comes back on this connection but its end.
                ended = reader.read(&mut nothing) => {
                    return Some(ended.err().map_or_else(|| "closed".to_owned(), |error| error.to_string()));
                }
            };
            let mut taken = 1;
            let mut written = self.write(&mut writer, message.bytes).await;
            while written.is_ok() {
                let Ok(message) = self.messages.try_recv() else { break };
                taken += 1;
                written = self.write(&mut writer, message.bytes).await;
            }
            let flushed = match written {
                Ok(()) => timed(writer.flush()).await,
                Err(error) => Err(error),
            };
            self.unsent.done(taken);
            if let Err(error) = flushed {
                return Some(error.to_string());
            }
        }
    }

    async fn write(&self, writer: &mut BufWriter<WriteHalf<BoxWire>>, message: Vec<u8>) -> io::Result<()> {
        self.bytes.fetch_sub(message.len(), Ordering::AcqRel);
        tokio::select! {
            written = timed(write_frame(writer, &message)) => written,
            // It takes too little; waiting for more of it only fills the queue again.
            () = self.overflow.notified() => Err(io::Error::other("too much is queued")),
        }
    }
}

async fn timed(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    match tokio::time::timeout(WRITE_TIME_MAX, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes no more")),
    }
}

async fn write_frame(writer: &mut BufWriter<WriteHalf<BoxWire>>, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a frame above 4 GiB"))?;
    writer.write_all(&length.to_le_bytes()).await?;
    writer.write_all(bytes).await
}

async fn introduction(http: &reqwest::Client, scheme: &str, node: &NodeId) -> Result<Introduction, String> {
    let response = http.get(format!("{scheme}://{node}/replication")).timeout(CONNECT_TIME_MAX).send().await;
    let response =
        response.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
    if response.content_length().is_none_or(|length| length > 64 << 10) {
        return Err("its introduction has no usable length".to_owned());
    }
    let introduction: Introduction = response.json().await.map_err(|error| error.to_string())?;
    if introduction.node == *node {
        Ok(introduction)
    } else {
        Err(format!("{} answers there", introduction.node))
    }
}

/// Takes peers' connections until dropped.
pub(crate) async fn listen(listener: TcpListener, machine: Machine, tls: Option<NodeTls>) {
    let places = Arc::new(Semaphore::new(INCOMING_MAX));
    let newest = Arc::new(Newest::default());
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer's connection");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (machine, newest, tls) = (machine.clone(), newest.clone(), tls.clone());
        connections.spawn(async move {
            let accepted = tokio::time::timeout(CONNECT_TIME_MAX, wire::accept(stream, tls.as_ref())).await;
            let ended = match accepted {
                Ok(Ok(stream)) => receive(stream, machine, newest).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "a TLS handshake took too long")),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a peer's connection ended");
            }
            drop(place);
        });
    }
}

/// Which of a peer's connections is its newest: what an older one still carries was given up by its sender.
#[derive(Debug, Default)]
struct Newest {
    count: AtomicU64,
    of: Mutex<BTreeMap<NodeId, u64>>,
}

impl Newest {
    fn take(&self, peer: &NodeId) -> u64 {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.of.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.clone(), number);
        number
    }

    fn is(&self, peer: &NodeId, number: u64) -> bool {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).get(peer) == Some(&number)
    }
}

async fn receive(stream: BoxWire, machine: Machine, newest: Arc<Newest>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let greeting = async {
        let mut magic = [0; 8];
        reader.read_exact(&mut magic).await?;
        if magic != *GREETING_MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a peer of this version"));
        }
        read_frame(&mut reader, GREETING_NAME_MAX).await
    };
    let greeting = tokio::time::timeout(CONNECT_TIME_MAX, greeting).await;
    let name = greeting.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no greeting"))??;
    let name = name.and_then(|name| String::from_utf8(name).ok()).and_then(|name| NodeId::new(name).ok());
    let from =
        name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no node id in the greeting"))?;
    let number = newest.take(&from);
    while let Some(bytes) = read_frame(&mut reader, FRAME_BYTES_MAX).await? {
        let message = PeerMessage::decode(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{from}: {error}")))?;
        if !newest.is(&from, number) {
            return Ok(());
        }
        machine.input(Input::Peer { from: from.clone(), message }).await;
    }
    Ok(())
}

/// `None` at the end of the connection between two frames.
async fn read_frame(reader: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match reader.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    // Grows as the bytes come: a length alone reserves nothing.
    let mut bytes = Vec::with_capacity(length.min(64 << 10));
    let read = reader.take(length as u64).read_to_end(&mut bytes).await?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}
