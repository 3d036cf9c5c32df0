//! Backups over HTTP: ordered through the operator, read from the controller's files and the places of documents.

use super::api::{JsonBody, Shared, look};
use super::problem::{ApiError, Kind};
use super::sidecars::ask;
use super::tables::qualified;
use crate::backup::{self, Columns, Place, Trouble, Verified};
use axum::Json;
use axum::extract::{Path, State};
use control::Controller;
use control::backup::{Backup, Source};
use model::api::{
    BackupBody, BackupList, BackupReply, BackupShow, BackupSummary, RestoreBody, RestoreReply, RestoreShow,
    RestoredShard, VerifyBody, VerifyReply,
};
use model::wire::{ShardingStatement, StatementReply};
use model::{BackupData, BackupId, BackupOrder, BackupState, OperationId, RestoreOrder, TableName};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Measuring a table for its record: `facts` gives up by itself before that.
const RECORD_TIME_MAX: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What reading and writing documents takes of the network when nobody says.
const MIB_PER_SECOND: u32 = 64;
/// Verifications at once: each reads a whole backup.
static VERIFYING: Semaphore = Semaphore::const_new(2);

const LIST_HINT: &str = "`shardwright backup list` shows what there is; one of another cluster needs --from";

pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<BackupList>, ApiError> {
    let backups = look(&shared, |controller, _, _| {
        let mut all: Vec<BackupSummary> =
            controller.backups().map(|backup| summary(controller, backup)).collect();
        all.sort_by_key(|backup| (backup.timestamp, backup.table.clone()));
        all
    });
    Ok(Json(BackupList { backups: backups.await? }))
}

fn summary(controller: &Controller, backup: &Backup) -> BackupSummary {
    let progress = controller.copying_state(backup.operation);
    let (done, total, why) = progress.map_or((0, 0, None), |(_, done, total, why)| (done, total, why));
    BackupSummary {
        backup_id: backup.id.clone(),
        timestamp: backup.id.unix,
        table: backup.id.table.clone(),
        cluster_hash: backup.cluster_hash.clone(),
        backup_path: backup.with_data.as_ref().map_or_else(
            || backup.record_path.clone(),
            |place| format!("{}/{}", place.trim_end_matches('/'), backup.id.prefix()),
        ),
        controller: backup.controller.clone(),
        cause: backup.cause,
        state: backup.state,
        with_data: backup.with_data.is_some(),
        shards: backup.shards,
        rf: backup.rf,
        rows: backup.rows,
        bytes: backup.bytes,
        operation: backup.operation.0,
        steps_done: done,
        steps_total: total,
        waits_for_or_error: why,
    }
}

pub(super) async fn create(
    State(shared): State<Shared>,
    JsonBody(body): JsonBody<BackupBody>,
) -> Result<Json<BackupReply>, ApiError> {
    let (_, name) = qualified(&body.table)?;
    if let Some(place) = &body.with_data {
        // A place that cannot be used is told now, and not by an operation that fails.
        shared.backups.place_for_new(place).map_err(trouble)?;
    }
    let order = BackupOrder {
        name,
        with_data: body.with_data,
        checksums: body.checksums,
        mib_per_second: pace(body.mib_per_second)?,
    };
    let (id, operation) = begun(ask(&shared, ShardingStatement::Backup { order }).await?)?;
    let id: BackupId = id.parse().map_err(|error: model::InvalidName| internal(&error.to_string()))?;
    let waited = tokio::time::timeout(RECORD_TIME_MAX, async {
        loop {
            let wanted = id.clone();
            let seen = look(&shared, move |controller, _, _| {
                let backup = controller.backup(&wanted).map(|backup| backup.state);
                (backup, controller.copying_state(operation))
            });
            match seen.await? {
                (Some(state), _) => return Ok(state),
                (None, Some((BackupState::Failed, _, _, why))) => {
                    let why = why.unwrap_or_else(|| "it failed without a reason".to_owned());
                    return Err(ApiError::new(Kind::Refused, why, "the table is as it was; try again"));
                }
                (None, _) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    });
    let late = |_| ApiError::new(Kind::Timeout, "the table is still being recorded", LIST_HINT);
    let state = waited.await.map_err(late)??;
    let data = shared.backups.records.get(&id).await.map_err(trouble)?;
    let backup_data = data.ok_or_else(|| internal("the record was written and is gone"))?;
    Ok(Json(BackupReply { success: true, backup_id: id, backup_data, operation: operation.0, state }))
}

fn pace(wanted: Option<u32>) -> Result<u32, ApiError> {
    match wanted {
        Some(0) => {
            let hint = "give a number from 1 on, or leave it out";
            Err(ApiError::new(Kind::Invalid, "mib_per_second is 0: nothing would ever be copied", hint))
        }
        wanted => Ok(wanted.unwrap_or(MIB_PER_SECOND)),
    }
}

/// What an order was answered with: a name and an operation.
fn begun(reply: StatementReply) -> Result<(String, OperationId), ApiError> {
    match reply {
        StatementReply::Rows { rows, .. } => {
            let row = rows.first().map(Vec::as_slice).unwrap_or_default();
            let (Some(Some(name)), Some(Some(operation))) = (row.first(), row.get(1)) else {
                return Err(internal("an order was answered without its operation"));
            };
            let operation = operation.parse().map_err(|_| internal("an operation's id is no number"))?;
            Ok((name.clone(), OperationId(operation)))
        }
        StatementReply::Ok | StatementReply::Object(_) => {
            Err(internal("an order was answered without its operation"))
        }
        StatementReply::Error { message } => Err(ApiError::of_statement(message)),
    }
}

/// A backup as it was recorded, with the place of its documents.
struct Found {
    data: BackupData,
    summary: Option<BackupSummary>,
    /// With the name that it is opened by.
    place: Option<(String, Place)>,
}

/// Looks for a backup: where it is said to be, else in the list.
async fn find(shared: &Shared, id: &str, from: Option<&str>) -> Result<Found, ApiError> {
    let not_found = || ApiError::new(Kind::NotFound, "Backup not found", LIST_HINT);
    let id: BackupId = id.parse().map_err(|_| not_found())?;
    if let Some(from) = from {
        let place = shared.backups.place(from).map_err(trouble)?;
        let manifest = backup::manifest_of(&place, &id).await.map_err(trouble)?.ok_or_else(not_found)?;
        return Ok(Found { data: manifest.data, summary: None, place: Some((from.to_owned(), place)) });
    }
    let wanted = id.clone();
    let known = look(shared, move |controller, _, _| {
        let backup = controller.backup(&wanted)?;
        Some((summary(controller, backup), backup.with_data.clone()))
    });
    let (summary, with_data) = known.await?.ok_or_else(not_found)?;
    let place = match with_data {
        Some(text) => {
            let place = shared.backups.place(&text).map_err(trouble)?;
            Some((text, place))
        }
        None => None,
    };
    let mut data = shared.backups.records.get(&id).await.map_err(trouble)?;
    // Another controller made it. With its documents lies all that was recorded, too.
    if let (None, Some((_, place))) = (&data, &place) {
        data = backup::manifest_of(place, &id).await.map_err(trouble)?.map(|manifest| manifest.data);
    }
    let Some(data) = data else {
        let detail =
            format!("the record of {id} is in a file of controller {}, and not here", summary.controller);
        let hint = "start that controller again: it shares its records at its start; or give --from with its documents";
        return Err(ApiError::new(Kind::NotFound, detail, hint));
    };
    Ok(Found { data, summary: Some(summary), place })
}

pub(super) async fn show(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<BackupShow>, ApiError> {
    let found = find(&shared, &id, None).await?;
    let summary = found.summary.ok_or_else(|| internal("a listed backup has no entry"))?;
    Ok(Json(BackupShow { summary, backup_data: found.data }))
}

pub(super) async fn verify(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<VerifyBody>,
) -> Result<Json<VerifyReply>, ApiError> {
    let Ok(_place) = VERIFYING.try_acquire() else {
        return Err(ApiError::busy("two backups are being verified already"));
    };
    let found = find(&shared, &id, body.from.as_deref()).await?;
    let columns = Columns::of(&found.data.schema);
    let mut verified = Verified::new(found.data.backup_id.clone());
    let mut expected: Vec<_> = found
        .data
        .placement
        .iter()
        .map(|shard| (shard.shard, shard.content, shard.checksum.clone()))
        .collect();
    if let Some((_, place)) = &found.place {
        let manifest = match backup::manifest_of(place, &found.data.backup_id).await {
            Ok(Some(manifest)) => Ok(manifest),
            Ok(None) => {
                let running = found.summary.as_ref().is_some_and(|one| one.state == BackupState::Running);
                Err(if running {
                    "its documents are still being copied: verify it when that is done".to_owned()
                } else {
                    "it has no manifest: it never was complete, or that is gone".to_owned()
                })
            }
            Err(Trouble::Final(why)) => Err(why),
            Err(other) => return Err(trouble(other)),
        };
        match manifest {
            Ok(manifest) => {
                verified = backup::verify(place, &manifest).await.map_err(trouble)?;
                expected = manifest.shards.iter().map(backup::expected).collect();
            }
            Err(why) => {
                verified.ok = false;
                verified.damaged.push(why);
            }
        }
    }
    let mut live_differs = None;
    if body.live {
        let sources = sources(&shared, found.data.table.clone()).await?;
        let differs = backup::compare_live(&shared.backups, &columns, expected.into_iter(), &sources).await;
        live_differs = Some(differs);
    }
    Ok(Json(VerifyReply {
        ok: verified.ok && live_differs.as_ref().is_none_or(Vec::is_empty),
        backup_id: verified.backup_id,
        parts: verified.parts,
        rows: verified.rows,
        bytes: verified.bytes,
        damaged: verified.damaged,
        live_differs,
    }))
}

async fn sources(shared: &Shared, table: TableName) -> Result<Vec<Source>, ApiError> {
    let sources = look(shared, move |controller, _, _| controller.sources_of(&table)).await?;
    sources.map_err(|why| ApiError::new(Kind::NotFound, why, "`shardwright table list` shows the tables"))
}

pub(super) async fn restore(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<RestoreBody>,
) -> Result<Json<RestoreReply>, ApiError> {
    let found = find(&shared, &id, body.from.as_deref()).await?;
    let from = match found.place {
        Some((text, place)) => {
            let manifest = backup::manifest_of(&place, &found.data.backup_id).await.map_err(trouble)?;
            if manifest.is_none() {
                let detail = format!(
                    "{} has not all of its documents: there is nothing to restore from",
                    found.data.backup_id
                );
                return Err(ApiError::new(
                    Kind::Refused,
                    detail,
                    "choose one that `backup list` shows as complete",
                ));
            }
            Some(text)
        }
        None => None,
    };
    let (table, restored_schema) = (found.data.table.clone(), found.data.schema.clone());
    let order = RestoreOrder {
        data: found.data,
        from,
        overwrite: body.overwrite,
        rf: body.rf,
        mib_per_second: pace(body.mib_per_second)?,
    };
    let statement = ShardingStatement::Restore { order: Box::new(order) };
    let (_, operation) = begun(ask(&shared, statement).await?)?;
    Ok(Json(RestoreReply { success: true, table, restored_schema, operation: operation.0 }))
}

pub(super) async fn restored(
    State(shared): State<Shared>,
    Path(operation): Path<u64>,
) -> Result<Json<RestoreShow>, ApiError> {
    let id = OperationId(operation);
    let known = look(&shared, move |controller, _, _| controller.copying_state(id)).await?;
    let (state, steps_done, steps_total, waits_for_or_error) = known.ok_or_else(|| {
        let detail = format!("there is no restore {operation}, or it is long over");
        ApiError::new(Kind::NotFound, detail, "`shardwright status` shows what runs")
    })?;
    let report =
        if state == BackupState::Complete { shared.backups.restored(id).map_err(trouble)? } else { None };
    Ok(Json(RestoreShow {
        operation,
        state,
        steps_done,
        steps_total,
        waits_for_or_error,
        differing: report.as_ref().map(|report| report.differing),
        shards: report.map(|report| {
            let shards = report.shards.into_iter().map(|shard| RestoredShard {
                shard: shard.shard,
                recorded: shard.recorded,
                found: shard.found,
                inserted: shard.filled.map(|filled| filled.inserted),
                replaced: shard.filled.map(|filled| filled.replaced),
                differs: shard.differs,
            });
            shards.collect()
        }),
    }))
}

fn trouble(trouble: Trouble) -> ApiError {
    match trouble {
        Trouble::Final(why) => ApiError::new(Kind::Refused, why, "see the message; nothing was changed"),
        other => ApiError::new(Kind::Busy, other.to_string(), "see the message, then try again"),
    }
}

fn internal(why: &str) -> ApiError {
    ApiError::new(Kind::Busy, why, "this is a fault of shardwright, report it")
}
