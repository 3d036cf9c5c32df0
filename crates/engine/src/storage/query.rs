//! What is asked of a table: expressions of the dialect, already checked against the schema, aliases replaced.

use crate::sql::{expr::Expr, search::SearchQuery};

/// Reads documents, or groups of documents when `grouped`.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    pub output: Vec<&'a Expr>,
    pub filter: Option<&'a Expr>,
    pub search: Option<Search<'a>>,
    /// Aggregates are over groups; over everything when `group_by` is empty.
    pub grouped: bool,
    pub group_by: Vec<&'a Expr>,
    /// Documents that compare equal come by ascending id (groups: by that of their first document).
    pub order_by: Vec<Order<'a>>,
    pub offset: u64,
    /// `None` is no limit.
    pub limit: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub expr: &'a Expr,
    pub descending: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    pub query: &'a SearchQuery,
    /// Whether weights are computed; else every document weighs 1.
    pub ranked: bool,
}

impl<'a> Query<'a> {
    /// All ids under a condition, by id.
    pub fn ids(filter: Option<&'a Expr>, search: Option<&'a SearchQuery>, id: &'a Expr) -> Self {
        Self {
            output: vec![id],
            filter,
            search: search.map(|query| Search { query, ranked: false }),
            grouped: false,
            group_by: Vec::new(),
            order_by: Vec::new(),
            offset: 0,
            limit: None,
        }
    }

    /// Whether any part of it speaks of `WEIGHT()`.
    pub(super) fn uses_weight(&self) -> bool {
        let mut found = false;
        let parts = self.output.iter().copied().chain(self.filter).chain(self.group_by.iter().copied());
        for expr in parts.chain(self.order_by.iter().map(|order| order.expr)) {
            expr.walk(&mut |part| found |= matches!(part, Expr::Weight));
        }
        found
    }
}
