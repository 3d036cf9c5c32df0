//! Three controllers and three embedded nodes, each a process of the real binary, on one etcd.

// Each test file is a program of its own and uses only a part of this.
#![allow(dead_code)]

use crate::common::{self, signal, sql, wait, wait_for};
use crate::etcd::Etcd;
use crate::net::{self, Net};
use cli::load::Endpoint;
use model::NodeId;
use model::api::ControllerShow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

const CONTROLLERS: usize = 3;
const NODES: usize = 3;
const OPTIONS: &str = "evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;\
                       evs.inactive_check_period=PT0.3S";

/// Where a node runs when there is a network.
pub const fn host_of_node(number: usize) -> usize {
    number
}

pub const fn host_of_controller(number: usize) -> usize {
    NODES + number
}

/// All processes; dropped, they are killed.
pub struct Trio {
    dir: PathBuf,
    store: String,
    apis: Vec<u16>,
    controllers: Vec<Child>,
    nodes: Vec<(Endpoint, Child)>,
    net: Option<Net>,
    client: reqwest::Client,
}

impl Trio {
    /// Starts everything, and waits until a leader knows all nodes.
    pub async fn start(dir: &Path, etcd: &Etcd) -> Self {
        Self::start_on(dir, etcd, None).await
    }

    /// The same, each process on a host of its own when there is a network.
    pub async fn start_on(dir: &Path, etcd: &Etcd, net: Option<Net>) -> Self {
        common::embedded_all_the_same(
            "several controllers and hosts of their own are tried on embedded nodes",
        );
        std::fs::create_dir_all(dir.join("logs")).expect("a directory");
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build();
        // Not from those that systems give to outgoing connections: a controller must find its own free again.
        let mut ports = common::ports();
        let mut port = || ports.free().unwrap_or_else(|error| panic!("{}", error.message));
        let mut trio = Self {
            dir: dir.to_owned(),
            store: etcd.address("shardwright"),
            apis: (0..CONTROLLERS).map(|_| port()).collect(),
            controllers: Vec::new(),
            nodes: Vec::new(),
            net,
            client: client.expect("a client"),
        };
        let ports: Vec<[u16; 3]> = (0..NODES).map(|_| [port(), port(), port()]).collect();
        if let Some(net) = &mut trio.net {
            let mut services = vec![(net::OWN, etcd.port())];
            services.extend(trio.apis.iter().enumerate().map(|(at, port)| (host_of_controller(at), *port)));
            for (at, ports) in ports.iter().enumerate() {
                services.extend(ports.map(|port| (host_of_node(at), port)));
            }
            net.forward(&services);
        }
        let token = trio.token_file();
        std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").expect("written");
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("private");
        for number in 0..CONTROLLERS {
            let own = trio.dir.join(format!("controller{number}"));
            std::fs::create_dir_all(&own).expect("a directory");
            // With its mode.
            std::fs::copy(&token, own.join("token")).expect("copied");
            let child = trio.spawn_controller(number);
            trio.controllers.push(child);
        }
        for (number, ports) in ports.into_iter().enumerate() {
            let node = trio.spawn_node(number, ports);
            trio.nodes.push(node);
        }
        trio.form_cluster().await;
        trio.wait_until_known().await;
        trio
    }

    fn token_file(&self) -> PathBuf {
        self.dir.join("token")
    }

    pub const fn net(&self) -> &Net {
        self.net.as_ref().expect("it was started on one")
    }

    fn spawn(&self, host: usize, name: &str, arguments: &[String]) -> Child {
        let path = self.dir.join("logs").join(name);
        let log = std::fs::File::options().create(true).append(true).open(path).expect("a log");
        let mut command = common::shardwright();
        if let Some(net) = &self.net {
            command = net.on(host, command);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command.spawn().expect("the binary runs")
    }

    fn spawn_controller(&self, number: usize) -> Child {
        self.spawn(
            host_of_controller(number),
            &format!("controller{number}"),
            &[
                "serve".to_owned(),
                format!("--dir={}", self.dir.join(format!("controller{number}")).display()),
                format!("--api=127.0.0.1:{}", self.apis[number]),
                format!("--store={}", self.store),
                "--environment=development".to_owned(),
            ],
        )
    }

    fn spawn_node(&self, number: usize, [mysql, http, replication]: [u16; 3]) -> (Endpoint, Child) {
        let dir = self.dir.join(format!("node{number}"));
        // It takes the port of its last start again.
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("replication-port"), replication.to_string()).expect("written");
        let urls: Vec<String> = self.apis.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let sidecar = [
            "sidecar".to_owned(),
            format!("--dir={}", dir.join("sidecar").display()),
            format!("--data-dir={}", node::data_dir(&dir).display()),
            format!("--mysql=127.0.0.1:{mysql}"),
            format!("--controller={}", urls.join(",")),
            format!("--token-file={}", self.token_file().display()),
        ];
        let mut arguments = vec![
            "node".to_owned(),
            format!("--dir={}", dir.display()),
            format!("--mysql=127.0.0.1:{mysql}"),
            format!("--http=127.0.0.1:{http}"),
            format!("--sidecar={}", env!("CARGO_BIN_EXE_shardwright")),
        ];
        arguments.extend(sidecar.iter().map(|argument| format!("--sidecar-arg={argument}")));
        let child = self.spawn(host_of_node(number), &format!("node{number}"), &arguments);
        let node = NodeId::new(format!("127.0.0.1:{http}")).expect("a name");
        (Endpoint { node, mysql: format!("127.0.0.1:{mysql}").parse().expect("an address") }, child)
    }

    /// Makes the cluster `c` of all nodes.
    async fn form_cluster(&self) {
        let nodes = self.endpoints();
        for (number, node) in nodes.iter().enumerate() {
            let enter = match number {
                0 => format!("CREATE CLUSTER c '{OPTIONS}' AS options"),
                _ => format!("JOIN CLUSTER c AT '{}' '{OPTIONS}' AS options", nodes[0].node),
            };
            // A node that has just been started does not answer yet; one that joins in haste is turned away.
            wait_for("a node's entry into the cluster", || async {
                let status =
                    sql(node, "SHOW STATUS LIKE 'cluster_c_status'").await.map_err(|f| f.to_string())?;
                if !status.is_empty() {
                    return Ok(());
                }
                sql(node, &enter).await.map(drop).map_err(|fault| fault.to_string())
            })
            .await;
        }
    }

    async fn wait_until_known(&self) {
        wait_for("a leader that knows all nodes", || async {
            let leader = self.leader().await.ok_or("nobody leads")?;
            let nodes = common::json(&self.ask(leader, &["node", "list"]));
            let active =
                nodes["nodes"].as_array().into_iter().flatten().filter(|node| node["state"] == "active");
            if active.count() == NODES { Ok(()) } else { Err(nodes.to_string()) }
        })
        .await;
    }

    /// Operations that run now, by the leader.
    async fn running(&self) -> Result<u64, String> {
        let leader = self.leader().await.ok_or("nobody leads")?;
        let shown = common::json(&self.ask(leader, &["status"]));
        shown["rebalancing"]["running_operations"].as_u64().ok_or_else(|| shown.to_string())
    }

    /// Until a creation has begun.
    pub async fn wait_until_running(&self) {
        wait_for("a running operation", || async {
            if self.running().await? > 0 { Ok(()) } else { Err("nothing runs".to_owned()) }
        })
        .await;
    }

    /// Until everything that was begun is finished.
    pub async fn wait_until_calm(&self) {
        wait_for("the end of all operations", || async {
            let running = self.running().await?;
            if running == 0 { Ok(()) } else { Err(format!("{running} run")) }
        })
        .await;
    }

    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.nodes.iter().map(|(endpoint, _)| endpoint.clone()).collect()
    }

    /// A controller's own word, when it answers.
    pub async fn show(&self, number: usize) -> Option<ControllerShow> {
        let url = format!("http://127.0.0.1:{}/api/v1/controller", self.apis[number]);
        self.client.get(url).send().await.ok()?.json().await.ok()
    }

    /// The controller that says that it leads, under the highest epoch of those that do.
    pub async fn leader(&self) -> Option<usize> {
        let mut leading = Vec::new();
        for number in 0..CONTROLLERS {
            leading
                .extend(self.show(number).await.filter(|show| show.leads).map(|show| (show.epoch, number)));
        }
        leading.into_iter().max().map(|(_, number)| number)
    }

    pub fn pid(&self, number: usize) -> u32 {
        self.controllers[number].id()
    }

    pub fn kill(&mut self, number: usize) {
        self.controllers[number].kill().expect("killed");
        self.controllers[number].wait().expect("gone");
    }

    pub fn start_controller(&mut self, number: usize) {
        self.controllers[number] = self.spawn_controller(number);
    }

    pub async fn wait_for_controller(&self, number: usize) {
        wait_for("a controller", || async {
            let show = self.show(number).await.ok_or("no answer")?;
            if show.able { Ok(()) } else { Err(format!("{show:?}")) }
        })
        .await;
    }

    /// A command against one controller.
    pub fn ask(&self, number: usize, arguments: &[&str]) -> Output {
        let (url, token) =
            (format!("http://127.0.0.1:{}", self.apis[number]), self.token_file().display().to_string());
        let mut all = vec!["--url", &url, "--token-file", &token, "--output", "json"];
        all.extend(arguments);
        common::run(&all)
    }

    /// SIGTERM to everything; all must end, and nothing may be left.
    pub fn end(mut self) {
        let mut children: Vec<Child> = std::mem::take(&mut self.controllers);
        children.extend(std::mem::take(&mut self.nodes).into_iter().map(|(_, child)| child));
        for mut child in children {
            if child.try_wait().expect("a child").is_none() {
                signal(child.id(), "TERM");
            }
            let status = wait("the end of a process", || {
                child.try_wait().expect("a child").ok_or_else(|| "it still runs".to_owned())
            });
            assert!(status.success(), "a process ended with {status}: {}", common::logs(&self.dir));
        }
        wait("the end of all sidecars", || {
            let left = common::processes_of(&self.dir);
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        for child in self.controllers.iter_mut().chain(self.nodes.iter_mut().map(|(_, child)| child)) {
            // It may be gone already.
            let _gone = child.kill();
            let _gone = child.wait();
        }
        if std::thread::panicking() {
            println!("logs of {}:\n{}", self.dir.display(), common::logs(&self.dir));
        }
    }
}
