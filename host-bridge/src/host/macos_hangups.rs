//! Peers that are gone altogether, told by kqueue(2): of a socket that can still be written to, the write filter says EV_EOF
//! only when nobody reads any more. It was never run there.

use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// How often a peer is looked after. One that is gone for a second was not waited for.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until the peer of a socket has closed it. A queue that is looked at costs no thread, and a wait for the write filter
/// would wake with everything the peer reads.
pub async fn hung_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let queue = Kqueue::new()?;
    let fd = usize::try_from(socket.as_raw_fd()).map_err(io::Error::other)?;
    let watch = KEvent::new(fd, EventFilter::EVFILT_WRITE, EvFlags::EV_ADD, FilterFlag::empty(), 0, 0);
    loop {
        let mut told = [watch];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let count = queue.kevent(&[watch], &mut told, Some(now))?;
        if count > 0 && told[0].flags().contains(EvFlags::EV_EOF) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
