//! What a path is, as the header `X-Docker-Container-Path-Stat` tells it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use runtime::view::View;
use rustix::fs::{FileType, OFlags, Stat, fstat, readlinkat};
use rustix::io::Errno;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::asked::Asked;

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Last component; `.` and `/` for a path without one.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions as Go's `os.FileMode` numbers them.
    pub mode: u32,
    /// Last modification: seconds and nanoseconds since 1970 UTC.
    pub mtime: (i64, u32),
    /// Where a symbolic link leads to in the end; empty for everything else.
    pub link_target: String,
}

/// Links followed before a path counts as a loop: MAXSYMLINKS of the Go library that dockerd uses.
const LINKS_MAX: usize = 255;

impl PathStat {
    /// The last modification as RFC 3339; a time that this cannot write is Go's zero time.
    pub fn modified(&self) -> String {
        let nanos = i128::from(self.mtime.0) * 1_000_000_000 + i128::from(self.mtime.1);
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
        let text = time.and_then(|time| time.format(&Rfc3339).ok());
        text.unwrap_or_else(|| model::timestamp::Timestamp::default().rfc3339())
    }

    pub(super) fn read(view: &View, asked: &Asked, node: &OwnedFd) -> Result<PathStat, Errno> {
        let stat = fstat(node)?;
        let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let target = if link { evaluate(view, asked.path())? } else { Vec::new() };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(PathStat {
            name: text(asked.name()),
            size: stat.st_size.cast_unsigned(),
            mode: go_mode(&stat),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            link_target: text(&target),
        })
    }
}

/// Bits of Go's `os.FileMode`.
fn go_mode(stat: &Stat) -> u32 {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(bit, _)| stat.st_mode & bit != 0).map(|(_, go)| go);
    special.fold(kind | stat.st_mode & 0o777, |mode, bit| mode | bit)
}

/// The absolute path that `path` leads to when every link on it is followed inside the container; what does not
/// exist stays as it is written. It is only told to the client: whoever opens it resolves it again.
pub(super) fn evaluate(view: &View, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let parts = |path: &[u8]| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<VecDeque<_>>();
    let (mut done, mut left, mut links) = (Vec::new(), parts(path), 0);
    while let Some(part) = left.pop_front() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                let end = done.iter().rposition(|b| *b == b'/').unwrap_or(0);
                done.truncate(end);
                continue;
            }
            _ => {}
        }
        let next = [done.as_slice(), b"/", &part].concat();
        match link_text(view, &next) {
            None => done = next,
            Some(text) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                if text.starts_with(b"/") {
                    done.clear();
                }
                let mut before = parts(&text);
                before.append(&mut left);
                left = before;
            }
        }
    }
    Ok(if done.is_empty() { b"/".to_vec() } else { done })
}

fn link_text(view: &View, path: &[u8]) -> Option<Vec<u8>> {
    let node = view.open(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
    let stat = fstat(&node).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return None;
    }
    readlinkat(&node, "", Vec::new()).ok().map(std::ffi::CString::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        let check = |mtime: (i64, u32), expected: &str| {
            let stat = PathStat { name: String::new(), size: 0, mode: 0, mtime, link_target: String::new() };
            assert_eq!(stat.modified(), expected);
        };
        check((0, 0), "1970-01-01T00:00:00Z");
        check((-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        check((i64::MAX, 0), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn modes_are_numbered_as_go_does() {
        let check = |path: &str, expected: u32| {
            let stat = rustix::fs::lstat(path).unwrap();
            assert_eq!(go_mode(&stat) & !0o777, expected, "{path}");
        };
        check("/tmp", 1 << 31 | 1 << 20);
        check("/dev/null", 1 << 26 | 1 << 21);
        check("/proc/self", 1 << 27);
        check("/etc/passwd", 0);
    }
}
