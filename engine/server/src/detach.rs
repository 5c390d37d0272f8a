//! The keys with which a client leaves a terminal without ending what runs in it.

use crate::reply::ApiError;

/// Watches typed bytes for a sequence.
#[derive(Debug, Clone)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q` and the like; absent is that, Docker's default.
    ///
    /// # Errors
    /// 400 with Docker's words.
    pub fn parse(text: Option<&str>) -> Result<DetachKeys, ApiError> {
        let text = text.unwrap_or("ctrl-p,ctrl-q");
        let sequence: Option<Vec<u8>> = text.split(',').map(key).collect();
        let bad = || ApiError::bad_request(format!("Invalid detach keys ({text}) provided"));
        Ok(DetachKeys { sequence: sequence.ok_or_else(bad)?, matched: 0 })
    }

    /// What of `bytes` goes on to the program, and whether the sequence is complete. A begun sequence is held
    /// back until it is broken.
    pub fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte != self.sequence[self.matched] {
                pass.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if *byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (pass, true);
                }
            } else {
                pass.push(*byte);
            }
        }
        (pass, false)
    }
}

fn key(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] => Some(*byte),
        [b'c', b't', b'r', b'l', b'-', key] => match key {
            b'a'..=b'z' => Some(key - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_found_across_reads() {
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11z"), (vec![], true));
    }

    #[test]
    fn keys_are_read() {
        assert!(DetachKeys::parse(Some("ctrl-a,a")).is_ok());
        assert!(DetachKeys::parse(Some("a")).is_ok());
        let error = DetachKeys::parse(Some("ctrl-A,a")).unwrap_err();
        assert_eq!(error.message, "Invalid detach keys (ctrl-A,a) provided");
        assert!(DetachKeys::parse(Some("")).is_err());
    }
}
