//! TLS by rustls: what the controller's listener shows, and what clients trust and show. TLS 1.3 alone, so that there is
//! nothing to fall back to.
//!
//! Clients read changed files by themselves, the listener when it is told to. Keys are read from files that only their owner may read. Names, ends and issuers of certificates are checked by rustls; no
//! switch turns that off.

mod ends;
mod live;

use crate::files::{self, FileError};
pub(crate) use ends::{CertificateEnd, ends};
pub(crate) use live::Pem;
use reqwest::ClientBuilder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use secrecy::zeroize::Zeroizing;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use store::etcd::{InvalidTls, TlsSource};
use tokio_rustls::TlsAcceptor;

/// What a listener shows, and whom it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate, and those between it and the CA, as PEM.
    pub cert: PathBuf,
    /// Its key as PEM, readable by its owner alone.
    pub key: PathBuf,
    /// Clients must show a certificate of one of these.
    pub client_ca: Option<PathBuf>,
}

/// What a client trusts and shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Only these are trusted; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// A certificate to show, with its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("there is no file {}: give one that exists", .0.display())]
    Missing(PathBuf),
    #[error("{} cannot be used: {reason}; it must be PEM as openssl writes it", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error("no HTTP client: {0}; check the system's TLS and resolver configuration")]
    Client(String),
    #[error("an etcd over TLS needs --ca-file: the CA of its certificate")]
    NoEtcdCa,
    #[error(transparent)]
    Etcd(#[from] InvalidTls),
    #[error("a MySQL session over TLS needs --ca-file: the CA of the node's certificate")]
    NoSessionCa,
    #[error(
        "refused to talk to {0} in plain text beyond loopback; write it with https:// (etcds:// for etcd)"
    )]
    Plain(String),
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = files::read_if_present(path)?.ok_or_else(|| TlsError::Missing(path.to_owned()))?;
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| unusable(path, &error))?;
    if read.is_empty() {
        return Err(unusable(path, &"there is no certificate in it"));
    }
    Ok(read)
}

/// The text of a key, from a file that is private.
fn key_text(path: &Path) -> Result<Zeroizing<String>, TlsError> {
    files::read_private(path)?.ok_or_else(|| TlsError::Missing(path.to_owned()))
}

/// A listener's side, read again when that is asked for.
#[derive(Debug)]
pub struct ServerSide {
    files: ServerTls,
    config: RwLock<Arc<ServerConfig>>,
}

impl ServerSide {
    /// Reads certificate, key and client CA.
    pub fn open(files: ServerTls) -> Result<Self, TlsError> {
        let config = RwLock::new(Arc::new(server_config(&files)?));
        Ok(Self { files, config })
    }

    /// Reads the files anew, for connections from here on. After an error the old ones stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(server_config(&self.files)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn server_config(files: &ServerTls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(key_text(&files.key)?.as_bytes())
        .map_err(|error| unusable(&files.key, &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&files.cert, &error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, &error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&files.cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl ClientTls {
    /// A builder of clients that trust and show this, and speak with nobody through a proxy: all that is asked is within one
    /// installation. Files that change are read again: see [`live`].
    pub fn builder(&self) -> Result<ClientBuilder, TlsError> {
        Ok(reqwest::Client::builder().no_proxy().tls_backend_preconfigured(live::client_config(self)?))
    }
}

impl ClientTls {
    /// The same for etcd, which has no CA of the system's.
    pub(crate) fn for_etcd(&self) -> Result<TlsSource, TlsError> {
        let live =
            Pem::open(self, TlsError::NoEtcdCa, |pem| Ok(store::etcd::EtcdTls::new(pem.ca, pem.identity)?))?;
        Ok(TlsSource::new(move || live.now()))
    }

    /// The same for MySQL sessions with nodes, which have no CA of the system's either.
    pub(crate) fn for_sessions(&self) -> Result<Pem<manticore::SessionTls>, TlsError> {
        Pem::open(self, TlsError::NoSessionCa, |pem| Ok(manticore::SessionTls::new(pem.ca, pem.identity)))
    }

    /// Connections to others without HTTP: those of embedded engines.
    pub fn connector(&self) -> Result<tokio_rustls::TlsConnector, TlsError> {
        Ok(Arc::new(live::client_config(self)?).into())
    }
}

/// Whether a URL may be asked at all: in plain text only on loopback. The error names no password that is in it.
pub fn check_url(url: &str) -> Result<(), TlsError> {
    let Some(rest) = url.strip_prefix("http://") else { return Ok(()) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if is_loopback(host) { Ok(()) } else { Err(TlsError::Plain(crate::redact::text(url).into_owned())) }
}

/// Whether `HOST[:PORT]` is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
pub(crate) mod tests;
