//! A log in a real etcd that has users.

#![allow(clippy::disallowed_methods, reason = "tests run on the wall clock, with real processes")]

mod common;

use common::Etcd;
use model::LogIndex;
use store::etcd::{EtcdAddress, EtcdLog, EtcdLogin};
use store::{Log as _, OpenError};

fn open(etcd: &Etcd, prefix: &str, login: Option<(&str, &str)>) -> Result<store::etcd::Opened, OpenError> {
    let address: EtcdAddress = etcd.address(prefix).parse().expect("an address");
    let address = match login {
        Some((name, password)) => {
            address.as_user(EtcdLogin { name: name.to_owned(), password: password.to_owned().into() })
        }
        None => address,
    };
    EtcdLog::open(&address, "1".repeat(32), || "2".repeat(32))
}

/// Base64 of `text`, as etcd's gateway wants keys.
fn key(text: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(text)
}

fn ask(etcd: &Etcd, path: &str, body: &str) {
    let answer = etcd.request("POST", path, body).expect("an answer");
    assert!(!answer.contains("\"error\""), "{path} {body}: {answer}");
}

#[test]
fn who_is_no_user_of_etcd_or_has_no_right_to_the_prefix_gets_nowhere() {
    // A token is forgotten within seconds, so that it must be had anew.
    let Some(_there) = Etcd::start() else { return };
    let etcd =
        (0..5).find_map(|_| Etcd::try_start_with("http", &["--auth-token-ttl=1".to_owned()])).expect("etcd");
    for name in ["root", "sw"] {
        ask(&etcd, "/v3/auth/user/add", &format!(r#"{{"name":"{name}","password":"pass-{name}"}}"#));
    }
    for role in ["root", "log"] {
        ask(&etcd, "/v3/auth/role/add", &format!(r#"{{"name":"{role}"}}"#));
    }
    let range = format!(r#"{{"permType":"READWRITE","key":"{}","range_end":"{}"}}"#, key("p/"), key("p0"));
    ask(&etcd, "/v3/auth/role/grant", &format!(r#"{{"name":"log","perm":{range}}}"#));
    for (user, role) in [("root", "root"), ("sw", "log")] {
        ask(&etcd, "/v3/auth/user/grant", &format!(r#"{{"user":"{user}","role":"{role}"}}"#));
    }
    ask(&etcd, "/v3/auth/enable", "{}");
    let mut opened = open(&etcd, "p", Some(("sw", "pass-sw"))).expect("opens");
    opened.log.append(LogIndex(0), &[b"one".to_vec()]).expect("appended");
    for (what, prefix, login) in [
        ("nobody", "p", None),
        ("a wrong password", "p", Some(("sw", "wrong"))),
        ("an unknown user", "p", Some(("other", "pass-sw"))),
        ("another prefix", "q", Some(("sw", "pass-sw"))),
    ] {
        let error = open(&etcd, prefix, login).expect_err(what).to_string();
        assert!(!error.contains("pass-sw") && !error.contains("wrong"), "{what}: {error}");
    }
    // Longer than a token lives: another one is had, and nothing is lost or doubled.
    std::thread::sleep(std::time::Duration::from_secs(4));
    opened.log.append(LogIndex(1), &[b"two".to_vec()]).expect("appended");
    assert_eq!(opened.log.last().expect("read"), LogIndex(2));
}
