//! Walks over the tokens of one statement; never looks back and never panics at the end.

use model::sql::{LexError, Token, TokenKind, tokenize};

/// A place in a statement's tokens.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    sql: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// All of `sql` but the semicolons at its end.
    pub(crate) fn new(sql: &'a str) -> Result<Self, LexError> {
        let mut tokens = tokenize(sql)?;
        while tokens.last().is_some_and(|token| token.is_symbol(";")) {
            tokens.pop();
        }
        Ok(Self { sql, tokens, at: 0 })
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(crate) fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at)
    }

    pub(crate) fn next(&mut self) -> Option<&Token<'a>> {
        let token = self.tokens.get(self.at);
        self.at += usize::from(token.is_some());
        token
    }

    /// Passes over `words` when all of them come next, in any case.
    pub(crate) fn keywords(&mut self, words: &[&str]) -> bool {
        let found = self
            .tokens
            .get(self.at..self.at + words.len())
            .is_some_and(|tokens| tokens.iter().zip(words).all(|(token, word)| token.is(word)));
        if found {
            self.at += words.len();
        }
        found
    }

    pub(crate) fn keyword(&mut self, word: &str) -> bool {
        self.keywords(&[word])
    }

    pub(crate) fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_symbol(symbol));
        self.at += usize::from(found);
        found
    }

    /// Whether `symbol` stands anywhere in the statement.
    pub(crate) fn has_symbol(&self, symbol: &str) -> bool {
        self.tokens.iter().any(|token| token.is_symbol(symbol))
    }

    /// A name, bare or in backticks.
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let name = match self.tokens.get(self.at)?.kind {
            TokenKind::Word(word) if !word.starts_with('@') => word,
            TokenKind::Quoted(name) => name,
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let TokenKind::Text(text) = &self.tokens.get(self.at)?.kind else { return None };
        let text = text.to_string();
        self.at += 1;
        Some(text)
    }

    /// `[cluster:]name` or `[cluster:]system.name`, the latter given with its dot.
    pub(crate) fn table(&mut self) -> Option<TableRef> {
        let start = self.at;
        let found = self.table_or_nothing();
        if found.is_none() {
            self.at = start;
        }
        found
    }

    fn table_or_nothing(&mut self) -> Option<TableRef> {
        let first = self.name()?;
        let (cluster, first) =
            if self.symbol(":") { (Some(first.to_owned()), self.name()?) } else { (None, first) };
        let name = if self.symbol(".") { format!("{first}.{}", self.name()?) } else { first.to_owned() };
        Some(TableRef { cluster, name })
    }

    /// Goes on behind the bracket that closes the one just passed.
    pub(crate) fn skip_brackets(&mut self) -> bool {
        let mut depth = 1usize;
        while let Some(token) = self.next() {
            if token.is_symbol("(") {
                depth += 1;
            } else if token.is_symbol(")") {
                depth -= 1;
                if depth == 0 {
                    return true;
                }
            }
        }
        false
    }

    /// The rest of the statement as written, for an error that says what it is near.
    pub(crate) fn near(&self) -> &'a str {
        self.peek().map_or("", |token| &self.sql[token.start..])
    }

    /// The byte where the next token starts, or the statement's end.
    pub(crate) fn byte(&self) -> usize {
        self.peek().map_or(self.sql.len(), |token| token.start)
    }

    /// The byte behind the token passed last.
    pub(crate) fn byte_behind(&self) -> usize {
        self.at.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0, |token| token.end)
    }
}

/// A table as a statement names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableRef {
    pub cluster: Option<String>,
    /// As written, without quotes; physical tables with their `system.`.
    pub name: String,
}
