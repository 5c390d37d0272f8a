//! What building and running need from Debian, and getting it.

use crate::say;
use crate::workspace::run;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Something the host must have, and the package that brings it.
struct Need {
    have: fn() -> bool,
    package: &'static str,
}

/// For building the image and running it in a machine.
const MACHINE: &[Need] = &[
    Need { have: || program("cc") && program("ld"), package: "gcc" },
    Need { have: || Path::new("/usr/lib/x86_64-linux-gnu/libc.a").exists(), package: "libc6-dev" },
    Need { have: || program("mke2fs"), package: "e2fsprogs" },
    Need { have: || Path::new("/etc/ssl/certs/ca-certificates.crt").exists(), package: "ca-certificates" },
    Need { have: || program("qemu-system-x86_64"), package: "qemu-system-x86" },
];

/// For running it in namespaces.
const NAMESPACE: &[Need] = &[
    Need { have: || program("ip"), package: "iproute2" },
    Need { have: || program("nft"), package: "nftables" },
];

/// For the tests: a registry, what goes into its images, and the clients.
const TESTS: &[Need] = &[
    Need { have: || program("docker"), package: "docker.io" },
    Need { have: || program("docker-registry"), package: "docker-registry" },
    Need { have: || program("mmdebstrap"), package: "mmdebstrap" },
    Need { have: || Path::new("/usr/sbin/dnsmasq").exists(), package: "dnsmasq-base" },
    Need { have: python_makes_environments, package: "python3-venv" },
];

/// For the fuzz targets: libFuzzer is C++, and the first archives are packed by hand.
const FUZZ: &[Need] =
    &[Need { have: || program("c++"), package: "g++" }, Need { have: || program("zstd"), package: "zstd" }];

/// For the measurements: those we are measured beside, and what the peer VM is made with.
const BENCH: &[Need] = &[
    Need { have: || program("crun"), package: "crun" },
    Need { have: || program("runc"), package: "runc" },
    Need { have: || program("iptables"), package: "iptables" },
    Need { have: || program("cpio"), package: "cpio" },
    Need { have: || program("zstd"), package: "zstd" },
    Need { have: || program("depmod"), package: "kmod" },
    Need { have: || program("xz"), package: "xz-utils" },
];

/// Meets what building and running need.
pub fn meet(namespace: bool) -> Result<()> {
    let needs = MACHINE.iter().chain(if namespace { NAMESPACE } else { &[] });
    meet_all(needs)
}

/// Meets what the tests need besides.
pub fn meet_tests() -> Result<()> {
    meet_all(MACHINE.iter().chain(NAMESPACE).chain(TESTS))
}

/// Meets what fuzzing needs.
pub fn meet_fuzz() -> Result<()> {
    meet_all(MACHINE.iter().chain(FUZZ))
}

/// Meets what the measurements need besides.
pub fn meet_bench() -> Result<()> {
    meet_all(MACHINE.iter().chain(NAMESPACE).chain(TESTS).chain(BENCH))
}

/// Installs what is missing, or says with which line to install it.
fn meet_all<'a>(needs: impl Iterator<Item = &'a Need>) -> Result<()> {
    let missing: Vec<&str> = needs.filter(|need| !(need.have)()).map(|need| need.package).collect();
    let know_kernel = knows_kernel();
    if missing.is_empty() && know_kernel {
        return Ok(());
    }
    let Some(root) = become_root() else {
        bail!("{}", by_hand(&missing));
    };
    say::step("reading the lists of packages");
    run(command(&root, &["apt-get", "update", "-qq"]).stdin(Stdio::null()))?;
    if missing.is_empty() {
        return Ok(());
    }
    say::step(&format!("installing {}", missing.join(" ")));
    let mut install = vec!["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    run(command(&root, &install).stdin(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn by_hand(missing: &[&str]) -> String {
    match missing.is_empty() {
        true => "apt's lists of packages are missing: run apt-get update as root".to_owned(),
        false => format!("not root and no sudo: run apt-get install {} as root", missing.join(" ")),
    }
}

/// The kernel's package is in apt's lists, or was fetched before.
fn knows_kernel() -> bool {
    let mut show = Command::new("apt-cache");
    show.args(["show", "--no-all-versions", "linux-image-6.12-cloud-amd64"]);
    show.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The words that make a command root's: none for root, `sudo` where it is.
fn become_root() -> Option<Vec<&'static str>> {
    let mut id = Command::new("id");
    let uid = id.arg("-u").output().ok()?;
    match uid.stdout.trim_ascii() == b"0" {
        true => Some(Vec::new()),
        false => program("sudo").then(|| vec!["sudo"]),
    }
}

fn command(root: &[&str], words: &[&str]) -> Command {
    let words: Vec<&str> = root.iter().chain(words).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Debian's python3 has no `ensurepip` of its own.
fn python_makes_environments() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import ensurepip, venv"]).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

/// On PATH, or in the folders that Debian keeps for root.
fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.any(|folder| folder.join(name).is_file())
}
