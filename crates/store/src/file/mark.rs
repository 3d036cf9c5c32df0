//! The file `acknowledged`: the index of the last record whose append was acknowledged, kept twice.
//!
//! An append is acknowledged only after its frame and then this mark are durable. So whatever the mark covers must
//! be there and sound, and what fails to be is damage; only what lies beyond it may be the remains of a crash. The
//! two slots are written in turn and lie in different blocks, so one of them is sound at every moment.

use super::{
    disk::{Directory, DiskFile, read_up_to, write_all_at, write_whole},
    format::{HEADER_LEN, Header, HeaderError, Kind, decode_header, encode_header},
};
use crate::{Damage, OpenError};
use model::LogIndex;
use std::io;

pub(super) const MARK: &str = "acknowledged";
/// Far enough apart that no torn block write hits both.
const SLOTS: [u64; 2] = [0, 4096];

#[derive(Debug)]
pub(super) struct Mark {
    file: Box<dyn DiskFile>,
    pub log_id: String,
    pub acknowledged: LogIndex,
    /// The slot that is written next: never the one that holds `acknowledged`.
    next: usize,
}

/// A mark as it was found.
#[derive(Debug)]
pub(super) struct FoundMark {
    pub mark: Mark,
    /// What is wrong with one of its slots, and where that is.
    pub damaged_slot: Option<Damage>,
}

impl Mark {
    /// Puts the mark of an empty log into place: the first file of a new log.
    pub(super) fn create(directory: &dyn Directory, log_id: &str) -> io::Result<Self> {
        let slot = encode_header(Kind::Acknowledged, log_id, LogIndex(0));
        let gap = vec![0; SLOTS[1] as usize - HEADER_LEN];
        let file = write_whole(directory, MARK, &[&slot, &gap, &slot])?;
        Ok(Self { file, log_id: log_id.to_owned(), acknowledged: LogIndex(0), next: 1 })
    }

    pub(super) fn open(directory: &dyn Directory) -> Result<FoundMark, OpenError> {
        let path = directory.path(MARK);
        let io = |error: io::Error| OpenError::Io {
            path: path.clone(),
            action: "read",
            detail: error.to_string(),
        };
        let damage = |offset, what| Damage { file: path.clone(), offset, what };
        let file = directory.open(MARK).map_err(io)?;
        let mut sound: Vec<(usize, Header)> = Vec::new();
        let mut damaged_slot = None;
        for (slot, offset) in SLOTS.into_iter().enumerate() {
            match decode_header(Kind::Acknowledged, &read_up_to(&*file, offset, HEADER_LEN).map_err(io)?) {
                Ok(header) => sound.push((slot, header)),
                Err(HeaderError::Newer(found)) => return Err(super::newer(path, found)),
                Err(HeaderError::Damaged(what)) if damaged_slot.is_none() => {
                    damaged_slot = Some(damage(offset, what));
                }
                Err(HeaderError::Damaged(what)) => {
                    return Err(damage(0, format!("neither of its two slots is sound: {what}")).into());
                }
            }
        }
        if sound.windows(2).any(|pair| pair[0].1.log_id != pair[1].1.log_id) {
            return Err(damage(SLOTS[1], "its two slots belong to different logs".to_owned()).into());
        }
        let Some((slot, header)) = sound.into_iter().max_by_key(|(_, header)| header.index) else {
            return Err(damage(0, "neither of its two slots is sound".to_owned()).into());
        };
        let mark = Self { file, log_id: header.log_id, acknowledged: header.index, next: 1 - slot };
        Ok(FoundMark { mark, damaged_slot })
    }

    /// Marks `index` as acknowledged, durably. After an error it is open which of the two marks is on the disk.
    pub(super) fn write(&mut self, index: LogIndex) -> io::Result<()> {
        let slot = encode_header(Kind::Acknowledged, &self.log_id, index);
        write_all_at(&mut *self.file, &slot, SLOTS[self.next])?;
        self.file.sync()?;
        self.acknowledged = index;
        self.next = 1 - self.next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim_disk::SimDisk;
    use super::*;

    #[test]
    fn the_newest_slot_is_never_the_one_written() {
        let disk = SimDisk::default();
        let slots = || {
            let bytes = disk.bytes(MARK);
            SLOTS.map(|at| decode_header(Kind::Acknowledged, &bytes[at as usize..]).expect("sound").index.0)
        };
        let mut mark = Mark::create(&disk, &"0".repeat(32)).expect("a sound disk");
        for (index, expected) in [(1, [0, 1]), (2, [2, 1]), (3, [2, 3])] {
            mark.write(LogIndex(index)).expect("a sound disk");
            assert_eq!(slots(), expected);
        }
        for (index, expected) in [(4, [4, 3]), (5, [4, 5])] {
            let mut found = Mark::open(&disk).expect("sound");
            assert!(found.damaged_slot.is_none());
            found.mark.write(LogIndex(index)).expect("a sound disk");
            assert_eq!(slots(), expected, "after opening anew");
        }
    }
}
