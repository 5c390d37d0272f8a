//! The user's ssh agent, for containers that mount [`contract::paths::SSH_AGENT_SOCKET`].

use super::waiting;
use crate::backend::Link;
use crate::stream::Stream;
use contract::carrier::Line;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Serves clients until the task is dropped; those that have a stream keep it to its end.
pub async fn keep(link: Arc<dyn Link>, agent: PathBuf) {
    let serve = |stream, first: Vec<u8>| {
        let agent = agent.clone();
        async move {
            if let Err(error) = join(stream, &first, &agent).await {
                tracing::warn!("the ssh agent at {} does not answer a container: {error}", agent.display());
            }
        }
    };
    waiting::keep(&*link, Line::Agent, serve).await;
}

async fn join(mut guest: Stream, first: &[u8], agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent).await?;
    agent.write_all(first).await?;
    // A client that leaves in the middle is no failure of the agent's.
    let _ = tokio::io::copy_bidirectional(&mut guest, &mut agent).await;
    Ok(())
}
