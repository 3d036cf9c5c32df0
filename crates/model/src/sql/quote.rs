//! Identifiers and literals: the only way a value becomes part of a statement.

use std::fmt;

/// An identifier in backticks, whatever word it is: searchd reserves other words in CREATE TABLE (`cluster`, `table`, `at`) than in
/// queries (`order`), and a later version may reserve more. A dotted physical name (`system.t_s0`) stays bare: searchd
/// does not read it in backticks.
#[derive(Clone, Copy, Debug)]
pub struct Ident<'a>(pub &'a str);

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |part: &str| {
            part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if self.0.contains('.') && self.0.split('.').all(word) {
            f.write_str(self.0)
        } else {
            write!(f, "`{}`", self.0.replace('`', ""))
        }
    }
}

/// Words that searchd gives no table for a name, in backticks or not: each was tried on 29.0.2.
const NO_TABLE: [&str; 33] = [
    "and",
    "as",
    "by",
    "distinct",
    "div",
    "explain",
    "facet",
    "false",
    "force",
    "from",
    "ignore",
    "in",
    "indexes",
    "inner",
    "is",
    "join",
    "knn",
    "left",
    "limit",
    "mod",
    "not",
    "no_columnarscan",
    "no_docidindex",
    "no_secondaryindex",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "reload",
    "select",
    "token",
    "true",
];

/// Whether searchd refuses a table of this name as `a reserved keyword`.
pub fn is_reserved_table_name(name: &str) -> bool {
    NO_TABLE.iter().any(|word| name.eq_ignore_ascii_case(word))
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
    fn some_words_name_no_table_in_any_case() {
        for (name, reserved) in
            [("order", true), ("Select", true), ("cluster", false), ("orders", false), ("", false)]
        {
            assert_eq!(is_reserved_table_name(name), reserved, "{name}");
        }
    }

    #[test]
    fn names_stand_in_backticks_but_for_those_of_physical_tables() {
        for (name, sql) in [
            ("title", "`title`"),
            ("system.t_s0", "system.t_s0"),
            ("order", "`order`"),
            ("1a", "`1a`"),
            ("a.b c", "`a.b c`"),
            ("a`; DROP TABLE t", "`a; DROP TABLE t`"),
            ("", "``"),
        ] {
            assert_eq!(Ident(name).to_string(), sql);
        }
    }
}
