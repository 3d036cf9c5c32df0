//! A node with certificates: TLS on every port and nothing else, over a scripted core, by real clients.

use crate::script::scripted;
use crate::{NodeTls, RunningNode};
use manticore::{CallError, Session, SessionTls, Statement};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};

const PATIENCE: Duration = Duration::from_mins(1);
const NOW: (i32, i32) = (2020, 2090);

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// Certificate and key as PEM.
fn issue(ca: &Ca, name: &str, years: (i32, i32)) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, ca).expect("signed").pem(), key.serialize_pem())
}

fn roots(ca: &Ca) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("a root");
    roots
}

fn shown(pem: &(String, String)) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(pem.0.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    (chain, PrivateKeyDer::from_pem_slice(pem.1.as_bytes()).expect("PEM"))
}

/// What a listener shows; with `clients` only those are let in who show a certificate of it.
fn server(pem: &(String, String), clients: Option<&Ca>) -> Arc<ServerConfig> {
    let (chain, key) = shown(pem);
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca))).build().expect("a verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    Arc::new(builder.with_single_cert(chain, key).expect("a certificate"))
}

/// A node's TLS, and the place where its certificate can be changed.
fn tls(ours: &Ca, pem: &(String, String), clients: Option<&Ca>) -> (NodeTls, Arc<RwLock<Arc<ServerConfig>>>) {
    let config = Arc::new(RwLock::new(server(pem, clients)));
    let held = Arc::clone(&config);
    let (chain, key) = shown(pem);
    let connector =
        ClientConfig::builder().with_root_certificates(roots(ours)).with_client_auth_cert(chain, key);
    let certificate = reqwest::Certificate::from_pem(ours.pem().as_bytes()).expect("a CA");
    let identity = reqwest::Identity::from_pem(format!("{}{}", pem.0, pem.1).as_bytes()).expect("PEM");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).identity(identity);
    let tls = NodeTls {
        acceptor: Arc::new(move || held.read().expect("whole").clone().into()),
        connector: Arc::new(connector.expect("a certificate")).into(),
        client: client.build().expect("a client"),
    };
    (tls, config)
}

async fn node(dir: &Path, tls: NodeTls) -> RunningNode {
    scripted(dir, |options| options.tls = Some(tls)).await
}

/// Says one statement over a session as sidecars have it.
async fn say(node: &RunningNode, tls: Option<&SessionTls>) -> Result<(), CallError> {
    let address = node.addresses().mysql.to_string();
    let mut session = Session::connect(&address, None, tls, PATIENCE).await?;
    // A syntax error of the script is an answer.
    session.execute(&Statement::ShowTables).await?;
    session.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_trust_the_right_name_by_the_right_ca_in_its_time_and_plain_text_is_turned_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, other) = (ca("ours"), ca("other"));
    let (tls, config) = tls(&ours, &issue(&ours, "127.0.0.1", NOW), None);
    let node = node(dir.path(), tls).await;
    let trusting = SessionTls::new(&ours.pem(), None);
    say(&node, Some(&trusting)).await.expect("trusted");
    let strange = say(&node, Some(&SessionTls::new(&other.pem(), None))).await.expect_err("another CA");
    assert!(strange.to_string().contains("UnknownIssuer"), "{strange}");
    say(&node, Some(&SessionTls::new("no PEM", None))).await.expect_err("no CA at all");
    let plain = say(&node, None).await.expect_err("plain text");
    assert!(plain.to_string().contains("insecure transport"), "{plain}");
    // New certificates hold from the next connection on.
    for (pem, why) in [
        (issue(&ours, "elsewhere.test", NOW), "NotValidForName"),
        (issue(&ours, "127.0.0.1", (2000, 2001)), "xpired"),
        (issue(&other, "127.0.0.1", NOW), "UnknownIssuer"),
    ] {
        *config.write().expect("whole") = server(&pem, None);
        let error = say(&node, Some(&trusting)).await.expect_err(why);
        assert!(matches!(error, CallError::Broken { .. }), "{error:?}");
        assert!(error.to_string().contains(why) || why == "NotValidForName", "{why}: {error}");
    }
    *config.write().expect("whole") = server(&issue(&ours, "127.0.0.1", NOW), Some(&ours));
    say(&node, Some(&trusting)).await.expect_err("no certificate is shown");
    for (pem, good) in [(issue(&ours, "client.test", NOW), true), (issue(&other, "client.test", NOW), false)]
    {
        let showing = SessionTls::new(&ours.pem(), Some((&pem.0, &pem.1)));
        assert_eq!(say(&node, Some(&showing)).await.is_ok(), good);
    }
    node.stop().await.expect("stops");
}

/// What a client that wants TLS tells a node that has none: nothing of who it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_tls_hears_no_name_and_no_password() {
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = plain.local_addr().expect("bound").to_string();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a client");
        // Protocol 4.1 with passwords, and without TLS.
        let mut greeting = b"\x0a5.7.0\0\x01\0\0\0abcdefgh\0\x01\xa2\x21\x02\0\x08\0\x15".to_vec();
        greeting.extend([0; 10]);
        greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
        let length = u8::try_from(greeting.len()).expect("short");
        stream.write_all(&[&[length, 0, 0, 0], &greeting[..]].concat()).await.expect("sent");
        let mut heard = Vec::new();
        let _ended = stream.read_to_end(&mut heard).await;
        heard
    });
    let login = manticore::Login::parse("somebody:secretpassword").expect("a login");
    let tls = SessionTls::new(&ca("ours").pem(), None);
    Session::connect(&address, Some(&login), Some(&tls), PATIENCE).await.expect_err("no TLS there");
    let heard = String::from_utf8_lossy(&heard.await.expect("ended")).into_owned();
    assert!(!heard.contains("somebody"), "{heard:?}");
}

/// What is said in plain text behind the wish for TLS is a broken handshake, and no statement.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_said_before_the_handshake_counts_behind_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = ca("ours");
    let (tls, _config) = tls(&ours, &issue(&ours, "127.0.0.1", NOW), None);
    let node = node(dir.path(), tls).await;
    let mut stream = TcpStream::connect(node.addresses().mysql).await.expect("connected");
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.expect("greeted");
    let mut greeting = vec![0; usize::from(head[0])];
    stream.read_exact(&mut greeting).await.expect("greeted");
    let wish = [&[32, 0, 0, 1, 0x05, 0x8a, 0x08, 0][..], &[0; 28]].concat();
    let statement = b"\x05\0\0\0\x03OPEN";
    stream.write_all(&[&wish[..], statement].concat()).await.expect("sent");
    let mut answer = Vec::new();
    let _ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
    // At most an alert of TLS: no packet of rows.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_peers_speak_tls_alone() {
    let (dir, second) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (ours, other) = (ca("ours"), ca("other"));
    let (first_tls, _config) = tls(&ours, &issue(&ours, "127.0.0.1", NOW), Some(&ours));
    let (second_tls, config) = tls(&ours, &issue(&ours, "127.0.0.1", NOW), Some(&ours));
    let (here, client) = (node(dir.path(), first_tls.clone()).await, first_tls.client.clone());
    let there = node(second.path(), second_tls).await;
    let ask = async |node: &RunningNode, sql: String| -> Result<String, reqwest::Error> {
        let url = format!("https://{}/sql?mode=raw", node.addresses().http);
        client.post(url).body(sql).send().await?.text().await
    };
    let heard = async |least: i64| {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let text = ask(&there, "HEARD".to_owned()).await.expect("answered");
                let rows: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                if rows[0]["data"][0]["v"].as_i64().expect("a number") >= least {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("heard");
    };
    let send = format!("SEND {} 3 100000", there.addresses().node);
    ask(&here, send.clone()).await.expect("answered");
    heard(3).await;
    // In plain text nobody gets an answer, on any port.
    for address in [there.addresses().http, there.addresses().replication] {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let _sent = stream.write_all(b"GET /replication HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"), "{answer:?}");
    }
    // One that calls itself a node by another CA's certificate hears nothing from now on.
    *config.write().expect("whole") = server(&issue(&other, "127.0.0.1", NOW), None);
    let (stranger, _) = tls(&ours, &issue(&other, "127.0.0.1", NOW), None);
    let url = format!("https://{}/replication", here.addresses().http);
    assert!(stranger.client.get(url).send().await.is_err(), "its certificate is of another CA");
    there.stop().await.expect("stops");
    here.stop().await.expect("stops");
}
