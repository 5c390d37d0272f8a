//! A chain of descriptors of the guest's, as the vsock device takes it apart: descriptors, rings and packets are arbitrary.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

#[path = "../../host-bridge/src/backend/qemu/vsock/packet.rs"]
#[allow(dead_code)]
mod packet;

/// Entries of the queue.
const SIZE: u16 = 16;
const MEMORY: usize = 256 << 10;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const GUEST_CID: u64 = 3;

fuzz_target!(|bytes: &[u8]| {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("there is memory");
    let (descriptors, rest) = bytes.split_at(bytes.len().min(usize::from(SIZE) * 16));
    let (available, data) = rest.split_at(rest.len().min(4 + usize::from(SIZE) * 2));
    for (at, part) in [(DESCRIPTORS, descriptors), (AVAILABLE, available), (0x4000, data)] {
        memory.write_slice(&part[..part.len().min(0x8000)], GuestAddress(at)).expect("it fits");
    }
    let mut queue = Queue::new(SIZE).expect("a power of two");
    queue.set_desc_table_address(Some(DESCRIPTORS as u32), Some(0));
    queue.set_avail_ring_address(Some(AVAILABLE as u32), Some(0));
    queue.set_used_ring_address(Some(USED as u32), Some(0));
    queue.set_ready(true);
    let Ok(chains) = queue.iter(&memory) else { return };
    for chain in chains {
        let Ok(sent) = packet::Sent::read(GUEST_CID, &memory, chain) else { continue };
        let length: usize = sent.data.iter().map(|piece| piece.len()).sum();
        assert!(length <= packet::DATA_MAX as usize);
        assert!(sent.header.is_none_or(|header| header.len as usize == length));
    }
});
