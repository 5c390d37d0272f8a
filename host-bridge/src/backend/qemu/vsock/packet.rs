//! The 44 bytes before every vsock packet (virtio 1.2, 5.10.6).

/// Length of a header in bytes.
pub const HEADER_BYTES: usize = 44;
/// The only socket type we serve.
pub const TYPE_STREAM: u16 = 1;
/// `SHUTDOWN`: the sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// `SHUTDOWN`: the sender will send no more.
pub const SHUTDOWN_SEND: u32 = 2;

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

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who sent it.
    pub src_cid: u64,
    /// Whom it is for.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of data behind the header.
    pub len: u32,
    /// Socket type.
    pub kind: u16,
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
    /// The bytes on the ring.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        out[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        out[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        out[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        out[24..28].copy_from_slice(&self.len.to_le_bytes());
        out[28..30].copy_from_slice(&self.kind.to_le_bytes());
        out[30..32].copy_from_slice(&(self.op as u16).to_le_bytes());
        out[32..36].copy_from_slice(&self.flags.to_le_bytes());
        out[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        out[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        out
    }

    /// Reads the ring's bytes; nothing for an operation the standard does not name.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let u16_at = |at: usize| u16::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
        let u32_at = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
        let u64_at = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
        Some(Header {
            src_cid: u64_at(0),
            dst_cid: u64_at(8),
            src_port: u32_at(16),
            dst_port: u32_at(20),
            len: u32_at(24),
            kind: u16_at(28),
            op: Op::from_number(u16_at(30))?,
            flags: u32_at(32),
            buf_alloc: u32_at(36),
            fwd_cnt: u32_at(40),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_ring() {
        let header = Header {
            src_cid: 2,
            dst_cid: 3,
            src_port: u32::MAX,
            dst_port: 2375,
            len: 65536,
            kind: TYPE_STREAM,
            op: Op::Shutdown,
            flags: SHUTDOWN_SEND,
            buf_alloc: 262_144,
            fwd_cnt: 7,
        };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        let mut bytes = header.encode();
        bytes[30] = 9;
        assert_eq!(Header::decode(&bytes), None);
    }
}
