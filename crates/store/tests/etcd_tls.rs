//! A log in a real etcd that speaks TLS and asks for certificates.

#![allow(clippy::disallowed_methods, reason = "tests run on the wall clock, with real processes")]

mod common;

use common::Etcd;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use store::etcd::{EtcdAddress, EtcdLog, EtcdTls, TlsSource};
use store::{Log as _, OpenError};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// Certificate and key as PEM, for 127.0.0.1.
fn issue(ca: &Ca) -> (String, String) {
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, ca).expect("signed").pem(), key.serialize_pem())
}

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn open(endpoint: &str, tls: Option<EtcdTls>) -> Result<store::etcd::Opened, OpenError> {
    let scheme = if tls.is_some() { "etcds" } else { "etcd" };
    let address: EtcdAddress = format!("{scheme}://{endpoint}/p").parse().expect("an address");
    let address = match tls {
        Some(tls) => address.over(tls),
        None => address,
    };
    EtcdLog::open(&address, "1".repeat(32), || "2".repeat(32))
}

#[test]
fn only_who_trusts_it_and_is_trusted_reaches_the_log() {
    if Etcd::start().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca("ours"), ca("other"));
    let (cert, key) = issue(&ours);
    let arguments = [
        ("--cert-file", file(dir.path(), "etcd.crt", &cert)),
        ("--key-file", file(dir.path(), "etcd.key", &key)),
        ("--trusted-ca-file", file(dir.path(), "ca.crt", &ours.pem())),
    ];
    let mut arguments: Vec<String> =
        arguments.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
    arguments.push("--client-cert-auth".to_owned());
    let etcd = (0..5).find_map(|_| Etcd::try_start_with("https", &arguments)).expect("etcd over TLS");
    let (cert, key) = issue(&ours);
    let good = EtcdTls::new(&ours.pem(), Some((&cert, &key))).expect("usable");
    let mut opened = open(etcd.endpoint(), Some(good.clone())).expect("opens");
    opened.log.append(model::LogIndex(0), &[b"one".to_vec()]).expect("appended");
    assert_eq!(opened.log.last().expect("read"), model::LogIndex(1));
    let (strange_cert, strange_key) = issue(&other);
    for (what, tls) in [
        ("another CA is trusted", EtcdTls::new(&other.pem(), Some((&cert, &key)))),
        ("no certificate is shown", EtcdTls::new(&ours.pem(), None)),
        ("a certificate of another CA", EtcdTls::new(&ours.pem(), Some((&strange_cert, &strange_key)))),
    ] {
        let error = open(etcd.endpoint(), Some(tls.expect("usable"))).expect_err(what);
        assert!(matches!(error, OpenError::Unreachable { .. }), "{what}: {error}");
    }
    assert!(open(etcd.endpoint(), None).is_err(), "plain text");
    assert!(open(etcd.endpoint(), Some(good)).is_ok());
    a_log_goes_on_by_what_is_shown_now(etcd.endpoint(), (&ours, &other));
    assert!(EtcdTls::new("no PEM", None).is_err() && EtcdTls::new(&key, None).is_err());
}

/// One log, while the certificate of its client changes.
fn a_log_goes_on_by_what_is_shown_now(endpoint: &str, (ours, other): (&Ca, &Ca)) {
    let made = |by: &Ca| {
        let (cert, key) = issue(by);
        EtcdTls::new(&ours.pem(), Some((&cert, &key))).expect("usable")
    };
    let now = Arc::new(Mutex::new(made(ours)));
    let held = Arc::clone(&now);
    let address: EtcdAddress = format!("etcds://{endpoint}/p").parse().expect("an address");
    let address = address.over(TlsSource::new(move || held.lock().expect("whole").clone()));
    let log = EtcdLog::open(&address, "3".repeat(32), || "4".repeat(32)).expect("opens").log;
    assert_eq!(log.last().expect("read"), model::LogIndex(1));
    *now.lock().expect("whole") = made(other);
    assert!(log.last().is_err(), "another CA's certificate is shown from the next request on");
    *now.lock().expect("whole") = made(ours);
    assert_eq!(log.last().expect("a renewed certificate"), model::LogIndex(1));
}
