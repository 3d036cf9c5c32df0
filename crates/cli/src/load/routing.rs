//! Which shard a document belongs to, reckoned from the published rule and not from the system's own code.

/// `jump_hash(crc32(decimal text of the id), shards)`, after Lamping and Veach, "A Fast, Minimal Memory, Consistent
/// Hash Algorithm" (2014).
pub fn shard_of(id: i64, shards: u32) -> u32 {
    let mut key = u64::from(crc32fast::hash(id.to_string().as_bytes()));
    let mut bucket: i64 = -1;
    let mut next: i64 = 0;
    while next < i64::from(shards) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1_i64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
    }
    u32::try_from(bucket).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_where_real_nodes_put_them() {
        let to = |shards| (1..=8).map(|id| shard_of(id, shards)).collect::<Vec<_>>();
        assert_eq!(to(3), [2, 2, 2, 2, 1, 0, 2, 1]);
        assert_eq!(to(5), [2, 3, 2, 2, 4, 0, 3, 3]);
        assert_eq!(to(1), [0; 8]);
    }
}
