//! A seccomp profile of a client (`--security-opt seccomp=FILE`), down to the program that the kernel gets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::capabilities::CONTAINER_DEFAULT;
use runtime::seccomp::{Host, Profile};

fuzz_target!(|text: &str| {
    if let Ok(profile) = Profile::parse(text) {
        let _ = profile.filter(&Host::this(CONTAINER_DEFAULT));
    }
});
