//! Statements about users, which the engine itself knows nothing of. What is none of them is left to it.

use model::UserAction;
use model::sql::{Token, TokenKind, tokenize};
use std::slice::Iter;

/// One statement about users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    ShowUsers,
    /// Of one user, or of whom one may see.
    ShowPermissions(Option<String>),
    CreateUser {
        name: String,
        password: String,
    },
    DropUser(String),
    Grant {
        action: String,
        target: String,
        user: String,
        allow: bool,
    },
    Revoke {
        action: String,
        target: String,
        user: String,
    },
}

/// The five actions by their names.
pub(super) fn action(name: &str) -> Option<UserAction> {
    UserAction::ALL.into_iter().find(|action| action.as_str() == name)
}

/// Reads one of them, to its last token.
pub(super) fn read(sql: &str) -> Option<Order> {
    let tokens = tokenize(sql).ok()?;
    let mut words = Words(tokens.iter());
    let order = match words.word()?.as_str() {
        "show" => match words.word()?.as_str() {
            "users" => Order::ShowUsers,
            "permissions" if words.0.as_slice().is_empty() => Order::ShowPermissions(None),
            "permissions" => Order::ShowPermissions(Some(words.eat("for")?.text()?)),
            _ => return None,
        },
        "create" => {
            let name = words.eat("user")?.text()?;
            Order::CreateUser { name, password: words.eat("identified")?.eat("by")?.text()? }
        }
        "drop" => Order::DropUser(words.eat("user")?.text()?),
        "grant" => {
            let (action, target) = (words.word()?, words.eat("on")?.target()?);
            let user = words.eat("to")?.text()?;
            let allow = words.0.as_slice().is_empty() || words.eat("with")?.eat("allow")?.flag()?;
            Order::Grant { action, target, user, allow }
        }
        "revoke" => {
            let (action, target) = (words.word()?, words.eat("on")?.target()?);
            Order::Revoke { action, target, user: words.eat("from")?.text()? }
        }
        _ => return None,
    };
    words.0.as_slice().is_empty().then_some(order)
}

struct Words<'a>(Iter<'a, Token<'a>>);

impl Words<'_> {
    fn word(&mut self) -> Option<String> {
        match self.0.next()?.kind {
            TokenKind::Word(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn eat(&mut self, word: &str) -> Option<&mut Self> {
        (self.word()? == word).then_some(self)
    }

    fn text(&mut self) -> Option<String> {
        match &self.0.next()?.kind {
            TokenKind::Text(text) if !text.is_empty() => Some(text.to_string()),
            _ => None,
        }
    }

    /// A text, or `*` without quotes.
    fn target(&mut self) -> Option<String> {
        match &self.0.next()?.kind {
            TokenKind::Text(text) if !text.is_empty() => Some(text.to_string()),
            TokenKind::Symbol("*") => Some("*".to_owned()),
            _ => None,
        }
    }

    fn flag(&mut self) -> Option<bool> {
        match self.0.next()?.kind {
            TokenKind::Number("0") => Some(false),
            TokenKind::Number("1") => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_whole_or_not_at_all() {
        let grant =
            |allow| Order::Grant { action: "read".into(), target: "t*".into(), user: "o'neil".into(), allow };
        for (sql, order) in [
            ("SHOW USERS", Order::ShowUsers),
            ("show permissions", Order::ShowPermissions(None)),
            ("SHOW PERMISSIONS FOR 'u'", Order::ShowPermissions(Some("u".into()))),
            ("GRANT read ON 't*' TO 'o\\'neil'", grant(true)),
            ("GRANT READ ON 't*' TO 'o\\'neil' WITH ALLOW 0", grant(false)),
            ("DROP USER 'u'", Order::DropUser("u".into())),
        ] {
            assert_eq!(read(sql), Some(order), "{sql}");
        }
        for none in [
            "SHOW TABLES",
            "SHOW USERS; DROP USER 'admin'",
            "DROP USER u",
            "CREATE USER '' IDENTIFIED BY 'x'",
            "GRANT read ON t TO 'u'",
            "GRANT read ON 't' TO 'u' WITH ALLOW 2",
            "DROP USER 'u",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
