//! A virtio-vsock device of our own, served to QEMU over vhost-user, for hosts without /dev/vhost-vsock.
//!
//! ```text
//!   dialer ── Dial ──► device thread ── rings in shared guest memory ──► guest's vsock driver
//!      ◄── one end of a socketpair; the other end is the device thread's ──┘
//! ```
//!
//! It is deliberately not the ready-made daemon `vhost-device-vsock` (0.3.0): that turns the host's end of file into a
//! shutdown of both directions and passes on no guest's half-close, so `docker run -i` would lose its output at the
//! end of its input; it loses the tail of what a slow reader has not taken yet when the guest closes; and it panics
//! when a dialer leaves before the guest answers. Only the host connects: a guest's own request is reset.

mod connection;
mod device;
mod packet;
mod switch;

use device::{Device, Dial};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::EventNotifier;

/// Dials into the guest; every clone is the same device.
#[derive(Clone)]
pub struct VsockDoor {
    dials: UnboundedSender<Dial>,
    wake: Arc<EventNotifier>,
}

impl VsockDoor {
    /// Connects to a port of the guest. Before the guest's driver is loaded this waits; a port without a
    /// listener is refused.
    pub async fn dial(&self, port: u32) -> io::Result<UnixStream> {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.dials.send(Dial { port, answer }).map_err(|_| gone())?;
        self.wake.notify()?;
        answered.await.map_err(|_| gone())?
    }
}

/// Listens on `path` for one QEMU and serves it until it goes.
pub fn serve(path: &Path, guest_cid: u64) -> io::Result<VsockDoor> {
    let listener = UnixListener::bind(path)?;
    let (dials, inbox) = unbounded_channel();
    let (device, wake) = Device::new(guest_cid, inbox)?;
    let waits_for = device.waits_for();
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let daemon = VhostUserDaemon::new("vsock".to_owned(), Arc::new(Mutex::new(device)), memory)
        .map_err(|error| io::Error::other(error.to_string()))?;
    for (fd, token) in waits_for {
        for handler in daemon.get_epoll_handlers() {
            handler.register_listener(fd, EventSet::IN, u64::from(token))?;
        }
    }
    std::thread::Builder::new().name("vsock".to_owned()).spawn(move || run(daemon, listener))?;
    Ok(VsockDoor { dials, wake: Arc::new(wake) })
}

/// Speaks with QEMU until it hangs up, then ends the ring thread, which closes every stream.
fn run(mut daemon: VhostUserDaemon<Arc<Mutex<Device>>>, listener: UnixListener) {
    let started = daemon.start(&mut Listener::from(listener));
    match started.and_then(|()| daemon.wait()) {
        Ok(()) => {}
        // It is how every QEMU ends.
        Err(error) => tracing::debug!("vsock device: {error}"),
    }
    for handler in daemon.get_epoll_handlers() {
        handler.send_exit_event();
    }
}
