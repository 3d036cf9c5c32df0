//! Tables of `type='shard'`: which shard a document belongs to, and statements spread over local and remote shards.
//!
//! Says what to ask whom and what the answers mean together; sends nothing itself: `core` does.

mod hash;
mod health;
mod route;
mod spread;
mod work;

pub use hash::shard_of;
pub use health::Health;
pub use route::{Definition, Mirror, Route, Target, refused_route};
pub use spread::{Part, Spread, SpreadKind};
pub use work::{Rows, Token, Work};
