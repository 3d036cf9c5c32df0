//! Documents to load: anyone's JSONL, or a catalogue of our own.
//!
//! A source is read twice, once to load and once to verify, and gives the same documents both times; it is
//! never held in memory as a whole.

mod catalogue;
mod ids;
mod infer;
mod jsonl;
mod value;
mod words;

pub use catalogue::{CATALOGUE_SIZE, Catalogue};
pub use infer::{Column, IdRule, Shape};
pub use jsonl::{DocumentFile, DocumentsError};
pub use value::{Cell, Kind};

use model::sql::Ident;
use std::fmt::Write;

/// One document under the columns of its [`Shape`].
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Positive.
    pub id: i64,
    /// One cell per column, in the shape's order.
    pub cells: Vec<Cell>,
}

/// A line that gives no document.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// From 1.
    pub line: u64,
    pub why: SkipReason,
    /// What is wrong, for a person.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Not one JSON object in UTF-8.
    Malformed,
    /// Its id stood on an earlier line.
    DuplicateId,
    /// A field is of another kind than the column that was made for it.
    Contradicting,
}

/// What a source gives for one line.
pub type Item = Result<Document, Skipped>;

/// Where documents come from.
#[derive(Clone, Debug)]
pub enum Source {
    File(DocumentFile),
    Catalogue(Catalogue),
}

impl Source {
    pub fn shape(&self) -> &Shape {
        match self {
            Self::File(file) => file.shape(),
            Self::Catalogue(catalogue) => catalogue.shape(),
        }
    }

    /// How many documents there are, where that is known without reading them.
    pub fn expected(&self) -> Option<u64> {
        match self {
            Self::File(file) => file.expected(),
            Self::Catalogue(catalogue) => Some(catalogue.size()),
        }
    }

    /// Reads from the start; the same documents every time. The outer error ends the reading: the file is gone,
    /// cut off, or cannot be read.
    pub fn open(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Item, DocumentsError>> + Send>, DocumentsError> {
        Ok(match self {
            Self::File(file) => Box::new(file.open()?),
            Self::Catalogue(catalogue) => Box::new(catalogue.iter().map(|document| Ok(Ok(document)))),
        })
    }
}

/// One multi-row `INSERT` or `REPLACE` under construction.
#[derive(Debug)]
pub struct RowsStatement {
    text: String,
    rows: usize,
}

impl RowsStatement {
    /// `verb` is `INSERT` or `REPLACE`; the table is named as the client names it.
    pub fn new(verb: &str, table: &str, shape: &Shape) -> Self {
        let mut text = format!("{verb} INTO {} (id", Ident(table));
        for column in &shape.columns {
            let _ = write!(text, ",{}", Ident(&column.name));
        }
        text.push_str(") VALUES ");
        Self { text, rows: 0 }
    }

    pub fn push(&mut self, document: &Document) {
        if self.rows > 0 {
            self.text.push(',');
        }
        let _ = write!(self.text, "({}", document.id);
        for cell in &document.cells {
            let _ = write!(self.text, ",{cell}");
        }
        self.text.push(')');
        self.rows += 1;
    }

    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes so far.
    pub const fn len(&self) -> usize {
        self.text.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn into_sql(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_quotes_every_value() {
        let shape = Shape {
            columns: vec![
                Column { field: "t".into(), name: "t".into(), kind: Kind::Text },
                Column { field: "n".into(), name: "n".into(), kind: Kind::Bigint },
            ],
            ids: IdRule::Given,
        };
        let mut statement = RowsStatement::new("INSERT", "products", &shape);
        assert!(statement.is_empty());
        statement.push(&Document { id: 7, cells: vec![Cell::Text("it's \\ \n".into()), Cell::Int(-3)] });
        statement.push(&Document { id: 8, cells: vec![Cell::Text("'); DROP".into()), Cell::Int(0)] });
        assert_eq!(statement.rows(), 2);
        assert_eq!(
            statement.into_sql(),
            r"INSERT INTO `products` (id,`t`,`n`) VALUES (7,'it\'s \\ \n',-3),(8,'\'); DROP',0)"
        );
    }
}
