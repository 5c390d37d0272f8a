//! Writing a log, and making room in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::options::Rules;
use super::record::Attributes;

/// Where a log is and how it is kept; all clones are the same log.
#[derive(Debug, Clone)]
pub struct LogPlace {
    /// The file that is written.
    pub path: PathBuf,
    /// When and how room is made.
    pub rules: Rules,
    /// Added to every record.
    pub attributes: Attributes,
    /// How often this engine has made room. Held while files change their names.
    pub turns: Arc<Mutex<u64>>,
}

impl LogPlace {
    /// The file that was written `back` turns ago.
    pub(super) fn numbered(&self, back: u64) -> PathBuf {
        match back {
            0 => self.path.clone(),
            _ => suffixed(&self.path, &format!(".{back}")),
        }
    }

    pub(super) fn turns(&self) -> MutexGuard<'_, u64> {
        self.turns.lock().expect("no holder of the log's names panics")
    }
}

/// The same file, compressed.
pub(super) fn compressed(path: &Path) -> PathBuf {
    suffixed(path, ".gz")
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A log, open for appending at a known length.
#[derive(Debug)]
pub(crate) struct LogFile {
    place: LogPlace,
    file: File,
    compressing: Option<JoinHandle<()>>,
}

impl LogFile {
    /// Opens or makes the log.
    pub fn open(place: LogPlace) -> io::Result<LogFile> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&place.path)?;
        Ok(LogFile { place, file, compressing: None })
    }

    pub fn attributes(&self) -> &Attributes {
        &self.place.attributes
    }

    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Cuts off what is no whole line at the end: a power cut may have torn the last record, and what were written
    /// behind it would be no record either. Returns the length.
    pub fn mend(&self) -> io::Result<u64> {
        let length = self.length()?;
        let mut end = length;
        let mut block = [0; 4096];
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let bytes = &mut block[..(end - start) as usize];
            self.file.read_exact_at(bytes, start)?;
            if let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') {
                end = start + newline as u64 + 1;
                break;
            }
            end = start;
        }
        if end < length {
            self.cut(end)?;
        }
        Ok(end)
    }

    pub fn cut(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    /// Writes at `offset`, which is the log's end; on failure the log is as before.
    pub fn append(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).inspect_err(|_| {
            // The disk is full: cutting back needs no space.
            let _ = self.file.set_len(offset);
        })
    }

    /// Bytes that a log of this length takes before it is full; the record that fills it may reach beyond.
    pub fn room(&self, length: u64) -> u64 {
        self.place.rules.max_size.map_or(u64::MAX, |size| size.saturating_sub(length))
    }

    /// Goes on in an empty file. On failure the log is as before.
    pub fn turn(&mut self) -> io::Result<()> {
        let place = &self.place;
        let mut turns = place.turns();
        if place.rules.max_files > 1 {
            shift(place)?;
        }
        // Those who still read the old file keep it.
        let fresh = suffixed(&place.path, ".new");
        self.file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        std::fs::rename(&fresh, &place.path)?;
        *turns += 1;
        drop(turns);
        if place.rules.max_files > 1 && place.rules.compress {
            self.compress();
        }
        Ok(())
    }

    /// Output waits for no compression: one that goes on finds what has come behind it, or the next turn does.
    fn compress(&mut self) {
        if self.compressing.as_ref().is_none_or(JoinHandle::is_finished) {
            let place = self.place.clone();
            let compressor = std::thread::Builder::new().name("log-compressor".to_owned());
            match compressor.spawn(move || compress(&place)) {
                Ok(compressing) => self.compressing = Some(compressing),
                // The next turn tries again.
                Err(error) => tracing::warn!(%error, "a full log stays uncompressed"),
            }
        }
    }
}

/// Makes the number 1 free. Numbers below the first free one move up: after a death between two moves nothing is
/// overwritten that has a place to go to.
fn shift(place: &LogPlace) -> io::Result<()> {
    let last = u64::from(place.rules.max_files) - 1;
    let taken = |back: u64| place.numbered(back).exists() || compressed(&place.numbered(back)).exists();
    let free = (1..last).find(|back| !taken(*back)).unwrap_or(last);
    for back in (1..=free).rev() {
        move_up(place, back)?;
    }
    Ok(())
}

/// What was `back - 1` becomes `back`.
fn move_up(place: &LogPlace, back: u64) -> io::Result<()> {
    let (from, to) = (place.numbered(back - 1), place.numbered(back));
    for (from, to, other) in
        [(&from, &to, compressed(&to)), (&compressed(&from), &compressed(&to), to.clone())]
    {
        if from.exists() {
            std::fs::rename(from, to)?;
            absent(std::fs::remove_file(other))?;
        }
    }
    Ok(())
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Compresses whatever is plain behind the file that is written. When that fails it stays as it is, which is no loss.
fn compress(place: &LogPlace) {
    loop {
        let next = next_plain(place);
        let packed = match next {
            Ok(None) => return,
            Ok(Some(file)) => pack(place, &file),
            Err(error) => Err(error),
        };
        if let Err(error) = packed {
            tracing::warn!(log = %place.path.display(), %error, "cannot compress a log");
            return;
        }
    }
}

/// The newest of them.
fn next_plain(place: &LogPlace) -> io::Result<Option<File>> {
    let _names = place.turns();
    for back in 1..u64::from(place.rules.max_files) {
        match File::open(place.numbered(back)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// Turns go on meanwhile: in the end `file` has another number, or none any more.
fn pack(place: &LogPlace, file: &File) -> io::Result<()> {
    let half = suffixed(&place.path, ".gz.new");
    let packed = write_packed(file, &half).and_then(|()| {
        let _names = place.turns();
        let numbers = 1..u64::from(place.rules.max_files);
        let of_file = numbers.map(|back| place.numbered(back)).find(|path| is_same(path, file));
        let Some(plain) = of_file else { return std::fs::remove_file(&half) };
        std::fs::rename(&half, compressed(&plain))?;
        std::fs::remove_file(&plain)
    });
    packed.inspect_err(|_| drop(std::fs::remove_file(&half)))
}

fn is_same(path: &Path, file: &File) -> bool {
    let (Ok(found), Ok(wanted)) = (std::fs::metadata(path), file.metadata()) else { return false };
    (found.dev(), found.ino()) == (wanted.dev(), wanted.ino())
}

fn write_packed(mut from: &File, to: &Path) -> io::Result<()> {
    let mut packer = GzEncoder::new(File::create(to)?, Compression::default());
    io::copy(&mut from, &mut packer)?;
    packer.finish()?.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_does_not_wait_for_the_compression() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let rules = Rules { max_size: Some(10), max_files: 9, compress: true };
        let place = LogPlace { path, rules, attributes: Attributes::new(), turns: Arc::default() };
        let mut log = LogFile::open(place.clone()).unwrap();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        log.compressing = Some(std::thread::spawn(move || finished.recv().unwrap_or(())));
        for n in 0..3 {
            log.append(format!("{n}").as_bytes(), 0).unwrap();
            log.turn().unwrap();
        }
        assert!(place.numbered(3).exists(), "none is compressed yet");
        finish.send(()).unwrap();
        log.compressing.take().unwrap().join().unwrap();
        // The next turn compresses what was left.
        log.turn().unwrap();
        log.compressing.take().unwrap().join().unwrap();
        let packed = (1..=4).filter(|back| compressed(&place.numbered(*back)).exists()).count();
        assert_eq!((packed, place.numbered(1).exists()), (4, false));
    }
}
