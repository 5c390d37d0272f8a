//! Accepting connections of any address family, with the peer told.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine.
    Unix,
    /// A machine by its context id; see vsock(7).
    Vsock {
        /// 2 is the host.
        cid: u32,
    },
}

/// Takes the next waiting connection, close-on-exec and non-blocking.
///
/// # Errors
/// Those of accept4(2); `WouldBlock` where the listener is non-blocking and nobody waits; `Unsupported` for a
/// peer of another family.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Peer)> {
    // SAFETY: all-zero bytes are a valid address of any family.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `address` and `length` describe writable memory large enough for every family.
    let socket =
        unsafe { libc::accept4(listener.as_raw_fd(), (&raw mut address).cast(), &raw mut length, flags) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: accept4 made the descriptor and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let peer = match i32::from(address.ss_family) {
        libc::AF_UNIX | libc::AF_UNSPEC => Peer::Unix,
        libc::AF_VSOCK => {
            // SAFETY: the family says that the kernel wrote a sockaddr_vm, which is smaller than the storage.
            let address = unsafe { &*(&raw const address).cast::<libc::sockaddr_vm>() };
            Peer::Vsock { cid: address.svm_cid }
        }
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    Ok((socket, peer))
}
