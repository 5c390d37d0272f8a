//! What follows a line of the host's: so many bytes as it said, on their way into a file without a name.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use contract::line::{CONFIG_MAX, ENGINE_MAX, Request};

use crate::{config, upload};

/// See the module.
#[derive(Debug)]
pub struct Body {
    /// What it is called in an error.
    pub noun: &'static str,
    file: File,
    taken: u64,
    wanted: u64,
}

impl Body {
    /// Begins the one that `request` announces, if it announces one; the memory for it is taken now.
    pub fn begin(request: &Request) -> Option<io::Result<Body>> {
        match *request {
            Request::Engine { bytes } => Some(Body::sized("engine", bytes, ENGINE_MAX, upload::file)),
            Request::Config { bytes } => Some(Body::sized("configuration", bytes, CONFIG_MAX, config::file)),
            _ => None,
        }
    }

    fn sized(
        noun: &'static str,
        wanted: u64,
        most: u64,
        file: impl FnOnce(u64) -> io::Result<File>,
    ) -> io::Result<Body> {
        if wanted == 0 || wanted > most {
            let text = format!("it has from 1 to {most} bytes");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        Ok(Body::of(noun, file(wanted)?, wanted))
    }

    /// One of `wanted` bytes, into `file`.
    pub fn of(noun: &'static str, file: File, wanted: u64) -> Body {
        Body { noun, file, taken: 0, wanted }
    }

    /// Takes what belongs to it from the beginning of `bytes`; returns how much that was.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.wanted - self.taken).unwrap_or(usize::MAX);
        let own = &bytes[..left.min(bytes.len())];
        self.file.write_all_at(own, self.taken)?;
        self.taken += own.len() as u64;
        Ok(own.len())
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.taken == self.wanted
    }

    /// The file, once nothing is missing.
    pub fn into_file(self) -> io::Result<File> {
        match self.is_whole() {
            true => Ok(self.file),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}
