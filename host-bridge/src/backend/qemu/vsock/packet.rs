//! The headers of vsock packets (virtio 1.2, 5.10.6), between the guest's rings and the switch.
//!
//! What a chain of the guest must look like is `virtio-vsock`'s to judge: its [`VsockPacket`] checks addresses, lengths and
//! directions, and gives the data where it lies in the guest's memory.

use contract::vsock::HOST_CID;
use virtio_vsock::packet::{PKT_HEADER_SIZE, VsockPacket};
use vm_memory::bitmap::BitmapSlice;

/// `SHUTDOWN`: the sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// `SHUTDOWN`: the sender will send no more.
pub const SHUTDOWN_SEND: u32 = 2;
/// Longest data of one packet: Linux' VIRTIO_VSOCK_MAX_PKT_BUF_SIZE.
pub const DATA_MAX: u32 = 64 << 10;

/// The only socket type we serve.
const TYPE_STREAM: u16 = 1;

/// What a packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Asks for a connection.
    Request = 1,
    /// Grants it.
    Response = 2,
    /// Refuses or ends it.
    Reset = 3,
    /// Ends one direction, or both.
    Shutdown = 4,
    /// Carries data.
    Data = 5,
    /// Tells the sender's buffer space.
    CreditUpdate = 6,
    /// Asks for [`Op::CreditUpdate`].
    CreditRequest = 7,
}

/// A connection's two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Ours.
    pub host: u32,
    /// The guest's.
    pub guest: u32,
}

/// A packet between the host and its guest, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose it is.
    pub ports: Ports,
    /// Bytes of data behind the header.
    pub len: u32,
    /// What it does.
    pub op: Op,
    /// Of [`Op::Shutdown`].
    pub flags: u32,
    /// The sender's buffer, in bytes.
    pub buf_alloc: u32,
    /// Bytes the sender took out of its buffer since the beginning, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// What the guest with this CID sent to the host; nothing where it pretends to be another, speaks to another, or
    /// says what the standard does not know.
    pub fn sent_by<B: BitmapSlice>(guest_cid: u64, packet: &VsockPacket<'_, B>) -> Option<Header> {
        let addressed = packet.src_cid() == guest_cid && packet.dst_cid() == u64::from(HOST_CID);
        if !addressed || packet.type_() != TYPE_STREAM {
            return None;
        }
        Some(Header {
            ports: Ports { host: packet.dst_port(), guest: packet.src_port() },
            len: packet.len(),
            op: Op::from_number(packet.op())?,
            flags: packet.flags(),
            buf_alloc: packet.buf_alloc(),
            fwd_cnt: packet.fwd_cnt(),
        })
    }

    /// Writes it into a buffer of the guest with this CID. Returns how many bytes of the buffer are used with its data.
    pub fn send_to<B: BitmapSlice>(&self, guest_cid: u64, packet: &mut VsockPacket<'_, B>) -> u32 {
        packet
            .set_src_cid(u64::from(HOST_CID))
            .set_dst_cid(guest_cid)
            .set_src_port(self.ports.host)
            .set_dst_port(self.ports.guest)
            .set_len(self.len)
            .set_type(TYPE_STREAM)
            .set_op(self.op as u16)
            .set_flags(self.flags)
            .set_buf_alloc(self.buf_alloc)
            .set_fwd_cnt(self.fwd_cnt);
        PKT_HEADER_SIZE as u32 + self.len
    }
}

impl Op {
    fn from_number(number: u16) -> Option<Op> {
        use Op::{CreditRequest, CreditUpdate, Data, Request, Reset, Response, Shutdown};
        [Request, Response, Reset, Shutdown, Data, CreditUpdate, CreditRequest]
            .into_iter()
            .find(|op| *op as u16 == number)
    }
}
