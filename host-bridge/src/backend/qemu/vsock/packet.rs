//! The headers of vsock packets (virtio 1.2, 5.10.6), between the guest's rings and the switch.
//!
//! A buffer for the guest is `virtio-vsock`'s to judge: its [`VsockPacket`] checks address, length and direction, and gives
//! the room for data where it lies in the guest's memory. What the guest sends is taken apart here ([`Sent`]), since that crate
//! wants a packet's data in one descriptor: a device must not assume how a driver splits its buffers (virtio 1.2, 2.7.4.1),
//! and Debian's 6.12.117 sends large writes page by page.

use contract::vsock::HOST_CID;
use std::ops::Deref;
use virtio_queue::DescriptorChain;
use virtio_vsock::packet::{Error as PacketError, PKT_HEADER_SIZE, VsockPacket};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

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
    fn decode(guest_cid: u64, bytes: &[u8; PKT_HEADER_SIZE]) -> Option<Header> {
        let u16_at = |at: usize| u16::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
        let u32_at = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
        let u64_at = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
        let addressed = u64_at(0) == guest_cid && u64_at(8) == u64::from(HOST_CID);
        if !addressed || u16_at(28) != TYPE_STREAM {
            return None;
        }
        Some(Header {
            ports: Ports { host: u32_at(20), guest: u32_at(16) },
            len: u32_at(24),
            op: Op::from_number(u16_at(30))?,
            flags: u32_at(32),
            buf_alloc: u32_at(36),
            fwd_cnt: u32_at(40),
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

/// A packet the guest sent, its data where it lies in the guest's memory.
pub struct Sent<'a> {
    /// Nothing where the packet is none for the host.
    pub header: Option<Header>,
    /// Piece by piece.
    pub data: Vec<VolatileSlice<'a>>,
}

impl<'a> Sent<'a> {
    /// Takes a chain of the guest with this CID apart.
    pub fn read<M>(
        guest_cid: u64,
        memory: &'a GuestMemoryMmap,
        chain: DescriptorChain<M>,
    ) -> Result<Sent<'a>, PacketError>
    where
        M: Deref,
        M::Target: GuestMemory,
    {
        let mut header = [0; PKT_HEADER_SIZE];
        let mut read = 0;
        let mut data = Vec::new();
        for piece in pieces(memory, chain)? {
            let part = piece.len().min(PKT_HEADER_SIZE - read);
            cut(&piece, 0, part).copy_to(&mut header[read..read + part]);
            read += part;
            data.push(cut(&piece, part, piece.len() - part));
        }
        if read < PKT_HEADER_SIZE {
            return Err(PacketError::DescriptorChainTooShort);
        }
        let length = u32::from_le_bytes(*header[24..].first_chunk().expect("within the header"));
        shorten(&mut data, length)?;
        Ok(Sent { header: Header::decode(guest_cid, &header), data })
    }
}

/// What the guest lets us read of a chain.
fn pieces<M>(
    memory: &GuestMemoryMmap,
    chain: DescriptorChain<M>,
) -> Result<Vec<VolatileSlice<'_>>, PacketError>
where
    M: Deref,
    M::Target: GuestMemory,
{
    let mut pieces = Vec::new();
    for descriptor in chain.readable() {
        let slices = memory.get_slices(descriptor.addr(), descriptor.len() as usize, Permissions::Read);
        for slice in slices.map_err(PacketError::InvalidMemoryAccess)? {
            pieces.push(slice.map_err(PacketError::InvalidMemoryAccess)?);
        }
    }
    Ok(pieces)
}

/// Leaves the first `length` bytes, which must be there.
fn shorten(data: &mut Vec<VolatileSlice>, length: u32) -> Result<(), PacketError> {
    if length > DATA_MAX {
        return Err(PacketError::InvalidHeaderLen(length));
    }
    let mut left = length as usize;
    for piece in data.iter_mut() {
        *piece = cut(piece, 0, piece.len().min(left));
        left -= piece.len();
    }
    data.retain(|piece| !piece.is_empty());
    if left == 0 { Ok(()) } else { Err(PacketError::DescriptorLengthTooSmall) }
}

fn cut<'a>(piece: &VolatileSlice<'a>, from: usize, count: usize) -> VolatileSlice<'a> {
    piece.subslice(from, count).expect("within the piece")
}

impl Op {
    fn from_number(number: u16) -> Option<Op> {
        use Op::{CreditRequest, CreditUpdate, Data, Request, Reset, Response, Shutdown};
        [Request, Response, Reset, Shutdown, Data, CreditUpdate, CreditRequest]
            .into_iter()
            .find(|op| *op as u16 == number)
    }
}
