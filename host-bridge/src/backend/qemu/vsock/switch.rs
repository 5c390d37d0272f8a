//! All connections of one guest: packets in, packets out, host streams beside.
//!
//! It knows nothing of rings: [`Switch::receive`] takes a packet the guest sent, [`Switch::next`] gives the next one
//! for it, [`Switch::serve_streams`] does what the host streams are ready for.

use super::connection::{BUFFER_BYTES, Connection, Fate};
#[cfg(test)]
use super::packet::SHUTDOWN_SEND;
use super::packet::{Header, Op, TYPE_STREAM};
use contract::vsock::HOST_CID;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use tokio::sync::oneshot;

/// Replies that wait for the guest's buffers. A guest that floods us with packets for nothing and gives no buffers
/// loses what goes beyond.
const REPLIES_MAX: usize = 4096;
/// First port that we connect from.
const FIRST_PORT: u32 = 1 << 30;

/// The end of the way from a dial: the stream's far end, or why there is none.
pub type Answer = oneshot::Sender<io::Result<UnixStream>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ports {
    host: u32,
    guest: u32,
}

enum Entry {
    Asked(Answer),
    Open(Connection),
}

/// See the module.
pub struct Switch {
    guest_cid: u64,
    entries: HashMap<Ports, Entry>,
    /// Headers without data, sent before any data.
    replies: VecDeque<Header>,
    /// Open connections that have something to send, in turn.
    ready: VecDeque<Ports>,
    next_port: u32,
    streams: Epoll,
}

impl Switch {
    /// An empty switch for the guest with this CID.
    pub fn new(guest_cid: u64) -> io::Result<Switch> {
        let streams = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Switch {
            guest_cid,
            entries: HashMap::new(),
            replies: VecDeque::new(),
            ready: VecDeque::new(),
            next_port: FIRST_PORT,
            streams,
        })
    }

    /// Readable when [`Switch::serve_streams`] has something to do.
    pub fn streams_fd(&self) -> BorrowedFd<'_> {
        self.streams.0.as_fd()
    }

    /// Asks the guest for a connection to `port`.
    pub fn dial(&mut self, port: u32, answer: Answer) {
        let ports = Ports { host: self.next_port, guest: port };
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        self.entries.insert(ports, Entry::Asked(answer));
        self.reply(ports, Op::Request, 0);
    }

    /// A packet the guest sent.
    pub fn receive(&mut self, header: &Header, data: &[u8]) {
        if header.kind != TYPE_STREAM || header.dst_cid != u64::from(HOST_CID) {
            return;
        }
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        match self.entries.remove(&ports) {
            Some(Entry::Asked(answer)) => self.answered(ports, header, answer),
            Some(Entry::Open(connection)) => self.handle(ports, header, data, connection),
            // Nothing on the host listens for the guest, so a request ends here too.
            None if header.op != Op::Reset => self.reply(ports, Op::Reset, 0),
            None => {}
        }
    }

    fn answered(&mut self, ports: Ports, header: &Header, answer: Answer) {
        if header.op != Op::Response {
            // The dialer may have gone; a refusal that nobody hears is no loss.
            let _ = answer.send(Err(io::ErrorKind::ConnectionRefused.into()));
            return;
        }
        if answer.send(self.open(ports, header)).is_err() || !self.entries.contains_key(&ports) {
            self.entries.remove(&ports);
            self.reply(ports, Op::Reset, 0);
        }
    }

    fn open(&mut self, ports: Ports, header: &Header) -> io::Result<UnixStream> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        self.streams.add(&near, EpollEvent::new(EpollFlags::EPOLLIN, token(ports)))?;
        let mut connection = Connection::new(near);
        connection.set_credit(header.buf_alloc, header.fwd_cnt);
        self.entries.insert(ports, Entry::Open(connection));
        Ok(far)
    }

    /// A packet of an open connection, which goes back into the table unless it is over.
    fn handle(&mut self, ports: Ports, header: &Header, data: &[u8], mut connection: Connection) {
        connection.set_credit(header.buf_alloc, header.fwd_cnt);
        let fate = match header.op {
            Op::Data => connection.push(data),
            Op::Shutdown => connection.end_guest(header.flags),
            Op::Reset => connection.lose_guest(),
            Op::CreditRequest => {
                self.reply_from(ports, &mut connection, Op::CreditUpdate);
                Fate::Lives
            }
            Op::CreditUpdate => Fate::Lives,
            Op::Request | Op::Response => Fate::Done,
        };
        // The guest's close waits for our reset; what it sent before may still be on its way to the stream.
        let closed = header.op == Op::Shutdown && connection.guest_gone();
        if closed || (fate == Fate::Done && header.op != Op::Reset) {
            self.reply(ports, Op::Reset, 0);
        }
        self.keep(ports, connection, fate);
    }

    /// Puts a connection back, with what it waits for now.
    fn keep(&mut self, ports: Ports, mut connection: Connection, fate: Fate) {
        if fate == Fate::Done || connection.fate() == Fate::Done {
            // Closing the stream takes it out of the epoll set.
            return;
        }
        if connection.owes_credit() {
            self.reply_from(ports, &mut connection, Op::CreditUpdate);
        }
        if connection.has_packet() && !connection.queued {
            connection.queued = true;
            self.ready.push_back(ports);
        }
        match self.await_stream(ports, &connection) {
            Ok(()) => {
                self.entries.insert(ports, Entry::Open(connection));
            }
            Err(_) => self.reply(ports, Op::Reset, 0),
        }
    }

    fn await_stream(&self, ports: Ports, connection: &Connection) -> nix::Result<()> {
        if connection.host_closed() {
            return Ok(());
        }
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, connection.wants_read());
        wanted.set(EpollFlags::EPOLLOUT, connection.wants_write());
        self.streams.modify(connection.stream(), &mut EpollEvent::new(wanted, token(ports)))
    }

    /// Does what the host streams are ready for.
    pub fn serve_streams(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = self.streams.wait(&mut events, EpollTimeout::ZERO)?;
        for event in &events[..count] {
            let ports = ports_of(event.data());
            if let Some(Entry::Open(connection)) = self.entries.remove(&ports) {
                self.serve(ports, event.events(), connection);
            }
        }
        Ok(())
    }

    fn serve(&mut self, ports: Ports, events: EpollFlags, mut connection: Connection) {
        let mut fate = Fate::Lives;
        if events.contains(EpollFlags::EPOLLOUT) {
            fate = connection.flush();
        }
        connection.pull();
        if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            connection.close_host();
            if self.streams.delete(connection.stream()).is_err() {
                fate = Fate::Done;
            }
        }
        if fate == Fate::Done && !connection.guest_gone() {
            self.reply(ports, Op::Reset, 0);
        }
        self.keep(ports, connection, fate);
    }

    /// The next packet for the guest, with at most `room` bytes of data.
    pub fn next(&mut self, room: usize) -> Option<(Header, Vec<u8>)> {
        if let Some(header) = self.replies.pop_front() {
            return Some((header, Vec::new()));
        }
        loop {
            let ports = self.ready.pop_front()?;
            let Some(Entry::Open(mut connection)) = self.entries.remove(&ports) else { continue };
            connection.queued = false;
            let packet = self.packet(ports, &mut connection, room);
            connection.pull();
            self.keep(ports, connection, Fate::Lives);
            if packet.is_some() {
                return packet;
            }
        }
    }

    fn packet(&self, ports: Ports, connection: &mut Connection, room: usize) -> Option<(Header, Vec<u8>)> {
        let data = connection.take_data(room);
        let (op, flags) = match data.is_empty() {
            false => (Op::Data, 0),
            true => (Op::Shutdown, connection.take_end()?),
        };
        Some((self.header(ports, op, flags, data.len(), connection.tell_forwarded()), data))
    }

    fn reply_from(&mut self, ports: Ports, connection: &mut Connection, op: Op) {
        let fwd_cnt = connection.tell_forwarded();
        let header = self.header(ports, op, 0, 0, fwd_cnt);
        self.queue(header);
    }

    fn reply(&mut self, ports: Ports, op: Op, flags: u32) {
        let header = self.header(ports, op, flags, 0, 0);
        self.queue(header);
    }

    fn queue(&mut self, header: Header) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back(header);
        }
    }

    fn header(&self, ports: Ports, op: Op, flags: u32, len: usize, fwd_cnt: u32) -> Header {
        Header {
            src_cid: u64::from(HOST_CID),
            dst_cid: self.guest_cid,
            src_port: ports.host,
            dst_port: ports.guest,
            // No longer than a stage of bytes.
            len: len as u32,
            kind: TYPE_STREAM,
            op,
            flags,
            buf_alloc: BUFFER_BYTES,
            fwd_cnt,
        }
    }
}

fn token(ports: Ports) -> u64 {
    u64::from(ports.host) << 32 | u64::from(ports.guest)
}

fn ports_of(token: u64) -> Ports {
    Ports { host: (token >> 32) as u32, guest: token as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    const GUEST: u64 = 3;
    const PORT: u32 = 2375;

    /// A switch with one open connection: its far end and its host port.
    fn open() -> (Switch, UnixStream, u32) {
        let mut switch = Switch::new(GUEST).unwrap();
        let (answer, mut answered) = oneshot::channel();
        switch.dial(PORT, answer);
        let (request, _) = switch.next(4096).unwrap();
        assert_eq!((request.op, request.dst_port), (Op::Request, PORT));
        switch.receive(&from_guest(request.src_port, Op::Response, 0, 0), &[]);
        let far = answered.try_recv().unwrap().unwrap();
        far.set_nonblocking(false).unwrap();
        (switch, far, request.src_port)
    }

    fn from_guest(host_port: u32, op: Op, flags: u32, len: u32) -> Header {
        Header {
            src_cid: GUEST,
            dst_cid: 2,
            src_port: PORT,
            dst_port: host_port,
            len,
            kind: TYPE_STREAM,
            op,
            flags,
            buf_alloc: 1 << 20,
            fwd_cnt: 0,
        }
    }

    #[test]
    fn a_refused_dial_is_told() {
        let mut switch = Switch::new(GUEST).unwrap();
        let (answer, mut answered) = oneshot::channel();
        switch.dial(PORT, answer);
        let (request, _) = switch.next(4096).unwrap();
        switch.receive(&from_guest(request.src_port, Op::Reset, 0, 0), &[]);
        let error = answered.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_dialer_that_left_costs_only_a_reset() {
        let mut switch = Switch::new(GUEST).unwrap();
        let (answer, answered) = oneshot::channel();
        switch.dial(PORT, answer);
        let (request, _) = switch.next(4096).unwrap();
        drop(answered);
        switch.receive(&from_guest(request.src_port, Op::Response, 0, 0), &[]);
        assert_eq!(switch.next(4096).unwrap().0.op, Op::Reset);
        assert!(switch.entries.is_empty());
    }

    #[test]
    fn the_host_may_end_its_direction_and_still_read() {
        let (mut switch, mut far, port) = open();
        far.write_all(b"ping").unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        switch.serve_streams().unwrap();
        let (header, data) = switch.next(4096).unwrap();
        assert_eq!((header.op, data.as_slice()), (Op::Data, &b"ping"[..]));
        let (header, _) = switch.next(4096).unwrap();
        assert_eq!((header.op, header.flags), (Op::Shutdown, SHUTDOWN_SEND));
        switch.receive(&from_guest(port, Op::Data, 0, 4), b"pong");
        switch.receive(&from_guest(port, Op::Shutdown, 3, 0), &[]);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "pong");
        assert_eq!(switch.next(4096).unwrap().0.op, Op::Reset);
        assert!(switch.entries.is_empty());
    }

    #[test]
    fn the_guest_may_end_its_direction_and_still_read() {
        let (mut switch, mut far, port) = open();
        switch.receive(&from_guest(port, Op::Shutdown, SHUTDOWN_SEND, 0), &[]);
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
        far.write_all(b"more").unwrap();
        switch.serve_streams().unwrap();
        assert_eq!(switch.next(4096).unwrap().1, b"more");
    }

    #[test]
    fn what_a_closed_stream_wrote_still_arrives_and_then_both_ends_are_told() {
        let (mut switch, mut far, _) = open();
        let bytes = vec![7; 150_000];
        far.write_all(&bytes).unwrap();
        drop(far);
        let mut got = Vec::new();
        loop {
            switch.serve_streams().unwrap();
            let (header, data) = switch.next(4000).unwrap();
            got.extend(data);
            if header.op == Op::Shutdown && header.flags == 3 {
                break;
            }
        }
        assert!(got == bytes);
        assert!(switch.entries.is_empty());
        assert!(switch.next(4096).is_none());
    }

    #[test]
    fn what_a_gone_guest_sent_is_still_written() {
        let (mut switch, mut far, port) = open();
        let bytes = vec![9; 60_000];
        for _ in 0..8 {
            switch.receive(&from_guest(port, Op::Data, 0, 60_000), &bytes);
        }
        switch.receive(&from_guest(port, Op::Shutdown, 3, 0), &[]);
        switch.receive(&from_guest(port, Op::Reset, 0, 0), &[]);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            all.len()
        });
        while !switch.entries.is_empty() {
            switch.serve_streams().unwrap();
        }
        assert_eq!(reader.join().unwrap(), 480_000);
    }

    #[test]
    fn nothing_is_sent_without_credit() {
        let (mut switch, mut far, port) = open();
        let full = Header { buf_alloc: 10, fwd_cnt: 0, ..from_guest(port, Op::CreditUpdate, 0, 0) };
        switch.receive(&full, &[]);
        far.write_all(&[1; 25]).unwrap();
        switch.serve_streams().unwrap();
        assert_eq!(switch.next(4096).unwrap().1.len(), 10);
        assert!(switch.next(4096).is_none());
        switch.receive(&Header { fwd_cnt: 10, ..full }, &[]);
        assert_eq!(switch.next(4096).unwrap().1.len(), 10);
        assert!(switch.next(4096).is_none());
    }

    #[test]
    fn the_guest_hears_of_free_buffer() {
        let (mut switch, mut far, port) = open();
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 160_000];
            far.read_exact(&mut all).unwrap();
            far
        });
        for _ in 0..4 {
            switch.receive(&from_guest(port, Op::Data, 0, 40_000), &[0; 40_000]);
            switch.serve_streams().unwrap();
        }
        let far = reader.join().unwrap();
        switch.serve_streams().unwrap();
        let (update, _) = switch.next(4096).unwrap();
        assert_eq!(update.op, Op::CreditUpdate);
        assert!(update.fwd_cnt >= BUFFER_BYTES / 2);
        drop(far);
    }

    #[test]
    fn a_stranger_is_reset() {
        let mut switch = Switch::new(GUEST).unwrap();
        switch.receive(&from_guest(9, Op::Request, 0, 0), &[]);
        assert_eq!(switch.next(4096).unwrap().0.op, Op::Reset);
        switch.receive(&from_guest(9, Op::Reset, 0, 0), &[]);
        assert!(switch.next(4096).is_none());
    }
}
