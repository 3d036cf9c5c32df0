//! TLS towards etcd: whom to trust, and what to show.

use std::fmt;
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// What all connections to one etcd use. Never shows a key.
#[derive(Clone)]
pub struct EtcdTls(Arc<TlsConfig>);

/// A text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be used for etcd: {reason}; it must be PEM as openssl writes it")]
pub struct InvalidTls {
    what: &'static str,
    reason: String,
}

impl EtcdTls {
    /// From PEM: the CAs that are trusted, and for an etcd that asks for it (`--client-cert-auth`) a certificate with its key.
    pub fn new(ca: &str, identity: Option<(&str, &str)>) -> Result<Self, InvalidTls> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = RootCerts::Specific(Arc::new(certificates("the CA", ca)?));
        let identity = identity.map(|(certificate, key)| {
            let key = PrivateKey::from_pem(key.as_bytes())
                .map_err(|error| InvalidTls { what: "the key", reason: error.to_string() })?;
            Ok(ClientCert::new_with_certs(&certificates("the certificate", certificate)?, key))
        });
        let config = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(roots)
            .client_cert(identity.transpose()?)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> TlsConfig {
        self.0.as_ref().clone()
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<Certificate<'static>>, InvalidTls> {
    let invalid = |reason: String| InvalidTls { what, reason };
    let mut found = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| invalid(error.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(invalid("there is no certificate in it".to_owned())) } else { Ok(found) }
}

/// Where it comes from: asked before each request, so that renewed certificates are shown, and new CAs trusted, from then on.
#[derive(Clone)]
pub struct TlsSource(Arc<dyn Fn() -> EtcdTls + Send + Sync>);

impl TlsSource {
    pub fn new(now: impl Fn() -> EtcdTls + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(super) fn now(&self) -> EtcdTls {
        (self.0)()
    }
}

impl From<EtcdTls> for TlsSource {
    fn from(tls: EtcdTls) -> Self {
        Self::new(move || tls.clone())
    }
}

impl fmt::Debug for TlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSource")
    }
}

impl PartialEq for TlsSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TlsSource {}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EtcdTls")
    }
}

impl PartialEq for EtcdTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for EtcdTls {}
