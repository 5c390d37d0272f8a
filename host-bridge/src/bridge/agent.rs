//! The user's ssh agent, for containers that mount [`contract::paths::SSH_AGENT_SOCKET`].
//!
//! Only the host dials. So a stream always waits in the guest's carrier for the next client there; its first bytes say that
//! there is one, and it is joined to the agent's socket on this host.

use crate::backend::{Link, Port};
use crate::stream::Stream;
use contract::carrier::Line;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Between two tries to have a stream waiting: the first, and the longest, for a guest of a release that knows no agent.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];
/// What a client says first is short: a length and a word.
const FIRST: usize = 4096;

/// Serves clients until the task is dropped; those that have a stream keep it to its end.
pub async fn keep(link: Arc<dyn Link>, agent: PathBuf) {
    let [mut pause, longest] = PAUSES;
    loop {
        match client(&*link).await {
            Ok((stream, first)) => {
                pause = PAUSES[0];
                let agent = agent.clone();
                drop(tokio::spawn(async move {
                    if let Err(error) = join(stream, &first, &agent).await {
                        tracing::warn!(
                            "the ssh agent at {} does not answer a container: {error}",
                            agent.display()
                        );
                    }
                }));
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// Waits for a client; returns its stream and what it said first.
async fn client(link: &dyn Link) -> io::Result<(Stream, Vec<u8>)> {
    let stream = link.dial(Port::Carrier).await?;
    stream.write(Line::Agent.encode().as_bytes()).await?;
    let mut first = Vec::with_capacity(FIRST);
    match stream.read(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok((stream, first)),
    }
}

async fn join(mut guest: Stream, first: &[u8], agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent).await?;
    agent.write_all(first).await?;
    // A client that leaves in the middle is no failure of the agent's.
    let _ = tokio::io::copy_bidirectional(&mut guest, &mut agent).await;
    Ok(())
}
