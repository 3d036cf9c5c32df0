//! Who may ask for what. Tokens come as `Authorization: Bearer`; what is kept of them are hashes.
//!
//! Two kinds: the token of `DIR/token`, made at the first start for whoever sits at the controller, and those that `token create`
//! made, which are in the control log.

use super::problem::{ApiError, Kind};
use super::rights::Need;
use crate::audit::sha256_hex;
use crate::files::{self, FileError, unix_now};
use axum::http::{HeaderMap, header};
use model::{AccessToken, Role};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// The name of the token in `DIR/token`.
pub(super) const LOCAL: &str = "local";
/// Who shows none.
const ANONYMOUS: &str = "anonymous";
/// Longer is no token of ours, and is not hashed.
const TOKEN_BYTES_MAX: usize = 256;

/// The tokens that the log knows, by name.
pub(super) type Tokens = Arc<BTreeMap<String, AccessToken>>;

/// The token in `path`; a new one is made and stored for its owner alone when there is none.
pub(super) fn token(path: &Path) -> Result<SecretString, FileError> {
    if let Some(token) = files::read_secret(path)? {
        return Ok(token);
    }
    let token = SecretString::from(files::random_hex(32)?);
    files::write_durably(path, Zeroizing::new(format!("{}\n", token.expose_secret())).as_bytes())?;
    Ok(token)
}

/// All that opens something.
#[derive(Clone, Debug)]
pub(super) struct Access {
    local_sha256: Arc<str>,
    tokens: watch::Receiver<Tokens>,
    /// The listener is on loopback: reading needs no token.
    reads_are_open: bool,
}

/// What a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    Token {
        name: String,
        role: Role,
    },
    /// A token that was good once.
    Expired {
        name: String,
    },
    /// Something that is no token of ours.
    Unknown,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    NoToken,
    Unknown,
    Expired { name: String },
    Role { name: String, role: Role, need: Need },
}

impl Shown {
    /// For the audit log.
    pub(super) fn who(&self) -> (&str, Role) {
        match self {
            Self::Token { name, role } => (name, *role),
            Self::Nothing | Self::Expired { .. } | Self::Unknown => (ANONYMOUS, Role::Viewer),
        }
    }
}

impl Access {
    pub(super) fn new(local: &str, tokens: watch::Receiver<Tokens>, reads_are_open: bool) -> Self {
        Self { local_sha256: sha256_hex(local.as_bytes()).into(), tokens, reads_are_open }
    }

    /// Who reads shows no token: then a name that points here is no way in either.
    pub(super) const fn reads_are_open(&self) -> bool {
        self.reads_are_open
    }

    /// Those of the log.
    pub(super) fn known(&self) -> Tokens {
        Arc::clone(&self.tokens.borrow())
    }

    /// `now` in Unix seconds.
    pub(super) fn shown(&self, headers: &HeaderMap, now: u64) -> Shown {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Shown::Nothing };
        let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
        match bearer {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => self.whose(token.trim(), now),
            _ => Shown::Unknown,
        }
    }

    /// Whether what these headers show opens reading, each time it is asked: for an answer that goes on.
    pub(super) fn still_reads(&self, headers: &HeaderMap) -> impl Fn() -> bool + Send + 'static {
        let (access, mut kept) = (self.clone(), HeaderMap::new());
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            kept.insert(header::AUTHORIZATION, value.clone());
        }
        move || access.allows(&access.shown(&kept, unix_now()), Need::Viewer).is_ok()
    }

    /// Whose a token is.
    fn whose(&self, token: &str, now: u64) -> Shown {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Shown::Unknown;
        }
        // Hashes are compared: how much of one is right tells nothing about the token.
        let hash = sha256_hex(token.as_bytes());
        if *hash == *self.local_sha256 {
            return Shown::Token { name: LOCAL.to_owned(), role: Role::ClusterAdmin };
        }
        match self.known().values().find(|token| token.sha256 == hash) {
            None => Shown::Unknown,
            Some(AccessToken { name, expires: Some(expires), .. }) if *expires <= now => {
                Shown::Expired { name: name.clone() }
            }
            Some(AccessToken { name, role, .. }) => Shown::Token { name: name.clone(), role: *role },
        }
    }

    /// Whether `token` is a sidecar's or an admin's: what its bearer tells of others is believed.
    pub(super) fn is_of_the_cluster(&self, token: &str, now: u64) -> bool {
        matches!(self.whose(token, now), Shown::Token { role: Role::Sidecar | Role::ClusterAdmin, .. })
    }

    /// A token that is not good opens what needs none, and nothing else.
    pub(super) fn allows(&self, shown: &Shown, need: Need) -> Result<(), Denied> {
        let is_open = need == Need::Nothing || self.reads_are_open && need == Need::Viewer;
        match shown {
            Shown::Nothing | Shown::Unknown | Shown::Expired { .. } if is_open => Ok(()),
            Shown::Nothing => Err(Denied::NoToken),
            Shown::Unknown => Err(Denied::Unknown),
            Shown::Expired { name } => Err(Denied::Expired { name: name.clone() }),
            Shown::Token { role, .. } if need.is_met_by(*role) => Ok(()),
            Shown::Token { name, role } => Err(Denied::Role { name: name.clone(), role: *role, need }),
        }
    }
}

impl Denied {
    /// `what` is the method and the path.
    pub(super) fn told(&self, what: &str) -> ApiError {
        let hint = "send `Authorization: Bearer …` with the content of DIR/token (--token-file)";
        match self {
            Self::NoToken => {
                ApiError::new(Kind::Unauthorized, format!("{what} needs the controller's token"), hint)
            }
            Self::Unknown => {
                ApiError::new(Kind::Unauthorized, "what was shown is no token of this controller", hint)
            }
            Self::Expired { name } => {
                let hint = "a cluster_admin makes a new one: `shardwright token create`";
                ApiError::new(Kind::Unauthorized, format!("the token '{name}' has expired"), hint)
            }
            Self::Role { name, role, need } => {
                let least = match need {
                    Need::Nothing | Need::Viewer => "viewer",
                    Need::Operator | Need::Gate => "operator",
                    Need::ClusterAdmin => "cluster_admin",
                    Need::Sidecar => "sidecar",
                };
                let detail = format!("{what} needs the role {least}, and the token '{name}' has {role}");
                ApiError::new(Kind::Forbidden, detail, "ask a cluster_admin for a token of that role")
            }
        }
    }
}

/// Whether the client asked for an address, and not for a name: reading needs no token on loopback, so a web page
/// must not get there by a name of its own that it lets point here. Of two headers both count.
pub(super) fn is_addressed_directly(headers: &HeaderMap) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let host = host.to_str().unwrap_or_default();
        host.parse::<SocketAddr>().is_ok()
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || host.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("localhost"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let made = |name: &str, role, expires| AccessToken {
            name: name.to_owned(),
            role,
            sha256: sha256_hex(name.as_bytes()),
            created: 0,
            expires,
        };
        let all = [made("ops", Role::Operator, None), made("late", Role::Viewer, Some(100))];
        let tokens = all.into_iter().map(|token| (token.name.clone(), token)).collect();
        Access::new("0123456789abcdef", watch::Sender::new(Arc::new(tokens)).subscribe(), true)
    }

    #[test]
    fn only_a_whole_token_opens_and_only_in_its_time() {
        let access = access();
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            access.shown(&headers, 99)
        };
        let local = Shown::Token { name: "local".to_owned(), role: Role::ClusterAdmin };
        assert_eq!(with("Bearer 0123456789abcdef"), local);
        assert_eq!(with("bearer 0123456789abcdef"), local);
        assert_eq!(with("Bearer ops"), Shown::Token { name: "ops".to_owned(), role: Role::Operator });
        let long = format!("Bearer {}", "x".repeat(300));
        for wrong in ["Bearer 0123456789abcdee", "Bearer 0123456789abcde", "Bearer ", "Basic ops", "x", &long]
        {
            assert_eq!(with(wrong), Shown::Unknown, "{wrong}");
        }
        assert!(matches!(with("Bearer late"), Shown::Token { .. }));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer late".parse().expect("a header"));
        assert_eq!(access.shown(&headers, 100), Shown::Expired { name: "late".to_owned() });
        assert_eq!(access.shown(&HeaderMap::new(), 0), Shown::Nothing);
    }

    #[test]
    fn a_bad_token_opens_no_more_than_none_which_opens_reading_on_loopback_alone() {
        let mut access = access();
        for need in
            [Need::Nothing, Need::Viewer, Need::Operator, Need::ClusterAdmin, Need::Sidecar, Need::Gate]
        {
            let open = matches!(need, Need::Nothing | Need::Viewer);
            for shown in [Shown::Nothing, Shown::Unknown, Shown::Expired { name: String::new() }] {
                assert_eq!(access.allows(&shown, need).is_ok(), open, "{need:?} {shown:?}");
            }
        }
        access.reads_are_open = false;
        assert_eq!(access.allows(&Shown::Nothing, Need::Viewer), Err(Denied::NoToken));
        assert_eq!(access.allows(&Shown::Nothing, Need::Nothing), Ok(()));
    }

    #[test]
    fn who_listens_reads_for_as_long_as_the_token_is_good() {
        let token = |expires| {
            let (name, role, sha256) = ("t".to_owned(), Role::Viewer, sha256_hex(b"t"));
            Arc::new(BTreeMap::from([(
                name.clone(),
                AccessToken { name, role, sha256, created: 0, expires },
            )]))
        };
        let tokens = watch::Sender::new(token(None));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer t".parse().expect("a header"));
        for reads_are_open in [false, true] {
            let access = Access::new("0123456789abcdef", tokens.subscribe(), reads_are_open);
            let (may, nobody) = (access.still_reads(&headers), access.still_reads(&HeaderMap::new()));
            for (known, good) in [(token(None), true), (token(Some(1)), false), (Tokens::default(), false)] {
                tokens.send_replace(known);
                assert_eq!((may(), nobody()), (good || reads_are_open, reads_are_open));
            }
        }
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
        let mut two = HeaderMap::new();
        for host in ["127.0.0.1", "evil.example"] {
            two.append(header::HOST, host.parse().expect("a header"));
        }
        assert!(!is_addressed_directly(&two));
    }

    #[test]
    fn a_token_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        let first = token(&path).expect("made");
        assert_eq!(first.expose_secret().len(), 64);
        assert_eq!(token(&path).expect("read").expose_secret(), first.expose_secret());
    }
}
