//! The log of a container, as a power cut, a full disk or a container with the machine's disk may leave it: read from its
//! beginning and from its last lines on.
#![no_main]

use std::io::Write;
use std::os::fd::AsRawFd;

use libfuzzer_sys::fuzz_target;
use process::log::{Attributes, LogPlace, Reader, Rules};

fuzz_target!(|bytes: &[u8]| {
    let file = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory");
    let mut file = std::fs::File::from(file);
    file.write_all(bytes).expect("there is memory");
    let place = LogPlace {
        path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        rules: Rules::default(),
        attributes: Attributes::new(),
        turns: Default::default(),
    };
    for last_lines in [None, Some(0), Some(3)] {
        let mut reader = Reader::open(place.clone(), last_lines).expect("the file is there");
        // What is no record costs itself and no other, so there are never more than lines.
        for _ in 0..=bytes.len() {
            match reader.next_record() {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
});
