//! A table's columns and options.

use crate::io::SqlError;
use crate::sql::ast::{ColumnDef, ColumnType};
use serde::{Deserialize, Serialize};

/// Declared columns without `id`, which every table has: full-text fields first, then attributes, each in the order
/// of their declaration. That is searchd's order in DESC, in `SELECT *` and in INSERT without a column list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    columns: Vec<ColumnDef>,
    /// `key='value'` of CREATE TABLE.
    pub options: Vec<(String, String)>,
}

impl TableSchema {
    pub fn new(declared: &[ColumnDef], options: &[(String, String)]) -> Result<Self, SqlError> {
        let mut columns: Vec<ColumnDef> = Vec::with_capacity(declared.len());
        for column in declared {
            if column.name == "id" {
                if column.kind != ColumnType::Bigint {
                    return Err(SqlError::new("'id' must be bigint: it is every document's number"));
                }
                continue;
            }
            if columns.iter().any(|earlier| earlier.name == column.name) {
                return Err(SqlError::new(format!("duplicate attribute name '{}'", column.name)));
            }
            columns.push(column.clone());
        }
        columns.sort_by_key(|column| !matches!(column.kind, ColumnType::Text { .. }));
        Ok(Self { columns, options: options.to_vec() })
    }

    pub fn columns(&self) -> &[ColumnDef] {
        &self.columns
    }

    /// The column's number and type; `id` is none of them.
    pub fn column(&self, name: &str) -> Option<(usize, ColumnType)> {
        let at = self.columns.iter().position(|column| column.name == name)?;
        Some((at, self.columns[at].kind))
    }

    /// The names of the fields that MATCH searches, with their column numbers.
    pub fn fields(&self) -> impl Iterator<Item = (usize, &str)> {
        self.columns.iter().enumerate().filter_map(|(at, column)| {
            matches!(column.kind, ColumnType::Text { indexed: true, .. })
                .then_some((at, column.name.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: ColumnType) -> ColumnDef {
        ColumnDef { name: name.into(), kind }
    }

    #[test]
    fn fields_come_before_attributes_and_id_is_implied() {
        let text = ColumnType::Text { indexed: true, stored: true };
        let declared = [
            column("v", ColumnType::Uint),
            column("id", ColumnType::Bigint),
            column("a", text),
            column("w", ColumnType::Bool),
            column("b", text),
        ];
        let schema = TableSchema::new(&declared, &[]).expect("valid");
        let names: Vec<_> = schema.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "v", "w"]);
        assert_eq!(schema.column("v"), Some((2, ColumnType::Uint)));
        assert_eq!(schema.column("id"), None);
    }

    #[test]
    fn a_name_twice_or_another_kind_of_id_is_refused() {
        let twice = [column("v", ColumnType::Uint), column("v", ColumnType::Bool)];
        assert!(TableSchema::new(&twice, &[]).is_err());
        assert!(TableSchema::new(&[column("id", ColumnType::Uint)], &[]).is_err());
    }
}
