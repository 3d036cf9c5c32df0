//! The engine's shell: HTTP and MySQL listeners, peers, files and the sidecar's process.
//!
//! It moves bytes and time; what a statement means, and what clusters do, is the engine's. It is for trying,
//! developing and testing, and therefore listens on loopback only.
//!
//! A statement's way: listener → [`door`] → engine thread → back; when the engine cannot do it → sidecar → back.
// The shell owns clocks, threads and chance; the rule against them ends here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod answer;
mod door;
mod files;
mod http;
mod machine;
mod mysql;
mod options;
mod peers;
mod running;
#[cfg(test)]
mod script;
mod sidecar;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_tls;
mod users;
mod wire;

pub use files::data_dir;
pub use options::{Limits, NodeError, NodeOptions};
pub use running::{Addresses, RunningNode, start};
pub use wire::NodeTls;

use std::future::Future;

/// Runs a node until `shutdown` is ready, then stops it cleanly: it leaves its clusters so that the others stay
/// primary, and ends its sidecar.
pub async fn run(options: NodeOptions, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
    let mut node = start(options).await?;
    tokio::select! {
        () = shutdown => node.stop().await,
        error = node.failed() => Err(error),
    }
}
