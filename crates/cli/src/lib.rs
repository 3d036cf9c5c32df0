//! Everything behind the `shardwright` command line: commands, the embedded clusters of `dev` and `demo`, and the
//! recording client that judges them from outside.
//!
//! Clocks, randomness and processes live here, so the rule against them ends here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod api;
pub mod dev;
pub mod documents;
pub mod load;
pub mod output;
pub mod random;
mod signals;
pub mod story;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
