//! Tables of `type='shard'`: which shard a document belongs to, and statements spread over local and remote shards.
