//! Tables on their way between nodes: several tables in one stream of pieces.

use crate::{
    cluster::Payload,
    storage::{RestoreId, SnapshotId, Storage},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A piece of the stream.
#[derive(Serialize, Deserialize)]
enum Piece {
    Begin(String),
    Chunk(Payload),
    End,
}

#[derive(Debug)]
struct Export {
    tables: VecDeque<String>,
    /// One table at a time is frozen: the cluster writes nothing meanwhile, or its window of loss is wanted.
    reading: Option<SnapshotId>,
}

#[derive(Debug)]
struct Import {
    /// Each table takes its place as soon as it is whole, instead of all at the end.
    at_once: bool,
    receiving: Option<RestoreId>,
    whole: Vec<RestoreId>,
}

/// All streams of a node, by the session their cluster gave them.
#[derive(Debug, Default)]
pub(super) struct Copies {
    exports: BTreeMap<u64, Export>,
    imports: BTreeMap<u64, Import>,
}

const NOT_UNDER_WAY: &str = "this copy is not under way";

impl Copies {
    pub fn export(&mut self, session: u64, tables: &[String]) {
        let tables = tables.iter().cloned().collect();
        self.exports.insert(session, Export { tables, reading: None });
    }

    pub fn export_next(
        &mut self,
        storage: &mut dyn Storage,
        session: u64,
    ) -> Result<Option<Payload>, String> {
        let export = self.exports.get_mut(&session).ok_or(NOT_UNDER_WAY)?;
        let piece = match export.reading {
            None => {
                let Some(table) = export.tables.pop_front() else { return Ok(None) };
                export.reading = Some(storage.snapshot_begin(&table).map_err(|error| error.to_string())?);
                Piece::Begin(table)
            }
            Some(snapshot) => {
                if let Some(chunk) = storage.snapshot_next(snapshot).map_err(|error| error.to_string())? {
                    Piece::Chunk(chunk.into())
                } else {
                    export.reading = None;
                    Piece::End
                }
            }
        };
        let bytes = postcard::to_stdvec(&piece).map_err(|error| error.to_string())?;
        Ok(Some(Payload::from(bytes)))
    }

    pub fn export_end(&mut self, storage: &mut dyn Storage, session: u64) {
        if let Some(snapshot) = self.exports.remove(&session).and_then(|export| export.reading) {
            storage.snapshot_abort(snapshot);
        }
    }

    pub fn import(&mut self, session: u64, at_once: bool) {
        self.imports.insert(session, Import { at_once, receiving: None, whole: Vec::new() });
    }

    pub fn import_piece(
        &mut self,
        storage: &mut dyn Storage,
        session: u64,
        piece: &Payload,
    ) -> Result<(), String> {
        let import = self.imports.get_mut(&session).ok_or(NOT_UNDER_WAY)?;
        let piece: Piece = postcard::from_bytes(&piece.0).map_err(|error| error.to_string())?;
        match (piece, import.receiving) {
            (Piece::Begin(table), None) => {
                import.receiving = Some(storage.restore_begin(&table).map_err(|error| error.to_string())?);
            }
            (Piece::Chunk(chunk), Some(restore)) => {
                storage.restore_chunk(restore, &chunk.0).map_err(|error| error.to_string())?;
            }
            (Piece::End, Some(restore)) => {
                import.receiving = None;
                if import.at_once {
                    storage.restore_finish(restore).map_err(|error| error.to_string())?;
                } else {
                    import.whole.push(restore);
                }
            }
            _ => return Err("pieces of a table came out of order".to_owned()),
        }
        Ok(())
    }

    pub fn import_finish(&mut self, storage: &mut dyn Storage, session: u64) -> Result<(), String> {
        let import = self.imports.remove(&session).ok_or(NOT_UNDER_WAY)?;
        for restore in import.whole {
            storage.restore_finish(restore).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub fn import_abort(&mut self, storage: &mut dyn Storage, session: u64) {
        if let Some(import) = self.imports.remove(&session) {
            for restore in import.whole.into_iter().chain(import.receiving) {
                storage.restore_abort(restore);
            }
        }
    }
}
