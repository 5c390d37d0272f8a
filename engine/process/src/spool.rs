//! The spool: what a container wrote, between its pipe and its log, kept where the engine's death cannot reach.
//!
//! Reading a pipe takes the bytes out of it; an engine killed before it wrote them to the log would lose them.
//! splice(2) moves them into a tmpfs file in one system call instead, and a small header says which part of the
//! file the log already holds:
//!
//! ```text
//!   pipe ──splice──► spool file [ header | taken by the log .... | not yet ....] end = file size
//!                                        └ punched out again
//!   header: before { taken, log length }  after { taken, log length }     written ahead of each log append
//! ```
//!
//! After a kill the log's length tells whether the last append happened: it is `after`'s, or the log is cut
//! back to `before`'s and the bytes are taken again. So no line is lost and none is doubled.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::pipe::SpliceFlags;

/// Bytes in front of the data of each spool file.
const HEADER: u64 = 4096;
/// Taken bytes are given back to the kernel in portions of at least this.
const PUNCH: u64 = 128 * 1024;
/// Most bytes moved in one call: a pipe's usual capacity.
pub(super) const CHUNK: usize = 64 * 1024;

/// A container's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far the log has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    taken: [u64; 2],
    log: u64,
}

impl Progress {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (slot, value) in bytes.chunks_exact_mut(8).zip([self.taken[0], self.taken[1], self.log]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Progress {
        let value = |index: usize| {
            bytes[index * 8..index * 8 + 8].try_into().map(u64::from_le_bytes).unwrap_or_default()
        };
        Progress { taken: [value(0), value(1)], log: value(2) }
    }
}

/// The spool of one run of a container.
#[derive(Debug)]
pub(super) struct Spool {
    files: [File; 2],
    paths: [PathBuf; 2],
    progress: Progress,
    ends: [u64; 2],
    punched: [u64; 2],
}

impl Spool {
    /// A new, empty spool; `log` is the log's present length.
    pub fn create(folder: &Path, id: &str, log: u64) -> io::Result<Spool> {
        let paths = Self::paths(folder, id);
        let make =
            |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let files = [make(&paths[0])?, make(&paths[1])?];
        let progress = Progress { taken: [0, 0], log };
        let spool = Spool { files, paths, progress, ends: [0, 0], punched: [0, 0] };
        spool.intend(progress)?;
        Ok(spool)
    }

    /// The spool an engine before this one left behind; nothing where it died before the spool had its header, which
    /// comes before anything is taken from a pipe. The log's length decides what it had taken; returns the length the
    /// log must be cut to.
    pub fn reopen(folder: &Path, id: &str, log: u64) -> io::Result<Option<(Spool, u64)>> {
        let paths = Self::paths(folder, id);
        let open = || {
            let mut header = [0; 48];
            let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
            let files = [open(&paths[0])?, open(&paths[1])?];
            files[0].read_exact_at(&mut header, 0)?;
            Ok::<_, io::Error>((files, header))
        };
        let (files, header) = match open() {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
                return Ok(None);
            }
            opened => opened?,
        };
        let (before, after) = (Progress::decode(&header[..24]), Progress::decode(&header[24..]));
        let progress = if log == after.log { after } else { before };
        let end = |file: &File| Ok::<_, io::Error>(file.metadata()?.len().saturating_sub(HEADER));
        let ends = [end(&files[0])?, end(&files[1])?];
        Ok(Some((Spool { files, paths, progress, ends, punched: [0, 0] }, progress.log)))
    }

    fn paths(folder: &Path, id: &str) -> [PathBuf; 2] {
        [folder.join(format!("{id}.out")), folder.join(format!("{id}.err"))]
    }

    /// Moves what `pipe` holds to the end of `stream`; 0 at the pipe's end.
    pub fn fill(&mut self, stream: Stream, pipe: impl std::os::fd::AsFd) -> io::Result<usize> {
        let index = stream as usize;
        let mut offset = HEADER + self.ends[index];
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = rustix::pipe::splice(pipe, None, &self.files[index], Some(&mut offset), CHUNK, flags)?;
        self.ends[index] += moved as u64;
        Ok(moved)
    }

    /// Bytes of `stream` that the log has not taken.
    pub fn pending(&self, stream: Stream, into: &mut Vec<u8>) -> io::Result<()> {
        let index = stream as usize;
        let length = self.ends[index] - self.progress.taken[index];
        into.resize(length as usize, 0);
        self.files[index].read_exact_at(into, HEADER + self.progress.taken[index])
    }

    /// The last `count` bytes of `stream`.
    pub fn last(&self, stream: Stream, count: usize) -> io::Result<Vec<u8>> {
        let index = stream as usize;
        let mut bytes = vec![0; count];
        self.files[index].read_exact_at(&mut bytes, HEADER + self.ends[index] - count as u64)?;
        Ok(bytes)
    }

    /// Declares that the log's next append takes `bytes` of `stream` and makes the log `log` bytes long. Call it
    /// before the append, and [`Spool::done`] after.
    pub fn take(&mut self, stream: Stream, bytes: u64, log: u64) -> io::Result<()> {
        let mut after = self.progress;
        after.taken[stream as usize] += bytes;
        after.log = log;
        self.intend(after)?;
        self.progress = after;
        Ok(())
    }

    fn intend(&self, after: Progress) -> io::Result<()> {
        let mut header = [0; 48];
        header[..24].copy_from_slice(&self.progress.encode());
        header[24..].copy_from_slice(&after.encode());
        self.files[0].write_all_at(&header, 0)
    }

    /// Gives the memory of taken bytes back, now and then.
    pub fn done(&mut self, stream: Stream) -> io::Result<()> {
        self.punch(stream as usize, PUNCH).map(drop)
    }

    /// Gives back all that can be, for want of room. False where that is nothing.
    pub fn give_back(&mut self) -> bool {
        let given = [0, 1].map(|index| self.punch(index, 1).unwrap_or(false));
        given.contains(&true)
    }

    /// Gives back whole pages of taken bytes where there are at least that many bytes.
    fn punch(&mut self, index: usize, least: u64) -> io::Result<bool> {
        let (from, to) = (self.punched[index], self.progress.taken[index] / HEADER * HEADER);
        if to.saturating_sub(from) < least {
            return Ok(false);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.files[index], flags, HEADER + from, to - from)?;
        self.punched[index] = to;
        Ok(true)
    }

    /// Length of the log that goes with what was taken.
    pub fn log_length(&self) -> u64 {
        self.progress.log
    }

    /// The run is over and all was taken.
    pub fn remove(self) {
        for path in &self.paths {
            // A file left behind is cleaned with the container.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pending(spool: &Spool, stream: Stream) -> Vec<u8> {
        let mut bytes = Vec::new();
        spool.pending(stream, &mut bytes).unwrap();
        bytes
    }

    fn filled(dir: &Path, text: &[u8]) -> Spool {
        let mut spool = Spool::create(dir, "x", 10).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        File::from(write).write_all(text).unwrap();
        while spool.fill(Stream::Stdout, &read).unwrap() > 0 {}
        spool
    }

    #[test]
    fn bytes_wait_until_they_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = filled(dir.path(), b"one\ntwo");
        assert_eq!(pending(&spool, Stream::Stdout), b"one\ntwo");
        spool.take(Stream::Stdout, 4, 50).unwrap();
        assert_eq!(pending(&spool, Stream::Stdout), b"two");
        assert_eq!(pending(&spool, Stream::Stderr), b"");
    }

    #[test]
    fn the_logs_length_tells_whether_the_append_happened() {
        let check = |log_found: u64, expected_pending: &[u8], expected_cut: u64| {
            let dir = tempfile::tempdir().unwrap();
            let mut spool = filled(dir.path(), b"one\ntwo\n");
            spool.take(Stream::Stdout, 4, 50).unwrap();
            drop(spool);
            let (spool, cut) = Spool::reopen(dir.path(), "x", log_found).unwrap().unwrap();
            assert_eq!((pending(&spool, Stream::Stdout), cut), (expected_pending.to_vec(), expected_cut));
        };
        check(50, b"two\n", 50);
        check(10, b"one\ntwo\n", 10);
        // Killed in the middle of the append.
        check(33, b"one\ntwo\n", 10);
    }

    #[test]
    fn a_spool_without_its_header_was_never_begun() {
        let dir = tempfile::tempdir().unwrap();
        let begun = || Spool::reopen(dir.path(), "x", 0).unwrap().is_some();
        assert!(!begun());
        // As an engine leaves it that dies between making the files and writing into them.
        for name in ["x.out", "x.err"] {
            File::create(dir.path().join(name)).unwrap();
            assert!(!begun());
        }
        drop(Spool::create(dir.path(), "x", 0).unwrap());
        File::create(dir.path().join("x.out")).unwrap();
        assert!(!begun());
    }

    #[test]
    fn taken_bytes_give_their_memory_back() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut spool = Spool::create(dir.path(), "x", 0).unwrap();
        for round in 0..64u64 {
            let (read, write) = rustix::pipe::pipe().unwrap();
            let writer = std::thread::spawn(move || File::from(write).write_all(&[7; CHUNK]).unwrap());
            while spool.fill(Stream::Stdout, &read).unwrap_or(1) > 0 {}
            writer.join().unwrap();
            spool.take(Stream::Stdout, CHUNK as u64, round).unwrap();
            spool.done(Stream::Stdout).unwrap();
        }
        let blocks = std::fs::metadata(dir.path().join("x.out")).unwrap().blocks();
        assert!(blocks * 512 <= 2 * PUNCH + HEADER, "{blocks} blocks");
    }
}
