//! The greeting and the client's answer to it. No password is asked for: the node listens on loopback only.

/// Capabilities of this side, all of protocol 4.1 and none that changes how results look.
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const LONG_FLAG: u32 = 1 << 2;
    pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(super) const PLUGIN_AUTH_LENENC_DATA: u32 = 1 << 21;
}

const OWN: u32 = capability::LONG_PASSWORD
    | capability::LONG_FLAG
    | capability::CONNECT_WITH_DB
    | capability::PROTOCOL_41
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::PLUGIN_AUTH_LENENC_DATA;

const UTF8: u8 = 33;
const AUTOCOMMIT: u16 = 2;

/// The 20 bytes that a client mixes with its password. Nobody checks the result, so they need not be secret.
const SCRAMBLE: &[u8; 20] = b"loopback-needs-none-";

/// The first packet of a connection.
pub(super) fn greeting(version: &str, number: u32) -> Vec<u8> {
    let [low_a, low_b, high_a, high_b] = OWN.to_le_bytes();
    let mut packet = vec![10];
    packet.extend(version.bytes().filter(|b| *b != 0));
    packet.push(0);
    packet.extend(number.to_le_bytes());
    packet.extend(&SCRAMBLE[..8]);
    packet.extend([0, low_a, low_b, UTF8]);
    packet.extend(AUTOCOMMIT.to_le_bytes());
    packet.extend([high_a, high_b, 21]);
    packet.extend([0; 10]);
    packet.extend(&SCRAMBLE[8..]);
    packet.push(0);
    packet.extend(b"mysql_native_password\0");
    packet
}

/// What matters of the client's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// Empty when none was named.
    pub(super) database: String,
}

/// Reads the answer; `None` when it is none of protocol 4.1 or asks for TLS.
pub(super) fn login(packet: &[u8]) -> Option<Login> {
    let (head, mut rest) = packet.split_at_checked(32)?;
    let capabilities = u32::from_le_bytes(head[..4].try_into().ok()?);
    if capabilities & capability::PROTOCOL_41 == 0 {
        return None;
    }
    until_nul(&mut rest)?;
    let password_length = if capabilities & capability::PLUGIN_AUTH_LENENC_DATA != 0 {
        length(&mut rest)?
    } else if capabilities & capability::SECURE_CONNECTION != 0 {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        usize::from(*first)
    } else {
        until_nul(&mut rest)?;
        0
    };
    rest = rest.get(password_length..)?;
    let named = capabilities & capability::CONNECT_WITH_DB != 0 && !rest.is_empty();
    let database =
        if named { String::from_utf8_lossy(until_nul(&mut rest)?).into_owned() } else { String::new() };
    Some(Login { database })
}

fn until_nul<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|b| *b == 0)?;
    let (found, behind) = rest.split_at(end);
    *rest = &behind[1..];
    Some(found)
}

/// A length-encoded integer below 64 KiB: no password's answer is longer.
fn length(rest: &mut &[u8]) -> Option<usize> {
    let (first, behind) = rest.split_first()?;
    match first {
        0..=250 => {
            *rest = behind;
            Some(usize::from(*first))
        }
        252 => {
            let (number, behind) = behind.split_at_checked(2)?;
            *rest = behind;
            Some(usize::from(number[0]) | usize::from(number[1]) << 8)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(capabilities: u32, tail: &[u8]) -> Vec<u8> {
        let mut packet = capabilities.to_le_bytes().to_vec();
        packet.extend([0; 28]);
        packet.extend(tail);
        packet
    }

    #[test]
    fn the_database_is_found_behind_any_kind_of_password() {
        let base = capability::PROTOCOL_41 | capability::CONNECT_WITH_DB;
        let login = |extra, tail: &[u8]| login(&answer(base | extra, tail)).map(|login| login.database);
        let name = || Some("Manticore".to_owned());
        assert_eq!(login(capability::SECURE_CONNECTION, b"root\0\x02xyManticore\0more"), name());
        assert_eq!(login(capability::PLUGIN_AUTH_LENENC_DATA, b"root\0\x00Manticore\0"), name());
        assert_eq!(login(capability::PLUGIN_AUTH_LENENC_DATA, b"\0\xfc\x02\x00xyManticore\0"), name());
        assert_eq!(login(0, b"root\0pw\0Manticore\0"), name());
        assert_eq!(login(capability::SECURE_CONNECTION, b"root\0\x00"), Some(String::new()));
    }

    #[test]
    fn an_answer_that_lies_about_its_lengths_is_none() {
        let base =
            capability::PROTOCOL_41 | capability::CONNECT_WITH_DB | capability::PLUGIN_AUTH_LENENC_DATA;
        for tail in [
            &b"root"[..],
            b"root\0",
            b"root\0\x09short",
            b"root\0\xfc\x09",
            b"r\0\xfe",
            b"r\0\x00db without end",
        ] {
            assert_eq!(login(&answer(base, tail)), None, "{tail:?}");
        }
        assert_eq!(login(&answer(0, b"root\0\x00")), None, "an older protocol");
        assert_eq!(login(b"short"), None);
    }
}
