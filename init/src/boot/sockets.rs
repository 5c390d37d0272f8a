//! The listening sockets. PID 1 makes them once and every engine of this boot inherits them: a client that connects
//! while the engine restarts waits in the queue and is served.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use contract::host::{ADDRESS, CARRIER_PORT as HOST_PORT, NAME_SERVER, RESOLVER_PORT};
use contract::paths::{CARRIER_SOCKET, CONTROL_SOCKET, DOCKER_SOCKET, DOOR_SOCKET, SSH_AGENT_SOCKET};
use contract::settings::Backend;
use contract::vsock::{API_PORT, CARRIER_PORT, CONTROL_PORT, DOOR_PORT};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, bind, socket};
use rustix::net::{SocketAddrUnix, SocketType};

use crate::messages::say;

use super::{BootError, Machine};

/// Connections that may wait; a shorter queue was seen to refuse bursts (a guest's `listen(8)` served 9 of 64).
const BACKLOG: i32 = 4096;

/// VMADDR_CID_ANY
const ANY: u32 = u32::MAX;

/// The Docker group's socket: owner and group.
const API_MODE: u32 = 0o660;
const CONTROL_MODE: u32 = 0o600;
/// Whoever has it in a container may ask, as with Docker Desktop; nobody else in the machine sees it.
const AGENT_MODE: u32 = 0o666;

/// See the module.
#[derive(Debug)]
pub struct Sockets {
    api_unix: OwnedFd,
    api_vsock: Option<OwnedFd>,
    control_unix: OwnedFd,
    control_vsock: Option<OwnedFd>,
    door: Option<OwnedFd>,
    carrier: Option<OwnedFd>,
    agent: OwnedFd,
    host: Option<OwnedFd>,
    names_udp: Option<OwnedFd>,
    names_tcp: Option<OwnedFd>,
}

impl Sockets {
    /// The API on the unix socket.
    pub fn api_unix(&self) -> BorrowedFd<'_> {
        self.api_unix.as_fd()
    }

    /// The API on vsock, where there is vsock.
    pub fn api_vsock(&self) -> Option<BorrowedFd<'_>> {
        self.api_vsock.as_ref().map(AsFd::as_fd)
    }

    /// The control lines on the unix socket.
    pub fn control_unix(&self) -> BorrowedFd<'_> {
        self.control_unix.as_fd()
    }

    /// The control lines on vsock, where there is vsock.
    pub fn control_vsock(&self) -> Option<BorrowedFd<'_>> {
        self.control_vsock.as_ref().map(AsFd::as_fd)
    }

    /// The host door: on vsock in a machine that has it, on a unix socket in namespaces.
    pub fn door(&self) -> Option<BorrowedFd<'_>> {
        self.door.as_ref().map(AsFd::as_fd)
    }

    /// The ssh agent's, which containers mount.
    pub fn agent(&self) -> BorrowedFd<'_> {
        self.agent.as_fd()
    }

    /// That of the address which stands for the host.
    pub fn host(&self) -> Option<BorrowedFd<'_>> {
        self.host.as_ref().map(AsFd::as_fd)
    }

    /// The name server's for UDP.
    pub fn names_udp(&self) -> Option<BorrowedFd<'_>> {
        self.names_udp.as_ref().map(AsFd::as_fd)
    }

    /// The name server's for TCP.
    pub fn names_tcp(&self) -> Option<BorrowedFd<'_>> {
        self.names_tcp.as_ref().map(AsFd::as_fd)
    }

    /// The carrier's, in the same way.
    pub fn carrier(&self) -> Option<BorrowedFd<'_>> {
        self.carrier.as_ref().map(AsFd::as_fd)
    }
}

/// Makes them all.
pub fn listen(machine: &mut Machine) -> Result<(), BootError> {
    let unix = |path: &'static str, mode| {
        listen_unix(path, mode).map_err(|source| BootError::Write { path: path.into(), source })
    };
    let vsock = |port| (machine.settings.backend == Backend::Vm).then(|| listen_vsock(port)).flatten();
    let of_host = |path, port| match machine.settings.backend {
        Backend::Namespace => unix(path, CONTROL_MODE).map(Some),
        Backend::Vm => Ok(vsock(port)),
    };
    machine.sockets = Some(Sockets {
        api_unix: unix(DOCKER_SOCKET, API_MODE)?,
        api_vsock: vsock(API_PORT),
        control_unix: unix(CONTROL_SOCKET, CONTROL_MODE)?,
        control_vsock: vsock(CONTROL_PORT),
        door: of_host(DOOR_SOCKET, DOOR_PORT)?,
        carrier: of_host(CARRIER_SOCKET, CARRIER_PORT)?,
        agent: unix(SSH_AGENT_SOCKET, AGENT_MODE)?,
        host: at(SocketType::STREAM, ADDRESS, HOST_PORT),
        names_udp: at(SocketType::DGRAM, NAME_SERVER, RESOLVER_PORT),
        names_tcp: at(SocketType::STREAM, NAME_SERVER, RESOLVER_PORT),
    });
    Ok(())
}

/// Closes them: whoever still waits in a queue is told that nobody comes.
pub fn remove(machine: &mut Machine) {
    machine.sockets = None;
    for path in [DOCKER_SOCKET, CONTROL_SOCKET, DOOR_SOCKET, CARRIER_SOCKET, SSH_AGENT_SOCKET] {
        let _ = std::fs::remove_file(path);
    }
}

fn listen_unix(path: &str, mode: u32) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, bind, listen, socket_with};
    if let Some(folder) = std::path::Path::new(path).parent() {
        std::fs::create_dir_all(folder)?;
    }
    // In namespaces /run may be a folder of the host with the sockets of an earlier boot.
    let _ = std::fs::remove_file(path);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A socket at an address that the machine may get later, where it has a host (`IP_FREEBIND`, ip(7)).
fn at(kind: SocketType, address: Ipv4Addr, port: u16) -> Option<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, bind, listen, socket_with, sockopt};
    let open = || -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
        sockopt::set_ip_freebind(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(address, port))?;
        if kind == SocketType::STREAM {
            listen(&socket, BACKLOG)?;
        }
        Ok(socket)
    };
    open().map_err(|error| say!("nobody listens at {address}:{port}: {error}")).ok()
}

/// A machine without vsock (a cloud's) is reached otherwise.
fn listen_vsock(port: u32) -> Option<OwnedFd> {
    let listen = || -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &VsockAddr::new(ANY, port))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    listen().map_err(|error| say!("no vsock port {port}: {error}")).ok()
}
