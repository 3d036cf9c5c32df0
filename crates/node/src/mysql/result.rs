//! Messages to the client: OK, errors, and rows as text.

use super::packet::Packets;
use crate::answer;
use engine::{ColumnKind, ResultSet};

const AUTOCOMMIT: u16 = 2;
const UTF8: u16 = 33;
const NULL: u8 = 0xfb;

/// An OK that `affected` documents were touched.
pub(super) fn ok(affected: u64) -> Vec<u8> {
    let mut packet = vec![0];
    integer(&mut packet, affected);
    integer(&mut packet, 0);
    packet.extend(AUTOCOMMIT.to_le_bytes());
    packet.extend([0, 0]);
    packet
}

/// An error; `state` has five characters.
pub(super) fn error(code: u16, state: &str, message: &str) -> Vec<u8> {
    let mut packet = vec![0xff];
    packet.extend(code.to_le_bytes());
    packet.push(b'#');
    packet.extend(state.bytes());
    packet.extend(message.bytes());
    packet
}

/// The mark between columns and rows, and behind rows.
pub(super) fn end_of_rows() -> Vec<u8> {
    let mut packet = vec![0xfe, 0, 0];
    packet.extend(AUTOCOMMIT.to_le_bytes());
    packet
}

/// Queues a whole result set.
pub(super) fn rows(packets: &mut Packets, set: &ResultSet) {
    let mut packet = Vec::new();
    integer(&mut packet, set.columns.len() as u64);
    packets.queue(&packet);
    for column in &set.columns {
        packets.queue(&definition(&column.name, column.kind));
    }
    packets.queue(&end_of_rows());
    for row in &set.rows {
        packet.clear();
        for (value, column) in row.iter().zip(&set.columns) {
            match answer::text(value, column.kind) {
                Some(text) => string(&mut packet, &text),
                None => packet.push(NULL),
            }
        }
        packets.queue(&packet);
    }
    packets.queue(&end_of_rows());
}

fn definition(name: &str, kind: ColumnKind) -> Vec<u8> {
    // Type byte and the width that clients reserve, as in the protocol's own tables.
    let (code, width): (u8, u32) = match kind {
        ColumnKind::Long => (0x03, 11),
        ColumnKind::LongLong => (0x08, 20),
        ColumnKind::Float => (0x04, 12),
        ColumnKind::Double => (0x05, 22),
        ColumnKind::Text => (0xfe, 255),
    };
    let mut packet = Vec::new();
    string(&mut packet, "def");
    for nothing in ["", "", ""] {
        string(&mut packet, nothing);
    }
    string(&mut packet, name);
    string(&mut packet, "");
    packet.push(0x0c);
    packet.extend(UTF8.to_le_bytes());
    packet.extend(width.to_le_bytes());
    packet.push(code);
    packet.extend([0, 0, 0, 0, 0]);
    packet
}

fn string(packet: &mut Vec<u8>, text: &str) {
    integer(packet, text.len() as u64);
    packet.extend(text.bytes());
}

/// A length-encoded integer.
fn integer(packet: &mut Vec<u8>, number: u64) {
    let bytes = number.to_le_bytes();
    match number {
        0..=250 => packet.push(bytes[0]),
        251..=0xffff => {
            packet.push(0xfc);
            packet.extend(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            packet.push(0xfd);
            packet.extend(&bytes[..3]);
        }
        _ => {
            packet.push(0xfe);
            packet.extend(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_the_protocols_four_widths() {
        for (number, bytes) in [
            (0u64, &[0u8][..]),
            (250, &[250]),
            (251, &[0xfc, 251, 0]),
            (65_535, &[0xfc, 255, 255]),
            (65_536, &[0xfd, 0, 0, 1]),
            (1 << 24, &[0xfe, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut packet = Vec::new();
            integer(&mut packet, number);
            assert_eq!(packet, bytes, "{number}");
        }
    }
}
