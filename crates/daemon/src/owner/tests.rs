//! What the kernel says of sockets of our own; those of other users are in the sidecar's tests.

use super::*;
use std::net::{Ipv6Addr, Shutdown};

const WAYS: [Way; 2] = [Way::SockDiag, Way::Table];

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A listener, who connected to it, and the end that it accepted.
fn pair(bind: IpAddr, to: IpAddr) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind((bind, 0)).expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let client = TcpStream::connect((to, port)).expect("connected");
    let (accepted, _) = listener.accept().expect("accepted");
    (listener, client, accepted)
}

/// Whose the other end is, as the one who accepted it asks.
fn of(way: Way, accepted: &TcpStream) -> Result<u32, OwnerError> {
    owner(way, accepted.local_addr().expect("an address"), accepted.peer_addr().expect("an address"))
}

#[test]
fn our_own_sockets_are_ours() {
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let mut ends = vec![(v4, v4)];
    if TcpListener::bind((v6, 0)).is_ok() {
        ends.extend([(v6, v6), (v4, mapped)]);
    } else {
        eprintln!("SKIPPED: no IPv6 on this machine");
    }
    for (bind, to) in ends {
        let (_listener, _client, accepted) = pair(bind, to);
        for way in WAYS {
            assert_eq!(of(way, &accepted).ok(), Some(own_uid()), "{way:?} {to}");
        }
    }
}

#[test]
fn what_its_process_has_closed_is_nobodys() {
    // Half of it closed: still somebody's.
    let (_listener, client, accepted) = pair(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
    client.shutdown(Shutdown::Write).expect("shut down");
    for way in WAYS {
        assert_eq!(of(way, &accepted).ok(), Some(own_uid()), "{way:?}");
    }
    drop(client);
    for way in WAYS {
        // By the kernel's word it would be root's.
        assert!(matches!(of(way, &accepted), Err(OwnerError::Gone)), "{way:?}: {:?}", of(way, &accepted));
    }
}

#[test]
fn who_listens_where_nobody_is_connected_is_not_taken_for_it() {
    let (listener, _client, accepted) = pair(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
    let own = accepted.local_addr().expect("an address");
    let listening = listener.local_addr().expect("an address");
    let other = SocketAddr::new(own.ip(), 1);
    for way in WAYS {
        assert!(matches!(owner(way, other, listening), Err(OwnerError::Gone)), "{way:?}");
    }
}

#[test]
fn a_table_is_read_to_its_bound_and_lines_of_another_kind_are_refused() {
    let head =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    let (own, peer) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let key = key(own, 80, peer, 7);
    let line = |uid: &str, inode: &str| {
        format!(
            "{head}   0: {key}01 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0 20 4 30 10 -1\n"
        )
    };
    assert_eq!(read_table(line("1000", "4711").as_bytes(), &key).ok(), Some(1000));
    assert!(matches!(read_table(line("0", "0").as_bytes(), &key), Err(OwnerError::Gone)));
    assert!(matches!(read_table(head.as_bytes(), &key), Err(OwnerError::Gone)));
    for bad in [line("-1", "4711"), line("root", "4711"), line("0", "x"), format!("{head}{key}01\n")] {
        assert!(matches!(read_table(bad.as_bytes(), &key), Err(OwnerError::System(_))), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_of_the_kernel_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let end = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let _read = read_answer(&bytes, end, end);
        let _read = read_table(bytes.as_slice(), "00");
    }
}
