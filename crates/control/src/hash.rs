//! The figure by which scripts of the stock sidecar recognise a set of nodes.

use md5::{Digest, Md5};
use model::NodeId;
use std::fmt::Write;

/// md5 of the sorted active node ids joined by `|`, as 32 hex digits.
pub fn cluster_hash<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> String {
    let mut ids: Vec<&str> = nodes.map(NodeId::as_str).collect();
    ids.sort_unstable();
    let mut text = String::with_capacity(32);
    for byte in Md5::digest(ids.join("|")) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_stock_sidecar() {
        let nodes: Vec<NodeId> = [3312, 1312, 2312]
            .iter()
            .map(|port| NodeId::new(format!("127.0.0.1:{port}")).expect("valid"))
            .collect();
        assert_eq!(cluster_hash(nodes.iter()), "c7c183c7c5790e4705853bbab9cde1a0");
    }
}
