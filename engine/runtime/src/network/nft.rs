//! nftables' netlink messages: tables, chains, sets, rules and their expressions, in atomic batches.
//!
//! The crates there are know no masquerading and no connection tracking (netlink-packet-netfilter 0.4) or are
//! GPL (rustables), so the few messages needed are written here. Numbers are of linux/netfilter/nf_tables.h.

use super::message::{Batch, Message, flags};
use super::netlink::{Netlink, NetworkError, Protocol};

/// `NFPROTO_INET`: one table for IPv4 and IPv6.
const INET: u8 = 1;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

/// A chain's place in the kernel's way of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a set holds: nft's number of the type and its length in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type {
    number: u32,
    length: u32,
}

impl Type {
    pub(super) const IPV4: Type = Type { number: 7, length: 4 };
    pub(super) const IPV6: Type = Type { number: 8, length: 16 };
    pub(super) const PROTOCOL: Type = Type { number: 12, length: 1 };
    pub(super) const PORT: Type = Type { number: 13, length: 2 };
    pub(super) const INTERFACE: Type = Type { number: 41, length: 16 };

    /// A concatenation with one more type: six bits each, every part padded to a register.
    pub(super) const fn then(self, next: Type) -> Type {
        let padded = self.length.next_multiple_of(4) + next.length.next_multiple_of(4);
        Type { number: self.number << 6 | next.number, length: padded }
    }
}

/// A set or, with `data`, a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: Type,
    pub(super) data: Option<Type>,
    /// Elements are ranges: a first address, and the first behind the end.
    pub(super) ranges: bool,
}

/// One element as it stands in the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    pub(super) data: Option<Vec<u8>>,
    pub(super) end_of_range: bool,
}

/// Changes of one table that the kernel does all together or not at all.
pub(super) struct Transaction {
    batch: Batch,
    table: &'static str,
}

impl Transaction {
    pub(super) fn new(table: &'static str) -> Transaction {
        let mut transaction = Transaction { batch: Batch::default(), table };
        transaction.frame(BATCH_BEGIN);
        transaction
    }

    fn frame(&mut self, kind: u16) {
        // struct nfgenmsg: the resource of a batch is the subsystem, in network byte order.
        let [high, low] = SUBSYSTEM.to_be_bytes();
        self.batch.add("changing the firewall", kind, 0, &[0, 0, high, low], |a| a);
    }

    fn add(
        &mut self,
        purpose: &'static str,
        kind: u16,
        flag: u16,
        body: impl FnOnce(&mut Message) -> &mut Message,
    ) {
        self.batch.add(purpose, SUBSYSTEM << 8 | kind, flag, &[INET, 0, 0, 0], body);
    }

    /// Removes the table with all in it, if there is one, and makes it anew and empty.
    pub(super) fn replace_table(&mut self) {
        const NAME: u16 = 1;
        let table = self.table;
        for kind in [NEW_TABLE, DELETE_TABLE, NEW_TABLE] {
            let flag = if kind == NEW_TABLE { flags::CREATE } else { 0 };
            self.add("replacing the firewall's table", kind, flag, |a| a.text(NAME, table));
        }
    }

    /// Removes the table with all in it, if there is one.
    pub(super) fn remove_table(&mut self) {
        const NAME: u16 = 1;
        let table = self.table;
        for (kind, flag) in [(NEW_TABLE, flags::CREATE), (DELETE_TABLE, 0)] {
            self.add("removing the firewall's table", kind, flag, |a| a.text(NAME, table));
        }
    }

    /// A chain that lets pass what no rule drops.
    pub(super) fn chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        const ACCEPT: u32 = 1;
        let table = self.table;
        self.add("making a firewall chain", NEW_CHAIN, flags::CREATE, |a| {
            a.text(1, table)
                .text(3, name)
                .nested(4, |a| a.big(1, hook as u32).big(2, priority.cast_unsigned()))
                .big(5, ACCEPT)
                .text(7, kind)
        });
    }

    pub(super) fn set(&mut self, set: &Set, id: u32) {
        const RANGES: u32 = 4;
        const MAP: u32 = 8;
        // How nft shows the keys when it lists them: in the machine's byte order where they are names.
        const KEY_ORDER: u8 = 0;
        let order = if set.key.number == Type::INTERFACE.number { 1u32 } else { 2 };
        let note = [&[KEY_ORDER, 4][..], &order.to_ne_bytes()].concat();
        let table = self.table;
        let flag = if set.ranges { RANGES } else { 0 } | if set.data.is_some() { MAP } else { 0 };
        self.add("making a firewall set", NEW_SET, flags::CREATE, |a| {
            a.text(1, table).text(2, set.name).big(3, flag).big(4, set.key.number).big(5, set.key.length);
            if let Some(data) = set.data {
                a.big(6, data.number).big(7, data.length);
            }
            a.big(10, id).bytes(13, &note)
        });
    }

    pub(super) fn add_elements(&mut self, set: &Set, elements: &[Element]) {
        self.elements("adding to the firewall", NEW_ELEMENT, flags::CREATE, set, elements);
    }

    pub(super) fn remove_elements(&mut self, set: &Set, elements: &[Element]) {
        self.elements("removing from the firewall", DELETE_ELEMENT, 0, set, elements);
    }

    fn elements(&mut self, purpose: &'static str, kind: u16, flag: u16, set: &Set, elements: &[Element]) {
        const ITEM: u16 = 1;
        const VALUE: u16 = 1;
        const RANGE_END: u32 = 1;
        if elements.is_empty() {
            return;
        }
        let table = self.table;
        self.add(purpose, kind, flag, |a| {
            a.text(1, table).text(2, set.name).nested(3, |a| {
                for element in elements {
                    a.nested(ITEM, |a| {
                        a.nested(1, |a| a.bytes(VALUE, &element.key));
                        if let Some(data) = &element.data {
                            a.nested(2, |a| a.bytes(VALUE, data));
                        }
                        if element.end_of_range {
                            a.big(3, RANGE_END);
                        }
                        a
                    });
                }
                a
            })
        });
    }

    /// A rule behind those the chain has, with a comment for whoever lists the rules.
    pub(super) fn rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) {
        const ITEM: u16 = 1;
        const COMMENT: u8 = 0;
        let table = self.table;
        let length = u8::try_from(comment.len() + 1).expect("comments are short");
        let comment = [&[COMMENT, length], comment.as_bytes(), &[0]].concat();
        self.add("adding a firewall rule", NEW_RULE, flags::CREATE | flags::APPEND, |a| {
            a.text(1, table).text(2, chain).nested(4, |a| {
                for expression in expressions {
                    a.nested(ITEM, |a| expression.write(a));
                }
                a
            });
            a.bytes(7, &comment)
        });
    }

    pub(super) fn commit(mut self) -> Result<(), NetworkError> {
        self.batch.acknowledge();
        self.frame(BATCH_END);
        Netlink::open(Protocol::Netfilter)?.tell(&mut self.batch)
    }
}

/// What `meta` loads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    InputName = 6,
    OutputName = 7,
    Family = 15,
    Transport = 16,
}

/// What `ct` loads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Track {
    State = 0,
    Status = 2,
}

/// Where `payload` counts from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// A 32-bit register: a concatenation stands in neighbouring ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register(pub(super) u8);

impl Register {
    /// `NFT_REG32_00` is 8.
    fn number(self) -> u32 {
        u32::from(self.0) + 8
    }
}

/// One step of a rule. A step that does not match ends the rule.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    /// Loads what is known of the packet.
    Meta(Meta, Register),
    /// Loads what is known of its connection.
    Track(Track, Register),
    /// Loads bytes of it: from where, offset, length.
    Payload(Header, u32, u32, Register),
    /// Loads the kind of the destination address; 2 is an address of this machine (`RTN_LOCAL`).
    DestinationKind(Register),
    /// Whether the register begins with these bytes.
    Equal(Register, Vec<u8>),
    /// Whether it does not.
    NotEqual(Register, Vec<u8>),
    /// Loads these bytes.
    Value(Register, Vec<u8>),
    /// Keeps only these bits of the register.
    Mask(Register, [u8; 4]),
    /// Whether the register is in the set.
    In(Register, &'static str),
    /// Whether it is not.
    NotIn(Register, &'static str),
    /// Looks up the first register in the map and puts what is found into the second.
    Map(Register, &'static str, Register),
    /// Lets the packet pass this chain.
    Accept,
    /// Drops it.
    Drop,
    /// Gives the connection the address of the outgoing interface.
    Masquerade,
    /// Turns the connection to the address and port in these registers.
    Redirect(Register, Register),
}

impl Expression {
    fn write<'a>(&self, a: &'a mut Message) -> &'a mut Message {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        a.text(NAME, self.name()).nested(DATA, |a| self.body(a))
    }

    fn name(&self) -> &'static str {
        match self {
            Expression::Meta(..) => "meta",
            Expression::Track(..) => "ct",
            Expression::Payload(..) => "payload",
            Expression::DestinationKind(_) => "fib",
            Expression::Equal(..) | Expression::NotEqual(..) => "cmp",
            Expression::Mask(..) => "bitwise",
            Expression::In(..) | Expression::NotIn(..) | Expression::Map(..) => "lookup",
            Expression::Value(..) | Expression::Accept | Expression::Drop => "immediate",
            Expression::Masquerade => "masq",
            Expression::Redirect(..) => "nat",
        }
    }

    fn body<'a>(&self, a: &'a mut Message) -> &'a mut Message {
        const VALUE: u16 = 1;
        match self {
            Expression::Meta(key, to) => a.big(1, to.number()).big(2, *key as u32),
            Expression::Track(key, to) => a.big(1, to.number()).big(2, *key as u32),
            Expression::Payload(header, offset, length, to) => {
                a.big(1, to.number()).big(2, *header as u32).big(3, *offset).big(4, *length)
            }
            Expression::DestinationKind(to) => {
                const ADDRESS_TYPE: u32 = 3;
                const DESTINATION: u32 = 2;
                a.big(1, to.number()).big(2, ADDRESS_TYPE).big(3, DESTINATION)
            }
            Expression::Equal(from, value) | Expression::NotEqual(from, value) => {
                let operator = u32::from(matches!(self, Expression::NotEqual(..)));
                a.big(1, from.number()).big(2, operator).nested(3, |a| a.bytes(VALUE, value))
            }
            Expression::Value(to, value) => a.big(1, to.number()).nested(2, |a| a.bytes(VALUE, value)),
            Expression::Mask(register, mask) => mask_register(a, *register, mask),
            Expression::In(from, set) => a.text(1, set).big(2, from.number()),
            Expression::NotIn(from, set) => a.text(1, set).big(2, from.number()).big(5, 1),
            Expression::Map(from, set, to) => a.text(1, set).big(2, from.number()).big(3, to.number()),
            Expression::Accept => verdict(a, 1),
            Expression::Drop => verdict(a, 0),
            Expression::Masquerade => a,
            Expression::Redirect(address, port) => {
                const DESTINATION: u32 = 1;
                const IPV4: u32 = 2;
                a.big(1, DESTINATION).big(2, IPV4).big(3, address.number()).big(5, port.number())
            }
        }
    }
}

fn mask_register<'a>(a: &'a mut Message, register: Register, mask: &[u8]) -> &'a mut Message {
    const VALUE: u16 = 1;
    const LENGTH: u32 = 4;
    a.big(1, register.number()).big(2, register.number()).big(3, LENGTH);
    a.nested(4, |a| a.bytes(VALUE, mask));
    a.nested(5, |a| a.bytes(VALUE, &[0; 4]))
}

fn verdict(a: &mut Message, code: u32) -> &mut Message {
    const TO_VERDICT: u32 = 0;
    const VERDICT: u16 = 2;
    a.big(1, TO_VERDICT).nested(2, |a| a.nested(VERDICT, |a| a.big(1, code)))
}
