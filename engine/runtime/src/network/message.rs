//! Netlink messages as bytes, see netlink(7): a batch of requests in one buffer, and what comes back.
//!
//! One writer serves both rtnetlink and nftables. It knows lengths and padding and none of the meanings.

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// `NLM_F_*` of linux/netlink.h.
pub(super) mod flags {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const ACK: u16 = 4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCLUSIVE: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// Message kinds below `NLMSG_MIN_TYPE`.
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;

const NESTED: u16 = 0x8000;

/// Requests that are sent by one system call. The kernel works them off in order, before the call returns.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Message,
    /// What each request is for, for its error.
    pub(super) purposes: Vec<&'static str>,
    /// Sequence number of the request whose answer ends the exchange; the last one where `None`.
    pub(super) awaited: Option<usize>,
    last: usize,
}

impl Batch {
    /// Adds a request. Its sequence number is its place in the batch.
    pub(super) fn add(
        &mut self,
        purpose: &'static str,
        kind: u16,
        flags: u16,
        family_header: &[u8],
        attributes: impl FnOnce(&mut Message) -> &mut Message,
    ) -> &mut Self {
        let bytes = &mut self.bytes.0;
        self.last = bytes.len();
        let sequence = u32::try_from(self.purposes.len()).expect("a batch is small");
        self.purposes.push(purpose);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | flags::REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(family_header);
        attributes(&mut self.bytes);
        let bytes = &mut self.bytes.0;
        let length = u32::try_from(bytes.len() - self.last).expect("a batch is small");
        bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// What goes to the kernel.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes.0
    }

    /// Asks for an acknowledgement of the newest request. Errors of the others come unasked.
    pub(super) fn acknowledge(&mut self) {
        self.bytes.0[self.last + 6] |= flags::ACK.to_ne_bytes()[0];
        self.awaited = Some(self.purposes.len() - 1);
    }
}

/// A message being written: attributes (`struct nlattr`) go to its end.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A value as it is.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("an attribute is small");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad();
        self
    }

    /// Text with its terminating NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// A number in the machine's byte order.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, as netfilter wants them.
    pub(super) fn big(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes in an attribute.
    pub(super) fn nested(
        &mut self,
        kind: u16,
        inner: impl FnOnce(&mut Message) -> &mut Message,
    ) -> &mut Self {
        self.headed(kind | NESTED, &[], inner)
    }

    /// Attributes behind a fixed header in an attribute.
    pub(super) fn headed(
        &mut self,
        kind: u16,
        header: &[u8],
        inner: impl FnOnce(&mut Message) -> &mut Message,
    ) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(header);
        inner(self);
        let length = u16::try_from(self.0.len() - start).expect("an attribute is small");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// One message from the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages in one datagram; ends at the first that is cut off.
pub(super) fn replies(mut datagram: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(datagram, 0)? as usize;
        let message = datagram.get(..length).filter(|message| message.len() >= HEADER)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Reply {
            kind: u16_at(message, 4)?,
            flags: u16_at(message, 6)?,
            sequence: u32_at(message, 8)?,
            payload: &message[HEADER..],
        })
    })
}

/// The attributes in a message, each with its kind (flags taken off).
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number in the machine's byte order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// Text without its NUL.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_is_read_back() {
        let mut batch = Batch::default();
        batch.add("one", 16, flags::CREATE, &[7; 4], |a| {
            a.text(3, "docker0").nested(18, |a| a.bytes(1, &[1, 2, 3]).headed(2, &[9; 4], |a| a.number(4, 5)))
        });
        batch.add("two", 17, 0, &[], |a| a).acknowledge();
        let read: Vec<Reply<'_>> = replies(batch.bytes()).collect();
        assert_eq!(
            read.iter().map(|r| (r.kind, r.flags, r.sequence)).collect::<Vec<_>>(),
            [(16, 0x401, 0), (17, 5, 1)]
        );
        let outer: Vec<(u16, &[u8])> = attributes(&read[0].payload[4..]).collect();
        assert_eq!((outer[0].0, text(outer[0].1)), (3, "docker0".to_owned()));
        let inner: Vec<(u16, &[u8])> = attributes(outer[1].1).collect();
        assert_eq!(inner[0], (1, &[1u8, 2, 3][..]));
        assert_eq!(attributes(&inner[1].1[4..]).next(), Some((4, &5u32.to_ne_bytes()[..])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for reply in replies(&bytes) {
                prop_assert!(attributes(reply.payload).count() <= bytes.len());
            }
        }
    }
}
