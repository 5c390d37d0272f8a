//! `cargo xtask check-hosts`: `pinnace` type-checked for Windows and macOS, on Linux.
//!
//! Rust's compiler for this host knows every target, but not their standard libraries. Debian has the sources of one in a
//! package, and the compiler of exactly that version beside it; both are unpacked below `build/`, nothing is installed.
//! A check links nothing, so no C compiler and no system library of the target is needed.

use crate::say;
use crate::workspace::{Workspace, cargo, run as run_command};
use anyhow::{Context, Result, bail};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The systems beside this one.
const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];
/// Debian's compiler, its libraries, and the sources of the standard library.
const PACKAGES: [&str; 5] =
    ["rustc-web", "rust-web-src", "libstd-rust-web-dev", "libstd-rust-web-1.96", "libllvm22"];
/// In the place of a C compiler for build scripts, and of the tool that makes Windows' import libraries: a check needs the
/// names of what they make and not what is in it.
const NO_TOOL: &str = "#!/bin/sh
while [ $# -gt 0 ]; do
    case \"$1\" in -o | -l) : > \"$2\"; shift ;; esac
    shift
done
";

/// Checks each target; says why where the compiler cannot be had.
pub fn run(workspace: &Workspace) -> Result<()> {
    let folder = workspace.build("rust-web");
    if let Err(error) = fetch(&folder) {
        say::note(&format!("skipped: no compiler with a standard library for other systems: {error:#}"));
        return Ok(());
    }
    TARGETS.iter().try_for_each(|target| {
        say::step(&format!("cargo check for {target}"));
        run_command(&mut check(workspace, &folder, target)?)
    })
}

fn check(workspace: &Workspace, folder: &Path, target: &str) -> Result<Command> {
    let rustc = folder.join("rustc");
    let root = folder.join("root/usr");
    let libraries = root.join("lib/x86_64-linux-gnu");
    let (libraries, program) = (libraries.display(), root.join("bin/rustc"));
    script(&rustc, &format!("#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {} \"$@\"\n", program.display()))?;
    let tools = folder.join("tools");
    std::fs::create_dir_all(&tools)?;
    let no_compiler = tools.join("cc-of-nothing");
    script(&no_compiler, NO_TOOL)?;
    script(&tools.join("x86_64-w64-mingw32-dlltool"), NO_TOOL)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))?;
    let under = target.replace('-', "_");
    let mut check = cargo();
    check.current_dir(&workspace.root).args(["check", "-p", "pinnace-bridge", "--target", target]);
    check.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
    check.env(format!("CC_{under}"), &no_compiler).env(format!("AR_{under}"), "true");
    check.env("PATH", path).env("CARGO_TARGET_DIR", workspace.build("hosts")).env("RUSTFLAGS", "-D warnings");
    Ok(check)
}

/// By apt, which checks the signatures; unpacked once.
fn fetch(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    if root.join("usr/bin/rustc").is_file() {
        return Ok(());
    }
    let fresh = folder.join("new");
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh)?;
    // Root's sandbox user may not write into a build folder; apt would only warn and go on.
    let mut download = Command::new("apt-get");
    download.args(["-qq", "-o", "APT::Sandbox::User=root", "download"]).args(PACKAGES).current_dir(folder);
    run_command(download.stdin(Stdio::null()))?;
    for package in packages(folder)? {
        run_command(Command::new("dpkg").arg("-x").arg(&package).arg(&fresh))?;
        std::fs::remove_file(package)?;
    }
    if !fresh.join("usr/bin/rustc").is_file() {
        bail!("rustc-web has no compiler in it");
    }
    std::fs::rename(fresh, root).context("cannot put the compiler in its place")
}

fn packages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

fn script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}
