//! Bytes as they arrive, cut into lines.

use super::LINE_MAX;

/// See the module. It never holds more than was added since the last look and one unfinished line.
#[derive(Debug, Default)]
pub struct LineBuffer(Vec<u8>);

/// What has arrived is longer than any line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {LINE_MAX} bytes")]
pub struct TooLong;

impl LineBuffer {
    /// Adds what has arrived.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Takes the first whole line, without its newline; bytes that are no UTF-8 become U+FFFD, which no line has.
    ///
    /// # Errors
    /// [`TooLong`]; what follows cannot be told from the line's end.
    pub fn next_line(&mut self) -> Result<Option<String>, TooLong> {
        match self.0.iter().take(LINE_MAX).position(|byte| *byte == b'\n') {
            Some(end) => {
                let line: Vec<u8> = self.0.drain(..=end).collect();
                Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()))
            }
            None if self.0.len() >= LINE_MAX => Err(TooLong),
            None => Ok(None),
        }
    }

    /// What has arrived behind the last line that was taken: the beginning of an announced body.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first `count` of [`LineBuffer::bytes`] are done with.
    pub fn consume(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }
}
