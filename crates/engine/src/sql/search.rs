//! The language inside `MATCH('…')`.
//!
//! Words side by side must all occur; `|` binds closer than that. `"a b"` is a phrase, `-a` and `!a` exclude,
//! `@field`, `@(f1,f2)`, `@!field` and `@*` limit what follows to fields, `wor*` is a prefix, `\` escapes. The
//! operators of searchd that are not here (`~N`, `/N`, `<<`, `^`, `$`) are refused.

use crate::io::SqlError;
use std::iter::Peekable;
use std::str::CharIndices;

/// Brackets nested deeper are refused, so that no query can exhaust the stack.
const DEPTH_MAX: usize = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchQuery {
    /// An empty query: every document matches.
    Everything,
    /// Text without blanks; it can still hold several words (`e-mail`), all of which must occur.
    Term {
        text: String,
        prefix: bool,
    },
    Phrase(String),
    All(Vec<SearchQuery>),
    Any(Vec<SearchQuery>),
    AndNot {
        include: Box<SearchQuery>,
        exclude: Box<SearchQuery>,
    },
    /// `fields` in lower case; with `except`, all fields but these.
    Fields {
        fields: Vec<String>,
        except: bool,
        inner: Box<SearchQuery>,
    },
}

/// The field limit in force.
type Scope = Option<(Vec<String>, bool)>;

struct Parser<'a> {
    query: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

pub fn parse_search(query: &str) -> Result<SearchQuery, SqlError> {
    let mut parser = Parser { query, rest: query.char_indices().peekable() };
    let parsed = parser.sequence(0)?;
    if parser.rest.peek().is_some() {
        return Err(parser.error("unexpected ')'"));
    }
    Ok(parsed.unwrap_or(SearchQuery::Everything))
}

impl Parser<'_> {
    fn error(&mut self, what: &str) -> SqlError {
        let near = self.rest.peek().map_or("", |(at, _)| &self.query[*at..]);
        SqlError::new(format!("query error: {what} near '{near}'"))
    }

    fn skip_blank(&mut self) {
        while self.rest.next_if(|(_, c)| is_blank(*c)).is_some() {}
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, c)| *c == wanted).is_some()
    }

    /// Up to the end or a closing bracket, which stays. `None` when there is nothing to look for.
    fn sequence(&mut self, depth: usize) -> Result<Option<SearchQuery>, SqlError> {
        if depth > DEPTH_MAX {
            return Err(self.error("brackets are nested too deep"));
        }
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        let mut scope: Scope = None;
        loop {
            self.skip_blank();
            let Some((_, next)) = self.rest.peek().copied() else { break };
            match next {
                ')' => break,
                '-' | '!' => {
                    self.rest.next();
                    // A dash between words is no operator.
                    if !matches!(self.rest.peek(), Some((_, c)) if is_blank(*c)) {
                        exclude.extend(self.alternatives(&mut scope, depth)?);
                    }
                }
                '|' => return Err(self.error("unexpected '|'")),
                _ => include.extend(self.alternatives(&mut scope, depth)?),
            }
        }
        if include.is_empty() {
            return if exclude.is_empty() {
                Ok(None)
            } else {
                Err(SqlError::new("query error: query is non-computable (single NOT operator)"))
            };
        }
        let include = one_or(include, SearchQuery::All);
        if exclude.is_empty() {
            return Ok(Some(include));
        }
        let exclude = Box::new(one_or(exclude, SearchQuery::Any));
        Ok(Some(SearchQuery::AndNot { include: Box::new(include), exclude }))
    }

    /// `a | b | c`
    fn alternatives(&mut self, scope: &mut Scope, depth: usize) -> Result<Option<SearchQuery>, SqlError> {
        let mut any = Vec::new();
        loop {
            any.extend(self.limited(scope, depth)?);
            self.skip_blank();
            if !self.eat('|') {
                break;
            }
            self.skip_blank();
            if matches!(self.rest.peek(), Some((_, '-' | '!'))) {
                return Err(self.error("query is non-computable (NOT is not allowed within OR)"));
            }
        }
        Ok(if any.is_empty() { None } else { Some(one_or(any, SearchQuery::Any)) })
    }

    fn limited(&mut self, scope: &mut Scope, depth: usize) -> Result<Option<SearchQuery>, SqlError> {
        while matches!(self.rest.peek(), Some((_, '@'))) {
            *scope = self.scope()?;
            self.skip_blank();
        }
        let Some(inner) = self.primary(depth)? else { return Ok(None) };
        Ok(Some(match scope {
            None => inner,
            Some((fields, except)) => {
                SearchQuery::Fields { fields: fields.clone(), except: *except, inner: Box::new(inner) }
            }
        }))
    }

    /// `@field`, `@(a,b)`, `@!field`, `@!(a,b)`, `@*`
    fn scope(&mut self) -> Result<Scope, SqlError> {
        self.rest.next();
        if self.eat('*') {
            return Ok(None);
        }
        let except = self.eat('!');
        if !self.eat('(') {
            return Ok(Some((vec![self.field()?], except)));
        }
        let mut fields = Vec::new();
        loop {
            self.skip_blank();
            fields.push(self.field()?);
            self.skip_blank();
            if self.eat(')') {
                return Ok(Some((fields, except)));
            }
            if !self.eat(',') {
                return Err(self.error("unexpected end of the list of fields"));
            }
        }
    }

    fn field(&mut self) -> Result<String, SqlError> {
        let mut name = String::new();
        while let Some((_, c)) = self.rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c.to_ascii_lowercase());
        }
        if name.is_empty() { Err(self.error("a field name is missing behind '@'")) } else { Ok(name) }
    }

    fn primary(&mut self, depth: usize) -> Result<Option<SearchQuery>, SqlError> {
        match self.rest.peek().map(|(_, c)| *c) {
            Some('(') => {
                self.rest.next();
                let inner = self.sequence(depth + 1)?;
                if self.eat(')') { Ok(inner) } else { Err(self.error("a ')' is missing")) }
            }
            Some('"') => self.phrase().map(Some),
            Some('^' | '~' | '/' | '<' | '$') => {
                Err(self.error("an operator that this engine does not have"))
            }
            Some(')' | '|') | None => Err(self.error("a word is missing")),
            Some(_) => self.term(),
        }
    }

    fn phrase(&mut self) -> Result<SearchQuery, SqlError> {
        self.rest.next();
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None => return Err(SqlError::new("query error: a phrase has no closing '\"'")),
                Some((_, '"')) => break,
                Some((_, '\\')) => text.extend(self.rest.next().map(|(_, c)| c)),
                Some((_, '*')) => return Err(self.error("'*' is not supported within a phrase")),
                Some((_, c)) => text.push(c),
            }
        }
        if matches!(self.rest.peek(), Some((_, '~' | '/'))) {
            return Err(self.error("an operator that this engine does not have"));
        }
        Ok(SearchQuery::Phrase(text))
    }

    fn term(&mut self) -> Result<Option<SearchQuery>, SqlError> {
        let mut text = String::new();
        let mut prefix = false;
        while let Some((_, c)) = self.rest.next_if(|(_, c)| !is_blank(*c) && !"()|\"@".contains(*c)) {
            if prefix {
                return Err(self.error("'*' is only supported at the end of a word"));
            }
            match c {
                '\\' => text.extend(self.rest.next().map(|(_, escaped)| escaped)),
                '*' => prefix = true,
                '^' | '$' | '~' | '<' => return Err(self.error("an operator that this engine does not have")),
                _ => text.push(c),
            }
        }
        if prefix && !text.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            return Err(self.error("'*' is only supported at the end of a word"));
        }
        Ok((!text.is_empty()).then_some(SearchQuery::Term { text, prefix }))
    }
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn one_or(mut parts: Vec<SearchQuery>, join: fn(Vec<SearchQuery>) -> SearchQuery) -> SearchQuery {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

#[cfg(test)]
mod tests {
    use super::SearchQuery::{All, AndNot, Any, Everything, Fields, Phrase, Term};
    use super::*;
    use proptest::prelude::*;

    fn word(text: &str) -> SearchQuery {
        Term { text: text.into(), prefix: false }
    }

    #[test]
    fn operators_bind_as_in_searchd() {
        let not = |include, exclude| AndNot { include: Box::new(include), exclude: Box::new(exclude) };
        let title = |inner| Fields { fields: vec!["title".into()], except: false, inner: Box::new(inner) };
        for (query, expected) in [
            ("", Everything),
            ("fox", word("fox")),
            ("a b | c d", All(vec![word("a"), Any(vec![word("b"), word("c")]), word("d")])),
            ("a - b", All(vec![word("a"), word("b")])),
            ("a -b !c", not(word("a"), Any(vec![word("b"), word("c")]))),
            (
                "(a | \"b c\") d*",
                All(vec![
                    Any(vec![word("a"), Phrase("b c".into())]),
                    Term { text: "d".into(), prefix: true },
                ]),
            ),
            ("a @title b c @* d", All(vec![word("a"), title(word("b")), title(word("c")), word("d")])),
            ("e-mail a\\-b", All(vec![word("e-mail"), word("a-b")])),
        ] {
            assert_eq!(parse_search(query).expect(query), expected, "{query}");
        }
        assert!(
            matches!(parse_search("@!(a, b) c"), Ok(Fields { except: true, fields, .. }) if fields == ["a", "b"])
        );
    }

    #[test]
    fn bad_queries_are_refused_with_the_place() {
        for (query, part) in [
            ("a)", "unexpected ')' near ')'"),
            ("(a", "')' is missing"),
            ("-a", "non-computable"),
            ("a | -b", "non-computable"),
            ("a |", "a word is missing"),
            ("| a", "unexpected '|'"),
            ("\"a", "closing"),
            ("\"a b\"~3", "near '~3'"),
            ("^a", "near '^a'"),
            ("@ a", "field name"),
            ("a*b", "end of a word"),
        ] {
            let message = parse_search(query).expect_err(query).message;
            assert!(message.contains(part), "{query}: {message}");
        }
        assert!(parse_search(&"(".repeat(10_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic_or_hang(query in "[ab\u{e9}@!*()|\"\\\\ \\-,~^$/<]{0,24}") {
            let _ = parse_search(&query);
        }
    }
}
