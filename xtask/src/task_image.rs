//! `cargo xtask image`: kernel and initramfs in `build/image`, made when something they are made of changed.

use crate::say;
use crate::task_build::{self, Built};
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use contract::paths;
use image::{Layout, Made, Manifest, Recipe};
use std::path::{Path, PathBuf};

/// Kernel and initramfs together, on disk.
const LIMIT_BYTES: u64 = 24 << 20;

/// What a task that needs the image gets.
pub struct Image {
    /// The folder with `vmlinuz`, `initramfs.zst` and `manifest.json`.
    pub folder: PathBuf,
    /// The programs it was made from, and `pinnace`.
    pub built: Built,
}

/// Builds the programs and the image.
pub fn run(workspace: &Workspace) -> Result<()> {
    make(workspace).map(|_| ())
}

/// Builds the programs and the image, and tells where they are.
pub fn make(workspace: &Workspace) -> Result<Image> {
    let built = task_build::build(workspace)?;
    say::step("making the image");
    let recipe = recipe(workspace, &built);
    let folder = recipe.out.clone();
    let manifest = match recipe.make()? {
        Made::Already(manifest) => manifest,
        Made::Now(manifest) => manifest,
    };
    report(&folder, &manifest)?;
    Ok(Image { folder, built })
}

fn recipe(workspace: &Workspace, built: &Built) -> Recipe {
    Recipe {
        version: contract::VERSION.to_owned(),
        init: built.init.clone(),
        engined: built.engined.clone(),
        ca_certificates: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
        layout: Layout {
            init: paths::INIT,
            engined: paths::ENGINED,
            modules: paths::MODULES,
            modules_boot: paths::MODULES_BOOT,
            modules_late: paths::MODULES_LATE,
            data_template: paths::DATA_TEMPLATE,
            e2fsck: paths::E2FSCK,
            ca_certificates: paths::CA_CERTIFICATES,
            data: paths::DATA,
        },
        cache: workspace.build("apt"),
        out: workspace.build("image"),
    }
}

fn report(folder: &Path, manifest: &Manifest) -> Result<()> {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let files = manifest.files.iter().map(|(name, file)| format!("{name} {:.1} MiB", mebibytes(file.bytes)));
    let files = files.collect::<Vec<_>>().join(", ");
    say::step(&format!("{}: {files}, kernel {}", folder.display(), manifest.kernel_release));
    if manifest.total_bytes() > LIMIT_BYTES {
        bail!("kernel and initramfs have {:.1} MiB: the limit is 24", mebibytes(manifest.total_bytes()));
    }
    Ok(())
}
