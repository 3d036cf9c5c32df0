//! Real handshakes with certificates made here: who is trusted, who is not, and nothing in plain text.

use super::*;
use crate::http::{self, ConnectionLimits};
use crate::shutdown::{Shutdown, Trigger};
use axum::Router;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A CA with its file.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

pub(crate) fn ca(dir: &Path, name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let file = dir.join(format!("{name}.pem"));
    std::fs::write(&file, issuer.pem()).expect("written");
    Ca { issuer, file }
}

/// Certificate and key of `name`, by `ca`, good for these years.
pub(crate) fn issue(dir: &Path, ca: &Ca, name: &str, years: (i32, i32)) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &ca.issuer).expect("signed");
    let paths = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    std::fs::write(&paths.0, certificate.pem()).expect("written");
    files::write_durably(&paths.1, key.serialize_pem().as_bytes()).expect("written");
    paths
}

/// In force today.
pub(crate) const NOW: (i32, i32) = (2020, 2090);
/// Handshakes of a busy machine are done in it.
const SILENCE_MAX: Duration = Duration::from_secs(3);

struct Serving {
    address: SocketAddr,
    side: Arc<ServerSide>,
    _trigger: Trigger,
}

async fn serve(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Serving {
    let files =
        ServerTls { cert: cert.to_owned(), key: key.to_owned(), client_ca: client_ca.map(Path::to_owned) };
    let side = Arc::new(ServerSide::open(files).expect("opens"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (trigger, shutdown) = Shutdown::new();
    let limits = ConnectionLimits { connections_max: 8, header_time_max: SILENCE_MAX };
    let rows = r#"[{"total":0,"error":"","warning":""}]"#;
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/sql", axum::routing::post(move || async move { rows }));
    tokio::spawn(http::serve(listener, http::Entry::Tls(Arc::clone(&side)), router, limits, shutdown));
    Serving { address, side, _trigger: trigger }
}

impl Serving {
    /// The answer, or the innermost cause of its want.
    async fn ask(&self, name: &str, tls: &ClientTls) -> Result<String, String> {
        let builder = tls.builder().expect("usable files").resolve(name, self.address);
        let client = builder.timeout(Duration::from_mins(1)).build().expect("a client");
        let url = format!("https://{name}:{}/", self.address.port());
        let text = |error: reqwest::Error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            cause.to_string()
        };
        client.get(url).send().await.map_err(text)?.text().await.map_err(text)
    }
}

pub(crate) fn trusting(ca: &Path) -> ClientTls {
    ClientTls { ca: Some(ca.to_owned()), identity: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_name_by_the_right_ca_in_its_time_is_trusted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let (cert, key) = issue(dir.path(), &ours, "localhost", NOW);
    let serving = serve(&cert, &key, None).await;
    assert_eq!(serving.ask("localhost", &trusting(&ours.file)).await.as_deref(), Ok("hello"));
    let wrong_ca = serving.ask("localhost", &trusting(&other.file)).await.expect_err("another CA");
    assert!(wrong_ca.contains("UnknownIssuer"), "{wrong_ca}");
    let system = serving.ask("localhost", &ClientTls::default()).await;
    assert!(system.is_err(), "the system's CAs know nothing of ours");
    let wrong_name = serving.ask("elsewhere.test", &trusting(&ours.file)).await.expect_err("another name");
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    let (cert, key) = issue(dir.path(), &ours, "late.test", (2000, 2001));
    let late = serve(&cert, &key, None).await;
    let expired = late.ask("late.test", &trusting(&ours.file)).await.expect_err("expired");
    assert!(expired.contains("expired"), "{expired}");
    let (cert, key) = issue(dir.path(), &ours, "early.test", (2080, 2090));
    let early = serve(&cert, &key, None).await;
    let not_yet = early.ask("early.test", &trusting(&ours.file)).await.expect_err("not yet valid");
    assert!(not_yet.contains("not valid yet"), "{not_yet}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_ca_who_shows_no_certificate_of_it_gets_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let (cert, key) = issue(dir.path(), &ours, "localhost", NOW);
    let serving = serve(&cert, &key, Some(&ours.file)).await;
    let with = |identity| ClientTls { ca: Some(ours.file.clone()), identity };
    let good = issue(dir.path(), &ours, "node1.test", NOW);
    assert_eq!(serving.ask("localhost", &with(Some(good))).await.as_deref(), Ok("hello"));
    for identity in [
        None,
        Some(issue(dir.path(), &other, "node2.test", NOW)),
        Some(issue(dir.path(), &ours, "node3.test", (2000, 2001))),
    ] {
        let refused = serving.ask("localhost", &with(identity.clone())).await;
        assert!(refused.is_err(), "{identity:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_asked_over_tls_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let (cert, key) = issue(dir.path(), &ours, "127.0.0.1", NOW);
    let serving = serve(&cert, &key, None).await;
    let node = model::NodeId::new(serving.address.to_string()).expect("an address");
    let ask = async |tls: ClientTls, node: &model::NodeId| {
        let way = manticore::Way::tls(|| tls.builder()).expect("usable");
        let client = manticore::Client::new(manticore::USER_AGENT, manticore::Logins::default(), way)
            .expect("a client");
        client.execute(node, &manticore::Statement::ShowTables, Duration::from_mins(1)).await
    };
    ask(trusting(&ours.file), &node).await.expect("answered");
    // A node that is not trusted is no node that is gone.
    let error = ask(trusting(&other.file), &node).await.expect_err("another CA");
    assert!(matches!(error, manticore::CallError::Broken { .. }), "{error:?}");
    // One that speaks plain text alone is not asked in plain text.
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let node = model::NodeId::new(plain.local_addr().expect("an address").to_string()).expect("an address");
    let (_trigger, shutdown) = Shutdown::new();
    let limits = ConnectionLimits { connections_max: 8, header_time_max: SILENCE_MAX };
    let router = Router::new().fallback(|| async { "[]" });
    tokio::spawn(http::serve(plain, http::Entry::Anyone, router, limits, shutdown));
    assert!(ask(trusting(&ours.file), &node).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again_and_bad_files_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let (cert, key) = issue(dir.path(), &ours, "localhost", NOW);
    let serving = serve(&cert, &key, None).await;
    // The same files, by another CA.
    issue(dir.path(), &other, "localhost", NOW);
    assert_eq!(serving.ask("localhost", &trusting(&ours.file)).await.as_deref(), Ok("hello"));
    serving.side.reload().expect("read");
    assert!(serving.ask("localhost", &trusting(&ours.file)).await.is_err());
    assert_eq!(serving.ask("localhost", &trusting(&other.file)).await.as_deref(), Ok("hello"));
    std::fs::write(&cert, "no certificate").expect("written");
    let error = serving.side.reload().expect_err("no certificate").to_string();
    assert!(error.contains("localhost.crt"), "{error}");
    assert_eq!(serving.ask("localhost", &trusting(&other.file)).await.as_deref(), Ok("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_old_versions_and_silence_get_nothing_and_hurt_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = ca(dir.path(), "ours");
    let (cert, key) = issue(dir.path(), &ours, "localhost", NOW);
    let serving = serve(&cert, &key, None).await;
    let mut plain = TcpStream::connect(serving.address).await.expect("connected");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // A reset is as good an end as an alert.
    let _ended = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("hello"), "{answer:?}");
    let pem = std::fs::read(&ours.file).expect("read");
    let old = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).expect("a CA")])
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .tls_version_max(reqwest::tls::Version::TLS_1_2)
        .resolve("localhost", serving.address)
        .build()
        .expect("a client");
    let url = format!("https://localhost:{}/", serving.address.port());
    assert!(old.get(&url).send().await.is_err(), "TLS 1.2 is not spoken");
    // Half-open: connected, and not a byte. Seven of eight places are taken by them, and others are served.
    let mut silent = Vec::new();
    for _ in 0..7 {
        silent.push(TcpStream::connect(serving.address).await.expect("connected"));
    }
    assert_eq!(serving.ask("localhost", &trusting(&ours.file)).await.as_deref(), Ok("hello"));
    // All are taken: who comes waits until the silent ones have had their time.
    silent.push(TcpStream::connect(serving.address).await.expect("connected"));
    let began = Instant::now();
    let client = trusting(&ours.file).builder().expect("usable").resolve("localhost", serving.address);
    let client = client.timeout(Duration::from_mins(2)).build().expect("a client");
    let served = client.get(&url).send().await.expect("served in the end").text().await;
    assert_eq!(served.expect("a text"), "hello");
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
}

#[test]
fn a_key_that_others_may_read_and_files_that_are_none_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let (cert, key) = issue(dir.path(), &ours, "localhost", NOW);
    let (_, strange) = issue(dir.path(), &other, "strange.test", NOW);
    let open = |cert: &Path, key: &Path| {
        let files = ServerTls { cert: cert.to_owned(), key: key.to_owned(), client_ca: None };
        ServerSide::open(files).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(open(&cert, &key), Ok(()));
    assert!(open(&cert, &strange).is_err(), "the key of another certificate");
    assert!(open(&key, &key).is_err() && open(&cert, &cert).is_err());
    assert!(open(&dir.path().join("none"), &key).expect_err("not there").contains("none"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(open(&cert, &key).expect_err("open to all").contains("chmod 600"));
    let identity = Some((cert, key));
    assert!(ClientTls { ca: None, identity }.builder().is_err());
}

#[test]
fn plain_text_stays_on_this_machine() {
    for here in [
        "http://127.0.0.1:9380",
        "http://127.8.8.8/x",
        "http://localhost",
        "http://[::1]:9380/",
        "https://10.0.0.1:9380",
        "http://u:p@localhost:1/",
    ] {
        assert!(check_url(here).is_ok(), "{here}");
    }
    for away in [
        "http://10.0.0.1:9380",
        "http://localhost.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://[2001:db8::1]:1/",
        "http://",
        "http://u:hunter2@10.0.0.1/",
    ] {
        let error = check_url(away).expect_err(away).to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// One client that goes on while its files change.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_and_trusts_what_its_files_say_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let (cert, key) = issue(dir.path(), &ours, "localhost", NOW);
    let serving = serve(&cert, &key, Some(&ours.file)).await;
    let trusted = dir.path().join("trusted.pem");
    std::fs::copy(&ours.file, &trusted).expect("copied");
    // Ended, so that the listener does not let it in.
    let shown = issue(dir.path(), &ours, "client.test", (2019, 2020));
    let tls = ClientTls { ca: Some(trusted.clone()), identity: Some(shown.clone()) };
    let client = tls.builder().expect("usable").resolve("localhost", serving.address);
    let client = client.pool_max_idle_per_host(0).timeout(Duration::from_mins(1)).build().expect("a client");
    let url = format!("https://localhost:{}/", serving.address.port());
    let ask = async || match client.get(&url).send().await {
        Ok(answer) => answer.text().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    assert!(ask().await.is_err(), "an ended certificate");
    issue(dir.path(), &ours, "client.test", NOW);
    assert_eq!(ask().await.as_deref(), Ok("hello"), "a renewed one");
    // Half of a renewal: the key of another certificate. What was there goes on.
    let (_, strange) = issue(dir.path(), &ours, "strange.test", NOW);
    let renewed = std::fs::read(&shown.1).expect("read");
    std::fs::copy(&strange, &shown.1).expect("copied");
    assert_eq!(ask().await.as_deref(), Ok("hello"), "half a renewal");
    files::write_durably(&shown.1, &renewed).expect("written");
    std::fs::copy(&other.file, &trusted).expect("copied");
    assert!(ask().await.is_err(), "the listener's CA is trusted no more");
    std::fs::write(&trusted, "no certificate").expect("written");
    assert!(ask().await.is_err(), "nor by a file that is none");
    std::fs::copy(&ours.file, &trusted).expect("copied");
    assert_eq!(ask().await.as_deref(), Ok("hello"));
}

#[test]
fn the_end_of_a_file_is_that_of_its_first_certificate_to_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = ca(dir.path(), "ours");
    let (early, _) = issue(dir.path(), &ours, "early.test", (2020, 2040));
    let (late, key) = issue(dir.path(), &ours, "late.test", (2020, 2050));
    let text = [&late, &early].map(|file| std::fs::read_to_string(file).expect("read")).concat();
    let both = dir.path().join("both.pem");
    std::fs::write(&both, text).expect("written");
    let server = ServerTls { cert: both.clone(), key, client_ca: Some(late.clone()) };
    let client = ClientTls { ca: Some(dir.path().join("none.pem")), identity: None };
    let found = ends(Some(&server), &client);
    let (of_2040, of_2050) = (2_208_988_800, 2_524_608_000);
    let end = |file: &Path, ends| CertificateEnd { file: file.to_owned(), ends };
    assert_eq!(found, [end(&both, of_2040), end(&late, of_2050)]);
}

#[test]
fn those_who_take_pem_get_what_the_files_say_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca(dir.path(), "ours"), ca(dir.path(), "other"));
    let shown = issue(dir.path(), &ours, "client.test", NOW);
    let tls = ClientTls { ca: Some(ours.file.clone()), identity: Some(shown.clone()) };
    let text = |texts: live::Texts<'_>| Ok(format!("{}{:?}", texts.ca, texts.identity));
    let pem = Pem::open(&tls, TlsError::NoSessionCa, text).expect("usable");
    let first = pem.now();
    assert_eq!(pem.now(), first);
    issue(dir.path(), &ours, "client.test", NOW);
    let renewed = pem.now();
    assert_ne!(renewed, first, "a renewed certificate");
    // Half of a renewal, and a CA that is none: what was there goes on.
    let (_, strange) = issue(dir.path(), &ours, "strange.test", NOW);
    let key = std::fs::read(&shown.1).expect("read");
    std::fs::copy(&strange, &shown.1).expect("copied");
    assert_eq!(pem.now(), renewed);
    files::write_durably(&shown.1, &key).expect("written");
    std::fs::write(&ours.file, "no certificate").expect("written");
    assert_eq!(pem.now(), renewed);
    std::fs::copy(&other.file, &ours.file).expect("copied");
    assert_ne!(pem.now(), renewed, "another CA");
    for error in [
        ClientTls::default().for_sessions().expect_err("no CA").to_string(),
        ClientTls::default().for_etcd().expect_err("no CA").to_string(),
    ] {
        assert!(error.contains("--ca-file"), "{error}");
    }
}
