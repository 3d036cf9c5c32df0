//! Names and numbers that must not be mistaken for one another.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// Why a name was refused; the text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{value}' is not valid: {rule}")]
pub struct InvalidName {
    pub what: &'static str,
    pub value: String,
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        // Shared, since thousands of shards name the same few.
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }
        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }
    };
}

text_id! {
    /// A node, by `host:port` of its API/HTTP listener.
    NodeId
}
text_id! {
    /// The name of a replication cluster: the user's own (`c`) or one of our groups (32 hex digits, first a letter).
    GroupId
}
text_id! {
    /// The lower-case name of a user's sharded table, without cluster prefix.
    TableName
}

impl NodeId {
    pub fn new(value: impl Into<String>) -> Result<Self, InvalidName> {
        let value = value.into();
        let valid = value.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if valid {
            Ok(Self(value.into()))
        } else {
            Err(InvalidName {
                what: "node id",
                value,
                rule: "it must be host:port of the node's HTTP listener",
            })
        }
    }
}

impl GroupId {
    pub fn new(value: impl Into<String>) -> Result<Self, InvalidName> {
        let value = value.into();
        if is_identifier(&value) && value.len() <= 64 {
            Ok(Self(value.into()))
        } else {
            Err(InvalidName {
                what: "cluster name",
                value,
                rule: "letters, digits and _, starting with a letter or _, at most 64 characters",
            })
        }
    }

    /// Whether the name is of our making: 32 hex digits, the first a letter. Any other cluster is the user's own.
    pub fn is_ours(&self) -> bool {
        self.0.len() == 32
            && self.0.starts_with(|first: char| ('a'..='f').contains(&first))
            && self.0.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    }

    /// The name of one of our groups from 128 injected random bits: 32 hex digits, the first a letter `a..f`
    /// so that it is an identifier.
    pub fn from_random(bits: u128) -> Self {
        let hex = format!("{bits:032x}");
        let first = char::from(b'a' + (bits >> 124) as u8 % 6);
        Self(format!("{first}{}", &hex[1..]).into())
    }
}

impl TableName {
    /// Folds to lower case, as searchd does.
    pub fn new(value: impl Into<String>) -> Result<Self, InvalidName> {
        let value = value.into().to_ascii_lowercase();
        if is_identifier(&value) && value.len() <= 64 {
            Ok(Self(value.into()))
        } else {
            Err(InvalidName {
                what: "table name",
                value,
                rule: "letters, digits and _, starting with a letter or _, at most 64 characters",
            })
        }
    }

    /// The physical table of shard `shard`: `system.{table}_s{n}`.
    pub fn shard_table(&self, shard: u32) -> String {
        format!("system.{}_s{shard}", self.0)
    }
}

/// The table and shard number that a physical table's name stands for, `None` when it is no shard.
pub fn parse_shard_table(name: &str) -> Option<(TableName, u32)> {
    let (table, shard) = name.strip_prefix("system.")?.rsplit_once("_s")?;
    if shard.len() > 1 && shard.starts_with('0') {
        return None;
    }
    Some((TableName::new(table).ok()?, shard.parse().ok()?))
}

fn is_identifier(value: &str) -> bool {
    value.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// Counts leaders; a higher one deposes all lower ones.
    Epoch
}
number_id! {
    /// The position of a record in the control log, from 1; 0 is the empty log.
    LogIndex
}
number_id! {
    /// An operation, numbered in the order of the log.
    OperationId
}
number_id! {
    /// A step within its operation, from 0.
    StepId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_edge() {
        assert!(NodeId::new("127.0.0.1:9312").is_ok());
        for bad in ["", "host", "host:", "host:0", "host:99999", ":1", "a b:1", "a';:1"] {
            assert!(NodeId::new(bad).is_err(), "{bad}");
        }
        assert_eq!(TableName::new("Products").expect("valid").as_str(), "products");
        assert!(TableName::new("a-b").is_err());
        assert!(GroupId::new("9c").is_err());
        assert!(!GroupId::new("c").expect("valid").is_ours());
    }

    #[test]
    fn group_names_start_with_a_letter_whatever_the_bits() {
        for top in 0..16u128 {
            let group = GroupId::from_random(top << 124 | 5);
            assert!(group.is_ours());
            assert_eq!(group.as_str().len(), 32);
            assert!(GroupId::new(group.as_str()).is_ok());
            assert!(group.as_str().as_bytes()[0].is_ascii_alphabetic());
        }
    }

    #[test]
    fn shard_tables_are_read_back() {
        let table = TableName::new("a_s1").expect("valid");
        assert_eq!(parse_shard_table(&table.shard_table(12)), Some((table, 12)));
        for other in ["t_s0", "system.t", "system.t_s", "system.t_s01", "system.t_sx"] {
            assert_eq!(parse_shard_table(other), None, "{other}");
        }
    }
}
