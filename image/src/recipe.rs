//! From inputs to artefacts, or to nothing at all when they are made already.

use crate::debian::{self, DebianError};
use crate::initramfs::{self, InitramfsError};
use crate::kernel::{Kernel, KernelError};
use crate::manifest::{Artefact, Manifest, sha256_hex};
use crate::modules::{self, Module, ModuleError};
use crate::template::{self, TemplateError};
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Brings e2fsck as one file, without libraries.
const CHECKER_PACKAGE: &str = "e2fsck-static";

const MANIFEST: &str = "manifest.json";

/// Where things are in the guest's root tree, absolute.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// PID 1.
    pub init: &'static str,
    /// The engine.
    pub engined: &'static str,
    /// Folder of the modules.
    pub modules: &'static str,
    /// List of the modules to load first.
    pub modules_boot: &'static str,
    /// List of the modules to load later.
    pub modules_late: &'static str,
    /// The blank data disk, compressed.
    pub data_template: &'static str,
    /// The program that repairs the data disk.
    pub e2fsck: &'static str,
    /// The CA bundle.
    pub ca_certificates: &'static str,
    /// Mount point of the data disk.
    pub data: &'static str,
}

/// Everything the artefacts are made from.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Release of Pinnace, for the manifest.
    pub version: String,
    /// PID 1, a static executable.
    pub init: PathBuf,
    /// The engine, a static executable.
    pub engined: PathBuf,
    /// A CA bundle in PEM form.
    pub ca_certificates: PathBuf,
    /// Paths in the guest.
    pub layout: Layout,
    /// Folder that keeps fetched packages.
    pub cache: PathBuf,
    /// Folder of the artefacts.
    pub out: PathBuf,
}

/// What [`Recipe::make`] did.
#[derive(Debug)]
pub enum Made {
    /// The artefacts of the same inputs were there.
    Already(Manifest),
    /// They were made now.
    Now(Manifest),
}

/// Why there are no artefacts.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The kernel package.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// What is in the kernel package.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A module.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The blank data disk.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The archive.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// An input is missing.
    #[error("cannot read {path}: {hint}")]
    Input {
        /// The file.
        path: PathBuf,
        /// What brings it.
        hint: &'static str,
        /// From the file system.
        source: io::Error,
    },
    /// A result could not be written.
    #[error("cannot write {path}")]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
}

/// The inputs that are files of the build, read once.
struct Inputs {
    init: Vec<u8>,
    engined: Vec<u8>,
    ca_certificates: Vec<u8>,
    e2fsck: Vec<u8>,
}

impl Recipe {
    /// Makes `vmlinuz`, `initramfs.zst` and `manifest.json` in the output folder, unless they are there and
    /// came from the same inputs.
    pub fn make(&self) -> Result<Made, RecipeError> {
        let kernel_package = debian::kernel_package(&self.cache)?;
        let checker = debian::package(&self.cache, CHECKER_PACKAGE)?;
        let kernel = Kernel::read(&self.unpacked(&kernel_package)?)?;
        let mut loaded = BTreeSet::new();
        let boot = kernel.library.load_order(modules::BOOT, &mut loaded)?;
        let late = kernel.library.load_order(modules::LATE, &mut loaded)?;
        let tree = self.tree(self.inputs(&checker)?, &boot, &late, template::make(self.scratch()?.path())?);
        let digest = self.digest(&tree, &kernel);
        if let Some(manifest) = self.made_before(&digest) {
            return Ok(Made::Already(manifest));
        }
        let files = BTreeMap::from([("vmlinuz", kernel.image), ("initramfs.zst", initramfs::pack(&tree)?)]);
        let manifest = Manifest {
            version: self.version.clone(),
            kernel_release: kernel.release,
            kernel_package: file_name(&kernel_package),
            packages: vec![file_name(&checker)],
            inputs: digest,
            modules_boot: boot.into_iter().map(|module| module.name).collect(),
            modules_late: late.into_iter().map(|module| module.name).collect(),
            files: files.iter().map(|(name, bytes)| ((*name).to_owned(), Artefact::of(bytes))).collect(),
        };
        self.write(&files, &manifest)?;
        Ok(Made::Now(manifest))
    }

    fn inputs(&self, checker: &Path) -> Result<Inputs, RecipeError> {
        let read = |path: &Path, hint| {
            std::fs::read(path).map_err(|source| RecipeError::Input { path: path.to_owned(), hint, source })
        };
        Ok(Inputs {
            init: read(&self.init, "build init first")?,
            engined: read(&self.engined, "build engined first")?,
            ca_certificates: read(&self.ca_certificates, "install ca-certificates")?,
            e2fsck: read(
                &self.unpacked(checker)?.join("sbin/e2fsck.static"),
                "it is not where Debian puts it",
            )?,
        })
    }

    /// The folder with a package's files, which are unpacked once.
    fn unpacked(&self, package: &Path) -> Result<PathBuf, RecipeError> {
        let folder = debian::files(package);
        if !folder.is_dir() {
            let scratch = self.scratch()?;
            debian::unpack(package, scratch.path())?;
            // One that another build has unpacked in the meantime is as good.
            if let Err(source) = std::fs::rename(scratch.path(), &folder)
                .or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })
            {
                return Err(RecipeError::Output { path: folder, source });
            }
        }
        Ok(folder)
    }

    fn digest(&self, tree: &Tree, kernel: &Kernel) -> String {
        let words = [
            self.version.clone(),
            kernel.release.clone(),
            sha256_hex(&kernel.image),
            tree.digest(),
            initramfs::form(),
        ];
        sha256_hex(words.join("\n").as_bytes())
    }

    /// The manifest of artefacts from the same inputs, when every file it names is there in its size.
    fn made_before(&self, digest: &str) -> Option<Manifest> {
        let text = std::fs::read(self.out.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_slice(&text).ok()?;
        let present = |(name, artefact): (&String, &Artefact)| {
            std::fs::metadata(self.out.join(name)).is_ok_and(|meta| meta.len() == artefact.bytes)
        };
        (manifest.inputs == digest && manifest.files.iter().all(present)).then_some(manifest)
    }

    fn scratch(&self) -> Result<tempfile::TempDir, RecipeError> {
        tempfile::tempdir_in(&self.cache)
            .map_err(|source| RecipeError::Output { path: self.cache.clone(), source })
    }

    fn tree(&self, inputs: Inputs, boot: &[Module], late: &[Module], template: Vec<u8>) -> Tree {
        let mut tree = skeleton();
        let layout = &self.layout;
        tree.folder(layout.data, 0o700);
        tree.file(layout.init, 0o755, inputs.init);
        tree.file(layout.engined, 0o755, inputs.engined);
        tree.file(layout.ca_certificates, 0o644, inputs.ca_certificates);
        tree.file(layout.data_template, 0o644, template);
        tree.file(layout.e2fsck, 0o755, inputs.e2fsck);
        for (list, modules) in [(layout.modules_boot, boot), (layout.modules_late, late)] {
            tree.file(list, 0o644, modules.iter().map(Module::line).collect::<String>());
            for module in modules {
                let path = format!("{}/{}", layout.modules, module.file_name());
                tree.file(&path, 0o644, module.bytes.clone());
            }
        }
        tree
    }

    /// Writes the files under other names first; the manifest, which vouches for them, comes last.
    fn write(&self, files: &BTreeMap<&str, Vec<u8>>, manifest: &Manifest) -> Result<(), RecipeError> {
        std::fs::create_dir_all(&self.out)
            .map_err(|source| RecipeError::Output { path: self.out.clone(), source })?;
        for (name, bytes) in files {
            self.write_one(name, bytes)?;
        }
        let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
        self.write_one(MANIFEST, text.as_bytes())
    }

    fn write_one(&self, name: &str, bytes: &[u8]) -> Result<(), RecipeError> {
        let path = self.out.join(name);
        let fresh = self.out.join(format!(".{name}.new"));
        let failed = |source| RecipeError::Output { path: path.clone(), source };
        std::fs::write(&fresh, bytes).map_err(failed)?;
        std::fs::rename(&fresh, &path).map_err(failed)
    }
}

/// What every root tree has: mount points, the links people expect, and the few files that libraries ask for.
fn skeleton() -> Tree {
    let mut tree = Tree::default();
    for folder in ["dev", "etc", "mnt", "proc", "run", "sys", "usr/bin", "var/lib", "var/log"] {
        tree.folder(folder, 0o755);
    }
    tree.folder("root", 0o700);
    tree.folder("tmp", 0o1777);
    tree.folder("var/tmp", 0o1777);
    tree.link("var/run", "/run");
    // The root is read-only once the system runs, so what DHCP tells is written below /run.
    tree.link("etc/resolv.conf", "/run/resolv.conf");
    tree.link("etc/mtab", "/proc/self/mounts");
    tree.file("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    tree.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n");
    tree.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/sbin/nologin\n");
    tree.file("etc/group", 0o644, "root:x:0:\n");
    tree
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
