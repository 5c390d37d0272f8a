//! From what a client wrote to what is to be mounted. The texts are dockerd's.

use std::collections::BTreeSet;

use super::request::Mount;
use super::{MountKind, MountPoint, destination, invalid, tmpfs, tmpfs_places};
use crate::config::HostConfig;
use crate::create::clean;
use crate::error::ContainerError;
use volumes::Ask;

/// A mount point, and the volume that it needs.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub point: MountPoint,
    /// The volume, which is made where there is none of its name.
    pub volume: Option<Ask>,
    /// A volume that is empty gets what the image has there.
    pub copy: bool,
}

impl Planned {
    fn without_volume(point: MountPoint) -> Planned {
        Planned { point, volume: None, copy: false }
    }
}

/// The ways in which mounts propagate.
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];
/// What a folder of the machine has by itself.
const USUAL: &str = "rprivate";
/// What dockerd shows of a volume without options.
const LABELLED: &str = "z";

/// The words behind a `Binds`.
#[derive(Debug, Default)]
struct Mode<'a> {
    readonly: bool,
    propagation: Option<&'a str>,
    nocopy: bool,
}

impl Mode<'_> {
    /// Of each kind of word there may be one.
    fn read(text: &str) -> Option<Mode<'_>> {
        let (mut mode, mut kinds) = (Mode::default(), BTreeSet::new());
        if text.is_empty() {
            return Some(mode);
        }
        for word in text.split(',') {
            let kind = match word {
                "ro" | "rw" => "access",
                // Labels mean nothing without SELinux, consistency nothing on one machine.
                "z" | "Z" => "label",
                "nocopy" => "copy",
                "consistent" | "cached" | "delegated" => "consistency",
                _ if PROPAGATIONS.contains(&word) => "propagation",
                _ => return None,
            };
            if !kinds.insert(kind) {
                return None;
            }
            mode.readonly |= word == "ro";
            mode.nocopy |= word == "nocopy";
            if kind == "propagation" {
                mode.propagation = Some(word);
            }
        }
        Some(mode)
    }
}

/// Whether the words behind `volumes-from` are any, and forbid writes.
pub(super) fn read_only_from(text: &str) -> Option<bool> {
    let mode = Mode::read(text)?;
    (mode.propagation.is_none() && !mode.nocopy).then_some(mode.readonly)
}

/// `source:destination[:options]`, or a destination alone.
pub(super) fn of_bind(text: &str, driver: &str) -> Result<Planned, String> {
    let refused = || format!("invalid volume specification: '{text}'");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, words) = match parts[..] {
        ["", ..] => return Err(refused()),
        [target] => ("", target, ""),
        [_, words] if Mode::read(words).is_some() => return Err(refused()),
        [source, target] => (source, target, ""),
        [source, target, words] => (source, target, words),
        _ => return Err(refused()),
    };
    let mode = Mode::read(words).ok_or_else(|| format!("invalid mode: {words}"))?;
    let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
    let wrong =
        |why: &str| format!("{}: invalid mount config for type \"{}\": {why}", refused(), kind.as_str());
    let target = destination(target).map_err(|why| wrong(&why))?;
    let mut point = MountPoint::new(kind, target, !mode.readonly);
    words.clone_into(&mut point.mode);
    if kind == MountKind::Bind {
        if mode.nocopy {
            return Err(wrong("field VolumeOptions must not be specified"));
        }
        point.source = clean(source);
        point.make_source = true;
        mode.propagation.unwrap_or(USUAL).clone_into(&mut point.propagation);
        return Ok(Planned::without_volume(point));
    }
    if mode.propagation.is_some() {
        return Err(wrong("field BindOptions must not be specified"));
    }
    if point.mode.is_empty() {
        LABELLED.clone_into(&mut point.mode);
    }
    let volume = Ask { name: source.to_owned(), driver: driver.to_owned(), ..Ask::default() };
    Ok(of_volume(point, volume, !mode.nocopy))
}

fn of_volume(mut point: MountPoint, volume: Ask, copy: bool) -> Planned {
    point.anonymous = volume.name.is_empty();
    point.name.clone_from(&volume.name);
    Planned { point, volume: Some(volume), copy }
}

/// A volume that nobody named, at a path that the image or the container's configuration names.
pub(super) fn anonymous(path: &str, driver: &str) -> Planned {
    // Relative ones begin at the root, where everything does.
    let target = clean(&format!("/{path}"));
    let volume = Ask { driver: driver.to_owned(), ..Ask::default() };
    of_volume(MountPoint::new(MountKind::Volume, target, true), volume, true)
}

/// One of `Mounts`.
pub(super) fn of_mount(mount: &Mount) -> Result<Planned, String> {
    let kind = match mount.r#type.as_str() {
        "bind" => Some(MountKind::Bind),
        "volume" => Some(MountKind::Volume),
        "tmpfs" => Some(MountKind::Tmpfs),
        "image" => Some(MountKind::Image),
        _ => None,
    };
    let wrong = |why: String| format!("invalid mount config for type {:?}: {why}", mount.r#type);
    if mount.target.is_empty() {
        return Err(wrong("field Target must not be empty".to_owned()));
    }
    let target = destination(&mount.target).map_err(wrong)?;
    let kind = kind.ok_or_else(|| wrong("mount type unknown".to_owned()))?;
    let point = MountPoint::new(kind, target, !mount.read_only);
    let planned = match kind {
        MountKind::Bind => bind(mount, point).map(Planned::without_volume),
        MountKind::Volume => volume(mount, point),
        MountKind::Tmpfs => memory(mount, point).map(Planned::without_volume),
        MountKind::Image => image(mount, point).map(Planned::without_volume),
    };
    planned.map_err(wrong)
}

fn bind(mount: &Mount, mut point: MountPoint) -> Result<MountPoint, String> {
    let options = mount.bind_options.clone().unwrap_or_default();
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    if !mount.source.starts_with('/') {
        return Err(format!("invalid mount path: '{}' mount path must be absolute", mount.source));
    }
    point.source = clean(&mount.source);
    point.propagation = if options.propagation.is_empty() { USUAL.to_owned() } else { options.propagation };
    point.make_source = options.create_mountpoint;
    point.non_recursive = options.non_recursive;
    point.read_only_non_recursive = options.read_only_non_recursive;
    point.read_only_force_recursive = options.read_only_force_recursive;
    Ok(point)
}

fn volume(mount: &Mount, mut point: MountPoint) -> Result<Planned, String> {
    let options = mount.volume_options.clone().unwrap_or_default();
    if !options.subpath.is_empty() {
        if mount.source.is_empty() {
            return Err("must not set Subpath when using anonymous volumes".to_owned());
        }
        point.subpath = within(&options.subpath)?;
    }
    LABELLED.clone_into(&mut point.mode);
    let driver = options.driver_config.unwrap_or_default();
    let volume = Ask {
        name: mount.source.clone(),
        driver: driver.name,
        options: driver.options,
        labels: options.labels,
    };
    let copy = !options.no_copy && point.subpath.is_empty();
    Ok(of_volume(point, volume, copy))
}

fn memory(mount: &Mount, mut point: MountPoint) -> Result<MountPoint, String> {
    if !mount.source.is_empty() {
        return Err("field Source must not be specified".to_owned());
    }
    point.tmpfs = tmpfs::text(mount.tmpfs_options.as_ref(), mount.read_only)?;
    tmpfs::tmpfs(&point.tmpfs).map_err(|error| error.to_string())?;
    Ok(point)
}

fn image(mount: &Mount, mut point: MountPoint) -> Result<MountPoint, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    if let Some(options) = mount.image_options.as_ref().filter(|options| !options.subpath.is_empty()) {
        point.subpath = within(&options.subpath)?;
    }
    point.name.clone_from(&mount.source);
    USUAL.clone_into(&mut point.propagation);
    point.writable = false;
    Ok(point)
}

/// A path that does not lead out, as it is written.
fn within(path: &str) -> Result<String, String> {
    let mut depth = 0_i32;
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        depth += if part == ".." { -1 } else { 1 };
        if depth < 0 {
            break;
        }
    }
    match path.starts_with('/') || depth < 0 {
        true => Err("subpath must be a relative path within the volume".to_owned()),
        false => Ok(path.to_owned()),
    }
}

/// What a creator asks for with `Binds` and `Mounts`, each place once.
pub(super) fn asked(host: &HostConfig) -> Result<Vec<Planned>, ContainerError> {
    let memory = tmpfs_places(host)?;
    for (_, options) in &memory {
        tmpfs::tmpfs(options)?;
    }
    let (mut all, mut taken) = (Vec::<Planned>::new(), BTreeSet::new());
    let twice = |target: &str| invalid(format!("Duplicate mount point: {target}"));
    for text in &host.binds {
        let planned = of_bind(text, &host.volume_driver).map_err(invalid)?;
        let target = &planned.point.destination;
        if memory.iter().any(|(place, _)| place == target) || !taken.insert(target.clone()) {
            return Err(twice(target));
        }
        all.push(planned);
    }
    for mount in &host.mounts {
        let planned = of_mount(mount).map_err(invalid)?;
        if !taken.insert(planned.point.destination.clone()) {
            return Err(twice(&mount.target));
        }
        all.push(planned);
    }
    Ok(all)
}

/// What can be refused before anything exists.
///
/// # Errors
/// Docker's words for what makes no mount.
pub(in crate::mounts) fn check_all(host: &HostConfig) -> Result<usize, ContainerError> {
    for text in &host.volumes_from {
        from(text)?;
    }
    Ok(asked(host)?.len())
}

/// What can be refused before anything exists.
///
/// # Errors
/// Docker's words for what makes no mount.
pub(crate) fn check(host: &HostConfig) -> Result<(), ContainerError> {
    check_all(host).map(drop)
}

/// `container[:options]`: the container, and whether writes are forbidden.
pub(super) fn from(text: &str) -> Result<(&str, bool), ContainerError> {
    if text.is_empty() {
        return Err(invalid("volumes-from specification cannot be an empty string"));
    }
    let (container, words) = text.split_once(':').unwrap_or((text, ""));
    let readonly = read_only_from(words).ok_or_else(|| invalid(format!("invalid mode: {words}")))?;
    Ok((container, readonly))
}

/// The mount points of a record that names none: it has folders of the machine only.
pub(super) fn of_binds(host: &HostConfig) -> Vec<MountPoint> {
    host.binds.iter().filter_map(|text| Some(of_bind(text, "").ok()?.point)).collect()
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
