//! Ports for the processes of a development cluster.

use crate::output::{CommandError, Failure};
use crate::random::Random;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below the range from which systems take ports for outgoing connections: a node that is down for a while must
/// find its port free when it comes back.
const LOWEST: u64 = 20_000;
const HIGHEST: u64 = 32_000;
/// Looks for a free port before giving up; each hits a free one with a chance far above one half.
const TRIES: u32 = 200;

pub const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Gives out ports that nobody listens on, each once.
#[derive(Debug)]
pub struct Ports {
    random: Random,
    given: BTreeSet<u16>,
}

impl Ports {
    pub fn new(seed: u64, taken: impl IntoIterator<Item = u16>) -> Self {
        Self { random: Random::new(seed), given: taken.into_iter().collect() }
    }

    pub fn free(&mut self) -> Result<u16, CommandError> {
        for _ in 0..TRIES {
            let port = (LOWEST + self.random.below(HIGHEST - LOWEST)) as u16;
            if !self.given.contains(&port) && is_free(loopback(port)).is_ok() {
                self.given.insert(port);
                return Ok(port);
            }
        }
        let message = format!("no free port found between {LOWEST} and {HIGHEST} on 127.0.0.1");
        Err(CommandError::failed(
            message,
            "stop something that listens there, or give --mysql-base and --http-base",
        ))
    }

    /// The first of so many free ports in a row.
    pub fn row(&mut self, count: u16) -> Result<u16, CommandError> {
        for _ in 0..TRIES {
            let first = (LOWEST + self.random.below(HIGHEST - LOWEST - u64::from(count))) as u16;
            let mut row = first..first + count;
            if row.all(|port| !self.given.contains(&port) && is_free(loopback(port)).is_ok()) {
                self.given.extend(first..first + count);
                return Ok(first);
            }
        }
        let message = format!("no {count} free ports in a row between {LOWEST} and {HIGHEST} on 127.0.0.1");
        Err(CommandError::failed(message, "stop something that listens there"))
    }

    /// A port that was asked for.
    pub fn take(&mut self, port: u16, what: &str, option: &str) -> Result<u16, CommandError> {
        check(loopback(port), what, option)?;
        if !self.given.insert(port) {
            let message = format!("port {port} is wanted twice, the second time for {what}");
            return Err(CommandError::usage(message, format!("choose another {option}")));
        }
        Ok(port)
    }
}

/// Refuses an address that something else listens on.
pub fn check(address: SocketAddr, what: &str, option: &str) -> Result<(), CommandError> {
    is_free(address).map_err(|error| {
        let message = format!("cannot listen on {address} for {what}: {error}");
        CommandError::new(Failure::Failed, message, format!("free the port or choose another with {option}"))
    })
}

fn is_free(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_once_and_taken_ones_are_refused() {
        let mut ports = Ports::new(1, []);
        let first = ports.free().expect("a port");
        assert_ne!(first, ports.free().expect("a port"));
        assert!(ports.take(first, "node 1", "--mysql-base").is_err());
        let row = ports.row(64).expect("a row");
        assert!(ports.take(row + 63, "node 1", "--mysql-base").is_err());
        let other = ports.row(64).expect("another");
        assert!(other.abs_diff(row) >= 64, "{row} and {other} overlap");
        let listener = TcpListener::bind(loopback(0)).expect("a port");
        let taken = listener.local_addr().expect("an address").port();
        let error = ports.take(taken, "node 2", "--http-base").expect_err("taken");
        assert!(error.line().contains("--http-base"), "{}", error.line());
    }
}
