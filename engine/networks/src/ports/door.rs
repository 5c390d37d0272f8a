//! The engine's side of the host door ([`contract::door`]): one task that serves whichever host dialled last.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use contract::door::{Answer, LINE_MAX, Publication, Request, hello, hello_version};
use contract::line::LineBuffer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

/// A host that says nothing for so long is as good as none.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the host is asked.
pub struct Door {
    calls: mpsc::UnboundedSender<Call>,
    is_open: watch::Receiver<bool>,
}

/// The task's end. It is moved into a task that calls [`Server::serve`] with each connection.
pub struct Server {
    calls: mpsc::UnboundedReceiver<Call>,
    is_open: watch::Sender<bool>,
    again: Box<dyn Fn() -> Vec<Publication> + Send>,
}

struct Call {
    request: Request,
    answer: SyncSender<Answer>,
}

/// `again` tells what a host that connects has to open.
pub(super) fn new(again: impl Fn() -> Vec<Publication> + Send + 'static) -> (Door, Server) {
    let (calls, taken) = mpsc::unbounded_channel();
    let (open, is_open) = watch::channel(false);
    (Door { calls, is_open }, Server { calls: taken, is_open: open, again: Box::new(again) })
}

impl Door {
    /// Whether a host is there to be asked.
    pub fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    /// Asks the host and waits for its answer. Nothing where no host is connected, or where it goes away meanwhile: the next
    /// one is told of all that is published. Blocks.
    pub fn ask(&self, request: Request) -> Option<Answer> {
        if !self.is_open() {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        self.calls.send(Call { request, answer }).ok()?;
        match answered.recv_timeout(DEADLINE) {
            Ok(answer) => Some(answer),
            Err(_) => {
                tracing::warn!(?request, "the host did not answer");
                None
            }
        }
    }
}

/// What the host owes an answer to.
enum Owed {
    Call(SyncSender<Answer>),
    Again(Publication),
    Settled,
}

/// One connection.
struct Line {
    read: OwnedReadHalf,
    lines: LineBuffer,
    out: OwnedWriteHalf,
    number: u32,
    owed: BTreeMap<u32, Owed>,
}

impl Server {
    /// Serves every connection that arrives, one at a time, for ever: a new one takes the place of the one before.
    pub async fn serve(mut self, mut connections: mpsc::Receiver<UnixStream>) {
        let mut next = None;
        loop {
            let Some(stream) = (match next.take() {
                Some(stream) => Some(stream),
                None => connections.recv().await,
            }) else {
                return;
            };
            tokio::select! {
                ended = self.connection(stream) => match ended {
                    Ok(()) => tracing::info!("the host has left its door"),
                    Err(error) => tracing::warn!(%error, "the host's door is closed"),
                },
                newer = connections.recv() => next = newer,
            }
            self.is_open.send_replace(false);
            // Whoever was waiting learns that there is no host: its end of the answer is dropped.
            while self.calls.try_recv().is_ok() {}
        }
    }

    async fn connection(&mut self, stream: UnixStream) -> std::io::Result<()> {
        let (read, out) = stream.into_split();
        let mut line = Line { read, lines: LineBuffer::default(), out, number: 0, owed: BTreeMap::new() };
        line.out.write_all(hello().as_bytes()).await?;
        let Some(first) = line.next().await? else { return Ok(()) };
        if hello_version(&first).is_none() {
            return Err(std::io::Error::other("the host said no hello"));
        }
        // From here on what is published is asked for here; what was published before is in the book.
        self.is_open.send_replace(true);
        for publication in (self.again)() {
            line.ask(Request::Publish(publication), Owed::Again(publication)).await?;
        }
        line.ask(Request::Settled, Owed::Settled).await?;
        loop {
            tokio::select! {
                Some(call) = self.calls.recv() => line.ask(call.request, Owed::Call(call.answer)).await?,
                answer = line.next() => match answer? {
                    Some(text) => line.answered(&text),
                    None => return Ok(()),
                },
            }
        }
    }
}

impl Line {
    /// The next line of the host's; nothing at its end. May be dropped and called again: what was read stays in the buffer.
    async fn next(&mut self) -> std::io::Result<Option<String>> {
        loop {
            let line =
                self.lines.next_line().map_err(|_| std::io::Error::other("the host's line is too long"))?;
            if line.is_some() {
                return Ok(line);
            }
            let mut bytes = [0; LINE_MAX];
            match self.read.read(&mut bytes).await? {
                0 => return Ok(None),
                count => self.lines.add(&bytes[..count]),
            }
        }
    }

    async fn ask(&mut self, request: Request, owed: Owed) -> std::io::Result<()> {
        self.number = self.number.wrapping_add(1);
        self.owed.insert(self.number, owed);
        self.out.write_all(request.encode(self.number).as_bytes()).await
    }

    fn answered(&mut self, text: &str) {
        let Some((owed, answer)) =
            Answer::decode(text).and_then(|(number, answer)| Some((self.owed.remove(&number)?, answer)))
        else {
            return tracing::warn!(text, "the host answered what nobody asked");
        };
        match (owed, answer) {
            (Owed::Call(call), answer) => drop(call.send(answer)),
            (Owed::Again(_), Answer::Port(_)) | (Owed::Settled, _) => {}
            (Owed::Again(publication), answer) => {
                tracing::error!(?publication, ?answer, "the host does not open a published port again");
            }
        }
    }
}
