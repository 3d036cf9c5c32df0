//! Reading a log in etcd: whatever is damaged or missing is named and refused.

use super::{
    EtcdLog, Place,
    gateway::{Pair, get, range},
    layout::{Format, Keys, Parts, Stored},
};
use crate::{
    KeyDamage, ReadError, check_read,
    file::format::{
        FRAME_HEAD_LEN, HeaderError, Kind, decode_frame_body, decode_frame_head, decode_header,
        decode_snapshot_state, peek_first,
    },
};
use model::LogIndex;

/// Values of one request: with the largest ones some 32 MiB.
const PAGE: u32 = 32;
/// Snapshots that may replace one another while one of them is read.
const SNAPSHOT_TRIES: usize = 5;

/// One append: the index of its last record, and all its records.
type Append = (LogIndex, Vec<Vec<u8>>);

/// The ends of the log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) last: LogIndex,
    pub(super) snapshot: Option<Parts>,
    /// 0 without a snapshot.
    pub(super) snapshot_revision: u64,
}

impl View {
    fn compacted(&self) -> LogIndex {
        self.snapshot.as_ref().map_or(LogIndex(0), |parts| parts.at)
    }
}

impl Place<'_> {
    pub(super) fn format(&self, found: &[Pair]) -> Result<Format, ReadError> {
        let key = self.keys.format();
        let Some(pair) = found.first() else { return Err(self.damage(key, "it is missing").into()) };
        Format::read(&pair.value).map_err(|error| match error {
            HeaderError::Damaged(what) => self.damage(key, what).into(),
            HeaderError::Newer(found) => ReadError::Io {
                detail: format!(
                    "format version {found} is newer than this program; start a newer shardwright"
                ),
            },
        })
    }

    pub(super) fn last(&self, found: &[Pair]) -> Result<LogIndex, ReadError> {
        let key = self.keys.last();
        let Some(pair) = found.first() else { return Err(self.damage(key, "it is missing").into()) };
        let digits = std::str::from_utf8(&pair.value).ok().and_then(|text| text.parse().ok());
        digits.map(LogIndex).ok_or_else(|| self.damage(key, "it is no number").into())
    }

    pub(super) fn view(&self, last: &[Pair], snapshot: &[Pair]) -> Result<View, ReadError> {
        let last = self.last(last)?;
        let Some(pair) = snapshot.first() else {
            return Ok(View { last, snapshot: None, snapshot_revision: 0 });
        };
        let parts: Parts = serde_json::from_slice(&pair.value).map_err(|error| {
            self.damage(self.keys.snapshot(), format!("where the snapshot is cannot be read ({error})"))
        })?;
        Ok(View { last, snapshot: Some(parts), snapshot_revision: pair.modified })
    }
}

impl EtcdLog {
    pub(super) fn check_running(&self) -> Result<(), ReadError> {
        match &self.stopped {
            Some(detail) => Err(ReadError::Stopped { detail: detail.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn view(&self) -> Result<View, ReadError> {
        self.view_with(None).map(|(view, _)| view)
    }

    /// The ends of the log, and a page of records from `from` on, at the same moment.
    fn view_with(&self, from: Option<LogIndex>) -> Result<(View, Vec<Pair>), ReadError> {
        let keys = &self.keys;
        let mut asked = vec![get(&keys.format()), get(&keys.last()), get(&keys.snapshot())];
        asked.extend(from.map(|from| range(&keys.records(from), &keys.records_end(), PAGE)));
        let mut answer =
            self.gateway.read(asked).map_err(|fault| ReadError::Io { detail: fault.detail() })?;
        let page = if answer.len() == 4 { answer.pop().unwrap_or_default() } else { Vec::new() };
        let [format, last, snapshot] = answer.as_slice() else {
            return Err(ReadError::Io { detail: "etcd's answer lacks what was asked for".to_owned() });
        };
        let place = self.place();
        let format = place.format(format)?;
        if format != self.format {
            return Err(place.other_log(&format).into());
        }
        Ok((place.view(last, snapshot)?, page))
    }

    pub(super) fn records(
        &self,
        from: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<(LogIndex, Vec<u8>)>, ReadError> {
        let mut next = from.max(LogIndex(1));
        let mut found: Vec<(LogIndex, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        loop {
            let (view, page) = self.view_with(Some(next))?;
            match check_read(next, view.last, view.compacted()) {
                // Compacted while it was read: what was read before is as good as ever.
                Err(ReadError::Compacted { .. }) if !found.is_empty() => return Ok(found),
                checked => checked?,
            };
            if next > view.last {
                return Ok(found);
            }
            if page.is_empty() {
                return Err(self.missing(next).into());
            }
            for pair in page {
                let Some((last, records)) = self.append_of(&pair, next, found.is_empty(), view.last)? else {
                    // Its parts went with a compaction; the next look tells.
                    break;
                };
                let first = last.0 + 1 - records.len() as u64;
                for (index, record) in (first..).map(LogIndex).zip(records) {
                    if index < next {
                        continue;
                    }
                    bytes += record.len();
                    if bytes > bytes_max && !found.is_empty() {
                        return Ok(found);
                    }
                    found.push((index, record));
                }
                next = last.next();
            }
        }
    }

    /// One append, checked: its last index and all its records. `next` is the record that must be in it; only the
    /// first append of a read may begin before that. `None` when a snapshot has replaced it meanwhile.
    fn append_of(
        &self,
        pair: &Pair,
        next: LogIndex,
        may_begin_before: bool,
        last: LogIndex,
    ) -> Result<Option<Append>, ReadError> {
        let place = self.place();
        let damage = |what: String| -> ReadError { place.damage(pair.key.clone(), what).into() };
        let Some(index) = self.keys.index(&pair.key) else {
            return Err(damage("it names no record".to_owned()));
        };
        if index > last {
            return Err(damage(format!("the log ends at record {last}")));
        }
        let frame = match Stored::read(&pair.value).map_err(damage)? {
            Stored::Frame(frame) => frame,
            Stored::Parts(parts) => match self.joined(&parts)? {
                Ok(frame) => frame,
                Err(_) if self.view()?.compacted() >= index => return Ok(None),
                Err(missing) => return Err(missing.into()),
            },
        };
        let first = peek_first(&frame).ok_or_else(|| damage("the append is cut short".to_owned()))?;
        let head = decode_frame_head(&frame, first).map_err(damage)?;
        if head.last() != index {
            return Err(damage(format!("it holds records {first} to {}", head.last())));
        }
        if first > next {
            return Err(self.missing(next).into());
        }
        if first < next && !may_begin_before {
            return Err(damage(format!("it begins with record {first}, which another append holds")));
        }
        let records = decode_frame_body(&head, &frame[FRAME_HEAD_LEN..]).map_err(damage)?;
        Ok(Some((index, records)))
    }

    fn missing(&self, index: LogIndex) -> KeyDamage {
        let what = format!("record {index} is missing: neither an append nor a snapshot holds it");
        self.place().damage(self.keys.records(index), what)
    }

    pub(super) fn snapshot_state(&self) -> Result<Option<(LogIndex, Vec<u8>)>, ReadError> {
        for _ in 0..SNAPSHOT_TRIES {
            let Some(parts) = self.view()?.snapshot else { return Ok(None) };
            let place = self.place();
            let damage = |what: String| -> ReadError { place.damage(self.keys.snapshot(), what).into() };
            let bytes = match self.joined(&parts)? {
                Ok(bytes) => bytes,
                Err(_) if self.view()?.snapshot.as_ref() != Some(&parts) => continue,
                Err(missing) => return Err(missing.into()),
            };
            let header = match decode_header(Kind::Snapshot, &bytes) {
                Ok(header) => header,
                Err(HeaderError::Damaged(what)) => return Err(damage(what)),
                Err(HeaderError::Newer(found)) => {
                    return Err(damage(format!(
                        "the snapshot has format version {found} in a log of version 1"
                    )));
                }
            };
            if header.log_id != self.format.log_id || header.index != parts.at {
                let what = format!(
                    "the snapshot stands for record {} of log {}, not for record {} of this one",
                    header.index, header.log_id, parts.at
                );
                return Err(damage(what));
            }
            let state = decode_snapshot_state(&bytes).map_err(damage)?.to_vec();
            return Ok(Some((parts.at, state)));
        }
        Err(ReadError::Io { detail: "snapshots were replaced faster than they could be read".to_owned() })
    }

    /// Something large from its parts; the inner error when one of them is not there.
    fn joined(&self, parts: &Parts) -> Result<Result<Vec<u8>, KeyDamage>, ReadError> {
        let keys: &Keys = &self.keys;
        let mut bytes = Vec::new();
        let mut number = 0;
        while number < parts.count {
            let asked = range(&keys.part(parts, number), &keys.part(parts, parts.count), PAGE);
            let answer =
                self.gateway.read(vec![asked]).map_err(|fault| ReadError::Io { detail: fault.detail() })?;
            let before = number;
            for pair in answer.into_iter().flatten() {
                if pair.key != keys.part(parts, number) {
                    break;
                }
                bytes.extend_from_slice(&pair.value);
                number += 1;
            }
            if number == before {
                return Ok(Err(self.place().damage(keys.part(parts, number), "it is missing")));
            }
        }
        Ok(Ok(bytes))
    }
}
