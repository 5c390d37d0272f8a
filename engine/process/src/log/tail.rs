//! Where the last lines of a log begin.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::reader::Part;
use super::record::parse;

/// Takes from `parts`, the oldest first, what comes before the last `lines` lines. Returns the file to begin with where
/// that is not simply the first of them.
pub(super) fn skip(parts: &mut VecDeque<Part>, lines: u64) -> io::Result<Option<Box<dyn BufRead + Send>>> {
    let (mut left, mut wanted, mut first) = (lines, VecDeque::new(), None);
    while let Some(part) = parts.pop_back() {
        match part {
            Part::Plain(mut file) => {
                let (offset, before) = tail_offset(&file, left)?;
                file.seek(SeekFrom::Start(offset))?;
                left = before;
                wanted.push_front(Part::Plain(file));
            }
            Part::Compressed(mut file) => {
                let count = count(Part::Compressed(file.try_clone()?).read())?;
                file.rewind()?;
                let surplus = count.saturating_sub(left);
                left = left.saturating_sub(count);
                match surplus {
                    0 => wanted.push_front(Part::Compressed(file)),
                    _ => first = Some(pass(Part::Compressed(file).read(), surplus)?),
                }
            }
        }
        if left == 0 {
            break;
        }
    }
    *parts = wanted;
    Ok(first)
}

/// Lines of output in a file.
fn count(mut file: Box<dyn BufRead + Send>) -> io::Result<u64> {
    let (mut count, mut line) = (0, Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        count += u64::from(ends_line(&line));
        line.clear();
    }
    Ok(count)
}

/// The file behind its first `lines` lines of output.
fn pass(mut file: Box<dyn BufRead + Send>, lines: u64) -> io::Result<Box<dyn BufRead + Send>> {
    let (mut left, mut line) = (lines, Vec::new());
    while left > 0 && file.read_until(b'\n', &mut line)? > 0 {
        left -= u64::from(ends_line(&line));
        line.clear();
    }
    Ok(file)
}

/// A long line is several records, of which only the last ends it.
fn ends_line(line: &[u8]) -> bool {
    parse(line).is_none_or(|record| record.text.ends_with('\n'))
}

/// Where the last `lines` lines of output begin, found from the end, and how many of them lie before the file; the parts
/// of a long line are one line.
fn tail_offset(file: &File, lines: u64) -> io::Result<(u64, u64)> {
    let mut backwards = Backwards { file, position: file.metadata()?.len(), buffer: Vec::new() };
    if lines == 0 {
        return Ok((backwards.position, 0));
    }
    let mut left = lines;
    let mut follower = None;
    while let Some((offset, line)) = backwards.line()? {
        // A line begins behind a record that ends one.
        if let (Some(begin), true) = (follower, ends_line(&line)) {
            left -= 1;
            if left == 0 {
                return Ok((begin, 0));
            }
        }
        follower = Some(offset);
    }
    Ok((0, left - u64::from(follower.is_some())))
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
