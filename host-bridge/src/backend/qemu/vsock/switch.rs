//! All connections of one guest: packets in, packets out, host streams beside.
//!
//! It knows nothing of rings: [`Switch::receive`] takes a packet the guest sent, [`Switch::next`] gives the next one
//! for it, [`Switch::serve_streams`] does what the host streams are ready for. Whatever the guest sends, what is kept for it
//! has a bound: its dials, its resets, and the bytes of each connection.

use super::connection::{BUFFER_BYTES, Connection, Fate};
use super::packet::{Header, Op, Ports};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use tokio::sync::oneshot;
use vm_memory::VolatileSlice;

/// Dials that wait for the guest's answer. What goes beyond is refused at once.
pub const DIALS_MAX: usize = 4096;
/// Resets that wait for the guest's buffers. A guest that floods us with packets for nothing and gives no buffers loses what
/// goes beyond.
const RESETS_MAX: usize = 4096;
/// First port that we connect from.
const FIRST_PORT: u32 = 1 << 30;
/// VMADDR_PORT_ANY (vsock(7)): no port, but the wish for one.
const PORT_ANY: u32 = u32::MAX;

/// The end of the way from a dial: the stream's far end, or why there is none. It is closed when the dialer left.
pub type Answer = oneshot::Sender<io::Result<UnixStream>>;

/// See the module.
pub struct Switch {
    asked: HashMap<Ports, Answer>,
    open: HashMap<Ports, Connection>,
    /// Dials that the guest has not heard of yet.
    requests: VecDeque<Ports>,
    resets: VecDeque<Ports>,
    /// Open connections that have something to send, in turn.
    ready: VecDeque<Ports>,
    next_port: u32,
    streams: Epoll,
}

impl Switch {
    /// An empty switch.
    pub fn new() -> io::Result<Switch> {
        let streams = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Switch {
            asked: HashMap::new(),
            open: HashMap::new(),
            requests: VecDeque::new(),
            resets: VecDeque::new(),
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
        if self.asked.len() >= DIALS_MAX {
            self.forget_those_who_left();
        }
        if self.asked.len() >= DIALS_MAX {
            let error = io::Error::new(io::ErrorKind::ResourceBusy, "the guest answers no dials");
            // The dialer may have gone; a refusal that nobody hears is no loss.
            let _ = answer.send(Err(error));
            return;
        }
        let ports = self.free_ports(port);
        self.asked.insert(ports, answer);
        self.requests.push_back(ports);
    }

    fn forget_those_who_left(&mut self) {
        self.asked.retain(|_, answer| !answer.is_closed());
        self.requests.retain(|ports| self.asked.contains_key(ports));
    }

    /// A pair that no connection has. There are three thousand million ports and far fewer descriptors.
    fn free_ports(&mut self, guest: u32) -> Ports {
        loop {
            let ports = Ports { host: self.next_port, guest };
            self.next_port = if self.next_port + 1 == PORT_ANY { FIRST_PORT } else { self.next_port + 1 };
            if !self.asked.contains_key(&ports) && !self.open.contains_key(&ports) {
                return ports;
            }
        }
    }

    /// A packet the guest sent, and its data.
    pub fn receive(&mut self, header: &Header, data: &[VolatileSlice]) {
        let ports = header.ports;
        if let Some(answer) = self.asked.remove(&ports) {
            self.answered(header, answer);
        } else if self.open.contains_key(&ports) {
            self.work(ports, |connection| handle(connection, header, data));
        } else if header.op != Op::Reset {
            // Nothing on the host listens for the guest, so a request ends here too.
            self.reset(ports);
        }
    }

    fn answered(&mut self, header: &Header, answer: Answer) {
        if header.op != Op::Response {
            let _ = answer.send(Err(io::ErrorKind::ConnectionRefused.into()));
            return;
        }
        let opened = self.open(header);
        let failed = opened.is_err();
        if answer.send(opened).is_err() || failed {
            self.open.remove(&header.ports);
            self.reset(header.ports);
        }
    }

    fn open(&mut self, header: &Header) -> io::Result<UnixStream> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let mut connection = Connection::new(near, header.buf_alloc, header.fwd_cnt);
        connection.watched = connection.wants();
        let event = EpollEvent::new(connection.watched, token(header.ports));
        self.streams.add(connection.stream(), event)?;
        self.open.insert(header.ports, connection);
        Ok(far)
    }

    /// Does something for an open connection and then what follows from it: it stands in the queue when it has something to
    /// send, its stream is watched for what it waits for, and it is gone when it is done.
    fn work(&mut self, ports: Ports, task: impl FnOnce(&mut Connection) -> After) {
        let Entry::Occupied(mut entry) = self.open.entry(ports) else { return };
        let connection = entry.get_mut();
        let mut after = task(connection);
        if connection.has_packet() && !connection.queued {
            connection.queued = true;
            self.ready.push_back(ports);
        }
        if after.fate == Fate::Lives && watch(&self.streams, ports, connection).is_err() {
            after = After { fate: Fate::Done, reset: true };
        }
        if after.fate == Fate::Done {
            // Closing the stream takes it out of the epoll set.
            entry.remove();
        }
        if after.reset {
            self.reset(ports);
        }
    }

    /// Does what the host streams are ready for.
    pub fn serve_streams(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = self.streams.wait(&mut events, EpollTimeout::ZERO)?;
        for event in &events[..count] {
            self.work(ports_of(event.data()), |connection| {
                let fate = connection.hear(event.events());
                After { fate, reset: fate == Fate::Done && !connection.guest_gone() }
            });
        }
        Ok(())
    }

    /// There may be a packet for the guest.
    pub fn has_packets(&self) -> bool {
        !(self.resets.is_empty() && self.requests.is_empty() && self.ready.is_empty())
    }

    /// The next packet for the guest; its data, if it has any, is in `room`.
    pub fn next(&mut self, room: &VolatileSlice) -> Option<Header> {
        if let Some(ports) = self.resets.pop_front() {
            return Some(header(ports, (Op::Reset, 0, 0), 0));
        }
        while let Some(ports) = self.requests.pop_front() {
            // Who left before the guest heard of it was never there.
            match self.asked.get(&ports).is_some_and(|answer| !answer.is_closed()) {
                true => return Some(header(ports, (Op::Request, 0, 0), 0)),
                false => drop(self.asked.remove(&ports)),
            }
        }
        while let Some(ports) = self.ready.pop_front() {
            let mut packet = None;
            self.work(ports, |connection| {
                connection.queued = false;
                packet = connection.next(room).map(|what| header(ports, what, connection.tell_forwarded()));
                After { fate: connection.fate(), reset: false }
            });
            if packet.is_some() {
                return packet;
            }
        }
        None
    }

    fn reset(&mut self, ports: Ports) {
        if self.resets.len() < RESETS_MAX {
            self.resets.push_back(ports);
        }
    }
}

/// What follows from work on a connection.
struct After {
    fate: Fate,
    /// The guest is told that it is over.
    reset: bool,
}

fn handle(connection: &mut Connection, header: &Header, data: &[VolatileSlice]) -> After {
    connection.set_credit(header.buf_alloc, header.fwd_cnt);
    let fate = match header.op {
        Op::Data => push(connection, data),
        Op::Shutdown => connection.end_guest(header.flags),
        Op::Reset => connection.lose_guest(),
        Op::CreditRequest => {
            connection.ask_credit();
            Fate::Lives
        }
        Op::CreditUpdate => Fate::Lives,
        Op::Request | Op::Response => Fate::Done,
    };
    // The guest's close waits for our reset; what it sent before may still be on its way to the stream.
    let closed = header.op == Op::Shutdown && connection.guest_gone();
    After { fate, reset: closed || (fate == Fate::Done && header.op != Op::Reset) }
}

fn push(connection: &mut Connection, data: &[VolatileSlice]) -> Fate {
    let done = data.iter().any(|piece| connection.push(piece) == Fate::Done);
    if done { Fate::Done } else { Fate::Lives }
}

fn watch(streams: &Epoll, ports: Ports, connection: &mut Connection) -> nix::Result<()> {
    let wanted = connection.wants();
    if wanted != connection.watched {
        streams.modify(connection.stream(), &mut EpollEvent::new(wanted, token(ports)))?;
        connection.watched = wanted;
    }
    Ok(())
}

fn header(ports: Ports, (op, flags, len): (Op, u32, usize), fwd_cnt: u32) -> Header {
    // No longer than one packet's data.
    Header { ports, len: len as u32, op, flags, buf_alloc: BUFFER_BYTES, fwd_cnt }
}

fn token(ports: Ports) -> u64 {
    u64::from(ports.host) << 32 | u64::from(ports.guest)
}

fn ports_of(token: u64) -> Ports {
    Ports { host: (token >> 32) as u32, guest: token as u32 }
}

#[cfg(test)]
mod tests {
    use super::super::packet::SHUTDOWN_SEND;
    use super::*;
    use std::io::{Read, Write};

    const PORT: u32 = 2375;

    impl Switch {
        /// The next packet and its data.
        fn packet(&mut self, room: usize) -> Option<(Header, Vec<u8>)> {
            let mut bytes = vec![0; room];
            let header = self.next(&VolatileSlice::from(bytes.as_mut_slice()))?;
            bytes.truncate(header.len as usize);
            Some((header, bytes))
        }

        fn hear(&mut self, header: &Header, data: &mut [u8]) {
            self.receive(header, &[VolatileSlice::from(data)]);
        }

        fn is_empty(&self) -> bool {
            self.asked.is_empty() && self.open.is_empty()
        }
    }

    /// A switch with one open connection: its far end and its host port.
    fn open() -> (Switch, UnixStream, u32) {
        let mut switch = Switch::new().unwrap();
        let (answer, mut answered) = oneshot::channel();
        switch.dial(PORT, answer);
        let (request, _) = switch.packet(4096).unwrap();
        assert_eq!((request.op, request.ports.guest), (Op::Request, PORT));
        switch.hear(&from_guest(request.ports.host, Op::Response, 0, 0), &mut []);
        let far = answered.try_recv().unwrap().unwrap();
        far.set_nonblocking(false).unwrap();
        (switch, far, request.ports.host)
    }

    fn from_guest(host_port: u32, op: Op, flags: u32, len: u32) -> Header {
        let ports = Ports { host: host_port, guest: PORT };
        Header { ports, len, op, flags, buf_alloc: 1 << 20, fwd_cnt: 0 }
    }

    #[test]
    fn a_refused_dial_is_told() {
        let mut switch = Switch::new().unwrap();
        let (answer, mut answered) = oneshot::channel();
        switch.dial(PORT, answer);
        let (request, _) = switch.packet(4096).unwrap();
        switch.hear(&from_guest(request.ports.host, Op::Reset, 0, 0), &mut []);
        let error = answered.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_dialer_that_left_costs_only_a_reset() {
        let mut switch = Switch::new().unwrap();
        let (answer, answered) = oneshot::channel();
        switch.dial(PORT, answer);
        let (request, _) = switch.packet(4096).unwrap();
        drop(answered);
        switch.hear(&from_guest(request.ports.host, Op::Response, 0, 0), &mut []);
        assert_eq!(switch.packet(4096).unwrap().0.op, Op::Reset);
        assert!(switch.is_empty());
    }

    #[test]
    fn the_host_may_end_its_direction_and_still_read() {
        let (mut switch, mut far, port) = open();
        far.write_all(b"ping").unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        switch.serve_streams().unwrap();
        let (header, data) = switch.packet(4096).unwrap();
        assert_eq!((header.op, data.as_slice()), (Op::Data, &b"ping"[..]));
        let (header, _) = switch.packet(4096).unwrap();
        assert_eq!((header.op, header.flags), (Op::Shutdown, SHUTDOWN_SEND));
        switch.hear(&from_guest(port, Op::Data, 0, 4), &mut b"pong".to_owned());
        switch.hear(&from_guest(port, Op::Shutdown, 3, 0), &mut []);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "pong");
        assert_eq!(switch.packet(4096).unwrap().0.op, Op::Reset);
        assert!(switch.is_empty());
    }

    #[test]
    fn the_guest_may_end_its_direction_and_still_read() {
        let (mut switch, mut far, port) = open();
        switch.hear(&from_guest(port, Op::Shutdown, SHUTDOWN_SEND, 0), &mut []);
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
        far.write_all(b"more").unwrap();
        switch.serve_streams().unwrap();
        assert_eq!(switch.packet(4096).unwrap().1, b"more");
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
            let (header, data) = switch.packet(4000).unwrap();
            got.extend(data);
            if header.op == Op::Shutdown && header.flags == 3 {
                break;
            }
        }
        assert!(got == bytes);
        assert!(switch.is_empty());
        assert!(switch.packet(4096).is_none());
    }

    #[test]
    fn what_a_gone_guest_sent_is_still_written() {
        let (mut switch, mut far, port) = open();
        let mut bytes = vec![9; 60_000];
        for _ in 0..8 {
            switch.hear(&from_guest(port, Op::Data, 0, 60_000), &mut bytes);
        }
        switch.hear(&from_guest(port, Op::Shutdown, 3, 0), &mut []);
        switch.hear(&from_guest(port, Op::Reset, 0, 0), &mut []);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            all.len()
        });
        while !switch.is_empty() {
            switch.serve_streams().unwrap();
        }
        assert_eq!(reader.join().unwrap(), 480_000);
    }

    #[test]
    fn nothing_is_sent_without_credit() {
        let (mut switch, mut far, port) = open();
        let full = Header { buf_alloc: 10, fwd_cnt: 0, ..from_guest(port, Op::CreditUpdate, 0, 0) };
        switch.hear(&full, &mut []);
        far.write_all(&[1; 25]).unwrap();
        switch.serve_streams().unwrap();
        assert_eq!(switch.packet(4096).unwrap().1.len(), 10);
        assert!(switch.packet(4096).is_none());
        switch.hear(&Header { fwd_cnt: 10, ..full }, &mut []);
        assert_eq!(switch.packet(4096).unwrap().1.len(), 10);
        assert!(switch.packet(4096).is_none());
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
            switch.hear(&from_guest(port, Op::Data, 0, 40_000), &mut [0; 40_000]);
            switch.serve_streams().unwrap();
        }
        let far = reader.join().unwrap();
        switch.serve_streams().unwrap();
        let (update, _) = switch.packet(4096).unwrap();
        assert_eq!(update.op, Op::CreditUpdate);
        assert!(update.fwd_cnt >= BUFFER_BYTES / 2);
        drop(far);
    }

    #[test]
    fn a_stranger_is_reset() {
        let mut switch = Switch::new().unwrap();
        switch.hear(&from_guest(9, Op::Request, 0, 0), &mut []);
        assert_eq!(switch.packet(4096).unwrap().0.op, Op::Reset);
        switch.hear(&from_guest(9, Op::Reset, 0, 0), &mut []);
        assert!(switch.packet(4096).is_none());
    }

    #[test]
    fn dials_that_nobody_answers_have_a_bound_and_those_who_left_make_room() {
        let mut switch = Switch::new().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..DIALS_MAX {
            let (answer, answered) = oneshot::channel();
            switch.dial(PORT, answer);
            waiting.push(answered);
        }
        let (answer, mut refused) = oneshot::channel();
        switch.dial(PORT, answer);
        assert_eq!(refused.try_recv().unwrap().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        // Replies to a flood of the guest's do not drive the requests out.
        for port in 0..2 * RESETS_MAX as u32 {
            switch.hear(&from_guest(port, Op::CreditRequest, 0, 0), &mut []);
        }
        for _ in 0..RESETS_MAX {
            assert_eq!(switch.packet(4096).unwrap().0.op, Op::Reset);
        }
        assert_eq!(switch.packet(4096).unwrap().0.op, Op::Request);
        waiting.truncate(1);
        let (answer, _answered) = oneshot::channel();
        switch.dial(PORT, answer);
        assert_eq!(switch.asked.len(), 2);
        assert_eq!(switch.packet(4096).unwrap().0.op, Op::Request);
        assert!(switch.packet(4096).is_none());
    }

    #[test]
    fn no_dial_comes_from_any_port_or_from_one_that_is_taken() {
        let (mut switch, _far, port) = open();
        switch.next_port = PORT_ANY - 1;
        assert_eq!(switch.free_ports(PORT).host, PORT_ANY - 1);
        assert_eq!(port, FIRST_PORT);
        assert_eq!(switch.free_ports(PORT).host, FIRST_PORT + 1);
    }

    #[test]
    fn a_guest_without_credit_hears_of_the_end() {
        let (mut switch, far, port) = open();
        let full = Header { buf_alloc: 0, ..from_guest(port, Op::CreditUpdate, 0, 0) };
        switch.hear(&full, &mut []);
        drop(far);
        switch.serve_streams().unwrap();
        let (header, _) = switch.packet(4096).unwrap();
        assert_eq!((header.op, header.flags), (Op::Shutdown, 3));
        assert!(switch.is_empty());
    }

    #[test]
    fn a_slow_host_is_waited_for_and_a_quick_one_costs_no_watching() {
        let (mut switch, mut far, port) = open();
        let watched = |switch: &Switch| switch.open.values().next().unwrap().watched;
        let quick = watched(&switch);
        switch.hear(&from_guest(port, Op::Data, 0, 4), &mut b"data".to_owned());
        assert_eq!(watched(&switch), quick);
        let mut sent = 4;
        while watched(&switch) == quick {
            switch.hear(&from_guest(port, Op::Data, 0, 60_000), &mut vec![1; 60_000]);
            sent += 60_000;
        }
        far.set_nonblocking(true).unwrap();
        let mut read = 0;
        while read < sent {
            read += far.read(&mut [0; 65_536]).unwrap_or(0);
            switch.serve_streams().unwrap();
        }
        assert_eq!(watched(&switch), quick);
    }
}
