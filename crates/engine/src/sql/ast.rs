//! Statements as values: what the parser makes, what execution reads and what travels between nodes.
//!
//! Table and column names are lower case, as searchd folds them; cluster names stay as written.

use super::expr::{Expr, Literal};
use crate::io::Value;
use serde::{Deserialize, Serialize};

/// Every statement an embedded node understands. What it does not is a syntax error, and so the sidecar's matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Statement {
    Select(Select),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Truncate(TableRef),
    CreateTable(CreateTable),
    DropTable(DropTable),
    AlterTable(AlterTable),
    /// `SHOW TABLES`; with `system` those named `system.…` and no others.
    ShowTables {
        system: bool,
        like: Option<String>,
    },
    Describe {
        table: String,
    },
    ShowCreateTable {
        table: String,
        force: bool,
    },
    ShowStatus {
        like: Option<String>,
    },
    ShowVariables {
        like: Option<String>,
    },
    ShowSettings,
    ShowThreads,
    ShowLocks,
    ShowWarnings,
    ShowMeta {
        like: Option<String>,
    },
    Set(Set),
    Begin,
    Commit,
    Rollback,
    LockTables(Vec<(TableRef, LockMode)>),
    UnlockTables,
    FlushRamchunk(TableRef),
    Optimize {
        table: TableRef,
        options: Vec<(String, Literal)>,
    },
    Cluster(ClusterStatement),
}

/// A table's name and the cluster that the statement names before it (`c:t`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRef {
    pub cluster: Option<String>,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    Read,
    Write,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Select {
    pub items: Vec<SelectItem>,
    /// Several tables are read as one. Empty for `SELECT 1`.
    pub from: Vec<String>,
    /// The condition without its `MATCH`.
    pub filter: Option<Expr>,
    /// The text of `MATCH('…')`.
    pub matching: Option<String>,
    pub group_by: Vec<Expr>,
    pub order_by: Vec<OrderBy>,
    /// `None` is the implicit LIMIT 20.
    pub limit: Option<Limit>,
    /// `OPTION name=value, …`, names in lower case.
    pub options: Vec<(String, Literal)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SelectItem {
    /// `*`
    All,
    /// `name` is the alias, else the expression as written, in lower case.
    Expr { expr: Expr, name: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderBy {
    pub expr: Expr,
    pub descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub offset: u64,
    pub count: u64,
}

/// `INSERT` or, with `replace`, `REPLACE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Insert {
    pub table: TableRef,
    pub replace: bool,
    /// `None` means all columns in the order of `DESC`.
    pub columns: Option<Vec<String>>,
    pub rows: Vec<Vec<Literal>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    pub table: TableRef,
    pub assignments: Vec<(String, Literal)>,
    pub filter: Option<Expr>,
    pub matching: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delete {
    pub table: TableRef,
    pub filter: Option<Expr>,
    pub matching: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTable {
    pub table: TableRef,
    pub if_not_exists: bool,
    /// As declared, `id` included where it was written.
    pub columns: Vec<ColumnDef>,
    /// `key='value'` in their order, keys in lower case; keys such as `agent` repeat.
    pub options: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDef {
    pub name: String,
    pub kind: ColumnType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnType {
    /// A full-text field: searchable by MATCH when `indexed`, readable when `stored`.
    Text {
        indexed: bool,
        stored: bool,
    },
    String,
    /// 32 bits without sign.
    Uint,
    Bigint,
    /// 32 bits.
    Float,
    Bool,
    /// Unix seconds, 32 bits without sign.
    Timestamp,
    Json,
    /// A set of 32-bit integers without sign.
    Multi,
    /// A set of 64-bit integers.
    Multi64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropTable {
    pub table: TableRef,
    pub if_exists: bool,
    /// `OPTION force=1`
    pub force: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterTable {
    pub table: TableRef,
    pub change: AlterColumn,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlterColumn {
    Add(ColumnDef),
    Drop(String),
}

/// `SET` of anything that is not a cluster's. `name` is as written, with `@@` and scope words dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub global: bool,
    pub name: String,
    pub value: Literal,
}

/// A statement about the replication cluster `name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatement {
    pub name: String,
    pub action: ClusterAction,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterAction {
    Create(ClusterOptions),
    /// `at` is the address of a member, as written.
    Join {
        at: String,
        options: ClusterOptions,
    },
    Add(Vec<String>),
    Drop(Vec<String>),
    UpdateNodes,
    Exit,
    Delete,
    /// `SET CLUSTER c GLOBAL 'variable' = value`
    Set {
        variable: String,
        value: String,
    },
}

/// `'…' as path` and `'…' as options`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterOptions {
    pub path: Option<String>,
    pub options: Option<String>,
}

impl ColumnType {
    /// What a document has in this column when nothing was said.
    pub fn empty(self) -> Value {
        match self {
            Self::Text { .. } | Self::String | Self::Multi | Self::Multi64 => Value::Text(String::new()),
            Self::Uint | Self::Bigint | Self::Bool | Self::Timestamp => Value::Int(0),
            Self::Float => Value::Float(0.0),
            Self::Json => Value::Null,
        }
    }
}
