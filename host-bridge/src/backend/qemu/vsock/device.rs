//! The device's rings, as vhost-user hands them to us (QEMU's docs/interop/vhost-user.rst).
//!
//! Whoever writes to the rings may be hostile. A chain that is no packet is given back unused and counted; nothing the guest
//! can do is an error of the device, since the library ends the thread of a device that has one.

use super::packet::{DATA_MAX, Sent};
use super::switch::{Answer, Switch};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VringRwLock, VringState, VringT};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use virtio_vsock::packet::{Error as PacketError, VsockPacket};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

pub const RING_TO_GUEST: u16 = 0;
pub const RING_FROM_GUEST: u16 = 1;
/// QEMU keeps the third ring (events) for itself.
const RINGS: usize = 2;
/// Tokens up to [`RINGS`] belong to the library; these two are ours.
pub const TOKEN_STREAMS: u16 = 3;
/// See [`TOKEN_STREAMS`].
pub const TOKEN_DIALS: u16 = 4;

/// Longest ring QEMU may set up.
const RING_MAX: usize = 1024;
/// Chains of a ring that are worked on before other things have their turn.
const CHAINS_AT_ONCE: usize = RING_MAX;
/// VIRTIO_F_VERSION_1 (virtio 1.2, 6).
const FEATURE_VERSION_1: u64 = 1 << 32;

pub type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Ring = VringState<Memory>;
type Guard = GuestMemoryLoadGuard<GuestMemoryMmap>;

thread_local! {
    /// The library tells nobody when the thread that serves the rings has ended. Whatever ends it drops this.
    static LIFE: Cell<Option<watch::Sender<()>>> = const { Cell::new(None) };
}

/// A dial on its way to the device's thread.
pub struct Dial {
    /// Port in the guest.
    pub port: u32,
    /// Where the stream goes.
    pub answer: Answer,
}

/// How the rest of the bridge reaches the device's thread.
#[derive(Clone)]
pub struct Bell {
    wake: Arc<EventNotifier>,
    ending: Arc<AtomicBool>,
}

impl Bell {
    /// There is something to do.
    pub fn ring(&self) -> io::Result<()> {
        self.wake.notify()
    }

    /// Ends the thread.
    pub fn end(&self) -> io::Result<()> {
        self.ending.store(true, Ordering::Release);
        self.ring()
    }
}

/// See the module.
pub struct Device {
    guest_cid: u64,
    switch: Switch,
    memory: Option<Memory>,
    dials: mpsc::Receiver<Dial>,
    woken: EventConsumer,
    bell: Bell,
    life: Option<watch::Sender<()>>,
    /// Chains that were no packets.
    broken: u64,
}

impl Device {
    /// A device that takes dials from a channel whose sender rings the bell. The sender of `life` is dropped when its thread
    /// ends.
    pub fn new(
        guest_cid: u64,
        dials: mpsc::Receiver<Dial>,
        life: watch::Sender<()>,
    ) -> io::Result<(Device, Bell)> {
        let (woken, wake) = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC)?;
        let bell = Bell { wake: Arc::new(wake), ending: Arc::default() };
        let device = Device {
            guest_cid,
            switch: Switch::new()?,
            memory: None,
            dials,
            woken,
            bell: bell.clone(),
            life: Some(life),
            broken: 0,
        };
        Ok((device, bell))
    }

    /// What the device's thread has to wait for besides the rings, with its tokens.
    pub fn waits_for(&self) -> [(RawFd, u16); 2] {
        [(self.woken.as_raw_fd(), TOKEN_DIALS), (self.switch.streams_fd().as_raw_fd(), TOKEN_STREAMS)]
    }

    fn take_dials(&mut self) {
        // An event that was read already has nothing more to say than the channel has.
        let _ = self.woken.consume();
        while let Ok(dial) = self.dials.try_recv() {
            self.switch.dial(dial.port, dial.answer);
        }
    }

    /// Takes what the guest has put up. Returns whether there may be more.
    fn receive(&mut self, ring: &mut Ring, memory: &Guard) -> bool {
        let mut chains = 0;
        while chains < CHAINS_AT_ONCE
            && let Some(chain) = pop(ring, memory)
        {
            let head = chain.head_index();
            match Sent::read(self.guest_cid, memory, chain) {
                // What is a packet but none for us is passed over, as a network card does.
                Ok(Sent { header: None, .. }) => {}
                Ok(Sent { header: Some(header), data }) => self.switch.receive(&header, &data),
                Err(error) => self.count(&error),
            }
            give_back(ring, head, 0);
            chains += 1;
        }
        notify(ring, chains);
        chains == CHAINS_AT_ONCE
    }

    /// Gives the guest the packets it has buffers for. Returns whether there may be more.
    fn deliver(&mut self, ring: &mut Ring, memory: &Guard) -> bool {
        let mut chains = 0;
        while chains < CHAINS_AT_ONCE
            && self.switch.has_packets()
            && let Some(chain) = pop(ring, memory)
        {
            let head = chain.head_index();
            match self.fill(chain, memory) {
                Ok(Some(used)) => give_back(ring, head, used),
                // Nothing to send: the buffer stays the guest's first free one.
                Ok(None) => {
                    ring.get_queue_mut().go_to_previous_position();
                    break;
                }
                Err(error) => {
                    self.count(&error);
                    give_back(ring, head, 0);
                }
            }
            chains += 1;
        }
        notify(ring, chains);
        chains == CHAINS_AT_ONCE
    }

    /// Puts the next packet into a buffer; returns its length.
    fn fill(
        &mut self,
        mut chain: DescriptorChain<Guard>,
        memory: &Guard,
    ) -> Result<Option<u32>, PacketError> {
        let mut packet = VsockPacket::from_rx_virtq_chain(&**memory, &mut chain, DATA_MAX)?;
        // Without room for data a connection that has some would never be done.
        let room = packet.data_slice().ok_or(PacketError::DescriptorLengthTooSmall)?;
        let room = room.subslice(0, room.len().min(DATA_MAX as usize)).expect("no more than its length");
        Ok(self.switch.next(&room).map(|header| header.send_to(self.guest_cid, &mut packet)))
    }

    /// A guest may do this for ever, and the log is bounded.
    fn count(&mut self, error: &PacketError) {
        self.broken += 1;
        if self.broken.is_power_of_two() {
            tracing::warn!("{} chains of the guest's vsock driver were no packets: {error}", self.broken);
        }
    }

    /// Works on both rings, and comes back to them later when they have more than their turn.
    fn work(&mut self, rings: &[VringRwLock]) -> io::Result<()> {
        // Before the guest's driver is there, dials wait in the switch.
        let Some(memory) = self.memory.as_ref().map(|memory| memory.memory()) else { return Ok(()) };
        let received = self.receive(&mut rings[usize::from(RING_FROM_GUEST)].get_mut(), &memory);
        let delivered = self.deliver(&mut rings[usize::from(RING_TO_GUEST)].get_mut(), &memory);
        if received || delivered { self.bell.ring() } else { Ok(()) }
    }
}

fn pop(ring: &mut Ring, memory: &Guard) -> Option<DescriptorChain<Guard>> {
    match ring.get_queue().ready() {
        true => ring.get_queue_mut().pop_descriptor_chain(memory.clone()),
        false => None,
    }
}

/// A head that is none, or a used ring that is nowhere, is the loss of the guest that set it up.
fn give_back(ring: &mut Ring, head: u16, used: u32) {
    let _ = ring.add_used(head, used);
}

fn notify(ring: &mut Ring, chains: usize) {
    if chains > 0 && ring.needs_notification().unwrap_or(true) {
        // A counter that overflows was not read: the guest has been told.
        let _ = ring.signal_used_queue();
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

    /// The library never closes its end of such an event; [`Bell::end`] does the same and leaves nothing open.
    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        None
    }

    /// Its only error is the end.
    fn handle_event(
        &mut self,
        event: u16,
        _ready: EventSet,
        rings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        if let Some(life) = self.life.take() {
            LIFE.set(Some(life));
        }
        if self.bell.ending.load(Ordering::Acquire) {
            return Err(io::Error::other("it is over"));
        }
        match event {
            TOKEN_STREAMS => self.switch.serve_streams()?,
            TOKEN_DIALS => self.take_dials(),
            _ => {}
        }
        self.work(rings)
    }
}
