//! The control lines between `pinnace` (host) and `init` (guest): one request line, one answer line, ASCII.
//!
//! Served on vsock port [`crate::vsock::CONTROL_PORT`] and, in the namespace backend, on
//! [`crate::paths::CONTROL_SOCKET`]. A connection may carry any number of requests.

/// Longest line, newline included, in bytes.
pub const LINE_MAX: usize = 256;

/// Largest engine that [`Request::Engine`] takes, in bytes: it lies in the guest's memory.
pub const ENGINE_MAX: u64 = 64 << 20;

/// What the host asks of `init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `status`: answered with [`Answer::Status`].
    Status,
    /// `clock NANOS`: the host's clock, nanoseconds since 1970 UTC.
    Clock(u64),
    /// `power-off`: stop the containers, write all to disk, switch off.
    PowerOff,
    /// `reboot`: the same, then start again.
    Reboot,
    /// `engine BYTES`: an executable of so many bytes follows the line. It runs as the engine for the rest of this boot, in
    /// place of the one that runs now, which is killed before the answer; containers are not touched.
    Engine(u64),
}

/// Which `engined` PID 1 starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineOrigin {
    /// `image`: the image's own.
    Image,
    /// `upgrade`: the one of [`Request::Engine`].
    Upgrade,
}

/// What `init` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `ok`: done, or begun for [`Request::PowerOff`] and [`Request::Reboot`].
    Ok,
    /// `status VERSION ENGINE-PID ENGINE-STARTS BOOT-MILLIS ENGINE-ORIGIN`.
    Status {
        /// Release of the guest.
        version: String,
        /// Process id of `engined`, 0 while it is not running.
        engine_pid: u32,
        /// How often `engined` was started in this boot.
        engine_starts: u32,
        /// From `init`'s first instruction to the end of its last boot phase, in milliseconds.
        boot_millis: u32,
        /// Which engine it is.
        engine: EngineOrigin,
    },
    /// `error TEXT`: not done, and why.
    Error(String),
}

impl Request {
    /// The line with its newline.
    pub fn encode(&self) -> String {
        match self {
            Request::Status => "status\n".to_owned(),
            Request::Clock(nanos) => format!("clock {nanos}\n"),
            Request::PowerOff => "power-off\n".to_owned(),
            Request::Reboot => "reboot\n".to_owned(),
            Request::Engine(bytes) => format!("engine {bytes}\n"),
        }
    }

    /// Reads a line, with or without its newline.
    pub fn decode(line: &str) -> Option<Request> {
        let mut words = line.split_ascii_whitespace();
        let request = match words.next()? {
            "status" => Request::Status,
            "clock" => Request::Clock(words.next()?.parse().ok()?),
            "power-off" => Request::PowerOff,
            "reboot" => Request::Reboot,
            "engine" => Request::Engine(words.next()?.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(request)
    }
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

impl Answer {
    /// The line with its newline.
    pub fn encode(&self) -> String {
        match self {
            Answer::Ok => "ok\n".to_owned(),
            Answer::Status { version, engine_pid, engine_starts, boot_millis, engine } => {
                format!("status {version} {engine_pid} {engine_starts} {boot_millis} {}\n", engine.word())
            }
            Answer::Error(text) => format!("error {}\n", text.replace('\n', " ")),
        }
    }

    /// Reads a line, with or without its newline.
    pub fn decode(line: &str) -> Option<Answer> {
        let line = line.trim_end_matches('\n');
        if let Some(text) = line.strip_prefix("error ") {
            return Some(Answer::Error(text.to_owned()));
        }
        let mut words = line.split_ascii_whitespace();
        let answer = match words.next()? {
            "ok" => Answer::Ok,
            "status" => Answer::Status {
                version: words.next()?.to_owned(),
                engine_pid: words.next()?.parse().ok()?,
                engine_starts: words.next()?.parse().ok()?,
                boot_millis: words.next()?.parse().ok()?,
                engine: EngineOrigin::decode(words.next()?)?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_way() {
        let simple = [Request::Status, Request::PowerOff, Request::Reboot];
        for request in simple.into_iter().chain([Request::Clock(u64::MAX), Request::Engine(ENGINE_MAX)]) {
            assert_eq!(Request::decode(&request.encode()), Some(request));
            assert!(request.encode().len() <= LINE_MAX);
        }
        for bad in ["", "clock", "clock x", "engine -1", "status now", "STATUS"] {
            assert_eq!(Request::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn answers_survive_the_way() {
        let status = Answer::Status {
            version: "0.1.0".into(),
            engine_pid: 7,
            engine_starts: 2,
            boot_millis: 310,
            engine: EngineOrigin::Upgrade,
        };
        for answer in [Answer::Ok, status, Answer::Error("no clock".into())] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        assert_eq!(Answer::decode("status 1"), None);
    }
}
