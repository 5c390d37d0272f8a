//! What the host says.

use super::{BadLine, Hello, finished, numbered};

/// What the host asks of `init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `status`: answered with [`super::Answer::Status`].
    Status,
    /// `clock NANOS`: the host's clock. Answered with [`super::Answer::Offset`].
    Clock {
        /// Nanoseconds since 1970 UTC.
        nanos: u64,
    },
    /// `power-off [SECONDS]`: stop the containers, write all to disk, switch off. A second one shortens the time, never
    /// lengthens it.
    PowerOff {
        /// After so many seconds the guest goes on without those that have not stopped; its own 30 where absent.
        seconds: Option<u32>,
    },
    /// `reboot [SECONDS]`: the same, then start again. A wish to power off goes before it.
    Reboot {
        /// As with [`Request::PowerOff`].
        seconds: Option<u32>,
    },
    /// `engine BYTES`: an executable of so many bytes follows the line. It runs as the engine for the rest of this boot, in
    /// place of the one that runs now, which is killed before the answer; containers are not touched.
    Engine {
        /// Its size.
        bytes: u64,
    },
    /// `config BYTES`: the configuration document of this boot, of so many bytes, follows the line; `init` does not read it. The
    /// engine is started when it is there, where the settings say that it comes. The same one may come again, another may not.
    Config {
        /// Its size.
        bytes: u64,
    },
}

/// A line of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromHost {
    /// The first of a connection.
    Hello(Hello),
    /// A request.
    Request {
        /// Comes back with the answer. A host of version 1 gives none.
        number: Option<u32>,
        /// What is asked.
        request: Request,
    },
}

impl Request {
    /// Its first word, which the guest's [`Hello`] names if it takes it.
    pub fn word(&self) -> &'static str {
        match self {
            Request::Status => "status",
            Request::Clock { .. } => "clock",
            Request::PowerOff { .. } => "power-off",
            Request::Reboot { .. } => "reboot",
            Request::Engine { .. } => "engine",
            Request::Config { .. } => "config",
        }
    }

    /// The line with its newline.
    pub fn encode(&self, number: Option<u32>) -> String {
        let word = self.word();
        let value = match *self {
            Request::Status => None,
            Request::Clock { nanos: value }
            | Request::Engine { bytes: value }
            | Request::Config { bytes: value } => Some(value),
            Request::PowerOff { seconds } | Request::Reboot { seconds } => seconds.map(u64::from),
        };
        finished(number, value.map_or_else(|| word.to_owned(), |value| format!("{word} {value}")))
    }

    fn decode(text: &str) -> Option<Request> {
        let mut words = text.split_ascii_whitespace();
        let word = words.next()?;
        let mut seconds = || words.next().map(str::parse).transpose().ok();
        Some(match word {
            "status" => Request::Status,
            "power-off" => Request::PowerOff { seconds: seconds()? },
            "reboot" => Request::Reboot { seconds: seconds()? },
            "clock" => Request::Clock { nanos: words.next()?.parse().ok()? },
            "engine" => Request::Engine { bytes: words.next()?.parse().ok()? },
            "config" => Request::Config { bytes: words.next()?.parse().ok()? },
            _ => return None,
        })
    }
}

impl FromHost {
    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// It is none that this release knows.
    pub fn decode(line: &str) -> Result<FromHost, BadLine> {
        let (number, rest) = numbered(line);
        let bad = BadLine { number };
        match rest.strip_prefix("hello ") {
            Some(hello) if number.is_none() => Hello::decode(hello).map(FromHost::Hello).ok_or(bad),
            _ => Request::decode(rest).map(|request| FromHost::Request { number, request }).ok_or(bad),
        }
    }
}
