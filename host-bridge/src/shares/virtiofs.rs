//! A virtio-fs device of our own, served to QEMU over vhost-user (virtio 1.2, 5.11).
//!
//! Queue 0 takes what must not wait (FORGET, INTERRUPT), the others take requests. A chain has the request in what the device
//! may read and room for the answer in what it may write.

use super::server::{Answered, DATA_MAX, Reply, Server};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringState, VringT};
use virtio_queue::{DescriptorChain, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
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
    fn answer(&mut self, chain: DescriptorChain<Guard>, memory: &Guard) -> Result<u32, io::Error> {
        let broken = |error: virtio_queue::Error| io::Error::other(error.to_string());
        let mut reader = chain.clone().reader(&**memory).map_err(broken)?;
        let mut writer = chain.writer(&**memory).map_err(broken)?;
        let length = reader.available_bytes();
        let request = self.request.get_mut(..length).ok_or(io::ErrorKind::InvalidInput)?;
        reader.read_exact(request)?;
        match self.server.answer(request, &mut self.reply) {
            Answered::No => Ok(0),
            Answered::Yes => {
                let message = self.reply.message();
                writer.write_all(message)?;
                Ok(message.len() as u32)
            }
        }
    }
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
