//! The control line, both ways: bytes cut into lines as they arrive; a request that is understood survives the way back.
#![no_main]

use contract::line::{Event, FromGuest, FromHost, LINE_MAX, LineBuffer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = LineBuffer::default();
    for chunk in bytes.chunks(100) {
        lines.add(chunk);
        while let Ok(Some(line)) = lines.next_line() {
            assert!(!line.contains('\n'));
            if let Ok(FromHost::Request { number, request }) = FromHost::decode(&line) {
                let again = FromHost::decode(&request.encode(number));
                assert_eq!(again, Ok(FromHost::Request { number, request }));
            }
            if let Ok(FromGuest::Event(event @ Event::GaveUp { .. })) = FromGuest::decode(&line) {
                assert!(event.encode().len() <= LINE_MAX);
            }
        }
    }
});
