//! The one token of a controller: made at its first start, needed for everything that changes something.

use crate::files::{self, FileError};
use axum::http::{HeaderMap, Method, header};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The token in `path`; a new one is made and stored for its owner alone when there is none.
pub(super) fn token(path: &Path) -> Result<String, FileError> {
    if let Some(token) = files::read_secret(path)? {
        return Ok(token);
    }
    let token = files::random_hex(32)?;
    files::write_durably(path, format!("{token}\n").as_bytes())?;
    Ok(token)
}

/// Whether a request must show the token: whatever may change something, and all that sidecars say.
pub(super) fn needed(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD) || path.starts_with("/api/v1/sidecar/")
}

/// Whether the request shows it.
pub(super) fn shown(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .is_some_and(|(scheme, shown)| scheme.eq_ignore_ascii_case("bearer") && equal(shown.trim(), token))
}

/// Whether the client asked for an address, and not for a name: reading needs no token on loopback, so a web page
/// must not get there by a name of its own that it lets point here.
pub(super) fn is_addressed_directly(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    host.parse::<SocketAddr>().is_ok()
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || host.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("localhost"))
}

/// Compares every byte whatever differs first, so that time tells nothing about the token.
fn equal(shown: &str, token: &str) -> bool {
    shown.len() == token.len() && shown.bytes().zip(token.bytes()).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            headers
        };
        let token = "0123456789abcdef";
        assert!(shown(&with(&format!("Bearer {token}")), token));
        assert!(shown(&with(&format!("bearer {token}")), token));
        for wrong in
            ["Bearer 0123456789abcdee", "Bearer 0123456789abcde", "Bearer ", "Basic 0123456789abcdef", "x"]
        {
            assert!(!shown(&with(wrong), token), "{wrong}");
        }
        assert!(!shown(&HeaderMap::new(), token));
    }

    #[test]
    fn a_name_that_points_here_is_no_way_in() {
        let direct = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            is_addressed_directly(&headers)
        };
        for host in ["127.0.0.1:9380", "127.0.0.1", "[::1]:9380", "[::1]", "localhost:9380", "LOCALHOST"] {
            assert!(direct(host), "{host}");
        }
        for host in ["evil.example:9380", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!direct(host), "{host}");
        }
        assert!(is_addressed_directly(&HeaderMap::new()));
    }

    #[test]
    fn a_token_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        let first = token(&path).expect("made");
        assert_eq!(first.len(), 64);
        assert_eq!(token(&path).expect("read"), first);
    }
}
