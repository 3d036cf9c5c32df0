//! As whom a node is spoken to, where searchd has users.

use secrecy::{ExposeSecret as _, SecretString};

/// A user of searchd, and the password.
#[derive(Clone, Debug)]
pub struct Login {
    pub name: String,
    pub password: SecretString,
}

/// Why a text is no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a login is one line NAME:PASSWORD, and neither is empty")]
pub struct NoLogin;

impl Login {
    /// Reads `NAME:PASSWORD`; only the name cannot hold a colon.
    pub fn parse(text: &str) -> Result<Self, NoLogin> {
        let line = text.trim_end_matches(['\r', '\n']);
        let (name, password) = line.split_once(':').ok_or(NoLogin)?;
        if name.is_empty() || password.is_empty() || line.chars().any(char::is_control) {
            return Err(NoLogin);
        }
        Ok(Self { name: name.to_owned(), password: SecretString::from(password) })
    }

    pub(crate) fn password(&self) -> &str {
        self.password.expose_secret()
    }
}

/// What opens nodes. Nothing, where searchd has no users.
#[derive(Clone, Debug, Default)]
pub struct Logins {
    /// Whoever speaks for Shardwright, the same on every node.
    pub own: Option<Login>,
    /// The sidecar's own token for its own node, from searchd: it speaks for any user there, and is asked about all.
    pub sidecar: Option<SecretString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_one_line_and_never_shows_its_password() {
        let login = Login::parse("sw:a:b c\n").expect("a login");
        assert_eq!((login.name.as_str(), login.password()), ("sw", "a:b c"));
        assert!(!format!("{login:?}").contains("a:b c"));
        for bad in ["", "sw", "sw:", ":x", "sw:x\ny", "sw:\u{0}"] {
            assert_eq!(Login::parse(bad).expect_err("refused"), NoLogin, "{bad:?}");
        }
    }
}
