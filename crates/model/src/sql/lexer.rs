//! Cuts a statement into tokens that remember where they stood, so that an error can show what it is near.

use std::borrow::Cow;

/// What a token is. Keywords are identifiers: which words are reserved is the parser's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind<'a> {
    /// A bare word: letters, digits, `_`, not starting with a digit. Also `@word` and `@@word`.
    Word(&'a str),
    /// A name in backticks, without them.
    Quoted(&'a str),
    /// A string in single quotes, escapes resolved.
    Text(Cow<'a, str>),
    /// A number as written, without sign: `12`, `1.5`, `.5`, `1e3`.
    Number(&'a str),
    /// One of `<= >= != <> && ||` or a single other character.
    Symbol(&'a str),
}

/// A token and its bytes' place in the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: TokenKind<'a>,
    pub start: usize,
    pub end: usize,
}

impl Token<'_> {
    /// Whether this is the bare word `keyword`, in any case.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self.kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether this is the symbol `symbol`.
    pub fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.kind, TokenKind::Symbol(found) if found == symbol)
    }
}

/// A string or quoted name without its end; `start` is where it began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unterminated {what} at byte {start}")]
pub struct LexError {
    pub what: &'static str,
    pub start: usize,
}

/// All tokens of `sql`; white space and `/* … */` comments are passed over. `--` is no comment: searchd
/// reads none there.
pub fn tokenize(sql: &str) -> Result<Vec<Token<'_>>, LexError> {
    let mut tokens = Vec::with_capacity(sql.len() / 5 + 1);
    let mut at = 0;
    while let Some(start) = skip_blank(sql, at)? {
        let (kind, end) = token(sql, start)?;
        tokens.push(Token { kind, start, end });
        at = end;
    }
    Ok(tokens)
}

fn skip_blank(sql: &str, mut at: usize) -> Result<Option<usize>, LexError> {
    let bytes = sql.as_bytes();
    loop {
        match bytes.get(at) {
            None => return Ok(None),
            Some(b) if b.is_ascii_whitespace() => at += 1,
            Some(b'/') if bytes.get(at + 1) == Some(&b'*') => match sql[at + 2..].find("*/") {
                Some(length) => at += 2 + length + 2,
                None => return Err(LexError { what: "comment", start: at }),
            },
            Some(_) => return Ok(Some(at)),
        }
    }
}

fn token(sql: &str, start: usize) -> Result<(TokenKind<'_>, usize), LexError> {
    let bytes = sql.as_bytes();
    match bytes[start] {
        b'\'' => text(sql, start),
        b'`' => match sql[start + 1..].find('`') {
            Some(length) => Ok((TokenKind::Quoted(&sql[start + 1..start + 1 + length]), start + length + 2)),
            None => Err(LexError { what: "quoted name", start }),
        },
        b'0'..=b'9' => Ok(number(sql, start)),
        b'.' if bytes.get(start + 1).is_some_and(u8::is_ascii_digit) && !after_name(bytes, start) => {
            Ok(number(sql, start))
        }
        b if is_word(b) || b == b'@' => Ok(word(sql, start)),
        _ => Ok(symbol(sql, start)),
    }
}

/// `t.5` never occurs, `system.1x` might: a dot right behind a name or a bracket is a symbol.
fn after_name(bytes: &[u8], dot: usize) -> bool {
    dot > 0 && (is_word(bytes[dot - 1]) || bytes[dot - 1] == b'`' || bytes[dot - 1] == b']')
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn word(sql: &str, start: usize) -> (TokenKind<'_>, usize) {
    let bytes = sql.as_bytes();
    let ats = bytes[start..].iter().take(2).take_while(|b| **b == b'@').count();
    let letters = bytes[start + ats..].iter().take_while(|b| is_word(**b)).count();
    if letters == 0 {
        return (TokenKind::Symbol(&sql[start..=start]), start + 1);
    }
    let end = start + ats + letters;
    (TokenKind::Word(&sql[start..end]), end)
}

fn number(sql: &str, start: usize) -> (TokenKind<'_>, usize) {
    let bytes = sql.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(start);
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1 + sign);
        }
    }
    // `1abc` is one odd word, not a number and a word: the parser then refuses it whole.
    if end == digits(start) && bytes.get(end).is_some_and(|b| is_word(*b)) {
        return word(sql, start);
    }
    (TokenKind::Number(&sql[start..end]), end)
}

fn symbol(sql: &str, start: usize) -> (TokenKind<'_>, usize) {
    for pair in ["<=", ">=", "!=", "<>", "&&", "||"] {
        if sql[start..].starts_with(pair) {
            return (TokenKind::Symbol(&sql[start..start + 2]), start + 2);
        }
    }
    let length = sql[start..].chars().next().map_or(1, char::len_utf8);
    (TokenKind::Symbol(&sql[start..start + length]), start + length)
}

fn text(sql: &str, start: usize) -> Result<(TokenKind<'_>, usize), LexError> {
    let bytes = sql.as_bytes();
    let mut end = start + 1;
    let mut escaped = false;
    loop {
        match bytes.get(end) {
            None => return Err(LexError { what: "string", start }),
            Some(b'\'') => break,
            Some(b'\\') => {
                escaped = true;
                end += 2;
            }
            Some(_) => end += 1,
        }
    }
    let raw = &sql[start + 1..end];
    let value = if escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) };
    Ok((TokenKind::Text(value), end + 1))
}

fn unescape(raw: &str) -> String {
    let mut value = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some('0') => value.push('\0'),
            Some(other) => value.push(other),
            None => {}
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::quote::Literal;
    use super::*;

    fn kinds(sql: &str) -> Vec<TokenKind<'_>> {
        tokenize(sql).expect("lexes").into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_statement_is_cut_where_searchd_cuts_it() {
        use TokenKind::{Number, Symbol, Text, Word};
        assert_eq!(
            kinds("INSERT INTO c:system.t_s0 (id) VALUES (-1.5,'a\\'b')"),
            vec![
                Word("INSERT"),
                Word("INTO"),
                Word("c"),
                Symbol(":"),
                Word("system"),
                Symbol("."),
                Word("t_s0"),
                Symbol("("),
                Word("id"),
                Symbol(")"),
                Word("VALUES"),
                Symbol("("),
                Symbol("-"),
                Number("1.5"),
                Symbol(","),
                Text("a'b".into()),
                Symbol(")"),
            ]
        );
        assert_eq!(kinds("@@session.x <> /* no */ 1e3"), {
            vec![Word("@@session"), Symbol("."), Word("x"), Symbol("<>"), Number("1e3")]
        });
    }

    #[test]
    fn what_has_no_end_is_refused_with_its_start() {
        for (sql, start) in [("SELECT 'abc", 7), ("SELECT `abc", 7), ("a /* b", 2), ("'\\", 0)] {
            assert_eq!(tokenize(sql).expect_err("unterminated").start, start, "{sql}");
        }
    }

    #[test]
    fn every_literal_reads_back_as_itself() {
        for value in ["", "'", "\\", "a\nb\r\t\0c", "\\'", "naïve — ’quote’"] {
            let sql = Literal(value).to_string();
            assert_eq!(kinds(&sql), vec![TokenKind::Text(value.into())], "{sql}");
        }
    }
}
