//! The `json-file` log: one JSON object a line, as Docker's driver of that name writes it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spool::Stream;
use crate::timestamp::Timestamp;

/// Longest text of one record in bytes; a longer line is written in parts without newline.
pub(super) const RECORD_MAX: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    log: std::borrow::Cow<'a, str>,
    stream: std::borrow::Cow<'a, str>,
    time: std::borrow::Cow<'a, str>,
}

/// One line of output as it was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which stream.
    pub stream: Stream,
    /// When it was read from the container.
    pub time: Timestamp,
    /// With its newline; a part of a long line or the unfinished last one has none.
    pub text: String,
}

/// Appends the records that `pending` holds to `out` and says how many bytes of it they take. An unfinished line
/// waits unless `finish`.
pub(super) fn cut_records(
    stream: Stream,
    pending: &[u8],
    finish: bool,
    now: Timestamp,
    out: &mut Vec<u8>,
) -> usize {
    let time = now.rfc3339();
    let mut taken = 0;
    while taken < pending.len() {
        let rest = &pending[taken..];
        let window = &rest[..rest.len().min(RECORD_MAX)];
        let length = match window.iter().position(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            None if window.len() == RECORD_MAX => whole_characters(window),
            None if finish => window.len(),
            None => break,
        };
        let line = Line {
            log: String::from_utf8_lossy(&rest[..length]),
            stream: match stream {
                Stream::Stdout => "stdout".into(),
                Stream::Stderr => "stderr".into(),
            },
            time: time.as_str().into(),
        };
        serde_json::to_writer(&mut *out, &line).expect("strings are always JSON and a Vec always takes them");
        out.push(b'\n');
        taken += length;
    }
    taken
}

/// A part of a long line ends between characters, so that joining the parts gives the line again.
fn whole_characters(window: &[u8]) -> usize {
    let tail = window.len().saturating_sub(3);
    let start = (tail..window.len()).rev().find(|i| window[*i] & 0xc0 != 0x80).unwrap_or(window.len());
    let complete = std::str::from_utf8(&window[start..]).is_ok();
    if complete || start == 0 { window.len() } else { start }
}

/// The log file, open for appending at a known length.
#[derive(Debug)]
pub(super) struct JsonLog {
    file: File,
}

impl JsonLog {
    /// Opens or makes the log.
    pub fn open(path: &Path) -> io::Result<JsonLog> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(JsonLog { file })
    }

    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
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
}

/// Reads a log from the beginning, or from its last lines, on to its end and beyond.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Reader {
    /// Opens the log at `path`; a missing one is empty.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &PathBuf, tail: Option<u64>) -> io::Result<Option<Reader>> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if let Some(lines) = tail {
            let start = tail_offset(&file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Some(Reader { file: BufReader::with_capacity(64 * 1024, file), line: Vec::new() }))
    }

    /// The next complete record; `None` at the present end, where more may come later.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            self.file.read_until(b'\n', &mut self.line)?;
            if self.line.last() != Some(&b'\n') {
                return Ok(None);
            }
            let record = parse(&self.line);
            self.line.clear();
            // A damaged line (power cut in a write) is passed over.
            if record.is_some() {
                return Ok(record);
            }
        }
    }
}

fn parse(line: &[u8]) -> Option<Record> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = match &*line.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    Some(Record { stream, time: Timestamp::parse_rfc3339(&line.time)?, text: line.log.into_owned() })
}

/// Where the last `lines` lines of output begin, found from the end; the parts of a long line are one line.
fn tail_offset(file: &File, lines: u64) -> io::Result<u64> {
    let mut backwards = Backwards { file, position: file.metadata()?.len(), buffer: Vec::new() };
    if lines == 0 {
        return Ok(backwards.position);
    }
    let mut left = lines;
    let mut follower = None;
    while let Some((offset, line)) = backwards.line()? {
        // A line begins behind a record that ends one.
        let ends_line = parse(&line).is_none_or(|record| record.text.ends_with('\n'));
        if let (Some(begin), true) = (follower, ends_line) {
            left -= 1;
            if left == 0 {
                return Ok(begin);
            }
        }
        follower = Some(offset);
    }
    Ok(0)
}

/// The file's lines from last to first.
struct Backwards<'a> {
    file: &'a File,
    /// Where `buffer` begins in the file.
    position: u64,
    buffer: Vec<u8>,
}

impl Backwards<'_> {
    const BLOCK: u64 = 64 * 1024;

    fn line(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
            if let Some(newline) = text.iter().rposition(|byte| *byte == b'\n') {
                let line = self.buffer.split_off(newline + 1);
                return Ok(Some((self.position + newline as u64 + 1, line)));
            }
            if self.position == 0 {
                let line = std::mem::take(&mut self.buffer);
                return Ok((!line.is_empty()).then_some((0, line)));
            }
            let start = self.position.saturating_sub(Self::BLOCK);
            let mut block = vec![0; (self.position - start) as usize];
            self.file.read_exact_at(&mut block, start)?;
            block.append(&mut self.buffer);
            (self.position, self.buffer) = (start, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pending: &[u8], finish: bool) -> (Vec<Record>, usize) {
        let mut out = Vec::new();
        let taken = cut_records(Stream::Stdout, pending, finish, Timestamp(1), &mut out);
        (out.split_inclusive(|b| *b == b'\n').map(|line| parse(line).unwrap()).collect(), taken)
    }

    #[test]
    fn lines_become_records() {
        let check = |pending: &[u8], finish, texts: &[&str], taken: usize| {
            let (records, got) = cut(pending, finish);
            let got_texts: Vec<_> = records.iter().map(|r| r.text.as_str()).collect();
            assert_eq!((got_texts, got), (texts.to_vec(), taken));
        };
        check(b"a\nb\nc", false, &["a\n", "b\n"], 4);
        check(b"a\nb\nc", true, &["a\n", "b\n", "c"], 5);
        check(b"\"\\\t\xff\n", false, &["\"\\\t\u{fffd}\n"], 5);
        check(b"", true, &[], 0);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let line = "é".repeat(RECORD_MAX) + "\n";
        let shifted = format!("x{line}");
        for text in [line, shifted] {
            let (records, taken) = cut(text.as_bytes(), false);
            assert_eq!(taken, text.len());
            assert_eq!(records.iter().map(|r| r.text.as_str()).collect::<String>(), text);
        }
    }

    #[test]
    fn the_tail_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut text: String = (0..5000).map(|n| format!("line {n} {}\n", "x".repeat(n % 90))).collect();
        text += &format!("{}\nunfinished", "long".repeat(RECORD_MAX));
        let mut bytes = Vec::new();
        cut_records(Stream::Stdout, text.as_bytes(), true, Timestamp(1), &mut bytes);
        std::fs::write(&path, bytes).unwrap();
        for lines in [0u64, 1, 2, 3, 100, 5001, 5002, 9000] {
            let mut reader = Reader::open(&path, Some(lines)).unwrap().unwrap();
            let mut got = String::new();
            while let Some(record) = reader.next_record().unwrap() {
                got += &record.text;
            }
            let all: Vec<_> = text.split_inclusive('\n').collect();
            let want = all[all.len().saturating_sub(lines as usize)..].concat();
            assert!(got == want, "{lines}: {} bytes, not {}", got.len(), want.len());
        }
    }
}
