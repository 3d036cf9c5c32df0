//! A client's certificate and CA, read again whenever their files have changed: a renewed certificate is shown, and a new CA
//! trusted, by every connection from then on. Files that cannot be used change nothing but the log.

use super::{ClientTls, TlsError, certificates, key_text, unusable};
use crate::files;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What rustls needs to make connections, TLS 1.3 alone.
pub(super) fn client_config(tls: &ClientTls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if let Some(path) = &tls.ca {
        Arc::new(Trusted(Live::open(vec![path.clone()], Arc::clone(&provider), roots)?))
    } else {
        let system = rustls_platform_verifier::Verifier::new(Arc::clone(&provider));
        Arc::new(system.map_err(|error| TlsError::Client(error.to_string()))?)
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Client(error.to_string()))?
        // rustls calls every verifier that is given to it dangerous. These check names, ends and issuers.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.identity {
        Some((cert, key)) => {
            let shown = Live::open(vec![cert.clone(), key.clone()], provider, identity)?;
            builder.with_client_cert_resolver(Arc::new(Shown(shown)))
        }
        None => builder.with_no_client_auth(),
    };
    // A session that is taken up again would go by what was trusted and shown then.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The texts that some clients want instead of what was read of them.
#[derive(Clone, Copy)]
pub(crate) struct Texts<'a> {
    pub(crate) ca: &'a str,
    /// A certificate, and its key.
    pub(crate) identity: Option<(&'a str, &'a str)>,
}

/// CA and certificate for a client that takes them as PEM.
#[derive(Debug)]
pub(crate) struct Pem<T>(Live<T>);

impl<T: Clone + 'static> Pem<T> {
    /// `absent` is said when no CA is named.
    pub(super) fn open(
        tls: &ClientTls,
        absent: TlsError,
        make: fn(Texts<'_>) -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let mut files = vec![tls.ca.clone().ok_or(absent)?];
        files.extend(tls.identity.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let read = move |files: &[PathBuf], provider: &Arc<CryptoProvider>| {
            // What rustls cannot use is not handed on.
            roots(&files[..1], provider)?;
            let text =
                |path: &Path| files::read_if_present(path)?.ok_or_else(|| TlsError::Missing(path.to_owned()));
            let ca = text(file(files, 0))?;
            let shown = match &files[1..] {
                [] => None,
                shown => {
                    identity(shown, provider)?;
                    Some((text(file(shown, 0))?, key_text(file(shown, 1))?))
                }
            };
            let identity = shown.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()));
            make(Texts { ca: &ca, identity })
        };
        Live::open(files, provider, read).map(Self)
    }

    /// By what the files say now.
    pub(crate) fn now(&self) -> T {
        self.0.now()
    }
}

type Read<T> = Box<dyn Fn(&[PathBuf], &Arc<CryptoProvider>) -> Result<T, TlsError> + Send + Sync>;

/// What is in some files, as of now.
struct Live<T> {
    files: Vec<PathBuf>,
    provider: Arc<CryptoProvider>,
    read: Read<T>,
    held: Mutex<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    /// Of the last try, whether or not it could be used: nothing is complained of twice.
    stamps: Vec<Stamp>,
    value: T,
}

/// Tells a file from what it was: inode, second and nanosecond of its last change, length. None: it is not there.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamp(path: &PathBuf) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec(), about.len()))
}

impl<T> std::fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: Clone> Live<T> {
    fn open(
        files: Vec<PathBuf>,
        provider: Arc<CryptoProvider>,
        read: impl Fn(&[PathBuf], &Arc<CryptoProvider>) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let held = Held { stamps: files.iter().map(stamp).collect(), value: read(&files, &provider)? };
        Ok(Self { files, provider, read: Box::new(read), held: Mutex::new(held) })
    }

    /// What is there now; some looks at files, which are small and near.
    fn now(&self) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps: Vec<Stamp> = self.files.iter().map(stamp).collect();
        if stamps != held.stamps {
            held.stamps = stamps;
            match (self.read)(&self.files, &self.provider) {
                Ok(value) => {
                    tracing::info!(files = ?self.files, "certificates for connections to others were read again");
                    held.value = value;
                }
                Err(error) => tracing::error!(%error, "certificates were not read again: the old ones stay"),
            }
        }
        held.value.clone()
    }
}

fn file(files: &[PathBuf], at: usize) -> &Path {
    files.get(at).map_or(Path::new(""), PathBuf::as_path)
}

fn roots(files: &[PathBuf], provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let path = file(files, 0);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| unusable(path, &error))
}

fn identity(files: &[PathBuf], provider: &Arc<CryptoProvider>) -> Result<Arc<CertifiedKey>, TlsError> {
    let (cert, key) = (file(files, 0), file(files, 1));
    let chain = certificates(cert)?;
    let read =
        PrivateKeyDer::from_pem_slice(key_text(key)?.as_bytes()).map_err(|error| unusable(key, &error))?;
    // Refuses a key of another certificate, too: half of a renewal.
    CertifiedKey::from_der(chain, read, provider).map(Arc::new).map_err(|error| unusable(cert, &error))
}

/// The certificate to show.
#[derive(Debug)]
struct Shown(Live<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Trusts one CA file, and checks all that rustls checks.
#[derive(Debug)]
struct Trusted(Live<Arc<WebPkiServerVerifier>>);

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.now().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.now().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.now().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.now().supported_verify_schemes()
    }
}
