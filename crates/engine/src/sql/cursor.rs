//! The parser's place in the token stream, and the syntax errors it makes there.

use crate::io::SqlError;
use model::sql::{Token, TokenKind};

pub(super) type Parsed<T> = Result<T, SqlError>;

/// searchd tries several grammars; the one that gets furthest signs the error. The sidecar and users read these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Reading and writing: `P01`.
    Query,
    /// First words that no other grammar knows: `P02`.
    Unknown,
    /// Definitions of tables and clusters: `P03`.
    Definition,
}

impl Grammar {
    const fn code(self) -> &'static str {
        match self {
            Self::Query => "P01",
            Self::Unknown => "P02",
            Self::Definition => "P03",
        }
    }

    /// What the grammar calls a bare word that is no keyword.
    const fn word(self) -> &'static str {
        match self {
            Self::Query | Self::Unknown => "identifier",
            Self::Definition => "tablename",
        }
    }
}

/// Words that cannot name a table or column without backticks.
const RESERVED: [&str; 38] = [
    "and",
    "as",
    "by",
    "columnarscan",
    "distinct",
    "div",
    "docidindex",
    "explain",
    "facet",
    "false",
    "force",
    "from",
    "if",
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
    "null",
    "offset",
    "on",
    "or",
    "order",
    "reload",
    "secondaryindex",
    "select",
    "set",
    "sysfilters",
    "true",
    "values",
    "where",
];

/// Words that cannot name a column of CREATE TABLE without backticks, and that SHOW CREATE TABLE puts in backticks; each was tried on
/// searchd 29.0.2, and most are names everywhere else.
const COLUMN_WORDS: [&str; 44] = [
    "add",
    "alter",
    "as",
    "at",
    "attribute",
    "bigint",
    "bit",
    "bool",
    "cluster",
    "column",
    "columnar",
    "create",
    "double",
    "drop",
    "exists",
    "float",
    "from",
    "function",
    "if",
    "import",
    "indexed",
    "int",
    "integer",
    "join",
    "json",
    "knn",
    "like",
    "multi",
    "multi64",
    "not",
    "plugin",
    "rebuild",
    "reconfigure",
    "returns",
    "rtindex",
    "secondary",
    "soname",
    "stored",
    "string",
    "table",
    "text",
    "timestamp",
    "uint",
    "update",
];

/// Those that CREATE TABLE wants in backticks, and SHOW CREATE TABLE shows without.
const WANTED_IN_BACKTICKS: [&str; 5] = ["api_timeout", "api_url", "embeddings", "float_vector", "option"];

/// Those that SHOW CREATE TABLE shows in backticks, and CREATE TABLE takes without.
const SHOWN_IN_BACKTICKS: [&str; 2] = ["engine", "type"];

/// Keywords that errors name in capitals although they may serve as names.
const KEYWORDS: [&str; 34] = [
    "alter",
    "begin",
    "between",
    "cluster",
    "commit",
    "create",
    "delete",
    "desc",
    "describe",
    "drop",
    "flush",
    "group",
    "insert",
    "into",
    "kill",
    "like",
    "lock",
    "match",
    "meta",
    "option",
    "optimize",
    "replace",
    "rollback",
    "show",
    "start",
    "status",
    "table",
    "tables",
    "transaction",
    "truncate",
    "unlock",
    "update",
    "variables",
    "warnings",
];

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    sql: &'a str,
    tokens: &'a [Token<'a>],
    at: usize,
    grammar: Grammar,
    operators: usize,
}

/// A row of operators is a tree as deep as it is long: more are refused, so that no statement can exhaust the stack.
const OPERATORS_MAX: usize = 300;

impl<'a> Cursor<'a> {
    pub(super) const fn new(sql: &'a str, tokens: &'a [Token<'a>], grammar: Grammar) -> Self {
        Self { sql, tokens, at: 0, grammar, operators: 0 }
    }

    /// One more operator between two expressions of this statement.
    pub(super) fn count_operator(&mut self) -> Parsed<()> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(SqlError::new(format!(
                "more than {OPERATORS_MAX} operators in one statement: name many values by IN (…), or send several statements"
            )));
        }
        Ok(())
    }

    pub(super) fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at + ahead)
    }

    pub(super) const fn advance(&mut self) {
        self.at += 1;
    }

    /// Whether the next token is the bare word `keyword`.
    pub(super) fn at_word(&self, keyword: &str) -> bool {
        self.peek().is_some_and(|token| token.is(keyword))
    }

    pub(super) fn at_symbol(&self, symbol: &str) -> bool {
        self.peek().is_some_and(|token| token.is_symbol(symbol))
    }

    pub(super) fn eat(&mut self, keyword: &str) -> bool {
        let found = self.at_word(keyword);
        self.at += usize::from(found);
        found
    }

    pub(super) fn eat_symbol(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    /// Takes all of `keywords` or nothing.
    pub(super) fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let found = keywords
            .iter()
            .enumerate()
            .all(|(ahead, keyword)| self.peek_at(ahead).is_some_and(|token| token.is(keyword)));
        self.at += if found { keywords.len() } else { 0 };
        found
    }

    pub(super) fn expect(&mut self, keyword: &str) -> Parsed<()> {
        if self.eat(keyword) { Ok(()) } else { Err(self.unexpected(&[&keyword.to_ascii_uppercase()])) }
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str) -> Parsed<()> {
        if self.eat_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&[&format!("'{symbol}'")])) }
    }

    /// A single-quoted string.
    pub(super) fn text(&mut self) -> Parsed<String> {
        match self.peek().map(|token| &token.kind) {
            Some(TokenKind::Text(text)) => {
                self.at += 1;
                Ok(text.to_string())
            }
            _ => Err(self.unexpected(&["quoted string"])),
        }
    }

    /// A name as written: a bare word that is not reserved, or any word in backticks.
    pub(super) fn name(&mut self) -> Parsed<&'a str> {
        let name = match self.peek().map(|token| &token.kind) {
            Some(TokenKind::Quoted(name))
                if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
            {
                return Err(self.unexpected_as("invalid token", &[]));
            }
            Some(TokenKind::Quoted(name)) if !name.is_empty() => *name,
            Some(TokenKind::Word(word)) if !word.starts_with('@') && !is_reserved(word) => *word,
            _ => return Err(self.unexpected(&[])),
        };
        self.at += 1;
        Ok(name)
    }

    /// A table or column name, folded to lower case.
    pub(super) fn lower_name(&mut self) -> Parsed<String> {
        Ok(self.name()?.to_ascii_lowercase())
    }

    /// The name of a column where it is declared, folded to lower case.
    pub(super) fn column_name(&mut self) -> Parsed<String> {
        match self.peek().map(|token| &token.kind) {
            Some(TokenKind::Word(word))
                if is_one_of(word, &COLUMN_WORDS) || is_one_of(word, &WANTED_IN_BACKTICKS) =>
            {
                Err(self.unexpected(&[]))
            }
            // Reserved elsewhere, but not here.
            Some(TokenKind::Word(word)) if is_reserved(word) => {
                self.at += 1;
                Ok(word.to_ascii_lowercase())
            }
            _ => self.lower_name(),
        }
    }

    /// An option's name in lower case: reserved words too, such as `force`.
    pub(super) fn any_word(&mut self) -> Parsed<String> {
        match self.peek().map(|token| &token.kind) {
            Some(TokenKind::Word(word)) if !word.starts_with('@') => {
                self.at += 1;
                Ok(word.to_ascii_lowercase())
            }
            _ => self.lower_name(),
        }
    }

    /// The text from token number `from` up to where the cursor stands.
    pub(super) fn text_since(&self, from: usize) -> &'a str {
        let first = self.tokens.get(from).map_or(self.sql.len(), |token| token.start);
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(first, |token| token.end);
        self.sql.get(first..last).unwrap_or("")
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    /// `a, b, …`: at least one.
    pub(super) fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.eat_symbol(",") {
            all.push(one(self)?);
        }
        Ok(all)
    }

    /// Refuses whatever follows the statement: searchd takes one statement a request.
    pub(super) fn end(&mut self) -> Parsed<()> {
        while self.eat_symbol(";") {}
        if self.peek().is_none() { Ok(()) } else { Err(self.unexpected(&["$end"])) }
    }

    /// The syntax error at the next token.
    pub(super) fn unexpected(&self, expecting: &[&str]) -> SqlError {
        let found = self.peek().map_or_else(|| "$end".to_owned(), |token| self.describe(token));
        self.unexpected_as(&found, expecting)
    }

    /// At the end of a row that has not as many values as columns were named.
    pub(super) fn wrong_number_of_values(&self) -> SqlError {
        let near = self.peek().map_or("", |token| &self.sql[token.start..]);
        SqlError::new(format!("{}: wrong number of values here near '{near}'", self.grammar.code()))
    }

    fn unexpected_as(&self, found: &str, expecting: &[&str]) -> SqlError {
        let expecting = if expecting.is_empty() {
            String::new()
        } else {
            format!(", expecting {}", expecting.join(" or "))
        };
        let near = self.peek().map_or("(null)", |token| &self.sql[token.start..]);
        SqlError::new(format!(
            "{}: syntax error, unexpected {found}{expecting} near '{near}'",
            self.grammar.code()
        ))
    }

    fn describe(&self, token: &Token<'_>) -> String {
        let subkey = || self.peek_at(1).is_some_and(|next| matches!(next.kind, TokenKind::Word(_)));
        match &token.kind {
            TokenKind::Word(word) if is_reserved(word) || is_keyword(word) => word.to_ascii_uppercase(),
            TokenKind::Word(_) | TokenKind::Quoted(_) => self.grammar.word().to_owned(),
            TokenKind::Text(_) => "quoted string".to_owned(),
            TokenKind::Number(number) if number.bytes().all(|b| b.is_ascii_digit()) => "integer".to_owned(),
            TokenKind::Number(_) => "float".to_owned(),
            TokenKind::Symbol(".") if subkey() => "SUBKEY".to_owned(),
            TokenKind::Symbol(symbol) => format!("'{symbol}'"),
        }
    }
}

/// A column's name as SHOW CREATE TABLE shows it.
pub(crate) fn shown_column(name: &str) -> String {
    let quoted = is_one_of(name, &COLUMN_WORDS) || is_one_of(name, &SHOWN_IN_BACKTICKS);
    if quoted { format!("`{name}`") } else { name.to_owned() }
}

fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn is_reserved(word: &str) -> bool {
    is_one_of(word, &RESERVED)
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}
