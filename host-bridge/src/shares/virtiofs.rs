//! A virtio-fs device of our own, served to QEMU over vhost-user (virtio 1.2, 5.11).
//!
//! Queue 0 takes what must not wait (FORGET, INTERRUPT), the others take requests. A chain has the request in what the device
//! may read and room for the answer in what it may write.

use super::server::{Answered, DATA_MAX, REPLY_HEADER, Reply, Server, TRANSFER_HEAD, Transfer, Way};
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringState, VringT};
use virtio_queue::{DescriptorChain, QueueT};
use vm_memory::{
    Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryLoadGuard, GuestMemoryMmap,
    VolatileSlice,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventNotifier};

/// One for what must not wait, one for requests.
const RINGS: usize = 2;
/// Longest ring QEMU may set up.
const RING_MAX: usize = 1024;
/// VIRTIO_F_VERSION_1 (virtio 1.2, 6).
const FEATURE_VERSION_1: u64 = 1 << 32;
/// VIRTIO_RING_F_INDIRECT_DESC: long requests need one descriptor of the ring.
const FEATURE_INDIRECT: u64 = 1 << 28;
/// Longest request: data with its headers and a page for names.
const REQUEST_MAX: usize = DATA_MAX + 4096;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Ring = VringState<Memory>;
type Guard = GuestMemoryLoadGuard<GuestMemoryMmap>;

struct Device {
    server: Arc<Server>,
    memory: Option<Memory>,
    request: Vec<u8>,
    reply: Reply,
}

/// Serves the one QEMU that calls until it goes.
pub fn serve(listener: UnixListener, server: Arc<Server>) -> io::Result<()> {
    let device = Device { server, memory: None, request: vec![0; REQUEST_MAX], reply: Reply::default() };
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let failed = |error: vhost_user_backend::Error| io::Error::other(error.to_string());
    let mut daemon =
        VhostUserDaemon::new("folders".to_owned(), Arc::new(Mutex::new(device)), memory).map_err(failed)?;
    daemon.start(&mut Listener::from(listener)).map_err(failed)?;
    daemon.wait().map_err(failed)
}

impl Device {
    fn work(&mut self, ring: &mut Ring, memory: &Guard) {
        let mut chains = 0;
        while ring.get_queue().ready()
            && let Some(chain) = ring.get_queue_mut().pop_descriptor_chain(memory.clone())
        {
            let head = chain.head_index();
            // A chain that is no request is given back unused.
            let used = self.answer(chain, memory).unwrap_or(0);
            let _ = ring.add_used(head, used);
            chains += 1;
        }
        if chains > 0 && ring.needs_notification().unwrap_or(true) {
            let _ = ring.signal_used_queue();
        }
    }

    /// Answers one request; returns the length of the answer.
    fn answer(&mut self, chain: DescriptorChain<Guard>, memory: &Guard) -> io::Result<u32> {
        let (request, room) = pieces(chain, memory)?;
        let mut head = [0; TRANSFER_HEAD];
        let length = get(&request, &mut head)?;
        if let Some(transfer) = self.server.transfer(&head[..length]) {
            return carry(&transfer, &request, &room);
        }
        let length = length_of(&request);
        let bytes = self.request.get_mut(..length).ok_or(io::ErrorKind::InvalidInput)?;
        get(&request, bytes)?;
        match self.server.answer(bytes, &mut self.reply) {
            Answered::No => Ok(0),
            Answered::Yes => put(&room, self.reply.message()),
        }
    }
}

/// Lets data go straight between a file and the guest's memory.
fn carry(transfer: &Transfer, request: &[Piece<'_>], room: &[Piece<'_>]) -> io::Result<u32> {
    let done = match transfer.way {
        Way::Read => {
            let into = part(room, REPLY_HEADER, transfer.size);
            sys::guest_memory::read_at(transfer.file(), &into, transfer.offset)
        }
        Way::Write => {
            let from = part(request, TRANSFER_HEAD, transfer.size);
            sys::guest_memory::write_at(transfer.file(), &from, transfer.offset)
        }
    };
    let data = if transfer.way == Way::Read { done.as_ref().copied().unwrap_or(0) } else { 0 };
    Ok(put(room, &transfer.reply(done))? + data as u32)
}

/// A piece of the guest's memory.
type Piece<'a> = VolatileSlice<'a, ()>;

/// What the device may read of a chain, and what it may write.
fn pieces<'a>(
    chain: DescriptorChain<Guard>,
    memory: &'a Guard,
) -> io::Result<(Vec<Piece<'a>>, Vec<Piece<'a>>)> {
    let (mut request, mut room) = (Vec::new(), Vec::new());
    for descriptor in chain {
        let to = if descriptor.is_write_only() { &mut room } else { &mut request };
        for piece in memory.get_slices(descriptor.addr(), descriptor.len() as usize) {
            to.push(piece.map_err(io::Error::other)?);
        }
    }
    Ok((request, room))
}

fn length_of(pieces: &[Piece<'_>]) -> usize {
    pieces.iter().map(VolatileSlice::len).fold(0, usize::saturating_add)
}

/// So many bytes at most of the pieces from a place on.
fn part<'a>(pieces: &[Piece<'a>], mut skip: usize, mut length: usize) -> Vec<Piece<'a>> {
    let mut found = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (from, end) = (skip.min(piece.len()), skip.saturating_add(length).min(piece.len()));
        skip -= from;
        if let Ok(part) = piece.subslice(from, end - from)
            && end > from
        {
            length -= end - from;
            found.push(part);
        }
    }
    found
}

/// Copies the beginning of the pieces; returns how much that is.
fn get(pieces: &[Piece<'_>], bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    for piece in pieces {
        length += piece.read(&mut bytes[length..], 0).map_err(io::Error::other)?;
    }
    Ok(length)
}

/// Copies bytes to the beginning of the pieces; an error when there is too little room.
fn put(pieces: &[Piece<'_>], bytes: &[u8]) -> io::Result<u32> {
    let mut length = 0;
    for piece in pieces {
        length += piece.write(&bytes[length..], 0).map_err(io::Error::other)?;
    }
    if length == bytes.len() { Ok(length as u32) } else { Err(io::ErrorKind::WriteZero.into()) }
}

impl VhostUserBackendMut for Device {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        RINGS
    }

    fn max_queue_size(&self) -> usize {
        RING_MAX
    }

    fn features(&self) -> u64 {
        FEATURE_VERSION_1 | FEATURE_INDIRECT | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        None
    }

    fn handle_event(
        &mut self,
        event: u16,
        _ready: EventSet,
        rings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let Some(memory) = self.memory.as_ref().map(|memory| memory.memory()) else { return Ok(()) };
        if let Some(ring) = rings.get(usize::from(event)) {
            self.work(&mut ring.get_mut(), &memory);
        }
        Ok(())
    }
}
