//! Ids of containers, execs, networks and endpoints.

/// A new id: 64 random hexadecimal digits, the first 12 of which are not all decimal, since those would be taken
/// for a number by tools that see the short form.
pub fn new_id() -> String {
    loop {
        let bytes: [u8; 32] = rand::random();
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if id[..12].bytes().any(|digit| digit.is_ascii_alphabetic()) {
            return id;
        }
    }
}
