//! What searchd lets one of its users do, as its own rules say it (`SHOW PERMISSIONS FOR 'user'`).

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a rule of searchd is about. None of them includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserAction {
    /// Tables' rows, lists and declarations.
    Read,
    /// Rows, and what rewrites a table without changing what it is.
    Write,
    /// Making, changing and dropping tables.
    Schema,
    /// Replication clusters; the target is a cluster's name.
    Replication,
    /// Users and their rules: who has it may give himself all others.
    Admin,
}

impl UserAction {
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Schema, Self::Replication, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Schema => "schema",
            Self::Replication => "replication",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for UserAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rule: who may, or may not, do something to what has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRule {
    pub action: UserAction,
    /// A name, or a pattern with `*` (any text), `?` (one character) and `%` (one character or none).
    pub target: String,
    pub allow: bool,
}

/// All rules of one user. None: he may do nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRights {
    pub user: String,
    pub rules: Vec<UserRule>,
}

impl UserRights {
    /// Whether the user may do this to what is named so: some rule allows it, and none forbids it.
    pub fn may(&self, action: UserAction, target: &str) -> bool {
        let meets = |rule: &&UserRule| {
            rule.action == action
                && fits(&rule.target, target)
                && !(rule.allow && is_read_otherwise(&rule.target))
        };
        let mut found = self.rules.iter().filter(meets).peekable();
        found.peek().is_some() && found.all(|rule| rule.allow)
    }

    /// Whether the user may do this to something.
    pub fn may_somewhere(&self, action: UserAction) -> bool {
        self.rules.iter().any(|rule| rule.action == action && rule.allow)
    }

    /// Whether the user may do this to everything there is, and will be.
    pub fn may_to_all(&self, action: UserAction) -> bool {
        let mut found = self.rules.iter().filter(|rule| rule.action == action);
        let all = self.rules.iter().any(|rule| rule.action == action && rule.allow && rule.target == "*");
        all && found.all(|rule| rule.allow)
    }
}

/// Patterns that searchd 29.0.2 lets fit less than they say: so they allow nothing here, and still forbid.
fn is_read_otherwise(pattern: &str) -> bool {
    pattern.contains("*%") || pattern.ends_with("%%")
}

/// Whether `name` fits the pattern. Runs in the product of the lengths at worst.
fn fits(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // Where in the name what was read of the pattern may end.
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    for one in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        for at in 0..ends.len() {
            let steps = ends[at] && at < name.len();
            match one {
                '*' => next[at] = ends[at] || at > 0 && next[at - 1],
                '?' if steps => next[at + 1] = true,
                '%' => {
                    next[at] |= ends[at];
                    if steps {
                        next[at + 1] = true;
                    }
                }
                other if steps && name[at] == other => next[at + 1] = true,
                _ => {}
            }
        }
        ends = next;
    }
    ends[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(rules: &[(UserAction, &str, bool)]) -> UserRights {
        let rule = |&(action, target, allow): &(UserAction, &str, bool)| UserRule {
            action,
            target: target.to_owned(),
            allow,
        };
        UserRights { user: "u".to_owned(), rules: rules.iter().map(rule).collect() }
    }

    #[test]
    fn nothing_is_allowed_without_a_rule_and_whatever_forbids_wins() {
        use UserAction::{Admin, Read, Schema};
        assert!(!rights(&[]).may(Read, "t"));
        assert!(
            !rights(&[(Schema, "*", true), (Admin, "*", true)]).may(Read, "t"),
            "no action includes another"
        );
        for rules in [
            [(Read, "*", true), (Read, "private_*", false)],
            [(Read, "private_*", false), (Read, "*", true)],
            [(Read, "private_x", true), (Read, "private_*", false)],
        ] {
            assert!(!rights(&rules).may(Read, "private_x"), "{rules:?}");
        }
        let most = rights(&[(Read, "*", true), (Read, "private_*", false)]);
        assert!(most.may(Read, "t") && !most.may_to_all(Read));
        assert!(rights(&[(Read, "*", true)]).may_to_all(Read));
        assert!(!rights(&[(Read, "t", true)]).may_to_all(Read));
        assert!(!rights(&[(Read, "*%", true)]).may(Read, "t"), "searchd lets it fit nothing");
        assert!(!rights(&[(Read, "*", true), (Read, "*%", false)]).may(Read, "t"));
    }

    #[test]
    fn patterns_are_read_as_searchd_reads_them() {
        for (pattern, good, bad) in [
            ("t", &["t"][..], &["", "tt", "T"][..]),
            ("*", &["", "t", "system.t_s0"], &[]),
            ("logs_*", &["logs_", "logs_2026"], &["log_2026", "xlogs_1"]),
            ("*_s?", &["t_s0", "a_s_s1"], &["t_s", "t_s10"]),
            ("a%b", &["ab", "axb"], &["axxb", "a", "b"]),
            ("%", &["", "x"], &["xx"]),
            ("a**b*c", &["abc", "aXbYc", "abbc"], &["ab", "bc", "abcd"]),
            ("é?", &["éx", "éé"], &["é"]),
        ] {
            for name in good {
                assert!(fits(pattern, name), "{pattern} {name}");
            }
            for name in bad {
                assert!(!fits(pattern, name), "{pattern} {name}");
            }
        }
    }
}
