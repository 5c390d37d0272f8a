//! DHCPv4 packets, RFC 2131 and 2132. Pure: bytes in, bytes out.
//!
//! Written here because the crates for it bring a DNS library with Unicode tables into PID 1, for a fixed header
//! and a list of options.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;

const HEADER: usize = 236;
/// The header's fields for a server's name and a boot file, which may hold options instead (option 52).
const NAME: Range<usize> = 44..108;
const FILE: Range<usize> = 108..236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// BOOTP's smallest message; older relays drop shorter ones (RFC 1542 section 2.1).
const SHORTEST: usize = 300;

const OPTION_MASK: u8 = 1;
const OPTION_ROUTER: u8 = 3;
const OPTION_DNS: u8 = 6;
const OPTION_HOST_NAME: u8 = 12;
const OPTION_DOMAIN: u8 = 15;
const OPTION_MTU: u8 = 26;
const OPTION_REQUESTED: u8 = 50;
const OPTION_LEASE: u8 = 51;
const OPTION_OVERLOAD: u8 = 52;
const OPTION_KIND: u8 = 53;
const OPTION_SERVER: u8 = 54;
const OPTION_PARAMETERS: u8 = 55;
const OPTION_LONGEST: u8 = 57;
const OPTION_T1: u8 = 58;
const OPTION_T2: u8 = 59;
const OPTION_ROUTES: u8 = 121;

/// What fits into an Ethernet frame behind the headers of IPv4 and UDP; without the word a server stops at 548 bytes, and
/// leaves out what does not fit.
const LONGEST: u16 = 1472;

/// Hardware address of an Ethernet card.
pub type Mac = [u8; 6];

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Names this exchange.
    pub transaction: u32,
    /// The card that asks.
    pub mac: Mac,
    /// Discover or request.
    pub kind: QuestionKind,
}

/// See RFC 2131 section 4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionKind {
    /// Who has an address for me?
    Discover,
    /// I take the one that `server` offered.
    Select {
        /// The address offered.
        address: Ipv4Addr,
        /// Who offered it.
        server: Ipv4Addr,
    },
    /// May I keep the one I have?
    Renew {
        /// The address held.
        address: Ipv4Addr,
    },
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// An address you may take.
    Offer,
    /// It is yours.
    Ack,
    /// You may not have it.
    Nak,
}

/// A server's packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The exchange it belongs to.
    pub transaction: u32,
    /// The card it is for.
    pub mac: Mac,
    /// Its kind.
    pub kind: AnswerKind,
    /// The address it is about.
    pub address: Ipv4Addr,
    /// Who sends it.
    pub server: Option<Ipv4Addr>,
    /// Everything else.
    pub options: Options,
}

/// What comes with an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Prefix length of the address.
    pub prefix: Option<u8>,
    /// Default route.
    pub router: Option<Ipv4Addr>,
    /// Resolvers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// Host name.
    pub host_name: Option<String>,
    /// Search domain.
    pub domain: Option<String>,
    /// Largest packet of the link, bytes.
    pub mtu: Option<u16>,
    /// How long the address may be used, seconds.
    pub lease: Option<u32>,
    /// When to renew, seconds.
    pub t1: Option<u32>,
    /// When to ask any server, seconds.
    pub t2: Option<u32>,
    /// Routes (destination, prefix length, gateway); they replace `router` (RFC 3442).
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
}

impl Question {
    /// The packet's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        // BOOTREQUEST, Ethernet, 6 bytes of hardware address.
        out[..3].copy_from_slice(&[1, 1, 6]);
        out[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        out[28..34].copy_from_slice(&self.mac);
        if let QuestionKind::Renew { address } = self.kind {
            out[12..16].copy_from_slice(&address.octets());
        } else {
            // Before it has an address the card hears nothing but broadcasts: ask for those (flag B).
            out[10] = 0x80;
        }
        out.extend(COOKIE);
        match self.kind {
            QuestionKind::Discover => out.extend([OPTION_KIND, 1, 1]),
            QuestionKind::Select { address, server } => {
                out.extend([OPTION_KIND, 1, 3, OPTION_REQUESTED, 4]);
                out.extend(address.octets());
                out.extend([OPTION_SERVER, 4]);
                out.extend(server.octets());
            }
            QuestionKind::Renew { .. } => out.extend([OPTION_KIND, 1, 3]),
        }
        let wanted = [
            OPTION_MASK,
            OPTION_ROUTES,
            OPTION_ROUTER,
            OPTION_DNS,
            OPTION_HOST_NAME,
            OPTION_DOMAIN,
            OPTION_MTU,
            OPTION_LEASE,
            OPTION_T1,
            OPTION_T2,
        ];
        out.extend([OPTION_PARAMETERS, wanted.len() as u8]);
        out.extend(wanted);
        out.extend([OPTION_LONGEST, 2]);
        out.extend(LONGEST.to_be_bytes());
        out.push(255);
        out.resize(out.len().max(SHORTEST), 0);
        out
    }
}

impl Answer {
    /// Reads a packet's bytes; `None` if it is no answer of a DHCP server for Ethernet.
    pub fn decode(bytes: &[u8]) -> Option<Answer> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let fields = rest.strip_prefix(&COOKIE)?;
        if header[..3] != [2, 1, 6] {
            return None;
        }
        let (mut kind, mut server, mut options) = (None, None, Options::default());
        for (code, value) in collected(header, fields) {
            match code {
                OPTION_KIND => kind = answer_kind(&value),
                OPTION_SERVER => server = address(&value),
                _ => options.take(code, &value),
            }
        }
        Some(Answer {
            transaction: u32::from_be_bytes(*header[4..].first_chunk()?),
            mac: *header[28..].first_chunk()?,
            kind: kind?,
            address: address(&header[16..20])?,
            server,
            options,
        })
    }
}

/// Every option once: one that is longer than 255 bytes comes in pieces, which belong together in their order, those in
/// `file` and `sname` behind the others (RFC 3396 sections 5 and 7).
fn collected(header: &[u8], fields: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options = BTreeMap::<u8, Vec<u8>>::new();
    let mut add = |fields| {
        for (code, value) in Fields(fields) {
            options.entry(code).or_default().extend_from_slice(value);
        }
    };
    add(fields);
    let overload = Fields(fields).find(|(code, _)| *code == OPTION_OVERLOAD);
    let places: &[Range<usize>] = match overload {
        Some((_, [1])) => &[FILE],
        Some((_, [2])) => &[NAME],
        Some((_, [3])) => &[FILE, NAME],
        _ => &[],
    };
    places.iter().for_each(|place| add(&header[place.clone()]));
    options
}

fn answer_kind(value: &[u8]) -> Option<AnswerKind> {
    match value {
        [2] => Some(AnswerKind::Offer),
        [5] => Some(AnswerKind::Ack),
        [6] => Some(AnswerKind::Nak),
        _ => None,
    }
}

impl Options {
    fn take(&mut self, code: u8, value: &[u8]) {
        match code {
            OPTION_MASK => self.prefix = address(value).and_then(prefix),
            OPTION_ROUTER => self.router = address(value),
            OPTION_DNS => self.dns = value.chunks_exact(4).filter_map(address).collect(),
            OPTION_HOST_NAME => self.host_name = name(value),
            OPTION_DOMAIN => self.domain = name(value),
            OPTION_MTU => self.mtu = value.first_chunk().map(|mtu| u16::from_be_bytes(*mtu)),
            OPTION_LEASE => self.lease = seconds(value),
            OPTION_T1 => self.t1 = seconds(value),
            OPTION_T2 => self.t2 = seconds(value),
            OPTION_ROUTES => self.routes = routes(value).unwrap_or_default(),
            _ => {}
        }
    }
}

fn seconds(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

/// A mask with a hole in it is none.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then_some(bits.leading_ones() as u8)
}

/// A name from the network ends up in files and in the kernel: letters, digits, `.` and `-` only.
fn name(value: &[u8]) -> Option<String> {
    let text = str::from_utf8(value).ok()?.trim_end_matches('\0');
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    (!text.is_empty() && text.len() <= 253 && text.chars().all(plain)).then(|| text.to_owned())
}

/// What UDP carries from `port` to another, out of a packet that begins with its IPv4 header (RFC 791, RFC 768).
/// The checksum is not looked at: a packet of the same host may not have been given one yet.
pub fn udp_payload(packet: &[u8], port: u16) -> Option<&[u8]> {
    let number = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let (udp, total) = (usize::from(packet.first()? & 15) * 4, usize::from(number(2)?));
    let end = udp + usize::from(number(udp + 4)?);
    let whole = udp >= 20 && end <= total;
    (whole && number(udp)? == port).then(|| packet.get(udp + 8..end)).flatten()
}

/// RFC 3442: prefix length, as many bytes of destination as it needs, gateway.
fn routes(mut value: &[u8]) -> Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>> {
    let mut found = Vec::new();
    while let Some((&length, rest)) = value.split_first() {
        if length > 32 {
            return None;
        }
        let (significant, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        let mut destination = [0; 4];
        destination[..significant.len()].copy_from_slice(significant);
        // "the client MUST mask": the kernel refuses a destination with bits behind its prefix.
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let destination = Ipv4Addr::from_bits(u32::from_be_bytes(destination) & mask);
        found.push((destination, length, address(rest)?));
        value = &rest[4..];
    }
    Some(found)
}

/// Walks `code, length, value` until the end mark, the end of the bytes or a length that is too long.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (code, rest) = self.0.split_first()?;
            self.0 = rest;
            match code {
                0 => {}
                255 => return None,
                code => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    self.0 = rest;
                    return Some((*code, value));
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server's packet with these options.
    pub(crate) fn packet(transaction: u32, mac: Mac, address: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[..3].copy_from_slice(&[2, 1, 6]);
        out[4..8].copy_from_slice(&transaction.to_be_bytes());
        out[16..20].copy_from_slice(&address);
        out[28..34].copy_from_slice(&mac);
        out.extend(COOKIE);
        for (code, value) in options {
            out.extend([*code, value.len() as u8]);
            out.extend(*value);
        }
        out.push(255);
        out
    }

    #[test]
    fn questions_have_the_fields_a_server_looks_at() {
        let kind = QuestionKind::Select { address: [10, 0, 2, 15].into(), server: [10, 0, 2, 2].into() };
        let bytes = Question { transaction: 0x01020304, mac: [1, 2, 3, 4, 5, 6], kind }.encode();
        assert_eq!(&bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0]);
        assert_eq!(&bytes[236..255], [99, 130, 83, 99, 53, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]);
        assert!(bytes.len() >= SHORTEST);
        let kind = QuestionKind::Renew { address: [10, 0, 2, 15].into() };
        let bytes = Question { transaction: 1, mac: [0; 6], kind }.encode();
        assert_eq!((&bytes[10..16]), [0, 0, 10, 0, 2, 15]);
    }

    #[test]
    fn an_answer_is_read_with_its_options() {
        let bytes = packet(
            7,
            [9; 6],
            [10, 0, 2, 15],
            &[
                (53, &[5]),
                (54, &[10, 0, 2, 2]),
                (1, &[255, 255, 255, 0]),
                (3, &[10, 0, 2, 2]),
                (6, &[10, 0, 2, 3, 1, 1, 1, 1]),
                (12, b"boat"),
                (15, b"example.org\0"),
                (26, &[5, 0]),
                (51, &[0, 1, 81, 128]),
                (121, &[0, 10, 0, 0, 1, 24, 192, 168, 7, 10, 0, 0, 9]),
            ],
        );
        let answer = Answer::decode(&bytes).unwrap();
        assert_eq!(
            (answer.transaction, answer.kind, answer.server),
            (7, AnswerKind::Ack, Some([10, 0, 2, 2].into()))
        );
        let want = Options {
            prefix: Some(24),
            router: Some([10, 0, 2, 2].into()),
            dns: vec![[10, 0, 2, 3].into(), [1, 1, 1, 1].into()],
            host_name: Some("boat".into()),
            domain: Some("example.org".into()),
            mtu: Some(1280),
            lease: Some(86400),
            t1: None,
            t2: None,
            routes: vec![
                (Ipv4Addr::UNSPECIFIED, 0, [10, 0, 0, 1].into()),
                ([192, 168, 7, 0].into(), 24, [10, 0, 0, 9].into()),
            ],
        };
        assert_eq!(answer.options, want);
    }

    #[test]
    fn nonsense_in_options_is_left_out() {
        let bytes = packet(
            7,
            [9; 6],
            [1, 1, 1, 1],
            &[
                (53, &[2]),
                (1, &[255, 0, 255, 0]),
                (12, b"a\nnameserver 6.6.6.6"),
                (121, &[33, 1, 2, 3]),
                (51, &[1]),
            ],
        );
        assert_eq!(Answer::decode(&bytes).unwrap().options, Options::default());
        assert_eq!(Answer::decode(&bytes[..240]), None, "an answer without a kind");
        assert_eq!(Answer::decode(&[2; 100]), None);
    }

    #[test]
    fn a_long_option_comes_in_pieces_and_in_other_fields() {
        let route = |n: u8| [24, 10, 0, n, 10, 0, 0, 1];
        let all: Vec<u8> = (0..40).flat_map(route).collect();
        let mut bytes = packet(
            7,
            [9; 6],
            [1, 1, 1, 1],
            &[(53, &[5]), (52, &[3]), (121, &all[..253]), (6, &[1, 1, 1, 1]), (121, &all[253..300])],
        );
        let field = |bytes: &mut [u8], code: u8, value: &[u8]| {
            bytes[..2].copy_from_slice(&[code, value.len() as u8]);
            bytes[2..2 + value.len()].copy_from_slice(value);
            bytes[2 + value.len()] = 255;
        };
        field(&mut bytes[NAME], 6, &[2, 2, 2, 2]);
        field(&mut bytes[FILE], 121, &all[300..]);
        let options = Answer::decode(&bytes).unwrap().options;
        assert_eq!(options.dns, [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(2, 2, 2, 2)]);
        assert_eq!(options.routes.len(), 40);
        assert_eq!(options.routes[39], ([10, 0, 39, 0].into(), 24, [10, 0, 0, 1].into()));
        // Without the word those fields are a name and a file.
        let at = bytes.windows(3).position(|three| three == [52, 1, 3]).unwrap();
        bytes[at + 2] = 0;
        assert_eq!(Answer::decode(&bytes).unwrap().options.dns, [Ipv4Addr::new(1, 1, 1, 1)]);
    }

    #[test]
    fn bits_behind_a_routes_prefix_are_cleared() {
        let check = |value: &[u8], want: [u8; 4], prefix| {
            assert_eq!(routes(value).unwrap(), [(want.into(), prefix, [10, 0, 0, 9].into())], "{value:?}");
        };
        check(&[20, 192, 168, 255, 10, 0, 0, 9], [192, 168, 240, 0], 20);
        check(&[1, 255, 10, 0, 0, 9], [128, 0, 0, 0], 1);
        check(&[0, 10, 0, 0, 9], [0, 0, 0, 0], 0);
        check(&[32, 1, 2, 3, 4, 10, 0, 0, 9], [1, 2, 3, 4], 32);
    }

    #[test]
    fn a_datagram_is_taken_out_of_its_packet() {
        let mut packet = vec![0x46, 0, 0, 35, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15];
        packet.extend([7, 7, 7, 7]);
        packet.extend([0, 67, 0, 68, 0, 11, 0, 0, b'a', b'b', b'c', 0, 0, 0]);
        assert_eq!(udp_payload(&packet, 67), Some(&b"abc"[..]));
        assert_eq!(udp_payload(&packet, 66), None);
        for length in 0..35 {
            assert_eq!(udp_payload(&packet[..length], 67), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_packet_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = udp_payload(&bytes, 67);
        }

        #[test]
        fn any_bytes_are_read_without_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = packet(1, [0; 6], [0; 4], &[(53, &[5])]);
            bytes.pop();
            bytes.extend(tail);
            let _ = Answer::decode(&bytes);
        }
    }
}
