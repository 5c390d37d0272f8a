//! The engine's end of the keeper socket: what PID 1 holds comes back here, and the ends of processes are told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use contract::keeper::{DecodeError, FromKeeper, Key, MESSAGE_MAX, Name, PROTOCOL_VERSION, ToKeeper};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// The keeper cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The socket failed.
    #[error("keeper socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The other side speaks another version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Delivery {
    /// What PID 1 says.
    pub message: FromKeeper,
    /// Descriptors held for the process, or under the name.
    pub fds: Vec<OwnedFd>,
}

/// The engine's end.
#[derive(Debug)]
pub struct Keeper {
    // tokio knows no SOCK_SEQPACKET; its datagram socket only lends its readiness.
    socket: UnixDatagram,
}

impl Keeper {
    /// Takes the socket over and asks for all that is held. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The socket is not one.
    pub fn connect(socket: OwnedFd) -> Result<Keeper, KeeperError> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(std::io::Error::from)?;
        let keeper = Keeper { socket: UnixDatagram::from_std(socket.into())? };
        keeper.send(&ToKeeper::Hello { version: PROTOCOL_VERSION })?;
        Ok(keeper)
    }

    /// For registrations: a blocking descriptor of the same socket would not be one, so the new process retries
    /// where PID 1's queue is full.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a message; waits where PID 1's queue is full, which it empties without asking anybody.
    ///
    /// # Errors
    /// PID 1 closed the socket.
    pub fn send(&self, message: &ToKeeper) -> Result<(), KeeperError> {
        self.send_with(message, &[])
    }

    fn send_with(&self, message: &ToKeeper, fds: &[BorrowedFd<'_>]) -> Result<(), KeeperError> {
        let bytes = message.encode();
        loop {
            match sys::packet::send(self.fd(), &bytes, fds) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => wait_for_room(self.fd())?,
                other => return Ok(other?),
            }
        }
    }

    /// The next message; `None` when PID 1 closed the socket.
    ///
    /// # Errors
    /// The socket failed or the message is not one.
    pub async fn receive(&self) -> Result<Option<Delivery>, KeeperError> {
        let take = || sys::packet::receive(self.fd(), MESSAGE_MAX, false);
        let Some(packet) = self.socket.async_io(Interest::READABLE, take).await? else { return Ok(None) };
        Ok(Some(Delivery { message: FromKeeper::decode(&packet.bytes)?, fds: packet.fds }))
    }

    /// The program of `key` shall read the end of its standard input: PID 1 closes its copy of the write end, which
    /// comes after the two output streams.
    ///
    /// # Errors
    /// As [`Keeper::send`].
    pub fn shed_stdin(&self, key: Key) -> Result<(), KeeperError> {
        self.send(&ToKeeper::Shed { key, keep: 2 })
    }

    /// PID 1 holds `fds` under `name` until [`Keeper::release`], through every death of the engine, and hands them to the next
    /// one with [`FromKeeper::Kept`]. What had the name before is closed.
    ///
    /// # Errors
    /// As [`Keeper::send`].
    pub fn keep(&self, name: Name, fds: &[BorrowedFd<'_>]) -> Result<(), KeeperError> {
        self.send_with(&ToKeeper::Keep { name }, fds)
    }

    /// PID 1 closes what it keeps under `name`.
    ///
    /// # Errors
    /// As [`Keeper::send`].
    pub fn release(&self, name: Name) -> Result<(), KeeperError> {
        self.send(&ToKeeper::Drop { name })
    }

    /// PID 1 may forget `key`.
    ///
    /// # Errors
    /// As [`Keeper::send`].
    pub fn acknowledge(&self, key: Key) -> Result<(), KeeperError> {
        self.send(&ToKeeper::Ack { key })
    }
}

/// Sends PID 1 the `Launched` message of the calling process, or of process `pid`, with the descriptors that shall outlive
/// the engine. Allocates nothing, as a new process calls it between clone3(2) and execve(2).
///
/// # Errors
/// ESRCH where there is no process `pid` any more, EPIPE where PID 1 closed the socket.
pub(crate) fn register(
    socket: BorrowedFd<'_>,
    message: &[u8],
    fds: &[BorrowedFd<'_>],
    pid: Option<u32>,
) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    loop {
        match sys::packet::send_as(socket, message, fds, pid).map_err(errno) {
            Err(Errno::AGAIN) => wait_for_room(socket).map_err(errno)?,
            other => return other,
        }
    }
}

/// Waits until `socket`, which is non-blocking for tokio's sake, takes a packet. Allocates nothing.
pub(crate) fn wait_for_room(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    let mut poll = [rustix::event::PollFd::from_borrowed_fd(socket, rustix::event::PollFlags::OUT)];
    match rustix::event::poll(&mut poll, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// PID 1's end is a socket like any other.
    #[tokio::test]
    async fn what_is_kept_arrives_and_comes_back() {
        let (ours, theirs) = sys::packet::pair().unwrap();
        let keeper = Keeper::connect(theirs).unwrap();
        let name = Name::new("port/tcp/80").unwrap();
        let (read, mut write) = std::io::pipe().unwrap();
        keeper.keep(name.clone(), &[read.as_fd()]).unwrap();
        keeper.release(name.clone()).unwrap();
        let next = || sys::packet::receive(ours.as_fd(), MESSAGE_MAX, true).unwrap().unwrap();
        assert_eq!(ToKeeper::decode(&next().bytes), Ok(ToKeeper::Hello { version: PROTOCOL_VERSION }));
        let kept = next();
        assert_eq!(ToKeeper::decode(&kept.bytes), Ok(ToKeeper::Keep { name: name.clone() }));
        assert_eq!(ToKeeper::decode(&next().bytes), Ok(ToKeeper::Drop { name: name.clone() }));
        drop(read);
        let fds: Vec<_> = kept.fds.iter().map(AsFd::as_fd).collect();
        sys::packet::send(ours.as_fd(), &FromKeeper::Kept { name: name.clone() }.encode(), &fds).unwrap();
        let delivery = keeper.receive().await.unwrap().unwrap();
        assert_eq!((delivery.message, delivery.fds.len()), (FromKeeper::Kept { name }, 1));
        write.write_all(b"its reader lives").unwrap();
    }
}
