//! What the guest says.

use super::{BadLine, Hello, finished, numbered, plain};

/// Which `engined` PID 1 starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineOrigin {
    /// `image`: the image's own.
    Image,
    /// `upgrade`: the one of [`super::Request::Engine`].
    Upgrade,
}

/// How the guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Release of the guest.
    pub version: String,
    /// Process id of `engined`, 0 while it is not running.
    pub engine_pid: u32,
    /// How often `engined` was started in this boot.
    pub engine_starts: u32,
    /// From `init`'s first instruction to the end of its last boot phase, in milliseconds.
    pub boot_millis: u32,
    /// Which engine it is.
    pub engine: EngineOrigin,
    /// The data disk is damaged and can only be read until the next boot.
    pub read_only: bool,
}

/// What `init` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `ok`: done, or begun for [`super::Request::PowerOff`] and [`super::Request::Reboot`].
    Done,
    /// `offset NANOS`: so much the guest's clock was ahead of the host's before it was set.
    Offset {
        /// Negative where it was behind.
        nanos: i64,
    },
    /// `status VERSION ENGINE-PID ENGINE-STARTS BOOT-MILLIS ENGINE-ORIGIN DATA`, the last `writable` or `read-only`.
    Status(Status),
    /// `error TEXT`: not done, and why.
    Refused {
        /// For a person.
        text: String,
    },
}

/// What `init` says unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `gave-up REASON`: the machine ends itself, and not because somebody wished it.
    GaveUp {
        /// For a person.
        reason: String,
    },
    /// `engine-died HOW`: it ended, and is started again.
    EngineDied {
        /// For a person.
        how: String,
    },
    /// `read-only`: the data disk is damaged and can only be read until the next boot.
    ReadOnly,
}

/// A line of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGuest {
    /// The first of a connection.
    Hello(Hello),
    /// To a request.
    Answer {
        /// The request's.
        number: Option<u32>,
        /// What is answered.
        answer: Answer,
    },
    /// `event WORD …`.
    Event(Event),
}

impl EngineOrigin {
    /// Its word in a line.
    pub fn word(self) -> &'static str {
        match self {
            EngineOrigin::Image => "image",
            EngineOrigin::Upgrade => "upgrade",
        }
    }

    fn decode(word: &str) -> Option<EngineOrigin> {
        [EngineOrigin::Image, EngineOrigin::Upgrade].into_iter().find(|origin| origin.word() == word)
    }
}

impl Status {
    /// Version 1 refuses words behind those it knows.
    fn encode(&self, first_version: bool) -> String {
        let Status { version, engine_pid, engine_starts, boot_millis, engine, read_only } = self;
        let data = match (first_version, read_only) {
            (true, _) => "",
            (false, false) => " writable",
            (false, true) => " read-only",
        };
        format!("status {version} {engine_pid} {engine_starts} {boot_millis} {}{data}", engine.word())
    }

    fn decode(rest: &str) -> Option<Status> {
        let mut words = rest.split_ascii_whitespace();
        Some(Status {
            version: words.next()?.to_owned(),
            engine_pid: words.next()?.parse().ok()?,
            engine_starts: words.next()?.parse().ok()?,
            boot_millis: words.next()?.parse().ok()?,
            engine: EngineOrigin::decode(words.next()?)?,
            read_only: words.next() == Some("read-only"),
        })
    }
}

impl Answer {
    /// The line with its newline. Without a number it is one of version 1, which knew no offset.
    pub fn encode(&self, number: Option<u32>) -> String {
        let text = match self {
            Answer::Offset { nanos } if number.is_some() => format!("offset {nanos}"),
            Answer::Done | Answer::Offset { .. } => "ok".to_owned(),
            Answer::Status(status) => status.encode(number.is_none()),
            Answer::Refused { text } => format!("error {}", plain(text)),
        };
        finished(number, text)
    }

    fn decode(text: &str) -> Option<Answer> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(match word {
            "ok" => Answer::Done,
            "offset" => Answer::Offset { nanos: rest.split_ascii_whitespace().next()?.parse().ok()? },
            "status" => Answer::Status(Status::decode(rest)?),
            "error" => Answer::Refused { text: rest.to_owned() },
            _ => return None,
        })
    }
}

impl Event {
    /// Its first word, which the host's [`Hello`] names if it takes it.
    pub fn word(&self) -> &'static str {
        match self {
            Event::GaveUp { .. } => "gave-up",
            Event::EngineDied { .. } => "engine-died",
            Event::ReadOnly => "read-only",
        }
    }

    /// The line with its newline.
    pub fn encode(&self) -> String {
        let text = match self {
            Event::GaveUp { reason: text } | Event::EngineDied { how: text } => format!(" {}", plain(text)),
            Event::ReadOnly => String::new(),
        };
        format!("event {}{text}\n", self.word())
    }

    fn decode(text: &str) -> Option<Event> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "gave-up" => Some(Event::GaveUp { reason: rest.to_owned() }),
            "engine-died" => Some(Event::EngineDied { how: rest.to_owned() }),
            "read-only" => Some(Event::ReadOnly),
            _ => None,
        }
    }
}

impl FromGuest {
    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// It is none that this release knows.
    pub fn decode(line: &str) -> Result<FromGuest, BadLine> {
        let (number, rest) = numbered(line);
        let bad = BadLine { number };
        if let (None, Some(hello)) = (number, rest.strip_prefix("hello ")) {
            return Hello::decode(hello).map(FromGuest::Hello).ok_or(bad);
        }
        if let (None, Some(event)) = (number, rest.strip_prefix("event ")) {
            return Event::decode(event).map(FromGuest::Event).ok_or(bad);
        }
        Answer::decode(rest).map(|answer| FromGuest::Answer { number, answer }).ok_or(bad)
    }
}
