//! Reading a shard: page by page in the order of ids, and whether anything changed meanwhile.

use super::Trouble;
use super::format::{self, Tally};
use super::pace::Pace;
use control::backup::Source;
use manticore::statement::{PAGE_ROWS, ShardTable};
use manticore::{CallError, Client};
use model::{Content, NodeId, Schema};
use serde_json::Value;
use std::time::Duration;

/// For one request: counting a large shard reads its ids.
pub(super) const REQUEST_TIME_MAX: Duration = Duration::from_mins(1);
/// What a node applies may show a moment before it is counted as committed.
const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// Where a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) last_committed: Option<i64>,
    pub(super) content: Content,
}

/// One copy of a shard.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    pub(super) client: &'a Client,
    pub(super) node: NodeId,
    pub(super) source: &'a Source,
    pub(super) table: ShardTable,
}

impl<'a> Copy<'a> {
    pub(super) fn new(client: &'a Client, node: &NodeId, source: &'a Source) -> Result<Self, Trouble> {
        let table = ShardTable::new(&source.physical)
            .ok_or_else(|| Trouble::Final(format!("'{}' is no shard", source.physical)))?;
        Ok(Self { client, node: node.clone(), source, table })
    }

    /// Where it stands now. With a group, its place there counts; an error when the node does not tell it.
    pub(super) async fn mark(&self) -> Result<Mark, Trouble> {
        let tables = [self.source.physical.clone()];
        let measured = self.client.measure(&self.node, &tables, false, REQUEST_TIME_MAX).await;
        let measured = measured.map_err(|error| Trouble::Again(error.to_string()))?;
        let last_committed = match &self.source.group {
            Some(group) => {
                let found = measured.last_committed.get(group).copied().filter(|place| *place >= 0);
                Some(found.ok_or_else(|| {
                    Trouble::Again(format!("{} does not tell how far {group} is", self.node))
                })?)
            }
            None => None,
        };
        let content = measured.contents.get(&self.source.physical).copied();
        let content = content.ok_or_else(|| Trouble::Again(format!("{} does not count", self.node)))?;
        Ok(Mark { last_committed, content })
    }

    /// The same, once all is counted that shows.
    pub(super) async fn settled_mark(&self) -> Result<Mark, Trouble> {
        tokio::time::sleep(SETTLED_AFTER).await;
        self.mark().await
    }

    /// How far its group is; `None` without one.
    pub(super) async fn place(&self) -> Result<Option<i64>, Trouble> {
        let Some(group) = &self.source.group else { return Ok(None) };
        let status = self.client.status(&self.node, REQUEST_TIME_MAX).await;
        let status = status.map_err(|error| Trouble::Again(error.to_string()))?;
        let place = status.clusters.get(group).map(|cluster| cluster.last_committed);
        place.map(Some).ok_or_else(|| Trouble::Again(format!("{} has left {group}", self.node)))
    }

    /// The SHA-256 of all documents, while nothing changes them.
    pub(super) async fn checksum(&self, columns: &Columns, pace: &mut Pace) -> Result<Tally, Trouble> {
        let mut pages = Pages::new(None);
        let mut tally = Tally::default();
        while let Some(page) = pages.next(self, columns).await? {
            let mut bytes = 0;
            for (id, values) in page {
                let line = format::line(&values);
                bytes += line.len() + 1;
                tally.add(id, &line).map_err(Trouble::Again)?;
            }
            pace.take(bytes).await;
        }
        Ok(tally)
    }
}

/// Names and declared types in the order of a line's values: the id, then as declared.
#[derive(Clone, Debug)]
pub(crate) struct Columns(pub(super) Vec<(String, String)>);

impl Columns {
    pub(crate) fn of(schema: &Schema) -> Self {
        let own = schema.columns.iter().map(|column| (column.name.to_lowercase(), column.kind.clone()));
        let id = std::iter::once(("id".to_owned(), "bigint".to_owned()));
        Self(id.chain(own.filter(|(name, _)| name != "id")).collect())
    }

    /// A row's values in this order.
    fn arrange(&self, names: &[String], row: Vec<Value>) -> Result<Vec<Value>, Trouble> {
        let mut row: Vec<Option<Value>> = row.into_iter().map(Some).collect();
        self.0
            .iter()
            .map(|(wanted, _)| {
                let at = names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
                at.and_then(|at| row.get_mut(at)?.take()).ok_or_else(|| {
                    Trouble::Final(format!(
                        "column '{wanted}' is not stored, so its values cannot be read back: a backup with documents needs `stored`"
                    ))
                })
            })
            .collect()
    }
}

/// The way through a shard.
#[derive(Debug)]
pub(super) struct Pages {
    behind: Option<i64>,
    limit: usize,
    over: bool,
}

impl Pages {
    /// `behind` an id, or from the beginning.
    pub(super) fn new(behind: Option<i64>) -> Self {
        Self { behind, limit: PAGE_ROWS, over: false }
    }

    /// The next documents with their ids; `None` at the end. Where documents are large, fewer at once.
    pub(super) async fn next(
        &mut self,
        copy: &Copy<'_>,
        columns: &Columns,
    ) -> Result<Option<Vec<(i64, Vec<Value>)>>, Trouble> {
        if self.over {
            return Ok(None);
        }
        let page = loop {
            let page =
                copy.client.page(&copy.node, &copy.table, self.behind, self.limit, REQUEST_TIME_MAX).await;
            match page {
                Ok(page) => break page,
                Err(CallError::TooLarge { .. }) if self.limit > 1 => self.limit = self.limit.div_ceil(4),
                Err(error) => return Err(Trouble::Again(error.to_string())),
            }
        };
        self.over = page.rows.len() < self.limit;
        let mut found = Vec::with_capacity(page.rows.len());
        for row in 0..page.rows.len() {
            let id = page.id(row).ok_or_else(|| Trouble::Again("a document without id".to_owned()))?;
            found.push(id);
        }
        self.behind = found.last().copied().or(self.behind);
        let rows = found.into_iter().zip(page.rows);
        let rows = rows.map(|(id, row)| Ok((id, columns.arrange(&page.columns, row)?)));
        let rows = rows.collect::<Result<Vec<_>, Trouble>>()?;
        Ok((!rows.is_empty()).then_some(rows))
    }
}
