//! Small objects beside one log, each under a name of its own: what every controller must find, and what is too much for
//! the log itself. No part of the log.

use super::{
    EtcdAddress,
    gateway::{Fault, Gateway, Transaction, delete_one, get, holds, keys_of, put},
    layout::{Keys, VALUE_BYTES_MAX},
};
use crate::ReadError;
use model::LogIndex;

/// Far more than are kept.
const NAMES_MAX: u32 = 10_000;
/// Removed in one transaction: etcd takes 128 operations.
const REMOVED_AT_ONCE: usize = 100;

/// The objects beside one log.
#[derive(Debug)]
pub struct Records {
    gateway: Gateway,
    keys: Keys,
}

impl Records {
    pub fn new(address: &EtcdAddress) -> Self {
        Self { gateway: Gateway::new(address), keys: Keys::new(address.prefix()) }
    }

    /// The key of an object, for people.
    pub fn key(&self, name: &str) -> String {
        self.keys.backup(name)
    }

    /// Writes an object, over an older one of that name. At most 1 MiB.
    pub fn put(&self, name: &str, value: &[u8]) -> Result<(), ReadError> {
        if value.len() > VALUE_BYTES_MAX {
            let detail = format!(
                "{name} has {} bytes, more than the {VALUE_BYTES_MAX} that one key takes",
                value.len()
            );
            return Err(ReadError::Io { detail });
        }
        let success = vec![put(&self.keys.backup(name), value)];
        self.gateway.write(&Transaction { success, ..Transaction::default() }).map(drop).map_err(io)
    }

    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let ranges = self.gateway.read(vec![get(&self.keys.backup(name))]).map_err(io)?;
        Ok(ranges.into_iter().flatten().next().map(|pair| pair.value))
    }

    /// All names, the lowest first.
    pub fn names(&self) -> Result<Vec<String>, ReadError> {
        let (from, to) = self.keys.backups();
        let ranges = self.gateway.read(vec![keys_of(&from, &to, NAMES_MAX)]).map_err(io)?;
        let names = ranges.into_iter().flatten();
        Ok(names.filter_map(|pair| pair.key.strip_prefix(&from).map(str::to_owned)).collect())
    }

    /// Removes objects while `last` is the last record of the log, so that nobody does who has read an older one. Whether
    /// it was.
    pub fn remove(&self, names: &[String], last: LogIndex) -> Result<bool, ReadError> {
        for some in names.chunks(REMOVED_AT_ONCE) {
            let transaction = Transaction {
                compare: vec![holds(&self.keys.last(), last.0.to_string().as_bytes())],
                success: some.iter().map(|name| delete_one(&self.keys.backup(name))).collect(),
                failure: Vec::new(),
            };
            if !self.gateway.write(&transaction).map_err(io)?.succeeded {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn io(fault: Fault) -> ReadError {
    ReadError::Io { detail: fault.detail() }
}
