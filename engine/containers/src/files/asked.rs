//! A path as a client asks for it: cleaned as dockerd does it, with the end kept that tells a folder.

use rustix::fs::OFlags;

/// How the path ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// The thing itself, also when it is a symbolic link.
    Nothing,
    /// A folder.
    Slash,
    /// What a folder contains.
    Dot,
}

/// A cleaned absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Without a slash at its end, empty for the root.
    clean: Vec<u8>,
    tail: Tail,
}

impl Asked {
    pub(super) fn new(path: &str) -> Asked {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                _ => parts.push(part),
            }
        }
        let clean = parts.iter().flat_map(|part| ["/", part]).collect::<String>().into_bytes();
        // Go's filepath.Base ignores slashes at the end.
        let dot = matches!(path.trim_end_matches('/').rsplit('/').next(), Some("."));
        let tail = match (dot, path.ends_with('/') && !clean.is_empty()) {
            (true, _) => Tail::Dot,
            (false, true) => Tail::Slash,
            (false, false) => Tail::Nothing,
        };
        Asked { clean, tail }
    }

    /// For the kernel.
    pub(super) fn text(&self) -> Vec<u8> {
        let tail: &[u8] = match self.tail {
            Tail::Nothing if self.clean.is_empty() => b"/",
            Tail::Nothing => b"",
            Tail::Slash => b"/",
            Tail::Dot => b"/.",
        };
        [self.clean.as_slice(), tail].concat()
    }

    /// A path that must be a folder follows a symbolic link to one.
    pub(super) fn flags(&self) -> OFlags {
        match self.tail {
            Tail::Nothing => OFlags::PATH | OFlags::NOFOLLOW,
            Tail::Slash | Tail::Dot => OFlags::PATH | OFlags::DIRECTORY,
        }
    }

    /// Without what the end says.
    pub(super) fn path(&self) -> &[u8] {
        if self.clean.is_empty() { b"/" } else { &self.clean }
    }

    /// Its last component: `.` and `/` where there is none.
    pub(super) fn name(&self) -> &[u8] {
        match self.tail {
            Tail::Dot => b".",
            _ if self.clean.is_empty() => b"/",
            _ => self.clean.rsplit(|byte| *byte == b'/').next().unwrap_or_default(),
        }
    }

    /// What the names in its archive begin with: nothing for the root, whose members so become `/NAME`.
    pub(super) fn prefix(&self) -> Vec<u8> {
        if self.name() == b"/" { Vec::new() } else { self.name().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_tell_what_is_meant() {
        let check = |path: &str, text: &str, name: &str| {
            let asked = Asked::new(path);
            assert_eq!((asked.text(), asked.name()), (text.as_bytes().to_vec(), name.as_bytes()), "{path}");
        };
        check("/etc", "/etc", "etc");
        check("etc/passwd", "/etc/passwd", "passwd");
        check("/etc/", "/etc/", "etc");
        check("/etc/.", "/etc/.", ".");
        check("/etc/./", "/etc/.", ".");
        check("/", "/", "/");
        check("//", "/", "/");
        check(".", "/.", ".");
        check("/.", "/.", ".");
        check("../../a/../b", "/b", "b");
        check("/a/..", "/", "/");
        check("/a/../", "/", "/");
    }
}
