//! The device's rings, as vhost-user hands them to us (QEMU's docs/interop/vhost-user.rst).

use super::packet::{HEADER_BYTES, Header};
use super::switch::{Answer, Switch};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use tokio::sync::mpsc::UnboundedReceiver;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VringRwLock, VringState, VringT};
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

const RING_TO_GUEST: u16 = 0;
const RING_FROM_GUEST: u16 = 1;
/// QEMU keeps the third ring (events) for itself.
const RINGS: usize = 2;
/// Tokens up to [`RINGS`] belong to the library; these two are ours.
pub const TOKEN_STREAMS: u16 = 3;
/// See [`TOKEN_STREAMS`].
pub const TOKEN_DIALS: u16 = 4;

/// VIRTIO_F_VERSION_1 (virtio 1.2, 6).
const FEATURE_VERSION_1: u64 = 1 << 32;
/// Longest packet a guest may send: Linux' VIRTIO_VSOCK_MAX_PKT_BUF_SIZE.
const DATA_MAX: usize = 64 << 10;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Ring = VringState<Memory>;

/// A dial on its way to the device's thread.
pub struct Dial {
    /// Port in the guest.
    pub port: u32,
    /// Where the stream goes.
    pub answer: Answer,
}

/// See the module.
pub struct Device {
    guest_cid: u64,
    switch: Switch,
    memory: Option<Memory>,
    dials: UnboundedReceiver<Dial>,
    woken: EventConsumer,
    scratch: Vec<u8>,
}

impl Device {
    /// A device that takes dials from a channel whose sender notifies the second part.
    pub fn new(guest_cid: u64, dials: UnboundedReceiver<Dial>) -> io::Result<(Device, EventNotifier)> {
        let (woken, wake) = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC)?;
        let switch = Switch::new(guest_cid)?;
        let device = Device { guest_cid, switch, memory: None, dials, woken, scratch: vec![0; DATA_MAX] };
        Ok((device, wake))
    }

    /// What the device's thread has to wait for besides the rings, with its tokens.
    pub fn waits_for(&self) -> [(RawFd, u16); 2] {
        [(self.switch.streams_fd().as_raw_fd(), TOKEN_STREAMS), (self.woken.as_raw_fd(), TOKEN_DIALS)]
    }

    fn take_dials(&mut self) {
        // An event that was read already has nothing more to say than the channel has.
        let _ = self.woken.consume();
        while let Ok(dial) = self.dials.try_recv() {
            self.switch.dial(dial.port, dial.answer);
        }
    }

    /// Takes every packet the guest has put up.
    fn receive(&mut self, ring: &mut Ring, memory: &GuestMemoryLoadGuard<GuestMemoryMmap>) -> io::Result<()> {
        let mut any = false;
        while let Some(chain) = ring.get_queue_mut().pop_descriptor_chain(memory.clone()) {
            let head = chain.head_index();
            let mut bytes = [0; HEADER_BYTES];
            let mut reader = chain.reader(memory).map_err(io::Error::other)?;
            if reader.read_exact(&mut bytes).is_ok()
                && let Some(header) = Header::decode(&bytes)
                && let Some(data) = self.scratch.get_mut(..header.len as usize)
                && reader.read_exact(data).is_ok()
                && header.src_cid == self.guest_cid
            {
                self.switch.receive(&header, data);
            }
            ring.add_used(head, 0).map_err(io::Error::other)?;
            any = true;
        }
        notify(ring, any)
    }

    /// Gives the guest every packet it has buffers for.
    fn deliver(&mut self, ring: &mut Ring, memory: &GuestMemoryLoadGuard<GuestMemoryMmap>) -> io::Result<()> {
        if !ring.get_queue().ready() {
            return Ok(());
        }
        let mut any = false;
        while let Some(chain) = ring.get_queue_mut().pop_descriptor_chain(memory.clone()) {
            let head = chain.head_index();
            let mut writer = chain.writer(memory).map_err(io::Error::other)?;
            let room = writer.available_bytes().saturating_sub(HEADER_BYTES);
            let Some((header, data)) = self.switch.next(room.min(DATA_MAX)) else {
                // Nothing to send: the buffer stays the guest's first free one.
                let queue = ring.get_queue_mut();
                queue.set_next_avail(queue.next_avail().wrapping_sub(1));
                break;
            };
            writer.write_all(&header.encode())?;
            writer.write_all(&data)?;
            // A header and at most 64 KiB.
            let length = (HEADER_BYTES + data.len()) as u32;
            ring.add_used(head, length).map_err(io::Error::other)?;
            any = true;
        }
        notify(ring, any)
    }
}

fn notify(ring: &mut Ring, any: bool) -> io::Result<()> {
    match any && ring.needs_notification().map_err(io::Error::other)? {
        true => ring.signal_used_queue(),
        false => Ok(()),
    }
}

impl VhostUserBackendMut for Device {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        RINGS
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        FEATURE_VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    /// The configuration space is the guest's CID (virtio 1.2, 5.10.4).
    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let bytes = self.guest_cid.to_le_bytes();
        let range = offset as usize..(offset as usize).saturating_add(size as usize);
        bytes.get(range).map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()
    }

    fn handle_event(
        &mut self,
        event: u16,
        _ready: EventSet,
        rings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        match event {
            TOKEN_STREAMS => self.switch.serve_streams()?,
            TOKEN_DIALS => self.take_dials(),
            _ => {}
        }
        // Before the guest's driver is there, dials wait in the switch.
        let Some(memory) = self.memory.as_ref().map(|memory| memory.memory()) else { return Ok(()) };
        if event == RING_FROM_GUEST {
            self.receive(&mut rings[usize::from(RING_FROM_GUEST)].get_mut(), &memory)?;
        }
        self.deliver(&mut rings[usize::from(RING_TO_GUEST)].get_mut(), &memory)
    }
}
