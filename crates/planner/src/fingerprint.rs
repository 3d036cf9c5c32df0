//! A number that stands for a problem, so that a plan can tell whether its problem has changed.

use crate::problem::Problem;

/// FNV-1a, 64 bits (G. Fowler, L. C. Noll, K.-P. Vo, 1991): small, and the same on every machine. It guards
/// against change, not against forgery.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// With its length, so that neighbours cannot trade bytes.
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.number(text.len() as u64);
    }
}

impl Problem {
    /// Differs, as good as certainly, between any two problems that could need different plans.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
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
