//! Identifiers and literals: the only way a value becomes part of a statement.

use std::fmt;

/// Words that searchd's grammar reserves (its handbook, "Reserved keywords"): as names they need backticks.
const RESERVED: [&str; 36] = [
    "AND",
    "AS",
    "BY",
    "COLUMNARSCAN",
    "DATE_ADD",
    "DATE_SUB",
    "DAY",
    "DISTINCT",
    "DIV",
    "EXPLAIN",
    "FACET",
    "FALSE",
    "FORCE",
    "FROM",
    "HOUR",
    "IGNORE",
    "IN",
    "INDEXES",
    "INNER",
    "INTERVAL",
    "IS",
    "JOIN",
    "KNN",
    "LEFT",
    "LIMIT",
    "MOD",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "SELECT",
    "SYSFILTERS",
    "TRUE",
    "USING",
];

/// An identifier in backticks where it needs them. A dotted physical name (`system.t_s0`) stays bare: searchd
/// does not read it in backticks.
#[derive(Clone, Copy, Debug)]
pub struct Ident<'a>(pub &'a str);

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty()
            && self.0.split('.').all(|part| {
                part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            });
        let reserved = RESERVED.iter().any(|word| self.0.eq_ignore_ascii_case(word));
        if plain && !reserved { f.write_str(self.0) } else { write!(f, "`{}`", self.0.replace('`', "")) }
    }
}

/// A string in single quotes, with searchd's backslash escapes.
#[derive(Clone, Copy, Debug)]
pub struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        for c in self.0.chars() {
            match c {
                '\'' => f.write_str("\\'")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\0' => f.write_str("\\0")?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_backticks_only_where_they_need_them() {
        for (name, sql) in [
            ("title", "title"),
            ("system.t_s0", "system.t_s0"),
            ("order", "`order`"),
            ("a-b", "`a-b`"),
            ("1a", "`1a`"),
            ("a`; DROP TABLE t", "`a; DROP TABLE t`"),
            ("", "``"),
        ] {
            assert_eq!(Ident(name).to_string(), sql);
        }
    }
}
