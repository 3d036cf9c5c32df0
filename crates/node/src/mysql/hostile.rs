//! What MySQL clients say, damaged: read, refused or dropped, and others are served meanwhile.
//!
//! `PROPTEST_CASES=100000 cargo nextest run -p node hostile` runs it for long.

use crate::script::scripted;
use proptest::prelude::*;
use proptest::sample::Index;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_mins(1);

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    [&length[..3], &[sequence], body].concat()
}

/// What clients of several kinds send, each from its first byte to its last.
fn corpus() -> Vec<Vec<u8>> {
    let login = |flags: u32, tail: &[u8]| {
        packet(1, &[&flags.to_le_bytes()[..], &[0, 0, 0, 1, 33], &[0; 23], tail].concat())
    };
    let (plain, lenenc) = (0x0008_a201_u32, 0x0028_a209_u32);
    let native = b"root\0\x14aaaaaaaaaaaaaaaaaaaaManticore\0mysql_native_password\0";
    let newer = b"root\0\x20bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\0caching_sha2_password\0";
    let said = |words: &[&[u8]]| words.iter().map(|word| packet(0, word)).collect::<Vec<_>>().concat();
    let commands: [&[u8]; 8] = [
        b"\x03SELECT 1",
        b"\x03DONE 3",
        b"\x02Manticore",
        b"\x0e",
        b"\x1f",
        b"\x1b\0\0",
        b"\x16SELECT ?",
        b"\x03NONSENSE",
    ];
    vec![
        [login(lenenc, native), said(&commands), said(&[b"\x01"])].concat(),
        [login(plain, newer), packet(3, &[b'x'; 20]), said(&commands)].concat(),
        [login(0x0000_0201, b"root\0secret\0"), said(&commands[..2])].concat(),
        // The wish for TLS, and the beginning of a handshake.
        [login(plain | 0x0800, b""), b"\x16\x03\x01\0\x05\x01\0\0\x01\x03".to_vec()].concat(),
        [login(plain, b"root\0\0"), packet(0, &[b"\x03SELECT ".to_vec(), vec![b'y'; 3000]].concat())]
            .concat(),
    ]
}

type Change = (Index, u8, u8);

/// The server's side, with users or without.
fn attack(administrator: Option<&str>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let node = runtime.block_on(scripted(dir.path(), |options| {
        options.administrator = administrator.map(|text| manticore::Login::parse(text).expect("a login"));
        options.limits.statement_bytes = 2000;
    }));
    let address = node.addresses().mysql;
    let corpus = corpus();
    let changes = prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8), 0..6);
    let cases = (any::<Index>(), changes, any::<Index>());
    proptest!(ProptestConfig::with_cases(200), |((which, changes, cut) in cases)| {
        let mut bytes = which.get(&corpus).clone();
        for (at, byte, how) in &changes as &Vec<Change> {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match how {
                _ if bytes.is_empty() => bytes.push(*byte),
                0 => bytes[at] = *byte,
                1 => bytes.insert(at, *byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(cut.index(bytes.len())),
            }
        }
        runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            // It may be closed before all is sent.
            let _closed = stream.write_all(&bytes).await;
            let _closed = stream.shutdown().await;
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "it does not end: {bytes:?}");
            assert!(administrator.is_none() || !answer.windows(3).any(|part| part == b"\x03def"), "rows for nobody");
        });
    });
    runtime.block_on(async {
        // The greeting of one who comes after all of them.
        let mut head = [0; 5];
        TcpStream::connect(address).await.expect("connected").read_exact(&mut head).await.expect("greeted");
        assert_eq!(head[4], 10);
        node.stop().await.expect("stops");
    });
}

#[test]
fn hostile_packets_are_answered_or_dropped() {
    attack(None);
}

#[test]
fn hostile_packets_open_nothing_where_there_are_users() {
    attack(Some("somebody:somebodys-password"));
}
