//! Docker's framing of standard output and standard error on one stream: one byte for the stream, three zero
//! bytes, the length in four bytes big-endian, the payload.

use std::io::{ErrorKind, Read};

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 1 standard output, 2 standard error.
    pub stream: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// All frames of a stream.
#[derive(Debug, Default)]
pub struct Frames(pub Vec<Frame>);

impl Frames {
    /// Reads frames to the end of the stream.
    #[track_caller]
    pub fn read(mut from: impl Read) -> Frames {
        let mut frames = Vec::new();
        while let Some(frame) = Frame::read(&mut from) {
            frames.push(frame);
        }
        Frames(frames)
    }

    /// All payloads of one stream.
    pub fn of(&self, stream: u8) -> Vec<u8> {
        self.0.iter().filter(|frame| frame.stream == stream).flat_map(|frame| frame.payload.clone()).collect()
    }

    /// Standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.of(1)).into_owned()
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.of(2)).into_owned()
    }
}

impl Frame {
    /// Reads one frame; nothing at the end of the stream.
    #[track_caller]
    pub fn read(from: &mut impl Read) -> Option<Frame> {
        let mut head = [0; 8];
        match from.read_exact(&mut head[..1]) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            other => other.expect("the stream can be read"),
        }
        from.read_exact(&mut head[1..]).expect("a frame's head is whole");
        assert_eq!(head[1..4], [0; 3], "a frame's padding is zero: {head:?}");
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).expect("a frame's payload is whole");
        Some(Frame { stream: head[0], payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart() {
        let bytes = [
            &[1, 0, 0, 0, 0, 0, 0, 2][..],
            b"hi",
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 1],
            b"!",
        ]
        .concat();
        let frames = Frames::read(&bytes[..]);
        assert_eq!((frames.0.len(), frames.stdout(), frames.stderr()), (3, "hi!".into(), String::new()));
    }
}
