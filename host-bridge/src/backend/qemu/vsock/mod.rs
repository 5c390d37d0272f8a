//! A virtio-vsock device of our own, served to QEMU over vhost-user.
//!
//! ```text
//!   dialer ── Dial ──► device thread ── rings in shared guest memory ──► guest's vsock driver
//!      ◄── one end of a socketpair; the other end is the device thread's ──┘
//! ```
//!
//! It is deliberately not the kernel's device (/dev/vhost-vsock): behind that one every user of this host is CID 2, for whom
//! the guest opens its API and its control lines. This one belongs to the bridge alone, and needs no rights.
//!
//! Nor is it the ready-made daemon `vhost-device-vsock` (0.3.0): that turns the host's end of file into a
//! shutdown of both directions and passes on no guest's half-close, so `docker run -i` would lose its output at the
//! end of its input; it loses the tail of what a slow reader has not taken yet when the guest closes; and it panics
//! when a dialer leaves before the guest answers. Only the host connects: a guest's own request is reset.

mod connection;
mod device;
mod packet;
#[cfg(any(test, fuzzing))]
pub mod replay;
mod switch;

use device::{Bell, Device, Dial};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switch::DIALS_MAX;
use tokio::sync::{mpsc, oneshot, watch};
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

/// CIDs from 3 on are guests' (vsock(7)), and this device has one.
const GUEST_CID: u64 = 3;
/// A guest that runs answers in milliseconds; one that has not loaded its driver yet is dialled again by who waits for it.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Dials into the guest; every clone is the same device.
#[derive(Clone)]
pub struct VsockDoor {
    dials: mpsc::Sender<Dial>,
    bell: Bell,
    life: watch::Receiver<()>,
}

impl VsockDoor {
    /// Connects to a port of the guest. Before the guest's driver is loaded this waits; a port without a listener is refused.
    /// Whoever drops it takes the dial back.
    pub async fn dial(&self, port: u32) -> io::Result<UnixStream> {
        let (answer, answered) = oneshot::channel();
        self.dials.try_send(Dial { port, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => io::Error::from(io::ErrorKind::ResourceBusy),
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        self.bell.ring()?;
        tokio::select! {
            answer = answered => answer.map_err(|_| gone())?,
            () = self.ended() => Err(gone()),
            () = tokio::time::sleep(DIAL_DEADLINE) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits until the device serves nobody any more.
    pub async fn ended(&self) {
        let mut life = self.life.clone();
        while life.changed().await.is_ok() {}
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// Listens on `path` for one QEMU and serves it until it goes.
pub fn serve(path: &Path) -> io::Result<VsockDoor> {
    let listener = UnixListener::bind(path)?;
    let (dials, inbox) = mpsc::channel(DIALS_MAX);
    let (alive, life) = watch::channel(());
    let (device, bell) = Device::new(GUEST_CID, inbox, alive)?;
    let waits_for = device.waits_for();
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let daemon = VhostUserDaemon::new("vsock".to_owned(), Arc::new(Mutex::new(device)), memory)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let served = Served { daemon: Some(daemon), bell: bell.clone() };
    served.register(&waits_for)?;
    std::thread::Builder::new().name("vsock".to_owned()).spawn(move || served.run(listener))?;
    // The thread's first turn: from now on its end is seen.
    bell.ring()?;
    Ok(VsockDoor { dials, bell, life })
}

/// The library's threads: one for QEMU's requests, one for the rings.
struct Served {
    daemon: Option<VhostUserDaemon<Arc<Mutex<Device>>>>,
    bell: Bell,
}

impl Served {
    fn register(&self, waits_for: &[(RawFd, u16)]) -> io::Result<()> {
        for handler in self.daemon.iter().flat_map(VhostUserDaemon::get_epoll_handlers) {
            for (fd, token) in waits_for {
                handler.register_listener(*fd, EventSet::IN, u64::from(*token))?;
            }
        }
        Ok(())
    }

    /// Speaks with QEMU until it hangs up.
    fn run(mut self, listener: UnixListener) {
        let Some(daemon) = &mut self.daemon else { return };
        let started = daemon.start(&mut Listener::from(listener));
        match started.and_then(|()| daemon.wait()) {
            Ok(()) => {}
            // It is how every QEMU ends.
            Err(error) => tracing::debug!("vsock device: {error}"),
        }
    }
}

impl Drop for Served {
    /// Ends the thread of the rings, which closes every stream. The library would wait for it without telling it so.
    fn drop(&mut self) {
        if let Err(error) = self.bell.end() {
            tracing::warn!("the vsock device's thread stays behind: {error}");
            std::mem::forget(self.daemon.take());
        }
    }
}
