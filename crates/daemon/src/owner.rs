//! Whose process is at the other end of a connection of this machine.
//!
//! The kernel is asked for the socket at the other end: by `sock_diag` (netlink, a few µs whatever else is open), or where
//! that is not to be had by `/proc/self/net/tcp`, which is as long as there are sockets. Which of them works here is tried
//! once, on a connection of our own.
//!
//! A socket whose process has closed it belongs to root by the kernel's word, and has no inode: so what has none is
//! nobody's.

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The kernel's answer about one socket: a header, 72 bytes and a few attributes.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// A line of `/proc/self/net/tcp6` has some 180 bytes: 100,000 sockets.
const TABLE_BYTES_MAX: u64 = 18 << 20;
/// Of those who are not let in, so many at a time are told why.
const REFUSED_MAX: usize = 16;

/// Why it is not known who connected.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    #[error("nobody has the other end open any more")]
    Gone,
    #[error("the kernel does not tell: {0}")]
    System(#[from] io::Error),
}

/// Why nothing tells here who connects.
#[derive(Debug, thiserror::Error)]
#[error("sock_diag: {sock_diag}; /proc/self/net/tcp: {table}")]
pub struct NoWay {
    sock_diag: OwnerError,
    table: OwnerError,
}

/// How it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    SockDiag,
    Table,
}

/// Lets in connections from processes of this process's user alone.
#[derive(Clone, Debug)]
pub struct SameUser {
    uid: u32,
    way: Way,
    /// Tables are read one at a time: each may be long.
    readers: Arc<Semaphore>,
    refusals: Arc<Refusals>,
    /// Those who are told why they are not let in.
    refused: Arc<Semaphore>,
}

/// Who was not let in.
#[derive(Debug)]
struct Refusals {
    count: AtomicU64,
    began: Instant,
    /// The second after `began` in which the log was last told of one, plus one.
    told: AtomicU64,
}

impl SameUser {
    /// Tries what this machine offers.
    pub fn new() -> Result<Self, NoWay> {
        let uid = rustix::process::geteuid().as_raw();
        let way = match works(Way::SockDiag, uid) {
            Ok(()) => Way::SockDiag,
            Err(sock_diag) => match works(Way::Table, uid) {
                Ok(()) => {
                    tracing::warn!(
                        error = %sock_diag,
                        "no sock_diag: for each connection /proc/self/net/tcp is read, which is slow with many sockets"
                    );
                    Way::Table
                }
                Err(table) => return Err(NoWay { sock_diag, table }),
            },
        };
        let refusals = Refusals { count: AtomicU64::new(0), began: Instant::now(), told: AtomicU64::new(0) };
        Ok(Self {
            uid,
            way,
            readers: Arc::new(Semaphore::new(1)),
            refusals: Arc::new(refusals),
            refused: Arc::new(Semaphore::new(REFUSED_MAX)),
        })
    }

    /// A place for one who is told why; `None` when there are too many of them.
    pub(crate) fn place_to_refuse(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refused).try_acquire_owned().ok()
    }

    /// How many connections were not let in since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refusals.count.load(Ordering::Relaxed)
    }

    /// Why the one who connected from `peer` to `own` is not let in; `None` lets it in.
    pub(crate) async fn refuses(&self, own: SocketAddr, peer: SocketAddr) -> Option<String> {
        let owner = match self.way {
            Way::SockDiag => owner(Way::SockDiag, own, peer),
            Way::Table => {
                let _reader = self.readers.acquire().await;
                let looked = tokio::task::spawn_blocking(move || owner(Way::Table, own, peer)).await;
                looked.unwrap_or_else(|error| Err(io::Error::other(error).into()))
            }
        };
        let only = format!("this port is for the searchd beside it, which runs as user {} like it", self.uid);
        let why = match owner {
            Ok(uid) if uid == self.uid => return None,
            Ok(uid) => format!("{only}; you are user {uid}"),
            Err(error) => format!("{only}; it cannot be found out who you are: {error}"),
        };
        self.refusals.add(peer, &why);
        Some(why)
    }
}

impl Refusals {
    /// Who knocks without end does not fill the log: it is told of one a second, and how many there were.
    fn add(&self, peer: SocketAddr, why: &str) {
        let refused = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let second = self.began.elapsed().as_secs() + 1;
        if self.told.swap(second, Ordering::Relaxed) != second {
            tracing::warn!(%peer, refused, "a connection is refused: {why}");
        }
    }
}

/// Whether `way` knows a connection of our own.
fn works(way: Way, uid: u32) -> Result<(), OwnerError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    match owner(way, client.peer_addr()?, client.local_addr()?)? {
        found if found == uid => Ok(()),
        found => Err(io::Error::other(format!("it says {found} for our own user {uid}")).into()),
    }
}

/// The user whose process has the socket open that is bound to `peer` and connected to `own`.
fn owner(way: Way, own: SocketAddr, peer: SocketAddr) -> Result<u32, OwnerError> {
    let look = match way {
        Way::SockDiag => by_sock_diag,
        Way::Table => by_table,
    };
    let found = look(own, peer)?;
    // The table's inode may be from before the socket was closed and its user from after: root, wrongly. A second look has
    // both from after.
    if way == Way::Table && found == 0 { look(own, peer) } else { Ok(found) }
}

/// A socket's user, if the socket is anybody's.
fn opened(uid: u32, inode: u64) -> Result<u32, OwnerError> {
    if inode == 0 { Err(OwnerError::Gone) } else { Ok(uid) }
}

fn by_sock_diag(own: SocketAddr, peer: SocketAddr) -> Result<u32, OwnerError> {
    let ours = SocketId {
        source_port: peer.port(),
        destination_port: own.port(),
        source_address: peer.ip(),
        destination_address: own.ip(),
        interface_id: 0,
        // Any.
        cookie: [0xff; 8],
    };
    let request = InetRequest {
        family: if peer.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: ours,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    // The kernel answers while it takes the question: nothing is waited for.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::DGRAM;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG))
        .map_err(io::Error::from)?;
    rustix::net::send(&socket, &bytes, SendFlags::empty()).map_err(io::Error::from)?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    let (length, _) =
        rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).map_err(io::Error::from)?;
    read_answer(&answer[..length], own, peer)
}

/// What the kernel says of the socket that is bound to `peer` and connected to `own`.
fn read_answer(bytes: &[u8], own: SocketAddr, peer: SocketAddr) -> Result<u32, OwnerError> {
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match message.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
            let id = &found.header.socket_id;
            let from = (id.source_address.to_canonical(), id.source_port);
            let to = (id.destination_address.to_canonical(), id.destination_port);
            // Where there is no such connection the kernel may tell of one who listens there.
            if from != (peer.ip().to_canonical(), peer.port()) || to != (own.ip().to_canonical(), own.port())
            {
                return Err(OwnerError::Gone);
            }
            opened(found.header.uid, found.header.inode.into())
        }
        NetlinkPayload::Error(error) => match error.to_io() {
            error if error.kind() == io::ErrorKind::NotFound => Err(OwnerError::Gone),
            error => Err(error.into()),
        },
        _ => Err(io::Error::other("sock_diag answered something else").into()),
    }
}

fn by_table(own: SocketAddr, peer: SocketAddr) -> Result<u32, OwnerError> {
    match (own.ip().to_canonical(), peer.ip().to_canonical()) {
        (IpAddr::V4(own_v4), IpAddr::V4(peer_v4)) => {
            let found = find(
                "/proc/self/net/tcp",
                &key(IpAddr::V4(own_v4), own.port(), IpAddr::V4(peer_v4), peer.port()),
            );
            // A socket of the other family can speak IPv4, too.
            let (own_v6, peer_v6) =
                (IpAddr::V6(own_v4.to_ipv6_mapped()), IpAddr::V6(peer_v4.to_ipv6_mapped()));
            match found {
                Err(OwnerError::Gone) => {
                    find("/proc/self/net/tcp6", &key(own_v6, own.port(), peer_v6, peer.port()))
                }
                found => found,
            }
        }
        (own_ip, peer_ip) => find("/proc/self/net/tcp6", &key(own_ip, own.port(), peer_ip, peer.port())),
    }
}

/// How the table writes the addresses of the socket at the other end: 32-bit words in this machine's order of bytes.
fn key(own: IpAddr, own_port: u16, peer: IpAddr, peer_port: u16) -> String {
    let mut key = String::new();
    for (ip, port, end) in [(peer, peer_port, " "), (own, own_port, " ")] {
        let words: Vec<[u8; 4]> = match ip {
            IpAddr::V4(ip) => vec![ip.octets()],
            IpAddr::V6(ip) => ip.octets().as_chunks::<4>().0.to_vec(),
        };
        for word in words {
            let _infallible = write!(key, "{:08X}", u32::from_ne_bytes(word));
        }
        let _infallible = write!(key, ":{port:04X}{end}");
    }
    key
}

/// The user in the line of this socket.
fn find(path: &str, key: &str) -> Result<u32, OwnerError> {
    read_table(BufReader::new(File::open(path)?.take(TABLE_BYTES_MAX)), key)
}

fn read_table(table: impl BufRead, key: &str) -> Result<u32, OwnerError> {
    for line in table.lines() {
        let line = line?;
        let Some((_, rest)) = line.split_once(key) else { continue };
        // st tx:rx tr:when retrnsmt uid timeout inode
        let mut fields = rest.split_whitespace().skip(4);
        let uid = fields.next().and_then(|uid| uid.parse().ok());
        let inode = fields.nth(1).and_then(|inode| inode.parse().ok());
        let (Some(uid), Some(inode)) = (uid, inode) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line of another kind: {line}"),
            )
            .into());
        };
        return opened(uid, inode);
    }
    Err(OwnerError::Gone)
}

#[cfg(test)]
mod tests;
