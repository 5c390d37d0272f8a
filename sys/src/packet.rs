//! `SOCK_SEQPACKET` packets with file descriptors and the sender's process id, unix(7).
//!
//! A packet is whole or it is an error: a truncated one is never handed out.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, UCred, recvmsg, sendmsg, socketpair, sockopt,
};
use rustix::process::{Gid, Pid, Uid};

/// Most descriptors that one packet may carry.
pub const FDS_MAX: usize = 32;

/// One received packet.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its descriptors, all close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Process id of the sender as the receiver's pid namespace sees it, if [`pass_credentials`] was called.
    pub pid: Option<u32>,
}

/// Both ends of a new connection, close-on-exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Waits for a peer of `fd` end after `limit`, with `WouldBlock` as the error (SO_RCVTIMEO and SO_SNDTIMEO in socket(7)).
pub fn limit_waits(fd: BorrowedFd<'_>, limit: std::time::Duration) -> io::Result<()> {
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Recv, Some(limit))?;
    Ok(sockopt::set_socket_timeout(fd, sockopt::Timeout::Send, Some(limit))?)
}

/// From now on the kernel writes the sender's process id beside every packet that `fd` receives (SO_PASSCRED).
pub fn pass_credentials(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_socket_passcred(fd, true)?)
}

/// Sends one packet; waits for room unless `fd` is non-blocking. A peer that is gone is `BrokenPipe`.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(fd, bytes, fds, None, SendFlags::NOSIGNAL)
}

/// [`send`] in the name of process `pid`, where one is given: the kernel lets a process with CAP_SYS_ADMIN name another one
/// (SCM_CREDENTIALS in unix(7)). Allocates nothing.
pub fn send_as(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>], pid: Option<u32>) -> io::Result<()> {
    send_with(fd, bytes, fds, pid, SendFlags::NOSIGNAL)
}

/// [`send`] that answers `WouldBlock` where it would have to wait.
pub fn try_send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(fd, bytes, fds, None, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

/// The kernel reports ECONNRESET once, before anything else, to a socket whose peer was closed with packets
/// unread. It says nothing about our own queue, which still holds what the peer sent, so both directions go on:
/// a receiver comes to its packets, a sender to EPIPE.
fn send_with(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    pid: Option<u32>,
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX), ScmCredentials(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > FDS_MAX || !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG.into());
    }
    if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let sender = UCred { pid, uid: Uid::ROOT, gid: Gid::ROOT };
        control.push(SendAncillaryMessage::ScmCredentials(sender));
    }
    loop {
        match sendmsg(fd, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the next packet of at most `max` bytes; `None` when the peer is gone and all was read. Without `wait`
/// an empty queue is `WouldBlock`. A packet that is longer, or carries more descriptors than [`FDS_MAX`] or than
/// this process may open, is `InvalidData`: it is dropped and its descriptors are closed.
pub fn receive(fd: BorrowedFd<'_>, max: usize, wait: bool) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; max];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let got = loop {
        match recvmsg(fd, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    bytes.truncate(got.bytes);
    let (fds, pid) = unpack(&mut control);
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "packet was truncated"));
    }
    // The end of the connection has neither bytes nor descriptors; nobody sends packets without bytes.
    Ok((!bytes.is_empty() || !fds.is_empty()).then_some(Packet { bytes, fds, pid }))
}

fn unpack(control: &mut RecvAncillaryBuffer<'_>) -> (Vec<OwnedFd>, Option<u32>) {
    let (mut fds, mut pid) = (Vec::new(), None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
            RecvAncillaryMessage::ScmCredentials(from) => pid = Some(from.pid.as_raw_pid().cast_unsigned()),
            _ => {}
        }
    }
    (fds, pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_packet_arrives_whole_with_descriptors_and_sender() {
        let (a, b) = pair().unwrap();
        pass_credentials(b.as_fd()).unwrap();
        let (mut read, write) = std::io::pipe().unwrap();
        send(a.as_fd(), b"hello", &[write.as_fd()]).unwrap();
        drop(write);
        let packet = receive(b.as_fd(), 64, true).unwrap().unwrap();
        assert_eq!((packet.bytes.as_slice(), packet.pid), (&b"hello"[..], Some(std::process::id())));
        File::from(packet.fds.into_iter().next().unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn root_may_name_another_sender() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (a, b) = pair().unwrap();
        pass_credentials(b.as_fd()).unwrap();
        send_as(a.as_fd(), b"x", &[], Some(1)).unwrap();
        assert_eq!(receive(b.as_fd(), 8, true).unwrap().unwrap().pid, Some(1));
        let nobody = i32::MAX.cast_unsigned();
        let error = send_as(a.as_fd(), b"x", &[], Some(nobody)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn boundaries_are_kept_and_the_end_is_none() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"one", &[]).unwrap();
        send(a.as_fd(), b"two", &[]).unwrap();
        drop(a);
        assert_eq!(receive(b.as_fd(), 64, false).unwrap().unwrap().bytes, b"one");
        let two = receive(b.as_fd(), 64, false).unwrap().unwrap();
        assert_eq!((two.bytes.as_slice(), two.pid), (&b"two"[..], None));
        assert!(receive(b.as_fd(), 64, false).unwrap().is_none());
    }

    #[test]
    fn waiting_is_refused_and_truncation_is_an_error() {
        let (a, b) = pair().unwrap();
        assert_eq!(receive(b.as_fd(), 64, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send(a.as_fd(), b"too long", &[]).unwrap();
        assert_eq!(receive(b.as_fd(), 3, true).unwrap_err().kind(), io::ErrorKind::InvalidData);
        while try_send(a.as_fd(), b"fill", &[]).is_ok() {}
        assert_eq!(try_send(a.as_fd(), b"fill", &[]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send(b.as_fd(), b"last word", &[]).unwrap();
        drop(b);
        assert_eq!(receive(a.as_fd(), 64, false).unwrap().unwrap().bytes, b"last word");
        assert_eq!(send(a.as_fd(), b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
