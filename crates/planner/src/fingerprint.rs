//! A number that stands for a problem, so that a plan can tell whether its problem has changed.

use crate::problem::Problem;

/// Multiplies and folds eight bytes at a time: quick, small, and the same on every machine. Each step is reversible,
/// so two inputs that differ in one word always differ in the end. It guards against change, not against forgery.
pub(crate) struct Hash(u64);

impl Hash {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    /// The hash of one text.
    pub fn of(text: &str) -> u64 {
        let mut hash = Self::START;
        hash.text(text);
        hash.0
    }

    fn number(&mut self, number: u64) {
        // 2^64 divided by the golden ratio, as D. Knuth's multiplicative hashing takes it.
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    /// With its length, so that neighbours cannot trade bytes.
    fn text(&mut self, text: &str) {
        let mut words = text.as_bytes().chunks_exact(8);
        for word in &mut words {
            self.number(u64::from_le_bytes([
                word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
            ]));
        }
        let rest = words.remainder().iter().fold(0, |rest, &byte| rest << 8 | u64::from(byte));
        self.number(rest << 8 | (text.len() as u64 & 0xff));
    }
}

impl Problem {
    /// Differs, as good as certainly, between any two problems that could need different plans.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Hash::START;
        hash.number(self.nodes.len() as u64);
        for node in &self.nodes {
            hash.text(&node.id);
            hash.text(node.zone.as_deref().unwrap_or(""));
            hash.number(node.capacity.to_bits());
            hash.number(node.state as u64 * 2 + u64::from(node.zone.is_some()));
        }
        for unit in &self.units {
            hash.text(&unit.id);
            hash.number(u64::from(unit.rf));
            hash.number(unit.weight.to_bits());
            hash.number(unit.bytes);
            hash.number(unit.replicas.len() as u64);
            for node in &unit.replicas {
                hash.text(node);
            }
        }
        hash.number(self.options.max_units_per_node.map_or(u64::MAX, u64::from));
        hash.number(u64::from(self.options.transfers_in_per_node));
        hash.number(u64::from(self.options.transfers_out_per_node));
        hash.0
    }
}
