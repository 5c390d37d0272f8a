//! The control line between `pinnace` (host) and `init` (guest): lines of text on one long connection, which the host dials.
//!
//! Served on vsock port [`crate::vsock::CONTROL_PORT`] and, in the namespace backend, on [`crate::paths::CONTROL_SOCKET`].
//!
//! ```text
//!   host                                          guest
//!     hello 2 gave-up engine-died read-only ────►             which events it takes
//!     ◄──────── hello 2 status clock power-off reboot engine config    which requests
//!     1 clock NANOS ────────────────────────────►
//!     2 config BYTES, and the bytes ────────────►
//!     ◄───────────────────────────── 1 offset -120031
//!     ◄───────────────────────────── 2 ok
//!     ◄───────────────────────────── event engine-died signal 9
//! ```
//!
//! Both sides may be of different releases. Each names in its `hello` what it takes, and nothing else is sent to it; the
//! lower of the two versions is spoken. Words behind those that a line is known to have are passed over, so that a
//! later release may add some. Version 1 had no `hello`, no numbers and no events: a guest of that release answers a
//! `hello` with an unnumbered `error`, and a host of that release begins with a request without a number.

mod answer;
mod buffer;
mod request;

pub use answer::{Answer, EngineOrigin, Event, FromGuest, Status};
pub use buffer::{LineBuffer, TooLong};
pub use request::{FromHost, Request};

/// Raised when lines get another form; a new request or event needs only its name in [`Hello::takes`].
pub const VERSION: u16 = 2;

/// Longest line, newline included, in bytes.
pub const LINE_MAX: usize = 1024;

/// Largest engine that [`Request::Engine`] takes, in bytes: it lies in the guest's memory.
pub const ENGINE_MAX: u64 = 64 << 20;

/// Largest document that [`Request::Config`] takes, in bytes: it lies in the guest's memory.
pub const CONFIG_MAX: u64 = 1 << 20;

/// Every request of this release, for the guest's [`Hello`].
pub const REQUESTS: &[&str] = &["status", "clock", "power-off", "reboot", "engine", "config"];

/// Every event of this release, for the host's [`Hello`].
pub const EVENTS: &[&str] = &["gave-up", "engine-died", "read-only"];

/// The first line of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`] of the sender.
    pub version: u16,
    /// The first words of what the sender takes.
    pub takes: Vec<String>,
}

/// Why a line is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a line of this release")]
pub struct BadLine {
    /// The request's number, where it had one: the answer needs it.
    pub number: Option<u32>,
}

impl Hello {
    /// That of this release.
    pub fn ours(takes: &[&str]) -> Hello {
        Hello { version: VERSION, takes: takes.iter().map(|word| (*word).to_owned()).collect() }
    }

    /// What a peer without a `hello` takes: that of version 1.
    pub fn first_version() -> Hello {
        let takes = ["status", "clock", "power-off", "reboot", "engine"];
        Hello { version: 1, takes: takes.map(str::to_owned).into() }
    }

    /// Whether the sender takes lines with this first word.
    pub fn takes(&self, word: &str) -> bool {
        self.takes.iter().any(|known| known == word)
    }

    /// The line with its newline.
    pub fn encode(&self) -> String {
        let mut line = format!("hello {}", self.version);
        self.takes.iter().for_each(|word| line.extend([" ", word]));
        line.push('\n');
        line
    }

    /// Reads what stands behind the word `hello`.
    fn decode(rest: &str) -> Option<Hello> {
        let mut words = rest.split_ascii_whitespace();
        let version = words.next()?.parse().ok().filter(|version| *version >= VERSION)?;
        Some(Hello { version, takes: words.map(str::to_owned).collect() })
    }
}

/// Splits a line into its number, if it begins with one, and the rest.
fn numbered(line: &str) -> (Option<u32>, &str) {
    let line = line.trim_end_matches(['\r', '\n']);
    match line.split_once(' ') {
        Some((first, rest)) if first.bytes().all(|byte| byte.is_ascii_digit()) => match first.parse() {
            Ok(number) => (Some(number), rest),
            Err(_) => (None, line),
        },
        _ => (None, line),
    }
}

/// The line with its number before it, where it has one, and its newline behind it.
fn finished(number: Option<u32>, text: String) -> String {
    match number {
        Some(number) => format!("{number} {text}\n"),
        None => format!("{text}\n"),
    }
}

/// Free text as the end of a line: without control characters, and short enough for any line.
pub(crate) fn plain(text: &str) -> String {
    const ROOM: usize = LINE_MAX - 64;
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=ROOM.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = Option<u32>> {
        proptest::option::of(any::<u32>())
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Status),
            any::<u64>().prop_map(|nanos| Request::Clock { nanos }),
            proptest::option::of(any::<u32>()).prop_map(|seconds| Request::PowerOff { seconds }),
            proptest::option::of(any::<u32>()).prop_map(|seconds| Request::Reboot { seconds }),
            any::<u64>().prop_map(|bytes| Request::Engine { bytes }),
            any::<u64>().prop_map(|bytes| Request::Config { bytes }),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-z][a-z0-9:/. -]{0,60}[a-z]"
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let status = (any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>(), any::<bool>());
        prop_oneof![
            Just(Answer::Done),
            any::<i64>().prop_map(|nanos| Answer::Offset { nanos }),
            text().prop_map(|text| Answer::Refused { text }),
            status.prop_map(|(pid, starts, millis, sent, read_only)| {
                let engine = if sent { EngineOrigin::Upgrade } else { EngineOrigin::Image };
                let version = "0.1.0".to_owned();
                let (engine_pid, engine_starts, boot_millis) = (pid, starts, millis);
                Answer::Status(Status { version, engine_pid, engine_starts, boot_millis, engine, read_only })
            }),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            text().prop_map(|reason| Event::GaveUp { reason }),
            text().prop_map(|how| Event::EngineDied { how }),
            Just(Event::ReadOnly),
        ]
    }

    proptest! {
        #[test]
        fn what_the_host_says_survives_the_way(number in number(), request in request()) {
            let line = request.encode(number);
            prop_assert!(line.len() <= LINE_MAX && line.ends_with('\n'));
            prop_assert_eq!(FromHost::decode(&line), Ok(FromHost::Request { number, request }));
            let longer = format!("{} later words\n", line.trim_end());
            let known = !matches!(request, Request::PowerOff { seconds: None } | Request::Reboot { seconds: None });
            if known {
                prop_assert_eq!(FromHost::decode(&longer), Ok(FromHost::Request { number, request }));
            }
        }

        #[test]
        fn what_the_guest_says_survives_the_way(number in any::<u32>(), answer in answer(), event in event()) {
            let line = answer.encode(Some(number));
            prop_assert!(line.len() <= LINE_MAX);
            prop_assert_eq!(FromGuest::decode(&line), Ok(FromGuest::Answer { number: Some(number), answer }));
            prop_assert_eq!(FromGuest::decode(&event.encode()), Ok(FromGuest::Event(event)));
        }

        #[test]
        fn any_line_is_read_without_panic_and_any_text_fits(line in ".{0,1200}", word in any::<String>()) {
            let _ = FromHost::decode(&line);
            let _ = FromGuest::decode(&line);
            for line in [Answer::Refused { text: line }.encode(Some(u32::MAX)), Event::GaveUp { reason: word }.encode()] {
                prop_assert!(line.len() <= LINE_MAX);
                prop_assert_eq!(line.matches('\n').count(), 1);
            }
        }

        #[test]
        fn lines_are_the_same_however_they_arrive(
            bytes in proptest::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n')], 0..3000),
            cuts in proptest::collection::vec(1usize..400, 1..20),
        ) {
            let read = |sizes: &mut dyn Iterator<Item = usize>| {
                let (mut buffer, mut got, mut rest) = (LineBuffer::default(), Vec::new(), &bytes[..]);
                while !rest.is_empty() {
                    let (chunk, tail) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                    rest = tail;
                    buffer.add(chunk);
                    loop {
                        match buffer.next_line() {
                            Ok(Some(line)) => got.push(line),
                            Ok(None) => break,
                            Err(TooLong) => return (got, true),
                        }
                    }
                }
                (got, false)
            };
            prop_assert_eq!(read(&mut cuts.iter().copied().cycle()), read(&mut std::iter::repeat(usize::MAX)));
        }
    }

    #[test]
    fn hellos_are_read_and_told_from_requests() {
        let hello = Hello::ours(REQUESTS);
        assert!(hello.encode().len() <= LINE_MAX && hello.takes("status") && !hello.takes("stat"));
        assert_eq!(FromGuest::decode(&hello.encode()), Ok(FromGuest::Hello(hello.clone())));
        assert_eq!(FromHost::decode(&hello.encode()), Ok(FromHost::Hello(hello)));
        let later = Hello { version: 9, takes: vec!["swim".into()] };
        assert_eq!(FromHost::decode("hello 9 swim\n"), Ok(FromHost::Hello(later)));
        for bad in ["hello", "hello 1", "hello x", "hello 70000", "hello -2"] {
            assert_eq!(FromHost::decode(bad), Err(BadLine { number: None }), "{bad}");
        }
    }

    #[test]
    fn what_is_no_request_keeps_its_number() {
        let check =
            |line: &str, number| assert_eq!(FromHost::decode(line), Err(BadLine { number }), "{line}");
        for line in ["", "7", "clock", "clock x", "engine -1", "STATUS", "4294967296 status", "-1 status"] {
            check(line, None);
        }
        check("7 swim 3", Some(7));
        check("7 clock", Some(7));
        check("7 power-off soon", Some(7));
    }

    #[test]
    fn the_first_version_is_understood() {
        let old = |line, request| {
            assert_eq!(FromHost::decode(line), Ok(FromHost::Request { number: None, request }))
        };
        old("status\n", Request::Status);
        old("power-off\n", Request::PowerOff { seconds: None });
        old("clock 5\n", Request::Clock { nanos: 5 });
        let line = FromGuest::decode("status 0.1.0 1 2 3 image");
        let Ok(FromGuest::Answer { number: None, answer: status }) = line else { panic!("{line:?}") };
        assert!(matches!(&status, Answer::Status(status) if !status.read_only));
        assert_eq!(status.encode(None), "status 0.1.0 1 2 3 image\n");
        assert_eq!(Answer::Offset { nanos: 7 }.encode(None), "ok\n");
        let answer = Answer::Refused { text: "unknown request".into() };
        assert_eq!(
            FromGuest::decode("error unknown request\n"),
            Ok(FromGuest::Answer { number: None, answer })
        );
    }
}
