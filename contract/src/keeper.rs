//! The keeper's messages: what `init` (PID 1) and `engined` say to each other on a `SOCK_SEQPACKET` pair.
//!
//! One packet is one message; file descriptors ride along with SCM_RIGHTS. `init` holds, the engine decides:
//!
//! ```text
//!   engined                                     init
//!     Hello ───────────────────────────────────►
//!     ◄─────── Held (+fds), one for each key; Kept (+fds), one for each name ── then ReplayEnd
//!     Launched (+fds), sent by the container's own first process just before its execve
//!     ◄─────────────────────────────────────────── Exited
//!     Shed ────────────────────────────────────► closes some of its fds
//!     Ack ─────────────────────────────────────► forgets the key, closes its fds
//!     Keep (+fds) ─────────────────────────────► holds them under a name that is no process's
//!     Drop ────────────────────────────────────► closes them
//!     ◄────────────────────────────────────── PowerOff
//!     Stopped ─────────────────────────────────►
//! ```
//!
//! `Launched` comes from the new process itself, so the kernel's SCM_CREDENTIALS name its process id as PID 1
//! sees it, and registration happens before the program can run or end: there is no instant at which a
//! container runs and PID 1 does not know it. Because the packet is queued before the execve, `init` finds it
//! in its socket before it can reap the process.

/// Raised when a message changes its meaning or its bytes.
pub const PROTOCOL_VERSION: u16 = 2;

/// How an engine ends whose data disk was written by a newer release: BSD's EX_CONFIG, see sysexits(3). Another try would
/// end in the same way, so PID 1 makes none.
pub const EXIT_NEWER_DISK: i32 = 78;

/// Longest note that may ride on a message, in bytes.
pub const NOTE_MAX: usize = 512;

/// Most file descriptors on one message.
pub const FDS_MAX: usize = 8;

/// Longest name of kept descriptors, in bytes.
pub const NAME_MAX: usize = 64;

/// Most names that are kept at a time.
pub const NAMES_MAX: usize = 4096;

/// Longest message, in bytes.
pub const MESSAGE_MAX: usize = 64 + NOTE_MAX;

/// Names a registered process: the id of a container or of an exec, 32 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names descriptors that outlive the engine and belong to no process, such as a listening socket. The engine chooses it, by
/// kind and object: `port/tcp/8080`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// From 1 to [`NAME_MAX`] visible ASCII characters.
    pub fn new(text: impl Into<String>) -> Option<Name> {
        let text = text.into();
        let fits = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(Name(text))
    }

    /// Its characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a process ended, as wait4(2) told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The raw wait status (`WIFEXITED` and so on apply).
    pub status: i32,
    /// User CPU time, microseconds.
    pub user_micros: u64,
    /// System CPU time, microseconds.
    pub system_micros: u64,
    /// When it was reaped: nanoseconds since 1970 UTC.
    pub at_nanos: u64,
}

/// What `engined` (or a container's first process in its name) sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToKeeper {
    /// The engine is there and wants everything that is held.
    Hello {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u16,
    },
    /// The sender (by SCM_CREDENTIALS) is the process `key` and is about to execve. Descriptors: what shall
    /// outlive the engine (pipes or pty master).
    Launched {
        /// Name of the process.
        key: Key,
        /// Opaque to `init`, returned with [`FromKeeper::Held`].
        note: Vec<u8>,
    },
    /// The engine recorded the end of `key`: forget it.
    Ack {
        /// Name of the process.
        key: Key,
    },
    /// Every container is stopped and recorded: power off may go on.
    Stopped,
    /// Of the descriptors held for `key` only the first `keep` are needed any more: the others are closed, so that
    /// a program reads the end of its standard input when its client closed it.
    Shed {
        /// Name of the process.
        key: Key,
        /// How many stay.
        keep: u8,
    },
    /// Holds the message's descriptors under `name`, in the place of those that have it.
    Keep {
        /// What they are called.
        name: Name,
    },
    /// Closes what is kept under `name`.
    Drop {
        /// What it is called.
        name: Name,
    },
}

/// What `init` sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromKeeper {
    /// One registered process, with its descriptors.
    Held {
        /// Name of the process.
        key: Key,
        /// Process id in PID 1's namespace.
        pid: u32,
        /// How it ended, if it did.
        exit: Option<Exit>,
        /// As it came with [`ToKeeper::Launched`].
        note: Vec<u8>,
    },
    /// What is kept under a name, with its descriptors.
    Kept {
        /// As it came with [`ToKeeper::Keep`].
        name: Name,
    },
    /// All that was held has been sent.
    ReplayEnd,
    /// A registered process ended.
    Exited {
        /// Name of the process.
        key: Key,
        /// Process id in PID 1's namespace.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// The machine goes down: stop the containers, then answer [`ToKeeper::Stopped`]. A second one comes when there is less
    /// time than the first said.
    PowerOff {
        /// Milliseconds that a container may take to stop; a little later `init` goes on without an answer.
        millis: u32,
    },
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter or longer than its kind says.
    #[error("keeper message has a wrong length")]
    Length,
    /// A kind this version does not know.
    #[error("keeper message of unknown kind {0}")]
    Kind(u8),
    /// What stands in the place of a name is none.
    #[error("keeper message with a name that is none")]
    Name,
}

impl ToKeeper {
    /// The packet's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MESSAGE_MAX);
        match self {
            ToKeeper::Hello { version } => {
                out.push(1);
                out.extend(version.to_le_bytes());
            }
            ToKeeper::Launched { key, note } => {
                out.push(2);
                out.extend(key.0);
                out.extend(note);
            }
            ToKeeper::Ack { key } => {
                out.push(3);
                out.extend(key.0);
            }
            ToKeeper::Stopped => out.push(4),
            ToKeeper::Shed { key, keep } => {
                out.push(5);
                out.extend(key.0);
                out.push(*keep);
            }
            ToKeeper::Keep { name } => {
                out.push(6);
                out.extend(name.as_str().bytes());
            }
            ToKeeper::Drop { name } => {
                out.push(7);
                out.extend(name.as_str().bytes());
            }
        }
        out
    }

    /// Reads a packet's bytes.
    pub fn decode(bytes: &[u8]) -> Result<ToKeeper, DecodeError> {
        let mut reader = Reader(bytes);
        let message = match reader.take::<1>()?[0] {
            1 => ToKeeper::Hello { version: u16::from_le_bytes(reader.take()?) },
            2 => ToKeeper::Launched { key: Key(reader.take()?), note: reader.note()? },
            3 => ToKeeper::Ack { key: Key(reader.take()?) },
            4 => ToKeeper::Stopped,
            5 => ToKeeper::Shed { key: Key(reader.take()?), keep: reader.take::<1>()?[0] },
            6 => ToKeeper::Keep { name: reader.name()? },
            7 => ToKeeper::Drop { name: reader.name()? },
            kind => return Err(DecodeError::Kind(kind)),
        };
        reader.end(message)
    }
}

impl FromKeeper {
    /// The packet's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MESSAGE_MAX);
        match self {
            FromKeeper::Held { key, pid, exit, note } => {
                out.push(1);
                out.extend(key.0);
                out.extend(pid.to_le_bytes());
                out.push(u8::from(exit.is_some()));
                if let Some(exit) = exit {
                    exit.encode(&mut out);
                }
                out.extend(note);
            }
            FromKeeper::ReplayEnd => out.push(2),
            FromKeeper::Exited { key, pid, exit } => {
                out.push(3);
                out.extend(key.0);
                out.extend(pid.to_le_bytes());
                exit.encode(&mut out);
            }
            FromKeeper::PowerOff { millis } => {
                out.push(4);
                out.extend(millis.to_le_bytes());
            }
            FromKeeper::Kept { name } => {
                out.push(5);
                out.extend(name.as_str().bytes());
            }
        }
        out
    }

    /// Reads a packet's bytes.
    pub fn decode(bytes: &[u8]) -> Result<FromKeeper, DecodeError> {
        let mut reader = Reader(bytes);
        let message = match reader.take::<1>()?[0] {
            1 => {
                let key = Key(reader.take()?);
                let pid = u32::from_le_bytes(reader.take()?);
                let exit = match reader.take::<1>()?[0] {
                    0 => None,
                    _ => Some(Exit::decode(&mut reader)?),
                };
                FromKeeper::Held { key, pid, exit, note: reader.note()? }
            }
            2 => FromKeeper::ReplayEnd,
            3 => FromKeeper::Exited {
                key: Key(reader.take()?),
                pid: u32::from_le_bytes(reader.take()?),
                exit: Exit::decode(&mut reader)?,
            },
            4 => FromKeeper::PowerOff { millis: u32::from_le_bytes(reader.take()?) },
            5 => FromKeeper::Kept { name: reader.name()? },
            kind => return Err(DecodeError::Kind(kind)),
        };
        reader.end(message)
    }
}

impl Exit {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.status.to_le_bytes());
        out.extend(self.user_micros.to_le_bytes());
        out.extend(self.system_micros.to_le_bytes());
        out.extend(self.at_nanos.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Exit, DecodeError> {
        Ok(Exit {
            status: i32::from_le_bytes(reader.take()?),
            user_micros: u64::from_le_bytes(reader.take()?),
            system_micros: u64::from_le_bytes(reader.take()?),
            at_nanos: u64::from_le_bytes(reader.take()?),
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Length)?;
        self.0 = tail;
        Ok(*head)
    }

    fn note(&mut self) -> Result<Vec<u8>, DecodeError> {
        let note = std::mem::take(&mut self.0);
        if note.len() > NOTE_MAX { Err(DecodeError::Length) } else { Ok(note.to_vec()) }
    }

    fn name(&mut self) -> Result<Name, DecodeError> {
        let text = String::from_utf8(std::mem::take(&mut self.0).to_vec());
        text.ok().and_then(Name::new).ok_or(DecodeError::Name)
    }

    fn end<T>(self, message: T) -> Result<T, DecodeError> {
        if self.0.is_empty() { Ok(message) } else { Err(DecodeError::Length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = Key([7; 32]);
    const EXIT: Exit = Exit { status: 0x8900, user_micros: 3, system_micros: 4, at_nanos: 5 };

    #[test]
    fn messages_survive_the_way() {
        for message in [
            ToKeeper::Hello { version: PROTOCOL_VERSION },
            ToKeeper::Launched { key: KEY, note: vec![1; NOTE_MAX] },
            ToKeeper::Ack { key: KEY },
            ToKeeper::Stopped,
            ToKeeper::Shed { key: KEY, keep: 2 },
            ToKeeper::Keep { name: Name::new("port/tcp/80").unwrap() },
            ToKeeper::Drop { name: Name::new("x".repeat(NAME_MAX)).unwrap() },
        ] {
            let bytes = message.encode();
            assert!(bytes.len() <= MESSAGE_MAX);
            assert_eq!(ToKeeper::decode(&bytes), Ok(message));
        }
        for message in [
            FromKeeper::Held { key: KEY, pid: 9, exit: None, note: b"n".to_vec() },
            FromKeeper::Held { key: KEY, pid: 9, exit: Some(EXIT), note: vec![2; 400] },
            FromKeeper::ReplayEnd,
            FromKeeper::Exited { key: KEY, pid: 9, exit: EXIT },
            FromKeeper::PowerOff { millis: 30 },
            FromKeeper::Kept { name: Name::new("a").unwrap() },
        ] {
            assert_eq!(FromKeeper::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn too_long_and_too_short_are_refused() {
        let long = ToKeeper::Launched { key: KEY, note: vec![0; NOTE_MAX + 1] };
        assert_eq!(ToKeeper::decode(&long.encode()), Err(DecodeError::Length));
        assert_eq!(ToKeeper::decode(&[4, 0]), Err(DecodeError::Length));
        assert_eq!(ToKeeper::decode(&[]), Err(DecodeError::Length));
        for name in [&[][..], &[b'x'; NAME_MAX + 1], b"a b", b"\xff"] {
            assert_eq!(ToKeeper::decode(&[&[6], name].concat()), Err(DecodeError::Name), "{name:?}");
        }
        assert_eq!(ToKeeper::decode(&[99]), Err(DecodeError::Kind(99)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = ToKeeper::decode(&bytes);
            let _ = FromKeeper::decode(&bytes);
        }
    }
}
