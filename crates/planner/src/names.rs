//! Finds a node's number by its name, a million times in a row.
//!
//! An open-addressing table with a fixed hash: several times faster here than a tree of strings, and unlike the
//! standard library's hash map the same in every run. It is never iterated.

use crate::fingerprint::Hash;

pub(crate) struct Names<'a> {
    names: Vec<&'a str>,
    /// Numbers by hash; `EMPTY` where free. At most half full, so a search ends soon.
    table: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl<'a> Names<'a> {
    /// Numbers the names in order; of a name that comes twice, the first counts.
    pub fn new(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.collect();
        let size = (names.len() * 2).next_power_of_two();
        let mut all = Self { table: vec![EMPTY; size], names };
        for (number, name) in all.names.clone().into_iter().enumerate() {
            let at = all.slot(name);
            if all.table[at] == EMPTY {
                all.table[at] = number as u32;
            }
        }
        all
    }

    pub fn number(&self, name: &str) -> Option<u32> {
        Some(self.table[self.slot(name)]).filter(|&number| number != EMPTY)
    }

    /// Where the name is, or would be.
    fn slot(&self, name: &str) -> usize {
        let mask = self.table.len() - 1;
        let mut at = Hash::of(name) as usize & mask;
        while self.table[at] != EMPTY && self.names[self.table[at] as usize] != name {
            at = (at + 1) & mask;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let names: Vec<String> = (0..1000).map(|i| format!("n{i}")).collect();
        let table = Names::new(names.iter().map(String::as_str));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(table.number(name), Some(i as u32));
        }
        assert_eq!(table.number("n1000"), None);
        assert_eq!(Names::new(["a", "b", "a"].into_iter()).number("a"), Some(0));
        assert_eq!(Names::new([].into_iter()).number("a"), None);
    }
}
