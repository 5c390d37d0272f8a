//! A layer or an uploaded archive: packed in any of the known ways, then members with their PAX and GNU extensions.
#![no_main]

use content::layer::{Archive, Kind, decompressor};
use std::io::Read;

use libfuzzer_sys::fuzz_target;

/// A megabyte of input may unpack to much more; what is beyond this teaches nothing new.
const MOST_READ: u64 = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(plain) = decompressor(bytes) else { return };
    let mut archive = Archive::new(plain.take(MOST_READ));
    let mut buffer = [0; 4096];
    let file = rustix::fs::memfd_create("member", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory");
    let file = std::fs::File::from(file);
    while let Ok(Some(member)) = archive.next_member() {
        if let Kind::File { size } = member.kind {
            // Memory is no disk: a file with holes may be of any size there.
            let _ = archive.write_to(&file, size.min(MOST_READ), &mut buffer);
            file.set_len(0).expect("it is a file");
        }
    }
});
