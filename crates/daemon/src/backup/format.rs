//! What is written: the manifest of a backup, the list of a shard's parts, documents as lines.
//!
//! A part is a gzip file of lines, one JSON array a document, the values in the order of the manifest's columns and as
//! the node gave them.

use flate2::read::GzDecoder;
use model::{BackupData, Content, NodeId, OperationId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::Read as _;

/// Of this version; a reader refuses a higher one.
pub(super) const FORMAT: u32 = 1;
/// Read from a part at most: what it was cut at, and one page more.
const PART_RAW_BYTES_MAX: u64 = 256 << 20;

/// Everything a backup has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) data: BackupData,
    /// By number, all of them.
    pub(crate) shards: Vec<ShardManifest>,
    pub(crate) rows: u64,
    /// Compressed.
    pub(crate) bytes: u64,
}

/// A shard's documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardManifest {
    pub(crate) shard: u32,
    /// Names and declared types, in the order of a line's values.
    pub(crate) columns: Vec<(String, String)>,
    pub(crate) content: Content,
    /// Of all lines.
    pub(crate) sha256: String,
    /// How far the group was; null for one copy, and for a copy that had left it.
    pub(crate) last_committed: Option<i64>,
    pub(crate) read_from: NodeId,
    /// The snapshot it was read from: the same copy after a new start.
    pub(crate) snapshot: Option<OperationId>,
    /// False while parts are still to come.
    pub(crate) complete: bool,
    pub(crate) parts: Vec<Part>,
}

/// One object of documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Under the backup.
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
    /// Compressed.
    pub(crate) bytes: u64,
    /// Of the object as it is stored.
    pub(crate) sha256: String,
}

/// JSON that carries a checksum of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sealed<T> {
    sha256: String,
    content: T,
}

impl<T: Serialize> Sealed<T> {
    pub(super) fn write(content: T) -> Result<Vec<u8>, String> {
        let fail = |error: serde_json::Error| format!("no JSON can be made of it: {error}");
        let sha256 = sha256(&serde_json::to_vec(&content).map_err(fail)?);
        let mut bytes = serde_json::to_vec_pretty(&Self { sha256, content }).map_err(fail)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(super) fn read(bytes: &[u8]) -> Result<T, String>
    where
        T: DeserializeOwned,
    {
        let sealed: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is damaged, or of another version ({error})"))?;
        let found = serde_json::to_vec(&sealed.content).map_err(|error| error.to_string())?;
        if sha256(&found) == sealed.sha256 {
            Ok(sealed.content)
        } else {
            Err("it is damaged: its checksum does not fit".to_owned())
        }
    }
}

/// SHA-256 as hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The checksum of a shard's lines, and its figures, as they go by in the order of ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    hasher: Sha256,
    content: Content,
}

impl Tally {
    /// An error when the ids are not in order.
    pub(super) fn add(&mut self, id: i64, line: &str) -> Result<(), String> {
        if self.content.rows > 0 && id <= self.content.id_max {
            return Err(format!("document {id} follows document {}", self.content.id_max));
        }
        if self.content.rows == 0 {
            self.content.id_min = id;
        }
        self.content.rows += 1;
        self.content.id_max = id;
        self.content.id_sum = self.content.id_sum.wrapping_add(id);
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        Ok(())
    }

    pub(super) fn content(&self) -> Content {
        self.content
    }

    pub(super) fn sha256(&self) -> String {
        hex(self.hasher.clone().finalize().as_slice())
    }
}

/// A document as its line, without the end of it.
pub(super) fn line(values: &[Value]) -> String {
    // Values that came as JSON can be written as JSON.
    serde_json::to_string(values).unwrap_or_default()
}

/// The documents of a part: checked against its checksum, its count and its ids.
pub(super) fn open_part(part: &Part, bytes: &[u8]) -> Result<Vec<String>, String> {
    let name = &part.name;
    if bytes.len() as u64 != part.bytes || sha256(bytes) != part.sha256 {
        return Err(format!("{name} is damaged: its checksum does not fit"));
    }
    let mut text = String::new();
    let read = GzDecoder::new(bytes).take(PART_RAW_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| format!("{name} cannot be read: {error}"))?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() as u64 == part.rows {
        Ok(lines)
    } else {
        Err(format!("{name} has {} documents and should have {}", lines.len(), part.rows))
    }
}

/// A line's values, and its id. `columns` are those of its shard.
pub(super) fn read_line(columns: &[(String, String)], line: &str) -> Result<(i64, Vec<Value>), String> {
    let values: Vec<Value> =
        serde_json::from_str(line).map_err(|error| format!("a line is no document: {error}"))?;
    if values.len() != columns.len() {
        return Err(format!("a document of {} values has {}", columns.len(), values.len()));
    }
    let at = columns.iter().position(|(name, _)| name == "id");
    let id = at.and_then(|at| manticore::documents::id_of(&values[at]));
    id.map(|id| (id, values)).ok_or_else(|| "a document without id".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_seal_holds_what_it_was_put_on() {
        let part =
            Part { name: "s0/x".into(), rows: 1, first_id: 1, last_id: 1, bytes: 3, sha256: "ab".into() };
        let bytes = Sealed::write(&part).expect("JSON");
        assert_eq!(Sealed::<Part>::read(&bytes), Ok(part));
        let mut found = 0;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                // White space may change into other white space; nothing else may pass.
                let passes = Sealed::<Part>::read(&damaged).is_ok();
                assert!(!passes || bytes[at].is_ascii_whitespace(), "byte {at}, bit {bit}");
                found += usize::from(!passes);
            }
        }
        assert!(found > 500);
    }

    #[test]
    fn ids_must_rise() {
        let mut tally = Tally::default();
        for id in [-3, 0, 7] {
            tally.add(id, &line(&[json!(id)])).expect("in order");
        }
        assert_eq!(tally.content(), Content { rows: 3, id_sum: 4, id_min: -3, id_max: 7 });
        assert!(tally.add(7, "").is_err());
        assert!(tally.add(5, "").is_err());
    }

    proptest::proptest! {
        /// Whatever is found in the place of a backup is refused, or is what was written.
        #[test]
        fn hostile_objects_are_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            line in ".{0,80}",
            count in 0..4_usize,
        ) {
            proptest::prop_assert!(Sealed::<Part>::read(&bytes).is_err());
            proptest::prop_assert!(Sealed::<Part>::read(line.as_bytes()).is_err());
            let columns: Vec<(String, String)> =
                ["id", "title", "v"].iter().take(count).map(|name| ((*name).to_owned(), "text".to_owned())).collect();
            let _document = read_line(&columns, &line);
            // With its right checksum, too: it came from whoever made the backup.
            let part = Part {
                name: "p".into(),
                rows: 1,
                first_id: 1,
                last_id: 1,
                bytes: bytes.len() as u64,
                sha256: sha256(&bytes),
            };
            let _lines = open_part(&part, &bytes);
        }
    }
}
