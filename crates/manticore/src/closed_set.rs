//! The last look at a text before it is sent: is it one of the statements a controller may say at all?
//!
//! Shares no code with the rendering: it cuts the finished text into tokens and compares them with the shapes
//! below, so that a value that broke out of its quotes is caught here. What users say does not pass through it.

use model::sql::{Token, TokenKind, tokenize};

/// A text that is none of ours; it was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "refused to send a statement that is none of the known ones (it begins '{begin}'): this is a defect, please report it"
)]
pub struct NotInSet {
    pub begin: String,
}

/// The shapes, in the words of [`matches`]: `G` a cluster's name, `S` a physical shard, `K` a table of the stock sidecar's, `T` a table's name,
/// `D` columns in brackets and options, `V` names in brackets and rows of constants, `'…'` any string, `N` a number, `,` more of the same; all else stands for itself.
const SHAPES: &[&str] = &[
    "CREATE TABLE S D",
    "CREATE TABLE T D",
    "DROP TABLE IF EXISTS S",
    "DROP TABLE T OPTION force = 1",
    "CREATE CLUSTER G '…' as path , '…' as options",
    "CREATE CLUSTER G '…' as options",
    "JOIN CLUSTER G AT '…' '…' as path , '…' as options",
    "JOIN CLUSTER G AT '…' '…' as options",
    "ALTER CLUSTER G ADD S*",
    "ALTER CLUSTER G DROP S",
    "ALTER CLUSTER G UPDATE nodes",
    "SET CLUSTER G GLOBAL 'pc.bootstrap' = 1",
    "SET CLUSTER G GLOBAL 'evs.suspect_timeout' = 'PT0.1S'",
    "SET CLUSTER G GLOBAL 'gmcast.isolate' = '2'",
    "EXIT CLUSTER G",
    "DELETE CLUSTER G",
    "LOCK TABLES R*",
    "UNLOCK TABLES",
    "SELECT COUNT ( * ) , SUM ( id ) , MIN ( id ) , MAX ( id ) FROM S",
    "SELECT COUNT ( * ) FROM T",
    "SELECT * FROM S ORDER BY id ASC LIMIT N",
    "SELECT * FROM S WHERE id > N ORDER BY id ASC LIMIT N",
    "INSERT INTO T V",
    "REPLACE INTO T V",
    "TRUNCATE TABLE G : S",
    "TRUNCATE TABLE S",
    "OPTIMIZE TABLE S",
    "FLUSH RAMCHUNK S",
    "SELECT * FROM K ORDER BY id ASC LIMIT N",
    "SELECT * FROM K WHERE id > N ORDER BY id ASC LIMIT N",
    "DESC K",
    "ALTER CLUSTER G DROP K",
    "DROP TABLE IF EXISTS K",
    "SHOW STATUS LIKE '…'",
    "SHOW TABLES",
    "SHOW TABLES FROM SYSTEM",
    "SHOW CREATE TABLE T OPTION force = 1",
    "DESC S",
    "SHOW THREADS",
    "SHOW SETTINGS",
    "SHOW PERMISSIONS FOR '…'",
];

/// Whether `text` is exactly one statement of the closed set.
pub fn check(text: &str) -> Result<(), NotInSet> {
    // Whatever stands behind a NUL would be lost on the way: then it is another statement.
    let whole = !text.contains('\0');
    let known =
        whole && tokenize(text).is_ok_and(|tokens| SHAPES.iter().any(|shape| matches(shape, &tokens)));
    if known { Ok(()) } else { Err(NotInSet { begin: text.chars().take(40).collect() }) }
}

fn matches(shape: &str, mut tokens: &[Token<'_>]) -> bool {
    for part in shape.split(' ') {
        let rest = match part {
            "G" => identifier(tokens),
            "T" => identifier(tokens).or_else(|| backticked(tokens)),
            "S" => shard(tokens),
            "K" => stock(tokens),
            "S*" => repeated(tokens, shard),
            "R*" => repeated(tokens, |tokens| word(shard(tokens)?, "READ")),
            "D" => declaration(tokens),
            "V" => documents(tokens),
            "'…'" => string(tokens),
            one if one.starts_with('\'') => this_string(tokens, one.trim_matches('\'')),
            "N" => number(tokens),
            "1" => tokens
                .split_first()
                .filter(|(first, _)| first.kind == TokenKind::Number("1"))
                .map(|(_, rest)| rest),
            one if one.bytes().all(|b| b.is_ascii_alphanumeric()) => word(tokens, one),
            one => symbol(tokens, one),
        };
        match rest {
            Some(rest) => tokens = rest,
            None => return false,
        }
    }
    tokens.is_empty()
}

type Rest<'t, 'a> = Option<&'t [Token<'a>]>;

fn word<'t, 'a>(tokens: &'t [Token<'a>], expected: &str) -> Rest<'t, 'a> {
    tokens.split_first().filter(|(first, _)| first.is(expected)).map(|(_, rest)| rest)
}

fn symbol<'t, 'a>(tokens: &'t [Token<'a>], expected: &str) -> Rest<'t, 'a> {
    tokens.split_first().filter(|(first, _)| first.is_symbol(expected)).map(|(_, rest)| rest)
}

fn number<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    let unsigned = symbol(tokens, "-").unwrap_or(tokens);
    unsigned
        .split_first()
        .filter(|(first, _)| matches!(first.kind, TokenKind::Number(_)))
        .map(|(_, rest)| rest)
}

fn string<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    tokens.split_first().filter(|(first, _)| matches!(first.kind, TokenKind::Text(_))).map(|(_, rest)| rest)
}

fn this_string<'t, 'a>(tokens: &'t [Token<'a>], expected: &str) -> Rest<'t, 'a> {
    let is_it = |first: &Token<'_>| matches!(&first.kind, TokenKind::Text(text) if text == expected);
    tokens.split_first().filter(|(first, _)| is_it(first)).map(|(_, rest)| rest)
}

fn backticked<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    tokens.split_first().filter(|(first, _)| matches!(first.kind, TokenKind::Quoted(_))).map(|(_, rest)| rest)
}

fn identifier<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    let plain = |token: &Token<'_>| matches!(token.kind, TokenKind::Word(word) if !word.starts_with('@'));
    tokens.split_first().filter(|(first, _)| plain(first)).map(|(_, rest)| rest)
}

/// `system`, a dot, and a word that ends in `_s{n}`.
fn shard<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    let (name, rest) = symbol(word(tokens, "system")?, ".")?.split_first()?;
    let TokenKind::Word(name) = name.kind else { return None };
    let (_, number) = name.rsplit_once("_s")?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
}

/// `system`, a dot, and one of three words.
fn stock<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    let rest = symbol(word(tokens, "system")?, ".")?;
    ["sharding_state", "sharding_queue", "sharding_table"].iter().find_map(|name| word(rest, name))
}

fn repeated<'t, 'a>(tokens: &'t [Token<'a>], one: impl Fn(&'t [Token<'a>]) -> Rest<'t, 'a>) -> Rest<'t, 'a> {
    let mut rest = one(tokens)?;
    while let Some(behind) = symbol(rest, ",") {
        rest = one(behind)?;
    }
    Some(rest)
}

/// `(name type …, …)` and then nothing but `key='value'` to the end.
fn declaration<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    let mut rest = symbol(tokens, "(")?;
    let mut depth = 1;
    while depth > 0 {
        let (first, behind) = rest.split_first()?;
        match &first.kind {
            TokenKind::Symbol("(") => depth += 1,
            TokenKind::Symbol(")") => depth -= 1,
            TokenKind::Symbol(symbol) if !matches!(*symbol, "," | "=") => return None,
            _ => {}
        }
        // Only a type's length nests: `bit(8)`.
        if depth > 2 {
            return None;
        }
        rest = behind;
    }
    while !rest.is_empty() {
        rest = string(symbol(identifier(rest)?, "=")?)?;
    }
    Some(rest)
}

/// `(a,b) VALUES (1,'x'),(2,(3,4))`, every row as long as the list of names, up to the end.
fn documents<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    let mut rest = symbol(tokens, "(")?;
    let mut names = 0;
    loop {
        rest = identifier(rest).or_else(|| backticked(rest))?;
        names += 1;
        match symbol(rest, ",") {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    rest = word(symbol(rest, ")")?, "VALUES")?;
    loop {
        rest = row(rest, names)?;
        match symbol(rest, ",") {
            Some(behind) => rest = behind,
            None => return Some(rest),
        }
    }
}

fn row<'t, 'a>(tokens: &'t [Token<'a>], values: usize) -> Rest<'t, 'a> {
    let mut rest = symbol(tokens, "(")?;
    for index in 0..values {
        rest = if index == 0 { rest } else { symbol(rest, ",")? };
        rest = string(rest).or_else(|| number(rest)).or_else(|| numbers(rest))?;
    }
    symbol(rest, ")")
}

fn numbers<'t, 'a>(tokens: &'t [Token<'a>]) -> Rest<'t, 'a> {
    let inside = symbol(tokens, "(")?;
    if let Some(behind) = symbol(inside, ")") {
        return Some(behind);
    }
    symbol(repeated(inside, number)?, ")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_out_of_its_place_is_not_sent() {
        for text in [
            "DROP TABLE t",
            "DROP TABLE IF EXISTS t",
            "DROP TABLE IF EXISTS system.t_s0; DROP TABLE u",
            "DROP TABLE IF EXISTS system.users",
            "DROP TABLE IF EXISTS system.sharding_states",
            "SELECT * FROM system.sharding_state",
            "ALTER CLUSTER c DROP sharding_table",
            "DELETE CLUSTER c; DELETE CLUSTER d",
            "SET CLUSTER c GLOBAL 'wsrep_on' = 1",
            "SET CLUSTER c GLOBAL 'pc.bootstrap' = 'PT0.1S'",
            "SET CLUSTER c GLOBAL 'evs.suspect_timeout' = 'PT9H'",
            "SET CLUSTER c GLOBAL 'gmcast.isolate' = '1'",
            "DELETE CLUSTER `c`",
            "SELECT * FROM @@system.tables",
            "CREATE TABLE system.t_s0 (a int) type='rt' OPTION x",
            "CREATE TABLE system.t_s0 (a int; b int)",
            "ALTER CLUSTER c ADD system.t_s0,",
            "ALTER CLUSTER c ADD plain",
            "SELECT * FROM t ORDER BY id ASC LIMIT 500",
            "SELECT COUNT(*) FROM t, u",
            "SELECT COUNT(*) FROM t WHERE x=1",
            "SELECT COUNT(*) FROM @@system.tables",
            "SELECT * FROM system.t_s0 WHERE id > x ORDER BY id ASC LIMIT 500",
            "LOCK TABLES system.t_s0 WRITE",
            "CREATE CLUSTER c 'p' as path, 'o' as options, 'x' as more",
            "SHOW TABLES FROM SYSTEM 'unterminated",
            "INSERT INTO t (id) VALUES",
            "INSERT INTO t (id,a) VALUES (1)",
            "INSERT INTO t (id) VALUES (1,2)",
            "INSERT INTO t (id) VALUES (1); DROP TABLE t",
            "INSERT INTO t (id) VALUES (a)",
            "INSERT INTO t (id) VALUES ((1,'x'))",
            "REPLACE INTO c:t (id) VALUES (1)",
            "CREATE TABLE system.t_s0 (`a\0` text)",
            "",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
