//! The options of the driver `local`, which are those of mount(8).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use runtime::volume::FileSystem;
use sys::mounts::MountAttributes;

const BIND: u64 = 0x1000;
const RECURSIVE: u64 = 0x4000;
const READ_ONLY: u64 = 0x1;

/// The flags of mount(2) among the words of `o`: a word, its flag, whether it clears it.
const WORDS: [(&str, u64, bool); 30] = [
    ("ro", READ_ONLY, false),
    ("rw", READ_ONLY, true),
    ("nosuid", 0x2, false),
    ("suid", 0x2, true),
    ("nodev", 0x4, false),
    ("dev", 0x4, true),
    ("noexec", 0x8, false),
    ("exec", 0x8, true),
    ("sync", 0x10, false),
    ("async", 0x10, true),
    ("mand", 0x40, false),
    ("nomand", 0x40, true),
    ("dirsync", 0x80, false),
    ("noatime", 0x400, false),
    ("atime", 0x400, true),
    ("nodiratime", 0x800, false),
    ("diratime", 0x800, true),
    ("bind", BIND, false),
    ("rbind", BIND | RECURSIVE, false),
    ("unbindable", 1 << 17, false),
    ("runbindable", 1 << 17 | RECURSIVE, false),
    ("private", 1 << 18, false),
    ("rprivate", 1 << 18 | RECURSIVE, false),
    ("slave", 1 << 19, false),
    ("rslave", 1 << 19 | RECURSIVE, false),
    ("shared", 1 << 20, false),
    ("rshared", 1 << 20 | RECURSIVE, false),
    ("relatime", 1 << 21, false),
    ("strictatime", 1 << 24, false),
    ("norelatime", 1 << 21, true),
];

/// Which flag of mount(2) is which attribute of a mount.
const ATTRIBUTES: [(u64, MountAttributes); 7] = [
    (READ_ONLY, MountAttributes::RDONLY),
    (0x2, MountAttributes::NOSUID),
    (0x4, MountAttributes::NODEV),
    (0x8, MountAttributes::NOEXEC),
    (0x400, MountAttributes::NOATIME),
    (0x800, MountAttributes::NODIRATIME),
    (1 << 24, MountAttributes::STRICTATIME),
];

/// Those of a file system rather than of a mount, with their words.
const OF_THE_FILE_SYSTEM: [(u64, &str); 4] =
    [(READ_ONLY, "ro"), (0x10, "sync"), (0x40, "mand"), (0x80, "dirsync")];

/// What a volume shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Options {
    /// Its own folder.
    Folder,
    /// Another folder.
    Bind { folder: PathBuf, recursive: bool, readonly: bool },
    /// A file system.
    FileSystem(FileSystem),
}

impl Options {
    /// What is wrong with them is said in dockerd's words.
    pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Options, String> {
        if let Some(unknown) =
            options.keys().find(|key| !["type", "o", "device", "size"].contains(&key.as_str()))
        {
            return Err(format!("invalid option: {unknown:?}"));
        }
        let get = |key: &str| options.get(key);
        for (key, needed) in [("device", &["type"][..]), ("type", &["device"]), ("o", &["device", "type"])] {
            if let (Some(_), Some(missing)) = (get(key), needed.iter().find(|key| get(key).is_none())) {
                return Err(format!("missing required option: {missing:?}"));
            }
        }
        if let Some(size) = get("size") {
            return Err(match bytes(size) {
                None => format!("invalid size: '{size}'"),
                Some(_) => "quota size requested but no quota support".to_owned(),
            });
        }
        let (Some(kind), Some(device)) = (get("type"), get("device")) else { return Ok(Options::Folder) };
        let (flags, data) = words(get("o").map_or("", String::as_str));
        if flags & BIND != 0 {
            let (recursive, readonly) = (flags & RECURSIVE != 0, flags & READ_ONLY != 0);
            return Ok(Options::Bind { folder: device.into(), recursive, readonly });
        }
        let set = ATTRIBUTES.iter().filter(|(flag, _)| flags & flag != 0);
        let attributes = set.fold(MountAttributes::default(), |all, (_, attribute)| all.and(*attribute));
        let own = OF_THE_FILE_SYSTEM.iter().filter(|(flag, _)| flags & flag != 0);
        let own = own.map(|(_, word)| ((*word).to_owned(), None));
        let told = data.iter().map(|word| match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        });
        let options = own.chain(told).collect();
        let file_system = FileSystem { kind: kind.clone(), source: device.clone(), options, attributes };
        Ok(Options::FileSystem(file_system))
    }
}

/// A file server is told to the kernel by its address: a name of it is looked up, as mount(8) does. Blocks.
pub(super) fn resolve(mut file_system: FileSystem) -> io::Result<FileSystem> {
    if !matches!(file_system.kind.as_str(), "nfs" | "nfs4" | "cifs") {
        return Ok(file_system);
    }
    let named = file_system.options.iter_mut().find(|(key, _)| key == "addr");
    if let Some((_, Some(name))) = named
        && name.parse::<IpAddr>().is_err()
    {
        let unknown = |error: io::Error| {
            let text = format!("error resolving passed in network volume address: lookup {name}: {error}");
            io::Error::new(error.kind(), text)
        };
        let mut found = (name.as_str(), 0).to_socket_addrs().map_err(unknown)?;
        let address = found.next().ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))?;
        *name = address.ip().to_string();
    }
    Ok(file_system)
}

/// What mount(2) would be told, as dockerd's errors name it.
pub(super) fn call(options: &BTreeMap<String, String>, place: &str) -> String {
    let (flags, data) = words(options.get("o").map_or("", String::as_str));
    let device = options.get("device").map_or("", String::as_str);
    let mut text = format!("mount {device}:{place}");
    if flags != 0 {
        text += &format!(", flags: {flags:#x}");
    }
    if !data.is_empty() {
        text += &format!(", data: {}", data.join(","));
    }
    text
}

/// Flags, and what the file system itself is told.
fn words(text: &str) -> (u64, Vec<String>) {
    let (mut flags, mut data) = (0, Vec::new());
    for word in text.split(',').filter(|word| !matches!(*word, "" | "defaults")) {
        match WORDS.iter().find(|(known, _, _)| *known == word) {
            Some((_, flag, false)) => flags |= flag,
            Some((_, flag, true)) => flags &= !flag,
            None => data.push(word.to_owned()),
        }
    }
    (flags, data)
}

/// A size as Docker writes it: `10m`, `1.5GB`.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    // Only whether it is a size is asked.
    (number >= 0.0).then_some(((number * 1024.0) as u64) << (shift.max(10) - 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_wrong_is_said_as_dockerd_says_it() {
        let check = |pairs: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(Options::read(&map(pairs)).err().as_deref(), expected, "{pairs:?}");
        };
        check(&[], None);
        check(&[("foo", "x")], Some("invalid option: \"foo\""));
        check(&[("device", "x")], Some("missing required option: \"type\""));
        check(&[("type", "x")], Some("missing required option: \"device\""));
        check(&[("o", "x"), ("type", "y")], Some("missing required option: \"device\""));
        check(&[("size", "10m")], Some("quota size requested but no quota support"));
        check(&[("size", "1.5GB")], Some("quota size requested but no quota support"));
        check(&[("size", "x")], Some("invalid size: 'x'"));
        check(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=1.2.3.4,rw")], None);
    }

    #[test]
    fn they_are_read_as_mount_reads_them() {
        let read =
            |o: &str| Options::read(&map(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", o)])).unwrap();
        let Options::FileSystem(tmpfs) = read("size=1m,noexec,ro,huge,defaults") else { panic!() };
        assert_eq!(tmpfs.attributes, MountAttributes::NOEXEC.and(MountAttributes::RDONLY));
        let options = [("ro", None), ("size", Some("1m")), ("huge", None)];
        let options = options.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        assert_eq!(tmpfs.options, options);
        let bind = |recursive, readonly| Options::Bind { folder: "tmpfs".into(), recursive, readonly };
        assert_eq!(read("bind"), bind(false, false));
        assert_eq!(read("rbind,ro"), bind(true, true));
        assert_eq!(read("ro,bind,rw"), bind(false, false));
    }

    #[test]
    fn names_of_file_servers_become_addresses() {
        let check = |kind: &str, addr: &str, expected: &[&str]| {
            let o = format!("addr={addr}");
            let options = map(&[("type", kind), ("device", ":/x"), ("o", &o)]);
            let Options::FileSystem(file_system) = Options::read(&options).unwrap() else { panic!() };
            let resolved = resolve(file_system).unwrap().options[0].1.clone().unwrap();
            assert!(expected.contains(&resolved.as_str()), "{resolved}");
        };
        check("nfs", "192.0.2.1", &["192.0.2.1"]);
        check("nfs", "localhost", &["127.0.0.1", "::1"]);
        check("tmpfs", "localhost", &["localhost"]);
    }

    #[test]
    fn the_call_is_told_as_dockerd_tells_it() {
        let check = |o: &str, expected: &str| {
            let options = map(&[("type", "none"), ("device", "/x"), ("o", o)]);
            assert_eq!(call(&options, "/v/_data"), expected);
        };
        check("", "mount /x:/v/_data");
        check("bind", "mount /x:/v/_data, flags: 0x1000");
        check("addr=1.2.3.4,rw", "mount /x:/v/_data, data: addr=1.2.3.4");
    }
}
