//! The write side of a container's standard input, shared by all attached clients.

use std::os::fd::OwnedFd;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, watch};

/// Standard input over all runs of a container: absent before the first start and after it was closed.
#[derive(Debug)]
pub struct Stdin {
    present: watch::Sender<bool>,
    writer: Mutex<Option<pipe::Sender>>,
}

impl Default for Stdin {
    fn default() -> Stdin {
        Stdin { present: watch::Sender::new(false), writer: Mutex::new(None) }
    }
}

impl Stdin {
    /// A run begins: `end` is the write end of its pipe, or its terminal.
    ///
    /// # Errors
    /// The descriptor cannot be polled.
    pub async fn open(&self, end: OwnedFd) -> std::io::Result<()> {
        *self.writer.lock().await = Some(pipe::Sender::from_file_unchecked(end.into())?);
        self.present.send_replace(true);
        Ok(())
    }

    /// Nothing more can be typed.
    pub async fn close(&self) {
        self.present.send_replace(false);
        *self.writer.lock().await = None;
    }

    /// Writes all of `bytes`; waits for the container's start where it was not started yet.
    ///
    /// # Errors
    /// The container closed its side or has ended.
    pub async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut present = self.present.subscribe();
        if present.wait_for(|present| *present).await.is_err() {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        match self.writer.lock().await.as_mut() {
            Some(writer) => writer.write_all(bytes).await,
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until there is something to close, then closes it: the program reads the end of its input.
    pub async fn finish(&self) {
        let mut present = self.present.subscribe();
        if present.wait_for(|present| *present).await.is_ok() {
            self.close().await;
        }
    }
}
