//! What webhook and collector answer: servers of others, of whose words no more is read than is of use.

use reqwest::{Error, Response};

/// The first `bytes_max` bytes of an answer, or all of it when it is shorter. The rest is not waited for.
pub(super) async fn beginning(mut answer: Response, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while bytes.len() < bytes_max {
        let Some(chunk) = answer.chunk().await.map_err(Error::without_url)? else { break };
        bytes.extend_from_slice(&chunk[..chunk.len().min(bytes_max - bytes.len())]);
    }
    Ok(bytes)
}
