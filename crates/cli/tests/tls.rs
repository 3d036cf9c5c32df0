//! A cluster in which everything that speaks speaks TLS: controller, nodes, their sidecars and clients.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]
#![allow(clippy::disallowed_methods, reason = "tests run with real processes")]

mod common;

use common::wait_for;
use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Conn, OptsBuilder, Row, SslOpts};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Everybody's certificate, and who made it.
struct Keys {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Keys {
    fn make(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &ca).expect("signed").pem();
        let keys = Self { ca: dir.join("ca.crt"), cert: dir.join("all.crt"), key: dir.join("all.key") };
        std::fs::write(&keys.ca, ca.pem()).expect("written");
        std::fs::write(&keys.cert, cert).expect("written");
        std::fs::write(&keys.key, key.serialize_pem()).expect("written");
        std::fs::set_permissions(&keys.key, std::fs::Permissions::from_mode(0o600)).expect("private");
        keys
    }

    /// As a client.
    fn shown(&self) -> Vec<String> {
        [("ca-file", &self.ca), ("cert-file", &self.cert), ("key-file", &self.key)]
            .map(|(name, path)| format!("--{name}={}", path.display()))
            .to_vec()
    }

    /// As a server, which also asks others.
    fn served(&self) -> Vec<String> {
        let own = [("tls-cert", &self.cert), ("tls-key", &self.key), ("tls-client-ca", &self.ca)];
        let own = own.map(|(name, path)| format!("--{name}={}", path.display()));
        [&own[..], &self.shown()].concat()
    }
}

/// Processes that end with the test.
struct Running(PathBuf, Vec<Child>);

impl Running {
    fn start(&mut self, name: &str, arguments: &[String]) -> u32 {
        let log = std::fs::File::create(self.0.join("logs").join(name)).expect("a log");
        let mut command = common::shardwright();
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("the binary runs");
        let pid = child.id();
        self.1.push(child);
        pid
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.1 {
            // It may be gone already.
            let _gone = child.kill();
            let _gone = child.wait();
        }
        if std::thread::panicking() {
            println!("logs of {}:\n{}", self.0.display(), common::logs(&self.0));
        }
    }
}

async fn connect(port: u16, keys: Option<&Keys>) -> Result<Conn, mysql_async::Error> {
    let tls = keys.map(|keys| {
        SslOpts::default()
            .with_root_certs(vec![keys.ca.clone().into()])
            .with_disable_built_in_roots(true)
            .with_client_identity(Some(ClientIdentity::new(
                keys.cert.clone().into(),
                keys.key.clone().into(),
            )))
    });
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(100))
        .prefer_socket(Some(false))
        .ssl_opts(tls);
    Conn::new(options).await
}

async fn sql(port: u16, keys: &Keys, statement: &str) -> Result<Vec<Row>, String> {
    let mut conn = connect(port, Some(keys)).await.map_err(|error| error.to_string())?;
    let rows = conn.query(statement).await.map_err(|error| error.to_string())?;
    conn.disconnect().await.map_err(|error| error.to_string())?;
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_lives_on_tls_alone() {
    common::embedded_all_the_same("certificates are given to embedded nodes");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(dir.path().join("logs")).expect("a directory");
    let keys = Keys::make(dir.path());
    let mut ports = common::ports();
    let mut port = || ports.free().unwrap_or_else(|error| panic!("{}", error.message));
    let (api, nodes) = (port(), [[port(), port()], [port(), port()]]);
    let mut running = Running(dir.path().to_owned(), Vec::new());
    let controller = dir.path().join("controller");
    let mut arguments = vec![
        "serve".to_owned(),
        format!("--dir={}", controller.display()),
        format!("--api=127.0.0.1:{api}"),
        "--environment=development".to_owned(),
        "--set=require_tls_for_cluster_communication=true".to_owned(),
    ];
    arguments.extend(keys.served());
    running.start("serve", &arguments);
    let token = controller.join("token");
    common::wait("the token", || token.exists().then_some(()).ok_or_else(|| "not there".to_owned()));
    let mut pids = Vec::new();
    for (number, [mysql, http]) in nodes.iter().enumerate() {
        let home = dir.path().join(format!("node{number}"));
        let mut arguments = vec![
            "node".to_owned(),
            format!("--dir={}", home.display()),
            format!("--mysql=127.0.0.1:{mysql}"),
            format!("--http=127.0.0.1:{http}"),
            format!("--sidecar={}", env!("CARGO_BIN_EXE_shardwright")),
        ];
        let sidecar = [
            "sidecar".to_owned(),
            format!("--dir={}", home.join("sidecar").display()),
            format!("--data-dir={}", node::data_dir(&home).display()),
            format!("--mysql=127.0.0.1:{mysql}"),
            format!("--controller=https://127.0.0.1:{api}"),
            format!("--token-file={}", token.display()),
            "--node-tls".to_owned(),
        ];
        let sidecar = [&sidecar[..], &keys.shown()].concat();
        arguments.extend(sidecar.iter().map(|argument| format!("--sidecar-arg={argument}")));
        arguments.extend(keys.served());
        pids.push(running.start(&format!("node{number}"), &arguments));
    }
    let first = format!("127.0.0.1:{}", nodes[0][1]);
    for (number, [mysql, _]) in nodes.iter().enumerate() {
        let enter =
            if number == 0 { "CREATE CLUSTER c".to_owned() } else { format!("JOIN CLUSTER c AT '{first}'") };
        wait_for("a node's entry into the cluster", || async {
            if sql(*mysql, &keys, "SHOW STATUS LIKE 'cluster_c_status'").await?.is_empty() {
                sql(*mysql, &keys, &enter).await?;
            }
            Ok(())
        })
        .await;
    }
    let [[one, _], [two, second]] = nodes;
    wait_for("a table", || sql(one, &keys, "CREATE TABLE IF NOT EXISTS c:t (a int) shards='2' rf='1'")).await;
    let rows: Vec<String> = (1..=40).map(|id| format!("({id}, {id})")).collect();
    let insert = format!("REPLACE INTO t (id, a) VALUES {}", rows.join(", "));
    wait_for("documents", || sql(two, &keys, &insert)).await;
    // A shard of rf 1 changes hands by way of a lock, which a MySQL session holds.
    let placed = wait_for("the placement", || sql(one, &keys, "SHOW SHARDING STATUS t")).await;
    let from: String = placed[0].get("node").expect("a node");
    let to = if from == first { format!("127.0.0.1:{second}") } else { first };
    let order = format!("MOVE SHARD t 0 FROM '{from}' TO '{to}'");
    wait_for("the move's beginning", || sql(one, &keys, &order)).await;
    wait_for("the move's end", || async {
        let placed = sql(one, &keys, "SHOW SHARDING STATUS t").await?;
        let at: Vec<String> = placed
            .iter()
            .filter(|row| row.get::<i64, _>("shard") == Some(0))
            .filter_map(|row| row.get("node"))
            .collect();
        if at == [to.clone()] { Ok(()) } else { Err(format!("{at:?}")) }
    })
    .await;
    for port in [one, two] {
        wait_for("all documents", || async {
            let counted = sql(port, &keys, "SELECT COUNT(*) FROM t").await?;
            let counted: Option<u64> = counted[0].get(0);
            if counted == Some(40) { Ok(()) } else { Err(format!("{counted:?}")) }
        })
        .await;
    }
    let refused = connect(one, None).await.expect_err("plain text").to_string();
    assert!(refused.contains("insecure transport"), "{refused}");
    // SIGHUP has certificates read again and ends nothing: who trusts the first CA alone turns away from the second's.
    let before = std::fs::read(&keys.ca).expect("read");
    Keys::make(dir.path());
    common::signal(pids[0], "HUP");
    let kept = dir.path().join("before.crt");
    std::fs::write(&kept, before).expect("written");
    let old = Keys { ca: kept, cert: keys.cert.clone(), key: keys.key.clone() };
    wait_for("the new certificate", || async {
        match (connect(one, Some(&keys)).await, connect(one, Some(&old)).await) {
            (Ok(_), Err(_)) => Ok(()),
            other => Err(format!("{:?} {:?}", other.0.is_ok(), other.1.is_ok())),
        }
    })
    .await;
}

/// What a sidecar says under a lock, with a real searchd's TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_searchd_is_tls_or_none() {
    let Some(searchd) = common::searchd() else {
        eprintln!("SKIPPED: SHARDWRIGHT_SEARCHD names no searchd: nothing about its TLS is tested");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let (keys, strange) = (Keys::make(dir.path()), dir.path().join("strange"));
    std::fs::create_dir_all(&strange).expect("a directory");
    std::fs::create_dir_all(dir.path().join("data/binlog")).expect("a directory");
    std::fs::create_dir_all(dir.path().join("logs")).expect("a directory");
    let strange = Keys::make(&strange);
    let mut ports = common::ports();
    let port = ports.free().unwrap_or_else(|error| panic!("{}", error.message));
    let config = dir.path().join("searchd.conf");
    let text = format!(
        "searchd {{\n listen = 127.0.0.1:{port}:mysql\n data_dir = {home}/data\n binlog_path = {home}/data/binlog\n \
         log = {home}/logs/searchd\n pid_file = {home}/pid\n ssl_cert = {cert}\n ssl_key = {key}\n ssl_ca = {ca}\n \
         buddy_path =\n}}\n",
        home = dir.path().display(),
        cert = keys.cert.display(),
        key = keys.key.display(),
        ca = keys.ca.display(),
    );
    std::fs::write(&config, text).expect("written");
    let mut command = std::process::Command::new(searchd);
    command.arg("--nodetach").arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
    let _running = Running(dir.path().to_owned(), vec![command.spawn().expect("it runs")]);
    let address = format!("127.0.0.1:{port}");
    let say = async |keys: &Keys| -> Result<manticore::Reply, String> {
        let text = [&keys.ca, &keys.cert, &keys.key].map(|path| std::fs::read_to_string(path).expect("read"));
        let tls = manticore::SessionTls::new(&text[0], Some((&text[1], &text[2])));
        let session = manticore::Session::connect(&address, None, Some(&tls), common::PATIENCE).await;
        let mut session = session.map_err(|error| error.to_string())?;
        session.execute(&manticore::Statement::ShowTables).await.map_err(|error| error.to_string())
    };
    let reply = wait_for("searchd", || say(&keys)).await;
    assert!(matches!(reply, manticore::Reply::Rows(_)), "{reply:?}");
    let error = say(&strange).await.expect_err("another CA");
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
}
