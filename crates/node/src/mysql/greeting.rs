//! The greeting and the client's answer to it: who it is, and its password by MySQL's native way.

use crate::users::NONCE_LEN;

/// Capabilities of this side, all of protocol 4.1 and none that changes how results look.
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const LONG_FLAG: u32 = 1 << 2;
    pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
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

const NATIVE: &[u8] = b"mysql_native_password";

/// The bytes that a client mixes with its password: other ones for each connection, none of them zero.
pub(super) fn nonce() -> std::io::Result<[u8; NONCE_LEN]> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    Ok(nonce.map(|byte| byte % 127 + 1))
}

/// The first packet of a connection; `tls`: this side has it.
pub(super) fn greeting(version: &str, number: u32, nonce: &[u8; NONCE_LEN], tls: bool) -> Vec<u8> {
    let own = if tls { OWN | capability::SSL } else { OWN };
    let [low_a, low_b, high_a, high_b] = own.to_le_bytes();
    let mut packet = vec![10];
    packet.extend(version.bytes().filter(|b| *b != 0));
    packet.push(0);
    packet.extend(number.to_le_bytes());
    packet.extend(&nonce[..8]);
    packet.extend([0, low_a, low_b, UTF8]);
    packet.extend(AUTOCOMMIT.to_le_bytes());
    packet.extend([high_a, high_b, 21]);
    packet.extend([0; 10]);
    packet.extend(&nonce[8..]);
    packet.push(0);
    packet.extend(NATIVE);
    packet.push(0);
    packet
}

/// To a client that mixed its password in another way.
pub(super) fn ask_natively(nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    [&[0xfe], NATIVE, &[0], nonce, &[0]].concat()
}

/// Whether the client wants TLS before it says who it is: the beginning of its answer, and no more of it.
pub(super) fn asks_for_tls(packet: &[u8]) -> bool {
    let wanted = capability::PROTOCOL_41 | capability::SSL;
    packet.len() == 32
        && packet.first_chunk().is_some_and(|flags| u32::from_le_bytes(*flags) & wanted == wanted)
}

/// What matters of the client's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    /// Its password, mixed with the nonce; empty without one.
    pub(super) scrambled: Vec<u8>,
    /// Empty when none was named.
    pub(super) database: String,
    /// How it was mixed, when the client says so.
    plugin: Option<Vec<u8>>,
}

impl Login {
    /// Whether the password is mixed as this side reads it.
    pub(super) fn is_native(&self) -> bool {
        self.plugin.as_deref().is_none_or(|plugin| plugin == NATIVE)
    }
}

/// Reads the answer; `None` when it is none of protocol 4.1.
pub(super) fn login(packet: &[u8]) -> Option<Login> {
    let (head, mut rest) = packet.split_at_checked(32)?;
    let capabilities = u32::from_le_bytes(head[..4].try_into().ok()?);
    if capabilities & capability::PROTOCOL_41 == 0 {
        return None;
    }
    let user = String::from_utf8_lossy(until_nul(&mut rest)?).into_owned();
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
    let scrambled = rest.get(..password_length)?.to_vec();
    rest = rest.get(password_length..)?;
    let named = capabilities & capability::CONNECT_WITH_DB != 0 && !rest.is_empty();
    let database =
        if named { String::from_utf8_lossy(until_nul(&mut rest)?).into_owned() } else { String::new() };
    let named = capabilities & capability::PLUGIN_AUTH != 0 && !rest.is_empty();
    let plugin = if named { Some(until_nul(&mut rest)?.to_vec()) } else { None };
    Some(Login { user, scrambled, database, plugin })
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
    fn no_two_connections_have_the_same_nonce_and_passwords_are_mixed_natively() {
        let (one, two) = (nonce().expect("random"), nonce().expect("random"));
        assert!(one != two && !one.contains(&0), "{one:?} {two:?}");
        let flags = capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;
        for (plugin, native) in [
            ("mysql_native_password", true),
            ("caching_sha2_password", false),
            ("mysql_clear_password", false),
        ] {
            let packet = answer(flags, format!("root\0\0{plugin}\0").as_bytes());
            assert_eq!(login(&packet).expect("read").is_native(), native, "{plugin}");
        }
    }

    #[test]
    fn a_wish_for_tls_says_nothing_else() {
        let wish = capability::PROTOCOL_41 | capability::SSL;
        assert!(asks_for_tls(&answer(wish, b"")));
        for other in
            [answer(wish, b"root\0\0"), answer(capability::PROTOCOL_41, b""), answer(capability::SSL, b"")]
        {
            assert!(!asks_for_tls(&other), "{other:?}");
        }
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
