//! Backups: their names, and what one records of a table.

use crate::{Content, GroupId, InvalidName, NodeId, Schema, TableName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const SECONDS_A_DAY: u64 = 86_400;

/// `backup:{table}:{YYYY-MM-DD_HH-MM-SS}`: the table and the Unix second. Two backups of a table never share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId {
    pub table: TableName,
    /// Seconds since 1970.
    pub unix: u64,
}

impl BackupId {
    /// The moment alone, `YYYY-MM-DD_HH-MM-SS` in UTC: also the name of its directory.
    pub fn time(&self) -> String {
        let (year, month, day) = civil(self.unix / SECONDS_A_DAY);
        let second = self.unix % SECONDS_A_DAY;
        format!(
            "{year:04}-{month:02}-{day:02}_{:02}-{:02}-{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }

    /// Where its objects are under a directory or bucket: two names, safe on every file system.
    pub fn prefix(&self) -> String {
        format!("{}/{}", self.table, self.time())
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backup:{}:{}", self.table, self.time())
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for BackupId {
    type Error = InvalidName;

    fn try_from(value: String) -> Result<Self, InvalidName> {
        value.parse()
    }
}

impl FromStr for BackupId {
    type Err = InvalidName;

    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let read = || {
            let (table, time) = value.strip_prefix("backup:")?.split_once(':')?;
            Some(Self { table: TableName::new(table).ok()?, unix: unix_of(time)? })
        };
        read().filter(|id| id.to_string() == value).ok_or_else(|| InvalidName {
            what: "backup id",
            value: value.to_owned(),
            rule: "it must be backup:TABLE:YYYY-MM-DD_HH-MM-SS, as `backup list` shows it",
        })
    }
}

fn unix_of(time: &str) -> Option<u64> {
    let (date, clock) = time.split_once('_')?;
    let three = |text: &str| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (three(date)?, three(clock)?);
    let valid = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then(|| days_of(year, month, day) * SECONDS_A_DAY + hour * 3600 + minute * 60 + second)
}

/// Days since 1970 to the proleptic Gregorian date; years begin in March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Why a backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupCause {
    /// Somebody asked for it.
    Order,
    /// Moves were about to begin.
    Rebalance,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// Its documents are being copied: nothing to restore from yet.
    Running,
    Complete,
    Failed,
}

/// What a backup records of a table besides its documents: `backup_data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupData {
    pub backup_id: BackupId,
    /// Unix seconds.
    pub timestamp: u64,
    pub table: TableName,
    /// Columns and options.
    pub schema: Schema,
    pub cluster: Option<String>,
    pub shards: u32,
    pub rf: u32,
    /// Of the nodes that were active.
    pub cluster_hash: String,
    /// Where it is: the file of this record, or with documents the directory or URL they were put under.
    pub backup_path: String,
    pub cause: BackupCause,
    /// By shard number.
    pub placement: Vec<ShardRecord>,
}

/// One shard as a backup saw it. Figures are null, with `error`, where no copy could be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    pub shard: u32,
    /// Null with one copy.
    pub group: Option<GroupId>,
    /// Whole copies, as the routing tables name them.
    pub nodes: Vec<NodeId>,
    /// Rows, sum and extremes of ids.
    pub content: Option<Content>,
    /// How far the group was, on `measured_on`, when it was counted; null without a group.
    pub last_committed: Option<i64>,
    /// SHA-256 of all documents in the order of their ids, as hex; only on request. It belongs to `last_committed`.
    pub checksum: Option<String>,
    pub measured_on: Option<NodeId>,
    pub error: Option<String>,
}

/// A backup that is ordered: of `[cluster:]name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOrder {
    pub name: TableName,
    /// A directory of the controller or a URL: documents go there. `None`: the record alone.
    pub with_data: Option<String>,
    /// Content checksums in the record.
    #[serde(default)]
    pub checksums: bool,
    /// What reading may take of the network.
    pub mib_per_second: u32,
}

/// A restore that is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOrder {
    /// As recorded.
    pub data: BackupData,
    /// Where its documents are; `None`: the table alone.
    pub from: Option<String>,
    /// Documents that differ become what they were; else they stay, and are told.
    pub overwrite: bool,
    /// Another number of copies than recorded.
    pub rf: Option<u32>,
    pub mib_per_second: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_table_and_the_second_in_utc() {
        for (unix, time) in [
            (0, "1970-01-01_00-00-00"),
            (951_782_400, "2000-02-29_00-00-00"),
            (1_709_164_799, "2024-02-28_23-59-59"),
            (1_709_251_199, "2024-02-29_23-59-59"),
            (1_798_761_599, "2026-12-31_23-59-59"),
            (4_102_444_800, "2100-01-01_00-00-00"),
        ] {
            let id = BackupId { table: TableName::new("t").expect("valid"), unix };
            assert_eq!(id.to_string(), format!("backup:t:{time}"));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "t",
            "backup:t",
            "backup:t:2024-02-30_00-00-00",
            "backup:t:2024-13-01_00-00-00",
            "backup:t:2024-01-01_24-00-00",
            "backup:t:2024-01-01 00:00:00",
            "backup:../x:2024-01-01_00-00-00",
            "backup:T:2024-01-01_00-00-00",
        ] {
            assert!(text.parse::<BackupId>().is_err(), "{text}");
        }
    }
}
