//! Where a log in etcd lies: `etcd://HOST:PORT[,HOST:PORT…]/PREFIX`, or `etcds://…` over TLS.

use super::tls::TlsSource;
use secrecy::{ExposeSecret as _, SecretString};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Members of one etcd cluster, and the prefix of the log's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAddress {
    endpoints: Vec<String>,
    prefix: String,
    encrypted: bool,
    tls: Option<TlsSource>,
    login: Option<EtcdLogin>,
}

/// A user of etcd, where it has users.
#[derive(Clone, Debug)]
pub struct EtcdLogin {
    pub name: String,
    pub password: SecretString,
}

impl PartialEq for EtcdLogin {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for EtcdLogin {}

/// Why a text is no address of a log in etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no address of a control log in etcd: {reason}; write it as etcd://HOST:PORT[,HOST:PORT…]/PREFIX, or etcds://… over TLS"
)]
pub struct InvalidAddress {
    // The text itself is not repeated: someone may have put a password into it.
    reason: String,
}

impl EtcdAddress {
    /// `host:port` of each member of etcd, in the order in which they are tried.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Whether it is to be spoken to over TLS: then [`EtcdAddress::over`] says how.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Whether all members are on this machine.
    pub fn is_on_loopback(&self) -> bool {
        self.endpoints.iter().all(|endpoint| {
            let host = endpoint.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    }

    /// The same address, spoken to over `tls`.
    pub fn over(self, tls: impl Into<TlsSource>) -> Self {
        Self { encrypted: true, tls: Some(tls.into()), ..self }
    }

    /// The same address, spoken to as this user.
    pub fn as_user(self, login: EtcdLogin) -> Self {
        Self { login: Some(login), ..self }
    }

    pub(super) const fn login(&self) -> Option<&EtcdLogin> {
        self.login.as_ref()
    }

    pub(super) const fn tls(&self) -> Option<&TlsSource> {
        self.tls.as_ref()
    }

    /// What all keys of the log begin with: no slash at either end, never empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for EtcdAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |reason: &str| InvalidAddress { reason: reason.to_owned() };
        let encrypted = text.strip_prefix("etcds://");
        let rest = encrypted
            .or_else(|| text.strip_prefix("etcd://"))
            .ok_or_else(|| invalid("it does not begin with etcd:// or etcds://"))?;
        if rest.contains('@') {
            return Err(invalid("credentials do not belong into an address, which logs and `ps` show"));
        }
        let (members, prefix) = rest.split_once('/').ok_or_else(|| invalid("the prefix is missing"))?;
        let prefix = prefix.trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if prefix.is_empty() || !prefix.chars().all(plain) {
            return Err(invalid("the prefix must be letters, digits and the characters - _ . /"));
        }
        let endpoints: Vec<String> = members.split(',').map(str::to_owned).collect();
        if endpoints.iter().any(|endpoint| !is_endpoint(endpoint)) {
            return Err(invalid("a member is not HOST:PORT"));
        }
        Ok(Self {
            endpoints,
            prefix: prefix.to_owned(),
            encrypted: encrypted.is_some(),
            tls: None,
            login: None,
        })
    }
}

fn is_endpoint(text: &str) -> bool {
    let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.bytes().all(host_byte) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

impl fmt::Display for EtcdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "etcds" } else { "etcd" };
        write!(f, "{scheme}://{}/{}", self.endpoints.join(","), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_members_and_a_prefix() {
        let read: EtcdAddress =
            "etcd://a:2379,10.0.0.2:2379,[::1]:2379/shardwright/prod/".parse().expect("valid");
        assert_eq!(read.endpoints(), ["a:2379", "10.0.0.2:2379", "[::1]:2379"]);
        assert_eq!(read.prefix(), "shardwright/prod");
        assert_eq!(read.to_string(), "etcd://a:2379,10.0.0.2:2379,[::1]:2379/shardwright/prod");
        assert!(!read.is_encrypted() && !read.is_on_loopback());
        let read: EtcdAddress = "etcds://localhost:1,127.0.0.1:2,[::1]:3/p".parse().expect("valid");
        assert!(read.is_encrypted() && read.is_on_loopback());
        assert_eq!(read.to_string(), "etcds://localhost:1,127.0.0.1:2,[::1]:3/p");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for wrong in [
            "http://a:1/p",
            "etcd://a:1",
            "etcd://a:1/",
            "etcd:///p",
            "etcd://a/p",
            "etcd://a:0/p",
            "etcd://a:1,/p",
            "etcd://a:1/p p",
            "etcd://a:70000/p",
        ] {
            assert!(wrong.parse::<EtcdAddress>().is_err(), "{wrong}");
        }
        let error = "etcd://root:hunter2@a:1/p".parse::<EtcdAddress>().expect_err("refused").to_string();
        assert!(error.contains("credentials") && !error.contains("hunter2"), "{error}");
    }
}
