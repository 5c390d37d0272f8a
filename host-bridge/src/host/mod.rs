//! Everything that differs between the systems on which `pinnace` runs: files for their owner alone, processes, limits.
//!
//! The rest of the crate names no system. Each function here has one meaning, and one implementation for each system.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod unix_stream;
#[cfg(unix)]
pub use {unix::*, unix_stream::*};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod linux_hangups;
#[cfg(target_os = "linux")]
pub use {linux::*, linux_hangups::hung_up};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
mod macos_hangups;
#[cfg(target_os = "macos")]
pub use {macos::*, macos_hangups::hung_up};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::*;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
#[cfg(unix)]
use std::net::IpAddr;
use std::path::Path;

/// Why a folder is not its owner's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPrivate {
    /// Whoever owns it could replace everything in it.
    #[error("belongs to another user (uid {owner}): choose another with --dir")]
    Foreign {
        /// Its owner.
        owner: u32,
    },
    /// Others could read it, or put links into it.
    #[error("is open to others (mode {mode:04o}): close it with chmod 700, or choose another with --dir")]
    Open {
        /// Its permission bits.
        mode: u32,
    },
}

/// The servers of a resolver's configuration (resolv.conf(5)), in their order.
#[cfg(unix)]
fn servers(text: &str) -> Vec<IpAddr> {
    let words = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next()).map(str::to_owned)
    };
    text.lines().filter_map(words).filter_map(|address| address.parse().ok()).collect()
}

/// A file for its owner alone, empty whatever was in it.
pub fn create_private(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().write(true).create(true).truncate(true)).open(path)
}

/// The same with these contents.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    create_private(path)?.write_all(contents)
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn servers_of_a_resolver_are_read() {
        let check = |text: &str, want: &[&str]| {
            let want: Vec<std::net::IpAddr> = want.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(super::servers(text), want, "{text:?}");
        };
        check("", &[]);
        check(
            "# nameserver 9.9.9.9\nnameserver\t10.0.0.1 # x\nnameserver fd00::1\n",
            &["10.0.0.1", "fd00::1"],
        );
        check("nameserver\nnameserver x\nnameservers 1.1.1.1\nnameserver 127.0.0.53", &["127.0.0.53"]);
    }
}
