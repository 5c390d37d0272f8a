//! Reading a log from the beginning, or from its last lines, on to its end and beyond.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::file::{LogPlace, compressed};
use super::record::{Record, parse};
use super::tail;

/// Bytes read ahead.
const BUFFER: usize = 64 * 1024;

/// A place in a log.
pub struct Reader {
    place: LogPlace,
    /// At which turn `current` is, or will be when `older` is empty, the file that is written.
    turn: u64,
    current: Option<Box<dyn BufRead + Send>>,
    /// Files behind `current`, the next one first.
    newer: VecDeque<Part>,
    line: Vec<u8>,
}

/// One of the files.
pub(super) enum Part {
    Plain(File),
    Compressed(File),
}

impl Part {
    fn open(path: &Path) -> io::Result<Option<Part>> {
        if let Some(file) = present(File::open(path))? {
            return Ok(Some(Part::Plain(file)));
        }
        Ok(present(File::open(compressed(path)))?.map(Part::Compressed))
    }

    pub(super) fn read(self) -> Box<dyn BufRead + Send> {
        match self {
            Part::Plain(file) => Box::new(BufReader::with_capacity(BUFFER, file)),
            Part::Compressed(file) => {
                Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(BufReader::new(file))))
            }
        }
    }
}

fn present(result: io::Result<File>) -> io::Result<Option<File>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

impl Reader {
    /// Opens the log; one that is not there yet is empty.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn open(place: LogPlace, last_lines: Option<u64>) -> io::Result<Reader> {
        let mut parts = VecDeque::new();
        let turn = {
            let turns = place.turns();
            for back in 0..u64::from(place.rules.max_files) {
                match Part::open(&place.numbered(back))? {
                    Some(part) => parts.push_front(part),
                    None if back > 0 => break,
                    None => {}
                }
            }
            *turns
        };
        let mut reader = Reader { place, turn, current: None, newer: parts, line: Vec::new() };
        if let Some(lines) = last_lines {
            reader.current = tail::skip(&mut reader.newer, lines)?;
        }
        Ok(reader)
    }

    /// The next complete record; `None` at the present end, where more may come later.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.line()? {
                let record = parse(&self.line);
                self.line.clear();
                // A damaged line (power cut in a write) is passed over.
                if record.is_some() {
                    return Ok(record);
                }
            } else if !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// Whether `line` holds a whole line of the present file now.
    fn line(&mut self) -> io::Result<bool> {
        let Some(current) = &mut self.current else { return Ok(false) };
        if self.line.last() != Some(&b'\n') {
            current.read_until(b'\n', &mut self.line)?;
        }
        Ok(self.line.last() == Some(&b'\n'))
    }

    /// Goes on to the next file, if there is one.
    fn advance(&mut self) -> io::Result<bool> {
        if self.newer.is_empty() {
            self.look_for_newer()?;
            // What came between the look at the file's end and the turn is in the old file still.
            if !self.newer.is_empty() && self.line()? {
                return Ok(true);
            }
        }
        let Some(next) = self.newer.pop_front() else { return Ok(false) };
        self.current = Some(next.read());
        self.line.clear();
        Ok(true)
    }

    fn look_for_newer(&mut self) -> io::Result<()> {
        let turns = self.place.turns();
        // Nothing was there when it was opened: then the file of that turn is one of the newer.
        let behind = *turns - self.turn + u64::from(self.current.is_none());
        for back in (0..behind.min(u64::from(self.place.rules.max_files))).rev() {
            self.newer.extend(Part::open(&self.place.numbered(back))?);
        }
        self.turn = *turns;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::{Attributes, Cut, RECORD_MAX};
    use crate::log::{LogFile, Rules};
    use crate::spool::Stream;

    fn place(folder: &Path, rules: Rules) -> LogPlace {
        let path = folder.join("log");
        LogPlace { path, rules, attributes: Attributes::new(), turns: std::sync::Arc::default() }
    }

    /// Writes as the pump does.
    fn write(log: &mut LogFile, text: &str) {
        let mut bytes = Vec::new();
        let (stream, attributes) = (Stream::Stdout, &Attributes::new());
        Cut { stream, attributes, finish: true, room: u64::MAX }.records(text.as_bytes(), &mut bytes);
        let mut length = log.length().unwrap();
        if log.room(length) == 0 {
            log.turn().unwrap();
            length = 0;
        }
        log.append(&bytes, length).unwrap();
    }

    fn rest(reader: &mut Reader) -> String {
        let mut got = String::new();
        while let Some(record) = reader.next_record().unwrap() {
            got += &record.text;
        }
        got
    }

    fn last(text: &str, lines: u64) -> String {
        let all: Vec<_> = text.split_inclusive('\n').collect();
        all[all.len().saturating_sub(usize::try_from(lines).unwrap())..].concat()
    }

    #[test]
    fn the_tail_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), Rules::default());
        let mut text: String = (0..5000).map(|n| format!("line {n} {}\n", "x".repeat(n % 90))).collect();
        text += &format!("{}\nunfinished", "long".repeat(RECORD_MAX));
        write(&mut LogFile::open(place.clone()).unwrap(), &text);
        for lines in [0u64, 1, 2, 3, 100, 5001, 5002, 9000] {
            let got = rest(&mut Reader::open(place.clone(), Some(lines)).unwrap());
            assert!(got == last(&text, lines), "{lines}: {} bytes", got.len());
        }
    }

    /// Files of a hundred lines or so.
    fn turned(folder: &Path, max_files: u32, compress: bool) -> (LogPlace, String) {
        let place = place(folder, Rules { max_size: Some(8000), max_files, compress });
        let mut log = LogFile::open(place.clone()).unwrap();
        let mut text = String::new();
        for n in 0..1000 {
            let line = format!("line {n}\n");
            write(&mut log, &line);
            text += &line;
        }
        drop(log);
        (place, text)
    }

    #[test]
    fn several_files_are_read_as_one() {
        for compress in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (place, text) = turned(dir.path(), 4, compress);
            let names = std::fs::read_dir(dir.path()).unwrap().count();
            // One more while it is compressed.
            assert!((4..=5).contains(&names), "{names} files");
            let kept = rest(&mut Reader::open(place.clone(), None).unwrap());
            assert!(text.ends_with(&kept) && kept.lines().count() > 300, "{}", kept.len());
            for lines in [0, 1, 50, 150, 250, 320] {
                let got = rest(&mut Reader::open(place.clone(), Some(lines)).unwrap());
                assert_eq!(got, last(&text, lines), "{lines}");
            }
        }
    }

    #[test]
    fn a_single_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (place, text) = turned(dir.path(), 1, false);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(text.ends_with(&rest(&mut Reader::open(place, None).unwrap())));
    }

    #[test]
    fn a_follower_misses_nothing_that_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), Rules { max_size: Some(800), max_files: 5, compress: true });
        let mut reader = Reader::open(place.clone(), None).unwrap();
        let mut log = LogFile::open(place).unwrap();
        let (mut text, mut got) = (String::new(), String::new());
        for n in 0..500 {
            let line = format!("line {n}\n");
            write(&mut log, &line);
            text += &line;
            if n % 17 == 0 {
                got += &rest(&mut reader);
            }
        }
        got += &rest(&mut reader);
        assert_eq!(got, text);
    }
}
