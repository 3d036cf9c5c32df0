//! Users of nodes and their rights, from the first administrator to the last refusal: on an embedded node, or on the
//! searchd that `SHARDWRIGHT_SEARCHD` names.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]
#![allow(clippy::disallowed_methods, reason = "tests run with real processes")]

mod common;

use common::{wait, wait_for};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const ADMIN: (&str, &str) = ("root1", "password-of-root1");
/// Shardwright's own user of the node.
const OWN: (&str, &str) = ("shardwright", "password-of-shardwright");

/// One node with users, and a controller.
struct Place {
    dir: PathBuf,
    mysql: u16,
    http: u16,
    api: u16,
    children: Vec<Child>,
    client: reqwest::Client,
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may be gone already.
            let _gone = child.kill();
            let _gone = child.wait();
        }
        if std::thread::panicking() {
            println!("logs of {}:\n{}", self.dir.display(), common::logs(&self.dir));
        }
    }
}

fn private(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("private");
    path.display().to_string()
}

impl Place {
    async fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("logs")).expect("a directory");
        let mut ports = common::ports();
        let mut port = || ports.free().unwrap_or_else(|error| panic!("{}", error.message));
        // A connection for each: searchd closes one after an error reply without saying so.
        let client =
            reqwest::Client::builder().no_proxy().timeout(common::PATIENCE).pool_max_idle_per_host(0).build();
        let mut place = Self {
            dir: dir.to_owned(),
            mysql: port(),
            http: port(),
            api: port(),
            children: Vec::new(),
            client: client.expect("a client"),
        };
        let own = private(&dir.join("own"), &format!("{}:{}\n", OWN.0, OWN.1));
        let serve = [
            "serve".to_owned(),
            format!("--dir={}", dir.join("controller").display()),
            format!("--api=127.0.0.1:{}", place.api),
            format!("--searchd-login={own}"),
            "--environment=development".to_owned(),
        ];
        let mut command = common::shardwright();
        command.args(serve);
        place.spawn("serve", command);
        let token = dir.join("controller/token");
        wait("the token", || token.exists().then_some(()).ok_or_else(|| "not there".to_owned()));
        let home = dir.join("node");
        std::fs::create_dir_all(home.join("data/binlog")).expect("a directory");
        let sidecar = vec![
            "sidecar".to_owned(),
            format!("--dir={}", home.join("sidecar").display()),
            format!("--data-dir={}", home.join("data").display()),
            format!("--mysql=127.0.0.1:{}", place.mysql),
            format!("--controller=http://127.0.0.1:{}", place.api),
            format!("--token-file={}", token.display()),
            format!("--searchd-login={own}"),
        ];
        match common::searchd() {
            Some(searchd) => place.start_searchd(&searchd, &home, &sidecar).await,
            None => place.start_embedded(&home, &sidecar),
        }
        wait_for("the first administrator", || async {
            let (status, text) = place.ask(Some(ADMIN), "SHOW USERS").await?;
            if status == 200 { Ok(()) } else { Err(text.to_string()) }
        })
        .await;
        place
    }

    fn spawn(&mut self, name: &str, mut command: Command) {
        let log = std::fs::File::create(self.dir.join("logs").join(name)).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.children.push(command.spawn().expect("it runs"));
    }

    fn start_embedded(&mut self, home: &Path, sidecar: &[String]) {
        let login = private(&self.dir.join("admin"), &format!("{}:{}\n", ADMIN.0, ADMIN.1));
        let mut command = common::shardwright();
        command
            .arg("node")
            .arg(format!("--dir={}", home.display()))
            .arg(format!("--mysql=127.0.0.1:{}", self.mysql))
            .arg(format!("--http=127.0.0.1:{}", self.http))
            .arg(format!("--auth-login={login}"))
            .arg(format!("--sidecar={}", env!("CARGO_BIN_EXE_shardwright")))
            .args(sidecar.iter().map(|argument| format!("--sidecar-arg={argument}")));
        self.spawn("node", command);
    }

    async fn start_searchd(&mut self, searchd: &str, home: &Path, sidecar: &[String]) {
        let config = home.join("searchd.conf");
        let text = format!(
            "searchd {{\n listen = 127.0.0.1:{http}\n listen = 127.0.0.1:{mysql}:mysql\n data_dir = {home}/data\n \
             binlog_path = {home}/data/binlog\n log = {home}/searchd.log\n pid_file = {home}/searchd.pid\n \
             threads = 8\n auth = 1\n buddy_path = {binary} {sidecar}\n}}\n",
            http = self.http,
            mysql = self.mysql,
            home = home.display(),
            binary = env!("CARGO_BIN_EXE_shardwright"),
            sidecar = sidecar.join(" "),
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new(searchd);
        command.arg("--nodetach").arg("--config").arg(&config);
        self.spawn("node", command);
        // Its administrator is told to it while it runs.
        wait_for("searchd", || async { self.ask(None, "SHOW USERS").await.map(drop) }).await;
        let mut child = Command::new(searchd)
            .arg("--config")
            .arg(&config)
            .arg("--auth-non-interactive")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        write!(stdin, "{}\n{}\n{}\n", ADMIN.0, ADMIN.1, ADMIN.1).expect("told");
        drop(stdin);
        assert!(child.wait().expect("it ends").success(), "no administrator");
    }

    /// Status and answer of one statement over HTTP.
    async fn ask(&self, user: Option<(&str, &str)>, sql: &str) -> Result<(u16, Value), String> {
        let mut request =
            self.client.post(format!("http://127.0.0.1:{}/sql?mode=raw", self.http)).body(sql.to_owned());
        if let Some((name, password)) = user {
            request = request.basic_auth(name, Some(password));
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.map_err(|error| error.to_string())?))
    }

    /// The rows of a statement that must succeed.
    async fn rows(&self, user: (&str, &str), sql: &str) -> Vec<Value> {
        let (status, answer) = self.ask(Some(user), sql).await.expect("answered");
        assert_eq!(status, 200, "{}: {sql}: {answer}", user.0);
        answer[0]["data"].as_array().cloned().unwrap_or_default()
    }

    /// Why a statement is refused.
    async fn refusal(&self, user: (&str, &str), sql: &str) -> String {
        let (status, answer) = self.ask(Some(user), sql).await.expect("answered");
        let message = answer["error"].as_str().or_else(|| answer[0]["error"].as_str()).unwrap_or_default();
        assert!(!message.is_empty(), "{}: {sql} was done ({status}): {answer}", user.0);
        message.to_owned()
    }

    /// The first values of a statement over MySQL.
    async fn over_mysql(&self, user: (&str, &str), sql: &str) -> Result<Vec<String>, mysql_async::Error> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.mysql)
            .user(Some(user.0))
            .pass(Some(user.1))
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(100))
            .prefer_socket(Some(false));
        let mut conn = Conn::new(options).await?;
        let rows: Vec<mysql_async::Row> = conn.query(sql).await?;
        conn.disconnect().await?;
        Ok(rows.into_iter().map(|row| row.get(0).expect("a text")).collect())
    }

    fn command(&self, arguments: &[&str]) -> String {
        let (url, token) = (format!("http://127.0.0.1:{}", self.api), self.dir.join("controller/token"));
        let token = token.display().to_string();
        let mut all = vec!["--url", &url, "--token-file", &token, "--output", "json"];
        all.extend(arguments);
        String::from_utf8_lossy(&common::run(&all).stdout).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_what_they_are_given_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = Place::start(dir.path()).await;
    let (maker, reader) = (("maker", "password-of-maker"), ("reader", "password-of-reader"));
    for (name, password) in [OWN, maker, reader] {
        place.rows(ADMIN, &format!("CREATE USER '{name}' IDENTIFIED BY '{password}'")).await;
    }
    for (action, target, user) in [
        ("read", "*", OWN),
        ("write", "*", OWN),
        ("schema", "*", OWN),
        ("replication", "*", OWN),
        ("schema", "m*", maker),
        ("write", "m*", maker),
        ("write", "system.m*", maker),
        ("read", "m*", reader),
        ("read", "system.m*", reader),
    ] {
        place.rows(ADMIN, &format!("GRANT {action} ON '{target}' TO '{}'", user.0)).await;
    }
    // Until the controller knows the node, which its own user sees from now on.
    wait_for("a table of the maker's", || async {
        let sql = "CREATE TABLE IF NOT EXISTS m1 (a int) shards='2' rf='1'";
        let (status, answer) = place.ask(Some(maker), sql).await?;
        if status == 200 { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    place.rows(ADMIN, "CREATE TABLE z1 (a int) shards='2' rf='1'").await;
    let denied = |user: (&str, &str)| format!("Permission denied for user '{}'", user.0);
    for (user, sql) in [
        (maker, "CREATE TABLE z2 (a int) shards='2' rf='1'"),
        (maker, "SELECT * FROM m1"),
        (maker, "DROP TABLE z1"),
        (maker, "TRUNCATE TABLE z1"),
        (reader, "CREATE TABLE m2 (a int) shards='2' rf='1'"),
        (reader, "DROP TABLE m1"),
        (reader, "TRUNCATE TABLE m1"),
        (reader, "INSERT INTO m1 (id, a) VALUES (9, 9)"),
        (reader, "SELECT * FROM z1"),
        (reader, "SHOW USERS"),
        (reader, "GRANT read ON '*' TO 'reader'"),
        (reader, "REBALANCE TABLE m1"),
        (reader, "SHOW SHARDING QUEUE"),
        (reader, "EXPLAIN SHARD z1 0"),
        (reader, "SHOW SHARDING STATUS z1"),
        (reader, "REMOVE NODE '127.0.0.1:1'"),
        (maker, "EXPLAIN SHARD m1 0"),
    ] {
        let refusal = place.refusal(user, sql).await;
        assert!(refusal.contains(&denied(user)), "{}: {sql}: {refusal}", user.0);
    }
    the_right_ones_are_shown_and_done(&place, maker, reader).await;
    doors_are_shut(&place, reader).await;
    // What is taken away is gone at once; what forbids wins over what allows.
    place.rows(ADMIN, "REVOKE read ON 'm*' FROM 'reader'").await;
    assert!(place.refusal(reader, "EXPLAIN SHARD m1 0").await.contains(&denied(reader)));
    place.rows(ADMIN, "GRANT schema ON 'm1' TO 'maker' WITH ALLOW 0").await;
    assert!(place.refusal(maker, "DROP TABLE m1").await.contains(&denied(maker)));
    place.rows(ADMIN, "REVOKE schema ON 'm1' FROM 'maker'").await;
    place.rows(maker, "DROP TABLE m1").await;
    place.rows(ADMIN, "DROP USER 'maker'").await;
    assert_eq!(place.ask(Some(maker), "SELECT 1").await.expect("answered").0, 401);
    let audit = place.command(&["audit", "tail", "--lines", "1000"]);
    for wanted in ["sql:maker", "sql:reader", "requires replication permission"] {
        assert!(audit.contains(wanted), "{wanted} is not in {audit}");
    }
    assert!(!audit.contains("password-of"), "{audit}");
}

async fn the_right_ones_are_shown_and_done(place: &Place, maker: (&str, &str), reader: (&str, &str)) {
    place.rows(maker, "INSERT INTO m1 (id, a) VALUES (1, 1), (2, 2), (3, 3)").await;
    let counted = place.over_mysql(reader, "SELECT COUNT(*) FROM m1").await.expect("read");
    assert_eq!(counted, ["3"]);
    let seen = |rows: Vec<Value>| {
        let mut names: Vec<String> = rows
            .iter()
            .filter_map(|row| row["table"].as_str().or(row["Table"].as_str()))
            .map(str::to_owned)
            .collect();
        names.dedup();
        names
    };
    assert_eq!(seen(place.rows(reader, "SHOW SHARDING STATUS").await), ["m1"]);
    assert_eq!(seen(place.rows(ADMIN, "SHOW SHARDING STATUS").await), ["m1", "z1"]);
    assert_eq!(seen(place.rows(reader, "SHOW TABLES").await), ["m1"]);
    place.rows(reader, "EXPLAIN SHARD m1 0").await;
    place.rows(maker, "TRUNCATE TABLE m1").await;
    wait_for("an empty table", || async {
        let counted =
            place.over_mysql(reader, "SELECT COUNT(*) FROM m1").await.map_err(|error| error.to_string())?;
        if counted == ["0"] { Ok(()) } else { Err(format!("{counted:?}")) }
    })
    .await;
}

/// Nobody, a wrong password, a wrong token, another user's name.
async fn doors_are_shut(place: &Place, reader: (&str, &str)) {
    for user in [None, Some((reader.0, "wrong")), Some(("nobody", "x")), Some(("", ""))] {
        let (status, answer) = place.ask(user, "SELECT 1").await.expect("answered");
        assert_eq!(status, 401, "{user:?}: {answer}");
    }
    for user in [(reader.0, "wrong"), ("nobody", "x"), ("root1", "")] {
        let error = place.over_mysql(user, "SELECT 1").await.expect_err("refused").to_string();
        assert!(error.contains(&format!("Access denied for user '{}'", user.0)), "{error}");
    }
    let created = place.rows(ADMIN, "CREATE USER 'robot' IDENTIFIED BY 'password-of-robot'").await;
    let token = created[0]["token"].as_str().expect("a token");
    place.rows(ADMIN, "GRANT read ON 'm*' TO 'robot'").await;
    let by_token = async |token: &str, as_user: Option<&str>, sql: &str| {
        let url = format!("http://127.0.0.1:{}/sql?mode=raw", place.http);
        let mut request = place.client.post(url).bearer_auth(token).body(sql.to_owned());
        if let Some(user) = as_user {
            request = request.header("X-Manticore-User", user);
        }
        request.send().await.expect("answered").status().as_u16()
    };
    assert_eq!(by_token(token, None, "SELECT 1").await, 200);
    assert_eq!(by_token(&"0".repeat(64), None, "SELECT 1").await, 401);
    assert_ne!(
        by_token(token, Some(ADMIN.0), "SHOW USERS").await,
        200,
        "nobody but the sidecar speaks for others"
    );
}
