//! Which shard a document belongs to: a promise for the table's whole life.

/// The shard of document `id` among `shards`: jump hash over the CRC-32 of the id in decimal, with its sign.
pub fn shard_of(id: i64, shards: usize) -> usize {
    jump(u64::from(crc32(id.to_string().as_bytes())), shards)
}

/// Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm" (2014).
fn jump(mut key: u64, buckets: usize) -> usize {
    const MULTIPLIER: u64 = 2_862_933_555_777_941_757;
    let mut bucket: i64 = -1;
    let mut next: i64 = 0;
    while next < buckets as i64 {
        bucket = next;
        key = key.wrapping_mul(MULTIPLIER).wrapping_add(1);
        let step = (1u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * step) as i64;
    }
    usize::try_from(bucket).unwrap_or(0)
}

/// CRC-32 as in zlib, bit by bit: ids have at most twenty digits.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_documents_go_where_they_went() {
        let shards = |count| (1..=8).map(|id| shard_of(id, count)).collect::<Vec<_>>();
        assert_eq!(shards(3), [2, 2, 2, 2, 1, 0, 2, 1]);
        assert_eq!(shards(5), [2, 3, 2, 2, 4, 0, 3, 3]);
        assert_eq!(shards(1), [0; 8]);
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn negative_ids_have_a_shard_and_few_move_when_one_is_added() {
        assert!(shard_of(-5, 7) < 7);
        let moved = (0..10_000).filter(|&id| shard_of(id, 9) != shard_of(id, 10)).count();
        assert!((800..1_200).contains(&moved), "{moved}");
    }
}
