//! Copying a shard's documents out.
//!
//! A copy that serves is read as it is, and counts only when its group's `last_committed` is the same before and after: then
//! nothing was written in between. A copy that left its group for this (a snapshot) is quiet; reading it goes on where
//! an earlier try stopped.

use super::format::{self, Part, ShardManifest, Tally};
use super::pace::Pace;
use super::place::Place;
use super::read::{Columns, Copy, Mark, Pages};
use super::{Tools, Trouble};
use crate::files;
use control::backup::{Done, Frozen, Save, Source};
use flate2::Compression;
use flate2::write::GzEncoder;
use model::BackupId;
use serde_json::Value;
use std::io::Write as _;

/// A part is put when it is so large, compressed: small enough for memory, large enough for a store.
const PART_BYTES: usize = 8 << 20;
/// Or this, as lines: what compresses very well.
const PART_RAW_BYTES: usize = 64 << 20;
/// Pages between two looks at whether the copy is still quiet.
const LOOK_EVERY: u32 = 8;

/// The list of a shard's parts.
pub(super) fn list_name(backup: &BackupId, shard: u32) -> String {
    format!("{}/s{shard}/shard.json", backup.prefix())
}

pub(super) async fn save(tools: &Tools, save: &Save) -> Result<Done, Trouble> {
    let place = tools.place(&save.to)?;
    let mut limit = Pace::new(save.mib_per_second);
    let columns = Columns::of(&save.schema);
    for source in &save.sources {
        let name = list_name(&save.backup, source.shard);
        let known: Option<ShardManifest> = place.get_sealed(&name).await?;
        if known.as_ref().is_some_and(|known| known.complete) {
            continue;
        }
        let mut why = Trouble::Again(format!("no live copy of {}", source.physical));
        for node in &source.nodes {
            let copy = Copy::new(&tools.client, node, source)?;
            let mut shard =
                Shard { place: &place, backup: &save.backup, columns: &columns, pace: &mut limit };
            let saved = match &save.frozen {
                Some(frozen) => shard.frozen(&copy, frozen, known.clone()).await,
                None => shard.quiet(&copy).await,
            };
            match saved {
                Ok(list) => {
                    place.put_sealed(&name, &list).await?;
                    why = Trouble::Again(String::new());
                    break;
                }
                // Other copies take the same writes.
                Err(busy @ (Trouble::Busy { .. } | Trouble::Final(_))) => return Err(busy),
                Err(trouble) => why = trouble,
            }
        }
        if !matches!(&why, Trouble::Again(why) if why.is_empty()) {
            return Err(why);
        }
    }
    Ok(Done::default())
}

/// One shard on its way out.
struct Shard<'a> {
    place: &'a Place,
    backup: &'a BackupId,
    columns: &'a Columns,
    pace: &'a mut Pace,
}

impl Shard<'_> {
    /// From a copy that serves.
    async fn quiet(&mut self, copy: &Copy<'_>) -> Result<ShardManifest, Trouble> {
        let shard = copy.source.shard;
        let before = copy.mark().await?;
        let mut writer = Writer::new(self, copy.source)?;
        let ended = self.read(copy, &mut writer, None, before.last_committed).await;
        let outcome = match ended {
            Ok(()) => self.stayed(copy, &writer.tally, before).await,
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = outcome {
            // What was read at different moments is of no use.
            for part in &writer.parts {
                self.place.remove(&part.name).await?;
            }
            return Err(trouble);
        }
        Ok(self.list(shard, copy, writer, before.last_committed, None))
    }

    /// Whether all that was read was so at one moment.
    async fn stayed(&mut self, copy: &Copy<'_>, tally: &Tally, before: Mark) -> Result<(), Trouble> {
        let busy = |why: &str| Trouble::Busy { shard: copy.source.shard, why: why.to_owned() };
        let after = copy.settled_mark().await?;
        if after != before {
            return Err(busy("it was written to while it was read"));
        }
        if tally.content() != before.content {
            return Err(busy("it shows other documents than it counts"));
        }
        if copy.source.group.is_none() {
            // Without a group nothing counts its writes: what is the same twice did not change between.
            let again = copy.checksum(self.columns, self.pace).await?;
            if again.sha256() != tally.sha256() {
                return Err(busy("it was written to while it was read"));
            }
        }
        Ok(())
    }

    /// From a copy that nothing writes to, on from where `known` ends if that is of the same copy.
    async fn frozen(
        &mut self,
        copy: &Copy<'_>,
        frozen: &Frozen,
        known: Option<ShardManifest>,
    ) -> Result<ShardManifest, Trouble> {
        let left_with = frozen.contents.get(&copy.source.physical).copied();
        let stray = || {
            Trouble::Final(format!(
                "the copy of {} on {} is not what it was when it left its group",
                copy.source.physical, copy.node
            ))
        };
        if Some(copy.mark().await?.content) != left_with {
            return Err(stray());
        }
        let mut writer = Writer::new(self, copy.source)?;
        let same = |list: &ShardManifest| {
            list.snapshot == Some(frozen.operation)
                && list.read_from == copy.node
                && list.columns == self.columns.0
        };
        if let Some(list) = known.filter(same) {
            writer.go_on(self.place, &list).await?;
        }
        let mark = Some((copy, frozen));
        self.read(copy, &mut writer, mark, None).await?;
        if Some(writer.tally.content()) != left_with || Some(copy.mark().await?.content) != left_with {
            return Err(stray());
        }
        Ok(self.list(copy.source.shard, copy, writer, None, Some(frozen)))
    }

    /// Reads to the end. With `frozen` every part is noted as soon as it is put; with `place` it stops when the copy was
    /// written to.
    async fn read(
        &mut self,
        copy: &Copy<'_>,
        writer: &mut Writer,
        frozen: Option<(&Copy<'_>, &Frozen)>,
        place: Option<i64>,
    ) -> Result<(), Trouble> {
        let mut pages = Pages::new(writer.last_id());
        let mut count = 0_u32;
        while let Some(page) = pages.next(copy, self.columns).await? {
            let bytes = writer.add(&page)?;
            self.pace.take(bytes).await;
            if writer.is_full() {
                writer.put(self.place).await?;
                if let Some((copy, frozen)) = frozen {
                    let mut list = self.list(copy.source.shard, copy, writer.so_far(), None, Some(frozen));
                    list.complete = false;
                    self.place.put_sealed(&list_name(self.backup, list.shard), &list).await?;
                }
            }
            count += 1;
            if place.is_some() && count.is_multiple_of(LOOK_EVERY) && copy.place().await? != place {
                let why = "it was written to while it was read".to_owned();
                return Err(Trouble::Busy { shard: copy.source.shard, why });
            }
        }
        writer.put(self.place).await
    }

    fn list(
        &self,
        shard: u32,
        copy: &Copy<'_>,
        writer: Writer,
        last_committed: Option<i64>,
        frozen: Option<&Frozen>,
    ) -> ShardManifest {
        ShardManifest {
            shard,
            columns: self.columns.0.clone(),
            content: writer.tally.content(),
            sha256: writer.tally.sha256(),
            last_committed,
            read_from: copy.node.clone(),
            snapshot: frozen.map(|frozen| frozen.operation),
            complete: true,
            parts: writer.parts,
        }
    }
}

/// Documents on their way into parts.
#[derive(Debug)]
struct Writer {
    /// Names of parts begin so; never the same twice, so that a late writer spoils nothing.
    prefix: String,
    parts: Vec<Part>,
    tally: Tally,
    encoder: GzEncoder<Vec<u8>>,
    raw: usize,
    rows: u64,
    first_id: i64,
}

impl Writer {
    fn new(shard: &Shard<'_>, source: &Source) -> Result<Self, Trouble> {
        let prefix = format!("{}/s{}/{}", shard.backup.prefix(), source.shard, files::random_hex(4)?);
        Ok(Self {
            prefix,
            parts: Vec::new(),
            tally: Tally::default(),
            encoder: encoder(),
            raw: 0,
            rows: 0,
            first_id: 0,
        })
    }

    /// Takes in what was put before: read again, so that it is known to be whole.
    async fn go_on(&mut self, place: &Place, list: &ShardManifest) -> Result<(), Trouble> {
        for part in &list.parts {
            let Some(bytes) = place.get(&part.name).await? else {
                self.begin_anew();
                return Ok(());
            };
            let Ok(lines) = format::open_part(part, &bytes) else {
                self.begin_anew();
                return Ok(());
            };
            for line in lines {
                let (id, _) = format::read_line(&list.columns, &line).map_err(Trouble::Final)?;
                self.tally.add(id, &line).map_err(Trouble::Final)?;
            }
            self.parts.push(part.clone());
        }
        tracing::info!(shard = list.shard, parts = list.parts.len(), "a backup goes on where it stopped");
        Ok(())
    }

    fn begin_anew(&mut self) {
        (self.parts, self.tally) = (Vec::new(), Tally::default());
    }

    fn last_id(&self) -> Option<i64> {
        (self.tally.content().rows > 0).then(|| self.tally.content().id_max)
    }

    /// Gives the bytes that were read.
    fn add(&mut self, page: &[(i64, Vec<Value>)]) -> Result<usize, Trouble> {
        let before = self.raw;
        for (id, values) in page {
            let line = format::line(values);
            // A copy that changes while it is read can show ids twice; it is found out at the end.
            self.tally.add(*id, &line).map_err(Trouble::Again)?;
            if self.rows == 0 {
                self.first_id = *id;
            }
            self.rows += 1;
            self.raw += line.len() + 1;
            let written =
                self.encoder.write_all(line.as_bytes()).and_then(|()| self.encoder.write_all(b"\n"));
            written.map_err(|error| Trouble::Again(format!("cannot compress: {error}")))?;
        }
        Ok(self.raw - before)
    }

    fn is_full(&self) -> bool {
        self.encoder.get_ref().len() >= PART_BYTES || self.raw >= PART_RAW_BYTES
    }

    /// Puts what has gathered.
    async fn put(&mut self, place: &Place) -> Result<(), Trouble> {
        if self.rows == 0 {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.encoder, encoder());
        let bytes = full.finish().map_err(|error| Trouble::Again(format!("cannot compress: {error}")))?;
        let part = Part {
            name: format!("{}-{:06}.jsonl.gz", self.prefix, self.parts.len()),
            rows: self.rows,
            first_id: self.first_id,
            last_id: self.tally.content().id_max,
            bytes: bytes.len() as u64,
            sha256: format::sha256(&bytes),
        };
        (self.raw, self.rows) = (0, 0);
        place.put(&part.name, bytes.into()).await?;
        self.parts.push(part);
        Ok(())
    }

    /// What a list of now needs of it.
    fn so_far(&self) -> Self {
        Self {
            prefix: String::new(),
            parts: self.parts.clone(),
            tally: self.tally.clone(),
            encoder: encoder(),
            raw: 0,
            rows: 0,
            first_id: 0,
        }
    }
}

fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::default())
}
