//! When certificates end.

use super::{ClientTls, ServerTls, TlsError, certificates, unusable};
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A file of certificates, and when the first of them is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateEnd {
    pub(crate) file: PathBuf,
    /// Unix seconds.
    pub(crate) ends: u64,
}

/// Of each file that a controller shows or trusts. One that cannot be read is passed over: whoever uses it says so.
pub(crate) fn ends(server: Option<&ServerTls>, client: &ClientTls) -> Vec<CertificateEnd> {
    let of_server = server.into_iter().flat_map(|tls| [Some(&tls.cert), tls.client_ca.as_ref()]);
    let of_client = [client.ca.as_ref(), client.identity.as_ref().map(|(cert, _)| cert)];
    let mut files: Vec<&PathBuf> = of_server.chain(of_client).flatten().collect();
    files.sort();
    files.dedup();
    let end = |file: &PathBuf| match first_end(file) {
        Ok(ends) => Some(CertificateEnd { file: file.clone(), ends }),
        Err(error) => {
            tracing::warn!(%error, "when a certificate ends is not known");
            None
        }
    };
    files.into_iter().filter_map(end).collect()
}

fn first_end(file: &Path) -> Result<u64, TlsError> {
    let mut first = u64::MAX;
    for der in certificates(file)? {
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| unusable(file, &error))?;
        // Before 1970 is as over as 1970 is.
        let ends = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        first = first.min(ends);
    }
    Ok(first)
}
