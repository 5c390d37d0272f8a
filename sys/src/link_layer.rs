//! Hearing on a card what is not addressed to this machine yet (packet(7)), and hearing of one card alone (rtnetlink(7)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Accepts this many bytes of a packet, which is all of it.
const WHOLE: u32 = u32::MAX;

/// `code`, jump when true, jump when false, operand: Documentation/networking/filter.rst.
fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    // Every code of classic BPF fits into 16 bits.
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn load(size: u32, at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at)
}

/// Goes on where the loaded value is `k`, else passes over `otherwise` steps.
fn expect(k: u32, otherwise: u8) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, otherwise, k)
}

fn accept(bytes: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, bytes)
}

/// A socket that receives the IPv4 packets of card `index`, whoever they are for, that carry UDP to `port`. Each begins
/// with its IPv4 header. It never blocks.
///
/// # Errors
/// EPERM without CAP_NET_RAW, ENODEV without such a card.
pub fn udp_packets(index: u32, port: u16) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_IP as u16).to_be();
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: nothing is heard until bind(2) names one, so nothing slips in before the filter.
    // SAFETY: socket(2) takes three numbers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number was just returned and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    set_filter(&socket, &udp_to(port))?;
    // SAFETY: zeros are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `address`, which outlives the call.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// UDP, not a later fragment, to `port`. The header's length is in its first byte, which BPF reads by `msh`.
fn udp_to(port: u16) -> [libc::sock_filter; 9] {
    [
        load(libc::BPF_B, 9),
        expect(libc::IPPROTO_UDP as u32, 6),
        load(libc::BPF_H, 6),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 4, 0, 0x1fff),
        step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
        step(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 2),
        expect(port.into(), 1),
        accept(WHOLE),
        accept(0),
    ]
}

/// From now on a NETLINK_ROUTE socket for RTMGRP_LINK hears of card `index` alone: each container's cables come and go,
/// and would wake the listener.
///
/// # Errors
/// ENOMEM.
pub fn only_card(netlink: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // ifi_index of struct ifinfomsg, behind the 16 bytes of nlmsghdr; BPF loads big-endian.
    let program = [load(libc::BPF_W, 20), expect(index.to_be(), 1), accept(WHOLE), accept(0)];
    set_filter(&netlink, &program)
}

/// Takes [`only_card`] back.
///
/// # Errors
/// None that is known where there is a filter; ENOENT without one is none.
pub fn every_card(netlink: BorrowedFd<'_>) -> io::Result<()> {
    let none: libc::c_int = 0;
    // SAFETY: SO_DETACH_FILTER reads an int that it does not use.
    let result = unsafe {
        libc::setsockopt(
            netlink.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const none).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}

fn set_filter(socket: &impl AsRawFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, which is borrowed until the call returns, and writes none.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn only_udp_to_the_port_is_heard_and_with_its_header() {
        let ears = match udp_packets(1, 20068) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => skip::skip!("needs root"),
            opened => opened.unwrap(),
        };
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in [20067, 20068, 20069] {
            // Nobody listens there, which the second send may be told.
            let _ = sender.send_to(&[port as u8; 3], ("127.0.0.1", port));
        }
        let mut bytes = [0; 100];
        let mut next = || rustix::net::recv(&ears, &mut bytes[..], rustix::net::RecvFlags::DONTWAIT);
        let (length, _) = next().unwrap();
        assert_eq!(next().unwrap_err(), rustix::io::Errno::AGAIN);
        assert_eq!((length, bytes[0], bytes[9]), (31, 0x45, libc::IPPROTO_UDP as u8));
        assert_eq!(bytes[28..31], [20068u16 as u8; 3]);
    }

    #[test]
    fn a_filter_is_set_and_taken_back() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).unwrap();
        only_card(socket.as_fd(), 7).unwrap();
        every_card(socket.as_fd()).unwrap();
        every_card(socket.as_fd()).unwrap();
    }
}
