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
    changed: Option<Box<dyn Fn() + Send>>,
}

struct Call {
    request: Request,
    answer: SyncSender<Answer>,
}

/// `again` tells what a host that connects has to open.
pub(super) fn new(again: impl Fn() -> Vec<Publication> + Send + 'static) -> (Door, Server) {
    let (calls, taken) = mpsc::unbounded_channel();
    let (open, is_open) = watch::channel(false);
    (Door { calls, is_open }, Server { calls: taken, is_open: open, again: Box::new(again), changed: None })
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
    /// As long as the connection lasts.
    Changes,
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
    /// Every host is asked to say when its folders change, and `changed` is called then. It must not block.
    pub fn on_changes(&mut self, changed: impl Fn() + Send + 'static) {
        self.changed = Some(Box::new(changed));
    }

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
        if self.changed.is_some() {
            line.ask(Request::Watch, Owed::Changes).await?;
        }
        loop {
            tokio::select! {
                Some(call) = self.calls.recv() => line.ask(call.request, Owed::Call(call.answer)).await?,
                answer = line.next() => match answer? {
                    Some(text) => line.answered(&text, self.changed.as_deref()),
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

    fn answered(&mut self, text: &str, changed: Option<&(dyn Fn() + Send)>) {
        let answer = Answer::decode(text);
        let Some((number, owed, answer)) =
            answer.and_then(|(number, answer)| Some((number, self.owed.remove(&number)?, answer)))
        else {
            return tracing::warn!(text, "the host answered what nobody asked");
        };
        match (owed, answer) {
            (Owed::Changes, Answer::Changed) => {
                self.owed.insert(number, Owed::Changes);
                changed.iter().for_each(|changed| changed());
            }
            (Owed::Changes, answer) => {
                tracing::info!(?answer, "the host does not say when its folders change")
            }
            (Owed::Call(call), answer) => drop(call.send(answer)),
            (Owed::Again(_), Answer::Port(_)) | (Owed::Settled, _) => {}
            (Owed::Again(publication), answer) => {
                tracing::error!(?publication, ?answer, "the host does not open a published port again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ports, Published, Wanted};
    use super::*;
    use contract::carrier::Protocol;
    use contract::door::Refusal;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use tokio::io::{AsyncBufReadExt, BufReader};

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2));

    /// The engine's side, and where hosts arrive.
    fn engine() -> (Arc<Ports>, mpsc::Sender<UnixStream>) {
        let (ports, server) = Ports::new();
        let (arrive, arrived) = mpsc::channel(1);
        tokio::spawn(server.serve(arrived));
        (ports, arrive)
    }

    /// A host that has said hello and was told of all that is published.
    struct Host {
        stream: BufReader<UnixStream>,
    }

    impl Host {
        async fn dial(arrive: &mpsc::Sender<UnixStream>) -> Host {
            let (ours, theirs) = UnixStream::pair().unwrap();
            arrive.send(theirs).await.unwrap();
            let mut host = Host { stream: BufReader::new(ours) };
            host.say(&hello()).await;
            assert_eq!(host.hear().await, hello());
            host
        }

        async fn say(&mut self, line: &str) {
            self.stream.get_mut().write_all(line.as_bytes()).await.unwrap();
        }

        async fn hear(&mut self) -> String {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.unwrap();
            line
        }

        async fn asked(&mut self) -> (u32, Request) {
            let (number, request) = Request::decode(&self.hear().await).unwrap();
            (number, request.unwrap())
        }

        async fn answer(&mut self, answer: Answer) -> Request {
            let (number, request) = self.asked().await;
            self.say(&answer.encode(number)).await;
            request
        }
    }

    async fn publish(ports: &Arc<Ports>, run: &str, first: u16) -> Result<Vec<u16>, String> {
        let (ports, run) = (ports.clone(), run.to_owned());
        let wanted = Wanted { protocol: Protocol::Tcp, container: 80, host: None, first, last: first };
        let publish = move || ports.publish(&run, ADDRESS, &[wanted]);
        let published =
            tokio::task::spawn_blocking(publish).await.unwrap().map_err(|error| error.to_string())?;
        Ok(published.iter().map(|port: &Published| port.port).collect())
    }

    #[tokio::test]
    async fn a_host_is_asked_for_its_changes_where_somebody_wants_to_know() {
        let (_ports, mut server) = Ports::new();
        let (told, mut heard) = mpsc::unbounded_channel();
        server.on_changes(move || told.send(()).unwrap_or(()));
        let (arrive, arrived) = mpsc::channel(1);
        tokio::spawn(server.serve(arrived));
        let mut host = Host::dial(&arrive).await;
        assert_eq!(host.answer(Answer::Done).await, Request::Settled);
        let (number, request) = host.asked().await;
        assert_eq!(request, Request::Watch);
        for _ in 0..3 {
            host.say(&Answer::Changed.encode(number)).await;
            heard.recv().await.unwrap();
        }
        // One that cannot is left in peace, and asked for ports all the same.
        let mut host = Host::dial(&arrive).await;
        assert_eq!(host.answer(Answer::Done).await, Request::Settled);
        let refused = Answer::Refused { why: Refusal::Unknown, text: "no request".into() };
        assert_eq!(host.answer(refused).await, Request::Watch);
        assert!(heard.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_host_says_which_port_it_is() {
        let (ports, arrive) = engine();
        let mut host = Host::dial(&arrive).await;
        assert_eq!(host.answer(Answer::Done).await, Request::Settled);
        let asking = tokio::spawn({
            let ports = ports.clone();
            async move { publish(&ports, "a", 0).await }
        });
        let Request::Publish(asked) = host.answer(Answer::Port(41234)).await else { panic!() };
        assert_eq!((asked.first, asked.last, asked.target), (0, 0, (ADDRESS, 80).into()));
        assert_eq!(asking.await.unwrap(), Ok(vec![41234]));
        let asking = tokio::spawn({
            let ports = ports.clone();
            async move { publish(&ports, "b", 8080).await }
        });
        let refused = Answer::Refused { why: Refusal::InUse, text: "taken".into() };
        host.answer(refused).await;
        let told = "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use";
        assert_eq!(asking.await.unwrap(), Err(told.to_owned()));
        let closing = tokio::task::spawn_blocking(move || ports.release("a"));
        let Request::Release { port: 41234, .. } = host.answer(Answer::Done).await else { panic!() };
        closing.await.unwrap();
    }

    #[tokio::test]
    async fn every_host_that_dials_is_told_of_all() {
        let (ports, arrive) = engine();
        // No host yet: the book decides.
        assert_eq!(publish(&ports, "a", 8080).await, Ok(vec![8080]));
        for _ in 0..2 {
            let mut host = Host::dial(&arrive).await;
            let Request::Publish(again) = host.answer(Answer::Port(8080)).await else { panic!() };
            assert_eq!((again.first, again.last), (8080, 8080));
            assert_eq!(host.answer(Answer::Done).await, Request::Settled);
        }
    }

    #[tokio::test]
    async fn a_newer_host_takes_the_place_of_an_older_one_and_of_what_it_owes() {
        let (ports, arrive) = engine();
        let mut older = Host::dial(&arrive).await;
        older.answer(Answer::Done).await;
        let asking = tokio::spawn({
            let ports = ports.clone();
            async move { publish(&ports, "a", 8080).await }
        });
        assert!(matches!(older.asked().await.1, Request::Publish(_)));
        let mut newer = Host::dial(&arrive).await;
        let mut ports_told = 0;
        for _ in 0..2 {
            let (number, request) = newer.asked().await;
            let answer = match request {
                Request::Publish(_) => Answer::Port(8080),
                _ => Answer::Done,
            };
            ports_told += u32::from(matches!(request, Request::Publish(_)));
            newer.say(&answer.encode(number)).await;
        }
        assert_eq!(asking.await.unwrap(), Ok(vec![8080]));
        assert_eq!(ports_told, 1, "whichever way it was told");
    }
}
