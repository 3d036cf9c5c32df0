//! One file of records: its header, and one frame for each append.
//!
//! Knows where every frame lies and checks a frame each time it is read. What a broken end means is decided where
//! the log is opened, not here.

use super::{
    disk::{Directory, DiskFile, read_up_to, write_all_at, write_whole},
    format::{
        FRAME_HEAD_LEN, FrameHead, HEADER_LEN, HeaderError, Kind, decode_frame_body, decode_frame_head,
        decode_header, encode_header,
    },
};
use crate::{Damage, OpenError, ReadError};
use model::LogIndex;
use std::{io, path::PathBuf};

pub(super) const SEGMENT: &str = "records-";

pub(super) fn segment_name(first: LogIndex) -> String {
    format!("{SEGMENT}{:020}", first.0)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FrameAt {
    pub head: FrameHead,
    pub offset: u64,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub name: String,
    pub file: Box<dyn DiskFile>,
    /// The index of its first record, whether that is there yet or not.
    pub first: LogIndex,
    /// Up to where it holds sound frames.
    pub len: u64,
    pub frames: Vec<FrameAt>,
}

/// Bytes behind the last sound frame.
#[derive(Debug)]
pub(super) struct BrokenEnd {
    pub bytes: u64,
    pub what: String,
}

impl Segment {
    /// Puts an empty segment into place, durably.
    pub(super) fn create(directory: &dyn Directory, log_id: &str, first: LogIndex) -> io::Result<Self> {
        let name = segment_name(first);
        let file = write_whole(directory, &name, &[&encode_header(Kind::Records, log_id, first)])?;
        let path = directory.path(&name);
        Ok(Self { path, name, file, first, len: HEADER_LEN as u64, frames: Vec::new() })
    }

    /// Opens the segment that should begin with record `first` and walks its frames.
    pub(super) fn open(
        directory: &dyn Directory,
        log_id: &str,
        first: LogIndex,
    ) -> Result<(Self, Option<BrokenEnd>), OpenError> {
        let name = segment_name(first);
        let path = directory.path(&name);
        let io = |error: io::Error| OpenError::Io {
            path: path.clone(),
            action: "read",
            detail: error.to_string(),
        };
        let file = directory.open(&name).map_err(io)?;
        let header = match decode_header(Kind::Records, &read_up_to(&*file, 0, HEADER_LEN).map_err(io)?) {
            Ok(header) => header,
            Err(HeaderError::Newer(found)) => return Err(super::newer(path, found)),
            Err(HeaderError::Damaged(what)) => return Err(Damage { file: path, offset: 0, what }.into()),
        };
        if header.log_id != log_id || header.index != first {
            let what = format!(
                "it begins with record {} of log {}, here belongs record {first} of log {log_id}",
                header.index, header.log_id
            );
            return Err(Damage { file: path, offset: 0, what }.into());
        }
        let file_len = file.len().map_err(io)?;
        let mut segment =
            Self { path: path.clone(), name, file, first, len: HEADER_LEN as u64, frames: Vec::new() };
        while segment.len < file_len {
            match segment.frame_at_end().map_err(io)? {
                Ok(head) => segment.push(head),
                Err(what) => {
                    let bytes = file_len - segment.len;
                    return Ok((segment, Some(BrokenEnd { bytes, what })));
                }
            }
        }
        Ok((segment, None))
    }

    /// The head of the frame that begins where the sound ones end, once it is proven sound itself.
    fn frame_at_end(&self) -> io::Result<Result<FrameHead, String>> {
        let head = read_up_to(&*self.file, self.len, FRAME_HEAD_LEN)?;
        let head = match decode_frame_head(&head, self.last().next()) {
            Ok(head) => head,
            Err(what) => return Ok(Err(what)),
        };
        let body = read_up_to(&*self.file, self.len + FRAME_HEAD_LEN as u64, head.body_len as usize)?;
        Ok(decode_frame_body(&head, &body).map(|_| head))
    }

    /// Takes up a frame that was written at the end.
    pub(super) fn push(&mut self, head: FrameHead) {
        self.frames.push(FrameAt { head, offset: self.len });
        self.len += head.frame_len();
    }

    /// The index of its last record, that before `first` when it has none.
    pub(super) fn last(&self) -> LogIndex {
        self.frames.last().map_or(LogIndex(self.first.0 - 1), |frame| frame.head.last())
    }

    /// The records of one frame, checked again.
    pub(super) fn records(&self, frame: &FrameAt) -> Result<Vec<Vec<u8>>, ReadError> {
        let damage = |what| Damage { file: self.path.clone(), offset: frame.offset, what };
        let bytes = read_up_to(&*self.file, frame.offset, frame.head.frame_len() as usize)
            .map_err(|error| ReadError::Io { detail: format!("{}: {error}", self.path.display()) })?;
        let head = decode_frame_head(&bytes, frame.head.first).map_err(damage)?;
        if head != frame.head {
            return Err(damage("the frame is not the one that was written".to_owned()).into());
        }
        Ok(decode_frame_body(&head, &bytes[FRAME_HEAD_LEN..]).map_err(damage)?)
    }

    /// Writes a frame again where it lies, durably: a failed or missing sync may have left it only in the cache,
    /// where it reads well until the power goes.
    pub(super) fn write_again(&mut self, frame: &FrameAt) -> io::Result<()> {
        let bytes = read_up_to(&*self.file, frame.offset, frame.head.frame_len() as usize)?;
        write_all_at(&mut *self.file, &bytes, frame.offset)?;
        self.file.sync()
    }

    /// Cuts everything behind the sound frames, durably.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.file.truncate(self.len)?;
        self.file.sync()
    }
}
