//! Root file systems from Debian packages, made once and kept below `build/test-images`.

use super::layer::{Compression, Layer, Tree};
use super::recipe::Recipe;
use crate::outcome::Program;
use crate::workspace::build_folder;
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// The tools that containers of the tests call by name.
const APPLETS: &[&str] = &[
    "sh",
    "ash",
    "cat",
    "chmod",
    "cp",
    "date",
    "dd",
    "df",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mknod",
    "mount",
    "mv",
    "nc",
    "nproc",
    "od",
    "ping",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "sed",
    "seq",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "tail",
    "test",
    "touch",
    "tr",
    "true",
    "tty",
    "umount",
    "uname",
    "uniq",
    "unshare",
    "usleep",
    "wc",
    "wget",
    "yes",
];

/// Busybox and links to it, `/etc/passwd`, `/etc/group`, and the folders every container has.
pub fn busybox_tree() -> Tree {
    let program = busybox_program();
    let folders = ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "var"];
    let tree = folders.iter().fold(Tree::default(), |tree, folder| tree.folder(folder));
    let tree = tree.file("bin/busybox", 0o755, program);
    let tree =
        APPLETS.iter().fold(tree, |tree, applet| tree.hard_link(&format!("bin/{applet}"), "bin/busybox"));
    tree.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/home:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nguest:x:1000:\naudio:x:29:guest\n")
}

/// Debian's static busybox, unpacked once: who reads it while another test unpacks it reads a part of it.
pub fn busybox_program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(unpack_busybox)
}

fn unpack_busybox() -> Vec<u8> {
    let package = download("busybox-static");
    let unpacked = build_folder("test-images/busybox-static");
    run("dpkg-deb", &["-x", &package.to_string_lossy(), &unpacked.to_string_lossy()]);
    std::fs::read(unpacked.join("bin/busybox")).expect("the package has bin/busybox")
}

/// Debian bookworm: the minimal root file system, two packages in layers of their own, then a layer that
/// removes one file, hides one folder's content, and adds configuration.
pub fn recipe() -> Recipe {
    let top = Tree::default()
        .folder("etc")
        .without("etc", "issue.net")
        .folder("usr/share/doc")
        .opaque("usr/share/doc")
        .file("usr/share/doc/only-this", 0o644, b"left\n");
    Recipe::new()
        .layer(Layer::pack(&root_file_system(), Compression::Gzip))
        .layer(package_layer("libproc2-0"))
        .layer(package_layer("procps"))
        .layer(top.finish(Compression::Gzip))
        .layer(Tree::default().folder("srv").file("srv/made-by", 0o600, b"tests\n").finish(Compression::Gzip))
        .config(json!({ "Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] }))
}

fn package_layer(package: &str) -> Layer {
    let path = download(package);
    let tar = run("dpkg-deb", &["--fsys-tarfile", &path.to_string_lossy()]);
    Layer::pack(&below_usr(&tar).expect("a package's tar archive can be read"), Compression::Gzip)
}

/// Packages of bookworm still have `/bin` and `/lib`, which are links to `/usr` in its root file system: a layer
/// with them as folders would hide the links.
fn below_usr(tar: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = tar::Builder::new(Vec::new());
    let mut seen = HashSet::from([PathBuf::new()]);
    for entry in tar::Archive::new(tar).entries()? {
        let entry = entry?;
        let mut header = entry.header().clone();
        let path = entry.path()?.strip_prefix("./").map_or_else(|_| PathBuf::new(), Path::to_owned);
        let moved = ["bin", "sbin", "lib", "lib64"].iter().any(|top| path.starts_with(top));
        let path = if moved { Path::new("usr").join(path) } else { path };
        match entry.link_name()? {
            _ if !seen.insert(path.clone()) => {}
            Some(target) => out.append_link(&mut header, path, target)?,
            None => out.append_data(&mut header, path, entry)?,
        }
    }
    out.into_inner()
}

fn root_file_system() -> Vec<u8> {
    bootstrap("debian-bookworm", &[], &[])
}

/// A minimal bookworm with these packages and what they depend on, without what `leave_out` names. It is made once and kept
/// as `NAME.tar`: a name always means the same packages.
pub(super) fn bootstrap(name: &str, packages: &[&str], leave_out: &[&str]) -> Vec<u8> {
    // Tests of one run would make it in the same place.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().expect("whoever made one before did not fail");
    let kept = build_folder("test-images").join(format!("{name}.tar"));
    if !kept.exists() {
        let made = build_folder("test-images").join(format!("{name}.{}.tar", std::process::id()));
        let documents = ["man", "locale", "info", "lintian"].map(|name| format!("/usr/share/{name}/*"));
        let leave_out = documents.iter().map(String::as_str).chain(leave_out.iter().copied());
        let mut args = vec!["--quiet".to_owned(), "--variant=minbase".to_owned()];
        args.extend(leave_out.map(|path| format!("--dpkgopt=path-exclude={path}")));
        if !packages.is_empty() {
            args.push(format!("--include={}", packages.join(",")));
        }
        args.extend(["bookworm".to_owned(), made.to_string_lossy().into_owned()]);
        run("mmdebstrap", &args.iter().map(String::as_str).collect::<Vec<_>>());
        std::fs::rename(&made, &kept).expect("both names are in one folder");
    }
    std::fs::read(&kept).expect("the file was just seen")
}

/// Fetches a package with apt, which checks its signature.
fn download(package: &str) -> PathBuf {
    let folder = build_folder("test-images/packages");
    if let Some(found) = find_package(&folder, package) {
        return found;
    }
    let script = "cd \"$1\" && apt-get download -qq -o APT::Sandbox::User=root \"$2\"";
    run("sh", &["-c", script, "sh", &folder.to_string_lossy(), package]);
    find_package(&folder, package).unwrap_or_else(|| panic!("apt-get download {package} made no file"))
}

fn find_package(folder: &Path, package: &str) -> Option<PathBuf> {
    let start = format!("{package}_");
    let entries = std::fs::read_dir(folder).expect("build/ can be read");
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
}

fn run(program: &str, args: &[&str]) -> Vec<u8> {
    Program::new(program, Duration::from_secs(900)).args(args).run().succeeds().stdout
}
