//! What carries a connection: TCP, or TLS over it. A node with TLS takes nothing else on any of its ports.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// TLS of a node, on its MySQL, HTTP and replication ports and towards other nodes.
#[derive(Clone)]
pub struct NodeTls {
    /// What the next connection is taken with: what it gives may change while the node runs.
    pub acceptor: Arc<dyn Fn() -> TlsAcceptor + Send + Sync>,
    /// Whom other nodes are trusted to be, and what is shown to them.
    pub connector: TlsConnector,
    /// The same for HTTP.
    pub client: reqwest::Client,
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").finish_non_exhaustive()
    }
}

/// Either kind of connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Wire for T {}

pub(crate) type BoxWire = Box<dyn Wire>;

/// A connection that came in.
pub(crate) async fn accept(stream: TcpStream, tls: Option<&NodeTls>) -> io::Result<BoxWire> {
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => Ok(Box::new((tls.acceptor)().accept(stream).await?)),
    }
}

/// A connection to another node.
pub(crate) async fn connect(address: &str, tls: Option<&NodeTls>) -> io::Result<BoxWire> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let name = ServerName::IpAddress(address.ip().into());
    Ok(Box::new(tls.connector.connect(name, stream).await?))
}
