//! One HTTP/1.1 listener with limits, for the controller's API and for the sidecar.
//!
//! It bounds connections, header time and shutdown; what a request may do is the router's matter.

use crate::crowd::{Crowds, Member};
use crate::owner::SameUser;
use crate::shutdown::Shutdown;
use crate::tls::ServerSide;
use axum::Router;
use axum::http::{StatusCode, header};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

/// What a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Open connections; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// From the first byte of a request to the end of its headers, between requests of a connection, and while the client takes
    /// nothing of an answer.
    pub header_time_max: Duration,
}

/// Who is let in before a request of his is read.
#[derive(Clone, Debug)]
pub enum Entry {
    Anyone,
    /// Who agrees upon TLS.
    Tls(Arc<ServerSide>),
    /// Processes of this process's user, on this machine.
    SameUser(SameUser),
}

/// Who is at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A client that means it is done within a few round trips.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// One address beyond loopback has at most this part of all connections, so that one that only opens them keeps nobody out.
const PART_OF_ONE_ADDRESS: usize = 4;

/// For one who is not let in to ask, and to read why.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);

/// How long answers under way may still take after the signal. Ctrl-C must not wait for a held request.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);

/// Open files that connections leave to the rest of the process: logs, connections to nodes and other controllers.
const FILES_KEPT: usize = 192;

/// How many connections there may be when the process may have `files` open files.
fn places(wanted: usize, files: Option<u64>) -> usize {
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    wanted.min(files.saturating_sub(FILES_KEPT)).max(1)
}

/// Accepts and serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    entry: Entry,
    router: Router,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let connections_max = places(limits.connections_max, files);
    if connections_max < limits.connections_max {
        let wanted = limits.connections_max;
        tracing::warn!(
            wanted,
            "the process may have too few open files: at most {connections_max} connections are taken (LimitNOFILE, ulimit -n)"
        );
    }
    let limits = ConnectionLimits { connections_max, ..limits };
    let crowds = Crowds::default();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            // Finished connections are taken out as they end, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let Some(member) = admit(&crowds, peer.ip(), limits.connections_max) else {
                    tracing::warn!(%peer, "too many connections from one address: this one is closed");
                    continue;
                };
                let caller = Caller { stream, peer, held: (place, member) };
                connections.spawn(connection(
                    caller,
                    entry.clone(),
                    router.clone(),
                    limits,
                    shutdown.clone(),
                ));
            }
            Err(error) => {
                // Out of file descriptors, or a peer that left at once: neither is a reason to stop serving.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let _late =
        tokio::time::timeout(DRAIN_TIME_MAX, async { while connections.join_next().await.is_some() {} })
            .await;
}

/// A connection from there; `None` when that address has its part of all `connections_max` already.
fn admit(crowds: &Crowds<IpAddr>, from: IpAddr, connections_max: usize) -> Option<Member<IpAddr>> {
    // Everybody on loopback is one address, and has all.
    let part = if from.is_loopback() { usize::MAX } else { connections_max / PART_OF_ONE_ADDRESS };
    crowds.admit(&from, part)
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// One connection, and its place among the others.
struct Caller {
    stream: TcpStream,
    peer: SocketAddr,
    held: (OwnedSemaphorePermit, Member<IpAddr>),
}

async fn connection(
    caller: Caller,
    entry: Entry,
    router: Router,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) {
    let Caller { stream, peer, held } = caller;
    // Small answers to small requests: waiting for more to send would only add 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    match entry {
        Entry::Anyone => converse(stream, peer, router, limits, shutdown).await,
        Entry::Tls(side) => {
            let handshake = side.acceptor().accept(stream);
            match tokio::time::timeout(HANDSHAKE_TIME_MAX.min(limits.header_time_max), handshake).await {
                Ok(Ok(stream)) => converse(stream, peer, router, limits, shutdown).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS was agreed upon"),
                Err(_late) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        }
        Entry::SameUser(door) => {
            let Ok(own) = stream.local_addr() else { return };
            let Some(why) = door.refuses(own, peer).await else {
                return converse(stream, peer, router, limits, shutdown).await;
            };
            // It keeps none of those out who are let in; with too many like it, it is closed without a word.
            drop(held);
            let Some(_place) = door.place_to_refuse() else { return };
            let limits = ConnectionLimits { header_time_max: REFUSAL_TIME_MAX, ..limits };
            let close = [(header::CONNECTION, "close")];
            let refusal = move || async move { (StatusCode::FORBIDDEN, close, why) };
            converse(stream, peer, Router::new().fallback(refusal), limits, shutdown).await;
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    // Who asks on and on and reads no answer would else keep its place until it pleases.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.header_time_max));
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = shutdown.wait() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
