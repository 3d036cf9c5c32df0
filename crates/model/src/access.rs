//! Who may do what: roles, tokens as they are kept, and the marks of the audit log.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a token opens. Each role up to `ClusterAdmin` may do all that the one before it may; a sidecar's stands apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asks for orders and hands on its clients' statements, and nothing else.
    Sidecar,
    /// Reads what the page shows.
    Viewer,
    /// Moves, drains, backs up, silences: nothing that gives up documents.
    Operator,
    /// Everything.
    ClusterAdmin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Sidecar, Self::Viewer, Self::Operator, Self::ClusterAdmin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::ClusterAdmin => "cluster_admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// It is none of the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of viewer, operator, cluster_admin, sidecar")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A token as the log keeps it: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    pub name: String,
    pub role: Role,
    /// SHA-256 of the token in hex. A token has 256 random bits, so that no salt and no slow hash is needed.
    pub sha256: String,
    /// Unix seconds.
    pub created: u64,
    /// Unix seconds from which on it opens nothing; `None`: until it is revoked.
    pub expires: Option<u64>,
}

/// Names are read by people and stand in the audit log.
pub const TOKEN_NAME_MAX: usize = 64;

/// Who acts without a token of the log: the controller itself, a statement through a node, whoever shows no token, the bearer of
/// `DIR/token`. In the audit log nobody else is called so.
pub const NO_TOKEN_NAMES: [&str; 4] = ["controller", "sql", "anonymous", "local"];

/// Whether `name` may name a token: letters, digits, `_`, `-`, `.`, at most [`TOKEN_NAME_MAX`] of them and not dots alone, which
/// the path of a URL cannot hold; and none of [`NO_TOKEN_NAMES`].
pub fn is_token_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_taken = NO_TOKEN_NAMES.iter().any(|taken| name.eq_ignore_ascii_case(taken));
    (1..=TOKEN_NAME_MAX).contains(&name.len())
        && name.bytes().all(fits)
        && !name.bytes().all(|byte| byte == b'.')
        && !is_taken
}

/// A change of the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenOrder {
    Add(AccessToken),
    Revoke { name: String },
}

/// How far one controller's audit log is known to go: a log that is shorter was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditMark {
    /// The audit log's own id: a directory that is thrown away and begun anew has another.
    pub log: String,
    /// The controller that keeps it, by its name.
    pub controller: String,
    /// Its last line's number; lines count from 1.
    pub last: u64,
    /// That line's hash, in hex.
    pub hash: String,
    /// The first line that is still kept.
    pub first: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
    }

    #[test]
    fn names_of_tokens_are_plain_words() {
        for good in ["ci", "a.b-c_1", ".a", "local-ci", &"x".repeat(64)] {
            assert!(is_token_name(good), "{good}");
        }
        for bad in ["", "a b", "ä", "a\n", "a/b", ".", "..", &"x".repeat(65)] {
            assert!(!is_token_name(bad), "{bad}");
        }
        // They would pass for somebody else in the audit log, and `local` for one without a limit of requests.
        for taken in ["controller", "sql", "anonymous", "local", "Local"] {
            assert!(!is_token_name(taken), "{taken}");
        }
    }
}
