//! One record of a log: a JSON object a line, as Docker's driver `json-file` writes it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spool::Stream;
use model::timestamp::Timestamp;

/// What the options `labels`, `env` and `tag` add to every record.
pub type Attributes = BTreeMap<String, String>;

/// Longest text of one record in bytes; a longer line is written in parts without newline.
pub(crate) const RECORD_MAX: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    log: Cow<'a, str>,
    stream: Cow<'a, str>,
    #[serde(skip_serializing_if = "Attributes::is_empty", default)]
    attrs: Cow<'a, Attributes>,
    time: Cow<'a, str>,
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
    /// What was added to it.
    pub attributes: Attributes,
}

/// How output becomes records.
pub(crate) struct Cut<'a> {
    /// Of which stream.
    pub stream: Stream,
    /// Added to every record.
    pub attributes: &'a Attributes,
    /// Whether an unfinished line is a record, too; it waits otherwise.
    pub finish: bool,
    /// Bytes of records that are wanted; the last one may reach beyond.
    pub room: u64,
}

impl Cut<'_> {
    /// Appends the records that `pending` holds to `out` and says how many bytes of it they take.
    pub fn records(&self, pending: &[u8], out: &mut Vec<u8>) -> usize {
        let time = Timestamp::now().rfc3339();
        let mut taken = 0;
        while taken < pending.len() && (out.len() as u64) < self.room {
            let rest = &pending[taken..];
            let Some(length) = self.length(rest) else { break };
            let line = Line {
                log: String::from_utf8_lossy(&rest[..length]),
                stream: match self.stream {
                    Stream::Stdout => "stdout".into(),
                    Stream::Stderr => "stderr".into(),
                },
                attrs: Cow::Borrowed(self.attributes),
                time: time.as_str().into(),
            };
            serde_json::to_writer(&mut *out, &line)
                .expect("strings are always JSON and a Vec always takes them");
            out.push(b'\n');
            taken += length;
        }
        taken
    }

    /// Bytes of the record at the beginning of `rest`.
    fn length(&self, rest: &[u8]) -> Option<usize> {
        let window = &rest[..rest.len().min(RECORD_MAX)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(newline) => Some(newline + 1),
            None if window.len() == RECORD_MAX => Some(whole_characters(window)),
            None => self.finish.then_some(window.len()),
        }
    }
}

/// A part of a long line ends between characters, so that joining the parts gives the line again.
fn whole_characters(window: &[u8]) -> usize {
    let tail = window.len().saturating_sub(3);
    let start = (tail..window.len()).rev().find(|i| window[*i] & 0xc0 != 0x80).unwrap_or(window.len());
    let complete = std::str::from_utf8(&window[start..]).is_ok();
    if complete || start == 0 { window.len() } else { start }
}

pub(super) fn parse(line: &[u8]) -> Option<Record> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = match &*line.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    let (time, text) = (Timestamp::parse_rfc3339(&line.time)?, line.log.into_owned());
    Some(Record { stream, time, text, attributes: line.attrs.into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pending: &[u8], finish: bool) -> (Vec<Record>, usize) {
        let mut out = Vec::new();
        let (stream, attributes) = (Stream::Stdout, &Attributes::new());
        let taken = Cut { stream, attributes, finish, room: u64::MAX }.records(pending, &mut out);
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
    fn attributes_are_kept() {
        let attributes = Attributes::from([("k".to_owned(), "v".to_owned())]);
        let mut out = Vec::new();
        let stream = Stream::Stderr;
        let cut = Cut { stream, attributes: &attributes, finish: false, room: 1 };
        assert_eq!(cut.records(b"x\ny\n", &mut out), 2);
        let text = String::from_utf8(out).unwrap();
        let start = r#"{"log":"x\n","stream":"stderr","attrs":{"k":"v"},"time":""#;
        assert!(text.starts_with(start), "{text}");
        assert_eq!(parse(text.as_bytes()).unwrap().attributes, attributes);
    }
}
