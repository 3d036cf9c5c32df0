//! The record of a table: everything but its documents, measured and put where [`super::Records`] are.

use super::pace::Pace;
use super::read::{Columns, Copy};
use super::{Tools, Trouble};
use control::backup::{Done, Source};
use futures_util::stream::{self, StreamExt as _};
use model::{BackupData, ShardRecord};
use std::time::Duration;

/// Shards measured at once.
const AT_ONCE: usize = 8;
/// For all of them without checksums: moves wait for it.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Tries to read a shard twice the same while it is written to.
const CHECKSUM_TRIES: u32 = 3;
/// Reading for checksums takes no more than this of the network.
const CHECKSUM_MIB_PER_SECOND: u32 = 64;

pub(super) async fn record(
    tools: &Tools,
    mut data: BackupData,
    sources: &[Source],
    checksums: bool,
) -> Result<Done, Trouble> {
    let columns = Columns::of(&data.schema);
    let columns = &columns;
    let measure = async {
        let measuring = stream::iter(sources.to_vec())
            .map(|source| async move { (source.shard, measured(tools, &source, columns, checksums).await) });
        measuring.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await
    };
    let found = if checksums {
        measure.await
    } else {
        // What was not counted in time is missing from the record, and said to be.
        tokio::time::timeout(TIME_MAX, measure).await.unwrap_or_default()
    };
    for shard in &mut data.placement {
        match found.iter().find(|(number, _)| *number == shard.shard) {
            Some((_, Ok(figures))) => figures.write(shard),
            Some((_, Err(trouble))) => shard.error = Some(trouble.to_string()),
            None => shard.error = Some(format!("not counted within {} s", TIME_MAX.as_secs())),
        }
    }
    let path = tools.records.shown(&data.backup_id);
    if data.backup_path.is_empty() {
        data.backup_path.clone_from(&path);
    } else {
        let place = tools.place(&data.backup_path)?;
        data.backup_path = format!("{}/{}", data.backup_path.trim_end_matches('/'), data.backup_id.prefix());
        place.put_sealed(&name(&data), &data).await?;
    }
    tools.records.put(&data).await?;
    let rows = data.placement.iter().map(|shard| shard.content.map(|content| content.rows)).sum();
    Ok(Done { rows, bytes: 0, path })
}

/// The record beside its documents.
pub(super) fn name(data: &BackupData) -> String {
    format!("{}/record.json", data.backup_id.prefix())
}

/// What is known of a shard.
struct Figures {
    mark: super::read::Mark,
    checksum: Option<String>,
    node: model::NodeId,
}

impl Figures {
    fn write(&self, shard: &mut ShardRecord) {
        shard.content = Some(self.mark.content);
        shard.last_committed = self.mark.last_committed;
        shard.checksum.clone_from(&self.checksum);
        shard.measured_on = Some(self.node.clone());
    }
}

async fn measured(
    tools: &Tools,
    source: &Source,
    columns: &Columns,
    checksums: bool,
) -> Result<Figures, Trouble> {
    let mut last = Trouble::Again("no live copy".to_owned());
    for node in &source.nodes {
        let copy = Copy::new(&tools.client, node, source)?;
        let found = if checksums { with_checksum(&copy, columns).await } else { plain(&copy).await };
        match found {
            Ok(figures) => return Ok(figures),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

async fn plain(copy: &Copy<'_>) -> Result<Figures, Trouble> {
    Ok(Figures { mark: copy.mark().await?, checksum: None, node: copy.node.clone() })
}

async fn with_checksum(copy: &Copy<'_>, columns: &Columns) -> Result<Figures, Trouble> {
    let mut pace = Pace::new(CHECKSUM_MIB_PER_SECOND);
    for _ in 0..CHECKSUM_TRIES {
        let before = copy.mark().await?;
        let Ok(tally) = copy.checksum(columns, &mut pace).await else { continue };
        let same = copy.settled_mark().await? == before && tally.content() == before.content;
        // Without a group an UPDATE is counted by nobody: what reads the same twice did not change between.
        let same = same
            && (copy.source.group.is_some()
                || copy.checksum(columns, &mut pace).await?.sha256() == tally.sha256());
        if same {
            return Ok(Figures { mark: before, checksum: Some(tally.sha256()), node: copy.node.clone() });
        }
    }
    Err(Trouble::Again(format!("it was written to each of the {CHECKSUM_TRIES} times it was read")))
}
