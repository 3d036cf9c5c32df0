//! Clients that mean no good: slow ones, silent ones, those that send too much or nonsense. Others are served meanwhile.

use super::*;
use crate::shutdown::Trigger;
use axum::routing::get;
use proptest::prelude::*;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

const HEADER_TIME_MAX: Duration = Duration::from_secs(2);
/// The kernel keeps at most 4 MiB of what a client does not take.
const LARGER_THAN_BUFFERS: usize = 8 << 20;

struct Serving {
    address: SocketAddr,
    _trigger: Trigger,
}

async fn serving() -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (trigger, shutdown) = Shutdown::new();
    let limits = ConnectionLimits { connections_max: 16, header_time_max: HEADER_TIME_MAX };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/large", get(|| async { vec![b'a'; LARGER_THAN_BUFFERS] }));
    tokio::spawn(serve(listener, Entry::Anyone, router, limits, shutdown));
    Serving { address, _trigger: trigger }
}

impl Serving {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// What comes back for these bytes until the other side closes.
    async fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        // It may be closed before all is sent.
        let _closed = stream.write_all(bytes).await;
        Self::rest(stream).await
    }

    async fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        answer
    }

    async fn is_well(&self) -> bool {
        let answer = self.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"hello")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_a_byte_at_a_time_is_ended_and_hurts_nobody() {
    let serving = serving().await;
    let mut slow = Vec::new();
    for _ in 0..12 {
        // From before it can be accepted: its time begins then.
        let began = Instant::now();
        let mut stream = serving.connect().await;
        slow.push(tokio::spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'a')) {
                if stream.write_all(&[*byte]).await.is_err() || began.elapsed() > Duration::from_mins(1) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            began.elapsed()
        }));
    }
    assert!(serving.is_well().await);
    for one in slow {
        let lived = one.await.expect("joined");
        assert!(lived >= HEADER_TIME_MAX && lived < Duration::from_mins(1), "{lived:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_in_all_places_give_way() {
    let serving = serving().await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(serving.connect().await);
    }
    // Who comes now waits in the kernel's queue, and is served when their time is over.
    assert!(serving.is_well().await);
    for mut stream in silent {
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest).await;
    }
    assert!(serving.is_well().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_in_all_places_that_take_no_answer_give_way() {
    let serving = serving().await;
    let mut greedy = Vec::new();
    for _ in 0..16 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(serving.address).await.expect("connected");
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        greedy.push(stream);
    }
    // Far longer than they may take.
    let well = tokio::time::timeout(Duration::from_mins(5), serving.is_well()).await;
    assert!(well.expect("a place becomes free"));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_an_end_are_refused() {
    let serving = serving().await;
    let mut endless = b"GET / HTTP/1.1\r\nx: ".to_vec();
    endless.extend(std::iter::repeat_n(b'a', 4 << 20));
    let answer = serving.send(&endless).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let mut many = b"GET / HTTP/1.1\r\n".to_vec();
    for number in 0..2_000 {
        many.extend(format!("x-{number}: 1\r\n").bytes());
    }
    many.extend(b"\r\n");
    let answer = serving.send(&many).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(serving.is_well().await);
}

#[test]
fn hostile_bytes_are_answered_or_dropped() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let serving = runtime.block_on(serving());
    let pieces = prop_oneof![
        Just(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        Just(
            b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET"
                .to_vec()
        ),
        Just(b"content-length: -1\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..60),
    ];
    let requests = proptest::collection::vec(pieces, 0..5).prop_map(|pieces| pieces.concat());
    proptest!(ProptestConfig::with_cases(64), |(request in requests)| {
        runtime.block_on(async {
            let mut stream = serving.connect().await;
            let _closed = stream.write_all(&request).await;
            // Nothing more comes: what is not whole is not waited for.
            let _closed = stream.shutdown().await;
            Serving::rest(stream).await;
        });
    });
    assert!(runtime.block_on(serving.is_well()));
}

#[test]
fn connections_leave_files_to_the_rest_of_the_process() {
    assert_eq!(places(2_500, None), 2_500);
    assert_eq!(places(2_500, Some(20_000)), 2_500);
    assert_eq!(places(2_500, Some(1_024)), 832);
    assert_eq!(places(2_500, Some(64)), 1);
}

#[test]
fn an_address_beyond_loopback_has_a_quarter_of_all_connections() {
    let crowds = Crowds::default();
    let at = |address: &str| address.parse::<IpAddr>().expect("an address");
    let from = |address: &str| admit(&crowds, at(address), 8);
    let held: Vec<_> = (0..2).map(|_| from("10.0.0.1").expect("a place")).collect();
    assert!(from("10.0.0.1").is_none());
    // Others have their own, and this machine has all.
    let _others: Vec<_> = ["10.0.0.2", "2001:db8::1"].map(|other| from(other).expect("a place")).into();
    let _own: Vec<_> = (0..8).map(|_| from("127.0.0.1").expect("a place")).collect();
    drop(held);
    assert!(from("10.0.0.1").is_some());
}
