//! Memory file systems.

use runtime::launch::TmpfsMount;
use sys::mounts::{MountAttributes, Propagation};

use super::{TmpfsOptions, invalid};
use crate::error::ContainerError;

/// Reads the options of `--tmpfs`. Of those that contradict each other the later stands.
pub(super) fn tmpfs(text: &str) -> Result<TmpfsMount, ContainerError> {
    let (mut noexec, mut nosuid, mut nodev, mut readonly) = (true, true, true, false);
    let (mut nodiratime, mut times) = (false, MountAttributes::default());
    let (mut propagation, mut options) = (None, Vec::new());
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match (word, word.split_once('=')) {
            ("noexec" | "exec", _) => noexec = word == "noexec",
            ("nosuid" | "suid", _) => nosuid = word == "nosuid",
            ("nodev" | "dev", _) => nodev = word == "nodev",
            ("ro" | "rw", _) => readonly = word == "ro",
            ("nodiratime" | "diratime", _) => nodiratime = word == "nodiratime",
            ("noatime", _) => times = MountAttributes::NOATIME,
            ("strictatime", _) => times = MountAttributes::STRICTATIME,
            ("atime" | "relatime" | "norelatime" | "nostrictatime", _) => times = MountAttributes::default(),
            // A memory file system writes nothing to anywhere, and the kernel has no mandatory locks any more.
            ("defaults" | "sync" | "async" | "dirsync" | "mand" | "nomand", _) => {}
            ("shared" | "rshared", _) => propagation = Some(Propagation::Shared),
            ("slave" | "rslave", _) => propagation = Some(Propagation::Slave),
            ("unbindable" | "runbindable", _) => propagation = Some(Propagation::Unbindable),
            ("private" | "rprivate", _) => propagation = None,
            (
                _,
                Some((key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol"), value)),
            ) => {
                options.push((key.to_owned(), value.to_owned()));
            }
            _ => return Err(invalid(format!("invalid tmpfs option {word:?}"))),
        }
    }
    let flags = [
        (noexec, MountAttributes::NOEXEC),
        (nosuid, MountAttributes::NOSUID),
        (nodev, MountAttributes::NODEV),
        (readonly, MountAttributes::RDONLY),
        (nodiratime, MountAttributes::NODIRATIME),
    ];
    let set = flags.iter().filter(|(set, _)| *set);
    let attributes = set.fold(times, |attributes, (_, flag)| attributes.and(*flag));
    Ok(TmpfsMount { source: "tmpfs", options, attributes, propagation })
}

/// What `Mounts` asks of one, as `--tmpfs` has it; or what is wrong with it.
pub(super) fn text(options: Option<&TmpfsOptions>, readonly: bool) -> Result<String, String> {
    let mut words = Vec::new();
    if readonly {
        words.push("ro".to_owned());
    }
    let Some(options) = options else { return Ok(words.join(",")) };
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes != 0 {
        let units = [(30, "g"), (20, "m"), (10, "k"), (0, "")];
        let whole = units.iter().find(|(shift, _)| options.size_bytes % (1 << shift) == 0);
        let (shift, unit) = whole.copied().unwrap_or((0, ""));
        words.push(format!("size={}{unit}", options.size_bytes >> shift));
    }
    for option in &options.options {
        let [name, value @ ..] = option.as_slice() else {
            return Err("invalid option array length".to_owned());
        };
        if value.len() > 1 {
            return Err("invalid option array length".to_owned());
        }
        if !matches!(name.as_str(), "exec" | "noexec") {
            return Err(format!("invalid option: {name}"));
        }
        words.push(option.join("="));
    }
    Ok(words.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mounts_ask_of_them_is_said_in_words() {
        let check = |size: i64, mode: u32, options: &[&[&str]], expected: Result<&str, &str>| {
            let words = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let options = options.iter().map(words).collect();
            let got = text(Some(&TmpfsOptions { size_bytes: size, mode, options }), true);
            assert_eq!(got.as_deref().map_err(String::as_str), expected);
        };
        check(0, 0, &[], Ok("ro"));
        check(1 << 20, 0o700, &[&["exec"]], Ok("ro,mode=700,size=1m,exec"));
        check(1025, 0, &[], Ok("ro,size=1025"));
        check(3 << 30, 0, &[], Ok("ro,size=3g"));
        check(0, 0, &[&["foo"]], Err("invalid option: foo"));
        check(0, 0, &[&[]], Err("invalid option array length"));
        check(0, 0, &[&["exec", "a", "b"]], Err("invalid option array length"));
    }

    #[test]
    fn options_of_memory_file_systems_are_dockers() {
        let usual = MountAttributes::NOEXEC.and(MountAttributes::NOSUID).and(MountAttributes::NODEV);
        let check = |text: &str, attributes: MountAttributes, propagation: Option<Propagation>| {
            let mount = tmpfs(text).unwrap();
            assert_eq!((mount.attributes, mount.propagation), (attributes, propagation), "{text}");
        };
        check("", usual, None);
        check("defaults,sync,mand", usual, None);
        check("ro,shared", usual.and(MountAttributes::RDONLY), Some(Propagation::Shared));
        check("rslave", usual, Some(Propagation::Slave));
        check("shared,private", usual, None);
        check(
            "noatime,nodiratime",
            usual.and(MountAttributes::NOATIME).and(MountAttributes::NODIRATIME),
            None,
        );
        check("strictatime,relatime", usual, None);
        for bad in ["nope", "huge=always", "size", "remount", "bind"] {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }
}
