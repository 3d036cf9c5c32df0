//! Who may lead: the controllers that were started on one log. No part of the log; nothing here decides who leads.

use super::{
    EtcdAddress,
    gateway::{Fault, Gateway, Transaction, delete_one, put, range},
    layout::Keys,
};
use crate::ReadError;

/// Far more controllers than anyone runs; names of those that are gone for good are removed by hand.
const CANDIDATES_MAX: u32 = 100;

/// The list of candidates beside one log.
#[derive(Debug)]
pub struct Candidates {
    gateway: Gateway,
    keys: Keys,
}

impl Candidates {
    pub fn new(address: &EtcdAddress) -> Self {
        Self { gateway: Gateway::new(address), keys: Keys::new(address.prefix()) }
    }

    /// Adds `name`, where its API answers (`host:port`); again is as once.
    pub fn enter(&self, name: &str) -> Result<(), ReadError> {
        self.write(put(&self.keys.candidate(name), b""))
    }

    /// Takes `name` out: it will not lead until it has entered again.
    pub fn leave(&self, name: &str) -> Result<(), ReadError> {
        self.write(delete_one(&self.keys.candidate(name)))
    }

    /// All names, the lowest first.
    pub fn list(&self) -> Result<Vec<String>, ReadError> {
        let (from, to) = self.keys.candidates();
        let ranges = self.gateway.read(vec![range(&from, &to, CANDIDATES_MAX)]).map_err(io)?;
        let names = ranges.into_iter().flatten();
        Ok(names.filter_map(|pair| pair.key.strip_prefix(&from).map(str::to_owned)).collect())
    }

    fn write(&self, one: serde_json::Value) -> Result<(), ReadError> {
        let transaction = Transaction { success: vec![one], ..Transaction::default() };
        self.gateway.write(&transaction).map(drop).map_err(io)
    }
}

fn io(fault: Fault) -> ReadError {
    ReadError::Io { detail: fault.detail() }
}
