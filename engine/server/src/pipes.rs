//! Between the asynchronous body of a request or an answer and the blocking reader or writer of a file worker.

use std::io::{self, BufRead, Read, Write};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Pieces on their way to a client that reads slowly.
const WAITING: usize = 4;

/// The body of a request.
pub struct BodyReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl BodyReader {
    /// Reads the pieces one after the other; must not be read on a thread of the async runtime.
    pub fn new(pieces: mpsc::Receiver<io::Result<Bytes>>) -> BodyReader {
        BodyReader { pieces, piece: Bytes::new() }
    }
}

impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        self.piece.advance(count);
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The body of an answer. Every write is a piece of its own: put a buffer in front.
pub struct BodyWriter(mpsc::Sender<io::Result<Bytes>>);

impl BodyWriter {
    /// A writer, which must not be written on a thread of the async runtime, and what it writes.
    pub fn new() -> (BodyWriter, mpsc::Receiver<io::Result<Bytes>>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (BodyWriter(sender), receiver)
    }

    /// Ends the body as broken.
    pub fn fail(self, error: io::Error) {
        // A client that has gone needs no telling.
        let _ = self.0.blocking_send(Err(error));
    }
}

impl Write for BodyWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(buffer))).map_err(gone)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_failure_is_too() {
        let (mut writer, pieces) = BodyWriter::new();
        let mut reader = BodyReader::new(pieces);
        let thread = std::thread::spawn(move || {
            for _ in 0..100 {
                writer.write_all(&[5; 1000]).unwrap();
            }
            writer.fail(io::Error::other("broken"));
        });
        let mut bytes = Vec::new();
        let error = reader.read_to_end(&mut bytes).unwrap_err();
        thread.join().unwrap();
        assert_eq!((bytes.len(), error.to_string()), (100_000, "broken".to_owned()));
        let (mut writer, pieces) = BodyWriter::new();
        drop(pieces);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
