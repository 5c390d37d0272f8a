//! Messages between PID 1 and the engine, both ways: what is understood is written back to the same bytes' meaning.
#![no_main]

use contract::keeper::{FromKeeper, ToKeeper};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = ToKeeper::decode(bytes) {
        assert_eq!(ToKeeper::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = FromKeeper::decode(bytes) {
        assert_eq!(FromKeeper::decode(&message.encode()), Ok(message));
    }
});
