//! Processes of other users on the node's own machine, which speak to the sidecar as if they were searchd.

use super::super::{Bound, SidecarOptions};
use super::script::{Server, Stage, hand_over, ok, options, until};
use crate::http::{self, ConnectionLimits, Entry};
use crate::owner::SameUser;
use crate::shutdown::Shutdown;
use axum::Router;
use manticore::handover;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// `nobody`, as most systems have him.
const NOBODY: u32 = 65534;

/// Reads what comes back; that the connection is then reset by who did not listen to the end is no matter.
const ANSWER: &str = "cat <&3 || true";

/// Whether this process can do something as another user.
fn may_be_another() -> bool {
    let became = Command::new("true").current_dir("/").uid(NOBODY).gid(NOBODY).status();
    if let Err(error) = &became {
        let required = std::env::var_os("SHARDWRIGHT_ROOT_REQUIRED").is_some();
        assert!(!required, "cannot become another user ({error}), and SHARDWRIGHT_ROOT_REQUIRED is set");
        eprintln!("SKIPPED: cannot become another user: {error}");
    }
    became.is_ok()
}

/// What `bash` of another user says to the sidecar, and what it reads for it.
///
/// `None` where this process may not become another user.
async fn as_nobody(address: SocketAddr, then: &str) -> Option<String> {
    if !may_be_another() {
        return None;
    }
    let request = handover::Request {
        user: Some("admin".to_owned()),
        ..handover::Request::sql("SHOW SHARDING STATUS".to_owned(), "P01: no".to_owned(), None)
    };
    let body = serde_json::to_string(&request).expect("JSON");
    let (ip, port) = (address.ip(), address.port());
    let script = format!(
        "exec 3<>/dev/tcp/{ip}/{port} || exit 1; \
         printf 'POST / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\ncontent-length: {}\\r\\n\\r\\n%s' \"$0\" >&3; {then}",
        body.len()
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &script, &body]).current_dir("/").uid(NOBODY).gid(NOBODY);
    let ran = tokio::task::spawn_blocking(move || bash.output()).await.expect("joined").expect("started");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(String::from_utf8_lossy(&ran.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_another_user_of_the_machine_is_not_taken_for_searchd() {
    let node = Server::start(|_, _| ok()).await;
    let mut stage = Stage::new(&node, None).await;
    let door = stage.sidecar.door.clone().expect("a door");
    let (address, _trigger) = stage.run();
    let Some(answer) = as_nobody(address, ANSWER).await else { return };
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("you are user 65534"), "{answer}");
    // Nor is one who does not wait for an answer, whether he is still there when he is looked at or not.
    as_nobody(address, "exit 0").await;
    until("the second one is refused", || door.refused() == 2).await;
    assert!(node.asked().is_empty(), "{:?}", node.asked());
    // The same of our own user is answered: what to configure, since there is no controller.
    let answer = hand_over(address, "SHOW SHARDING STATUS", "P01: no").await;
    assert!(answer.message.to_string().contains("--controller"), "{answer:?}");
    assert_eq!(door.refused(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_told_to_takes_every_user_for_searchd() {
    let node = Server::start(|_, _| ok()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(dir.path(), format!("http://{}", node.address));
    let bound = Bound::new(SidecarOptions { any_local_user: true, ..options }).await.expect("starts");
    let (address, (_trigger, shutdown)) = (bound.address, Shutdown::new());
    tokio::spawn(bound.run(shutdown));
    let Some(answer) = as_nobody(address, ANSWER).await else { return };
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A connection that the kernel takes for another user's.
async fn of_nobody(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let nobody = rustix::fs::Uid::from_raw(NOBODY);
    rustix::fs::fchown(&socket, Some(nobody), None).expect("given away");
    socket.connect(address).await.expect("connected")
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_never_say_a_byte_keep_nobody_out() {
    if !may_be_another() {
        return;
    }
    let door = SameUser::new().expect("a door");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let limits = ConnectionLimits { connections_max: 4, header_time_max: Duration::from_hours(1) };
    let router = Router::new().fallback(|| async { "hello" });
    let (_trigger, shutdown) = Shutdown::new();
    tokio::spawn(http::serve(listener, Entry::SameUser(door.clone()), router, limits, shutdown));
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(of_nobody(address).await);
    }
    // They come before it, and are as good as closed.
    let asked =
        tokio::time::timeout(Duration::from_mins(1), reqwest::get(format!("http://{address}/"))).await;
    let answer = asked.expect("a place").expect("answered");
    assert_eq!(answer.text().await.expect("a body"), "hello");
    assert_eq!(door.refused(), 40);
}
