//! From compressed bytes to a finished tree and its diff id, in one pass.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use runtime::ids::IdMap;
use sha2::{Digest as _, Sha256};

use super::LayerError;
use super::apply::Applier;
use super::archive::Archive;
use super::tree::Tree;
use model::reference::Digest;

/// Most memory that a packed stream may ask for: what `xz -9` needs, and as much again.
const XZ_MEMORY: u64 = 130 << 20;
/// Plain bytes between decompressor and archive.
const BUFFER: usize = 128 << 10;

/// What came out of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Content of its regular files, in bytes.
    pub size: u64,
    /// It hides every layer below it.
    pub opaque: bool,
}

/// Writes the layer that `source` delivers (plain, gzip or zstd, told by its first bytes as Docker does) into
/// the empty folder `root`, owned by the machine's numbers of `ids`. `scratch` is a folder of the same file system for
/// what gets replaced.
pub fn unpack(
    source: impl BufRead,
    root: OwnedFd,
    scratch: OwnedFd,
    ids: IdMap,
) -> Result<Unpacked, LayerError> {
    let mut hashed = Hashed { reader: decompressor(source).map_err(LayerError::Read)?, hash: Sha256::new() };
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, &mut hashed));
    let written = Applier::new(Tree::new(root, scratch, ids), ids).run(&mut archive)?;
    // The diff id covers what follows the end mark, too.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(LayerError::Read)?;
    let diff_id = Digest::from_sha256(&hashed.hash.finalize().into());
    Ok(Unpacked { diff_id, size: written.size, opaque: written.opaque })
}

/// Reads what `source` delivers, plain or packed in any of the forms that Docker takes.
///
/// # Errors
/// `source` cannot be read.
pub fn decompressor<'a>(source: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = Peeked::new(source)?;
    match source.start() {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(source))),
        [0x28, 0xb5, 0x2f, 0xfd] => Ok(Box::new(zstd::stream::read::Decoder::with_buffer(source)?)),
        [0xfd, b'7', b'z', b'X'] => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Ok(Box::new(XzDecoder::new_stream(source, stream)))
        }
        [b'B', b'Z', b'h', _] => Ok(Box::new(MultiBzDecoder::new(source))),
        _ => Ok(Box::new(source)),
    }
}

/// A reader whose first bytes were looked at.
struct Peeked<R> {
    start: [u8; 4],
    len: usize,
    at: usize,
    reader: R,
}

impl<R: BufRead> Peeked<R> {
    fn new(mut reader: R) -> io::Result<Peeked<R>> {
        let mut start = [0; 4];
        let mut len = 0;
        while len < start.len() {
            match reader.read(&mut start[len..])? {
                0 => break,
                count => len += count,
            }
        }
        Ok(Peeked { start, len, at: 0, reader })
    }

    fn start(&mut self) -> &[u8] {
        &self.start[..self.len]
    }
}

impl<R: BufRead> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.len { Ok(&self.start[self.at..self.len]) } else { self.reader.fill_buf() }
    }

    fn consume(&mut self, count: usize) {
        if self.at < self.len { self.at += count } else { self.reader.consume(count) }
    }
}

struct Hashed<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
