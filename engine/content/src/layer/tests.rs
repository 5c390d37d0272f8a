//! Layers from strangers, written as root into a temporary folder.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use runtime::ids::IdMap;
use sha2::{Digest as _, Sha256};

use super::*;
use model::reference::Digest;

/// A tar written byte by byte, so that it may be as wrong as a stranger likes.
#[derive(Default, Clone)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn raw(
        mut self,
        kind: u8,
        path: &[u8],
        link: &[u8],
        mode: u32,
        owner: (u32, u32),
        data: &[u8],
    ) -> Tar {
        let mut header = [0u8; 512];
        header[..path.len()].copy_from_slice(path);
        let mut field =
            |at: usize, text: String| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        field(100, format!("{mode:07o}"));
        field(108, format!("{:07o}", owner.0));
        field(116, format!("{:07o}", owner.1));
        field(124, format!("{:011o}", data.len()));
        field(136, format!("{:011o}", 1_600_000_000));
        field(148, "        ".to_owned());
        field(257, "ustar\x0000".to_owned());
        field(329, format!("{:07o}", 1));
        field(337, format!("{:07o}", 3));
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Tar {
        self.raw(b'0', path.as_bytes(), b"", 0o644, (0, 0), data)
    }

    pub fn folder(self, path: &str) -> Tar {
        self.raw(b'5', path.as_bytes(), b"", 0o755, (0, 0), b"")
    }

    fn symlink(self, path: &str, target: &str) -> Tar {
        self.raw(b'2', path.as_bytes(), target.as_bytes(), 0o777, (0, 0), b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Tar {
        self.raw(b'1', path.as_bytes(), target.as_bytes(), 0o644, (0, 0), b"")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..9).map(|digits| rest + digits).find(|l| l.to_string().len() + rest == *l).unwrap();
            data.extend(format!("{length} {key}=").into_bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.raw(b'x', b"pax", b"", 0o644, (0, 0), &data)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A world with a witness outside of the layer.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("layer")).unwrap();
        fs::create_dir(folder.path().join("scratch")).unwrap();
        fs::write(folder.path().join("witness"), "untouched").unwrap();
        World { folder }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("layer").join(path)
    }

    fn unpack(&self, data: &[u8]) -> Result<Unpacked, LayerError> {
        self.unpack_for(data, IdMap::default())
    }

    fn unpack_for(&self, data: &[u8], ids: IdMap) -> Result<Unpacked, LayerError> {
        let open = |name: &str| OwnedFd::from(fs::File::open(self.folder.path().join(name)).unwrap());
        let result = unpack(data, open("layer"), open("scratch"), ids);
        assert_eq!(fs::read_to_string(self.folder.path().join("witness")).unwrap(), "untouched");
        let outside: Vec<_> = fs::read_dir(self.folder.path()).unwrap().collect();
        assert_eq!(outside.len(), 3, "{outside:?}");
        result
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

fn unpacked(tar: Tar) -> World {
    let world = World::new();
    world.unpack(&tar.end()).unwrap();
    world
}

#[test]
fn owners_are_moved_where_ids_are_mapped() {
    if !rustix::process::geteuid().is_root() {
        skip::skip!("needs root");
    }
    let (world, ids) = (World::new(), IdMap::from(Some(300_000)));
    let tar = Tar::default()
        .raw(b'0', b"deep/file", b"", 0o644, (5, 65535), b"x")
        .raw(b'2', b"link", b"/t", 0o777, (6, 7), b"")
        // Nobody owns what is not there.
        .raw(b'0', b".wh.gone", b"", 0o644, (70_000, 0), b"");
    world.unpack_for(&tar.end(), ids).unwrap();
    let owner = |path: &str| fs::symlink_metadata(world.at(path)).map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(owner("deep"), (300_000, 300_000));
    assert_eq!(owner("deep/file"), (300_005, 365_535));
    assert_eq!(owner("link"), (300_006, 300_007));
    let high = Tar::default().raw(b'0', b"f", b"", 0o644, (0, 65536), b"");
    let error = World::new().unpack_for(&high.end(), ids).unwrap_err();
    assert_eq!(error.to_string(), "container ID 65536 cannot be mapped to a host ID");
}

fn refused(tar: Tar) -> String {
    World::new().unpack(&tar.end()).unwrap_err().to_string()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let count = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(count);
    Some(value)
}

#[test]
fn ordinary_members_keep_their_metadata() {
    let world = unpacked(
        Tar::default()
            .raw(b'5', b"d/", b"", 0o2750, (3, 4), b"")
            .raw(b'0', b"d/f", b"", 0o4755, (1, 2), b"hello")
            .symlink("d/s", "/anywhere/../x")
            .hard_link("h", "d/f")
            .raw(b'3', b"null", b"", 0o666, (0, 5), b"")
            .raw(b'6', b"fifo", b"", 0o600, (0, 0), b""),
    );
    let file = fs::metadata(world.at("d/f")).unwrap();
    assert_eq!((file.mode(), file.uid(), file.gid(), file.nlink()), (0o104755, 1, 2, 2));
    assert_eq!(file.mtime(), 1_600_000_000);
    let folder = fs::metadata(world.at("d")).unwrap();
    assert_eq!((folder.mode(), folder.uid(), folder.gid()), (0o42750, 3, 4));
    assert_eq!(folder.mtime(), 1_600_000_000);
    assert_eq!(fs::read_link(world.at("d/s")).unwrap(), Path::new("/anywhere/../x"));
    assert_eq!(fs::symlink_metadata(world.at("d/s")).unwrap().mtime(), 1_600_000_000);
    let node = fs::metadata(world.at("null")).unwrap();
    assert!(node.file_type().is_char_device());
    assert_eq!((node.rdev(), node.gid(), node.mode() & 0o777), (0x103, 5, 0o666));
    assert!(fs::metadata(world.at("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn every_compression_gives_the_same_layer() {
    let plain = Tar::default().file("a/b", &[7; 300_000]).end();
    let expected = Digest::from_sha256(&Sha256::digest(&plain).into());
    let (head, tail) = plain.split_at(1000);
    let members = [gzip(head), gzip(tail)].concat();
    let (mut xz, mut bzip2) = (Vec::new(), Vec::new());
    liblzma::read::XzEncoder::new(&plain[..], 6).read_to_end(&mut xz).unwrap();
    bzip2::read::BzEncoder::new(&plain[..], bzip2::Compression::best()).read_to_end(&mut bzip2).unwrap();
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    for data in [plain.clone(), gzip(&plain), members, zstd, xz, bzip2] {
        let world = World::new();
        let got = world.unpack(&data).unwrap();
        assert_eq!(got, Unpacked { diff_id: expected.clone(), size: 300_000, opaque: false });
        assert_eq!(fs::metadata(world.at("a/b")).unwrap().len(), 300_000);
    }
}

#[test]
fn an_empty_stream_is_an_empty_layer() {
    assert_eq!(World::new().unpack(b"").unwrap().size, 0);
    assert_eq!(World::new().unpack(&[0; 1024]).unwrap().size, 0);
}

#[test]
fn names_that_leave_the_layer_are_refused() {
    for path in ["../witness", "a/../../witness", "/../witness"] {
        assert!(refused(Tar::default().file(path, b"evil")).contains("outside of the layer"), "{path}");
        assert!(refused(Tar::default().hard_link("x", path)).contains("outside of the layer"), "{path}");
    }
    let world = unpacked(Tar::default().file("/etc/x", b"1").file("./a/../y", b"2"));
    assert_eq!((world.text("etc/x"), world.text("y")), ("1".into(), "2".into()));
}

#[test]
fn symlinks_on_the_way_stay_inside() {
    let world = unpacked(
        Tar::default()
            .symlink("abs", "/in")
            .symlink("up", "../../../../in")
            .folder("in")
            .file("abs/a", b"1")
            .file("up/b", b"2")
            .symlink("proc", "/proc/self/root")
            .folder("proc-target"),
    );
    assert_eq!((world.text("in/a"), world.text("in/b")), ("1".into(), "2".into()));
    assert!(World::new().unpack(&Tar::default().symlink("p", "/nowhere").file("p/x", b"").end()).is_err());
    // The classic: a symlink to the outside, then a file through it.
    let world = World::new();
    let outside = world.folder.path().to_str().unwrap().to_owned();
    let tar = Tar::default().symlink("l", &outside).file("l/witness", b"evil");
    assert!(world.unpack(&tar.end()).is_err());
    let tar = Tar::default().symlink("m", "../witness").file("m", b"mine");
    world.unpack(&tar.end()).unwrap();
    assert_eq!(world.text("m"), "mine");
}

#[test]
fn hard_links_do_not_reach_out() {
    let world = World::new();
    let outside = world.folder.path().to_str().unwrap().to_owned();
    let tar = Tar::default().symlink("l", &outside).hard_link("x", "l/witness");
    assert!(world.unpack(&tar.end()).is_err());
    // The link is to the symlink itself, not to what it points to.
    let tar = Tar::default().symlink("s", "../witness").hard_link("h", "s");
    world.unpack(&tar.end()).unwrap();
    assert!(fs::symlink_metadata(world.at("h")).unwrap().is_symlink());
    assert!(refused(Tar::default().hard_link("x", "missing")).contains("No such file"));
    assert!(World::new().unpack(&Tar::default().folder("d").hard_link("x", "d").end()).is_err());
    let world =
        unpacked(Tar::default().file("f", b"1").hard_link("f", "f").file("g", b"2").hard_link("g", "f"));
    assert_eq!((world.text("f"), world.text("g")), ("1".into(), "1".into()));
}

#[test]
fn later_members_replace_earlier_ones() {
    let world = unpacked(
        Tar::default()
            .file("d/deep/er/f", b"1")
            .file("d", b"now a file")
            .file("f", b"1")
            .folder("f")
            .file("f/in", b"2")
            .folder("keep")
            .file("keep/x", b"3")
            .raw(b'5', b"keep", b"", 0o700, (0, 0), b"")
            .file("twice", b"longer")
            .file("twice", b"2"),
    );
    assert_eq!((world.text("d"), world.text("f/in")), ("now a file".into(), "2".into()));
    assert_eq!((world.text("keep/x"), world.text("twice")), ("3".into(), "2".into()));
    assert_eq!(fs::metadata(world.at("keep")).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(xattr(&world.at("keep"), "trusted.overlay.opaque").is_none());
}

#[test]
fn a_replaced_folder_is_not_written_to_any_more() {
    let world = unpacked(
        Tar::default().folder("real").symlink("a", "real").file("a/1", b"x").folder("a").file("a/2", b"y"),
    );
    assert!(world.at("real/1").exists() && !world.at("real/2").exists() && world.at("a/2").exists());
}

#[test]
fn deletions_become_overlay_marks() {
    let world = unpacked(
        Tar::default()
            .file("etc/.wh.gone", b"")
            .folder("opaque")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/new", b"1")
            .file(".wh..wh.plnk", b"")
            .file("etc/own", b"1")
            .file("etc/.wh.own", b"")
            .file(".wh.again", b"")
            .folder("again")
            .file(".wh.file", b"")
            .file("file", b"2"),
    );
    let mark = fs::metadata(world.at("etc/gone")).unwrap();
    assert!(mark.file_type().is_char_device() && mark.rdev() == 0);
    assert_eq!(xattr(&world.at("opaque"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert_eq!(world.text("opaque/new"), "1");
    assert!(!world.at(".wh..wh.plnk").exists());
    assert_eq!((world.text("etc/own"), world.text("file")), ("1".into(), "2".into()));
    assert_eq!(xattr(&world.at("again"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
    let world = World::new();
    assert!(world.unpack(&Tar::default().file(".wh..wh..opq", b"").end()).unwrap().opaque);
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        assert!(refused(Tar::default().file(bad, b"")).contains("whiteout without a name"), "{bad}");
    }
}

#[test]
fn attributes_are_kept_but_not_those_of_overlayfs() {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let world = unpacked(
        Tar::default()
            .pax(&[
                ("SCHILY.xattr.security.capability", &capability),
                ("SCHILY.xattr.user.note", b"a=b"),
                ("SCHILY.xattr.trusted.overlay.redirect", b"/"),
            ])
            .raw(b'0', b"ping", b"", 0o755, (5, 5), b"x")
            .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
            .folder("d")
            .pax(&[("SCHILY.xattr.user.note", b"x")])
            .symlink("s", "ping"),
    );
    assert_eq!(xattr(&world.at("ping"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&world.at("ping"), "trusted.overlay.redirect"), None);
    assert_eq!(xattr(&world.at("d"), "trusted.overlay.opaque"), None);
}

#[test]
fn extended_headers_override() {
    let long = format!("{}/name", ["component"; 40].join("/"));
    let world = unpacked(
        Tar::default()
            .pax(&[
                ("path", long.as_bytes()),
                ("mtime", b"1234.000000567"),
                ("uid", b"70000"),
                ("gid", b"3000000"),
            ])
            .file("short", b"1")
            .raw(b'L', b"././@LongLink", b"", 0, (0, 0), format!("{long}2\0").as_bytes())
            .file("short", b"2")
            .raw(b'K', b"././@LongLink", b"", 0, (0, 0), format!("{long}\0").as_bytes())
            .symlink("s", "short")
            .raw(b'g', b"global", b"", 0, (0, 0), b"12 comment=x\n")
            .file("after", b"3"),
    );
    let file = fs::metadata(world.at(&long)).unwrap();
    assert_eq!((file.mtime(), file.mtime_nsec(), file.uid(), file.gid()), (1234, 567, 70_000, 3_000_000));
    assert_eq!(world.text(&format!("{long}2")), "2");
    assert_eq!(fs::read_link(world.at("s")).unwrap(), Path::new(&long));
    assert_eq!(world.text("after"), "3");
    assert!(!world.at("short").exists());
}

#[test]
fn holes_of_files_stay_holes_in_every_form() {
    const WHOLE: u64 = 1 << 30;
    let version = |minor: &'static [u8]| [("GNU.sparse.major", &b"0"[..]), ("GNU.sparse.minor", minor)];
    let size = ("GNU.sparse.size", &b"1073741824"[..]);
    let pairs = [
        ("GNU.sparse.offset", &b"3"[..]),
        ("GNU.sparse.numbytes", b"2"),
        ("GNU.sparse.offset", b"1073741822"),
        ("GNU.sparse.numbytes", b"2"),
    ];
    let listed = [("GNU.sparse.map", &b"3,2,1073741822,2"[..]), ("GNU.sparse.name", b"listed")];
    let first = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"first"),
        ("GNU.sparse.realsize", b"1073741824"),
    ];
    let mut content = b"2\n3\n2\n1073741822\n2\n".to_vec();
    content.resize(512, 0);
    content.extend(b"abcd");
    let world = unpacked(
        Tar::default()
            .pax(&[&version(b"0")[..], &[size], &pairs].concat())
            .file("pairs", b"abcd")
            .pax(&[&version(b"1")[..], &[size], &listed].concat())
            .file("GNUSparseFile.1/x", b"abcd")
            .pax(&first)
            .file("GNUSparseFile.2/x", &content)
            .file("after", b"1"),
    );
    for name in ["pairs", "listed", "first"] {
        let (file, mut read) = (fs::File::open(world.at(name)).unwrap(), [9; 6]);
        let (length, blocks) = (file.metadata().unwrap().len(), file.metadata().unwrap().blocks());
        assert!(length == WHOLE && blocks < 100, "{name}: {length} bytes in {blocks} blocks");
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"\0\0\0ab\0", "{name}");
        file.read_exact_at(&mut read[..2], WHOLE - 2).unwrap();
        assert_eq!(&read[..2], b"cd", "{name}");
    }
    assert_eq!(world.text("after"), "1");
}

#[test]
fn broken_archives_are_refused() {
    assert!(
        refused(Tar::default().raw(b'S', b"x", b"", 0, (0, 0), b"")).contains("unhandled tar header type")
    );
    let sparse: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")];
    assert!(refused(Tar::default().pax(&sparse).file("x", b"")).contains("sparse"));
    assert!(refused(Tar::default().pax(&[("GNU.sparse.map", b"0,9")]).file("x", b"a")).contains("sparse"));
    assert!(refused(Tar::default().file("", b"x")).contains("root of a layer"));
    assert!(refused(Tar::default().file("f", b"").file("f/x", b"")).contains("Not a directory"));
    let huge = vec![b'a'; (1 << 20) + 1];
    assert!(refused(Tar::default().raw(b'L', b"x", b"", 0, (0, 0), &huge)).contains("longer than 1 MiB"));
    let whole = Tar::default().file("a", &[1; 1000]).end();
    for cut in [100, 600, 1100] {
        assert!(World::new().unpack(&whole[..cut]).is_err(), "{cut}");
    }
    let mut wrong = whole.clone();
    wrong[0] = b'b';
    assert!(World::new().unpack(&wrong).unwrap_err().to_string().contains("wrong checksum"));
    let packed = gzip(&whole);
    assert!(World::new().unpack(&packed[..packed.len() - 9]).is_err());
}

#[test]
fn folders_without_bottom_are_made_and_removed() {
    let mut tar = Tar::default();
    // Every symlink points 30 folders further down than the one before.
    let down = vec!["a"; 30].join("/");
    tar = tar.folder(&down).symlink("s0", &down);
    for i in 0..20 {
        let path = format!("s{i}/{down}");
        tar = tar.folder(&path).symlink(&format!("s{}", i + 1), &path);
    }
    let world = unpacked(tar);
    let open = |name: &str| fs::File::open(world.folder.path().join(name)).unwrap();
    let (parent, scratch) = (open(""), open("scratch"));
    use std::os::fd::AsFd;
    remove_tree(parent.as_fd(), b"layer", scratch.as_fd()).unwrap();
    assert!(!world.at("").exists());
    assert_eq!(fs::read_dir(world.folder.path().join("scratch")).unwrap().count(), 0);
}
