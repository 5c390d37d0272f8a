//! The write side of a standard input, shared by all attached clients.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::unix::pipe;
use tokio::sync::{Mutex, watch};

/// Standard input over all runs: absent before the first start and after it was closed.
#[derive(Debug)]
pub struct Stdin {
    phase: watch::Sender<Phase>,
    /// Whose turn it is to write, so that the bytes of two clients do not mix.
    turn: Mutex<()>,
}

#[derive(Debug, Clone)]
enum Phase {
    /// A run may come.
    Absent,
    Open(Arc<pipe::Sender>),
    /// No run comes any more.
    Gone,
}

impl Default for Stdin {
    fn default() -> Stdin {
        Stdin { phase: watch::Sender::new(Phase::Absent), turn: Mutex::new(()) }
    }
}

impl Stdin {
    /// A run begins: `end` is the write end of its pipe, or its terminal.
    ///
    /// # Errors
    /// The descriptor cannot be polled.
    pub fn open(&self, end: OwnedFd) -> io::Result<()> {
        let writer = pipe::Sender::from_file_unchecked(end.into())?;
        self.phase.send_replace(Phase::Open(Arc::new(writer)));
        Ok(())
    }

    /// Nothing more can be typed. Who is writing stops: the program may have ended while somebody else holds the
    /// other end of its pipe and does not read.
    pub fn close(&self) {
        self.phase.send_if_modified(|phase| {
            let open = matches!(phase, Phase::Open(_));
            if open {
                *phase = Phase::Absent;
            }
            open
        });
    }

    /// No run comes any more: nobody waits for one.
    pub fn end(&self) {
        self.phase.send_replace(Phase::Gone);
    }

    /// Writes all of `bytes`; waits for the start of a run where none goes on yet.
    ///
    /// # Errors
    /// The program closed its side or has ended.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut phases = self.phase.subscribe();
        let writer = opened(&mut phases).await.ok_or(io::ErrorKind::BrokenPipe)?;
        let _turn = self.turn.lock().await;
        let mut left = bytes;
        while !left.is_empty() {
            tokio::select! {
                biased;
                _ = phases.changed() => return Err(io::ErrorKind::BrokenPipe.into()),
                ready = writer.writable() => ready?,
            }
            match writer.try_write(left) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => left = &left[written?..],
            }
        }
        Ok(())
    }

    /// Waits until there is something to close, then closes it: the program reads the end of its input.
    pub async fn finish(&self) {
        if opened(&mut self.phase.subscribe()).await.is_some() {
            self.close();
        }
    }
}

/// The writer of the run that goes on or comes next.
async fn opened(phases: &mut watch::Receiver<Phase>) -> Option<Arc<pipe::Sender>> {
    let phase = phases.wait_for(|phase| !matches!(phase, Phase::Absent)).await.ok()?;
    match &*phase {
        Phase::Open(writer) => Some(writer.clone()),
        Phase::Absent | Phase::Gone => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Not a measure: what would hang for ever fails instead.
    const HANGS: Duration = Duration::from_secs(60);

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap()
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_up_nobody_but_the_writer() {
        let (_reader, writer) = pipe();
        let stdin = Arc::new(Stdin::default());
        stdin.open(writer).unwrap();
        let typing = stdin.clone();
        let typing = tokio::spawn(async move { typing.write(&vec![0; 1 << 20]).await });
        tokio::task::yield_now().await;
        stdin.close();
        let typed = tokio::time::timeout(HANGS, typing).await.expect("the writer stops").unwrap();
        assert_eq!(typed.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_run_that_never_comes() {
        let stdin = Arc::new(Stdin::default());
        let (typing, finishing) = (stdin.clone(), stdin.clone());
        let typing = tokio::spawn(async move { typing.write(b"x").await });
        let finishing = tokio::spawn(async move { finishing.finish().await });
        tokio::task::yield_now().await;
        stdin.end();
        assert!(tokio::time::timeout(HANGS, typing).await.expect("the writer gives up").unwrap().is_err());
        tokio::time::timeout(HANGS, finishing).await.expect("so does who closes").unwrap();
    }

    #[tokio::test]
    async fn what_is_typed_early_arrives() {
        let (reader, writer) = pipe();
        let stdin = Arc::new(Stdin::default());
        let typing = stdin.clone();
        let typing = tokio::spawn(async move {
            typing.write(b"early").await.unwrap();
            typing.finish().await;
        });
        tokio::task::yield_now().await;
        stdin.open(writer).unwrap();
        typing.await.unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text).unwrap();
        assert_eq!(text, "early");
    }
}
