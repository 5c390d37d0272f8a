//! What is mounted into a container at its creator's wish: bind mounts and memory file systems.

use std::collections::BTreeSet;
use std::path::PathBuf;

use runtime::launch::{BindMount, TmpfsMount, VolumeKind, VolumeMount};
use sys::mounts::{MountAttributes, Propagation};

use super::config::HostConfig;
use super::create::clean;
use super::error::ContainerError;

fn invalid(text: String) -> ContainerError {
    ContainerError::Invalid(text)
}

/// All of them, those that others may lie in first.
///
/// # Errors
/// Docker's words for what makes no mount.
pub(super) fn volumes(host: &HostConfig) -> Result<Vec<VolumeMount>, ContainerError> {
    let mut mounts = Vec::new();
    for (target, options) in &host.tmpfs {
        let destination = destination(target).map_err(invalid)?;
        mounts.push(VolumeMount { target: destination, kind: VolumeKind::Tmpfs(tmpfs(options)?) });
    }
    // The later of two memory file systems in one place covers the earlier, for dockerd as well.
    let mut taken: BTreeSet<String> = mounts.iter().map(|mount| mount.target.clone()).collect();
    for bind in &host.binds {
        let mount = bind_mount(bind)?;
        if !taken.insert(mount.target.clone()) {
            return Err(invalid(format!("Duplicate mount point: {}", mount.target)));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Where something is mounted, in its shortest form; or what is wrong with it.
fn destination(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("invalid mount path: '{text}' mount path must be absolute"));
    }
    match clean(text) {
        path if path == "/" => Err("invalid specification: destination can't be '/'".to_owned()),
        path => Ok(path),
    }
}

fn bind_mount(text: &str) -> Result<VolumeMount, ContainerError> {
    let mut parts = text.split(':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if !source.starts_with('/') {
        let text = format!("volume {source} is not supported yet: only absolute paths can be mounted");
        return Err(ContainerError::NotSupported(text));
    }
    let refused = || invalid(format!("invalid volume specification: '{text}'"));
    if target.is_empty() {
        return Err(refused());
    }
    let target = destination(target).map_err(|why| {
        invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"bind\": {why}"
        ))
    })?;
    let mut readonly = false;
    for option in parts.next().unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            // Labels have no meaning without SELinux; consistency none on one machine.
            "rw" | "z" | "Z" | "rprivate" | "private" | "consistent" | "cached" | "delegated" => {}
            _ => return Err(refused()),
        }
    }
    if parts.next().is_some() {
        return Err(refused());
    }
    let bind = BindMount { source: PathBuf::from(source), readonly, recursive: true };
    Ok(VolumeMount { target, kind: VolumeKind::Bind(bind) })
}

/// Reads the options of `--tmpfs`. Of those that contradict each other the later stands.
fn tmpfs(text: &str) -> Result<TmpfsMount, ContainerError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn host(tmpfs: &[&str], binds: &[&str]) -> HostConfig {
        HostConfig {
            tmpfs: tmpfs.iter().map(|target| ((*target).to_owned(), String::new())).collect(),
            binds: binds.iter().map(|bind| (*bind).to_owned()).collect(),
            ..HostConfig::default()
        }
    }

    #[test]
    fn each_place_is_mounted_on_once() {
        let check = |tmpfs: &[&str], binds: &[&str], expected: Result<usize, &str>| {
            let got =
                volumes(&host(tmpfs, binds)).map(|mounts| mounts.len()).map_err(|error| error.to_string());
            assert_eq!(got.as_ref().copied().map_err(String::as_str), expected, "{tmpfs:?} {binds:?}");
        };
        check(&["/a"], &["/x:/b"], Ok(2));
        check(&["/a", "/a/"], &[], Ok(2));
        check(&[], &["/x:/a", "/y:/a"], Err("Duplicate mount point: /a"));
        check(&[], &["/x:/a", "/y:/a/"], Err("Duplicate mount point: /a"));
        check(&[], &["/x:/a", "/y:/b/../a"], Err("Duplicate mount point: /a"));
        check(&["/a/"], &["/x:/a"], Err("Duplicate mount point: /a"));
        for root in ["/", "//", "/.", "/../", "/a/../"] {
            check(&[root], &[], Err("invalid specification: destination can't be '/'"));
        }
        check(&["rel"], &[], Err("invalid mount path: 'rel' mount path must be absolute"));
        let text = "invalid volume specification: '/x:/.': invalid mount config for type \"bind\": invalid specification: \
                    destination can't be '/'";
        check(&[], &["/x:/."], Err(text));
        check(&[], &["/x:"], Err("invalid volume specification: '/x:'"));
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
