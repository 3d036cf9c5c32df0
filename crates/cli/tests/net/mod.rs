//! A network of a test's own: one namespace for each host, joined by a bridge, so that hosts can be cut off from each
//! other for real, by packets that go nowhere.
//!
//! Everything listens on loopback, as embedded nodes must. So that `127.0.0.1:PORT` means the same service on every
//! host, each has a forwarder: it takes connections to services of other hosts on its loopback, and carries them over
//! the bridge to the forwarder of the host that has the service. Forwarders are this program itself, run again.
//!
//! Namespaces are made by the test (`ip netns`, which needs to be root) and go with it.

// Each test file is a program of its own and uses only a part of this.
#![allow(dead_code)]
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::print_stderr, reason = "what was skipped must be seen")]

use std::io::{BufRead, BufReader, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Hosts beside the one that the test itself runs on.
pub const HOSTS: usize = 6;
/// The number of the test's own host.
pub const OWN: usize = HOSTS;
const OF_TEST: &str = "NET_OF_TEST";
const FORWARD: &str = "NET_FORWARDS";

/// Runs the test `name` of this program again on a network of its own, and gives `None`: all is done. On that network
/// it gives the network.
pub fn own(name: &str) -> Option<Net> {
    if let Ok(prefix) = std::env::var(OF_TEST) {
        return Some(Net { prefix, forwarders: Vec::new() });
    }
    let made = Namespaces::make()?;
    let status = Command::new("ip")
        .args(["netns", "exec", &made.name(OWN)])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(OF_TEST, &made.prefix)
        .status()
        .expect("it runs");
    assert!(status.success(), "{name} failed on its own network");
    None
}

/// The namespaces; dropped, they go.
struct Namespaces {
    prefix: String,
}

impl Namespaces {
    /// Says loudly when this machine lets us make none. With `SHARDWRIGHT_NETNS_REQUIRED` set that is a failure
    /// instead.
    fn make() -> Option<Self> {
        let made = Self { prefix: format!("sw{}", std::process::id()) };
        let hub = made.name(OWN);
        if let Err(why) = ip(&["netns", "add", &hub]) {
            assert!(
                std::env::var_os("SHARDWRIGHT_NETNS_REQUIRED").is_none(),
                "no network namespace can be made ({why}), and these tests must not be skipped here"
            );
            eprintln!(
                "SKIPPED: no network namespace can be made ({why}): nothing about partitions is tested"
            );
            return None;
        }
        let must = |arguments: &[&str]| ip(arguments).unwrap_or_else(|why| panic!("ip {arguments:?}: {why}"));
        must(&["-n", &hub, "link", "set", "lo", "up"]);
        must(&["-n", &hub, "link", "add", "br0", "type", "bridge"]);
        must(&["-n", &hub, "addr", "add", &format!("{}/24", address(OWN)), "dev", "br0"]);
        must(&["-n", &hub, "link", "set", "br0", "up"]);
        for host in 0..HOSTS {
            let (name, port) = (made.name(host), port(host));
            must(&["netns", "add", &name]);
            must(&["-n", &name, "link", "set", "lo", "up"]);
            let link =
                ["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name];
            must(&link);
            must(&["-n", &name, "addr", "add", &format!("{}/24", address(host)), "dev", "eth0"]);
            must(&["-n", &name, "link", "set", "eth0", "up"]);
            must(&["-n", &hub, "link", "set", &port, "master", "br0", "up"]);
        }
        Some(made)
    }

    fn name(&self, host: usize) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for host in 0..=HOSTS {
            // One that was not made is not there to remove.
            let _gone = ip(&["netns", "del", &self.name(host)]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new("ip").args(arguments).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

/// The bridge's end of a host's link.
fn port(host: usize) -> String {
    format!("v{host}")
}

/// The network, seen from the test's own host. Dropped, the forwarders end.
pub struct Net {
    prefix: String,
    forwarders: Vec<Child>,
}

impl Net {
    /// The same command, run on a host.
    pub fn on(&self, host: usize, command: Command) -> Command {
        if host == OWN {
            return command;
        }
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &format!("{}-{host}", self.prefix)]);
        there.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there
    }

    /// Makes these ports of loopback, each with the host that has the service, reach it from everywhere.
    pub fn forward(&mut self, services: &[(usize, u16)]) {
        let exe = std::env::current_exe().expect("this program");
        for host in 0..=HOSTS {
            let ways: Vec<String> = services
                .iter()
                .map(|(owner, port)| {
                    let (near, far) = (format!("127.0.0.1:{port}"), format!("{}:{port}", address(*owner)));
                    if *owner == host { format!("{far}>{near}") } else { format!("{near}>{far}") }
                })
                .collect();
            let forwarder = self
                .on(host, Command::new(&exe))
                .args(["--exact", "net::forwarder", "--nocapture"])
                .env(FORWARD, ways.join(","))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            self.forwarders.push(forwarder.expect("it runs"));
        }
        // Who is started next must find them listening.
        for forwarder in &mut self.forwarders {
            let Some(said) = forwarder.stdout.take() else { continue };
            let mut lines = BufReader::new(said).lines().map_while(Result::ok);
            assert!(lines.any(|line| line.contains(LISTENING)), "a forwarder does not listen");
            // It must not wait for a reader of what else it says.
            std::thread::spawn(move || lines.for_each(drop));
        }
    }

    /// From now on nothing that this host sends reaches anybody, and it hears nothing.
    #[allow(clippy::unused_self, reason = "a wire is that of a network")]
    pub fn cut_off(&self, host: usize) {
        ip(&["link", "set", &port(host), "nomaster"]).expect("cut");
    }

    #[allow(clippy::unused_self, reason = "a wire is that of a network")]
    pub fn reconnect(&self, host: usize) {
        ip(&["link", "set", &port(host), "master", "br0"]).expect("mended");
    }

    /// What one host sends to another goes nowhere, so that no connection between the two works.
    pub fn cut_between(&self, host: usize, other: usize) {
        let (from, to) = (format!("{}-{host}", self.prefix), address(other));
        ip(&[
            "-n",
            &from,
            "neigh",
            "replace",
            &to,
            "lladdr",
            "02:00:00:00:00:01",
            "dev",
            "eth0",
            "nud",
            "permanent",
        ])
        .expect("cut");
    }

    pub fn mend_between(&self, host: usize, other: usize) {
        let (from, to) = (format!("{}-{host}", self.prefix), address(other));
        ip(&["-n", &from, "neigh", "del", &to, "dev", "eth0"]).expect("mended");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for forwarder in &mut self.forwarders {
            // It may be gone already.
            let _gone = forwarder.kill();
            let _gone = forwarder.wait();
        }
    }
}

/// What a forwarder says once all its ports listen.
const LISTENING: &str = "forwards from now on";

/// No test: a host's forwarder, when it was started as one.
#[test]
fn forwarder() {
    let Ok(ways) = std::env::var(FORWARD) else { return };
    for way in ways.split(',').filter(|way| !way.is_empty()) {
        let (from, to) = way.split_once('>').expect("a way");
        let (listener, to) = (TcpListener::bind(from).expect("a free port"), to.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = to.clone();
                std::thread::spawn(move || carry(client, &to));
            }
        });
    }
    println!("{LISTENING}");
    // Until the test that started it is gone: it holds the other end.
    let _ended = copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// Carries one connection; what cannot be reached shows as a connection that is closed at once.
fn carry(client: TcpStream, to: &str) {
    let Ok(server) = TcpStream::connect(to) else { return };
    // Each write is one message of somebody who waits for the answer.
    let _as_it_is = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let up = std::thread::spawn(move || one_way(from_client, to_server));
    one_way(server, client);
    let _ended = up.join();
}

fn one_way(mut from: TcpStream, mut to: TcpStream) {
    let _ended = copy(&mut from, &mut to);
    let _closed = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}
