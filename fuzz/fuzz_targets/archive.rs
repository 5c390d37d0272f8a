//! A layer or an uploaded archive: packed in any of the known ways, then members with their PAX and GNU extensions.
#![no_main]

use content::layer::{Archive, decompressor};
use libfuzzer_sys::fuzz_target;

/// A megabyte of input may unpack to much more; what is beyond this teaches nothing new.
const MOST_READ: usize = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(plain) = decompressor(bytes) else { return };
    let mut archive = Archive::new(plain);
    let mut buffer = [0; 4096];
    let mut read = 0;
    while let Ok(Some(_member)) = archive.next_member() {
        loop {
            match archive.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
            if read > MOST_READ {
                return;
            }
        }
    }
});
