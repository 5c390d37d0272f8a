//! The real Docker beside ours: dockerd with BuildKit, its command line with Compose and buildx, and containerd, from a newer
//! Debian than the machine's own. They are unpacked below `build/peers`; nothing is installed, and the machine's own lists of
//! packages stay as they are.

use crate::say;
use crate::workspace::{Workspace, output, run};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release of Debian whose packages are taken.
const SUITE: &str = "forky";
/// What is unpacked.
const PACKAGES: &[&str] = &["docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd"];

/// Fetches and unpacks them once; tells the folder that has `usr/sbin/dockerd`.
///
/// Fails where apt knows no mirror of Debian, or the mirror lacks the release.
pub fn fetch(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.build("peers");
    let root = folder.join("root");
    if root.join("usr/sbin/dockerd").is_file() {
        return Ok(root);
    }
    say::step(&format!("fetching {} of Debian {SUITE}", PACKAGES.join(", ")));
    for below in ["lists/partial", "packages"] {
        std::fs::create_dir_all(folder.join(below))?;
    }
    std::fs::write(folder.join("newer.sources"), newer_sources()?)?;
    run(apt(&folder).args(["update", "-qq"]))?;
    run(apt(&folder).args(["download", "-qq"]).args(PACKAGES).current_dir(folder.join("packages")))?;
    // A folder of this name is whole: it is unpacked under another one.
    let partial = folder.join("root.partial");
    for entry in std::fs::read_dir(folder.join("packages"))? {
        run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(&partial))?;
    }
    std::fs::rename(&partial, &root)?;
    Ok(root)
}

/// The same mirror as the machine's own, with the newer release.
fn newer_sources() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages"]);
    let targets = output(&mut targets)?;
    let mirror = main_mirror(&targets).context("apt knows no mirror of Debian")?;
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    ensure!(Path::new(keyring).is_file(), "{keyring} is missing: install debian-archive-keyring");
    Ok(format!("Types: deb\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\nSigned-By: {keyring}\n"))
}

/// The address of the first archive that is not one of security updates, in the lines `ADDRESS COMPONENT`.
fn main_mirror(targets: &str) -> Option<&str> {
    let pairs = targets.lines().filter_map(|line| line.split_once(' '));
    pairs
        .filter(|(address, component)| *component == "main" && !address.contains("security"))
        .map(|(address, _)| address)
        .next()
}

/// An apt that reads and writes below `folder` alone.
fn apt(folder: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
    apt.args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o", "APT::Sandbox::User=root"]);
    apt.arg("-o").arg(option("Dir::Etc::sourcelist", folder.join("newer.sources")));
    apt.arg("-o").arg(option("Dir::State::Lists", folder.join("lists"))).stdin(Stdio::null());
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_archive_of_releases() {
        let lines = "http://a.example/debian-security/ main\nhttp://a.example/debian/ contrib\nhttp://b.example/debian/ main\n";
        assert_eq!(main_mirror(lines), Some("http://b.example/debian/"));
        assert_eq!(main_mirror(""), None);
    }
}
