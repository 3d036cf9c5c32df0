//! Packets of the MySQL protocol: three bytes of length, one of sequence, at most 16 MiB − 1 of payload; a longer
//! message goes on in the next packet.

use crate::wire::BoxWire;
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf,
};

const PAYLOAD_MAX: usize = 0xff_ffff;
/// Who a client is: names, a scrambled password, attributes of its driver.
const INTRODUCTION_MAX: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum PacketError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("a message above the limit")]
    TooLarge,
    #[error("the client is too slow")]
    Slow,
    #[error("the client sent {0}")]
    Malformed(&'static str),
}

/// A message that is the first of a connection and fits one packet.
pub(super) fn first(message: &[u8]) -> Vec<u8> {
    let [a, b, c, ..] = (message.len() as u32).to_le_bytes();
    [&[a, b, c, 0], message].concat()
}

/// What a client says of itself, with the number of the next packet, read to its last byte and not one further: what
/// follows may be a TLS handshake, and nothing that came before one may count as said behind it.
pub(super) async fn introduction(wire: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>), PacketError> {
    let mut head = [0; 4];
    wire.read_exact(&mut head).await?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if length > INTRODUCTION_MAX {
        return Err(PacketError::TooLarge);
    }
    let mut message = vec![0; length];
    wire.read_exact(&mut message).await?;
    Ok((head[3].wrapping_add(1), message))
}

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Packets {
    reader: BufReader<ReadHalf<BoxWire>>,
    writer: WriteHalf<BoxWire>,
    out: Vec<u8>,
    sequence: u8,
    bytes_max: usize,
    /// For a message from its first byte on, and for a reply.
    time_max: Duration,
}

impl Packets {
    /// `sequence` is the number of the next packet of this side.
    pub(super) fn new(wire: BoxWire, sequence: u8, bytes_max: usize, time_max: Duration) -> Self {
        let (reader, writer) = tokio::io::split(wire);
        let reader = BufReader::with_capacity(16 << 10, reader);
        Self { reader, writer, out: Vec::new(), sequence, bytes_max, time_max }
    }

    /// The next message; `None` when the client hung up between two. It may take any time to begin.
    pub(super) async fn receive(&mut self) -> Result<Option<Vec<u8>>, PacketError> {
        if self.reader.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        let time_max = self.time_max;
        tokio::time::timeout(time_max, self.message()).await.map_err(|_| PacketError::Slow)?.map(Some)
    }

    async fn message(&mut self) -> Result<Vec<u8>, PacketError> {
        let mut message = Vec::new();
        loop {
            let mut head = [0; 4];
            self.reader.read_exact(&mut head).await?;
            let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
            self.sequence = head[3].wrapping_add(1);
            if message.len() + length > self.bytes_max {
                return Err(PacketError::TooLarge);
            }
            // Grows as the bytes come: a length alone reserves nothing.
            let read = (&mut self.reader).take(length as u64).read_to_end(&mut message).await?;
            if read < length {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            if length < PAYLOAD_MAX {
                return Ok(message);
            }
        }
    }

    /// Returns when the client has closed its side. One that sends its next statement early is not gone.
    pub(super) async fn hung_up(&mut self) {
        match self.reader.fill_buf().await {
            Ok([]) | Err(_) => {}
            Ok(_) => std::future::pending().await,
        }
    }

    /// Adds a message to the reply.
    pub(super) fn queue(&mut self, message: &[u8]) {
        let mut rest = message;
        loop {
            let (payload, behind) = rest.split_at(rest.len().min(PAYLOAD_MAX));
            let [a, b, c, ..] = (payload.len() as u32).to_le_bytes();
            self.out.extend_from_slice(&[a, b, c, self.sequence]);
            self.sequence = self.sequence.wrapping_add(1);
            self.out.extend_from_slice(payload);
            rest = behind;
            // A payload of exactly the most is followed by another, empty if need be.
            if payload.len() < PAYLOAD_MAX {
                return;
            }
        }
    }

    /// Sends the reply.
    pub(super) async fn send(&mut self) -> Result<(), PacketError> {
        let written = tokio::time::timeout(self.time_max, self.writer.write_all(&self.out)).await;
        self.out.clear();
        // One large reply must not keep its memory for the connection's life.
        self.out.shrink_to(1 << 20);
        Ok(written.map_err(|_| PacketError::Slow)??)
    }
}
