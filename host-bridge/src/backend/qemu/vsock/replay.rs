//! A guest made of bytes: whatever it puts on the rings, the device goes on. For property tests and for fuzzers, which may
//! include this folder by its path: it names nothing of the crate around it.

use super::device::{Bell, Device, Dial, Memory, RING_FROM_GUEST, RING_TO_GUEST, TOKEN_DIALS, TOKEN_STREAMS};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use vhost_user_backend::{VhostUserBackendMut, VringRwLock, VringT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

/// The guest's CID.
pub const GUEST_CID: u64 = 3;
/// The guest's memory, in bytes. Numbers of 32 bits also lead out of it.
const MEMORY_BYTES: usize = 1 << 18;
/// Descriptors of a ring.
const RING_SIZE: u16 = 16;
/// Where the rings are: descriptors, available, used.
const RINGS: [[u64; 3]; 2] = [[0x1000, 0x2000, 0x3000], [0x4000, 0x5000, 0x6000]];
/// A guest that waits for nothing dials no more often.
const DIALS_AT_ONCE: usize = 64;

type Answered = oneshot::Receiver<std::io::Result<UnixStream>>;

/// A device, its guest's memory, and the host's dialers.
pub struct Guest {
    /// What is under test.
    pub device: Device,
    rings: [VringRwLock; 2],
    memory: Memory,
    available: [u16; 2],
    dials: mpsc::Sender<Dial>,
    bell: Bell,
    asked: Vec<Answered>,
    streams: Vec<UnixStream>,
}

impl Guest {
    /// A guest whose driver has set up its rings and put nothing on them.
    pub fn new() -> Guest {
        let ranges = [(GuestAddress(0), MEMORY_BYTES)];
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::from_ranges(&ranges).expect("a small memory"));
        let (dials, inbox) = mpsc::channel(DIALS_AT_ONCE);
        let (device, bell) = Device::new(GUEST_CID, inbox, watch::channel(()).0).expect("a device");
        let ring = |[descriptors, available, used]: [u64; 3]| {
            let ring = VringRwLock::new(memory.clone(), RING_SIZE).expect("a ring");
            ring.set_queue_size(RING_SIZE);
            ring.set_queue_info(descriptors, available, used).expect("aligned addresses");
            ring.set_queue_ready(true);
            ring
        };
        let rings = RINGS.map(ring);
        let mut guest = Guest {
            device,
            rings,
            memory: memory.clone(),
            available: [0; 2],
            dials,
            bell,
            asked: Vec::new(),
            streams: Vec::new(),
        };
        guest.device.update_memory(memory).expect("it only keeps it");
        guest
    }

    /// Writes bytes into the guest's memory, as far as there is one.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        // What lies outside is nobody's.
        let _ = self.memory.memory().write_slice(bytes, GuestAddress(address));
    }

    /// Reads the guest's memory.
    pub fn read(&self, address: u64, bytes: &mut [u8]) {
        self.memory.memory().read_slice(bytes, GuestAddress(address)).expect("within the memory");
    }

    /// Writes a descriptor (virtio 1.2, 2.7.5).
    pub fn describe(&self, ring: u16, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.write(RINGS[usize::from(ring)][0] + u64::from(index) * 16, &bytes);
    }

    /// Puts a chain up (virtio 1.2, 2.7.6).
    pub fn offer(&mut self, ring: u16, head: u16) {
        let available = &mut self.available[usize::from(ring)];
        let at = RINGS[usize::from(ring)][1];
        let slot = at + 4 + u64::from(*available % RING_SIZE) * 2;
        *available = available.wrapping_add(1);
        let count = available.to_le_bytes();
        self.write(slot, &head.to_le_bytes());
        self.write(at + 2, &count);
    }

    /// How many chains the device gave back, and the length of the last.
    pub fn given_back(&self, ring: u16) -> (u16, u32) {
        let at = RINGS[usize::from(ring)][2];
        let (mut count, mut length) = ([0; 2], [0; 4]);
        self.read(at + 2, &mut count);
        let count = u16::from_le_bytes(count);
        self.read(at + 4 + u64::from(count.wrapping_sub(1) % RING_SIZE) * 8 + 4, &mut length);
        (count, u32::from_le_bytes(length))
    }

    /// Rings the device's bell; it is an error of the device when that is one.
    pub fn kick(&mut self, token: u16) {
        self.device.handle_event(token, EventSet::IN, &self.rings, 0).expect("a guest is no error");
    }

    /// Dials into the guest.
    pub fn dial(&mut self, port: u32) {
        let (answer, answered) = oneshot::channel();
        if self.dials.try_send(Dial { port, answer }).is_ok() {
            self.asked.push(answered);
        }
        self.bell.ring().expect("a counter far from its end");
        self.kick(TOKEN_DIALS);
    }

    /// What became of the dials that are answered.
    pub fn streams(&mut self) -> &mut Vec<UnixStream> {
        self.asked.retain_mut(|answered| match answered.try_recv() {
            Ok(stream) => {
                self.streams.extend(stream);
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        &mut self.streams
    }
}

/// Plays a guest that does what `script` says, byte by byte. Returns when the script is over: a device that hangs never does,
/// and one that takes a guest for an error panics.
pub fn replay(script: &[u8]) {
    let mut guest = Guest::new();
    let mut script = Script(script);
    while let Some(step) = script.byte() {
        act(&mut guest, step, &mut script);
    }
}

fn act(guest: &mut Guest, step: u8, script: &mut Script) {
    let ring = u16::from(step >> 7);
    match step % 8 {
        0 => guest.dial(u32::from(script.number())),
        1 => {
            let index = script.number() % RING_SIZE;
            let address = script.address();
            let length = u32::from(script.number()) << (step >> 3 & 1);
            guest.describe(
                ring,
                index,
                address,
                length,
                script.number() % 8,
                script.number() % (RING_SIZE + 1),
            );
        }
        2 => {
            let head = script.number() % (RING_SIZE + 1);
            guest.offer(ring, head);
            guest.kick(ring);
        }
        3 => header(guest, script),
        4 => stream(guest, script),
        5 => {
            let address = script.address();
            guest.write(address, &script.number().to_le_bytes());
        }
        _ => guest.kick([RING_TO_GUEST, RING_FROM_GUEST, TOKEN_STREAMS][usize::from(step >> 3) % 3]),
    }
}

/// A header that is nearly right reaches more than random bytes would.
fn header(guest: &mut Guest, script: &mut Script) {
    let address = script.address();
    let mut bytes = [0; 44];
    bytes[..8].copy_from_slice(&GUEST_CID.to_le_bytes());
    bytes[8] = 2;
    bytes[16..18].copy_from_slice(&script.number().to_le_bytes());
    // Dials come from this port on.
    bytes[20..24].copy_from_slice(&((1 << 30) + u32::from(script.number() % 16)).to_le_bytes());
    bytes[24..26].copy_from_slice(&script.number().to_le_bytes());
    bytes[28] = 1;
    bytes[30..32].copy_from_slice(&(script.number() % 9).to_le_bytes());
    bytes[32] = script.byte().unwrap_or_default() % 4;
    bytes[36..38].copy_from_slice(&script.number().to_le_bytes());
    bytes[40..42].copy_from_slice(&script.number().to_le_bytes());
    guest.write(address, &bytes);
}

fn stream(guest: &mut Guest, script: &mut Script) {
    let (what, length) = (script.number() % 4, usize::from(script.number()));
    let Some(mut stream) = guest.streams().pop() else { return };
    match what {
        0 => drop(stream.write(&vec![7; length])),
        1 => drop(stream.read(&mut vec![0; length])),
        2 => drop(stream.shutdown(std::net::Shutdown::Write)),
        // It is closed.
        _ => return,
    }
    guest.streams().insert(0, stream);
}

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte().unwrap_or_default(), self.byte().unwrap_or_default()])
    }

    /// Mostly within the memory, in the rings now and then, and sometimes where nothing is.
    fn address(&mut self) -> u64 {
        let number = u64::from(self.number());
        match number % 16 {
            0 => u64::MAX - number,
            1 => number % 0x7000,
            _ => 0x8000 + (number << 2) % (MEMORY_BYTES as u64 - 0x8000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const DATA: u64 = 0x8000;

    /// A guest that was asked for a connection and has not heard of it.
    fn asked() -> Guest {
        let mut guest = Guest::new();
        guest.dial(2375);
        guest
    }

    fn check_buffer(length: u32, flags: u16, address: u64, want: u32) {
        let mut guest = asked();
        guest.describe(RING_TO_GUEST, 0, address, length, flags, 0);
        guest.offer(RING_TO_GUEST, 0);
        guest.kick(RING_TO_GUEST);
        assert_eq!(guest.given_back(RING_TO_GUEST), (1, want), "{length} {flags} {address:#x}");
        // The next buffer is a good one, and the request is still there.
        let good = (want == 0).then_some((2, 44));
        guest.describe(RING_TO_GUEST, 1, DATA, 4096, WRITE, 0);
        guest.offer(RING_TO_GUEST, 1);
        guest.kick(RING_TO_GUEST);
        assert_eq!(guest.given_back(RING_TO_GUEST), good.unwrap_or((1, 44)));
    }

    #[test]
    fn a_buffer_that_holds_no_packet_is_given_back_unused() {
        check_buffer(4096, WRITE, DATA, 44);
        check_buffer(45, WRITE, DATA, 44);
        for length in [0, 1, 43, 44] {
            check_buffer(length, WRITE, DATA, 0);
        }
        check_buffer(4096, 0, DATA, 0);
        check_buffer(4096, WRITE, MEMORY_BYTES as u64 - 8, 0);
        check_buffer(4096, WRITE, u64::MAX - 8, 0);
    }

    #[test]
    fn a_buffer_without_room_does_not_hold_data_up() {
        let mut guest = connected();
        guest.streams()[0].write_all(b"data").unwrap();
        // It comes back at once, and the data goes into the next one.
        guest.describe(RING_TO_GUEST, 2, DATA, 44, WRITE, 0);
        guest.describe(RING_TO_GUEST, 3, DATA, 4096, WRITE, 0);
        guest.offer(RING_TO_GUEST, 2);
        guest.offer(RING_TO_GUEST, 3);
        guest.kick(TOKEN_STREAMS);
        assert_eq!(guest.given_back(RING_TO_GUEST), (3, 48));
        let mut data = [0; 4];
        guest.read(DATA + 44, &mut data);
        assert_eq!(&data, b"data");
    }

    fn connected() -> Guest {
        let mut guest = asked();
        guest.describe(RING_TO_GUEST, 0, DATA, 4096, WRITE, 0);
        guest.offer(RING_TO_GUEST, 0);
        guest.kick(RING_TO_GUEST);
        send(&mut guest, 2, b"");
        assert_eq!(guest.streams().len(), 1);
        guest
    }

    /// Sends a packet of a well-behaved guest, header and data in one descriptor each, as Linux does.
    fn send(guest: &mut Guest, op: u8, data: &[u8]) {
        let mut request = [0; 44];
        guest.read(DATA, &mut request);
        let mut bytes = [0; 44];
        bytes[..8].copy_from_slice(&request[8..16]);
        bytes[8..16].copy_from_slice(&request[..8]);
        bytes[16..20].copy_from_slice(&request[20..24]);
        bytes[20..24].copy_from_slice(&request[16..20]);
        bytes[24] = data.len() as u8;
        bytes[28] = 1;
        bytes[30] = op;
        bytes[38] = 1;
        guest.write(0x10000, &bytes);
        guest.write(0x11000, data);
        let flags = if data.is_empty() { 0 } else { NEXT };
        guest.describe(RING_FROM_GUEST, 0, 0x10000, 44, flags, 1);
        guest.describe(RING_FROM_GUEST, 1, 0x11000, data.len() as u32, 0, 0);
        guest.offer(RING_FROM_GUEST, 0);
        guest.kick(RING_FROM_GUEST);
    }

    #[test]
    fn data_goes_from_the_guests_memory_to_the_stream() {
        let mut guest = connected();
        send(&mut guest, 5, b"hello");
        let mut data = [0; 8];
        assert_eq!(guest.streams()[0].read(&mut data).unwrap(), 5);
        assert_eq!(&data[..5], b"hello");
    }

    #[test]
    fn a_guest_may_split_its_packets_as_it_likes() {
        let mut guest = connected();
        send(&mut guest, 5, b"");
        // The header in two, and the data in pages (Linux does so with large writes).
        guest.write(0x10018, &8u32.to_le_bytes());
        guest.write(0x11000, b"one");
        guest.write(0x12000, b"two");
        guest.write(0x13000, b"34 and what is not of it");
        let pieces = [(0x10000, 20), (0x10014, 24), (0x11000, 3), (0x12000, 3), (0x13000, 20)];
        for (index, (address, length)) in (4..).zip(pieces) {
            let flags = if index == 8 { 0 } else { NEXT };
            guest.describe(RING_FROM_GUEST, index, address, length, flags, index + 1);
        }
        guest.offer(RING_FROM_GUEST, 4);
        guest.kick(RING_FROM_GUEST);
        let mut data = [0; 16];
        assert_eq!(guest.streams()[0].read(&mut data).unwrap(), 8);
        assert_eq!(&data[..8], b"onetwo34");
    }

    fn check_sent(describe: impl FnOnce(&Guest)) {
        let mut guest = connected();
        let before = guest.given_back(RING_FROM_GUEST).0;
        describe(&guest);
        guest.offer(RING_FROM_GUEST, 4);
        guest.kick(RING_FROM_GUEST);
        assert_eq!(guest.given_back(RING_FROM_GUEST), (before + 1, 0));
        send(&mut guest, 5, b"after");
        assert_eq!(guest.streams()[0].read(&mut [0; 8]).unwrap(), 5);
    }

    #[test]
    fn a_chain_that_is_no_packet_is_given_back() {
        check_sent(|guest| guest.describe(RING_FROM_GUEST, 4, DATA, 43, 0, 0));
        check_sent(|guest| guest.describe(RING_FROM_GUEST, 4, DATA, 44, WRITE, 0));
        check_sent(|guest| guest.describe(RING_FROM_GUEST, 4, u64::MAX, 44, 0, 0));
        // It goes round and round.
        check_sent(|guest| guest.describe(RING_FROM_GUEST, 4, DATA, 44, NEXT, 4));
        // Its header tells of data that is not there.
        check_sent(|guest| {
            guest.write(DATA + 24, &[0xff; 4]);
            guest.describe(RING_FROM_GUEST, 4, DATA, 44, 0, 0);
        });
    }

    #[test]
    fn a_head_that_is_no_descriptor_is_passed_over() {
        let mut guest = connected();
        guest.offer(RING_FROM_GUEST, RING_SIZE);
        guest.kick(RING_FROM_GUEST);
        send(&mut guest, 5, b"after");
        assert_eq!(guest.streams()[0].read(&mut [0; 8]).unwrap(), 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_guest_is_an_error(script in proptest::collection::vec(any::<u8>(), 0..600)) {
            replay(&script);
        }
    }
}
