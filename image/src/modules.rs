//! The modules the image carries, decompressed, in an order in which each can be loaded.
//!
//! Debian's package holds no `modules.dep`: its postinst makes one with depmod on the machine it is installed on.
//! The same facts are in each module's `.modinfo` section (`depends=`, written by the kernel's own build), so
//! they are read from there, and only for the modules that are wanted.

use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Before the engine can serve: the way to the host first, then the data disk, then the network.
pub const BOOT: &[&str] = &["vsock", "vmw_vsock_virtio_transport", "virtio_blk"];

/// What containers, networks and power management need; loaded once the engine serves. In the order in which a first
/// `docker run` waits for them; then the way out, then what the rules of published ports will be made of, then the rest.
/// Each has a user: what nothing of ours asks for is a module less to be attacked by.
pub const LATE: &[&str] = &[
    "overlay",
    "bridge",
    "veth",
    "nf_tables",
    "nf_nat",
    "nft_chain_nat",
    "nft_masq",
    "virtio_net",
    "nft_ct",
    "nft_nat",
    "nft_redir",
    "nft_reject_inet",
    "nft_fib_inet",
    "nft_limit",
    "nft_log",
    "button",
    "evdev",
    "ptp_kvm",
    "virtio_balloon",
    "virtio_rng",
    "tun",
    "macvlan",
    "ipvlan",
    "8021q",
    "dummy",
    // What Docker and podman in a privileged container ask of iptables, which can load no modules there: the matches and
    // targets of its rules, made of nftables (`iptables-nft`) or of its own tables (`iptables-legacy`).
    "nft_compat",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_multiport",
    "xt_nat",
    "xt_REDIRECT",
    "xt_statistic",
    "xt_tcpudp",
    "ipt_REJECT",
    "ip6t_REJECT",
    "iptable_filter",
    "iptable_nat",
    "ip6table_filter",
    "ip6table_nat",
];

/// What a module is told when it is loaded: (module, parameters). A `dummy` would make an interface that nobody asked for.
const PARAMETERS: [(&str, &str); 1] = [("dummy", "numdummies=0")];

/// Why a module cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Neither built into the kernel nor beside it.
    #[error("kernel module {name} is neither built in nor in the kernel package")]
    Missing {
        /// The module, as it is named in a list or by another's `depends`.
        name: String,
    },
    /// The file could not be read or decompressed.
    #[error("cannot read kernel module {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// From the file system or the decompressor.
        source: io::Error,
    },
    /// The file is not a kernel module.
    #[error("{path} has no .modinfo section")]
    NotAModule {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be written without what the image leaves out.
    #[error("cannot strip kernel module {path}")]
    Strip {
        /// The file.
        path: PathBuf,
        /// From the ELF reader or writer.
        source: object::build::Error,
    },
}

/// A module ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// With underscores, as the kernel names it.
    pub name: String,
    /// The decompressed file, [`stripped`].
    pub bytes: Vec<u8>,
}

impl Module {
    /// Its file's name in the image.
    pub fn file_name(&self) -> String {
        format!("{}.ko", self.name)
    }

    /// Its line in a list of modules: the file's name, behind it the parameters.
    pub fn line(&self) -> String {
        let parameters = PARAMETERS.iter().find(|(module, _)| *module == self.name);
        let parameters = parameters.map(|(_, text)| format!(" {text}")).unwrap_or_default();
        format!("{}{parameters}\n", self.file_name())
    }
}

/// Every module of one kernel: which are built in, and where the others are.
pub struct Library {
    built_in: BTreeSet<String>,
    files: BTreeMap<String, PathBuf>,
}

impl Library {
    /// Reads `lib/modules/RELEASE`.
    pub fn read(folder: &Path) -> io::Result<Library> {
        let built_in = std::fs::read_to_string(folder.join("modules.builtin"))?;
        let mut files = BTreeMap::new();
        collect(&folder.join("kernel"), &mut files)?;
        Ok(Library { built_in: built_in.lines().filter_map(module_name).collect(), files })
    }

    /// `wanted` and all they depend on, each after what it depends on, without those in `loaded`, to which
    /// the names are added. What is built in is left out.
    pub fn load_order(
        &self,
        wanted: &[&str],
        loaded: &mut BTreeSet<String>,
    ) -> Result<Vec<Module>, ModuleError> {
        let mut order = Vec::new();
        for name in wanted {
            self.add(name, loaded, &mut order)?;
        }
        Ok(order)
    }

    fn add(
        &self,
        name: &str,
        loaded: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), ModuleError> {
        if self.built_in.contains(name) || !loaded.insert(name.to_owned()) {
            return Ok(());
        }
        let missing = || ModuleError::Missing { name: name.to_owned() };
        let path = self.files.get(name).ok_or_else(missing)?;
        let bytes = decompressed(path).map_err(|source| ModuleError::Read { path: path.clone(), source })?;
        let depends = depends(&bytes).ok_or_else(|| ModuleError::NotAModule { path: path.clone() })?;
        for dependency in depends {
            self.add(&dependency, loaded, order)?;
        }
        let bytes = stripped(&bytes).map_err(|source| ModuleError::Strip { path: path.clone(), source })?;
        order.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = path.to_str().and_then(module_name) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `…/virtio-rng.ko.xz` → `virtio_rng`: file names may have hyphens, the kernel's names never do.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(stem.replace('-', "_"))
}

fn decompressed(path: &Path) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    match path.extension().is_some_and(|extension| extension == "xz") {
        true => liblzma::read::XzDecoder::new(file).read_to_end(&mut bytes)?,
        false => io::BufReader::new(file).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

/// The module without its signature, which is appended to the file and not part of the ELF, and without its type
/// information for tracing programs. The image as a whole vouches for what is in it; the kernel would verify each
/// signature by itself, in a boot whose every millisecond is waited for, and keep a copy of the types in memory.
fn stripped(module: &[u8]) -> Result<Vec<u8>, object::build::Error> {
    let mut elf = object::build::elf::Builder::read(module)?;
    for section in elf.sections.iter_mut() {
        section.delete = [&b".BTF"[..], b".BTF.base"].contains(&section.name.as_slice());
    }
    let mut bytes = Vec::new();
    elf.write(&mut bytes)?;
    Ok(bytes)
}

/// The names in `depends=` of the `.modinfo` section, which is a row of NUL-terminated `key=value` strings.
fn depends(module: &[u8]) -> Option<Vec<String>> {
    let elf = object::File::parse(module).ok()?;
    let modinfo = elf.section_by_name(".modinfo")?.data().ok()?;
    let value = modinfo.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"depends="));
    let names = std::str::from_utf8(value.unwrap_or_default()).ok()?;
    Some(names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_the_kernel_names_them() {
        let check = |path: &str, want: Option<&str>| assert_eq!(module_name(path).as_deref(), want, "{path}");
        check("kernel/drivers/char/hw_random/virtio-rng.ko.xz", Some("virtio_rng"));
        check("kernel/fs/mbcache.ko", Some("mbcache"));
        check("modules.order", None);
    }

    #[test]
    fn a_list_has_files_and_parameters() {
        let line = |name: &str| Module { name: name.to_owned(), bytes: Vec::new() }.line();
        assert_eq!(line("macvlan"), "macvlan.ko\n");
        assert_eq!(line("dummy"), "dummy.ko numdummies=0\n");
    }

    #[test]
    fn a_module_nobody_has_is_an_error() {
        let library = Library { built_in: BTreeSet::from(["ext4".to_owned()]), files: BTreeMap::default() };
        let mut loaded = BTreeSet::new();
        assert_eq!(library.load_order(&["ext4"], &mut loaded).unwrap(), []);
        let error = library.load_order(&["nope"], &mut loaded).unwrap_err();
        assert_eq!(error.to_string(), "kernel module nope is neither built in nor in the kernel package");
    }

    #[test]
    fn what_is_not_an_elf_file_is_no_module() {
        assert_eq!(depends(b"hello"), None);
    }
}
