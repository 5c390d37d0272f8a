//! Power buttons: the input devices with a power key, Documentation/input/input.rst.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::messages::say;

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// struct input_event on 64-bit: two 64-bit words of time, type, code, value.
const EVENT: usize = 24;

/// The buttons of this machine.
#[derive(Debug, Default)]
pub struct Buttons(Vec<File>);

impl Buttons {
    /// Opens every input device with a power key. Their drivers are modules of the late list, so this is called when
    /// those are loaded.
    pub fn open() -> Buttons {
        let Ok(entries) = std::fs::read_dir("/sys/class/input") else { return Buttons::default() };
        let devices = entries.filter_map(|entry| entry.ok()).filter(|entry| has_power_key(&entry.path()));
        let open = |name: std::ffi::OsString| {
            let path = Path::new("/dev/input").join(name);
            let file = File::options()
                .read(true)
                .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
                .open(&path);
            file.map_err(|error| say!("no power button at {}: {error}", path.display())).ok()
        };
        Buttons(devices.filter_map(|entry| open(entry.file_name())).collect())
    }

    /// To be watched for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// Reads all that is there; whether a power key was pressed. A device that fails is let go.
    pub fn pressed(&mut self) -> bool {
        let mut any = false;
        self.0.retain_mut(|device| {
            let mut events = [0; EVENT * 16];
            loop {
                match device.read(&mut events) {
                    Ok(0) => return false,
                    Ok(length) => any |= events[..length].chunks_exact(EVENT).any(is_press),
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        });
        any
    }
}

/// `eventN` devices only: others of the class have no `device/capabilities`, or no node with events.
fn has_power_key(class: &Path) -> bool {
    let event = class.file_name().is_some_and(|name| name.to_string_lossy().starts_with("event"));
    event
        && std::fs::read_to_string(class.join("device/capabilities/key"))
            .is_ok_and(|bits| has_bit(&bits, KEY_POWER))
}

/// The kernel prints a bitmap as 64-bit words in hex, the highest first.
fn has_bit(bits: &str, bit: u16) -> bool {
    let word = bits.split_ascii_whitespace().rev().nth(usize::from(bit / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok()).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

fn is_press(event: &[u8]) -> bool {
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    half(16) == EV_KEY && half(18) == KEY_POWER && half(20) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_key_is_found_in_a_bitmap() {
        let check = |bits, want| assert_eq!(has_bit(bits, KEY_POWER), want, "{bits}");
        check("10000000000000 0\n", true);
        check("402000000 3803078f800d001 feefffdfffefffff fffffffffffffffe\n", false);
        check("402000000 3803078f800d001 fffffffffffffffe fffffffffffffffe\n", true);
        check("0\n", false);
        check("", false);
    }

    #[test]
    fn only_a_press_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)), "the release");
        assert!(!is_press(&event(EV_KEY, 30, 1)) && !is_press(&event(0, 0, 0)));
    }
}
