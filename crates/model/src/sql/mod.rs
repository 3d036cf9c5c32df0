//! The one place that cuts SQL into tokens and puts quotes around values.
//!
//! The engine's parser and the sidecar's reading of statements share [`lexer`]; text that leaves for a node is
//! made only by [`quote`].

pub mod lexer;
pub mod quote;

pub use lexer::{LexError, Token, TokenKind, tokenize};
pub use quote::{Ident, Literal, is_reserved_table_name};
