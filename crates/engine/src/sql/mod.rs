//! The dialect: statements as types and the parser that makes them.
