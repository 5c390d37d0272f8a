//! The host's end of the control line ([`contract::line`]): one long connection to `init`, dialled again when it breaks.
//!
//! ```text
//!   dial ──► hello both ways ──► welcome ──► requests, one at a time, and events between them
//!    ▲                                                                   │
//!    └───────────────────────────── broken ◄─────────────────────────────┘
//! ```
//!
//! The guest may be of another release, and may be hostile: no line of it is longer than agreed, none that is strange
//! does more than be told, and each request has its time.

use crate::backend::{Link, Port};
use crate::stream::Stream;
use contract::config::Config;
use contract::line::{Answer, Event, FromGuest, Hello, LineBuffer, Request};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// A guest that does not answer a request within this is not waited for.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Between two dials that were refused: short at first, for a boot in namespaces takes milliseconds.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];
/// After so many dials the longer pause is kept.
const EAGER_DIALS: u32 = 500;
/// After a line broke.
const BROKEN_PAUSE: Duration = Duration::from_millis(100);
/// Events that wait to be heard; a guest that tells more in one go is not heard on all of them.
const EVENTS_WAITING: usize = 16;
/// Bytes read at a time.
const CHUNK: usize = 4 << 10;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The guest's `hello` did not name it.
    #[error("the guest does not know {word}: it is of another release")]
    Unknown {
        /// The request.
        word: &'static str,
    },
    /// It did not come in time.
    #[error("the guest does not answer on its control line")]
    Mute,
    /// The connection failed.
    #[error("the control line broke")]
    Broken(#[from] io::Error),
}

/// The line of one boot; the connection ends with it.
pub struct Line {
    calls: mpsc::Sender<Call>,
    welcomed: watch::Receiver<Welcomed>,
    task: tokio::task::JoinHandle<()>,
}

/// Hears the events that come while something else is waited for.
type Tell<'a> = dyn FnMut(Event) + Send + 'a;

struct Call {
    request: Request,
    answer: oneshot::Sender<Result<Answer, LineError>>,
}

/// What a guest is told before anything else.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// It has a clock of its own, which only the host knows to be right.
    pub clock: bool,
    /// Its configuration. Its engine waits for this, so that it finds the clock right, too.
    pub config: Config,
}

/// How far it came with that.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Welcomed {
    NotYet,
    Yes,
    /// It does not take its configuration, and why.
    Unfit(String),
}

impl Line {
    /// Dials until the guest answers; also returns where its events arrive.
    pub fn begin(link: Arc<dyn Link>, welcome: Welcome) -> (Line, mpsc::Receiver<Event>) {
        let (calls, waiting) = mpsc::channel(EVENTS_WAITING);
        let (tell, events) = mpsc::channel(EVENTS_WAITING);
        let (welcomed, seen) = watch::channel(Welcomed::NotYet);
        let keeper = LineKeeper { link, welcome, waiting, tell, welcomed };
        let task = tokio::spawn(keeper.keep());
        (Line { calls, welcomed: seen, task }, events)
    }

    /// Whether the guest was welcomed in this boot: before that it has started nothing.
    pub fn was_welcomed(&self) -> bool {
        *self.welcomed.borrow() == Welcomed::Yes
    }

    /// Waits until the guest was welcomed; the error is why it does not take its configuration.
    pub async fn welcomed(&self) -> Result<(), String> {
        let mut welcomed = self.welcomed.clone();
        // The sender lives as long as the task, which only ends with this value.
        match welcomed.wait_for(|welcomed| *welcomed != Welcomed::NotYet).await.as_deref() {
            Ok(Welcomed::Unfit(why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// Asks the guest one thing.
    pub async fn ask(&self, request: Request) -> Result<Answer, LineError> {
        let asked = async {
            let (answer, heard) = oneshot::channel();
            let sent = self.calls.send(Call { request, answer }).await;
            sent.map_err(|_| LineError::Mute)?;
            heard.await.unwrap_or(Err(LineError::Mute))
        };
        timeout(ANSWER_DEADLINE, asked).await.unwrap_or(Err(LineError::Mute))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends an engine of `bytes` bytes, on a connection of its own: nothing else waits for it.
pub async fn send_engine(
    link: &dyn Link,
    bytes: u64,
    engine: &mut (impl AsyncRead + Unpin),
) -> Result<Answer, LineError> {
    let mut connection =
        timeout(ANSWER_DEADLINE, Connection::open(link)).await.map_err(|_| LineError::Mute)??;
    let number = connection.say(Request::Engine { bytes }).await?;
    // A guest that does not want them answers before their end.
    let copied = tokio::io::copy(engine, &mut connection.write).await;
    // So that it does not wait for bytes whose sender is gone.
    let ended = connection.write.shutdown().await;
    let answer = connection.answer(number, &mut |_| {}).await;
    if let (Err(_), Err(error)) = (&answer, copied.map(drop).and(ended)) {
        return Err(error.into());
    }
    answer
}

/// The task behind a [`Line`].
struct LineKeeper {
    link: Arc<dyn Link>,
    welcome: Welcome,
    waiting: mpsc::Receiver<Call>,
    tell: mpsc::Sender<Event>,
    welcomed: watch::Sender<Welcomed>,
}

impl LineKeeper {
    async fn keep(mut self) {
        loop {
            let mut connection = self.dial().await;
            if let Err(error) = self.serve(&mut connection).await {
                tracing::debug!("{error}");
            }
            tokio::time::sleep(BROKEN_PAUSE).await;
        }
    }

    /// A guest that has not come so far refuses, or its PID 1 does not say hello yet.
    async fn dial(&self) -> Connection {
        let mut dials = 0_u32;
        loop {
            if let Ok(connection) = Connection::open(&*self.link).await {
                return connection;
            }
            tokio::time::sleep(PAUSES[usize::from(dials >= EAGER_DIALS)]).await;
            dials = dials.saturating_add(1);
        }
    }

    /// Until the connection breaks.
    async fn serve(&mut self, connection: &mut Connection) -> Result<(), LineError> {
        let tell = self.tell.clone();
        // Whoever floods is not heard on everything.
        let mut tell = move |event| drop(tell.try_send(event));
        let welcomed = self.greet(connection, &mut tell).await?;
        self.welcomed.send_replace(welcomed);
        loop {
            tokio::select! {
                call = self.waiting.recv() => {
                    let Some(call) = call else { return Ok(()) };
                    if call.answer.is_closed() {
                        continue;
                    }
                    let answer = connection.exchange(call.request, &mut tell).await;
                    let broken = matches!(answer, Err(LineError::Broken(_)));
                    // Whoever asked may have gone.
                    let _ = call.answer.send(answer);
                    if broken {
                        return Ok(());
                    }
                }
                line = connection.next_line() => {
                    if let Ok(FromGuest::Event(event)) = FromGuest::decode(&line?) {
                        tell(event);
                    }
                }
            }
        }
    }

    async fn greet(&self, connection: &mut Connection, tell: &mut Tell<'_>) -> Result<Welcomed, LineError> {
        if self.welcome.clock {
            match connection.exchange(Request::Clock { nanos: 0 }, tell).await {
                Ok(Answer::Offset { .. } | Answer::Done) => {}
                Err(LineError::Broken(error)) => return Err(error.into()),
                other => tracing::warn!("the guest cannot be told the time: {other:?}"),
            }
        }
        match connection.configure(&self.welcome.config, tell).await {
            Ok(Answer::Done) => Ok(Welcomed::Yes),
            Ok(Answer::Refused { text }) => Ok(Welcomed::Unfit(text)),
            Ok(other) => Ok(Welcomed::Unfit(format!("it answers {other:?}"))),
            // One without mirrors, mapped ids and the like needs none.
            Err(LineError::Unknown { .. }) if self.welcome.config == Config::default() => Ok(Welcomed::Yes),
            Err(error @ LineError::Unknown { .. }) => Ok(Welcomed::Unfit(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

/// An open line after both said hello.
struct Connection {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    arrived: LineBuffer,
    guest: Hello,
    numbers: u32,
}

impl Connection {
    /// A guest of the first version does not know `hello`, and says so without a number.
    async fn open(link: &dyn Link) -> io::Result<Connection> {
        let (read, write) = tokio::io::split(link.dial(Port::Control).await?);
        let (arrived, guest) = (LineBuffer::default(), Hello::first_version());
        let mut connection = Connection { read, write, arrived, guest, numbers: 0 };
        connection.write.write_all(Hello::ours(contract::line::EVENTS).encode().as_bytes()).await?;
        match FromGuest::decode(&connection.next_line().await?) {
            Ok(FromGuest::Hello(hello)) => connection.guest = hello,
            Ok(FromGuest::Answer { number: None, answer: Answer::Refused { .. } }) => {}
            other => return Err(io::Error::other(format!("the guest greets with {other:?}"))),
        }
        Ok(connection)
    }

    /// Asks, and hears events until the answer comes.
    async fn exchange(&mut self, request: Request, tell: &mut Tell<'_>) -> Result<Answer, LineError> {
        let number = self.say(request).await?;
        timeout(ANSWER_DEADLINE, self.answer(number, tell)).await.unwrap_or(Err(LineError::Mute))
    }

    /// Sends the configuration.
    async fn configure(&mut self, config: &Config, tell: &mut Tell<'_>) -> Result<Answer, LineError> {
        let document = config.to_bytes();
        let number = self.say(Request::Config { bytes: document.len() as u64 }).await?;
        let sent = async {
            self.write.write_all(&document).await?;
            self.answer(number, tell).await
        };
        // A guest that does not take it all cannot be asked anything else.
        timeout(ANSWER_DEADLINE, sent).await.unwrap_or(Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// Sends a request; returns the number that its answer will have.
    async fn say(&mut self, request: Request) -> Result<Option<u32>, LineError> {
        if !self.guest.takes(request.word()) {
            return Err(LineError::Unknown { word: request.word() });
        }
        let request = match request {
            // What time it is is only known once the line is about to go.
            Request::Clock { .. } => Request::Clock { nanos: now_nanos() },
            Request::PowerOff { .. } if self.guest.version < 2 => Request::PowerOff { seconds: None },
            other => other,
        };
        self.numbers = self.numbers.wrapping_add(1);
        let number = (self.guest.version >= 2).then_some(self.numbers);
        let line = request.encode(number);
        let written = timeout(ANSWER_DEADLINE, self.write.write_all(line.as_bytes())).await;
        // Half of a line may be on its way.
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(number)
    }

    /// What comes with another number answers somebody who did not wait so long.
    async fn answer(&mut self, wanted: Option<u32>, tell: &mut Tell<'_>) -> Result<Answer, LineError> {
        loop {
            let line = self.next_line().await?;
            match FromGuest::decode(&line) {
                Ok(FromGuest::Answer { number, answer }) if number == wanted => return Ok(answer),
                Ok(FromGuest::Event(event)) => tell(event),
                Ok(_) => {}
                Err(bad) if bad.number.is_some() && bad.number == wanted => {
                    return Err(io::Error::other(format!("the guest answered {line:?}")).into());
                }
                Err(_) => tracing::debug!("the guest says {line:?}"),
            }
        }
    }

    /// May be dropped and called again.
    async fn next_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(line) = self.arrived.next_line().map_err(io::Error::other)? {
                return Ok(line);
            }
            let mut chunk = [0; CHUNK];
            match self.read.read(&mut chunk).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.arrived.add(&chunk[..length]),
            }
        }
    }
}

/// Nanoseconds since 1970 UTC; they fit into 64 bits until 2554.
pub fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
