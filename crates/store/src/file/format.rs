//! The bytes on disk, version 1. Pure: encodes and checks, opens nothing.
//!
//! All numbers are little-endian. Every file begins with the same header, whose layout no later version may
//! change, so that any version can tell which one wrote a file:
//!
//! ```text
//! header, 56 bytes   magic[8]  version u32  log id[32]  index u64  crc32 u32 of the 52 bytes before
//!
//! records-{first}    header(index = first record), then frames, one an append:
//!                    body length u32, records u32, first index u64, crc32 u32 of the body,
//!                    crc32 u32 of the 20 bytes before; body = (length u32, bytes) for each record
//! acknowledged       header(index = last acknowledged record) at 0 and again at 4096, written in turn
//! snapshot-{at}      header(index = at), length u64, crc32 u32 of length and state, state
//! ```

use crate::{APPEND_BYTES_MAX, APPEND_RECORDS_MAX, LOG_ID_LEN};
use crc32fast::Hasher;
use model::LogIndex;

/// The version this program writes, and the newest it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
pub(crate) const HEADER_LEN: usize = 56;
pub(crate) const FRAME_HEAD_LEN: usize = 24;
pub(crate) const SNAPSHOT_HEAD_LEN: usize = HEADER_LEN + 12;
/// Bytes before each record in a frame's body.
const RECORD_HEAD_LEN: usize = 4;
const FRAME_BODY_LEN_MAX: usize = APPEND_BYTES_MAX + APPEND_RECORDS_MAX * RECORD_HEAD_LEN;
/// The longest frame that an append can leave behind.
pub(crate) const FRAME_LEN_MAX: u64 = (FRAME_HEAD_LEN + FRAME_BODY_LEN_MAX) as u64;

/// What a file holds, told by its first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Records,
    Acknowledged,
    Snapshot,
}

impl Kind {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Records => b"SHWRrecs",
            Self::Acknowledged => b"SHWRackn",
            Self::Snapshot => b"SHWRsnap",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub log_id: String,
    pub index: LogIndex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Damaged(String),
    Newer(u32),
}

pub(crate) fn encode_header(kind: Kind, log_id: &str, index: LogIndex) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend_from_slice(kind.magic());
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(log_id.as_bytes());
    bytes.extend_from_slice(&index.0.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

pub(crate) fn decode_header(kind: Kind, bytes: &[u8]) -> Result<Header, HeaderError> {
    let damaged = |what: &str| Err(HeaderError::Damaged(what.to_owned()));
    if bytes.len() < HEADER_LEN {
        return Err(HeaderError::Damaged(format!(
            "the header is cut short, {} of {HEADER_LEN} bytes",
            bytes.len()
        )));
    }
    if crc32fast::hash(&bytes[..HEADER_LEN - 4]) != u32_at(bytes, HEADER_LEN - 4) {
        return damaged("the header's checksum does not match");
    }
    if &bytes[..8] != kind.magic() {
        return damaged("the header is that of another kind of file");
    }
    check_version(u32_at(bytes, 8))?;
    let log_id = String::from_utf8_lossy(&bytes[12..12 + LOG_ID_LEN]).into_owned();
    if !crate::is_log_id(&log_id) {
        return damaged("the header's log id is not 32 hex digits");
    }
    Ok(Header { log_id, index: LogIndex(u64_at(bytes, 12 + LOG_ID_LEN)) })
}

/// Where a later version decides how it reads the files of an earlier one. There is no earlier one than 1.
fn check_version(found: u32) -> Result<(), HeaderError> {
    match found {
        FORMAT_VERSION => Ok(()),
        0 => Err(HeaderError::Damaged("the header names format version 0, which there never was".to_owned())),
        newer => Err(HeaderError::Newer(newer)),
    }
}

/// The first part of a frame, enough to know how much follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub first: LogIndex,
    pub records: u32,
    pub body_len: u32,
    body_crc: u32,
}

impl FrameHead {
    pub(crate) fn last(&self) -> LogIndex {
        LogIndex(self.first.0 + u64::from(self.records) - 1)
    }

    pub(crate) fn frame_len(&self) -> u64 {
        FRAME_HEAD_LEN as u64 + u64::from(self.body_len)
    }
}

/// One append as bytes. `records` is not empty and within the limits of an append.
pub(crate) fn encode_frame(first: LogIndex, records: &[Vec<u8>]) -> (FrameHead, Vec<u8>) {
    let body_len = records.iter().map(|record| RECORD_HEAD_LEN + record.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(FRAME_HEAD_LEN + body_len);
    frame.resize(FRAME_HEAD_LEN, 0);
    for record in records {
        frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
        frame.extend_from_slice(record);
    }
    let head = FrameHead {
        first,
        records: records.len() as u32,
        body_len: body_len as u32,
        body_crc: crc32fast::hash(&frame[FRAME_HEAD_LEN..]),
    };
    frame[..4].copy_from_slice(&head.body_len.to_le_bytes());
    frame[4..8].copy_from_slice(&head.records.to_le_bytes());
    frame[8..16].copy_from_slice(&head.first.0.to_le_bytes());
    frame[16..20].copy_from_slice(&head.body_crc.to_le_bytes());
    let head_crc = crc32fast::hash(&frame[..20]);
    frame[20..24].copy_from_slice(&head_crc.to_le_bytes());
    (head, frame)
}

/// The record that a frame says it begins with; nothing is checked.
#[cfg(feature = "etcd")]
pub(crate) fn peek_first(frame: &[u8]) -> Option<LogIndex> {
    (frame.len() >= FRAME_HEAD_LEN).then(|| LogIndex(u64_at(frame, 8)))
}

/// Checks the head of the frame that should begin with record `first`.
pub(crate) fn decode_frame_head(bytes: &[u8], first: LogIndex) -> Result<FrameHead, String> {
    if bytes.len() < FRAME_HEAD_LEN {
        return Err(format!(
            "the head of record {first} is cut short, {} of {FRAME_HEAD_LEN} bytes",
            bytes.len()
        ));
    }
    if crc32fast::hash(&bytes[..20]) != u32_at(bytes, 20) {
        return Err(format!("the checksum of the head of record {first} does not match"));
    }
    let head = FrameHead {
        body_len: u32_at(bytes, 0),
        records: u32_at(bytes, 4),
        first: LogIndex(u64_at(bytes, 8)),
        body_crc: u32_at(bytes, 16),
    };
    if head.first != first {
        return Err(format!("record {} stands where record {first} belongs", head.first));
    }
    if head.records == 0 || head.body_len as usize > FRAME_BODY_LEN_MAX {
        return Err(format!("the head of record {first} names an impossible size"));
    }
    Ok(head)
}

/// The records of a frame, from the body its head announced.
pub(crate) fn decode_frame_body(head: &FrameHead, body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let first = head.first;
    if body.len() != head.body_len as usize {
        return Err(format!("record {first} is cut short, {} of {} bytes", body.len(), head.body_len));
    }
    if crc32fast::hash(body) != head.body_crc {
        return Err(format!("the checksum of record {first} does not match"));
    }
    let mut records = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let record = rest
            .split_at_checked(RECORD_HEAD_LEN)
            .and_then(|(len, bytes)| bytes.split_at_checked(u32_at(len, 0) as usize));
        let Some((record, after)) = record else {
            return Err(format!("the lengths within record {first} do not add up"));
        };
        records.push(record.to_vec());
        rest = after;
    }
    if records.len() == head.records as usize {
        Ok(records)
    } else {
        Err(format!("record {first} holds {} records where {} were announced", records.len(), head.records))
    }
}

/// All of a snapshot file but the state itself.
pub(crate) fn encode_snapshot_head(log_id: &str, at: LogIndex, state: &[u8]) -> Vec<u8> {
    let mut bytes = encode_header(Kind::Snapshot, log_id, at);
    bytes.extend_from_slice(&(state.len() as u64).to_le_bytes());
    let crc = snapshot_crc(state);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks what follows the header of a snapshot file, `bytes` being the whole file, and gives the state.
pub(crate) fn decode_snapshot_state(bytes: &[u8]) -> Result<&[u8], String> {
    let Some((head, state)) = bytes.split_at_checked(SNAPSHOT_HEAD_LEN) else {
        return Err("the snapshot is cut short".to_owned());
    };
    let announced = u64_at(head, HEADER_LEN);
    if announced != state.len() as u64 {
        return Err(format!("the snapshot holds {} bytes where {announced} were written", state.len()));
    }
    if snapshot_crc(state) != u32_at(head, HEADER_LEN + 8) {
        return Err("the snapshot's checksum does not match".to_owned());
    }
    Ok(state)
}

fn snapshot_crc(state: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&(state.len() as u64).to_le_bytes());
    hasher.update(state);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    /// The layout is a promise to later versions: these bytes were written by version 1.
    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let header = encode_header(Kind::Records, ID, LogIndex(7));
        let mut expected = b"SHWRrecs\x01\0\0\0".to_vec();
        expected.extend_from_slice(ID.as_bytes());
        expected.extend_from_slice(b"\x07\0\0\0\0\0\0\0");
        assert_eq!(header[..52], expected);
        assert_eq!(header.len(), HEADER_LEN);
        let (_, frame) = encode_frame(LogIndex(3), &[b"ab".to_vec(), Vec::new()]);
        assert_eq!(frame[..16], *b"\x0a\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(frame[24..], *b"\x02\0\0\0ab\0\0\0\0");
        assert_eq!(u32_at(&frame, 16), crc32fast::hash(b"\x02\0\0\0ab\0\0\0\0"));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header = encode_header(Kind::Snapshot, ID, LogIndex(9));
        assert_eq!(
            decode_header(Kind::Snapshot, &header),
            Ok(Header { log_id: ID.to_owned(), index: LogIndex(9) })
        );
        assert!(decode_header(Kind::Records, &header).is_err());
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = header.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(decode_header(Kind::Snapshot, &flipped), Err(HeaderError::Damaged(_))),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let mut header = encode_header(Kind::Records, ID, LogIndex(1));
        header[8] = 2;
        let crc = crc32fast::hash(&header[..52]);
        header[52..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_header(Kind::Records, &header), Err(HeaderError::Newer(2)));
    }

    #[test]
    fn a_frame_is_read_back_and_every_flipped_bit_of_it_is_seen() {
        let records = vec![b"first".to_vec(), Vec::new(), vec![0; 40]];
        let (_, frame) = encode_frame(LogIndex(5), &records);
        let decode = |frame: &[u8]| {
            let head = decode_frame_head(frame, LogIndex(5))?;
            assert_eq!(head.last(), LogIndex(7));
            decode_frame_body(&head, &frame[FRAME_HEAD_LEN..])
        };
        assert_eq!(decode(&frame), Ok(records));
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(decode_frame_head(&[0; FRAME_HEAD_LEN], LogIndex(0)).is_err(), "zeros are no frame");
        assert!(decode_frame_head(&frame, LogIndex(6)).is_err(), "nor is a frame in the wrong place");
    }
}
